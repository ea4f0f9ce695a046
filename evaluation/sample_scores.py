r"""Realism and rarity: how good, and how unusual, is this one sample?

Both look at the balls around reference points that reach their k-th nearest other one, of radius ρ_i:

    realism(g) = max_i ρ_i² / (|g − x_i|² + 10⁻⁵)   over the half of the balls that is smaller,
    rarity(g)  = min { ρ_i : |g − x_i| < ρ_i },      0 where no ball holds g.

Realism ≥ 1 means on the estimated manifold, with balls around outliers left aside; rarity is the size of the smallest
ball that holds g: large where data are thin. Realism is in squares, as its authors' program has it; other programs
print its root. Both are in units of the features: they rank samples, and compare with held-out data in the same
features, nothing else.

References:
    Improved precision and recall metric for assessing generative models (Kynkäänniemi, Karras, Laine, Lehtinen, Aila,
    2019), https://arxiv.org/abs/1904.06991. Rarity score: a new metric to evaluate the uncommonness of synthesized
    images (Han, Choi, Choi, Kim, Ha, Choi, 2023), https://arxiv.org/abs/2206.08549.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from divergences import InputError
from divergences.checks import ArrayLike, as_count
from evaluation.sweep import sweep
from evaluation.tiles import Cloud, NumpyBlocks, Product, as_cloud, pair_distances

__all__ = ["SampleScores", "realism", "rarity"]

_EPS = 1e-5
# float32 bounds of radii and ratios are this much wider than the arithmetic needs.
_PAD = 2.0**-20


@dataclass(frozen=True)
class SampleScores:
    """A score for each sample.

    Attributes:
        values: of the generated samples, shape (m,).
        null: of the held-out ones, shape (t,); None without.
    """

    values: Float64[np.ndarray, " m"]
    null: Float64[np.ndarray, " t"] | None = None


def realism(*, generated: ArrayLike, reference: ArrayLike, test: Any = None, k: int = 3) -> SampleScores:
    """How far inside the manifold of the reference each sample is: ≥ 1 inside.

    Args:
        generated: shape (m, d).
        reference: shape (n, d), n > k; the balls of more than median radius are left aside.
        test: held-out data, shape (t, d), for the null.
        k: a ball reaches to the k-th nearest other reference point.

    Raises:
        InputError: NaN, mismatched dimensions, or n ≤ k.

    >>> realism(generated=[1.4, 5.0], reference=[0.0, 1.0, 2.0, 3.0], k=1).values.round(2)
    array([6.25, 0.25])
    """
    real, fake, held_out, radii = _prepared(generated, reference, test, k)
    # Balls of more than the median radius are those of outliers; balls of radius 0 give 0 to everybody.
    small = np.flatnonzero((radii <= np.median(radii)) & (radii > 0))
    return SampleScores(*(None if c is None else _realism(c, real, small, radii[small]) for c in (fake, held_out)))  # type: ignore[arg-type]


def rarity(*, generated: ArrayLike, reference: ArrayLike, test: Any = None, k: int = 3) -> SampleScores:
    """How thin the data are where each sample lies: the radius of the smallest ball that holds it; 0 outside of all.

    Args:
        generated: shape (m, d).
        reference: shape (n, d), n > k.
        test: held-out data, shape (t, d), for the null.
        k: a ball reaches to the k-th nearest other reference point; open.

    Raises:
        InputError: NaN, mismatched dimensions, or n ≤ k.

    >>> rarity(generated=[0.4, 8.0, 99.0], reference=[0.0, 1.0, 6.0, 9.0], k=1).values
    array([1., 3., 0.])
    """
    real, fake, held_out, radii = _prepared(generated, reference, test, k)
    return SampleScores(*(None if c is None else _rarity(c, real, radii) for c in (fake, held_out)))  # type: ignore[arg-type]


def _prepared(
    generated: Any, reference: Any, test: Any, k: Any
) -> tuple[Cloud, Cloud, Cloud | None, Float64[np.ndarray, " n"]]:
    count = as_count(k, "k")
    real = as_cloud(reference, "reference=")
    if len(real) <= count:
        raise InputError(f"reference= needs more than k={count} points; it has {len(real)}. Lower k.")
    fake = as_cloud(generated, "generated=", dim=real.dim)
    held_out = None if test is None else as_cloud(test, "test=", dim=real.dim)
    # Lists of the reference alone; the sweep wants a second set, however small.
    radii = sweep(generated=real.raw[: count + 1], train=real.raw, k=count, rules=()).train_train.distances[:, -1]
    return real, fake, held_out, radii


def _realism(
    points: Cloud, owners: Cloud, which: Int64[np.ndarray, " w"], radii: Float64[np.ndarray, " w"]
) -> Float64[np.ndarray, " m"]:
    if not which.size:
        return np.zeros(len(points))
    product = Product(points, owners, NumpyBlocks())
    extra = np.float32(_EPS * product.scale**2)
    weights = (1 / (radii * product.scale) ** 2).astype(np.float32)
    bound = np.full(len(points), np.inf, dtype=np.float32)
    parts = []
    for here, there in _tiles(len(points), len(which), product.blocks.side):
        low = np.maximum(product.lower(here, which[there]), 0) + extra
        slack = product.slack(here, which[there])
        high = (low + slack[0][:, None] + slack[1]) * weights[there]
        bound[here] = np.minimum(bound[here], high.min(axis=1) * np.float32(1 + _PAD))
        low *= weights[there] * np.float32(1 - _PAD)
        row, column = np.nonzero(low <= bound[here, None])
        parts.append((here.start + row, there.start + column, low[row, column]))
    row, column, low = (np.concatenate(column) for column in zip(*parts, strict=True))
    near = low <= bound[row]
    row, column = row[near], column[near]
    squared = pair_distances(points, owners, row, which[column]) ** 2
    best = np.zeros(len(points))
    np.maximum.at(best, row, radii[column] ** 2 / (squared + _EPS))
    return best


def _rarity(points: Cloud, owners: Cloud, radii: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " m"]:
    # From the smallest ball up: of each tile only balls smaller than the best so far are of interest.
    order = np.argsort(radii, kind="stable")
    order = order[radii[order] > 0]
    product = Product(points, owners, NumpyBlocks())
    best = np.full(len(points), np.inf)
    for here, there in _tiles(len(points), len(order), product.blocks.side):
        open_rows = np.flatnonzero(np.isinf(best[here]))
        if not open_rows.size:
            continue
        which = order[there]
        squared = ((radii[which] * product.scale) ** 2).astype(np.float32)
        low = product.lower(here, which)[open_rows]
        slack = product.slack(here, which)
        sure = low + slack[0][open_rows, None] + slack[1] < squared * np.float32(1 - _PAD)
        # Of the sure ones the first is enough; of the doubtful ones, those before it.
        first = np.where(sure.any(axis=1), sure.argmax(axis=1), low.shape[1])
        doubtful = (low <= squared * np.float32(1 + _PAD)) & (np.arange(low.shape[1]) <= first[:, None])
        row, column = np.nonzero(doubtful)
        inside = pair_distances(points, owners, here.start + open_rows[row], which[column]) < radii[which[column]]
        np.minimum.at(best, here.start + open_rows[row[inside]], radii[which[column[inside]]])
    return np.where(np.isinf(best), 0.0, best)


def _tiles(rows: int, columns: int, side: int) -> list[tuple[slice, slice]]:
    return [
        (slice(i, min(i + side, rows)), slice(j, min(j + side, columns)))
        for i in range(0, rows, side)
        for j in range(0, columns, side)
    ]
