r"""Claims about likelihood, conditionals and information: what VAE, InfoGAN and cycle-consistency lectures rest on."""

from __future__ import annotations

import numpy as np
from scipy import optimize, special, stats

from divergences.claim import Claim, exact
from divergences.distributions import Discrete, Gaussian, Mixture
from divergences.estimate import Estimate
from divergences.expectation import Quadrature
from divergences.f_divergences import kl

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


def _relabelled_cycle() -> Estimate:
    """G = a rotation of the plane, F = its inverse: N(0, I) is mapped onto itself, and F(G(x)) = x."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(1000, 2))
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return Estimate(float(np.abs(x @ turn.T @ turn - x).mean()), 1e-14, method="cycle loss of a rotation")


def _rotated_kl() -> Estimate:
    """KL between N(0, I) and its image under that rotation: the adversarial loss sees nothing either."""
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return kl(Gaussian([0.0, 0.0], turn @ turn.T), Gaussian([0.0, 0.0], np.eye(2)), expect=_INTEGRATE)


# A conditional law with a clear difference between mean and median: an exponential, scale 2.
_TARGETS = stats.expon(scale=2.0).ppf((np.arange(200_001) + 0.5) / 200_001)


def _regression(power: int) -> Estimate:
    """The constant that minimises the mean |target − c|^power."""
    best = optimize.minimize_scalar(
        lambda c: float(np.mean(np.abs(_TARGETS - c) ** power)),
        bounds=(0.0, 8.0),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return Estimate(float(best.x), 1e-4, method="search over constants, 200 001 quantiles")


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


def _em(left: bool) -> Estimate:  # noqa: FBT001
    """The smallest gain of mean log-likelihood in 60 steps of EM on a mixture of two Gaussians."""
    x = Mixture([Gaussian(-1.0, 0.16), Gaussian(1.5, 0.64)], [0.3, 0.7]).sample(400, np.random.default_rng(6))[:, 0]
    weight, means, variances = 0.5, np.array([-0.2, 0.2]), np.array([1.0, 1.0])
    gains, previous = [], None
    for _ in range(60):
        parts = zip((weight, 1 - weight), means, variances, strict=True)
        joint = np.stack([np.log(w) + stats.norm.logpdf(x, m, np.sqrt(v)) for w, m, v in parts])
        likelihood = float(special.logsumexp(joint, axis=0).mean())
        if previous is not None:
            gains.append(likelihood - previous)
        previous = likelihood
        duty = special.softmax(joint, axis=0)
        mass = duty.sum(axis=1)
        weight, means = float(mass[0] / len(x)), duty @ x / mass
        variances = np.array([duty[k] @ (x - means[k]) ** 2 / mass[k] for k in range(2)])
    return exact(0.0) if left else Estimate(min(gains), 1e-14, method="smallest of 59 gains")


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
        "a-relabelling-has-no-cycle-loss",
        r"F = G^{-1},\; G_\# p = p \;\Rightarrow\; \mathbb{E}|F(G(x)) - x| = 0",
        "=",
        CYCLE,
        _relabelled_cycle,
        lambda: exact(0.0),
    ),
    Claim(
        "a-relabelling-has-no-adversarial-loss",
        r"G \text{ a rotation} \;\Rightarrow\; \mathrm{KL}(G_\# \mathcal N(0, I) \| \mathcal N(0, I)) = 0",
        "=",
        CYCLE,
        _rotated_kl,
        lambda: exact(0.0),
    ),
    Claim(
        "l2-gives-the-mean",
        r"\arg\min_c \mathbb{E}(y - c)^2 = \mathbb{E} y",
        "=",
        BISHOP,
        lambda: _regression(2),
        lambda: exact(2.0),
    ),
    Claim(
        "l1-gives-the-median",
        r"\arg\min_c \mathbb{E}|y - c| = \mathrm{median}\,y",
        "=",
        BISHOP,
        lambda: _regression(1),
        lambda: exact(2.0 * float(np.log(2.0))),
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
        r"0 \le \ell(\theta_{t+1}) - \ell(\theta_t)",
        "≤",
        DEMPSTER,
        lambda: _em(left=True),
        lambda: _em(left=False),
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
