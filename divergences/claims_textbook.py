r"""What the claims are tried on, and the other side of many of them: formulas as a textbook writes them, by scipy.

The laws are neither symmetric nor matched, so that no term vanishes by luck. Everything here works on densities from
``scipy.stats`` and on ``scipy.integrate.quad``: none of this package's code takes part, so that what it computes can be
held against it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import integrate, stats

from divergences.claim import exact
from divergences.distributions import Gaussian, Mixture
from divergences.estimate import Estimate

__all__ = ["P", "Q", "density", "quad", "textbook_f", "textbook_jsd", "times"]

P = Mixture([Gaussian(-1.0, 0.16), Gaussian(1.5, 0.64)], [0.3, 0.7])
Q = Mixture([Gaussian(-0.5, 0.36), Gaussian(2.0, 0.25)], [0.6, 0.4])
_REACH = (-9.0, 12.0)
_CUTS = (-1.0, -0.5, 0.5, 1.5, 2.0)

Density = Callable[[float], float]


def density(law: Mixture | Gaussian) -> Density:
    """The density of a mixture of Gaussians on the line, by scipy.stats."""
    parts = []
    for weight, part in zip(*law.parts(), strict=True):
        if not isinstance(part, Gaussian):
            raise TypeError("the textbook formula is written for mixtures of Gaussians")
        mean, sd = float(part.mean[0]), float(np.sqrt(part.cov[0, 0]))
        parts.append((float(weight) / (sd * np.sqrt(2 * np.pi)), mean, sd))
    return lambda x: float(sum(w * np.exp(-0.5 * ((x - m) / s) ** 2) for w, m, s in parts))


def quad(function: Density, low: float, high: float, points: Sequence[float] = ()) -> Estimate:
    """``scipy.integrate.quad``, with the error that it states and 1e-12."""
    cuts = [cut for cut in points if low < cut < high] or None
    value, error = integrate.quad(function, low, high, points=cuts, epsabs=1e-12, epsrel=1e-12, limit=400)
    return Estimate(value, error + 1e-12, method="scipy.integrate.quad")


def textbook_f(f: Density, p: Density, q: Density, cuts: Sequence[float] = _CUTS) -> Estimate:
    """∫ q f(p/q) where P and Q live."""

    def integrand(x: float) -> float:
        return q(x) * f(p(x) / q(x))

    return quad(integrand, *_REACH, cuts)


def textbook_jsd(scale: float, offset: float, p: Density | None = None, q: Density | None = None) -> Estimate:
    """Scale · (½∫p log(p/m) + ½∫q log(q/m)) + offset, of P and Q unless others are given."""
    first, second = p or density(P), q or density(Q)

    def integrand(x: float) -> float:
        a, b = first(x), second(x)
        m = (a + b) / 2
        return 0.5 * ((a * np.log(a / m) if a > 0 else 0.0) + (b * np.log(b / m) if b > 0 else 0.0))

    integral = quad(integrand, *_REACH, _CUTS)
    rounding = exact(scale * integral.value + offset).error
    return Estimate(scale * integral.value + offset, abs(scale) * integral.error + rounding, method=integral.method)


def times(estimate: Estimate, factor: float) -> Estimate:
    """The same number in other units."""
    return Estimate(estimate.value * factor, estimate.error * abs(factor), method=estimate.method)


def normal_pdf(mean: float, sd: float) -> Density:
    """The bell curve."""
    return lambda x: float(stats.norm.pdf(x, mean, sd))
