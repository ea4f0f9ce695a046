r"""Fits on the line: every local minimum of reverse KL and JSD over (m, s), and the minimum of W₁ and W₂.

**Reverse KL, JSD**: value, gradient and Hessian are integrals over q against Hermite polynomials (see ``fits``),
computed on panels that follow both q and the knots of p. The second derivatives of q itself are q·b with
b = (t² − 1)/s², (t³ − 3t)/s², (t⁴ − 5t² + 2)/s².

**W₂** splits into W₂² = (μ − m)² + σ² + s² − 2s·c with c = ∫ F⁻¹(u) Φ⁻¹(u) du = ∫ φ(Φ⁻¹(F(x))) dx: the minimum is
m = μ, s = c. **W₁** is stationary where the sign of F⁻¹(u) − m − sΦ⁻¹(u) is orthogonal to 1 and to Φ⁻¹(u); both
integrals are known in closed form from the places where the CDFs cross.

Reference: *Computational Optimal Transport* (Peyré, Cuturi, 2019), remark 2.30, https://arxiv.org/abs/1803.00567.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy import optimize
from scipy.special import expit, log_expit, ndtri

from divergences.cells import adapt
from divergences.distributions import Distribution, Gaussian, parts_of
from divergences.estimate import Estimate
from divergences.line import line_transport
from divergences.placement import line_cells

__all__ = ["all_minima", "transport_fit"]

_NODE, _WEIGHT = np.polynomial.legendre.leggauss(16)
_REACH = 9.5
_PANELS = np.linspace(-_REACH, _REACH, 20)
_LOG_2PI = float(np.log(2 * np.pi))
_LOG2 = float(np.log(2.0))
# Differences of CDFs below this are rounding.
_ROUNDING = 4e-16
_TAIL = 1e-4  # the scan reaches to these quantiles of p


class _Objective:
    """D(p, N(m, s²)) for D reverse KL or JSD, with gradient and Hessian in (m, s)."""

    def __init__(self, p: Distribution, kind: str) -> None:
        self.p = p
        self.kind = kind
        low, high = (side[:, 0] for side in line_cells(p, ()))
        self.knots = np.append(low, high[-1])
        x = (low[:, None] + (high - low)[:, None] * (_NODE + 1) / 2).ravel()
        self._mass = np.repeat((high - low) / 2, len(_NODE)) * np.tile(_WEIGHT, len(low))
        self._x = x
        self._log_p = p.log_prob(x[:, None])
        self._mass = self._mass * np.exp(self._log_p)

    def __call__(self, m: float, s: float) -> tuple[float, Float64[np.ndarray, " 2"], Float64[np.ndarray, "2 2"]]:
        edges = (self.knots - m) / s
        edges = np.union1d(_PANELS, edges[(edges > -_REACH) & (edges < _REACH)])
        half = np.diff(edges) / 2
        t = ((edges[:-1] + half)[:, None] + half[:, None] * _NODE).ravel()
        weight = (half[:, None] * _WEIGHT).ravel() * np.exp(-t * t / 2 - _LOG_2PI / 2)
        log_q = -t * t / 2 - _LOG_2PI / 2 - np.log(s)
        d = self.p.log_prob((m + s * t)[:, None]) - log_q
        if self.kind == "reverse_kl":
            psi, curve = -d, np.ones_like(d)
            value = float(weight @ psi)
        else:
            # ψ = ½ log q/M with q/M = 2/(1 + e^d); p's half of the divergence does not enter the gradient.
            psi, curve = 0.5 * (_LOG2 + log_expit(-d)), 0.5 * expit(d)
            # Where p has no mass z may be as large as it likes.
            z = np.clip((self._x - m) / s, -1e150, 1e150)
            other = self._log_p + z * z / 2 + _LOG_2PI / 2 + np.log(s)
            seen = self._mass > 0
            value = float(weight @ psi) + 0.5 * float(self._mass[seen] @ (_LOG2 + log_expit(other[seen])))
        first = np.stack([t, t * t - 1]) / s
        second = np.stack([t**2 - 1, t**3 - 3 * t, t**4 - 5 * t**2 + 2]) / s**2
        gradient = first @ (weight * psi)
        mixed = second @ (weight * psi)
        hessian = np.array([[mixed[0], mixed[1]], [mixed[1], mixed[2]]]) + (first * (weight * curve)) @ first.T
        return value, gradient, hessian


def all_minima(p: Distribution, moments: Gaussian, kind: str) -> list[Gaussian]:
    """Every local minimum found from a scan of (m, s), the modes of p, its parts and its moments."""
    objective = _Objective(p, kind)
    found: list[tuple[float, float]] = []
    for m, s in _starts(p, moments, objective):
        end = _descend(objective, m, s)
        if end is None:
            continue
        spread = float(np.sqrt(moments.cov[0, 0]))
        if all(abs(end[0] - a) + abs(end[1] - b) > 1e-6 * min(spread, b) for a, b in found):
            found.append(end)
    return [Gaussian(m, s * s) for m, s in found]


def _starts(p: Distribution, moments: Gaussian, objective: _Objective) -> list[tuple[float, float]]:
    """Low points of a scan, modes with the width that their curvature gives, parts, and the moments."""
    mean, spread = float(moments.mean[0]), float(np.sqrt(moments.cov[0, 0]))
    starts = [(mean, spread), (mean, 0.7 * spread)]
    for weight, leaf in zip(*parts_of(p), strict=True):
        if isinstance(leaf, Gaussian) and weight > _TAIL:
            starts.append((float(leaf.mean[0]), float(np.sqrt(leaf.cov[0, 0]))))
    grid = np.unique(objective._x[(objective._x > mean - 8 * spread) & (objective._x < mean + 8 * spread)])
    height = p.log_prob(grid[:, None])
    peaks = np.flatnonzero((height[1:-1] > height[:-2]) & (height[1:-1] >= height[2:])) + 1
    for k in peaks[height[peaks] > height.max() - 12][:50]:
        # Half-width of the peak at e^(−½) of its height: what σ is for a Gaussian.
        below = height < height[k] - 0.5
        left, right = grid[:k][below[:k]], grid[k:][below[k:]]
        reach = min(grid[k] - left[-1] if len(left) else np.inf, right[0] - grid[k] if len(right) else np.inf)
        if np.isfinite(reach) and reach > 0:
            starts.append((float(grid[k]), float(reach)))
    narrow = max(min([s for _, s in starts]), 1e-3 * spread)
    widths = np.geomspace(0.7 * narrow, 1.6 * spread, 12)
    centers = mean + spread * np.linspace(-2.5, 2.5, 41)
    table = np.array([[objective(m, s)[0] for s in widths] for m in centers])
    table = np.where(np.isfinite(table), table, np.inf)
    around = np.pad(table, 1, constant_values=np.inf)
    shifts = [around[1 + i : 42 + i, 1 + j : 13 + j] for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
    low = np.isfinite(table) & np.all([table <= shift for shift in shifts], axis=0)
    return starts + [(float(centers[i]), float(widths[j])) for i, j in np.argwhere(low)]


def _descend(objective: _Objective, m: float, s: float) -> tuple[float, float] | None:
    """Damped Newton over (m, log s), downhill only, so that it stays in the basin it starts in."""
    value, gradient, hessian = objective(m, s)
    for _ in range(200):
        if not np.isfinite(value):
            return None
        # In u = log s: ∂_u = s ∂_s, ∂_uu = s² ∂_ss + s ∂_s; and m in units of s.
        slope = s * gradient
        bend = s * s * hessian + np.diag([0.0, s * gradient[1]])
        eigenvalue, axes = np.linalg.eigh(bend)
        if np.abs(slope).max() < 1e-13 * max(1.0, abs(value)) or np.abs(slope).max() < 1e-15:
            break
        step = -axes @ ((axes.T @ slope) / np.maximum(np.abs(eigenvalue), 1e-10))
        step *= min(1.0, 0.5 / np.abs(step).max())
        if np.abs(step).max() < 1e-13:
            break
        scale = 1.0
        while scale > 1e-10:
            new = (m + scale * step[0] * s, s * float(np.exp(scale * step[1])))
            trial = objective(*new)
            # Near the minimum values agree to rounding: there the gradient decides.
            if trial[0] < value or (
                trial[0] <= value + 1e-13 * max(1.0, abs(value))
                and np.abs(new[1] * trial[1]).max() < np.abs(slope).max()
            ):
                break
            scale /= 2
        else:
            break
        (m, s), (value, gradient, hessian) = new, trial
    slope = s * gradient
    bend = s * s * hessian + np.diag([0.0, s * gradient[1]])
    settled = np.abs(slope).max() < 1e-9 * max(1.0, abs(value)) and np.linalg.eigvalsh(bend)[0] > 0
    return (m, s) if settled else None


def transport_fit(p: Any, moments: Gaussian, order: int) -> tuple[Gaussian, Estimate]:
    """The minimum of W₁ or W₂ over all Gaussians on the line."""
    best = _second_order(p, moments) if order == 2 else _first_order(p, moments)
    value, error, _ = line_transport(p, best, order)
    return best, Estimate(value, error, method=f"W{order} of laws on the line (estimate)")


class _Plain:
    """A function on the line, as what ``adapt`` integrates."""

    dim = 1
    matrix = np.eye(1)
    has_mass = False
    largest = 0.0

    def __init__(self, p: Any) -> None:
        self.p = p

    def __call__(self, z: Float64[np.ndarray, "m d"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        smaller = np.minimum(self.p.cdf(z[:, 0]), self.p.survival(z[:, 0]))
        t = ndtri(np.clip(smaller, 1e-300, 0.5))
        return np.exp(-t * t / 2) / np.sqrt(2 * np.pi), np.zeros(len(z)), z


def _second_order(p: Any, moments: Gaussian) -> Gaussian:
    correlation = adapt(_Plain(p), *line_cells(p, ()), 1e-13, 20_000_000).value
    return Gaussian(moments.mean, correlation**2)


def _first_order(p: Any, moments: Gaussian) -> Gaussian:
    """Zero of the gradient of a convex function: E[sign] = 0 and E[sign · z] = 0 over z ~ N(0, 1)."""
    spread = float(np.sqrt(moments.cov[0, 0]))
    center = float(moments.mean[0])

    low, high = (side[:, 0] for side in line_cells(p, ()))
    steps = low[:, None] + (high - low)[:, None] * np.arange(8) / 8
    # Where p has structure, and where its best fit has.
    grid = np.union1d(np.append(steps.ravel(), high[-1]), center + spread * np.linspace(-8, 8, 161))

    def gradient(u: np.ndarray) -> np.ndarray:
        m, s = center + spread * u[0], spread * float(np.exp(u[1]))
        q = Gaussian(m, s * s)
        z = (_crossings(p, q, grid) - m) / s
        probes = np.concatenate([[-1e3], (z[:-1] + z[1:]) / 2, [1e3]]) if len(z) else np.zeros(1)
        if len(z):
            probes[0], probes[-1] = z[0] - 1e-2, z[-1] + 1e-2
        x = m + s * probes
        difference = np.where(probes > 0, p.survival(x) - q.survival(x), q.cdf(x) - p.cdf(x))
        sign = np.sign(difference)  # of F_p⁻¹ − F_q⁻¹: p lies to the right where its CDF is the smaller
        ends = np.concatenate([[-np.inf], z, [np.inf]])
        cumulative = Gaussian(0.0, 1.0).cdf(ends)
        density = np.exp(-(ends**2) / 2) / np.sqrt(2 * np.pi)
        return np.array([sign @ np.diff(cumulative), sign @ -np.diff(density)])

    solution = optimize.root(gradient, np.zeros(2), method="hybr", options={"xtol": 1e-13})
    if np.abs(solution.fun).max() > 1e-7:
        solution = _polygon(p, center, spread)
    return Gaussian(center + spread * solution.x[0], (spread * np.exp(solution.x[1])) ** 2)


def _crossings(p: Any, q: Gaussian, grid: np.ndarray) -> Float64[np.ndarray, " k"]:
    """Where the CDFs cross: bracketed on the grid, then bisected."""

    def difference(x: np.ndarray) -> np.ndarray:
        below = q.cdf(x)
        gap = np.where(below > 0.5, p.survival(x) - q.survival(x), below - p.cdf(x))
        return np.where(np.abs(gap) > _ROUNDING, gap, 0.0)

    sign = np.sign(difference(grid))
    moving = np.flatnonzero(sign)
    turns = np.flatnonzero(sign[moving[:-1]] * sign[moving[1:]] < 0)
    low, high, left = grid[moving[turns]], grid[moving[turns + 1]], sign[moving[turns]]
    for _ in range(60):
        middle = (low + high) / 2
        same = np.sign(difference(middle)) == left
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return (low + high) / 2


def _polygon(p: Any, center: float, spread: float) -> Any:
    """Where the sign conditions have no exact zero (gaps in p), minimise the convex function itself."""

    def value(u: np.ndarray) -> float:
        q = Gaussian(center + spread * u[0], (spread * np.exp(u[1])) ** 2)
        return line_transport(p, q, 1)[0]

    return optimize.minimize(value, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-13})
