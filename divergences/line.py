r"""Optimal transport on the line: sorted samples, and laws by their CDFs F, G and quantile functions.

$$ W_1 = \int |F(x) - G(x)|\,dx, \qquad W_2^2 = \int_0^1 \big(F^{-1}(u) - G^{-1}(u)\big)^2 du $$

Between samples the monotone plan is optimal, for both orders: sort, and move the k-th to the k-th.

W₁ of laws is integrated between the places where F and G cross, which are located first: there |F−G| has kinks, and
there the Kantorovich critic turns. In the upper tail F − G is computed from the survival functions, so that no digits
are lost.

W₂ of laws is integrated over t = Φ⁻¹(u), where quantile functions of light-tailed laws are smooth, with F⁻¹ by the CDF
for u < ½ and by the survival function above. Where the squared difference still matters at u = 10⁻¹⁶ the tails are
followed over s = −log u down to u = 10⁻¹⁰⁰, and continued as the power law they have become there; a share per decade
that does not fall by then makes the distance infinite.

Reference: *Optimal Transport for Applied Mathematicians* (Santambrogio, 2015), section 2.2,
https://doi.org/10.1007/978-3-319-20828-2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtr, ndtri

from divergences.cells import adapt
from divergences.distributions import Discrete, Gaussian, Mixture, Uniform, knots_of
from divergences.placement import TAIL_LEVELS, thinned

__all__ = [
    "line_transport",
    "line_violation",
    "mean_length",
    "monotone_potentials",
    "north_west",
    "squared_transform",
    "staircase",
]

_TOL = 1e-11
_MAX_NODES = 20_000_000
_PROBES = 16
_EPS = float(np.finfo(np.float64).eps)
_LONG_EPS = float(np.finfo(np.longdouble).eps)
# Beyond these no square is a normal number.
_SMALL, _LARGE = 1e-140, 1e140
# Φ(−8.2) is 1e-16. From there on tails are followed in s = −log u, if they matter, down to u = e^−230: further out
# quantile functions of libraries are wrong without saying so (Student's of scipy beyond 1e70).
_NORMAL_REACH = 8.2
_LAST = 230.0
# The same for W₁, in multiples of where the bulk of the laws lies.
_FAR = 1e50
_MAX_JUMPS = 1000
# Differences of quantiles this much smaller than these are noise of whoever computed them.
_QUANTILE_NOISE = 1e-11


def mean_length(
    difference: Float64[np.ndarray, " n"], order: int, mass: Float64[np.ndarray, " n"] | None = None
) -> float:
    """(Σ mass · difference^order)^(1/order) of lengths ≥ 0, which are overwritten; equal mass if None; at any scale."""
    peak = float(difference.max(initial=0.0))
    scale = 1.0
    if not _SMALL < peak < _LARGE:
        if peak == 0 or not np.isfinite(peak):
            return peak
        scale = float(np.ldexp(1.0, int(np.frexp(peak)[1]) - 1))
        difference /= scale
    if order == 2:
        np.square(difference, out=difference)
    if mass is not None:
        difference *= mass
    power = float(np.add.reduce(difference)) / (len(difference) if mass is None else 1)
    return scale * (power if order == 1 else float(np.sqrt(power)))


def north_west(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The staircase plan between sorted weights: both cumulative sums, merged."""
    # In extended precision, where there is one: rounding of long sums is mass sent astray.
    sums = [np.cumsum(w, dtype=np.longdouble) for w in (a, b)]
    upper_a, upper_b = ((total / total[-1]).astype(np.float64) for total in sums)
    edges = np.union1d(upper_a, upper_b)
    mass = np.diff(edges, prepend=0.0)
    middle = edges - mass / 2
    rows = np.minimum(np.searchsorted(upper_a, middle), len(a) - 1)
    columns = np.minimum(np.searchsorted(upper_b, middle), len(b) - 1)
    moved = mass > 0
    return rows[moved], columns[moved], mass[moved]


def staircase(p: Discrete, q: Discrete) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sorting orders of both sides, and the monotone plan between them."""
    rows_order, columns_order = np.argsort(p.points[:, 0], kind="stable"), np.argsort(q.points[:, 0], kind="stable")
    return rows_order, columns_order, *north_west(p.weights[rows_order], q.weights[columns_order])


def monotone_potentials(
    x: np.ndarray, y: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Potentials of the monotone plan for squared distance, by complementary slackness along its staircase."""
    u, v = np.zeros(len(x)), np.zeros(len(y))
    v[columns[0]] = (x[rows[0]] - y[columns[0]]) ** 2
    for k in range(1, len(rows)):
        i, j = rows[k], columns[k]
        cost = (x[i] - y[j]) ** 2
        if i == rows[k - 1]:
            v[j] = cost - u[i]
        elif j == columns[k - 1]:
            u[i] = cost - v[j]
        else:
            # Both advance at once: the step through (i−1, j) or (i, j−1) is free; take the first.
            previous = rows[k - 1]
            v[j] = (x[previous] - y[j]) ** 2 - u[previous]
            u[i] = cost - v[j]
    return u, v


def line_violation(
    x: Float64[np.ndarray, " n"],
    y: Float64[np.ndarray, " m"],
    u: Float64[np.ndarray, " n"],
    v: Float64[np.ndarray, " m"],
    order: int,
) -> float:
    """The largest u_i + v_j − |x_i − y_j|^order, or 0, without looking at every pair."""
    if order == 2:
        return max(0.0, float((v - squared_transform(y, x, u)).max()))
    by_x = np.argsort(x, kind="stable")
    x, u = x[by_x], u[by_x]
    place = np.searchsorted(x, y, side="right")
    left = np.concatenate([[-np.inf], np.maximum.accumulate(u + x)])[place] + v - y
    right = np.concatenate([np.maximum.accumulate((u - x)[::-1])[::-1], [-np.inf]])[place] + v + y
    return max(float(left.max()), float(right.max()), 0.0)


def squared_transform(
    x: Float64[np.ndarray, " n"], y: Float64[np.ndarray, " m"], v: Float64[np.ndarray, " m"]
) -> Float64[np.ndarray, " n"]:
    """min_j (x_i − y_j)² − v_j, from the upper envelope of the lines 2xy_j − y_j² + v_j."""
    middle = float(np.median(y))
    order = np.lexsort((v, y))
    x, y, v = x - middle, y[order] - middle, v[order]
    slope, height = 2 * y, v - y * y
    hull: list[int] = []
    for k in range(len(y)):
        if hull and slope[k] == slope[hull[-1]]:
            hull.pop()
        while len(hull) > 1:
            i, j = hull[-2], hull[-1]
            if (height[j] - height[i]) * (slope[k] - slope[j]) > (height[k] - height[j]) * (slope[j] - slope[i]):
                break
            hull.pop()
        hull.append(k)
    top = np.array(hull)
    best = np.searchsorted(-np.diff(height[top]) / np.diff(slope[top]), x)
    # Rounding may move a turn past x: the neighbours are looked at too.
    near = [top[np.clip(best + step, 0, len(top) - 1)] for step in (-1, 0, 1)]
    return np.min([(x - y[j]) ** 2 - v[j] for j in near], axis=0)


def line_transport(p: Any, q: Any, order: int) -> tuple[float, float, Float64[np.ndarray, " k"]]:
    """W_order of two laws with ``cdf`` and ``quantile``: value, error, and the places where the CDFs cross."""
    if order == 1:
        return _first_order(p, q)
    return *_second_order(p, q), np.empty(0)


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
    inner = np.concatenate([np.atleast_1d(law.quantile(np.array([1e-6, 1 - 1e-6]))) for law in (p, q)])
    # Heavy tails are followed for many decades, and then continued as the power law they have become.
    limit = _FAR * float(np.abs(inner).max())
    beyond, unsure = 0.0, 0.0
    for side, reached in ((-1.0, edges[0] < -limit), (1.0, edges[-1] > limit)):
        if reached:
            s = np.log(limit) + np.log([1e-20, 1e-10, 1.0])
            more = _continued(s, np.abs(_difference(p, q, side * np.exp(s))) * np.exp(s))
            beyond, unsure = beyond + more[0], unsure + more[1]
    if np.isinf(beyond):
        return np.inf, 0.0, np.empty(0)
    edges = np.unique(np.clip(edges, -limit, limit)) if limit > 0 else edges
    crossings = _crossings(p, q, edges)
    edges = np.unique(np.concatenate([edges, crossings]))
    integral = adapt(
        _Function(lambda x: np.abs(_difference(p, q, x))), edges[:-1, None], edges[1:, None], _TOL, _MAX_NODES
    )
    # CDFs themselves are known to a few units in the last place, over the whole width in which they move.
    return integral.value + beyond, integral.error + unsure + _EPS * float(np.ptp(inner)), crossings


def _second_order(p: Any, q: Any) -> tuple[float, float]:
    """W₂ and its error: the middle over t = Φ⁻¹(u), and each tail for as long as it matters."""
    sides = [(lambda u, law=law: law.quantile(u), lambda u, law=law: _upper_quantile(law, u)) for law in (p, q)]
    lower, upper = ((sides[0][k], sides[1][k]) for k in (0, 1))

    def square(t: np.ndarray) -> np.ndarray:
        value = np.empty(len(t))
        for mine, ends in ((t < 0, lower), (t >= 0, upper)):
            u = ndtr(-np.abs(t[mine]))
            value[mine] = (ends[0](u) - ends[1](u)) ** 2
        return np.exp(-t * t / 2) / np.sqrt(2 * np.pi) * value

    cuts = np.linspace(-_NORMAL_REACH, _NORMAL_REACH, 42)
    for law in (p, q):
        if isinstance(law, Discrete) and len(law.atoms) <= _MAX_JUMPS:
            # Quantile functions of atoms jump: exactly there.
            jumps = ndtri(np.clip(np.cumsum(law.masses), 0.0, 1.0))
            cuts = np.union1d(cuts, jumps[np.abs(jumps) < _NORMAL_REACH])
    # Quantiles are known to a few units in the last place; by the triangle inequality this is what that can do.
    inner = np.concatenate([np.atleast_1d(law.quantile(np.array([1e-6, 1 - 1e-6]))) for law in (p, q)])
    blur = 4 * _EPS * float(np.abs(inner).max())
    integral = adapt(_Function(square), cuts[:-1, None], cuts[1:, None], max(_TOL, blur / 4), _MAX_NODES)
    if not np.isfinite(integral.value):
        return np.inf, 0.0
    value, error = integral.value, integral.error
    for ends in (lower, upper):
        tail, unsure = _tail(ends, value)
        if np.isinf(tail):
            return np.inf, 0.0
        value, error = value + tail, error + unsure
    root = float(np.sqrt(value))
    return root, max(float(np.sqrt(value + error)) - root, root - float(np.sqrt(max(value - error, 0.0)))) + blur


def _tail(ends: tuple[Callable[..., Any], Callable[..., Any]], value: float) -> tuple[float, float]:
    """∫ (F⁻¹ − G⁻¹)² du below u = Φ(−8.2), and what is not known of it; infinite if it does not die out."""

    def square(s: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):
            first, second = (np.asarray(end(np.exp(-s))) for end in ends)
            gap = np.abs(first - second)
            gap = np.where(gap > _QUANTILE_NOISE * np.maximum(np.abs(first), np.abs(second)), gap, 0.0)
            # Squares overflow long before their product with u does.
            return np.nan_to_num(gap * np.exp(-s / 2), nan=0.0, posinf=1e150) ** 2

    start = -float(np.log(ndtr(-_NORMAL_REACH)))
    probes = np.linspace(start, _LAST, 61)
    seen = square(probes)
    rough = float(np.trapezoid(seen, probes))
    if rough <= 1e-13 * max(value, 1e-3):
        return 0.0, 2 * rough + float(seen[0])
    beyond, unsure = _continued(probes[[-31, -16, -1]], seen[[-31, -16, -1]])
    if np.isinf(beyond):
        return np.inf, 0.0
    integral = adapt(_Function(square), probes[:-1, None], probes[1:, None], _TOL, _MAX_NODES // 10)
    return integral.value + beyond, integral.error + unsure


def _continued(s: Float64[np.ndarray, " 3"], share: Float64[np.ndarray, " 3"]) -> tuple[float, float]:
    """∫ share ds beyond the last of three places, as e^(−rate·s), and how far that may be off."""
    if share[-1] == 0:
        return 0.0, 0.0
    rates = -np.diff(np.log(np.maximum(share, np.finfo(np.float64).tiny))) / np.diff(s)
    change = abs(float(rates[1] - rates[0])) / max(abs(float(rates[1])), np.finfo(np.float64).tiny)
    # A rate that is constant is a power law of u. One that falls like k/s is a power of log u: infinite for k ≤ 1.
    if rates[1] < 1e-3 or (change > 0.01 and rates[0] > rates[1] and rates[1] * s[-1] < 1.05):
        return np.inf, 0.0
    beyond = float(share[-1] / rates[1])
    return beyond, beyond * min(1.0, 10 * change + 1e-9)


def _upper_quantile(law: Any, u: np.ndarray) -> Float64[np.ndarray, " n"]:
    """Where the survival function falls to u: what F⁻¹(1 − u) is when 1 − u rounds."""
    if isinstance(law, Gaussian):
        return law.mean[0] - law.cholesky[0, 0] * ndtri(u)
    if isinstance(law, Uniform):
        return law.high[0] - (law.high[0] - law.low[0]) * u
    if isinstance(law, Discrete):
        above = np.cumsum(law.masses[::-1])
        return law.atoms[::-1][np.minimum(np.searchsorted(above, u - 1e-15), len(above) - 1), 0]
    if isinstance(law, Mixture):
        ends = np.stack([_upper_quantile(leaf, u) for leaf in law.parts()[1]])
        low, high = ends.min(axis=0), ends.max(axis=0)
    else:
        start, stop = float(law.quantile(np.array([0.5]))[0]), float(law.support.high[0])
        low, high = np.full(len(u), start), np.full(len(u), stop)
        if np.isinf(stop):
            step = max(abs(start), float(np.finfo(np.float64).tiny))
            step = max(step, float(law.quantile(np.array([0.9]))[0]) - start)
            high = low + step
            while (outside := (law.survival(high) > u) & (high < 1e300)).any():
                low, high = np.where(outside, high, low), np.where(outside, start + 2 * (high - start), high)
    while True:
        middle = low + (high - low) / 2
        if not ((low < middle) & (middle < high)).any():
            return np.where(low == high, low, middle)
        above = law.survival(middle) > u
        low, high = np.where(above, middle, low), np.where(above, high, middle)


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
