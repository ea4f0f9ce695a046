r"""Which known points do samples come closest to: training points more often than held-out ones, and how closely?

Training (N) and held-out data (M) form one pool. Each sample visits the point of the pool that is nearest to it, as
closely as

    r = d₁ / mean(d₂, ..., d₅),

its distance to that point in units of the distances to the next ones in the pool; a point that is visited several times
keeps the least r. The visited points, closest first, are a list of which each entry is a training point or a held-out
one.

A generator that knows no more of the training than of the held-out data might have been given either: the pool and the
samples being what they are, any N of the N + M points are equally likely to be those called *train*, and neither the
list nor its order depends on it. So the first entries of the list are draws without replacement from N training and M
held-out points, **whatever the generator's law**: smooth, blurred, collapsed, shrunk to the middle of its modes. Of the
number A_j of training points before the j-th held-out point

    P(A_j ≥ a) = P(H ≤ j−1),  H ~ Hypergeometric(N + M, M, a + j − 1 draws),

exactly. Equal points and equal distances break the symmetry, so they are resolved against *train*: a point is a
training point if all points equal to it are, a sample as near to a held-out point as to a training point visits the
held-out one, and among equal r held-out points come first. Each can only lower A_j. (N and M count repeats as often as
they come. If no held-out point equals a training point, though, train was repeated on purpose, not by its law: then
each point counts once.)

The same symmetry gives a false-discovery rate. Up to a cut in r let T training and D held-out points be visited; had
nothing been copied, E[T/(1 + D)] ≤ N/(M + 1) at any such cut that is chosen looking backwards, so that the list cut
where (N/(M + 1))·(1 + D)/T ≤ q holds at most the share q of points that were not copied, on average (the argument of
Barber and Candès for knock-offs, with draws without replacement).

References:
    Controlling the false discovery rate via knockoffs (Barber, Candès, 2015), https://doi.org/10.1214/15-AOS1337.
    Holdout-based empirical assessment of mixed-type synthetic data (Platzer, Reutterer, 2021),
    https://doi.org/10.3389/fdata.2021.679939: training and held-out data change places.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import betaincinv

from divergences import Estimate
from evaluation.intervals import hypergeometric_tail, log_choose
from evaluation.neighbors import Neighbors

__all__ = ["NEIGHBORS", "VisitTests", "Visits", "below_rank"]

# How many neighbours a score looks at.
NEIGHBORS = 5
# The list is tested up to this share of the held-out points in it: what is far from every point copies nothing.
_TESTED = 0.1
_LEVEL = 0.95


@dataclass(frozen=True)
class Visits:
    """The visited points of a pool, closest first, and whose visits they are.

    Attributes:
        n_train: N, training points in the pool.
        n_test: M, held-out points in the pool.
        trained: of each visited point, whether it is a training point; shape (v,).
        scores: least r of each visited point, ascending; shape (v,).
        sample_scores: r of each sample, shape (n,).
        sample_trained: of each sample, whether it visits a training point; shape (n,).
        owners: of each sample, the visited point: its place in the list; shape (n,).
    """

    n_train: int
    n_test: int
    trained: Bool[np.ndarray, " v"]
    scores: Float64[np.ndarray, " v"]
    sample_scores: Float64[np.ndarray, " n"]
    sample_trained: Bool[np.ndarray, " n"]
    owners: Int64[np.ndarray, " n"]

    @classmethod
    def of(cls, here: Neighbors, apart: Neighbors, rest: Neighbors | None, *, n_train: int, n_test: int) -> Visits:
        """From neighbour lists of the samples.

        Args:
            here: nearest among the distinct training points.
            apart: nearest among the distinct held-out points.
            rest: nearest among the held-out points that are not training points as well; None if there are none.
            n_train: training points in the pool; repeats count, unless none is shared between train and held-out data.
            n_test: held-out points, likewise.
        """
        trained = here.distances[:, 0] < apart.distances[:, 0]
        lists = [here.distances] if rest is None else [here.distances, rest.distances]
        near = np.sort(np.concatenate(lists, axis=1), axis=1)[:, :NEIGHBORS]
        scores = ratios(near)
        whom = np.where(trained, here.indices[:, 0], -1 - apart.indices[:, 0])
        order = np.lexsort((trained, scores))
        _, first, place = np.unique(whom[order], return_index=True, return_inverse=True)
        rank = np.argsort(np.argsort(first))
        owners = np.empty(len(whom), dtype=np.int64)
        owners[order] = rank[place]
        best = order[np.sort(first)]
        return cls(n_train, n_test, trained[best], scores[best], scores, trained, owners)

    def false_discovery_rates(self) -> Float64[np.ndarray, " v"]:
        """Of the list cut after each entry (never between equal scores): the estimate (N/(M+1))·(1+D)/T, at most 1."""
        if not len(self.scores):
            return np.empty(0)
        good, bad = np.cumsum(self.trained), np.cumsum(~self.trained)
        rates = self.n_train / (self.n_test + 1) * (1 + bad) / np.maximum(good, 1)
        last = np.searchsorted(self.scores, self.scores, side="right") - 1
        return np.minimum(np.where(good > 0, rates, 1.0), 1.0)[last]

    def q_values(self) -> Float64[np.ndarray, " n"]:
        """Of each sample, the least false-discovery rate of a list that names its training point; 1 if it has none."""
        if not len(self.scores):
            return np.ones(len(self.sample_scores))
        best = np.minimum.accumulate(self.false_discovery_rates()[::-1])[::-1]
        # A later visit of the same point lies between two entries: cut there, the list is that of the entry before.
        before = np.searchsorted(self.scores, self.sample_scores, side="right") - 1
        return np.where(self.sample_trained, best[before], 1.0)

    def copy_share(self, cut: float, *, sure: bool = False) -> Estimate:
        r"""Share of copies among samples with r ≤ ``cut``: t − (N/M)·u, with shares t visiting train, u held-out data.

        Samples that are no copies visit N training points for M held-out ones, so the second term is what chance
        puts into the first. Limits: exact intervals of both shares, joined by square and add (Newcombe, 1998); the
        upper one is never below that of no copy seen, nor above that of t. The shares count as if there were n/(Σw²/Σw)
        samples, w the visits of each point within the cut, since visits to one point are owed to one coincidence; not
        so if copies are ``sure``.
        """
        n = len(self.sample_scores)
        within = self.sample_scores <= cut
        visits = np.bincount(self.owners[within], minlength=1).astype(np.float64)
        crowding = float(visits @ visits / visits.sum()) if within.any() and not sure else 1.0
        share, chance = float((within & self.sample_trained).mean()), float((within & ~self.sample_trained).mean())
        low, high = limits(share, n / crowding)
        fewest, most = limits(chance, n / crowding)
        ratio = self.n_train / self.n_test
        excess = share - ratio * chance
        below = math.hypot(share - low, ratio * (most - chance))
        above = math.hypot(high - share, ratio * (chance - fewest))
        value = min(max(excess, 0.0), 1.0)
        bounds = (max(excess - below, 0.0), min(max(excess + above, limits(0.0, n / crowding)[1]), high))
        return Estimate(
            value,
            max(value - bounds[0], bounds[1] - value),
            level=_LEVEL,
            method="visits of training points beyond those of held-out points",
            n=n,
            raw=share,
            bounds=bounds,
        )


class VisitTests:
    """Exact tests that visits prefer training points: A_j for a few j, and exact repeats.

    Attributes:
        count: how many tests share the error rate.
        p_value: their least p-value times ``count`` (Bonferroni).
        largest: the score up to which the list was tested.
    """

    def __init__(self, visits: Visits, *, repeats: float = 1.0) -> None:
        """``repeats``: the p-value of one more test of exact repeats, see ``memorization``."""
        self.visits = visits
        n, m, listed = visits.n_train, visits.n_test, len(visits.scores)
        others = np.flatnonzero(~visits.trained)
        expected = _TESTED * listed * m / (n + m)
        self.ranks = [2**power for power in range(max(1, int(expected)).bit_length())]
        self.count = len(self.ranks) + 2
        ends = [int(others[j - 1]) if j <= len(others) else listed for j in self.ranks]
        p_values = [
            below_rank(end - (min(j, len(others) + 1) - 1), j, n, m) for end, j in zip(ends, self.ranks, strict=True)
        ]
        equal = visits.scores == 0
        marked = int((equal & visits.trained).sum())
        p_values += [hypergeometric_tail(marked, int(equal.sum()), n, m), repeats]
        self.p_value = min(1.0, self.count * min(p_values))
        self.largest = float(visits.scores[min(ends[-1], listed - 1)])

    def needed(self, alpha: float) -> int:
        """How many training points, visited more closely than any other point, are significant at ``alpha``."""
        n, m = self.visits.n_train, self.visits.n_test
        low, high = 0, n + 1
        while high - low > 1:
            middle = (low + high) // 2
            enough = self.count * below_rank(middle, 1, n, m) < alpha
            low, high = (low, middle) if enough else (middle, high)
        return high

    def sensitivity(self, alpha: float) -> float:
        """The share of (tight) copies, of training points drawn at random, found with probability 0.95; 1 if none."""
        needed, n, known = self.needed(alpha), len(self.visits.sample_scores), self.visits.n_train
        if needed > min(n, known):
            return 1.0
        # Each training point is copied with chance u: at least `needed` of them with probability 0.95.
        chance = float(betaincinv(needed, known - needed + 1, 0.95))
        return min(1.0, known * -math.expm1(math.log1p(-chance) / n))

    def cut(self, share: float) -> float:
        """The largest score up to which the list holds at most the ``share`` of chance visits; else the purest."""
        rates = self.visits.false_discovery_rates()
        pure = np.flatnonzero(rates <= share)
        return float(self.visits.scores[pure[-1] if pure.size else int(np.argmin(rates))])


def ratios(near: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, " n"]:
    """The first distance of each row in units of the mean of the others (of 1 if there are none)."""
    unit = near[:, 1:].mean(axis=1) if near.shape[1] > 1 else np.ones(len(near))
    # Distinct points differ, so the unit is positive unless the difference underflows.
    return near[:, 0] / np.maximum(unit, np.finfo(np.float64).tiny)


def below_rank(a: int, j: int, n: int, m: int) -> float:
    """P(at least ``a`` of n marked points stand before the j-th of m others), all orders equally likely."""
    if a == 0:
        return 1.0
    draws = a + j - 1
    others = np.arange(max(0, draws - n), min(j - 1, m) + 1, dtype=np.float64)
    log_mass = log_choose(m, others) + log_choose(n, draws - others) - log_choose(n + m, draws)
    return min(1.0, float(np.exp(log_mass).sum()))


def limits(share: float, n: float) -> tuple[float, float]:
    """Clopper and Pearson's limits, for a share of what counts as n trials, a whole number or not."""
    tail, hits = (1 - _LEVEL) / 2, share * n
    low = 0.0 if hits == 0 else float(betaincinv(hits, n - hits + 1, tail))
    return low, 1.0 if hits >= n else float(betaincinv(hits + 1, n - hits, 1 - tail))
