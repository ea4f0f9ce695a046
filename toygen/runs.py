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
  eighth network of ``members=100`` (on the same kind of machine and device, with the same version of torch).

The price: one member costs as much as a chunk of 32, so ask for 32. If fewer are enough, ``Recipe(chunk=8)`` takes a
quarter of the time for wide networks and half of it for narrow ones; its members are others, and just as good.

**Members may differ in more than their seed** (``seeds``, ``learning_rates``, ``penalty_weights``: one per member).
Member i is then the one that a run with these numbers for all would give, bit by bit if the chunk is a multiple of 32:
then every tensor fills the vector registers whole, wherever a member sits in it.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from divergences import Gaussian, InputError
from divergences.checks import as_count, as_generator, as_number, as_points
from evaluation.files import write_atomically
from toygen.checkpoints import load_checkpoint, save_checkpoint
from toygen.chunked import ChunkedRun, as_members, digest_of, versions
from toygen.chunks import LOSSES, Chunk, MemberPlan, latent_law
from toygen.devices import as_device
from toygen.networks import MLP, stack
from toygen.recipes import Recipe, Units
from toygen.sampler import Sampler
from toygen.train import Step

__all__ = ["GanEnsemble", "GanRun", "Progress", "fit_gan", "write_losses"]

_STANDARD = Recipe()


class Progress(NamedTuple):
    """Where a run stands: ``done`` of ``total`` steps over all chunks, what the last one was, and whose it was.

    Attributes:
        done: steps finished.
        total: steps of the whole run.
        step: the last step; its losses are those of ``members``.
        members: indices of the members of the chunk in training.
        places: places in the chunk of those that were asked for; the others only keep the shapes the same.
        generator: their averaged generators, as they stand.
        discriminator: their discriminators, as they stand.
        recipe: how they are trained.
    """

    done: int
    total: int
    step: Step
    members: tuple[int, ...]
    generator: MLP
    discriminator: MLP
    recipe: Recipe | None = None
    places: tuple[int, ...] | None = None


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
        plans: what defines each member; they may differ from the recipe and the seed.
        device: where they were trained.
    """

    members: tuple[int, ...]
    generators: MLP
    discriminators: MLP
    latent: Gaussian
    history: dict[str, np.ndarray]
    diverged: Bool[np.ndarray, " k"]
    recipe: Recipe
    seed: int
    plans: tuple[MemberPlan, ...] = ()
    device: str = "cpu"

    @property
    def healthy(self) -> tuple[int, ...]:
        """Places (0 … K − 1) of the members that did not diverge."""
        return tuple(int(place) for place in np.flatnonzero(~self.diverged))

    @property
    def diverged_at(self) -> tuple[int | None, ...]:
        """For each member the first step that reported a loss that is not finite; None if none did."""
        bad = ~np.all([np.isfinite(self.history[name]) for name in LOSSES], axis=0)
        return tuple(int(column.argmax()) if column.any() else None for column in bad.T)

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
        plan = self.plans[place] if self.plans else None
        about = {
            "recipe": dataclasses.asdict(self.recipe if plan is None else plan.recipe(self.recipe)),
            "seed": self.seed if plan is None else plan.seed,
            "member": self.members[place],
            "steps": len(self.history["step"]),
            "device": self.device,
            "versions": versions(),
        }
        return Sampler(self.generators, self.latent, member=place, about=about)

    def sample(self, n: Any, rng: Any) -> Float64[np.ndarray, "h n d"]:
        """N points of every healthy member, each from latents of its own: shape (healthy, n, d).

        A member's latents depend on ``rng`` (one draw is taken of it), on n, on its index and its seed: its points are
        the same alone and in company. Of several members with one index and one seed, which differ in a rate or a
        weight, the so-manieth has its own.
        """
        n, entropy = as_count(n, "n"), as_generator(rng).integers(0, 2**32, 4).tolist()
        clouds = [self.sampler(place)(n, self._stream(entropy, place)) for place in self.healthy]
        return np.stack(clouds) if clouds else np.empty((0, n, self.generators.sizes[-1]))

    def _stream(self, entropy: list[int], place: int) -> np.random.Generator:
        seeds = [plan.seed for plan in self.plans] or [self.seed] * len(self.members)
        names = list(zip(seeds, self.members, strict=True))
        key = (*names[place], names[:place].count(names[place]))
        return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=key))

    def write_history(self, path: str | os.PathLike[str], *, every: Any = 1) -> Path:
        """Write the losses as CSV: a row per step, a column per player and member.

        Args:
            path: where to.
            every: only each so-manieth step, the first one included.

        Raises:
            OSError: the place cannot be written.
        """
        return write_losses(path, {name: self.history[name] for name in ("step", *LOSSES)}, every=every)


def write_losses(path: str | os.PathLike[str], history: dict[str, np.ndarray], *, every: Any = 1) -> Path:
    """Write a history as CSV: a row per step, a column per loss and member.

    Args:
        path: where to.
        history: ``step`` (steps,), and losses (steps, K).
        every: only each so-manieth step, the first one included.

    Raises:
        OSError: the place cannot be written.
    """
    chosen, losses = slice(None, None, as_count(every, "every")), [name for name in history if name != "step"]
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    # The place tells members of one index apart, which an ensemble of mixed seeds may hold.
    rows.writerow(["step", *(f"{name}_{place}" for name in losses for place in range(history[name].shape[1]))])
    table = np.concatenate([history[name][chosen] for name in losses], axis=1)
    for step, row in zip(history["step"][chosen], table, strict=True):
        rows.writerow([int(step), *(f"{value:.9g}" for value in row)])
    return write_atomically(path, lambda file: file.write(text.getvalue().encode()))


class GanRun(ChunkedRun[Chunk]):
    """A training to be iterated: yields after every step, and holds the ``result`` at the end.

    It may be put aside between two steps (``toygen.save_checkpoint``) and taken up by another process, which then goes
    on bit by bit as if nothing had happened (``toygen.load_checkpoint``).

    Args:
        train: points (n, d), shared by all members.
        recipe: how to train.
        members: how many (0 … K − 1), or the indices of those that are wanted, or a ``MemberPlan`` for each: what
            ``GanEnsemble.plans`` holds, so that chosen members of several runs can be trained again side by side.
        steps: moves of the generator.
        seed: of the whole ensemble.
        seeds: one for each member instead: member i is member ``members[i]`` under seed ``seeds[i]``.
        learning_rates: one for each member instead of the recipe's.
        penalty_weights: one pair (start, end) for each member instead of the recipe's; a single number is constant.
        device: "auto", "cpu", "cuda" or "cuda:1". Random numbers are the same on each; rounding is not.

    Raises:
        InputError: data that are not at least two different finite points, no members, negative steps or seed, lists of
            another length than the number of members, or a device that is not there.

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
        recipe: Any = _STANDARD,
        members: Any = 32,
        steps: Any = 20_000,
        seed: Any = 0,
        seeds: Any = None,
        learning_rates: Any = None,
        penalty_weights: Any = None,
        device: Any = "cpu",
    ) -> None:
        if not isinstance(recipe, Recipe):
            raise InputError(f"recipe must be a toygen.Recipe, such as recipe_for('hinge'); it is {recipe!r}.")
        self._train = as_points(train, "train", minimum=2)
        self._units = Units.of(self._train)
        self._recipe: Recipe = recipe
        self._seed = as_count(seed, "seed", minimum=0)
        self._device = as_device(device)
        mixed = {"seeds": seeds, "learning_rates": learning_rates, "penalty_weights": penalty_weights}
        free = any(given is not None for given in mixed.values())
        if _are_plans(members):
            if free:
                raise InputError(f"members are plans that say everything: leave {', '.join(mixed)} away.")
            columns = zip(*members, strict=True)
            members, free, mixed = next(columns), True, dict(zip(mixed, columns, strict=True))
        self._members = as_members(members, repeated=free)
        self._plans = self._planned(**mixed)
        self._layout, self._places = self._arranged(free=free)
        super().__init__(len(self._layout), as_count(steps, "steps", minimum=0))

    def __iter__(self) -> Iterator[Progress]:
        """Train, chunk after chunk. Starting over starts from the beginning, or once from a restored state."""
        size = self._recipe.chunk
        for i, chunk, step, done, total in self._trained():
            places = tuple(place - i * size for place in self._places if place // size == i)
            networks = chunk.average.network, chunk.discriminator
            yield Progress(done, total, step, chunk.members, *networks, self._recipe, places)

    def result(self) -> GanEnsemble:
        """The trained ensemble.

        Raises:
            InputError: the run has not been iterated to its end.
        """
        self._need_end("fit_gan")
        generators = stack([chunk.average.network for chunk in self._chunks]).cpu().pick(self._places)
        discriminators = stack([chunk.discriminator for chunk in self._chunks]).cpu().pick(self._places)
        history = {
            name: np.concatenate([chunk.losses(name) for chunk in self._chunks], axis=1)[:, self._places]
            for name in LOSSES
        }
        finite = generators.healthy()
        for losses in history.values():
            finite &= np.isfinite(losses[-1:]).all(axis=0)
        return GanEnsemble(
            members=self._members,
            generators=generators,
            discriminators=discriminators,
            latent=latent_law(self._recipe),
            history={"step": np.arange(self._steps), **history},
            diverged=~finite,
            recipe=self._recipe,
            seed=self._seed,
            plans=self._plans,
            device=str(self._device),
        )

    def definition(self) -> dict[str, Any]:
        """What the run is, as plain JSON: two runs with the same definition give the same bits on one machine."""
        return {
            "recipe": dataclasses.asdict(self._recipe),
            "steps": self._steps,
            "members": [list(plan) for plans in self._layout for plan in plans],
            "data": digest_of(self._train),
            "device": self._device.type,
        }

    def _make(self, i: int) -> Chunk:
        return self._chunk(self._layout[i])

    def _chunk(self, plans: Sequence[MemberPlan]) -> Chunk:
        return Chunk(plans, self._units, self._recipe, self._train, self._steps, self._device)

    def _planned(self, seeds: Any, learning_rates: Any, penalty_weights: Any) -> tuple[MemberPlan, ...]:
        count, recipe = len(self._members), self._recipe
        seeds = [self._seed] * count if seeds is None else _one_each(seeds, "seeds", count)
        rates = [recipe.learning_rate] * count
        if learning_rates is not None:
            rates = _one_each(learning_rates, "learning_rates", count)
        weights = [recipe.weights] * count
        if penalty_weights is not None:
            weights = _one_each(penalty_weights, "penalty_weights", count)
        plans = tuple(
            MemberPlan(
                member,
                as_count(seed, f"seeds[{i}]", minimum=0),
                as_number(rate, f"learning_rates[{i}]", above=0.0),
                _as_pair(pair, f"penalty_weights[{i}]"),
            )
            for i, (member, seed, rate, pair) in enumerate(zip(self._members, seeds, rates, weights, strict=True))
        )
        if len(set(plans)) < len(plans):
            raise InputError("members must differ in their index, seed, learning rate or penalty weights.")
        return plans

    def _arranged(self, *, free: bool) -> tuple[list[list[MemberPlan]], list[int]]:
        """Who sits where: the chunks, and the place of each wanted member in their row."""
        size = self._recipe.chunk
        if free:
            filled = list(self._plans) + [self._plans[0]] * (-len(self._plans) % size)
            return [filled[i : i + size] for i in range(0, len(filled), size)], list(range(len(self._plans)))
        numbers = sorted({member // size for member in self._members})
        first = self._plans[0]
        layout = [[first._replace(member=number * size + i) for i in range(size)] for number in numbers]
        return layout, [numbers.index(member // size) * size + member % size for member in self._members]


def fit_gan(
    train: Any,
    *,
    recipe: Any = _STANDARD,
    members: Any = 32,
    steps: Any = 20_000,
    seed: Any = 0,
    seeds: Any = None,
    learning_rates: Any = None,
    penalty_weights: Any = None,
    device: Any = "cpu",
    progress: Callable[[Progress], object] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    every: Any = 1000,
) -> GanEnsemble:
    """Train an ensemble of GANs to the end.

    Args:
        train: points (n, d), shared by all members.
        recipe: how to train.
        members: how many (0 … K − 1), the indices of those that are wanted, or their plans, see ``GanRun``.
        steps: moves of the generator.
        seed: of the whole ensemble.
        seeds: one for each member instead, see ``GanRun``.
        learning_rates: one for each member instead of the recipe's.
        penalty_weights: one pair (start, end) for each member instead of the recipe's.
        device: "auto", "cpu", "cuda" or "cuda:1".
        progress: told where the run stands after every step; to do more than watching, iterate a ``GanRun``.
        checkpoint: a file that is kept up to date; if it exists, the run goes on from there.
        every: steps between two checkpoints.

    Raises:
        InputError: data that are not at least two different finite points, no members, negative steps or seed, a
            checkpoint of another run, or what else ``GanRun`` refuses.
    """
    run = GanRun(
        train,
        recipe=recipe,
        members=members,
        steps=steps,
        seed=seed,
        seeds=seeds,
        learning_rates=learning_rates,
        penalty_weights=penalty_weights,
        device=device,
    )
    every = as_count(every, "every")
    if checkpoint is not None and Path(checkpoint).exists():
        load_checkpoint(run, checkpoint)
    for state in run:
        if progress is not None:
            progress(state)
        if checkpoint is not None and (state.done % every == 0 or state.done == state.total):
            save_checkpoint(run, checkpoint)
    return run.result()


def _are_plans(members: Any) -> bool:
    is_list = isinstance(members, Sequence) and not isinstance(members, str) and len(members) > 0
    return is_list and all(isinstance(member, MemberPlan) for member in members)


def _one_each(values: Any, name: str, count: int) -> list[Any]:
    if not isinstance(values, Sequence | np.ndarray) or isinstance(values, str | bytes):
        raise InputError(f"{name} must be a list with one entry per member; it is {values!r}.")
    if len(values) != count:
        raise InputError(f"{name} must hold one entry per member ({count}); it holds {len(values)}.")
    return list(values)


def _as_pair(value: Any, name: str) -> tuple[float, float]:
    pair = list(value) if isinstance(value, Sequence | np.ndarray) and np.ndim(value) == 1 else [value, value]
    if len(pair) != 2:
        raise InputError(f"{name} must be a weight at the start and one at the end; it is {value!r}.")
    first, last = (as_number(number, name, above=0.0) for number in pair)
    return first, last
