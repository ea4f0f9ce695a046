r"""How often does an audit flag a perfect generator, and how often does it find a planted defect?

``python benchmarks/audit_calibration.py --runs 200 [--world grid] [--defect "10 % copies"] [--samples N] [--out FILE]``

Every run draws fresh training data, held-out data and samples from a *known* law, spoils the samples in one way, audits
them, and asks whether the finding that is about this defect is flagged; of a perfect generator, also how often the
audit leaves a question open and so does not clear it. Four worlds: a mixture on the line, a ring, the
25-mode grid, and a law of 8×8 digits in 64 dimensions (a Gaussian mixture fitted to those of scikit-learn, so that
there are as many perfect samples as one likes). The table at the end is the one in the README. With ``--out`` every
audit is a line of that file, and one that is there already is not made again: a run that was stopped goes on where it
was.

The audit fails its calibration (exit status 1) if a perfect generator is flagged significantly more often than in 5 %
of the audits, or if memorization is flagged significantly more often than in 1 % where nothing was copied: a generator
that drops, starves, narrows or blurs its modes is bad, and no thief.
"""

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from divergences import Estimate, Gaussian, Mixture
from evaluation import Verdict, audit, clopper_pearson

N = 1000
ALPHA, ALPHA_COPIES = 0.05, 0.01


@dataclass(frozen=True)
class World:
    """A law whose parts are its modes, and whether the audit is told of them as modes or as labels."""

    parts: list[Gaussian]
    weights: tuple[float, ...] | None = None
    labelled: bool = False

    @property
    def law(self) -> Mixture:
        """All parts together."""
        return Mixture(self.parts, self.weights)

    def draw(
        self, n: int, rng: np.random.Generator, weights: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Points (n, d) and the part of each (n,)."""
        shares = self.law.weights if weights is None else weights
        part = rng.choice(len(shares), size=n, p=shares)
        noise = rng.standard_normal((n, self.law.dim))
        points = np.empty_like(noise)
        for k, leaf in enumerate(self.parts):
            own = part == k
            points[own] = leaf.mean + noise[own] @ leaf.cholesky.T
        return points, part


@cache
def world(name: str) -> World:
    """By name."""
    if name == "line":
        return World([Gaussian(m, s**2) for m, s in ((-8, 0.5), (0, 0.3), (8, 1.0))], (0.3, 0.3, 0.4))
    if name == "ring":
        angles = 2 * np.pi * np.arange(8) / 8
        return World([Gaussian([np.cos(a), np.sin(a)], 0.05**2 * np.eye(2)) for a in angles])
    if name == "grid":
        return World([Gaussian([2.0 * i, 2.0 * j], 0.05**2 * np.eye(2)) for i in range(-2, 3) for j in range(-2, 3)])
    from sklearn.datasets import load_digits

    digits = load_digits()
    classes = [digits.data[digits.target == k] / 16 for k in range(10)]
    # Shrunk towards a sphere: a class has fewer images than its covariance has entries.
    laws = [Gaussian(x.mean(axis=0), 0.9 * np.cov(x.T) + 0.1 * np.cov(x.T).trace() / 64 * np.eye(64)) for x in classes]
    return World(laws, labelled=True)


def perfect(kind: World, train: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Nothing is wrong."""
    return kind.draw(len(train), rng)[0]


def dropped(kind: World, train: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One mode is never drawn."""
    weights = kind.law.weights.copy()
    weights[rng.integers(len(weights))] = 0.0
    return kind.draw(len(train), rng, weights / weights.sum())[0]


def imbalanced(kind: World, train: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One mode gets a tenth of its share."""
    weights = kind.law.weights.copy()
    weights[rng.integers(len(weights))] *= 0.1
    return kind.draw(len(train), rng, weights / weights.sum())[0]


def shrunk(kind: World, train: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every mode is there, at a third of its width."""
    points, part = kind.draw(len(train), rng)
    means = np.stack([leaf.mean for leaf in kind.parts])
    return means[part] + (points - means[part]) / 3


def copies(kind: World, train: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A tenth of the samples are training points, moved by a hundredth of the distance to their neighbours."""
    points, _ = kind.draw(len(train), rng)
    from evaluation.neighbors import nearest_others

    count = len(train) // 10
    chosen = rng.choice(len(train), size=count, replace=False)
    step = 0.01 * nearest_others(train).distances[chosen] / np.sqrt(train.shape[1])
    points[:count] = train[chosen] + step * rng.standard_normal((count, train.shape[1]))
    return rng.permutation(points)


def noisy(kind: World, train: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise is added, three times as wide as a mode."""
    points, part = kind.draw(len(train), rng)
    width = np.array([np.sqrt(np.trace(leaf.cov) / kind.law.dim) for leaf in kind.parts])
    return points + 3 * width[part][:, None] * rng.standard_normal(points.shape)


# As the README calls them; the order is part of the seeds.
WORLDS = {"line": "three modes in 1D", "ring": "ring of 8", "grid": "grid of 25", "digits": "8×8 digits, 64-D"}
COPIED = "10 % copies"
# For each defect the findings that are about it, where modes are known and where only labels are.
DEFECTS: dict[str, tuple[Callable[[World, np.ndarray, np.random.Generator], np.ndarray], tuple[str, str]]] = {
    "perfect": (perfect, ("", "")),
    "dropped mode": (dropped, ("mode loss", "class loss")),
    "weight × 0.1": (imbalanced, ("mode loss", "class loss")),
    "width ÷ 3": (shrunk, ("partial collapse", "partial collapse")),
    COPIED: (copies, ("memorization", "memorization")),
    "noise × 3": (noisy, ("fidelity", "distribution")),
}
TITLES = dict(zip(DEFECTS, (
    "perfect generator", "one mode never drawn", "one mode at a tenth of its share", "modes at a third of their width",
    "10 % copies of training data", "noise three times a mode's width",
), strict=True))  # fmt: skip

OPEN = "?"
UNCLEAR = "left open"
# World, defect, samples in each of the three sets, seed.
Task = tuple[str, str, int, int]


def one(task: Task) -> tuple[str, ...]:
    """One audit: the names of the findings flagged, and with a question mark of those left open."""
    name, defect, n, seed = task
    kind = world(name)
    rng = np.random.default_rng([list(WORLDS).index(name), list(DEFECTS).index(defect), seed])
    (train, labels), (test, _) = kind.draw(n, rng), kind.draw(n, rng)
    generated = DEFECTS[defect][0](kind, train, rng)
    told: dict[str, Any] = {"labels": labels} if kind.labelled else {"modes": kind.law}
    report = audit(generated=generated, train=train, test=test, rng=rng, **told)
    marks = {Verdict.FLAGGED: "", Verdict.INCONCLUSIVE: OPEN}
    return tuple(finding.name + marks[finding.verdict] for finding in report.findings if finding.verdict in marks)


class Record:
    """Audits made before: lines [world, defect, n, seed, findings] of a file; without one, in memory."""

    def __init__(self, path: str | None) -> None:
        self.path = None if path is None else Path(path)
        self.known: dict[Task, tuple[str, ...]] = {}
        if self.path is not None and self.path.exists():
            # What stands behind the last line break was not finished.
            text = self.path.read_text(encoding="utf-8")
            whole = text[: text.rfind("\n") + 1]
            if whole != text:
                self.path.write_text(whole, encoding="utf-8")
            for line in whole.splitlines():
                name, defect, n, seed, found = json.loads(line)
                self.known[name, defect, n, seed] = tuple(found)

    def add(self, task: Task, found: tuple[str, ...]) -> None:
        """One audit more."""
        self.known[task] = found
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([*task, list(found)]) + "\n")


def summary(name: str, defect: str, flagged: list[tuple[str, ...]]) -> tuple[Estimate, str]:
    """How often the finding about the defect was flagged (any finding, for a perfect generator); what else was."""
    about = DEFECTS[defect][1][int(world(name).labelled)]
    flagged = [tuple(item for item in found if not item.endswith(OPEN)) for found in flagged]
    hits = sum(about in found if about else bool(found) for found in flagged)
    others = sorted({item for found in flagged for item in found} - {about})
    counts = ", ".join(f"{item} {sum(item in found for found in flagged)}" for item in others)
    return clopper_pearson(hits, len(flagged)), counts


def percent(share: float) -> str:
    """Of a share: one digit behind the point below 10 %, none above, and none that is 0."""
    return f"{100 * share:.1f}".removesuffix(".0") if share < 0.1 else f"{100 * share:.0f}"


def readme(rates: dict[tuple[str, str], Estimate]) -> str:
    """The rows of the README's table; a dash where nothing was measured."""
    worlds = [name for name in WORLDS if any(name == known for known, _ in rates)]
    lines = ["| | " + " | ".join(WORLDS[name] for name in worlds) + " |", "| --- " * (len(worlds) + 1) + "|"]
    rows = [("perfect", TITLES["perfect"]), (UNCLEAR, "the same, a question left open"), *list(TITLES.items())[1:]]
    for defect, title in rows:
        cells = []
        for rate in (rates.get((name, defect)) for name in worlds):
            told = "–" if rate is None else f"{100 * rate.value:.3g} % [{', '.join(map(percent, rate.interval))}]"
            cells.append(told)
        if any(cell != "–" for cell in cells):
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run and print the table; 1 if a generator is accused of what it did not do too often."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=200, help="audits per cell (default 200)")
    parser.add_argument("--samples", type=int, default=N, metavar="N", help=f"in each of the three sets (default {N})")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--world", choices=WORLDS, action="append", help="only this one; may be repeated")
    parser.add_argument("--defect", choices=list(DEFECTS), action="append", help="only this one; may be repeated")
    parser.add_argument("--out", metavar="FILE", help="keep every audit here, and go on from what is there")
    chosen = parser.parse_args(argv)
    record = Record(chosen.out)
    print(
        f"{'world':<8}{'defect':<14}{'flagged by the finding about it':<36}{'also flagged':<40}s per audit", flush=True
    )
    rates: dict[tuple[str, str], Estimate] = {}
    accused = honest = 0
    with ProcessPoolExecutor(chosen.workers) as pool:
        for name in chosen.world or WORLDS:
            for defect in chosen.defect or DEFECTS:
                start = time.perf_counter()
                tasks = [(name, defect, chosen.samples, seed) for seed in range(chosen.runs)]
                fresh = [task for task in tasks if task not in record.known]
                for task, found in zip(fresh, pool.map(one, fresh, chunksize=5), strict=True):
                    record.add(task, found)
                audits = [record.known[task] for task in tasks]
                rate, others = summary(name, defect, audits)
                seconds = (time.perf_counter() - start) * chosen.workers / max(len(fresh), 1)
                told = "{:.3f} [{:.3f}, {:.3f}]".format(rate.value, *rate.interval)
                print(f"{name:<8}{defect:<14}{told:<36}{others:<40}{seconds:.2f}", flush=True)
                rates[name, defect] = rate
                if defect == "perfect":
                    kept = clopper_pearson(sum(any(OPEN in item for item in found) for found in audits), len(audits))
                    rates[name, UNCLEAR] = kept
                    print(f"{'':<8}{UNCLEAR:<14}{kept.value:.3f} [{kept.interval[0]:.3f}, {kept.interval[1]:.3f}]")
                if defect != COPIED:
                    accused, honest = accused + sum("memorization" in found for found in audits), honest + len(audits)
    print(f"\n{readme(rates)}\n")
    bad = any(defect == "perfect" and rate.interval[0] > ALPHA for (_, defect), rate in rates.items())
    if honest:
        low, high = clopper_pearson(accused, honest).interval
        print(
            f"Memorization flagged where nothing was copied: {accused} of {honest} audits, {accused / honest:.2%} "
            f"[{low:.2%}, {high:.2%}]; stated: at most {ALPHA_COPIES:.0%}."
        )
        bad = bad or low > ALPHA_COPIES
    return int(bad)


if __name__ == "__main__":
    raise SystemExit(main())
