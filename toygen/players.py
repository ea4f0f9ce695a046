r"""Who plays: the turns of a GAN, and the streams of data and noise they feed on.

Every member draws from its own random generators, and a stream draws many batches ahead at once, so that K members
cost K large draws now and then instead of K small ones every step. How far ahead is a constant: a member's n-th batch
depends on its generator and on n alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from divergences.checks import as_count, as_points
from divergences.distributions import Distribution
from divergences.errors import InputError
from toygen.game import Game, per_member
from toygen.objectives import Objective
from toygen.penalties import Penalty, clip_weights, none
from toygen.train import Turn

__all__ = ["Minibatches", "Stream", "adam", "gan", "minibatches"]

AHEAD = 64


def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of the standard recipe: Adam, learning rate 1e-3, betas (0, 0.99).

    No momentum (β₁ = 0): in a game the other player has moved by the time momentum pays out.
    """
    return torch.optim.Adam(parameters, lr=1e-3, betas=(0.0, 0.99))


def gan(
    generator: nn.Module,
    discriminator: nn.Module,
    *,
    objective: Objective,
    latent: Distribution,
    penalty: Penalty = none,
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] = adam,
    rng: Any,
) -> list[Turn]:
    """The two turns of a generative adversarial network: ``"discriminator"``, then ``"generator"``.

    Each turn draws its own fresh latents. For more moves of the discriminator take
    ``dataclasses.replace(turns[0], repeats=5)``.

    Args:
        generator: (K, b, k) → (K, b, d).
        discriminator: (K, b, d) → (K, b, 1): its own logit, or a critic's score (``objective.outputs`` features for
            ``mmd``; if it is ``packed``, of packs).
        objective: what the two want.
        latent: the law of z, of dimension k.
        penalty: what keeps the discriminator honest.
        optimizer: makes an elementwise optimiser from parameters; called once per player.
        rng: one generator per member for the latents, or one from which they are spawned by member index.

    Returns:
        Two turns for ``train``.

    Raises:
        InputError: generator and discriminator with different numbers of members, too few generators, or a
            discriminator that the penalty cannot work with.
    """
    game = Game(generator, discriminator, objective, penalty)
    first = next(generator.parameters())
    streams = _member_rngs(rng, len(first))
    kind = (first.dtype, first.device)
    noise = Stream(lambda stream, n: latent.sample(n, stream), streams[0], *kind)
    mixes = Stream(lambda stream, n: stream.random((n, 1)), streams[1], *kind)
    blurs = Stream(lambda stream, n: stream.standard_normal(n), streams[2], *kind)
    weights = list(discriminator.parameters())

    def seen(x: Tensor) -> Tensor:
        if penalty.noise is None:
            return x
        return x + per_member(penalty.noise, x) * blurs.take(x.shape[1] * x.shape[2]).view_as(x)

    def discriminator_loss(batch: Tensor) -> Tensor:
        size = batch.shape[1]
        if penalty.tension is not None:
            return game.with_tension(seen(batch), seen(generator(noise.take(size))))[0]
        with torch.no_grad():
            fake = generator(noise.take(size))
        mix = None if penalty.term is None else mixes.take(size // game.pack)
        return game.of_discriminator(seen(batch), seen(fake), mix)

    def generator_loss(batch: Tensor) -> Tensor:
        fake = generator(noise.take(batch.shape[1]))
        if penalty.tension is not None:
            return game.with_tension(seen(batch), seen(fake))[1]
        return game.of_generator(seen(batch), seen(fake))

    def project() -> None:
        if penalty.bound is not None:
            clip_weights(weights, penalty.bound)
        game.follow()

    return [
        Turn("discriminator", discriminator_loss, optimizer(weights), project=project, streams=(noise, mixes, blurs)),
        Turn("generator", generator_loss, optimizer(list(generator.parameters())), streams=(noise, blurs)),
    ]


def minibatches(
    data: Any,
    *,
    size: Any,
    rng: Any,
    members: Any,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Minibatches:
    """Endless minibatches, drawn with replacement by each member for itself.

    Args:
        data: points (n, d), shared by all members.
        size: points per batch, b.
        rng: one generator per member, or one from which they are spawned by member index.
        members: K.
        dtype: of the batches.
        device: where they lie.

    Returns:
        An iterator over tensors of shape (K, b, d).

    Raises:
        InputError: data that are not finite points, or a size below 1.
    """
    points = torch.tensor(as_points(data, "data"), dtype=dtype, device=device)
    size = as_count(size, "size")
    rows = _member_rngs(rng, as_count(members, "members"))[0]
    # Indices stay integers; only the gathered points are of the networks' dtype.
    stream = Stream(lambda own, n: own.integers(0, len(points), n), rows, torch.int64, points.device)
    return Minibatches(points, stream, size)


class Minibatches(Iterator[Tensor]):
    """Endless minibatches; ``stream`` knows where they stand."""

    def __init__(self, points: Tensor, stream: Stream, size: int) -> None:
        self.stream = stream
        self._points, self._size = points, size

    def __next__(self) -> Tensor:
        """The next batch: (K, b, d)."""
        return self._points[self.stream.take(self._size)]


class Stream:
    """Batches of random numbers, one row of the tensor per member, each from its own generator.

    Numbers are drawn by numpy wherever the networks live: they are the same on every device.
    """

    def __init__(
        self,
        draw: Callable[[np.random.Generator, int], np.ndarray],
        rngs: Sequence[np.random.Generator],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._draw = draw
        self._rngs = rngs
        self._dtype = dtype
        self._device = device
        self._size = 0
        self._block = torch.empty(0)
        self._next = 0
        self._before = self._states()

    def take(self, size: int) -> Tensor:
        """The next batch: (K, size, ...)."""
        if size != self._size or self._next == AHEAD:
            self._fill(size)
        self._next += 1
        return self._block[self._next - 1]

    def state(self) -> str:
        """Where it stands, as JSON: the generators when the block in use was drawn, and how much of it is used up."""
        return json.dumps({"size": self._size, "next": self._next, "rngs": self._before})

    def restore(self, state: str) -> None:
        """Stand where another stream of the same kind stood when its ``state`` was taken."""
        found = json.loads(state)
        for rng, own in zip(self._rngs, found["rngs"], strict=True):
            rng.bit_generator.state = own
        self._before = found["rngs"]
        self._size, self._next = 0, 0
        if found["size"]:
            self._fill(found["size"])
            self._next = found["next"]

    def _states(self) -> list[Any]:
        return [rng.bit_generator.state for rng in self._rngs]

    def _fill(self, size: int) -> None:
        self._before = self._states()
        block = np.stack([self._draw(rng, AHEAD * size) for rng in self._rngs])
        # Batches first, so that each one lies together in memory.
        block = block.reshape(len(block), AHEAD, size, *block.shape[2:]).swapaxes(0, 1)
        self._block = torch.tensor(np.ascontiguousarray(block), dtype=self._dtype).to(self._device)
        self._size, self._next = size, 0


def _member_rngs(rng: Any, members: int) -> list[list[np.random.Generator]]:
    """Three independent streams per member. A spawned child depends on its parent and index, not on its siblings."""
    if isinstance(rng, np.random.Generator):
        own = rng.spawn(members)
    elif isinstance(rng, Sequence) and all(isinstance(one, np.random.Generator) for one in rng):
        own = list(rng)
    else:
        raise InputError(f"rng must be a numpy.random.Generator, or a list of one per member; it is {rng!r}.")
    if len(own) != members:
        raise InputError(f"rng must hold one generator per member ({members}); it holds {len(own)}.")
    return [list(streams) for streams in zip(*(one.spawn(3) for one in own), strict=True)]
