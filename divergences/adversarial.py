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

__all__ = ["CONVENTIONS", "gan_value", "optimal_discriminator", "optimal_logit"]


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
    rules = CONVENTIONS[one_of(convention, "convention", list(CONVENTIONS))]
    if not callable(logit):
        raise InputError(f"logit must be a function from x (n, d) to (n,); it is {type(logit).__name__}.")
    p, q = pair_of(p, q)
    estimate = expect(
        (rules.scale, _LogSigmoid(logit, rules.sign, (p, q)), p),
        (rules.scale, _LogSigmoid(logit, -rules.sign, (p, q)), q),
    )
    if np.isinf(estimate.value):
        return replace(estimate, note="D is certain and wrong on a set of positive mass")
    return estimate


@dataclass(frozen=True)
class _LogSigmoid:
    """x ↦ log σ(sign · logit(x))."""

    logit: Callable[[Float64[np.ndarray, "n d"]], Any]
    sign: float
    laws: tuple[Distribution, Distribution]

    def __call__(self, x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
        values = np.asarray(self.logit(x), dtype=np.float64)
        if values.shape != (len(x),):
            raise InputError(f"logit must map x of shape ({len(x)}, {x.shape[1]}) to ({len(x)},); got {values.shape}.")
        return log_expit(self.sign * values)
