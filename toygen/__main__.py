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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from divergences import Gaussian, Mixture, sliced_wasserstein
from divergences.checks import as_count, as_number, one_of
from divergences.distributions import parts_of
from divergences.errors import InputError
from evaluation.intervals import clopper_pearson
from evaluation.modes import mode_coverage
from toygen.animation import Film
from toygen.checkpoints import save_checkpoint
from toygen.chunked import versions
from toygen.clock import Clock
from toygen.coins import SHARP, CoinRecipe, CoinRun
from toygen.command_line import Parser, check_writable, data_streams, guarded, save_arrays, save_json, take_up
from toygen.interrupts import between_steps
from toygen.objectives import OBJECTIVES
from toygen.penalties import PENALTIES
from toygen.recipes import RECIPES, Recipe, recipe_for
from toygen.runs import GanEnsemble, GanRun
from toygen.targets import TARGETS, target_by_name

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
)
_RECIPES: dict[str, Recipe] = {**RECIPES, "sharp": SHARP}
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
        from toygen import atlas

        return atlas.main(words[1:])
    if words[:1] == ["autoencoder"]:
        from toygen import autoencoder_command

        return autoencoder_command.main(words[1:])
    if words[:1] == ["--claims"]:
        from toygen.claims import claims_command

        return claims_command(words[1:])
    return _run(_parser().parse_args(words))


_DESCRIPTION = """\
Train an ensemble of GANs on a distribution that is known exactly, and count how many of them get it right.

One GAN is an anecdote; an ensemble of 32, each from its own seed, is a measurement: "31 of 32 cover all 8 modes" is a
share with an interval. All members are trained side by side in one pass.
"""

_EXAMPLES = """\
examples:
  python -m toygen ring --quick --steps 2000 --out runs/ring
      eight Gaussians on a circle, a first look: a few minutes. Open runs/ring/contact-sheet.png.
  python -m toygen grid --quick --penalty none --out runs/collapse --gif
      25 Gaussians without a penalty: members lose modes. runs/collapse/training.gif shows how.
  python -m toygen two_peaks --objective wasserstein --quick --out runs/peaks
      a Wasserstein critic on the line.
  python -m toygen grid --out runs/grid
      the full recipe, sharp modes, hours for 32 members; --chunk 8 --members 8 takes a quarter of that.
  python -m toygen grid --out runs/grid --resume
      goes on where an interrupted run stopped: the result is the same to the last bit.
  python -m toygen atlas --help
      how often does a GAN lose a mode, and which part of the recipe decides?
  python -m toygen autoencoder --help
      AE, VAE, IWAE, WAE, VQ-VAE, VAE/GAN: exact likelihoods, and what the ELBO misses.
  python -m toygen --claims
      what is said about GANs, checked on trained networks: minutes.
  mintmark runs/ring/generated.npz --train runs/ring/train.npz --test runs/ring/test.npz --modes runs/ring/modes.npz
      audits what was generated.

recipes:
  standard            covers every mode of ring and grid; --quick is its short form
  sharp               generators with coins: covers them, and 98 of 100 samples are good (3000 steps on the ring, 8000
                      on the grid)
  gan_algorithm_1     the first algorithm of the GAN paper: momentum SGD, minimax loss
  wgan_algorithm_1    the first algorithm of the WGAN paper: RMSProp at 5e-5, weights clipped at 0.01, five moves of f

what is written to --out:
  generated.npz       points of the first healthy member      generated-all.npz   of all healthy members
  train.npz test.npz  the data, and as many held-out points   modes.npz           the modes, if they are Gaussians
  sampler.npz         the first generator, for toygen.Sampler contact-sheet.png   every member in a picture
  history.npz .csv    losses, by step and member              run.json            seeds, versions, the whole recipe
  training.gif        with --gif: the training as a film
"""


def _parser() -> Parser:
    parser = Parser(
        prog="python -m toygen",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "target", metavar="TARGET", help=f"{', '.join(TARGETS)}, or a law of scipy.stats: scipy:gamma:2.0"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    game = parser.add_argument_group("the game")
    game.add_argument(
        "--recipe", default="standard", metavar="NAME", help=f"{', '.join(_RECIPES)} (default standard); see below"
    )
    game.add_argument(
        "--objective", metavar="NAME", help=f"{', '.join(OBJECTIVES)}; default: the recipe's (non_saturating)"
    )
    game.add_argument("--penalty", metavar="NAME", help=f"{', '.join(PENALTIES)}; default: the objective's usual one")
    game.add_argument("--pack", type=int, metavar="M", help="points that D decides on at once, as PacGAN (default 1)")
    game.add_argument("--learning-rate", type=float, metavar="R", help="of both players at the start")
    game.add_argument("--quick", action="store_true", help="narrow networks, higher learning rate: less sharp, sooner")
    game.add_argument("--width", type=int, help="of every hidden layer (default 128, with --quick 32)")
    game.add_argument("--batch", type=int, default=64, help="points per minibatch (default 64)")
    size = parser.add_argument_group("how much")
    size.add_argument("--members", type=int, default=32, metavar="K", help="how many GANs (default 32)")
    size.add_argument("--steps", type=int, default=20_000, metavar="N", help="moves of the generator (default 20000)")
    size.add_argument("--seed", type=int, default=0, metavar="S", help="of the whole ensemble (default 0)")
    size.add_argument(
        "--train-size", type=int, default=10_000, help="training points, and as many test points (default 10000)"
    )
    size.add_argument("--samples", type=int, default=10_000, help="points drawn of each member (default 10000)")
    how = parser.add_argument_group("how")
    how.add_argument("--device", default="auto", metavar="NAME", help="auto (CUDA if there is one), cpu or cuda")
    how.add_argument(
        "--chunk",
        type=int,
        default=32,
        metavar="C",
        help="members trained side by side (default 32); fewer than C members cost as much as C. Results depend on it",
    )
    how.add_argument("--resume", action="store_true", help="go on where an interrupted run in DIR stopped")
    how.add_argument(
        "--checkpoint",
        type=int,
        default=1000,
        metavar="N",
        help="steps between two checkpoints (default 1000; 0: none)",
    )
    how.add_argument("--gif", action="store_true", help="film the first members while they learn (1 or 2 dimensions)")
    return parser


def _run(options: argparse.Namespace) -> int:
    data = _draw(target_by_name(options.target), as_count(options.train_size, "--train-size", minimum=2), options.seed)
    for name in ("members", "steps", "samples", "batch", "chunk"):
        as_count(getattr(options, name), f"--{name}")
    as_count(options.checkpoint, "--checkpoint", minimum=0)
    recipe = _recipe(options)
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
    start = time.monotonic()
    if not _train(run, film, options):
        return 130
    ensemble = run.result()
    save_arrays(options.out / "history.npz", members=np.array(ensemble.members), **ensemble.history)
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
    seconds = time.monotonic() - start
    _write(options, data, modes, ensemble, clouds)
    _describe(options, ensemble, seconds)
    if data.train.shape[1] <= 2:
        _write_sheet(options.out, options.target, modes, ensemble, clouds)
    if film is not None:
        film.save(options.out / "training.gif", modes=modes, title=options.target)
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


def _recipe(options: argparse.Namespace) -> Recipe:
    """What the options of the game say."""
    known = _RECIPES[one_of(options.recipe, "--recipe", list(_RECIPES))]
    if options.recipe == "standard":
        recipe = recipe_for(known.objective if options.objective is None else options.objective, options.penalty)
        recipe = recipe.quick() if options.quick else recipe
    elif options.quick:
        raise InputError(f"--quick is the short form of the standard recipe; --recipe is {options.recipe!r}.")
    else:
        recipe = known
    given: dict[str, Any] = {
        name: getattr(options, name) for name in ("objective", "penalty") if getattr(options, name)
    }
    for name in ("width", "pack"):
        if (value := getattr(options, name)) is not None:
            given[name] = as_count(value, f"--{name}")
    if options.learning_rate is not None:
        given["learning_rate"] = as_number(options.learning_rate, "--learning-rate", above=0.0)
    return replace(recipe, **given, batch=options.batch, chunk=options.chunk)


def _train(run: GanRun, film: Film | None, options: argparse.Namespace) -> bool:
    """Train to the end: False if interrupted."""
    checkpoint, frames = (options.out / name for name in _UNFINISHED)
    if take_up(run, checkpoint, wanted=options.resume) and film is not None and frames.exists():
        film.recall(frames, until=run.done)

    def put_aside() -> None:
        if film is not None:
            film.keep(frames)
        save_checkpoint(run, checkpoint)

    clock = Clock(run.done)
    try:
        with between_steps() as hear:
            for progress in run:
                clock.show(progress)
                if film is not None:
                    film.look(progress)
                if options.checkpoint and progress.done % options.checkpoint == 0 and progress.done < progress.total:
                    put_aside()
                hear()
    except KeyboardInterrupt:
        if options.checkpoint:
            put_aside()
        print(f"\ninterrupted after {run.done} steps; go on with the same command and --resume", file=sys.stderr)
        return False
    finally:
        clock.end()
    return True


def _describe(options: argparse.Namespace, ensemble: GanEnsemble, seconds: float) -> None:
    """Everything that is needed to train the same again."""
    about = {
        "target": options.target,
        "train_size": options.train_size,
        "seed": ensemble.seed,
        "members": list(ensemble.members),
        "diverged": [ensemble.members[place] for place in np.flatnonzero(ensemble.diverged)],
        "diverged_at": list(ensemble.diverged_at),
        "steps": options.steps,
        "preset": options.recipe,
        "recipe": dataclasses.asdict(ensemble.recipe),
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
    for name in ("modes.npz", "contact-sheet.png", "training.gif"):
        (folder / name).unlink(missing_ok=True)  # of an earlier run: not every run writes them
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
