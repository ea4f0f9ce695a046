r"""The interval of a squared distance θ = |δ|² that is estimated without bias: FID, KID and MMD² are of this kind.

All three are squared lengths in some space, where instead of δ one sees δ + ε with a nearly normal ε of covariance Σ.
The estimate |δ + ε|² − tr Σ has mean θ, variance 4δᵀΣδ + 2 tr Σ² and third cumulant 24 δᵀΣ²δ + 8 tr Σ³. So its error
depends on the θ that is asked for: small near 0, where it is skewed like a χ², and growing like √θ beyond. An interval
value ± error misses this twice: where the estimate happens to be small, so is its apparent error. The interval here
holds those θ that the estimate does not contradict, as Wilson's does for a share:

    value − θ ≤ V(θ)^½ · (z + γ(θ)(z² − 1)/6)   and   θ − value ≤ V(θ)^½ · z,

with V(θ) = τ² + aθ, where τ² = 2 tr Σ², and a makes V agree with the first-order variance F = 4|Σ^½(δ + ε)|² at the
estimate, of which 2τ² is noise on average; but a is never below F/|δ + ε|², which is an eigenvalue-like ratio and
steady where the estimate is not. The skewness γ is that of Cornish and Fisher, the third cumulants those of the scaled
χ² with the same tr Σ and tr Σ². It would shorten the upper arm; that is not done, for F itself is then small by chance,
and simulations (one dimension, 15 samples) put the coverage below 90 % with it and at 95 to 97 % without.

θ = 0 is contradicted only if value > z√F/2 as well: at θ = 0 this is the same to first approximation, but F sees heavy
tails that τ² does not. Where 0 is not contradicted, the lower end is the (negative) point that the value's own spread
reaches.

References:
    Probable inference, the law of succession, and statistical inference (Wilson, 1927),
    https://doi.org/10.1080/01621459.1927.10502953. The percentile points of distributions having known cumulants
    (Fisher, Cornish, 1960), https://doi.org/10.1080/00401706.1960.10489895.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from divergences.two_sample import Z95

__all__ = ["Spread", "square_interval"]

# Skewness of χ² with one degree of freedom: no sum of squares is more skewed.
_SKEWEST = math.sqrt(8.0)
_STEPS = 80


class Spread(NamedTuple):
    """What is known of the error of an estimated square.

    Attributes:
        first: the first-order variance F by the delta method, with the noise 2τ² in it.
        second: variance τ² where the laws agree.
        bias: tr Σ, what was subtracted from the plain number.
    """

    first: float
    second: float
    bias: float

    @property
    def variance(self) -> float:
        """At the estimate: half of the noise in the first order is kept for what the expansion leaves out."""
        return max(self.first - self.second / 2, self.second)


def square_interval(value: float, spread: Spread) -> tuple[float, float]:
    """Lower and upper end of the 95 % interval for θ; the lower one is below 0 where 0 is not contradicted.

    >>> low, high = square_interval(4.0, Spread(first=0.16, second=0.0008, bias=0.02))
    >>> round(low, 2), round(high, 2)
    (3.26, 4.86)
    """
    first, second, bias = spread
    tau = math.sqrt(second)
    plain = max(value + bias, tau)
    if plain <= 0 or max(first, second) <= 0:
        return value, value
    slope = first / plain
    if max(value, tau) > 0:
        slope = max(slope, (spread.variance - second) / max(value, tau))
    third_at_zero = 2 * second**2 / bias if bias > 0 else 0.0

    def sigma(theta: float) -> float:
        return math.sqrt(second + slope * theta)

    def skewed_arm(theta: float) -> float:
        if sigma(theta) <= 0:
            return 0.0
        skew = min((third_at_zero + 1.5 * slope**2 * theta) / sigma(theta) ** 3, _SKEWEST)
        return sigma(theta) * (Z95 + skew * (Z95**2 - 1) / 6)

    low = value - max(skewed_arm(0.0), Z95 * math.sqrt(first) / 2)
    if low > 0:
        low = _root(lambda theta: theta + skewed_arm(theta) - value, value)
    # θ − value = z √(τ² + aθ) is a quadratic equation; it has no solution if the value is too far below 0.
    half = Z95**2 * slope / 2
    high = value + half + math.sqrt(max(half**2 + Z95**2 * (second + slope * value), 0.0))
    return low, max(high, 0.0)


def _root(rising: Callable[[float], float], high: float) -> float:
    """Where a function that is positive at ``high`` turns positive, between 0 and there."""
    low = 0.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return high
