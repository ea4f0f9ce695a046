r"""Negatives: training points moved out of place, which the discriminator is shown among the generated ones.

Away from the data and away from what G makes a discriminator has never been asked, and says anything; a generator that
gets there stays. With a share λ of negatives of law n,

    D tells p from (1 − λ)·q + λ·n,        D* = log p − log((1 − λ)·q + λ·n),

there is an answer everywhere: where p is 0 and n is not, D* = −∞, and the slope leads back to the data. Here a negative
is a training point plus Gaussian noise, whose standard deviation is drawn log-uniformly for each from a range, in units
of the data's: n = E_s p ∗ N(0, s²I). Nothing but training points enters.

**Bias.** If λ·n ≤ p everywhere, q = (p − λ·n)/(1 − λ) makes the game's value 0; of disjoint supports, q = p. In between
the generator gives up the tails of p in which λ·n is larger than p: modes become narrower. In the middle of a Gaussian
mode of variance σ² in two dimensions, n/p is at least E_s σ²/(σ² + s²): keep the range above the modes' width.

References:
    Negative data augmentation (Sinha et al., 2021), https://arxiv.org/abs/2102.05113
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from toygen.chunks import Chunk, MemberPlan, latent_law
from toygen.game import Game
from toygen.objectives import OBJECTIVES
from toygen.players import Stream
from toygen.recipes import Recipe, Units

__all__ = ["NegativesChunk", "Wrong"]

_STREAMS = 4  # the random streams that a member has anyway; those of its negatives come after them


class Wrong:
    """The law of negatives: training points plus noise of many widths.

    Args:
        data: points (n, d).
        widths: smallest and largest standard deviation of the noise, in the units of the data.

    >>> wrong = Wrong(np.array([[5.0, 5.0]]), (0.1, 0.2))
    >>> near = wrong.sample(1000, np.random.default_rng(0)) - 5.0
    >>> bool(0.1 < near.std() < 0.2)
    True
    """

    def __init__(self, data: Float64[np.ndarray, "n d"], widths: tuple[float, float]) -> None:
        self._data = data
        self._low, self._high = (math.log(width) for width in widths)

    def sample(self, n: int, rng: np.random.Generator) -> Float64[np.ndarray, "h d"]:
        """Draw n of them."""
        points = self._data[rng.integers(0, len(self._data), n)]
        widths = np.exp(rng.uniform(self._low, self._high, (n, 1)))
        return points + widths * rng.standard_normal(points.shape)


class NegativesChunk(Chunk):
    """Members in training side by side, whose discriminators see negatives too.

    In every move of D the first points of its generated batch are replaced.

    Args:
        plans: who they are.
        units: of the data.
        recipe: what they share; its penalty acts on D's loss or weights alone.
        data: points (n, d).
        steps: moves of the generator.
        device: where they live.
        share: of negatives in the generated batch, in [0, 1).
        reach: smallest and largest standard deviation of their noise, for data of unit variance.
    """

    def __init__(
        self,
        plans: Sequence[MemberPlan],
        units: Units,
        recipe: Recipe,
        data: np.ndarray,
        steps: int,
        device: torch.device,
        *,
        share: float,
        reach: tuple[float, float],
    ) -> None:
        super().__init__(plans, units, recipe, data, steps, device)
        self._count = round(share * recipe.batch)
        self._game = Game(
            self.generator, self.discriminator, OBJECTIVES[recipe.objective], units.penalty(recipe, self._weight)
        )
        own = [np.random.SeedSequence(plan.seed, spawn_key=(plan.member,)).spawn(_STREAMS + 3) for plan in plans]
        rngs = [[np.random.default_rng(one) for one in column] for column in zip(*own, strict=True)][_STREAMS:]
        law, wrong = latent_law(recipe), Wrong(data, (reach[0] * units.scale, reach[1] * units.scale))
        kind = (torch.float32, device)
        self._latents = Stream(lambda rng, n: law.sample(n, rng), rngs[0], *kind)
        self._negatives = Stream(lambda rng, n: wrong.sample(n, rng), rngs[1], *kind)
        self._mixes = Stream(lambda rng, n: rng.random((n, 1)), rngs[2], *kind)
        self._turns[0] = dataclasses.replace(
            self._turns[0], loss=self._loss, streams=(self._latents, self._negatives, self._mixes)
        )

    def _loss(self, batch: Tensor) -> Tensor:
        with torch.no_grad():
            fake = self.generator(self._latents.take(batch.shape[1]))
        fake = torch.cat([self._negatives.take(self._count), fake[:, self._count :]], dim=1)
        return self._game.of_discriminator(batch, fake, self._mixes.take(batch.shape[1] // self._game.pack))
