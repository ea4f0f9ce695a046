r"""What an audit could have missed: the least loss of a mode that n samples show with a power of 95 %.

A mode has the share w of the target, and the generator has lost the part λ of it: its samples fall there with rate
(1−λ)·w·h, where h is the share of a perfect generator's samples that count (are of high quality). Whether the audit
finds it is decided by a count, so its power is a sum of binomial probabilities and not a matter of opinion:

* *known modes*: starvation is tested against half of the fair share (``margin``) among the n_HQ samples of high
  quality, at level α/K for K modes: the first step of Holm's procedure, which all others contain. The critical count c
  is the largest with P(X ≤ c | n_HQ, margin·w·h) < α/K; the loss is found with probability P(X ≤ c | n_HQ, (1−λ)w), and
  the least λ for which this is 0.95 is a quantile of a beta law;
* *an audit* asks two things of a mode, at half the level each: a mode without a hit is tested for its absence among all
  n samples, a mode with hits for starvation; ``mode_detection`` makes the table of exactly these tests;
* *classes* told by a classifier with the recall r and the leak l (its answer where it is another class) are seen with
  rate π·r + (1−π)·l at the share π: ``class_detection``. r and l were measured on finitely many examples: both the
  critical count and the power are averages over draws of what they could be;
* *unknown modes* (bins, ``evaluation.unknown_modes``): the fair share is itself only known from m held-out samples, and
  the test is conditional on the total. Then the power has two sources of chance and is found by simulation.

λ = 1 is the complete loss; where not even that is found, the table says infinity, and n is too small.

References:
    Power in the sense of Neyman and Pearson: On the problem of the most efficient tests of statistical hypotheses
    (1933), https://doi.org/10.1098/rsta.1933.0009.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.special import bdtr, betaincinv

from divergences import InputError
from divergences.checks import ArrayLike, as_count, as_generator, as_number

__all__ = [
    "DetectionRow",
    "bin_detection",
    "class_detection",
    "class_losses",
    "detection_table",
    "lost_in_bin",
    "lost_mode",
    "mode_detection",
    "one_loss",
]

POWER = 0.95
_SIZES = (100, 300, 1000, 3000, 10_000, 30_000, 100_000)
_LOSSES = np.linspace(0.5, 1.0, 26)
_DRAWS = 2000
# Shares that differ by less than this part make one line of a table.
_ALIKE = 0.02
# A loss is told to a ten-thousandth.
_HALVINGS = 14


@dataclass(frozen=True)
class DetectionRow:
    """One line of the table.

    Attributes:
        n: generated samples.
        weight: share of the target that the mode holds.
        expected: samples a perfect generator would put there.
        loss: the least part of it whose loss is found with probability 0.95; infinite if not even the whole is.
        power: probability with which the complete loss is found.
    """

    n: int
    weight: float
    expected: float
    loss: float
    power: float

    def __str__(self) -> str:
        if math.isinf(self.loss):
            return f"n = {self.n}: the complete loss of a mode of weight {self.weight:.3g} could go unnoticed"
        return f"n = {self.n}: a mode of weight {self.weight:.3g} that lost {math.ceil(100 * self.loss)} % is found"


def detection_table(
    *,
    weights: Sequence[float],
    modes: int,
    sizes: Sequence[int] = _SIZES,
    high_quality: float = 1.0,
    margin: float = 0.5,
    alpha: float = 0.05,
) -> tuple[DetectionRow, ...]:
    """The least loss that is found with a power of 95 %, for known modes: exact.

    Args:
        weights: shares of the target to make a line for, each in (0, 1].
        modes: how many modes share the error rate.
        sizes: numbers of generated samples.
        high_quality: share of the samples that count, in (0, 1]: a perfect generator's, or the one seen.
        margin: share of its due below which a mode is called starved.
        alpha: family-wise error rate.

    Returns:
        One row per size and weight.

    Raises:
        InputError: numbers out of range.

    >>> for row in detection_table(weights=[0.04], modes=25, sizes=[100, 300, 2500], high_quality=0.98889):
    ...     print(row)
    n = 100: the complete loss of a mode of weight 0.04 could go unnoticed
    n = 300: the complete loss of a mode of weight 0.04 could go unnoticed
    n = 2500: a mode of weight 0.04 that lost 79 % is found
    """
    count = as_count(modes, "modes=")
    quality = as_number(high_quality, "high_quality=", above=0.0, below=math.nextafter(1, 2))
    margin = as_number(margin, "margin=", above=0.0, below=math.nextafter(1, 2))
    level = as_number(alpha, "alpha=", above=0.0, below=1.0) / count
    shares = [as_number(weight, "weights=", above=0.0, below=math.nextafter(1, 2)) for weight in weights]
    numbers = [as_count(size, "sizes=") for size in sizes]
    if not shares or not numbers:
        raise InputError("weights= and sizes= need at least one entry each.")
    rows = []
    for n in numbers:
        inside = round(n * quality)
        for share in shares:
            tested = share * quality
            loss, power = one_loss(inside, tested, margin, level, drawn=share) if inside else (math.inf, 0.0)
            rows.append(DetectionRow(n, share, n * quality * share, loss, power))
    return tuple(rows)


def one_loss(n: int, share: float, margin: float, level: float, *, drawn: float | None = None) -> tuple[float, float]:
    """Least loss found with power 0.95 (infinite if none), and the power at complete loss, of one exact test.

    Args:
        n: samples that count.
        share: what the mode is due of all samples; tested is ``margin`` of it.
        margin: in (0, 1].
        level: of the test.
        drawn: what a mode without loss gets of the samples that count; ``share`` if all samples do.
    """
    counts = np.arange(min(math.ceil(margin * share * n), n - 1) + 1, dtype=np.float64)
    significant = np.flatnonzero(bdtr(counts, n, margin * share) < level)
    if significant.size == 0:
        return math.inf, 0.0
    critical = int(significant[-1])
    # The largest rate at which the hits stay at or below the critical count with probability 0.95.
    return _least(critical, n, share if drawn is None else drawn), 1.0


def _least(critical: int, n: int, drawn: float) -> float:
    """The least loss at which at most ``critical`` of n samples hit with probability 0.95."""
    return max(1 - float(betaincinv(critical + 1, n - critical, 1 - POWER)) / drawn, 0.0)


def lost_mode(n: int, inside: int, share: float, margin: float, level: float, *, drawn: float) -> tuple[float, float]:
    """Least loss found with power 0.95 by the two tests of a known mode, absence and starvation; and the power at 1.

    Args:
        n: samples.
        inside: those of high quality among them.
        share: hits a perfect generator gives this mode, of all its samples.
        margin: share of its due below which it is starved.
        level: of each of the two tests.
        drawn: hits a perfect generator gives this mode, of those of high quality.
    """
    if inside == 0 or share <= 0:
        return math.inf, 0.0
    loss, power = one_loss(inside, share, margin, level, drawn=drawn)
    # Where no positive count is too low, none at all still may be.
    if math.isinf(loss) and (share >= 1 or n * math.log1p(-share) < math.log(level)):
        return _least(0, inside, drawn), 1.0
    return loss, power


def mode_detection(
    *,
    weights: Sequence[float],
    rates: ArrayLike,
    inside: int,
    n: int,
    sizes: Sequence[int],
    margin: float,
    level: float,
) -> tuple[DetectionRow, ...]:
    """What the tests of known modes find, at these and at other numbers of samples: exact.

    Args:
        weights: of the modes in the target, shape (K,).
        rates: hits a perfect generator gives each, of all its samples, shape (K,).
        inside: samples of high quality seen.
        n: samples seen: other sizes are thought of with the same share of high quality.
        sizes: numbers of samples.
        margin: share of its due below which a mode is starved.
        level: at which the least Holm-adjusted p-value of either family of tests is significant.

    Returns:
        One row per size for the rarest mode, the median one and the most common one, as far as they differ.
    """
    due = np.asarray(rates, dtype=np.float64)
    order = np.argsort(due, kind="stable")
    chosen = _distinct(order[due[order] > 0], due)
    rows = []
    for size in sizes:
        kept = round(size * inside / n)
        for k in chosen:
            share = min(float(due[k]), 1.0)
            loss, power = lost_mode(size, kept, share, margin, level / len(due), drawn=share / float(due.sum()))
            rows.append(DetectionRow(size, float(weights[k]), size * share, loss, power))
    return tuple(rows)


def class_detection(
    *,
    shares: ArrayLike,
    recalls: ArrayLike,
    leaks: ArrayLike,
    sizes: Sequence[int],
    margin: float,
    level: float,
) -> tuple[tuple[int, DetectionRow], ...]:
    """What the tests of classes find with a classifier whose errors are known from held-out examples.

    Args:
        shares: of the classes in train, shape (K,).
        recalls: draws of how often each class is recognised, shape (draws, K); one row if that is known.
        leaks: draws of how often a sample of the others is taken for it, shape (draws, K).
        sizes: numbers of samples.
        margin: share of its due below which a class is missing.
        level: of the least Holm-adjusted p-value.

    Returns:
        One row per size for the rarest class, the median one and the most common one, counted by what is recognised
        of them, each with its index.
    """
    due = np.asarray(shares, dtype=np.float64)
    recall, leak = np.asarray(recalls, dtype=np.float64), np.asarray(leaks, dtype=np.float64)
    seen = due * np.maximum((recall - leak).mean(axis=0), 0.0)
    chosen = _distinct(np.argsort(seen, kind="stable"), seen)
    rows = []
    for n in sizes:
        losses, powers = class_losses(n, due[chosen], recall[:, chosen], leak[:, chosen], margin, level / len(due))
        for k, loss, power in zip(chosen, losses.tolist(), powers.tolist(), strict=True):
            rows.append((k, DetectionRow(n, float(due[k]), n * float(due[k]), loss, power)))
    return tuple(rows)


def class_losses(
    n: int,
    shares: Float64[np.ndarray, " k"],
    recalls: Float64[np.ndarray, "b k"],
    leaks: Float64[np.ndarray, "b k"],
    margin: float,
    level: float,
) -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
    """Least loss of each class found with power 0.95 (infinite if none), and the power at complete loss.

    Args:
        n: samples.
        shares: due to the classes, shape (K,).
        recalls: draws of how often each is recognised, shape (draws, K).
        leaks: draws of how often a sample of the others is taken for it.
        margin: share of its due below which a class is missing.
        level: of each class's test.
    """

    def as_few(counts: np.ndarray, kept: Any) -> np.ndarray:
        """P(at most so many answers), if the class keeps this part of its share; 0 below a count of 0."""
        rates = kept * shares * recalls + (1 - kept * shares) * leaks
        return np.where(counts < 0, 0.0, bdtr(np.maximum(counts, 0.0), n, np.clip(rates, 0.0, 1.0)).mean(axis=0))

    # The largest count that the test rejects lies in [low, high).
    low, high = np.full(len(shares), -1.0), np.full(len(shares), float(n))
    while (high - low > 1).any():
        middle = np.floor((low + high) / 2)
        rejected = as_few(middle, margin) < level
        low, high = np.where(rejected, middle, low), np.where(rejected, high, middle)
    powers = as_few(low, 0.0)
    # With the part ``margin`` of its share left, it is found with probability ``level``: less than 0.95.
    least, most = np.zeros(len(shares)), np.full(len(shares), margin)
    for _ in range(_HALVINGS):
        middle = (least + most) / 2
        found = as_few(low, middle) >= POWER
        least, most = np.where(found, middle, least), np.where(found, most, middle)
    return np.where(powers >= POWER, 1 - least, math.inf), powers


def _distinct(order: np.ndarray, size: np.ndarray) -> list[int]:
    """First, middle and last of an order, without those of (practically) the same size."""
    if not len(order):
        return []
    chosen: list[int] = []
    for k in (order[0], order[len(order) // 2], order[-1]):
        if not chosen or size[k] > size[chosen[-1]] * (1 + _ALIKE):
            chosen.append(int(k))
    return chosen


def lost_in_bin(here: np.ndarray, there: np.ndarray, n: int, m: int, margin: float) -> Float64[np.ndarray, "..."]:
    """P-values of "the generator gives this bin at least ``margin`` of its share", from counts of both samples.

    Given their sum t, the n generated samples hold X ~ Bin(t, margin·n/(margin·n + m)) of them if the bin is rare; if
    it is not, X varies less than that, and the test is conservative.

    Args:
        here: generated samples in each bin, any shape.
        there: reference samples in each bin, a shape that goes with it.
        n: generated samples.
        m: reference samples.
        margin: in (0, 1].

    Returns:
        One p-value per bin, 1 where both are empty.
    """
    rate = margin * n / (margin * n + m)
    return bdtr(here.astype(np.float64), (here + there).astype(np.int64), rate)


def bin_detection(
    *,
    weights: Sequence[float],
    bins: int,
    n: int,
    reference: int,
    rng: np.random.Generator,
    margin: float = 0.5,
    alpha: float = 0.05,
) -> tuple[DetectionRow, ...]:
    """The least loss that is found with a power of 95 %, for modes that are bins: by 2000 simulated counts each.

    Args:
        weights: shares of the target to make a line for.
        bins: how many bins share the error rate.
        n: generated samples.
        reference: held-out samples that the fair shares are known from.
        rng: draws the counts.
        margin: share of its due below which a bin counts as lost.
        alpha: family-wise error rate.

    Returns:
        One row per weight; losses on a grid of 2 %.

    Raises:
        InputError: numbers out of range.
    """
    count, n, m = as_count(bins, "bins="), as_count(n, "n="), as_count(reference, "reference=")
    margin = as_number(margin, "margin=", above=0.0, below=math.nextafter(1, 2))
    level = as_number(alpha, "alpha=", above=0.0, below=1.0) / count
    rng = as_generator(rng, "rng=")
    rows = []
    for weight in weights:
        share = as_number(weight, "weights=", above=0.0, below=math.nextafter(1, 2))
        there = rng.binomial(m, share, _DRAWS)
        here = rng.binomial(n, share * (1 - _LOSSES[:, None]), (len(_LOSSES), _DRAWS))
        found = lost_in_bin(here, there, n, m, margin) < level
        powers = found.mean(axis=1)
        enough = np.flatnonzero(powers >= POWER)
        loss = float(_LOSSES[enough[0]]) if enough.size else math.inf
        rows.append(DetectionRow(n, share, n * share, loss, float(powers[-1])))
    return tuple(rows)
