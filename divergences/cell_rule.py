"""Tensor Gauss-Legendre sums over cells of the plane, for integrands of two mixtures, and what rounding does to them.

Components that cannot be felt in a cell are not evaluated there. Where no component is correlated in the coordinates
used, each is a product of one factor per axis, and their sum over the nodes of a cell is a product of two matrices.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from divergences.cell_parts import Local, Parts, local, real_top, relative
from divergences.panel_forms import Form

__all__ = ["sum_over_cells"]

_EPS = float(np.finfo(np.float64).eps)
_NODES_AT_ONCE = 20_000
_STEEP = 600.0
_TINY = 1e-300


def sum_over_cells(
    form: Form, p: Parts, q: Parts, center: np.ndarray, half: np.ndarray, order: int, share: float
) -> tuple[float, float]:
    """Tensor Gauss-Legendre over the cells, and an allowance for its rounding."""
    rows = max(1, _NODES_AT_ONCE // order**2)
    value = rounding = 0.0
    for start in range(0, len(center), rows):
        block = slice(start, start + rows)
        found = _integrate_block(form, p, q, center[block], half[block], order, share)
        value, rounding = value + found[0], rounding + found[1]
    return value, rounding


def _integrate_block(
    form: Form, p: Parts, q: Parts, center: np.ndarray, half: np.ndarray, order: int, share: float
) -> tuple[float, float]:
    node, weights = _rule(order)
    log_p, log_q = (_log_density(parts, center, half, node, share).reshape(len(center), -1) for parts in (p, q))
    area = half.prod(axis=1)
    density = np.exp(log_p), np.exp(log_q)
    with np.errstate(invalid="ignore"):
        d = log_p - log_q
        mass = density[0] + density[1] > _TINY
        whole = bool(mass.all())
        if not whole:
            d = np.where(np.isneginf(log_p) & np.isneginf(log_q), 0.0, d)
        integrand = form.value(*density, d)
        if not whole:
            integrand = np.where(mass, integrand, 0.0)
        size = np.abs(integrand)
        rounding = 8 * _EPS * float(size @ weights @ area)
        for parts, log, slip in zip((p, q), (log_p, log_q), form.slips(*density, d), strict=True):
            # Coordinates are known to their last place: this moves each component by a share of its width, and its
            # logarithm by √(2·|log|) ≤ 1 + |log|/2 times that.
            stretch = float(np.abs(parts.mean).max() * np.sqrt(parts.bend[:, ::2].max())) + 1.0
            fixed = 8 + len(parts.mean) + stretch + (4 + stretch / 2) * float(np.abs(parts.height).max())
            known = np.abs(log)
            known *= 4 + stretch / 2
            known += fixed
            known *= slip
            # A law is there on all of a cell or on none of it.
            known[np.isneginf(log[:, 0])] = 0.0
            if not whole:
                known = np.where(mass, known, 0.0)
            rounding += _EPS * float(known @ weights @ area)
    edge = ((np.abs(center) + half) * half[:, ::-1]).sum(axis=1)
    rounding += 4 * _EPS * float((edge * size.max(axis=1)).sum())
    return float(integrand @ weights @ area), rounding


@cache
def _rule(order: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes, and the weights of the tensor rule, flat."""
    node, weight = np.polynomial.legendre.leggauss(order)
    return node, np.outer(weight, weight).ravel()


def _log_density(parts: Parts, center: np.ndarray, half: np.ndarray, node: np.ndarray, share: float) -> np.ndarray:
    """Log density at the nodes (c, n, n), without the components that cannot be felt in a cell."""
    lead, others, empty = relative(local(parts, center))
    top = real_top(others, half)
    felt = (top >= share).sum(axis=1)
    xi, up = half[:, :1] * node, half[:, 1:] * node
    out = (
        (lead.value[:, None] + lead.slope_x[:, None] * xi + lead.bend[:, :1] * xi * xi)[:, :, None]
        + (lead.slope_y[:, None] * up + lead.bend[:, 2:] * up * up)[:, None, :]
        + lead.bend[:, 1, None, None] * xi[:, :, None] * up[:, None, :]
    )
    out[empty] = -np.inf
    ranked = np.argsort(-top, axis=1)
    for count in np.unique(felt):
        cells = np.flatnonzero(felt == count)
        if count > 1:
            pick = ranked[cells, :count]
            rows = cells[:, None]
            near = Local(
                others.value[rows, pick],
                others.slope_x[rows, pick],
                others.slope_y[rows, pick],
                others.bend[rows, pick],
            )
            out[cells] += _log_shares(near, xi[cells], up[cells])
    return out


def _log_shares(near: Local, xi: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Log Σ_k of shares at the nodes; products of one factor per axis where no component is correlated."""
    along_x = near.slope_x[:, :, None] * xi[:, None, :] + near.bend[:, :, :1] * (xi * xi)[:, None, :]
    along_y = near.slope_y[:, :, None] * up[:, None, :] + near.bend[:, :, 2:] * (up * up)[:, None, :]
    along_x += near.value[:, :, None]
    if not near.bend[:, :, 1].any() and max(np.abs(along_x).max(), np.abs(along_y).max()) < _STEEP:
        return np.log(np.matmul(np.exp(along_x).transpose(0, 2, 1), np.exp(along_y)))
    terms = along_x[:, :, :, None] + along_y[:, :, None, :]
    terms += near.bend[:, :, 1, None, None] * xi[:, None, :, None] * up[:, None, None, :]
    high = terms.max(axis=1)
    return np.log(np.exp(terms - high[:, None]).sum(axis=1)) + high
