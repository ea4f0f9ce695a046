"""``python -m toygen TARGET``: train an ensemble of GANs on a known target and leave everything an audit needs.

What it writes can be audited at once: ``mintmark OUT/generated.npz --train OUT/train.npz --test OUT/test.npz
--modes OUT/modes.npz`` (a target without Gaussian modes has no modes file). Exit status: 0 done, 1 every member
diverged (nothing but the history is written), 2 misuse.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from divergences import Gaussian, InputError, Mixture, sliced_wasserstein
from divergences.checks import as_count
from divergences.distributions import parts_of
from evaluation.files import write_atomically
from evaluation.intervals import clopper_pearson
from evaluation.modes import mode_coverage
from toygen.objectives import OBJECTIVES
from toygen.penalties import PENALTIES
from toygen.recipes import recipe_for
from toygen.runs import GanEnsemble, GanRun, Progress
from toygen.targets import TARGETS, target_by_name

_FILES = (
    "generated.npz",
    "generated-all.npz",
    "train.npz",
    "test.npz",
    "modes.npz",
    "sampler.npz",
    "history.npz",
    "contact-sheet.png",
)
# Points of each member that are compared with held-out ones where there are no modes to count.
_COMPARED = 2000
_DRAW_KEY = 2**31  # data and test draws come from spawn keys that no member index uses


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, and status 2."""
        raise InputError(message)


@dataclass(frozen=True)
class _Data:
    target: Any
    train: np.ndarray
    test: np.ndarray
    rng: np.random.Generator


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    try:
        return _run(_parser().parse_args(arguments))
    except (InputError, OSError) as error:
        print(f"toygen: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _parser() -> _Parser:
    parser = _Parser(prog="toygen", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "target", metavar="TARGET", help=f"{', '.join(TARGETS)}, or a law of scipy.stats: scipy:gamma:2.0"
    )
    parser.add_argument("--objective", default="non_saturating", metavar="NAME", help=", ".join(OBJECTIVES))
    parser.add_argument("--penalty", metavar="NAME", help=f"{', '.join(PENALTIES)}; default: the objective's usual one")
    parser.add_argument("--members", type=int, default=8, metavar="K", help="how many GANs (default 8)")
    parser.add_argument("--steps", type=int, default=20_000, metavar="N", help="moves of the generator (default 20000)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the whole ensemble (default 0)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument(
        "--quick", action="store_true", help="narrow networks, higher learning rate: less sharp, sooner"
    )
    parser.add_argument("--width", type=int, help="of every hidden layer (default 128, with --quick 32)")
    parser.add_argument("--batch", type=int, default=64, help="points per minibatch (default 64)")
    parser.add_argument(
        "--train-size", type=int, default=10_000, help="training points, and as many test points (default 10000)"
    )
    parser.add_argument("--samples", type=int, default=10_000, help="points drawn of each member (default 10000)")
    return parser


def _run(options: argparse.Namespace) -> int:
    data = _draw(target_by_name(options.target), as_count(options.train_size, "--train-size", minimum=2), options.seed)
    for name in ("members", "steps", "samples", "batch"):
        as_count(getattr(options, name), f"--{name}")
    recipe = recipe_for(options.objective, options.penalty)
    recipe = recipe.quick() if options.quick else recipe
    width = recipe.width if options.width is None else as_count(options.width, "--width")
    recipe = replace(recipe, width=width, batch=options.batch)
    run = GanRun(data.train, recipe=recipe, members=options.members, steps=options.steps, seed=options.seed)
    _check_writable(options.out)
    start = time.monotonic()
    for progress in run:
        _show(progress, start)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    ensemble = run.result()
    _save(options.out / "history.npz", members=np.array(ensemble.members), **ensemble.history)
    if not ensemble.healthy:
        stale = " Samples that lie there are of an earlier run." if (options.out / "generated.npz").exists() else ""
        print(
            f"toygen: error: every member diverged; nothing but {options.out / 'history.npz'} was written.{stale} "
            "Use a penalty, or another objective.",
            file=sys.stderr,
        )
        return 1
    clouds = ensemble.sample(options.samples, data.rng)
    modes = _modes(data.target)
    _write(options.out, data, modes, ensemble, clouds)
    if data.train.shape[1] <= 2:
        _write_sheet(options.out, options.target, modes, ensemble, clouds)
    seconds = time.monotonic() - start
    print(f"{options.target}: {recipe.objective}, penalty {recipe.penalty}, {options.steps} steps, {seconds:.0f} s")
    print(_distances(data, clouds) if modes is None else _coverage(ensemble, modes, clouds))
    lost = [str(ensemble.members[place]) for place in np.flatnonzero(ensemble.diverged)]
    if lost:
        print(f"diverged: member{'s' if len(lost) > 1 else ''} {', '.join(lost)}; not sampled")
    written = [name for name in _FILES if (options.out / name).exists()]
    print(f"written to {options.out}: {', '.join(written)} (generated.npz: member "
          f"{ensemble.members[ensemble.healthy[0]]})")  # fmt: skip
    return 0


def _modes(target: Any) -> Mixture | None:
    """The target as a mixture of Gaussians, or None if it is none: then there are no modes to count."""
    if not hasattr(target, "log_prob"):
        return None
    weights, parts = parts_of(target)
    if not all(isinstance(part, Gaussian) for part in parts):
        return None
    return target if isinstance(target, Mixture) else Mixture(parts, weights)


def _draw(target: Any, size: int, seed: int) -> _Data:
    seed = as_count(seed, "--seed", minimum=0)
    own = np.random.SeedSequence(seed, spawn_key=(_DRAW_KEY,)).spawn(3)
    train_rng, test_rng, rng = (np.random.default_rng(sequence) for sequence in own)
    return _Data(target, target.sample(size, train_rng), target.sample(size, test_rng), rng)


def _check_writable(folder: Path) -> None:
    # Better now than after the training.
    probe = write_atomically(folder / ".writable", lambda file: None)
    probe.unlink()


def _show(progress: Progress, start: float) -> None:
    if not sys.stderr.isatty() or (progress.done % 100 and progress.done < progress.total):
        return
    left = (time.monotonic() - start) * (progress.total / progress.done - 1)
    line = f"\rstep {progress.done} of {progress.total}, {left:.0f} s left "
    print(f"{line:<50}", end="", file=sys.stderr, flush=True)


def _write(folder: Path, data: _Data, modes: Mixture | None, ensemble: GanEnsemble, clouds: np.ndarray) -> None:
    first = ensemble.healthy[0]
    _save(folder / "train.npz", samples=data.train)
    _save(folder / "test.npz", samples=data.test)
    (folder / "modes.npz").unlink(missing_ok=True)  # of an earlier run with another target
    if modes is not None:
        weights, parts = parts_of(modes)
        laws = [part for part in parts if isinstance(part, Gaussian)]
        _save(
            folder / "modes.npz",
            means=np.stack([law.mean for law in laws]),
            covariances=np.stack([law.cov for law in laws]),
            weights=np.asarray(weights),
        )
    ensemble.sampler(first).save(folder / "sampler.npz")
    _save(folder / "generated.npz", samples=clouds[0])
    healthy = np.array([ensemble.members[place] for place in ensemble.healthy])
    _save(folder / "generated-all.npz", samples=clouds, members=healthy)


def _save(path: Path, **arrays: Any) -> None:
    write_atomically(path, lambda file: np.savez_compressed(file, **arrays))


def _write_sheet(folder: Path, name: str, modes: Mixture | None, ensemble: GanEnsemble, clouds: np.ndarray) -> None:
    from evaluation.pictures import contact_sheet, save

    places = dict(zip(ensemble.healthy, clouds, strict=True))
    lost = np.empty((0, clouds.shape[2]))
    panels = [
        (f"member {member}" + ("" if place in places else ": diverged"), places.get(place, lost))
        for place, member in enumerate(ensemble.members)
    ]
    title = f"{name}: {ensemble.recipe.objective}, penalty {ensemble.recipe.penalty}"
    save(contact_sheet(panels, modes=modes, title=title), folder / "contact-sheet.png")


def _coverage(ensemble: GanEnsemble, modes: Mixture, clouds: np.ndarray) -> str:
    coverages = [mode_coverage(generated=cloud, modes=modes) for cloud in clouds]
    members, total = len(ensemble.members), coverages[0].total
    # A member that diverged covers nothing: it counts among the trials, never among the successes.
    complete = sum(coverage.captured == total for coverage in coverages)
    share = clopper_pearson(complete, members)
    low, high = share.interval
    shares = sorted(coverage.high_quality.value for coverage in coverages)
    return "\n".join(
        [
            f"{complete} of {members} members cover all {total} modes: {share.value:.2f}, 95 % interval "
            f"[{low:.2f}, {high:.2f}] (Clopper-Pearson)",
            "modes captured: " + " ".join(str(coverage.captured) for coverage in coverages),
            f"high-quality share: {np.median(shares):.3f} (median; {shares[0]:.3f} to {shares[-1]:.3f}); "
            f"a perfect generator scores {coverages[0].high_quality_null:.3f}",
        ]
    )


def _distances(data: _Data, clouds: np.ndarray) -> str:
    """Sliced distances of the members to held-out data, beside that of as many training points."""
    n = min(_COMPARED, len(data.test), clouds.shape[1])
    test = data.test[:n]
    scores = [sliced_wasserstein(cloud[:n], test, rng=np.random.default_rng(0), permutations=1) for cloud in clouds]
    real = sliced_wasserstein(data.train[:n], test, rng=np.random.default_rng(0), permutations=1)
    return "\n".join(
        [
            f"sliced W1 to {n} held-out points, by member: " + " ".join(f"{score.raw:.3g}" for score in scores),
            f"as many training points score {real.raw:.3g}, which is what a perfect generator would",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
