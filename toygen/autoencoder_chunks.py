"""Autoencoders trained side by side: a chunk of members, and all the state they have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from toygen.autoencoder_recipe import BAYESIAN, AutoencoderRecipe
from toygen.autoencoders import VQVAE, Autoencoder, Likelihood, Vae, Wae
from toygen.chunked import ResumableChunk
from toygen.codebook import Codebook
from toygen.layers import Affine
from toygen.networks import MLP
from toygen.players import minibatches
from toygen.recipes import Units
from toygen.train import Step
from toygen.vae_gan import VaeGan

__all__ = ["AutoencoderChunk"]


class AutoencoderChunk(ResumableChunk):
    """``recipe.chunk`` consecutive members in training.

    Args:
        number: of the chunk: its first member is number · recipe.chunk.
        units: of the data.
        recipe: how to train.
        seed: of the ensemble.
        beta: weight of the rate of members that have one of their own.
        data: points (n, d).
        steps: of the training.
        device: where they live.

    Attributes:
        members: their indices.
        player: what is trained.
        done: steps finished.
    """

    def __init__(
        self,
        number: int,
        units: Units,
        recipe: AutoencoderRecipe,
        seed: int,
        beta: dict[int, float],
        data: np.ndarray,
        steps: int,
        device: torch.device,
    ) -> None:
        super().__init__(range(number * recipe.chunk, (number + 1) * recipe.chunk), steps)
        self._recipe, self._device = recipe, device
        sequences = [np.random.SeedSequence(seed, spawn_key=(member,)).spawn(5) for member in self.members]
        streams = [[np.random.default_rng(sequence) for sequence in own] for own in zip(*sequences, strict=True)]
        self._likelihood: Likelihood | None = None
        self.player = self._player(units, streams, [beta.get(member, recipe.beta) for member in self.members])
        self._turns = self.player.turns(recipe.optimizer)
        self._batches = minibatches(data, size=recipe.batch, rng=streams[2], members=len(self.members), device=device)

    @property
    def noises(self) -> np.ndarray | None:
        """S of each member, in the units of the data."""
        return None if self._likelihood is None else self._likelihood.noises()

    @property
    def history(self) -> dict[str, np.ndarray]:
        """Losses of the players, and what they were made of, each (steps, K)."""
        empty = {turn.name: torch.empty((0, len(self.members))) for turn in self._turns}
        return {name: values[: self.done].double().cpu().numpy() for name, values in (self._kept or empty).items()}

    @property
    def _networks(self) -> Sequence[nn.Module]:
        return self.player.modules()

    @property
    def _optimizers(self) -> list[Any]:
        return [turn.optimizer for turn in self._turns]

    @property
    def _streams(self) -> list[Any]:
        return [self._batches.stream, *self.player.streams()]

    def _after(self, step: Step) -> dict[str, torch.Tensor]:
        return {**step.losses, **self.player.parts}

    def _set_out(self) -> None:
        rate = self._recipe.rate_at(self._progress)
        for turn in self._turns:
            for group in turn.optimizer.param_groups:
                group["lr"] = rate

    def _player(self, units: Units, streams: list[list[np.random.Generator]], beta: list[float]) -> Autoencoder:
        recipe, dim, k = self._recipe, len(units.center), self._recipe.latent_dim
        hidden = [[recipe.width] * depth for depth in recipe.depths]
        before = Affine([-c / units.scale for c in units.center], [1 / units.scale] * dim)
        after = Affine(units.center, [units.scale] * dim)
        bayes = recipe.kind in BAYESIAN
        outputs = 2 * k if bayes or recipe.kind == "vae_gan" else k
        encoder = MLP([dim, *hidden[0], outputs], streams[0], before=before).to(self._device)
        logits = bayes and recipe.likelihood == "bernoulli"
        decoder = MLP([k, *hidden[1], dim], streams[1], after=None if logits else after).to(self._device)
        rngs, scale = streams[3], units.scale
        if bayes:
            noise = None if logits else scale * (recipe.first_noise if recipe.noise is None else recipe.noise)
            self._likelihood = Likelihood(len(self.members), noise, learned=recipe.noise is None).to(self._device)
            return Vae(
                encoder,
                decoder,
                self._likelihood,
                rngs=rngs,
                beta=beta,
                free_bits=recipe.free_bits,
                samples=recipe.samples,
                importance=recipe.kind == "iwae",
            )
        if recipe.kind == "wae":
            return Wae(encoder, decoder, rngs=rngs, weight=recipe.mmd_weight, scale=scale)
        if recipe.kind == "vq_vae":
            book = Codebook(recipe.codes, k, streams[4], decay=recipe.codebook_decay).to(self._device)
            return VQVAE(encoder, decoder, book, commitment=recipe.commitment, scale=scale)
        if recipe.kind == "vae_gan":
            judge = MLP([dim, *[recipe.width] * max(1, recipe.depths[0]), 1], streams[4], before=before).to(
                self._device
            )
            return VaeGan(encoder, decoder, judge, rngs=rngs, weight=recipe.likeness, scale=scale)
        return Autoencoder(encoder, decoder, scale=scale)
