r"""The evidence lower bound, as pure functions of tensors with a leading member axis.

A variational autoencoder has a prior p(z) = N(0, I), a decoder p(x|z) and an encoder q(z|x) = N(μ(x), diag σ²(x)):

    log p(x) = ELBO(x) + KL(q(z|x) ‖ p(z|x))
    ELBO(x)  = E_q[log p(x|z)] − KL(q(z|x) ‖ p(z)),      KL = ½ Σ_j (μ_j² + σ_j² − 1 − log σ_j²)

The first part is the **reconstruction**, the second the **rate**; both are kept, in nats per point, in the units of the
data (so a Gaussian likelihood keeps its normalising constant: without it a "bound" bounds nothing). What is minimised
may differ from −ELBO, and then says how:

* **β**: −reconstruction + β·rate. For β ≠ 1 it is no bound on log p(x), but the one that scales the noise: with a fixed
  noise s, weight β and noise s have the same optimum in (μ, σ, decoder) as weight 1 and noise s·√β;
* **free bits** λ: the rate of each latent dimension, averaged over the batch, enters as max(λ log 2, rate), so that a
  dimension below λ *bits* has nothing to gain from carrying less;
* **IWAE**: log (1/m) Σ_i w_i with w_i = p(x, z_i)/q(z_i|x), in expectation between the ELBO (m = 1) and log p(x).

References:
    Auto-encoding variational Bayes (Kingma, Welling, 2014), https://arxiv.org/abs/1312.6114
    β-VAE (Higgins et al., 2017), https://openreview.net/forum?id=Sy2fzU9gl
    Improved variational inference with inverse autoregressive flow (Kingma et al., 2016), app. C.8 (free bits; λ there
    is in nats), https://arxiv.org/abs/1606.04934
    Importance weighted autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519

Example: K = 1 member, 3 points, a latent of 2 dimensions.

>>> mean, log_variance = torch.zeros(1, 3, 2), torch.zeros(1, 3, 2)
>>> parts = elbo(torch.full((1, 3), -1.5), mean, log_variance)
>>> parts.elbo, parts.kl, parts.loss(beta=4.0, free_bits=1.0)  # 2 dimensions, each charged log 2 at least, four times
(tensor([-1.5000]), tensor([0.]), tensor([7.0452]))
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from divergences.checks import as_array
from divergences.errors import InputError

__all__ = [
    "ElboParts",
    "elbo",
    "gaussian_kl",
    "iwae_bound",
    "log_bernoulli",
    "log_gaussian",
    "log_weights",
    "reparametrize",
]

_LOG_2PI = math.log(2 * math.pi)


class ElboParts(NamedTuple):
    """What a batch's ELBO is made of, per member, in nats per point.

    Attributes:
        reconstruction: E_q[log p(x|z)], shape (K,).
        rates: mean KL(q(z_j|x) ‖ p(z_j)) of each latent dimension, shape (K, k).
    """

    reconstruction: Tensor
    rates: Tensor

    @property
    def kl(self) -> Tensor:
        """The rate, Σ_j rates: shape (K,)."""
        return self.rates.sum(dim=-1)

    @property
    def elbo(self) -> Tensor:
        """Reconstruction − rate: shape (K,)."""
        return self.reconstruction - self.kl

    def loss(self, beta: Any = 1.0, free_bits: Any = 0.0) -> Tensor:
        """−reconstruction + β · Σ_j max(λ log 2, rate_j): shape (K,).

        Args:
            beta: weight of the rate, one number or one per member; 1 and no free bits give −ELBO.
            free_bits: λ, bits per latent dimension, one number or one per member.

        Raises:
            InputError: a negative or infinite weight, or not one per member.
        """
        members, dtype = len(self.rates), self.rates.dtype
        weight, free = as_weight(beta, "beta", members, dtype), as_weight(free_bits, "free_bits", members, dtype)
        # A dimension exactly at its allowance gets the gradient of the rate; below it there is none.
        charged = torch.maximum(self.rates, free.to(self.rates) * math.log(2.0))
        return (weight.to(charged) * charged).sum(dim=-1) - self.reconstruction


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) ‖ N(0, 1)), number by number, in nats: the shape stays."""
    # expm1 keeps the digits where the variance is nearly one, which is where a collapsed dimension sits.
    return 0.5 * (mean.square() + torch.expm1(log_variance) - log_variance)


def log_gaussian(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Log N(x; mean, diag exp(log_variance)): broadcasts (..., d) to (...)."""
    terms = (x - mean).square() * torch.exp(-log_variance) + log_variance + _LOG_2PI
    return -0.5 * terms.sum(dim=-1)


def log_bernoulli(x: Tensor, logits: Tensor) -> Tensor:
    """Σ_d x log σ(l) + (1 − x) log(1 − σ(l)): (..., d) to (...); x in [0, 1].

    For x strictly between 0 and 1 this is a cross-entropy and no log-probability: there is no such law.
    """
    return (x * logits - softplus(logits)).sum(dim=-1)


def reparametrize(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Z = μ + σ·ε: a sample of q(z|x) through which gradients pass."""
    return mean + torch.exp(0.5 * log_variance) * noise


def elbo(log_likelihood: Tensor, mean: Tensor, log_variance: Tensor) -> ElboParts:
    """The parts of the ELBO over a batch.

    Args:
        log_likelihood: log p(x|z) at samples z of q(z|x), shape (K, b), or (K, b, m) for m samples per point.
        mean: of q(z|x), shape (K, b, k).
        log_variance: of q(z|x), shape (K, b, k).

    Raises:
        InputError: shapes that do not fit together.
    """
    if mean.shape != log_variance.shape or mean.ndim != 3:
        raise InputError(
            f"mean and log_variance must both have shape (members, batch, k); they have {tuple(mean.shape)} and "
            f"{tuple(log_variance.shape)}."
        )
    if log_likelihood.ndim not in (2, 3) or log_likelihood.shape[:2] != mean.shape[:2]:
        raise InputError(
            f"log_likelihood must have shape {tuple(mean.shape[:2])}, one number per member and point (and a third "
            f"axis for several samples); it has {tuple(log_likelihood.shape)}."
        )
    return ElboParts(log_likelihood.flatten(1).mean(dim=1), gaussian_kl(mean, log_variance).mean(dim=1))


def log_weights(log_likelihood: Tensor, z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Log p(x|z) + log p(z) − log q(z|x) at samples z: the logarithms of the importance weights.

    Args:
        log_likelihood: log p(x|z), shape (K, b, m).
        z: samples of q(z|x), shape (K, b, m, k).
        mean: of q, broadcasts to z.
        log_variance: of q, broadcasts to z.

    Returns:
        Shape (K, b, m).
    """
    zero = torch.zeros((), dtype=z.dtype, device=z.device)
    return log_likelihood + log_gaussian(z, zero, zero.expand(z.shape[-1])) - log_gaussian(z, mean, log_variance)


def iwae_bound(weights: Tensor) -> Tensor:
    """Log of the mean importance weight: log-weights (..., m) to (...).

    Its expectation rises with m, from the ELBO at m = 1 towards log p(x).

    Raises:
        InputError: no samples.
    """
    if weights.ndim == 0 or weights.shape[-1] == 0:
        raise InputError("weights must hold at least one log-weight per point, on its last axis.")
    return torch.logsumexp(weights, dim=-1) - math.log(weights.shape[-1])


def as_weight(value: Any, name: str, members: int, dtype: torch.dtype) -> Tensor:
    """One number, or one per member, ≥ 0: as a column (K, 1) or (1, 1)."""
    if isinstance(value, Tensor) and value.shape in ((1, 1), (members, 1)) and value.dtype == dtype:
        return value  # checked before, and the same tensor at every step
    numbers = as_array(value, name)
    if numbers.shape not in ((), (members,)):
        raise InputError(f"{name} must be one number, or one per member ({members}); it has shape {numbers.shape}.")
    if not ((numbers >= 0) & (numbers < math.inf)).all():
        raise InputError(f"{name} must be finite and at least 0; it is {numbers.tolist()}.")
    return torch.as_tensor(numbers, dtype=dtype).reshape(-1, 1)
