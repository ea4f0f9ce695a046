"""A run put aside and taken up again, bit by bit as if it had never stopped.

A checkpoint holds everything the next step depends on: networks, their average, the optimisers' memories, and where
each random stream of each member stands. It is written beside the old one and then renamed over it, so that whenever a
process is killed, a whole one lies there. It is loaded with ``weights_only=True``: tensors, numbers and texts, and
nothing that could be executed.
"""

from __future__ import annotations

import glob
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from divergences.errors import InputError
from evaluation.files import write_atomically

__all__ = ["load_checkpoint", "need_same_run", "save_checkpoint", "sweep"]

_FORMAT = "mintmark checkpoint 1"
# What a file is called while it is being written (``evaluation.files``): a dot, its name, a dot and eight letters.
_HALF = "." + "?" * 8


@runtime_checkable
class Resumable(Protocol):
    """What can be put aside: ``GanRun``, and whatever says of itself where it stands."""

    def state(self) -> dict[str, Any]:
        """Tensors, numbers, texts, and lists and dictionaries of them."""

    def restore(self, state: dict[str, Any]) -> None:
        """Stand there."""


def save_checkpoint(run: Resumable, path: str | os.PathLike[str]) -> Path:
    """Write down where a run stands, between two of its steps.

    Args:
        run: a ``GanRun`` that is being iterated.
        path: of the file; an older one is replaced in one stroke.

    Returns:
        The path written.

    Raises:
        OSError: the place cannot be written.
    """
    return write_atomically(path, lambda file: torch.save({"format": _FORMAT, **run.state()}, file))


def load_checkpoint(run: Resumable, path: str | os.PathLike[str]) -> None:
    """Let a run that was just made stand where the saved one stood; iterate it to go on.

    Args:
        run: made with the same arguments as the one that was saved.
        path: of the file.

    Raises:
        InputError: no such file, not a checkpoint, a damaged one, or the checkpoint of a run with other arguments.

    Warns:
        RuntimeWarning: it was written with other versions of what the run rests on.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist.") from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as a checkpoint ({type(error).__name__}): start anew.") from error
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise InputError(f"{path} is not a checkpoint of this library.")
    try:
        run.restore(state)
    except InputError:
        raise
    except (LookupError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is a damaged checkpoint ({type(error).__name__}): start anew.") from error
    sweep(path)


def sweep(*paths: str | os.PathLike[str]) -> None:
    """Remove what a process that was killed while writing these files left behind: halves of them.

    Args:
        paths: of whole files, which stay; nobody else may be writing them.
    """
    for path in map(Path, paths):
        for half in path.parent.glob(f".{glob.escape(path.name)}{_HALF}"):
            half.unlink(missing_ok=True)


def need_same_run(state: dict[str, Any], definition: dict[str, Any]) -> None:
    """Refuse the state of a run that was defined otherwise.

    Args:
        state: of the run that was put aside; ``state["definition"]`` is JSON.
        definition: of the run that shall go on.

    Raises:
        InputError: they differ; it says in what. Or nothing says what run it was.
    """
    try:
        theirs = json.loads(state["definition"])
    except (KeyError, TypeError, ValueError):
        theirs = None
    if not isinstance(theirs, dict):
        raise InputError("the checkpoint does not say what run it is of: it is damaged, or of something else.")
    ours = json.loads(json.dumps(definition))
    if other := sorted(key for key in ours if ours[key] != theirs.get(key)):
        raise InputError(
            f"the checkpoint is of another run: {', '.join(other)} differ. Continue with what it was started with, "
            "or start anew in another place."
        )
