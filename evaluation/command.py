"""What the commands ``mintmark`` and ``mintmark compare`` share: checks of arguments, and how they speak."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np

    from evaluation.samples import Samples

__all__ = [
    "Misuse",
    "add_feature_options",
    "bar",
    "check_outputs",
    "check_writable",
    "complain",
    "features_of",
    "read_data",
    "run",
    "let_find_modules",
    "rate",
    "say",
    "seed_number",
]

_LARGEST_SEED = 2**32 - 1
_BAR = 20
_Result = TypeVar("_Result")


class Misuse(Exception):
    """The user must change something; the text says what."""


def run(compute: Callable[[], _Result], deliver: Callable[[_Result], None], status_of: Callable[[_Result], int]) -> int:
    """Compute, then deliver; returns the exit status, whatever happens on the way."""
    from divergences.errors import InputError

    status, misuse = 0, None
    try:
        result = compute()
        try:
            status = status_of(result)
        except Misuse as error:
            # What was computed is delivered all the same.
            status, misuse = 2, error
        deliver(result)
        if misuse is not None:
            raise misuse
    except KeyboardInterrupt:
        complain("interrupted")
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (mintmark ... | head): that is its right, and no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return status
    except (Misuse, InputError) as error:
        complain(f"error: {error}")
        return 2
    except MemoryError:
        complain("error: the samples do not fit in memory; take a part of them.")
        return 2
    return status


def read_data(arguments: argparse.Namespace) -> tuple[Samples, Samples | None, np.ndarray | None]:
    """Training data, held-out data and labels of train, as far as they are given."""
    from evaluation.samples import load_labels, load_samples

    test, labels = arguments.test, arguments.train_labels
    return (
        load_samples(arguments.train),
        None if test is None else load_samples(test),
        None if labels is None else load_labels(labels),
    )


def seed_number(text: str) -> int:
    """A seed for argparse."""
    try:
        seed = int(text)
    except ValueError:
        seed = -1
    if not 0 <= seed <= _LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"a seed is a whole number from 0 to {_LARGEST_SEED}, not {text!r}")
    return seed


def features_of(arguments: argparse.Namespace, kind: str, labels: object) -> object:
    """The features asked for; those with a seed have seed 0 whatever --seed is, so that audits can be compared."""
    from evaluation.features import features

    if arguments.trust and arguments.weights is None:
        raise Misuse("--trust is about the code in a file of --weights; there is none.")
    if arguments.weights is not None and arguments.features is None:
        raise Misuse("--weights are those of --features inception; name the features, too.")
    if arguments.features is None:
        return None
    return features(arguments.features, kind=kind, weights=arguments.weights, labels=labels, trust=arguments.trust)


def let_find_modules(*names: str | None) -> None:
    """A module named on the command line may lie in the folder we are in, behind everything installed."""
    from evaluation.callables import names_callable

    if any(names_callable(name) for name in names if name is not None):
        sys.path.append(os.getcwd())


def check_writable(path: Path, inputs: list[Path]) -> None:
    """A file can be written there, and it is none of the inputs."""
    if path.is_dir():
        raise Misuse(f"{path} is a folder; name a file in it.")
    if any(path.absolute() == given.absolute() for given in inputs):
        raise Misuse(f"{path} is an input; the report would overwrite it.")
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    try:
        # Permissions alone do not tell: the file system may be full, read-only, or no place for files at all.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Misuse(f"{path} cannot be written: {folder}: {error.strerror or error}.") from error


def say(text: str) -> None:
    """To standard output, whatever its encoding can show."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


def complain(text: str) -> None:
    """One line on standard error."""
    sys.stderr.write(f"mintmark: {' '.join(text.split())}\n")


def check_outputs(outputs: dict[str, str | None], inputs: list[str | None]) -> None:
    """Every file to be written can be, is none of those to be read, and is named once."""
    named = {option: path for option, path in outputs.items() if path not in (None, "-")}
    for path in named.values():
        check_writable(Path(str(path)), [Path(given) for given in inputs if given is not None])
    seen: dict[Path, str] = {}
    for option, path in named.items():
        place = Path(str(path)).absolute()
        if place in seen:
            raise Misuse(f"{seen[place]} and {option} name the same file; give them two.")
        seen[place] = option


def rate(text: str) -> float:
    """An error rate for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"a rate lies between 0 and 1, not {text!r}")
    return value


def add_feature_options(parser: argparse.ArgumentParser) -> None:
    """What both commands know of features and samplers."""
    parser.add_argument("--features", metavar="NAME", help="see below (default: pixels for images, else standardize)")
    parser.add_argument("--weights", metavar="FILE", help="Inception's weight file, for --features inception")
    parser.add_argument("--trust", action="store_true", help="run the code in --weights, if it is TorchScript")
    parser.add_argument(
        "--n", type=int, metavar="N", help="how many a sampler is to draw (default: as many as held out)"
    )


def bar() -> Callable[[str, int, int], None] | None:
    """A progress bar on standard error; None where nobody watches."""
    if not sys.stderr.isatty():
        return None

    def tell(what: str, done: int, total: int) -> None:
        filled = _BAR * done // total
        # The report follows on a line of its own.
        end = "\n" if done == total else ""
        sys.stderr.write(f"\r\033[K[{'#' * filled}{'.' * (_BAR - filled)}] {what}{end}")
        sys.stderr.flush()

    return tell
