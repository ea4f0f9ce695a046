r"""Kernel distances: KID, MMD with Gaussian kernels, CMMD; each with its standard error and a permutation null.

For a kernel k, MMD² = E k(X, X') + E k(Y, Y') − 2 E k(X, Y) is the squared distance of the two laws' kernel means.
Averages over all pairs of *different* points estimate it without bias (``value``; it may be negative), averages that
include the pairs of a point with itself are what some protocols print (``raw``).

==========  ======================================  =====================================================
``kid``     (x·y/d + 1)³                            Kernel Inception Distance: sees the first three moments
``rbf_mmd`` mean over h of exp(−|x−y|²/2h²)         with the Gaussian kernel, equal only for equal laws
``cmmd``    1000 exp(−|x−y|²/2h²), h = 10           CMMD's number is the biased one, for unit-length features
==========  ======================================  =====================================================

**Error.** The first-order variance is 4 Var(μ_P − μ_Q)(X)/n + 4 Var(μ_P − μ_Q)(Y)/m, with μ the kernel means; where the
laws agree it vanishes, and 2ζ(1/n(n−1) + 2/nm + 1/m(m−1)) is all there is, with ζ the variance of the doubly centred
kernel. Both enter the interval of a square (``evaluation.squares``). Published protocols print the spread between
subsets of 1000 instead, which is no error of their mean: it does not shrink with n. Whether the laws are equal at all
is answered by relabelling the pooled points (``null``): an exact level, whatever the law.

**Cost.** Tiles of the kernel matrix, each unordered pair of points once, relabelled scores included (they are quadratic
forms of the tiles). Samples are read tile by tile, from disk if they are mapped from there, and never
copied as a whole: memory for a few tiles, and 8 bytes for each sample and relabelling.

References:
    Demystifying MMD GANs (Bińkowski, Sutherland, Arbel, Gretton, 2018), https://arxiv.org/abs/1801.01401. A kernel
    two-sample test (Gretton et al., 2012), https://jmlr.org/papers/v13/gretton12a.html. Rethinking FID: towards a
    better evaluation metric for image generation (Jayasumana et al., 2024), https://arxiv.org/abs/2401.09603.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from divergences.checks import ArrayLike, as_array, as_count, as_generator, as_number
from divergences.errors import InputError
from divergences.kernels import median_bandwidth
from divergences.two_sample import Z95, Null, TwoSampleEstimate, few, relabellings, remarks
from evaluation.squares import Spread, square_interval
from evaluation.tiles import Cloud, as_cloud

__all__ = ["KernelEstimate", "cmmd", "kid", "rbf_mmd"]

Kernel = Callable[[np.ndarray, np.ndarray], Any]

_TILE = 1024
_MINIMUM = 4
_REGIME = 100
_CMMD_BANDWIDTH, _CMMD_SCALE = 10.0, 1000.0
# The published protocol draws its subsets from this stream of numpy's first generator; its digits depend on it.
_PROTOCOL_SEED = 2020
# Around the median distance: what differs at small and at large scale.
_OCTAVES = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, slots=True)
class KernelEstimate(TwoSampleEstimate):
    """A squared kernel distance.

    Attributes:
        spread: with ``subsets``: the standard deviation between the subsets, which published tables print after "±".
    """

    spread: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return TwoSampleEstimate.to_dict(self) | {"spread": self.spread}


def kid(
    *,
    generated: ArrayLike,
    reference: ArrayLike,
    subsets: Any = None,
    rng: Any = None,
    permutations: int = 199,
) -> KernelEstimate:
    """Kernel Inception Distance: squared MMD with the kernel (x·y/d + 1)³, unbiased, with a 95 % interval.

    Args:
        generated: features (n, d), n ≥ 4.
        reference: features (m, d), m ≥ 4.
        subsets: None uses all pairs of all samples, which is the most accurate. ``(100, 1000)`` is the published
            protocol to the digit, as torch-fidelity has it: the mean over 100 pairs of subsets of 1000.
        rng: draws the relabellings of the null, which need all pairs; without it there is no null.
        permutations: how many.

    Returns:
        ``value`` unbiased (it may be negative); ``bounds`` its interval; ``raw`` the biased number over all pairs;
        with ``subsets`` ``spread``. ``null.p_value`` has exact level.

    Raises:
        InputError: unusable samples, different dimensions, or subsets larger than a sample.

    >>> draw = np.random.default_rng(0)
    >>> x, y = draw.normal(size=(2, 400, 8))
    >>> y[:, 0] += 1
    >>> found = kid(generated=y, reference=x, rng=draw)
    >>> found.agrees(0.494140625), found.null.p_value
    (True, 0.005)
    """
    y, x = _pair(generated, reference)
    if subsets is None:
        return _estimate(y, x, _cubic, "unbiased, all pairs, kernel (x·y/d + 1)³", rng, permutations)
    if rng is not None:
        raise InputError("the null relabels all samples; leave out subsets= for it, or rng= for the protocol.")
    return _protocol(y, x, *_subsets(subsets, len(y), len(x)))


def rbf_mmd(
    *,
    generated: ArrayLike,
    reference: ArrayLike,
    bandwidths: Any = None,
    rng: Any = None,
    permutations: int = 199,
) -> KernelEstimate:
    """Squared MMD with the mean of Gaussian kernels exp(−|x−y|²/2h²), unbiased, with a 95 % interval.

    Args:
        generated: features (n, d), n ≥ 4.
        reference: features (m, d), m ≥ 4.
        bandwidths: one h or several, in units of the data; by default ¼, ½, 1, 2 and 4 times the median distance of
            pooled points, a rule that does not see who is who, so that the null stays exact.
        rng: draws the relabellings of the null; without it there is no null.
        permutations: how many.

    Returns:
        ``value`` unbiased, ``raw`` the biased number; ``null.p_value`` has exact level.

    Raises:
        InputError: unusable samples, different dimensions, or a bandwidth ≤ 0.

    >>> draw = np.random.default_rng(0)
    >>> x, y = draw.normal(size=(2, 400, 8))
    >>> y[:, 0] += 1
    >>> rbf_mmd(generated=y, reference=x, bandwidths=2.0).agrees(0.031587391751378445)
    True
    """
    y, x = _pair(generated, reference)
    if bandwidths is None:
        widths = median_bandwidth(x.raw, y.raw) * np.array(_OCTAVES)
        rule = f"median distance {widths[2]:.6g} times {', '.join(f'{octave:g}' for octave in _OCTAVES)}"
    else:
        widths = np.atleast_1d(as_array(bandwidths, "bandwidths="))
        if widths.ndim != 1 or widths.size == 0 or not (np.isfinite(widths) & (widths > 0)).all():
            raise InputError(f"bandwidths= must be one positive number or several; it is {bandwidths!r}.")
        rule = ", ".join(f"{width:.6g}" for width in widths)
    return _estimate(y, x, _gaussian(widths), f"unbiased, all pairs, Gaussian kernel, h = {rule}", rng, permutations)


def cmmd(
    *,
    generated: ArrayLike,
    reference: ArrayLike,
    bandwidth: Any = _CMMD_BANDWIDTH,
    rng: Any = None,
    permutations: int = 199,
) -> KernelEstimate:
    """CMMD's form: 1000 times the squared MMD with one Gaussian kernel of bandwidth 10.

    The published number is the biased one, kept as ``raw``; it is meant for embeddings of unit length, which are taken
    as they come.

    Args:
        generated: embeddings (n, d), n ≥ 4.
        reference: embeddings (m, d), m ≥ 4.
        bandwidth: h.
        rng: draws the relabellings of the null; without it there is no null.
        permutations: how many.

    Raises:
        InputError: unusable samples, different dimensions, or a bandwidth ≤ 0.
    """
    y, x = _pair(generated, reference)
    width = as_number(bandwidth, "bandwidth=", above=0.0)
    method = f"unbiased, all pairs, 1000 × Gaussian kernel, h = {width:.6g}"
    gaussian = _gaussian(np.array([width]))
    return _estimate(y, x, lambda a, b: _CMMD_SCALE * gaussian(a, b), method, rng, permutations)


def _pair(generated: Any, reference: Any) -> tuple[Cloud, Cloud]:
    y = as_cloud(generated, "generated=", minimum=_MINIMUM)
    x = as_cloud(reference, "reference=", minimum=_MINIMUM)
    if y.dim != x.dim:
        raise InputError(f"generated= has {y.dim} features and reference= has {x.dim}; they must agree.")
    return y, x


# Rows of the pooled samples, as float64.
_Rows = Callable[[slice], np.ndarray]


def _pooled(y: Cloud, x: Cloud) -> _Rows:
    """The generated samples and then the reference, a tile at a time: neither is copied as a whole."""
    n = len(y)

    def rows(part: slice) -> np.ndarray:
        if part.stop <= n:
            return y.rows(part)
        behind = x.rows(slice(max(part.start - n, 0), part.stop - n))
        return behind if part.start >= n else np.concatenate([y.rows(slice(part.start, n)), behind])

    return rows


def _cubic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    values = a @ b.T
    values /= a.shape[1]
    values += 1.0
    return values * values * values


def _gaussian(widths: np.ndarray) -> Kernel:
    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        from scipy.spatial.distance import cdist

        squared = cdist(a, b, "sqeuclidean")
        total = np.zeros_like(squared)
        for width in widths:
            total += np.exp(squared / (-2 * width**2))
        return total / len(widths)

    return kernel


class _Sums(NamedTuple):
    """Sums over the pooled kernel matrix, generated samples first, its diagonal apart."""

    to_first: Float64[np.ndarray, " pool"]
    to_all: Float64[np.ndarray, " pool"]
    diagonal: Float64[np.ndarray, " pool"]
    squares: float
    forms: Float64[np.ndarray, " count"]


def _sweep(pool: _Rows, n: int, total: int, labels: np.ndarray, kernel: Kernel) -> _Sums:
    """Each tile of the upper triangle once: row sums, Σ K², and zᵀK z for every column of labels."""
    to_first, to_all, diagonal = np.zeros(total), np.zeros(total), np.zeros(total)
    forms, squares = np.zeros(labels.shape[1]), 0.0
    first = np.zeros(total)
    first[:n] = 1.0
    starts = range(0, total, _TILE)
    for i in starts:
        rows = slice(i, min(i + _TILE, total))
        left = pool(rows)
        for j in range(i, total, _TILE):
            columns = slice(j, min(j + _TILE, total))
            values = kernel(left, left if i == j else pool(columns))
            if not np.isfinite(values).all():
                raise InputError("the kernel overflows on these features. Scale them down, the same for both sets.")
            twice = 1.0 if i == j else 2.0
            if i == j:
                diagonal[rows] = np.diag(values)
                np.fill_diagonal(values, 0.0)
            else:
                to_first[columns] += first[rows] @ values
                to_all[columns] += values.sum(axis=0)
            to_first[rows] += values @ first[columns]
            to_all[rows] += values.sum(axis=1)
            squares += twice * float(np.vdot(values, values))
            if labels.shape[1]:
                forms += twice * np.einsum("ij,ij->j", labels[rows], values @ labels[columns])
    return _Sums(to_first, to_all, diagonal, squares, forms)


def _estimate(y: Cloud, x: Cloud, kernel: Kernel, method: str, rng: Any, permutations: int) -> KernelEstimate:
    n, m = len(y), len(x)
    count = as_count(permutations, "permutations=")
    labels = np.empty((n + m, 0)) if rng is None else relabellings(n, m, as_generator(rng, "rng="), count)
    sums = _sweep(_pooled(y, x), n, n + m, labels, kernel)
    value, raw, spread = _moments(sums, n, m)
    low, high = square_interval(value, spread)
    near = (low <= 0, "the interval reaches 0: whether the laws differ is for the permutation null to say")
    null = None
    if rng is not None:
        from_first = labels.T @ sums.to_all
        null = Null(value, _unbiased(sums.forms, from_first, float(sums.to_all.sum()), n, m))
    return KernelEstimate(
        value,
        max(value - low, high - value),
        level=0.95,
        method=method,
        n=min(n, m),
        raw=raw,
        bounds=(low, high),
        note=remarks(near, few(n, m, _REGIME)),
        null=null,
    )


def _unbiased(within_first: Any, from_first: Any, total: float, n: int, m: int) -> Any:
    """The statistic from sums over pairs of different points: within the first, from the first to all, and all."""
    across = from_first - within_first
    within_second = total - from_first - across
    return within_first / (n * (n - 1)) + within_second / (m * (m - 1)) - 2 * across / (n * m)


def _moments(sums: _Sums, n: int, m: int) -> tuple[float, float, Spread]:
    """Unbiased value, biased value, and what is known of the error."""
    within_first, from_first = float(sums.to_first[:n].sum()), float(sums.to_all[:n].sum())
    total = float(sums.to_all.sum())
    value = float(_unbiased(within_first, from_first, total, n, m))
    own = float(sums.diagonal[:n].sum()), float(sums.diagonal[n:].sum())
    across = from_first - within_first
    within_second = total - from_first - across
    raw = (within_first + own[0]) / n**2 + (within_second + own[1]) / m**2 - 2 * across / (n * m)
    to_second = sums.to_all - sums.to_first
    witness_first = sums.to_first[:n] / (n - 1) - to_second[:n] / m
    witness_second = sums.to_first[n:] / n - to_second[n:] / (m - 1)
    # ζ with each sample's own centring: of E k(X, X')², minus twice the mean squared row mean, plus the squared mean.
    pool = n + m
    rows = sums.to_all / (pool - 1)
    mean = float(rows.mean())
    zeta = max(sums.squares / (pool * (pool - 1)) - 2 * float(rows @ rows) / pool + mean**2, 0.0)
    second = 2 * zeta * (1 / (n * (n - 1)) + 2 / (n * m) + 1 / (m * (m - 1)))
    influences = [2 * witness_first, 2 * witness_second]
    spread = Spread.of_influences(influences, second, max(raw - value, 0.0))
    return value, raw, spread._replace(spectrum="long")


def _subsets(subsets: Any, n: int, m: int) -> tuple[int, int]:
    try:
        count, size = subsets
    except (TypeError, ValueError) as error:
        raise InputError(
            f"subsets= must be (how many, of which size), such as (100, 1000); it is {subsets!r}."
        ) from error
    count, size = as_count(count, "subsets=[0]"), as_count(size, "subsets=[1]", minimum=_MINIMUM)
    if size > min(n, m):
        raise InputError(
            f"subsets= of {size} cannot be drawn from {n} generated and {m} reference samples; leave subsets= out, or "
            f"choose at most {min(n, m)}."
        )
    return count, size


def _protocol(y: Cloud, x: Cloud, count: int, size: int) -> KernelEstimate:
    """Mean over subsets; its error is that of all pairs, taken from the subsets' own variances, and of the drawing."""
    legacy = np.random.RandomState  # noqa: NPY002 (seeded and private: the published digits are of this stream)
    draw = legacy(_PROTOCOL_SEED)
    values, firsts, seconds, labels = np.empty(count), 0.0, 0.0, np.empty((2 * size, 0))
    bias = 0.0
    for b in range(count):
        mine, theirs = draw.choice(len(y), size, replace=False), draw.choice(len(x), size, replace=False)
        both = np.concatenate([y.rows(mine), x.rows(theirs)])
        sums = _sweep(both.__getitem__, size, 2 * size, labels, _cubic)
        values[b], _, spread = _moments(sums, size, size)
        firsts, seconds, bias = firsts + spread.first, seconds + spread.second, bias + spread.bias
    # Of a subset's variance the first order falls as 1/n and the second as 1/n²; half of the first is its noise 2τ².
    rate = size / min(len(y), len(x))
    first, second, bias = firsts / count, seconds / count * rate**2, bias / count * rate
    first = max(first - 2 * seconds / count, 0.0) * rate + 2 * second
    value, deviation = float(values.mean()), float(values.std())
    low, high = square_interval(value, Spread(first, second, bias, spectrum="long"))
    drawing = deviation / math.sqrt(count)
    low, high = value - math.hypot(value - low, Z95 * drawing), value + math.hypot(high - value, Z95 * drawing)
    return KernelEstimate(
        value,
        max(value - low, high - value),
        level=0.95,
        method=f"mean over {count} subsets of {size}, unbiased, kernel (x·y/d + 1)³",
        n=min(len(y), len(x)),
        bounds=(low, high),
        spread=deviation,
    )
