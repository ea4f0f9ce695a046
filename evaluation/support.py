r"""How many different things can a generator draw? The birthday paradox, with an interval.

Among n independent draws of p the pairs that coincide are n(n−1)/2·κ on average, κ = Σ p_i², so 23 people share a
birthday as often as not. κ̂ = pairs/(n(n−1)/2) is without bias, and 1/κ is the *effective* support: the number of
equally likely outcomes that coincide as often. A generator has **at least** so many outcomes, and more if some are
rarer.

The variance of the number of pairs is n(n−1)/2·κ(1−κ) + n(n−1)(n−2)(τ − κ²) with τ = Σ p_i³, estimated from samples
with two partners; for a uniform law the second term vanishes. The interval of κ is Poisson's for the pairs, divided by
the ratio φ ≥ 1 of that variance to the Poisson one. Without any pair its upper end gives what is known: the support is
at least n(n−1)/2/3.69.

Samples coincide if their distance is at most ``tolerance``. Continuous data never coincide exactly, and where "the same
face" begins is for an eye to say; what can be said without one is whether generated samples coincide more than held-out
data do. With ``reference=`` and no tolerance, the tolerance is the distance below which the reference has no pair at
all: if both have one law, the number of generated pairs before the first pair of the reference is geometric, P(≥ a) =
(c_n/(c_n + c_m))^a with c_n = n(n−1)/2, as long as pairs are rare. With a tolerance, the pairs of both split
binomially. Either p-value takes pairs/φ for the number.

Where samples differ without end and merely resemble each other, the Vendi score, an effective number of samples by the
angles between their features, says more; ``vendi_ratio`` compares it with that of as many real ones.

References:
    Do GANs learn the distribution? Some theory and empirics (Arora, Risteski, Zhang, 2018),
    https://openreview.net/forum?id=BJehNfW0-.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from scipy.special import gammaincinv

from divergences import Estimate, InputError
from divergences.checks import ArrayLike, as_number, as_points
from evaluation.intervals import binomial_test
from evaluation.neighbors import Neighbors, nearest_others
from evaluation.sweep import Sweep

__all__ = ["SupportSize", "support_size", "vendi_ratio"]

_TAIL = 0.025
_FIRST_LOOK = 4


@dataclass(frozen=True)
class SupportSize:
    """How often samples repeat each other.

    Attributes:
        size: effective support 1/κ; 95 % interval; infinite where no two samples coincide, the lower end then says how
            large it is at least.
        null: the same of the reference at the same tolerance; None without one.
        p_value: of "generated samples coincide no more often than the reference"; None without one.
        batch: draws among which two coincide with probability ½.
        pairs: coinciding pairs among the generated.
        repeated: generated samples that coincide with another.
        tolerance: the distance up to which samples coincide.
        n: generated samples.
    """

    size: Estimate
    null: Estimate | None
    p_value: float | None
    batch: float
    pairs: int
    repeated: int
    tolerance: float
    n: int


def support_size(
    *,
    generated: ArrayLike,
    reference: ArrayLike | None = None,
    tolerance: float | None = None,
    swept: Sweep | None = None,
) -> SupportSize:
    """Estimate from repeats how many different samples a generator can draw.

    Args:
        generated: features of the samples, shape (n, d), n ≥ 2.
        reference: held-out data in the same features, shape (m, d): how often real samples coincide.
        tolerance: distance up to which two samples coincide, ≥ 0. None: 0 without a reference; else just below the
            least distance within the reference.
        swept: a sweep of these very sets, the reference as ``test``, if there is one already.

    Raises:
        InputError: NaN, mis-shaped or too few samples, or a negative tolerance.

    >>> rng = np.random.default_rng(0)
    >>> found = support_size(generated=rng.integers(0, 5000, 1000))
    >>> found.pairs, found.size.agrees(5000)
    (95, True)
    """
    points = as_points(generated, "generated=", minimum=2)
    known = None if reference is None else as_points(reference, "reference=", dim=points.shape[1], minimum=2)
    lists = (None, None) if swept is None else (swept.generated_generated, swept.test_test)
    if tolerance is not None:
        reach = as_number(tolerance, "tolerance=", above=-math.ulp(0.0))
    elif known is None:
        reach = 0.0
    else:
        closest = float((lists[1] or nearest_others(known, 1)).distances[:, 0].min())
        if closest == 0:
            raise InputError(
                "reference= holds equal rows, so that there is no distance below which it has no pair. Give tolerance=."
            )
        reach = math.nextafter(closest, 0.0)
    partners = _partners(points, reach, lists[0])
    pairs, inflation = _count(partners)
    size = _size(pairs, inflation, len(points))
    null = p_value = None
    if known is not None:
        others, other_inflation = _count(_partners(known, reach, lists[1]))
        null = _size(others, other_inflation, len(known))
        here, there = _possible(len(points)), _possible(len(known))
        seen, rest = int(pairs / inflation), int(others / other_inflation)
        share = here / (here + there)
        p_value = (
            float(share**seen)
            if tolerance is None
            else float(binomial_test([seen], seen + rest, share, side="greater")[0])
        )
    batch = 0.5 + math.sqrt(0.25 + 2 * math.log(2.0) * size.value)
    return SupportSize(size, null, p_value, batch, pairs, int((partners > 0).sum()), reach, len(points))


def vendi_ratio(*, generated: ArrayLike, reference: ArrayLike, q: float = 1.0) -> Estimate:
    """The Vendi score of generated samples in units of that of as many real ones: below 1, there is less variety.

    The score alone grows with n and means nothing by itself; at equal n its bias is the same on both sides if the laws
    are, and the ratio of a perfect generator is 1 up to the interval.

    Args:
        generated: features, shape (n, d); rows that are not 0. Subtract a mean first if all features are positive.
        reference: real ones, shape (m, d). The larger of the two is thinned to the size of the smaller.
        q: order of the entropy.

    Returns:
        The ratio; the 95 % interval joins the two relative errors.

    Raises:
        InputError: NaN, rows of zeros, mismatched dimensions, or q ≤ 0.

    >>> x = np.random.default_rng(0).normal(size=(600, 6))
    >>> vendi_ratio(generated=x[:300], reference=x[300:]).agrees(1.0)
    True
    """
    from evaluation.vendi import vendi

    real = as_points(reference, "reference=")
    points = as_points(generated, "generated=", dim=real.shape[1])
    size = min(len(points), len(real))
    scores = [vendi(generated=rows, q=q).score for rows in (_thinned(points, size), _thinned(real, size))]
    value = scores[0].value / scores[1].value
    spread = math.exp(math.hypot(*(own.error / own.value for own in scores)))
    bounds = (value / spread, value * spread)
    method = "ratio of two Vendi scores at equal n; delta method"
    return Estimate(value, bounds[1] - value, level=0.95, method=method, n=size, bounds=bounds)


def _thinned(points: np.ndarray, size: int) -> np.ndarray:
    return points[np.linspace(0, len(points) - 1, size).astype(np.int64)]


def _partners(points: np.ndarray, reach: float, lists: Neighbors | None = None) -> Int64[np.ndarray, " n"]:
    """How many others lie within reach of each point."""
    if reach == 0:
        # What has no other at distance 0 is not sorted.
        rows = np.arange(len(points)) if lists is None else np.flatnonzero(lists.distances[:, 0] == 0)
        partners = np.zeros(len(points), dtype=np.int64)
        if rows.size:
            _, index, counts = np.unique(points[rows] + 0.0, axis=0, return_inverse=True, return_counts=True)
            partners[rows] = counts[index.reshape(-1)] - 1
        return partners
    k = min(_FIRST_LOOK, len(points) - 1) if lists is None else lists.distances.shape[1]
    while True:
        found = nearest_others(points, k) if lists is None or lists.distances.shape[1] < k else lists
        within = (found.distances <= reach).sum(axis=1)
        if k == len(points) - 1 or within.max() < k:
            return within.astype(np.int64)
        k = min(4 * k, len(points) - 1)


def _count(partners: Int64[np.ndarray, " n"]) -> tuple[int, float]:
    """Pairs, and by what factor their variance exceeds Poisson's."""
    n, pairs = len(partners), int(partners.sum()) // 2
    if pairs == 0 or n < 3:
        return pairs, 1.0
    kappa = pairs / _possible(n)
    # A sample with two partners is a wedge, and there are n·C(n−1, 2) of them to be had.
    tau = float((partners * (partners - 1) / 2).sum()) / (n * (n - 1) * (n - 2) / 2)
    return pairs, max(1.0, 1 - kappa + n * (n - 1) * (n - 2) * (tau - kappa**2) / pairs)


def _possible(n: int) -> float:
    return n * (n - 1) / 2


def _size(pairs: int, inflation: float, n: int) -> Estimate:
    method = "pairs that coincide (birthday paradox); Poisson interval, widened by samples with several partners"
    effective = pairs / inflation
    high = float(gammaincinv(effective + 1, 1 - _TAIL)) * inflation
    least = _possible(n) / high
    if pairs == 0:
        note = f"no two of {n} samples coincide: the support is at least {least:.3g}"
        return Estimate(math.inf, 0.0, level=0.95, method=method, n=n, bounds=(least, math.inf), note=note)
    low = float(gammaincinv(effective, _TAIL)) * inflation
    value, most = _possible(n) / pairs, _possible(n) / low
    return Estimate(value, max(value - least, most - value), level=0.95, method=method, n=n, bounds=(least, most))
