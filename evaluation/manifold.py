r"""Precision, recall, density, coverage: is what is generated like the data, and is all of the data generated?

The support of each law is taken to be the union of balls around its samples, as far as the k-th nearest other one:

    precision = share of generated points in some ball of the reference,
    recall    = share of reference points in some ball of the generated,
    density   = 1/(k m) · Σ_j #{reference balls that hold generated point j},
    coverage  = share of reference balls that hold some generated point.

``prdc`` takes k = 5 and open balls; ``improved_precision_recall`` k = 3 and closed ones, as the papers' programs do.

**None of them is 1 for a perfect generator**, and how far below depends on the dimension: precision .996 in the plane
and .65 in 128 dimensions, for n = 1000. Every score therefore comes with its null, the expectation for a generator
whose law *is* that of the data, at these sizes. Of n reference and m generated points of one law without ties,

    E density = 1,   E coverage = 1 − Π_{i=1..k} (n−i)/(n+m−i),

exactly, whatever the law and the dimension: the place of a generated point among the distances from a reference point
is uniform. Precision depends on the law. With held-out data it is theirs; else each reference point is left out in
turn: it lies in a ball of the others if and only if it is among the k nearest of one of them, a look at the lists.

References:
    Reliable fidelity and diversity metrics for generative models (Naeem, Oh, Uh, Choi, Yoo, 2020),
    https://arxiv.org/abs/2002.09797. Improved precision and recall metric for assessing generative models
    (Kynkäänniemi, Karras, Laine, Lehtinen, Aila, 2019), https://arxiv.org/abs/1904.06991.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from divergences import Estimate, InputError
from divergences.checks import ArrayLike, as_count
from evaluation.neighbors import Neighbors
from evaluation.resplit import Spread, mean_estimate, share_estimate, spread
from evaluation.sweep import Counts, Rule, Sweep, sweep
from evaluation.tiles import Cloud, as_cloud

__all__ = ["PRDC", "PrecisionRecall", "coverage_null", "improved_precision_recall", "prdc", "squared_distances"]

_EXACT = "exact for one law without ties"


@dataclass(frozen=True)
class PrecisionRecall:
    """Improved precision and recall.

    Attributes:
        precision: share of generated points in some ball of the reference.
        recall: share of reference points in some ball of the generated.
        null: what a perfect generator would score at these sizes.
    """

    precision: Estimate
    recall: Estimate
    null: PrecisionRecall | None = None


@dataclass(frozen=True)
class PRDC:
    """Precision, recall, density, coverage; each with a 95 % interval for its expectation at these sample sizes.

    Attributes:
        precision: share of generated points in some ball of the reference.
        recall: share of reference points in some ball of the generated.
        density: reference balls per generated point, in units of k; may exceed 1.
        coverage: share of reference balls that hold a generated point.
        null: what a perfect generator would score at these sizes.
    """

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate
    null: PRDC | None = None


def prdc(
    *,
    generated: ArrayLike,
    reference: ArrayLike,
    test: Any = None,
    k: int = 5,
    device: str = "auto",
    swept: Sweep | None = None,
) -> PRDC:
    """Precision, recall, density and coverage, each with its error and its null.

    Args:
        generated: features of the samples, shape (m, d), m ≥ k + 2; may be mapped from disk.
        reference: features of real data, shape (n, d), n ≥ k + 2.
        test: held-out real data, shape (t, d), t ≥ k + 2: the null of precision (and of recall, if t ≥ m) is then
            their score. Without them, train points left out in turn.
        k: the ball of a point reaches as far as its k-th nearest other; open.
        device: see ``sweep``.
        swept: a sweep of these very sets, with lists of at least k + 1 and with ``Rule(k)``, if there is one already.

    Returns:
        Equal points are no neighbours of one another here (d < r fails for d = r = 0): of sets in which every point
        comes k + 1 times, all four are 0. A note says where that matters.

    Raises:
        InputError: NaN, mismatched dimensions, or sets of fewer than k + 2 points.

    >>> scores = prdc(generated=[0.5, 1.5, 2.5, 9.0], reference=[0.0, 1.0, 2.0, 3.0], k=1)
    >>> scores.precision.value, scores.recall.value, scores.density.value, scores.coverage.value
    (0.75, 1.0, 1.5, 1.0)
    >>> scores.null.density.value, round(scores.null.coverage.value, 4)
    (1.0, 0.5714)
    """
    rule = Rule(as_count(k, "k"))
    real, fake, held_out = _clouds(generated, reference, test, rule.k)
    found = swept or sweep(
        generated=fake.raw,
        train=real.raw,
        test=None if held_out is None else held_out.raw,
        k=rule.k + 1,
        rules=[rule],
        device=device,
    )
    counts, note = _counts(found, rule), _note(found, rule)
    seen = spread(_Score(rule), fake, real, k=rule.k)
    n, m = len(real), len(fake)
    covered = int((found.train_generated.distances[:, 0] < found.radii(rule)).sum())
    held = counts.generated_in_train
    precision, recall = _precision_recall(counts, seen, note)
    density = mean_estimate(
        float(held.mean()) / rule.k, m, seen, 2, unit=float(held.var(ddof=1)) / rule.k**2, note=note
    )
    null = PRDC(
        *_null(found, rule, (real, fake, held_out), seen),
        density=Estimate(1.0, 0.0, method=_EXACT, note=note),
        coverage=Estimate(coverage_null(n, m, rule.k), 0.0, method=_EXACT, note=note),
    )
    return PRDC(precision, recall, density, share_estimate(covered, n, seen, 3, iid=False, note=note), null)


def improved_precision_recall(
    *,
    generated: ArrayLike,
    reference: ArrayLike,
    test: Any = None,
    k: int = 3,
    device: str = "auto",
    swept: Sweep | None = None,
) -> PrecisionRecall:
    """Precision and recall as Kynkäänniemi et al. compute them: k = 3 and closed balls.

    Args:
        generated: features of the samples, shape (m, d), m ≥ k + 2.
        reference: features of real data, shape (n, d), n ≥ k + 2.
        test: held-out real data, as for ``prdc``.
        k: the ball of a point reaches as far as its k-th nearest other, rim included.
        device: see ``sweep``.
        swept: a sweep with lists of at least k + 1 and with ``Rule(k, closed=True)``.

    Raises:
        InputError: as for ``prdc``.
    """
    rule = Rule(as_count(k, "k"), closed=True)
    real, fake, held_out = _clouds(generated, reference, test, rule.k)
    found = swept or sweep(
        generated=fake.raw,
        train=real.raw,
        test=None if held_out is None else held_out.raw,
        k=rule.k + 1,
        rules=[rule],
        device=device,
    )
    seen = spread(_Score(rule), fake, real, k=rule.k)
    precision, recall = _precision_recall(_counts(found, rule), seen, "")
    return PrecisionRecall(precision, recall, PrecisionRecall(*_null(found, rule, (real, fake, held_out), seen)))


def coverage_null(n: int, m: int, k: int) -> float:
    """Expected coverage of n reference points by m generated ones of the same law: exact, whatever the law.

    >>> round(coverage_null(500, 500, 5), 5)
    0.96922
    """
    i = np.arange(1, k + 1)
    return float(1 - np.prod((n - i) / (n + m - i)))


def squared_distances(x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"]) -> Float64[np.ndarray, "n m"]:
    """Of small sets, for the errors: what rounding leaves of the distance of equal points is removed."""
    from scipy.spatial.distance import cdist

    if x.shape[1] <= 16:
        return cdist(x, y, "sqeuclidean")
    center = y.mean(axis=0)
    x, y = x - center, y - center
    lengths, widths = np.einsum("nd,nd->n", x, x), np.einsum("md,md->m", y, y)
    table = lengths[:, None] + widths - 2 * (x @ y.T)
    table[table < 1e-13 * (lengths[:, None] + widths)] = 0.0
    return table


class _Score:
    """Precision, recall, density, coverage, and precision of points left out: of small sets, for their spread."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def __call__(
        self, generated: Float64[np.ndarray, "m d"], reference: Float64[np.ndarray, "n d"]
    ) -> tuple[Float64[np.ndarray, " s"], Float64[np.ndarray, " s"]]:
        k = self.rule.k
        within = squared_distances(reference, reference)
        np.fill_diagonal(within, np.inf)
        order = np.argpartition(within, k, axis=1)[:, : k + 1]
        near = np.sort(np.take_along_axis(within, order, axis=1), axis=1)
        own = squared_distances(generated, generated)
        np.fill_diagonal(own, np.inf)
        other_radii = np.partition(own, k - 1, axis=1)[:, k - 1]
        across = squared_distances(generated, reference)
        compare = np.less_equal if self.rule.closed else np.less
        inside = compare(across, near[:, k - 1])
        held = inside.sum(axis=1)
        left_out = np.zeros(len(reference), dtype=bool)
        left_out[order[np.take_along_axis(within, order, axis=1) < near[:, k, None]]] = True
        shares = np.array(
            [
                (held > 0).mean(),
                compare(across, other_radii[:, None]).any(axis=0).mean(),
                inside.any(axis=0).mean(),
                left_out.mean(),
            ]
        )
        values = np.insert(shares, 2, held.mean() / k)
        units = np.insert(shares * (1 - shares), 2, held.var(ddof=1) / k**2)
        return values, units


def _clouds(generated: Any, reference: Any, test: Any, k: int) -> tuple[Cloud, Cloud, Cloud | None]:
    real = as_cloud(reference, "reference=")
    fake = as_cloud(generated, "generated=", dim=real.dim)
    held_out = None if test is None else as_cloud(test, "test=", dim=real.dim)
    for cloud in (real, fake, held_out):
        if cloud is not None and len(cloud) < k + 2:
            raise InputError(
                f"{cloud.name} needs at least k + 2 = {k + 2} points; it has {len(cloud)}. Bring more or lower k."
            )
    return real, fake, held_out


def _counts(found: Sweep, rule: Rule) -> Counts:
    if rule not in found.counts or found.train_train.distances.shape[1] < rule.k + 1:
        raise InputError(f"swept= needs lists of at least {rule.k + 1} and {rule}; make it with sweep(k=, rules=).")
    return found.counts[rule]


def _note(found: Sweep, rule: Rule) -> str:
    empty = [int((found.radii(rule, which) == 0).sum()) for which in ("train", "generated")]
    if not any(empty):
        return ""
    return (
        f"{empty[0]} reference and {empty[1]} generated points have {rule.k} exact twins: their balls have radius 0 "
        "and hold nothing"
    )


def _precision_recall(counts: Counts, seen: Spread, note: str) -> tuple[Estimate, Estimate]:
    inside, reached = counts.generated_in_train > 0, counts.train_in_generated > 0
    return (
        share_estimate(int(inside.sum()), len(inside), seen, 0, iid=True, note=note),
        share_estimate(int(reached.sum()), len(reached), seen, 1, iid=True, note=note),
    )


def _null(
    found: Sweep, rule: Rule, clouds: tuple[Cloud, Cloud, Cloud | None], seen: Spread
) -> tuple[Estimate, Estimate]:
    """Precision and recall of a perfect generator."""
    real, fake, held_out = clouds
    counts = _counts(found, rule)
    note = "reference points left out in turn"
    if held_out is None or counts.test_in_train is None or counts.train_in_test is None:
        alone = left_out(found.train_train, rule)
        precision = share_estimate(int(alone.sum()), len(alone), seen, 4, iid=False, note=note)
    else:
        inside = counts.test_in_train > 0
        again = spread(_Score(rule), held_out, real, k=rule.k)
        precision = share_estimate(int(inside.sum()), len(inside), again, 0, iid=True, note="score of test=")
        if len(held_out) == len(fake):
            reached = counts.train_in_test > 0
            return precision, share_estimate(
                int(reached.sum()), len(reached), again, 1, iid=True, note="score of test="
            )
    # Recall asks for as many balls as there are generated points.
    if len(fake) + 1 < len(real):
        some = real.raw[np.linspace(0, len(real) - 1, len(fake) + 1).astype(np.int64)]
        alone = left_out(sweep(generated=some, train=some, k=rule.k + 1, rules=()).train_train, rule)
    else:
        alone = left_out(found.train_train, rule)
        if len(fake) > len(real):
            note += f"; with {len(real) - 1} balls instead of {len(fake)}: a lower bound"
    return precision, share_estimate(int(alone.sum()), len(alone), seen, 4, iid=False, note=note)


def left_out(lists: Neighbors, rule: Rule) -> Bool[np.ndarray, " n"]:
    """For each point, whether it lies in a ball of the other points, whose radii do not know it.

    Without it, the ball of a point that has it among its k nearest reaches as far as the (k+1)-th; no other ball can
    hold it.
    """
    k = rule.k
    inside = np.zeros(len(lists.distances), dtype=bool)
    near, index = lists.distances[:, :k], lists.indices[:, :k]
    if not rule.closed:
        inside[index[near < lists.distances[:, k, None]]] = True
        return inside
    inside[index] = True
    # Equally near points that the lists had no room for: whoever is on one's own list may reach back.
    inside |= (near <= lists.distances[index, k - 1]).any(axis=1)
    return inside
