r"""Four published signs of copying, each with the null that its authors left out.

All compare the generated samples with held-out data; without them nothing is concluded.

* *Distance share* (DCR): the share of samples nearer to train (N points) than to the held-out data (M). If the
  generator owes train no more than the held-out data, whether a point of the pool is called train or held-out is a
  matter of chance: the null share is exactly N/(N+M), **not** ½, and the p-value is a permutation test's, exact. A
  smooth or collapsed generator does not fool it, since it is as near to one as to the other; but 1 % of copies move it
  by only ½ %.
* *C_T* (Meehan et al.): in each cell the distances L of samples and held-out points to the nearest training point of
  that cell are compared by z = (U − mn/2 + ½)/√(mn(m+n+1)/12), U the Mann-Whitney statistic; C_T is their mean,
  weighted by the held-out share P_c of each cell that holds more than 20/n of the samples. ≪ 0: nearer to train than
  held-out data. Its variance is ΣP_c²/(ΣP_c)², so that p = Φ(C_T/√variance); the published rule "C_T < −3" is stricter
  than it looks.
* *Authenticity* (Alaa et al.): a sample is authentic if it is farther from its nearest training point i than i is from
  the next one. Bare percentages say nothing: perfect generators score 32 % in one dimension and 80 % in 64. Beside it
  stands the score of held-out data, and Fisher's exact test of the two (``authenticity`` gives the score alone, train's
  own chance included).
* *Repeats*: samples equal to a training point, beside held-out data that are. In coarse data a generator that keeps to
  the common values repeats more of both than fresh data do, so the test counts points, not samples: of the points of
  the pool that samples repeat, the training ones are hypergeometric (equal points in both count as held-out). Samples
  equal or near to each other are a matter of ``evaluation.support``.

C_T and authenticity also fall when a generator merely keeps to the dense regions: they are reported, and the verdict
rests on the distance share and exact repeats alone. The sharper test for few copies is ``memorization``.

References:
    A non-parametric test to detect data-copying in generative models (Meehan, Chaudhuri, Dasgupta, 2020),
    https://arxiv.org/abs/2004.05675. How faithful is your synthetic data? (Alaa, van Breugel, Saveliev, van der Schaar,
    2022), https://arxiv.org/abs/2102.08921. Holdout-based empirical assessment of mixed-type synthetic data (Platzer,
    Reutterer, 2021), https://doi.org/10.3389/fdata.2021.679939, for the distance share.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import ndtr

from divergences import Estimate, InputError
from divergences.checks import ArrayLike, as_count, as_generator, as_number, as_points
from divergences.two_sample import Z95
from evaluation.copy_search import check_swept
from evaluation.intervals import clopper_pearson, hypergeometric_tail
from evaluation.neighbors import Neighbors, nearest, nearest_others
from evaluation.support import SupportSize, support_size
from evaluation.sweep import Sweep
from evaluation.verdict import Verdict

__all__ = ["CopyTests", "DataCopying", "Compared", "copy_tests", "data_copying"]

FEWEST_HELD_OUT = 20
_PERMUTATIONS = 9999
_FEWEST_IN_CELL = 20
_CELLS = 3


@dataclass(frozen=True)
class Compared:
    """A score beside its null.

    Attributes:
        score: of the generated samples; 95 % interval.
        null: of a perfect generator: a number known exactly, or the score of the held-out data with its own interval.
        p_value: of "no nearer to train than held-out data", one-sided.
    """

    score: Estimate
    null: Estimate
    p_value: float


@dataclass(frozen=True)
class DataCopying:
    """C_T and what it is made of.

    Attributes:
        score: C_T; negative where samples are nearer to train than held-out data; 95 % interval.
        null: its mean under equal laws (the ½ in z makes it a little more than 0).
        p_value: P(C_T as low | equal laws).
        z: per cell; nan in cells that were left out.
        weights: held-out share of each cell that was used, else 0.
    """

    score: Estimate
    null: float
    p_value: float
    z: Float64[np.ndarray, " c"]
    weights: Float64[np.ndarray, " c"]


@dataclass(frozen=True)
class CopyTests:
    """Published signs of copying with their nulls; those that need held-out data are None without.

    Attributes:
        verdict: FLAGGED if share or exact repeats are significant at ``alpha`` (half each); INCONCLUSIVE without
            enough held-out data.
        share: of samples nearer to train than to held-out data; null N/(N+M).
        authenticity: share of authentic samples; null that of held-out data.
        data_copying: C_T.
        exact: share of samples equal to a training point; null that of held-out data, p-value from the points repeated.
        repeats: how often generated samples coincide with each other.
        note: what is needed, or what stood out.
    """

    verdict: Verdict
    share: Compared | None
    authenticity: Compared | None
    data_copying: DataCopying | None
    exact: Compared | None
    repeats: SupportSize
    note: str


def copy_tests(
    *,
    generated: ArrayLike,
    train: ArrayLike,
    test: Any = None,
    rng: np.random.Generator,
    alpha: float = 0.01,
    swept: Sweep | None = None,
) -> CopyTests:
    """Look for copies of training data by the published scores.

    Args:
        generated: features of the samples, shape (n, d), n ≥ 2.
        train: features of the training data, shape (N, d), N ≥ 10.
        test: features of held-out data, shape (M, d): drawn like train, never trained on. Without them, or with fewer
            than 20, the verdict is INCONCLUSIVE; part of train does not do, unless the generator never saw it.
        rng: seeds the cells, breaks ties and draws the permutations, in this order.
        alpha: probability with which a perfect generator may be flagged.
        swept: what ``evaluation.sweep`` found for these very sets, with lists of at least 5: saves the searches and
            changes nothing else.

    Raises:
        InputError: NaN, mis-shaped or too few samples, or a sweep of other sets.

    >>> rng = np.random.default_rng(0)
    >>> train, test, fresh = rng.normal(size=(3, 300, 4))
    >>> found = copy_tests(generated=fresh, train=train, test=test, rng=rng)
    >>> str(found.verdict), found.share.null.value
    ('clear', 0.5)
    """
    known = as_points(train, "train=", minimum=10)
    points = as_points(generated, "generated=", dim=known.shape[1], minimum=2)
    held_out = np.empty((0, known.shape[1])) if test is None else as_points(test, "test=", dim=known.shape[1])
    alpha = as_number(alpha, "alpha=", above=0.0, below=1.0)
    rng = as_generator(rng, "rng=")
    check_swept(swept, len(points), len(known), len(held_out))
    if len(held_out) < FEWEST_HELD_OUT:
        note = (
            f"without at least {FEWEST_HELD_OUT} held-out points (test=) nobody can say how close to train a fresh "
            "sample would be: keep some data aside before training"
        )
        return CopyTests(Verdict.INCONCLUSIVE, None, None, None, None, support_size(generated=points), note)
    copying = _copying(points, known, held_out, rng, swept)
    share = _share(points, known, held_out, rng, swept)
    here, apart, own, beside = _lists(points, known, held_out, swept)
    spacing = own.distances[:, 0]
    authenticity = _compared(
        here.distances[:, 0] > spacing[here.indices[:, 0]], apart.distances[:, 0] > spacing[apart.indices[:, 0]]
    )
    exact = _exact(here, apart, beside, (len(known), len(held_out)))
    p_value = min(1.0, 2 * min(share.p_value, exact.p_value))
    repeats = support_size(generated=points, reference=held_out, tolerance=0.0, swept=swept)
    flagged = p_value < alpha
    note = (
        f"{share.score.value:.1%} of the samples are nearer to train than to held-out data, where "
        f"{share.null.value:.1%} are expected; {exact.score.value:.2%} equal a training point"
    )
    return CopyTests(Verdict.FLAGGED if flagged else Verdict.CLEAR, share, authenticity, copying, exact, repeats, note)


def _lists(
    points: np.ndarray, known: np.ndarray, held_out: np.ndarray, swept: Sweep | None
) -> tuple[Neighbors, Neighbors, Neighbors, Neighbors]:
    """Nearest training points of samples, held-out data and train itself; nearest held-out points of samples."""
    if swept is not None and swept.test_train is not None and swept.generated_test is not None:
        return swept.generated_train, swept.test_train, swept.train_train, swept.generated_test
    return (
        nearest(points, known, 1),
        nearest(held_out, known, 1),
        nearest_others(known, 1),
        nearest(points, held_out, 1),
    )


def _copying(
    points: np.ndarray, known: np.ndarray, held_out: np.ndarray, rng: np.random.Generator, swept: Sweep | None
) -> DataCopying:
    try:
        return data_copying(generated=points, train=known, test=held_out, cells=_CELLS, rng=rng, swept=swept)
    except InputError:
        # No cell holds enough of all three: everything is one cell.
        return data_copying(generated=points, train=known, test=held_out, cells=1, rng=rng, swept=swept)


def data_copying(
    *,
    generated: ArrayLike,
    train: ArrayLike,
    test: ArrayLike,
    cells: Any = _CELLS,
    rng: np.random.Generator,
    swept: Sweep | None = None,
) -> DataCopying:
    """The three-sample test C_T of Meehan et al.

    Args:
        generated: features of the samples, shape (n, d).
        train: features of the training data, shape (N, d).
        test: features of held-out data, shape (M, d).
        cells: how many cells k-means makes of train, or a function (points (n, d)) -> whole numbers (n,) that names the
            cell of each point. Published: 3 for ImageNet features, 50 for MNIST.
        rng: seeds k-means.
        swept: a sweep of these very sets, if there is one already: its distances are used where they are those within
            a cell.

    Returns:
        C_T with its p-value; cells with at most 20/n of the samples, or without held-out or training points, are left
        out.

    Raises:
        InputError: NaN, mis-shaped samples, or no cell that could be used.
    """
    known = as_points(train, "train=")
    points = as_points(generated, "generated=", dim=known.shape[1])
    held_out = as_points(test, "test=", dim=known.shape[1])
    homes = _cells(cells, (points, known, held_out), as_generator(rng, "rng="))
    count = int(max(home.max() for home in homes)) + 1
    lists = (None, None) if swept is None else (swept.generated_train, swept.test_train)
    z, weights, nulls = np.full(count, np.nan), np.zeros(count), np.zeros(count)
    for c in range(count):
        mine, trained, kept = (np.flatnonzero(home == c) for home in homes)
        if len(mine) <= _FEWEST_IN_CELL and count > 1 or min(len(mine), len(trained), len(kept)) == 0:
            continue
        first = _within(points, mine, known, trained, lists[0])
        second = _within(held_out, kept, known, trained, lists[1])
        z[c], nulls[c] = _mann_whitney(first, second)
        weights[c] = len(kept) / len(held_out)
    if weights.sum() == 0:
        raise InputError(
            f"no cell holds more than {_FEWEST_IN_CELL} generated samples beside training and held-out points. "
            "Use fewer cells= or more samples."
        )
    used = weights / weights.sum()
    score, spread = float(used @ np.nan_to_num(z)), math.sqrt(float(used @ used))
    estimate = Estimate(
        score, Z95 * spread, level=0.95, method="weighted Mann-Whitney z; spread under equal laws", n=len(points)
    )
    return DataCopying(estimate, float(used @ nulls), float(ndtr(score / spread)), z, weights)


def _within(
    points: np.ndarray, rows: np.ndarray, known: np.ndarray, cell: np.ndarray, lists: Neighbors | None
) -> Float64[np.ndarray, " k"]:
    """Distance of each row of ``points`` to the nearest of a cell of ``known``, from lists as far as they tell."""
    distances = np.full(len(rows), np.nan)
    if lists is not None:
        inside = np.zeros(len(known), dtype=bool)
        inside[cell] = True
        listed = inside[lists.indices[rows]]
        # The first on the list that lies in the cell: nothing nearer does.
        told = listed.any(axis=1)
        distances[told] = lists.distances[rows[told], listed[told].argmax(axis=1)]
    rest = np.isnan(distances)
    if rest.any():
        distances[rest] = nearest(points[rows[rest]], known[cell], 1).distances[:, 0]
    return distances


def _mann_whitney(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """The z of "first is smaller", and its mean under equal laws."""
    from scipy.stats import rankdata

    n, m = len(first), len(second)
    u = float(rankdata(np.concatenate([first, second]))[:n].sum()) - n * (n + 1) / 2
    scale = math.sqrt(n * m * (n + m + 1) / 12)
    return (u - n * m / 2 + 0.5) / scale, 0.5 / scale


def _cells(
    cells: Any, sets: tuple[np.ndarray, np.ndarray, np.ndarray], rng: np.random.Generator
) -> list[Int64[np.ndarray, " n"]]:
    if callable(cells):
        return [_named(cells, points) for points in sets]
    from evaluation.unknown_modes import k_means

    count = as_count(cells, "cells=")
    if count > len(sets[1]):
        raise InputError(f"cells= is {count}, more than the {len(sets[1])} points of train=.")
    centers = k_means(sets[1], count, rng)
    return [nearest(points, centers, 1).indices[:, 0].astype(np.int64) for points in sets]


def _named(cells: Callable[[np.ndarray], Any], points: np.ndarray) -> Int64[np.ndarray, " n"]:
    names = np.asarray(cells(points))
    if names.shape != (len(points),) or names.dtype.kind not in "biu" or names.min() < 0:
        raise InputError("cells= must name the cell of each point by a whole number ≥ 0.")
    return names.astype(np.int64)


def _share(
    points: np.ndarray, train: np.ndarray, test: np.ndarray, rng: np.random.Generator, swept: Sweep | None
) -> Compared:
    # Equally near points are told apart by their place in the list: shuffled, or ties would favour train.
    order = rng.permutation(len(train) + len(test))
    owners = _owners(points, np.concatenate([train, test]), order, len(train), swept)
    mine = int((owners < len(train)).sum())
    # Which points of the pool are called train is a draw without replacement; points differ by their visits alone.
    kinds, sizes = np.unique(np.bincount(owners, minlength=len(order)), return_counts=True)
    drawn = rng.multivariate_hypergeometric(sizes, len(train), size=_PERMUTATIONS, method="marginals") @ kinds
    p_value = (1 + int((drawn >= mine).sum())) / (1 + _PERMUTATIONS)
    null = Estimate(len(train) / len(order), 0.0, method="exact: N/(N+M)", n=len(order))
    return Compared(clopper_pearson(mine, len(points)), null, p_value)


def _owners(
    points: np.ndarray, pool: np.ndarray, order: np.ndarray, n_train: int, swept: Sweep | None
) -> Int64[np.ndarray, " n"]:
    """Row of the pool nearest to each sample; of equally near ones the first in ``order``."""
    if swept is None or swept.generated_test is None:
        return np.asarray(order[nearest(points, pool[order], 1).indices[:, 0]])
    here, apart = swept.generated_train, swept.generated_test
    distances = np.concatenate([here.distances, apart.distances], axis=1)
    place = np.argsort(order)[np.concatenate([here.indices, n_train + apart.indices], axis=1)]
    least = distances.min(axis=1, keepdims=True)
    owners = order[np.where(distances == least, place, len(order)).min(axis=1)]
    # A list that ends with a tie may go on beyond its end.
    tied = np.zeros(len(points), dtype=bool)
    for lists, size in ((here, n_train), (apart, len(pool) - n_train)):
        if lists.distances.shape[1] < size:
            tied |= lists.distances[:, -1] == least[:, 0]
    if tied.any():
        owners[tied] = order[nearest(points[tied], pool[order], 1).indices[:, 0]]
    return np.asarray(owners)


def _compared(good: np.ndarray, null: np.ndarray) -> Compared:
    """Shares of samples without a fault; Fisher's exact p-value of more faults among the generated."""
    n, m = len(good), len(null)
    faults, others = int((~good).sum()), int((~null).sum())
    p_value = hypergeometric_tail(faults, faults + others, n, m)
    return Compared(clopper_pearson(n - faults, n), clopper_pearson(m - others, m), p_value)


def _exact(here: Neighbors, apart: Neighbors, beside: Neighbors, sizes: tuple[int, int]) -> Compared:
    """Repeats of training points by samples (``here``) and held-out data (``apart``), of held-out data by samples."""
    mine, others = here.distances[:, 0] == 0, beside.distances[:, 0] == 0
    fresh = np.unique(here.indices[mine & ~others, 0]).size
    p_value = hypergeometric_tail(fresh, fresh + np.unique(beside.indices[others, 0]).size, *sizes)
    faults, m = int((apart.distances[:, 0] == 0).sum()), len(apart.distances)
    return Compared(clopper_pearson(int(mine.sum()), len(mine)), clopper_pearson(faults, m), p_value)
