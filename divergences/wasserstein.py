r"""Exact optimal transport, with a certificate beside every cost.

$$ W_p(P, Q) = \Big(\min_{\pi} \sum_{ij} \pi_{ij}\, c(x_i, y_j)^p\Big)^{1/p}
             = \Big(\max_{u_i + v_j \le c_{ij}^p} \sum_i a_i u_i + \sum_j b_j v_j\Big)^{1/p} $$

Any feasible plan is an upper bound and any feasible pair of potentials a lower one, so a solver need not be believed:
here the potentials it returns are made feasible by a c-transform of our own, the plan is re-priced and its marginals
are measured, and the difference of the two bounds, the *gap*, is the stated error. If the gap is not small the number
is refused (``NotCertified``, which carries the interval).

Four routes: samples or ``Discrete`` on the line (sorting), in R^d (network simplex of POT), laws on the line with a
CDF (W₁ = ∫|F−G|, W₂ by quantiles), and Gaussians for order 2 (the Bures formula).

References: *Computational Optimal Transport* (Peyré, Cuturi, 2019), https://arxiv.org/abs/1803.00567;
*Displacement Interpolation Using Lagrangian Mass Transport* (Bonneel et al., 2011), the network simplex behind POT.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
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
from divergences.line import line_transport

__all__ = ["Transport", "wasserstein"]

_METRICS = ("euclidean", "cityblock")
_EPS = float(np.finfo(np.float64).eps)
# Gap accepted, relative to the cost scale: well above rounding (1e-14), well below what anyone would act on.
_GAP = 1e-9
# Above this many pairs POT computes costs as it goes: a dense matrix would fill the memory.
_DENSE_PAIRS = 16_000_000


class Transport:
    """An optimal transport: what it costs, how it goes, what proves it.

    Attributes:
        cost: W_p itself (not its p-th power) with its error.
        gap: primal minus dual of the problem in c^p; 0 where a formula leaves none to measure.
    """

    def __init__(
        self,
        cost: Estimate,
        gap: float,
        plan: Callable[[], sparse.coo_array] | None,
        potentials: Callable[[], tuple[np.ndarray, np.ndarray]] | None,
        critic: Callable[[str | None], Critic] | None,
    ) -> None:
        self.cost = cost
        self.gap = gap
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

    def critic(self, extension: str | None = None) -> Critic:
        """The Kantorovich critic: 1-Lipschitz on all of R^d, with E_p f − E_q f = W₁.

        Args:
            extension: how it goes on where no mass moves: ``"upper"`` (the largest critic, from q's atoms), ``"lower"``
                (the smallest, from p's) or ``"average"``. None is ``"upper"`` in R^d; on the line it is slope 0 where
                the CDFs agree, for laws as for samples.

        Raises:
            InputError: there is none for this transport (order 2, or a cost matrix instead of a metric), or an
                extension is asked of two laws on the line, whose critic has no atoms to be extended from.
        """
        if self._critic is None:
            raise InputError("a Kantorovich critic exists for order=1 and a named metric; this transport has neither.")
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
        metric: ``"euclidean"``, ``"cityblock"``, or a matrix (n, m) of ground costs c(x_i, y_j) ≥ 0.
        p_weights: weights (n,) of samples p, summing to 1; only with arrays.
        q_weights: weights (m,) of samples q.

    Returns:
        A ``Transport``: ``cost`` (W itself), ``plan``, ``potentials``, ``gap``, ``critic()``. The cost of samples is
        the distance between the *samples*: as an estimate of the distance between the laws they came from it is
        biased upwards.

    Raises:
        InputError: NaN or infinite coordinates, mismatched dimensions, weights that do not sum to 1, wrong order.
        NoDensity: a law without CDF, or beyond the line.
        NotCertified: the certificate failed; the exception carries the interval [dual, primal].

    >>> t = wasserstein([[0.0, 0.0], [1.0, 0.0]], [[0.0, 2.0], [1.0, 2.0]])
    >>> float(t.cost), t.plan.nnz
    (2.0, 2)
    """
    if order not in (1, 2) or isinstance(order, bool):
        raise InputError(f"order must be 1 or 2; it is {order!r}.")
    left, right = _side(p, "p", p_weights), _side(q, "q", q_weights)
    if left.dim != right.dim:
        raise InputError(f"p and q must live in the same space; p has dimension {left.dim}, q has {right.dim}.")
    if isinstance(left, Discrete) and isinstance(right, Discrete):
        if isinstance(metric, str):
            one_of(metric, "metric", _METRICS)
            return _line_samples(left, right, order) if left.dim == 1 else _points(left, right, order, metric)
        return _matrix(left, right, order, metric)
    if not isinstance(metric, str) or metric not in _METRICS:
        raise InputError("continuous laws are compared under metric='euclidean'; draw samples for another metric.")
    if left.dim == 1:
        return _line_laws(left, right, order)
    if order == 2 and isinstance(left, Gaussian) and isinstance(right, Gaussian) and metric == "euclidean":
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
    from scipy.spatial.distance import cdist

    # Only differences matter; centring keeps their digits when the data sit far from the origin.
    middle = (p.points.mean(axis=0) + q.points.mean(axis=0)) / 2
    x, y = p.points - middle, q.points - middle

    def block(rows: slice) -> np.ndarray:
        return cdist(x[rows], y, metric) ** order

    solution = _solve(p.weights, q.weights, block, (x, y, metric, order))
    return _certified(
        solution, order, lambda extension: extend(p, q, (solution.u, solution.v), metric, extension or "upper")
    )


def _matrix(p: Discrete, q: Discrete, order: int, metric: ArrayLike) -> Transport:
    """Network simplex on a given cost matrix."""
    costs = as_array(metric, "metric")
    if costs.shape != (len(p.points), len(q.points)):
        raise InputError(
            f"metric, as a cost matrix, must have shape ({len(p.points)}, {len(q.points)}); it has {costs.shape}."
        )
    if not np.isfinite(costs).all() or (costs < 0).any():
        raise InputError("metric, as a cost matrix, must be finite and ≥ 0; forbid a move by a large finite cost.")
    powered = costs**order
    return _certified(_solve(p.weights, q.weights, lambda rows: powered[rows], None), order, None)


class _Solution:
    """A plan in coordinates, feasible potentials, and the two bounds they prove."""

    def __init__(
        self,
        flow: tuple[np.ndarray, np.ndarray, np.ndarray],
        u: np.ndarray,
        v: np.ndarray,
        bounds: tuple[float, float],
        scale: float,
    ) -> None:
        self.rows, self.columns, self.mass = flow
        self.u, self.v = u, v
        self.dual, self.primal = bounds
        self.scale = scale


def _solve(
    a: np.ndarray, b: np.ndarray, block: Callable[[slice], np.ndarray], places: tuple[Any, ...] | None
) -> _Solution:
    """Solve with POT on the atoms of positive mass, then certify with potentials and prices of our own."""
    keep_a, keep_b = np.flatnonzero(a > 0), np.flatnonzero(b > 0)
    n, m = len(a), len(b)
    step = max(1, 4_000_000 // m)
    # POT's tolerances are absolute: hand it costs of order one.
    scale = max(float(block(slice(i, i + step)).max()) for i in range(0, n, step))
    if scale == 0 or not np.isfinite(scale):
        if scale != 0:
            raise InputError("the costs overflow: rescale the points (distances beyond 1e150 have no square).")
        rows, columns, mass = _north_west(a, b)
        return _Solution((rows, columns, mass), np.zeros(n), np.zeros(m), (0.0, 0.0), 0.0)
    rows, columns, mass, v = _simplex(a[keep_a], b[keep_b], keep_a, keep_b, block, places, scale)
    rows, columns, v = keep_a[rows], keep_b[columns], v * scale
    # c-transforms: the largest u for this v, then the largest v for that u. Feasible by construction, on every
    # atom, zero-weight ones too; where there is mass nothing is lost.
    u, v_full = np.empty(n), np.full(m, np.inf)
    for start in range(0, n, step):
        costs = block(slice(start, start + step))
        u[start : start + step] = (costs[:, keep_b] - v).min(axis=1)
    for start in range(0, n, step):
        cut = slice(start, start + step)
        v_full = np.minimum(v_full, (block(cut) - u[cut, None]).min(axis=0))
    # The gauge is free: fix it so that the critic is 0 at the mean of its values on q.
    shift = float(v_full[keep_b].mean())
    u, v_full = u + shift, v_full - shift
    prices = np.empty(len(rows))
    order = np.argsort(rows, kind="stable")
    for start in range(0, n, step):
        chosen = order[np.searchsorted(rows[order], start) : np.searchsorted(rows[order], start + step)]
        if len(chosen):
            prices[chosen] = block(slice(start, start + step))[rows[chosen] - start, columns[chosen]]
    primal = float(mass @ prices)
    wrong = np.abs(np.bincount(rows, mass, n) - a).sum() + np.abs(np.bincount(columns, mass, m) - b).sum()
    # A plan with slightly wrong marginals can be repaired at no more than this.
    primal += float(wrong) * scale
    return _Solution((rows, columns, mass), u, v_full, (float(a @ u + b @ v_full), primal), scale)


def _simplex(
    a: np.ndarray,
    b: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    block: Callable[[slice], np.ndarray],
    places: tuple[Any, ...] | None,
    scale: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """POT's network simplex: the flow in coordinates, and q's potentials, for costs divided by ``scale``."""
    import ot

    iterations = max(1_000_000, 200 * (len(a) + len(b)))
    lazy = places is not None and len(a) * len(b) > _DENSE_PAIRS and (places[2] == "euclidean" or places[3] == 1)
    with warnings.catch_warnings():
        # POT warns about what the certificate below decides anyway, and with numbers.
        warnings.simplefilter("ignore")
        if lazy and places is not None:
            x, y, metric, order = places
            size = scale ** (1 / order)
            _, log = ot.lp.emd2_lazy(
                np.ascontiguousarray(x[rows] / size),
                np.ascontiguousarray(y[columns] / size),
                a,
                b,
                metric="sqeuclidean" if order == 2 else metric,
                numItermax=iterations,
                log=True,
            )
            plan = log["G"].tocoo()
            return plan.row.astype(np.intp), plan.col.astype(np.intp), plan.data, np.asarray(log["v"])
        costs = np.empty((len(rows), len(columns)))
        step = max(1, 4_000_000 // len(columns))
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            # Rows of positive weight are nearly contiguous; take the covering slice and pick.
            costs[start : start + step] = block(slice(part[0], part[-1] + 1))[part - part[0]][:, columns] / scale
        plan, log = ot.lp.emd(a, b, costs, numItermax=iterations, log=True)
    where = np.nonzero(plan)
    return where[0], where[1], plan[where], np.asarray(log["v"])


def _certified(solution: _Solution, order: int, critic: Callable[[str | None], Critic] | None) -> Transport:
    """A Transport, if primal and dual agree; else the interval, in an exception."""
    low, high = max(solution.dual, 0.0), max(solution.primal, 0.0)
    gap = high - low
    rounding = 64 * _EPS * solution.scale
    if gap > _GAP * solution.scale + rounding:
        interval = (low ** (1 / order), high ** (1 / order))
        raise NotCertified(
            f"the solver's answer is not optimal: the cost lies in [{interval[0]:.6g}, {interval[1]:.6g}], a gap of "
            f"{gap:.1e}. Rescale the data, or drop atoms of negligible weight.",
            interval,
        )
    value = high ** (1 / order)
    error = max(value - low ** (1 / order), (high + rounding) ** (1 / order) - value) + 4 * _EPS * value
    cost = Estimate(value, error, method="network simplex with dual certificate (bound)", n=len(solution.mass))
    shape = (len(solution.u), len(solution.v))

    def plan() -> sparse.coo_array:
        return sparse.coo_array((solution.mass, (solution.rows, solution.columns)), shape=shape)

    return Transport(cost, max(gap, 0.0), plan, lambda: (solution.u, solution.v), critic if order == 1 else None)


def _line_samples(p: Discrete, q: Discrete, order: int) -> Transport:
    """Sorting is optimal on the line: the monotone plan."""
    x, y = np.sort(p.points[:, 0]), np.sort(q.points[:, 0])
    if len(x) == len(y) and p.uniform and q.uniform:
        difference = np.abs(x - y)
        power = float((difference**order).mean())
    else:
        rows, columns, mass = _staircase(p, q)[2:]
        difference = np.abs(x[rows] - y[columns])
        power = float(mass @ difference**order)
    value = power ** (1 / order)
    reach = float(difference.max(initial=0.0)) + _EPS * float(max(np.abs(x[[0, -1]]).max(), np.abs(y[[0, -1]]).max()))
    cost = Estimate(value, 16 * _EPS * (value + reach), method="sorting (bound)", n=len(x) + len(y))

    def plan() -> sparse.coo_array:
        rows_order, columns_order, rows, columns, mass = _staircase(p, q)
        return sparse.coo_array((mass, (rows_order[rows], columns_order[columns])), shape=(len(x), len(y)))

    def critic(extension: str | None = None) -> Critic:
        if extension is not None:
            return extend(p, q, potentials(), "euclidean", extension)
        return LineCritic.between(p.cdf, q.cdf, np.union1d(p.atoms[:, 0], q.atoms[:, 0]))

    def potentials() -> tuple[np.ndarray, np.ndarray]:
        if order == 1:
            f = critic()
            return f(p.points), -f(q.points)
        rows_order, columns_order, rows, columns, _ = _staircase(p, q)
        u, v = _monotone_potentials(x, y, rows, columns)
        back_u, back_v = np.empty(len(x)), np.empty(len(y))
        back_u[rows_order], back_v[columns_order] = u, v
        return back_u, back_v

    return Transport(cost, 0.0, plan, potentials, critic if order == 1 else None)


def _staircase(p: Discrete, q: Discrete) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sorting orders of both sides, and the monotone plan between them."""
    rows_order, columns_order = np.argsort(p.points[:, 0], kind="stable"), np.argsort(q.points[:, 0], kind="stable")
    return rows_order, columns_order, *_north_west(p.weights[rows_order], q.weights[columns_order])


def _monotone_potentials(
    x: np.ndarray, y: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Potentials of the monotone plan for squared distance, by complementary slackness along its staircase."""
    u, v = np.zeros(len(x)), np.zeros(len(y))
    v[columns[0]] = (x[rows[0]] - y[columns[0]]) ** 2
    for k in range(1, len(rows)):
        i, j = rows[k], columns[k]
        cost = (x[i] - y[j]) ** 2
        if i == rows[k - 1]:
            v[j] = cost - u[i]
        elif j == columns[k - 1]:
            u[i] = cost - v[j]
        else:
            # Both advance at once: the step through (i−1, j) or (i, j−1) is free; take the first.
            previous = rows[k - 1]
            v[j] = (x[previous] - y[j]) ** 2 - u[previous]
            u[i] = cost - v[j]
    return u, v


def _line_laws(p: Distribution, q: Distribution, order: int) -> Transport:
    """Laws on the line, by their CDFs."""
    for law, name in ((p, "p"), (q, "q")):
        if not (hasattr(law, "cdf") and hasattr(law, "quantile")):
            raise NoDensity(
                f"{name}={law!r} has no CDF and quantiles; draw samples of it: wasserstein({name}.sample(...))"
            )
    value, error, crossings = line_transport(p, q, order)
    method = "∫|F − G| (estimate)" if order == 1 else "∫(F⁻¹ − G⁻¹)² (estimate)"
    note = "a law has no mean: the distance is infinite" if np.isinf(value) else ""
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


def _north_west(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The staircase plan between sorted weights: both cumulative sums, merged."""
    upper_a, upper_b = np.cumsum(a), np.cumsum(b)
    upper_a[-1] = upper_b[-1] = 1.0
    edges = np.union1d(upper_a, upper_b)
    mass = np.diff(edges, prepend=0.0)
    middle = edges - mass / 2
    rows = np.minimum(np.searchsorted(upper_a, middle), len(a) - 1)
    columns = np.minimum(np.searchsorted(upper_b, middle), len(b) - 1)
    moved = mass > 0
    return rows[moved], columns[moved], mass[moved]
