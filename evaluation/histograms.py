r"""How far a histogram of counts is from the shares it should have: both KL divergences and the JSD, without bias.

X = (X_1, ..., X_K) are the counts of n samples, h = X/n, and q the shares of the target. In nats,

* reverse KL(h‖q) = Σ h_k log(h_k/q_k): the protocol's number; finite when modes are lost;
* forward KL(q‖h) = Σ q_k log(q_k/h_k): **infinite as soon as one bin with q_k > 0 is empty**, and then reported so;
* JSD(h, q) = ½ KL(h‖m) + ½ KL(q‖m), m = (h + q)/2: never above log 2, never infinite.

All three are sums over the bins of a function of one X_k, and X_k is binomial; what a perfect generator scores on
average, the *floor* E Σ_k f(X_k), is therefore a finite sum and computed exactly: about (K−1)/(2n) for the two KLs and
(K−1)/(8n) for the JSD. (That of the forward KL is meant given that no bin is empty, bin by bin, as if the bins were
independent: too low where some expect fewer than about three; without this its mean is infinite for every n.) The floor
is subtracted, the plain number is kept as ``raw``. Where perfection does not mean q, as behind a classifier that errs,
the shares that a perfect generator is *seen* to have are given apart.

The interval takes the larger of the first-order variance (delta method) and the second-order one at h = q, which is
that of a χ²_{K−1} variable times 1/(2n) or 1/(8n), and adds the floor of the empty bins, which may or may not belong to
the truth.

References:
    Bias analysis in entropy estimation (Schürmann, 2004), https://arxiv.org/abs/cond-mat/0403192. Divergence measures
    based on the Shannon entropy (Lin, 1991), https://doi.org/10.1109/18.61115.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import gammaln, xlog1py, xlogy

from divergences import Estimate
from divergences.two_sample import Z95

__all__ = ["HistogramScores", "empty_chance", "expected_total", "histogram_scores"]

_LOG2 = math.log(2.0)


@dataclass(frozen=True)
class HistogramScores:
    """Three distances of a histogram from its target, each without bias and beside its floor.

    Attributes:
        reverse_kl: KL(h‖q) in nats, minus its floor; ``raw`` is the plain number.
        forward_kl: KL(q‖h), minus its floor; infinite, with the reason in ``note``, if a bin is empty.
        jsd: JSD(h, q), minus its floor.
        reverse_floor: what a perfect generator's plain reverse KL is on average.
        forward_floor: the same of the forward KL, given that it is finite.
        jsd_floor: the same of the JSD.
        empty_chance: probability with which a perfect generator leaves at least one bin empty.
    """

    reverse_kl: Estimate
    forward_kl: Estimate
    jsd: Estimate
    reverse_floor: float
    forward_floor: float
    jsd_floor: float
    empty_chance: float


def histogram_scores(
    hits: Int64[np.ndarray, " k"], fair: Float64[np.ndarray, " k"], seen: Float64[np.ndarray, " k"] | None = None
) -> HistogramScores:
    """Score counts against the shares they should have.

    Args:
        hits: counts, shape (K,).
        fair: the target, shape (K,), ≥ 0; brought to sum 1.
        seen: shares with which a perfect generator's counts are drawn, if they are not the target's; shape (K,).

    Returns:
        The three distances; infinite, with a note, if there are no counts at all.
    """
    q = fair / fair.sum()
    law = q if seen is None else seen / seen.sum()
    count = int(hits.sum())
    if count == 0:
        nothing = Estimate(math.inf, 0.0, method="plug-in", n=0, note="no high-quality sample, hence no histogram")
        worst = Estimate(_LOG2, 0.0, method="plug-in", n=0, note=nothing.note)
        return HistogramScores(nothing, nothing, worst, 0.0, 0.0, 0.0, 1.0)
    h = hits / count
    reverse, reverse_floor = _reverse(h, q, law, count)
    forward, forward_floor = _forward(h, q, law, count)
    jsd, jsd_floor = _jsd(h, q, law, count)
    return HistogramScores(
        reverse, forward, jsd, reverse_floor, forward_floor, jsd_floor, empty_chance(count, law[law > 0])
    )


def empty_chance(count: int, q: Float64[np.ndarray, " k"]) -> float:
    """P(at least one of the bins gets nothing): by negative association at most this, and for rare bins equal to it."""
    with np.errstate(divide="ignore"):
        return float(-np.expm1(np.log1p(-np.exp(count * np.log1p(-np.minimum(q, 1.0)))).sum()))


def expected_total(
    count: int,
    law: Float64[np.ndarray, " k"],
    q: Float64[np.ndarray, " k"],
    term: Callable[[np.ndarray, float], np.ndarray],
    *,
    least: int = 0,
) -> float:
    """Σ_k E[term(X_k/n, q_k) | X_k ≥ least], X_k ~ Bin(n, law_k), by sums over twelve standard deviations."""
    total = 0.0
    pairs, times = np.unique(np.column_stack([law, q]), axis=0, return_counts=True)
    for (rate, share), repeats in zip(pairs, times, strict=True):
        if rate <= 0:
            total += int(repeats) * float(term(np.zeros(1), float(share))[0]) if least == 0 else 0.0
            continue
        mean, spread = count * rate, math.sqrt(count * rate * (1 - rate))
        low, high = max(math.floor(mean - 12 * spread - 12), least), min(math.ceil(mean + 12 * spread + 40), count)
        x = np.arange(low, high + 1, dtype=np.float64)
        log_mass = gammaln(count + 1) - gammaln(x + 1) - gammaln(count - x + 1)
        mass = np.exp(log_mass + xlogy(x, rate) + xlog1py(count - x, -rate))
        there = -math.expm1(count * math.log1p(-rate)) if least and rate < 1 else 1.0
        total += int(repeats) * float(mass @ term(x / count, float(share))) / there
    return total


def _reverse(h: np.ndarray, q: np.ndarray, law: np.ndarray, count: int) -> tuple[Estimate, float]:
    floor = expected_total(count, law, q, _reverse_term) if (law[q == 0] == 0).all() else math.inf
    there = h > 0
    with np.errstate(divide="ignore"):
        ratio = np.log(h[there]) - np.log(q[there])
    raw = float(h[there] @ ratio)
    if math.isinf(raw):
        note = "a mode that no sample of the target reaches was hit"
        return Estimate(raw, 0.0, method="plug-in", n=count, raw=raw, note=note), floor
    first = float(h[there] @ (ratio - raw) ** 2) / count
    return _estimate(
        raw, floor, first, (len(h) - 1) / (2 * count**2), float((~there).sum()) / (2 * count), count
    ), floor


def _forward(h: np.ndarray, q: np.ndarray, law: np.ndarray, count: int) -> tuple[Estimate, float]:
    floor = expected_total(count, law, q, _forward_term, least=1)
    wanted = q > 0
    empty = np.flatnonzero(wanted & (h == 0))
    if empty.size:
        names = ", ".join(str(k) for k in empty[:5]) + (" ..." if empty.size > 5 else "")
        note = (
            f"infinite: {empty.size} of {wanted.sum()} modes got no sample (first: {names}); a perfect generator "
            f"leaves one empty with probability {empty_chance(count, law[wanted]):.2g}"
        )
        return Estimate(math.inf, 0.0, method="plug-in", n=count, raw=math.inf, note=note), floor
    h, q = h[wanted], q[wanted]
    raw = float(q @ (np.log(q) - np.log(h)))
    # The derivative by h_k is −q_k/h_k, whose mean under h is −1.
    first = max(float((q * q / h).sum()) - 1.0, 0.0) / count
    return _estimate(raw, floor, first, (len(h) - 1) / (2 * count**2), 0.0, count), floor


def _jsd(h: np.ndarray, q: np.ndarray, law: np.ndarray, count: int) -> tuple[Estimate, float]:
    floor = expected_total(count, law, q, _jsd_term)
    raw = float(sum(_jsd_term(h[k : k + 1], float(q[k]))[0] for k in range(len(h))))
    there = h > 0
    slope = 0.5 * np.log(2 * h[there] / (h[there] + q[there]))
    first = float(h[there] @ (slope - h[there] @ slope) ** 2) / count
    unsure = float((~there).sum()) / (8 * count)
    return _estimate(raw, floor, first, (len(h) - 1) / (32 * count**2), unsure, count), floor


def _estimate(raw: float, floor: float, first: float, second: float, unsure: float, count: int) -> Estimate:
    # The estimated first-order variance already holds the second-order one (twice, as noise, near h = q).
    error = Z95 * math.sqrt(max(first, second)) + unsure
    method = "plug-in over high-quality hits minus the exact noise floor; delta method to second order"
    return Estimate(raw - floor, error, level=0.95, method=method, n=count, raw=raw)


def _reverse_term(h: np.ndarray, q: float) -> Float64[np.ndarray, " x"]:
    return xlogy(h, h) - h * math.log(q) if q > 0 else np.zeros(len(h))


def _forward_term(h: np.ndarray, q: float) -> Float64[np.ndarray, " x"]:
    return q * (math.log(q) - np.log(h)) if q > 0 else np.zeros(len(h))


def _jsd_term(h: np.ndarray, q: float) -> Float64[np.ndarray, " x"]:
    middle = (h + q) / 2
    own = np.divide(h, middle, out=np.ones_like(h), where=middle > 0)
    other = np.divide(q, middle, out=np.ones_like(h), where=middle > 0)
    return 0.5 * (xlogy(h, own) + xlogy(q, other))
