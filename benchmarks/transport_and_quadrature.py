"""Accuracy and time beside scipy, POT and Monte Carlo: ``python benchmarks/transport_and_quadrature.py``.

Every row is one method on one task whose true answer is known: *error* is how far it is off, *claims* what it says of
its own error (– where it says nothing), *time* the median of runs that take turns with those of the other methods, and
*×* that time as a multiple of ours in the same run. It takes a minute or two, and tests nothing: a busy machine moves
the ratios.

Monte Carlo is run once; the time it would need for an error of 1e-9 at 95 % is *extrapolated* as n^(−1/2).
"""

from __future__ import annotations

import math
import os
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
os.environ.setdefault("POT_BACKEND_DISABLE_PYTORCH", "1")

import numpy as np
import ot
from scipy import integrate, stats
from scipy.spatial.distance import cdist, jensenshannon

from divergences import Discrete, Distribution, Estimate, Gaussian, Mixture, MonteCarlo, jsd, kl, wasserstein

TARGET = 1e-9
# The true answers. Closed forms: W₁ of a set and its translate by v is |v|; of N(0,1) and N(1,4) it is
# √(2/π) e^(−1/2) + erf(1/√2); JSD of uniform laws on 8 and on 4 of these 8 places is
# ½ [½ log 2 + ½ log(2/3) + log(4/3)]. KL of mixtures: 40-digit quadrature, piecewise at mean ± kσ; in the plane two
# integrators that share no code (trapezoid with h = σ/24, polar Gauss-Legendre) agree to the digits given. For half a
# needle B on A = N(0, I) it is ½ KL(B‖A) − log 2 + ½ E_A log(1 + B/A) + ½ E_B log(1 + A/B), the last two by polar
# Gauss-Legendre around the needle: 7.930182685988 + 0.000001115744.
W1_GAUSSIANS = math.sqrt(2 / math.pi) * math.exp(-0.5) + math.erf(math.sqrt(0.5))
JSD_HALF = 0.5 * (0.5 * math.log(2) + 0.5 * math.log(2 / 3) + math.log(4 / 3))
KL_TWO_MODES = 0.72449071563697068999
KL_SPIKE = 4.4850506675050335732
KL_RING = 1.8527656711436
KL_NEEDLE = 7.930183801732

Answer = tuple[float, float | None]


@dataclass
class Method:
    """One way to the answer: its name, and a call that gives the value and the error it claims."""

    name: str
    call: Callable[[], Answer]
    times: list[float] = field(default_factory=list)
    answer: Answer = (math.nan, None)
    extrapolated: float | None = None


@dataclass
class Task:
    """What is asked, its true answer, and the methods, ours first."""

    name: str
    truth: float
    methods: list[Method]
    runs: int = 3


def ours(call: Callable[[], Estimate]) -> Method:
    """This library."""

    def both() -> Answer:
        estimate = call()
        return estimate.value, estimate.error

    return Method("mintmark", both)


def plain(name: str, call: Callable[[], float]) -> Method:
    """A method that says nothing of its error."""
    return Method(name, lambda: (float(call()), None))


def line(rng: np.random.Generator, sizes: tuple[int, ...]) -> list[Task]:
    """Samples on the line: a set and its translate by 1, shuffled."""
    tasks = []
    for n in sizes:
        x = rng.normal(size=n)
        y = rng.permutation(x + 1)

        def sorts(x: np.ndarray = x, y: np.ndarray = y) -> float:
            np.sort(x)
            np.sort(y)
            return math.nan

        rivals = [
            ours(lambda x=x, y=y: wasserstein(x, y).cost),  # type: ignore[misc]
            plain("np.sort of both, alone", sorts),
            plain("scipy wasserstein_distance", lambda x=x, y=y: stats.wasserstein_distance(x, y)),  # type: ignore[misc]
            plain("ot.wasserstein_1d", lambda x=x, y=y: ot.wasserstein_1d(x, y)),  # type: ignore[misc]
        ]
        tasks.append(Task(f"W1 on the line, n = {n}", 1.0, rivals, runs=int(np.clip(1_000_000 // n, 5, 101))))
    n = sizes[-1] // 10
    x, a = rng.normal(size=n), rng.dirichlet(np.ones(n))
    order = rng.permutation(n)
    y, b = x[order] + 1, a[order]
    rivals = [
        ours(lambda: wasserstein(x, y, p_weights=a, q_weights=b).cost),
        plain("scipy wasserstein_distance", lambda: stats.wasserstein_distance(x, y, a, b)),
        plain("ot.wasserstein_1d", lambda: ot.wasserstein_1d(x, y, a, b)),
    ]
    return [*tasks, Task(f"W1 on the line, weighted, n = {n}", 1.0, rivals)]


def plane(rng: np.random.Generator, small: int, large: int) -> list[Task]:
    """Samples in the plane: a set and its translate by (3, 4), shuffled; and the same at a scale of 1e-14."""
    tasks = []
    for n, scale in ((small, 1.0), (large, 1.0), (large // 4, 1e-14)):
        x = scale * rng.normal(size=(n, 2))
        y = rng.permutation(x + scale * np.array([3.0, 4.0]))

        def pot(x: np.ndarray = x, y: np.ndarray = y) -> float:
            return float(ot.emd2([], [], cdist(x, y), numItermax=10_000_000))

        rivals = [ours(lambda x=x, y=y: wasserstein(x, y).cost), plain("ot.emd2", pot)]  # type: ignore[misc]
        if n == small:
            rivals.append(plain("scipy wasserstein_distance_nd", lambda x=x, y=y: stats.wasserstein_distance_nd(x, y)))  # type: ignore[misc]
        where = "" if scale == 1 else f", points × {scale:g}"
        tasks.append(Task(f"W1 in the plane, n = {n}{where}", 5.0 * scale, rivals))
    return tasks


def laws() -> list[Task]:
    """W₁ of two laws on the line."""
    p, q = Gaussian(0.0, 1.0), Gaussian(1.0, 4.0)

    def by_quad() -> Answer:
        return integrate.quad(lambda x: abs(stats.norm.cdf(x) - stats.norm.cdf(x, 1, 2)), -np.inf, np.inf)[:2]

    methods = [ours(lambda: wasserstein(p, q).cost), Method("scipy quad of |F − G|", by_quad)]
    return [Task("W1 of N(0,1) and N(1,4)", W1_GAUSSIANS, methods)]


def divergence(name: str, truth: float, p: Distribution, q: Distribution, draws: int) -> Task:
    """KL of two laws, beside scipy's integrators on −50..50 (line) or −12..12 (plane), and Monte Carlo."""

    def integrand(x: np.ndarray) -> np.ndarray:
        log_p = p.log_prob(x)
        return np.exp(log_p) * (log_p - q.log_prob(x))

    def by_quad() -> Answer:
        return integrate.quad(lambda x: float(integrand(np.array([[x]]))[0]), -np.inf, np.inf)[:2]

    def by_cubature() -> Answer:
        found = integrate.cubature(integrand, *([[side] * p.dim for side in ((-50, 50) if p.dim == 1 else (-12, 12))]))
        return float(found.estimate), float(found.error)

    methods = [ours(lambda: kl(p, q)), Method("scipy cubature", by_cubature)]
    if p.dim == 1:
        methods.insert(1, Method("scipy quad", by_quad))
    methods.append(sampled(p, q, draws))
    return Task(name, truth, methods)


def sampled(p: Distribution, q: Distribution, draws: int) -> Method:
    """Monte Carlo; the time it would need for the target follows from the error it reports."""

    def call() -> Answer:
        estimate = kl(p, q, expect=MonteCarlo(np.random.default_rng(0), n=draws))
        return estimate.value, estimate.error

    return Method(f"Monte Carlo, n = {draws}", call, extrapolated=TARGET)


def masses(rng: np.random.Generator, vectors: int) -> list[Task]:
    """JSD of probability vectors: one closed form, and vectors that are proportional, whose JSD is 0."""
    places = np.arange(8.0)
    whole, half = np.full(8, 1 / 8), np.repeat([1 / 4, 0.0], 4)
    pairs = [(a, 3 * a) for a in rng.uniform(size=(vectors, 5))]

    def proportional() -> Estimate:
        five = np.arange(5.0)
        found = [jsd(Discrete(five, a / a.sum()), Discrete(five, b / b.sum())) for a, b in pairs]
        return max(found, key=lambda estimate: abs(estimate.value))

    def by_scipy() -> float:
        return float(np.max([jensenshannon(a, b) ** 2 for a, b in pairs]))

    nans = np.mean([np.isnan(jensenshannon(a, b)) for a, b in pairs])
    closed = [
        ours(lambda: jsd(Discrete(places, whole), Discrete(places, half))),
        plain("scipy jensenshannon, squared", lambda: jensenshannon(whole, half) ** 2),
    ]
    equal = [ours(proportional), plain(f"scipy jensenshannon² (NaN: {100 * nans:.0f} %)", by_scipy)]
    return [
        Task("JSD of uniform laws on 8 and 4 places", JSD_HALF, closed, runs=51),
        Task(f"JSD of {vectors} proportional vectors, worst", 0.0, equal),
    ]


def critics(rng: np.random.Generator, queries: int, atoms: int) -> list[Task]:
    """An exact critic, evaluated at many points; the other way is the definition, in blocks."""
    x, y = rng.normal(size=(atoms, 2)), 2 * rng.normal(size=(atoms, 2))
    transport = wasserstein(x, y)
    critic, (_, v) = transport.critic(), transport.potentials or (None, np.zeros(atoms))
    places = 3 * rng.normal(size=(queries, 2))
    shift = float(critic(y[:1])[0] + v[0])

    def blocks() -> np.ndarray:
        return np.concatenate([(cdist(places[k : k + 500], y) - v).min(axis=1) for k in range(0, queries, 500)])

    methods = [
        Method("mintmark", lambda: (float(critic(places).mean()), None)),
        plain("all distances, in blocks", lambda: float(blocks().mean()) + shift),
    ]
    return [Task(f"critic of {atoms} atoms at {queries} points", float(blocks().mean()) + shift, methods)]


def mixtures(draws: int) -> list[Task]:
    """KL of mixtures: smooth ones, and ones with a narrow mode that an integrator has to know of."""
    standard = Gaussian(0.0, 1.0)
    two = Mixture([Gaussian(-2.0, 0.25), Gaussian(2.0, 0.25)])
    spike = Mixture([standard, Gaussian(30.0, 1e-4)], [0.99, 0.01])
    angles = 2 * np.pi * np.arange(8) / 8
    ring = Mixture([Gaussian([2 * np.cos(a), 2 * np.sin(a)], 0.04 * np.eye(2)) for a in angles])
    flat = Gaussian([0.0, 0.0], np.eye(2))
    needle = Mixture([flat, Gaussian([3.3, -2.1], 0.005**2 * np.eye(2))])
    return [
        divergence("KL of two modes and N(0,4)", KL_TWO_MODES, two, Gaussian(0.0, 4.0), draws),
        divergence("KL of a 1 % spike at 30 and N(0,1)", KL_SPIKE, spike, standard, draws),
        divergence("KL of a ring of 8 and N(0,2.04 I)", KL_RING, ring, Gaussian([0.0, 0.0], 2.04 * np.eye(2)), draws),
        divergence("KL of half a needle and N(0,I)", KL_NEEDLE, needle, flat, draws),
    ]


def measure(task: Task) -> Task:
    """Let the methods take turns, so that a busy moment hits all of them, and begin with another one each time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for turn in range(task.runs):
            first = turn % len(task.methods)
            for method in task.methods[first:] + task.methods[:first]:
                if turn and statistics.median(method.times) > 3:
                    continue
                start = time.perf_counter()
                method.answer = method.call()
                method.times.append(time.perf_counter() - start)
    return task


def rows(task: Task) -> list[str]:
    """The task as lines of the table."""
    lines = [f"{task.name}   (true: {task.truth:.12g})"]
    base = statistics.median(task.methods[0].times)
    for method in task.methods:
        value, claim = method.answer
        took = statistics.median(method.times)
        error = "–" if "alone" in method.name else f"{abs(value - task.truth):.1e}"
        claims = "–" if claim is None else f"{claim:.1e}"
        row = f"  {method.name:<38} {error:>9} {claims:>9} {duration(took):>11} {took / base:>9.3g}"
        if method.extrapolated is not None and claim:
            row += (
                f"   to {method.extrapolated:g}: {duration(took * (claim / method.extrapolated) ** 2)} (extrapolated)"
            )
        lines.append(row)
    return lines


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    for size, unit in ((1e-3, "µs"), (1.0, "ms"), (120.0, "s"), (2 * 86400.0, "h")):
        if seconds < size:
            return f"{seconds * {'µs': 1e6, 'ms': 1e3, 's': 1.0, 'h': 1 / 3600}[unit]:.3g} {unit}"
    return f"{seconds / (365.25 * 86400):.2g} years"


def tasks(rng: np.random.Generator, *, quick: bool = False) -> list[Task]:
    """All tasks; ``quick`` for a look whether they run."""
    if quick:
        made = line(rng, (50, 100)) + plane(rng, 20, 40) + masses(rng, 5) + critics(rng, 100, 20)
        return made + laws() + mixtures(1000)[:2]
    made = line(rng, (1000, 10_000, 100_000, 1_000_000)) + plane(rng, 150, 2000) + laws()
    return made + mixtures(100_000) + masses(rng, 200) + critics(rng, 20_000, 1000)


if __name__ == "__main__":
    print(f"{'':<40} {'error':>9} {'claims':>9} {'time':>11} {'×':>9}")
    for one in tasks(np.random.default_rng(0)):
        print("\n".join(rows(measure(one))), flush=True)
