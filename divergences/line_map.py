r"""A map of the line to itself, taken apart: monotone pieces, plateaus, and the preimages of any point.

The map is replaced by Chebyshev polynomials of degree 16 on cells that are halved until the last coefficients drown in
the rounding of g itself, so that what is computed from them (inverse, slope) is as good as g allows. Halving that does
not end marks a kink or a jump: it is run down to the last bits of z and becomes an edge of the mesh, which is then
built a second time; a piecewise linear network thus becomes a handful of exactly linear cells. Where a polynomial's
slope changes sign the cell is cut (a fold); a cell on which g does not move at all is a plateau: the mass above
it sits in one point. Between folds each piece is inverted by a bracketed Newton iteration.

Reference: *An Extension of MATLAB to Continuous Functions and Operators* (Battles, Trefethen, 2004),
https://doi.org/10.1137/S1064827503430126.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float64

from divergences.errors import InputError

__all__ = ["LineMap", "Preimages"]

Map: TypeAlias = Callable[[np.ndarray], np.ndarray]

_EPS = float(np.finfo(np.float64).eps)
_DEGREE = 16
_NODES = -np.cos(np.pi * np.arange(_DEGREE + 1) / _DEGREE)
# Values at the nodes -> Chebyshev coefficients.
_TO_COEFFICIENTS = np.linalg.inv(np.polynomial.chebyshev.chebvander(_NODES, _DEGREE))
# Off the nodes, so that what they cannot see (a narrow bump, an alias) is seen here.
_PROBES = np.array([-0.9391, -0.5127, -0.0713, 0.3139, 0.7457, 0.9817])
_PROBE_VALUES = np.polynomial.chebyshev.chebvander(_PROBES, _DEGREE).T
_FINE = np.linspace(-1.0, 1.0, 65)
_MAX_LEVELS = 54
_MAX_CELLS = 100_000
_FIT = 16.0  # multiples of the rounding of g that a polynomial may be off
_EXTENSIONS = 30
_SLOW = 1e-3
_SAME = 1e-9  # of half a cell, within which two places are one
_NOISY_LEVEL = 4


class _Cells(NamedTuple):
    """Intervals of z with the polynomial of g on each; ``good`` is False where none was found."""

    low: np.ndarray
    high: np.ndarray
    coefficients: np.ndarray
    scale: np.ndarray
    good: np.ndarray
    tail: np.ndarray

    def take(self, index: np.ndarray) -> _Cells:
        return _Cells(*(part[index] for part in self))


class Preimages(NamedTuple):
    """All solutions of g(z) = x: which query each belongs to, where it is, |g′| there, and whether the piece rises."""

    query: np.ndarray
    z: np.ndarray
    slope: np.ndarray
    rising: np.ndarray


@dataclass(frozen=True)
class Piece:
    """Adjacent cells on which g is strictly monotone."""

    edges: np.ndarray  # z, (m + 1,), ascending
    values: np.ndarray  # g at the edges, monotone
    coefficients: np.ndarray  # (m, degree + 1), on the whole cell each part was cut from
    low: np.ndarray  # those cells, (m,)
    high: np.ndarray
    slack: np.ndarray  # rounding of g, (m,)
    rising: bool


class LineMap:
    """g on the line, resolved from ``edges[0]`` to ``edges[-1]``.

    Args:
        g: the map, (n,) -> (n,).
        edges: first cells, ascending.
        unit: length over which the typical value of g varies; below 1 % of it only absolute accuracy counts.
        noise: relative rounding of g.
        unbounded: whether z goes on to −∞ and to +∞, where a map that is simple out there is followed further.

    Attributes:
        pieces: the monotone pieces.
        plateaus: rows (z_low, z_high, x) on which g is constant.
        dropped: rows (z_low, z_high) where g is not finite, or a jump was isolated.
        kinks: z where the mesh had to be cut; folds: z where g turns; bends: z where g″ changes sign.
        slow: z where g stands still, turning or not: there the density has a pole.
    """

    def __init__(self, g: Map, edges: np.ndarray, unit: float, noise: float, unbounded: tuple[bool, bool]) -> None:
        self._g = g
        self._floor = 0.01 * unit
        self._noise = noise
        first = self._resolve(edges[:-1], edges[1:])
        self.kinks = _kinks(first, edges)
        if len(self.kinks):
            cut = np.union1d(edges, self.kinks)
            first = self._resolve(cut[:-1], cut[1:], 4.0)
        self.dropped = np.stack([first.low[~first.good], first.high[~first.good]], axis=1)
        cells = first.take(first.good)
        self.inner = (float(edges[0]), float(edges[-1]))
        cells = self._extend(cells, unbounded)
        swing = np.abs(cells.coefficients[:, 1:]).max(axis=1)
        flat = swing <= 2 * self._noise * cells.scale
        self.plateaus = np.stack([cells.low[flat], cells.high[flat], cells.coefficients[flat, 0]], axis=1)
        cells = cells.take(~flat)
        self.folds, self.bends, self.pieces = self._cut(cells)
        self.slow = self._find_slow(cells)
        at_slow = self._g(self.slow)
        # Where g is 0 it is known to relative accuracy, which a polynomial of the neighbourhood is not.
        self._sharp = self.slow[(np.abs(at_slow) <= 1e-3 * noise * unit) & (noise < 1e-12)]

    def preimages(self, x: Float64[np.ndarray, " n"], chosen: np.ndarray | None = None) -> Preimages:
        """Every z with g(z) = x outside the plateaus, piece by piece (all, or the chosen ones)."""
        found = [self.invert(self.pieces[k], x) for k in (range(len(self.pieces)) if chosen is None else chosen)]
        if not found:
            empty = np.empty(0)
            return Preimages(np.empty(0, dtype=np.intp), empty, empty, np.empty(0, dtype=bool))
        return Preimages(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def steepness(self, z: Float64[np.ndarray, " n"]) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
        """|g′| and |g″| at z, from the polynomials; NaN on plateaus and where g was not resolved."""
        slope, bend = np.full(len(z), np.nan), np.full(len(z), np.nan)
        for piece in self.pieces:
            inside = np.flatnonzero((z >= piece.edges[0]) & (z <= piece.edges[-1]) & np.isnan(slope))
            cell = np.clip(np.searchsorted(piece.edges, z[inside], side="right") - 1, 0, len(piece.low) - 1)
            middle, half = (piece.low + piece.high)[cell] / 2, (piece.high - piece.low)[cell] / 2
            _, first, second = _clenshaw(piece.coefficients[cell], (z[inside] - middle) / half)
            slope[inside], bend[inside] = np.abs(first) / half, np.abs(second) / half**2
        return slope, bend

    @property
    def image(self) -> Float64[np.ndarray, " k"]:
        """Values of g at all edges of all pieces and on the plateaus, ascending."""
        return np.unique(np.concatenate([*(piece.values for piece in self.pieces), self.plateaus[:, 2]]))

    def _resolve(self, low: np.ndarray, high: np.ndarray, slack: float = 1.0) -> _Cells:
        """Halve cells until each is a polynomial, or too short to be halved."""
        done: list[_Cells] = []
        before = np.empty(0)
        for level in range(_MAX_LEVELS):
            cells = self._fit(low, high, slack)
            if level > _NOISY_LEVEL:
                cells = self._accept_noise(cells, before)
            width = high - low
            stuck = width <= 4 * _EPS * np.maximum(np.abs(low), np.abs(high))
            if level == _MAX_LEVELS - 1:
                stuck[:] = True
            done.append(cells.take(cells.good | stuck))
            again = ~(cells.good | stuck)
            if not again.any():
                break
            if again.sum() > _MAX_CELLS:
                raise InputError(
                    "g cannot be resolved: after halving the mesh many times it still looks rough everywhere. Is it "
                    "noisy (dropout, batch statistics), or does it oscillate without end?"
                )
            before = cells.tail[again]
            middle = low[again] + width[again] / 2
            low, high = (
                np.stack([low[again], middle], axis=1).ravel(),
                np.stack([middle, high[again]], axis=1).ravel(),
            )
        merged = _Cells(*(np.concatenate(parts) for parts in zip(*done, strict=True)))
        return merged.take(np.argsort(merged.low, kind="stable"))

    def _accept_noise(self, cells: _Cells, before: np.ndarray) -> _Cells:
        """Where halving helps neither half, what is left is rounding inside g: take the polynomial without it.

        A kink or a jump spoils one half only, and a kink shrinks with the cell.
        """
        pairs = cells.tail.reshape(-1, 2)
        small = (pairs < 1e-4 * cells.scale.reshape(-1, 2)).all(axis=1)
        noisy = ~cells.good.reshape(-1, 2).any(axis=1) & small & (pairs > 0.7 * before[:, None]).all(axis=1)
        noisy &= np.isfinite(pairs).all(axis=1)
        noisy = np.repeat(noisy, 2)
        coefficients = _chopped(cells.coefficients, np.where(noisy, 4 * cells.tail, 0.0))
        scale = np.where(noisy, np.maximum(cells.scale, 4 * cells.tail / self._noise), cells.scale)
        return cells._replace(coefficients=coefficients, scale=scale, good=cells.good | noisy)

    def _fit(self, low: np.ndarray, high: np.ndarray, slack: float) -> _Cells:
        """Polynomials on the cells, chopped where their coefficients are rounding."""
        middle, half = (low + high) / 2, (high - low) / 2
        z = middle[:, None] + half[:, None] * np.concatenate([_NODES, _PROBES])
        # The ends exactly: neighbours must share their values.
        z[:, 0], z[:, _DEGREE] = low, high
        values = self._g(z.ravel()).reshape(z.shape)
        finite = np.asarray(np.isfinite(values).all(axis=1))
        values = np.where(finite[:, None], values, 0.0)
        # From the deviations: a constant must leave exact zeros whatever order the product is summed in.
        base = values[:, :1]
        coefficients = (values[:, : _DEGREE + 1] - base) @ _TO_COEFFICIENTS.T
        coefficients[:, :1] += base
        scale = np.maximum(np.abs(values).max(axis=1), self._floor)
        # A node is only known to an ulp: where z is large against the cell, that moves g too.
        swing = values.max(axis=1) - values.min(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            blur = _EPS * np.maximum(np.abs(low), np.abs(high)) / np.maximum(half, 1e-300) * swing
        # But a jump is no blur, however narrow the cell around it.
        limit = slack * _FIT * (self._noise * scale + np.minimum(blur, 1e-6 * scale))
        tail = np.abs(coefficients[:, -3:]).max(axis=1)
        miss = np.abs(coefficients @ _PROBE_VALUES - values[:, _DEGREE + 1 :]).max(axis=1)
        good = finite & (tail <= limit) & (miss <= 4 * limit)
        coefficients = _chopped(coefficients, self._noise * scale)
        return _Cells(low, high, coefficients, scale, good, np.where(finite, np.maximum(tail, miss / 4), np.inf))

    def _extend(self, cells: _Cells, unbounded: tuple[bool, bool]) -> _Cells:
        """Follow g beyond the last cells, where the mass is nil but logarithms of densities still count."""
        parts = [cells]
        span = self.inner[1] - self.inner[0]
        for side, goes_on in zip((-1, 1), unbounded, strict=True):
            edge = self.inner[(side + 1) // 2]
            for k in range(_EXTENSIONS if goes_on else 0):
                outer = edge + side * span * 2.0**k
                new = self._fit(np.array([min(edge, outer)]), np.array([max(edge, outer)]), 1.0)
                if not new.good[0] or np.abs(new.coefficients[0, 1:]).max() <= 2 * self._noise * new.scale[0]:
                    break
                parts.append(new)
                edge = outer
        merged = _Cells(*(np.concatenate(part) for part in zip(*parts, strict=True)))
        return merged.take(np.argsort(merged.low, kind="stable"))

    def _cut(self, cells: _Cells) -> tuple[np.ndarray, np.ndarray, list[Piece]]:
        """Cut cells at the zeros of g′, and join what is monotone in the same direction."""
        first = np.polynomial.chebyshev.chebder(cells.coefficients, axis=1)
        second = np.polynomial.chebyshev.chebder(cells.coefficients, 2, axis=1)
        fold_cell, fold_t = _roots(first)
        bend_cell, bend_t = _roots(second)
        middle, half = (cells.low + cells.high) / 2, (cells.high - cells.low) / 2
        folds = middle[fold_cell] + half[fold_cell] * fold_t
        bends = middle[bend_cell] + half[bend_cell] * bend_t
        low, high, source = [], [], []
        for index in range(len(cells.low)):
            inside = np.sort(folds[fold_cell == index])
            inside = inside[(inside > cells.low[index]) & (inside < cells.high[index])]
            edges = np.concatenate([[cells.low[index]], inside, [cells.high[index]]])
            if len(inside):
                level = self._at(cells, np.full(len(edges), index), edges)
                edges = _without_ripples(edges, level, _FIT * 4 * self._noise * cells.scale[index])
            low.append(edges[:-1])
            high.append(edges[1:])
            source.append(np.full(len(edges) - 1, index))
        if not low:
            return folds, bends, []
        z_low, z_high, cell = np.concatenate(low), np.concatenate(high), np.concatenate(source)
        left, right = self._at(cells, cell, z_low), self._at(cells, cell, z_high)
        rising = right > left
        new = np.flatnonzero((np.diff(rising.astype(int)) != 0) | (z_high[:-1] != z_low[1:])) + 1
        pieces = []
        for chosen in np.split(np.arange(len(cell)), new):
            up = bool(rising[chosen[0]])
            edges = np.append(z_low[chosen], z_high[chosen[-1]])
            values = np.append(left[chosen], right[chosen[-1]])
            # Neighbours agree at their common edge to rounding only; the sequence must not step back.
            values = np.maximum.accumulate(values) if up else np.minimum.accumulate(values)
            k = cell[chosen]
            # The ends themselves as g has them: supports and jumps are compared with those of other laws.
            exact = self._g(edges[[0, -1]])
            near = np.abs(exact - values[[0, -1]]) <= _FIT * 4 * self._noise * cells.scale[k[[0, -1]]]
            values[[0, -1]] = np.where(near, exact, values[[0, -1]])
            values = np.clip(values, min(values[0], values[-1]), max(values[0], values[-1]))
            slack = _FIT * 4 * self._noise * cells.scale[k]
            pieces.append(Piece(edges, values, cells.coefficients[k], cells.low[k], cells.high[k], slack, up))
        turning = [piece.edges[[0, -1]] for piece in pieces]
        return np.intersect1d(folds, np.concatenate(turning)), bends, pieces

    def _find_slow(self, cells: _Cells) -> np.ndarray:
        """Edges, folds and bends at which the slope all but vanishes against its mean over the cell."""
        inside = (cells.low >= self.inner[0]) & (cells.high <= self.inner[1])
        cells = cells.take(inside)
        swing = np.abs(cells.coefficients[:, 1:]).sum(axis=1)
        found = [self.folds]
        for end, place in ((-1.0, cells.low), (1.0, cells.high)):
            slope = _clenshaw(cells.coefficients, np.full(len(cells.low), end))[1]
            found.append(place[np.abs(slope) < _SLOW * swing])
        index = np.searchsorted(cells.low, self.bends, side="right") - 1
        known = (index >= 0) & (self.bends < (cells.high[-1] if len(cells.high) else -np.inf))
        index, bends = index[known], self.bends[known]
        low, high = cells.low[index], cells.high[index]
        t = (2 * bends - low - high) / (high - low)
        # Rounding moves a bend at a cell's end off it, and it must not count as another.
        bends = np.where(t < -1 + _SAME, low, np.where(t > 1 - _SAME, high, bends))
        slope = _clenshaw(cells.coefficients[index], np.clip(t, -1, 1))[1]
        found.append(bends[np.abs(slope) < _SLOW * swing[index]])
        return np.unique(np.concatenate(found))

    def _sharpen(
        self, z: np.ndarray, slope: np.ndarray, x: np.ndarray, *, rising: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Near a zero at which g stands still: solve with g itself, with slopes by differences on the scale of z."""
        if not len(self._sharp) or not len(z):
            return z, slope
        nearest = self._sharp[np.abs(z[:, None] - self._sharp).argmin(axis=1)]
        width = (self.inner[1] - self.inner[0]) * 1e-3
        z, slope = np.where((np.abs(z - nearest) < width) & (x == 0), nearest, z), slope.copy()
        near = np.flatnonzero((np.abs(z - nearest) < width) & (x != 0))
        if not len(near):
            return z, slope
        origin, target = nearest[near], x[near]
        side = np.sign(target) * (1.0 if rising else -1.0)
        away = (z[near] - origin) * side
        with np.errstate(divide="ignore", invalid="ignore"):
            lost = ~((away > 0) & (np.abs(self._g(z[near]) / target - 1) < 0.1))
        # A polynomial's guess may be off by its own size this close to the zero: halve the logarithm of the distance.
        low, high = np.full(lost.sum(), np.log(1e-150)), np.full(lost.sum(), np.log(2 * width))
        for _ in range(40):
            middle = (low + high) / 2
            short = np.abs(self._g(origin[lost] + side[lost] * np.exp(middle))) < np.abs(target[lost])
            low, high = np.where(short, middle, low), np.where(short, high, middle)
        away[lost] = np.exp((low + high) / 2)
        for _ in range(3):
            h = side * away / 16
            nodes = (origin + side * away)[:, None] + h[:, None] * np.array([0.0, -2.0, -1.0, 1.0, 2.0])
            g = self._g(nodes.ravel()).reshape(nodes.shape)
            derivative = (g[:, 1] - 8 * g[:, 2] + 8 * g[:, 3] - g[:, 4]) / (12 * h)
            with np.errstate(divide="ignore", invalid="ignore"):
                step = (g[:, 0] - target) / derivative * side
            away = np.where(np.abs(step) < 0.5 * away, away - step, away)
        usable = np.isfinite(derivative) & (derivative != 0)
        z[near[usable]] = (origin + side * away)[usable]
        slope[near[usable]] = np.abs(derivative[usable])
        return z, slope

    @staticmethod
    def _at(cells: _Cells, index: np.ndarray, z: np.ndarray) -> np.ndarray:
        low, high = cells.low[index], cells.high[index]
        return _clenshaw(cells.coefficients[index], np.clip((2 * z - low - high) / (high - low), -1, 1))[0]

    def invert(self, piece: Piece, x: np.ndarray) -> Preimages:
        """Solve g(z) = x on one piece for those x that it reaches."""
        values, edges = (piece.values, piece.edges) if piece.rising else (piece.values[::-1], piece.edges[::-1])
        # x itself comes out of g, rounded: an ulp or two beyond the end of a piece is its end.
        spare = 4 * self._noise * np.maximum(np.abs(values[[0, -1]]), 1e-3 * self._floor)
        query = np.flatnonzero((x >= values[0] - spare[0]) & (x <= values[-1] + spare[1]))
        target = np.clip(x[query], values[0], values[-1])
        slot = np.clip(np.searchsorted(values, target, side="right") - 1, 0, len(values) - 2)
        cell = slot if piece.rising else len(values) - 2 - slot
        middle, half = (piece.low + piece.high)[cell] / 2, (piece.high - piece.low)[cell] / 2
        coefficients = piece.coefficients[cell]
        ends = (np.stack([edges[slot], edges[slot + 1]]) - middle) / half
        t, slope, bend = _solve(coefficients, target, np.clip(ends, -1.0, 1.0))
        # At a fold the slope is 0 and x is known to its rounding only: what that rounding resolves is the floor.
        reach = np.minimum(np.abs(target - values[0]), np.abs(target - values[-1]))
        floor = np.where(reach <= piece.slack[cell], np.sqrt(2 * np.abs(bend) * self._noise * np.abs(target)), 0.0)
        slope = np.maximum(np.maximum(np.abs(slope), floor), np.finfo(np.float64).tiny) / half
        z, slope = self._sharpen(middle + half * t, slope, x[query], rising=piece.rising)
        return Preimages(query, z, slope, np.full(len(query), piece.rising))


def _kinks(cells: _Cells, edges: np.ndarray) -> np.ndarray:
    """Middles of the clusters of cells that were halved again and again."""
    parent = np.diff(edges)[np.clip(np.searchsorted(edges, (cells.low + cells.high) / 2) - 1, 0, len(edges) - 2)]
    tiny = np.flatnonzero((cells.high - cells.low) < 1e-9 * parent)
    if not len(tiny):
        return np.empty(0)
    groups = np.split(tiny, np.flatnonzero(np.diff(tiny) > 1) + 1)
    places: list[float] = []
    for group in groups:
        smallest = group[np.argmin(cells.high[group] - cells.low[group])]
        low, high = float(cells.low[smallest]), float(cells.high[smallest])
        # A jump sits between two neighbouring numbers: both are edges.
        places += [_meeting(cells, group, (low, high))] if cells.good[smallest] else [low, high]
    # At an edge of the mesh there is one already.
    return np.array([z for z in places if np.abs(z - edges).min() > 1e-12 * max(abs(z), float(parent.min()))])


def _meeting(cells: _Cells, group: np.ndarray, smallest: tuple[float, float]) -> float:
    """Where the functions on both sides of a cluster of tiny cells meet, by Newton's method on their difference."""
    middle = (smallest[0] + smallest[1]) / 2
    sides = np.array([group[0] - 1, group[-1] + 1])
    if sides[0] < 0 or sides[1] >= len(cells.low) or not cells.good[sides].all():
        return middle
    center, half = (cells.low[sides] + cells.high[sides]) / 2, (cells.high[sides] - cells.low[sides]) / 2
    z = middle
    for _ in range(4):
        value, slope, _ = _clenshaw(cells.coefficients[sides], (z - center) / half)
        gap = slope[1] / half[1] - slope[0] / half[0]
        z = z - (value[1] - value[0]) / gap if gap != 0 else middle
    return float(z) if abs(z - middle) <= half.min() else middle


def _chopped(coefficients: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Zero what follows the last coefficient above the limit."""
    chop = np.abs(coefficients) <= limit[:, None]
    chop = np.logical_and.accumulate(chop[:, ::-1], axis=1)[:, ::-1]
    return np.where(chop, 0.0, coefficients)


def _without_ripples(edges: np.ndarray, values: np.ndarray, rounding: float) -> np.ndarray:
    """Edges without the turns between which a function moves by no more than rounding."""
    kept = list(range(len(edges)))
    while len(kept) > 2:
        steps = np.abs(np.diff(values[kept]))
        smallest = int(np.argmin(steps))
        if steps[smallest] > rounding:
            break
        # Both ends of a ripple go, except an end of the cell itself.
        drop = {smallest, smallest + 1} - {0, len(kept) - 1}
        kept = [index for place, index in enumerate(kept) if place not in drop]
    return edges[kept]


def _clenshaw(coefficients: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value, first and second derivative of Σ_k c_k T_k(t), row by row."""
    zero = np.zeros_like(t)
    b1, b2, d1, d2, e1, e2 = zero, zero, zero, zero, zero, zero
    for k in range(coefficients.shape[1] - 1, 0, -1):
        e1, e2 = 4 * d1 + 2 * t * e1 - e2, e1
        d1, d2 = 2 * b1 + 2 * t * d1 - d2, d1
        b1, b2 = coefficients[:, k] + 2 * t * b1 - b2, b1
    return coefficients[:, 0] + t * b1 - b2, b1 + t * d1 - d2, 2 * d1 + t * e1 - e2


def _solve(coefficients: np.ndarray, target: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """T between the ends with Σ c_k T_k(t) = target, with both derivatives: Newton kept inside a shrinking bracket.

    The value at ``ends[0]`` is the smaller one.
    """
    a, b = ends[0].copy(), ends[1].copy()
    t = (a + b) / 2
    active = np.arange(len(t))
    for _ in range(80):
        if not len(active):
            break
        value, slope, _ = _clenshaw(coefficients[active], t[active])
        off = value - target[active]
        a[active], b[active] = np.where(off <= 0, t[active], a[active]), np.where(off >= 0, t[active], b[active])
        with np.errstate(divide="ignore", invalid="ignore"):
            step = t[active] - off / slope
        inside = (step - a[active]) * (step - b[active]) < 0
        new = np.where(inside, step, (a[active] + b[active]) / 2)
        moved = np.abs(new - t[active]) > 2 * _EPS
        t[active] = new
        active = active[moved]
    return (t, *_clenshaw(coefficients, t)[1:])


def _roots(coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the polynomials of the rows change sign in [−1, 1]: row indices and places."""
    values = coefficients @ np.polynomial.chebyshev.chebvander(_FINE, coefficients.shape[1] - 1).T
    sign = np.sign(values)
    # A zero on the grid itself: count it with what follows.
    for k in range(values.shape[1] - 2, -1, -1):
        sign[:, k] = np.where(sign[:, k] == 0, sign[:, k + 1], sign[:, k])
    row, column = np.nonzero(sign[:, :-1] * sign[:, 1:] < 0)
    low, high = _FINE[column], _FINE[column + 1]
    left = sign[row, column]
    for _ in range(60):
        middle = (low + high) / 2
        same = np.sign(_clenshaw(coefficients[row], middle)[0]) == left
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return row, (low + high) / 2
