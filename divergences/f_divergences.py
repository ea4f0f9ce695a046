r"""f-divergences of laws with densities, or of point masses: KL, Jensen-Shannon and their relatives.

Let d(x) = log p(x) − log q(x) and m = (p + q)/2. Every f-divergence is *one* integral over m of a function of d alone:

$$ \mathrm{KL}(p\|q) = E_m\big[2\sigma(d)\,(d - 1 + e^{-d})\big],\qquad
   \mathrm{JSD}(p,q) = E_m\big[\log 2 - H(\sigma(d))\big], $$

with σ the logistic function and H the entropy of a coin. The textbook form E_p[d] of KL differs from the one above by
∫(q − p) = 0; the point of the latter is that its integrand is never negative and is quadratic in small d, so nothing
cancels when p ≈ q: KL of N(0, 1) and N(10⁻⁴, 1) is 5·10⁻⁹ to many digits, not 0.

Infinite values are answers: KL is ∞ where p has mass and q has none, and for tails too heavy for q. Two Gaussians have
closed forms, which are used unless another ``expect`` is asked for. Everything is in nats; ``estimate.bits`` converts.

References: *On Information and Sufficiency* (Kullback, Leibler, 1951), https://doi.org/10.1214/aoms/1177729694;
*Divergence Measures Based on the Shannon Entropy* (Lin, 1991), https://doi.org/10.1109/18.61115;
*Rényi Divergence and Kullback-Leibler Divergence* (van Erven, Harremoës, 2014), https://arxiv.org/abs/1206.2459.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float64

from divergences.adapters import as_distribution
from divergences.checks import as_number, one_of
from divergences.closed_forms import gaussian_kl, gaussian_log_affinity
from divergences.distributions import Discrete, Distribution, Gaussian
from divergences.errors import InputError
from divergences.estimate import Estimate
from divergences.expectation import Expect, Quadrature
from divergences.generators import GENERATORS, Generator, power_weighted
from divergences.panel_forms import Form, form_of, power_form

__all__ = [
    "alpha_divergence",
    "chi2",
    "f_divergence",
    "hellinger",
    "js_distance",
    "jsd",
    "kl",
    "renyi",
    "total_variation",
]

LOG2 = float(np.log(2.0))
LOG4 = float(np.log(4.0))
_CLOSED_FORM_EPS = 1e-14
# The default: closed forms where there are any. An explicit Quadrature(), equal or not, always integrates.
_DEFAULT = Quadrature()


def kl(p: Any, q: Any, *, expect: Expect = _DEFAULT) -> Estimate:
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
    if expect is _DEFAULT and isinstance(p, Gaussian) and isinstance(q, Gaussian):
        return gaussian_kl(p, q)
    return _f_divergence(p, q, GENERATORS["kl"], expect)


def jsd(p: Any, q: Any, *, expect: Expect = _DEFAULT) -> Estimate:
    r"""Jensen-Shannon divergence ½KL(p‖m) + ½KL(q‖m), m = (p+q)/2, in nats: between 0 and log 2.

    This is the divergence itself, not its square root (see ``js_distance``, which ``scipy`` calls ``jensenshannon``).

    >>> from divergences import Uniform
    >>> print(jsd(Uniform(0.0, 1.0), Uniform(0.5, 1.5)))  # ½ log 2
    0.346574 ± ...
    """
    twice = _f_divergence(*pair_of(p, q), GENERATORS["jensen_shannon"], expect)
    return _scaled(twice, 0.5)


def js_distance(p: Any, q: Any, *, expect: Expect = _DEFAULT) -> Estimate:
    r"""Jensen-Shannon distance √JSD, in √nats: a metric, between 0 and √log 2.

    >>> from divergences import Uniform
    >>> round(float(js_distance(Uniform(0.0, 1.0), Uniform(2.0, 3.0))), 6)
    0.832555
    """
    square = jsd(p, q, expect=expect)
    low, high = (float(np.sqrt(max(end, 0.0))) for end in square.interval)
    value = float(np.sqrt(square.value))
    return replace(square, value=value, error=max(value - low, high - value), bounds=(low, high))


def total_variation(p: Any, q: Any, *, expect: Expect = _DEFAULT) -> Estimate:
    r"""Total variation ½∫|p − q|: between 0 and 1.

    >>> from divergences import Uniform
    >>> print(total_variation(Uniform(0.0, 1.0), Uniform(0.25, 1.25)))
    0.25 ± ...
    """
    return _f_divergence(*pair_of(p, q), GENERATORS["total_variation"], expect)


def hellinger(p: Any, q: Any, *, expect: Expect = _DEFAULT) -> Estimate:
    r"""Squared Hellinger distance H² = 1 − ∫√(pq) = ½∫(√p − √q)²: between 0 and 1.

    >>> from divergences import Gaussian
    >>> print(hellinger(Gaussian(0.0, 1.0), Gaussian(2.0, 1.0)))  # 1 − e^(−½)
    0.393469 ± ...
    """
    p, q = pair_of(p, q)
    if expect is _DEFAULT and isinstance(p, Gaussian) and isinstance(q, Gaussian):
        value = float(-np.expm1(gaussian_log_affinity(p, q, 0.5)))
        return Estimate(value, _CLOSED_FORM_EPS, method="closed form (bound)")
    return _scaled(_f_divergence(p, q, GENERATORS["squared_hellinger"], expect), 0.5)


def chi2(p: Any, q: Any, *, kind: str = "pearson", expect: Expect = _DEFAULT) -> Estimate:
    r"""χ² divergence: ``pearson`` ∫(p − q)²/q, ``neyman`` ∫(p − q)²/p.

    >>> from divergences import Gaussian
    >>> print(chi2(Gaussian(1.0, 1.0), Gaussian(0.0, 1.0)))  # e − 1
    1.71828 ± ...
    """
    one_of(kind, "kind", ("pearson", "neyman"))
    p, q = pair_of(p, q)
    if expect is _DEFAULT and isinstance(p, Gaussian) and isinstance(q, Gaussian):
        value = float(np.expm1(gaussian_log_affinity(p, q, 2.0 if kind == "pearson" else -1.0)))
        if np.isinf(value):
            return Estimate(np.inf, 0.0, method="closed form", note="the integral diverges: a tail is too light")
        return Estimate(value, _CLOSED_FORM_EPS * (1 + value), method="closed form (bound)")
    return _f_divergence(p, q, GENERATORS[f"{kind}_chi2"], expect)


def renyi(p: Any, q: Any, *, order: float, expect: Expect = _DEFAULT) -> Estimate:
    r"""Rényi divergence log ∫ p^order q^(1−order) / (order − 1), in nats; KL in the limit order → 1.

    Args:
        p: first law.
        q: second law.
        order: positive, not 1 (use ``kl``).
        expect: ``Quadrature()`` or ``MonteCarlo(rng)``.

    >>> from divergences import Gaussian
    >>> print(renyi(Gaussian(0.0, 1.0), Gaussian(2.0, 1.0), order=0.5))  # order·μ²/2
    1 ± ...
    """
    order = _order(order, above=0.0)
    p, q = pair_of(p, q)
    if expect is _DEFAULT and isinstance(p, Gaussian) and isinstance(q, Gaussian):
        value = gaussian_log_affinity(p, q, order) / (order - 1)
        note = "the integral diverges" if np.isinf(value) else ""
        error = _CLOSED_FORM_EPS * (1 + abs(value)) / min(1.0, abs(order - 1)) if np.isfinite(value) else 0.0
        return Estimate(value, error, method="closed form (bound)", note=note)
    affinity = _power_integral(p, q, order, expect)
    if affinity.value <= 0 or np.isinf(affinity.value):
        return replace(affinity, value=np.inf, error=0.0, bounds=None, note="∫ p^order q^(1−order) is 0 or ∞")
    ends = [float(np.log(max(end, 1e-320))) / (order - 1) for end in affinity.interval]
    value = float(np.log(affinity.value)) / (order - 1)
    return replace(affinity, value=value, error=max(abs(end - value) for end in ends))


def alpha_divergence(p: Any, q: Any, *, order: float, expect: Expect = _DEFAULT) -> Estimate:
    r"""Amari's α-divergence (1 − ∫ p^order q^(1−order)) / (order (1 − order)): KL at order → 1, reverse KL at 0.

    At order ½ it is 4·H², at 2 it is ½·χ² (Pearson), at −1 ½·χ² (Neyman).

    >>> from divergences import Gaussian
    >>> print(alpha_divergence(Gaussian(0.0, 1.0), Gaussian(2.0, 1.0), order=0.5))  # 4(1 − e^(−½))
    1.57388 ± ...
    """
    order = _order(order, above=-np.inf)
    if order == 0:
        raise InputError("order must not be 0; the limit there is kl(q, p).")
    p, q = pair_of(p, q)
    if expect is _DEFAULT and isinstance(p, Gaussian) and isinstance(q, Gaussian):
        value = float(np.expm1(gaussian_log_affinity(p, q, order)) / (order * (order - 1)))
        if np.isinf(value):
            return Estimate(np.inf, 0.0, method="closed form", note="the integral diverges: a tail is too light")
        error = _CLOSED_FORM_EPS * (1 + value) * (1 + 1 / abs(order * (order - 1)))
        return Estimate(value, error, method="closed form (bound)")
    affinity = _power_integral(p, q, order, expect)
    scale = 1 / (order * (order - 1))
    if np.isinf(affinity.value):
        return replace(affinity, note="the integral diverges, or q has no mass where p has")
    return replace(affinity, value=(affinity.value - 1) * scale, error=affinity.error * abs(scale))


def f_divergence(p: Any, q: Any, generator: str | Generator, *, expect: Expect = _DEFAULT) -> Estimate:
    r"""D_f(p‖q) = E_q[f(p/q)] for a generator of the f-GAN table, by name or as a ``Generator``.

    ``GENERATORS`` lists them, with f, its conjugate, the optimal T and the output activation. Note the conventions of
    the table: "jensen_shannon" is 2·JSD, "squared_hellinger" is 2·H², "gan" is 2·JSD − log 4.

    >>> from divergences import Uniform
    >>> print(f_divergence(Uniform(0.0, 1.0), Uniform(0.5, 1.5), "gan"))  # log 2 − log 4
    -0.693147 ± ...
    """
    if isinstance(generator, str):
        generator = GENERATORS[one_of(generator, "generator", list(GENERATORS))]
    if not isinstance(generator, Generator):
        raise InputError(f"generator must be a name or a Generator; it is {type(generator).__name__}.")
    return _f_divergence(*pair_of(p, q), generator, expect)


@dataclass(frozen=True)
class OfLogRatio:
    """x ↦ g(log p(x) − log q(x)), carrying both laws so that an integrator can see their structure."""

    g: Callable[[np.ndarray], np.ndarray]
    p: Distribution
    q: Distribution
    # Whether g grows faster than d itself, so that even light tails need to be looked at.
    steep: bool = False
    # What is known of g off the real line, where that is enough to prove an error.
    form: Form | None = None

    @property
    def laws(self) -> tuple[Distribution, Distribution]:
        return self.p, self.q

    def __call__(self, x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
        return self.g(log_ratio(self.p, self.q, x))


def log_ratio(p: Distribution, q: Distribution, x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
    """Log p − log q; 0 where neither has mass (there the ratio means nothing, and nothing may depend on it)."""
    log_p, log_q = (getattr(law, "log_ratio_density", law.log_prob)(x) for law in (p, q))
    with np.errstate(invalid="ignore"):
        ratio = np.where(np.isneginf(log_p) & np.isneginf(log_q), 0.0, log_p - log_q)
    both = np.isposinf(log_p) & np.isposinf(log_q)
    if both.any():
        # Both laws have a point mass here: the masses are what can be compared.
        ratio[both] = p.log_mass(x[both]) - q.log_mass(x[both])  # type: ignore[attr-defined]
    return ratio


def pair_of(p: Any, q: Any) -> tuple[Distribution, Distribution]:
    """Both as distributions of the same space."""
    p, q = as_distribution(p, "p"), as_distribution(q, "q")
    if p.dim != q.dim:
        raise InputError(f"p and q must live in the same space; p has dimension {p.dim}, q has {q.dim}.")
    return p, q


def _f_divergence(p: Distribution, q: Distribution, generator: Generator, expect: Expect) -> Estimate:
    """The integral over the mixture, with what supports decide in advance and what ranges allow."""
    at_singular = _value_where(generator, p_only=True) + _value_where(generator, p_only=False)
    if _singular(p, q):
        note = "one law has a density, the other point masses"
        return Estimate(at_singular / 2, 0.0, method="support", note=note)
    if np.isinf(_value_where(generator, p_only=True)) and not _covers(p, q):
        return Estimate(np.inf, 0.0, method="support", note="p has mass outside the support of q")
    if np.isinf(_value_where(generator, p_only=False)) and not _covers(q, p):
        return Estimate(np.inf, 0.0, method="support", note="q has mass outside the support of p")
    integrand = OfLogRatio(generator.weighted, p, q, steep=generator.steep, form=form_of(generator.weighted))
    estimate = expect((0.5, integrand, p), (0.5, integrand, q))
    if np.isinf(estimate.value):
        return replace(estimate, note="one law has no mass, or too light a tail, where the other has mass")
    if np.isinf(generator.top):
        return estimate
    # Sampling or rounding may step over the ends of the range by less than the error; the truth cannot.
    bottom = float(generator.f(np.ones(1))[0])
    return replace(estimate, value=min(max(estimate.value, bottom), generator.top))


def _value_where(generator: Generator, *, p_only: bool) -> float:
    """The integrand over m where only p, or only q, has mass."""
    return float(generator.weighted(np.array([np.inf if p_only else -np.inf]))[0])


def _power_integral(p: Distribution, q: Distribution, order: float, expect: Expect) -> Estimate:
    """∫ p^order q^(1−order)."""
    if _singular(p, q):
        value = 0.0 if 0 < order < 1 else np.inf
        return Estimate(value, 0.0, method="support", note="one law has a density, the other point masses")
    integrand = OfLogRatio(power_weighted(order), p, q, steep=not 0 < order < 1, form=power_form(order))
    return expect((0.5, integrand, p), (0.5, integrand, q))


def _order(order: float, *, above: float) -> float:
    order = as_number(order, "order", above=above)
    if order == 1:
        raise InputError("order must not be 1; the limit there is kl(p, q).")
    return order


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    return replace(estimate, value=estimate.value * factor, error=estimate.error * factor)


def _singular(p: Distribution, q: Distribution) -> bool:
    return isinstance(p, Discrete) != isinstance(q, Discrete)


def _covers(p: Distribution, q: Distribution) -> bool:
    """Whether the box of q holds that of p; gaps inside the boxes are found by the integral itself."""
    if isinstance(p, Discrete):
        return bool((q.log_prob(p.atoms) > -np.inf).all())
    return bool((p.support.low >= q.support.low).all() and (p.support.high <= q.support.high).all())
