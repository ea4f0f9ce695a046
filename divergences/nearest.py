r"""KL and Jensen-Shannon divergence of two samples, by nearest neighbours.

Where n points of density p lie, the ball that holds k of them has volume about k/(n p). With ρ the distance from x_i to
its k-th neighbour in x and ν that to its k-th neighbour in y, the volumes give the log-ratio of the densities:

$$ \widehat{\mathrm{KL}} = \frac dn \sum_i \log\frac{\nu_i}{\rho_i} + \log\frac{m}{n-1}. $$

For JSD the *counts* are better than the radii: if c_i points of y lie nearer to x_i than its k-th neighbour in x, then
ψ(k) − ψ(k + c_i) has mean log of π = np/(np + mq), exactly, wherever the densities are flat. Both are consistent with k
fixed; k only trades variance for bias.

**Bias.** In tails, where a ball is as wide as the density's own scale, the estimates are wrong, KL downwards as a rule:
by 0.04 to 0.4 at n = 500, falling slowly with n, and KL above about log n cannot be seen at all. Using 4k in place of k
costs as much bias as having a quarter of the points, so Δ = D_k − D_{4k} on the *same* data measures the bias: if it
falls like n^(−a), a = 1/(d+1), which fits Gaussian tails, D_k + Δ/(4^a − 1) has none. Standard errors are delete-one
jackknives over both samples, which for neighbours are too large rather than too small (about twofold at P = Q: there
ask the permutation null). The interval is the hull of those around D_k and around the corrected value: wider than
nominal, and said so.

**Ties.** Where the k-th distance is 0 the nearest *positive* one is taken, and where several points share the distance
all of them are counted; radii with k_i and l_i points enter with their own ψ(k_i) − ψ(l_i). No log 0 ever occurs. If
more than a tenth of the KL's radii had to be moved in this way the samples have no density at that scale and the number
is refused. JSD needs no such refusal: counts make sense for atoms, too.

References: *Divergence Estimation for Multidimensional Densities Via k-Nearest-Neighbor Distances* (Wang, Kulkarni,
Verdú, 2009), https://doi.org/10.1109/TIT.2009.2016060; *Mutual Information between Discrete and Continuous Data Sets*
(Ross, 2014), https://doi.org/10.1371/journal.pone.0087357.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64
from scipy.spatial import cKDTree
from scipy.special import digamma

from divergences.checks import ArrayLike, as_count
from divergences.errors import InputError, UnderResolved
from divergences.two_sample import Z95, Null, TwoSampleEstimate, as_pair, few, permutation_test, remarks

__all__ = ["knn_jsd", "knn_kl"]

LOG2 = float(np.log(2.0))
# Beyond this the bias of any k-NN estimate is a matter of the law, not of n: no interval is honest.
_MAX_DIM = 3
_REGIME_KL, _REGIME_JSD = 500, 300
# The second k, whose bias is that of a fourth of the points.
_COARSE = 4
# In units of log n; where coverage was seen to fail.
_CEILING = 0.35
_TIED_SHARE = 0.1
_TREE_SLACK = 1e-12
_PAIRS = 4_000_000


def knn_kl(
    x: ArrayLike, y: ArrayLike, *, k: int = 5, rng: np.random.Generator | None = None, permutations: int = 99
) -> TwoSampleEstimate:
    r"""KL(P‖Q) in nats from a sample x of P and a sample y of Q, by k-nearest-neighbour distances.

    Regime, by simulation on Gaussian pairs: d ≤ 3, KL ≤ 1.5, n and m ≥ 500, the scale of Q at least 0.7 of that of P:
    the interval covers the true KL in at least 95 % of samples (96 to 100 %: wider than nominal). What no sample can
    tell: if Q lacks mass, or has too light a tail, only far out, KL is ∞ or large and the estimate is finite.

    Args:
        x: sample of P, shape (n, d) or (n,), n ≥ 4k + 2.
        y: sample of Q, shape (m, d) or (m,), m ≥ 4k + 2.
        k: neighbours; less bias when small, less variance when large.
        rng: draws the relabellings of the null; without it there is no null.
        permutations: how many.

    Returns:
        The bias-corrected estimate (may be negative), ``raw`` the plain one; the null is that of the plain one.

    Raises:
        InputError: unusable samples or too few points.
        UnderResolved: carrying the estimate: the estimate is above 0.35 log min(n, m) (k-NN saturates towards log n),
            d > 3, or more than 10 % of the radii are tied.

    >>> draw = np.random.default_rng(0)
    >>> knn_kl(draw.normal(size=1000), draw.normal(size=1000) + 1).agrees(0.5)
    True
    """
    left, right, k = _checked(x, y, k)
    d = left.shape[1]
    parts = _Distances.of(left, right, _COARSE * k)
    fine, coarse = _kl(parts, k, d), _kl(parts, _COARSE * k, d)
    corrected = fine.extrapolated(coarse, d)
    tied = parts.tied(k)
    ties = f"{tied} of {2 * len(left)} radii were tied and moved"
    note = remarks((tied > 0, ties), few(len(left), len(right), _REGIME_KL))
    null = _null(lambda a, b: _kl_value(a, b, k), left, right, rng, permutations)
    method = f"{k}-nearest-neighbour distances, bias-corrected, jackknife (interval wider than nominal)"
    bounds = _hull(fine.interval, corrected.interval)
    estimate = _finish(corrected.value, fine.value, bounds, method, len(left) + len(right), note, null)
    ceiling = _CEILING * float(np.log(min(len(left), len(right))))
    if corrected.value > ceiling:
        raise UnderResolved(
            f"the k-NN estimate of KL is {corrected.value:.3g}, above {_CEILING} log n = {ceiling:.3g}: k-NN saturates "
            "below log n, and the true KL may be anything above this. Take more points, or bound it with dv_bound.",
            estimate,
        )
    if tied > _TIED_SHARE * 2 * len(left):
        raise UnderResolved(
            f"{ties}: the samples repeat points, so they have no density at this scale. Compare point masses with "
            "divergences.kl on Discrete laws, undo the rounding, or use knn_jsd.",
            estimate,
        )
    _refuse_dimension(left.shape[1], estimate)
    return estimate


def knn_jsd(
    x: ArrayLike, y: ArrayLike, *, k: int = 5, rng: np.random.Generator | None = None, permutations: int = 99
) -> TwoSampleEstimate:
    r"""Jensen-Shannon divergence in nats from two samples, by counting neighbours (for n = m, Ross's estimator).

    Regime, by simulation on Gaussian pairs: d ≤ 3, n and m ≥ 300, ¼ ≤ n/m ≤ 4: the interval covers the true JSD in at
    least 95 % of samples (wider than nominal), from equal laws to nearly disjoint ones. The bias is far smaller
    than that of KL, since tails count for little; it is allowed for, not corrected.

    Args:
        x: sample of P, shape (n, d) or (n,), n ≥ 4k + 2.
        y: sample of Q, shape (m, d) or (m,), m ≥ 4k + 2.
        k: neighbours, ≥ 2.
        rng: draws the relabellings of the null; without it there is no null.
        permutations: how many.

    Returns:
        The estimate, cut off at 0 and log 2; ``raw`` is not.

    Raises:
        InputError: unusable samples, too few points, or sizes that differ more than fourfold.
        UnderResolved: carrying the estimate: d > 3.

    >>> draw = np.random.default_rng(0)
    >>> knn_jsd(draw.normal(size=500), draw.normal(size=500) + 2).agrees(0.33683)
    True
    """
    left, right, k = _checked(x, y, k, minimum_k=2)
    n, m = len(left), len(right)
    if max(n, m) > 4 * min(n, m):
        raise InputError(f"x and y must not differ in size more than fourfold; they have {n} and {m} points. Thin one.")
    fine, coarse = _jsd(left, right, k), _jsd(left, right, _COARSE * k)
    null = _null(lambda a, b: _jsd_value(a, b, k), left, right, rng, permutations)
    bias = fine.extrapolated(coarse, left.shape[1]).value - fine.value
    low, high = fine.interval
    # What is missing to log 2 comes from few points where the laws are nearly disjoint: its root is closer to normal
    # than itself, and no overlap among n points still leaves room for 3/n of overlap (the rule of three).
    arm, missing = fine.value - low, max(LOG2 - fine.value, 0.0)
    low += min(bias, 0.0) - arm**2 / (4 * max(missing, arm, _TREE_SLACK)) - 3 * LOG2 / min(n, m)
    high = high + max(bias, 0.0)
    method = f"{k}-nearest-neighbour counts, jackknife and bias allowance (interval wider than nominal)"
    bounds = (min(max(low, 0.0), LOG2), max(min(high, LOG2), 0.0))
    estimate = _finish(
        min(max(fine.value, 0.0), LOG2), fine.value, bounds, method, n + m, remarks(few(n, m, _REGIME_JSD)), null
    )
    _refuse_dimension(left.shape[1], estimate)
    return estimate


class _Jackknifed(NamedTuple):
    """An estimate, and what it becomes without each point of either sample."""

    value: float
    without_x: Float64[np.ndarray, " n"]
    without_y: Float64[np.ndarray, " m"]

    @property
    def interval(self) -> tuple[float, float]:
        variance = (len(self.without_x) - 1) * self.without_x.var() + (len(self.without_y) - 1) * self.without_y.var()
        arm = Z95 * float(np.sqrt(variance))
        return self.value - arm, self.value + arm

    def extrapolated(self, coarse: _Jackknifed, d: int) -> _Jackknifed:
        """Free of a bias that falls like n^(−1/(d+1)), by the same estimate with ``_COARSE`` k neighbours."""
        c = 1 / (_COARSE ** (1 / (d + 1)) - 1)
        pairs = zip(self, coarse, strict=True)
        value, without_x, without_y = ((1 + c) * one - c * other for one, other in pairs)
        return _Jackknifed(value, without_x, without_y)


class _Distances(NamedTuple):
    """Neighbours of every x: among the other x (own) and among y (cross), nearest first; ties resolved on demand."""

    own: Float64[np.ndarray, "n k"]
    own_index: Int64[np.ndarray, "n k"]
    cross: Float64[np.ndarray, "n k"]
    cross_index: Int64[np.ndarray, "n k"]
    x: Float64[np.ndarray, "n d"]
    y: Float64[np.ndarray, "m d"]

    @staticmethod
    def of(x: np.ndarray, y: np.ndarray, k: int) -> _Distances:
        """With one neighbour more than k on each side, for the jackknife."""
        own, own_index = _others(cKDTree(x), x, k + 1)
        cross, cross_index = cKDTree(y).query(x, k=np.arange(1, k + 2))
        return _Distances(own, own_index, cross, cross_index, x, y)

    def tied(self, k: int) -> int:
        """How many k-th distances are 0."""
        return int((self.own[:, k - 1] == 0).sum() + (self.cross[:, k - 1] == 0).sum())


def _others(tree: cKDTree, x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances and indices of the k nearest *other* points of the tree's own points."""
    distance, index = tree.query(x, k=np.arange(1, k + 2))
    own = index == np.arange(len(x))[:, None]
    # Among more than k equal points a point's own index can lie beyond the list: the last entry goes then.
    own[~own.any(axis=1), -1] = True
    return distance[~own].reshape(len(x), k), index[~own].reshape(len(x), k)


def _radii(points: np.ndarray, query: np.ndarray, radius: np.ndarray, k: int, *, own: int) -> tuple[np.ndarray, ...]:
    """Positive radii and how many of ``points`` they hold; ``own`` is 1 where each query is itself one of them."""
    count = np.full(len(query), float(k))
    rows = np.flatnonzero(radius == 0)
    if not rows.size:
        return radius, count
    radius = radius.copy()
    distinct = np.unique(points, axis=0)
    if len(distinct) < 2:
        raise InputError("all points of a sample are equal: it has no density. Use Discrete laws.")
    found = cKDTree(distinct).query(query[rows], k=2)[0]
    radius[rows] = np.where(found[:, 0] > 0, found[:, 0], found[:, 1])
    held = cKDTree(points).query_ball_point(query[rows], radius[rows] * (1 + _TREE_SLACK), return_length=True)
    count[rows] = held - own
    return radius, count


def _kl(parts: _Distances, k: int, d: int) -> _Jackknifed:
    """The estimate and its jackknife."""
    n, m = len(parts.x), len(parts.y)
    terms, own, cross = _kl_terms(parts, k, d)
    total = float(terms.sum())
    # Without its j-th point a ball must grow to the next neighbour. Where a radius was moved, nothing changes.
    grow_own = d * np.log(np.maximum(parts.own[:, k], own) / own)
    grow_cross = d * np.log(np.maximum(parts.cross[:, k], cross) / cross)
    lost_x = np.bincount(parts.own_index[:, :k].ravel(), np.repeat(grow_own, k), n)
    lost_y = np.bincount(parts.cross_index[:, :k].ravel(), np.repeat(grow_cross, k), m)
    return _Jackknifed(
        total / n + float(np.log(m / (n - 1))),
        (total - terms - lost_x) / (n - 1) + float(np.log(m / (n - 2))),
        (total + lost_y) / n + float(np.log((m - 1) / (n - 1))),
    )


def _kl_terms(parts: _Distances, k: int, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-ratio of densities at each x up to a constant, and both radii."""
    own, own_count = _radii(parts.x, parts.x, parts.own[:, k - 1], k, own=1)
    cross, cross_count = _radii(parts.y, parts.x, parts.cross[:, k - 1], k, own=0)
    return d * np.log(cross / own) + digamma(own_count) - digamma(cross_count), own, cross


def _kl_value(x: np.ndarray, y: np.ndarray, k: int) -> float:
    """The estimate alone: what the null needs, many times."""
    terms = _kl_terms(_Distances.of(x, y, k), k, x.shape[1])[0]
    return float(terms.mean() + np.log(len(y) / (len(x) - 1)))


def _jsd(x: np.ndarray, y: np.ndarray, k: int) -> _Jackknifed:
    """The estimate and its jackknife."""
    left, right = _jsd_side(x, y, k), _jsd_side(y, x, k)
    return _Jackknifed(
        (left.value + right.value) / 2,
        (left.without_x + right.without_y) / 2,
        (right.without_x + left.without_y) / 2,
    )


def _jsd_value(x: np.ndarray, y: np.ndarray, k: int) -> float:
    """JSD with k alone: what the null needs, many times."""
    total = 0.0
    for own, other in ((x, y), (y, x)):
        tree = cKDTree(own)
        radius = _others(tree, own, k)[0][:, k - 1]
        held, count = _held(tree, cKDTree(other), own, radius, k)
        total += float(_log_share(held, count, len(own) / len(other)).mean())
    return total / 2


def _jsd_side(own: np.ndarray, other: np.ndarray, k: int) -> _Jackknifed:
    """KL(p‖(p+q)/2) over the sample of p, jackknifed over its own points (as x) and the others (as y)."""
    n, ratio = len(own), len(own) / len(other)
    tree, other_tree = cKDTree(own), cKDTree(other)
    distance, index = _others(tree, own, k + 1)
    held, count = _held(tree, other_tree, own, distance[:, k - 1], k)
    base = _log_share(held, count, ratio)
    total = float(base.sum())
    # Without one of its own neighbours a ball grows to the next, which then is the k-th of those left.
    wider, wider_count = _held(tree, other_tree, own, distance[:, k], k + 1)
    grown = _log_share(np.maximum(wider - 1, k), wider_count, ratio)
    effect_own = np.bincount(index[:, :k].ravel(), np.repeat(grown - base, k), n)
    # Without one of the others it counts one less.
    fewer = _log_share(held, np.maximum(count - 1, 0), ratio) - base
    effect_other = np.zeros(len(other))
    rows = max(1, _PAIRS // len(other))
    for start in range(0, n, rows):
        here = slice(start, start + rows)
        inside = other_tree.query_ball_point(own[here], distance[here, k - 1] * (1 + _TREE_SLACK))
        who = np.concatenate([np.asarray(item, dtype=np.intp) for item in inside])
        effect_other += np.bincount(who, np.repeat(fewer[here], count[here]), len(other))
    return _Jackknifed(total / n, (total - base + effect_own) / (n - 1), (total + effect_other) / n)


def _held(
    tree: cKDTree, other: cKDTree, query: np.ndarray, radius: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """How many own points (itself left out) and how many others each ball holds, all tied ones included."""
    wide = radius * (1 + _TREE_SLACK)
    held = tree.query_ball_point(query, wide, return_length=True) - 1
    return np.maximum(held, k), other.query_ball_point(query, wide, return_length=True)


def _log_share(held: np.ndarray, count: np.ndarray, ratio: float) -> np.ndarray:
    """Estimate of log p/((p+q)/2) from k own and c other points in a ball, with ratio = n/m.

    p/((p+q)/2) is π / (½π + ½ratio(1 − π)). Log π is unbiased through digamma; the other logarithm, which is constant
    for n = m, takes the unbiased π̂ = (k−1)/(k+c−1) and a second-order correction.
    """
    value = digamma(held) - digamma(held + count)
    offset, slope = 0.5 * ratio, 0.5 * (1 - ratio)
    share = (held - 1) / (held + count - 1)
    square = share * (held - 2) / np.maximum(held + count - 2, 1)
    argument = offset + slope * share
    return value - np.log(argument) - 0.5 * (slope / argument) ** 2 * (share**2 - square)


def _hull(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return min(one[0], other[0]), max(one[1], other[1])


def _finish(
    value: float, raw: float, bounds: tuple[float, float], method: str, n: int, note: str, null: Null | None
) -> TwoSampleEstimate:
    error = max(bounds[1] - value, value - bounds[0], 0.0)
    return TwoSampleEstimate(value, error, level=0.95, method=method, n=n, raw=raw, bounds=bounds, note=note, null=null)


def _null(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    x: np.ndarray,
    y: np.ndarray,
    rng: np.random.Generator | None,
    permutations: int,
) -> Null | None:
    count = as_count(permutations, "permutations")
    return None if rng is None else permutation_test(statistic, x, y, rng=rng, permutations=count)


def _checked(x: ArrayLike, y: ArrayLike, k: int, minimum_k: int = 1) -> tuple[np.ndarray, np.ndarray, int]:
    left, right = as_pair(x, y)
    k = as_count(k, "k", minimum=minimum_k)
    for points, name in ((left, "x"), (right, "y")):
        if len(points) < _COARSE * k + 2:
            raise InputError(
                f"{name} has {len(points)} points; k = {k} neighbours need at least {_COARSE * k + 2} (4k to see the "
                "bias, one to spare for the jackknife). Take more points or a smaller k."
            )
    # Only differences matter; a common shift keeps their digits far from the origin.
    middle = np.concatenate([left, right]).mean(axis=0)
    return left - middle, right - middle, k


def _refuse_dimension(d: int, estimate: TwoSampleEstimate) -> None:
    if d > _MAX_DIM:
        raise UnderResolved(
            f"in {d} dimensions the bias of nearest neighbours is unknown (intervals are checked up to {_MAX_DIM}). "
            "Project first, or use mmd, energy_distance, sliced_wasserstein or dv_bound.",
            estimate,
        )
