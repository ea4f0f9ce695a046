r"""Claims about the GAN game, the divergences behind it, and Kantorovich duality.

One side is this package (quadrature placed by the laws, the network simplex with its certificate); the other is a
closed form, ``scipy.integrate.quad`` on the textbook formula, a general LP solver, a golden-section search, or Monte
Carlo.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from divergences.adversarial import gan_value, optimal_discriminator, optimal_logit
from divergences.claim import Claim, exact
from divergences.distributions import Discrete, Gaussian, Mixture, Uniform
from divergences.estimate import Estimate
from divergences.expectation import MonteCarlo, Quadrature
from divergences.f_divergences import LOG2, LOG4, hellinger, jsd, kl, total_variation
from divergences.wasserstein import Transport, wasserstein

__all__ = ["GAME"]

GOODFELLOW = "Generative Adversarial Networks (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661"
ARJOVSKY = "Wasserstein GAN (Arjovsky, Chintala, Bottou, 2017), https://arxiv.org/abs/1701.07875"
VILLANI = "Optimal Transport: Old and New (Villani, 2009), https://doi.org/10.1007/978-3-540-71050-9"
LIN = "Divergence Measures Based on the Shannon Entropy (Lin, 1991), https://doi.org/10.1109/18.61115"
TSYBAKOV = "Introduction to Nonparametric Estimation (Tsybakov, 2009), https://doi.org/10.1007/b13794"


# The laws on which the statements are tried: nothing symmetric or matched, so that no term vanishes by luck.
_P = Mixture([Gaussian(-1.0, 0.16), Gaussian(1.5, 0.64)], [0.3, 0.7])
_Q = Mixture([Gaussian(-0.5, 0.36), Gaussian(2.0, 0.25)], [0.6, 0.4])
# The same law as _P in other clothes: p = q without p and q being one object.
_P_AGAIN = Mixture([Gaussian(1.5, 0.64), Gaussian(-1.0, 0.16), Gaussian(1.5, 0.64)], [0.35, 0.3, 0.35])


def _density(law: Mixture) -> Callable[[float], float]:
    """The density as a textbook writes it, by scipy.stats."""
    from scipy import stats

    parts = []
    for weight, part in zip(*law.parts(), strict=True):
        if not isinstance(part, Gaussian):
            raise TypeError("the textbook formula is written for mixtures of Gaussians")
        parts.append((float(weight), stats.norm(float(part.mean[0]), float(np.sqrt(part.cov[0, 0])))))
    return lambda x: float(sum(w * part.pdf(x) for w, part in parts))


def _scipy_integral(function: Callable[[float], float]) -> Estimate:
    """``scipy.integrate.quad`` over where _P and _Q live, cut at their means."""
    from scipy import integrate

    value, error = integrate.quad(
        function, -9.0, 12.0, points=[-1.0, -0.5, 0.5, 1.5, 2.0], epsabs=1e-12, epsrel=1e-12, limit=400
    )
    return Estimate(value, error + 1e-12, method="scipy.integrate.quad")


def _textbook_jsd(scale: float, offset: float, swap: bool = False) -> Estimate:  # noqa: FBT001, FBT002
    """Scale · (½∫p log(p/m) + ½∫q log(q/m)) + offset, written with densities."""
    p, q = (_density(_Q), _density(_P)) if swap else (_density(_P), _density(_Q))

    def integrand(x: float) -> float:
        a, b = p(x), q(x)
        m = (a + b) / 2
        return 0.5 * ((a * np.log(a / m) if a > 0 else 0.0) + (b * np.log(b / m) if b > 0 else 0.0))

    integral = _scipy_integral(integrand)
    return Estimate(scale * integral.value + offset, scale * integral.error, method=integral.method)


_PROBES = np.linspace(-2.5, 3.5, 13)


def _best_response() -> list[float]:
    """For each probe x, the D in (0, 1) that maximises p log D + q log(1 − D), by golden-section search."""
    from scipy import optimize

    p, q = _density(_P), _density(_Q)
    found = []
    for x in _PROBES:
        a, b = p(x), q(x)
        top = max(a, b)

        def loss(d: float, a: float = a / top, b: float = b / top) -> float:
            return -(a * np.log(d) + b * np.log1p(-d))

        found.append(optimize.minimize_scalar(loss, bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-11}).x)
    return found


def _worst_probe() -> int:
    """The probe where search and formula differ most."""
    formula = optimal_discriminator(_P, _Q)(_PROBES[:, None])
    return int(np.argmax(np.abs(np.array(_best_response()) - formula)))


def _searched_d_star() -> Estimate:
    # A search for a flat top cannot place it better than the square root of the machine precision.
    return Estimate(_best_response()[_worst_probe()], 1e-7, method="golden-section search at the worst of 13 points")


def _formula_d_star() -> Estimate:
    return exact(float(optimal_discriminator(_P, _Q)(_PROBES[:, None])[_worst_probe()]), "p/(p+q)")


def _best_rival() -> Estimate:
    """The largest V(D, G) among 40 disturbed copies of D*."""
    rng = np.random.default_rng(0)
    best = optimal_logit(_P, _Q)
    values = []
    for size in np.geomspace(1e-3, 3.0, 40):
        frequency, phase = rng.uniform(0.3, 3.0), rng.uniform(0.0, 2 * np.pi)

        def rival(x: np.ndarray, size: float = size, frequency: float = frequency, phase: float = phase) -> np.ndarray:
            return best(x) + size * np.sin(frequency * x[:, 0] + phase)

        values.append(gan_value(rival, _P, _Q, expect=Quadrature(tol=1e-9)))
    return max(values, key=float)


def _smallest_value() -> Estimate:
    """The smallest V(D*, G) over generators that slide past p and change their width."""
    family = [Gaussian(mean, width**2) for mean in (-2.0, 0.0, 1.0, 4.0) for width in (0.3, 1.0, 3.0)]
    values = [gan_value(optimal_logit(_P, q), _P, q) for q in [*family, _P_AGAIN]]
    return min(values, key=float)


def _random_pairs() -> list[tuple[Mixture, Mixture]]:
    rng = np.random.default_rng(7)

    def draw() -> Mixture:
        k = int(rng.integers(1, 5))
        parts = [Gaussian(rng.normal(0, 4), rng.uniform(0.05, 2.0) ** 2) for _ in range(k)]
        return Mixture(parts, rng.dirichlet(np.ones(k)))

    return [(draw(), draw()) for _ in range(12)] + [(_P, _P_AGAIN), (_P, Mixture([Gaussian(60.0, 1.0)]))]


_THETA = 0.75
_HEIGHTS = np.linspace(0.0, 1.0, 41)


def _lines() -> tuple[Discrete, Discrete]:
    """Mass spread over two parallel vertical segments, θ apart."""
    return (
        Discrete(np.column_stack([np.zeros_like(_HEIGHTS), _HEIGHTS])),
        Discrete(np.column_stack([np.full_like(_HEIGHTS, _THETA), _HEIGHTS])),
    )


def _clouds() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two small samples in the plane, the second with unequal weights."""
    rng = np.random.default_rng(3)
    return rng.normal(size=(24, 2)), 1.5 * rng.normal(size=(20, 2)) + [1.0, 0.0], rng.dirichlet(np.full(20, 3.0))


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


def _extreme_jsd(largest: bool) -> Estimate:  # noqa: FBT001
    """The smallest or largest ½KL(p‖m) + ½KL(q‖m) among 14 pairs, equal and far-apart ones included."""
    values = []
    for p, q in _random_pairs():
        middle = Mixture([p, q])
        a, b = kl(p, middle), kl(q, middle)
        values.append(Estimate((a.value + b.value) / 2, (a.error + b.error) / 2, method=a.method))
    return (max if largest else min)(values, key=float)


def _pinsker(left: bool) -> Estimate:  # noqa: FBT001
    """TV² and KL/2 for the pair, of 12 different ones, that comes closest to equality."""
    pairs = _random_pairs()[:-2]
    halves = [kl(p, q, expect=Quadrature()) for p, q in pairs]
    squares = [total_variation(p, q) for p, q in pairs]
    margins = [half.value / 2 - square.value**2 for half, square in zip(halves, squares, strict=True)]
    worst = int(np.argmin(margins))
    if left:
        tv = squares[worst]
        return Estimate(tv.value**2, 2 * tv.value * tv.error + tv.error**2, method=tv.method)
    return Estimate(halves[worst].value / 2, halves[worst].error / 2, method=halves[worst].method)


GAME: tuple[Claim, ...] = (
    Claim(
        "discriminator-optimum",
        r"\arg\max_{D} \; p \log D + q \log(1-D) = \frac{p}{p+q}",
        "=",
        GOODFELLOW,
        _searched_d_star,
        _formula_d_star,
    ),
    Claim(
        "discriminator-no-better",
        r"V(D, G) \le V(D^*, G)",
        "≤",
        GOODFELLOW,
        _best_rival,
        lambda: _textbook_jsd(2.0, -LOG4),
    ),
    Claim(
        "value-is-jsd",
        r"V(D^*, G) = 2\,\mathrm{JSD}(p, p_g) - \log 4",
        "=",
        GOODFELLOW,
        lambda: gan_value(optimal_logit(_P, _Q), _P, _Q),
        lambda: _textbook_jsd(2.0, -LOG4),
    ),
    Claim(
        "value-by-sampling",
        r"\mathbb{E}_p[\log D^*] + \mathbb{E}_{p_g}[\log(1-D^*)] = 2\,\mathrm{JSD}(p, p_g) - \log 4",
        "=",
        GOODFELLOW,
        # Four standard errors: this one is random, and the table must not fail one time in twenty.
        lambda: gan_value(
            optimal_logit(_P, _Q), _P, _Q, expect=MonteCarlo(np.random.default_rng(11), n=200_000, level=0.9999)
        ),
        lambda: _textbook_jsd(2.0, -LOG4),
    ),
    Claim(
        "value-at-equality",
        r"p_g = p \;\Rightarrow\; V(D^*, G) = -\log 4",
        "=",
        GOODFELLOW,
        lambda: gan_value(optimal_logit(_P, _P_AGAIN), _P, _P_AGAIN),
        lambda: exact(-LOG4),
    ),
    Claim(
        "half-at-equality",
        r"p_g = p \;\Rightarrow\; D^* = \tfrac12",
        "=",
        GOODFELLOW,
        lambda: Estimate(
            float(max(optimal_discriminator(_P, _P_AGAIN)(np.linspace(-6, 8, 201)), key=lambda d: abs(d - 0.5))),
            1e-14,
            method="D* at the worst of 201 points",
        ),
        lambda: exact(0.5),
    ),
    Claim(
        "minimum-is-minus-log-4",
        r"-\log 4 \le \min_G V(D^*, G)",
        "≤",
        GOODFELLOW,
        lambda: exact(-LOG4),
        _smallest_value,
    ),
    Claim(
        "flipped-labels",
        r"\mathbb{E}_p[\log(1-D^*)] + \mathbb{E}_{p_g}[\log D^*] = 2\,\mathrm{JSD} - \log 4 \quad (\text{real}=0)",
        "=",
        GOODFELLOW,
        lambda: gan_value(optimal_logit(_P, _Q, convention="flipped"), _P, _Q, convention="flipped"),
        lambda: _textbook_jsd(2.0, -LOG4),
    ),
    Claim(
        "flipped-half",
        r"\tfrac12\mathbb{E}_p[\log(1-D^*)] + \tfrac12\mathbb{E}_{p_g}[\log D^*] = \mathrm{JSD} - \log 2",
        "=",
        GOODFELLOW,
        lambda: gan_value(optimal_logit(_P, _Q, convention="flipped_half"), _P, _Q, convention="flipped_half"),
        lambda: _textbook_jsd(1.0, -LOG2),
    ),
    Claim(
        "jsd-symmetric",
        r"\mathrm{JSD}(p, q) = \mathrm{JSD}(q, p)",
        "=",
        LIN,
        lambda: jsd(_P, _Q),
        lambda: _textbook_jsd(1.0, 0.0, swap=True),
    ),
    Claim(
        "jsd-not-negative",
        r"0 \le \mathrm{JSD}(p, q)",
        "≤",
        LIN,
        lambda: exact(0.0),
        lambda: _extreme_jsd(largest=False),
    ),
    Claim(
        "jsd-below-log-2",
        r"\mathrm{JSD}(p, q) \le \log 2",
        "≤",
        LIN,
        lambda: _extreme_jsd(largest=True),
        lambda: exact(LOG2),
    ),
    Claim(
        "lines-jsd",
        r"\theta \ne 0 \;\Rightarrow\; \mathrm{JSD}(P_0, P_\theta) = \log 2",
        "=",
        ARJOVSKY,
        lambda: jsd(*_lines()),
        lambda: exact(LOG2),
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
        "gaussian-kl",
        r"\mathrm{KL}\big(\mathcal N(0,1)\|\mathcal N(1,4)\big) = \log 2 + \tfrac{1+1}{2 \cdot 4} - \tfrac12",
        "=",
        TSYBAKOV,
        lambda: kl(Gaussian(0.0, 1.0), Gaussian(1.0, 4.0), expect=Quadrature()),
        lambda: exact(LOG2 + 0.25 - 0.5),
    ),
    Claim(
        "uniform-kl-infinite",
        r"\mathrm{supp}\,p \not\subset \mathrm{supp}\,q \;\Rightarrow\; \mathrm{KL}(p\|q) = \infty",
        "=",
        TSYBAKOV,
        lambda: kl(Uniform(0.0, 1.0), Uniform(0.5, 1.5)),
        lambda: exact(np.inf),
    ),
    Claim(
        "pinsker",
        r"\mathrm{TV}(p,q)^2 \le \tfrac12 \mathrm{KL}(p\|q)",
        "≤",
        TSYBAKOV,
        lambda: _pinsker(left=True),
        lambda: _pinsker(left=False),
    ),
    Claim(
        "hellinger-gaussian",
        r"H^2\big(\mathcal N(0,1), \mathcal N(2,1)\big) = 1 - e^{-1/2}",
        "=",
        TSYBAKOV,
        lambda: hellinger(Gaussian(0.0, 1.0), Gaussian(2.0, 1.0), expect=Quadrature()),
        lambda: exact(float(-np.expm1(-0.5))),
    ),
)
