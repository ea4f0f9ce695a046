"""The command ``mintmark``: audits the samples of a generator; it parses, calls and prints.

Exit status: 0 clear, 1 flagged, 3 inconclusive, 2 for misuse or unreadable input, 130 if interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from evaluation.command import (
    Misuse,
    add_feature_options,
    bar,
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
    from divergences.claim import Claim
    from evaluation.audit import AuditReport
    from evaluation.moments import Moments

__all__ = ["main"]

_EPILOG = """\
Files: .npy, .npz (key samples, arr_0 or the only array; FILE.npz:KEY names another), .csv, .pt, .safetensors, or a
folder, .zip or .tar of PNG, JPEG, WEBP, BMP, PGM, PPM or TIFF images of one size, of 8 or 16 bits. Points are arrays
(n, d); images (n, h, w) or (n, h, w, c). GENERATED may be a sampler of yours, module:callable, called as
callable(n, rng): naming it runs its module. So does --features module:callable, a function array -> (n, d), and
--classifier module:callable, a function array -> labels (n,), to which the samples go as they are in the files. It is
judged on --test-labels, else on train, which it must then not have been trained on.

Features: identity, pixels, standardize, pca:N, random-conv[:N], classifier[:N] (trained on --train-labels),
inception[:tf1|:pytorch-fid|:clean] (with --weights; nothing is ever downloaded), module:callable.

Exit status: 0 clear, 1 flagged, 3 inconclusive, 2 misuse or unreadable input. --fail-on changes what decides it:
inconclusive (the default), flagged (inconclusive counts as clear), never, or names of findings, separated by commas.

  mintmark compare A B --train FILE    which of two generators is nearer to the data (mintmark compare --help)
  mintmark --claims [NAME ...]         check what is claimed of estimates from samples (10 s); --json prints JSON
  mintmark generated.npz --train train.npz --test test.npz --modes modes.npz --html report.html
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name; None takes the process's own.

    Returns:
        The exit status.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["compare"]:
        from evaluation.compare_command import compare_main

        return compare_main(words[1:])
    if "--claims" in words:
        return _claims(words)
    arguments = _parser().parse_args(words)
    return run(
        lambda: _audited(arguments),
        lambda report: _deliver(report, arguments),
        lambda report: _exit_status(report, arguments.fail_on),
    )


def _claims(words: Sequence[str]) -> int:
    """Check what the library claims of its own estimates; 1 if a claim fails."""
    from divergences.claims_table import claims_main

    def claims() -> Sequence[Claim]:
        from evaluation.claims import CLAIMS

        return CLAIMS

    def table() -> int:
        return claims_main(
            [word for word in words if word != "--claims"],
            prog="mintmark --claims",
            description="Check claims about estimates from samples, each by two computations, in about 10 s.",
            claims=claims,
        )

    return run(table, lambda _: None, lambda failed: failed)


def _exit_status(report: AuditReport, fail_on: str) -> int:
    """0 clear, 1 flagged, 3 inconclusive, of what ``--fail-on`` lets decide."""
    if fail_on == "never":
        return 0
    if fail_on == "flagged":
        return report.exit_status if report.exit_status == 1 else 0
    if fail_on == "inconclusive":
        return report.exit_status
    from evaluation.audit import exit_status_of

    asked = [finding.name for finding in report.findings]
    wanted = _named(fail_on)
    for name in wanted:
        if name not in asked:
            raise Misuse(
                f"--fail-on names {name!r}; this audit asked {', '.join(asked)}. Or: flagged, inconclusive, never."
            )
    return exit_status_of(report[name].verdict for name in wanted)


def _named(fail_on: str) -> list[str]:
    return [name.strip() for name in fail_on.split(",")]


def _check_fail_on(fail_on: str) -> None:
    """Better now than after the audit; whether a question is asked at all is known only then."""
    from evaluation.findings import QUESTIONS

    if fail_on in ("flagged", "inconclusive", "never"):
        return
    for name in _named(fail_on):
        if name not in QUESTIONS:
            raise Misuse(
                f"--fail-on names {name!r}; findings are {', '.join(QUESTIONS)}. Or: flagged, inconclusive, never."
            )


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
    parser.add_argument(
        "--train-labels",
        metavar="FILE",
        help="one label per training sample, or the archive whose folders are classes: asks for lost classes",
    )
    parser.add_argument(
        "--classifier", metavar="NAME", help="yours, module:callable: says what samples are, not the built-in one"
    )
    parser.add_argument("--test-labels", metavar="FILE", help="labels of --test, which --classifier is judged on")
    parser.add_argument("--generated-labels", metavar="FILE", help="what the samples are, instead of a classifier")
    parser.add_argument(
        "--modes",
        metavar="FILE",
        help=".npz with means, covariances (k, d, d), weights: asks for lost modes; (k, d) are variances",
    )
    parser.add_argument(
        "--stacked", nargs=2, metavar=("DIGITS", "LABELS"), help="single images, three of which make one: 1000 modes"
    )
    add_feature_options(parser)
    parser.add_argument(
        "--json", metavar="FILE", help="write the report as JSON (fields: NOTATION.md); - prints it instead of the text"
    )
    parser.add_argument("--html", metavar="FILE", help="write the report as one HTML page with pictures")
    parser.add_argument("--stats", metavar="FILE", help="Fréchet distance to these statistics, not to train")
    parser.add_argument("--stats-n", type=int, metavar="N", help="of how many samples they are, if the file is silent")
    parser.add_argument(
        "--stats-ddof",
        type=int,
        choices=(0, 1),
        metavar="0|1",
        help="0 if their covariance was divided by n (StyleGAN)",
    )
    parser.add_argument("--stats-keys", metavar="MU,SIGMA", help="names of mean and covariance (default: mu,sigma)")
    parser.add_argument("--save-stats", metavar="FILE", help="write the statistics of the generated samples as .npz")
    parser.add_argument("--views", metavar="VIEWS", help="look for moved copies of images, too: shift:1,mirror")
    parser.add_argument("--fail-on", default="inconclusive", metavar="WHAT", help="what decides the exit status")
    parser.add_argument("--alpha", type=rate, default=0.05, metavar="P", help="rate of false flags (default 0.05)")
    parser.add_argument("--seed", type=seed_number, default=0, metavar="N", help="0 to 2^32 - 1 (default 0)")
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


def _audited(arguments: argparse.Namespace) -> AuditReport:
    """Read everything, check that the reports can be written, and only then compute."""
    _check_fail_on(arguments.fail_on)
    check_outputs(
        {"--json": arguments.json, "--html": arguments.html, "--save-stats": arguments.save_stats},
        [
            arguments.generated,
            arguments.train,
            arguments.test,
            arguments.train_labels,
            arguments.test_labels,
            arguments.generated_labels,
            arguments.modes,
            *(arguments.stacked or ()),
            arguments.stats,
        ],
    )

    import numpy as np

    from evaluation.audit import AuditSettings, audit
    from evaluation.samples import is_sampler, load_labels, load_samples

    _check_pairs(arguments)
    if arguments.generated_labels is not None and is_sampler(arguments.generated):
        raise Misuse("--generated-labels are labels of samples in a file; of a sampler's, use --classifier.")
    let_find_modules(arguments.generated, arguments.features, arguments.classifier)
    rng = np.random.default_rng(arguments.seed)
    train, test, labels = read_data(arguments)
    n = arguments.n
    if n is None and is_sampler(arguments.generated):
        n = len(train if test is None else test)
    return audit(
        generated=load_samples(arguments.generated, n=n, rng=rng),
        train=train,
        test=test,
        modes=_modes(arguments),
        labels=labels,
        classifier=arguments.classifier,
        generated_labels=None if arguments.generated_labels is None else load_labels(arguments.generated_labels),
        test_labels=None if arguments.test_labels is None else load_labels(arguments.test_labels),
        features=features_of(arguments, train.kind, labels),
        settings=AuditSettings(
            alpha=arguments.alpha,
            reference=_reference(arguments),
            reference_source=arguments.stats or "",
            progress=None if arguments.quiet else bar(),
            views=arguments.views,
        ),
        rng=rng,
    )


def _check_pairs(arguments: argparse.Namespace) -> None:
    """Options that mean nothing without another one, or beside it; said in the words of the command line."""
    for option, value in (
        ("--stats-n", arguments.stats_n),
        ("--stats-ddof", arguments.stats_ddof),
        ("--stats-keys", arguments.stats_keys),
    ):
        if value is not None and arguments.stats is None:
            raise Misuse(f"{option} says more of the statistics in --stats; there are none.")
    if arguments.classifier is not None and arguments.generated_labels is not None:
        raise Misuse("--classifier and --generated-labels both say what the samples are; give one of them.")
    for option, value, needed, other in (
        ("--classifier", arguments.classifier, "--train-labels", arguments.train_labels),
        ("--generated-labels", arguments.generated_labels, "--train-labels", arguments.train_labels),
        ("--test-labels", arguments.test_labels, "--classifier", arguments.classifier),
        ("--test-labels", arguments.test_labels, "--test", arguments.test),
    ):
        if value is not None and other is None:
            raise Misuse(f"{option} needs {needed} beside it.")


def _reference(arguments: argparse.Namespace) -> Moments | None:
    """The statistics in --stats, however they are called and divided."""
    from evaluation.moments import Moments

    if arguments.stats is None:
        return None
    keys = [key.strip() for key in ("mu,sigma" if arguments.stats_keys is None else arguments.stats_keys).split(",")]
    if len(keys) != 2 or not all(keys) or keys[0] == keys[1]:
        raise Misuse(
            f"--stats-keys names two arrays, mean and covariance, such as mu_s,sigma_s; not {arguments.stats_keys!r}."
        )
    ddof = 1 if arguments.stats_ddof is None else arguments.stats_ddof
    return Moments.load(arguments.stats, n=arguments.stats_n, ddof=ddof, keys=(keys[0], keys[1]))


def _modes(arguments: argparse.Namespace) -> object:
    """The modes asked about: a mixture, stacked digits, or none."""
    from evaluation.samples import load_labels, load_modes, load_samples
    from evaluation.stacked_question import StackedDigits

    if arguments.stacked is None:
        return None if arguments.modes is None else load_modes(arguments.modes)
    if arguments.modes is not None:
        raise Misuse("--modes and --stacked both name modes; give one of them.")
    digits, labels = arguments.stacked
    return StackedDigits(load_samples(digits).array, load_labels(labels))


def _deliver(report: AuditReport, arguments: argparse.Namespace) -> None:
    """Everything is rendered before anything is written: a report that fails leaves nothing behind."""
    from evaluation.files import write_atomically

    json_text = report.to_json() if arguments.json is not None else ""
    try:
        if arguments.html is not None:
            report.to_html(arguments.html)
        if arguments.save_stats is not None:
            report.moments.save(arguments.save_stats)
        if arguments.json not in (None, "-"):
            write_atomically(arguments.json, lambda file: file.write(json_text.encode("utf-8")))
    except OSError as error:
        raise Misuse(f"{error.filename or 'the report'} cannot be written: {error.strerror or error}.") from error
    if arguments.json == "-":
        say(json_text)
    elif not arguments.quiet:
        say(report.to_text())


if __name__ == "__main__":
    raise SystemExit(main())
