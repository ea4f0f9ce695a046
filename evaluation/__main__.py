"""The command ``mintmark``: audits the samples of a generator; it parses, calls and prints.

Exit status: 0 clear, 1 flagged, 3 inconclusive, 2 for misuse or unreadable input, 130 if interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evaluation.audit import AuditReport

__all__ = ["main"]

_EPILOG = """\
Files: .npy, .npz (key samples, arr_0 or the only array; FILE.npz:KEY names another), .csv, or a folder of PNG, JPEG,
WEBP or BMP images of one size. Points are arrays (n, d); images (n, h, w) or (n, h, w, c).

Exit status: 0 clear, 1 flagged, 3 inconclusive, 2 misuse or unreadable input.

  mintmark generated.npz --train train.npz --test test.npz --modes modes.npz --html report.html
"""
_LARGEST_SEED = 2**32 - 1


class _Misuse(Exception):
    """The user must change something; the text says what."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name; None takes the process's own.

    Returns:
        The exit status.
    """
    arguments = _parser().parse_args(argv)
    try:
        report = _audited(arguments)
        _deliver(report, arguments)
    except KeyboardInterrupt:
        print("mintmark: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (mintmark ... | head): that is its right, and no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return report.exit_status
    except _Misuse as error:
        print(f"mintmark: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return report.exit_status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mintmark",
        description="Audit a generator by its samples: lost modes, lost classes, distance to the data, memorization.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("generated", metavar="GENERATED", help="what the generator made")
    parser.add_argument("--train", required=True, metavar="FILE", help="what it was trained on")
    parser.add_argument("--test", metavar="FILE", help="held-out data; without them memorization is inconclusive")
    parser.add_argument("--train-labels", metavar="FILE", help="one label per training sample: asks for lost classes")
    parser.add_argument("--modes", metavar="FILE", help=".npz with means, covariances, weights: asks for lost modes")
    parser.add_argument(
        "--features", metavar="NAME", help="pixels, standardize or pca:N (default: pixels for images, else standardize)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON; - prints it instead of the text")
    parser.add_argument("--html", metavar="FILE", help="write the report as one HTML page with pictures")
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="0 to 2^32 - 1 (default 0)")
    parser.add_argument("--quiet", action="store_true", help="no report on standard output")
    parser.add_argument("--version", action=_Version, help="say which mintmark this is")
    return parser


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:  # noqa: A002
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"mintmark {version('mintmark')}")
        parser.exit()


def _seed(text: str) -> int:
    try:
        seed = int(text)
    except ValueError:
        seed = -1
    if not 0 <= seed <= _LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"a seed is a whole number from 0 to {_LARGEST_SEED}, not {text!r}")
    return seed


def _audited(arguments: argparse.Namespace) -> AuditReport:
    """Read everything, check that the reports can be written, and only then compute."""
    outputs = [path for path in (arguments.json, arguments.html) if path not in (None, "-")]
    inputs = [arguments.generated, arguments.train, arguments.test, arguments.train_labels, arguments.modes]
    for path in outputs:
        _check_writable(Path(path), [Path(given) for given in inputs if given is not None])
    if len({Path(path).absolute() for path in outputs}) < len(outputs):
        raise _Misuse("--json and --html name the same file; give them two.")

    import numpy as np

    from divergences.errors import InputError
    from evaluation.audit import audit
    from evaluation.samples import load_labels, load_modes, load_samples

    try:
        return audit(
            generated=load_samples(arguments.generated),
            train=load_samples(arguments.train),
            test=None if arguments.test is None else load_samples(arguments.test),
            modes=None if arguments.modes is None else load_modes(arguments.modes),
            labels=None if arguments.train_labels is None else load_labels(arguments.train_labels),
            features=arguments.features,
            rng=np.random.default_rng(arguments.seed),
        )
    except InputError as error:
        raise _Misuse(str(error)) from error
    except MemoryError as error:
        raise _Misuse("the samples do not fit in memory; audit a part of them.") from error


def _check_writable(path: Path, inputs: list[Path]) -> None:
    if path.is_dir():
        raise _Misuse(f"{path} is a folder; name a file in it.")
    if any(path.absolute() == given.absolute() for given in inputs):
        raise _Misuse(f"{path} is an input; the report would overwrite it.")
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    try:
        # Permissions alone do not tell: the file system may be full, read-only, or no place for files at all.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _Misuse(f"{path} cannot be written: {folder}: {error.strerror or error}.") from error


def _deliver(report: AuditReport, arguments: argparse.Namespace) -> None:
    """Everything is rendered before anything is written: a report that fails leaves nothing behind."""
    from evaluation.files import write_atomically

    json_text = report.to_json() if arguments.json is not None else ""
    try:
        if arguments.html is not None:
            report.to_html(arguments.html)
        if arguments.json not in (None, "-"):
            write_atomically(arguments.json, lambda file: file.write(json_text.encode("utf-8")))
    except OSError as error:
        raise _Misuse(f"{error.filename or 'the report'} cannot be written: {error.strerror or error}.") from error
    if arguments.json == "-":
        _print(json_text)
    elif not arguments.quiet:
        _print(report.to_text())


def _print(text: str) -> None:
    """To standard output, whatever its encoding can show."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
