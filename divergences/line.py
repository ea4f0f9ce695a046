r"""Optimal transport between laws on the line, from their CDFs F and G and quantile functions.

$$ W_1 = \int |F(x) - G(x)|\,dx, \qquad W_2^2 = \int_0^1 \big(F^{-1}(u) - G^{-1}(u)\big)^2 du $$

W₁ is integrated between the places where F and G cross, which are located first: there |F−G| has kinks, and there the
Kantorovich critic turns. In the upper tail F − G is computed from the survival functions, so that no digits are lost.
W₂ is integrated over t = Φ⁻¹(u), where quantile functions of light-tailed laws are smooth.

Reference: *Optimal Transport for Applied Mathematicians* (Santambrogio, 2015), section 2.2,
https://doi.org/10.1007/978-3-319-20828-2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtr

from divergences.cells import adapt
from divergences.distributions import knots_of
from divergences.placement import TAIL_LEVELS, thinned

__all__ = ["line_transport"]

_TOL = 1e-11
_MAX_NODES = 20_000_000
_PROBES = 16
_EPS = float(np.finfo(np.float64).eps)
# Φ(8.2) is the last normal quantile that float64 tells from 1; the mass beyond is 1e-16.
_NORMAL_REACH = 8.2


def line_transport(p: Any, q: Any, order: int) -> tuple[float, float, Float64[np.ndarray, " k"]]:
    """W_order of two laws with ``cdf`` and ``quantile``: value, error, and the places where the CDFs cross."""
    return _first_order(p, q) if order == 1 else _second_order(p, q)


class _Function:
    """A function on the line, as what ``adapt`` integrates (no mass to check)."""

    dim = 1
    matrix = np.eye(1)
    has_mass = False

    def __init__(self, function: Callable[[np.ndarray], np.ndarray]) -> None:
        self.function = function
        self.largest = 0.0

    def __call__(self, z: Float64[np.ndarray, "m d"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.function(z[:, 0]), np.zeros(len(z)), z


def _difference(p: Any, q: Any, x: np.ndarray) -> np.ndarray:
    """F − G, from whichever tail keeps the digits; 0 where these agree to a few units in the last place."""
    first, second = q.cdf(x), p.cdf(x)
    upper = (first > 0.5) & (second > 0.5)
    sign = np.where(upper, 1.0, -1.0)
    if upper.any():
        first[upper], second[upper] = q.survival(x[upper]), p.survival(x[upper])
    gap = sign * (first - second)
    return np.where(np.abs(gap) <= 4 * _EPS * np.maximum(first, second), 0.0, gap)


def _first_order(p: Any, q: Any) -> tuple[float, float, np.ndarray]:
    edges = thinned([knots_of(p), knots_of(q)], -np.inf, np.inf)
    if _heavy(p, q):
        return np.inf, 0.0, np.empty(0)
    crossings = _crossings(p, q, edges)
    edges = np.unique(np.concatenate([edges, crossings]))
    integral = adapt(
        _Function(lambda x: np.abs(_difference(p, q, x))), edges[:-1, None], edges[1:, None], _TOL, _MAX_NODES
    )
    # CDFs themselves are known to a few units in the last place, over the whole width in which they move.
    inner = np.concatenate([np.atleast_1d(law.quantile(np.array([1e-6, 1 - 1e-6]))) for law in (p, q)])
    return integral.value, integral.error + 2e-16 * float(np.ptp(inner)), crossings


def _second_order(p: Any, q: Any) -> tuple[float, float, np.ndarray]:
    def square(t: np.ndarray) -> np.ndarray:
        u = ndtr(t)
        return np.exp(-t * t / 2) / np.sqrt(2 * np.pi) * (p.quantile(u) - q.quantile(u)) ** 2

    cuts = np.linspace(-_NORMAL_REACH, _NORMAL_REACH, 42)
    integral = adapt(_Function(square), cuts[:-1, None], cuts[1:, None], _TOL, _MAX_NODES)
    ends = square(cuts[[0, -1]])
    # What lies beyond: the mass there is 2.4e-16, and squares of quantiles grow slowly for light tails.
    error = integral.error + float(ends.sum()) / _NORMAL_REACH
    if error > 1e-3 * max(1.0, integral.value):
        return np.inf, 0.0, np.empty(0)
    value = float(np.sqrt(integral.value))
    return value, float(np.sqrt(integral.value + error)) - value if value > 0 else float(np.sqrt(error)), np.empty(0)


def _crossings(p: Any, q: Any, edges: np.ndarray) -> Float64[np.ndarray, " k"]:
    """Where F − G changes sign: bracketed between probes of every panel, then bisected to the last bit."""
    fractions = np.linspace(0.0, 1.0, _PROBES, endpoint=False)
    grid = np.append((edges[:-1, None] + np.diff(edges)[:, None] * fractions).ravel(), edges[-1])
    sign = np.sign(_difference(p, q, grid))
    moving = np.flatnonzero(sign)
    turns = np.flatnonzero(sign[moving[:-1]] * sign[moving[1:]] < 0)
    low, high = grid[moving[turns]], grid[moving[turns + 1]]
    left = sign[moving[turns]]
    while len(low):
        middle = low + (high - low) / 2
        if not ((low < middle) & (middle < high)).any():
            break
        same = np.sign(_difference(p, q, middle)) == left
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return np.unique(high)


def _heavy(p: Any, q: Any) -> bool:
    """Whether |F − G| does not die out in a tail: then a mean is missing and W₁ is infinite."""
    for law in (p, q):
        for near, middle, far in getattr(law, "tails", lambda _: [])(TAIL_LEVELS):
            sections = []
            for start, stop in ((near, middle), (middle, far)):
                x = np.geomspace(abs(start), abs(stop), 4001) * np.sign(stop)
                h = np.abs(_difference(p, q, x))
                sections.append(abs(float(np.trapezoid(h, x))))
            if sections[1] > 1e-8 and sections[1] >= 0.5 * sections[0]:
                return True
    return False
