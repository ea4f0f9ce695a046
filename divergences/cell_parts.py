r"""Mixtures of Gaussian and uniform laws in the plane, as components around the centres of cells.

A component is exp(height − ½ (x − mean)ᵀ P (x − mean)) on a box, with P = 0 for a uniform one. Coordinates are those in
which the components are round on average, so that a common correlation costs nothing. Around the centre of a cell it
is exp(value + slope·ζ + second order), and what matters is how it compares with the largest component there.

Beyond the outermost ellipses |z| ≤ R of the components, moments of the normal tail bound what is left of an integral:
∫_{|z|>R} (α + β|z|²) φ = (α + β(R² + 2)) e^(−R²/2), with |log density| ≤ a quadratic as on the line.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from divergences.distributions import Distribution, Gaussian, Uniform, parts_of
from divergences.panel_forms import Form

__all__ = [
    "MAX_PARTS",
    "Local",
    "Parts",
    "first_cells",
    "highest",
    "local",
    "read_pair",
    "real_top",
    "relative",
    "rough_value",
]

_EPS = float(np.finfo(np.float64).eps)
_LOG_2PI = float(np.log(2 * np.pi))
MAX_PARTS = 2000
_REACHES = (8.5, 10.0, 13.0, 20.0, 37.0)
_TINY = 1e-300


class Parts(NamedTuple):
    """Σ_k exp(height_k − ½ (x − mean_k)ᵀ P_k (x − mean_k)) on boxes; P_k as columns (xx, xy, yy), 0 for uniform."""

    mean: Float64[np.ndarray, "k 2"]
    bend: Float64[np.ndarray, "k 3"]
    height: Float64[np.ndarray, " k"]
    low: Float64[np.ndarray, "k 2"]
    high: Float64[np.ndarray, "k 2"]


class Local(NamedTuple):
    """Components around the centres of cells: log value, slopes along x and y, second-order terms; all (c, k)."""

    value: np.ndarray
    slope_x: np.ndarray
    slope_y: np.ndarray
    bend: np.ndarray

    def turned(self) -> Local:
        """The same with the axes exchanged."""
        return Local(self.value, self.slope_y, self.slope_x, self.bend[..., ::-1])


def read_pair(p: Distribution, q: Distribution) -> tuple[Parts, Parts] | None:
    """Both laws in common coordinates, if they are made of Gaussian and uniform parts."""
    pairs = [(weight, leaf) for law in (p, q) for weight, leaf in zip(*parts_of(law), strict=True)]
    if any(type(leaf) not in (Gaussian, Uniform) or leaf.dim != 2 for _, leaf in pairs) or len(pairs) > MAX_PARTS:
        return None
    bells = [(weight, leaf) for weight, leaf in pairs if isinstance(leaf, Gaussian)]
    origin, frame = np.zeros(2), np.eye(2)
    if bells:
        inner = sum(weight * leaf.cov for weight, leaf in bells) / sum(weight for weight, _ in bells)
        origin = min(bells, key=lambda pair: float(np.trace(pair[1].cov)))[1].mean
        frame = np.linalg.cholesky(inner)
        if len(bells) < len(pairs):
            # Boxes must stay boxes.
            frame = np.diag(np.sqrt(np.diag(inner)))
    count = len(parts_of(p)[0])
    return _parts(pairs[:count], origin, frame), _parts(pairs[count:], origin, frame)


def _parts(pairs: list[tuple[float, Distribution]], origin: np.ndarray, frame: np.ndarray) -> Parts:
    inverse = np.linalg.inv(frame)
    volume = float(np.log(np.abs(np.linalg.det(frame))))
    rows = []
    for weight, leaf in pairs:
        if isinstance(leaf, Gaussian):
            white = leaf._whiten @ frame
            matrix = white.T @ white
            bend = np.array([matrix[0, 0], matrix[0, 1], matrix[1, 1]])
            # A correlation that is rounding alone would hide that the component is a product.
            bend[1] = 0.0 if abs(bend[1]) < 4 * _EPS * (bend[0] + bend[2]) else bend[1]
            height, ends = leaf._log_norm, np.array([[-np.inf] * 2, [np.inf] * 2])
            mean = inverse @ (leaf.mean - origin)
        else:
            ends = np.stack([(leaf.support.low - origin), (leaf.support.high - origin)]) @ inverse.T
            mean, bend = ends[0], np.zeros(3)
            height = -float(np.log(leaf.support.high - leaf.support.low).sum())
        rows.append((mean, bend, np.log(weight) + height + volume, ends[0], ends[1]))
    return Parts(*(np.array(column) for column in zip(*rows, strict=True)))


def rough_value(form: Form, p: Distribution, q: Distribution) -> float:
    """The integral to a digit, by Gauss-Hermite rules of the parts: only to know what "relative" means."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(7)
    grid = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 2)
    mass = np.outer(weights, weights).ravel() / weights.sum() ** 2
    total = 0.0
    for law in (p, q):
        for weight, leaf in zip(*parts_of(law), strict=True):
            if isinstance(leaf, Gaussian):
                x, w = leaf.mean + grid @ leaf.cholesky.T, mass
            else:
                box = leaf.support
                x = box.low + (box.high - box.low) * np.random.default_rng(0).random((49, 2))
                w = np.full(49, 1 / 49)
            log_p, log_q = p.log_prob(x), q.log_prob(x)
            with np.errstate(invalid="ignore"):
                # F/(p + q), from densities scaled by the larger of the two.
                top = np.maximum(log_p, log_q)
                scaled = np.exp(log_p - top), np.exp(log_q - top)
                total += weight * float(w @ (form.value(*scaled, log_p - log_q) / (scaled[0] + scaled[1])))
    return total


def first_cells(form: Form, p: Parts, q: Parts, tol: float) -> tuple[np.ndarray, np.ndarray, float] | None:
    """First cells: the box around everything, cut at the walls of the boxes; and what lies outside."""
    for reach in _REACHES:
        tail = _tail_bound(p, q, reach, grows=form.grows)
        if tail <= 1e-3 * tol:
            break
    else:
        return None
    axes = []
    for axis in (0, 1):
        places = []
        for parts in (p, q):
            bell = parts.bend[:, 0] > 0
            determinant = parts.bend[bell, 0] * parts.bend[bell, 2] - parts.bend[bell, 1] ** 2
            spread = reach * np.sqrt(parts.bend[bell, 2 - 2 * axis] / determinant)
            ends = parts.mean[bell, axis]
            places += [ends - spread, ends + spread]
            walls = np.concatenate([parts.low[~bell, axis], parts.high[~bell, axis]])
            places.append(walls)
        every = np.concatenate(places)
        walls = np.concatenate([places[2], places[5]])
        axes.append(np.unique(np.concatenate([[every.min(), every.max()], walls])))
    center = np.stack(np.meshgrid(*[(a[1:] + a[:-1]) / 2 for a in axes], indexing="ij"), axis=-1).reshape(-1, 2)
    half = np.stack(np.meshgrid(*[np.diff(a) / 2 for a in axes], indexing="ij"), axis=-1).reshape(-1, 2)
    return center, half, tail


def _tail_bound(p: Parts, q: Parts, reach: float, *, grows: bool) -> float:
    """∫ (p + q)(|log p| + |log q| + 1), or 2∫(p + q), where every Gaussian component is beyond ``reach``."""
    beyond = float(np.exp(-reach * reach / 2))
    if not grows:
        return 4 * beyond
    total = 0.0
    for carrier in (p, q):
        bell = np.flatnonzero(carrier.bend[:, 0] > 0)
        for k in bell.tolist():
            matrix = _matrix(carrier.bend[k])
            mass = float(np.exp(carrier.height[k] + _LOG_2PI - 0.5 * np.linalg.slogdet(matrix)[1]))
            fixed, growing = 1.0, 0.0
            for parts in (p, q):
                widths = np.where(parts.bend[:, 0] > 0, parts.bend[:, 0] + parts.bend[:, 2], np.inf)
                wide = int(np.argmin(widths))
                if np.isinf(widths[wide]):
                    continue
                other = _matrix(parts.bend[wide])
                offset = carrier.mean[k] - parts.mean[wide]
                fixed += abs(float(np.logaddexp.reduce(parts.height))) + abs(float(parts.height[wide]))
                fixed += float(offset @ other @ offset)
                # ½|x − m_j|² in its metric ≤ offset² + the largest ratio of the metrics times |z|².
                growing += float(np.linalg.eigvals(np.linalg.solve(matrix, other)).real.max())
            total += mass * (fixed + growing * (reach * reach + 2)) * beyond
    return total


def _matrix(bend: np.ndarray) -> np.ndarray:
    return np.array([[bend[0], bend[1]], [bend[1], bend[2]]])


def local(parts: Parts, center: np.ndarray) -> Local:
    """Each component as exp(value + slope·ζ + second order) around the centre of each cell."""
    dx, dy = (center[:, axis, None] - parts.mean[:, axis] for axis in (0, 1))
    xx, xy, yy = parts.bend.T
    slope_x, slope_y = -(xx * dx + xy * dy), -(xy * dx + yy * dy)
    value = parts.height + 0.5 * (slope_x * dx + slope_y * dy)
    inside = ((parts.low < center[:, None]) & (center[:, None] < parts.high)).all(axis=2)
    bend = np.broadcast_to(np.stack([-xx / 2, -xy, -yy / 2], axis=-1), (*value.shape, 3))
    return Local(np.where(inside, value, -np.inf), slope_x, slope_y, bend)


def highest(slope: np.ndarray, bend: np.ndarray, wide: np.ndarray) -> np.ndarray:
    """Max of slope·ξ + bend·ξ² over |ξ| ≤ wide."""
    slope = np.abs(slope)
    at = np.where(bend < 0, np.minimum(wide, slope / np.maximum(-2 * bend, _TINY)), wide)
    return at * (slope + bend * at)


def relative(local: Local) -> tuple[Local, Local, np.ndarray]:
    """The largest component of each cell (c,), the others relative to it (c, k), and which cells have none."""
    rows, lead = np.arange(len(local.value)), local.value.argmax(axis=1)
    empty = np.isneginf(local.value[rows, lead])
    top = Local(*(part[rows, lead] for part in local))
    top = top._replace(value=np.where(empty, 0.0, top.value))
    blur = 8 * _EPS * (np.abs(top.value)[:, None] + np.where(np.isneginf(local.value), 0.0, np.abs(local.value)))
    others = Local(*(part - lone[:, None] for part, lone in zip(local, top, strict=True)))
    return top, others._replace(value=others.value + blur), empty


def real_top(others: Local, half: np.ndarray) -> np.ndarray:
    """An upper bound of each component's log share on the real cell, (c, k)."""
    hx, hy = half[:, :1], half[:, 1:]
    return (
        others.value
        + highest(others.slope_x, others.bend[..., 0], hx)
        + highest(others.slope_y, others.bend[..., 2], hy)
        + np.abs(others.bend[..., 1]) * hx * hy
    )
