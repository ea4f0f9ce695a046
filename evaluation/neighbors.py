r"""Exact k nearest neighbours in bounded memory.

In few dimensions a k-d tree finds them in O(n log n). In many, |x−y|² = |x|² − 2x·y + |y|² makes the distances a matrix
product, but the identity cancels: its error is about ε(|x|² + |y|²), so a copy at distance 0 comes out at 10⁻⁷|x|, and
whom the tie breaks for is chance. It is therefore only used to find *candidates*, after centring; whatever it could
have misplaced by its error bound stays a candidate, and the distances that count are recomputed by direct difference.
Equal points have distance exactly 0, and of equally near points the one of lowest index comes first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from divergences import InputError
from divergences.checks import ArrayLike, as_count, as_points

__all__ = ["Neighbors", "nearest", "nearest_others"]

# Up to here a k-d tree beats the matrix product by far; above about 15 dimensions it visits every point.
TREE_DIM = 10
# Largest intermediate array, in floats (64 MB).
_BLOCK = 8_000_000
# Candidates beyond k taken from the matrix product before a row is searched in full.
_SPARE = 8


class Neighbors(NamedTuple):
    """Euclidean distances to the k nearest points, nearest first, and their indices: both of shape (n, k)."""

    distances: Float64[np.ndarray, "n k"]
    indices: Int64[np.ndarray, "n k"]


def nearest(query: ArrayLike, points: ArrayLike, k: int = 1) -> Neighbors:
    """The k nearest ``points`` of every ``query`` point, exactly.

    Args:
        query: shape (n, d).
        points: shape (m, d), m ≥ k.
        k: how many.

    Raises:
        InputError: NaN, empty or mismatched arrays, or k > m.

    >>> nearest([[0.0], [0.9]], [[1.0], [0.0], [1.0]], k=2)
    Neighbors(distances=array([[0. , 1. ],
           [0.1, 0.1]]), indices=array([[1, 0],
           [0, 2]]))
    """
    target = as_points(points, "points")
    asked = as_points(query, "query", dim=target.shape[1])
    return _search(asked, target, _as_k(k, len(target)))


def nearest_others(points: ArrayLike, k: int = 1) -> Neighbors:
    """The k nearest *other* points of every point: itself is left out, an equal twin is not.

    Args:
        points: shape (m, d), m > k.
        k: how many.

    Raises:
        InputError: NaN or empty points, or k ≥ m.
    """
    target = as_points(points, "points", minimum=2)
    count = _as_k(k, len(target) - 1)
    found = _search(target, target, count + 1)
    own = found.indices == np.arange(len(target))[:, None]
    # Among more than k+1 equal points a point's own index can lie beyond the list: the last entry goes then.
    own[~own.any(axis=1), -1] = True
    shape = (len(target), count)
    return Neighbors(found.distances[~own].reshape(shape), found.indices[~own].reshape(shape))


def _as_k(k: Any, available: int) -> int:
    count = as_count(k, "k")
    if count > available:
        raise InputError(f"k must be at most {available}, the number of points to choose from; it is {count}.")
    return count


def _search(query: np.ndarray, points: np.ndarray, k: int) -> Neighbors:
    return _by_tree(query, points, k) if points.shape[1] <= TREE_DIM else _by_product(query, points, k)


def _by_tree(query: np.ndarray, points: np.ndarray, k: int) -> Neighbors:
    from scipy.spatial import cKDTree

    wanted = min(k + 1, len(points))
    # One more than asked for: the tree breaks ties as it likes, and this shows where there is one.
    _, indices = cKDTree(points).query(query, k=np.arange(1, wanted + 1))
    result = _sorted(_direct(query, points, indices), indices)
    if wanted == k:
        return result
    # Where the k-th and the next are as good as equal, others the tree left out may be equal too.
    last = result.distances[:, k - 1]
    tied = result.distances[:, k] <= last + 1e-12 * (last + np.abs(points).max())
    distances, order = result.distances[:, :k].copy(), result.indices[:, :k].copy()
    rows = np.flatnonzero(tied)
    if rows.size:
        again = _in_full(query[rows], points, k)
        distances[rows], order[rows] = again
    return Neighbors(distances, order)


def _by_product(query: np.ndarray, points: np.ndarray, k: int) -> Neighbors:
    center = points.mean(axis=0)
    shifted = points - center
    norms = np.einsum("md,md->m", shifted, shifted)
    wanted = min(k + _SPARE, len(points))
    distances, indices = np.empty((len(query), k)), np.empty((len(query), k), dtype=np.int64)
    rows = max(1, _BLOCK // (len(points) + 2 * wanted * points.shape[1]))
    eps = np.finfo(np.float64).eps
    for start in range(0, len(query), rows):
        block = query[start : start + rows]
        moved = block - center
        lengths = np.einsum("nd,nd->n", moved, moved)
        squared = norms - 2 * (moved @ shifted.T) + lengths[:, None]
        chosen = np.argpartition(squared, wanted - 1, axis=1)[:, :wanted] if wanted < len(points) else None
        if chosen is None:
            chosen = np.broadcast_to(np.arange(len(points)), squared.shape)
        found = _sorted(_direct(block, points, chosen), chosen)
        here = slice(start, start + len(block))
        distances[here], indices[here] = found.distances[:, :k], found.indices[:, :k]
        if wanted == len(points):
            continue
        # A point left out is at least this near by the product; could its true distance belong to the k nearest?
        edge = np.take_along_axis(squared, chosen, axis=1).max(axis=1)
        slack = 8 * points.shape[1] * eps * (lengths + norms.max())
        unsure = np.flatnonzero(edge - slack <= found.distances[:, k - 1] ** 2)
        if unsure.size:
            distances[start + unsure], indices[start + unsure] = _in_full(block[unsure], points, k)
    return Neighbors(distances, indices)


def _in_full(query: np.ndarray, points: np.ndarray, k: int) -> Neighbors:
    """Every distance by direct difference: for the few rows that need it."""
    from scipy.spatial.distance import cdist

    distances, indices = np.empty((len(query), k)), np.empty((len(query), k), dtype=np.int64)
    rows = max(1, _BLOCK // len(points))
    for start in range(0, len(query), rows):
        all_distances = cdist(query[start : start + rows], points)
        order = np.argsort(all_distances, axis=1, kind="stable")[:, :k]
        found = _sorted(_direct(query[start : start + rows], points, order), order)
        distances[start : start + rows], indices[start : start + rows] = found
    return Neighbors(distances, indices)


def _direct(query: np.ndarray, points: np.ndarray, indices: np.ndarray) -> Float64[np.ndarray, "n k"]:
    distances = np.empty(indices.shape)
    rows = max(1, _BLOCK // (indices.shape[1] * points.shape[1]))
    for start in range(0, len(query), rows):
        here = slice(start, start + rows)
        gap = (points[indices[here]] - query[here, None, :]).reshape(-1, points.shape[1])
        # The sum of one row must not depend on how many rows there are: two axes, as in evaluation.tiles.
        distances[here] = np.sqrt(np.einsum("nd,nd->n", gap, gap)).reshape(-1, indices.shape[1])
    return distances


def _sorted(distances: np.ndarray, indices: np.ndarray) -> Neighbors:
    """By distance, then by index."""
    order = np.lexsort((indices, distances), axis=1)
    return Neighbors(
        np.take_along_axis(distances, order, axis=1),
        np.take_along_axis(indices, order, axis=1).astype(np.int64),
    )
