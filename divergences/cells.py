"""Adaptive cubature over cells: the engine below ``Quadrature``, which knows nothing of probability.

Each cell is integrated by a tensor Gauss-Legendre rule and compared with the sum of its 2^d children. The differences,
smallest first, are accepted until they add up to the tolerance; the other cells go on as their children. The error is
the sum of the accepted differences plus what rounding can do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

__all__ = ["Integral", "Integrand", "adapt", "integrate_cells", "split"]

_EPS = float(np.finfo(np.float64).eps)
_ORDER = {1: 16, 2: 8}
_MAX_LEVELS = 45
# A mass wrong by this much is as bad as an integral wrong by the whole tolerance.
MASS_TOLERANCE = 1e-7
# A mass off by less is rounding.
_LOST = 1e-12


@dataclass(frozen=True)
class Integral:
    """An integral with its error, the mass found on the same cells, and how many nodes it took."""

    value: float
    error: float
    mass: float
    mass_error: float
    nodes: int


@runtime_checkable
class Integrand(Protocol):
    """What ``adapt`` integrates over cells: nodes (m, d) in, (values, densities, places) out."""

    dim: int
    matrix: np.ndarray
    largest: float
    has_mass: bool

    def __call__(self, z: Float64[np.ndarray, "m d"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values (m,) to integrate, densities (m,) that should have mass 1, places (m, d) in the space itself."""


def adapt(
    integrand: Integrand,
    low: Float64[np.ndarray, "c d"],
    high: Float64[np.ndarray, "c d"],
    tol: float,
    max_nodes: int,
) -> Integral:
    """Compare each cell with its children until the differences, smallest first, add up to the tolerance."""
    current, _, noise = integrate_cells(integrand, low, high)
    nodes = len(low) * _ORDER[integrand.dim] ** integrand.dim
    done, error, rounding = np.zeros(2), np.zeros(2), 0.0
    level = 0
    while True:
        child_low, child_high = split(low, high)
        children, scale, child_noise = integrate_cells(integrand, child_low, child_high)
        nodes += len(child_low) * _ORDER[integrand.dim] ** integrand.dim
        family = 2**integrand.dim
        sums = children.reshape(-1, family, 2).sum(axis=1)
        infinite = ~np.isfinite(sums[:, 0])
        if infinite.any():
            return Integral(float(sums[infinite, 0][0]), 0.0, 1.0, 0.0, nodes)
        difference = np.abs(sums - current)
        noise = child_noise.reshape(-1, family).sum(axis=1)
        # Half of what is left of the tolerance may be spent on each level; noise cannot be refined away.
        goal = tol * max(1.0, abs(done[0] + sums[:, 0].sum()))
        worst = np.maximum(difference[:, 0], goal * difference[:, 1] / MASS_TOLERANCE)
        order = np.argsort(worst)
        spent = np.cumsum(worst[order])
        accept = np.zeros(len(low), dtype=bool)
        accept[order[spent <= max(goal - error[0], 0.0) / 2]] = True
        accept |= worst <= noise
        level += 1
        if level >= _MAX_LEVELS or nodes * 2 > max_nodes:
            accept[:] = True
        done += sums[accept].sum(axis=0)
        error += difference[accept].sum(axis=0)
        rounding += float(noise[accept].sum()) + 4 * _EPS * float(scale.reshape(-1, family).sum(axis=1)[accept].sum())
        if accept.all():
            # Mass that no cell has seen (an edge where the density is infinite, a tail) may carry the largest f met.
            lost = abs(1.0 - float(done[1])) if integrand.has_mass else 0.0
            unseen = lost * integrand.largest if lost > _LOST else 0.0
            # Log-densities are known to 1e-14 or so; where p ≈ q this squared is what is left of zero.
            error[0] += rounding + unseen + 1e-28
            return Integral(float(done[0]), float(error[0]), float(done[1]), float(error[1]), nodes)
        keep = np.repeat(~accept, family)
        low, high, current = child_low[keep], child_high[keep], children[keep]


def integrate_cells(
    integrand: Integrand, low: Float64[np.ndarray, "c d"], high: Float64[np.ndarray, "c d"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Integrals (c, 2) of [f·p, p] over the cells, Σ|f·p| (c,), and what rounding of x can do to them (c,)."""
    unit, weights = _rule(_ORDER[integrand.dim], integrand.dim)
    integrals, scales, noises = np.empty((len(low), 2)), np.empty(len(low)), np.empty(len(low))
    block = max(1, 200_000 // len(unit))
    for start in range(0, len(low), block):
        cut = slice(start, start + block)
        width = high[cut] - low[cut]
        z = low[cut, None, :] + width[:, None, :] * unit
        count = len(width)
        values, density, x = integrand(z.reshape(-1, integrand.dim))
        volume = width.prod(axis=1)
        values, density = values.reshape(count, -1), density.reshape(count, -1)
        with np.errstate(invalid="ignore", over="ignore"):
            integrals[cut, 0] = volume * (values @ weights)
            integrals[cut, 1] = volume * (density @ weights)
            scales[cut] = volume * (np.abs(values) @ weights)
            # A node is known to eps·|x|: over a cell of width h this moves the integral by at most
            # eps·|x|/h times the variation of the integrand, times the volume.
            reach = np.abs(x).reshape(count, -1, integrand.dim).max(axis=1)
            extent = np.abs(width @ np.abs(integrand.matrix).T)
            blur = _EPS * (reach / np.maximum(extent, np.finfo(np.float64).tiny)).max(axis=1)
            noises[cut] = blur * volume * (values.max(axis=1) - values.min(axis=1))
    return integrals, scales, np.nan_to_num(noises, nan=0.0, posinf=0.0)


def split(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 2^d halves of each cell, siblings side by side."""
    dim = low.shape[1]
    middle = low + (high - low) / 2
    corners = np.stack(np.meshgrid(*[[0, 1]] * dim, indexing="ij"), axis=-1).reshape(-1, dim).astype(bool)
    lows = np.where(corners[None], middle[:, None], low[:, None])
    highs = np.where(corners[None], high[:, None], middle[:, None])
    return lows.reshape(-1, dim), highs.reshape(-1, dim)


@cache
def _rule(order: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Tensor Gauss-Legendre rule on the unit cube: nodes (m, d), weights (m,)."""
    node, weight = np.polynomial.legendre.leggauss(order)
    node, weight = (node + 1) / 2, weight / 2
    if dim == 1:
        return node[:, None], weight
    grid = np.stack(np.meshgrid(node, node, indexing="ij"), axis=-1).reshape(-1, 2)
    return grid, np.outer(weight, weight).ravel()
