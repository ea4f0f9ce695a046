"""``python -m toygen autoencoder TARGET``: an ensemble of autoencoders on a known target, and what each is worth.

Of a VAE: the exact log-likelihood, the ELBO, and what lies between them, in nats per held-out point beside the entropy
of the target. Of the others: reconstruction error, and sliced distances beside that of real data. Exit status: 0 done,
1 every member diverged, 2 misuse, 130 interrupted (go on with ``--resume``).
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from divergences import Estimate, InputError, Quadrature, kl, sliced_wasserstein
from divergences.checks import as_count
from toygen.autoencoder_recipe import BAYESIAN, AutoencoderRecipe
from toygen.autoencoder_runs import AutoencoderEnsemble, AutoencoderRun
from toygen.checkpoints import save_checkpoint, sweep
from toygen.chunked import versions
from toygen.clock import Clock
from toygen.codebook import codebook_use
from toygen.collapse import LatentUnit
from toygen.command_line import (
    Parser,
    aligned,
    already_finished,
    check_writable,
    data_streams,
    guarded,
    save_arrays,
    save_json,
    take_up,
)
from toygen.evidence import Evidence, evidence, mean_over_members
from toygen.interrupts import between_steps
from toygen.runs import write_losses
from toygen.targets import grid, ring, target_by_name, two_peaks

__all__ = ["main"]

_CHECKPOINT, _EVERY = "checkpoint.pt", 1000
_COMPARED = 2000
_LAST = 100
# Coordinates beyond which exact likelihoods would take hours.
_MOST_COORDINATES = 64
_MOST_ROWS = 1000  # of history.csv

_DESCRIPTION = """\
Train an ensemble of autoencoders on a distribution that is known exactly, and say what each is worth in nats.

For one or two latents log p(x) is computed exactly, by quadrature, so the gap of the ELBO is a number: how much of it
is the Gaussian family's, how much the encoder's, and how far the model is from the target itself.
"""
_EXAMPLES = """\
examples:
  python -m toygen autoencoder two_peaks --out runs/vae
      a VAE on the line with one latent: about a minute. Open runs/vae/autoencoder.png.
  python -m toygen autoencoder ring --scale 0.1 --out runs/ring-vae
      eight Gaussians on a circle, two latents: some minutes, most of them for exact likelihoods.
  python -m toygen autoencoder two_peaks --noise 2 --out runs/collapsed
      a decoder with too much noise: no latent is active, and the gap is zero for a bad reason.
  python -m toygen autoencoder ring --kind vq_vae --out runs/vq

what is written to --out:
  sampler.npz      the first healthy member for toygen.Sampler; a VAE's draws follow its p(x), noise and all
  generated.npz    draws of it       train.npz test.npz   the data, and held-out points
  history.npz .csv losses and their parts, by step and member
  evidence.json    every number with its interval          run.json   seeds, versions, the whole recipe
  autoencoder.png  of a VAE in one or two dimensions
"""


def _parser() -> Parser:
    parser = Parser(
        prog="python -m toygen autoencoder",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", metavar="TARGET", help="name of a target, as for python -m toygen")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--kind", default="vae", help="vae (default), iwae, ae, wae, vq_vae, vae_gan")
    parser.add_argument("--scale", type=float, metavar="S", help="of the target's modes (default: the target's own)")
    parser.add_argument("--latents", type=int, metavar="K", help="default: as many as coordinates, at most 2")
    parser.add_argument("--noise", type=float, metavar="S", help="of p(x|z), in sds of the data (default: learned)")
    parser.add_argument("--beta", type=float, default=1.0, help="weight of the rate of a vae (default 1)")
    parser.add_argument("--free-bits", type=float, default=0.0, help="free of charge, per latent of a vae (default 0)")
    parser.add_argument("--importance", type=int, default=16, metavar="M", help="of the IWAE bound (default 16)")
    parser.add_argument("--width", type=int, default=32, help="of every hidden layer (default 32)")
    parser.add_argument("--members", type=int, default=4, metavar="K", help="how many (default 4)")
    parser.add_argument("--steps", type=int, default=4000, metavar="N", help="of training (default 4000)")
    parser.add_argument("--points", type=int, default=200, metavar="N", help="held-out points to score (default 200)")
    parser.add_argument("--train-size", type=int, default=5000, metavar="N", help="training points (default 5000)")
    parser.add_argument("--seed", type=int, default=0, help="of the whole ensemble (default 0)")
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto (CUDA if there is one), cpu or cuda")
    parser.add_argument(
        "--chunk", type=int, default=32, metavar="C",
        help="members trained side by side (default 32); fewer than C cost as much as C. Results depend on it",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="go on where an interrupted run in DIR stopped")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return guarded(lambda: _run(_parser().parse_args(arguments)))


def _run(options: argparse.Namespace) -> int:
    target = _target(options)
    train_rng, test_rng, rng = data_streams(options.seed)
    train = target.sample(as_count(options.train_size, "--train-size", minimum=2), train_rng)
    scored = as_count(options.points, "--points", minimum=8)
    test = target.sample(max(scored, _COMPARED), test_rng)
    recipe = _recipe(options, train.shape[1])
    run = AutoencoderRun(
        train,
        recipe=recipe,
        members=options.members,
        steps=options.steps,
        seed=options.seed,
        device=options.device,
    )
    check_writable(options.out)
    about: dict[str, Any] = {
        "target": options.target,
        "scale": options.scale,
        "train_size": options.train_size,
        "points": scored,
        "importance": options.importance,
        "seed": options.seed,
        "members": list(range(options.members)),
        "steps": options.steps,
        "recipe": dataclasses.asdict(recipe),
    }
    record, checkpoint = options.out / "run.json", options.out / _CHECKPOINT
    sweep(checkpoint)
    if options.resume and not checkpoint.exists() and already_finished(record, about):
        return 0
    start = time.monotonic()
    if not _train(run, options):
        return 130
    ensemble = run.result()
    record.unlink(missing_ok=True)  # written anew when all the rest is
    save_arrays(options.out / "history.npz", members=np.array(ensemble.members), **ensemble.history)
    write_losses(options.out / "history.csv", ensemble.history, every=-(-options.steps // _MOST_ROWS))
    if not ensemble.healthy:
        print("toygen: error: every member diverged; only history.npz was written.", file=sys.stderr)  # noqa: T201
        return 1
    # What needs no scoring is written first: a member that cannot be scored does not cost the training.
    first = ensemble.healthy[0]
    sampler = ensemble.sampler(first)
    sampler.save(options.out / "sampler.npz")
    save_arrays(options.out / "train.npz", samples=train)
    save_arrays(options.out / "test.npz", samples=test)
    lines = [f"{options.target}: {recipe.kind}, {recipe.latent_dim} latents, {options.steps} steps"]
    if recipe.kind in BAYESIAN:
        report, more = _weigh(options, ensemble, target, test[:scored], rng)
    else:
        report, more = _compare(ensemble, train, test, rng)
    lines += more
    save_arrays(options.out / "generated.npz", samples=sampler(_COMPARED, rng))
    about |= {
        "diverged": [ensemble.members[place] for place in np.flatnonzero(ensemble.diverged)],
        "device": ensemble.device,
        "versions": versions(),
        "seconds": round(time.monotonic() - start, 1),
    }
    save_json(options.out / "evidence.json", report)
    save_json(record, about)
    checkpoint.unlink(missing_ok=True)
    lines += [f"diverged: member {member}; not scored" for member in about["diverged"]]
    lines.append(f"written to {options.out}; sampler.npz is member {ensemble.members[first]}")
    print("\n".join(lines))  # noqa: T201
    return 0


def _target(options: argparse.Namespace) -> Any:
    name, scale = options.target, options.scale
    if scale is None:
        target = target_by_name(name)
    elif name == "two_peaks":
        target = two_peaks(scales=(scale, scale))
    elif name in ("ring", "grid"):
        target = (ring if name == "ring" else grid)(scale=scale)
    else:
        raise InputError(f"--scale is for ring, grid and two_peaks; the target is {name!r}.")
    if not hasattr(target, "log_prob"):
        raise InputError(f"{options.target} has no density to compare with; choose a target that has one.")
    return target


def _recipe(options: argparse.Namespace, dim: int) -> AutoencoderRecipe:
    latents = min(2, dim) if options.latents is None else as_count(options.latents, "--latents")
    if options.kind in BAYESIAN and latents > 2:
        raise InputError(f"--latents must be 1 or 2, for which log p(x) is computed exactly; it is {latents}.")
    if options.kind in BAYESIAN and dim > _MOST_COORDINATES:
        raise InputError(
            f"--kind {options.kind} is scored by its exact likelihood, for targets of at most {_MOST_COORDINATES} "
            f"coordinates; {options.target} has {dim}. Choose --kind ae, wae, vq_vae or vae_gan, or another target."
        )
    return AutoencoderRecipe(
        kind=options.kind,
        latent_dim=latents,
        noise=options.noise,
        beta=options.beta,
        free_bits=options.free_bits,
        samples=options.importance if options.kind == "iwae" else 1,
        width=options.width,
        chunk=as_count(options.chunk, "--chunk"),
    )


def _train(run: AutoencoderRun, options: argparse.Namespace) -> bool:
    """Train to the end: False if interrupted."""
    place = options.out / _CHECKPOINT
    take_up(run, place, wanted=options.resume)
    clock = Clock(run.done)
    try:
        with between_steps() as hear:
            for progress in run:
                clock.show(progress)
                if progress.done % _EVERY == 0 and progress.done < progress.total:
                    save_checkpoint(run, place)
                hear()
    except KeyboardInterrupt:
        save_checkpoint(run, place)
        print(f"\ninterrupted after {run.done} steps; go on with --resume", file=sys.stderr)  # noqa: T201
        return False
    finally:
        clock.end()
    return True


def _weigh(
    options: argparse.Namespace, ensemble: AutoencoderEnsemble, target: Any, x: np.ndarray, rng: np.random.Generator
) -> tuple[dict[str, Any], list[str]]:
    """The evidence of a VAE."""
    found: list[Evidence] = []
    start = time.monotonic()
    for place in ensemble.healthy:
        _tell(ensemble.members[place], len(found), len(ensemble.healthy), time.monotonic() - start)
        found.append(evidence(ensemble, x, place, target=target, samples=options.importance, rng=rng))
    _tell(None, len(found), len(found), time.monotonic() - start)
    exact = _negative_entropy(target)
    perfect = found[0].perfect
    assert perfect is not None  # the target is known here
    head = ("member", "log q(x)", f"IWAE-{options.importance}", "ELBO", "gap", "approximation", "amortisation")
    table: list[tuple[str, ...]] = [(*head, "KL(p‖q)", "active", "noise")]
    for place, one in zip(ensemble.healthy, found, strict=True):
        noise = "-" if ensemble.noise is None else f"{ensemble.noise[place]:.3f}"
        active = f"{one.collapse.active}/{len(one.collapse.units)}"
        table.append((str(one.member), *(_short(value) for value in _columns(one)), active, noise))
    if len(found) > 1:
        means = [mean_over_members(values) for values in zip(*map(_columns, found), strict=True)]
        table.append(("mean", *map(_short, means), "", ""))
    table.append(("perfect", _short(perfect), "", "", *["0"] * 4, "", ""))
    lines = [
        f"nats per held-out point, {len(x)} points, ± 95 % over the points; the mean's ± 95 % over seeds",
        *aligned(table),
        "log q(x): exact, by quadrature over the latents; gap = log q(x) − ELBO = approximation + amortisation",
        "activity Var_x E[z|x] of each latent [95 %], active where all of the interval lies above 0.01: "
        + "; ".join(" ".join(_unit(unit) for unit in one.collapse.units) for one in found),
        f"a perfect model scores −entropy = {_short(exact)}, on these points {_short(perfect)}"
        if exact
        else f"a perfect model scores {_short(perfect)} on these points",
    ]
    divergences = _divergences(ensemble, target)
    if divergences:
        lines.append("KL(p‖q) by quadrature over x, no points: " + ", ".join(map(_short, divergences)))
    if x.shape[1] <= 2:
        from evaluation.pictures import save
        from toygen.autoencoder_picture import draw_evidence

        place = ensemble.healthy[0]
        title = f"{options.target}: {ensemble.recipe.kind}, member {ensemble.members[place]}"
        figure = draw_evidence(ensemble, place, target, x, found[0], title=title, rng=rng)
        save(figure, options.out / "autoencoder.png")
    return {
        "negative_entropy": None if exact is None else exact.to_dict(),
        "kl": [one.to_dict() for one in divergences],
        "members": [_plain(one) for one in found],
    }, lines


def _tell(member: int | None, done: int, total: int, seconds: float) -> None:
    """Which member is being scored, and the time left, on a terminal; None at the end."""
    if not sys.stderr.isatty():
        return
    left = f", about {seconds / done * (total - done):.0f} s left" if done else ""
    line = f"scored in {seconds:.0f} s" if member is None else f"scoring member {member}, {done + 1} of {total}{left}"
    print(f"\r{line:<60}", end="\n" if member is None else "", file=sys.stderr, flush=True)  # noqa: T201


def _divergences(ensemble: AutoencoderEnsemble, target: Any) -> list[Estimate]:
    """KL of the target from each exact law, where that is a matter of seconds: on the line."""
    if target.dim > 1 or ensemble.noise is None:
        return []
    expect = Quadrature(tol=1e-6)
    return [kl(target, ensemble.law(place), expect=expect) for place in ensemble.healthy]


def _columns(one: Evidence) -> tuple[Estimate, ...]:
    assert one.kl is not None
    return one.log_prob, one.bound, one.elbo, one.gap, one.approximation, one.amortisation, one.kl


def _negative_entropy(target: Any) -> Estimate | None:
    """E log p, exact where quadrature reaches."""
    if target.dim > 2:
        return None
    return Quadrature(tol=1e-6)((1.0, target.log_prob, target))


def _compare(
    ensemble: AutoencoderEnsemble, train: np.ndarray, test: np.ndarray, rng: np.random.Generator
) -> tuple[dict[str, Any], list[str]]:
    """What an autoencoder without a likelihood scores."""
    n, kind = min(len(test), len(train), _COMPARED), ensemble.recipe.kind
    part = "error" if "error" in ensemble.history else "autoencoder"
    errors = ensemble.history[part][-_LAST:].mean(axis=0)[list(ensemble.healthy)].tolist()
    clouds = [train[:n], *(ensemble.sampler(place)(n, rng) for place in ensemble.healthy)]
    scores = [sliced_wasserstein(cloud, test[:n], rng=np.random.default_rng(0), permutations=1) for cloud in clouds]
    real, *distances = (float(score.raw) for score in scores if score.raw is not None)
    lines = [
        f"reconstruction error ‖x − x̂‖²/s² by member, mean of the last {_LAST} steps: " + _spread(errors),
        f"sliced W1 of draws to {n} held-out points, by member: " + _spread(distances),
        f"as many training points score {real:.3g}, which is what a perfect model would",
    ]
    report: dict[str, Any] = {"error": errors, "sliced_w1": distances, "sliced_w1_of_training_points": real}
    if kind == "vq_vae":
        uses = []
        for place in ensemble.healthy:
            codes, book = ensemble.encode(test, place)[0], ensemble.latents[place].points  # type: ignore[union-attr]
            chosen = ((codes[:, None] - book) ** 2).sum(axis=2).argmin(axis=1)
            uses.append(codebook_use(chosen, len(book)))
        lines.append(f"codes in use of {ensemble.recipe.codes}: " + " ".join(str(len(u.shares) - u.dead) for u in uses)
                     + "; perplexity " + ", ".join(_short(use.perplexity) for use in uses))  # fmt: skip
        report["perplexity"] = [use.perplexity.to_dict() for use in uses]
    return report, lines


def _spread(values: Sequence[float]) -> str:
    text = " ".join(f"{value:.3g}" for value in values)
    if len(values) < 2:
        return text
    mean = mean_over_members([Estimate(float(value), 0.0) for value in values])
    return f"{text}; mean {_short(mean)} over seeds"


def _short(estimate: Estimate | None) -> str:
    """Two digits of the error, and the value to as many places."""
    if estimate is None:
        return "-"
    if not (math.isfinite(estimate.value) and math.isfinite(estimate.error)):
        return str(estimate)
    if estimate.error < 1e-5:
        return f"{estimate.value:.5f}"
    digits = min(max(1 - math.floor(math.log10(estimate.error)), 0), 6)
    return f"{estimate.value:.{digits}f} ±{estimate.error:.{digits}f}"


def _unit(unit: LatentUnit) -> str:
    """The activity with the interval that decides, and the decision."""
    low, high = unit.activity.interval
    return f"{unit.activity.value:.3g} [{low:.2g}, {high:.2g}] {unit.verdict}"


def _plain(one: Evidence) -> dict[str, Any]:
    """Every Estimate as JSON."""
    numbers = {
        field.name: getattr(one, field.name).to_dict()
        for field in dataclasses.fields(one)
        if isinstance(getattr(one, field.name), Estimate)
    }
    units = [{"verdict": unit.verdict, "activity": unit.activity.to_dict(), "rate": unit.rate.to_dict()}
             for unit in one.collapse.units]  # fmt: skip
    return {"member": one.member, "importance_samples": one.samples, **numbers, "units": units,
            "information": one.collapse.information.to_dict()}  # fmt: skip
