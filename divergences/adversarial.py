r"""The game between generator and discriminator, solved exactly.

For any laws p (data) and q (the generator's) the discriminator that maximises

$$ V(D, G) = E_p[\log D] + E_q[\log(1 - D)] $$

is D*(x) = p(x) / (p(x) + q(x)): for each x, a·log y + b·log(1−y) is largest at y = a/(a+b). Its logit is
log p − log q, and its value V(D*, G) = 2·JSD(p, q) − log 4, with the minimum −log 4 at p = q, where D* = ½.

Lectures use three conventions, and all are first-class. A discriminator is always given by *its own* logit:

=============  ====  =============  ==================  =========
convention     real  D*             V(D*, G)            minimum
=============  ====  =============  ==================  =========
goodfellow     1     p / (p + q)    2·JSD − log 4       −log 4
flipped        0     q / (p + q)    2·JSD − log 4       −log 4
flipped_half   0     q / (p + q)    JSD − log 2         −log 2
=============  ====  =============  ==================  =========

Everything is computed from logits: log D = log σ(logit) stays finite where D rounds to 1.

Reference: *Generative Adversarial Networks* (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy.special import expit, log_expit

from divergences.checks import ArrayLike, one_of
from divergences.distributions import Distribution, as_query
from divergences.errors import InputError
from divergences.estimate import Estimate
from divergences.expectation import Expect, Quadrature
from divergences.f_divergences import log_ratio, pair_of

__all__ = ["CONVENTIONS", "gan_regret", "gan_value", "optimal_discriminator", "optimal_logit"]


class Convention(NamedTuple):
    """The sign of the logit for real data, and the factor before V."""

    sign: float
    scale: float


CONVENTIONS = {
    "goodfellow": Convention(1.0, 1.0),
    "flipped": Convention(-1.0, 1.0),
    "flipped_half": Convention(-1.0, 0.5),
}
_QUADRATURE = Quadrature()
# Logits closer than this: the divergence of the two Bernoulli laws by its series.
_SMALL = 1e-3


@dataclass(frozen=True)
class _OptimalLogit:
    p: Distribution
    q: Distribution
    sign: float

    def __call__(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        return self.sign * log_ratio(self.p, self.q, as_query(x, self.p.dim))


@dataclass(frozen=True)
class _OptimalDiscriminator:
    logit: _OptimalLogit

    def __call__(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        return expit(self.logit(x))


def optimal_logit(
    p: Any, q: Any, *, convention: str = "goodfellow"
) -> Callable[[ArrayLike], Float64[np.ndarray, " n"]]:
    """The logit of D*: log p − log q for ``goodfellow``, its negative for the flipped conventions.

    Args:
        p: law of the data, anything ``as_distribution`` takes.
        q: law of the generator.
        convention: ``goodfellow``, ``flipped`` or ``flipped_half``.

    Returns:
        A function from x (n, d) to logits (n,); ±inf where only one law has mass, 0 where neither has.

    >>> from divergences import Gaussian
    >>> optimal_logit(Gaussian(0.0, 1.0), Gaussian(2.0, 1.0))([[0.0], [1.0]])
    array([2., 0.])
    """
    rules = CONVENTIONS[one_of(convention, "convention", list(CONVENTIONS))]
    return _OptimalLogit(*pair_of(p, q), rules.sign)


def optimal_discriminator(
    p: Any, q: Any, *, convention: str = "goodfellow"
) -> Callable[[ArrayLike], Float64[np.ndarray, " n"]]:
    """D* itself: p/(p+q) for ``goodfellow``, q/(p+q) for the flipped conventions; ½ where neither has mass.

    >>> from divergences import Gaussian
    >>> optimal_discriminator(Gaussian(0.0, 1.0), Gaussian(2.0, 1.0))([[1.0]])
    array([0.5])
    """
    rules = CONVENTIONS[one_of(convention, "convention", list(CONVENTIONS))]
    return _OptimalDiscriminator(_OptimalLogit(*pair_of(p, q), rules.sign))


def gan_value(
    logit: Callable[[Float64[np.ndarray, "n d"]], Any],
    p: Any,
    q: Any,
    *,
    convention: str = "goodfellow",
    expect: Expect = _QUADRATURE,
) -> Estimate:
    r"""V(D, G) of any discriminator, in nats.

    ``goodfellow``: E_p[log D] + E_q[log(1−D)]; ``flipped``: E_p[log(1−D)] + E_q[log D]; ``flipped_half``: half of that.

    Args:
        logit: the discriminator's own logit under ``convention``: maps x (n, d) to (n,), such as a trained network
            or ``optimal_logit(p, q, convention=convention)``.
        p: law of the data.
        q: law of the generator.
        convention: which label is "real", see the module.
        expect: ``Quadrature()`` or ``MonteCarlo(rng)``.

    Returns:
        The value with its error; −inf if D is certain and wrong on a set of positive mass.

    >>> from divergences import Gaussian, jsd
    >>> p, q = Gaussian(0.0, 1.0), Gaussian(2.0, 1.0)
    >>> gan_value(optimal_logit(p, q), p, q).agrees(2 * float(jsd(p, q)) - np.log(4.0))
    True
    """
    rules, p, q = _game(logit, p, q, convention)
    estimate = expect(
        (rules.scale, _LogSigmoid(logit, rules.sign, (p, q)), p),
        (rules.scale, _LogSigmoid(logit, -rules.sign, (p, q)), q),
    )
    if np.isinf(estimate.value):
        return replace(estimate, note="D is certain and wrong on a set of positive mass")
    return estimate


def gan_regret(
    logit: Callable[[Float64[np.ndarray, "n d"]], Any],
    p: Any,
    q: Any,
    *,
    convention: str = "goodfellow",
    expect: Expect = _QUADRATURE,
) -> Estimate:
    r"""V(D*, G) − V(D, G) ≥ 0, in nats: what this discriminator falls short of the best one.

    It is one integral, not a difference of two: with m = (p+q)/2 and Bernoulli laws B,
    2·E_m[KL(B(D*(x)) ‖ B(D(x)))], so that it keeps its digits where D is nearly optimal.

    Args:
        logit: as for ``gan_value``.
        p: law of the data.
        q: law of the generator.
        convention: ``flipped_half`` halves it.
        expect: ``Quadrature()`` or ``MonteCarlo(rng)``.

    >>> from divergences import Gaussian
    >>> p, q = Gaussian(0.0, 1.0), Gaussian(2.0, 1.0)
    >>> print(gan_regret(lambda x: 0 * x[:, 0], p, q))  # D = ½: V* − V = 2·JSD
    0.673662 ± ...
    """
    rules, p, q = _game(logit, p, q, convention)
    shortfall = _Shortfall(logit, rules.sign, (p, q))
    estimate = expect((rules.scale, shortfall, p), (rules.scale, shortfall, q))
    if np.isinf(estimate.value):
        return replace(estimate, note="D is certain and wrong on a set of positive mass")
    # Sampling or rounding may step below 0 by less than the error; the truth cannot.
    return replace(estimate, value=max(estimate.value, 0.0))


def _game(logit: Any, p: Any, q: Any, convention: str) -> tuple[Convention, Distribution, Distribution]:
    """What both quantities are asked with, checked."""
    rules = CONVENTIONS[one_of(convention, "convention", list(CONVENTIONS))]
    if not callable(logit):
        raise InputError(f"logit must be a function from x (n, d) to (n,); it is {type(logit).__name__}.")
    return rules, *pair_of(p, q)


@dataclass(frozen=True)
class _Shortfall:
    """x ↦ KL(B(D*(x)) ‖ B(D(x))), from both logits."""

    logit: Callable[[Float64[np.ndarray, "n d"]], Any]
    sign: float
    laws: tuple[Distribution, Distribution]

    def __call__(self, x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
        best = log_ratio(*self.laws, x)
        # D and 1 − D swap with the sign of the logit: with D* ≤ ½ everything below is small where it should be.
        flip = np.where(best > 0, -1.0, 1.0)
        best, own = flip * best, flip * self.sign * _logits(self.logit, x)
        with np.errstate(over="ignore", invalid="ignore"):
            gap, share = own - best, expit(best)
            far = np.where(gap > 30, log_expit(best) - log_expit(own) + (own - best), np.log1p(share * np.expm1(gap)))
            # −∞ − (−∞): where only one law has mass and D knows it, nothing is missing.
            far = np.where(np.isneginf(best), -log_expit(-own), far - share * gap)
        small = np.clip(gap, -_SMALL, _SMALL)
        near = share * expit(-best) * small**2 / 2
        near *= 1 + (1 - 2 * share) * small / 3 + (1 - 6 * share * expit(-best)) * small**2 / 12
        return np.where(np.abs(gap) < _SMALL, near, far)


@dataclass(frozen=True)
class _LogSigmoid:
    """x ↦ log σ(sign · logit(x))."""

    logit: Callable[[Float64[np.ndarray, "n d"]], Any]
    sign: float
    laws: tuple[Distribution, Distribution]

    def __call__(self, x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
        return log_expit(self.sign * _logits(self.logit, x))


def _logits(logit: Callable[[Float64[np.ndarray, "n d"]], Any], x: Float64[np.ndarray, "n d"]) -> np.ndarray:
    """The discriminator's answers, checked."""
    values = np.asarray(logit(x), dtype=np.float64)
    if values.shape != (len(x),):
        raise InputError(f"logit must map x of shape ({len(x)}, {x.shape[1]}) to ({len(x)},); got {values.shape}.")
    return values
