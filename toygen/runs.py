r"""Whole trainings: an ensemble of GANs on one set of points, member by member reproducible.

"How often does this GAN lose a mode?" is a question about the law of trained generators, so one trains K of them from
independent seeds and counts: the answer is a share with a binomial interval instead of an anecdote.

**Member k depends on (data, recipe, steps, seed, k) and on nothing else.** Two things make this true:

* every random number of member k (initial weights, minibatches, latents) comes from
  ``SeedSequence(seed, spawn_key=(k,))``;
* members are trained in fixed *chunks*: k always sits in chunk k // chunk at place k % chunk, and a chunk is always
  trained whole, even if one member of it was asked for. A matrix product may round differently when more or fewer
  matrices are multiplied at once, and a GAN, being chaotic, makes a different network of a different last bit within a
  few hundred steps; with fixed shapes there is nothing to round differently. So ``members=[7]`` gives, bit by bit, the
  eighth network of ``members=100`` (on the same kind of machine, with the same version of torch).

The price: one member costs as much as a chunk (8). For networks this small that is two to four times one member alone.
"""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float64

from divergences import Gaussian, InputError
from divergences.checks import as_count, as_generator, as_points
from toygen.networks import MLP, stack
from toygen.objectives import OBJECTIVES
from toygen.players import gan, minibatches
from toygen.recipes import Recipe, Units
from toygen.sampler import Sampler
from toygen.train import Average, Step, train

__all__ = ["GanEnsemble", "GanRun", "Progress", "fit_gan"]

_STANDARD = Recipe()


class Progress(NamedTuple):
    """Where a run stands: ``done`` of ``total`` steps over all chunks, what the last one was, and whose it was.

    Attributes:
        done: steps finished.
        total: steps of the whole run.
        step: the last step; its losses are those of ``members``.
        members: indices of the members of the chunk in training.
        generator: their averaged generators, as they stand.
        discriminator: their discriminators, as they stand.
    """

    done: int
    total: int
    step: Step
    members: tuple[int, ...]
    generator: MLP
    discriminator: MLP


@dataclass(frozen=True)
class GanEnsemble:
    """Trained GANs.

    Attributes:
        members: their indices under the seed, in the order of everything below.
        generators: their averaged generators, an ensemble of K.
        discriminators: their discriminators as they were at the end.
        latent: law of the latents.
        history: ``step`` (steps,), and the losses ``discriminator`` and ``generator`` (steps, K).
        diverged: which members hold, or last reported, a number that is not finite, shape (K,).
        recipe: how they were trained.
        seed: of the whole ensemble.
    """

    members: tuple[int, ...]
    generators: MLP
    discriminators: MLP
    latent: Gaussian
    history: dict[str, np.ndarray]
    diverged: Bool[np.ndarray, " k"]
    recipe: Recipe
    seed: int

    @property
    def healthy(self) -> tuple[int, ...]:
        """Places (0 … K − 1) of the members that did not diverge."""
        return tuple(int(place) for place in np.flatnonzero(~self.diverged))

    def sampler(self, place: Any = 0) -> Sampler:
        """The averaged generator at a place (0 … K − 1).

        Raises:
            InputError: no such place, or a member that diverged: it is no generator.
        """
        place = as_count(place, "place", minimum=0)
        if place >= len(self.members):
            raise InputError(f"place must be below {len(self.members)}, the number of members; it is {place}.")
        if self.diverged[place]:
            raise InputError(
                f"member {self.members[place]} diverged: its losses or weights are not finite, so there is nothing to "
                "sample. Lower the learning rate or use a penalty."
            )
        about = {
            "recipe": dataclasses.asdict(self.recipe),
            "seed": self.seed,
            "member": self.members[place],
            "steps": len(self.history["step"]),
            "versions": {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()},
        }
        return Sampler(self.generators, self.latent, member=place, about=about)

    def sample(self, n: Any, rng: Any) -> Float64[np.ndarray, "h n d"]:
        """N points of every healthy member, each from latents of its own: shape (healthy, n, d)."""
        n, streams = as_count(n, "n"), as_generator(rng).spawn(len(self.members))
        # Streams go by place, so a diverged companion does not change anybody's points.
        clouds = [self.sampler(place)(n, streams[place]) for place in self.healthy]
        return np.stack(clouds) if clouds else np.empty((0, n, self.generators.sizes[-1]))


class GanRun:
    """A training to be iterated: yields after every step, and holds the ``result`` at the end.

    Args:
        train: points (n, d), shared by all members.
        recipe: how to train.
        members: how many (0 … K − 1), or the indices of those that are wanted.
        steps: moves of the generator.
        seed: of the whole ensemble.

    Raises:
        InputError: data that are not at least two different finite points, no members, negative steps or seed.

    >>> data = np.random.default_rng(0).normal(size=(100, 2))
    >>> run = GanRun(data, recipe=Recipe(width=8, chunk=2), members=2, steps=3)
    >>> [progress.done for progress in run]
    [1, 2, 3]
    >>> run.result().sampler(1)(4, np.random.default_rng(0)).shape
    (4, 2)
    """

    def __init__(
        self,
        train: Any,
        *,
        recipe: Recipe = _STANDARD,
        members: Any = 8,
        steps: Any = 20_000,
        seed: Any = 0,
    ) -> None:
        self._train = as_points(train, "train", minimum=2)
        self._units = Units.of(self._train)
        self._recipe = recipe
        self._steps = as_count(steps, "steps", minimum=0)
        self._seed = as_count(seed, "seed", minimum=0)
        self._members = _as_members(members)
        self._chunks: list[_Chunk] = []

    def __iter__(self) -> Iterator[Progress]:
        """Train, chunk after chunk. Starting over starts from the beginning."""
        self._chunks = []
        numbers = sorted({member // self._recipe.chunk for member in self._members})
        for i, number in enumerate(numbers):
            chunk = _Chunk(number, self._units, self._recipe, self._seed)
            for step in chunk.train(self._train, self._steps):
                done = i * self._steps + step.index + 1
                total = len(numbers) * self._steps
                yield Progress(done, total, step, chunk.members, chunk.average.network, chunk.discriminator)
            self._chunks.append(chunk)

    def result(self) -> GanEnsemble:
        """The trained ensemble.

        Raises:
            InputError: the run has not been iterated to its end.
        """
        size = self._recipe.chunk
        by_number = {chunk.number: i for i, chunk in enumerate(self._chunks)}
        if any(member // size not in by_number for member in self._members):
            raise InputError("the run is not finished: iterate it to the end, or use fit_gan.")
        places = [by_number[member // size] * size + member % size for member in self._members]
        generators = stack([chunk.average.network for chunk in self._chunks]).pick(places)
        discriminators = stack([chunk.discriminator for chunk in self._chunks]).pick(places)
        history = {
            name: np.concatenate([chunk.losses(name) for chunk in self._chunks], axis=1)[:, places]
            for name in ("discriminator", "generator")
        }
        finite = generators.healthy()
        for losses in history.values():
            finite &= np.isfinite(losses[-1:]).all(axis=0)
        return GanEnsemble(
            members=self._members,
            generators=generators,
            discriminators=discriminators,
            latent=_latent(self._recipe),
            history={"step": np.arange(self._steps), **history},
            diverged=~finite,
            recipe=self._recipe,
            seed=self._seed,
        )


def fit_gan(
    train: Any,
    *,
    recipe: Recipe = _STANDARD,
    members: Any = 8,
    steps: Any = 20_000,
    seed: Any = 0,
    progress: Callable[[Progress], object] | None = None,
) -> GanEnsemble:
    """Train an ensemble of GANs to the end.

    Args:
        train: points (n, d), shared by all members.
        recipe: how to train.
        members: how many (0 … K − 1), or the indices of those that are wanted.
        steps: moves of the generator.
        seed: of the whole ensemble.
        progress: told where the run stands after every step; to do more than watching, iterate a ``GanRun``.

    Raises:
        InputError: data that are not at least two different finite points, no members, negative steps or seed.
    """
    run = GanRun(train, recipe=recipe, members=members, steps=steps, seed=seed)
    for state in run:
        if progress is not None:
            progress(state)
    return run.result()


class _Chunk:
    """``recipe.chunk`` consecutive members in training."""

    def __init__(self, number: int, units: Units, recipe: Recipe, seed: int) -> None:
        self.number = number
        self.members = tuple(range(number * recipe.chunk, (number + 1) * recipe.chunk))
        sequences = [np.random.SeedSequence(seed, spawn_key=(member,)).spawn(4) for member in self.members]
        streams = [[np.random.default_rng(sequence) for sequence in own] for own in zip(*sequences, strict=True)]
        self._data_rngs, self._latent_rngs = streams[2], streams[3]
        self._recipe, self._units = recipe, units
        self.generator = units.generator(recipe, streams[0])
        self.discriminator = units.discriminator(recipe, streams[1])
        self.average = Average(self.generator, recipe.decay)
        self._losses: dict[str, np.ndarray] = {}

    def train(self, data: np.ndarray, steps: int) -> Iterator[Step]:
        recipe, size = self._recipe, len(self.members)
        self._losses = {name: np.empty((steps, size)) for name in ("discriminator", "generator")}
        unit = self._units.penalty_unit(recipe)
        weight = torch.tensor(unit * recipe.weight_at(0.0))
        turns = gan(
            self.generator,
            self.discriminator,
            objective=OBJECTIVES[recipe.objective],
            latent=_latent(recipe),
            penalty=self._units.penalty(recipe, weight),
            optimizer=recipe.optimizer,
            rng=self._latent_rngs,
        )
        turns[0] = dataclasses.replace(turns[0], repeats=recipe.discriminator_steps)
        batches = minibatches(data, size=recipe.batch, rng=self._data_rngs, members=size)
        for step in train(turns, batches, steps):
            self.average.update()
            progress = (step.index + 1) / steps
            weight.fill_(unit * recipe.weight_at(progress))
            for turn in turns:
                for group in turn.optimizer.param_groups:
                    group["lr"] = recipe.rate_at(progress)
            for name, losses in step.losses.items():
                self._losses[name][step.index] = losses.numpy()
            yield step

    def losses(self, name: str) -> Float64[np.ndarray, "steps k"]:
        """Of one player, over all steps."""
        return self._losses[name]


def _latent(recipe: Recipe) -> Gaussian:
    return Gaussian(np.zeros(recipe.latent_dim), np.eye(recipe.latent_dim))


def _as_members(members: Any) -> tuple[int, ...]:
    if isinstance(members, Sequence):
        chosen = tuple(as_count(member, f"members[{i}]", minimum=0) for i, member in enumerate(members))
        if not chosen or len(set(chosen)) < len(chosen):
            raise InputError(f"members must be different indices, at least one; they are {list(members)}.")
        return chosen
    return tuple(range(as_count(members, "members")))
