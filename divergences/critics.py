r"""What a critic claims, how steep it is, and what that proves.

For *any* function f on R^d with Lipschitz constant L, trained or exact,

$$ W_1(p, q) \;\ge\; \frac{E_p f - E_q f}{L}. $$

The numerator, the *dual value*, is what a WGAN's critic reports as its loss; alone it says nothing, since it grows with
f. Divided by the slope it is a lower bound. Exact critics (``Transport.critic()``) have L = 1 by construction. Of a
network the constant is only searched for (``lipschitz``), and what is found is a *lower* bound of L: the quotient is
then what f proves *at most*.

f must not have seen the samples on which it is judged: a critic fitted to them reports the distance of the samples,
which is too large.

References: *Wasserstein GAN* (Arjovsky, Chintala, Bottou, 2017), https://arxiv.org/abs/1701.07875; *Improved Training
of Wasserstein GANs* (Gulrajani et al., 2017), https://arxiv.org/abs/1704.00028; *The generalization of "Student's"
problem when several different population variances are involved* (Welch, 1947), https://doi.org/10.2307/2332510.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtri, stdtrit

from divergences.adapters import as_distribution
from divergences.checks import as_generator, as_points, one_of
from divergences.distributions import Distribution
from divergences.errors import InputError
from divergences.estimate import Estimate
from divergences.expectation import Expect, Quadrature
from divergences.kantorovich import known_slope
from divergences.slopes import METRICS, CheckedCritic, lipschitz

__all__ = ["CriticReport", "dual_value", "proves"]

_LEVEL = 0.95
# Critics have kinks, and no digit beyond these is ever acted upon.
_QUADRATURE = Quadrature(tol=1e-7, max_nodes=500_000)
_DRAWN = 2000


@dataclass(frozen=True)
class CriticReport:
    """What a critic claims and what it proves.

    Attributes:
        claims: the dual value E_p f − E_q f.
        slope: the Lipschitz constant: exact for exact critics, else the largest slope found (a lower bound of it).
        proves: claims / slope, a lower bound of W₁(p, q); for a slope that was only found, what f proves *at most*.
    """

    claims: Estimate
    slope: Estimate
    proves: Estimate

    def __str__(self) -> str:
        return f"claims {self.claims}; slope {self.slope}; proves W₁ ≥ {self.proves}"


class Moments(NamedTuple):
    """A mean, the variance of that mean, its degrees of freedom, and a numerical error on top."""

    mean: float
    variance: float
    freedom: float
    error: float
    n: int


def dual_value(critic: Any, p: Any, q: Any, *, expect: Expect = _QUADRATURE) -> Estimate:
    r"""E_p f − E_q f of any critic f, on laws or on held-out samples.

    If p = q it is 0, whatever f: that is the score of a perfect generator. With samples the 95 % interval is Welch's
    (unequal variances, Student's t); it covers the dual value *of this f* where f was fitted to other samples.

    Args:
        critic: maps x (n, d) to (n,) real scores; ``Transport.critic()``, or a network wrapped to take arrays.
        p: law of the data, or held-out samples (n, d), at least 2.
        q: law of the generator, or held-out samples.
        expect: ``Quadrature()`` or ``MonteCarlo(rng)``, for the sides that are laws. The default aims at 1e-7 on the
            line; in the plane, where a critic with many kinks integrates slowly, it says how far it came.

    Returns:
        The value with its error: of ``expect`` for two laws, else a 95 % interval.

    Raises:
        InputError: a critic that gives NaN or the wrong shape, different dimensions, unusable samples.

    >>> from divergences import Gaussian
    >>> dual_value(lambda x: -x[:, 0], Gaussian(0.0, 1.0), Gaussian(2.0, 1.0)).agrees(2.0)
    True
    """
    function = CheckedCritic(critic)
    sides = [_side(value, name) for value, name in ((p, "p"), (q, "q"))]
    dims = [side.shape[1] if isinstance(side, np.ndarray) else side.dim for side in sides]
    if dims[0] != dims[1]:
        raise InputError(f"p and q must live in the same space; p has dimension {dims[0]}, q has {dims[1]}.")
    left, right = sides
    if not isinstance(left, np.ndarray) and not isinstance(right, np.ndarray):
        helped = _Placed(function, (left, right))
        return expect((1.0, helped, left), (-1.0, helped, right))
    moments = [
        sample_moments(function(side)) if isinstance(side, np.ndarray) else _law_moments(function, side, expect)
        for side in sides
    ]
    return welch(*moments, method="held-out mean difference, Welch interval")


def proves(
    critic: Any, p: Any, q: Any, *, rng: np.random.Generator | None = None, expect: Expect = _QUADRATURE,
    metric: str = "euclidean", budget: int = 200_000,
) -> CriticReport:  # fmt: skip
    """What a critic claims, its slope, and what it proves: dual value / Lipschitz constant ≤ W₁(p, q).

    Args:
        critic: maps x (n, d) to (n,).
        p: law of the data, or samples the critic was not fitted to.
        q: law of the generator, or samples.
        rng: draws the pairs of the slope search, and points of sides that are laws; not needed for exact critics on
            samples.
        expect: for sides that are laws, see ``dual_value``.
        metric: the ground metric of W₁.
        budget: evaluations for the slope search.

    Raises:
        InputError: as ``dual_value`` and ``lipschitz``.

    >>> from divergences import Gaussian
    >>> steep = proves(lambda x: -5 * x[:, 0], Gaussian(0.0, 1.0), Gaussian(2.0, 1.0), rng=np.random.default_rng(0))
    >>> round(float(steep.claims), 6), round(float(steep.slope), 6), round(float(steep.proves), 6)
    (10.0, 5.0, 2.0)
    """
    claims = dual_value(critic, p, q, expect=expect)
    known = known_slope(critic, one_of(metric, "metric", METRICS))
    if known is not None:
        slope = Estimate(known, 0.0, method="by construction (bound)")
    else:
        if rng is None:
            raise InputError("rng is needed to search for the slope of this critic: rng=numpy.random.default_rng(0).")
        sides = [_side(value, name) for value, name in ((p, "p"), (q, "q"))]
        places = [side if isinstance(side, np.ndarray) else side.sample(_DRAWN, as_generator(rng)) for side in sides]
        slope = lipschitz(critic, np.concatenate(places), rng=rng, metric=metric, budget=budget)
    return CriticReport(claims, slope, _quotient(claims, slope))


def _quotient(claims: Estimate, slope: Estimate) -> Estimate:
    found = slope.interval[1] > slope.value
    note = "the slope is the largest found: the true constant may be larger, and then this proves less" if found else ""
    if claims.value < 0:
        note = f"negative: −f proves more (is the sign of the critic flipped?). {note}".strip()
    if slope.value == 0:
        return Estimate(0.0, 0.0, level=claims.level, method="constant critic", n=claims.n, note="f is constant")
    return replace(
        claims, value=claims.value / slope.value, error=claims.error / slope.value, note=note, bounds=None,
        method=f"{claims.method} / slope",
    )  # fmt: skip


@dataclass(frozen=True)
class _Placed:
    """A critic that lets quadrature know whose knots to use."""

    function: CheckedCritic
    laws: tuple[Distribution, ...]

    def __call__(self, x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
        return self.function(x)


def _side(value: Any, name: str) -> np.ndarray | Distribution:
    """Held-out samples (at least 2) or a law."""
    if isinstance(value, np.ndarray | list | tuple) or (hasattr(value, "__array__") and not callable(value)):
        return as_points(value, name, minimum=2)
    return as_distribution(value, name)


def sample_moments(values: Float64[np.ndarray, " n"], strata: np.ndarray | None = None) -> Moments:
    """Mean of a function over a sample, and the variance of that mean.

    With ``strata`` (labels 0, 1, ...) only the spread within each counts; one with a single point takes the widest of
    the others' variances.
    """
    n = len(values)
    mean = float(values.mean())
    if strata is None:
        return Moments(mean, float(values.var(ddof=1)) / n, n - 1.0, 0.0, n)
    counts = np.bincount(strata).astype(np.float64)
    centers = np.bincount(strata, values) / np.maximum(counts, 1)
    squares = np.bincount(strata, (values - centers[strata]) ** 2)
    many = counts > 1
    if not many.any():
        return sample_moments(values)
    variances = np.zeros(len(counts))
    variances[many] = squares[many] / (counts[many] - 1)
    variances[counts == 1] = variances[many].max()
    freedom = max(float(n - np.count_nonzero(counts)), 1.0)
    return Moments(mean, float((counts * variances).sum()) / n**2, freedom, 0.0, n)


def _law_moments(function: CheckedCritic, law: Distribution, expect: Expect) -> Moments:
    estimate = expect((1.0, _Placed(function, (law,)), law))
    if estimate.level is None:
        return Moments(estimate.value, 0.0, np.inf, estimate.error, estimate.n or 0)
    deviation = estimate.error / float(ndtri((1 + estimate.level) / 2))
    return Moments(estimate.value, deviation**2, np.inf, 0.0, estimate.n or 0)


def welch(left: Moments, right: Moments, *, method: str) -> Estimate:
    """Difference of two means with Welch's 95 % interval; numerical errors are added on top."""
    variance = left.variance + right.variance
    half = 0.0
    if variance > 0:
        spent = sum((side.variance / variance) ** 2 / side.freedom for side in (left, right))
        quantile = float(stdtrit(1 / spent, (1 + _LEVEL) / 2)) if spent > 1e-12 else float(ndtri((1 + _LEVEL) / 2))
        half = quantile * float(np.sqrt(variance))
    return Estimate(
        left.mean - right.mean, half + left.error + right.error, level=_LEVEL, method=method, n=left.n + right.n
    )
