r"""The precision-recall curve of two laws over common bins, and its two ends F₈ and F₁⸝₈.

For histograms p (reference) and q (evaluated) over the same bins and every slope λ > 0,

    precision(λ) = Σ min(λ p, q),   recall(λ) = precision(λ) / λ :

the masses of q and p that can be had in common. F_β = (1+β²)·P·R/(β²P + R), at its largest along the curve, weighs
recall by β²: F₈ tells whether modes are missing, F₁⸝₈ whether samples are bad. Of samples, the bins are k-means
clusters of both sets together; the average over several clusterings is reported, and depends on how many clusters there
are.

**Error.** The largest F along the curve hangs on few bins where the laws differ much: the bootstrap of the histograms,
which never fills a bin that is empty, covers 75 to 90 % there. Two variances are taken instead, and the larger one
counts: the jackknife's, leaving out groups of samples, and the bootstrap's from masses with Jeffreys' half a sample
more in each bin. In simulations (20 bins, 200 and 1000 samples, laws that agree, differ, or share half of their modes)
the intervals cover 93 to 100 % and are at most about twice as long as needed, where the laws agree: resampling adds
noise to histograms whose own noise is all the difference there is.

Reference:
    Assessing generative models via precision and recall (Sajjadi, Bachem, Lucic, Bousquet, Gelly, 2018),
    https://arxiv.org/abs/1806.00035.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import expit, logit

from divergences import Estimate, InputError
from divergences.checks import ArrayLike, as_array, as_count, as_generator, as_points
from divergences.two_sample import Z95
from evaluation.resplit import LEVEL

__all__ = ["PRD", "prd", "prd_curve"]

_ANGLES = 1001
_TINY = 1e-10
_SLOPES = np.tan(np.linspace(_TINY, np.pi / 2 - _TINY, _ANGLES))
# Histograms drawn again, in all and of one clustering.
_DRAWS, _FEWEST_DRAWS = 200, 40
# Groups of the jackknife: degrees of freedom of its variance.
_GROUPS = 20
# Jeffreys' half: an empty bin may have had a mass that was missed.
_HALF = 0.5
_METHOD = "jackknife or bootstrap of the histograms"


@dataclass(frozen=True)
class PRD:
    """The precision-recall curve.

    Attributes:
        precision: along the curve, shape (1001,).
        recall: along the curve, shape (1001,).
        f8: F₈: low where parts of the reference are missing. The interval is for new samples in the same bins.
        f_eighth: F₁⸝₈: low where samples are not like the reference.
        null: the same for held-out data, or for one half of the reference against the other.
    """

    precision: Float64[np.ndarray, " a"]
    recall: Float64[np.ndarray, " a"]
    f8: Estimate
    f_eighth: Estimate
    null: PRD | None = None


def prd_curve(
    evaluated: ArrayLike, reference: ArrayLike
) -> tuple[Float64[np.ndarray, " a"], Float64[np.ndarray, " a"]]:
    """(precision, recall) of two histograms over the same bins, at 1001 slopes.

    Args:
        evaluated: shape (bins,), ≥ 0, not all 0; divided by its sum.
        reference: likewise.

    Raises:
        InputError: different or empty bins, negative numbers.

    >>> precision, recall = prd_curve([0.5, 0.5], [1.0, 0.0])
    >>> print(precision.max().round(6), recall.max().round(6))
    0.5 1.0
    """
    masses = []
    for value, name in ((evaluated, "evaluated"), (reference, "reference")):
        mass = as_array(value, name)
        if mass.ndim != 1 or not np.isfinite(mass).all() or (mass < 0).any() or not mass.sum() > 0:
            raise InputError(f"{name} must be masses of bins: shape (bins,), numbers ≥ 0, not all of them 0.")
        masses.append(mass / mass.sum())
    if len(masses[0]) != len(masses[1]):
        raise InputError(f"evaluated has {len(masses[0])} bins and reference {len(masses[1])}; they must be the same.")
    return _curve(*masses)


def _curve(
    evaluated: Float64[np.ndarray, " b"], reference: Float64[np.ndarray, " b"]
) -> tuple[Float64[np.ndarray, " a"], Float64[np.ndarray, " a"]]:
    # Σ min(λ p, q): of the bins sorted by q/p, those up to λ give q, and the others λ p.
    ratio = np.divide(evaluated, reference, out=np.full(len(reference), np.inf), where=reference > 0)
    order = np.argsort(ratio)
    below = np.concatenate([[0.0], np.cumsum(evaluated[order])])
    above = np.concatenate([np.cumsum(reference[order][::-1])[::-1], [0.0]])
    here = np.searchsorted(ratio[order], _SLOPES, side="right")
    precision = below[here] + _SLOPES * above[here]
    return np.clip(precision, 0, 1), np.clip(precision / _SLOPES, 0, 1)


def f_beta(precision: Float64[np.ndarray, " a"], recall: Float64[np.ndarray, " a"], beta: float) -> float:
    """The largest F_β along a curve."""
    return float(((1 + beta**2) * precision * recall / (beta**2 * precision + recall + _TINY)).max())


def prd(
    *,
    generated: ArrayLike,
    reference: ArrayLike,
    test: Any = None,
    rng: np.random.Generator,
    clusters: int = 20,
    runs: int = 10,
) -> PRD:
    """Precision and recall as a curve, over k-means clusters of both sets, averaged over clusterings.

    Args:
        generated: shape (m, d). Sets of different sizes are allowed: histograms are shares.
        reference: shape (n, d).
        test: held-out data, whose curve is the null; without them, one random half of the reference against the other.
        rng: for the clusterings and the bootstrap.
        clusters: bins per clustering.
        runs: clusterings.

    Returns:
        The curve and F₈, F₁⸝₈ with 95 % intervals for the expected score at these sizes. Noise in the histograms can
        only take common mass away, so that two samples of one law stay below 1, by as much as the null shows.

    Raises:
        InputError: NaN, mismatched dimensions, fewer points than clusters.
    """
    random = as_generator(rng)
    bins, repeats = as_count(clusters, "clusters", minimum=2), as_count(runs, "runs")
    real = as_points(reference, "reference=", minimum=2 * bins)
    fake = as_points(generated, "generated=", dim=real.shape[1], minimum=bins)
    mine = _prd(fake, real, (bins, repeats), random, "")
    if test is None:
        order = random.permutation(len(real))
        null = _prd(
            real[order[::2]], real[order[1::2]], (bins, repeats), random, "one half of the reference against the other"
        )
    else:
        held_out = as_points(test, "test=", dim=real.shape[1], minimum=bins)
        null = _prd(held_out, real, (bins, repeats), random, "score of test=")
    return PRD(mine.precision, mine.recall, mine.f8, mine.f_eighth, null)


def _prd(
    fake: Float64[np.ndarray, "m d"],
    real: Float64[np.ndarray, "n d"],
    protocol: tuple[int, int],
    rng: np.random.Generator,
    note: str,
) -> PRD:
    from sklearn.cluster import MiniBatchKMeans

    bins, runs = protocol
    union, labels = np.concatenate([fake, real]), []
    for seed in rng.integers(2**31, size=runs).tolist():
        found = MiniBatchKMeans(n_clusters=bins, n_init=10, random_state=seed).fit(union).labels_
        labels.append((found[: len(fake)], found[len(fake) :]))
    return _of_bins(labels, bins, rng, note)


# Of each clustering, the bins of the evaluated samples and those of the reference.
_Labels = list[tuple[np.ndarray, np.ndarray]]


def _of_bins(labels: _Labels, bins: int, rng: np.random.Generator, note: str) -> PRD:
    """The mean curve and its ends, with the larger of the two errors of a clustering."""
    runs, n = len(labels), len(labels[0][0])
    draws, within, ends = max(_FEWEST_DRAWS, math.ceil(_DRAWS / runs)), [], []
    for clustering in labels:
        counts = [np.bincount(side, minlength=bins) for side in clustering]
        ends.append(_ends(*_curve(*(count / count.sum() for count in counts))))
        again = zip(*(_redrawn(count, draws, rng) for count in counts), strict=True)
        within.append(np.var([_ends(*_curve(q, p)) for q, p in again], axis=0, ddof=1))
    # Between clusterings, what is left of their scatter after averaging.
    between = np.var(ends, axis=0, ddof=1) / runs if runs > 1 else np.zeros(2)
    variances = np.maximum(_jackknife(labels, bins), np.mean(within, axis=0)) + between
    precision, recall = _mean_curve(labels, bins, None)
    f8, f_eighth = (
        _between_0_and_1(value, float(error), n, f"{_METHOD} of {runs} clusterings", note)
        for value, error in zip(_ends(precision, recall), Z95 * np.sqrt(variances), strict=True)
    )
    return PRD(precision, recall, f8, f_eighth)


def _redrawn(counts: Int64[np.ndarray, " b"], draws: int, rng: np.random.Generator) -> Float64[np.ndarray, "r b"]:
    """Histograms of as many samples again, from masses in which no bin is empty."""
    masses = (counts + _HALF) / (counts.sum() + _HALF * len(counts))
    return rng.multinomial(int(counts.sum()), masses, draws) / counts.sum()


def _mean_curve(
    labels: _Labels, bins: int, kept: tuple[np.ndarray, np.ndarray] | None
) -> tuple[Float64[np.ndarray, " a"], Float64[np.ndarray, " a"]]:
    """The curve of all samples, or of those kept, averaged over clusterings."""
    curves = []
    for clustering in labels:
        sides = clustering if kept is None else [side[rows] for side, rows in zip(clustering, kept, strict=True)]
        curves.append(_curve(*(np.bincount(side, minlength=bins) / len(side) for side in sides)))
    precision, recall = np.mean(curves, axis=0)
    return precision, recall


def _jackknife(labels: _Labels, bins: int) -> Float64[np.ndarray, " 2"]:
    """Variance of both ends, from leaving out one group of either sample after the other."""
    sizes = [len(side) for side in labels[0]]
    everything = [np.ones(size, dtype=bool) for size in sizes]
    total = np.zeros(2)
    for which, size in enumerate(sizes):
        groups = min(_GROUPS, size)
        # The same groups each time: the same samples have the same error.
        group = np.random.default_rng(size).permutation(np.arange(size) % groups)
        left = []
        for out in range(groups):
            kept = everything.copy()
            kept[which] = group != out
            left.append(_ends(*_mean_curve(labels, bins, (kept[0], kept[1]))))
        total += (groups - 1) * np.var(left, axis=0)
    return total


def _between_0_and_1(value: float, error: float, n: int, method: str, note: str) -> Estimate:
    """On the logit scale where both ends are far away, else cut there."""
    if 0 < error < min(value, 1 - value):
        middle, arm = float(logit(value)), error / (value * (1 - value))
        low, high = float(expit(middle - arm)), float(expit(middle + arm))
    else:
        low, high = max(value - error, 0.0), min(value + error, 1.0)
    return Estimate(value, max(value - low, high - value), LEVEL, method, n=n, bounds=(low, high), note=note)


def _ends(precision: Float64[np.ndarray, " a"], recall: Float64[np.ndarray, " a"]) -> tuple[float, float]:
    return f_beta(precision, recall, 8.0), f_beta(precision, recall, 1 / 8)
