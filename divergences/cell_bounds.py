r"""f-divergences in the plane with a *proven* error, for mixtures of Gaussian and uniform laws.

The argument of ``panel_bounds`` once per axis. On a cell [c_x ± h_x] × [c_y ± h_y] the tensor Gauss-Legendre rule
errs by

$$ \Big|\iint F - Q_x Q_y F\Big| \le \int \Big|\int F\,dx - Q_x F\Big| dy + Q_x \Big|\int F\,dy - Q_y F\Big|
   \le 2h_y \sup_y e_x + 2h_x \sup_x e_y, $$

for Q_x has positive weights of sum 2h_x; and e_x is bounded by |F| on the ellipse around [c_x ± h_x] in the complex
x-plane, y real. There each component is exp(v + g·ζ + ζᵀBζ) with ζ = (ξ + iη, υ), and intervals bound its modulus
and its phase as on the line. Cells are cut along the axis that errs, each is integrated by the smallest of a few orders
that its bound allows, and components that cannot be felt in a cell are not evaluated there.

Shares below ε = 2 % of the tolerance are dropped: |F − F₀| ≤ ε (|F| + p + q) or so, and only F₀ is analytic. Bounds are
computed in floating point and carry a margin of 1 %; rounding of the sum itself has an allowance of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from divergences.cell_parts import (
    MAX_PARTS,
    Local,
    Parts,
    first_cells,
    highest,
    local,
    read_pair,
    real_top,
    relative,
    rough_value,
)
from divergences.cell_rule import sum_over_cells
from divergences.distributions import Distribution
from divergences.panel_bounds import OVERFLOW, log_of_sum
from divergences.panel_forms import Form, Moduli

__all__ = ["integrate_plane_pair"]

_ORDERS = (5, 8, 12, 18, 26)
_RHO = np.array([1.0, 1.25, 1.6, 2.2, 3.5, 9.0])
_WIDE = (_RHO + 1 / _RHO) / 2
_TALL = (_RHO - 1 / _RHO) / 2
# (orders, ρ): the factor of h·M in the error of the rule along one axis.
_FACTOR = np.array([(4 + 4 / (4 * n**2 - 1)) * _RHO[1:] ** (-2.0 * n) / (1 - _RHO[1:] ** -2.0) for n in _ORDERS])
_MARGIN = 1.01
_MAX_ROUNDS = 80
_MAX_CELLS = 400_000
# Cells times components looked at before giving up.
_MAX_WORK = 20_000_000
_BLOCK = 400_000
# Cells are handled together by how many components can be felt in them.
_GROUPS = ((0, 1), (1, 2), (2, 4), (4, 8), (8, MAX_PARTS + 1))


class _Near(NamedTuple):
    """One law on cells: its largest component, those that can be felt relative to it, and what was dropped."""

    lead: Local
    others: Local
    empty: np.ndarray
    dropped: np.ndarray

    def turned(self) -> _Near:
        """The same with the axes exchanged."""
        return self._replace(lead=self.lead.turned(), others=self.others.turned())


class _Side(NamedTuple):
    """What is known of one law on cells (c,) and ellipses along one axis (c, r)."""

    empty: np.ndarray
    lead: Local
    log_size: np.ndarray
    log_sum: np.ndarray
    dropped: np.ndarray


def integrate_plane_pair(
    form: Form, p: Distribution, q: Distribution, *, tol: float, max_nodes: int
) -> tuple[float, float, int] | None:
    """∫ m·g(log p − log q) with m = (p + q)/2: value, proven error and number of nodes; None without a proof."""
    read = read_pair(p, q)
    if read is None:
        return None
    first, second, rough = read[0], read[1], rough_value(form, p, q)
    if not np.isfinite(rough):
        return None
    domain = first_cells(form, first, second, tol)
    if domain is None:
        return None
    center, half, tail = domain
    scale = max(1.0, 0.5 * abs(rough))
    goal, share = 0.9 * tol * scale, float(np.log(0.02 * tol * scale / (1.0 + abs(rough))))
    value, bound, rounding, nodes, work = 0.0, 0.0, 0.0, 0, 0
    for _ in range(_MAX_ROUNDS):
        work += len(center) * (len(first.mean) + len(second.mean))
        if len(center) > _MAX_CELLS or work > _MAX_WORK:
            return None
        errors, axes = _cell_errors(form, first, second, center, half, share)
        if np.isnan(errors).any():
            return None
        order, spent = _accepted(errors, goal - bound)
        for n, rule in enumerate(_ORDERS):
            chosen = order == n
            if chosen.any():
                if nodes + chosen.sum() * rule**2 > max_nodes:
                    return None
                found, allowance = sum_over_cells(form, first, second, center[chosen], half[chosen], rule, share)
                value += found
                rounding += allowance
                nodes += int(chosen.sum()) * rule**2
        bound += spent
        rest = order == -1
        if not np.isfinite(value + rounding):
            return None
        if not rest.any():
            return value, _MARGIN * (bound + tail) + rounding + 1e-28, nodes
        center, half = _cut(center[rest], half[rest], axes[rest])
    return None


def _accepted(errors: np.ndarray, left: float) -> tuple[np.ndarray, float]:
    """For each cell the order that will do (−1: none yet; −2: not worth a node), and what this costs."""
    # Columns: left out, then each order, ascending.
    best = errors.min(axis=1)
    ranks = np.argsort(best)
    fine = np.zeros(len(errors), dtype=bool)
    fine[ranks[np.cumsum(best[ranks]) <= left / 2]] = True
    order = np.full(len(errors), -1)
    if not fine.any():
        return order, 0.0
    # What is left of this round's share may be spent on lower orders.
    each = max((left / 2 - float(best[fine].sum())) / fine.sum(), 0.0)
    allowed = np.maximum(best, each)
    first = (errors <= allowed[:, None]).argmax(axis=1)
    order[fine] = first[fine] - 1
    order[fine & (first == 0)] = -2
    return order, float(errors[fine, first[fine]].sum())


def _cut(center: np.ndarray, half: np.ndarray, axes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Halves of each cell along the axes marked (c, 2)."""
    for axis in (0, 1):
        marked = axes[:, axis]
        if not marked.any():
            continue
        size = half.copy()
        size[marked, axis] /= 2
        step = np.zeros_like(size)
        step[marked, axis] = size[marked, axis]
        center = np.concatenate([(center - step), (center + step)[marked]])
        half = np.concatenate([size, size[marked]])
        axes = np.concatenate([axes, axes[marked]])
    return center, half


def _side(near: _Near, half: np.ndarray) -> _Side:
    """Bounds on one law and its logarithm over ellipses along x, y real."""
    lead, others = near.lead, near.others
    hx, hy = half[:, :1], half[:, 1:]
    wide, tall = hx * _WIDE, hx * _TALL
    flat = others.value + highest(others.slope_y, others.bend[..., 2], hy)
    slope, bend = others.slope_x[:, :, None], others.bend[:, :, :1]
    cross = np.abs(others.bend[..., 1] * hy)[:, :, None]
    w, t = wide[:, None, :], tall[:, None, :]
    top = flat[:, :, None] + highest(np.abs(slope) + cross, bend, w) + np.maximum(-bend, 0.0) * t * t
    size = np.minimum(np.exp(np.minimum(top, 700.0)), OVERFLOW)
    upper, log_sum = log_of_sum(size, slope, cross + 2 * np.abs(bend) * w, tall)
    beside = highest(lead.slope_y, lead.bend[:, 2], half[:, 1])[:, None]
    across = (np.abs(lead.bend[:, 1]) * half[:, 1])[:, None]
    bend_x = lead.bend[:, :1]
    height = lead.value[:, None] + beside + highest(np.abs(lead.slope_x)[:, None] + across, bend_x, wide)
    log_size = np.log(upper) + height + np.maximum(-bend_x, 0.0) * tall * tall
    log_size[near.empty], log_sum[near.empty] = -np.inf, 0.0
    return _Side(near.empty, lead, log_size, log_sum, near.dropped)


def _swing(lead: Local, half: np.ndarray) -> np.ndarray:
    """A bound on the modulus of a quadratic over the ellipses along x, y real: (c, r)."""
    wide, hy = half[:, :1] * _WIDE, half[:, 1:]
    bend = np.abs(lead.bend)
    return (
        np.abs(lead.value)[:, None]
        + np.abs(lead.slope_x)[:, None] * wide
        + np.abs(lead.slope_y)[:, None] * hy
        + bend[:, :1] * wide**2
        + bend[:, 1:2] * wide * hy
        + bend[:, 2:] * hy**2
    )


def _cell_errors(
    form: Form, p: Parts, q: Parts, center: np.ndarray, half: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (c, 1 + orders) on the error of each rule, the first for leaving the cell out; and axes to cut (c, 2).

    NaN where a law has no mass and the integrand cannot bear that.
    """
    laws = [p, q]
    if form.mixes:
        laws.append(Parts(*(np.concatenate(pair) for pair in zip(p, q, strict=True))))
    errors, axes = np.empty((len(center), 1 + len(_ORDERS))), np.empty((len(center), 2), dtype=bool)
    rows = max(1, _BLOCK // (4 * len(laws[-1].mean)))
    for start in range(0, len(center), rows):
        block = np.arange(start, min(start + rows, len(center)))
        ranked = [_ranked(parts, center[block], half[block], share) for parts in laws]
        felt = np.max([kept for *_, kept in ranked], axis=0)
        # Cells where few components can be felt are most of all cells, and cost little.
        for low, high in _GROUPS:
            cells = np.flatnonzero((felt > low) & (felt <= high))
            step = max(1, _BLOCK // (min(high, int(felt.max(initial=1))) * len(_RHO) * 8))
            for first in range(0, len(cells), step):
                chosen = cells[first : first + step]
                near = [_chosen(*row, chosen, int(felt[chosen].max()), share) for row in ranked]
                errors[block[chosen]], axes[block[chosen]] = _block_errors(form, near, half[block[chosen]])
    return errors, axes


def _ranked(
    parts: Parts, center: np.ndarray, half: np.ndarray, share: float
) -> tuple[Local, Local, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Largest component, the others, which cells are empty, log shares, their order, and how many can be felt."""
    lead, others, empty = relative(local(parts, center))
    top = real_top(others, half)
    return lead, others, empty, top, np.argsort(-top, axis=1), np.maximum((top >= share).sum(axis=1), 1)


def _chosen(
    lead: Local,
    others: Local,
    empty: np.ndarray,
    top: np.ndarray,
    order: np.ndarray,
    felt: np.ndarray,
    cells: np.ndarray,
    count: int,
    share: float,
) -> _Near:
    """Some cells, with their ``count`` largest components."""
    pick = order[cells, :count]
    rows = cells[:, None]
    shares = top[cells]
    small = shares < share
    dropped = np.where(small, np.exp(np.minimum(shares, 0.0)), 0.0).sum(axis=1)
    picked = Local(*(part[rows, pick] for part in others))
    value = np.where(np.take_along_axis(small, pick, axis=1), -np.inf, picked.value)
    return _Near(Local(*(part[cells] for part in lead)), picked._replace(value=value), empty[cells], dropped)


def _block_errors(form: Form, near: list[_Near], half: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    area = 4 * half.prod(axis=1)
    per_axis = []
    for turned in (False, True):
        sizes = half[:, ::-1] if turned else half
        sides = [_side(law.turned() if turned else law, sizes) for law in near]
        per_axis.append(_axis_errors(form, sides, sizes))
    # The two axes add up; leaving out needs no rule.
    rule = per_axis[0][1] + per_axis[1][1] + per_axis[0][2][:, None]
    with np.errstate(over="ignore"):
        errors = np.concatenate([np.minimum(per_axis[0][0], per_axis[1][0])[:, None], rule], axis=1) * area[:, None]
    along = np.stack([per_axis[0][1][:, -1], per_axis[1][1][:, -1]], axis=1)
    long = half / half.max(axis=1, keepdims=True) > 0.4
    with np.errstate(invalid="ignore"):
        worse = along >= 1e-2 * along.max(axis=1, keepdims=True)
    # Where nothing is known along either axis, the longer one is cut; else the one that errs.
    axes = np.where(np.isfinite(along).any(axis=1, keepdims=True), worse | ~np.isfinite(along), long)
    return errors, axes


def _axis_errors(form: Form, sides: list[_Side], half: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per unit of area: the cost of leaving out (c,), rule errors along x (c, orders), and of what was dropped (c,)."""
    first, second = sides[0], sides[1]
    with np.errstate(over="ignore", invalid="ignore"):
        swing = _swing(Local(*(a - b for a, b in zip(first.lead, second.lead, strict=True))), half)
        sizes = [np.exp(side.log_size) for side in sides[:2]]
        rests = [side.log_sum for side in sides]
        minor = np.where((first.lead.value >= second.lead.value)[:, None], sizes[1], sizes[0])
        at = Moduli(sizes[0], sizes[1], rests[0], rests[1], rests[-1], swing, minor)
        entire, rest, close = (
            np.nan_to_num(part(at), nan=np.inf, posinf=np.inf) for part in (form.entire, form.rest, form.close)
        )
        # On the cell itself everything is real, and all bounds hold.
        out = np.minimum(entire[:, 0] + rest[:, 0], close[:, 0])
        rule = np.minimum(_best(entire) + _best(rest), _best(close))
        dropped = sum(side.dropped for side in sides)
        lost = np.where(dropped > 0, 2 * (out + sizes[0][:, 0] + sizes[1][:, 0]) * dropped, 0.0)
        # Where one law has no mass at all, its logarithm has no meaning and only the simple forms below apply.
        none = first.empty | second.empty
        rule[none], out[none], lost[none] = np.inf, np.inf, 0.0
        for alone, small, large in ((form.without_p, first, second), (form.without_q, second, first)):
            if alone is None:
                out = np.where(small.empty & ~large.empty, np.nan, out)
                continue
            size = np.exp(large.log_size)
            log_ratio = small.log_size[:, 0] - _lowest(large.lead, half)
            ratio = np.where(small.empty, 0.0, np.exp(np.minimum(log_ratio, 0.0)))
            part = np.where(small.empty, 0.0, np.where(log_ratio < -1, alone.loss(ratio), np.inf)) + large.dropped
            simple = _best(alone.factor * size)
            better = ~large.empty & (part * size[:, 0] * 2 < 1e-3 * lost + np.exp(-40) + rule.min(axis=1))
            rule = np.where(better[:, None], simple + (2 * part * size[:, 0])[:, None], rule)
            lost = np.where(better, 0.0, lost)
            out = np.where(~large.empty & small.empty, size[:, 0] * (alone.factor + part), out)
    blank = first.empty & second.empty
    out[blank], rule[blank], lost[blank] = 0.0, 0.0, 0.0
    return out, rule, lost


def _best(modulus: np.ndarray) -> np.ndarray:
    """The error along one axis per unit of area, for each order, by the best ellipse: (c, orders)."""
    return 0.5 * (modulus[:, None, 1:] * _FACTOR).min(axis=2)


def _lowest(lead: Local, half: np.ndarray) -> np.ndarray:
    """A lower bound of the log of the largest component on the real cell."""
    return lead.value - (
        np.abs(lead.slope_x) * half[:, 0]
        + np.abs(lead.slope_y) * half[:, 1]
        + np.abs(lead.bend[:, 0]) * half[:, 0] ** 2
        + np.abs(lead.bend[:, 1]) * half[:, 0] * half[:, 1]
        + np.abs(lead.bend[:, 2]) * half[:, 1] ** 2
    )
