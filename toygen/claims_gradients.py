r"""Claims about the generator's gradient: where a trained discriminator is sure, one loss stops and the other does not.

At N(0, 1) against N(3, 1), G(z) = z + θ, the gradient in θ is measured on trained discriminators by autograd, and
stands beside ``divergences.generator_gradient``, an integral at D*.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import expit, ndtri

from divergences import Estimate, LocationFamily, generator_gradient
from divergences.claim import Claim, exact
from divergences.distributions import Gaussian
from toygen.claims_studies import at_least, at_most, ensemble_mean, told, train_discriminators

__all__ = ["GRADIENTS"]

GOODFELLOW = "Generative Adversarial Networks (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661"
PRINCIPLED = "Towards Principled Methods for Training GANs (Arjovsky, Bottou, 2017), https://arxiv.org/abs/1701.04862"

_DISTANCE, _STEPS = 3.0, 3000
# Samples come with 99.99 %: one table in ten thousand fails by their chance.
_Z = float(ndtri(1 - 0.5e-4))


@told
def vanishing() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """At N(0, 1) against N(3, 1), G(z) = z + θ: ∂θ of both losses by autograd on trained D's, mean over 10⁵ points.

    Returns saturating and non-saturating gradients (K,), and the largest half-width of their sampling errors (2,).
    """
    trained = train_discriminators(f"gaussian {_DISTANCE}", "minimax", "none", _STEPS)
    network = trained.discriminator
    y = torch.from_numpy(np.random.default_rng(31).normal(_DISTANCE, 1.0, (1, 100_000, 1)))
    points = y.expand(network.members, -1, -1).clone().requires_grad_()
    a = network(points)[..., 0]
    (slope,) = torch.autograd.grad(a.sum(), points)
    logits, slopes = a.detach().numpy(), slope[..., 0].numpy()
    # ∂θ log(1 − σ(a(z + θ))) = −σ(a)·a′ and ∂θ(−log σ(a(z + θ))) = −(1 − σ(a))·a′.
    parts = [-expit(sign * logits) * slopes for sign in (1.0, -1.0)]
    errors = np.array([_Z * part.std(axis=1).max() / math.sqrt(part.shape[1]) for part in parts])
    return parts[0].mean(axis=1), parts[1].mean(axis=1), errors


def _exact_gradient(loss: str) -> Estimate:
    law = Gaussian(0.0, 1.0)
    return generator_gradient(law, LocationFamily(law), _DISTANCE, loss=loss)


def _ratio() -> Estimate:
    saturating, other, _ = vanishing()
    return ensemble_mean(np.abs(saturating) / np.abs(other), "autograd on trained D's")


def _exact_ratio() -> Estimate:
    first, second = _exact_gradient("saturating"), _exact_gradient("non_saturating")
    return Estimate(
        1.25 * abs(first.value / second.value),
        1.25 * first.error / abs(second.value) + second.error,
        method="1.25 times the exact ratio at D*",
    )


def _non_saturating_share() -> Estimate:
    """What the trained discriminators' gradients have in common with the exact one, as a share of it."""
    _, other, errors = vanishing()
    best = _exact_gradient("non_saturating").value
    return ensemble_mean(other / best, "autograd on trained D's, in units of the exact gradient", errors[1] / abs(best))


GRADIENTS: tuple[Claim, ...] = (
    Claim(
        "saturating-gradient-vanishes",
        r"\frac{|E_q \partial_\theta \log(1 - D)|}{|E_q \partial_\theta \log D|} \le 1.25 \cdot "
        r"(\text{the exact ratio at } D^*) \text{ for trained } D;\ N(0,1), N(3,1)",
        "≤",
        PRINCIPLED,
        lambda: at_most(_ratio()),
        _exact_ratio,
    ),
    Claim(
        "non-saturating-gradient-stays",
        r"\tfrac12 \le E_q \partial_\theta(-\log D) / E_q \partial_\theta(-\log D^*) \text{ for trained } D;\ "
        r"N(0,1), N(3,1)",
        "≤",
        GOODFELLOW,
        lambda: exact(0.5, "stated"),
        lambda: at_least(_non_saturating_share()),
    ),
)
