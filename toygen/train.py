r"""Players taking turns: the one training loop.

A GAN is two players, a critic against fixed samples is one, an autoencoder is solitaire. Each is a ``Turn``: a loss,
an optimiser, how often it moves. ``train`` lets them move and *yields* after each round; whether to plot, average,
change a learning rate or stop is the caller's business, written in the caller's ``for`` loop. There are no callbacks.

**Members never mix.** A loss is one number per member, shape (K,), and what is minimised is their sum. The parameters
of member k enter only the k-th summand, so the sum's gradient holds each member's own gradient. An optimiser that works
elementwise (SGD, Adam, RMSProp) then treats the members as if they were alone; one that looks at a whole tensor or at
all of them together (clipping by global norm, LAMB, L-BFGS) would not, and must not be used here.

The same holds for a member that diverges: its NaN stays its own.

**Neither torch.compile nor CUDA graphs.** On a CPU, compiled networks take as long as these (0.95 times the rate, see
``benchmarks/ensembles.py --compiled``), and what is compiled cannot be differentiated twice, which every penalty on a
slope asks for. Launches that a CUDA graph would save were not measured; whoever captures one finds static shapes here,
but random numbers that numpy draws on the CPU.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from divergences.checks import as_count, as_number
from divergences.errors import InputError

__all__ = ["Average", "Step", "Turn", "single_thread", "train"]

_Network = TypeVar("_Network", bound=torch.nn.Module)


@dataclass(frozen=True)
class Turn:
    """One player.

    Attributes:
        name: unique among the players.
        loss: from a batch of data (K, b, d) to what is minimised, one number per member: shape (K,).
        optimizer: holds this player's parameters; must work elementwise (see above).
        repeats: how many moves in a row.
        project: called after each move, to put the parameters back where they may be (weight clipping).
        streams: the random streams the loss draws from, so that a checkpoint can remember where they stand.
    """

    name: str
    loss: Callable[[Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    repeats: int = 1
    project: Callable[[], None] | None = None
    streams: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Step:
    """One round is over.

    Attributes:
        index: 0 for the first round.
        losses: by player, one number per member, shape (K,): what it minimised in its last move, before it moved.
    """

    index: int
    losses: dict[str, Tensor]


@contextmanager
def single_thread() -> Iterator[None]:
    """One thread for torch's operations inside; what was set before is restored.

    Toy networks are too small to share: on a busy machine several threads are slower by an order of magnitude, and
    with one thread every sum is taken in the same order on every machine of one kind.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train(turns: Sequence[Turn], batches: Iterable[Tensor], steps: Any, *, start: Any = 0) -> Iterator[Step]:
    """Let the players take turns; yield after each round.

    Args:
        turns: in the order of play.
        batches: data, shape (K, b, d) each; every move takes a fresh one.
        steps: number of rounds; 0 is none.
        start: rounds that are over already: those of a training that is taken up again.

    Yields:
        A ``Step`` per round. The networks may be looked at, and learning rates turned, between two rounds.

    Raises:
        InputError: no players, two of one name, repeats below 1, negative steps, a loss that is not (K,), or batches
            that run out.
    """
    steps, start = as_count(steps, "steps", minimum=0), as_count(start, "start", minimum=0)
    if not turns:
        raise InputError("turns must hold at least one player; it is empty.")
    if len({turn.name for turn in turns}) < len(turns):
        raise InputError(f"turns must have different names; they are {[turn.name for turn in turns]}.")
    for turn in turns:
        as_count(turn.repeats, f"repeats of turn {turn.name!r}")
    return _play(list(turns), iter(batches), range(start, steps))


def _play(turns: list[Turn], batches: Iterator[Tensor], rounds: range) -> Iterator[Step]:
    for index in rounds:
        losses = {}
        with single_thread():
            for turn in turns:
                for _ in range(turn.repeats):
                    losses[turn.name] = _move(turn, batches)
        yield Step(index, losses)


def _move(turn: Turn, batches: Iterator[Tensor]) -> Tensor:
    batch = next(batches, None)
    if batch is None:
        raise InputError("batches ran out before the last step; hand over an endless iterator, such as minibatches.")
    loss = turn.loss(batch)
    if loss.ndim != 1:
        raise InputError(
            f"the loss of turn {turn.name!r} must have shape (members,); it has {tuple(loss.shape)}. "
            "Average over the batch, not over the members."
        )
    parameters = [p for group in turn.optimizer.param_groups for p in group["params"]]
    # Only this player's gradients are made: the other's weights are passed through, not differentiated. They are
    # accumulated by backward and not assigned from autograd.grad, whose results may be transposed in memory: a fused
    # optimiser reads memory, not strides.
    turn.optimizer.zero_grad(set_to_none=True)
    loss.sum().backward(inputs=parameters)
    turn.optimizer.step()
    if turn.project is not None:
        turn.project()
    return loss.detach()


class Average(Generic[_Network]):
    """An exponential moving average of a network's parameters, with a warm-up; buffers are as they were last.

    After round t (from 0) the average moves towards the parameters by 1 − d, d = min(decay, (1 + t)/(10 + t)): early on
    it forgets the random start quickly. A generator that circles around its equilibrium is nearer to it on average.

    Args:
        network: a copy of it is kept; it is not touched itself.
        decay: in [0, 1); 0 keeps the last parameters.

    Attributes:
        network: the average.
        rounds: how many it has taken in.

    References:
        The unusual effectiveness of averaging in GAN training (Yazıcı et al., 2019), https://arxiv.org/abs/1806.04498
    """

    def __init__(self, network: _Network, decay: Any) -> None:
        self.decay = as_number(decay, "decay")
        if not 0 <= self.decay < 1:
            raise InputError(f"decay must lie in [0, 1); it is {decay!r}.")
        self.network = copy.deepcopy(network)
        self.network.requires_grad_(requires_grad=False)
        self._pairs = list(zip(self.network.parameters(), network.parameters(), strict=True))
        self._buffers = list(zip(self.network.buffers(), network.buffers(), strict=True))
        self.rounds = 0

    def update(self) -> None:
        """Take in the network as it is now."""
        decay = min(self.decay, (1 + self.rounds) / (10 + self.rounds))
        self.rounds += 1
        with torch.no_grad():
            for average, parameter in self._pairs:
                average.lerp_(parameter, 1 - decay)
            for kept, buffer in self._buffers:
                kept.copy_(buffer)
