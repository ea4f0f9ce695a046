r"""Claims about trained critics: clipped, penalised and normalised ones beside Kantorovich's own.

All of them are trained between N(0, 1) and N(2, 1), where W₁ = 2 and everything is known: the exact critic is
f(x) = −x, and the critic that a gradient penalty really asks for can be written down, too (``_penalised``).
"""

from __future__ import annotations

import functools

import numpy as np
import torch

from divergences import Estimate, wasserstein
from divergences.claim import Claim, exact
from toygen.claims_studies import MEMBERS, Trained, at_least, at_most, ensemble_mean, outputs, train_discriminators
from toygen.layers import SpectralLinear
from toygen.probes import slopes_between

__all__ = ["CRITICS"]

WGAN = "Wasserstein GAN (Arjovsky, Chintala, Bottou, 2017), https://arxiv.org/abs/1701.07875"
IMPROVED = "Improved Training of Wasserstein GANs (Gulrajani et al., 2017), https://arxiv.org/abs/1704.00028"
PETZKA = (
    "On the regularization of Wasserstein GANs (Petzka, Fischer, Lukovnikov, 2018), https://arxiv.org/abs/1709.08894"
)
MIYATO = "Spectral normalization for GANs (Miyato et al., 2018), https://arxiv.org/abs/1802.05957"
VILLANI = "Optimal Transport: Old and New (Villani, 2009), theorem 5.10, https://doi.org/10.1007/978-3-540-71050-9"

_DISTANCE, _LAMBDA, _BOUND = 2.0, 10.0, 0.01
_STEPS = {"clip": 600, "gradient_penalty": 1200, "one_sided": 600, "spectral": 600}
_POINTS = 20_000


def _trained(penalty: str) -> Trained:
    trained: Trained = train_discriminators(f"gaussian {_DISTANCE}", "wasserstein", penalty, _STEPS[penalty])
    return trained


@functools.cache
def _samples(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Of both laws, for all members: (K, n, 1) each."""
    rng = np.random.default_rng(37)
    return rng.normal(0.0, 1.0, (MEMBERS, n, 1)), rng.normal(_DISTANCE, 1.0, (MEMBERS, n, 1))


@functools.cache
def _slopes(penalty: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steepest and mean |∇f| between the samples, and the half-width of the mean: (K,) each."""
    x, y = _samples(_POINTS)
    mix = np.random.default_rng(38).random((MEMBERS, _POINTS, 1))
    steepest, mean = slopes_between(_trained(penalty).discriminator, x, y, mix)
    return steepest, mean.value, mean.error


@functools.cache
def _claims(penalty: str) -> np.ndarray:
    """E_p f − E_q f of every member, on samples."""
    x, y = _samples(_POINTS)
    network = _trained(penalty).discriminator
    return np.array([outputs(network.pick([k]), x[k, :, 0])[0].mean() for k in range(MEMBERS)]) - np.array(
        [outputs(network.pick([k]), y[k, :, 0])[0].mean() for k in range(MEMBERS)]
    )


def _penalised_slope() -> Estimate:
    """W₁/2λ, from what maximising E_p f − E_q f − λ·E_x̂(|f′| − 1)² asks for on the line.

    With h = G − F ≥ 0 and r the density of x̂ the integrand is h·|f′| − λ·r·(|f′| − 1)² where f climbs towards the
    data, so |f′| = 1 + h/(2λr), and E_x̂|f′| = 1 + ∫h/2λ. Where f falls towards the data, the other well of the penalty
    holds it there: |f′| = 1 − h/(2λr), a local optimum, of a critic that stands on its head.
    """
    return exact(_DISTANCE / (2 * _LAMBDA), "closed form")


def _mean_slope() -> Estimate:
    _, mean, error = _slopes("gradient_penalty")
    upright = np.where(_claims("gradient_penalty") > 0, 1.0, -1.0)
    method = f"±(|f′| − 1) between the samples, {int((upright > 0).sum())} upright"
    return ensemble_mean(upright * (mean - 1), method, float(error.max()))


def _share_at_bounds() -> Estimate:
    """Of all weights and biases of each member, those within 1 % of ±c, and not beyond."""
    network = _trained("clip").discriminator
    parts = [p.detach().abs().flatten(1) for layer in network.dense for p in (layer.weight, layer.bias)]
    sizes = torch.cat(parts, dim=1).numpy()
    at_bounds = (sizes >= 0.99 * _BOUND) & (sizes <= 1.000001 * _BOUND)
    return ensemble_mean(at_bounds.mean(axis=1), "share of 0.99 c ≤ |w| ≤ c")


def _clipped_claims() -> Estimate:
    return ensemble_mean(_claims("clip"), "E_p f − E_q f on samples")


def _points_proof(penalty: str) -> tuple[float, float]:
    """The best member's (E f − E f)/slope on 600 points of each law, with its exact slope on these points; and W₁.

    On a finite set the Lipschitz constant of f's values is a maximum over pairs, on the line over neighbours.
    """
    x, y = (side[:, :600, 0] for side in _samples(_POINTS))
    network = _trained(penalty).discriminator
    best = (-np.inf, 0.0)
    for k in range(MEMBERS):
        points = np.concatenate([x[k], y[k]])
        values = outputs(network.pick([k]), points)[0]
        order = points.argsort()
        slope = float(np.abs(np.diff(values[order]) / np.diff(points[order])).max())
        proof = float(values[:600].mean() - values[600:].mean()) / slope
        best = max(best, (proof - wasserstein(x[k], y[k]).cost.value, proof))
    return best[1], best[1] - best[0]


def _proof(penalty: str) -> Estimate:
    return exact(_points_proof(penalty)[0], "(E_p f − E_q f)/slope on 1200 points, the closest member")


def _distance(penalty: str) -> Estimate:
    return exact(_points_proof(penalty)[1], "optimal transport of the same points")


def _spectral_products(left: bool) -> Estimate:  # noqa: FBT001
    """The steepest slope found of any member, and Π σ(W_l) by numpy's SVD times the gains at both ends."""
    network = _trained("spectral").discriminator
    if left:
        return exact(float((_slopes("spectral")[0] / _products()).max()), "autograd between the samples")
    ends = float(abs(network.before.gain[0]) * abs(network.after.gain[0])) if network.before and network.after else 1.0
    return Estimate(ends, 1e-12 * ends, method="gain of the input times that of the output")


def _products() -> np.ndarray:
    """Π of the largest singular values of what each layer multiplies with, by SVD: (K,)."""
    layers = [layer for layer in _trained("spectral").discriminator.dense if isinstance(layer, SpectralLinear)]
    sizes = [np.linalg.svd(layer.scaled_weight().detach().numpy(), compute_uv=False)[:, 0] for layer in layers]
    product: np.ndarray = np.prod(sizes, axis=0)
    return product


CRITICS: tuple[Claim, ...] = (
    Claim(
        "clipped-weights-pile-up",
        r"\tfrac12 \le P(0.99\,c \le |w| \le c) \text{ of a trained clipped critic},\ c = 0.01",
        "≤",
        IMPROVED,
        lambda: exact(0.5, "stated"),
        lambda: at_least(_share_at_bounds()),
    ),
    Claim(
        "clipped-critic-claims-a-fraction",
        r"E_p f - E_q f \le \tfrac1{10} W_1 \text{ for a trained clipped } f,\ c = 0.01",
        "≤",
        WGAN,
        lambda: at_most(_clipped_claims()),
        lambda: exact(_DISTANCE / 10),
    ),
    Claim(
        "penalised-slope",
        r"\pm(E_{\hat x}|f'| - 1) = W_1/2\lambda \text{ for trained } f \text{ with a gradient penalty; } "
        r"- \text{ for critics with } E_p f < E_q f, \text{ which on the line stay on their heads}",
        "=",
        PETZKA,
        _mean_slope,
        _penalised_slope,
    ),
    Claim(
        "penalised-slope-is-near-one",
        r"\big|E_{\hat x}|f'| - 1\big| \le 0.15 \text{ for trained } f \text{ with a gradient penalty}",
        "≤",
        IMPROVED,
        lambda: at_most(ensemble_mean(np.abs(_slopes("gradient_penalty")[1] - 1), "| |f′| − 1 | between the samples")),
        lambda: exact(0.15, "stated"),
    ),
    *(
        Claim(
            f"exact-critic-beats-{name}",
            rf"\frac{{E_p f - E_q f}}{{\mathrm{{Lip}}(f)}} \le W_1 \text{{ for trained }} f \text{{ ({what})}}",
            "≤",
            VILLANI,
            functools.partial(_proof, penalty),
            functools.partial(_distance, penalty),
        )
        for name, penalty, what in (
            ("clipped", "clip", "clipped weights"),
            ("penalised", "gradient_penalty", "gradient penalty"),
            ("one-sided", "one_sided", "one-sided penalty"),
            ("spectral", "spectral", "spectral norm"),
        )
    ),
    Claim(
        "spectral-product-bounds-slope",
        r"|f'| \,/\, \textstyle\prod_l \sigma(\bar W_l) \le g_{\text{in}}\, g_{\text{out}}, "
        r"\text{ trained with spectral normalisation}",
        "≤",
        MIYATO,
        lambda: _spectral_products(left=True),
        lambda: _spectral_products(left=False),
    ),
    Claim(
        "spectral-norm-is-one",
        r"\textstyle\prod_l \sigma(\bar W_l) = 1 \text{ by SVD after training, one power iteration per move}",
        "=",
        MIYATO,
        lambda: Estimate(
            float(_products()[np.abs(_products() - 1).argmax()]), 0.0, method="SVD, the worst of 8 members"
        ),
        # Four layers, each followed to within 0.03 % (see toygen.layers).
        lambda: Estimate(1.0, 4 * 3e-4, method="four layers at 0.03 % each"),
    ),
)
