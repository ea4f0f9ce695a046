"""What trainings in chunks have in common, whatever they train: going on, standing still, and being put aside.

A chunk is a number of members in training side by side; a run is one chunk after the other.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from divergences.checks import as_count
from divergences.errors import InputError
from toygen.checkpoints import need_same_run
from toygen.players import Minibatches
from toygen.train import Step, Turn, train

__all__ = ["ChunkedRun", "ResumableChunk", "as_members", "digest_of", "versions"]


class ResumableChunk(ABC):
    """Members in training side by side, and all the state they have.

    Args:
        members: their indices.
        steps: of the training.

    Attributes:
        members: their indices.
        done: steps finished.
    """

    _turns: list[Turn]
    _batches: Minibatches

    def __init__(self, members: Sequence[int], steps: int) -> None:
        self.members, self.done = tuple(members), 0
        self._steps = steps
        self._whole = True  # no player has moved that others wait for
        self._kept: dict[str, Tensor] = {}

    def train(self) -> Iterator[Step]:
        """Take the steps that are left; yield after each."""
        self._set_out()
        self._whole = False
        for step in train(self._turns, self._batches, self._steps, start=self.done):
            for name, values in self._after(step).items():
                self._row(name, values)[step.index] = values
            self.done = step.index + 1
            self._set_out()
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
            "networks": [network.state_dict() for network in self._networks],
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "streams": [stream.state() for stream in self._streams],
            # A slice would be saved with all the memory it is cut from.
            "history": {name: values[: self.done].clone() for name, values in self._kept.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Stand where another chunk of the same members stood."""
        self.done = state["done"]
        for network, found in zip(self._networks, state["networks"], strict=True):
            network.load_state_dict(found)
        for optimizer, found in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(found)
        for stream, found in zip(self._streams, state["streams"], strict=True):
            stream.restore(found)
        for name, values in state["history"].items():
            self._row(name, values)[: self.done] = values

    def _row(self, name: str, like: Tensor) -> Tensor:
        """Where a number per member is kept, step by step: shape (steps, K)."""
        if name not in self._kept:
            self._kept[name] = torch.empty((self._steps, len(self.members)), dtype=like.dtype, device=like.device)
        return self._kept[name]

    @property
    def _progress(self) -> float:
        return self.done / self._steps if self._steps else 0.0

    @property
    @abstractmethod
    def _networks(self) -> Sequence[nn.Module]:
        """All that has weights."""

    @property
    @abstractmethod
    def _optimizers(self) -> Sequence[Any]:
        """All that remembers gradients."""

    @property
    @abstractmethod
    def _streams(self) -> list[Any]:
        """All that draws random numbers."""

    @abstractmethod
    def _set_out(self) -> None:
        """Turn the knobs to where they belong for the next step."""

    @abstractmethod
    def _after(self, step: Step) -> dict[str, Tensor]:
        """What follows a step; returns what is to be kept of it, (K,) each."""


_Chunk = TypeVar("_Chunk", bound=ResumableChunk)


class ChunkedRun(ABC, Generic[_Chunk]):
    """One chunk after the other.

    Args:
        count: of chunks.
        steps: of each.
    """

    def __init__(self, count: int, steps: int) -> None:
        self._count, self._steps = count, steps
        self._chunks: list[_Chunk] = []
        self._restored = False

    def _trained(self) -> Iterator[tuple[int, _Chunk, Step, int, int]]:
        """Train, yielding after each step: the number of the chunk, it, the step, steps done and in all.

        Starting over starts from the beginning, or once from a restored state.
        """
        self._chunks, self._restored = self._chunks if self._restored else [], False
        total = self._count * self._steps
        for i in range(self._count):
            if i == len(self._chunks):
                self._chunks.append(self._make(i))
            chunk = self._chunks[i]
            for step in chunk.train():
                yield i, chunk, step, i * self._steps + step.index + 1, total

    @property
    def done(self) -> int:
        """Steps finished, over all chunks."""
        return sum(chunk.done for chunk in self._chunks)

    def state(self) -> dict[str, Any]:
        """Where the run stands between two steps, for ``toygen.save_checkpoint``: tensors, numbers and texts."""
        return {
            "definition": json.dumps(self.definition(), sort_keys=True),
            "versions": versions(),
            "chunks": [chunk.state() for chunk in self._chunks],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Stand where another run of the same definition stood; the next iteration goes on from there.

        Raises:
            InputError: the state of a run that is defined otherwise.

        Warns:
            RuntimeWarning: other versions put it aside, which may round otherwise.
        """
        need_same_run(state, self.definition())
        then = {name: state["versions"].get(name, "unknown") for name in versions()}
        if changed := [f"{name} {then[name]} (now {now})" for name, now in versions().items() if then[name] != now]:
            warnings.warn(
                f"the run was put aside under {', '.join(changed)}: it goes on, maybe not bit by bit as it would have.",
                RuntimeWarning,
                stacklevel=3,
            )
        self._chunks = []
        for i, found in zip(range(self._count), state["chunks"], strict=False):
            chunk = self._make(i)
            chunk.restore(found)
            self._chunks.append(chunk)
        self._restored = True

    def _need_end(self, instead: str) -> None:
        if len(self._chunks) < self._count or self._chunks[-1].done < self._steps:
            raise InputError(f"the run is not finished: iterate it to the end, or use {instead}.")

    @abstractmethod
    def definition(self) -> dict[str, Any]:
        """What the run is, as plain JSON: two runs with the same definition give the same bits on one machine."""

    @abstractmethod
    def _make(self, i: int) -> _Chunk:
        """Chunk i before its first step."""


def as_members(members: Any, *, repeated: bool = False) -> tuple[int, ...]:
    """Indices of members, given as such or as how many there are.

    Raises:
        InputError: none, or one twice unless ``repeated``.
    """
    if isinstance(members, Sequence):
        chosen = tuple(as_count(member, f"members[{i}]", minimum=0) for i, member in enumerate(members))
        if not chosen or (not repeated and len(set(chosen)) < len(chosen)):
            raise InputError(f"members must be different indices, at least one; they are {list(members)}.")
        return chosen
    return tuple(range(as_count(members, "members")))


def digest_of(data: np.ndarray) -> str:
    """SHA-256 of the numbers."""
    return hashlib.sha256(np.ascontiguousarray(data).tobytes()).hexdigest()


def versions() -> dict[str, str]:
    """Of what a result depends on besides its seed."""
    try:
        own = importlib.metadata.version("mintmark")
    except importlib.metadata.PackageNotFoundError:
        own = "unknown"  # run from its folder, without being installed
    # A plain text: torch's own version object would not load with weights_only.
    return {
        "mintmark": own,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
