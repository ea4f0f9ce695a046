"""Neighbours, precision, recall, density, coverage beside prdc: time, peak memory, agreement, in one run.

``python benchmarks/neighbors_and_manifold.py [--other PYTHON]``: the other's interpreter may be one in which prdc is
installed (``pip install prdc``). ``--large N`` maps two float32 sets of N × 2048 from disk and measures this library
alone: N = 50000 takes ten minutes or more on one core.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import apart
import numpy as np

CASES = ((2_000, 64), (10_000, 2), (10_000, 64), (5_000, 512))
_SCORES = ("precision", "recall", "density", "coverage")


def _sets(n: str, d: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    real = rng.standard_normal((int(n), int(d)))
    return real, 0.95 * rng.standard_normal((int(n), int(d)))


def _scores(n: str, d: str) -> apart.Call:
    """The same four numbers as prdc, and nothing else."""
    from evaluation.sweep import Rule, sweep

    real, fake = _sets(n, d)

    def call(real: np.ndarray = real, fake: np.ndarray = fake) -> dict[str, Any]:
        found = sweep(generated=fake, train=real, k=5, rules=[Rule(5)], device="cpu")
        counts = found.counts[Rule(5)]
        # As prdc defines them: balls of real points that hold fake ones, and the other way round.
        nearest = found.train_generated.distances[:, 0]
        values = {
            "precision": float((counts.generated_in_train > 0).mean()),
            "recall": float((counts.train_in_generated > 0).mean()),
            "density": float(counts.generated_in_train.sum() / (5 * len(fake))),
            "coverage": float((nearest < found.radii(Rule(5))).mean()),
        }
        return {"value": values["density"], "values": values}

    call(real[:500], fake[:500])
    return call


def _whole(n: str, d: str) -> apart.Call:
    """The four numbers with their intervals and what a perfect generator would score."""
    from evaluation.manifold import prdc

    real, fake = _sets(n, d)

    def call(real: np.ndarray = real, fake: np.ndarray = fake) -> dict[str, Any]:
        scores = prdc(generated=fake, reference=real, k=5)
        return {"value": scores.density.value, "values": {name: getattr(scores, name).value for name in _SCORES}}

    call(real[:500], fake[:500])
    return call


def _prdc(n: str, d: str) -> apart.Call:
    compute_prdc = import_module("prdc").compute_prdc

    real, fake = _sets(n, d)

    def call(real: np.ndarray = real, fake: np.ndarray = fake) -> dict[str, Any]:
        values = {k: float(v) for k, v in compute_prdc(real_features=real, fake_features=fake, nearest_k=5).items()}
        return {"value": values["density"], "values": values}

    call(real[:500], fake[:500])
    return call


def _mapped(real_path: str, fake_path: str) -> apart.Call:
    from evaluation.manifold import prdc
    from evaluation.sweep import Rule, sweep

    real, fake = (np.load(path, mmap_mode="r") for path in (real_path, fake_path))

    def call() -> dict[str, Any]:
        found = sweep(generated=fake, train=real, k=6, rules=[Rule(5)])
        scores = prdc(generated=fake, reference=real, k=5, swept=found)
        return {"value": scores.density.value, "values": {name: str(getattr(scores, name)) for name in _SCORES}}

    return call


ROWS: dict[str, Callable[..., apart.Call]] = {
    "scores": _scores,
    "whole": _whole,
    "prdc": _prdc,
    "mapped": _mapped,
}


def _beside(other: str, n: int, d: int) -> None:
    print(f"\nn = m = {n}, d = {d}, k = 5: density, Δ the largest difference of the four scores")
    ours, whole = (apart.measured(__file__, row, n, d) for row in ("scores", "whole"))
    theirs = apart.measured(__file__, "prdc", n, d, python=other)
    apart.show("here, the same four scores", ours)
    for what, found in (("here, with intervals and nulls", whole), ("prdc", theirs)):
        gap = None
        if "skipped" not in found:
            gap = f"{max(abs(ours['values'][name] - found['values'][name]) for name in _SCORES):.1e}"
        apart.show(what, found, ours, gap)


def _large(n: int) -> None:
    """Two sets mapped from disk: post-ReLU features of 2048 coordinates, 32 of them latent."""
    mix = np.random.default_rng(5).standard_normal((32, 2048)).astype(np.float32) / 6
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("real.npy", "fake.npy")]
        for seed, path in enumerate(paths):
            rng = np.random.default_rng(seed)
            mapped = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, 2048))
            for start in range(0, n, 2000):
                rows = len(mapped[start : start + 2000])
                latent = rng.standard_normal((rows, 32), dtype=np.float32) @ mix
                mapped[start : start + rows] = np.maximum(latent + 0.3 * rng.standard_normal((rows, 2048)), 0)
            mapped.flush()
        found = apart.measured(__file__, "mapped", *paths)
    if "skipped" in found:
        print(f"\nn = {n}, d = 2048: {found['skipped']}")
        return
    print(
        f"\nn = m = {n}, d = 2048, float32 mapped from disk, all scores with intervals and nulls: "
        f"{found['seconds']:.0f} s ({found['cpu']:.0f} s of processor); peak {found['peak']:.0f} MiB resident, the "
        "mapped files included"
    )
    for name, value in found["values"].items():
        print(f"  {name:<10} {value}")


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", default=sys.executable, help="a Python with prdc in it")
    parser.add_argument("--large", type=int, metavar="N", help="N × 2048 from disk, instead of the rest")
    chosen = parser.parse_args()
    if chosen.large:
        _large(chosen.large)
        return
    print(apart.LEGEND)
    for n, d in CASES:
        _beside(chosen.other, n, d)


if __name__ == "__main__" and not apart.serve(ROWS, sys.argv):
    main()
