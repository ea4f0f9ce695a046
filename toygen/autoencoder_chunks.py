"""Autoencoders trained side by side: a chunk of members, and all the state they have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from divergences import InputError
from toygen.autoencoder_recipe import BAYESIAN, AutoencoderRecipe
from toygen.autoencoders import VQVAE, Autoencoder, Likelihood, Vae, Wae
from toygen.codebook import Codebook
from toygen.layers import Affine
from toygen.networks import MLP
from toygen.players import minibatches
from toygen.recipes import Units
from toygen.train import Step, train
from toygen.vae_gan import VaeGan

__all__ = ["AutoencoderChunk"]


class AutoencoderChunk:
    """``recipe.chunk`` consecutive members in training.

    Args:
        number: of the chunk: its first member is number · recipe.chunk.
        units: of the data.
        recipe: how to train.
        seed: of the ensemble.
        beta: weight of the rate of members that have one of their own.
        data: points (n, d).
        steps: of the training.

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
    ) -> None:
        self.members = tuple(range(number * recipe.chunk, (number + 1) * recipe.chunk))
        self.done = 0
        self._whole = True  # no player has moved that others wait for
        self._recipe, self._steps = recipe, steps
        sequences = [np.random.SeedSequence(seed, spawn_key=(member,)).spawn(5) for member in self.members]
        streams = [[np.random.default_rng(sequence) for sequence in own] for own in zip(*sequences, strict=True)]
        self._likelihood: Likelihood | None = None
        self.player = self._player(units, streams, [beta.get(member, recipe.beta) for member in self.members])
        self._turns = self.player.turns(recipe.optimizer)
        self._batches = minibatches(data, size=recipe.batch, rng=streams[2], members=len(self.members))
        self._history: dict[str, torch.Tensor] = {}

    @property
    def noises(self) -> np.ndarray | None:
        """S of each member, in the units of the data."""
        return None if self._likelihood is None else self._likelihood.noises()

    @property
    def history(self) -> dict[str, np.ndarray]:
        """Losses of the players, and what they were made of, each (steps, K)."""
        empty = {turn.name: torch.empty((0, len(self.members))) for turn in self._turns}
        return {name: values[: self.done].double().numpy() for name, values in (self._history or empty).items()}

    def train(self) -> Iterator[Step]:
        """Take the steps that are left; yield after each."""
        self._set_rate()
        self._whole = False
        for step in train(self._turns, self._batches, self._steps, start=self.done):
            for name, values in {**step.losses, **self.player.parts}.items():
                if name not in self._history:
                    self._history[name] = torch.empty((self._steps, len(self.members)), dtype=values.dtype)
                self._history[name][step.index] = values
            self.done = step.index + 1
            self._set_rate()
            self._whole = True
            yield step
            self._whole = False
        self._whole = True

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, and all that ``result`` needs.

        Raises:
            InputError: the last step was broken off halfway.
        """
        if not self._whole:
            raise InputError(
                "the run was stopped in the middle of a step and cannot go on from there bit by bit: load its last "
                "checkpoint, or start anew."
            )
        return {
            "done": self.done,
            "modules": [module.state_dict() for module in self.player.modules()],
            "optimizers": [turn.optimizer.state_dict() for turn in self._turns],
            "streams": [stream.state() for stream in self._streams],
            "history": {name: values[: self.done].clone() for name, values in self._history.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Stand where another chunk of the same members stood."""
        self.done = state["done"]
        for module, found in zip(self.player.modules(), state["modules"], strict=True):
            module.load_state_dict(found)
        for turn, found in zip(self._turns, state["optimizers"], strict=True):
            turn.optimizer.load_state_dict(found)
        for stream, found in zip(self._streams, state["streams"], strict=True):
            stream.restore(found)
        for name, values in state["history"].items():
            self._history[name] = torch.empty((self._steps, len(self.members)), dtype=values.dtype)
            self._history[name][: self.done] = values

    @property
    def _streams(self) -> list[Any]:
        return [self._batches.stream, *self.player.streams()]

    def _set_rate(self) -> None:
        rate = self._recipe.rate_at(self.done / self._steps if self._steps else 0.0)
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
        encoder = MLP([dim, *hidden[0], outputs], streams[0], before=before)
        logits = bayes and recipe.likelihood == "bernoulli"
        decoder = MLP([k, *hidden[1], dim], streams[1], after=None if logits else after)
        rngs, scale = streams[3], units.scale
        if bayes:
            noise = None if logits else scale * (recipe.first_noise if recipe.noise is None else recipe.noise)
            self._likelihood = Likelihood(len(self.members), noise, learned=recipe.noise is None)
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
            book = Codebook(recipe.codes, k, streams[4], decay=recipe.codebook_decay)
            return VQVAE(encoder, decoder, book, commitment=recipe.commitment, scale=scale)
        if recipe.kind == "vae_gan":
            judge = MLP([dim, *[recipe.width] * max(1, recipe.depths[0]), 1], streams[4], before=before)
            return VaeGan(encoder, decoder, judge, rngs=rngs, weight=recipe.likeness, scale=scale)
        return Autoencoder(encoder, decoder, scale=scale)
