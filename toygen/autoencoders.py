r"""Autoencoders as players of the one loop: AE, VAE, IWAE, WAE, VQ-VAE, each an ensemble of K members.

They play solitaire: encoder and decoder want the same thing, so there is one ``Turn``. (A VAE/GAN has three players:
``toygen.vae_gan``.) Each class holds the networks of K members, says what is minimised, and keeps in ``parts`` what the
last loss was made of, one number per member. Members never mix: every random number comes from the member's own
generator, every loss is one per member.

    AE        ‖x − g(f(x))‖²/s²
    VAE       −E_q[log p(x|z)] + β Σ_j max(λ log 2, KL_j)                        (toygen.elbo)
    IWAE      −E log (1/m) Σ_i p(x, z_i)/q(z_i|x)
    WAE       ‖x − g(f(x))‖²/s² + λ·MMD²(f(x), z), z ~ N(0, I), with the kernel Σ_c C/(C + r²)
    VQ-VAE    ‖x − g(e)‖²/s² + ‖sg[f(x)] − e‖² + β‖f(x) − sg[e]‖²                (toygen.codebook)

Squared lengths are summed over coordinates; s is the scale of the data, so that errors have no unit.

References:
    Auto-encoding variational Bayes (Kingma, Welling, 2014), https://arxiv.org/abs/1312.6114
    Importance weighted autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519
    Wasserstein auto-encoders (Tolstikhin et al., 2018), https://arxiv.org/abs/1711.01558 (WAE-MMD)
    Neural discrete representation learning (van den Oord et al., 2017), https://arxiv.org/abs/1711.00937
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from divergences.checks import as_count, as_number
from divergences.errors import InputError
from toygen.codebook import Codebook
from toygen.elbo import as_weight, elbo, iwae_bound, log_bernoulli, log_gaussian, log_weights, reparametrize
from toygen.networks import MLP
from toygen.players import Stream
from toygen.train import Turn

__all__ = ["Autoencoder", "Likelihood", "VQVAE", "Vae", "Wae", "imq_mmd"]

MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
# Widths of the kernel, in units of the squared distance between two draws of the prior.
_WIDTHS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Likelihood(nn.Module):
    """p(x|z) given what the decoder says: N(m, s²I) with one noise s per member, or Bernoulli(σ(m)).

    Args:
        members: K.
        noise: s, in the units of the data; None is the Bernoulli likelihood.
        learned: whether s is trained, from the given one on, or stays.
        dtype: of the parameter.
    """

    def __init__(
        self, members: Any, noise: Any = None, *, learned: bool = True, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.log_noise: Tensor | None = None
        if noise is not None:
            start = math.log(as_number(noise, "noise", above=0.0))
            value = torch.full((as_count(members, "members"), 1, 1), start, dtype=dtype)
            self.log_noise = nn.Parameter(value, requires_grad=learned)

    def forward(self, x: Tensor, output: Tensor) -> Tensor:
        """Log p(x|z): x (K, b, d), output (K, b, d) or (K, b, m, d) → (K, b) or (K, b, m)."""
        if output.ndim == 4:
            x = x[:, :, None]
        if self.log_noise is None:
            return log_bernoulli(x, output)
        log_variance = 2 * self.log_noise
        return log_gaussian(x, output, log_variance if output.ndim == 3 else log_variance[:, :, None])

    def noises(self) -> np.ndarray | None:
        """S of each member, shape (K,); None for Bernoulli."""
        return None if self.log_noise is None else np.exp(self.log_noise.detach().double().cpu().numpy())[:, 0, 0]


class Autoencoder:
    """The plain autoencoder, and what all of them share.

    Args:
        encoder: (K, b, d) → (K, b, k).
        decoder: (K, b, k) → (K, b, d).
        scale: s, the unit of the reconstruction error.

    Attributes:
        parts: what the last loss was made of: tensors of shape (K,).
    """

    def __init__(self, encoder: MLP, decoder: MLP, *, scale: Any = 1.0, outputs: int = 1) -> None:
        if encoder.members != decoder.members:
            raise InputError(
                f"encoder and decoder must have the same members; they have {encoder.members} and {decoder.members}."
            )
        if encoder.sizes[-1] != outputs * decoder.sizes[0]:
            raise InputError(
                f"the encoder must give {outputs * decoder.sizes[0]} numbers for the decoder's "
                f"{decoder.sizes[0]} latents; it gives {encoder.sizes[-1]}."
            )
        self.encoder, self.decoder = encoder, decoder
        self.scale = as_number(scale, "scale", above=0.0)
        self.parts: dict[str, Tensor] = {}

    def loss(self, batch: Tensor) -> Tensor:
        """What is minimised, shape (K,)."""
        return self.keep(error=self.error(batch, self.decoder(self.encoder(batch))))

    def turns(self, optimizer: MakeOptimizer) -> list[Turn]:
        """Solitaire: one player, ``"autoencoder"``."""
        return [Turn("autoencoder", self.loss, optimizer(self.parameters()))]

    def parameters(self) -> list[nn.Parameter]:
        """What is trained."""
        return [*self.encoder.parameters(), *self.decoder.parameters()]

    def modules(self) -> list[nn.Module]:
        """All that holds numbers the next step depends on."""
        return [self.encoder, self.decoder]

    def streams(self) -> list[Normals]:
        """Where its random numbers come from."""
        return []

    def error(self, x: Tensor, output: Tensor) -> Tensor:
        """Mean ‖x − output‖²/s², shape (K,)."""
        return (x - output).square().sum(dim=-1).mean(dim=1) / self.scale**2

    def keep(self, total: Tensor | None = None, **parts: Tensor) -> Tensor:
        """Remember the parts; the total, or else their sum, is the loss."""
        self.parts = {name: part.detach() for name, part in parts.items()}
        return torch.stack(list(parts.values())).sum(dim=0) if total is None else total


class Vae(Autoencoder):
    """The variational autoencoder; with ``importance`` it maximises the IWAE bound.

    Args:
        encoder: (K, b, d) → (K, b, 2k): mean and log-variance of q(z|x), side by side.
        decoder: (K, b, k) → (K, b, d).
        likelihood: p(x|z).
        rngs: one generator per member, for ε.
        beta: weight of the rate, one number or one per member; 1 is the ELBO.
        free_bits: λ, bits per latent dimension that are free of charge.
        samples: latents per point, m.
        importance: maximise the IWAE bound of m samples in place of the ELBO.

    Raises:
        InputError: networks that do not fit together, or β or free bits beside the IWAE bound.
    """

    def __init__(
        self,
        encoder: MLP,
        decoder: MLP,
        likelihood: Likelihood,
        *,
        rngs: Sequence[np.random.Generator],
        beta: Any = 1.0,
        free_bits: Any = 0.0,
        samples: Any = 1,
        importance: bool = False,
    ) -> None:
        super().__init__(encoder, decoder, outputs=2)
        self.likelihood = likelihood
        self.samples, self.importance = as_count(samples, "samples"), importance
        weights = [
            as_weight(value, name, encoder.members, encoder.dtype)
            for value, name in ((beta, "beta"), (free_bits, "free_bits"))
        ]
        if importance and not ((weights[0] == 1).all() and (weights[1] == 0).all()):
            raise InputError("the IWAE bound has no rate of its own to weigh: leave beta at 1 and free_bits at 0.")
        self.beta, self.free_bits = (weight.to(encoder.device) for weight in weights)
        self._noise = Normals(rngs, decoder, decoder.sizes[0])

    def encode(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z|x), each (K, b, k)."""
        mean, log_variance = self.encoder(batch).chunk(2, dim=-1)
        return mean, log_variance

    def loss(self, batch: Tensor) -> Tensor:
        """−ELBO with β and free bits, or minus the IWAE bound: nats per point, shape (K,)."""
        mean, log_variance = self.encode(batch)
        members, size, k = mean.shape
        noise = self._noise.take(size * self.samples).view(members, size, self.samples, k)
        wide_mean, wide_log = mean[:, :, None], log_variance[:, :, None]
        z = reparametrize(wide_mean, wide_log, noise)
        output = self.decoder(z.reshape(members, size * self.samples, k))
        score = self.likelihood(batch, output.view(members, size, self.samples, -1))
        found = elbo(score, mean, log_variance)
        rates = {f"rate_{axis}": found.rates[:, axis] for axis in range(k)}
        if self.importance:
            bound = iwae_bound(log_weights(score, z, wide_mean, wide_log)).mean(dim=1)
            loss = -bound
            rates["bound"] = bound
        else:
            loss = found.loss(self.beta, self.free_bits)
        return self.keep(loss, reconstruction=found.reconstruction, kl=found.kl, elbo=found.elbo, **rates)

    def parameters(self) -> list[nn.Parameter]:
        """Encoder, decoder and, where it is learned, the noise."""
        return [*super().parameters(), *(p for p in self.likelihood.parameters() if p.requires_grad)]

    def modules(self) -> list[nn.Module]:
        """Encoder, decoder, likelihood."""
        return [*super().modules(), self.likelihood]

    def streams(self) -> list[Normals]:
        """Of ε."""
        return [self._noise]


class Wae(Autoencoder):
    """The Wasserstein autoencoder with an MMD between codes and prior.

    Args:
        encoder: (K, b, d) → (K, b, k), deterministic.
        decoder: (K, b, k) → (K, b, d).
        rngs: one generator per member, for draws of the prior.
        weight: λ.
        scale: s.
    """

    def __init__(
        self, encoder: MLP, decoder: MLP, *, rngs: Sequence[np.random.Generator], weight: Any = 10.0, scale: Any = 1.0
    ) -> None:
        super().__init__(encoder, decoder, scale=scale)
        self.weight = as_number(weight, "weight", above=0.0)
        self._prior = Normals(rngs, decoder, decoder.sizes[0])

    def loss(self, batch: Tensor) -> Tensor:
        """Reconstruction error + λ·MMD², shape (K,)."""
        codes = self.encoder(batch)
        error = self.error(batch, self.decoder(codes))
        mmd = imq_mmd(codes, self._prior.take(batch.shape[1]))
        return self.keep(error + self.weight * mmd, error=error, mmd=mmd)

    def streams(self) -> list[Normals]:
        """Of the prior's draws."""
        return [self._prior]


class VQVAE(Autoencoder):
    """The vector-quantised autoencoder.

    Args:
        encoder: (K, b, d) → (K, b, k).
        decoder: (K, b, k) → (K, b, d).
        codebook: K codebooks in k dimensions; with a ``decay`` it follows the codes instead of a gradient.
        commitment: β of the commitment loss.
        scale: s.
    """

    def __init__(
        self, encoder: MLP, decoder: MLP, codebook: Codebook, *, commitment: Any = 0.25, scale: Any = 1.0
    ) -> None:
        super().__init__(encoder, decoder, scale=scale)
        if codebook.vectors.shape[2] != decoder.sizes[0] or len(codebook.vectors) != decoder.members:
            raise InputError(
                f"codebook must hold vectors of {decoder.sizes[0]} coordinates for {decoder.members} members; it has "
                f"shape {tuple(codebook.vectors.shape)}."
            )
        self.codebook = codebook
        self.commitment = as_number(commitment, "commitment", above=0.0)
        self._last: tuple[Tensor, Tensor] | None = None

    def loss(self, batch: Tensor) -> Tensor:
        """Reconstruction error + codebook loss + β·commitment loss, shape (K,)."""
        codes = self.encoder(batch)
        found = self.codebook(codes)
        self._last = (codes.detach(), found.indices)
        error = self.error(batch, self.decoder(found.points))
        total = error + self.commitment * found.commitment
        if self.codebook.decay is None:
            total = total + found.codebook
        return self.keep(
            total, error=error, quantization=found.commitment, perplexity=found.perplexity(self.codebook.codes)
        )

    def turns(self, optimizer: MakeOptimizer) -> list[Turn]:
        """One player; a codebook with a ``decay`` follows after each move."""
        return [Turn("autoencoder", self.loss, optimizer(self.parameters()), project=self._follow)]

    def parameters(self) -> list[nn.Parameter]:
        """Encoder, decoder and, without a ``decay``, the codebook."""
        return [*super().parameters(), *self.codebook.parameters()]

    def modules(self) -> list[nn.Module]:
        """Encoder, decoder, codebook."""
        return [*super().modules(), self.codebook]

    def _follow(self) -> None:
        if self._last is not None:
            self.codebook.follow(*self._last)


def imq_mmd(codes: Tensor, draws: Tensor) -> Tensor:
    """Unbiased MMD² with inverse multiquadratics Σ_c C/(C + r²), C = 2k·c: (K, b, k) and (K, m, k) → (K,).

    2k is the mean squared distance between two draws of N(0, I_k); c = 0.1, 0.2, 0.5, 1, 2, 5, 10.

    Raises:
        InputError: fewer than two points on a side.
    """
    if codes.shape[1] < 2 or draws.shape[1] < 2:
        raise InputError(f"MMD² needs two points of each kind; there are {codes.shape[1]} and {draws.shape[1]}.")
    within = sum(_off_diagonal(_imq(points, points)) for points in (codes, draws))
    return within - 2 * _imq(codes, draws).mean(dim=(1, 2))


def _imq(x: Tensor, y: Tensor) -> Tensor:
    squared = (x[:, :, None] - y[:, None]).square().sum(dim=-1)
    return torch.stack([c / (c + squared) for c in (2 * x.shape[-1] * width for width in _WIDTHS)]).sum(dim=0)


def _off_diagonal(gram: Tensor) -> Tensor:
    n = gram.shape[1]
    return (gram.sum(dim=(1, 2)) - gram.diagonal(dim1=1, dim2=2).sum(dim=1)) / (n * (n - 1))


class Normals(Stream):
    """Standard normals, (K, size, dim) at a time, each member's from its own generator."""

    def __init__(self, rngs: Sequence[np.random.Generator], network: MLP, dim: int) -> None:
        if not isinstance(rngs, Sequence) or not all(isinstance(rng, np.random.Generator) for rng in rngs):
            raise InputError("rngs must be a list of numpy.random.Generator, one per member.")
        if len(rngs) != network.members:
            raise InputError(f"rngs must hold one generator per member ({network.members}); it holds {len(rngs)}.")
        super().__init__(lambda rng, n: rng.standard_normal((n, dim)), rngs, network.dtype, network.device)
