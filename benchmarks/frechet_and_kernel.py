"""Fréchet and kernel distances beside the field's packages, in one run: ``python benchmarks/frechet_and_kernel.py``.

Every package gets the same features. Those that are not installed are skipped, and said to be.
"""

from __future__ import annotations

import os
import time
import tracemalloc
import warnings
from collections.abc import Callable
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import numpy as np
import rivals
import scipy.linalg

from evaluation import Moments, fid, kid
from evaluation.bures import Pair


def measured(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, seconds, and peak memory that numpy asked for, in MiB."""
    tracemalloc.start()
    start = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return result, seconds, peak


def package(name: str) -> Any:
    """The module, or None, which is said."""
    try:
        return rivals.load(name)
    except (ImportError, RuntimeError) as error:
        print(f"  {name:<44} skipped: {error}")
        return None


def line(what: str, value: float, seconds: float, peak: float, ours: tuple[float, float]) -> None:
    """One row: the rival beside our value and seconds."""
    ratio, gap = seconds / ours[1], abs(value / ours[0] - 1)
    print(f"  {what:<44} {value:<20.14g} {seconds:8.2f} s {peak:8.0f} MiB   ×{ratio:<6.2f} Δ {gap:.1e}")


def frechet(rng: np.random.Generator, d: int) -> None:
    """The distance of two sets of statistics, with our interval, against the square root of the product."""
    mix = np.eye(d) + 0.3 / np.sqrt(d) * rng.standard_normal((d, d))
    x, y = rng.standard_normal((3 * d, d)), rng.standard_normal((3 * d, d)) @ mix
    p, q = (Moments(a.mean(axis=0), np.cov(a.T), 50_000) for a in (x, y))
    del x, y
    found, seconds, peak = measured(lambda: fid(generated=q, reference=p))
    print(f"\nFréchet distance of statistics, d = {d}")
    print(f"  {'here, debiased, with its interval':<44} {found.raw:<20.14g} {seconds:8.2f} s {peak:8.0f} MiB")
    first, second = (p.mean, p.covariance), (q.mean, q.covariance)
    gap = float((p.mean - q.mean) @ (p.mean - q.mean)) + float(np.trace(p.covariance) + np.trace(q.covariance))
    ours = (float(found.raw or 0.0), seconds)
    root = measured(lambda: gap - 2 * np.trace(scipy.linalg.sqrtm(p.covariance @ q.covariance)).real)
    line("scipy.linalg.sqrtm", *root, ours)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if module := package("pytorch_fid.fid_score"):
            line("pytorch-fid", *measured(lambda: module.calculate_frechet_distance(*first, *second)), ours)
        if module := package("cleanfid.fid"):
            line("clean-fid", *measured(lambda: module.frechet_distance(*first, *second)), ours)
        if module := package("torch_fidelity.metric_fid"):
            stats = [{"mu": a, "sigma": b} for a, b in (first, second)]
            call = lambda: next(iter(module.fid_statistics_to_metric(*stats, verbose=False).values()))  # noqa: E731
            line("torch-fidelity", *measured(call), ours)


def kernel(rng: np.random.Generator, n: int, d: int) -> None:
    """KID by the published protocol, and over all pairs."""
    x, y = rng.standard_normal((2, n, d)) * 0.5
    y += 0.02
    print(f"\nKID, n = m = {n}, d = {d}")
    protocol, seconds, peak = measured(lambda: kid(generated=y, reference=x, subsets=(100, 1000)))
    what = f"here, 100 subsets of 1000, ± {protocol.error:.1e}"
    print(f"  {what:<44} {protocol.value:<20.14g} {seconds:8.2f} s {peak:8.0f} MiB")
    ours = (protocol.value, seconds)
    full, seconds, peak = measured(lambda: kid(generated=y, reference=x))
    line(f"here, all pairs, ± {full.error:.1e}", full.value, seconds, peak, ours)
    null, seconds, peak = measured(lambda: kid(generated=y, reference=x, rng=rng))
    p_value = null.null.p_value if null.null else np.nan
    line(f"here, all pairs, 199 relabellings, p = {p_value:g}", null.value, seconds, peak, ours)
    if module := package("torch_fidelity.metric_kid"):
        import torch

        options = {"kid_subsets": 100, "kid_subset_size": 1000, "verbose": False, "rng_seed": 2020}
        features = torch.from_numpy(y), torch.from_numpy(x)
        result, seconds, peak = measured(lambda: module.kid_features_to_metric(*features, **options))
        value = result["kernel_inception_distance_mean"]
        line("torch-fidelity, 100 subsets of 1000", value, seconds, peak, ours)


def beside_infinity(rng: np.random.Generator, trials: int = 60) -> None:
    """Root-mean-square error beside FID-infinity: 15 sizes, a line in 1/n, at equal data."""
    print("\nRoot-mean-square error at equal data, Gaussian features")
    for d, n, shift, scale in ((12, 400, 0.3, 1.2), (16, 240, 0.1, 1.1), (32, 480, 0.1, 1.0), (32, 480, 0.0, 1.0)):
        target = d * (shift**2 + (scale - 1) ** 2)
        sizes = np.linspace(n // 10, n, 15).astype(int)
        errors = []
        for _ in range(trials):
            x, y = rng.standard_normal((n, d)), scale * rng.standard_normal((n, d)) + shift
            plain = []
            for size in sizes:
                one, other = (a[rng.choice(n, size, replace=False)] for a in (x, y))
                plain.append(Pair(Moments.of(one), Moments.of(other)).raw)
            line_ = float(np.polyfit(1 / sizes, plain, 1)[1])
            errors.append((fid(generated=y, reference=x).value - target, line_ - target, plain[-1] - target))
        ours, theirs, raw = np.sqrt(np.mean(np.square(errors), axis=0))
        print(f"  d = {d}, n = {n}, truth {target:<6.3g} here {ours:.4f}   FID-infinity {theirs:.4f}   plain {raw:.4f}")


if __name__ == "__main__":
    generator = np.random.default_rng(0)
    print("×: how many times longer the other takes; Δ: relative difference of the values")
    frechet(generator, int(os.environ.get("BENCH_D", "2048")))
    kernel(generator, 5000, 256)
    beside_infinity(generator)
