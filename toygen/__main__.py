"""``python -m toygen TARGET``: train an ensemble of GANs on a known target and leave everything an audit needs.

What it writes can be audited at once: ``mintmark OUT/generated.npz --train OUT/train.npz --test OUT/test.npz
--modes OUT/modes.npz`` (a target without Gaussian modes has no modes file). Exit status: 0 done, 1 every member
diverged (nothing but the history is written), 2 misuse, 130 interrupted (go on with ``--resume``).
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from divergences import Gaussian, Mixture, sliced_wasserstein
from divergences.checks import as_count
from divergences.distributions import parts_of
from divergences.errors import InputError
from evaluation.intervals import clopper_pearson
from evaluation.modes import mode_coverage
from toygen.animation import Film
from toygen.checkpoints import save_checkpoint, sweep
from toygen.chunked import versions
from toygen.clock import Clock
from toygen.coins import CoinRecipe, CoinRun
from toygen.command_line import (
    already_finished,
    check_writable,
    data_streams,
    guarded,
    save_arrays,
    save_json,
    take_up,
)
from toygen.gan_options import chosen_recipe, gan_parser
from toygen.interrupts import between_steps
from toygen.recipes import Recipe
from toygen.runs import GanEnsemble, GanRun
from toygen.targets import target_by_name
from toygen.watch import Watch

_FILES = (
    "generated.npz",
    "generated-all.npz",
    "train.npz",
    "test.npz",
    "modes.npz",
    "sampler.npz",
    "history.npz",
    "history.csv",
    "run.json",
    "contact-sheet.png",
    "training.gif",
    "truth.csv",
)
# While a run is under way; the last one is of the film.
_UNFINISHED = ("checkpoint.pt", "frames.npz")
# At most as many rows has the history for spreadsheets; the .npz has all of it.
_MOST_ROWS = 1000
# Points of each member that are compared with held-out ones where there are no modes to count.
_COMPARED = 2000


@dataclass(frozen=True)
class _Data:
    target: Any
    train: np.ndarray
    test: np.ndarray
    rng: np.random.Generator


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    return guarded(lambda: _chosen(words))


def _chosen(words: list[str]) -> int:
    if words[:1] == ["atlas"]:
        from toygen import atlas_command

        return atlas_command.main(words[1:])
    if words[:1] == ["autoencoder"]:
        from toygen import autoencoder_command

        return autoencoder_command.main(words[1:])
    if words[:1] == ["--claims"]:
        from toygen.claims import claims_command

        return claims_command(words[1:])
    return _run(gan_parser().parse_args(words))


def _run(options: argparse.Namespace) -> int:
    data = _draw(target_by_name(options.target), as_count(options.train_size, "--train-size", minimum=2), options.seed)
    for name in ("members", "steps", "samples", "batch", "chunk"):
        as_count(getattr(options, name), f"--{name}")
    for name in ("checkpoint", "monitor"):
        as_count(getattr(options, name), f"--{name}", minimum=0)
    recipe = chosen_recipe(options)
    make: Any = CoinRun if isinstance(recipe, CoinRecipe) else GanRun
    run: GanRun = make(
        data.train,
        recipe=recipe,
        members=options.members,
        steps=options.steps,
        seed=options.seed,
        device=options.device,
    )
    film = Film(options.steps, latent_dim=recipe.latent_dim, data=data.train) if options.gif else None
    check_writable(options.out)
    sweep(*(options.out / name for name in (*_FILES, *_UNFINISHED)))
    if options.resume and not (options.out / _UNFINISHED[0]).exists() and _finished(options, recipe):
        return 0
    watch = Watch(data.target, every=options.monitor) if options.monitor else None
    start = time.monotonic()
    if not _train(run, film, watch, options):
        return 130
    ensemble = run.result()
    # That of an earlier run says that all the other files are there, and whose they are.
    (options.out / "run.json").unlink(missing_ok=True)
    save_arrays(options.out / "history.npz", members=np.array(ensemble.members), **ensemble.history)
    if not ensemble.healthy:
        stale = " Samples that lie there are of an earlier run." if (options.out / "generated.npz").exists() else ""
        left = f"{options.out / 'history.npz'}{'' if watch is None else ' and truth.csv'}"
        print(
            f"toygen: error: every member diverged; nothing but {left} was written.{stale} "
            "Use a penalty, or another objective.",
            file=sys.stderr,
        )
        return 1
    clouds = ensemble.sample(options.samples, data.rng)
    modes = _modes(data.target)
    seconds = time.monotonic() - start
    _write(options, data, modes, ensemble, clouds)
    if data.train.shape[1] <= 2:
        _write_sheet(options.out, options.target, modes, ensemble, clouds)
    if film is not None:
        film.save(options.out / "training.gif", modes=modes, title=options.target)
    _describe(options, ensemble, seconds)
    for name in _UNFINISHED:
        (options.out / name).unlink(missing_ok=True)
    print(f"{options.target}: {recipe.objective}, penalty {recipe.penalty}, {options.steps} steps, {seconds:.0f} s")
    print(_distances(data, clouds) if modes is None else _coverage(ensemble, modes, clouds))
    for place in np.flatnonzero(ensemble.diverged):
        when = ensemble.diverged_at[place]
        told = "" if when is None else f" at step {when}"
        print(f"diverged: member {ensemble.members[place]}{told}; not sampled, counted as failed")
    written = [name for name in _FILES if (options.out / name).exists()]
    print(f"written to {options.out}: {', '.join(written)} (generated.npz: member "
          f"{ensemble.members[ensemble.healthy[0]]})")  # fmt: skip
    return 0


def _train(run: GanRun, film: Film | None, watch: Watch | None, options: argparse.Namespace) -> bool:
    """Train to the end: False if interrupted."""
    checkpoint, frames = (options.out / name for name in _UNFINISHED)
    table = options.out / "truth.csv"
    if take_up(run, checkpoint, wanted=options.resume):
        if film is not None and frames.exists():
            film.recall(frames, until=run.done)
        if watch is not None and table.exists():
            watch.recall(table, until=run.done)

    def put_aside() -> None:
        # Before the checkpoint: what was seen of later steps than it has is left out again.
        if film is not None:
            film.keep(frames)
        if watch is not None:
            watch.keep(table)
        save_checkpoint(run, checkpoint)

    clock = Clock(run.done)
    try:
        with between_steps() as hear:
            for progress in run:
                clock.show(progress)
                if film is not None:
                    film.look(progress)
                if watch is not None:
                    watch.look(progress)
                if options.checkpoint and progress.done % options.checkpoint == 0 and progress.done < progress.total:
                    put_aside()
                hear()
    except KeyboardInterrupt:
        if options.checkpoint:
            put_aside()
        elif watch is not None:
            watch.keep(table)
        print(f"\ninterrupted after {run.done} steps; go on with the same command and --resume", file=sys.stderr)
        return False
    finally:
        clock.end()
    if watch is not None:
        watch.keep(table)
    return True


def _defined(options: argparse.Namespace, recipe: Recipe) -> dict[str, Any]:
    """What decides about the results; of two devices they are two samples of the same law."""
    return {
        "target": options.target,
        "train_size": options.train_size,
        "samples": options.samples,
        "seed": options.seed,
        "members": list(range(options.members)),
        "steps": options.steps,
        "recipe": dataclasses.asdict(recipe),
    }


def _finished(options: argparse.Namespace, recipe: Recipe) -> bool:
    """Whether the folder holds this very run, done."""
    if not already_finished(options.out / "run.json", _defined(options, recipe)):
        return False
    for option, name in (("gif", "training.gif"), ("monitor", "truth.csv")):
        if getattr(options, option) and not (options.out / name).exists():
            raise InputError(f"that run left no {name}: leave --resume away to train it again with --{option}.")
    return True


def _describe(options: argparse.Namespace, ensemble: GanEnsemble, seconds: float) -> None:
    """Everything that is needed to train the same again."""
    about = {
        **_defined(options, ensemble.recipe),
        "diverged": [ensemble.members[place] for place in np.flatnonzero(ensemble.diverged)],
        "diverged_at": list(ensemble.diverged_at),
        "preset": options.recipe,
        "device": ensemble.device,
        "versions": versions(),
        "seconds": round(seconds, 1),
    }
    save_json(options.out / "run.json", about)


def _modes(target: Any) -> Mixture | None:
    """The target as a mixture of Gaussians, or None if it is none: then there are no modes to count."""
    if not hasattr(target, "log_prob"):
        return None
    weights, parts = parts_of(target)
    if not all(isinstance(part, Gaussian) for part in parts):
        return None
    return target if isinstance(target, Mixture) else Mixture(parts, weights)


def _draw(target: Any, size: int, seed: int) -> _Data:
    train_rng, test_rng, rng = data_streams(seed)
    return _Data(target, target.sample(size, train_rng), target.sample(size, test_rng), rng)


def _write(
    options: argparse.Namespace, data: _Data, modes: Mixture | None, ensemble: GanEnsemble, clouds: np.ndarray
) -> None:
    folder, first = options.out, ensemble.healthy[0]
    ensemble.write_history(folder / "history.csv", every=-(-options.steps // _MOST_ROWS))
    save_arrays(folder / "train.npz", samples=data.train)
    save_arrays(folder / "test.npz", samples=data.test)
    # Of an earlier run: not every run writes them.
    old = ["modes.npz", "contact-sheet.png", "training.gif", *(["truth.csv"] if not options.monitor else [])]
    for name in old:
        (folder / name).unlink(missing_ok=True)
    if modes is not None:
        weights, parts = parts_of(modes)
        laws = [part for part in parts if isinstance(part, Gaussian)]
        save_arrays(
            folder / "modes.npz",
            means=np.stack([law.mean for law in laws]),
            covariances=np.stack([law.cov for law in laws]),
            weights=np.asarray(weights),
        )
    ensemble.sampler(first).save(folder / "sampler.npz")
    save_arrays(folder / "generated.npz", samples=clouds[0])
    healthy = np.array([ensemble.members[place] for place in ensemble.healthy])
    save_arrays(folder / "generated-all.npz", samples=clouds, members=healthy)


def _write_sheet(folder: Path, name: str, modes: Mixture | None, ensemble: GanEnsemble, clouds: np.ndarray) -> None:
    from evaluation.pictures import contact_sheet, save

    places = dict(zip(ensemble.healthy, clouds, strict=True))
    lost = np.empty((0, clouds.shape[2]))
    panels = []
    for place, member in enumerate(ensemble.members):
        told, cloud = ": diverged", places.get(place, lost)
        if place in places:
            # A mode counts as captured by a single point; how many points are good says the share.
            told = (
                "" if modes is None else f": {mode_coverage(generated=cloud, modes=modes).high_quality.value:.0%} good"
            )
        panels.append((f"member {member}{told}", cloud))
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
