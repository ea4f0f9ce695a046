"""What is taken from each tile of a sweep: candidates for the nearest few, and points in balls.

``Lists`` keeps, for each owner, every point whose lower bound does not exceed the k-th smallest upper bound seen so
far. The first bound comes from a few hundred points looked at beforehand, so that candidates are few from the start; at
the end the distances of those that are left decide. Where the bounds cannot tell enough points apart (clusters narrower
than float32 resolves, equidistant points), the owner is *crowded* and its distances are computed one and all.

``Balls`` counts, for each point, the owners with d < r (open) or d ≤ r (closed). A pair is sure by its bounds, or
measured. Balls of radius 0, around points with k twins, hold nothing if open, and exactly the twins if closed: that is
looked up instead of measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from evaluation.judged import Judge
from evaluation.neighbors import Neighbors
from evaluation.tiles import Blocks, Cloud, Product, pair_distances

__all__ = ["Balls", "Lists", "gather", "tree_counts"]

# Bounds and radii meet in float32; this much may be lost in turning one into the other.
_PAD = 2.0**-21
# Points looked at beforehand for a first bound.
_PILOT = 256
# Candidates beyond which an owner is crowded: this many, and as many times k.
_CROWD = 32
# Candidates kept per owner, on average, before the list is cleaned up.
_KEPT = 48
# Share of a tile from which counting row by row beats listing the pairs.
_DENSE = 1 / 16
# Pairs measured, or distances scanned, at once.
_BATCH = 1_000_000


class Lists:
    """The k nearest points of ``other`` to each point of ``owner``; itself excepted if ``apart``."""

    def __init__(self, owner: Cloud, other: Cloud, k: int, *, apart: bool = False) -> None:
        self.owner, self.other, self.k, self.apart = owner, other, k, apart
        self.bound: Float32[np.ndarray, " n"] = np.full(len(owner), np.inf, dtype=np.float32)
        self.best = np.full((len(owner), k), np.inf, dtype=np.float32)
        self.crowded: Bool[np.ndarray, " n"] = np.zeros(len(owner), dtype=bool)
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._held = 0

    def add(self, owner: np.ndarray, other: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        """Candidates of one tile: indices, lower and upper bounds of squared distances. No pair comes twice."""
        near = low <= self.bound[owner]
        if not near.any():
            return
        owner, low = owner[near], low[near]
        self._tighten(owner, high[near])
        self._parts.append((owner.astype(np.int32), other[near].astype(np.int32), low))
        self._held += len(owner)
        if self._held > max(_KEPT * len(self.bound), _BATCH):
            self._clean()

    def _tighten(self, owner: np.ndarray, high: np.ndarray) -> None:
        # Floats ≥ 0 sort like their bits: one sort of whole numbers orders by owner, then by bound.
        key = (owner.astype(np.int64) << 32) | np.maximum(high, 0).astype(np.float32).view(np.int32)
        key.sort()
        whose = key >> 32
        first = np.flatnonzero(np.concatenate([[True], whose[1:] != whose[:-1]]))
        group = np.cumsum(np.concatenate([[False], whose[1:] != whose[:-1]]))
        rank = np.arange(len(key)) - first[group]
        kept = rank < self.k
        fresh = np.full((len(first), self.k), np.inf, dtype=np.float32)
        fresh[group[kept], rank[kept]] = (key[kept] & 0xFFFFFFFF).astype(np.int32).view(np.float32)
        rows = whose[first]
        merged = np.sort(np.concatenate([self.best[rows], fresh], axis=1), axis=1)[:, : self.k]
        self.best[rows] = merged
        self.bound[rows] = np.minimum(self.bound[rows], merged[:, -1] * np.float32(1 + _PAD))

    def _clean(self) -> None:
        owner, other, low = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        self._parts.clear()
        near = low <= self.bound[owner]
        size = np.bincount(owner[near], minlength=len(self.bound))
        self.crowded |= size > _CROWD * (1 + self.k)
        self.bound[self.crowded] = -np.inf
        near &= ~self.crowded[owner]
        self._parts.append((owner[near], other[near], low[near]))
        self._held = int(near.sum())

    def result(self) -> Neighbors:
        """Distances by direct difference, sorted; equal ones by index."""
        distances = np.empty((len(self.bound), self.k))
        indices = np.empty((len(self.bound), self.k), dtype=np.int64)
        if self._parts:
            self._clean()
            owner, other = (column.astype(np.int64) for column in self._parts[0][:2])
            self._parts.clear()
            found = pair_distances(self.owner, self.other, owner, other)
            order = np.lexsort((other, found, owner))
            owner, other, found = owner[order], other[order], found[order]
            first = np.searchsorted(owner, np.flatnonzero(~self.crowded))
            chosen = first[:, None] + np.arange(self.k)
            distances[~self.crowded], indices[~self.crowded] = found[chosen], other[chosen]
        rows = np.flatnonzero(self.crowded)
        step = max(1, _BATCH // (4 * max(self.k, 256)))
        for start in range(0, len(rows), step):
            here = rows[start : start + step]
            distances[here], indices[here] = self._scan(here)
        return Neighbors(distances, indices)

    def _scan(self, rows: Int64[np.ndarray, " n"]) -> Neighbors:
        """All distances of some owners, in order of index: who has k points at distance 0 need not look further."""
        from scipy.spatial.distance import cdist

        count = len(rows)
        best, index = np.full((count, self.k), np.inf), np.zeros((count, self.k), dtype=np.int64)
        active, points = np.arange(count), self.owner.rows(rows)
        start, step = 0, 4 * (self.k + 1)
        while start < len(self.other) and active.size:
            block = self.other.rows(slice(start, start + step))
            found = cdist(points[active], block)
            numbers = np.broadcast_to(start + np.arange(len(block)), found.shape)
            if self.apart:
                found[numbers == rows[active, None]] = np.inf
            both = np.concatenate([best[active], found], axis=1)
            which = np.concatenate([index[active], numbers], axis=1)
            order = np.argsort(both, axis=1, kind="stable")[:, : self.k]
            best[active] = np.take_along_axis(both, order, axis=1)
            index[active] = np.take_along_axis(which, order, axis=1)
            active = active[best[active, -1] > 0]
            start += len(block)
            # A short look first: k twins are often found at once.
            step = max(self.k + 1, min(_BATCH // count, _BATCH // self.other.dim))
        exact = pair_distances(self.owner, self.other, np.repeat(rows, self.k), index.ravel()).reshape(index.shape)
        order = np.lexsort((index, exact), axis=1)
        return Neighbors(np.take_along_axis(exact, order, axis=1), np.take_along_axis(index, order, axis=1))


class Balls:
    """In how many balls around the points of ``owner`` each point of ``point`` lies."""

    def __init__(
        self, point: Cloud, owner: Cloud, radii: Float64[np.ndarray, " n"], *, closed: bool, owners_are_columns: bool
    ) -> None:
        self.point, self.owner, self.radii = point, owner, radii
        self.closed, self.owners_are_columns = closed, owners_are_columns
        self.counts: Int64[np.ndarray, " m"] = np.zeros(len(point), dtype=np.int64)
        self.low = self.high = np.empty(0, dtype=np.float32)

    def scaled(self, scale: float) -> None:
        """Squared radii in the units of the tiles."""
        squared = (self.radii * scale) ** 2
        self.low = (squared * (1 - _PAD)).astype(np.float32)
        self.high = np.where(squared > 0, squared * (1 + _PAD), -np.inf).astype(np.float32)

    def add(self, point: np.ndarray, owner: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        """Pairs of one tile."""
        possible = low <= self.high[owner]
        sure = possible & (high < self.low[owner])
        self.counts += np.bincount(point[sure], minlength=len(self.counts))
        self._measure(point[possible & ~sure], owner[possible & ~sure])

    def add_tile(self, tile: Any, rows: slice, others: slice, product: Product) -> None:
        """A whole tile, of which too much is inside to be listed."""
        blocks, slack = product.blocks, product.slack(rows, others)
        if self.owners_are_columns:
            points, owners = rows, others
        else:
            points, owners = others, rows
            tile, slack = blocks.transposed(tile), (slack[1], slack[0])
        sure, doubtful = blocks.split(tile, slack, self.low[owners], self.high[owners])
        self.counts[points] += sure
        point, owner, _ = blocks.pairs(tile, doubtful)
        self._measure(points.start + point, owners.start + owner)

    def _measure(self, point: np.ndarray, owner: np.ndarray) -> None:
        for start in range(0, len(point), _BATCH):
            here = slice(start, start + _BATCH)
            distances = pair_distances(self.point, self.owner, point[here], owner[here])
            radii = self.radii[owner[here]]
            inside = (distances <= radii) & (radii > 0) if self.closed else distances < radii
            self.counts += np.bincount(point[here][inside], minlength=len(self.counts))

    def result(self) -> Int64[np.ndarray, " m"]:
        """The counts, twins included."""
        return self.counts + _twins(self.point, self.owner, self.radii) if self.closed else self.counts


def _twins(point: Cloud, owner: Cloud, radii: Float64[np.ndarray, " n"]) -> Int64[np.ndarray, " m"]:
    """For each point, the owners of radius 0 that are equal to it."""
    empty = np.flatnonzero(radii == 0)
    if not empty.size:
        return np.zeros(len(point), dtype=np.int64)
    known = Counter(_keys(owner, empty))
    return np.array([known[key] for key in _keys(point, np.arange(len(point)))], dtype=np.int64)


def _keys(cloud: Cloud, index: Int64[np.ndarray, " n"]) -> Iterator[bytes]:
    step = max(1, _BATCH // cloud.dim)
    for start in range(0, len(index), step):
        # + 0.0 turns −0.0 into 0.0: equal numbers are to have equal bytes.
        yield from (row.tobytes() for row in cloud.rows(index[start : start + step]) + 0.0)


def gather(
    product: Product, rows: Lists, columns: Lists | None, balls: Sequence[Balls], judge: Judge | None = None
) -> None:
    """Go through all tiles of a product once.

    Args:
        product: of two clouds, or of one with itself, of which half is gone through.
        rows: lists of the left cloud's points; of both sides if the clouds are one.
        columns: lists of the right cloud's points; None if the clouds are one.
        balls: counts to be taken.
        judge: of the left cloud's points, or None.
    """
    blocks = product.blocks
    one_cloud = columns is None
    for ball in balls:
        ball.scaled(product.scale)
    _first_bounds(product, rows)
    if columns is not None:
        _first_bounds(product.turned(), columns)
    for here in _spans(len(product.left), blocks):
        for there in _spans(len(product.right), blocks, start=here.start if one_cloud else 0):
            diagonal = one_cloud and here == there
            tile = product.lower(here, there, apart=diagonal)
            if judge is not None:
                judge.take(tile, here, there, product)
            _take(product, tile, (here, there), (rows, None if diagonal else columns or rows), balls)


def _take(
    product: Product, tile: Any, where: tuple[slice, slice], lists: tuple[Lists, Lists | None], balls: Sequence[Balls]
) -> None:
    (here, there), (rows, columns), blocks = where, lists, product.blocks
    row_bounds = rows.bound[here]
    column_bounds = None if columns is None else columns.bound[there]
    wide_rows, wide_columns = row_bounds, column_bounds
    for ball in balls:
        if ball.owners_are_columns:
            wide_columns = ball.high[there] if wide_columns is None else np.maximum(wide_columns, ball.high[there])
        else:
            wide_rows = np.maximum(wide_rows, ball.high[here])
    mask = blocks.at_most(tile, wide_rows, wide_columns)
    dense = bool(balls) and blocks.share(mask) > _DENSE
    if dense:
        mask = blocks.at_most(tile, row_bounds, column_bounds)
        for ball in balls:
            ball.add_tile(tile, here, there, product)
    row, column, low = blocks.pairs(tile, mask)
    slack = product.slack(here, there)
    high = low + slack[0][row] + slack[1][column]
    row, column = row + here.start, column + there.start
    rows.add(row, column, low, high)
    if columns is not None:
        columns.add(column, row, low, high)
    if not dense:
        for ball in balls:
            point, owner = (row, column) if ball.owners_are_columns else (column, row)
            ball.add(point, owner, low, high)


def _spans(count: int, blocks: Blocks, *, start: int = 0) -> list[slice]:
    edges = [*range(start, count, blocks.side), count]
    return [slice(a, b) for a, b in pairwise(edges)]


def _first_bounds(product: Product, lists: Lists) -> None:
    """The k-th smallest of some squared distances bounds the k-th smallest of all."""
    # One more where a point may meet itself: leaving one out of k + 1 leaves k.
    k = lists.k + lists.apart
    size = min(len(product.right), max(_PILOT, 4 * k))
    some = np.unique(np.linspace(0, len(product.right) - 1, size).astype(np.int64))
    for here in _spans(len(product.left), product.blocks):
        slack = product.slack(here, some)
        kth = product.blocks.kth(product.lower(here, some), k)
        lists.bound[here] = np.maximum(kth + slack[0] + slack[1].max(), 0) * np.float32(1 + _PAD)


def tree_counts(
    point: Cloud, owner: Cloud, radii: Float64[np.ndarray, " n"], *, closed: bool
) -> Int64[np.ndarray, " m"]:
    """What ``Balls`` counts, by a k-d tree: for few dimensions, where a point lies in few balls."""
    from scipy.spatial import cKDTree

    tree = cKDTree(point.rows(slice(None)))
    centers = owner.rows(slice(None))
    # The tree rounds otherwise than a direct difference does: it proposes, the difference decides.
    reach = radii * (1 + 1e-9) + 1e-12 * max(point.largest, owner.largest)
    asked = np.flatnonzero(radii > 0)
    sizes = tree.query_ball_point(centers[asked], reach[asked], return_length=True) if asked.size else np.zeros(0)
    counts = np.zeros(len(point), dtype=np.int64)
    edges = np.unique(np.searchsorted(np.cumsum(sizes), np.arange(0, sizes.sum() + _BATCH, _BATCH), side="right"))
    for first, last in pairwise([0, *edges[(edges > 0) & (edges < len(asked))].tolist(), len(asked)]):
        part = asked[first:last]
        found = tree.query_ball_point(centers[part], reach[part])
        owners = np.repeat(part, [len(one) for one in found])
        points = np.concatenate([np.asarray(one, dtype=np.int64) for one in found]) if len(found) else owners
        distances = pair_distances(point, owner, points, owners)
        inside = distances <= radii[owners] if closed else distances < radii[owners]
        counts += np.bincount(points[inside], minlength=len(counts))
    return counts + _twins(point, owner, radii) if closed else counts
