r"""Claims about what happens far from the data, in samples, and between divergences.

Saturation and its cure, memorizers, W₁ where JSD jumps, inequalities, the f-GAN bounds at their optimum, translations
and rotations, maps of laws.
"""

from __future__ import annotations

import numpy as np
from scipy import integrate, optimize, stats

from divergences.adversarial import CONVENTIONS, gan_value, optimal_discriminator, optimal_logit
from divergences.claim import Claim, exact
from divergences.distributions import Discrete, Gaussian, Mixture, Uniform
from divergences.estimate import Estimate
from divergences.expectation import Quadrature
from divergences.f_divergences import LOG2, LOG4, chi2, f_divergence, hellinger, jsd, kl, renyi, total_variation
from divergences.generators import GENERATORS
from divergences.wasserstein import wasserstein

__all__ = ["LIMITS"]

GOODFELLOW = "Generative Adversarial Networks (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661"
PRINCIPLED = "Towards Principled Methods for Training GANs (Arjovsky, Bottou, 2017), https://arxiv.org/abs/1701.04862"
WGAN = "Wasserstein GAN (Arjovsky, Chintala, Bottou, 2017), https://arxiv.org/abs/1701.07875"
ARORA = "Generalization and Equilibrium in GANs (Arora et al., 2017), https://arxiv.org/abs/1703.00573"
NOWOZIN = "f-GAN (Nowozin, Cseke, Tomioka, 2016), https://arxiv.org/abs/1606.00709"
BELGHAZI = "Mutual Information Neural Estimation (Belghazi et al., 2018), https://arxiv.org/abs/1801.04062"
TOPSOE = "Some Inequalities for Information Divergence (Topsøe, 2000), https://doi.org/10.1109/18.850703"
BURES = "On Wasserstein Geometry of Gaussian Measures (Takatsu, 2011), https://arxiv.org/abs/0801.2250"
MINKA = "Divergence Measures and Message Passing (Minka, 2005), https://www.microsoft.com/en-us/research/publication/divergence-measures-and-message-passing/"  # noqa: E501
VILLANI = "Optimal Transport: Old and New (Villani, 2009), https://doi.org/10.1007/978-3-540-71050-9"
RENYI = "Rényi Divergence and Kullback-Leibler Divergence (van Erven, Harremoës, 2014), https://arxiv.org/abs/1206.2459"

_STANDARD = Gaussian(0.0, 1.0)
_P = Mixture([Gaussian(-1.0, 0.16), Gaussian(1.5, 0.64)], [0.3, 0.7])
_Q = Mixture([Gaussian(-0.5, 0.36), Gaussian(2.0, 0.25)], [0.6, 0.4])
_INTEGRATE = Quadrature()
_MU = 2.0


def _quad(function, low: float, high: float, points: list[float] | None = None) -> Estimate:  # type: ignore[no-untyped-def]  # noqa: ANN001
    value, error = integrate.quad(function, low, high, points=points, epsabs=1e-12, epsrel=1e-12, limit=400)
    return Estimate(value, error + 1e-12, method="scipy.integrate.quad")


def _best_response(convention: str) -> Estimate:
    """D* at x = 0.3 by golden-section search on the value of one point, with the labels of the convention."""
    a, b = float(np.exp(_P.log_prob([[0.3]])[0])), float(np.exp(_Q.log_prob([[0.3]])[0]))
    if CONVENTIONS[convention].sign < 0:
        a, b = b, a  # D is now the probability of "fake"
    found = optimize.minimize_scalar(
        lambda d: -(a * np.log(d) + b * np.log1p(-d)), bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-11}
    )
    return Estimate(float(found.x), 1e-7, method="golden-section search")


def _d_star(convention: str) -> Estimate:
    return exact(float(optimal_discriminator(_P, _Q, convention=convention)([[0.3]])[0]), "formula")


def _linear_discriminator() -> Estimate:
    """The best V(D, G) among D(x) = σ(ax + b): one layer is not enough for a bimodal log-ratio."""

    def loss(weights: np.ndarray) -> float:
        return -float(gan_value(lambda x: weights[0] * x[:, 0] + weights[1], _P, _Q, expect=Quadrature(tol=1e-9)))

    best = optimize.minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12})
    return Estimate(-float(best.fun), 1e-8, method="Nelder-Mead over σ(ax + b)")


def _convexity(left: bool) -> Estimate:  # noqa: FBT001
    """sup_D V at the middle of two generators, and the mean of the two sup_D V."""
    rivals = [Gaussian(-1.0, 0.5), Gaussian(2.0, 1.0)]
    if left:
        middle = Mixture(rivals)
        return gan_value(optimal_logit(_P, middle), _P, middle)
    values = [2 * jsd(_P, q).value - LOG4 for q in rivals]
    return Estimate(sum(values) / 2, 1e-12, method="2·JSD − log 4, averaged")


def _shift_derivative(value) -> Estimate:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """d/dμ at μ = 2 by Richardson extrapolation of central differences."""
    estimates = []
    for step in (0.02, 0.01):
        estimates.append((value(_MU + step) - value(_MU - step)) / (2 * step))
    better = (4 * estimates[1] - estimates[0]) / 3
    return Estimate(better, abs(better - estimates[1]) * 0.05 + 1e-9, method="Richardson differences")


def _saturating_gradient() -> Estimate:
    """E_q[d/dμ log(1 − D*(x))], D* held fixed: x = μ + z, and log(1 − D*) has the slope −D*·d/dx logit = μ·D*."""
    q = Gaussian(_MU, 1.0)
    d_star = optimal_discriminator(_STANDARD, q)
    return _INTEGRATE((_MU, d_star, q))


def _non_saturating_gradient() -> Estimate:
    """E_q[d/dμ (−log D*(x))], D* held fixed: slope μ·(1 − D*)."""
    q = Gaussian(_MU, 1.0)
    d_star = optimal_discriminator(_STANDARD, q)
    return _INTEGRATE((_MU, lambda x: 1 - d_star(x), q))


def _empirical(memorized: bool) -> tuple[Discrete, Discrete]:  # noqa: FBT001
    rng = np.random.default_rng(2)
    sample = rng.normal(size=(200, 2))
    other = sample[rng.permutation(200)] if memorized else rng.normal(size=(200, 2))
    return Discrete(sample), Discrete(other)


def _scipy_jsd(p: Discrete, q: Discrete) -> Estimate:
    """√JSD of scipy on the union of the atoms, squared."""
    from scipy.spatial.distance import jensenshannon

    places = np.unique(np.concatenate([p.atoms, q.atoms]), axis=0)
    with np.errstate(divide="ignore"):
        root = jensenshannon(np.exp(p.log_prob(places)), np.exp(q.log_prob(places)))
    return Estimate(float(root) ** 2, 1e-12, method="scipy jensenshannon, squared")


_PAIRS = [(Gaussian(0.0, 1.0), Gaussian(mu, s)) for mu in (0.1, 1.0, 3.0, 6.0) for s in (0.3, 1.0, 2.0)]


def _tightest(lower, upper, left: bool) -> Estimate:  # type: ignore[no-untyped-def]  # noqa: ANN001, FBT001
    """Both sides of an inequality for the pair, of twelve, that comes closest to equality."""
    sides = [(lower(p, q), upper(p, q)) for p, q in _PAIRS]
    worst = min(sides, key=lambda side: side[1].value - side[0].value)
    return worst[0] if left else worst[1]


def _times(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(estimate.value * factor, estimate.error * factor, method=estimate.method)


def _variational(name: str) -> Estimate:
    """E_p[T*] − E_q[f*(T*)] at T* = f′(p/q)."""
    row = GENERATORS[name]
    ratio = optimal_logit(_P, _Q)
    return _INTEGRATE(
        (1.0, lambda x: row.optimal(ratio(x)), _P), (-1.0, lambda x: row.conjugate(row.optimal(ratio(x))), _Q)
    )


def _donsker_varadhan(shift: float) -> Estimate:
    """E_p[T] − log E_q[e^T] at T = log p/q + shift, whatever the shift."""
    ratio = optimal_logit(_P, _Q)
    first = _INTEGRATE((1.0, lambda x: ratio(x) + shift, _P))
    second = _INTEGRATE((1.0, lambda x: np.exp(ratio(x) + shift), _Q))
    error = first.error + second.error / second.value + 1e-10
    return Estimate(first.value - float(np.log(second.value)), error, method=first.method)


def _nwj() -> Estimate:
    """E_p[T] − E_q[e^(T−1)] at T = 1 + log p/q."""
    ratio = optimal_logit(_P, _Q)
    return _INTEGRATE((1.0, lambda x: 1 + ratio(x), _P), (-1.0, lambda x: np.exp(ratio(x)), _Q))


def _moment_fit() -> tuple[float, float]:
    """Mean and variance of the Gaussian closest to _P in forward KL, by minimising the cross entropy numerically."""
    grid, weights = np.polynomial.legendre.leggauss(400)
    x, w = 1.0 + 7 * grid, 7 * weights
    density = np.exp(_P.log_prob(x[:, None])) * w

    def cross_entropy(parameters: np.ndarray) -> float:
        mean, log_sd = parameters
        return float(density @ (0.5 * ((x - mean) / np.exp(log_sd)) ** 2 + log_sd))

    best = optimize.minimize(cross_entropy, np.array([0.0, 0.0]), method="BFGS", options={"gtol": 1e-10})
    return float(best.x[0]), float(np.exp(2 * best.x[1]))


def _seeking(left: bool) -> Estimate:  # noqa: FBT001
    """Reverse KL of two far modes: sitting on one against covering both."""
    modes = Mixture([Gaussian(-3.0, 1.0), Gaussian(3.0, 1.0)])
    return kl(Gaussian(3.0, 1.0), modes) if left else kl(Gaussian(0.0, 10.0), modes)


def _square_mass() -> Estimate:
    """P(z² ≤ x) for z ~ U[0, 1] integrated over x against x^0: E[z⁴] = 1/5, from a million midpoints."""
    z = (np.arange(1_000_000) + 0.5) / 1_000_000
    return Estimate(float(np.mean((z**2) ** 2)), 1e-9, method="midpoint rule over z")


def _rotation_w2(left: bool) -> Estimate:  # noqa: FBT001
    """W₂ of two centred Gaussians: the Bures formula against a Cholesky-free route by eigenvalues."""
    a, b = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.3], [-0.3, 1.5]])
    if left:
        return wasserstein(Gaussian([0.0, 0.0], a), Gaussian([1.0, -2.0], b), order=2).cost
    # In the plane tr √(AB) = √(tr AB + 2 √det AB).
    root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a @ b)))
    return Estimate(float(np.sqrt(5 + np.trace(a) + np.trace(b) - 2 * root)), 1e-13, method="planar trace formula")


_MOVE = np.array([0.6, -0.8])


LIMITS: tuple[Claim, ...] = (
    *(
        Claim(
            f"d-star-{name.replace('_', '-')}",
            rf"\arg\max_D V_{{\mathrm{{{name.replace('_', ' ')}}}}} = "
            + (r"\frac{p}{p+q}" if CONVENTIONS[name].sign > 0 else r"\frac{q}{p+q}"),
            "=",
            GOODFELLOW,
            lambda name=name: _best_response(name),  # type: ignore[misc]
            lambda name=name: _d_star(name),  # type: ignore[misc]
        )
        for name in CONVENTIONS
    ),
    Claim(
        "linear-discriminator-falls-short",
        r"\max_{a,b} V(\sigma(ax+b), G) \le V(D^*, G)",
        "≤",
        GOODFELLOW,
        _linear_discriminator,
        lambda: gan_value(optimal_logit(_P, _Q), _P, _Q),
    ),
    Claim(
        "sup-v-is-convex",
        r"\sup_D V(D, \tfrac12 q_1 + \tfrac12 q_2) \le \tfrac12 \sup_D V(D, q_1) + \tfrac12 \sup_D V(D, q_2)",
        "≤",
        GOODFELLOW,
        lambda: _convexity(left=True),
        lambda: _convexity(left=False),
    ),
    Claim(
        "inverse-cdf-reaches-any-target",
        r"G = F^{-1},\; z \sim U[0,1] \;\Rightarrow\; P(G(z) \le x) = F(x)",
        "=",
        GOODFELLOW,
        lambda: Estimate(
            float(np.mean(_P.quantile((np.arange(100_000) + 0.5) / 100_000) <= 0.4)), 1e-5, method="share of quantiles"
        ),
        lambda: _quad(lambda x: float(np.exp(_P.log_prob([[x]])[0])), -8.0, 0.4, [-1.0]),
    ),
    Claim(
        "perfect-discriminator",
        r"\mathrm{supp}\,p \cap \mathrm{supp}\,q = \emptyset \;\Rightarrow\; V(D^*, G) = 0",
        "=",
        PRINCIPLED,
        lambda: gan_value(optimal_logit(Uniform(0, 1), Uniform(2, 3)), Uniform(0, 1), Uniform(2, 3)),
        lambda: exact(0.0),
    ),
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
        r"\mu = 8:\; |\mathbb{E}_z \nabla_\mu \log(1 - D^*)| \le \mu \, \mathbb{E}_{p_g} D^* \le 10^{-3}",
        "≤",
        PRINCIPLED,
        lambda: _INTEGRATE((8.0, optimal_discriminator(_STANDARD, Gaussian(8.0, 1.0)), Gaussian(8.0, 1.0))),
        lambda: exact(1e-3),
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
        "empirical-jsd-is-log-2",
        r"x, x' \sim p \text{ i.i.d.} \;\Rightarrow\; \mathrm{JSD}(\hat p_n, \hat p'_n) = \log 2",
        "=",
        ARORA,
        lambda: jsd(*_empirical(memorized=False)),
        lambda: exact(LOG2),
    ),
    Claim(
        "memorizer-has-jsd-0",
        r"\mathrm{JSD}(\hat p_n, \text{its memorizer}) = 0",
        "=",
        ARORA,
        lambda: jsd(*_empirical(memorized=True)),
        lambda: _scipy_jsd(*_empirical(memorized=True)),
    ),
    Claim(
        "discrete-jsd",
        r"\mathrm{JSD} = \tfrac12 \sum p \log\tfrac{p}{m} + \tfrac12 \sum q \log\tfrac{q}{m}",
        "=",
        TOPSOE,
        lambda: jsd(Discrete([0, 1, 2], [0.36, 0.48, 0.16]), Discrete([0, 1, 2])),
        lambda: _scipy_jsd(Discrete([0, 1, 2], [0.36, 0.48, 0.16]), Discrete([0, 1, 2])),
    ),
    Claim(
        "w1-is-continuous-where-jsd-jumps",
        r"W_1(\delta_0, \delta_\theta) = \theta \text{ while } \mathrm{JSD} = \log 2 \quad (\theta = 10^{-6})",
        "=",
        WGAN,
        lambda: wasserstein([[0.0, 0.0]], [[1e-6, 0.0]]).cost,
        lambda: exact(1e-6 * jsd(Discrete([[0.0, 0.0]]), Discrete([[1e-6, 0.0]])).value / LOG2),
    ),
    Claim(
        "jsd-below-tv",
        r"\mathrm{JSD} \le \log 2 \cdot \mathrm{TV}",
        "≤",
        TOPSOE,
        lambda: _tightest(jsd, lambda p, q: _times(total_variation(p, q), LOG2), left=True),
        lambda: _tightest(jsd, lambda p, q: _times(total_variation(p, q), LOG2), left=False),
    ),
    Claim(
        "jsd-below-hellinger",
        r"\mathrm{JSD} \le H^2",
        "≤",
        TOPSOE,
        lambda: _tightest(jsd, hellinger, left=True),
        lambda: _tightest(jsd, hellinger, left=False),
    ),
    Claim(
        "hellinger-below-jsd",
        r"\log 2 \cdot H^2 \le \mathrm{JSD}",
        "≤",
        TOPSOE,
        lambda: _tightest(lambda p, q: _times(hellinger(p, q), LOG2), jsd, left=True),
        lambda: _tightest(lambda p, q: _times(hellinger(p, q), LOG2), jsd, left=False),
    ),
    Claim(
        "kl-below-chi2",
        r"\mathrm{KL}(p\|q) \le \log(1 + \chi^2(p\|q))",
        "≤",
        RENYI,
        lambda: kl(_STANDARD, Gaussian(1.0, 2.0), expect=Quadrature()),
        lambda: Estimate(float(np.log1p(chi2(_STANDARD, Gaussian(1.0, 2.0)).value)), 1e-13, method="closed form"),
    ),
    Claim(
        "renyi-gaussian",
        r"D_\alpha(\mathcal N(0,1) \| \mathcal N(2,1)) = \tfrac{\alpha \mu^2}{2}",
        "=",
        RENYI,
        lambda: renyi(_STANDARD, Gaussian(2.0, 1.0), order=0.3, expect=Quadrature()),
        lambda: exact(0.3 * 2.0),
    ),
    *(
        Claim(
            f"f-gan-{name.replace('_', '-')}",
            rf"f(u) = {GENERATORS[name].formula}:\; D_f = \mathbb{{E}}_p T^* - \mathbb{{E}}_q f^*(T^*)",
            "=",
            NOWOZIN,
            lambda name=name: _variational(name),  # type: ignore[misc]
            lambda name=name: f_divergence(_P, _Q, name),  # type: ignore[misc]
        )
        for name in ("kl", "reverse_kl", "neyman_chi2", "gan")
    ),
    Claim(
        "donsker-varadhan-tight",
        r"\mathrm{KL} = \mathbb{E}_p T - \log \mathbb{E}_q e^{T}, \quad T = \log\tfrac{p}{q} + c",
        "=",
        BELGHAZI,
        lambda: _donsker_varadhan(0.7),
        lambda: kl(_P, _Q),
    ),
    Claim(
        "nwj-tight",
        r"\mathrm{KL} = \mathbb{E}_p T - \mathbb{E}_q e^{T-1}, \quad T = 1 + \log\tfrac{p}{q}",
        "=",
        BELGHAZI,
        _nwj,
        lambda: kl(_P, _Q),
    ),
    Claim(
        "w2-of-gaussians",
        r"W_2^2 = |\Delta m|^2 + \mathrm{tr}\,\Sigma_1 + \mathrm{tr}\,\Sigma_2"
        r" - 2\,\mathrm{tr}(\Sigma_1\Sigma_2)^{1/2}",
        "=",
        BURES,
        lambda: _rotation_w2(left=True),
        lambda: _rotation_w2(left=False),
    ),
    Claim(
        "w1-of-a-translation",
        r"W_1(P, P + v) = |v|",
        "=",
        VILLANI,
        lambda: wasserstein(_empirical(memorized=False)[0].points, _empirical(memorized=False)[0].points + _MOVE).cost,
        lambda: exact(1.0),
    ),
    Claim(
        "forward-kl-matches-the-mean",
        r"\arg\min_{m,s} \mathrm{KL}(p \| \mathcal N(m, s^2)):\; m = \mathbb{E}_p x",
        "=",
        MINKA,
        lambda: Estimate(_moment_fit()[0], 1e-6, method="BFGS on the cross entropy"),
        lambda: exact(0.3 * -1.0 + 0.7 * 1.5),
    ),
    Claim(
        "forward-kl-matches-the-variance",
        r"\arg\min_{m,s} \mathrm{KL}(p \| \mathcal N(m, s^2)):\; s^2 = \mathrm{Var}_p x",
        "=",
        MINKA,
        lambda: Estimate(_moment_fit()[1], 1e-5, method="BFGS on the cross entropy"),
        lambda: exact(0.3 * (0.16 + 1.0) + 0.7 * (0.64 + 2.25) - 0.75**2),
    ),
    Claim(
        "reverse-kl-seeks-one-mode",
        r"\mathrm{KL}(\mathcal N(3,1)\|p) \le \mathrm{KL}(\mathcal N(0,10)\|p), \quad p = \tfrac12\mathcal N(\pm3, 1)",
        "≤",
        MINKA,
        lambda: _seeking(left=True),
        lambda: _seeking(left=False),
    ),
    Claim(
        "square-of-a-uniform",
        r"z \sim U[0,1] \;\Rightarrow\; z^2 \sim \tfrac{1}{2\sqrt x}: \quad "
        r"\int_0^1 x^2 \tfrac{1}{2\sqrt x}\,dx = \mathbb{E} z^4",
        "=",
        "Change of variables; NOTATION.md lists the slip 2/√x, https://en.wikipedia.org/wiki/Change_of_variables",
        lambda: _quad(lambda x: x**2 / (2 * np.sqrt(x)), 0.0, 1.0),
        _square_mass,
    ),
    Claim(
        "cauchy-kl-is-infinite",
        r"\mathrm{KL}(\text{Cauchy} \| \mathcal N(0,1)) = \infty",
        "=",
        RENYI,
        lambda: kl(stats.cauchy(), _STANDARD),
        lambda: exact(np.inf),
    ),
)
