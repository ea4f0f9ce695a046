"""Members trained side by side: what defines each of them, and all the state they have."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from divergences import Gaussian
from toygen.chunked import ResumableChunk
from toygen.networks import MLP
from toygen.objectives import OBJECTIVES
from toygen.optimizers import MemberOptimizer
from toygen.players import gan, minibatches
from toygen.recipes import Recipe, Units
from toygen.train import Average, Step

__all__ = ["LOSSES", "Chunk", "MemberPlan", "latent_law"]

LOSSES = ("discriminator", "generator")


class MemberPlan(NamedTuple):
    """What defines one member, besides data, steps and the recipe that all share.

    Attributes:
        member: its index under the seed.
        seed: of the ensemble it belongs to.
        learning_rate: at the start.
        weights: of the penalty, at the start and at the end.
    """

    member: int
    seed: int
    learning_rate: float
    weights: tuple[float, float]

    def recipe(self, shared: Recipe) -> Recipe:
        """The recipe of this member alone."""
        return dataclasses.replace(shared, learning_rate=self.learning_rate, weights=self.weights)


class Chunk(ResumableChunk):
    """Members in training side by side.

    Args:
        plans: who they are.
        units: of the data.
        recipe: what they share.
        data: points (n, d).
        steps: moves of the generator.
        device: where they live.

    Attributes:
        members: their indices.
        done: steps finished.
        generator: K generators.
        discriminator: K discriminators.
        average: of the generators.
    """

    def __init__(
        self,
        plans: Sequence[MemberPlan],
        units: Units,
        recipe: Recipe,
        data: np.ndarray,
        steps: int,
        device: torch.device,
    ) -> None:
        super().__init__([plan.member for plan in plans], steps)
        self._recipes = [plan.recipe(recipe) for plan in plans]
        self._kind = [(plan.learning_rate, plan.weights) for plan in plans]
        self._kinds = dict(zip(self._kind, self._recipes, strict=True))
        self._unit = units.penalty_unit(recipe)
        sequences = [np.random.SeedSequence(plan.seed, spawn_key=(plan.member,)).spawn(4) for plan in plans]
        streams = [[np.random.default_rng(sequence) for sequence in own] for own in zip(*sequences, strict=True)]
        self.generator = units.generator(recipe, streams[0]).to(device)
        self.discriminator = units.discriminator(recipe, streams[1]).to(device)
        self.average = Average(self.generator, recipe.decay)
        self._kept = {name: torch.empty((steps, len(plans)), device=device) for name in LOSSES}
        self._weight = torch.empty(len(plans), device=device)
        self._made: list[MemberOptimizer] = []
        self._turns = gan(
            self.generator,
            self.discriminator,
            objective=OBJECTIVES[recipe.objective],
            latent=latent_law(recipe),
            penalty=units.penalty(recipe, self._weight),
            optimizer=self._optimizer,
            rng=streams[3],
        )
        self._turns[0] = dataclasses.replace(self._turns[0], repeats=recipe.discriminator_steps)
        self._batches = minibatches(data, size=recipe.batch, rng=streams[2], members=len(plans), device=device)

    def losses(self, name: str) -> Float64[np.ndarray, "steps k"]:
        """Of one player, over all steps."""
        return self._kept[name].double().cpu().numpy()

    def restore(self, state: dict[str, Any]) -> None:
        """Stand where another chunk of the same plans stood."""
        super().restore(state)
        self.average.rounds = self.done  # one after each step

    @property
    def _networks(self) -> tuple[MLP, ...]:
        return self.generator, self.discriminator, self.average.network

    @property
    def _optimizers(self) -> list[MemberOptimizer]:
        return self._made

    @property
    def _streams(self) -> list[Any]:
        # One stream may serve both players.
        shared = {id(stream): stream for turn in self._turns for stream in turn.streams}
        return [self._batches.stream, *shared.values()]

    def _optimizer(self, parameters: Any) -> MemberOptimizer:
        made = self._recipes[0].optimizer(parameters, [recipe.learning_rate for recipe in self._recipes])
        self._made.append(made)
        return made

    def _set_out(self) -> None:
        progress = self._progress
        # Most members share their numbers: what is needed is computed once.
        weights = {plan: self._unit * recipe.weight_at(progress) for plan, recipe in self._kinds.items()}
        rates = {plan: recipe.rate_at(progress) for plan, recipe in self._kinds.items()}
        self._weight.copy_(torch.tensor([weights[kind] for kind in self._kind]))
        for optimizer in self._made:
            optimizer.set_rates([rates[kind] for kind in self._kind])

    def _after(self, step: Step) -> dict[str, Tensor]:
        self.average.update()
        return step.losses


def latent_law(recipe: Recipe) -> Gaussian:
    """The law of z."""
    return Gaussian(np.zeros(recipe.latent_dim), np.eye(recipe.latent_dim))
