r"""How much a score of two samples would change if both were drawn again: from parts that share no point.

Precision, recall, density, coverage and their kin are not means of independent terms: all of them look at the same
reference points, and neighbours look at each other. A bootstrap repeats points, which makes radii zero; a jackknife
counts every interaction as often as it has partners (by the inequality of Efron and Stein its variance is at least the
true one; for these scores it is 1.3 to 9 times as large). What is left is the definition of a variance: cut *both*
samples into B parts at random. The scores f₁, ..., f_B of the parts are independent, so that their sample variance V is
unbiased for parts of that size; new cuts are averaged until there are enough degrees of freedom. From parts to the
whole,

    Var f ≈ (V / B) · max(1, v / v_part),

where v is the variance of what the score averages (p(1−p) for a share p). V/B alone is the law for a sum of local
terms; v/v_part says that the *design effect* B·Var f/(v/m) stays what it is; the larger of the two is taken. Given the
reference, generated samples are independent, so that the effect is at least 1 where the score is a mean over them.

A share has Clopper and Pearson's interval for that many *independent* trials as would have this variance (Korn and
Graubard), so that it is honest near 0 and 1, with degrees of freedom that fall as the design effect grows: few balls
that hold many points make a variance that is badly known. (In one and two dimensions balls of outliers can be that
large: of samples that reach much of the data by outliers only, recall has a design effect that grows with n, about as
√n, and parts see less of it than there is; in such a case 91 % were covered, with 200 points.) Everything else has
value ± t·SE, on a logarithmic scale where it is a mean of counts. What it covers is the **expected score at these
sample sizes**, over new draws of both samples: not the limit for infinite samples, which for these scores is another
number.

References:
    The jackknife estimate of variance (Efron, Stein, 1981), https://doi.org/10.1214/aos/1176345462. Confidence
    intervals for proportions with small expected number of positive counts estimated from survey data (Korn, Graubard,
    1998), https://www150.statcan.gc.ca/n1/pub/12-001-x/1998002/article/4356-eng.pdf.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.special import betaincinv, stdtrit

from divergences import Estimate
from evaluation.tiles import Cloud

__all__ = ["LEVEL", "Score", "Spread", "mean_estimate", "share_estimate", "spread"]

LEVEL = 0.95
# Points of the larger sample in a part, where there are enough: parts cost next to nothing then.
_PART = 500
# Degrees of freedom of a variance; and parts that are scored for it.
_FREEDOM = 24
# Points of the smaller sample in a part, in units of k + 1.
_FEWEST = 3
# Where samples are too small to be cut, or all parts score alike: seen in simulations, 1 to 4.
_EFFECT = 4.0
# Below this share of (a sum of independent terms) no variance is believed, whatever the parts say.
_FLOOR = 0.5

# From float64 points (generated, reference): the scores, and the variances of what they average (1 where unknown).
Score = Callable[[np.ndarray, np.ndarray], tuple[Float64[np.ndarray, " s"], Float64[np.ndarray, " s"]]]


@dataclass(frozen=True)
class Spread:
    """Of several scores, over parts.

    Attributes:
        variance: of each score of a part; None where the samples could not be cut.
        unit: the variance of what each score averages, mean over parts; None likewise.
        parts: how many parts make up the whole.
        freedom: degrees of freedom of the variances.
    """

    variance: Float64[np.ndarray, " s"] | None
    unit: Float64[np.ndarray, " s"] | None
    parts: int
    freedom: int


def spread(score: Score, generated: Cloud, reference: Cloud, *, k: int) -> Spread:
    """Score random parts of two samples.

    The cuts are the same each time: the same samples have the same error.

    Args:
        score: from points (m, d) and (n, d) to the scores and the variances of what they average.
        generated: first sample.
        reference: second sample.
        k: neighbours that the score looks at: parts have at least 3(k + 1) points of each sample.
    """
    small, large = sorted((len(generated), len(reference)))
    parts = min(max(2, math.ceil(large / _PART)), small // (_FEWEST * (k + 1)))
    if parts < 2:
        return Spread(None, None, 1, 0)
    rng = np.random.default_rng(20_190_409)
    used = min(parts, _FREEDOM + 1)
    cuts = math.ceil(_FREEDOM / (used - 1))
    variances, units = [], []
    for _ in range(cuts):
        left, right = rng.permutation(len(generated)), rng.permutation(len(reference))
        rows = [
            score(generated.rows(np.sort(left[i::parts])), reference.rows(np.sort(right[i::parts])))
            for i in range(used)
        ]
        variances.append(np.var([values for values, _ in rows], axis=0, ddof=1))
        units.append(np.mean([unit for _, unit in rows], axis=0))
    return Spread(np.mean(variances, axis=0), np.mean(units, axis=0), parts, cuts * (used - 1))


def share_estimate(hits: int, n: int, found: Spread, which: int, *, iid: bool, note: str = "") -> Estimate:
    """A share with the interval of as many independent trials as would vary as much.

    Args:
        hits: successes.
        n: trials, not independent.
        found: the spread of this share among others.
        which: its place there.
        iid: whether the trials are independent given one of the samples, so that the design effect is at least 1.
        note: for the Estimate.
    """
    share = hits / n
    unit = share * (1 - share)
    least = 1.0 if iid else _FLOOR
    if found.variance is None or found.unit is None or found.unit[which] <= 0 or found.variance[which] <= 0:
        effect, freedom = _EFFECT, _FREEDOM
    elif unit > 0:
        variance = found.variance[which] / found.parts * max(1.0, unit / found.unit[which])
        effect, freedom = max(least, n * variance / unit), found.freedom
    else:
        effect, freedom = max(least, n * found.variance[which] / found.parts / found.unit[which]), found.freedom
    # Points that hang together in bunches tell less about their variance; near 0 and 1 the interval is wide as it is.
    known = freedom / (1 + max(effect - 1, 0.0) * 4 * unit)
    trials = n / effect * (_quantile(math.inf) / _quantile(known)) ** 2
    tail, x = (1 - LEVEL) / 2, share * trials
    low = 0.0 if hits == 0 else float(betaincinv(x, trials - x + 1, tail))
    high = 1.0 if hits == n else float(betaincinv(x + 1, trials - x, 1 - tail))
    return Estimate(
        share, max(share - low, high - share), LEVEL,
        f"share with a design effect of {effect:.2g} from {found.parts} disjoint parts (Korn-Graubard)",
        n=n, bounds=(low, high), note=note,
    )  # fmt: skip


def mean_estimate(
    value: float, n: int, found: Spread, which: int, *, unit: float | None = None, note: str = ""
) -> Estimate:
    """A score with value ± t·SE, or, for a mean of counts, with value · exp(± t·SE/value): they are skewed.

    Args:
        value: the score of the whole.
        n: terms it averages.
        found: the spread of this score among others.
        which: its place there.
        unit: variance of the counts it averages, which are independent given one of the samples; None for no counts.
        note: for the Estimate.
    """
    if found.variance is None or found.unit is None:
        variance, freedom = _EFFECT * (unit if unit is not None else value * value) / n, _FREEDOM
    else:
        variance, freedom = found.variance[which] / found.parts, found.freedom
        if unit is not None:
            ratio = unit / found.unit[which] if found.unit[which] > 0 else 1.0
            variance = max(variance * max(1.0, ratio), unit / n)
    error = _quantile(freedom) * math.sqrt(variance)
    method = f"t interval from {found.parts} disjoint parts"
    if unit is None:
        return Estimate(value, error, LEVEL, method, n=n, note=note)
    if value > 0:
        low, high = value * math.exp(-error / value), value * math.exp(error / value)
    else:
        # No count above 0: whatever has one is rarer than this.
        low, high = 0.0, max(error, float(betaincinv(1, n / _EFFECT, (1 + LEVEL) / 2)))
    return Estimate(value, max(value - low, high - value), LEVEL, method, n=n, bounds=(low, high), note=note)


def _quantile(freedom: float | int) -> float:
    """Of Student's t, two-sided."""
    return float(stdtrit(min(freedom, 1e9), (1 + LEVEL) / 2))
