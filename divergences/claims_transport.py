r"""Claims about optimal transport: duality, the critic, W₁ where JSD jumps, and Wasserstein distances in closed form.

One side is this package (the network simplex with its certificate, integrals of CDFs); the other is a general LP
solver, scipy's quantile functions, a search over couplings, or a closed form.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from divergences.claim import Claim, exact
from divergences.distributions import Discrete, Gaussian, Uniform
from divergences.estimate import Estimate
from divergences.f_divergences import LOG2, jsd, kl
from divergences.wasserstein import Transport, wasserstein

__all__ = ["TRANSPORT"]

ARJOVSKY = "Wasserstein GAN (Arjovsky, Chintala, Bottou, 2017), https://arxiv.org/abs/1701.07875"
GULRAJANI = "Improved Training of Wasserstein GANs (Gulrajani et al., 2017), https://arxiv.org/abs/1704.00028"
VILLANI = "Optimal Transport: Old and New (Villani, 2009), https://doi.org/10.1007/978-3-540-71050-9"
BURES = "On Wasserstein Geometry of Gaussian Measures (Takatsu, 2011), https://arxiv.org/abs/0801.2250"

_THETA = 0.75
_HEIGHTS = np.linspace(0.0, 1.0, 41)


def _lines(theta: float = _THETA) -> tuple[Discrete, Discrete]:
    """Mass spread over two parallel vertical segments, θ apart."""
    return (
        Discrete(np.column_stack([np.zeros_like(_HEIGHTS), _HEIGHTS])),
        Discrete(np.column_stack([np.full_like(_HEIGHTS, theta), _HEIGHTS])),
    )


def _clouds() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two small samples in the plane, the second with unequal weights."""
    rng = np.random.default_rng(3)
    return rng.normal(size=(24, 2)), 1.5 * rng.normal(size=(20, 2)) + [1.0, 0.0], rng.dirichlet(np.full(20, 3.0))


@cache
def _transport() -> Transport:
    x, y, b = _clouds()
    return wasserstein(x, y, q_weights=b)


def _linear_program(dual: bool) -> Estimate:  # noqa: FBT001
    """The same transport problem written out for a general LP solver (HiGHS)."""
    from scipy import optimize, sparse

    x, y, b = _clouds()
    n, m = len(x), len(y)
    a = np.full(n, 1 / n)
    costs = np.hypot(x[:, None, 0] - y[None, :, 0], x[:, None, 1] - y[None, :, 1]).ravel()
    marginals = sparse.vstack(
        [sparse.kron(sparse.eye(n), np.ones((1, m))), sparse.kron(np.ones((1, n)), sparse.eye(m))]
    )
    target = np.concatenate([a, b])
    if dual:
        solved = optimize.linprog(-target, A_ub=marginals.T, b_ub=costs, bounds=(None, None), method="highs")
        return Estimate(-solved.fun, 1e-8, method="LP dual (HiGHS)")
    solved = optimize.linprog(costs, A_eq=marginals, b_eq=target, bounds=(0, None), method="highs")
    return Estimate(solved.fun, 1e-8, method="LP primal (HiGHS)")


def _steepest() -> Estimate:
    """The largest slope of the exact critic over 300 000 pairs of points, near and far, on and off the samples."""
    rng = np.random.default_rng(5)
    critic = _transport().critic()
    x, y, _ = _clouds()
    points = np.concatenate([x, y, rng.uniform(-8, 8, (500, 2))])
    partners = [points[rng.permutation(len(points))] for _ in range(300)]
    partners += [points + rng.normal(size=points.shape) * step for step in np.geomspace(1e-3, 10.0, 250)]
    values = critic(points)
    steepest, blur = 0.0, 0.0
    for other in partners:
        distance = np.hypot(*(points - other).T)
        apart = distance > 0
        slope = np.abs(values - critic(other))[apart] / distance[apart]
        steepest = max(steepest, float(slope.max()))
        blur = max(blur, 1e-14 / float(distance[apart].min()))
    return Estimate(steepest, blur, method="largest slope over 300 000 pairs")


def _critic_gain() -> Estimate:
    x, y, b = _clouds()
    critic = _transport().critic()
    return Estimate(float(critic(x).mean() - b @ critic(y)), 1e-13, method="E_p f − E_q f, c-transform")


def _quantile_w1() -> Estimate:
    """∫₀¹ |F⁻¹ − G⁻¹| du for N(0, 1) and N(1, 4), by scipy's quantile functions."""
    from scipy import integrate, stats

    p, q = stats.norm(0.0, 1.0), stats.norm(1.0, 2.0)
    crossing = float(stats.norm.cdf(-1.0))  # z = 1 + 2z
    value, error = integrate.quad(
        lambda u: abs(p.ppf(u) - q.ppf(u)), 0.0, 1.0, points=[crossing, 0.5], epsabs=1e-10, epsrel=1e-10, limit=400
    )
    return Estimate(value, error + 1e-9, method="scipy.integrate.quad of quantiles")


def _slope_on_rays() -> Estimate:
    """The gradient norm of the critic furthest from 1, at 200 places on the segments along which mass moves."""
    x, y, _ = _clouds()
    plan = _transport().plan
    if plan is None:
        raise TypeError("a transport of samples has a plan")
    start, end = x[plan.coords[0]], y[plan.coords[1]]
    share = np.random.default_rng(6).uniform(0.05, 0.95, (len(start), 5))
    places = start[:, None] + share[..., None] * (end - start)[:, None]
    slopes = np.linalg.norm(_transport().critic().gradient(places.reshape(-1, 2)), axis=1)
    worst = slopes[np.argmax(np.abs(slopes - 1))]
    return Estimate(float(worst), 1e-14, method="exact critic, gradient on the rays")


_A, _B = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.3], [-0.3, 1.5]])


def _best_rotation() -> Estimate:
    """The smallest E|A^½ z − B^½ O z|² + |Δm|²: a search over rotations, the couplings that could be best."""
    from scipy import linalg, optimize

    a, b = linalg.sqrtm(_A), linalg.sqrtm(_B)

    def cost(angle: float) -> float:
        c, s = np.cos(angle), np.sin(angle)
        return float(((a - b @ np.array([[c, -s], [s, c]])) ** 2).sum()) + 5.0

    found = min(
        (optimize.minimize_scalar(cost, bounds=(k, k + 1.6), method="bounded", options={"xatol": 1e-9}).fun)
        for k in np.arange(-3.2, 3.2, 1.6)
    )
    return Estimate(float(np.sqrt(found)), 1e-10, method="search over linear couplings")


def _scipy_lines_jsd() -> Estimate:
    from scipy.spatial.distance import jensenshannon

    n = len(_HEIGHTS)
    first, second = np.repeat([1 / n, 0.0], n), np.repeat([0.0, 1 / n], n)
    return Estimate(float(jensenshannon(first, second)) ** 2, 1e-12, method="scipy jensenshannon, squared")


_MOVE = np.array([0.6, -0.8])


def _moved() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(2).normal(size=(200, 2))
    return x, x + _MOVE


def _exponential() -> Any:
    from scipy import stats

    return stats.expon()


TRANSPORT: tuple[Claim, ...] = (
    Claim(
        "lines-jsd",
        r"\theta \ne 0 \;\Rightarrow\; \mathrm{JSD}(P_0, P_\theta) = \log 2",
        "=",
        ARJOVSKY,
        lambda: jsd(*_lines()),
        lambda: exact(LOG2),
    ),
    Claim(
        "jsd-jumps",
        r"\theta = 10^{-9}:\; \mathrm{JSD}(P_0, P_\theta) = \log 2, \text{ although } \mathrm{JSD}(P_0, P_0) = 0",
        "=",
        ARJOVSKY,
        lambda: jsd(*_lines(1e-9)),
        _scipy_lines_jsd,
    ),
    Claim(
        "lines-kl",
        r"\theta \ne 0 \;\Rightarrow\; \mathrm{KL}(P_0 \| P_\theta) = \infty",
        "=",
        ARJOVSKY,
        lambda: kl(*_lines()),
        lambda: exact(np.inf),
    ),
    Claim(
        "lines-w1",
        r"W_1(P_0, P_\theta) = |\theta|",
        "=",
        ARJOVSKY,
        lambda: wasserstein(*_lines()).cost,
        lambda: exact(_THETA),
    ),
    Claim(
        "w1-is-continuous-where-jsd-jumps",
        r"W_1(P_0, P_\theta) = \theta \text{ also at } \theta = 10^{-9}",
        "=",
        ARJOVSKY,
        lambda: wasserstein(*_lines(1e-9)).cost,
        lambda: exact(1e-9),
    ),
    Claim(
        "primal-is-dual",
        r"\min_\pi \mathbb{E}_\pi |x-y| = \max_{u+v \le c} \mathbb{E}_p u + \mathbb{E}_q v",
        "=",
        VILLANI,
        lambda: _transport().cost,
        lambda: _linear_program(dual=True),
    ),
    Claim(
        "critic-is-lipschitz",
        r"\sup_{x \ne y} \frac{|f(x)-f(y)|}{|x-y|} \le 1",
        "≤",
        VILLANI,
        _steepest,
        lambda: exact(1.0),
    ),
    Claim(
        "critic-attains-w1",
        r"\mathbb{E}_p f - \mathbb{E}_q f = W_1(p, q)",
        "=",
        VILLANI,
        _critic_gain,
        lambda: _linear_program(dual=False),
    ),
    Claim(
        "critic-has-slope-1-on-rays",
        r"(x, y) \in \mathrm{supp}\,\pi^*,\; 0 < t < 1 \;\Rightarrow\; |\nabla f^*(x + t(y - x))| = 1",
        "=",
        GULRAJANI,
        _slope_on_rays,
        lambda: exact(1.0),
    ),
    Claim(
        "line-w1",
        r"W_1(p, q) = \int |F - G|\,dx = \int_0^1 |F^{-1} - G^{-1}|\,du",
        "=",
        VILLANI,
        lambda: wasserstein(Gaussian(0.0, 1.0), Gaussian(1.0, 4.0)).cost,
        _quantile_w1,
    ),
    Claim(
        "line-w1-closed-form",
        r"W_1\big(\mathcal N(0,1), \mathcal N(1,4)\big) = \sqrt{2/\pi}\,e^{-1/2} + \mathrm{erf}(1/\sqrt2)",
        "=",
        VILLANI,
        lambda: wasserstein(Gaussian(0.0, 1.0), Gaussian(1.0, 4.0)).cost,
        lambda: exact(float(np.sqrt(2 / np.pi) * np.exp(-0.5) + 0.6826894921370859)),
    ),
    Claim(
        "line-w2",
        r"W_2^2(\mathrm{Exp}(1), U[0,1]) = \int_0^1 (F^{-1} - G^{-1})^2\,du = \tfrac56",
        "=",
        VILLANI,
        lambda: wasserstein(_exponential(), Uniform(0.0, 1.0), order=2).cost,
        lambda: exact(float(np.sqrt(5 / 6))),
    ),
    Claim(
        "w2-of-gaussians",
        r"W_2^2 = |\Delta m|^2 + \mathrm{tr}\,\Sigma_1 + \mathrm{tr}\,\Sigma_2"
        r" - 2\,\mathrm{tr}(\Sigma_1\Sigma_2)^{1/2}",
        "=",
        BURES,
        lambda: wasserstein(Gaussian([0.0, 0.0], _A), Gaussian([1.0, -2.0], _B), order=2).cost,
        _best_rotation,
    ),
    Claim(
        "w1-of-a-translation",
        r"W_1(P, P + v) = |v|",
        "=",
        VILLANI,
        lambda: wasserstein(*_moved()).cost,
        lambda: exact(1.0),
    ),
)
