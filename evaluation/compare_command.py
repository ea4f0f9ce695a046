"""The command ``mintmark compare``: which of two generators is nearer to the data.

Exit status: 0 if A is better, 1 if B is, 3 if that is not decided, 2 for misuse or unreadable input.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from evaluation.command import (
    Misuse,
    add_feature_options,
    check_outputs,
    features_of,
    let_find_modules,
    rate,
    read_data,
    run,
    say,
    seed_number,
)

if TYPE_CHECKING:
    from evaluation.comparison import Comparison

__all__ = ["compare_main"]

_EPILOG = """\
Files, samplers and features: as for mintmark itself (mintmark --help). With --test both are compared with the held-out
data, on which a generator that copies its training data gains nothing.

Exit status: 0 A is better, 1 B is better, 3 not decided, 2 misuse or unreadable input.
"""
_STATUS = {"a": 0, "b": 1, None: 3}


def compare_main(argv: list[str]) -> int:
    """Run the command.

    Args:
        argv: arguments after ``compare``.

    Returns:
        The exit status.
    """
    arguments = _parser().parse_args(argv)
    return run(
        lambda: _compared(arguments),
        lambda found: _deliver(found, arguments),
        lambda found: _STATUS[found.better],
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mintmark compare",
        description="Decide which of two generators is nearer to the data, with a p-value.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("a", metavar="A", help="what generator A made")
    parser.add_argument("b", metavar="B", help="what generator B made")
    parser.add_argument("--train", required=True, metavar="FILE", help="what they were trained on")
    parser.add_argument("--test", metavar="FILE", help="held-out data, to compare with instead of train")
    parser.add_argument("--train-labels", metavar="FILE", help="labels of train, for --features classifier")
    add_feature_options(parser)
    parser.add_argument("--alpha", type=rate, default=0.05, metavar="P", help="rate of wrong decisions (default 0.05)")
    parser.add_argument("--seed", type=seed_number, default=0, metavar="N", help="for samplers (default 0)")
    parser.add_argument(
        "--json", metavar="FILE", help="write the result as JSON (fields: NOTATION.md); - prints it instead of the text"
    )
    return parser


def _compared(arguments: argparse.Namespace) -> Comparison:
    inputs = [arguments.a, arguments.b, arguments.train, arguments.test, arguments.train_labels]
    check_outputs({"--json": arguments.json}, inputs)

    import numpy as np

    from evaluation.comparison import compare
    from evaluation.samples import is_sampler, load_samples

    let_find_modules(arguments.a, arguments.b, arguments.features)
    rng = np.random.default_rng(arguments.seed)
    train, test, labels = read_data(arguments)
    drawn = arguments.n if arguments.n is not None else len(train if test is None else test)
    sides = [
        load_samples(source, n=drawn if is_sampler(source) else None, rng=rng) for source in (arguments.a, arguments.b)
    ]
    return compare(
        a=sides[0],
        b=sides[1],
        train=train,
        test=test,
        features=features_of(arguments, train.kind, labels),
        alpha=arguments.alpha,
    )


def _deliver(found: Comparison, arguments: argparse.Namespace) -> None:
    from evaluation.files import write_atomically

    text = found.to_json() if arguments.json is not None else found.to_text()
    if arguments.json in (None, "-"):
        say(text)
        return
    try:
        write_atomically(arguments.json, lambda file: file.write(text.encode("utf-8")))
    except OSError as error:
        raise Misuse(f"{arguments.json} cannot be written: {error.strerror or error}.") from error
    say(found.to_text())
