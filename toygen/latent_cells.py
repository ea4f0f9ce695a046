r"""Adaptive quadrature over latents, many integrals at once.

A *row* is one integral: over the latents of one data point, say. All rows are refined together, cell by cell and level
by level, in one array of (row, cell) pairs: each cell is integrated by a tensor Gauss-Legendre rule and compared with
the sum of its 2^k children; where the difference is small the children's sum is taken, elsewhere the children go on. A
piecewise linear network has kinks, which halving finds and shuts in.

The error stated is five times the sum of the differences that were accepted: an *estimate*, as in ``divergences``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeAlias

import numpy as np
from jaxtyping import Float64, Int64

from divergences.cells import split

__all__ = ["Evaluate", "gauss_rule", "integrate_rows"]

# rows (p,) and nodes (p, q, k) in, values (p, q, o) out.
Evaluate: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]

_ORDER = {1: 16, 2: 8}
_MAX_LEVELS = 40
_SAFETY = 5.0
_EPS = float(np.finfo(np.float64).eps)
# Nodes evaluated at once, and pairs alive at once: what is not settled by then is stated in the error.
_BLOCK = 400_000
_MOST_PAIRS = 400_000


@cache
def gauss_rule(dim: int) -> tuple[Float64[np.ndarray, "q k"], Float64[np.ndarray, " q"]]:
    """Tensor Gauss-Legendre rule on the unit cube: nodes and weights, 16 on the line and 8 × 8 in the plane."""
    node, weight = np.polynomial.legendre.leggauss(_ORDER[dim])
    node, weight = (node + 1) / 2, weight / 2
    if dim == 1:
        return node[:, None], weight
    grid = np.stack(np.meshgrid(node, node, indexing="ij"), axis=-1).reshape(-1, 2)
    return grid, np.outer(weight, weight).ravel()


def integrate_rows(
    evaluate: Evaluate,
    row: Int64[np.ndarray, " p"],
    low: Float64[np.ndarray, "p k"],
    high: Float64[np.ndarray, "p k"],
    *,
    rows: int,
    tol: float,
    floor: float,
) -> tuple[Float64[np.ndarray, "n o"], Float64[np.ndarray, "n o"]]:
    """One integral per row, of o functions at once.

    Args:
        evaluate: the functions.
        row: whose cell each one is, in 0 … rows − 1.
        low: lower corners.
        high: upper corners.
        rows: n.
        tol: error aimed at, times max(floor, |first integral of the row|).
        floor: see there; 0 for a relative error.

    Returns:
        The integrals, and their errors.
    """
    current = _cells(evaluate, row, low, high)
    outputs, family = current.shape[1], 2 ** low.shape[1]
    done, error = np.zeros((rows, outputs)), np.zeros((rows, outputs))
    for level in range(_MAX_LEVELS + 1):
        child_low, child_high = split(low, high)
        child_row = np.repeat(row, family)
        children = _cells(evaluate, child_row, child_low, child_high)
        sums = children.reshape(-1, family, outputs).sum(axis=1)
        difference = np.abs(sums - current)
        scale = np.maximum(np.abs(done[:, 0] + _by_row(row, sums[:, :1], rows)[:, 0]), floor)
        alive = np.bincount(row, minlength=rows)
        # A quarter of the tolerance per level, shared by the cells; differences fall by orders of magnitude per level.
        goal = np.maximum(tol * scale / np.maximum(4 * alive, 1), 4 * _EPS * scale)
        accept = difference.max(axis=1) <= goal[row]
        if level == _MAX_LEVELS or family * int((~accept).sum()) > _MOST_PAIRS:
            accept[:] = True
        done += _by_row(row[accept], sums[accept], rows)
        error += _by_row(row[accept], difference[accept], rows)
        if accept.all():
            break
        keep = np.repeat(~accept, family)
        row, low, high, current = child_row[keep], child_low[keep], child_high[keep], children[keep]
    scale = np.maximum(np.abs(done[:, :1]), floor)
    return done, _SAFETY * error + 32 * _EPS * scale


def _cells(evaluate: Evaluate, row: np.ndarray, low: np.ndarray, high: np.ndarray) -> Float64[np.ndarray, "p o"]:
    unit, weight = gauss_rule(low.shape[1])
    block = max(1, _BLOCK // len(unit))
    parts = []
    for start in range(0, len(row), block):
        cut = slice(start, start + block)
        width = high[cut] - low[cut]
        values = evaluate(row[cut], low[cut, None] + width[:, None] * unit)
        parts.append(width.prod(axis=1)[:, None] * np.einsum("pqo,q->po", values, weight))
    return np.concatenate(parts)


def _by_row(row: np.ndarray, values: np.ndarray, rows: int) -> Float64[np.ndarray, "n o"]:
    """Sums over the pairs of each row."""
    return np.stack([np.bincount(row, weights=column, minlength=rows) for column in values.T], axis=1)
