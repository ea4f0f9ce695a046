r"""Can the generated samples be told from real ones? Two tests that answer with an exact p-value.

**Classifier.** If both samples come from one law, nothing tells them apart. A least-squares classifier, fitted to
labels ±1 on all folds but one, scores the samples of that fold; ``auc`` is the chance that a generated sample scores
higher than a real one (½ when equal). Its features are the coordinates, standardized by the pool, and random cosines
cos(ω·x + b), ω Gaussian in units of the pool's median distance, which make it a kernel classifier. The fit is linear in
the labels, y ↦ H y with H from the pooled points alone; so every relabelling is *refitted and cross-fitted* at the
price of one matrix product, and the p-value is exact although training and testing samples change places.

**A classifier of your own** is trained on half of the samples, once, and only the labels of the other half are permuted
against its scores: exact as well, whatever it does, and weaker, since half of the samples never test.

**Nearest neighbour.** Leave-one-out: the share of pooled points whose nearest other point has their own label (½ when
equal and n = m; above: told apart; far below: copies of each other). The neighbours do not depend on the labels, which
are permuted over them. Among equally near points the neighbour is chosen at random (by ``rng``), the same for all
relabellings.

The p-values are (1 + #{relabelled ≥ seen})/(1 + B); the test of both at once doubles the smaller.

References:
    Revisiting classifier two-sample tests (Lopez-Paz, Oquab, 2017), https://arxiv.org/abs/1610.06545. A multivariate
    two-sample test based on the number of nearest neighbor type coincidences (Henze, 1988),
    https://doi.org/10.1214/aos/1176350835. Random features for large-scale kernel machines (Rahimi, Recht, 2007),
    https://papers.nips.cc/paper/3182-random-features-for-large-scale-kernel-machines. Comparing the areas under two or
    more correlated ROC curves (DeLong, DeLong, Clarke-Pearson, 1988), https://doi.org/10.2307/2531595.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from divergences.checks import ArrayLike, as_array, as_count, as_generator, as_points
from divergences.errors import InputError
from divergences.kernels import median_bandwidth
from divergences.two_sample import Z95, Null, TwoSampleEstimate, relabellings
from evaluation.neighbors import Neighbors, nearest_others
from evaluation.sweep import Sweep

__all__ = ["TwoSample", "two_sample"]

_MINIMUM = 10
_FOLDS = 5
_COSINES = 200
_RIDGE = 1.0


@dataclass(frozen=True, eq=False)
class TwoSample:
    """What both tests say.

    Attributes:
        classifier: chance that a generated sample scores higher than a real one (AUC), with its 95 % interval and null.
        neighbors: share of points whose nearest other point has their own label, with the same.
        scores: of the generated samples, shape (n,), the most recognisable highest; NaN for those that trained a
            classifier of your own, and for those that were not looked at.
        neighbors_generated: the neighbours' share among the generated points alone. Below ½: near real ones.
        neighbors_test: among the held-out points alone. Above ½: regions without generated samples.
    """

    classifier: TwoSampleEstimate
    neighbors: TwoSampleEstimate
    scores: Float64[np.ndarray, " n"]
    neighbors_generated: float
    neighbors_test: float

    @property
    def p_value(self) -> float:
        """Of both tests together: twice the smaller p-value, at most 1."""
        nulls = self.classifier.null, self.neighbors.null
        return min(1.0, 2 * min(null.p_value for null in nulls if null is not None))


def two_sample(
    *,
    generated: ArrayLike,
    test: ArrayLike,
    rng: Any,
    classifier: Any = None,
    permutations: int = 199,
    most: int | None = None,
    swept: Sweep | None = None,
) -> TwoSample:
    """Test whether generated and held-out samples are of one law.

    Use held-out data, not the training data: a generator that copies those passes.

    Args:
        generated: features (n, d), n ≥ 10.
        test: features (m, d) of real samples the generator was not trained on, m ≥ 10.
        rng: draws folds, random features, ties and relabellings.
        classifier: None for the least-squares one, or any object with ``fit(x, y)`` and ``predict_proba`` or
            ``decision_function``, as scikit-learn has them.
        permutations: B; the smallest possible p-value is 1/(1 + B).
        most: samples of each set that the classifier looks at, drawn by ``rng``; None for all. The nearest neighbours
            are always those of all.
        swept: a sweep of these very sets, if there is one already; the result is the same.

    Raises:
        InputError: unusable samples, different dimensions, or a classifier without these methods.

    >>> draw = np.random.default_rng(0)
    >>> x, y = draw.normal(size=(2, 200, 3))
    >>> found = two_sample(generated=2 * y, test=x, rng=draw)
    >>> found.classifier.null.p_value, found.p_value
    (0.005, 0.01)
    """
    y = as_points(generated, "generated=", minimum=_MINIMUM)
    x = as_points(test, "test=", minimum=_MINIMUM)
    if y.shape[1] != x.shape[1]:
        raise InputError(f"generated= has {y.shape[1]} features and test= has {x.shape[1]}; they must agree.")
    draw, count = as_generator(rng, "rng="), as_count(permutations, "permutations=")
    some, rest = (_drawn(points, most, draw) for points in (y, x))
    if classifier is None:
        told, seen = _least_squares(y[some], x[rest], draw, count)
    else:
        told, seen = _held_out(y[some], x[rest], classifier, draw, count)
    scores = np.full(len(y), np.nan)
    scores[some] = seen
    share, own, other = _neighbors(y, x, draw, count, swept)
    return TwoSample(told, share, scores, own, other)


def _drawn(points: np.ndarray, most: int | None, rng: np.random.Generator) -> Int64[np.ndarray, " k"]:
    """The rows that the classifier looks at, in order."""
    if most is None or len(points) <= as_count(most, "most=", minimum=_MINIMUM):
        return np.arange(len(points))
    return np.sort(rng.permutation(len(points))[:most])


def _least_squares(
    y: np.ndarray, x: np.ndarray, rng: np.random.Generator, count: int
) -> tuple[TwoSampleEstimate, np.ndarray]:
    n, m = len(y), len(x)
    pool = _cosine_features(np.concatenate([y, x]), y, x, rng)
    labels = np.hstack([np.concatenate([np.ones(n), np.zeros(m)])[:, None], relabellings(n, m, rng, count)])
    # Folds are drawn without a look at the labels: only so are relabellings as likely as the labels seen.
    fold = rng.permutation(np.arange(n + m) % _FOLDS)
    scores = np.empty_like(labels)
    for part in range(_FOLDS):
        out = fold == part
        inside = pool[~out]
        centered = labels[~out] - labels[~out].mean(axis=0)
        # A fixed share of the mean eigenvalue: no look at the labels here either.
        ridge = _RIDGE * float(np.vdot(inside, inside)) / inside.shape[1]
        # (XᵀX + r)⁻¹Xᵀ = Xᵀ(XXᵀ + r)⁻¹: whichever matrix is smaller.
        if len(inside) < inside.shape[1]:
            weights = inside.T @ np.linalg.solve(inside @ inside.T + ridge * np.eye(len(inside)), centered)
        else:
            weights = np.linalg.solve(inside.T @ inside + ridge * np.eye(inside.shape[1]), inside.T @ centered)
        scores[out] = pool[out] @ weights
    # Scores are compared within a fold: each fold's classifier has a scale of its own.
    aucs, above, below = _auc(scores, labels > 0, fold)
    null = Null(float(aucs[0]), aucs[1:])
    how = f"least-squares classifier on coordinates and {_COSINES} random cosines, {_FOLDS} folds; AUC"
    return _auc_estimate(above, below, null, how), scores[:n, 0].copy()


def _cosine_features(pool: np.ndarray, y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    scale = pool.std(axis=0)
    plain = (pool - pool.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    try:
        width = median_bandwidth(plain[: len(y)], plain[len(y) :])
    except InputError:
        width = 1.0
    waves = np.cos(
        plain @ (rng.standard_normal((pool.shape[1], _COSINES)) / width) + rng.uniform(0, 2 * np.pi, _COSINES)
    )
    waves -= waves.mean(axis=0)
    return np.hstack([plain / math.sqrt(pool.shape[1]), waves * math.sqrt(2 / _COSINES)])


def _held_out(
    y: np.ndarray, x: np.ndarray, classifier: Any, rng: np.random.Generator, count: int
) -> tuple[TwoSampleEstimate, np.ndarray]:
    score = getattr(classifier, "predict_proba", None) or getattr(classifier, "decision_function", None)
    if not callable(getattr(classifier, "fit", None)) or not callable(score):
        raise InputError("classifier= needs fit(x, y) and predict_proba(x) or decision_function(x).")
    mine, theirs = rng.permutation(len(y)), rng.permutation(len(x))
    train, kept = (mine[: len(y) // 2], theirs[: len(x) // 2]), (mine[len(y) // 2 :], theirs[len(x) // 2 :])
    classifier.fit(
        np.concatenate([y[train[0]], x[train[1]]]),
        np.concatenate([np.ones(len(train[0]), dtype=int), np.zeros(len(train[1]), dtype=int)]),
    )
    raw = as_array(score(np.concatenate([y[kept[0]], x[kept[1]]])), "the scores of classifier=")
    told = raw[:, -1] if raw.ndim == 2 else raw
    n, m = len(kept[0]), len(kept[1])
    if told.shape != (n + m,) or not np.isfinite(told).all():
        raise InputError(f"classifier= must give one finite score per sample; for {n + m} it gave shape {raw.shape}.")
    seen = (np.arange(n + m) < n)[:, None]
    labels = np.hstack([seen, relabellings(n, m, rng, count) > 0])
    aucs, above, below = _auc(np.broadcast_to(told[:, None], labels.shape).copy(), labels, np.zeros(n + m, dtype=int))
    scores = np.full(len(y), np.nan)
    scores[kept[0]] = told[:n]
    how = f"{type(classifier).__name__}, trained on half; AUC on the other half"
    return _auc_estimate(above, below, Null(float(aucs[0]), aucs[1:]), how), scores


def _auc(
    scores: Float64[np.ndarray, "pool b"], positive: np.ndarray, fold: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chance that a positive scores higher than a negative of its fold, ties half: one AUC per column.

    For the first column also each positive's own chance, and each negative's.
    """
    from scipy.stats import rankdata

    wins, pairs = np.zeros(scores.shape[1]), np.zeros(scores.shape[1])
    above, below = [], []
    for part in np.unique(fold):
        here = fold == part
        inside, mask = scores[here], positive[here]
        n = mask.sum(axis=0)
        m = len(mask) - n
        ranks = rankdata(inside, axis=0)
        wins += (ranks * mask).sum(axis=0) - n * (n + 1) / 2
        pairs += n * m
        first = mask[:, 0]
        if n[0] and m[0]:
            above.append((ranks[first, 0] - rankdata(inside[first, 0])) / m[0])
            below.append(1 - (ranks[~first, 0] - rankdata(inside[~first, 0])) / n[0])
    return wins / np.maximum(pairs, 1), np.concatenate(above), np.concatenate(below)


def _auc_estimate(above: np.ndarray, below: np.ndarray, null: Null, how: str) -> TwoSampleEstimate:
    """DeLong's error, from each sample's own chance to be ranked right, or the spread of the null where that is more.

    DeLong's takes the classifier as given; near ½, where every fold learns something else, the null knows better.
    """
    delong = math.sqrt(above.var(ddof=1) / len(above) + below.var(ddof=1) / len(below))
    error = Z95 * max(delong, float(null.scores.std()))
    n = min(len(above), len(below))
    return TwoSampleEstimate(null.statistic, error, level=0.95, method=how, n=n, null=null)


def _neighbors(
    y: np.ndarray, x: np.ndarray, rng: np.random.Generator, count: int, swept: Sweep | None
) -> tuple[TwoSampleEstimate, float, float]:
    n, m = len(y), len(x)
    pool = np.concatenate([y, x])
    # Of equally near points the first is taken: in a random order that is a fair draw, blind to the labels.
    order = rng.permutation(n + m)
    known = None if swept is None else _listed(swept, order)
    nearest = np.empty(n + m, dtype=np.int64)
    if known is None:
        nearest[order] = order[nearest_others(pool[order], 1).indices[:, 0]]
    else:
        nearest = known
    seen = np.arange(n + m) < n
    same = seen == seen[nearest]
    relabelled = relabellings(n, m, rng, count) > 0
    null = Null(float(same.mean()), (relabelled == relabelled[nearest]).mean(axis=0))
    error = Z95 * math.sqrt(_share_variance(same, nearest))
    how = "leave-one-out nearest neighbour; share of own label"
    share = TwoSampleEstimate(null.statistic, error, level=0.95, method=how, n=min(n, m), null=null)
    return share, float(same[:n].mean()), float(same[n:].mean())


def _listed(swept: Sweep, order: np.ndarray) -> Int64[np.ndarray, " pool"] | None:
    """Nearest other point of each pooled one by the lists of a sweep, ties by ``order``; None if they do not tell."""
    if swept.test_test is None or swept.generated_test is None or swept.test_generated is None:
        return None
    place = np.argsort(order)
    n = len(swept.generated_generated.indices)
    halves = [
        _first_of(swept.generated_generated, swept.generated_test, n, place),
        _first_of(swept.test_generated, swept.test_test, n, place),
    ]
    return (
        None if any(half is None for half in halves) else np.concatenate([half for half in halves if half is not None])
    )


def _first_of(mine: Neighbors, theirs: Neighbors, n: int, place: np.ndarray) -> Int64[np.ndarray, " n"] | None:
    """Of the equally near points on both lists the one that comes first by ``place``; None where a list may be cut."""
    least = np.minimum(mine.distances[:, 0], theirs.distances[:, 0])[:, None]
    best = np.full(len(least), len(place))
    for lists, start in ((mine, 0), (theirs, n)):
        tied = lists.distances == least
        if tied[:, -1].any():
            return None
        best = np.minimum(best, np.where(tied, place[start + lists.indices], len(place)).min(axis=1))
    return np.argsort(place)[best]


def _share_variance(same: np.ndarray, nearest: np.ndarray) -> float:
    """Of the share, with the covariance of points that share a neighbour or are each other's."""
    total = len(same)
    rest = same - same.mean()
    # Two points hang together if {i, nn(i)} and {j, nn(j)} meet; each meeting point is counted once.
    at = rest + np.bincount(nearest, weights=rest, minlength=total)
    mutual = nearest[nearest] == np.arange(total)
    doubled = float(rest @ rest) + float(rest[mutual] @ rest[nearest[mutual]])
    # Never below that of independent points: near 0 or 1 the covariances are noise.
    return max(float(at @ at) - doubled, float(rest @ rest), 1.0) / total**2
