r"""What the generator feels: exact gradients of its loss for one-parameter families on the line.

The generator moves q_θ against a discriminator that is *held fixed* at its optimum D* for the present θ. With the score
s = ∂_θ log q_θ, every loss E_{q_θ}[φ] with fixed φ has the gradient E_{q_θ}[s·φ]:

=================  ==============  ==========================================
loss               φ               gradient equals
=================  ==============  ==========================================
saturating         log(1 − D*)     d/dθ 2·JSD(p, q_θ)
non_saturating     −log D*         d/dθ [KL(q_θ‖p) − 2·JSD(p, q_θ)]
wasserstein        −f*             d/dθ W₁(p, q_θ), f* Kantorovich's critic
=================  ==============  ==========================================

The first and last are envelope theorems: at its optimum the discriminator's own motion does not count. The second is no
gradient of a divergence at all (Arjovsky, Bottou): its −2·JSD pushes q *away* from p, and its KL forbids q to have mass
where p has none, hence mode dropping. For p = N(0, 1), q = N(μ, 1) the saturating gradient is 2·JSD′(μ), which vanishes
as the laws separate (4·10⁻⁴ at μ = 8), the non-saturating one μ − 2·JSD′(μ), and the Wasserstein one 1, always.

A score exists where the support of q_θ does not move with θ; where it does (a shifted uniform law) that is an error.

Reference: *Towards Principled Methods for Training Generative Adversarial Networks* (Arjovsky, Bottou, 2017),
https://arxiv.org/abs/1701.04862.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.special import log_expit, softmax

from divergences.adapters import as_distribution
from divergences.checks import as_number, one_of
from divergences.distributions import Distribution, Gaussian, Mixture, as_query
from divergences.errors import InputError, NoDensity
from divergences.estimate import Estimate
from divergences.expectation import Expect, Quadrature
from divergences.f_divergences import log_ratio
from divergences.kantorovich import LineCritic
from divergences.line import line_transport

__all__ = ["LocationFamily", "ScaleFamily", "generator_gradient"]

_LOSSES = ("saturating", "non_saturating", "wasserstein")
_QUADRATURE = Quadrature(tol=1e-12)
# Central differences of eighth order: weights of f(θ + kh) − f(θ − kh), k = 1..4.
_STENCIL = (4 / 5, -1 / 5, 4 / 105, -1 / 280)
# In units of 1/√(Fisher information), the change of θ that the law itself feels as one.
_STEP = 0.02
_EPS = float(np.finfo(np.float64).eps)

Function = Callable[[Float64[np.ndarray, "n d"]], Float64[np.ndarray, " n"]]


@dataclass(frozen=True)
class LocationFamily:
    """q_θ = the law of X + θ, X ~ base, with its score in closed form.

    Args:
        base: a ``Gaussian`` or a ``Mixture`` of Gaussians on the line.

    >>> LocationFamily(Gaussian(0.0, 1.0))(2.0)
    Gaussian(2, 1)
    """

    base: Any

    def __post_init__(self) -> None:
        _gaussian_parts(self.base)

    def __call__(self, theta: float) -> Distribution:
        """The law at θ."""
        weights, means, variances = _gaussian_parts(self.base)
        return _gaussians(weights, means + theta, variances)

    def score(self, theta: float, x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
        """∂_θ log q_θ(x) = −∂_x log q_θ(x)."""
        return -_slope(self(theta), x)


@dataclass(frozen=True)
class ScaleFamily:
    """q_θ = the law of θ·X, X ~ base, θ > 0, with its score in closed form.

    Args:
        base: a ``Gaussian`` or a ``Mixture`` of Gaussians on the line.

    >>> ScaleFamily(Gaussian(1.0, 1.0))(2.0)
    Gaussian(2, 4)
    """

    base: Any

    def __post_init__(self) -> None:
        _gaussian_parts(self.base)

    def __call__(self, theta: float) -> Distribution:
        """The law at θ > 0."""
        scale = as_number(theta, "theta", above=0.0)
        weights, means, variances = _gaussian_parts(self.base)
        return _gaussians(weights, means * scale, variances * scale**2)

    def score(self, theta: float, x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
        """∂_θ log q_θ(x) = −(1 + x ∂_x log q_θ(x))/θ."""
        return -(1 + x[:, 0] * _slope(self(theta), x)) / theta


def generator_gradient(
    p: Any,
    family: Any,
    theta: float,
    *,
    loss: str = "saturating",
    expect: Expect = _QUADRATURE,
) -> Estimate:
    """Gradient in θ of the generator's loss at q_θ, the discriminator held at its optimum. Descent goes against it.

    Args:
        p: law of the data on the line.
        family: θ ↦ q_θ, anything ``as_distribution`` takes. If it has a method ``score(theta, x)`` -> (n,), that is
            ∂_θ log q_θ; else log q_θ is differentiated numerically, on a step set by the Fisher information.
        theta: where.
        loss: ``"saturating"`` E_q log(1 − D*), ``"non_saturating"`` −E_q log D*, or ``"wasserstein"`` −E_q f*.
        expect: ``Quadrature()`` or ``MonteCarlo(rng)``.

    Returns:
        The gradient with the error of the integral; for a numerical score, plus the change when its step is halved
        (an estimate, which also shows kinks in θ).

    Raises:
        InputError: not on the line, a support that moves with θ, a loss that is infinite (p without mass where q_θ
            has some, for ``non_saturating``; a law without mean, for ``wasserstein``).

    >>> p, family = Gaussian(0.0, 1.0), LocationFamily(Gaussian(0.0, 1.0))
    >>> for loss in ("saturating", "non_saturating", "wasserstein"):
    ...     print(loss, round(float(generator_gradient(p, family, 8.0, loss=loss)), 10))
    saturating 0.0003928747
    non_saturating 7.9996071253
    wasserstein 1.0
    """
    one_of(loss, "loss", _LOSSES)
    if not callable(family):
        raise InputError(f"family must be a function from theta to a law; it is {type(family).__name__}.")
    point = as_number(theta, "theta")
    real, fake = as_distribution(p, "p"), as_distribution(family(point), "family(theta)")
    for law, name in ((real, "p"), (fake, "family(theta)")):
        if law.dim != 1:
            raise InputError(f"generator_gradient works on the line; {name} has dimension {law.dim}.")
    potential = _potential(real, fake, loss)
    if hasattr(family, "score"):
        exact = _Product(lambda x: np.asarray(family.score(point, x), dtype=np.float64), potential, (real, fake))
        return expect((1.0, exact, fake))
    step = _STEP / np.sqrt(_information(family, point, fake, expect))
    coarse, fine = (_numerical(family, point, h, fake) for h in (step, step / 2))
    _need_still_support(fine, fake, expect)
    first = expect((1.0, _Product(coarse, potential, (real, fake)), fake))
    second = expect((1.0, _Product(fine, potential, (real, fake)), fake))
    if second.level is not None:
        return second
    # Differences of logarithms lose digits to the step: |log q| is known to a few units in its last place.
    size = _Product(lambda x: 1 + np.abs(fake.log_prob(x)), lambda x: np.abs(potential(x)), (real, fake))
    rounding = 8 * _EPS / step * float(expect((1.0, size, fake)))
    error = second.error + first.error + abs(second.value - first.value) + rounding
    return Estimate(
        second.value, error, method=f"{second.method}, score by differences (estimate)", n=2 * (second.n or 0)
    )


@dataclass(frozen=True)
class _Product:
    """x ↦ score(x)·φ(x)."""

    score: Function
    potential: Function
    laws: tuple[Distribution, ...]

    def __call__(self, x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
        return self.score(x) * self.potential(x)


def _potential(p: Distribution, q: Distribution, loss: str) -> Function:
    """φ: what the generator's samples are charged, as a fixed function."""
    if loss == "wasserstein":
        for law, name in ((p, "p"), (q, "family(theta)")):
            if not (hasattr(law, "cdf") and hasattr(law, "survival") and hasattr(law, "quantile")):
                raise NoDensity(f"{name}={law!r} has no CDF and quantiles, and Kantorovich's critic is made of them.")
        cost, _, crossings = line_transport(p, q, 1)
        if np.isinf(cost):
            raise InputError("p or family(theta) has no mean: W₁ is infinite and has no gradient.")
        critic = LineCritic.of_laws(p, q, crossings)
        return lambda x: -critic(x)

    def charge(x: np.ndarray) -> np.ndarray:
        logit = log_ratio(p, q, x)
        if loss == "saturating":
            return log_expit(-logit)
        if np.isneginf(logit).any():
            raise InputError(
                "the non-saturating loss is infinite: p has no mass where family(theta) has "
                f"(at x = {float(x[np.isneginf(logit)][0, 0]):g}). Its gradient does not exist."
            )
        return -log_expit(logit)

    return charge


def _numerical(family: Callable[[float], Any], theta: float, h: float, q: Distribution) -> Function:
    """∂_θ log q_θ by central differences of eighth order."""
    laws = []
    for k, weight in enumerate(_STENCIL, start=1):
        above, below = theta + k * h, theta - k * h
        pair = as_distribution(family(above), "family"), as_distribution(family(below), "family")
        # Divided by the step that rounding has left, not by the one that was meant.
        laws.append((weight * 2 * k / (above - below), *pair))

    def score(x: np.ndarray) -> np.ndarray:
        inside = np.isfinite(q.log_prob(x))
        total = np.zeros(len(x))
        for weight, ahead, behind in laws:
            with np.errstate(invalid="ignore"):
                total[inside] += weight * (ahead.log_prob(x[inside]) - behind.log_prob(x[inside]))
        if not np.isfinite(total).all():
            raise _moving(float(x[~np.isfinite(total)][0, 0]))
        return total

    return score


def _moving(where: float) -> InputError:
    return InputError(
        f"the support of family(theta) moves with theta (seen at x = {where:g}): log q has no derivative there and "
        "D* is certain. Smooth the family, or differentiate wasserstein(p, family(theta)) itself."
    )


def _information(family: Callable[[float], Any], theta: float, q: Distribution, expect: Expect) -> float:
    """Fisher information E[s²], roughly: only the step hangs on it."""
    rough = _numerical(family, theta, 1e-4 * max(1.0, abs(theta)), q)
    value = float(expect((1.0, lambda x: rough(x) ** 2, q)))
    if not 0 < value < np.inf:
        raise InputError("family(theta) does not change with theta: its Fisher information is 0 or infinite.")
    return value


def _need_still_support(score: Function, q: Distribution, expect: Expect) -> None:
    """E_q[s] = ∂_θ ∫q_θ = 0, unless mass crosses an edge."""
    drift = expect((1.0, score, q))
    if abs(drift.value) > 1e-6 * np.sqrt(float(expect((1.0, lambda x: score(x) ** 2, q)))) + 3 * drift.error:
        raise _moving(float(q.support.low[0]))


def _gaussian_parts(law: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, means and variances; refuses what is no mixture of Gaussians on the line."""
    weights, leaves = law.parts() if isinstance(law, Gaussian | Mixture) else (np.empty(0), [])
    gaussians = [leaf for leaf in leaves if isinstance(leaf, Gaussian) and leaf.dim == 1]
    if len(gaussians) == 0 or len(gaussians) < len(leaves):
        raise InputError(
            f"base must be a Gaussian or a Mixture of Gaussians on the line; it is {law!r}. For another law give "
            "generator_gradient a function theta -> law: its score is found numerically."
        )
    means, variances = [law.mean[0] for law in gaussians], [law.cov[0, 0] for law in gaussians]
    return weights, np.array(means), np.array(variances)


def _gaussians(weights: np.ndarray, means: np.ndarray, variances: np.ndarray) -> Distribution:
    laws = [Gaussian(mean, variance) for mean, variance in zip(means, variances, strict=True)]
    return laws[0] if len(laws) == 1 else Mixture(laws, weights)


def _slope(law: Distribution, x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
    """∂_x log density of a mixture of Gaussians: mean slope of the parts, weighted by their responsibilities."""
    weights, means, variances = _gaussian_parts(law)
    place = as_query(x, 1)
    terms = np.log(weights) - 0.5 * np.log(variances) - 0.5 * (place - means) ** 2 / variances
    return (softmax(terms, axis=1) * (means - place) / variances).sum(axis=1)
