r"""The interval of a squared distance θ = |δ|² that is estimated without bias: FID, KID and MMD² are of this kind.

All three are squared lengths in some space, where instead of δ one sees δ + ε with a nearly normal ε of covariance Σ.
The estimate |δ + ε|² − tr Σ has mean θ, variance 4δᵀΣδ + 2 tr Σ² and third cumulant 24 δᵀΣ²δ + 8 tr Σ³. So its error
depends on the θ that is asked for: small near 0, where it is skewed like a χ², and growing like √θ beyond. An interval
value ± error misses this twice: where the estimate happens to be small, so is its apparent error. The interval here
holds those θ that the estimate does not contradict, as Wilson's does for a share:

    value − θ ≤ V(θ)^½ · (z + γ(θ)(z² − 1)/6)   and   θ − value ≤ V(θ)^½ · t,

with V(θ) = τ² + aθ, where τ² = 2 tr Σ². With F = 4|Σ^½(δ + ε)|², the first-order variance at the estimate, a = F/|δ +
ε|² is four times a mean of Σ's eigenvalues, and steady where F itself is not. Where |δ + ε|² < τ, it goes over to the
ratio of both means at θ = 0, 2τ²/tr Σ. If Σ has a long spectrum, as those of kernels have, that mean is not the
eigenvalue along δ: there a is at least (F − 2τ²)/θ, since 2τ² is what ε adds to F on average. The skewness γ is that of
Cornish and Fisher, the third cumulants those of the scaled χ² with the same tr Σ and tr Σ². It would shorten the upper
arm; that is not done, for F itself is then small by chance.

**Few samples, heavy tails.** The influences of the samples, whose variance is F, tell how well F is known and how
skewed the error is. The upper arm has the quantile t of Student's law with Satterthwaite's degrees of freedom,
2F²/Var F (no fewer than 8: below, that number is noise), and is longer by √F·γ₁(2z² + 1)/6 where the skewness γ₁ of
their sum is positive (Johnson, Hall): a set without its rare large values has a small distance and a small F at once.
Of these two the lower arm has no need.

**Near equality.** θ cannot be missed from below where it is 0, so z goes from a one-sided quantile of 4 % at θ = 0 to
the two-sided one of 2.5 % at θ = τ. If few even directions make up Σ it takes longer: |δ + ε|² is never negative, so
the upper arm cannot fail before θ is several τ. With ε isotropic in k = 2(tr Σ)²/τ² directions its failures are those
of a noncentral χ²; what they leave of 5 %, the lower arm may take, up to 4 %. θ = 0 is contradicted only if value >
z√F/2 as well: at θ = 0 this is the same to first approximation, but F sees heavy tails that τ² does not. Where 0 is not
contradicted, the lower end is the (negative) point that the value's own spread reaches.

References:
    Probable inference, the law of succession, and statistical inference (Wilson, 1927),
    https://doi.org/10.1080/01621459.1927.10502953. The percentile points of distributions having known cumulants
    (Fisher, Cornish, 1960), https://doi.org/10.1080/00401706.1960.10489895. Modified t tests and confidence intervals
    for asymmetrical populations (Johnson, 1978), https://doi.org/10.1080/01621459.1978.10480051. An approximate
    distribution of estimates of variance components (Satterthwaite, 1946), https://doi.org/10.2307/3002019.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from scipy.special import chndtr, ndtr, ndtri, stdtrit

from divergences.two_sample import Z95

__all__ = ["LEAST_Z", "Spread", "square_interval"]

# Skewness of χ² with one degree of freedom: no sum of squares is more skewed.
_SKEWEST = math.sqrt(8.0)
_STEPS = 80
# Chance to contradict θ = 0 where it is true; from θ = τ on (later with few directions) both misses have 2.5 %.
_ONE_SIDED = 0.04
LEAST_Z = float(ndtri(1 - _ONE_SIDED))
# In more directions the upper arm fails as a normal law's from θ = τ on.
_FEW_DIRECTIONS = 200.0
_UPPER = float(ndtr(Z95))
# Degrees of freedom below this are noise of a sample's fourth moment, and would only make the interval erratic.
_FREEDOM = 8.0


class Spread(NamedTuple):
    """What is known of the error of an estimated square.

    Attributes:
        first: the first-order variance F by the delta method, with the noise 2τ² in it.
        second: variance τ² where the laws agree.
        bias: tr Σ, what was subtracted from the plain number.
        skew: skewness of the first-order error, from the samples' influences; 0 where these are not known.
        freedom: degrees of freedom of F; infinite where it is not known how well F is.
        spectrum: of Σ: "even" (like that of a covariance), "long" (like that of a kernel), or "" if unknown.
    """

    first: float
    second: float
    bias: float
    skew: float = 0.0
    freedom: float = math.inf
    spectrum: str = ""

    @classmethod
    def of_influences(cls, sides: Sequence[Any], second: float, bias: float) -> Spread:
        """From the influences of the samples of each independent set: F = Σ var ψ/n, its skewness and its freedom."""
        first = third = doubt = 0.0
        for psi in sides:
            n, centered = len(psi), psi - psi.mean()
            squares = centered**2
            variance = float(squares.sum()) / (n - 1)
            first += variance / n
            third += float(squares @ centered) / n**3
            doubt += max(float(squares @ squares) / n - variance**2, 0.0) / n**3
        if first <= 0:
            return cls(first, second, bias)
        return cls(first, second, bias, third / first**1.5, 2 * first**2 / doubt if doubt > 0 else math.inf)


def square_interval(value: float, spread: Spread) -> tuple[float, float]:
    """Lower and upper end of the 95 % interval for θ; the lower one is below 0 where 0 is not contradicted.

    >>> low, high = square_interval(4.0, Spread(first=0.16, second=0.0008, bias=0.02))
    >>> round(low, 2), round(high, 2)
    (3.26, 4.86)
    """
    first, second, bias, lopsided, freedom, spectrum = spread
    tau = math.sqrt(second)
    plain = max(value + bias, 0.0)
    if max(plain, tau) <= 0 or max(first, second) <= 0:
        return value, value
    slope = first / max(plain, tau)
    if plain < tau and bias > 0:
        slope += (1 - plain / tau) * 2 * second / bias
    if spectrum == "long":
        slope = max(slope, (first - 2 * second) / max(value, tau))
    third_at_zero = 2 * second**2 / bias if bias > 0 else 0.0

    def lower_arm(theta: float) -> float:
        sigma = math.sqrt(second + slope * theta)
        if sigma <= 0:
            return 0.0
        z = LEAST_Z + (Z95 - LEAST_Z) * (min(theta / tau, 1.0) if tau > 0 else 1.0)
        if spectrum == "even":
            z = min(z, _z_left_over(theta, second, bias))
        skew = min((third_at_zero + 1.5 * slope**2 * theta) / sigma**3, _SKEWEST)
        return sigma * (z + skew * (z**2 - 1) / 6)

    low = value - max(lower_arm(0.0), LEAST_Z * math.sqrt(first) / 2)
    if low > 0:
        low = _root(lambda theta: theta + lower_arm(theta) - value, value)
    t = float(stdtrit(min(max(freedom, _FREEDOM), 1e9), _UPPER))
    # θ − value = t √(τ² + aθ) is a quadratic equation; it has no solution if the value is too far below 0.
    half = t**2 * slope / 2
    high = value + half + math.sqrt(max(half**2 + t**2 * (second + slope * value), 0.0))
    high += math.sqrt(first) * max(lopsided, 0.0) * (2 * Z95**2 + 1) / 6
    return low, max(high, 0.0)


def _z_left_over(theta: float, second: float, bias: float) -> float:
    """The quantile of the lower arm if it may miss as often as the upper one leaves it."""
    directions = 2 * bias**2 / second if second > 0 else math.inf
    if not 0 < directions < _FEW_DIRECTIONS:
        return Z95
    unit = bias / directions  # the variance in each of them
    edge = theta + bias - Z95 * math.sqrt(second + 4 * unit * theta)
    missed = float(chndtr(edge / unit, directions, theta / unit)) if edge > 0 else 0.0
    return float(ndtri(1 - min(max(0.05 - missed, 1 - _UPPER), _ONE_SIDED)))


def _root(rising: Callable[[float], float], high: float) -> float:
    """Where a function that is positive at ``high`` turns positive, between 0 and there."""
    low = 0.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return high
