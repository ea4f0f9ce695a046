r"""A map of the plane to itself, triangulated: the preimages of any point, and where the map loses rank.

Over the region where the base has mass a square grid is split into triangles, and these into four, until g is nearly
affine on each (or its share of the mass is negligible). The preimages of x are looked for in the triangles whose
image, slightly inflated, contains x, found through a grid of buckets; from each of them Newton's method runs on g
itself, and equal ends are merged. The Jacobian of the density is a difference of fourth order with a wide step, or of
second order with a narrow one where the two disagree (beside a kink). Triangles on which det J vanishes carry singular
mass; those that straddle the border of such a region are split further.

Accuracy: about 1e-9 relative where g is smooth, float64; a strip of width about 1e-5 beside kinks and folds is less
exact. A pair of preimages close to a fold may be missed: how much mass that concerns is measured by ``plane_push``.

Reference: *Numerical Optimization* (Nocedal, Wright, 2006), chapter 11, https://doi.org/10.1007/978-0-387-40065-5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64
from scipy.spatial import cKDTree

__all__ = ["PlaneMap", "Roots"]

Map: TypeAlias = Callable[[np.ndarray], np.ndarray]

_GRID = 24
# How often a triangle is split: at most, across a fold, and where g merely bends.
_LEVELS = 8
_FOLD_LEVELS = 5
_CURVE_LEVELS = 3
_MAX_TRIANGLES = 120_000
_CURVED = 0.15  # distance of g from affine, relative to the image's size, above which a triangle is split
_INFLATE = 0.35
_BUCKETS = 192
_NEWTON = 14
_CLOSEST = 10
_TRIED = 6
_WEIGHTLESS = 1e-13
_PAIRS = 1_000_000
# det J below this share of |J|² is no area at all.
_FLAT = 1e-9


class Roots(NamedTuple):
    """Solutions of g(z) = x: the query each belongs to, the place, and |det J| there."""

    query: np.ndarray
    z: np.ndarray
    volume: np.ndarray


class PlaneMap:
    """g on a rectangle of the plane.

    Args:
        g: the map, (n, 2) -> (n, 2).
        low: lower corner of the rectangle.
        high: upper corner.
        density: density of the base; triangles without mass are not refined.
        noise: relative rounding of g.
        bounded: whether there is no z outside the rectangle.
    """

    def __init__(
        self,
        g: Map,
        low: np.ndarray,
        high: np.ndarray,
        density: Callable[[np.ndarray], np.ndarray],
        noise: float,
        bounded: bool,  # noqa: FBT001
    ) -> None:
        self._g, self._low, self._high, self._noise, self._bounded = g, low, high, noise, bounded
        self._size = high - low
        self._density = density
        self._fine = float(np.sqrt(noise))
        corners = self._first_triangles()
        self.corners, self.images, self.flat, self._bend, self.lost = self._refine(corners)
        finite = np.isfinite(self.images).all(axis=(1, 2)) & np.isfinite(self._bend)
        self.corners, self.images = self.corners[finite], self.images[finite]
        self.flat, self._bend, self.lost = self.flat[finite], self._bend[finite], self.lost[finite]
        mass = self.masses(self.corners)
        self.scale = float(
            np.sqrt(
                np.average(((self.images - self._center(mass)) ** 2).sum(axis=2).mean(axis=1), weights=mass + 1e-300)
            )
        )
        self._build_buckets(mass)

    def preimages(self, x: Float64[np.ndarray, "n d"]) -> Roots:
        """Every z found with g(z) = x at which g has full rank."""
        parts = [Roots(np.empty(0, dtype=np.intp), np.empty((0, 2)), np.empty(0))]
        rows = 20_000
        for start in range(0, len(x), rows):
            roots = self._solve_block(x[start : start + rows])
            parts.append(roots._replace(query=roots.query + start))
        return Roots(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def singular(self, x: Float64[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Whether x lies on the image of the set where g loses rank."""
        result = np.zeros(len(x), dtype=bool)
        if not self.flat.any():
            return result
        query, triangle = self._candidates(x, flat=True)
        # Any one triangle that covers x will do; a few are tried.
        order = np.argsort(query, kind="stable")
        query, triangle = query[order], triangle[order]
        rank = np.arange(len(query)) - np.searchsorted(query, query)
        query, triangle = query[rank < _TRIED], triangle[rank < _TRIED]
        z = self._newton(self.corners[triangle].mean(axis=1), x[query])
        hit = np.abs(self._g(z) - x[query]).max(axis=1) <= 1e3 * self._noise * self._reach(x[query])
        jacobian = self.jacobian(z[hit])
        result[query[hit][_lost_rank(jacobian, self._fine)]] = True
        return result

    def jacobian(self, z: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, "n d d"]:
        """∂g/∂z by differences: wide and of fourth order where g is smooth, narrow beside a kink."""
        wide = (100 * self._noise) ** 0.2 * 0.05 * self._size
        narrow = self._noise ** (1 / 3) * 0.05 * self._size
        return _differences(self._g, z, self._steps(z, wide), self._steps(z, narrow))

    def _steps(self, z: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Steps (n, 2) that do not leave a bounded rectangle: beyond it g need not be defined."""
        if not self._bounded:
            return np.broadcast_to(step, z.shape)
        return np.minimum(step, np.maximum(np.minimum(z - self._low, self._high - z) / 4, 1e-14 * self._size))

    def masses(self, corners: np.ndarray) -> np.ndarray:
        """Mass of the base on triangles (t, 3, 2), by a rule of six points."""
        a, b = 0.445948490915965, 0.091576213509771
        rows = [
            (a, a, 1 - 2 * a),
            (a, 1 - 2 * a, a),
            (1 - 2 * a, a, a),
            (b, b, 1 - 2 * b),
            (b, 1 - 2 * b, b),
            (1 - 2 * b, b, b),
        ]
        weight = np.array([0.223381589678011] * 3 + [0.109951743655322] * 3)
        z = np.einsum("qk,tkd->tqd", np.array(rows), corners)
        return 0.5 * np.abs(_area(corners)) * (self._density(z.reshape(-1, 2)).reshape(len(corners), -1) @ weight)

    def rank_lost(self, z: np.ndarray) -> np.ndarray:
        """Whether g has no area at z."""
        return _lost_rank(self.jacobian(z), self._fine)

    def _rank_at_a_glance(self, z: np.ndarray) -> np.ndarray:
        """The same from one-sided differences: cheaper, and only to decide where to look properly."""
        step = self._steps(z, np.sqrt(self._noise) * 0.05 * self._size)
        here = self._g(z)
        with np.errstate(all="ignore"):
            columns = [(self._g(z + step * np.eye(2)[k]) - here) / step[:, k, None] for k in range(2)]
            jacobian = np.stack(columns, axis=2)
            return ~(np.abs(_det(jacobian)) > 1e-5 * (jacobian**2).sum(axis=(1, 2)))

    def _center(self, mass: np.ndarray) -> np.ndarray:
        return np.average(self.images.mean(axis=1), axis=0, weights=mass + 1e-300)

    def _reach(self, x: np.ndarray) -> np.ndarray:
        return np.maximum(np.abs(x).max(axis=1), 1e-2 * self.scale)

    def _first_triangles(self) -> np.ndarray:
        # Halving lines of a symmetric base stay edges of the mesh: kinks of ReLUs at 0 are met exactly.
        # A bounded base is entered by a hair: an inverse CDF is infinite on the edge itself.
        inset = 1e-12 * self._size if self._bounded else np.zeros(2)
        ticks = [np.linspace(self._low[k] + inset[k], self._high[k] - inset[k], _GRID + 1) for k in range(2)]
        x, y = np.meshgrid(*ticks, indexing="ij")
        grid = np.stack([x, y], axis=-1)
        a, b, c, d = grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]
        return np.concatenate([np.stack([a, b, c], axis=2), np.stack([a, c, d], axis=2)]).reshape(-1, 3, 2)

    def _refine(self, corners: np.ndarray) -> tuple[np.ndarray, ...]:
        done: list[tuple[np.ndarray, ...]] = []
        total = 0
        for level in range(_LEVELS + 1):
            images, off, curved, folded, lost = self._inspect(corners)
            flat, mixed = lost == 1, (lost > 0) & (lost < 1)
            heavy = self.masses(corners) > 1e-8
            again = heavy & (mixed | (folded & (level < _FOLD_LEVELS)) | (curved & (level < _CURVE_LEVELS)))
            if level == _LEVELS or total + len(corners) + 3 * again.sum() > _MAX_TRIANGLES:
                again[:] = False
            done.append((corners[~again], images[~again], flat[~again], off[~again], lost[~again]))
            total += int((~again).sum())
            if not again.any():
                break
            corners = _quarters(corners[again])
        return tuple(np.concatenate(part) for part in zip(*done, strict=True))

    def _inspect(self, corners: np.ndarray) -> tuple[np.ndarray, ...]:
        """Images of the corners, distance from affine, which triangles are curved or folded, share without rank."""
        middles = (corners + np.roll(corners, -1, axis=1)) / 2
        points = np.concatenate([corners, middles, corners.mean(axis=1, keepdims=True)], axis=1)
        values = self._g(points.reshape(-1, 2)).reshape(len(corners), 7, 2)
        images = values[:, :3]
        with np.errstate(invalid="ignore", over="ignore"):
            edges = (images + np.roll(images, -1, axis=1)) / 2
            affine = np.concatenate([edges, images.mean(axis=1, keepdims=True)], axis=1)
            off = np.abs(values[:, 3:] - affine).max(axis=(1, 2))
            whole = _area(images)
            # Children: (0, 3, 5), (3, 1, 4), (5, 4, 2), (3, 4, 5) of corners 0 1 2 and edge middles 3 4 5.
            parts = np.stack([_area(values[:, k]) for k in ([0, 3, 5], [3, 1, 4], [5, 4, 2], [3, 4, 5])], axis=1)
            longest = np.abs(np.diff(images, axis=1)).max(axis=(1, 2)) + 1e-300
            curved = ~(off <= _CURVED * np.maximum(np.abs(whole) / longest, 1e-3 * longest))
            folded = (parts > 0).any(axis=1) & (parts < 0).any(axis=1)
        inside = np.concatenate([corners * 0.98 + 0.02 * points[:, 6:], points[:, 6:]], axis=1)
        suspect = np.flatnonzero(self._rank_at_a_glance(inside.reshape(-1, 2)).reshape(-1, 4).any(axis=1))
        share = np.zeros(len(corners))
        share[suspect] = self.rank_lost(inside[suspect].reshape(-1, 2)).reshape(-1, 4).mean(axis=1)
        flat = share == 1
        # A flat triangle of which some children are still straddles the border of what is pressed onto a point.
        children = values[:, [[0, 3, 5], [3, 1, 4], [5, 4, 2], [3, 4, 5]]]
        moves = np.ptp(children, axis=2).max(axis=2) > 1e-12 * longest[:, None]
        partly = flat & (longest > 1e-290) & ~moves.all(axis=1) & moves.any(axis=1)
        return images, off, (curved & ~flat) | partly, (folded & ~flat) | partly, share

    def _build_buckets(self, mass: np.ndarray) -> None:
        """Which triangles have an image that may reach into each bucket of a grid over x."""
        images = self.images
        self._full = np.flatnonzero(~self.flat)
        self._tree = cKDTree(images[self._full].mean(axis=1)) if len(self._full) else None
        self._width = np.ptp(images[self._full], axis=1).max(axis=1)
        low, high = images.min(axis=1), images.max(axis=1)
        self._box_low, self._box_high = low, high
        # Of the flat triangles with one image (whole strips of the plane have the same) one will do.
        boxes = np.round(np.concatenate([low, high], axis=1) / (1e-7 * self.scale + 1e-300))
        first = np.zeros(len(images), dtype=bool)
        heavy = np.flatnonzero(self.flat & (mass >= _WEIGHTLESS))
        first[heavy[np.unique(boxes[heavy], axis=0, return_index=True)[1]]] = True
        self._light = (mass < _WEIGHTLESS) | (self.flat & ~first)
        grow = _INFLATE * (high - low).max(axis=1, keepdims=True) + 1e-12 * self.scale
        low, high = low - grow, high + grow
        # Images without mass may lie anywhere; the grid covers what matters, its rim takes the rest.
        core = mass > 1e-12
        self._origin = np.quantile(low[core], 0.001, axis=0)
        self._step = (np.quantile(high[core], 0.999, axis=0) - self._origin) / _BUCKETS
        self._step = np.maximum(self._step, 1e-9 * self.scale + 1e-300)
        first, last = self._bucket(low), self._bucket(high)
        spans = last - first + 1
        counts = spans.prod(axis=1)
        owner = np.repeat(np.arange(len(images)), counts)
        offset = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        row = first[owner, 0] + offset // spans[owner, 1]
        column = first[owner, 1] + offset % spans[owner, 1]
        key = row * _BUCKETS + column
        order = np.argsort(key, kind="stable")
        self._members = owner[order]
        self._start = np.searchsorted(key[order], np.arange(_BUCKETS**2 + 1))

    def _bucket(self, x: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return np.clip((x - self._origin) / self._step, 0, _BUCKETS - 1).astype(np.int64)

    def _candidates(self, x: np.ndarray, *, flat: bool) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (query, triangle) with x in, or a little outside of, the triangle's image."""
        cell = self._bucket(x)
        key = cell[:, 0] * _BUCKETS + cell[:, 1]
        counts = self._start[key + 1] - self._start[key]
        queries, triangles = [], []
        # Few queries at a time where buckets are crowded: memory stays bounded.
        for block in np.split(np.arange(len(x)), np.flatnonzero(np.diff(np.cumsum(counts) // _PAIRS)) + 1):
            some = counts[block]
            query = np.repeat(block, some)
            offset = np.arange(len(query)) - np.repeat(np.cumsum(some) - some, some)
            triangle = self._members[np.repeat(self._start[key[block]], some) + offset]
            # Triangles without mass are only asked where no other one answers.
            chosen = (self.flat[triangle] == flat) & ~self._light[triangle]
            query, triangle = query[chosen], triangle[chosen]
            near = self._touches(x[query], triangle, flat=flat)
            queries.append(query[near])
            triangles.append(triangle[near])
        return np.concatenate(queries), np.concatenate(triangles)

    def _touches(self, x: np.ndarray, triangle: np.ndarray, *, flat: bool) -> np.ndarray:
        low, high = self._box_low[triangle], self._box_high[triangle]
        extent = (high - low).max(axis=1)
        grow = np.minimum(_INFLATE * extent, 0.1 * extent + 2 * self._bend[triangle])[:, None] + 1e-9 * self.scale
        near = ((x >= low - grow) & (x <= high + grow)).all(axis=1)
        index = np.flatnonzero(near)
        x, triangle = x[index], triangle[index]
        if flat:
            near[index] = self._on_segment(x, triangle)
            return near
        a, b, c = (self.images[triangle, k] for k in range(3))
        with np.errstate(all="ignore"):
            u, v, w = b - a, c - a, x - a
            det = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
            s = (w[:, 0] * v[:, 1] - w[:, 1] * v[:, 0]) / det
            t = (u[:, 0] * w[:, 1] - u[:, 1] * w[:, 0]) / det
            # How far outside still counts: some of its size, and as much as g is off the affine map.
            height = np.abs(det) / np.sqrt(np.maximum((u**2).sum(axis=1), (v**2).sum(axis=1)))
            slack = _INFLATE + 2 * self._bend[triangle] / height
            near[index] = ~((s < -slack) | (t < -slack) | (s + t > 1 + slack))
        return near

    def _on_segment(self, x: np.ndarray, triangle: np.ndarray) -> np.ndarray:
        """Whether x lies on the image of a flat triangle, which is a piece of a line, but for its bend."""
        images = self.images[triangle]
        edges = np.roll(images, -1, axis=1) - images
        longest = (edges**2).sum(axis=2).argmax(axis=1)
        rows = np.arange(len(triangle))
        edge, away = edges[rows, longest], x - images[rows, longest]
        length = np.sqrt((edge**2).sum(axis=1))
        tiny = 1e-9 * self.scale
        with np.errstate(invalid="ignore", divide="ignore"):
            across = np.abs(edge[:, 0] * away[:, 1] - edge[:, 1] * away[:, 0]) / length
        distance = np.where(length > tiny, across, np.abs(away).max(axis=1))
        return distance <= tiny + 2 * self._bend[triangle]

    def _solve_block(self, x: np.ndarray) -> Roots:
        query, triangle = self._candidates(x, flat=False)
        query, z = self._converged(query, self._affine_start(x[query], triangle), x)
        # Where nothing was found, go on from the triangles whose images come closest.
        bare = np.setdiff1d(np.arange(len(x)), query)
        if len(bare):
            extra, more = self._converged(*self._closest(x, bare), x)
            query, z = np.concatenate([query, extra]), np.concatenate([z, more])
        keep = _distinct(query, z / self._size, 1e-6)
        query, z = query[keep], z[keep]
        jacobian = self.jacobian(z)
        volume = np.abs(_det(jacobian))
        full = ~_lost_rank(jacobian, self._fine) & np.isfinite(volume)
        return Roots(query[full], z[full], volume[full])

    def _converged(self, query: np.ndarray, start: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Newton's method from the given places; only what ends at a solution."""
        z = self._newton(start, x[query])
        with np.errstate(invalid="ignore", over="ignore"):
            residual = np.abs(self._g(z) - x[query]).max(axis=1)
            good = residual <= 1e3 * self._noise * self._reach(x[query])
        if self._bounded:
            edge = 1e-12 * self._size
            good &= ((z >= self._low - edge) & (z <= self._high + edge)).all(axis=1)
        return query[good], z[good]

    def _affine_start(self, x: np.ndarray, triangle: np.ndarray) -> np.ndarray:
        corners, images = self.corners[triangle], self.images[triangle]
        with np.errstate(all="ignore"):
            u, v, w = images[:, 1] - images[:, 0], images[:, 2] - images[:, 0], x - images[:, 0]
            det = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
            s = (w[:, 0] * v[:, 1] - w[:, 1] * v[:, 0]) / det
            t = (u[:, 0] * w[:, 1] - u[:, 1] * w[:, 0]) / det
        fine = np.isfinite(s) & np.isfinite(t) & (np.abs(s) < 2) & (np.abs(t) < 2)
        s, t = np.where(fine, s, 1 / 3), np.where(fine, t, 1 / 3)
        return (
            corners[:, 0] + s[:, None] * (corners[:, 1] - corners[:, 0]) + t[:, None] * (corners[:, 2] - corners[:, 0])
        )

    def _closest(self, x: np.ndarray, bare: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The triangles whose images are nearest to some x, as (query, starting place)."""
        if self._tree is None:
            return np.empty(0, dtype=np.intp), np.empty((0, 2))
        distance, near = self._tree.query(x[bare], k=min(_CLOSEST, len(self._full)))
        distance, near = distance.reshape(len(bare), -1), near.reshape(len(bare), -1)
        if self._bounded:
            # Further away than an image is wide there is no image: x is outside of the range of g.
            reached = (distance <= 2 * self._width[near]).any(axis=1)
            bare, near = bare[reached], near[reached]
        return np.repeat(bare, near.shape[1]), self.corners[self._full[near.ravel()]].mean(axis=1)

    def _newton(self, z: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Damped steps on g itself; where J has no inverse, along its pseudo-inverse."""
        z = z.copy()
        active = np.arange(len(z))
        limit = 4 * self._noise * self._reach(x)
        step_size = 1e-6 * self._size
        for _ in range(_NEWTON):
            if not len(active):
                break
            place = z[active]
            with np.errstate(all="ignore"):
                off = self._g(place) - x[active]
                steps = self._steps(place, step_size)
                columns = []
                for axis in range(2):
                    step = steps * np.eye(2)[axis]
                    columns.append((self._g(place + step) - self._g(place - step)) / (2 * steps[:, axis, None]))
                move = _pseudo_solve(np.stack(columns, axis=2), off)
                far = np.abs(move / self._size).max(axis=1)
                move /= np.maximum(1.0, far / 0.25)[:, None]
            moved = np.isfinite(move).all(axis=1)
            z[active[moved]] = self._inside(place[moved], move[moved])
            active = active[moved & ~((np.abs(off) <= limit[active, None]).all(axis=1)) & (far > 1e-15)]
        return z

    def _inside(self, z: np.ndarray, move: np.ndarray) -> np.ndarray:
        """The new place; a step across the edge of a bounded base goes nine tenths of the way to it."""
        if not self._bounded:
            return z - move
        new = z - move
        new = np.where(new <= self._low, z + 0.9 * (self._low - z), new)
        return np.where(new >= self._high, z + 0.9 * (self._high - z), new)


def _pseudo_solve(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """J⁺ r for many 2×2 matrices: the inverse where there is one, else along the only direction J knows."""
    det = _det(matrix)
    size = (matrix**2).sum(axis=(1, 2))
    adjugate = np.stack(
        [
            matrix[:, 1, 1] * right[:, 0] - matrix[:, 0, 1] * right[:, 1],
            matrix[:, 0, 0] * right[:, 1] - matrix[:, 1, 0] * right[:, 0],
        ],
        axis=1,
    )
    # A matrix of rank one satisfies J⁺ = Jᵀ/|J|².
    along = np.einsum("nij,ni->nj", matrix, right) / np.maximum(size, 1e-300)[:, None]
    return np.where((np.abs(det) > 1e-7 * size)[:, None], adjugate / det[:, None], along)


def _differences(g: Map, z: np.ndarray, wide: np.ndarray, narrow: np.ndarray) -> np.ndarray:
    columns = []
    with np.errstate(all="ignore"):
        for axis in range(2):
            far, near = wide * np.eye(2)[axis], narrow * np.eye(2)[axis]
            one = g(z + far) - g(z - far)
            two = g(z + 2 * far) - g(z - 2 * far)
            fourth = (8 * one - two) / (12 * wide[:, axis, None])
            second = (g(z + near) - g(z - near)) / (2 * narrow[:, axis, None])
            size = np.abs(second).max(axis=1, keepdims=True)
            smooth = np.isfinite(fourth) & (np.abs(fourth - second) <= 1e-6 * size)
            columns.append(np.where(smooth.all(axis=1, keepdims=True), fourth, second))
    return np.stack(columns, axis=2)


def _det(matrix: np.ndarray) -> np.ndarray:
    return matrix[:, 0, 0] * matrix[:, 1, 1] - matrix[:, 0, 1] * matrix[:, 1, 0]


def _lost_rank(jacobian: np.ndarray, fine: float) -> np.ndarray:
    return np.abs(_det(jacobian)) <= max(_FLAT, 10 * fine**1.5) * (jacobian**2).sum(axis=(1, 2))


def _area(corners: np.ndarray) -> np.ndarray:
    """Twice the signed area of triangles (t, 3, 2)."""
    side, other = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return side[:, 0] * other[:, 1] - side[:, 1] * other[:, 0]


def _quarters(corners: np.ndarray) -> np.ndarray:
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
    return np.concatenate([np.stack(t, axis=1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])


def _distinct(query: np.ndarray, place: np.ndarray, tolerance: float) -> np.ndarray:
    """One index for each cluster of places of the same query."""
    order = np.lexsort((place[:, 1], place[:, 0], query))
    keep = np.ones(len(order), dtype=bool)
    # Equal places are neighbours in this order, except for ties in the first coordinate: look a few rows back.
    for back in range(1, min(9, len(order))):
        same = query[order[back:]] == query[order[:-back]]
        close = np.abs(place[order[back:]] - place[order[:-back]]).max(axis=1) <= tolerance
        keep[back:] &= ~(same & close)
    return order[keep]
