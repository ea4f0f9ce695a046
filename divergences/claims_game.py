r"""Claims about the GAN game itself: the best discriminator, the value it gives, what falls short, what descent does.

One side is this package (quadrature placed by the laws); the other is a closed form, ``scipy.integrate.quad`` on the
textbook formula, a golden-section search, or Monte Carlo.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from divergences.adversarial import CONVENTIONS, gan_value, optimal_discriminator, optimal_logit
from divergences.claim import Claim, exact
from divergences.claims_textbook import P, Q, density, quad, textbook_jsd
from divergences.descent import descend
from divergences.distributions import Gaussian, Mixture, Uniform
from divergences.estimate import Estimate
from divergences.expectation import MonteCarlo, Quadrature
from divergences.f_divergences import LOG2, LOG4, js_distance, jsd, kl

__all__ = ["GAME"]

GOODFELLOW = "Generative Adversarial Networks (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661"
LIN = "Divergence Measures Based on the Shannon Entropy (Lin, 1991), https://doi.org/10.1109/18.61115"
ENDRES = (
    "A New Metric for Probability Distributions (Endres, Schindelin, 2003), https://doi.org/10.1109/TIT.2003.813506"
)
PRINCIPLED = "Towards Principled Methods for Training GANs (Arjovsky, Bottou, 2017), https://arxiv.org/abs/1701.04862"
RELATIVE = "Relatively Smooth Convex Optimization (Lu, Freund, Nesterov, 2018), https://arxiv.org/abs/1610.05708"

# The same law as P in other clothes: p = q without p and q being one object.
_P_AGAIN = Mixture([Gaussian(1.5, 0.64), Gaussian(-1.0, 0.16), Gaussian(1.5, 0.64)], [0.35, 0.3, 0.35])
_PROBES = np.linspace(-2.5, 3.5, 13)


def _searched(a: float, b: float) -> float:
    """The D in (0, 1) that maximises a log D + b log(1 − D), by golden-section search."""
    from scipy import optimize

    top = max(a, b)
    a, b = a / top, b / top

    def loss(d: float) -> float:
        return -(a * np.log(d) + b * np.log1p(-d))

    return float(optimize.minimize_scalar(loss, bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-11}).x)


def _best_responses(convention: str) -> list[float]:
    """The best D at each probe; with flipped labels D is the probability of "fake"."""
    p, q = (density(P), density(Q))[:: 1 if CONVENTIONS[convention].sign > 0 else -1]
    return [_searched(p(x), q(x)) for x in _PROBES]


def _worst_probe(convention: str) -> int:
    """The probe where search and formula differ most."""
    formula = optimal_discriminator(P, Q, convention=convention)(_PROBES[:, None])
    return int(np.argmax(np.abs(np.array(_best_responses(convention)) - formula)))


def _searched_d_star(convention: str) -> Estimate:
    # A search for a flat top cannot place it better than the square root of the machine precision.
    value = _best_responses(convention)[_worst_probe(convention)]
    return Estimate(value, 1e-7, method="golden-section search at the worst of 13 points")


def _formula_d_star(convention: str) -> Estimate:
    d_star = optimal_discriminator(P, Q, convention=convention)(_PROBES[:, None])
    return exact(float(d_star[_worst_probe(convention)]), "formula")


def _best_rival() -> Estimate:
    """The largest V(D, G) among 15 disturbed copies of D*."""
    rng = np.random.default_rng(0)
    best = optimal_logit(P, Q)
    values = []
    for size in np.geomspace(1e-3, 3.0, 15):
        frequency, phase = rng.uniform(0.3, 3.0), rng.uniform(0.0, 2 * np.pi)

        def rival(x: np.ndarray, size: float = size, frequency: float = frequency, phase: float = phase) -> np.ndarray:
            return best(x) + size * np.sin(frequency * x[:, 0] + phase)

        values.append(gan_value(rival, P, Q, expect=Quadrature(tol=1e-9)))
    return max(values, key=float)


def _smallest_value() -> Estimate:
    """The smallest V(D*, G) over generators that slide past p and change their width."""
    family = [Gaussian(mean, width**2) for mean in (-2.0, 0.0, 1.0, 4.0) for width in (0.3, 1.0, 3.0)]
    values = [gan_value(optimal_logit(P, q), P, q) for q in [*family, _P_AGAIN]]
    return min(values, key=float)


def random_pairs() -> list[tuple[Mixture, Mixture]]:
    """Twelve pairs of mixtures of up to four Gaussians."""
    rng = np.random.default_rng(7)

    def draw() -> Mixture:
        k = int(rng.integers(1, 5))
        parts = [Gaussian(rng.normal(0, 4), rng.uniform(0.05, 2.0) ** 2) for _ in range(k)]
        return Mixture(parts, rng.dirichlet(np.ones(k)))

    return [(draw(), draw()) for _ in range(12)]


def _extreme_jsd(largest: bool) -> Estimate:  # noqa: FBT001
    """The smallest or largest ½KL(p‖m) + ½KL(q‖m) among eight pairs, equal and far-apart ones included."""
    values = []
    for p, q in [*random_pairs()[:6], (P, _P_AGAIN), (P, Mixture([Gaussian(60.0, 1.0)]))]:
        middle = Mixture([p, q])
        a, b = kl(p, middle), kl(q, middle)
        values.append(Estimate((a.value + b.value) / 2, (a.error + b.error) / 2, method=a.method))
    return (max if largest else min)(values, key=float)


@cache
def _detour() -> tuple[Estimate, Estimate]:
    """√JSD(p, r) and √JSD(p, q) + √JSD(q, r) for the triple, of five, that comes closest to equality."""
    triples = [(p, q, other) for (p, q), (other, _) in zip(random_pairs()[:5], random_pairs()[5:10], strict=True)]
    sides = []
    for p, q, r in triples:
        first, second = js_distance(p, q), js_distance(q, r)
        through = Estimate(first.value + second.value, first.error + second.error, method=first.method)
        sides.append((js_distance(p, r), through))
    return min(sides, key=lambda side: side[1].value - side[0].value)


@cache
def _linear_weights() -> tuple[float, float]:
    """The best σ(ax + b) against P and Q, a fixed architecture of two weights, by BFGS on a fine grid."""
    from scipy import optimize

    x = np.linspace(-6.0, 7.0, 1301)
    p, q = np.exp(P.log_prob(x)), np.exp(Q.log_prob(x))

    def loss(weights: np.ndarray) -> float:
        logit = weights[0] * x + weights[1]
        return float(p @ np.logaddexp(0, -logit) + q @ np.logaddexp(0, logit)) / 100

    best = optimize.minimize(loss, np.zeros(2), method="BFGS", options={"gtol": 1e-7})
    return float(best.x[0]), float(best.x[1])


def _linear_value() -> Estimate:
    """The best V(D, G) among D(x) = σ(ax + b): one layer is not enough for a bimodal log-ratio."""
    slope, offset = _linear_weights()
    return gan_value(lambda x: slope * x[:, 0] + offset, P, Q)


def _regret_by_values() -> Estimate:
    best, linear = gan_value(optimal_logit(P, Q), P, Q), _linear_value()
    return Estimate(best.value - linear.value, best.error + linear.error, method="V(D*, G) − V(D, G)")


def _regret_by_coins() -> Estimate:
    """∫ (p + q)·KL(coin D* ‖ coin D): how wrong D is about the label at each x."""
    slope, offset = _linear_weights()
    p, q = density(P), density(Q)

    def integrand(x: float) -> float:
        a, b = p(x), q(x)
        if a == 0 or b == 0:
            return 0.0
        logit = slope * x + offset
        return a * (np.log(a / (a + b)) + np.logaddexp(0, -logit)) + b * (np.log(b / (a + b)) + np.logaddexp(0, logit))

    return quad(integrand, -9.0, 12.0, (-1.0, 0.0, 1.0, 2.0))


_RIVALS = (Gaussian(-1.0, 0.5), Gaussian(2.0, 1.0))


@cache
def _convexity() -> tuple[Estimate, Estimate]:
    """Sup_D V at a mixture of two generators and the mean of the two sup_D V, at the tightest of nine weights."""
    ends = [textbook_jsd(2.0, -LOG4, density(P), density(q)) for q in _RIVALS]
    sides = []
    for weight in np.linspace(0.1, 0.9, 9):
        middle = Mixture(_RIVALS, [weight, 1 - weight])
        mean = weight * ends[0].value + (1 - weight) * ends[1].value
        chord = Estimate(mean, max(ends[0].error, ends[1].error), method="2·JSD − log 4 by scipy, averaged")
        sides.append((gan_value(optimal_logit(P, middle), P, middle), chord))
    return min(sides, key=lambda side: side[1].value - side[0].value)


def _sure_and_right() -> Estimate:
    """P(D* is sure of "real" | real)/2 + P(sure of "fake" | fake)/2 where the supports touch but do not overlap."""
    p, q = Uniform(0.0, 1.0), Mixture([Uniform(-1.0, 0.0), Uniform(1.0, 3.0)])
    d_star = optimal_discriminator(p, q)
    rng = np.random.default_rng(1)
    right = (d_star(p.sample(10_000, rng)) == 1).mean() / 2 + (d_star(q.sample(10_000, rng)) == 0).mean() / 2
    return exact(float(right), "20 000 samples")


def _descent(left: bool) -> Estimate:  # noqa: FBT001
    """C(q_k) + log 4 and KL(p‖q_0)/(ηk) at the step, of sixty, at which they come closest."""
    rate, start = 0.5, Gaussian(3.0, 4.0)
    descent = descend(P, start, steps=60, rate=rate)
    bound = textbook_kl(P, start)
    steps = np.arange(1, 61)
    ratios = (descent.values[1:] + LOG4) * rate * steps / bound.value
    k = int(np.argmax(ratios)) + 1
    if left:
        return Estimate(float(descent.values[k] + LOG4), descent.error, method="mirror descent on 400 cells")
    return Estimate(bound.value / (rate * k), bound.error / (rate * k), method=bound.method)


def textbook_kl(p: Mixture | Gaussian, q: Mixture | Gaussian) -> Estimate:
    """∫ p log p/q by scipy."""
    first, second = density(p), density(q)

    def integrand(x: float) -> float:
        a = first(x)
        return a * float(np.log(a / second(x))) if a > 0 else 0.0

    return quad(integrand, -9.0, 12.0, (-1.0, 1.5))


GAME: tuple[Claim, ...] = (
    *(
        Claim(
            f"d-star-{name.replace('_', '-')}",
            rf"\arg\max_D V_{{\mathrm{{{name.replace('_', ' ')}}}}} = "
            + (r"\frac{p}{p+p_g}" if rules.sign > 0 else r"\frac{p_g}{p+p_g}"),
            "=",
            GOODFELLOW,
            lambda name=name: _searched_d_star(name),  # type: ignore[misc]
            lambda name=name: _formula_d_star(name),  # type: ignore[misc]
        )
        for name, rules in CONVENTIONS.items()
    ),
    Claim(
        "discriminator-no-better",
        r"V(D, G) \le V(D^*, G)",
        "≤",
        GOODFELLOW,
        _best_rival,
        lambda: textbook_jsd(2.0, -LOG4),
    ),
    Claim(
        "value-is-jsd",
        r"V(D^*, G) = 2\,\mathrm{JSD}(p, p_g) - \log 4",
        "=",
        GOODFELLOW,
        lambda: gan_value(optimal_logit(P, Q), P, Q),
        lambda: textbook_jsd(2.0, -LOG4),
    ),
    Claim(
        "value-by-sampling",
        r"\mathbb{E}_p[\log D^*] + \mathbb{E}_{p_g}[\log(1-D^*)] = 2\,\mathrm{JSD}(p, p_g) - \log 4",
        "=",
        GOODFELLOW,
        # Four standard errors: this one is random, and the table must not fail one time in twenty.
        lambda: gan_value(
            optimal_logit(P, Q), P, Q, expect=MonteCarlo(np.random.default_rng(11), n=200_000, level=0.9999)
        ),
        lambda: textbook_jsd(2.0, -LOG4),
    ),
    Claim(
        "value-at-equality",
        r"p_g = p \;\Rightarrow\; V(D^*, G) = -\log 4",
        "=",
        GOODFELLOW,
        lambda: gan_value(optimal_logit(P, _P_AGAIN), P, _P_AGAIN),
        lambda: exact(-LOG4),
    ),
    Claim(
        "half-at-equality",
        r"p_g = p \;\Rightarrow\; D^* = \tfrac12",
        "=",
        GOODFELLOW,
        lambda: Estimate(
            float(max(optimal_discriminator(P, _P_AGAIN)(np.linspace(-6, 8, 201)), key=lambda d: abs(d - 0.5))),
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
        lambda: gan_value(optimal_logit(P, Q, convention="flipped"), P, Q, convention="flipped"),
        lambda: textbook_jsd(2.0, -LOG4),
    ),
    Claim(
        "flipped-half",
        r"\tfrac12\mathbb{E}_p[\log(1-D^*)] + \tfrac12\mathbb{E}_{p_g}[\log D^*] = \mathrm{JSD} - \log 2",
        "=",
        GOODFELLOW,
        lambda: gan_value(optimal_logit(P, Q, convention="flipped_half"), P, Q, convention="flipped_half"),
        lambda: textbook_jsd(1.0, -LOG2),
    ),
    Claim(
        "jsd-symmetric",
        r"\mathrm{JSD}(p, q) = \mathrm{JSD}(q, p)",
        "=",
        LIN,
        lambda: jsd(P, Q),
        lambda: textbook_jsd(1.0, 0.0, density(Q), density(P)),
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
        "root-jsd-is-a-metric",
        r"\sqrt{\mathrm{JSD}(p, r)} \le \sqrt{\mathrm{JSD}(p, q)} + \sqrt{\mathrm{JSD}(q, r)}",
        "≤",
        ENDRES,
        lambda: _detour()[0],
        lambda: _detour()[1],
    ),
    Claim(
        "linear-discriminator-falls-short",
        r"\max_{a,b} V(\sigma(ax+b), G) \le V(D^*, G) - 0.1",
        "≤",
        GOODFELLOW,
        _linear_value,
        lambda: textbook_jsd(2.0, -LOG4 - 0.1),
    ),
    Claim(
        "regret-is-a-divergence-of-coins",
        r"V(D^*, G) - V(D, G) = \int (p + p_g)\,\mathrm{KL}\big(\mathrm{Bern}(D^*) \| \mathrm{Bern}(D)\big)\,dx",
        "=",
        GOODFELLOW,
        _regret_by_values,
        _regret_by_coins,
    ),
    Claim(
        "sup-v-is-convex",
        r"\sup_D V(D, \lambda q_1 + (1-\lambda) q_2) \le \lambda \sup_D V(D, q_1) + (1-\lambda) \sup_D V(D, q_2)",
        "≤",
        GOODFELLOW,
        lambda: _convexity()[0],
        lambda: _convexity()[1],
    ),
    Claim(
        "descent-in-function-space",
        r"q_{k+1} \propto q_k (1-D^*)^{-\eta} \;\Rightarrow\; "
        r"\max_D V(D, q_k) + \log 4 \le \tfrac{1}{\eta k} \mathrm{KL}(p \| q_0)",
        "≤",
        RELATIVE,
        lambda: _descent(left=True),
        lambda: _descent(left=False),
    ),
    Claim(
        "descent-ends-at-p",
        r"p_g \to p \text{ and } \max_D V(D, p_g) \to -\log 4 \text{ (descent on } p_g \text{ itself)}",
        "=",
        GOODFELLOW,
        lambda: descend(P, Gaussian(3.0, 4.0), steps=80, rate=1.0).end,
        lambda: exact(-LOG4),
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
        "perfect-discriminator-is-sure",
        r"\mathrm{supp}\,p \cap \mathrm{supp}\,p_g = \emptyset \;\Rightarrow\; "
        r"D^* = 1 \text{ on } p,\; D^* = 0 \text{ on } p_g",
        "=",
        PRINCIPLED,
        _sure_and_right,
        lambda: exact(1.0),
    ),
)
