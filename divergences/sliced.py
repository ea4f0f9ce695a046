r"""Sliced Wasserstein distance of two samples: optimal transport along random lines, where it is sorting.

$$ SW_p^p(P, Q) = E_\theta\, W_p^p(\theta^\top P, \theta^\top Q), \qquad \theta \text{ uniform on the sphere.} $$

Three errors, three remedies. *Directions*: L of them are drawn, and their mean has a Monte-Carlo error. *Sampling*: the
derivative of W_p^p in a sample is its Kantorovich potential, so that Var(φ(X))/n + Var(ψ(Y))/m, with φ and ψ the
potentials averaged over directions, is the sampling variance given the directions; the two variances add. *Bias*: two
samples are never at distance 0. The bias at P = Q falls like n^(−½) for p = 1 and 1/n for p = 2, and halves of the
samples show it: T_{n/2} − T_n, times 1/(√2 − 1) or 1, is subtracted. Between P = Q and P far from Q that is too much or
too little, so the interval is the hull of those around the plain and the corrected number: the same where the
laws are far apart, wider than nominal where they are close.

For p = 2 the derivative vanishes at P = Q and the interval is not of normal shape there; for p = 1 the signs of the
slopes are noise there. In both cases the permutation null decides whether P = Q, with exact level.

References: *Sliced and Radon Wasserstein Barycenters of Measures* (Bonneel et al., 2015),
https://doi.org/10.1007/s10851-014-0506-3; *Statistical, Robustness, and Computational Guarantees for Sliced
Wasserstein Distances* (Nietert et al., 2022), https://arxiv.org/abs/2210.09160.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import stdtrit

from divergences.checks import ArrayLike, as_count, as_generator
from divergences.errors import InputError
from divergences.two_sample import Z95, Null, TwoSampleEstimate, as_pair, few, remarks

__all__ = ["sliced_wasserstein"]

_MINIMUM = 8
_REGIME, _REGIME_DIM, _REGIME_LINES = 200, 5, 50
_SPLITS = 6
# Floats in the largest intermediate array.
_BLOCK = 4_000_000


def sliced_wasserstein(
    x: ArrayLike,
    y: ArrayLike,
    *,
    rng: np.random.Generator,
    order: int = 1,
    projections: int = 200,
    permutations: int = 99,
) -> TwoSampleEstimate:
    r"""Sliced W_p of the laws behind two samples, in units of the data, with its 95 % interval and permutation null.

    Regime, by simulation for d ≤ 5, n and m ≥ 200, 50 or more projections, laws with more than 2p moments: the interval
    covers the true SW_p in 93 to 97 % of samples where the laws differ by half a standard deviation or more; nearer to
    P = Q it is wider (95 to 100 %). With 10 projections in five dimensions it covers 90 %, and ``note`` says so.

    Args:
        x: first sample, shape (n, d) or (n,), n ≥ 8.
        y: second sample, shape (m, d) or (m,), m ≥ 8.
        rng: draws directions, halves and relabellings.
        order: p, 1 or 2.
        projections: L, how many directions; on the line there is only one.
        permutations: how many relabellings for the null.

    Returns:
        SW_p, bias-corrected and never negative; ``raw`` is the plain number and the one that ``null`` is about.

    Raises:
        InputError: unusable samples, different dimensions, or another order.

    >>> draw = np.random.default_rng(0)
    >>> x, y = draw.normal(size=(500, 2)), draw.normal(size=(500, 2)) + [3.0, 0.0]
    >>> sliced_wasserstein(x, y, rng=draw).agrees(3 * 2 / np.pi)  # a shift: 3 E|cos|
    True
    """
    left, right = as_pair(x, y, minimum=_MINIMUM)
    draw = as_generator(rng)
    if order not in (1, 2) or isinstance(order, bool):
        raise InputError(f"order must be 1 or 2; it is {order!r}.")
    count, relabellings = as_count(projections, "projections", minimum=2), as_count(permutations, "permutations")
    middle = np.concatenate([left, right]).mean(axis=0)
    found = _sliced(left - middle, right - middle, _directions(left.shape[1], count, draw), order, relabellings, draw)
    factor = 1 / (np.sqrt(2) - 1) if order == 1 else 1.0
    shifts = found.halves - found.power
    bias = factor * float(shifts.mean())
    # The spread over few directions is itself uncertain: Student's quantile for that part.
    directional = float(stdtrit(count - 1, 0.975)) ** 2 * found.slicing
    square = Z95**2 * found.sampling + directional
    arm = float(np.sqrt(square))
    wide = float(np.sqrt(square + (Z95 * factor) ** 2 * float(shifts.var(ddof=1)) / len(shifts)))
    # How much of the bias is there between P = Q and P far from Q is not known: both ends stay in.
    corrected = found.power - bias
    bottom, top = min(corrected - wide, found.power - arm), max(corrected + wide, found.power + arm)
    value, low, high = (max(t, 0.0) ** (1 / order) for t in (corrected, bottom, top))
    raw = found.power ** (1 / order)
    lines = "1 line" if left.shape[1] == 1 else f"{count} random lines"
    note = remarks(
        (bool(low == 0), "the interval touches 0: near equal laws it is wider; the permutation null decides"),
        (left.shape[1] > 1 and count < _REGIME_LINES, f"fewer than {_REGIME_LINES} directions: their error is rough"),
        (left.shape[1] > _REGIME_DIM, f"more than {_REGIME_DIM} dimensions: coverage was not simulated there"),
        few(len(left), len(right), _REGIME),
    )
    return TwoSampleEstimate(
        value,
        max(high - value, value - low),
        level=0.95,
        method=f"sliced W{order} over {lines}, halving bias correction",
        n=len(left) + len(right),
        raw=raw,
        bounds=(low, high),
        note=note,
        null=Null(raw, found.scores ** (1 / order)),
    )


class _Staircase(NamedTuple):
    """The monotone plan between n and m equally weighted, sorted points: the same along every line."""

    rows: Int64[np.ndarray, " k"]
    columns: Int64[np.ndarray, " k"]
    mass: Float64[np.ndarray, " k"]

    @staticmethod
    def of(n: int, m: int) -> _Staircase:
        # In units of 1/(n m) all edges are whole numbers: no rounding decides who meets whom.
        edges = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
        start = np.concatenate([[0], edges[:-1]])
        return _Staircase(start // m, start // n, (edges - start) / (n * m))

    def cost(self, x: np.ndarray, y: np.ndarray, order: int) -> Any:
        """W_p^p along the last axis of sorted samples."""
        gap = x[..., self.rows] - y[..., self.columns]
        return (np.abs(gap) if order == 1 else gap**2) @ self.mass


class _Found(NamedTuple):
    power: float
    slicing: float
    sampling: float
    halves: Float64[np.ndarray, " splits"]
    scores: Float64[np.ndarray, " permutations"]


def _directions(d: int, count: int, rng: np.random.Generator) -> Float64[np.ndarray, "count d"]:
    if d == 1:
        return np.ones((1, 1))
    normal = rng.normal(size=(count, d))
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)


def _sliced(
    x: np.ndarray, y: np.ndarray, directions: np.ndarray, order: int, permutations: int, rng: np.random.Generator
) -> _Found:
    """Everything in one pass over the directions: each line's pool is sorted once."""
    n, m, lines = len(x), len(y), len(directions)
    pool = np.concatenate([x, y])
    first = np.arange(n + m) < n
    relabelled = np.array([rng.permutation(first) for _ in range(permutations)])
    splits = [(rng.permutation(n), n + rng.permutation(m)) for _ in range(_SPLITS // 2)]
    halves = [(a[part::2], b[part::2]) for a, b in splits for part in (0, 1)]
    members = np.zeros((len(halves), 2, n + m), dtype=bool)
    for member, (a, b) in zip(members, halves, strict=True):
        member[0, a] = member[1, b] = True
    whole = _Staircase.of(n, m)
    stairs = [_Staircase.of(len(a), len(b)) for a, b in halves]
    costs, half_costs, scores = np.empty(lines), np.zeros(len(halves)), np.zeros(permutations)
    potential = np.zeros(n + m)
    for line, direction in enumerate(directions):
        shadow = pool @ direction
        order_of = np.argsort(shadow, kind="stable")
        place = shadow[order_of]
        is_x = first[order_of]
        left, right = place[is_x], place[~is_x]
        costs[line] = whole.cost(left, right, order)
        potential[order_of] += _potential(left, right, place, is_x, whole, order) / lines
        for h, member in enumerate(members):
            mine, theirs = member[0, order_of], member[1, order_of]
            half_costs[h] += stairs[h].cost(place[mine], place[theirs], order) / lines
        scores += _relabelled_costs(place, relabelled[:, order_of], whole, order) / lines
    return _Found(
        float(costs.mean()),
        float(costs.var(ddof=1)) / lines if lines > 1 else 0.0,
        float(potential[:n].var(ddof=1) / n + potential[n:].var(ddof=1) / m),
        half_costs.reshape(-1, 2).mean(axis=1),
        scores,
    )


def _potential(
    x: np.ndarray, y: np.ndarray, place: np.ndarray, is_x: np.ndarray, plan: _Staircase, order: int
) -> np.ndarray:
    """Kantorovich potentials of W_p^p at the sorted pool: φ at points of x, ψ at points of y."""
    n, m = len(x), len(y)
    if order == 1:
        below_x = np.cumsum(is_x)[:-1] / n
        below_y = np.cumsum(~is_x)[:-1] / m
        critic = np.concatenate([[0.0], np.cumsum(np.sign(below_y - below_x) * np.diff(place))])
        return np.where(is_x, critic, -critic)
    # φ′(x) = 2(x − T(x)), with T the mean of where x is sent; and the same the other way round.
    sent = np.bincount(plan.rows, plan.mass * y[plan.columns], n) * n
    received = np.bincount(plan.columns, plan.mass * x[plan.rows], m) * m
    both = np.empty(n + m)
    for chosen, points, target in ((is_x, x, sent), (~is_x, y, received)):
        slope = 2 * (points - target)
        steps = (slope[1:] + slope[:-1]) / 2 * np.diff(points)
        both[chosen] = np.concatenate([[0.0], np.cumsum(steps)])
    return both


def _relabelled_costs(place: np.ndarray, labels: np.ndarray, plan: _Staircase, order: int) -> np.ndarray:
    """W_p^p along one line for every relabelling, a block of relabellings at a time."""
    costs = np.empty(len(labels))
    rows = max(1, _BLOCK // len(place))
    for start in range(0, len(labels), rows):
        block = labels[start : start + rows]
        many = np.broadcast_to(place, block.shape)
        left, right = many[block].reshape(len(block), -1), many[~block].reshape(len(block), -1)
        costs[start : start + rows] = plan.cost(left, right, order)
    return costs
