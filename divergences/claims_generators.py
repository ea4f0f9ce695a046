r"""Claims about generators and models: what x = g(z) can reach, what its density is, and which fit covers the modes.

One side is ``pushforward`` (change of variables over all preimages) or ``fit_gaussian``; the other is a closed form,
counting over z, or a minimisation of the textbook integral by scipy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from scipy import optimize, special, stats

from divergences.adapters import as_distribution
from divergences.adversarial import gan_value, optimal_logit
from divergences.claim import Claim, exact
from divergences.claims_textbook import P, density, quad, textbook_jsd
from divergences.distributions import Gaussian, Mixture, Uniform
from divergences.estimate import Estimate
from divergences.f_divergences import LOG2, LOG4, jsd, kl
from divergences.fits import Minimum, fit_gaussian
from divergences.pushforward import pushforward
from divergences.wasserstein import wasserstein

__all__ = ["GENERATORS_AND_FITS"]

GOODFELLOW = "Generative Adversarial Networks (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661"
PRINCIPLED = "Towards Principled Methods for Training GANs (Arjovsky, Bottou, 2017), https://arxiv.org/abs/1701.04862"
FLOWS = "Normalizing Flows for Probabilistic Modeling and Inference (Papamakarios et al., 2021), https://arxiv.org/abs/1912.02762"  # noqa: E501
DEVROYE = "Non-Uniform Random Variate Generation (Devroye, 1986), https://doi.org/10.1007/978-1-4613-8643-8"
MINKA = "Divergence Measures and Message Passing (Minka, 2005), https://www.microsoft.com/en-us/research/publication/divergence-measures-and-message-passing/"  # noqa: E501
VILLANI = "Optimal Transport: Old and New (Villani, 2009), https://doi.org/10.1007/978-3-540-71050-9"
HUSZAR = "How (not) to Train your Generative Model (Huszár, 2015), https://arxiv.org/abs/1511.05101"

_UNIT, _STANDARD = Uniform(0.0, 1.0), Gaussian(0.0, 1.0)
# Targets with their quantile functions: one of two separate pieces, one with an edge, one without a mean.
_TARGETS: tuple[tuple[Any, Callable[[np.ndarray], np.ndarray]], ...] = (
    (
        Mixture([Uniform(0.0, 1.0), Uniform(3.0, 5.0)], [0.3, 0.7]),
        lambda u: np.where(u < 0.3, u / 0.3, 3 + 2 * (u - 0.3) / 0.7),
    ),
    (stats.expon(), lambda u: -np.log1p(-u)),
    (stats.cauchy(), lambda u: np.tan(np.pi * (u - 0.5))),
)


@cache
def _reached() -> list[tuple[Any, Any]]:
    """Each target, and the law of F⁻¹(z), z uniform."""
    return [(as_distribution(target), pushforward(quantile, _UNIT)) for target, quantile in _TARGETS]


def _reach_jsd() -> Estimate:
    """The largest JSD of a target and its inverse CDF's law; z that float64 cannot resolve may all be wrong."""
    worst = max(((jsd(p, g), g) for p, g in _reached()), key=lambda pair: pair[0].value)
    return Estimate(worst[0].value, worst[0].error + LOG2 * worst[1].unseen, method=worst[0].method)


def _reach_w1() -> Estimate:
    """The largest W₁, of the targets that have a mean."""
    costs = [(wasserstein(p, g).cost, g) for p, g in _reached()]
    costs = [pair for pair in costs if np.isfinite(pair[0].value)]
    worst = max(costs, key=lambda pair: pair[0].value)
    # The unseen mass sits within 50 units of the rest: quantiles at 1e-17.
    return Estimate(worst[0].value, worst[0].error + 50 * worst[1].unseen, method=worst[0].method)


@cache
def _square() -> Any:
    return pushforward(lambda z: z**2, _UNIT)


def _square_density() -> Estimate:
    """2√x·p_g(x) where it is furthest from 1, for x from 1e-12 to 1."""
    x = np.geomspace(1e-12, 0.999, 200)
    values = np.exp(_square().log_prob(x)) * 2 * np.sqrt(x)
    return Estimate(float(values[np.argmax(np.abs(values - 1))]), 1e-12, method="change of variables at 200 points")


def _square_cdf() -> Estimate:
    x = np.geomspace(1e-12, 1.0, 200)
    values = _square().cdf(x) / np.sqrt(x)
    return Estimate(float(values[np.argmax(np.abs(values - 1))]), 1e-12, method="CDF at the worst of 200 points")


def _network(z: np.ndarray) -> np.ndarray:
    """A small tanh network that folds the line."""
    hidden = np.tanh(z * np.array([1.5, -2.0, 3.0]) + np.array([0.3, 1.0, -1.2]))
    return hidden @ np.array([[1.4], [0.9], [-0.6]]) + 0.3 * z


@cache
def _network_law() -> Any:
    return pushforward(_network, _STANDARD)


_WINDOW = (-0.4, 0.8)


def _window_mass() -> Estimate:
    """∫ p_g over the window, with x = x₀ ± u² on both sides of the fold at x₀, where p_g has a pole."""
    fold = next(float(x) for x in _folds() if _WINDOW[0] < x < _WINDOW[1])
    results = []
    for order in (40, 60):
        node, weight = np.polynomial.legendre.leggauss(order)
        total = 0.0
        for side, reach in ((-1.0, fold - _WINDOW[0]), (1.0, _WINDOW[1] - fold)):
            u = np.sqrt(reach) * (node + 1) / 2
            total += np.sqrt(reach) / 2 * float(weight @ (2 * u * np.exp(_network_law().log_prob(fold + side * u * u))))
        results.append(total)
    return Estimate(results[1], abs(results[1] - results[0]) + 1e-11, method="Gauss-Legendre on the density")


def _folds() -> np.ndarray:
    """Values of the network where it turns, by scipy's root finder."""
    z = np.linspace(-6, 6, 2001)

    def slope(t: float) -> float:
        return float(_network(np.array([[t + 1e-6]]))[0, 0] - _network(np.array([[t - 1e-6]]))[0, 0])

    values = np.diff(_network(z[:, None])[:, 0])
    turns = np.flatnonzero(np.sign(values[:-1]) * np.sign(values[1:]) < 0)
    return _network(np.array([[optimize.brentq(slope, z[k], z[k + 2])] for k in turns]))[:, 0]


def _window_count() -> Estimate:
    """P(a < g(z) < b): the z-intervals that g sends there, by bisection, and Φ."""
    z = np.linspace(-9, 9, 20_001)
    crossings: list[float] = []
    for level in _WINDOW:
        values = _network(z[:, None])[:, 0] - level
        turns = np.flatnonzero(values[:-1] * values[1:] < 0)
        crossings += [
            optimize.brentq(lambda t, c=level: float(_network(np.array([[t]]))[0, 0]) - c, z[k], z[k + 1], xtol=1e-14)
            for k in turns
        ]
    ends = np.sort([-np.inf, *crossings, np.inf])
    middles = np.clip((ends[:-1] + ends[1:]) / 2, -9, 9)
    middles[0], middles[-1] = -9.0, 9.0
    inside = _network(middles[:, None])[:, 0]
    chosen = (inside > _WINDOW[0]) & (inside < _WINDOW[1])
    return Estimate(float(np.diff(special.ndtr(ends)) @ chosen), 1e-12, method="intervals of z and Φ")


def _bend(z: np.ndarray) -> np.ndarray:
    """A generator without folds: z + ½ tanh 2z."""
    return z + 0.5 * np.tanh(2 * z)


def _bent_density(x: float) -> float:
    """φ(z)/g′(z) with z by scipy's root finder."""
    z = float(optimize.brentq(lambda t: t + 0.5 * np.tanh(2 * t) - x, x - 1, x + 1, xtol=1e-14))
    return float(np.exp(-z * z / 2) / np.sqrt(2 * np.pi) / (1 + 1 / np.cosh(2 * z) ** 2))


def _generator_value() -> Estimate:
    law = pushforward(_bend, _STANDARD)
    return gan_value(optimal_logit(P, law), P, law)


# --- fits of ½N(−a, 1) + ½N(a, 1) ------------------------------------------------------------------------------------

_SWITCH = {"reverse_kl": 2.8000822176, "jsd": 4.2447110426}


def _two(a: float) -> Mixture:
    return Mixture([Gaussian(-a, 1.0), Gaussian(a, 1.0)])


@cache
def _minima(a: float, divergence: str) -> tuple[Minimum, ...]:
    return fit_gaussian(_two(a), divergence).minima


def _one_mode(a: float, divergence: str) -> Estimate:
    """The best local minimum that sits on one mode."""
    return min((m.value for m in _minima(a, divergence) if abs(m.law.mean[0]) > 0.5), key=float)


@cache
def _covering(a: float, divergence: str) -> Estimate:
    """The minimum over s of the textbook integral at m = 0, by scipy."""
    p = density(_two(a))

    def value(s: float) -> float:
        q = density(Gaussian(0.0, s * s))

        def reverse(x: float) -> float:
            return q(x) * float(np.log(q(x) / p(x)))

        def shannon(x: float) -> float:
            u, v = p(x), q(x)
            return 0.5 * float(u * np.log(2 * u / (u + v)) + v * np.log(2 * v / (u + v)))

        # Symmetric: twice the half-line; beyond 8 s nothing is left.
        return 2 * quad(reverse if divergence == "reverse_kl" else shannon, 0.0, 8.0 * s + a, (a,)).value

    best = optimize.minimize_scalar(value, bounds=(1.0, a + 1.5), method="bounded", options={"xatol": 1e-7})
    # The switch points are rounded to ten decimals, and the values move at most as fast as a does.
    return Estimate(float(best.fun), 6e-11, method="scipy over s, quad")


def _moment_fit() -> tuple[float, float]:
    """Mean and variance of the Gaussian closest to P in forward KL, by minimising the cross entropy numerically."""
    grid, weights = np.polynomial.legendre.leggauss(200)
    x, w = 1.0 + 7 * grid, 7 * weights
    p = density(P)
    mass = w * np.array([p(place) for place in x])

    def cross_entropy(parameters: np.ndarray) -> float:
        mean, log_sd = parameters
        return float(mass @ (0.5 * ((x - mean) / np.exp(log_sd)) ** 2 + log_sd))

    best = optimize.minimize(cross_entropy, np.zeros(2), method="BFGS", options={"gtol": 1e-9})
    return float(best.x[0]), float(np.exp(2 * best.x[1]))


def _fitted(divergence: str) -> Gaussian:
    return fit_gaussian(P, divergence).law


def _covering_w2() -> Estimate:
    """S = ∫ F⁻¹(u) Φ⁻¹(u) du = ∫ φ(Φ⁻¹(F(x))) dx for a = 3, by scipy."""

    def integrand(x: float) -> float:
        below = 0.5 * (special.ndtr(x - 3) + special.ndtr(x + 3))
        t = special.ndtri(below if x < 0 else 0.5 * (special.ndtr(3 - x) + special.ndtr(-3 - x)))
        return float(np.exp(-t * t / 2) / np.sqrt(2 * np.pi))

    return quad(integrand, -14.0, 14.0, (-3.0, 0.0, 3.0))


GENERATORS_AND_FITS: tuple[Claim, ...] = (
    Claim(
        "inverse-cdf-reaches-any-target",
        r"G = F^{-1},\; z \sim U[0,1] \;\Rightarrow\; \mathrm{JSD}(p, p_g) = 0 \quad (\text{three } p)",
        "=",
        DEVROYE,
        _reach_jsd,
        lambda: exact(0.0),
    ),
    Claim(
        "inverse-cdf-is-transport",
        r"G = F^{-1},\; z \sim U[0,1] \;\Rightarrow\; W_1(p, p_g) = 0",
        "=",
        DEVROYE,
        _reach_w1,
        lambda: exact(0.0),
    ),
    Claim(
        "square-of-a-uniform",
        r"z \sim U[0,1] \;\Rightarrow\; z^2 \sim p_g(x) = \tfrac{1}{2\sqrt x}",
        "=",
        FLOWS,
        _square_density,
        lambda: exact(1.0),
    ),
    Claim(
        "square-of-a-uniform-cdf",
        r"z \sim U[0,1] \;\Rightarrow\; P(z^2 \le x) = \sqrt x",
        "=",
        FLOWS,
        _square_cdf,
        lambda: exact(1.0),
    ),
    Claim(
        "square-of-a-uniform-kl",
        r"\mathrm{KL}(p_{z^2} \| U[0,1]) = -\mathbb{E} \log 2z = 1 - \log 2",
        "=",
        FLOWS,
        lambda: kl(_square(), _UNIT),
        lambda: exact(1 - LOG2),
    ),
    Claim(
        "square-of-a-uniform-w1",
        r"W_1(p_{z^2}, U[0,1]) = \mathbb{E}(z - z^2) = \tfrac16",
        "=",
        VILLANI,
        lambda: wasserstein(_square(), _UNIT).cost,
        lambda: exact(1 / 6),
    ),
    Claim(
        "two-over-root-x-is-no-density",
        r"\int_0^1 \tfrac{2}{\sqrt x}\,dx = 4 \ne 1 \text{: a slip for } \tfrac{1}{2\sqrt x}",
        "=",
        FLOWS,
        lambda: quad(lambda x: 2 / np.sqrt(x), 0.0, 1.0),
        lambda: exact(4.0),
    ),
    Claim(
        "change-of-variables-with-folds",
        r"\int_a^b \sum_{z: g(z) = x} \frac{p_z(z)}{|g'(z)|}\,dx = P(a < g(z) < b)",
        "=",
        FLOWS,
        _window_mass,
        _window_count,
    ),
    Claim(
        "value-of-a-generator",
        r"x = g(z):\; V(D^*, G) = 2\,\mathrm{JSD}(p, p_g) - \log 4",
        "=",
        GOODFELLOW,
        _generator_value,
        lambda: textbook_jsd(2.0, -LOG4, density(P), _bent_density),
    ),
    Claim(
        "dead-units-are-seen-perfectly",
        r"x = \max(z, 0),\; z \sim p = \mathcal N(0,1) \;\Rightarrow\; \mathrm{JSD}(p, p_g) = \tfrac12 \log 2",
        "=",
        PRINCIPLED,
        lambda: jsd(_STANDARD, pushforward(lambda z: np.maximum(z, 0.0), _STANDARD)),
        lambda: exact(LOG2 / 2),
    ),
    Claim(
        "forward-kl-matches-the-mean",
        r"\arg\min_{m,s} \mathrm{KL}(p \| \mathcal N(m, s^2)):\; m = \mathbb{E}_p x",
        "=",
        MINKA,
        lambda: Estimate(_moment_fit()[0], 1e-6, method="BFGS on the cross entropy"),
        lambda: exact(float(_fitted("forward_kl").mean[0]), "moments"),
    ),
    Claim(
        "forward-kl-matches-the-variance",
        r"\arg\min_{m,s} \mathrm{KL}(p \| \mathcal N(m, s^2)):\; s^2 = \mathrm{Var}_p x",
        "=",
        MINKA,
        lambda: Estimate(_moment_fit()[1], 1e-6, method="BFGS on the cross entropy"),
        lambda: exact(float(_fitted("forward_kl").cov[0, 0]), "moments"),
    ),
    Claim(
        "reverse-kl-seeks-one-mode",
        r"p = \tfrac12\mathcal N(\pm3, 1):\; \min_{m \approx 3} \mathrm{KL}(\mathcal N(m, s^2)\|p) \le"
        r" \min_{m = 0} \mathrm{KL}(\mathcal N(m, s^2)\|p)",
        "≤",
        HUSZAR,
        lambda: _one_mode(3.0, "reverse_kl"),
        lambda: _covering(3.0, "reverse_kl"),
    ),
    Claim(
        "jsd-still-covers",
        r"p = \tfrac12\mathcal N(\pm3, 1):\; \min_{m = 0} \mathrm{JSD}(p, \mathcal N(m, s^2)) \le"
        r" \min_{m \approx 3} \mathrm{JSD}(p, \mathcal N(m, s^2))",
        "≤",
        HUSZAR,
        lambda: _covering(3.0, "jsd"),
        lambda: _one_mode(3.0, "jsd"),
    ),
    *(
        Claim(
            f"{name.replace('_', '-')}-switch-point",
            rf"p = \tfrac12\mathcal N(\pm a, 1),\; a = {a}:\; \min_{{m \approx a}} \mathrm{{{label}}} ="
            rf" \min_{{m = 0}} \mathrm{{{label}}}",
            "=",
            HUSZAR,
            lambda name=name, a=a: _one_mode(a, name),  # type: ignore[misc]
            lambda name=name, a=a: _covering(a, name),  # type: ignore[misc]
        )
        for (name, a), label in zip(_SWITCH.items(), ("KL(q\\|p)", "JSD"), strict=True)
    ),
    Claim(
        "w2-fit-covers",
        r"p = \tfrac12\mathcal N(\pm3, 1),\; \arg\min_{m,s} W_2(p, \mathcal N(m, s^2)):\;"
        r" s = \int_0^1 F^{-1} \Phi^{-1} du",
        "=",
        VILLANI,
        lambda: Estimate(float(np.sqrt(fit_gaussian(_two(3.0), "w2").law.cov[0, 0])), 1e-11, method="fit_gaussian"),
        _covering_w2,
    ),
)
