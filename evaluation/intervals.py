r"""Counting with an error: exact binomial intervals and tests, and Holm's correction for many of them.

A share k/n of independent trials has the Clopper–Pearson interval, whose ends solve P(X ≥ k | low) = γ/2 and
P(X ≤ k | high) = γ/2. It covers the truth with probability *at least* 1 − γ for every n and every share, 0 and 1
included. Wilson's interval, (k + z²/2)/(n + z²) ± ..., is shorter and covers 1 − γ on average, not for every share.

Tests are exact as well: one tail, or the probability of all outcomes no likelier than the one seen. m of them at once
share one error rate by Holm's step-down rule: sorted p₍₁₎ ≤ ... ≤ p₍ₘ₎, adjusted p̃₍ᵢ₎ = max_{j≤i} min(1, (m−j+1)
p₍ⱼ₎); whatever depends on whatever, the chance of one false rejection among {p̃ < α} is at most α. Lists of suspects
want less: that of those named at most the share α is false on average, the false-discovery rate, which Benjamini and
Hochberg's step-up rule keeps.

References:
    The use of confidence or fiducial limits illustrated in the case of the binomial (Clopper, Pearson, 1934),
    https://doi.org/10.1093/biomet/26.4.404. Probable inference, the law of succession, and statistical inference
    (Wilson, 1927), https://doi.org/10.1080/01621459.1927.10502953. A simple sequentially rejective multiple test
    procedure (Holm, 1979), https://www.jstor.org/stable/4615733. Controlling the false discovery rate: a practical and
    powerful approach to multiple testing (Benjamini, Hochberg, 1995), https://www.jstor.org/stable/2346101.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import bdtr, bdtrc, betaincinv, gammaln, ndtri, xlog1py, xlogy

from divergences import Estimate, InputError
from divergences.checks import ArrayLike, as_array, as_count, as_number, one_of

__all__ = [
    "benjamini_hochberg",
    "binomial_test",
    "clopper_pearson",
    "clopper_pearson_bounds",
    "holm",
    "hypergeometric_tail",
    "wilson",
]

# Two outcomes whose probabilities differ by less than rounding are equally likely.
_RELATIVE_SLACK = 1e-7


def clopper_pearson_bounds(
    hits: ArrayLike, n: int, *, level: float = 0.95
) -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
    """Ends of the exact intervals of many shares hits/n at once.

    Args:
        hits: whole numbers between 0 and n, shape (k,).
        n: trials.
        level: confidence level.

    Returns:
        (low, high), each of shape (k,).

    Raises:
        InputError: n < 1, hits outside 0..n, or a level outside (0, 1).
    """
    count = as_count(n, "n")
    successes = _as_hits(hits, count).astype(np.float64)
    tail = (1 - as_number(level, "level", above=0.0, below=1.0)) / 2
    # The beta quantiles need both parameters positive; the two ends left out are 0 and 1 themselves.
    low = np.where(successes == 0, 0.0, betaincinv(np.maximum(successes, 1), count - successes + 1, tail))
    high = np.where(successes == count, 1.0, betaincinv(successes + 1, np.maximum(count - successes, 1), 1 - tail))
    return low, high


def clopper_pearson(hits: int, n: int, *, level: float = 0.95) -> Estimate:
    """The share hits/n with its exact interval (conservative: it covers with probability ≥ level, always).

    Args:
        hits: successes, 0 ≤ hits ≤ n.
        n: trials, ≥ 1.
        level: confidence level.

    Returns:
        The share; ``bounds`` are the ends of the interval, ``error`` the longer of the two arms.

    Raises:
        InputError: n < 1 or hits outside 0..n.

    >>> print(clopper_pearson(0, 32))
    0 [0, 0.108881] (95 %)
    """
    low, high = clopper_pearson_bounds([as_count(hits, "hits", minimum=0)], n, level=level)
    return _share(hits / n, float(low[0]), float(high[0]), n, level, "exact binomial interval (Clopper-Pearson)")


def wilson(hits: int, n: int, *, level: float = 0.95) -> Estimate:
    """The share hits/n with Wilson's interval: shorter than the exact one, right on average over shares.

    Args:
        hits: successes, 0 ≤ hits ≤ n.
        n: trials, ≥ 1.
        level: confidence level.

    Raises:
        InputError: n < 1 or hits outside 0..n.

    >>> print(wilson(8, 10))
    0.8 [0.490162, 0.943318] (95 %)
    """
    count = as_count(n, "n")
    share = int(_as_hits([as_count(hits, "hits", minimum=0)], count)[0]) / count
    z = float(ndtri((1 + as_number(level, "level", above=0.0, below=1.0)) / 2))
    center = (share + z * z / (2 * count)) / (1 + z * z / count)
    arm = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    low = 0.0 if hits == 0 else float(center - arm)
    high = 1.0 if hits == count else float(center + arm)
    return _share(share, low, high, count, level, "binomial interval (Wilson)")


def binomial_test(
    hits: ArrayLike, n: int, probability: ArrayLike, *, side: str = "two-sided"
) -> Float64[np.ndarray, " k"]:
    """Exact p-values of many binomial tests at once: is ``hits`` of n trials compatible with ``probability``?

    Args:
        hits: successes, shape (k,).
        n: trials.
        probability: of a success under the hypothesis, a number or shape (k,).
        side: "less" is P(X ≤ hits), "greater" is P(X ≥ hits), "two-sided" the probability of every outcome that is no
            likelier than the one seen.

    Returns:
        p-values, shape (k,).

    Raises:
        InputError: hits outside 0..n, probabilities outside [0, 1], or an unknown side.

    >>> binomial_test([2, 5], 10, 0.5).round(6)
    array([0.109375, 1.      ])
    """
    # Nothing was drawn: nothing was learned.
    count = as_count(n, "n", minimum=0)
    successes = _as_hits(hits, count)
    rate = np.broadcast_to(as_array(probability, "probability"), successes.shape)
    if not ((rate >= 0) & (rate <= 1)).all():
        raise InputError("probability must lie between 0 and 1.")
    one_of(side, "side", ("two-sided", "less", "greater"))
    if side == "less":
        return _at_most(successes, count, rate)
    if side == "greater":
        return _at_least(successes, count, rate)
    return _two_sided(successes, count, rate)


def benjamini_hochberg(p_values: ArrayLike) -> Float64[np.ndarray, " m"]:
    """Adjusted p-values ("q-values"): of those below α, at most the share α is false on average.

    Holds for independent p-values and for those positively dependent in the sense of Benjamini and Yekutieli.

    Args:
        p_values: shape (m,), each between 0 and 1.

    Returns:
        q₍ᵢ₎ = min_{j≥i} min(1, m p₍ⱼ₎/j), in the order given.

    Raises:
        InputError: values outside [0, 1] or NaN.

    >>> benjamini_hochberg([0.01, 0.04, 0.03, 0.5]).round(4)
    array([0.04  , 0.0533, 0.0533, 0.5   ])
    """
    raw = np.atleast_1d(as_array(p_values, "p_values"))
    if raw.ndim != 1 or not ((raw >= 0) & (raw <= 1)).all():
        raise InputError("p_values must be a list of numbers between 0 and 1.")
    order = np.argsort(raw, kind="stable")[::-1]
    steps = raw[order] * raw.size / np.arange(raw.size, 0, -1)
    adjusted = np.empty(raw.size)
    adjusted[order] = np.minimum(np.minimum.accumulate(steps), 1.0) if raw.size else steps
    return adjusted


def holm(p_values: ArrayLike) -> Float64[np.ndarray, " m"]:
    """Holm-adjusted p-values: rejecting those below α makes a single false rejection with probability at most α.

    Args:
        p_values: shape (m,), each between 0 and 1.

    Returns:
        Adjusted p-values in the same order.

    Raises:
        InputError: values outside [0, 1] or NaN.

    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    raw = np.atleast_1d(as_array(p_values, "p_values"))
    if raw.ndim != 1 or not ((raw >= 0) & (raw <= 1)).all():
        raise InputError("p_values must be a list of numbers between 0 and 1.")
    order = np.argsort(raw, kind="stable")
    steps = raw[order] * np.arange(raw.size, 0, -1)
    adjusted = np.empty(raw.size)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if raw.size else steps
    return adjusted


def hypergeometric_tail(here: int, total: int, n: int, m: int) -> float:
    """P(at least ``here`` of ``total`` marked objects are among n of n + m): Fisher's exact test, one-sided.

    >>> round(hypergeometric_tail(3, 3, 5, 5), 6)
    0.083333
    """
    if here == 0:
        return 1.0
    x = np.arange(here, min(total, n) + 1, dtype=np.float64)
    log_mass = log_choose(n, x) + log_choose(m, total - x) - log_choose(n + m, total)
    return min(1.0, float(np.exp(log_mass).sum()))


def log_choose(n: Any, k: Any) -> Any:
    """Logarithm of the binomial coefficient, for numbers or arrays."""
    return gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)


def _share(value: float, low: float, high: float, n: int, level: float, method: str) -> Estimate:
    arm = max(value - low, high - value)
    return Estimate(value, arm, level=level, method=method, n=n, bounds=(low, high))


def _as_hits(hits: Any, n: int) -> Int64[np.ndarray, " k"]:
    values = np.atleast_1d(as_array(hits, "hits"))
    if values.ndim != 1 or not ((values >= 0) & (values <= n) & (values == np.floor(values))).all():
        raise InputError(f"hits must be whole numbers between 0 and n = {n}.")
    return values.astype(np.int64)


def _at_most(hits: np.ndarray, n: int, rate: np.ndarray) -> Float64[np.ndarray, " k"]:
    # bdtr is P(X ≤ k); a negative k, which the two-sided search can ask for, has no mass.
    return np.where(hits < 0, 0.0, bdtr(np.maximum(hits, 0).astype(np.float64), n, rate))


def _at_least(hits: np.ndarray, n: int, rate: np.ndarray) -> Float64[np.ndarray, " k"]:
    inside = np.clip(hits - 1, 0, n).astype(np.float64)
    return np.where(hits <= 0, 1.0, np.where(hits > n, 0.0, bdtrc(inside, n, rate)))


def _log_mass(hits: np.ndarray, n: int, rate: np.ndarray) -> Float64[np.ndarray, " k"]:
    choose = gammaln(n + 1) - gammaln(hits + 1) - gammaln(n - hits + 1)
    return choose + xlogy(hits, rate) + xlog1py(n - hits, -rate)


def _two_sided(hits: np.ndarray, n: int, rate: np.ndarray) -> Float64[np.ndarray, " k"]:
    mode = np.clip(np.floor((n + 1) * rate), 0, n).astype(np.int64)
    limit = _log_mass(hits, n, rate) + _RELATIVE_SLACK
    left = hits <= mode
    # On the far side of the mode the mass only falls: bisect for the first outcome there that is no likelier.
    near = np.where(left, mode, 0)
    far = np.where(left, n + 1, mode)
    while (far - near > 1).any():
        middle = (near + far) // 2
        likelier = _log_mass(np.clip(middle, 0, n), n, rate) > limit
        # Right tail: first index not likelier is `far`. Left tail: last index not likelier is `near`.
        move_near = np.where(left, likelier, ~likelier) & (far - near > 1)
        move_far = ~move_near & (far - near > 1)
        near, far = np.where(move_near, middle, near), np.where(move_far, middle, far)
    # The left search starts at 0 without having tested it.
    zero_out = ~left & (near == 0) & (_log_mass(np.zeros_like(hits), n, rate) > limit)
    lower = np.where(left, hits, np.where(zero_out, -1, near))
    upper = np.where(left, far, hits)
    at_mode = _log_mass(mode, n, rate) <= limit
    return np.where(at_mode, 1.0, np.minimum(_at_most(lower, n, rate) + _at_least(upper, n, rate), 1.0))
