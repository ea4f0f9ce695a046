r"""Exact optimal transport, with a certificate beside every cost.

$$ W_p(P, Q) = \Big(\min_{\pi} \sum_{ij} \pi_{ij}\, c(x_i, y_j)^p\Big)^{1/p}
             = \Big(\max_{u_i + v_j \le c_{ij}^p} \sum_i a_i u_i + \sum_j b_j v_j\Big)^{1/p} $$

Any feasible plan is an upper bound and any feasible pair of potentials a lower one, so a solver need not be believed
(``divergences.simplex``): the difference of the two bounds, the *gap*, is the stated error. If the gap is not small the
number is refused (``NotCertified``, which carries the interval).

Four routes: samples or ``Discrete`` on the line (sorting), in R^d (network simplex of POT), laws on the line with a
CDF (W₁ = ∫|F−G|, W₂ by quantiles), and Gaussians for order 2 (the Bures formula).

Reference: *Computational Optimal Transport* (Peyré, Cuturi, 2019), https://arxiv.org/abs/1803.00567.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy import sparse

from divergences.adapters import as_distribution
from divergences.checks import ArrayLike, as_array, as_points, as_weights, one_of
from divergences.distributions import Discrete, Distribution, Gaussian
from divergences.errors import InputError, NoDensity, NotCertified
from divergences.estimate import Estimate
from divergences.kantorovich import Critic, LineCritic, extend
from divergences.line import (
    line_transport,
    line_violation,
    mean_length,
    monotone_potentials,
    squared_transform,
    staircase,
)
from divergences.simplex import DEGREES, Costs, MatrixCosts, PointCosts, Solution, max_violation, solve

__all__ = ["Transport", "wasserstein"]

_NORMS = ("euclidean", "cityblock", "chebyshev")
# Costs that are no metric of differences: taken as they are, as a matrix, and without a critic.
_TABLED = ("canberra", "braycurtis", "cosine", "correlation", "hamming")
_METRICS = (*DEGREES, *_TABLED)
_EPS = float(np.finfo(np.float64).eps)
_LONG_EPS = float(np.finfo(np.longdouble).eps)
# Sums of up to 2^45 numbers, pairwise, of lengths rounded once.
_SUM_ERROR = 32 * _EPS
# Below this no sum of differences overflows.
_HUGE = 1e290


class Transport:
    """An optimal transport: what it costs, how it goes, what proves it.

    Attributes:
        cost: W_p itself (not its p-th power) with its error.
        gap: primal minus dual of the problem in c^p; 0 where a formula leaves none to measure.

    Plan, potentials, critic and ``max_violation`` are computed when they are first asked for.
    """

    def __init__(
        self,
        cost: Estimate,
        gap: float,
        plan: Callable[[], sparse.coo_array] | None,
        potentials: Callable[[], tuple[np.ndarray, np.ndarray]] | None,
        critic: Callable[[str | None], Critic] | None,
        violation: Callable[[np.ndarray, np.ndarray], float] | None = None,
    ) -> None:
        self.cost = cost
        self.gap = gap
        self._violation = violation
        self._plan = plan
        self._potentials = potentials
        self._critic = critic

    def __repr__(self) -> str:
        return f"Transport(cost={self.cost}, gap={self.gap:.1e})"

    @cached_property
    def plan(self) -> sparse.coo_array | None:
        """The optimal plan (n, m), sparse: mass moved from p's point i to q's point j. None for continuous laws."""
        return None if self._plan is None else self._plan()

    @cached_property
    def potentials(self) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " m"]] | None:
        """Dual potentials (u, v) with u_i + v_j ≤ c(x_i, y_j)^p everywhere and equality where mass moves."""
        return None if self._potentials is None else self._potentials()

    @cached_property
    def max_violation(self) -> float | None:
        """The largest u_i + v_j − c(x_i, y_j)^p of the potentials, or 0: measured. None where there are none."""
        if self._violation is None or self.potentials is None:
            return None
        return self._violation(*self.potentials)

    def critic(self, extension: str | None = None) -> Critic:
        """The Kantorovich critic: 1-Lipschitz on all of R^d, with E_p f − E_q f = W₁.

        The constant is free; it is chosen such that E_p f = 0, or, for two laws on the line, f = 0 where f first turns.

        Args:
            extension: how it goes on where no mass moves: ``"upper"`` (the largest critic, from q's atoms), ``"lower"``
                (the smallest, from p's) or ``"average"``. None is ``"upper"`` in R^d; on the line it is slope 0 where
                the CDFs agree, for laws as for samples.

        Raises:
            InputError: there is none for this transport (order 2, an infinite distance, or a cost that is no norm of
                differences), or an extension is asked of two laws on the line, whose critic has no atoms to be
                extended from.
        """
        if self._critic is None:
            raise InputError(
                f"a Kantorovich critic exists for a finite W₁, that is order=1, under metric {', '.join(_NORMS)}; this "
                "transport has none."
            )
        return self._critic(extension)


def wasserstein(
    p: Any,
    q: Any,
    *,
    order: int = 1,
    metric: str | ArrayLike = "euclidean",
    p_weights: ArrayLike | None = None,
    q_weights: ArrayLike | None = None,
) -> Transport:
    """Exact Wasserstein distance W_order between samples, discrete laws, laws on the line, or Gaussians (order 2).

    Args:
        p: samples (n, d), or (n,) points *on the line* (not a histogram: for weights on given places use ``Discrete``);
            a ``Discrete``; a law on the line with a CDF; a ``Gaussian`` in any dimension for order 2.
        q: likewise, in the same space.
        order: 1 or 2.
        metric: ``"euclidean"``, ``"cityblock"`` or ``"chebyshev"``; another ground cost c by its name in scipy
            (``"sqeuclidean"``, ``"canberra"``, ``"braycurtis"``, ``"cosine"``, ``"correlation"``, ``"hamming"``), which
            has no critic; or a matrix (n, m) of ground costs c(x_i, y_j) ≥ 0. The cost is (min Σ π c^order)^(1/order).
        p_weights: weights (n,) of samples p, summing to 1; only with arrays.
        q_weights: weights (m,) of samples q.

    Returns:
        A ``Transport``: ``cost`` (W itself), ``plan``, ``potentials``, ``gap``, ``max_violation``, ``critic()``. The
        cost of samples is the distance between the *samples*: as an estimate of the distance between the laws they
        came from it is biased upwards (``wasserstein_bracket``). Memory: beyond 16 million pairs of points costs are
        computed on the fly (20 000 points against 20 000 in the plane take 0.4 GB and minutes), except under
        ``"chebyshev"`` and the ground costs without critic, which need the matrix.

    Raises:
        InputError: NaN or infinite coordinates, mismatched dimensions, weights that do not sum to 1, wrong order.
        NoDensity: a law without CDF, or beyond the line.
        NotCertified: the certificate failed; the exception carries the interval [dual, primal].

    >>> t = wasserstein([[0.0, 0.0], [1.0, 0.0]], [[0.0, 2.0], [1.0, 2.0]])
    >>> float(t.cost), t.plan.nnz
    (2.0, 2)
    """
    if isinstance(order, bool) or not isinstance(order, int | float | np.number) or order not in (1, 2):
        raise InputError(f"order must be 1 or 2; it is {order!r}.")
    order = int(order)
    if isinstance(metric, str):
        one_of(metric, "metric", _METRICS)
        if p_weights is None and q_weights is None and metric in _NORMS:
            quick = _equal_lines(p, q, order)
            if quick is not None:
                return quick
    left, right = _side(p, "p", p_weights), _side(q, "q", q_weights)
    if left.dim != right.dim:
        raise InputError(f"p and q must live in the same space; p has dimension {left.dim}, q has {right.dim}.")
    if isinstance(left, Discrete) and isinstance(right, Discrete):
        if not isinstance(metric, str):
            return _matrix(left, right, order, metric)
        if metric in _TABLED:
            return _matrix(left, right, order, _table(left, right, metric))
        return _lines(left, right, order) if left.dim == 1 and metric in _NORMS else _points(left, right, order, metric)
    if not isinstance(metric, str) or metric not in _NORMS or (left.dim > 1 and metric != "euclidean"):
        raise InputError("continuous laws are compared under metric='euclidean'; draw samples for another metric.")
    if left.dim == 1:
        return _line_laws(left, right, order)
    if order == 2 and isinstance(left, Gaussian) and isinstance(right, Gaussian):
        return _bures(left, right)
    raise NoDensity(
        f"no exact W{order} is known for {left!r} and {right!r} in {left.dim} dimensions. Draw samples of both: "
        "wasserstein(p.sample(n, rng), q.sample(n, rng))."
    )


def _side(value: Any, name: str, weights: ArrayLike | None) -> Distribution:
    """Samples become a Discrete; everything else must be a law."""
    if isinstance(value, np.ndarray | list | tuple) or hasattr(value, "__array__"):
        points = as_points(value, name)
        return Discrete(points, as_weights(weights, f"{name}_weights", len(points)))
    if weights is not None:
        raise InputError(f"{name}_weights goes with an array of samples; {name} is a {type(value).__name__}.")
    return as_distribution(value, name)


def _points(p: Discrete, q: Discrete, order: int, metric: str) -> Transport:
    """Network simplex on samples in R^d."""
    costs = PointCosts(p.points, q.points, weights=(p.weights, q.weights), metric=metric, order=order)

    def critic(extension: str | None, potentials: tuple[np.ndarray, np.ndarray]) -> Critic:
        return extend(p, q, potentials, metric, extension or "upper")

    return _certified(solve(p.weights, q.weights, costs), costs, critic if metric in _NORMS else None)


def _matrix(p: Discrete, q: Discrete, order: int, metric: ArrayLike) -> Transport:
    """Network simplex on a given cost matrix."""
    table = as_array(metric, "metric")
    if table.shape != (len(p.points), len(q.points)):
        raise InputError(
            f"metric must be a name ({', '.join(_METRICS)}) or a cost matrix of shape ({len(p.points)}, "
            f"{len(q.points)}); it has shape {table.shape}."
        )
    if not np.isfinite(table).all() or (table < 0).any():
        raise InputError("metric, as a cost matrix, must be finite and ≥ 0; forbid a move by a large finite cost.")
    costs = MatrixCosts(table, (np.flatnonzero(p.weights > 0), np.flatnonzero(q.weights > 0)), order)
    return _certified(solve(p.weights, q.weights, costs), costs, None)


def _table(p: Discrete, q: Discrete, metric: str) -> Float64[np.ndarray, "n m"]:
    """Ground costs that have no scale to take out."""
    from scipy.spatial.distance import cdist

    with np.errstate(invalid="ignore", divide="ignore"):
        table = cdist(p.points, q.points, metric)
    wrong = ~np.isfinite(table)
    if wrong.any():
        i, j = np.argwhere(wrong)[0]
        raise InputError(
            f"metric={metric!r} is not defined for {int(wrong.sum())} pairs of points, first for row {i} of p and row "
            f"{j} of q (a zero or constant vector?)."
        )
    # The cosine of a point with itself may come out above 1 by rounding.
    return np.maximum(table, 0.0, out=table)


def _certified(
    solution: Solution, costs: Costs, critic: Callable[[str | None, tuple[np.ndarray, np.ndarray]], Critic] | None
) -> Transport:
    """A Transport in the caller's units, if primal and dual agree; else the interval, in an exception."""
    order, factor = costs.order, costs.factor

    def distance(power: float) -> float:
        return float(max(power, 0.0) ** (1 / order) * factor)

    if not solution.certified:
        interval = distance(solution.dual), distance(solution.primal)
        raise NotCertified(
            f"the solver's answer is not optimal: the cost lies in [{interval[0]:.6g}, {interval[1]:.6g}], a relative "
            f"gap of {solution.gap / solution.primal:.1e}. Rescale the data, or drop atoms of negligible weight.",
            interval,
        )
    value = distance(solution.primal)
    low, high = (
        distance(solution.primal - solution.gap - solution.rounding),
        distance(solution.primal + solution.rounding),
    )
    error = max(value - low, high - value) + costs.rounding * factor + 4 * _EPS * value
    if not np.isfinite(value + error):
        raise InputError("the cost overflows: it cannot be written as a float64. Rescale the points.")
    cost = Estimate(value, error, method="network simplex with dual certificate (bound)", n=len(solution.mass))
    with np.errstate(over="ignore", under="ignore"):
        power = float(np.power(factor, order))
        gap = min(solution.gap * power, float(np.finfo(np.float64).max))

    def plan() -> sparse.coo_array:
        return sparse.coo_array((solution.mass, (solution.rows, solution.columns)), shape=costs.shape)

    def potentials() -> tuple[np.ndarray, np.ndarray]:
        if power == 0 or np.isinf(power):
            raise InputError("potentials of squared costs cannot be written as float64 at this scale: rescale.")
        return solution.u * power, solution.v * power

    def violation(u: np.ndarray, v: np.ndarray) -> float:
        return max_violation(costs, u / power, v / power) * power

    extended = None
    if critic is not None and order == 1:
        make = critic

        def extended(extension: str | None) -> Critic:
            return make(extension, potentials())

    return Transport(cost, gap, plan, potentials, extended, violation)


def _equal_lines(p: Any, q: Any, order: int) -> Transport | None:
    """Two unweighted arrays of equal length on the line: two sorts and a sum; None if this is something else."""
    if type(p) is not np.ndarray or type(q) is not np.ndarray or p.size != q.size or p.size == 0:
        return None
    if not (p.dtype.kind in "fiu" and q.dtype.kind in "fiu"):
        return None
    if not ((p.ndim == 1 or p.shape[1:] == (1,)) and (q.ndim == 1 or q.shape[1:] == (1,))):
        return None
    flat = p.reshape(-1), q.reshape(-1)
    x, y = (np.sort(side).astype(np.float64, copy=False) for side in flat)
    # NaN sorts last, infinities to the ends: whoever has one gets the long way round, and its message.
    reach = max(abs(float(x[0])), abs(float(x[-1])), abs(float(y[0])), abs(float(y[-1])))
    if not reach < _HUGE or not math.isfinite(float(x[-1]) - float(y[-1])):
        return None
    x -= y
    np.abs(x, out=x)
    value = float(np.add.reduce(x)) / len(x) if order == 1 else mean_length(x, 2)
    cost = Estimate(value, _SUM_ERROR * value, method="sorting (bound)", n=2 * len(x))
    # Plan and critic may be asked for after the caller has reused the arrays: keep copies, in memory that is warm.
    x[:], y[:] = flat
    return _on_the_line(cost, lambda: (Discrete(x), Discrete(y)), order)


def _lines(p: Discrete, q: Discrete, order: int) -> Transport:
    """Sorting is optimal on the line: the monotone plan."""
    rows_order, columns_order, rows, columns, mass = staircase(p, q)
    x, y = p.points[rows_order, 0], q.points[columns_order, 0]
    with np.errstate(over="ignore"):
        difference = np.abs(x[rows] - y[columns])
        reach = float(difference.max())
        value = mean_length(difference, order, mass)
        # Sums of weights are rounded, which sends that much mass astray, at most as far as all points reach.
        astray = 4 * (_EPS + len(mass) * _LONG_EPS) ** (1 / order) if len(mass) > 1 else 0.0
        if order == 2 and value > 0:
            astray = min(astray, 8 * (_EPS + len(mass) * _LONG_EPS) * reach / value)
    cost = _sorted_cost(value, _SUM_ERROR * value + astray * reach, len(x) + len(y))
    return _on_the_line(cost, lambda: (p, q), order)


def _sorted_cost(value: float, error: float, n: int) -> Estimate:
    if not np.isfinite(value + error):
        raise InputError("the cost overflows: it cannot be written as a float64. Rescale the points.")
    return Estimate(value, error, method="sorting (bound)", n=n)


def _on_the_line(cost: Estimate, laws: Callable[[], tuple[Discrete, Discrete]], order: int) -> Transport:
    """The Transport of samples on the line: all but the cost is made on demand."""

    def plan() -> sparse.coo_array:
        p, q = laws()
        rows_order, columns_order, rows, columns, mass = staircase(p, q)
        shape = (len(p.points), len(q.points))
        return sparse.coo_array((mass, (rows_order[rows], columns_order[columns])), shape=shape)

    def critic(extension: str | None = None) -> Critic:
        p, q = laws()
        if extension is not None:
            return extend(p, q, potentials(), "euclidean", extension)
        f = LineCritic.between(p.cdf, q.cdf, np.union1d(p.atoms[:, 0], q.atoms[:, 0]))
        return replace(f, values=f.values - float(p.weights @ f(p.points)))

    def potentials() -> tuple[np.ndarray, np.ndarray]:
        p, q = laws()
        if order == 1:
            f = critic()
            return f(p.points), -f(q.points)
        rows_order, columns_order, rows, columns, _ = staircase(p, q)
        x, y = p.points[:, 0], q.points[:, 0]
        u, v = np.empty(len(x)), np.empty(len(y))
        u[rows_order], v[columns_order] = monotone_potentials(x[rows_order], y[columns_order], rows, columns)
        # Atoms without mass are on no way: they get the most that is feasible.
        idle_x, idle_y = p.weights == 0, q.weights == 0
        u[idle_x] = squared_transform(x[idle_x], y[~idle_y], v[~idle_y])
        v[idle_y] = squared_transform(y[idle_y], x, u)
        return u, v

    def violation(u: np.ndarray, v: np.ndarray) -> float:
        p, q = laws()
        return line_violation(p.points[:, 0], q.points[:, 0], u, v, order)

    return Transport(cost, 0.0, plan, potentials, critic if order == 1 else None, violation)


def _line_laws(p: Distribution, q: Distribution, order: int) -> Transport:
    """Laws on the line, by their CDFs."""
    for law, name in ((p, "p"), (q, "q")):
        if not (hasattr(law, "cdf") and hasattr(law, "quantile")):
            raise NoDensity(
                f"{name}={law!r} has no CDF and quantiles; draw samples of it: wasserstein({name}.sample(...))"
            )
    value, error, crossings = line_transport(p, q, order)
    method = "∫|F − G| (estimate)" if order == 1 else "∫(F⁻¹ − G⁻¹)² (estimate)"
    missing = "mean" if order == 1 else "second moment"
    note = f"a law has no {missing}: the distance is infinite" if np.isinf(value) else ""
    cost = Estimate(value, error, method=method, note=note)

    def critic(extension: str | None) -> Critic:
        if extension is not None:
            raise InputError("extension belongs to samples: two laws on the line have one critic, f′ = sign(G − F).")
        return LineCritic.of_laws(p, q, crossings)

    return Transport(cost, 0.0, None, None, critic if order == 1 and np.isfinite(value) else None)


def _bures(p: Gaussian, q: Gaussian) -> Transport:
    """W₂² = |m₁ − m₂|² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁^½ Σ₂ Σ₁^½)^½, by the nuclear norm of L₁ᵀL₂."""
    factor_p, factor_q = np.linalg.cholesky(p.cov), np.linalg.cholesky(q.cov)
    # With the orthogonal U closest to L₁ᵀL₂ the covariance part is |L₁U − L₂|²_F: a sum of squares, nothing cancels.
    left, singular, right = np.linalg.svd(factor_p.T @ factor_q)
    square = float(((p.mean - q.mean) ** 2).sum() + ((factor_p @ left @ right - factor_q) ** 2).sum())
    value = float(np.sqrt(square))
    size = np.sqrt(np.trace(p.cov) + np.trace(q.cov)) + np.abs(p.mean).max() + np.abs(q.mean).max()
    error = 64 * _EPS * float(size)
    return Transport(Estimate(value, error, method="Bures formula (bound)"), 0.0, None, None, None)
