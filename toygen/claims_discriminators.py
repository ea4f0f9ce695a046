r"""Claims about trained discriminators: D → D*, V → 2·JSD − log 4, and what the other objectives converge to.

One side is measured on the trained networks with fresh samples; the other is computed from the exact densities, that
of the trained generator by ``pushforward``. Where a statement holds for every D (identities, bounds) nothing depends on
how well the training went; where one says that training comes near, the distance stands in the statement, and the
left side is the upper end of a 99.9 % interval for the mean over seeds.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from scipy.special import expit, log_expit, ndtri

from divergences import Estimate, hellinger, jsd, total_variation
from divergences.adversarial import CONVENTIONS, gan_regret
from divergences.claim import Claim, exact
from divergences.distributions import Gaussian
from divergences.expectation import Quadrature
from toygen.claims_studies import (
    Trained,
    at_least,
    at_most,
    ensemble_mean,
    network_stage,
    outputs,
    train_discriminators,
)
from toygen.sampler import Sampler

__all__ = ["DISCRIMINATORS"]

GOODFELLOW = "Generative Adversarial Networks (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661"
MAO = "Least squares generative adversarial networks (Mao et al., 2017), https://arxiv.org/abs/1611.04076"
GEOMETRIC = "Geometric GAN (Lim, Ye, 2017), https://arxiv.org/abs/1705.02894"
NOWOZIN = "f-GAN (Nowozin, Cseke, Tomioka, 2016), https://arxiv.org/abs/1606.00709"
PINSKER = "Elements of information theory (Cover, Thomas, 2006), lemma 11.6.1, https://doi.org/10.1002/047174882X"
DKW = "The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality (Massart, 1990), https://www.jstor.org/stable/2244426"
BOREL = "The Brunn-Minkowski inequality in Gauss space (Borell, 1975), https://doi.org/10.1007/BF01425510"

_STEPS = 3000
_FINE = Quadrature(tol=1e-5, max_nodes=2_000_000)
_DRAWS = 400_000
# Samples come with 99.99 %: one table in ten thousand fails by their chance.
_Z = float(ndtri(1 - 0.5e-4))


def _trained(objective: str, stage: str = "network") -> Trained:
    trained: Trained = train_discriminators(stage, objective, "none", _STEPS)
    return trained


@functools.cache
def _fresh(stage: str) -> tuple[np.ndarray, np.ndarray]:
    """Points of p and of the generator, drawn and not integrated."""
    where = _trained("minimax", stage).stage
    rng = np.random.default_rng(23)
    return where.p.sample(_DRAWS, rng)[:, 0], where.q.sample(_DRAWS, rng)[:, 0]


def _sampled(
    objective: str, real: Callable[[np.ndarray], np.ndarray], fake: Callable[[np.ndarray], np.ndarray], stage: str
) -> Estimate:
    """E_p real(a(x)) + E_q fake(a(x)) of the first member, on samples."""
    x, y = _fresh(stage)
    network = _trained(objective, stage).discriminator.pick([0])
    parts = real(outputs(network, x)[0]), fake(outputs(network, y)[0])
    arm = _Z * math.sqrt(sum(float(part.var()) / len(part) for part in parts))
    value = float(sum(part.mean() for part in parts))
    return Estimate(value, arm, level=0.9999, method="fresh samples of both laws", n=2 * _DRAWS)


def _gap(objective: str, stage: str) -> tuple[np.ndarray, np.ndarray]:
    """E_m|D − D*| of every member, with its numerical error; and |D − D*| at the nodes where m > 1e-3."""
    trained = _trained(objective, stage)
    where = trained.stage
    output = where.outputs(trained.discriminator)
    answer = output if objective == "least_squares" else expit(output)
    apart = np.abs(answer - where.d_star)
    mean, error = where.mean(apart)
    x = where.x.reshape(-1, 1)
    dense = 0.5 * np.exp(where.p.log_prob(x)) + 0.5 * np.exp(where.q.log_prob(x)) > 1e-3
    return mean + error, apart.reshape(len(apart), -1)[:, dense].max(axis=1)


def _mean_gap(objective: str, stage: str) -> Estimate:
    return ensemble_mean(_gap(objective, stage)[0], "E_m|D − D*| by quadrature")


def _largest_gap(stage: str) -> Estimate:
    return ensemble_mean(_gap("minimax", stage)[1], "largest of 40 002 nodes")


def _pinsker(left: bool) -> Estimate:  # noqa: FBT001
    """E_m|D − D*|, and ½√(V* − V) with V sampled: V* − V = 2·E_m KL(coins) ≥ 4·E_m (D − D*)² ≥ 4·(E_m|D − D*|)²."""
    where = _trained("minimax").stage
    if left:
        trained = _trained("minimax")
        apart = np.abs(expit(where.outputs(trained.discriminator)) - where.d_star)[:1]
        mean, error = where.mean(apart)
        return Estimate(float(mean[0]), float(error[0]), method="quadrature, the first member")
    apart = jsd(where.p, where.q, expect=_FINE)
    value = _value("minimax", "goodfellow")
    short = 2 * apart.value - math.log(4) - value.value
    arm = value.error + 2 * apart.error
    low, high = (0.5 * math.sqrt(max(end, 0.0)) for end in (short - arm, short + arm))
    middle = 0.5 * math.sqrt(max(short, 0.0))
    method = "½√(2·JSD − log 4 − V), V sampled"
    return Estimate(middle, max(high - middle, middle - low), method=method, bounds=(low, high))


def _value(objective: str, convention: str) -> Estimate:
    rules = CONVENTIONS[convention]
    return _sampled(
        objective,
        lambda a: rules.scale * log_expit(rules.sign * a),
        lambda a: rules.scale * log_expit(-rules.sign * a),
        "network",
    )


def _value_by_densities(objective: str, convention: str) -> Estimate:
    """scale·(2·JSD − log 4) − regret, both integrals over exact densities."""
    trained = _trained(objective)
    where, network = trained.stage, trained.discriminator.pick([0])
    apart = jsd(where.p, where.q, expect=_FINE)
    short = gan_regret(
        lambda x: outputs(network, np.asarray(x)[:, 0])[0], where.p, where.q, convention=convention, expect=_FINE
    )
    scale = CONVENTIONS[convention].scale
    return Estimate(
        scale * (2 * apart.value - math.log(4)) - short.value,
        2 * scale * apart.error + short.error,
        method="JSD and regret by quadrature over the exact p_g",
    )


def _best_less(allowance: float) -> Estimate:
    where = network_stage()
    apart = jsd(where.p, where.q, expect=_FINE)
    return Estimate(2 * apart.value - math.log(4) - allowance, 2 * apart.error, method=apart.method)


def _squares() -> Estimate:
    return _sampled("least_squares", lambda a: -0.5 * (a - 1) ** 2, lambda a: -0.5 * a**2, "network")


def _squares_by_densities() -> Estimate:
    """−½E_p[q/(p + q)] − ½∫(p + q)(a − D*)²: at each x the parabola's top, less its fall."""
    trained = _trained("least_squares")
    where = trained.stage
    a = where.outputs(trained.discriminator)[:1]
    # ½p(a − 1)² + ½q·a² = ½(p + q)((a − D*)² + D*(1 − D*)); E_m counts half of p + q.
    value, error = where.mean(-((a - where.d_star) ** 2 + where.d_star * (1 - where.d_star)))
    return Estimate(float(value[0]), float(error[0]) + 1e-9, method="quadrature over the exact p_g")


def _hinge() -> Estimate:
    return _sampled("hinge", lambda a: -np.maximum(1 - a, 0), lambda a: -np.maximum(1 + a, 0), "network")


def _hinge_best(allowance: float) -> Estimate:
    where = network_stage()
    apart = total_variation(where.p, where.q, expect=_FINE)
    return Estimate(2 * apart.value - 2 - allowance, 2 * apart.error, method=apart.method)


def _hellinger() -> Estimate:
    """E_p T − E_q f*(T) with T = 1 − eᵛ, f*(T) = T/(1 − T) = e⁻ᵛ − 1: a lower bound of 2·H²."""
    return _sampled("f_gan_squared_hellinger", lambda v: -np.expm1(v), lambda v: -np.expm1(-v), "network")


def _hellinger_best(allowance: float) -> Estimate:
    where = network_stage()
    apart = hellinger(where.p, where.q, expect=_FINE)
    # The table's f(u) = (√u − 1)² integrates to twice H² = 1 − ∫√(pq).
    return Estimate(2 * apart.value - allowance, 2 * apart.error, method=apart.method)


def _kl_bound() -> Estimate:
    return _sampled("f_gan_kl", lambda v: v, lambda v: -np.exp(v - 1), "gaussian 1.0")


def _ks(left: bool) -> Estimate:  # noqa: FBT001
    """sup|F_n − F| of the generator's own samples against the CDF of its pushforward; and the bound at 10⁻⁴."""
    if not left:
        bound = math.sqrt(math.log(2 / 1e-4) / (2 * _DRAWS))
        return Estimate(bound, 0.0, level=0.9999, method="bound at 10⁻⁴", n=_DRAWS)
    where = network_stage()
    z = np.random.default_rng(29).standard_normal((_DRAWS, 1))
    x = np.sort(Sampler(where.generator, Gaussian(0.0, 1.0)).push(z)[:, 0])
    cdf = where.q.cdf(x)
    rank = np.arange(_DRAWS)
    return exact(float(max((cdf - rank / _DRAWS).max(), ((rank + 1) / _DRAWS - cdf).max())), "samples against the CDF")


def _filament(left: bool) -> Estimate:  # noqa: FBT001
    """P(between the modes): at least Φ(Φ⁻¹(P(left)) + gap/L) − P(left), L the steepest slope of G; the share seen."""
    from scipy.special import ndtr

    where = network_stage()
    low, high = -0.25, 0.5
    if not left:
        y = _fresh("network")[1]
        share = float(((y > low) & (y <= high)).mean())
        return Estimate(share, _Z * math.sqrt(share * (1 - share) / _DRAWS), level=0.9999, method="samples", n=_DRAWS)
    x = where.x[1]
    slope = float(np.abs(np.diff(x)).max() / (16.0 / (len(x) - 1)))
    below = float(where.q.cdf(np.array([low]))[0])
    bound = float(ndtr(ndtri(below) + (high - low) / slope)) - below
    return exact(bound, "isoperimetry and the steepest slope of G")


def _near(name: str, stage: str, law: str, bound: float) -> Claim:
    return Claim(
        name,
        rf"E_m|D - D^*| \le {bound} \text{{ after training; }} {law}",
        "≤",
        GOODFELLOW,
        lambda: at_most(_mean_gap("minimax", stage)),
        lambda: exact(bound, "stated"),
    )


DISCRIMINATORS: tuple[Claim, ...] = (
    Claim(
        "pushforward-is-the-law",
        r"\sup_x |F_n(x) - F_{p_g}(x)| \le \sqrt{\log(2/\alpha)/2n} \text{ for a trained } G,\ \alpha = 10^{-4}",
        "≤",
        DKW,
        lambda: _ks(left=True),
        lambda: _ks(left=False),
    ),
    Claim(
        "mass-between-the-modes",
        r"p_g(\text{gap}) \ge \Phi(\Phi^{-1}(P) + w/L) - P: \text{ a continuous } G \text{ leaves filaments}",
        "≤",
        BOREL,
        lambda: _filament(left=True),
        lambda: _filament(left=False),
    ),
    _near("trained-d-near-d-star", "network", r"p_g \text{ of a trained } G", 0.03),
    _near("trained-d-near-d-star-smooth", "gaussian 1.0", r"\text{two Gaussians}", 0.01),
    Claim(
        "trained-d-near-d-star-everywhere",
        r"\sup_{m > 10^{-3}} |D - D^*| \le 0.03 \text{ after training; two Gaussians}",
        "≤",
        GOODFELLOW,
        lambda: at_most(_largest_gap("gaussian 1.0")),
        lambda: exact(0.03, "stated"),
    ),
    Claim(
        "regret-bounds-distance",
        r"E_m|D - D^*| \le \tfrac12\sqrt{V(D^*, G) - V(D, G)}",
        "≤",
        PINSKER,
        lambda: _pinsker(left=True),
        lambda: _pinsker(left=False),
    ),
    *(
        Claim(
            f"trained-value-{convention.replace('_', '-')}",
            (r"\tfrac12\," if convention == "flipped_half" else "")
            + r"(2\,\mathrm{JSD}(p, p_g) - \log 4) - V_{\mathrm{"
            + convention.replace("_", " ")
            + r"}}(D, G) = \mathrm{regret}(D) \text{ for trained } D, G",
            "=",
            GOODFELLOW,
            functools.partial(_value, objective, convention),
            functools.partial(_value_by_densities, objective, convention),
        )
        for objective, convention in (
            ("minimax", "goodfellow"),
            ("flipped", "flipped"),
            ("flipped_half", "flipped_half"),
        )
    ),
    Claim(
        "trained-value-reaches-jsd",
        r"2\,\mathrm{JSD}(p, p_g) - \log 4 - 0.02 \le V(D, G) \text{ after training}",
        "≤",
        GOODFELLOW,
        lambda: _best_less(0.02),
        lambda: at_least(_value("minimax", "goodfellow")),
    ),
    Claim(
        "least-squares-value",
        r"-\tfrac12 E_p(a-1)^2 - \tfrac12 E_q a^2 = -\tfrac12 E_p\tfrac{q}{p+q} - \tfrac12\int (p+q)(a - D^*)^2",
        "=",
        MAO,
        _squares,
        _squares_by_densities,
    ),
    Claim(
        "least-squares-near-d-star",
        r"a \to \tfrac{p}{p + p_g}: \; E_m|a - D^*| \le 0.05 \text{ after training}",
        "≤",
        MAO,
        lambda: at_most(_mean_gap("least_squares", "network")),
        lambda: exact(0.05, "stated"),
    ),
    Claim(
        "hinge-value-bounded",
        r"-E_p(1-a)_+ - E_q(1+a)_+ \le 2\,\mathrm{TV}(p, p_g) - 2 \text{ for a trained } a",
        "≤",
        GEOMETRIC,
        _hinge,
        lambda: _hinge_best(0.0),
    ),
    Claim(
        "hinge-value-reached",
        r"2\,\mathrm{TV}(p, p_g) - 2 - 0.05 \le -E_p(1-a)_+ - E_q(1+a)_+ \text{ after training}",
        "≤",
        GEOMETRIC,
        lambda: _hinge_best(0.05),
        lambda: at_least(_hinge()),
    ),
    Claim(
        "f-gan-hellinger-bounded",
        r"E_p T - E_q f^*(T) \le D_f(p \| p_g),\ f = (\sqrt u - 1)^2, \text{ for a trained } T",
        "≤",
        NOWOZIN,
        _hellinger,
        lambda: _hellinger_best(0.0),
    ),
    Claim(
        "f-gan-hellinger-reached",
        r"D_f(p \| p_g) - 0.02 \le E_p T - E_q f^*(T),\ f = (\sqrt u - 1)^2, \text{ after training}",
        "≤",
        NOWOZIN,
        lambda: _hellinger_best(0.02),
        lambda: at_least(_hellinger()),
    ),
    Claim(
        "f-gan-kl-bounded",
        r"E_p T - E_q e^{T-1} \le \mathrm{KL}(N(0,1) \| N(1,1)) = \tfrac12 \text{ for a trained } T",
        "≤",
        NOWOZIN,
        _kl_bound,
        lambda: exact(0.5),
    ),
    Claim(
        "f-gan-kl-reached",
        r"\tfrac12 - 0.02 \le E_p T - E_q e^{T-1} \text{ after training, } p = N(0,1),\ q = N(1,1)",
        "≤",
        NOWOZIN,
        lambda: exact(0.48),
        lambda: at_least(_kl_bound()),
    ),
)
