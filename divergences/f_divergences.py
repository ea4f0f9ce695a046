r"""KL and Jensen-Shannon divergence (and their relatives) of laws with densities, or of point masses.

Let d(x) = log p(x) − log q(x) and m = (p + q)/2. Every f-divergence is *one* integral over m of a function of d alone:

$$ \mathrm{KL}(p\|q) = E_m\big[2\sigma(d)\,(d - 1 + e^{-d})\big],\qquad
   \mathrm{JSD}(p,q) = E_m\big[\log 2 - H(\sigma(d))\big], $$

with σ the logistic function and H the entropy of a coin. The textbook form E_p[d] of KL differs from the one above by
∫(q − p) = 0; the point of the latter is that its integrand is never negative and is quadratic in small d, so nothing
cancels when p ≈ q: KL of N(0, 1) and N(10⁻⁴, 1) is 5·10⁻⁹ to many digits, not 0.

Infinite values are answers: KL is ∞ where p has mass and q has none, and for tails too heavy for q.

References: *On Information and Sufficiency* (Kullback, Leibler, 1951), https://doi.org/10.1214/aoms/1177729694;
*Divergence Measures Based on the Shannon Entropy* (Lin, 1991), https://doi.org/10.1109/18.61115.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.special import expit, log_expit

from divergences.adapters import as_distribution
from divergences.distributions import Discrete, Distribution
from divergences.errors import InputError
from divergences.estimate import Estimate
from divergences.expectation import Expect, Quadrature

__all__ = ["hellinger", "jsd", "kl", "total_variation"]

LOG2 = float(np.log(2.0))
LOG4 = float(np.log(4.0))
_SMALL = 0.5
_QUADRATURE = Quadrature()


def kl(p: Any, q: Any, *, expect: Expect = _QUADRATURE) -> Estimate:
    r"""Kullback-Leibler divergence KL(p‖q) = E_p[log p/q], in nats.

    Args:
        p: target, anything ``as_distribution`` takes; for the reverse divergence swap the arguments.
        q: model.
        expect: ``Quadrature()`` (one and two dimensions) or ``MonteCarlo(rng)``.

    Returns:
        The value with its error; ``inf`` with error 0 where q lacks mass that p has.

    Raises:
        InputError: different dimensions. NoDensity: a sampler. UnderResolved: an integral that failed its checks.

    >>> from divergences import Gaussian
    >>> print(kl(Gaussian(0.0, 1.0), Gaussian(1.0, 4.0)))
    0.443147 ± ...
    """
    p, q = pair_of(p, q)
    if _singular(p, q):
        return Estimate(np.inf, 0.0, method="support", note="one law has a density, the other point masses")
    if not _covers(p, q):
        return Estimate(np.inf, 0.0, method="support", note="p has mass outside the support of q")
    estimate = _over_mixture(_kl_integrand, p, q, expect)
    if np.isinf(estimate.value):
        return replace(estimate, note="q has no mass, or too light a tail, where p has mass")
    return estimate


def jsd(p: Any, q: Any, *, expect: Expect = _QUADRATURE) -> Estimate:
    r"""Jensen-Shannon divergence ½KL(p‖m) + ½KL(q‖m), m = (p+q)/2, in nats: between 0 and log 2.

    This is the divergence itself, not its square root (which is the distance that ``scipy`` calls ``jensenshannon``).

    >>> from divergences import Uniform
    >>> print(jsd(Uniform(0.0, 1.0), Uniform(0.5, 1.5)))  # ½ log 2
    0.346574 ± ...
    """
    return _bounded(_jsd_integrand, p, q, expect, LOG2)


def total_variation(p: Any, q: Any, *, expect: Expect = _QUADRATURE) -> Estimate:
    r"""Total variation ½∫|p − q|: between 0 and 1.

    >>> from divergences import Uniform
    >>> print(total_variation(Uniform(0.0, 1.0), Uniform(0.25, 1.25)))
    0.25 ± ...
    """
    return _bounded(lambda d: np.abs(np.tanh(d / 2)), p, q, expect, 1.0)


def hellinger(p: Any, q: Any, *, expect: Expect = _QUADRATURE) -> Estimate:
    r"""Squared Hellinger distance H² = 1 − ∫√(pq): between 0 and 1.

    >>> from divergences import Gaussian
    >>> print(hellinger(Gaussian(0.0, 1.0), Gaussian(2.0, 1.0)))  # 1 − e^(−½)
    0.393469 ± ...
    """
    return _bounded(_hellinger_integrand, p, q, expect, 1.0)


@dataclass(frozen=True)
class OfLogRatio:
    """x ↦ g(log p(x) − log q(x)), carrying both laws so that an integrator can see their structure."""

    g: Callable[[np.ndarray], np.ndarray]
    p: Distribution
    q: Distribution

    @property
    def laws(self) -> tuple[Distribution, Distribution]:
        return self.p, self.q

    def __call__(self, x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
        return self.g(log_ratio(self.p, self.q, x))


def log_ratio(p: Distribution, q: Distribution, x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
    """Log p − log q; 0 where neither has mass (there the ratio means nothing, and nothing may depend on it)."""
    log_p, log_q = p.log_prob(x), q.log_prob(x)
    with np.errstate(invalid="ignore"):
        return np.where(np.isneginf(log_p) & np.isneginf(log_q), 0.0, log_p - log_q)


def pair_of(p: Any, q: Any) -> tuple[Distribution, Distribution]:
    """Both as distributions of the same space."""
    p, q = as_distribution(p, "p"), as_distribution(q, "q")
    if p.dim != q.dim:
        raise InputError(f"p and q must live in the same space; p has dimension {p.dim}, q has {q.dim}.")
    return p, q


def _over_mixture(g: Callable[[np.ndarray], np.ndarray], p: Distribution, q: Distribution, expect: Expect) -> Estimate:
    integrand = OfLogRatio(g, p, q)
    return expect((0.5, integrand, p), (0.5, integrand, q))


def _bounded(g: Callable[[np.ndarray], np.ndarray], p: Any, q: Any, expect: Expect, top: float) -> Estimate:
    """A divergence between 0 and ``top``, attained by mutually singular laws."""
    p, q = pair_of(p, q)
    if _singular(p, q):
        return Estimate(top, 0.0, method="support", note="one law has a density, the other point masses")
    estimate = _over_mixture(g, p, q, expect)
    # Sampling or rounding may step over the ends of the range by less than the error; the truth cannot.
    return replace(estimate, value=min(max(estimate.value, 0.0), top))


def _kl_integrand(d: np.ndarray) -> np.ndarray:
    """2σ(d)(d − 1 + e^(−d)), written so that it neither overflows at −∞ nor cancels at 0."""
    near = np.clip(d, -_SMALL, _SMALL)
    # d − 1 + e^(−d) = Σ_{k≥2} (−d)^k / k!
    series = np.zeros_like(near)
    for k in range(18, 1, -1):
        series = series * (-near / (k + 1)) + 1.0
    series *= near * near / 2
    with np.errstate(invalid="ignore", over="ignore"):
        far = expit(d) * (d - 1) + expit(-d)
    far = np.where(np.isneginf(d), 1.0, far)
    return 2 * np.where(np.abs(d) < _SMALL, expit(d) * series, far)


def _jsd_integrand(d: np.ndarray) -> np.ndarray:
    """Log 2 − H(σ(d)) = log 2 + σ log σ + (1−σ) log(1−σ), without cancellation at 0."""
    t = np.tanh(d / 2)  # σ = (1 + t)/2
    near = np.clip(t, -_SMALL, _SMALL)
    # ½[(1+t) log(1+t) + (1−t) log(1−t)] = Σ_{k≥1} t^(2k) / (2k(2k−1))
    square = near * near
    series = np.zeros_like(near)
    for k in range(26, 0, -1):
        series = series * square + 1.0 / (2 * k * (2 * k - 1))
    size = np.abs(d)
    with np.errstate(invalid="ignore"):
        far = LOG2 + log_expit(size) - np.where(np.isinf(size), 0.0, expit(-size) * size)
    return np.where(np.abs(t) < _SMALL, series * square, far)


def _hellinger_integrand(d: np.ndarray) -> np.ndarray:
    """1 − 1/cosh(d/2) = 2 sinh²(d/4) / cosh(d/2)."""
    half = np.minimum(np.abs(d) / 2, 700.0)
    return np.where(half < 1, 2 * np.sinh(half / 2) ** 2 / np.cosh(half), 1 - 1 / np.cosh(half))


def _singular(p: Distribution, q: Distribution) -> bool:
    return isinstance(p, Discrete) != isinstance(q, Discrete)


def _covers(p: Distribution, q: Distribution) -> bool:
    """Whether the box of q holds that of p; gaps inside the boxes are found by the integral itself."""
    if isinstance(p, Discrete):
        return bool((q.log_prob(p.atoms) > -np.inf).all())
    return bool((p.support.low >= q.support.low).all() and (p.support.high <= q.support.high).all())
