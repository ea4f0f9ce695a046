r"""Claims about what goes wrong: gradients that vanish far from the data, empirical laws, and modes that are dropped.

Gradients are integrals of this package against a fixed D*; on the other side they are differences of divergences, or
bounds in closed form.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from scipy import stats

from divergences.adversarial import optimal_discriminator
from divergences.claim import Claim, exact
from divergences.claims_textbook import quad
from divergences.distributions import Discrete, Gaussian, Mixture
from divergences.estimate import Estimate
from divergences.expectation import Quadrature
from divergences.f_divergences import LOG2, jsd, kl
from divergences.gradients import LocationFamily, generator_gradient
from divergences.wasserstein import wasserstein

__all__ = ["LIMITS"]

PRINCIPLED = "Towards Principled Methods for Training GANs (Arjovsky, Bottou, 2017), https://arxiv.org/abs/1701.04862"
WGAN = "Wasserstein GAN (Arjovsky, Chintala, Bottou, 2017), https://arxiv.org/abs/1701.07875"
ARORA = "Generalization and Equilibrium in GANs (Arora et al., 2017), https://arxiv.org/abs/1703.00573"
LIN = "Divergence Measures Based on the Shannon Entropy (Lin, 1991), https://doi.org/10.1109/18.61115"

_STANDARD = Gaussian(0.0, 1.0)
_FAMILY = LocationFamily(_STANDARD)
_INTEGRATE = Quadrature()
_MU = 2.0


def _shift_derivative(value: Callable[[float], float]) -> Estimate:
    """d/dμ at μ = 2 by two Richardson extrapolations of central differences."""
    rows = [(value(_MU + h) - value(_MU - h)) / (2 * h) for h in (0.04, 0.02, 0.01)]
    once = [(4 * fine - coarse) / 3 for coarse, fine in zip(rows[:-1], rows[1:], strict=True)]
    twice = (16 * once[1] - once[0]) / 15
    # Values are known to some 1e-13; divided by the step.
    return Estimate(twice, abs(twice - once[1]) + 1e-11, method="Richardson differences")


def _saturating_gradient() -> Estimate:
    """E_q[d/dμ log(1 − D*(x))], D* held fixed: x = μ + z, and log(1 − D*) has the slope −D*·d/dx logit = μ·D*."""
    q = Gaussian(_MU, 1.0)
    return _INTEGRATE((_MU, optimal_discriminator(_STANDARD, q), q))


def _non_saturating_gradient() -> Estimate:
    """E_q[d/dμ (−log D*(x))], D* held fixed: slope μ·(1 − D*)."""
    q = Gaussian(_MU, 1.0)
    d_star = optimal_discriminator(_STANDARD, q)
    return _INTEGRATE((_MU, lambda x: 1 - d_star(x), q))


# Two parallel segments: data on {0} × [0, 1], generator G(z) = (θ, z) at θ = 1, |∂G/∂θ| = 1, and a D within ε of D*.
_NEAR = 0.05


def _near_perfect(x: Any, y: Any) -> Any:
    """D: 1 − ε/4 at the data, of the order of ε where the generator is."""
    return _NEAR * (0.3 + 0.2 * np.sin(3 * y) * (1 - x)) + (1 - 1.25 * _NEAR) / (1 + np.exp(40 * (x - 0.5)))


def _gradient_near_perfect() -> Estimate:
    """|∂_θ E_z log(1 − D(θ, z))| by differences under scipy's quad."""
    h = 1e-4

    def slope(z: float) -> float:
        ends = [np.log1p(-_near_perfect(1 + side * h, z)) for side in (-2, -1, 1, 2)]
        return float((ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * h))

    value = quad(slope, 0.0, 1.0)
    return Estimate(abs(value.value), value.error + 1e-9, method=value.method)


def _bound_near_perfect() -> Estimate:
    """M ε/(1 − ε) with M = 1 and ε = sup |D − D*| + sup |∇(D − D*)| over the generator's segment and the data's."""
    y, h = np.linspace(0.0, 1.0, 2001), 1e-6
    sup = 0.0
    slope = 0.0
    for place, best in ((0.0, 1.0), (1.0, 0.0)):
        x = np.full_like(y, place)
        across = (_near_perfect(x + h, y) - _near_perfect(x - h, y)) / (2 * h)
        along = (_near_perfect(x, y + h) - _near_perfect(x, y - h)) / (2 * h)
        sup = max(sup, float(np.abs(_near_perfect(x, y) - best).max()))
        slope = max(slope, float(np.hypot(across, along).max()))
    epsilon = sup + slope
    return Estimate(epsilon / (1 - epsilon), 1e-8, method="ε on a grid of 2001 points")


def _noisy_ratio() -> Estimate:
    """Distance of the quartiles of ∇D/D where D* and ∇D* vanish, and D and ∇D are off by independent noise."""
    rng = np.random.default_rng(9)
    n = 2_000_000
    ratio = rng.standard_normal(n) / rng.standard_normal(n)
    low, high = np.quantile(ratio, [0.25, 0.75])
    # The density of a Cauchy law at its quartiles is 1/2π; the quartiles' errors are correlated by +1/3.
    error = 4 * np.sqrt(2 * (3 / 16 - 1 / 16) / n) * 2 * np.pi
    return Estimate(float(high - low), float(error), level=0.9999, method="quartiles of 2 000 000 ratios")


_SOURCES = (
    lambda n, rng: rng.normal(size=(n, 2)),
    lambda n, rng: rng.uniform(size=(n, 3)),
    lambda n, rng: rng.standard_cauchy(size=(n, 1)),
    lambda n, rng: rng.exponential(size=(n, 5)) ** 3,
)


@cache
def _empirical(which: int, memorized: bool) -> tuple[Discrete, Discrete]:  # noqa: FBT001
    """Two samples of one law, or a sample and the same points in another order."""
    rng = np.random.default_rng(2)
    sample = _SOURCES[which](200, rng)
    other = sample[rng.permutation(200)] if memorized else _SOURCES[which](200, rng)
    return Discrete(sample), Discrete(other)


def _worst_empirical(memorized: bool) -> Estimate:  # noqa: FBT001
    """The empirical JSD furthest from what is claimed, of four laws."""
    values = [jsd(*_empirical(which, memorized)) for which in range(len(_SOURCES))]
    return (max if memorized else min)(values, key=float)


def _own_sample_nearest() -> Estimate:
    """Log 2 times the share of atoms that are not atoms of the other sample, averaged over both: by counting."""
    shares = []
    for which in range(len(_SOURCES)):
        one, two = (set(map(tuple, law.points.tolist())) for law in _empirical(which, memorized=False))
        shares.append(1 - len(one & two) / len(one | two))
    return exact(LOG2 * min(shares), "counting common atoms")


_MODES, _KEPT = 8, 3


def _ring() -> tuple[Mixture, Mixture]:
    """Eight far modes, and the same law without five of them."""
    parts = [Gaussian(100.0 * k, 1.0 + k) for k in range(_MODES)]
    return Mixture(parts), Mixture(parts[:_KEPT])


def _dropped_jsd() -> float:
    r = _KEPT / _MODES
    return 0.5 * ((1 - r) * LOG2 + r * np.log(2 * r / (1 + r)) + np.log(2 / (1 + r)))


LIMITS: tuple[Claim, ...] = (
    Claim(
        "saturating-gradient",
        r"\mathbb{E}_z \nabla_\mu \log(1 - D^*(\mu + z)) = 2 \nabla_\mu \mathrm{JSD}",
        "=",
        PRINCIPLED,
        _saturating_gradient,
        lambda: _shift_derivative(lambda mu: 2 * jsd(_STANDARD, Gaussian(mu, 1.0)).value),
    ),
    Claim(
        "non-saturating-gradient",
        r"\mathbb{E}_z \nabla_\mu [-\log D^*(\mu + z)] = \nabla_\mu [\mathrm{KL}(p_g\|p) - 2\,\mathrm{JSD}]",
        "=",
        PRINCIPLED,
        _non_saturating_gradient,
        lambda: _shift_derivative(
            lambda mu: kl(Gaussian(mu, 1.0), _STANDARD).value - 2 * jsd(_STANDARD, Gaussian(mu, 1.0)).value
        ),
    ),
    Claim(
        "saturating-gradient-vanishes",
        r"\mu = 8:\; |\mathbb{E}_z \nabla_\mu \log(1 - D^*)| = \mu\,\mathbb{E}_{p_g} D^* \le \tfrac{\mu}{2}"
        r" \int\!\sqrt{p\,p_g} = \tfrac{\mu}{2} e^{-\mu^2/8}",
        "≤",
        PRINCIPLED,
        lambda: generator_gradient(_STANDARD, _FAMILY, 8.0, loss="saturating"),
        lambda: exact(4.0 * float(np.exp(-8.0))),
    ),
    Claim(
        "saturating-gradient-bound",
        r"\|D - D^*\| < \varepsilon \;\Rightarrow\; |\nabla_\theta \mathbb{E}_z \log(1 - D(G_\theta(z)))| \le"
        r" \tfrac{M \varepsilon}{1 - \varepsilon}, \quad M^2 = \mathbb{E}\|J_\theta G\|^2",
        "≤",
        PRINCIPLED,
        _gradient_near_perfect,
        _bound_near_perfect,
    ),
    Claim(
        "non-saturating-gradient-does-not-vanish",
        r"\mu = 8:\; \mathbb{E}_z \nabla_\mu [-\log D^*] = \mu - 2\,\mathrm{JSD}'(\mu)",
        "=",
        PRINCIPLED,
        lambda: generator_gradient(_STANDARD, _FAMILY, 8.0, loss="non_saturating"),
        lambda: _INTEGRATE((8.0, optimal_discriminator(Gaussian(8.0, 1.0), _STANDARD), Gaussian(8.0, 1.0))),
    ),
    Claim(
        "non-saturating-gradient-is-cauchy",
        r"D,\ \nabla D \text{ off by noise} \;\Rightarrow\; -\nabla \log D \text{ is a Cauchy law: quartiles } \pm 1",
        "=",
        PRINCIPLED,
        _noisy_ratio,
        lambda: exact(float(np.diff(stats.cauchy.ppf([0.25, 0.75]))[0])),
    ),
    Claim(
        "w1-gradient-does-not-vanish",
        r"\nabla_\mu W_1(\mathcal N(0,1), \mathcal N(\mu,1)) = 1",
        "=",
        WGAN,
        lambda: _shift_derivative(lambda mu: wasserstein(_STANDARD, Gaussian(mu, 1.0)).cost.value),
        lambda: exact(1.0),
    ),
    Claim(
        "wasserstein-gradient-is-the-critics",
        r"\nabla_\mu W_1(p, q_\mu) = -\mathbb{E}_z \nabla_\mu f^*(\mu + z) = 1",
        "=",
        WGAN,
        lambda: generator_gradient(_STANDARD, _FAMILY, 8.0, loss="wasserstein"),
        lambda: exact(1.0),
    ),
    Claim(
        "empirical-jsd-is-log-2",
        r"x, x' \sim p \text{ i.i.d., any } p \text{ with a density} \;\Rightarrow\;"
        r" \mathrm{JSD}(\hat p_n, \hat p'_n) = \log 2",
        "=",
        ARORA,
        lambda: _worst_empirical(memorized=False),
        _own_sample_nearest,
    ),
    Claim(
        "memorizer-has-jsd-0",
        r"\mathrm{JSD}(\hat p_n, \text{its memorizer}) = 0, \text{ any } p",
        "=",
        ARORA,
        lambda: _worst_empirical(memorized=True),
        lambda: exact(0.0),
    ),
    Claim(
        "dropped-modes-jsd",
        r"r = \tfrac{k}{K} \text{ of the modes}:\; \mathrm{JSD} = \tfrac12 \big[(1-r) \log 2 + r \log\tfrac{2r}{1+r}"
        r" + \log\tfrac{2}{1+r}\big]",
        "=",
        LIN,
        lambda: jsd(*_ring()),
        lambda: exact(_dropped_jsd()),
    ),
    Claim(
        "dropped-modes-reverse-kl",
        r"r = \tfrac{k}{K} \text{ of the modes}:\; \mathrm{KL}(p_g \| p) = \log\tfrac1r",
        "=",
        LIN,
        lambda: kl(*reversed(_ring())),
        lambda: exact(float(np.log(_MODES / _KEPT))),
    ),
)
