"""Kernel density estimates beside scikit-learn's: time, memory, agreement, in one run. ``python benchmarks/kde.py``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apart
import numpy as np

CASES = (
    ("gaussian", 10_000, 10_000, 1),
    ("gaussian", 10_000, 10_000, 2),
    ("gaussian", 5_000, 5_000, 16),
    ("epanechnikov", 20_000, 20_000, 2),
)


def _points(folder: str) -> tuple[np.ndarray, np.ndarray]:
    return np.load(f"{folder}/points.npy"), np.load(f"{folder}/queries.npy")


def _scored(folder: str, name: str, log_prob: Callable[[np.ndarray], np.ndarray]) -> apart.Call:
    _, queries = _points(folder)
    log_prob(queries[:10])

    def call() -> dict[str, float]:
        densities = log_prob(queries)
        np.save(f"{folder}/{name}.npy", densities)
        return {"value": float(np.exp(densities).mean())}

    return call


def _here(folder: str, kernel: str, h: str) -> apart.Call:
    from evaluation import KDE

    return _scored(folder, "here", KDE(_points(folder)[0], bandwidth=float(h), kernel=kernel).log_prob)


def _sklearn(folder: str, kernel: str, h: str) -> apart.Call:
    from sklearn.neighbors import KernelDensity

    law = KernelDensity(bandwidth=float(h), kernel=kernel).fit(_points(folder)[0])
    return _scored(folder, "sklearn", law.score_samples)


def _here_cv(folder: str) -> apart.Call:
    from evaluation import KDE

    points, queries = _points(folder)
    KDE(points[:50], bandwidth="cv")
    return lambda: {"value": float(KDE(points, bandwidth="cv").log_prob(queries).mean())}


def _sklearn_cv(folder: str) -> apart.Call:
    from sklearn.model_selection import GridSearchCV
    from sklearn.neighbors import KernelDensity

    points, queries = _points(folder)
    grid = {"bandwidth": np.geomspace(0.02, 2, 30)}
    GridSearchCV(KernelDensity(), {"bandwidth": [0.5]}, cv=5).fit(points[:50])

    def call() -> dict[str, float]:
        best: Any = GridSearchCV(KernelDensity(), grid, cv=5).fit(points).best_estimator_
        return {"value": float(best.score_samples(queries).mean())}

    return call


ROWS: dict[str, Callable[..., apart.Call]] = {
    "here": _here,
    "sklearn": _sklearn,
    "here cv": _here_cv,
    "sklearn cv": _sklearn_cv,
}


def _drawn(folder: str, n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(0)
    centers = rng.normal(0, 2, (5, d))
    for name, count in (("points", n), ("queries", m)):
        np.save(f"{folder}/{name}.npy", centers[rng.integers(0, 5, count)] + 0.5 * rng.standard_normal((count, d)))


def _beside(other: str, kernel: str, n: int, m: int, d: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _drawn(folder, n, m, d)
        h = 0.3 if d < 3 else 0.7
        print(f"\n{kernel}, {n} points, {m} queries, d = {d}: mean density, Δ the largest of log densities")
        ours = apart.measured(__file__, "here", folder, kernel, h)
        theirs = apart.measured(__file__, "sklearn", folder, kernel, h, python=other)
        apart.show("here", ours)
        gap = None
        if "skipped" not in theirs:
            one, two = (np.load(Path(folder) / f"{name}.npy") for name in ("here", "sklearn"))
            both = np.isfinite(one) & np.isfinite(two)
            apart_ = int((np.isfinite(one) != np.isfinite(two)).sum())
            gap = f"{np.abs(one[both] - two[both]).max():.1e}" + (f", {apart_} zeros differ" if apart_ else "")
        apart.show("scikit-learn, exact (atol = rtol = 0)", theirs, ours, gap)


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--other", default=sys.executable, help="a Python with scikit-learn in it")
    chosen = parser.parse_args()
    print(apart.LEGEND)
    for case in CASES:
        _beside(chosen.other, *case)
    with tempfile.TemporaryDirectory() as folder:
        _drawn(folder, 2000, 2000, 2)
        print("\nBandwidth from 2000 points, d = 2: mean log density of 2000 others (larger is better)")
        ours = apart.measured(__file__, "here cv", folder)
        apart.show("here, leave-one-out likelihood", ours)
        theirs = apart.measured(__file__, "sklearn cv", folder, python=chosen.other)
        apart.show("scikit-learn, 5 folds over 30 bandwidths", theirs, ours)


if __name__ == "__main__" and not apart.serve(ROWS, sys.argv):
    main()
