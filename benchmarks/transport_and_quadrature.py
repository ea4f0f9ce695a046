"""Speed and accuracy beside scipy and POT, as ratios in one run: ``python benchmarks/transport_and_quadrature.py``."""

from __future__ import annotations

import os
import statistics
import time
import warnings
from collections.abc import Callable

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
os.environ.setdefault("POT_BACKEND_DISABLE_PYTORCH", "1")

import numpy as np
import ot
from scipy import integrate, stats
from scipy.spatial.distance import cdist

from divergences import Gaussian, Mixture, MonteCarlo, kl, wasserstein


def seconds(call: Callable[[], object], runs: int = 5) -> float:
    """Median wall time."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def row(what: str, ours: float, theirs: float, name: str, difference: float) -> None:
    """One line of the table."""
    times = f"{1e3 * ours:9.2f} ms   {name:<28} {1e3 * theirs:9.2f} ms"
    print(f"{what:<44} {times}   ×{theirs / ours:<7.2f} Δ {difference:.1e}")


def line(rng: np.random.Generator) -> None:
    """Samples on the line."""
    for n in (10_000, 1_000_000):
        x, y = rng.normal(size=n), rng.normal(size=n) + 1
        ours = seconds(lambda x=x, y=y: wasserstein(x, y))  # type: ignore[misc]
        value = wasserstein(x, y).cost.value
        rivals: list[tuple[str, Callable[[], float]]] = [
            ("np.sort of both, alone", lambda x=x, y=y: float(np.abs(np.sort(x) - np.sort(y)).mean())),  # type: ignore[misc]
            ("scipy.stats", lambda x=x, y=y: float(stats.wasserstein_distance(x, y))),  # type: ignore[misc]
            ("ot.wasserstein_1d", lambda x=x, y=y: float(ot.wasserstein_1d(x, y))),  # type: ignore[misc]
        ]
        for name, rival in rivals:
            row(f"W1 on the line, n = {n}", ours, seconds(rival), name, abs(rival() - value))


def plane(rng: np.random.Generator) -> None:
    """Samples in the plane: what the certificate costs on top of the solver."""
    for n in (500, 2000):
        x, y = rng.normal(size=(n, 2)), 2 * rng.normal(size=(n, 2))

        def rival(x: np.ndarray = x, y: np.ndarray = y) -> float:
            return float(ot.emd2([], [], cdist(x, y), numItermax=1_000_000))

        ours = seconds(lambda x=x, y=y: wasserstein(x, y), 3)  # type: ignore[misc]
        row(f"W1 in the plane, n = {n}, certified", ours, seconds(rival, 3), "ot.emd2, not certified",
            abs(rival() - wasserstein(x, y).cost.value))  # fmt: skip


def quadrature() -> None:
    """KL of mixtures: the spike that a general integrator does not see."""
    spike = Mixture([Gaussian(0.0, 1.0), Gaussian(30.0, 1e-4)], [0.99, 0.01])
    standard = Gaussian(0.0, 1.0)
    truth = 4.4850506675050335732

    def integrand(x: float) -> float:
        log_p, log_q = float(spike.log_prob([[x]])[0]), float(standard.log_prob([[x]])[0])
        return float(np.exp(log_p)) * (log_p - log_q)

    def rival() -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(integrate.quad(integrand, -np.inf, np.inf)[0])

    ours = kl(spike, standard)
    print(f"\nKL of a mixture with a narrow mode, true value {truth:.10f}")
    own = seconds(lambda: kl(spike, standard))
    print(f"  here                {ours.value:.10f} ± {ours.error:.1e}   {1e3 * own:.1f} ms")
    print(f"  scipy quad          {rival():.10f} (claims 1e-8)   {1e3 * seconds(rival):.1f} ms")
    sampled = kl(spike, standard, expect=MonteCarlo(np.random.default_rng(0), n=1_000_000))
    print(f"  Monte Carlo, 10⁶    {sampled.value:.10f} ± {sampled.error:.1e}")


if __name__ == "__main__":
    generator = np.random.default_rng(0)
    print("×: how many times longer the other takes; Δ: difference of the two results\n")
    line(generator)
    plane(generator)
    quadrature()
