r"""Realism and rarity of each point, tile by tile: the extremes over balls that a sweep meets on its way.

For points g and balls of radius ρ_i around owners x_i,

    realism(g) = max_i ρ_i² / (|g − x_i|² + 10⁻⁵)   over the half of the balls that is smaller,
    rarity(g)  = min { ρ_i : |g − x_i| < ρ_i },      0 where no ball holds g.

A tile gives bounds of all its squared distances. A pair stays for realism while the upper bound of its ratio reaches
the largest lower bound so far; for rarity only balls smaller than the smallest one that surely holds g are looked at.
What is left is measured by direct difference in float64, so the result is that of the naive computation, in whatever
order the tiles come.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from evaluation.tiles import Cloud, NumpyBlocks, Product, pair_distances

__all__ = ["Judge", "Judged", "judge"]

_EPS = 1e-5
# float32 bounds of radii and ratios are this much wider than the arithmetic needs.
_PAD = 2.0**-20
# Candidates for realism kept before those that were overtaken are dropped.
_KEPT = 4_000_000


@dataclass(frozen=True)
class Judged:
    """Two scores of each point.

    Attributes:
        realism: shape (m,); ≥ 1 inside.
        rarity: shape (m,); 0 where no ball holds the point.
    """

    realism: Float64[np.ndarray, " m"]
    rarity: Float64[np.ndarray, " m"]


class Judge:
    """Takes the tiles of ``points`` (rows) against ``owners`` (columns), each once."""

    def __init__(self, points: Cloud, owners: Cloud, radii: Float64[np.ndarray, " n"]) -> None:
        self.points, self.owners, self.radii = points, owners, radii
        # Balls of more than the median radius are those of outliers; balls of radius 0 give 0 to everybody.
        self._small = (radii <= np.median(radii)) & (radii > 0)
        self._bound = np.full(len(points), np.inf, dtype=np.float32)
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._held = 0
        self._rarity = np.full(len(points), np.inf)

    def take(self, tile: Any, here: slice, there: slice, product: Product) -> None:
        """Lower bounds of the squared distances, in the units of the product."""
        low = np.maximum(product.blocks.plain(tile), 0)
        rows, columns = product.slack(here, there)
        owners = np.arange(there.start, there.start + low.shape[1])
        small = self._small[owners]
        self._take_realism(low[:, small], rows, columns[small], here.start, owners[small], product.scale)
        # From the smallest ball up: of each row the first sure one is enough.
        order = np.argsort(self.radii[owners], kind="stable")
        order = order[self.radii[owners[order]] > 0]
        self._take_rarity(low, rows, columns, (here.start, owners), order, product.scale)

    def _take_realism(
        self, low: np.ndarray, rows: np.ndarray, columns: np.ndarray, start: int, owners: np.ndarray, scale: float
    ) -> None:
        if not owners.size:
            return
        weights = (1 / (self.radii[owners] * scale) ** 2).astype(np.float32)
        low = low + np.float32(_EPS * scale**2)
        bound = self._bound[start : start + len(low)]
        high = (low + rows[:, None] + columns) * weights
        np.minimum(bound, high.min(axis=1) * np.float32(1 + _PAD), out=bound)
        low *= weights * np.float32(1 - _PAD)
        row, column = np.nonzero(low <= bound[:, None])
        self._parts.append((start + row, owners[column], low[row, column]))
        self._held += len(row)
        if self._held > _KEPT:
            self._clean()

    def _clean(self) -> None:
        row, owner, low = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        near = low <= self._bound[row]
        self._parts = [(row[near], owner[near], low[near])]
        self._held = int(near.sum())

    def _take_rarity(
        self,
        low: np.ndarray,
        rows: np.ndarray,
        columns: np.ndarray,
        where: tuple[int, np.ndarray],
        order: np.ndarray,
        scale: float,
    ) -> None:
        start, owners = where
        best = self._rarity[start : start + len(low)]
        order = order[self.radii[owners[order]] < best.max(initial=0.0)]
        if not order.size:
            return
        which = owners[order]
        squared = ((self.radii[which] * scale) ** 2).astype(np.float32)
        inside = low[:, order]
        possible = inside <= squared * np.float32(1 + _PAD)
        # Only balls smaller than the best so far; they are in order of size.
        possible &= np.arange(len(order)) < np.searchsorted(self.radii[which], best)[:, None]
        some = np.flatnonzero(possible.any(axis=1))
        if not some.size:
            return
        inside, possible = inside[some], possible[some]
        sure = possible & (inside + rows[some, None] + columns[order] < squared * np.float32(1 - _PAD))
        first = np.where(sure.any(axis=1), sure.argmax(axis=1), len(order))
        found = first < len(order)
        np.minimum.at(best, some[found], self.radii[which[first[found]]])
        row, column = np.nonzero(possible & (np.arange(len(order)) < first[:, None]))
        distances = pair_distances(self.points, self.owners, start + some[row], which[column])
        within = distances < self.radii[which[column]]
        np.minimum.at(best, some[row[within]], self.radii[which[column[within]]])

    def result(self) -> Judged:
        """Exact, when all tiles have been taken."""
        realism = np.zeros(len(self.points))
        if self._parts:
            self._clean()
            row, owner, _ = self._parts[0]
            squared = pair_distances(self.points, self.owners, row, owner) ** 2
            np.maximum.at(realism, row, self.radii[owner] ** 2 / (squared + _EPS))
        return Judged(realism, np.where(np.isinf(self._rarity), 0.0, self._rarity))


def judge(points: Cloud, owners: Cloud, radii: Float64[np.ndarray, " n"]) -> Judged:
    """The same on its own, where no sweep passes by."""
    product = Product(points, owners, NumpyBlocks())
    side = product.blocks.side
    judging = Judge(points, owners, radii)
    for i in range(0, len(points), side):
        for j in range(0, len(owners), side):
            here, there = slice(i, min(i + side, len(points))), slice(j, min(j + side, len(owners)))
            judging.take(product.lower(here, there), here, there, product)
    return judging.result()
