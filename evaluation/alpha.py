r"""α-precision, β-recall and authenticity: typical, diverse, and new.

Let c be the mean of the reference and R_α the α-quantile of its distances from c. α-precision is the share of generated
points within R_α of c, as a function of α ∈ [0, 1]; a generator that is right has α for it, whatever the law.
β-recall is the share of reference points whose nearest generated point is at most as far as the nearest other reference
point and lies within the β-quantile of such points' distances from the generated mean. Each curve is summed up by

    1 − 2 ∫ |curve(α) − α| dα,

over 30 steps, as the authors' program does (others divide by Σα: a different number).

**Authenticity** is the share of generated points g that are farther from their nearest train point t than t is from its
own nearest other train point. The row to compare with is that of t. The published program looks it up by the number of
a *generated* point instead; so do programs copied from it. A share by itself means nothing: a perfect generator has
32 % on the line and 80 % in 64 dimensions; the null is a look at train alone, with each point left out in turn.

Reference:
    How faithful is your synthetic data? Sample-level metrics for evaluating and auditing generative models (Alaa, van
    Breugel, Saveliev, van der Schaar, 2022), https://arxiv.org/abs/2102.08921.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from divergences import Estimate, InputError
from divergences.checks import ArrayLike
from evaluation.manifold import squared_distances
from evaluation.neighbors import Neighbors
from evaluation.resplit import mean_estimate, share_estimate, spread
from evaluation.sweep import Sweep, sweep
from evaluation.tiles import Cloud, as_cloud

__all__ = ["AlphaPrecision", "Authenticity", "alpha_precision", "authenticity"]

_STEPS = 30
# Two held-out points or parts of three points tell nothing.
_FEWEST = 8
# The distance of a whole curve from the diagonal hangs on a few of its modes, and so does the variance among parts: the
# quantile of Student's t with 3 degrees of freedom in place of that with 24. In simulations (2 and 16 dimensions, 100
# to 400 samples, ten differences of the laws) 93 to 99 % were covered, by intervals 1.3 to 2.4 times as long as needed;
# with the quantile of 24 it was down to 83 %.
_CURVE_WIDER = 3.182 / 2.064
# Of each reference point: the nearest other ones, and the nearest of those that are judged.
_Lists = tuple[Neighbors, Neighbors]


@dataclass(frozen=True)
class AlphaPrecision:
    """α-precision and β-recall.

    Attributes:
        precision: 1 − 2∫|α-precision − α|: 1 if the samples are as typical as the data; with 95 % interval.
        recall: 1 − 2∫|β-recall − β|.
        alphas: shape (30,), from 0 to 1.
        precision_curve: share of samples within the α-quantile of the reference's distances from its mean.
        recall_curve: share of reference points that have a close and typical sample.
        null: the same for held-out data, or for two random halves of the reference.
    """

    precision: Estimate
    recall: Estimate
    alphas: Float64[np.ndarray, " a"]
    precision_curve: Float64[np.ndarray, " a"]
    recall_curve: Float64[np.ndarray, " a"]
    null: AlphaPrecision | None = None


@dataclass(frozen=True)
class Authenticity:
    """Share of samples that are not closer to a train point than that is to the others.

    Attributes:
        share: of authentic samples, with 95 % interval.
        null: what a perfect generator has: held-out data, or train points left out in turn.
        authentic: per sample, shape (m,).
        nearest_train: row of the train point each sample was compared with, shape (m,).
    """

    share: Estimate
    null: Estimate
    authentic: Bool[np.ndarray, " m"]
    nearest_train: Any


def authenticity(
    *, generated: ArrayLike, train: ArrayLike, test: Any = None, device: str = "auto", swept: Sweep | None = None
) -> Authenticity:
    """Share of samples that are farther from their nearest train point than that is from the next train point.

    Args:
        generated: shape (m, d), m ≥ 8.
        train: shape (n, d), n ≥ 8.
        test: held-out data, shape (t, d): their authenticity is the null. Without them, train points left out in turn.
        device: see ``sweep``.
        swept: a sweep of these very sets with lists of at least 2, if there is one already.

    Raises:
        InputError: NaN, mismatched dimensions or too few points.

    >>> found = authenticity(generated=np.arange(8) + 0.01, train=np.arange(8.0))
    >>> print(found.share.value, found.null.value)
    0.0 0.0
    """
    real, fake, held_out = _clouds(generated, train, test, "train=")
    raw = None if held_out is None else held_out.raw
    found = swept or sweep(generated=fake.raw, train=real.raw, test=raw, k=2, rules=(), device=device)
    if found.train_train.distances.shape[1] < 2:
        raise InputError("swept= needs lists of at least 2; make it with sweep(k=2).")
    mine = _authentic(found.generated_train, found.train_train)
    seen = spread(_authenticity_score, fake, real, k=1)
    if held_out is None or found.test_train is None:
        alone = _authentic_left_out(found.train_train)
        null = share_estimate(int(alone.sum()), len(alone), seen, 1, iid=False, note="train points left out in turn")
    else:
        theirs = _authentic(found.test_train, found.train_train)
        again = spread(_authenticity_score, held_out, real, k=1)
        null = share_estimate(int(theirs.sum()), len(theirs), again, 0, iid=True, note="score of test=")
    share = share_estimate(int(mine.sum()), len(mine), seen, 0, iid=True)
    return Authenticity(share, null, mine, found.generated_train.indices[:, 0])


def _authentic(there: Neighbors, own: Neighbors) -> Bool[np.ndarray, " m"]:
    # The row of the train point, not of the sample.
    return own.distances[there.indices[:, 0], 0] < there.distances[:, 0]


def _authentic_left_out(own: Neighbors) -> Bool[np.ndarray, " n"]:
    """Each point against the others, among which its nearest looks for its own nearest without it."""
    nearest = own.indices[:, 0]
    itself = own.indices[nearest, 0] == np.arange(len(nearest))
    radius = np.where(itself, own.distances[nearest, 1], own.distances[nearest, 0])
    return radius < own.distances[:, 0]


def _authenticity_score(
    generated: Float64[np.ndarray, "m d"], train: Float64[np.ndarray, "n d"]
) -> tuple[Float64[np.ndarray, " s"], Float64[np.ndarray, " s"]]:
    within = squared_distances(train, train)
    np.fill_diagonal(within, np.inf)
    index = np.argsort(within, axis=1)[:, :2]
    own = Neighbors(np.take_along_axis(within, index, axis=1), index)
    across = squared_distances(generated, train)
    nearest = across.argmin(axis=1)[:, None]
    there = Neighbors(np.take_along_axis(across, nearest, axis=1), nearest)
    shares = np.array([_authentic(there, own).mean(), _authentic_left_out(own).mean()])
    return shares, shares * (1 - shares)


def alpha_precision(
    *, generated: ArrayLike, reference: ArrayLike, test: Any = None, device: str = "auto", swept: Sweep | None = None
) -> AlphaPrecision:
    """α-precision and β-recall, their curves, and the null.

    Args:
        generated: shape (m, d), m ≥ 8.
        reference: shape (n, d), n ≥ 8; ≥ 16 without ``test``.
        test: held-out data, shape (t, d), whose score is the null; without them, two random halves of the reference
            are scored against each other: a null at half the size.
        device: see ``sweep``.
        swept: a sweep of these very sets, if there is one already.

    Raises:
        InputError: NaN, mismatched dimensions or too few points.
    """
    real, fake, held_out = _clouds(generated, reference, test, "reference=")
    found = swept or sweep(generated=fake.raw, train=real.raw, k=1, rules=(), device=device)
    mine = _alpha(fake, real, (found.train_train, found.train_generated), "")
    if held_out is not None:
        null = _alpha(held_out, real, _held_out(found), "score of test=")
    elif len(real) >= 2 * _FEWEST:
        order = np.random.default_rng(20_190_409).permutation(len(real))
        first, second = (as_cloud(real.raw[np.sort(order[i::2])], "reference=") for i in (0, 1))
        null = _alpha(first, second, None, "one half of the reference against the other")
    else:
        return mine
    return AlphaPrecision(mine.precision, mine.recall, mine.alphas, mine.precision_curve, mine.recall_curve, null)


def _held_out(found: Sweep) -> _Lists | None:
    """The lists of held-out data, where the sweep has them."""
    return None if found.train_test is None else (found.train_train, found.train_test)


def _alpha(fake: Cloud, real: Cloud, lists: _Lists | None, note: str) -> AlphaPrecision:
    if lists is None:
        found = sweep(generated=fake.raw, train=real.raw, k=1, rules=())
        lists = found.train_train, found.train_generated
    own, back = lists
    curves = _curves(fake.raw, real.raw, own.distances[:, 0], back)
    seen = spread(_alpha_score, fake, real, k=1)
    values = [_summary(curve) for curve in curves]
    recall = mean_estimate(values[1], len(real), seen, 1, note=note)
    return AlphaPrecision(
        _below_one(mean_estimate(values[0], len(fake), seen, 0, note=note)),
        _cut(recall, recall.value - recall.error, recall.value + recall.error),
        np.linspace(0, 1, _STEPS), *curves,
    )  # fmt: skip


def _below_one(found: Estimate) -> Estimate:
    """The interval on the logarithm of what is missing to 1: near 1 that is a mean of absolute values, and skewed."""
    missing = 1 - found.value
    if missing <= 0:
        return _cut(found, found.value - found.error, 1.0)
    ratio = math.exp(min(_CURVE_WIDER * found.error / missing, 700.0))
    return _cut(found, 1 - missing * ratio, 1 - missing / ratio)


def _cut(found: Estimate, low: float, high: float) -> Estimate:
    """With ends that the score can have."""
    low, high = max(low, -1.0), min(high, 1.0)
    return replace(found, error=max(found.value - low, high - found.value), bounds=(low, high))


def _curves(
    fake: np.ndarray, real: np.ndarray, own: Float64[np.ndarray, " n"], back: Neighbors
) -> tuple[Float64[np.ndarray, " a"], Float64[np.ndarray, " a"]]:
    alphas = np.linspace(0, 1, _STEPS)
    real_center, fake_center = real.mean(axis=0, dtype=np.float64), fake.mean(axis=0, dtype=np.float64)
    radii = np.quantile(_from_center(real, real_center), alphas)
    precision = (_from_center(fake, real_center) <= radii[:, None]).mean(axis=1)
    typical = _from_center(fake, fake_center)[back.indices[:, 0]]
    close = back.distances[:, 0] <= own
    recall = (close & (typical <= np.quantile(typical, alphas)[:, None])).mean(axis=1)
    return precision, recall


def _from_center(points: np.ndarray, center: Float64[np.ndarray, " d"]) -> Float64[np.ndarray, " n"]:
    step = max(1, 2_000_000 // points.shape[1])
    parts = (points[i : i + step] - center for i in range(0, len(points), step))
    return np.concatenate([np.sqrt(np.einsum("nd,nd->n", part, part)) for part in parts])


def _summary(curve: Float64[np.ndarray, " a"]) -> float:
    alphas = np.linspace(0, 1, _STEPS)
    return float(1 - 2 * np.abs(curve - alphas).sum() * (alphas[1] - alphas[0]))


def _alpha_score(
    generated: Float64[np.ndarray, "m d"], reference: Float64[np.ndarray, "n d"]
) -> tuple[Float64[np.ndarray, " s"], Float64[np.ndarray, " s"]]:
    within = squared_distances(reference, reference)
    np.fill_diagonal(within, np.inf)
    across = squared_distances(reference, generated)
    nearest = across.argmin(axis=1)[:, None]
    back = Neighbors(np.sqrt(np.take_along_axis(across, nearest, axis=1)), nearest)
    curves = _curves(generated, reference, np.sqrt(within.min(axis=1)), back)
    return np.array([_summary(curve) for curve in curves]), np.ones(2)


def _clouds(generated: Any, reference: Any, test: Any, name: str) -> tuple[Cloud, Cloud, Cloud | None]:
    real = as_cloud(reference, name, minimum=_FEWEST)
    fake = as_cloud(generated, "generated=", dim=real.dim, minimum=_FEWEST)
    return real, fake, None if test is None else as_cloud(test, "test=", dim=real.dim, minimum=_FEWEST)
