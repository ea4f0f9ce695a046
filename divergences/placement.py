"""Where the first cells of an integral go: placed by the laws themselves, so that no narrow mode is overlooked."""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Float64

from divergences.cells import split
from divergences.distributions import Discrete, Distribution, Knots, knots_of, parts_of

__all__ = ["frame_of", "line_cells", "plane_cells", "tail_sections", "thinned"]

# What a heavy tail contributes between and beyond these tail probabilities decides whether an integral is infinite.
TAIL_LEVELS = (1e-20, 1e-60, 1e-140)


def line_cells(law: Distribution, others: tuple[Distribution, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Panels between the knots of all laws involved, within the reach of the one that carries the mass."""
    own = knots_of(law)
    start, stop = float(own.position.min()), float(own.position.max())
    knots = [own] + [knots_of(other) for other in others if other is not law and not isinstance(other, Discrete)]
    edges = thinned(knots, start, stop)
    return edges[:-1, None], edges[1:, None]


def thinned(knots: list[Knots], start: float, stop: float) -> Float64[np.ndarray, " e"]:
    """Knots of several laws between two places, ascending, without those that crowd: they add cost, not sight."""
    position = np.concatenate([knot.position for knot in knots])
    scale = np.concatenate([knot.scale for knot in knots])
    inside = (position >= start) & (position <= stop)
    position, scale = position[inside], scale[inside]
    order = np.lexsort((scale, position))
    position, scale = position[order], scale[order]
    kept = [0]
    for index in range(1, len(position)):
        last = kept[-1]
        # Closer to the last one kept than a third of both their scales.
        if position[index] - position[last] > 0.3 * min(scale[index], scale[last]):
            kept.append(index)
    return np.unique(np.append(position[kept], position[-1]))


def plane_cells(
    leaf: Distribution, cuts: np.ndarray, others: tuple[Distribution, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """A tensor grid in the leaf's frame, cut as well at the edges of other laws' boxes where it is axis-parallel."""
    center, matrix, _ = frame_of(leaf)
    axes = []
    for axis in range(2):
        extra = np.empty(0)
        if matrix[axis, 1 - axis] == 0:
            boxes = [part.support for other in others for part in parts_of(other)[1]]
            walls = np.array([wall for box in boxes for wall in (box.low[axis], box.high[axis]) if np.isfinite(wall)])
            extra = (walls - center[axis]) / matrix[axis, axis]
            extra = extra[(extra > cuts[0]) & (extra < cuts[-1])]
        axes.append(np.unique(np.concatenate([cuts, extra])))
    low = np.stack(np.meshgrid(axes[0][:-1], axes[1][:-1], indexing="ij"), axis=-1).reshape(-1, 2)
    high = np.stack(np.meshgrid(axes[0][1:], axes[1][1:], indexing="ij"), axis=-1).reshape(-1, 2)
    return _refine_near(center, matrix, low, high, [part for law in others for part in parts_of(law)[1]])


def _refine_near(
    center: np.ndarray, matrix: np.ndarray, low: np.ndarray, high: np.ndarray, parts: list[Distribution]
) -> tuple[np.ndarray, np.ndarray]:
    """Split cells until none that touches a narrow part is wide against it: a spike cannot hide between nodes."""
    frames = [part.frame() for part in parts if hasattr(part, "frame")]
    if not frames:
        return low, high
    reach = np.array([frame.cuts[-1] for frame in frames])[:, None]
    place = np.stack([frame.center for frame in frames])
    extent = reach * np.stack([np.linalg.norm(frame.matrix, axis=1) for frame in frames])
    scale = np.array([np.linalg.norm(frame.matrix, -2) for frame in frames])
    done: list[tuple[np.ndarray, np.ndarray]] = []
    while len(low):
        middle = center + (low + high) / 2 @ matrix.T
        half = (high - low) / 2 @ np.abs(matrix).T
        wide = np.zeros(len(low), dtype=bool)
        for j in range(len(frames)):
            near = (np.abs(middle - place[j]) <= half + extent[j]).all(axis=1)
            wide |= near & (half.max(axis=1) > 1.5 * scale[j])
        done.append((low[~wide], high[~wide]))
        low, high = split(low[wide], high[wide])
    return np.concatenate([cells[0] for cells in done]), np.concatenate([cells[1] for cells in done])


def frame_of(leaf: Distribution) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The leaf's own frame; for a stranger, its bounded support, or a pilot sample's mean and covariance."""
    if hasattr(leaf, "frame"):
        frame = leaf.frame()
        return frame.center, frame.matrix, frame.cuts
    if leaf.support.bounded:
        return leaf.support.low, np.diag(leaf.support.high - leaf.support.low), np.linspace(0, 1, 17)
    pilot = leaf.sample(4096, np.random.default_rng(0))
    spread = np.linalg.cholesky(np.cov(pilot.T) + 1e-300 * np.eye(2))
    reach = np.array([0.0, 0.5, 1, 1.5, 2, 3, 4, 5, 7, 10, 14, 20, 28])
    return pilot.mean(axis=0), spread, np.concatenate([-reach[:0:-1], reach])


def tail_sections(leaf: Distribution, *, steep: bool) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """Cells of two successive sections of each tail of a simple law."""
    if hasattr(leaf, "tails") and leaf.dim == 1:
        edges = [
            [np.geomspace(abs(a), abs(b), 257) * np.sign(b) for a, b in itertools.pairwise(places)]
            for places in leaf.tails(TAIL_LEVELS)
        ]
        return [[_cells(section[:, None]) for section in sections] for sections in edges]
    if steep and leaf.dim == 1 and hasattr(leaf, "frame") and np.isinf(leaf.support.low).all():
        frame = leaf.frame()
        reach = [np.linspace(20, 27, 9)[:, None], np.linspace(27, 34, 9)[:, None]]
        return [[_cells(frame.center + side * frame.matrix[0, 0] * part) for part in reach] for side in (-1.0, 1.0)]
    return []


def _cells(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Panels (low, high) between successive edges, in either direction."""
    return np.minimum(edges[:-1], edges[1:]), np.maximum(edges[:-1], edges[1:])
