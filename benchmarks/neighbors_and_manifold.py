"""Neighbours, precision, recall, density, coverage beside prdc: time, peak memory, agreement, in one run.

``python benchmarks/neighbors_and_manifold.py [--other PYTHON]``: the other's interpreter may be one in which prdc is
installed (``pip install prdc``); each side runs in a process of its own, so that peaks are its own. ``--large N``
maps two float32 sets of N × 2048 from disk and measures this library alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = """
import json, resource, sys, time
import numpy as np
n, d = int(sys.argv[1]), int(sys.argv[2])
rng = np.random.default_rng(0)
real = rng.standard_normal((n, d))
fake = 0.95 * rng.standard_normal((n, d))
"""
OURS = (
    DATA
    + """
from evaluation.sweep import Rule, sweep
from evaluation.manifold import prdc
prdc(generated=fake[:500], reference=real[:500], k=5)
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start, cpu = time.perf_counter(), time.process_time()
found = sweep(generated=fake, train=real, k=6, rules=[Rule(5)], device="cpu")
middle, middle_cpu = time.perf_counter(), time.process_time()
scores = prdc(generated=fake, reference=real, k=5, swept=found)
values = {name: getattr(scores, name).value for name in ("precision", "recall", "density", "coverage")}
whole, cpu_whole = time.perf_counter() - start, time.process_time() - cpu
"""
)
THEIRS = (
    DATA
    + """
import contextlib, io
from prdc import compute_prdc
with contextlib.redirect_stdout(io.StringIO()):
    compute_prdc(real_features=real[:500], fake_features=fake[:500], nearest_k=5)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu = time.perf_counter(), time.process_time()
    found = compute_prdc(real_features=real, fake_features=fake, nearest_k=5)
middle, middle_cpu = time.perf_counter(), time.process_time()
values = {name: float(value) for name, value in found.items()}
whole, cpu_whole = middle - start, middle_cpu - cpu
"""
)
REPORT = """
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"values": values, "seconds": middle - start, "whole": whole, "cpu": middle_cpu - cpu,
                  "cpu_whole": cpu_whole, "extra": (peak - base) / 1024, "peak": peak / 1024}))
"""
LARGE = """
import json, resource, sys, time
import numpy as np
from evaluation.sweep import Rule, sweep
from evaluation.manifold import prdc
real, fake = (np.load(path, mmap_mode="r") for path in sys.argv[1:3])
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start, cpu = time.perf_counter(), time.process_time()
found = sweep(generated=fake, train=real, k=6, rules=[Rule(5)])
middle, middle_cpu = time.perf_counter(), time.process_time()
scores = prdc(generated=fake, reference=real, k=5, swept=found)
values = {name: str(getattr(scores, name)) for name in ("precision", "recall", "density", "coverage")}
whole, cpu_whole = time.perf_counter() - start, time.process_time() - cpu
"""


def measured(python: str, code: str, *arguments: object) -> dict:
    """What a script in a process of its own reports."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    command = [python, "-c", code + REPORT, *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads(run.stdout.strip().splitlines()[-1])


def beside(other: str, n: int, d: int) -> None:
    """One row: this library, the other, ratios, the largest difference of the four scores."""
    ours, theirs = measured(sys.executable, OURS, n, d), measured(other, THEIRS, n, d)
    difference = max(abs(ours["values"][name] - theirs["values"][name]) for name in ours["values"])
    print(
        f"n = {n:>6}, d = {d:>4}   here {ours['seconds']:6.2f} s, with intervals and nulls {ours['whole']:6.2f} s, "
        f"{ours['extra']:6.0f} MB   prdc {theirs['seconds']:6.2f} s, {theirs['extra']:6.0f} MB   "
        f"×{theirs['seconds'] / ours['seconds']:.1f} (×{theirs['whole'] / ours['whole']:.1f}) in time, "
        f"×{theirs['cpu'] / ours['cpu']:.1f} (×{theirs['cpu'] / ours['cpu_whole']:.1f}) in CPU time, "
        f"×{theirs['extra'] / max(ours['extra'], 1):.0f} in memory   "
        f"Δ {difference:.1e}",
        flush=True,
    )


def large(n: int) -> None:
    """Two sets mapped from disk: post-ReLU features of 2048 coordinates, 32 of them latent."""
    import numpy as np

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
        found = measured(sys.executable, LARGE, *paths)
    print(
        f"n = {n}, d = 2048, float32 mapped from disk: sweep {found['seconds']:.0f} s ({found['cpu']:.0f} s of CPU), "
        f"with intervals {found['whole']:.0f} s; peak {found['peak']:.0f} MB, the mapped files included"
    )
    for name, value in found["values"].items():
        print(f"  {name:<10} {value}")


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", default=sys.executable, help="a Python with prdc in it")
    parser.add_argument("--large", type=int, metavar="N", help="also N × 2048, from disk")
    chosen = parser.parse_args()
    print("×: how many times more prdc takes; memory above what the imports and the data take; Δ: largest difference\n")
    for n, d in ((2_000, 64), (10_000, 2), (10_000, 64), (5_000, 512)):
        beside(chosen.other, n, d)
    if chosen.large:
        large(chosen.large)


if __name__ == "__main__":
    main()
