r"""Claims about likelihood, conditionals and information: what VAE, InfoGAN and cycle-consistency lectures rest on."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import integrate, optimize, special, stats

from divergences.claim import Claim, exact
from divergences.claims_textbook import P
from divergences.distributions import Discrete, Gaussian
from divergences.estimate import Estimate
from divergences.expectation import MonteCarlo, Quadrature
from divergences.f_divergences import jsd, kl
from divergences.pushforward import pushforward

__all__ = ["INFERENCE"]

KINGMA = "Auto-Encoding Variational Bayes (Kingma, Welling, 2014), https://arxiv.org/abs/1312.6114"
ALICE = "ALICE: Towards Understanding Adversarial Learning for Joint Distribution Matching (Li et al., 2017), https://arxiv.org/abs/1709.01215"  # noqa: E501
INFOGAN = "InfoGAN (Chen et al., 2016), https://arxiv.org/abs/1606.03657"
BISHOP = "Pattern Recognition and Machine Learning (Bishop, 2006), https://www.microsoft.com/en-us/research/publication/pattern-recognition-machine-learning/"  # noqa: E501
DEMPSTER = "Maximum Likelihood from Incomplete Data via the EM Algorithm (Dempster, Laird, Rubin, 1977), https://www.jstor.org/stable/2984875"  # noqa: E501
MOHAMED = "Monte Carlo Gradient Estimation in Machine Learning (Mohamed et al., 2020), https://arxiv.org/abs/1906.10652"
CYCLE = "Unpaired Image-to-Image Translation (Zhu et al., 2017), https://arxiv.org/abs/1703.10593"

_INTEGRATE = Quadrature()

# A discrete joint law of x (rows) and y (columns), and two conditional models p(x|y): one wrong, one right.
_JOINT = np.array([[0.20, 0.05, 0.10], [0.05, 0.25, 0.05], [0.10, 0.05, 0.15]])
_WRONG = np.array([[0.5, 0.2, 0.3], [0.2, 0.7, 0.2], [0.3, 0.1, 0.5]])
_RIGHT = _JOINT / _JOINT.sum(axis=0)


def _conditional_entropy() -> Estimate:
    """H(x|y) = H(x, y) − H(y)."""
    value = special.entr(_JOINT).sum() - special.entr(_JOINT.sum(axis=0)).sum()
    return Estimate(float(value), 1e-14, method="H(x,y) − H(y)")


def _cycle_loss(model: np.ndarray) -> Estimate:
    """−E log p(x|y) of a conditional model, term by term."""
    total = -sum(_JOINT[i, j] * np.log(model[i, j]) for i in range(3) for j in range(3))
    return Estimate(float(total), 1e-14, method="−E log p(x|y)")


def _mutual_information() -> Estimate:
    """I(x; y) as the KL of the joint from the product of its marginals."""
    places = [[i, j] for i in range(3) for j in range(3)]
    product = np.outer(_JOINT.sum(axis=1), _JOINT.sum(axis=0))
    return kl(Discrete(places, _JOINT.ravel()), Discrete(places, product.ravel()))


def _infogan_bound(model: np.ndarray) -> Estimate:
    """H(x) + E log Q(x|y)."""
    return Estimate(
        float(special.entr(_JOINT.sum(axis=1)).sum() - _cycle_loss(model).value), 1e-14, method="H(x) + E log Q(x|y)"
    )


# How far the twist turns at distance 1.
_TURN = 0.5


def _twist(x: np.ndarray, turn: float = _TURN) -> np.ndarray:
    """Turns each point about the origin by an angle that grows with its distance: N(0, I) stays as it is."""
    angle = turn * np.hypot(x[:, 0], x[:, 1])
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([c * x[:, 0] - s * x[:, 1], s * x[:, 0] + c * x[:, 1]], axis=1)


def _twisted_cycle() -> Estimate:
    """G = the twist, F = the twist backwards, which undoes it."""
    x = np.random.default_rng(4).normal(size=(1000, 2))
    return Estimate(float(np.abs(_twist(_twist(x), -_TURN) - x).mean()), 1e-14, method="cycle loss of a twist")


def _twisted_jsd() -> Estimate:
    """JSD of N(0, I) and the exact law of its image: what an adversarial loss could see."""
    law = pushforward(_twist, Gaussian([0.0, 0.0], np.eye(2)))
    value = jsd(law, Gaussian([0.0, 0.0], np.eye(2)), expect=MonteCarlo(np.random.default_rng(0), n=1000))
    # Densities in the plane are known to 1e-9 of themselves, and JSD is quadratic in that; the mass to law.mass.
    return Estimate(value.value, value.error + 1e-15, level=0.95, method="change of variables, 2000 samples")


def _twisted_pairs() -> Estimate:
    """E|G(x) − x|²/E|x|², where the true partner of x is x itself: no loss above has a say in it."""
    x = np.random.default_rng(4).normal(size=(100_000, 2))
    ratio = ((_twist(x) - x) ** 2).sum(axis=1) / 2
    return Estimate(float(ratio.mean()), 4 * float(ratio.std()) / 316, level=0.9999, method="100 000 samples")


_LABELS = np.array([0.4, 0.2, 0.2, 0.2])


def _permuted(loss: str) -> Estimate:
    """Four labels, of which G swaps three equally frequent ones; F swaps them back."""
    forward = np.array([0, 2, 3, 1])
    back = np.argsort(forward)
    if loss == "cycle":
        return exact(float(_LABELS @ (back[forward] != np.arange(4))), "sum over labels")
    return jsd(Discrete(np.arange(4.0), _LABELS), Discrete(forward.astype(float), _LABELS))


# (x, y) Gaussian with correlation ρ; a decoder x ≈ N(a y, s²) that is not the posterior.
_RHO, _DECODER = 0.8, (0.6, 0.5)


def _gaussian_cycle(slope: float, variance: float) -> Estimate:
    """−E log N(x; a·y, s²) over the joint law, by quadrature in the plane."""

    def charge(xy: np.ndarray) -> np.ndarray:
        return 0.5 * (xy[:, 0] - slope * xy[:, 1]) ** 2 / variance + 0.5 * np.log(2 * np.pi * variance)

    return _INTEGRATE((1.0, charge, Gaussian([0.0, 0.0], [[1.0, _RHO], [_RHO, 1.0]])))


# y | x ~ Exp of scale 1 + x: mean 1 + x, median (1 + x) log 2. A free function c(x) splits the risk into one per x.
_PLACES = np.array([0.0, 0.3, 1.0])


def _regression(power: int) -> Estimate:
    """The c that minimises E|y − c|^power at each x, divided by 1 + x: the worst of three places."""
    target = 1.0 if power == 2 else float(np.log(2.0))
    found = []
    for x in _PLACES:
        scale = 1 + x

        def risk(c: float, scale: float = scale) -> float:
            def charge(y: float) -> float:
                return abs(y - c) ** power * np.exp(-y / scale) / scale

            return sum(
                integrate.quad(charge, *ends, epsabs=1e-13, epsrel=1e-13)[0] for ends in ((0, c), (c, 60 * scale))
            )

        best = optimize.minimize_scalar(risk, bounds=(0.2, 4.0), method="bounded", options={"xatol": 1e-8})
        found.append(float(best.x) / scale)
    # A search for a flat bottom cannot place it better than the square root of the precision of its values.
    return Estimate(max(found, key=lambda c: abs(c - target)), 1e-6, method="search over c(x), scipy.integrate.quad")


# Linear-Gaussian model: z ~ N(0, 1), x | z ~ N(w z + b, s²). The posterior is Gaussian, the evidence too.
_W, _B, _S2, _X = 1.5, 0.3, 0.5, 1.7
_ENCODER = Gaussian(0.4, 0.3)


def _evidence() -> float:
    return float(Gaussian(_B, _W**2 + _S2).log_prob([[_X]])[0])


def _posterior() -> Gaussian:
    precision = 1 + _W**2 / _S2
    return Gaussian(_W * (_X - _B) / _S2 / precision, 1 / precision)


def _elbo() -> Estimate:
    """E_q[log p(x|z)] − KL(q‖prior), by quadrature."""

    def log_likelihood(z: np.ndarray) -> np.ndarray:
        return -0.5 * (_X - _W * z[:, 0] - _B) ** 2 / _S2 - 0.5 * np.log(2 * np.pi * _S2)

    reconstruction = _INTEGRATE((1.0, log_likelihood, _ENCODER))
    rate = kl(_ENCODER, Gaussian(0.0, 1.0), expect=_INTEGRATE)
    return Estimate(reconstruction.value - rate.value, reconstruction.error + rate.error + 1e-14, method="ELBO")


def _elbo_gap() -> Estimate:
    elbo = _elbo()
    return Estimate(_evidence() - elbo.value, elbo.error + 1e-14, method="log p(x) − ELBO by quadrature")


def _diagonal_kl() -> Estimate:
    """½ Σ (μ² + σ² − 1 − log σ²), the VAE's closed form."""
    mean, variance = np.array([0.5, -1.0]), np.array([0.3, 1.8])
    return exact(float(0.5 * (mean**2 + variance - 1 - np.log(variance)).sum()))


@cache
def _em_steps() -> list[tuple[float, float]]:
    """Per step of EM on a mixture of two Gaussians: the gain of the mean log-likelihood, and that of the M-step."""
    x = P.sample(400, np.random.default_rng(6))[:, 0]
    weights, means, variances = np.array([0.5, 0.5]), np.array([-0.2, 0.2]), np.array([1.0, 1.0])

    def joint() -> np.ndarray:
        return np.stack([np.log(weights[k]) + stats.norm.logpdf(x, means[k], np.sqrt(variances[k])) for k in (0, 1)])

    steps = []
    for _ in range(25):
        before = joint()
        duty = special.softmax(before, axis=0)
        mass = duty.sum(axis=1)
        weights, means = mass / len(x), duty @ x / mass
        variances = np.array([duty[k] @ (x - means[k]) ** 2 / mass[k] for k in (0, 1)])
        after = joint()
        gain = special.logsumexp(after, axis=0).mean() - special.logsumexp(before, axis=0).mean()
        steps.append((float(gain), float((duty * (after - before)).sum(axis=0).mean())))
    return steps


def _em(which: int) -> Estimate:
    """Gain of the likelihood (0) or of its lower bound (1) at the step at which they are closest."""
    closest = min(_em_steps(), key=lambda step: step[0] - step[1])
    return Estimate(closest[which], 1e-14, method="worst of 25 steps")


# d/dμ E[(x − 1)⁴], x ~ N(μ, 1), at μ = 0.5.
_AT = 0.5


def _score_gradient(power: int) -> Estimate:
    """Mean (power 1) or mean square (power 2) of f(x)·(x − μ), the score-function estimator."""
    return _INTEGRATE((1.0, lambda x: ((x[:, 0] - 1) ** 4 * (x[:, 0] - _AT)) ** power, Gaussian(_AT, 1.0)))


def _path_gradient(power: int) -> Estimate:
    """Mean or mean square of f′(μ + z), the reparameterised estimator."""
    return _INTEGRATE((1.0, lambda z: (4 * (_AT + z[:, 0] - 1) ** 3) ** power, Gaussian(0.0, 1.0)))


INFERENCE: tuple[Claim, ...] = (
    Claim(
        "cycle-loss-bounds-conditional-entropy",
        r"H(x|y) \le -\mathbb{E} \log p_\theta(x|y)",
        "≤",
        ALICE,
        _conditional_entropy,
        lambda: _cycle_loss(_WRONG),
    ),
    Claim(
        "cycle-loss-tight-at-the-posterior",
        r"p_\theta(x|y) = p(x|y) \;\Rightarrow\; H(x|y) = -\mathbb{E} \log p_\theta(x|y)",
        "=",
        ALICE,
        _conditional_entropy,
        lambda: _cycle_loss(_RIGHT),
    ),
    Claim(
        "gaussian-cycle-loss-bounds-conditional-entropy",
        r"H(x|y) = \tfrac12 \log 2\pi e (1 - \rho^2) \le -\mathbb{E} \log \mathcal N(x; ay, s^2)",
        "≤",
        ALICE,
        lambda: exact(float(0.5 * np.log(2 * np.pi * np.e * (1 - _RHO**2)))),
        lambda: _gaussian_cycle(*_DECODER),
    ),
    Claim(
        "gaussian-cycle-loss-tight-at-the-posterior",
        r"a = \rho,\; s^2 = 1 - \rho^2 \;\Rightarrow\; H(x|y) = -\mathbb{E} \log \mathcal N(x; ay, s^2)",
        "=",
        ALICE,
        lambda: exact(float(0.5 * np.log(2 * np.pi * np.e * (1 - _RHO**2)))),
        lambda: _gaussian_cycle(_RHO, 1 - _RHO**2),
    ),
    Claim(
        "a-relabelling-has-no-cycle-loss",
        r"F = G^{-1},\; G_\# p = p \;\Rightarrow\; \mathbb{E}|F(G(x)) - x| = 0",
        "=",
        CYCLE,
        _twisted_cycle,
        lambda: exact(0.0),
    ),
    Claim(
        "a-relabelling-has-no-adversarial-loss",
        r"G(x) = R_{|x|/2}\,x \;\Rightarrow\; \mathrm{JSD}(G_\# \mathcal N(0, I), \mathcal N(0, I)) = 0",
        "=",
        CYCLE,
        _twisted_jsd,
        lambda: exact(0.0),
    ),
    Claim(
        "a-relabelling-pairs-wrongly",
        r"\tfrac14 \mathbb{E}|x|^2 \le \mathbb{E}|G(x) - x|^2 \text{: the pairing is lost}",
        "≤",
        CYCLE,
        lambda: exact(0.25),
        _twisted_pairs,
    ),
    Claim(
        "discrete-relabelling-has-no-cycle-loss",
        r"G \text{ permutes labels of equal mass} \;\Rightarrow\; P(F(G(x)) \ne x) = 0",
        "=",
        CYCLE,
        lambda: _permuted("cycle"),
        lambda: exact(0.0),
    ),
    Claim(
        "discrete-relabelling-has-no-adversarial-loss",
        r"G \text{ permutes labels of equal mass} \;\Rightarrow\; \mathrm{JSD}(G_\# p, p) = 0",
        "=",
        CYCLE,
        lambda: _permuted("adversarial"),
        lambda: exact(0.0),
    ),
    Claim(
        "l2-gives-the-conditional-mean",
        r"\arg\min_{c(\cdot)} \mathbb{E}(y - c(x))^2 = \mathbb{E}[y|x]",
        "=",
        BISHOP,
        lambda: _regression(2),
        lambda: exact(1.0),
    ),
    Claim(
        "l1-gives-the-conditional-median",
        r"\arg\min_{c(\cdot)} \mathbb{E}|y - c(x)| = \mathrm{median}[y|x]",
        "=",
        BISHOP,
        lambda: _regression(1),
        lambda: exact(float(np.log(2.0))),
    ),
    Claim(
        "infogan-bound",
        r"H(c) + \mathbb{E} \log Q(c|x) \le I(c; x)",
        "≤",
        INFOGAN,
        lambda: _infogan_bound(_WRONG),
        _mutual_information,
    ),
    Claim(
        "infogan-bound-tight",
        r"Q(c|x) = p(c|x) \;\Rightarrow\; H(c) + \mathbb{E} \log Q(c|x) = I(c; x)",
        "=",
        INFOGAN,
        lambda: _infogan_bound(_RIGHT),
        _mutual_information,
    ),
    Claim(
        "elbo-below-evidence",
        r"\mathrm{ELBO} \le \log p(x)",
        "≤",
        KINGMA,
        _elbo,
        lambda: exact(_evidence()),
    ),
    Claim(
        "elbo-gap",
        r"\log p(x) - \mathrm{ELBO} = \mathrm{KL}(q(z|x) \| p(z|x))",
        "=",
        KINGMA,
        _elbo_gap,
        lambda: kl(_ENCODER, _posterior()),
    ),
    Claim(
        "vae-kl-closed-form",
        r"\mathrm{KL}(\mathcal N(\mu, \mathrm{diag}\,\sigma^2) \| \mathcal N(0, I)) = "
        r"\tfrac12 \textstyle\sum (\mu^2 + \sigma^2 - 1 - \log \sigma^2)",
        "=",
        KINGMA,
        lambda: kl(Gaussian([0.5, -1.0], np.diag([0.3, 1.8])), Gaussian([0.0, 0.0], np.eye(2)), expect=Quadrature()),
        _diagonal_kl,
    ),
    Claim(
        "em-never-lowers-the-likelihood",
        r"0 \le \min_t\, [\ell(\theta_{t+1}) - \ell(\theta_t)]",
        "≤",
        DEMPSTER,
        lambda: exact(0.0),
        lambda: Estimate(min(gain for gain, _ in _em_steps()), 1e-14, method="smallest of 25 gains"),
    ),
    Claim(
        "em-gains-more-than-its-bound",
        r"0 < Q(\theta_{t+1}|\theta_t) - Q(\theta_t|\theta_t) \le \ell(\theta_{t+1}) - \ell(\theta_t)",
        "≤",
        DEMPSTER,
        lambda: _em(1),
        lambda: _em(0),
    ),
    Claim(
        "two-gradients-agree",
        r"\mathbb{E}_z f'(\mu + z) = \mathbb{E}_x f(x) (x - \mu), \quad f(x) = (x-1)^4",
        "=",
        MOHAMED,
        lambda: _path_gradient(1),
        lambda: _score_gradient(1),
    ),
    Claim(
        "reparameterised-gradient-varies-less",
        r"\mathrm{Var}\,f'(\mu + z) \le \mathrm{Var}\,f(x)(x - \mu)",
        "≤",
        MOHAMED,
        lambda: _path_gradient(2),
        lambda: _score_gradient(2),
    ),
)
