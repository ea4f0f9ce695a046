r"""VAE/GAN: an autoencoder that measures likeness in the features of the discriminator it plays against.

Three players: ``"discriminator"``, ``"encoder"``, ``"decoder"``, each moving once per round on a fresh batch.

Reference: Autoencoding beyond pixels using a learned similarity metric (Larsen et al., 2016),
https://arxiv.org/abs/1512.09300 (algorithm 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, softplus

from divergences.checks import as_number
from divergences.errors import InputError
from toygen.autoencoders import Autoencoder, MakeOptimizer, Normals
from toygen.elbo import gaussian_kl, reparametrize
from toygen.networks import MLP, SLOPE
from toygen.train import Turn

__all__ = ["VaeGan"]


class VaeGan(Autoencoder):
    r"""A VAE whose likelihood is measured in the features of a discriminator, in a game with it.

    With φ the last hidden layer of the discriminator D, x̃ = g(z), z ~ q(z|x), and x_p = g(z_p), z_p ~ N(0, I):

        L_prior = KL(q(z|x) ‖ p(z)),     L_like = −E log N(φ(x); φ(x̃), I)  (without its constant)
        L_gan   = log D(x) + log(1 − D(x̃)) + log(1 − D(x_p))

    The discriminator maximises L_gan; the encoder minimises L_prior + L_like; the decoder γ·L_like + L_gan. These are
    the paper's losses, the decoder's saturating one included.

    Args:
        encoder: (K, b, d) → (K, b, 2k).
        decoder: (K, b, k) → (K, b, d).
        discriminator: (K, b, d) → (K, b, 1), with at least one hidden layer.
        rngs: one generator per member, for ε and z_p.
        weight: γ, what the similarity weighs against fooling D for the decoder.
        scale: s, the unit of the reconstruction error that is reported.
    """

    def __init__(
        self,
        encoder: MLP,
        decoder: MLP,
        discriminator: MLP,
        *,
        rngs: Sequence[np.random.Generator],
        weight: Any = 1.0,
        scale: Any = 1.0,
    ) -> None:
        super().__init__(encoder, decoder, scale=scale, outputs=2)
        if len(discriminator.layers) < 2 or discriminator.members != encoder.members or discriminator.sizes[-1] != 1:
            raise InputError(
                f"discriminator must be {encoder.members} networks with one logit and a hidden layer to measure "
                f"similarity in; it has {discriminator.members} members and sizes {discriminator.sizes}."
            )
        self.discriminator = discriminator
        self.weight = as_number(weight, "weight", above=0.0)
        self._noise = Normals(rngs, decoder, 2 * decoder.sizes[0])

    def turns(self, optimizer: MakeOptimizer) -> list[Turn]:
        """Three players: ``"discriminator"``, ``"encoder"``, ``"decoder"``, each with a fresh batch."""
        return [
            Turn("discriminator", self.of_discriminator, optimizer(list(self.discriminator.parameters()))),
            Turn("encoder", self.of_encoder, optimizer(list(self.encoder.parameters()))),
            Turn("decoder", self.of_decoder, optimizer(list(self.decoder.parameters()))),
        ]

    def modules(self) -> list[nn.Module]:
        """Encoder, decoder, discriminator."""
        return [*super().modules(), self.discriminator]

    def streams(self) -> list[Normals]:
        """Of ε and z_p."""
        return [self._noise]

    def of_discriminator(self, batch: Tensor) -> Tensor:
        """−L_gan, shape (K,)."""
        with torch.no_grad():
            _, rebuilt, drawn = self._generate(batch)
        logits = [self._judge(x)[1] for x in (batch, rebuilt, drawn)]
        return self._keep_more(gan=_mean(softplus(-logits[0]) + softplus(logits[1]) + softplus(logits[2])))

    def of_encoder(self, batch: Tensor) -> Tensor:
        """L_prior + L_like, shape (K,)."""
        rate, rebuilt, _ = self._generate(batch)
        likeness = self._likeness(batch, rebuilt)
        self._keep_more(kl=rate, likeness=likeness)
        return rate + likeness

    def of_decoder(self, batch: Tensor) -> Tensor:
        """γ·L_like + L_gan (the part of it that x̃ and x_p enter), shape (K,)."""
        _, rebuilt, drawn = self._generate(batch)
        fooling = -_mean(softplus(self._judge(rebuilt)[1]) + softplus(self._judge(drawn)[1]))
        self._keep_more(error=self.error(batch, rebuilt))
        return self.weight * self._likeness(batch, rebuilt) + fooling

    def _generate(self, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The rate (K,), reconstructions and draws."""
        mean, log_variance = self.encoder(batch).chunk(2, dim=-1)
        own, prior = self._noise.take(batch.shape[1]).chunk(2, dim=-1)
        rate = gaussian_kl(mean, log_variance).sum(dim=-1).mean(dim=1)
        return rate, self.decoder(reparametrize(mean, log_variance, own)), self.decoder(prior)

    def _judge(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features φ(x) and logits."""
        if self.discriminator.before is not None:
            x = self.discriminator.before(x)
        for layer in self.discriminator.layers[:-1]:
            x = leaky_relu(layer(x), SLOPE)
        return x, self.discriminator.layers[-1](x)

    def _likeness(self, batch: Tensor, rebuilt: Tensor) -> Tensor:
        difference = self._judge(batch)[0] - self._judge(rebuilt)[0]
        return 0.5 * difference.square().sum(dim=-1).mean(dim=1)

    def _keep_more(self, **parts: Tensor) -> Tensor:
        self.parts |= {name: part.detach() for name, part in parts.items()}
        return next(iter(parts.values()))


def _mean(x: Tensor) -> Tensor:
    """Over the batch, logits (K, b, 1) to (K,)."""
    return x.mean(dim=(1, 2))
