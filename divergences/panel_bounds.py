r"""f-divergences on the line with a *proven* error, for mixtures of Gaussian and uniform laws.

**One panel.** Let F be analytic inside the ellipse with foci c ± h and semi-axes a = h(ρ + 1/ρ)/2, b = h(ρ − 1/ρ)/2,
and |F| ≤ M there. The Chebyshev coefficients of F on [c − h, c + h] are at most 2Mρ^(−k). The n-point Gauss-Legendre
rule is exact for k < 2n and for odd k, has positive weights of sum 2, and ∫T_k = −2/(k² − 1), so that

$$ \Big|\int F - Q\Big| \le h \sum_{k = 2n, 2n+2, \dots} 2M\rho^{-k}\Big(2 + \frac2{k^2 - 1}\Big)
   \le h\,M\,\Big(4 + \frac4{4n^2 - 1}\Big)\frac{\rho^{-2n}}{1 - \rho^{-2}} . $$

**M.** A law is p = Σ t_k, t_k(z) = exp(quadratic in z with real coefficients). Let t_D be the largest of them at c and
u_k = t_k/t_D. On the rectangle |Re z − c| ≤ a, |Im z| ≤ b, which holds the ellipse, interval arithmetic on one
quadratic gives |u_k| ≤ U_k and |arg u_k| ≤ φ_k. Hence Re Σ u_k ≥ L = 1 − Σ U_k max(0, −cos min(φ_k, π)). Where L > 0,
p has no zero there, log p = log t_D + log Σ u_k is analytic, and |log Σ u_k|² ≤ max(|log L|, log Σ U_k)² + (π/2)².
Or else: where the phases of all larger u_k, 1 among them, lie in a cone of angle ψ < π, their sum is at least cos(ψ/2)
and its argument below π; what the smaller ones can do is subtracted from the one, and below π/2 in the other.
With these, ``panel_forms`` bounds F. The best of a few ρ is taken.

**What is too small to matter.** If F = F₀ + R and |R| ≤ ε on the real panel, R changes integral and rule by at most
4hε together, and only F₀ need be analytic. So components below e^(−40) of the largest on the whole panel are left
out, a law that is negligible against the other is left out, and where both are negligible all is.

**The rest.** Panels that are not yet good enough are cut in pieces; kinks of the log-densities, where two components
cross and p has zeros near the line, are thus met by small panels. Beyond the outermost m ± Rσ the tails are bounded in
closed form: |log q| ≤ quadratic, and moments of the normal tail. Last comes an *allowance* for rounding: a few units
in the last place on every log-density, through the derivative of F, and on the place of every panel edge. The bounds
themselves are computed in floating point; they carry a margin of 1 %, far above their own rounding.

References: *Is Gauss Quadrature Better than Clenshaw-Curtis?* (Trefethen, 2008),
https://doi.org/10.1137/060659831, theorem 4.5; *Numerical integration in arbitrary-precision ball
arithmetic* (Johansson, 2018), https://arxiv.org/abs/1802.07942, for the same idea with balls.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy.special import erfc

from divergences.distributions import Distribution, Gaussian, Uniform, parts_of
from divergences.panel_forms import Form, Moduli

__all__ = ["OVERFLOW", "integrate_pair", "log_of_sum"]

_EPS = float(np.finfo(np.float64).eps)
_ORDER = 32
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(_ORDER)
# Ellipses tried, besides the panel itself (ρ = 1), which is not analytic but real.
_RHO = np.array([1.0, 1.4, 1.6, 1.9, 2.3, 3.0])
_WIDE = (_RHO + 1 / _RHO) / 2
_TALL = (_RHO - 1 / _RHO) / 2
with np.errstate(divide="ignore"):
    _FACTOR = np.where(_RHO > 1, (4 + 4 / (4 * _ORDER**2 - 1)) * _RHO ** (-2.0 * _ORDER) / (1 - _RHO**-2.0), np.inf)
_MARGIN = 1.01
# A component smaller than this (log) share of the largest one is left out of a panel.
_NEGLIGIBLE = -40.0
_SAFE = 0.02
# Shares from here on count as infinite.
OVERFLOW = 1e250
# Components up to this size are told apart from those whose phases have to keep together.
_LARGE = 0.1
_PIECES = 3
_MAX_ROUNDS = 40
_MAX_PANELS = 20_000
_MAX_PARTS = 2000
# Panels times components at the start, and in one block of either step.
_MAX_WORK = 1_000_000
_BLOCK = 20_000
_REACHES = (9.5, 12.0, 20.0, 38.0)
_KNOTS = np.array([-1.0, -0.35, 0.0, 0.35, 1.0])
_TINY = 1e-300


class _Parts(NamedTuple):
    """A law on the line: Σ_k exp(height_k − ((x − mean_k − rest_k)·rate_k)²/2) on [low_k, high_k]; rate 0: uniform."""

    mean: Float64[np.ndarray, " k"]
    rest: Float64[np.ndarray, " k"]
    rate: Float64[np.ndarray, " k"]
    height: Float64[np.ndarray, " k"]
    low: Float64[np.ndarray, " k"]
    high: Float64[np.ndarray, " k"]


class _Side(NamedTuple):
    """What is known of one law on panels (c,) and rectangles (c, r)."""

    lead: tuple[np.ndarray, np.ndarray, np.ndarray]
    empty: np.ndarray
    log_size: np.ndarray
    log_sum: np.ndarray
    dropped: np.ndarray
    log_share: np.ndarray


def integrate_pair(
    form: Form, p: Distribution, q: Distribution, *, tol: float, max_nodes: int
) -> tuple[float, float, int] | None:
    """∫ m·g(log p − log q) with m = (p + q)/2: value, proven error and number of nodes.

    None where there is no proof: a law of another family, an infinite integral, or panels that would not end.
    """
    first, second, origin = _read(p), _read(q), _origin(p, q)
    if first is None or second is None or len(first.mean) + len(second.mean) > _MAX_PARTS:
        return None
    first, second = _moved(first, origin), _moved(second, origin)
    edges, tail = _edges(form, first, second, tol)
    if edges is None:
        return None
    center, half = (edges[:-1] + edges[1:]) / 2, np.diff(edges) / 2
    if len(center) * (len(first.mean) + len(second.mean)) > _MAX_WORK:
        return None
    if _infinite(form, first, second, center):
        return None
    value, bound, rounding, nodes = 0.0, 0.0, 0.0, 0
    for _ in range(_MAX_ROUNDS):
        errors = np.concatenate(
            [_panel_errors(form, first, second, *block) for block in _blocks(first, second, center, half)]
        )
        goal = max(0.25 * tol * max(1.0, abs(value)) - bound, 0.0) / 2
        order = np.argsort(errors)
        accept = np.zeros(len(center), dtype=bool)
        accept[order[np.cumsum(errors[order]) <= goal]] = True
        if accept.any():
            for block in _blocks(first, second, center[accept], half[accept]):
                found, allowance = _integrate(form, first, second, *block)
                value += found
                rounding += allowance
            if not np.isfinite(value + rounding):
                return None
            bound += float(errors[accept].sum())
            nodes += int(accept.sum()) * _ORDER
        if accept.all():
            return value, _MARGIN * (bound + tail) + rounding + 1e-28, nodes
        center, half = _cut(center[~accept], half[~accept])
        if len(center) > _MAX_PANELS or nodes + len(center) * _ORDER > max_nodes:
            return None
    return None


def _blocks(p: _Parts, q: _Parts, center: np.ndarray, half: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Panels in blocks of bounded memory."""
    rows = max(1, _BLOCK // (len(p.mean) + len(q.mean)))
    return [(center[start : start + rows], half[start : start + rows]) for start in range(0, len(center), rows)]


def _infinite(form: Form, p: _Parts, q: _Parts, center: np.ndarray) -> bool:
    """Whether one law has mass on a panel where the other has none, and F cannot bear that."""
    empty_p, empty_q = (np.isneginf(_terms(parts, center)[0]).all(axis=1) for parts in (p, q))
    return bool(
        (form.without_p is None and (empty_p & ~empty_q).any())
        or (form.without_q is None and (empty_q & ~empty_p).any())
    )


def _cut(center: np.ndarray, half: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each panel in equal pieces."""
    places = (np.arange(_PIECES) * 2 + 1 - _PIECES) / _PIECES
    return (center[:, None] + half[:, None] * places).ravel(), np.repeat(half / _PIECES, _PIECES)


def _read(law: Distribution) -> _Parts | None:
    """The law as parts, if it is made of Gaussian and uniform ones."""
    weights, leaves = parts_of(law)
    if law.dim != 1 or not all(type(leaf) in (Gaussian, Uniform) for leaf in leaves):
        return None
    rows = []
    for weight, leaf in zip(weights, leaves, strict=True):
        if isinstance(leaf, Gaussian):
            rate = 1 / float(leaf.cholesky[0, 0])
            rows.append((float(leaf.mean[0]), rate, float(np.log(weight)) + leaf._log_norm, -np.inf, np.inf))
        elif isinstance(leaf, Uniform):
            low, high = float(leaf.low[0]), float(leaf.high[0])
            rows.append((low, 0.0, float(np.log(weight)) - float(np.log(high - low)), low, high))
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return _Parts(columns[0], np.zeros(len(rows)), *columns[1:])


def _origin(p: Distribution, q: Distribution) -> float:
    """Where coordinates start, so that edges are known most closely where panels are smallest."""
    leaves = [leaf for law in (p, q) for leaf in parts_of(law)[1]]
    narrow = min(leaves, key=lambda leaf: _width(leaf))
    return float(narrow.mean[0]) if isinstance(narrow, Gaussian) else float(getattr(narrow, "low", np.zeros(1))[0])


def _width(leaf: Distribution) -> float:
    if isinstance(leaf, Gaussian):
        return float(leaf.cholesky[0, 0])
    return float(leaf.high[0] - leaf.low[0]) if isinstance(leaf, Uniform) else np.inf


def _moved(parts: _Parts, origin: float) -> _Parts:
    """Coordinates from ``origin``; what the subtraction rounds off is kept in ``rest``."""
    mean = parts.mean - origin
    back = mean + origin
    rest = (parts.mean - back) - (origin - (back - mean))
    return parts._replace(mean=mean, rest=rest, low=parts.low - origin, high=parts.high - origin)


def _edges(form: Form, p: _Parts, q: _Parts, tol: float) -> tuple[np.ndarray | None, float]:
    """First panel edges, from the first reach whose tails are bounded by a small share of the tolerance."""
    for reach in _REACHES:
        tail = _tail_bound(p, q, reach) if form.grows else 4 * float(erfc(reach / np.sqrt(2.0)))
        if tail <= 1e-3 * tol:
            break
    else:
        return None, np.inf
    position, scale = [], []
    for parts in (p, q):
        bell = parts.rate > 0
        width = 1 / parts.rate[bell]
        position.append((parts.mean[bell][:, None] + width[:, None] * (reach * _KNOTS)).ravel())
        scale.append(np.repeat(width, len(_KNOTS)))
        walls = np.concatenate([parts.low[~bell], parts.high[~bell]])
        position.append(walls)
        scale.append(np.zeros(len(walls)))
    places, scales = np.concatenate(position), np.concatenate(scale)
    order = np.lexsort((scales, places))
    kept: list[int] = []
    for index in order.tolist():
        # Edges that crowd add cost, not sight; but the outermost one, and a jump, must stay.
        if not kept or scales[index] == 0 or places[index] - places[kept[-1]] > min(scales[index], scales[kept[-1]]):
            kept.append(index)
    return np.unique(np.append(places[kept], places.max())), tail


def _tail_bound(p: _Parts, q: _Parts, reach: float) -> float:
    """∫ (p + q)(|log p| + |log q| + 1) where every Gaussian component is beyond ``reach``.

    From above log q ≤ log Σ e^height, from below log q ≥ that of its widest component: a quadratic in the normalised
    coordinate of whichever component carries the mass, whose normal tail moments are known.
    """
    beyond = float(erfc(reach / np.sqrt(2.0)))
    second = beyond + 2 * reach * float(np.exp(-reach * reach / 2) / np.sqrt(2 * np.pi))
    total = 0.0
    for carrier in (p, q):
        bell = carrier.rate > 0
        if not bell.any():
            continue
        mass = np.exp(carrier.height[bell]) * np.sqrt(2 * np.pi) / carrier.rate[bell]
        fixed, growing = np.ones(bell.sum()), np.zeros(bell.sum())
        for parts in (p, q):
            wide = int(np.argmin(np.where(parts.rate > 0, parts.rate, np.inf)))
            if parts.rate[wide] == 0:
                # No Gaussian component: there is nothing of this law out here, and no logarithm of it in F.
                continue
            top = float(np.logaddexp.reduce(parts.height))
            offset = (carrier.mean[bell] - parts.mean[wide]) * parts.rate[wide]
            # ((m + sz − m_j)/s_j)²/2 ≤ offset² + (s/s_j)² z²
            fixed += abs(top) + abs(float(parts.height[wide])) + offset**2
            growing += (parts.rate[wide] / carrier.rate[bell]) ** 2
        total += float((mass * (fixed * beyond + growing * second)).sum())
    return total


def _terms(parts: _Parts, center: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log of each component at the centre of each panel (−∞ where it has no mass) and z there; shapes (c, k)."""
    z = ((center[:, None] - parts.mean) - parts.rest) * parts.rate
    # No panel reaches across an edge: where its centre lies, all of it lies.
    inside = (parts.low < center[:, None]) & (center[:, None] < parts.high)
    return np.where(inside, parts.height - z * z / 2, -np.inf), z


def _highest(value: np.ndarray, slope: np.ndarray, bend: np.ndarray, wide: np.ndarray, tall: np.ndarray) -> np.ndarray:
    """Max of value + slope·ξ + bend·(ξ² − y²) over |ξ| ≤ wide, |y| ≤ tall."""
    slope = np.abs(slope)
    sink = np.maximum(-bend, 0.0)
    at = np.where(sink > 0, np.minimum(wide, slope / np.maximum(2 * sink, _TINY)), wide)
    return value + at * (slope + bend * at) + sink * tall * tall


def _side(parts: _Parts, center: np.ndarray, half: np.ndarray) -> _Side:
    """Bounds on one law and on its logarithm over the rectangle around each ellipse."""
    value, z = _terms(parts, center)
    slope, bend = -z * parts.rate, np.broadcast_to(-parts.rate * parts.rate / 2, z.shape)
    rows, lead = np.arange(len(center)), value.argmax(axis=1)
    empty = np.isneginf(value[rows, lead])
    lead_value = np.where(empty, 0.0, value[rows, lead])
    lead_slope, lead_bend = slope[rows, lead], bend[rows, lead]
    wide, tall = half[:, None] * _WIDE, half[:, None] * _TALL
    # Differences of large numbers are known to their last place only.
    blur = 8 * _EPS * (np.abs(lead_value)[:, None] + np.where(np.isneginf(value), 0.0, np.abs(value)))
    gap, tilt, curl = (
        (value - lead_value[:, None] + blur)[:, :, None],
        (slope - lead_slope[:, None])[:, :, None],
        (bend - lead_bend[:, None])[:, :, None],
    )
    top = _highest(gap, tilt, curl, wide[:, None, :], tall[:, None, :])
    small = top[:, :, 0] < _NEGLIGIBLE
    share = np.minimum(np.exp(np.minimum(top, 700.0)), OVERFLOW)
    dropped = np.where(small, share[:, :, 0], 0.0).sum(axis=1)
    share[small] = 0.0
    upper, log_sum = log_of_sum(share, tilt, 2 * np.abs(curl) * wide[:, None, :], tall)
    log_upper = np.log(upper)
    log_size = log_upper + _highest(lead_value[:, None], lead_slope[:, None], lead_bend[:, None], wide, tall)
    log_size[empty], log_sum[empty] = -np.inf, 0.0
    return _Side((lead_value, lead_slope, lead_bend), empty, log_size, log_sum, dropped, log_upper[:, 0])


def log_of_sum(
    size: np.ndarray, slope: np.ndarray, sway: np.ndarray, tall: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Σ|u_k| ≥ 1 and a bound on |log Σ u_k| (∞ without a proof), from |u_k| ≤ size and arg u_k = (slope ± sway)·y.

    Shapes: (c, k, r) for the components, (c, r) for |y| ≤ tall and for the results.
    """
    # A size that was cut off is not known at all.
    upper = np.where((size >= OVERFLOW).any(axis=1), np.inf, np.maximum(size.sum(axis=1), 1.0))
    # A single component has no sum to take the logarithm of.
    if size.shape[1] == 1:
        return upper, np.zeros_like(upper)
    turn = np.minimum((np.abs(slope) + sway) * tall[:, None, :], np.pi)
    half_plane = 1 - (size * np.maximum(-np.cos(turn), 0.0)).sum(axis=1)
    large = size >= _LARGE
    first = np.where(large, slope + sway, 0.0).max(axis=1, initial=0.0)
    last = np.where(large, slope - sway, 0.0).min(axis=1, initial=0.0)
    cone = np.cos(np.minimum((first - last) * tall, np.pi) / 2) - np.where(large, 0.0, size).sum(axis=1)
    lower = np.maximum(half_plane, cone)
    angle = np.where(tall > 0, np.where(half_plane >= cone, 0.5, 1.5) * np.pi, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        log_sum = np.hypot(np.maximum(np.log(upper), -np.log(lower)), angle)
    log_sum = np.where(lower > _SAFE, log_sum, np.inf)
    return upper, np.where((size > 0).sum(axis=1) <= 1, 0.0, log_sum)


def _panel_errors(form: Form, p: _Parts, q: _Parts, center: np.ndarray, half: np.ndarray) -> np.ndarray:
    """A bound on the error of the rule on each panel: the best over ellipses and over what may be left out."""
    first, second = _side(p, center, half), _side(q, center, half)
    sides = [first, second]
    if form.mixes:
        # Only log (p + q) is asked for, never p + q: what is dropped from it is a share of the integrand.
        sides.append(_side(_Parts(*(np.concatenate(pair) for pair in zip(p, q, strict=True))), center, half))
    wide = half[:, None] * _WIDE
    with np.errstate(over="ignore", invalid="ignore"):
        steps = [a - b for a, b in zip(first.lead, second.lead, strict=True)]
        swing = np.abs(steps[0])[:, None] + np.abs(steps[1])[:, None] * wide + np.abs(steps[2])[:, None] * wide**2
        sizes = [np.exp(side.log_size) for side in sides[:2]]
        leads = (first.lead[0] >= second.lead[0])[:, None]
        rests = [side.log_sum for side in sides]
        minor = np.where(leads, sizes[1], sizes[0])
        at = Moduli(sizes[0], sizes[1], rests[0], rests[1], rests[-1], swing, minor)
        entire, rest, close = (
            np.nan_to_num(part(at), nan=np.inf, posinf=np.inf) for part in (form.entire, form.rest, form.close)
        )
        # On the panel itself everything is real, and all bounds hold.
        real = np.minimum(entire[:, 0] + rest[:, 0], close[:, 0])
        rule = half * np.minimum(_best(entire) + _best(rest), _best(close))
        dropped = sum(side.dropped for side in sides)
        lost = np.where(dropped > 0, 8 * half * (real + sizes[0][:, 0] + sizes[1][:, 0]) * dropped, 0.0)
        errors = np.minimum(rule + lost, 4 * half * real)
        # Where one law has no mass at all, its logarithm has no meaning and only the simple forms below apply.
        errors[first.empty | second.empty] = np.inf
        errors[first.empty & second.empty] = 0.0
        for alone, small, large, sign in (
            (form.without_p, first, second, 1.0),
            (form.without_q, second, first, -1.0),
        ):
            if alone is None:
                continue
            log_ratio = _highest(sign * steps[0], steps[1], sign * steps[2], half, np.zeros(1)) + small.log_share
            ratio = np.where(small.empty, 0.0, np.exp(np.minimum(log_ratio, 0.0)))
            share = np.where(log_ratio < -1, alone.loss(ratio), np.inf)
            share = np.where(small.empty, 0.0, share) + 2 * large.dropped
            size = np.exp(large.log_size)
            rest = half * (4 * size[:, 0] * share + alone.factor * _best(size))
            errors = np.where(large.empty, errors, np.fmin(errors, rest))
    return np.nan_to_num(errors, nan=np.inf, posinf=np.inf)


def _best(modulus: np.ndarray) -> np.ndarray:
    """The error of the rule per half width, by the best ellipse."""
    return (modulus[:, 1:] * _FACTOR[1:]).min(axis=1)


def _integrate(form: Form, p: _Parts, q: _Parts, center: np.ndarray, half: np.ndarray) -> tuple[float, float]:
    """Gauss-Legendre over the panels, and an allowance for its rounding."""
    log_p, log_q = (_log_density(parts, center, half) for parts in (p, q))
    weight = half[:, None] * _WEIGHTS
    with np.errstate(invalid="ignore"):
        d = np.where(np.isneginf(log_p) & np.isneginf(log_q), 0.0, log_p - log_q)
        density = np.exp(log_p), np.exp(log_q)
        # Where there is no mass, F does not count, whatever its value there.
        mass = density[0] + density[1] > _TINY
        integrand = np.where(mass, form.value(*density, d), 0.0)
        rounding = 8 * _EPS * float((weight * np.abs(integrand)).sum())
        for parts, log, slip in zip((p, q), (log_p, log_q), form.slips(*density, d), strict=True):
            # z²/2 is at most |log density| + |height|; each is known to a few units in its last place.
            size = np.where(np.isneginf(log), 0.0, np.abs(log)) + np.abs(parts.height).max()
            known = _EPS * (8 + len(parts.mean) + 4 * size)
            rounding += float((weight * np.where(mass, slip * known, 0.0)).sum())
    rounding += 2 * _EPS * float(((np.abs(center) + half) * np.abs(integrand).max(axis=1)).sum())
    return float((weight * integrand).sum()), rounding


def _log_density(parts: _Parts, center: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Log density at the nodes (c, n), in coordinates of the panel: no digits are lost far from the origin."""
    inside = np.isfinite(_terms(parts, center)[0])
    offset = (center[:, None] - parts.mean) - parts.rest
    z = (offset[:, None, :] + (half[:, None] * _NODES)[:, :, None]) * parts.rate
    terms = parts.height - z * z / 2
    terms = np.where(inside[:, None, :], terms, -np.inf)
    top = terms.max(axis=2)
    top[np.isneginf(top)] = 0.0
    terms -= top[:, :, None]
    with np.errstate(divide="ignore"):
        return np.log(np.exp(terms, out=terms).sum(axis=2)) + top
