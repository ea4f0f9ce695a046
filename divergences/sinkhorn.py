r"""Sinkhorn divergence: entropic optimal transport without its bias, between point sets or the laws behind them.

$$ \mathrm{OT}_\varepsilon(a, b) = \min_{\pi} \langle c, \pi\rangle + \varepsilon\,\mathrm{KL}(\pi\,\|\,a \otimes b)
   = \max_{f, g}\; \langle a, f\rangle + \langle b, g\rangle
     - \varepsilon \langle a \otimes b, e^{(f + g - c)/\varepsilon} - 1\rangle, $$

and S_ε(a, b) = OT_ε(a, b) − ½OT_ε(a, a) − ½OT_ε(b, b), which is 0 for a = b, where OT_ε is not. A value means nothing
without its cost and its ε: libraries differ by factors of 2 in both. Here c is |x−y|² or |x−y| in full, and the
reference of the entropy is the product of the marginals; both are written into ``method``.

Sinkhorn's iterations are run on potentials, with ε lowered step by step and the kernel rebuilt from the potentials
before it can over- or underflow; a and a against themselves need one potential, whose damped iteration is fast, the
pair is over-relaxed. The answer need not be believed: any f, g give a lower bound, and the plan, repaired to have its
marginals *exactly*, an upper one. Their gap is the stated error, and if it is not small the number is refused
(``NotCertified``, with the interval).

If x and y are *samples*, a second error comes in. At fixed ε it is asymptotically normal and its derivative in a sample
is the difference of potentials f_ab − f_aa: this gives the standard error. There is a bias of order 1/n (upwards, and
all there is at P = Q); halves of the samples show it and it is subtracted. S_ε is skewed like a square, and small when
its error is: the upper end is that of a normal interval for the root, and near P = Q wider than nominal.

References: *Computational Optimal Transport* (Peyré, Cuturi, 2019), https://arxiv.org/abs/1803.00567; *Interpolating
between Optimal Transport and MMD using Sinkhorn Divergences* (Feydy et al., 2019), https://arxiv.org/abs/1810.08278;
*An improved central limit theorem and fast convergence rates for entropic transportation costs* (del Barrio et al.,
2023), https://doi.org/10.1137/22M149260X; *Near-linear time approximation algorithms for optimal transport*
(Altschuler, Weed, Rigollet, 2017), https://arxiv.org/abs/1705.09634 (the repair of marginals); *Overrelaxed
Sinkhorn-Knopp Algorithm for Regularized Optimal Transport* (Thibault et al., 2021), https://arxiv.org/abs/1711.01851.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy.spatial.distance import cdist
from scipy.special import logsumexp, xlogy

from divergences.checks import ArrayLike, as_generator, as_number, as_weights, one_of
from divergences.errors import InputError, NotCertified
from divergences.two_sample import Z95, Null, TwoSampleEstimate, as_pair, few, permutation_test, remarks

__all__ = ["sinkhorn_divergence"]

_COSTS = {"sqeuclidean": "|x−y|²", "euclidean": "|x−y|"}
_MINIMUM = 8
_REGIME = 200
_ITERATIONS = 20_000
# Marginal error (total variation) at which the iterations stop.
_MARGINAL = 1e-10
# The same for samples, whose own error is far larger than what this leaves.
_SAMPLE_MARGINAL = 1e-7
# The same for halves and relabellings, whose scatter is far larger, and the gap accepted there.
_ROUGH, _ROUGH_GAP = 1e-5, 1e-3
# The rate is measured over this many iterations; the relaxation must stay below 2.
_TRIAL, _RELAX = 25, 1.97
# Certified gap accepted, relative to the cost scale.
_GAP = 1e-6
# Scalings are moved into the potentials before they reach e^±this.
_ABSORB = 50.0
_BLOCK = 4_000_000
# Largest kernel kept in memory, in floats; beyond it the pair is refused.
_DENSE = 64_000_000
_SPLITS = 3
_PERMUTATIONS = 39


def sinkhorn_divergence(
    x: ArrayLike,
    y: ArrayLike,
    *,
    epsilon: float,
    cost: str = "sqeuclidean",
    x_weights: ArrayLike | None = None,
    y_weights: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
) -> TwoSampleEstimate:
    r"""Debiased entropic transport cost S_ε, in units of the cost (not its root).

    Two readings, told apart by the weights. *With both weights* x and y are the atoms of two known laws: the answer is
    their S_ε, with a proven numerical error and ``level=None``. *Without* they are samples, and the answer estimates
    the S_ε of the laws they come from, at ``level=0.95``. With one of them, only the side without weights is a sample.
    For the S_ε of two point sets as such give uniform weights.

    Regime of the statistical interval, by simulation: n and m ≥ 200, ε at least a tenth of the mean cost: 93 to 97 %
    where it does not touch 0; nearer to P = Q it is wider.

    Args:
        x: atoms or sample, shape (n, d) or (n,).
        y: atoms or sample, shape (m, d) or (m,).
        epsilon: ε > 0, in units of the cost.
        cost: ``"sqeuclidean"`` (|x−y|²) or ``"euclidean"`` (|x−y|).
        x_weights: shape (n,), summing to 1: says that x is a law, not a sample.
        y_weights: shape (m,), likewise.
        rng: with two samples, draws 39 relabellings for the null (39 more solutions); without it there is no null.

    Returns:
        S_ε; for samples corrected for the bias of order 1/n, with ``raw`` the plain S_ε of the two point sets.

    Raises:
        InputError: unusable points or weights, fewer than 8 points in a sample, ε ≤ 0, or too many pairs.
        NotCertified: the iterations did not converge (ε too small); carries the proven interval of S_ε.

    >>> x = np.linspace(0, 1, 20)
    >>> w = np.full(20, 1 / 20)
    >>> print(sinkhorn_divergence(x, x + 1, epsilon=0.1, x_weights=w, y_weights=w))  # a shift costs its square
    1 ± ...
    """
    sampled = (x_weights is None, y_weights is None)
    left, right = as_pair(x, y, minimum=1)
    for points, name, is_sample in ((left, "x", sampled[0]), (right, "y", sampled[1])):
        if is_sample and len(points) < _MINIMUM:
            raise InputError(
                f"{name} needs at least {_MINIMUM} points as a sample; it has {len(points)}. If it is a law, give its "
                f"weights as {name}_weights."
            )
    a, b = as_weights(x_weights, "x_weights", len(left)), as_weights(y_weights, "y_weights", len(right))
    metric = one_of(cost, "cost", tuple(_COSTS))
    eps = as_number(epsilon, "epsilon", above=0.0)
    most = max(len(left), len(right))
    if most**2 > _DENSE:
        raise InputError(
            f"a kernel of {most}² entries does not fit; at most {int(_DENSE**0.5)} points. Thin the samples."
        )
    middle = a @ left
    sides = (_Atoms(left - middle, a), _Atoms(right - middle, b))
    solved = _debiased(*sides, eps, metric, _SAMPLE_MARGINAL if any(sampled) else _MARGINAL)
    method = f"Sinkhorn divergence, cost {_COSTS[metric]}, ε = {eps:g}"
    n = len(left) + len(right)
    if not any(sampled):
        method = f"{method} (bound; marginal error {solved.marginal:.1e})"
        return TwoSampleEstimate(solved.value, solved.error, method=method, n=n)
    return _statistical(sides, sampled, solved, (eps, metric, method), rng)


class _Atoms(NamedTuple):
    points: Float64[np.ndarray, "n d"]
    weights: Float64[np.ndarray, " n"]


class _Entropic(NamedTuple):
    """OT_ε of one pair: between ``dual`` and ``primal``, with potentials of zero-mean gauge left to the user."""

    dual: float
    primal: float
    f: Float64[np.ndarray, " n"]
    g: Float64[np.ndarray, " m"]
    marginal: float
    scale: float


class _Debiased(NamedTuple):
    value: float
    error: float
    marginal: float
    influence_x: Float64[np.ndarray, " n"]
    influence_y: Float64[np.ndarray, " m"]


def _statistical(
    sides: tuple[_Atoms, _Atoms],
    sampled: tuple[bool, bool],
    solved: _Debiased,
    problem: tuple[float, str, str],
    rng: np.random.Generator | None,
) -> TwoSampleEstimate:
    """The law's S_ε from that of the samples: bias out, standard error on."""
    eps, metric, method = problem
    # Which points make a half must not depend on how the rows are ordered; it need not be random beyond that.
    draw = np.random.default_rng(0)
    halves = []
    for _ in range(_SPLITS):
        orders = [draw.permutation(len(side.points)) for side in sides]
        for part in (0, 1):
            pair = [
                _half(side, order[part::2]) if is_sample else side
                for side, order, is_sample in zip(sides, orders, sampled, strict=True)
            ]
            halves.append(_debiased(pair[0], pair[1], eps, metric, _ROUGH).value)
    shifts = np.array(halves).reshape(-1, 2).mean(axis=1) - solved.value
    variance = float(shifts.var(ddof=1)) / len(shifts)
    for influence, is_sample in ((solved.influence_x, sampled[0]), (solved.influence_y, sampled[1])):
        variance += float(influence.var(ddof=1)) / len(influence) if is_sample else 0.0
    value = solved.value - float(shifts.mean())
    sigma = float(np.sqrt(variance))
    # It behaves like a square: its root is nearly normal, with error σ/2√value, which sets the upper end.
    low = value - Z95 * sigma - solved.error
    high = value + Z95 * sigma + solved.error + (Z95 * sigma) ** 2 / (4 * max(value, sigma, np.finfo(np.float64).tiny))
    average = float(sides[0].weights @ cdist(sides[0].points, sides[1].points, metric) @ sides[1].weights)
    sizes = [len(side.points) if is_sample else _REGIME for side, is_sample in zip(sides, sampled, strict=True)]
    note = remarks(
        (low <= 0, "the interval touches 0: near equal laws it is wider; a permutation test decides"),
        (eps < average / 10, "ε below a tenth of the mean cost: coverage of the interval was not simulated there"),
        few(sizes[0], sizes[1], _REGIME),
    )
    null = None
    if rng is not None and all(sampled):

        def statistic(x: np.ndarray, y: np.ndarray) -> float:
            first, second = (_Atoms(z, np.full(len(z), 1 / len(z))) for z in (x, y))
            return _debiased(first, second, eps, metric, _ROUGH).value

        x, y = sides[0].points, sides[1].points
        scores = permutation_test(statistic, x, y, rng=as_generator(rng), permutations=_PERMUTATIONS).scores
        null = Null(solved.value, scores)
    return TwoSampleEstimate(
        value,
        high - value,
        level=0.95,
        method=f"{method}, halving bias correction (marginal error {solved.marginal:.1e})",
        n=sum(len(side.points) for side, is_sample in zip(sides, sampled, strict=True) if is_sample),
        raw=solved.value,
        bounds=(low, high),
        note=note,
        null=null,
    )


def _half(side: _Atoms, chosen: np.ndarray) -> _Atoms:
    return _Atoms(side.points[chosen], np.full(len(chosen), 1 / len(chosen)))


def _debiased(x: _Atoms, y: _Atoms, eps: float, metric: str, tolerance: float) -> _Debiased:
    """S_ε with its proven interval, and its derivative in each sample."""
    across, left, right = (_solve(one, other, eps, metric, tolerance) for one, other in ((x, y), (x, x), (y, y)))
    low = across.dual - (left.primal + right.primal) / 2
    high = across.primal - (left.dual + right.dual) / 2
    value = across.dual - (left.dual + right.dual) / 2
    scale = max(across.scale, left.scale, right.scale)
    rounding = 64 * float(np.finfo(np.float64).eps) * scale
    if high - low > (_ROUGH_GAP if tolerance == _ROUGH else _GAP) * scale + rounding:
        raise NotCertified(
            f"Sinkhorn's iterations stopped with S_ε only known to lie in [{low:.6g}, {high:.6g}]: ε = {eps:g} is too "
            f"small for costs up to {scale:.3g}. Take a larger ε, or wasserstein() for the limit ε = 0.",
            (low, high),
        )
    error = max(high - value, value - low, 0.0) + rounding
    # On the diagonal f and g solve the same equation: their mean is the symmetric potential.
    own_x, own_y = (left.f + left.g) / 2, (right.f + right.g) / 2
    marginal = max(across.marginal, left.marginal, right.marginal)
    return _Debiased(value, error, marginal, across.f - own_x, across.g - own_y)


def _solve(x: _Atoms, y: _Atoms, eps: float, metric: str, tolerance: float) -> _Entropic:
    """OT_ε with potentials, and both bounds."""
    costs = cdist(x.points, y.points, metric)
    scale = float(costs.max())
    if not np.isfinite(scale):
        raise InputError("the costs overflow: rescale the points.")
    keep_x, keep_y = x.weights > 0, y.weights > 0
    f, g = np.zeros(len(x.points)), np.zeros(len(y.points))
    inner = costs if keep_x.all() and keep_y.all() else costs[np.ix_(keep_x, keep_y)]
    a, b = x.weights[keep_x], y.weights[keep_y]
    f_in, g_in = f[keep_x], g[keep_y]
    level = max(scale, eps)
    while True:
        level = max(level / 4, eps)
        final = level == eps
        stop = tolerance if final else 1e-3
        if x is y:
            f_in = g_in = _iterate_self(inner, a, f_in, level, stop)
        else:
            f_in, g_in = _iterate(inner, a, b, f_in, g_in, level, stop)
        if final:
            break
    dual, primal, marginal = _bounds(inner, a, b, f_in, g_in, eps)
    # Elsewhere, zero-weight atoms included, potentials are defined by the same equations.
    g = _soft_minimum(costs[keep_x].T, f_in, np.log(a), eps)
    f = _soft_minimum(costs[:, keep_y], g[keep_y], np.log(b), eps)
    return _Entropic(dual, primal, f, g, marginal, scale)


def _soft_minimum(costs: np.ndarray, potential: np.ndarray, log_weight: np.ndarray, eps: float) -> np.ndarray:
    """−ε log Σ_j w_j exp((h_j − c_ij)/ε), a block of rows at a time."""
    result = np.empty(len(costs))
    rows = max(1, _BLOCK // costs.shape[1])
    for start in range(0, len(costs), rows):
        here = slice(start, start + rows)
        result[here] = -eps * logsumexp((potential - costs[here]) / eps + log_weight, axis=1)
    return result


def _iterate(
    costs: np.ndarray, a: np.ndarray, b: np.ndarray, f: np.ndarray, g: np.ndarray, eps: float, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Alternate until the marginals fit: scalings around potentials into which they are absorbed when they grow."""
    log_a, log_b = np.log(a), np.log(b)
    done, relax, errors = 0, 1.0, [np.inf]
    while done < _ITERATIONS:
        # In logarithms, so that the kernel below has rows that sum to one.
        g = _soft_minimum(costs.T, f, log_a, eps)
        f = _soft_minimum(costs, g, log_b, eps)
        kernel = np.exp((f[:, None] + g - costs) / eps)
        u, v = np.ones(len(a)), np.ones(len(b))
        while done < _ITERATIONS:
            done += 1
            columns = (a * u) @ kernel
            errors.append(float(b @ np.abs(v * columns - 1)))
            if errors[-1] <= tolerance:
                return f + eps * np.log(u), g + eps * np.log(v)
            if done % _TRIAL == 0:
                relax = _relaxation(errors[-2 * _TRIAL :], relax)
            v = v ** (1 - relax) * columns**-relax
            u = u ** (1 - relax) * (kernel @ (b * v)) ** -relax
            if max(np.abs(np.log(u)).max(), np.abs(np.log(v)).max()) > _ABSORB:
                break
        f, g = f + eps * np.log(u), g + eps * np.log(v)
    return f, g


def _relaxation(errors: list[float], relax: float) -> float:
    """The best over-relaxation for the rate seen over the last iterations; plain again if that made things worse.

    With relaxation ω and the plain rate η the errors fall by λ, where (λ + ω − 1)² = λ ω² η; the best is
    ω = 2/(1 + √(1 − η)).
    """
    if len(errors) < 2 * _TRIAL:
        return relax
    if relax > 1 and errors[-1] > 100 * min(errors):
        return 1.0
    rate = (errors[-1] / errors[-1 - _TRIAL]) ** (1 / _TRIAL)
    if rate >= 1:
        return relax
    plain = min((rate + relax - 1) ** 2 / (rate * relax**2), 1.0)
    return min(_RELAX, 2 / (1 + float(np.sqrt(1 - plain))))


def _iterate_self(costs: np.ndarray, a: np.ndarray, f: np.ndarray, eps: float, tolerance: float) -> np.ndarray:
    """The one potential of a law against itself: f ← (f + T f)/2, with T the alternating step."""
    log_a, done = np.log(a), 0
    while done < _ITERATIONS:
        f = (f + _soft_minimum(costs, f, log_a, eps)) / 2
        kernel = np.exp((f[:, None] + f - costs) / eps)
        u = np.ones(len(a))
        while done < _ITERATIONS:
            done += 1
            rows = kernel @ (a * u)
            if float(a @ np.abs(u * rows - 1)) <= tolerance:
                return f + eps * np.log(u)
            u = np.sqrt(u / rows)
            if np.abs(np.log(u)).max() > _ABSORB:
                break
        f = f + eps * np.log(u)
    return f


def _bounds(
    costs: np.ndarray, a: np.ndarray, b: np.ndarray, f: np.ndarray, g: np.ndarray, eps: float
) -> tuple[float, float, float]:
    """Dual value, cost of the plan repaired to exact marginals, and how far from them it was (total variation)."""
    row, column, mass = np.empty(len(a)), np.zeros(len(b)), 0.0
    for here, density in _densities(costs, f, g, eps):
        plan = a[here, None] * b * density
        row[here] = plan.sum(axis=1)
        column += plan.sum(axis=0)
        mass += float(plan.sum())
    dual = float(a @ f + b @ g - eps * (mass - 1))
    marginal = float(np.abs(row - a).sum() + np.abs(column - b).sum()) / 2
    # Altschuler et al.: shrink rows and columns that hold too much, then add what is missing as a product.
    shrink_row = np.minimum(1.0, a / row)
    shrunk = np.zeros(len(b))
    for here, density in _densities(costs, f, g, eps):
        shrunk += (shrink_row[here] * a[here]) @ density * b
    shrink_column = np.minimum(1.0, b / np.maximum(shrunk, np.finfo(np.float64).tiny))
    missing_b = np.maximum(b - shrunk * shrink_column, 0.0)
    primal = 0.0
    missing_a, total = np.empty(len(a)), float(missing_b.sum())
    for here, density in _densities(costs, f, g, eps):
        share = density * shrink_row[here, None] * shrink_column
        missing_a[here] = np.maximum(a[here] - a[here] * (share @ b), 0.0)
        if total > 0:
            share = share + (missing_a[here] / a[here])[:, None] * (missing_b / b) / total
        entropy = xlogy(share, share) - share + 1
        primal += float(a[here] @ ((share * costs[here] + eps * entropy) @ b))
    return dual, primal, marginal


def _densities(costs: np.ndarray, f: np.ndarray, g: np.ndarray, eps: float) -> Iterator[tuple[slice, np.ndarray]]:
    """The plan's density exp((f + g − c)/ε) against a ⊗ b, a block of rows at a time."""
    rows = max(1, _BLOCK // costs.shape[1])
    for start in range(0, len(costs), rows):
        here = slice(start, start + rows)
        yield here, np.exp((f[here, None] + g - costs[here]) / eps)
