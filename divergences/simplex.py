r"""Network simplex with a certificate: a solver that need not be believed.

For costs C_ij ≥ 0 between masses a and b

$$ \min_{\pi \ge 0,\; \pi 1 = a,\; \pi^T 1 = b} \sum_{ij} \pi_{ij} C_{ij}
   \;=\; \max_{u_i + v_j \le C_{ij}} \sum_i a_i u_i + \sum_j b_j v_j . $$

What POT's solver returns is taken as a proposal. Its potentials v are replaced by c-transforms, u_i = min_j C_ij − v_j
and v_j = min_i C_ij − u_i, which are feasible whatever v was; its plan is priced again and its marginals are measured.
The truth lies between the two numbers so found.

The solver's tolerances are absolute, and a far outlier makes all other costs tiny. Then the proposal is *refined*: the
same plan is optimal for the reduced costs C_ij − u_i − v_j, which are solved for anew, enlarged to the size of the gap
and cut off above it.

References: *Displacement Interpolation Using Lagrangian Mass Transport* (Bonneel et al., 2011),
https://doi.org/10.1145/2070781.2024192, the network simplex behind POT; *Iterative Refinement for Linear Programming*
(Gleixner, Steffy, Wolter, 2016), https://doi.org/10.1287/ijoc.2016.0692.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64
from scipy.spatial.distance import cdist

from divergences.errors import InputError
from divergences.line import north_west

__all__ = ["DEGREES", "Costs", "MatrixCosts", "PointCosts", "Solution", "max_violation", "solve"]

# Costs that only depend on differences, and how they grow when all points are scaled.
DEGREES = {"euclidean": 1, "cityblock": 1, "chebyshev": 1, "sqeuclidean": 2}
_EPS = float(np.finfo(np.float64).eps)
# Gap accepted, relative to the cost: well above rounding (1e-14), well below what anyone would act on.
_GAP = 1e-9
# Above this many pairs POT computes costs as it goes: a dense matrix would fill the memory.
_DENSE_PAIRS = 16_000_000
# Entries of the cost matrix held at a time (32 MB).
_BLOCK = 4_000_000
_ITERATIONS, _ITERATIONS_PER_ATOM = 1_000_000, 200
# Reduced costs are cut off above this many gaps.
_ENLARGE = 1e4


@runtime_checkable
class Costs(Protocol):
    """The matrix C of costs to the power ``order``, in units in which its entries are of order one.

    Attributes:
        shape: (n, m).
        order: the power p.
        factor: what a ground cost of 1 is worth in the caller's units.
        rounding: by how much, in W, the entries may differ from the exact ones.
    """

    shape: tuple[int, int]
    order: int
    factor: float
    rounding: float

    def block(self, rows: slice) -> Float64[np.ndarray, "k m"]:
        """C[rows]."""

    def price(self, rows: np.ndarray, columns: np.ndarray) -> Float64[np.ndarray, " k"]:
        """C at single places."""

    def peak(self) -> float:
        """A bound on C between atoms with mass, 0 only if all of these are 0."""

    def reach(self) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " m"]]:
        """(r, s) with C_ij ≤ r_i + s_j between atoms with mass: what it may cost to send misplaced mass anywhere."""


class PointCosts:
    """Costs of a metric that depends on differences, between points brought to the unit box around 0.

    Args:
        x: points (n, d).
        y: points (m, d).
        weights: of both; atoms without mass do not decide the scale.
        metric: a name in ``DEGREES``.
        order: the power p.

    Raises:
        InputError: the points are so far apart that their distance overflows.
    """

    def __init__(
        self, x: np.ndarray, y: np.ndarray, *, weights: tuple[np.ndarray, np.ndarray], metric: str, order: int
    ) -> None:
        self.shape = len(x), len(y)
        self.metric, self.order = metric, order
        heavy = np.concatenate([x[weights[0] > 0], y[weights[1] > 0]])
        # Powers of two: scaling adds no rounding. Only differences matter; centring keeps their digits when the data
        # sit far from the origin.
        size = _power_of_two(float(np.abs(heavy).max()))
        heavy = heavy / size
        middle = heavy.min(axis=0) + np.ptp(heavy, axis=0) / 2
        spread = _power_of_two(float(np.abs(heavy - middle).max()))
        with np.errstate(over="ignore"):
            self.x, self.y = (x / size - middle) / spread, (y / size - middle) / spread
        self._corners = (np.stack([heavy.min(axis=0), heavy.max(axis=0)]) - middle) / spread
        self.factor = _factor((size, spread) * DEGREES[metric])
        with np.errstate(over="ignore"):
            self._lengths = [cdist(points, np.zeros((1, x.shape[1])), metric)[:, 0] for points in (self.x, self.y)]
        if not all(np.isfinite(length).all() for length in self._lengths):
            raise InputError("the costs overflow: an atom of weight 0 is too far away. Drop atoms without mass.")
        # Coordinates are rounded once in centring, a distance a few times more.
        moved = [np.dot(w, length**order) ** (1 / order) for w, length in zip(weights, self._lengths, strict=True)]
        self.rounding = float((4 + x.shape[1] / 2) * _EPS * sum(moved)) * DEGREES[metric]

    def block(self, rows: slice) -> Float64[np.ndarray, "k m"]:
        """C[rows], by direct differences: no |x|² + |y|² − 2xy, which loses half the digits."""
        costs = cdist(self.x[rows], self.y, self.metric)
        return costs if self.order == 1 else np.power(costs, self.order, out=costs)

    def price(self, rows: np.ndarray, columns: np.ndarray) -> Float64[np.ndarray, " k"]:
        """C at single places."""
        difference = np.abs(self.x[rows] - self.y[columns])
        if self.metric == "cityblock":
            return difference.sum(axis=1) ** self.order
        if self.metric == "chebyshev":
            return difference.max(axis=1) ** self.order
        squares = np.einsum("nd,nd->n", difference, difference)
        return squares**self.order if self.metric == "sqeuclidean" else np.sqrt(squares) ** self.order

    def peak(self) -> float:
        """From corner to corner of the box."""
        return float(cdist(self._corners[:1], self._corners[1:], self.metric)[0, 0] ** self.order)

    def reach(self) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " m"]]:
        """By way of the centre: (r + s)^q ≤ 2^(q−1) (r^q + s^q), with q the degree times the order."""
        power = 2.0 ** (DEGREES[self.metric] * self.order - 1)
        first, second = (power * length**self.order for length in self._lengths)
        return first, second


class MatrixCosts:
    """A given matrix of ground costs, finite and ≥ 0.

    Args:
        costs: shape (n, m).
        heavy: rows and columns with mass: the others do not decide the scale.
        order: the power p.
    """

    def __init__(self, costs: np.ndarray, heavy: tuple[np.ndarray, np.ndarray], order: int) -> None:
        self.shape = costs.shape
        self.order, self.rounding = order, 0.0
        self._costs = costs
        rows, columns = heavy
        step = max(1, _BLOCK // costs.shape[1])
        parts = (rows[start : start + step] for start in range(0, len(rows), step))
        largest = max(float(costs[part][:, columns].max()) for part in parts)
        self.factor = _power_of_two(largest)
        self._peak = (largest / self.factor) ** order

    def block(self, rows: slice) -> Float64[np.ndarray, "k m"]:
        """C[rows]."""
        costs = self._costs[rows] / self.factor
        return costs if self.order == 1 else np.power(costs, self.order, out=costs)

    def price(self, rows: np.ndarray, columns: np.ndarray) -> Float64[np.ndarray, " k"]:
        """C at single places."""
        return np.asarray((self._costs[rows, columns] / self.factor) ** self.order)

    def peak(self) -> float:
        """The largest entry."""
        return self._peak

    def reach(self) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " m"]]:
        """Half the largest entry; nothing more is known of a matrix."""
        return np.full(self.shape[0], self._peak / 2), np.full(self.shape[1], self._peak / 2)


@dataclass(frozen=True)
class Solution:
    """A plan in coordinates, feasible potentials, and the two bounds they prove, all in the units of ``Costs``."""

    rows: np.ndarray
    columns: np.ndarray
    mass: np.ndarray
    u: np.ndarray
    v: np.ndarray
    dual: float
    primal: float
    rounding: float

    @property
    def gap(self) -> float:
        """Primal minus dual, ≥ 0."""
        return max(self.primal, 0.0) - max(min(self.dual, self.primal), 0.0)

    @property
    def certified(self) -> bool:
        """Whether the gap is small beside the cost, or is rounding."""
        return self.gap <= _GAP * self.primal + self.rounding


def solve(a: Float64[np.ndarray, " n"], b: Float64[np.ndarray, " m"], costs: Costs) -> Solution:
    """The best plan and potentials POT can be brought to; whether that is enough, ``Solution.certified`` says."""
    keep_a, keep_b = np.flatnonzero(a > 0), np.flatnonzero(b > 0)
    peak = costs.peak()
    if peak == 0:
        u, v = _transforms(costs, np.zeros(len(keep_b)), keep_b)
        return _judge(a, b, costs, north_west(a, b), u, v)
    u, v, cap = np.zeros(len(a)), np.zeros(len(b)), peak
    best: Solution | None = None
    while True:
        flow, shift = _propose(a[keep_a], b[keep_b], costs, (keep_a, keep_b), (u, v, cap))
        u, v = _transforms(costs, v[keep_b] + cap * shift, keep_b)
        found = _judge(a, b, costs, (keep_a[flow[0]], keep_b[flow[1]], flow[2]), u, v)
        if found.certified or _lazily(costs, len(keep_a) * len(keep_b)):
            return found
        # Refining goes on for as long as it halves the gap.
        if best is not None and found.gap > best.gap / 2:
            return min(found, best, key=lambda one: one.gap)
        best, cap = found, min(peak, _ENLARGE * found.gap)


def max_violation(costs: Costs, u: Float64[np.ndarray, " n"], v: Float64[np.ndarray, " m"]) -> float:
    """The largest u_i + v_j − C_ij, or 0: measured pair by pair, in blocks."""
    worst = 0.0
    for cut in _cuts(costs):
        worst = max(worst, float((u[cut, None] + v - costs.block(cut)).max()))
    return worst


def _cuts(costs: Costs) -> list[slice]:
    n, m = costs.shape
    step = max(1, _BLOCK // m)
    return [slice(start, start + step) for start in range(0, n, step)]


def _lazily(costs: Costs, pairs: int) -> bool:
    return (
        isinstance(costs, PointCosts)
        and pairs > _DENSE_PAIRS
        and (costs.metric, costs.order) in (("euclidean", 1), ("euclidean", 2), ("cityblock", 1), ("sqeuclidean", 1))
    )


def _propose(
    a: np.ndarray,
    b: np.ndarray,
    costs: Costs,
    keep: tuple[np.ndarray, np.ndarray],
    reduction: tuple[np.ndarray, np.ndarray, float],
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """POT's flow in coordinates and q's potentials, for min(C − u − v, cap) / cap."""
    import ot

    iterations = max(_ITERATIONS, _ITERATIONS_PER_ATOM * (len(a) + len(b)))
    u, v, cap = reduction
    rows, columns = keep
    with warnings.catch_warnings():
        # POT warns about what the certificate decides anyway, and with numbers.
        warnings.simplefilter("ignore")
        if isinstance(costs, PointCosts) and _lazily(costs, len(a) * len(b)):
            squared = costs.order == 2 or costs.metric == "sqeuclidean"
            scale = np.sqrt(cap) if squared else cap
            _, log = ot.lp.emd2_lazy(
                np.ascontiguousarray(costs.x[rows] / scale),
                np.ascontiguousarray(costs.y[columns] / scale),
                a,
                b,
                metric="sqeuclidean" if squared else costs.metric,
                numItermax=iterations,
                log=True,
            )
            plan = log["G"].tocoo()
            return (plan.row.astype(np.intp), plan.col.astype(np.intp), plan.data), np.asarray(log["v"])
        reduced = np.empty((len(rows), len(columns)))
        for cut in _cuts(costs):
            start, stop = np.searchsorted(rows, [cut.start, cut.stop])
            mine = rows[start:stop]
            part = costs.block(cut)[mine - cut.start][:, columns]
            part -= u[mine, None]
            part -= v[columns]
            reduced[start:stop] = np.clip(part, 0.0, cap, out=part)
        reduced /= cap
        plan, log = ot.lp.emd(a, b, reduced, numItermax=iterations, log=True)
    where = np.nonzero(plan)
    return (where[0], where[1], plan[where]), np.asarray(log["v"])


def _transforms(costs: Costs, v: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest u for these v, then the largest v for that u: feasible on every atom, zero-weight ones too."""
    n, m = costs.shape
    u, full = np.empty(n), np.full(m, np.inf)
    columns = slice(None) if len(keep) == m else keep
    for cut in _cuts(costs):
        block = costs.block(cut)
        u[cut] = (block[:, columns] - v).min(axis=1)
        np.minimum(full, (block - u[cut, None]).min(axis=0), out=full)
    return u, full


def _judge(
    a: np.ndarray,
    b: np.ndarray,
    costs: Costs,
    flow: tuple[np.ndarray, np.ndarray, np.ndarray],
    u: np.ndarray,
    v: np.ndarray,
) -> Solution:
    """What plan and potentials prove."""
    rows, columns, mass = flow
    # The gauge is free: fix it where the sums below cancel least.
    shift = float(b @ v)
    u, v = u + shift, v - shift
    primal = float(mass @ costs.price(rows, columns))
    reach_a, reach_b = costs.reach()
    off_a, off_b = np.abs(np.bincount(rows, mass, len(a)) - a), np.abs(np.bincount(columns, mass, len(b)) - b)
    # A plan with slightly wrong marginals can be repaired at no more than this.
    primal += 2 * float(off_a @ reach_a + off_b @ reach_b)
    rounding = 16 * _EPS * (primal + float(a @ np.abs(u) + b @ np.abs(v)))
    return Solution(rows, columns, mass, u, v, float(a @ u + b @ v), primal, rounding)


def _power_of_two(size: float) -> float:
    """The power of two next above a size; 1 for 0."""
    return float(np.ldexp(1.0, min(int(np.frexp(size)[1]), 1023))) if size > 0 else 1.0


def _factor(parts: tuple[float, ...]) -> float:
    with np.errstate(over="ignore", under="ignore"):
        factor = float(np.prod(parts))
    if not np.isfinite(factor) or factor == 0:
        raise InputError("the costs overflow or underflow: they cannot be written as float64. Rescale the points.")
    return factor
