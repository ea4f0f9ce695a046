r"""Searches behind the question of copies: samples and held-out data against train, samples against both, each once.

**Held-out data that are not.** Points of the test set that equal a training point have either leaked, or the data are
coarse: they take the same values again and again. If they are coarse, points equal each other within the sets as well.
Of the pairs of equal points, in N training and m held-out ones, a part 2Nm/(N + m)² then joins both sets on average,
and less where values are very common. Where so many do that chance gives this in one of ten thousand cases (binomial,
given their number), the points have leaked. They are left out: a generator that copies them could hide behind them.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from jaxtyping import Int64
from scipy.special import bdtrc

from divergences import InputError
from evaluation.neighbors import Neighbors, nearest
from evaluation.sweep import Sweep
from evaluation.views import Views
from evaluation.visits import NEIGHBORS, Visits, ratios

__all__ = ["CopySearch", "Scored", "check_swept"]

_HARDLY_CHANCE = 1e-4

# Of the samples: nearest among train, held-out data, and held-out data that are not in train.
_Lists = tuple[Neighbors, Neighbors | None, Neighbors | None]


class Scored:
    """Nearest point, distance to it, and score of each point: of its best view, if there are several."""

    def __init__(self, n: int) -> None:
        self.distances, self.scores = np.full(n, np.inf), np.full(n, np.inf)
        self.nearest = np.full(n, -1, dtype=np.int64)

    def add(self, found: Neighbors) -> None:
        """One view of the points; indices are rows of the set as it came."""
        closer = np.flatnonzero(found.distances[:, 0] < self.distances)
        self.nearest[closer] = found.indices[closer, 0]
        self.distances[closer] = found.distances[closer, 0]
        self.scores[closer] = ratios(found.distances[closer])


class CopySearch:
    """Every search that is needed, once: by a sweep that somebody made, or here, repeats counted once.

    Attributes:
        kept: rows of the held-out data that are held out.
    """

    def __init__(self, train: np.ndarray, test: np.ndarray, views: Views | None, ready: Sweep | None) -> None:
        self.views = views
        self.train, self.test = (
            part if views is None or not len(part) else views.plain(part, name)
            for part, name in ((train, "train="), (test, "test="))
        )
        prints = _prints(self.train), _prints(self.test)
        # Repeats within a set would make d₂ = d₁ for a copy and hide it.
        self.first, self.apart = _distinct(prints[0]), _distinct(prints[1])
        known = set(prints[0])
        self.kept = np.arange(len(test))
        if _leaked(known, prints, len(self.first), len(self.apart)):
            self.kept = np.array([i for i in self.kept if prints[1][i] not in known], dtype=np.int64)
            self.apart = np.intersect1d(self.apart, self.kept)
        # Repeats that held-out data share with train are drawn from a law that repeats itself, and every row counts;
        # without any, train was repeated on purpose, and every point counts once.
        shared = any(prints[1][i] in known for i in self.kept)
        self.n_pool = (len(train), len(test)) if shared else (len(self.first), len(self.apart))
        self.rest = np.array([i for i in self.apart if prints[1][i] not in known], dtype=np.int64)
        single = len(self.first) == len(train) and len(self.rest) == len(test)
        self.ready = ready if single and views is None else None
        self.raw_test = test[self.kept]
        self._found: list[_Lists] | None = None

    def _lists(self, points: np.ndarray) -> list[_Lists]:
        """One triple of lists for each view of the samples."""
        if self._found is None and self.ready is not None:
            apart = None if self.ready.generated_test is None else _first(self.ready.generated_test)
            self._found = [(_first(self.ready.generated_train), apart, apart)]
        if self._found is None:
            self._found = []
            for view in self._views(points):
                here, apart = self._nearest(view, self.train, self.first), self._nearest(view, self.test, self.apart)
                same = len(self.rest) == len(self.apart)
                self._found.append((here, apart, apart if same else self._nearest(view, self.test, self.rest)))
        return self._found

    def _views(self, points: np.ndarray) -> Any:
        return [points] if self.views is None else self.views.of(points, "generated= or test=")

    def _nearest(self, query: np.ndarray, points: np.ndarray, rows: np.ndarray) -> Any:
        if len(rows) == 0:
            return None
        found = nearest(query, points[rows], min(NEIGHBORS, len(rows)))
        return Neighbors(found.distances, rows[found.indices])

    def sample(self, points: np.ndarray) -> Scored:
        """The samples against train."""
        scored = Scored(len(points))
        for here, _, _ in self._lists(points):
            scored.add(here)
        return scored

    def beside(self, points: np.ndarray) -> Scored:
        """The samples against the held-out data."""
        scored = Scored(len(points))
        for _, apart, _ in self._lists(points):
            if apart is not None:
                scored.add(apart)
        return scored

    def null(self) -> Scored:
        """The held-out data against train."""
        scored = Scored(len(self.kept))
        if self.ready is not None and self.ready.test_train is not None:
            scored.add(_first(self.ready.test_train))
        elif len(self.kept):
            for view in self._views(self.raw_test):
                scored.add(self._nearest(view, self.train, self.first))
        return scored

    def visits(self, points: np.ndarray) -> Visits:
        """The list of visits, each sample by the view of it that comes closest to the pool."""
        lists = self._lists(points)
        closest = np.full(len(points), np.inf)
        chosen = np.zeros(len(points), dtype=np.int64)
        for number, (here, apart, _) in enumerate(lists):
            near = here.distances[:, 0] if apart is None else np.minimum(here.distances[:, 0], apart.distances[:, 0])
            chosen[near < closest] = number
            closest = np.minimum(near, closest)
        here, apart, rest = (_picked([found[i] for found in lists], chosen) for i in range(3))
        return Visits.of(here, apart, rest, n_train=self.n_pool[0], n_test=self.n_pool[1])


def _picked(lists: list[Any], chosen: np.ndarray) -> Any:
    if lists[0] is None or len(lists) == 1:
        return lists[0]
    rows = np.arange(len(chosen))
    distances, indices = (np.stack([getattr(found, part) for found in lists]) for part in Neighbors._fields)
    return Neighbors(distances[chosen, rows], indices[chosen, rows])


def _first(found: Any) -> Neighbors:
    return Neighbors(found.distances[:, :NEIGHBORS], found.indices[:, :NEIGHBORS])


def _prints(points: np.ndarray) -> list[bytes]:
    # −0.0 equals 0.0.
    return [hashlib.blake2b((row + 0.0).tobytes(), digest_size=16).digest() for row in points]


def _leaked(known: set[bytes], prints: tuple[list[bytes], list[bytes]], n_first: int, n_apart: int) -> bool:
    """Whether the test set holds training points, and not because the data repeat themselves."""
    n, m = len(prints[0]), len(prints[1])
    across = len(known.intersection(prints[1]))
    within = (n - n_first) + (m - n_apart)
    return across > 0 and bool(bdtrc(across - 1, across + within, 2 * n * m / (n + m) ** 2) < _HARDLY_CHANCE)


def _distinct(prints: list[bytes]) -> Int64[np.ndarray, " k"]:
    """Rows that no earlier row equals."""
    first: dict[bytes, int] = {}
    for i, key in enumerate(prints):
        first.setdefault(key, i)
    return np.fromiter(first.values(), dtype=np.int64, count=len(first))


def check_swept(found: Sweep | None, n: int, n_train: int, n_test: int) -> None:
    """Refuse a sweep whose lists have other lengths."""
    if found is None:
        return
    lists: list[tuple[Neighbors | None, int, int]] = [(found.generated_train, n, n_train)]
    if n_test:
        lists += [(found.generated_test, n, n_test), (found.test_train, n_test, n_train)]
    for part, rows, of in lists:
        if part is None or len(part.distances) != rows or part.distances.shape[1] < min(NEIGHBORS, of):
            raise InputError(
                f"swept= must come from the same generated=, train= and test=, with lists of k ≥ {NEIGHBORS}; make it "
                "with sweep(generated=..., train=..., test=...)."
            )
