"""What ``python -m toygen`` and its subcommands share: how they refuse, where data come from, what they write."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from divergences.checks import as_count
from divergences.errors import InputError
from evaluation.files import write_atomically
from toygen.checkpoints import load_checkpoint

__all__ = [
    "Parser",
    "aligned",
    "already_finished",
    "check_writable",
    "data_streams",
    "guarded",
    "save_arrays",
    "save_json",
    "take_up",
]

_DRAW_KEY = 2**31  # data and test draws come from spawn keys that no member index uses


class Parser(argparse.ArgumentParser):
    """Misuse is an ``InputError``, which ``guarded`` turns into one line and status 2."""

    def error(self, message: str) -> NoReturn:
        """One line, and status 2."""
        raise InputError(f"{message} (see {self.prog} --help)")


def guarded(compute: Callable[[], int]) -> int:
    """The exit status of ``compute``; 2 for misuse and files that cannot be had, 130 for Ctrl-C, with a line each."""
    try:
        return compute()
    except (InputError, OSError) as error:
        print(f"toygen: error: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        # While a GAN or an autoencoder trains, more is said and done: see their commands.
        print("toygen: interrupted", file=sys.stderr)  # noqa: T201
        return 130


def data_streams(seed: Any) -> list[np.random.Generator]:
    """Three streams that no member uses: for training data, for held-out data, and for what is drawn in the end.

    Raises:
        InputError: a seed that is no count.
    """
    own = np.random.SeedSequence(as_count(seed, "--seed", minimum=0), spawn_key=(_DRAW_KEY,)).spawn(3)
    return [np.random.default_rng(sequence) for sequence in own]


def take_up(run: Any, checkpoint: Path, *, wanted: bool) -> bool:
    """Where ``--resume`` is ``wanted`` and there is a checkpoint, stand where it stands, and say so: True."""
    if not wanted:
        return False
    if not checkpoint.exists():
        print(f"nothing to resume in {checkpoint.parent}: starting from the beginning", file=sys.stderr)  # noqa: T201
        return False
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        load_checkpoint(run, checkpoint)
    for note in notes:
        print(f"toygen: note: {note.message}", file=sys.stderr)  # noqa: T201
    print(f"resumed after {run.done} steps", file=sys.stderr)  # noqa: T201
    return True


def already_finished(record: Path, about: dict[str, Any]) -> bool:
    """Whether the record of a finished run says that it was this one; it is then said, and there is nothing to do.

    Args:
        record: the ``run.json`` of the folder, which a run writes when it is done.
        about: what defines this run, as the record would have it.

    Raises:
        InputError: it is the record of another run, whose results would be lost; it says in what they differ.
    """
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    ours = json.loads(json.dumps(about))
    if not isinstance(found, dict) or not found.keys() >= ours.keys():
        return False
    if other := [name for name in ours if found[name] != ours[name]]:
        raise InputError(
            f"{record.parent} holds the results of a finished run with other {', '.join(other)}: there is nothing to "
            "resume. Choose another --out, or leave --resume away to replace them."
        )
    print(f"already finished: {record.parent} holds the results of this very run", file=sys.stderr)  # noqa: T201
    return True


def check_writable(folder: Path) -> None:
    """Better now than after the training.

    Raises:
        OSError: the folder cannot be written.
    """
    write_atomically(folder / ".writable", lambda file: None).unlink()


def save_arrays(path: Path, **arrays: Any) -> None:
    """An .npz, whole or not at all."""
    write_atomically(path, lambda file: np.savez_compressed(file, **arrays))


def save_json(path: Path, content: Any) -> None:
    """JSON to be read by people too, whole or not at all."""
    text = json.dumps(content, indent=2) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def aligned(lines: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of a table as text, columns below each other."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return ["  ".join(part.ljust(width) for part, width in zip(line, widths, strict=True)).rstrip() for line in lines]
