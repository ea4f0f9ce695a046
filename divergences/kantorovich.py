r"""Kantorovich critics: 1-Lipschitz functions that attain W₁, defined on all of R^d.

Kantorovich-Rubinstein duality says $W_1(P, Q) = \max_{|f|_L \le 1} E_P f - E_Q f$. A transport solver gives the
potentials only *at the atoms*; the critic of a WGAN is a function on the whole space. The c-transform

$$ f(x) = \min_j \big( c(x, y_j) - v_j \big) $$

over the atoms y_j of positive mass is that function: a minimum of 1-Lipschitz functions is 1-Lipschitz, by
construction and exactly, for any v; and with the optimal v it attains W₁. Nothing has to be clipped or penalised.

Where mass moves, every Kantorovich critic is the same up to a constant; elsewhere there is freedom. The formula above
is the largest of them all (the *upper* extension, from q's atoms); the smallest is the *lower* extension from p's,

$$ \max_i \big( u_i - c(x, x_i) \big) \;\le\; f(x) \;\le\; \min_j \big( c(x, y_j) - v_j \big), $$

and their *average* is a critic too. All three agree on the atoms of both sides, so all attain W₁ of the samples; on
points they have not seen they differ, and which does better depends on the laws.

On the line the critic is known in closed form: f′ = sign(G − F), with F and G the CDFs of p and q.

Reference: *Optimal Transport: Old and New* (Villani, 2009), chapter 5, https://doi.org/10.1007/978-3-540-71050-9.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64
from scipy.spatial.distance import cdist

from divergences.checks import ArrayLike, one_of
from divergences.distributions import Discrete, as_query, knots_of

__all__ = ["EXTENSIONS", "Critic", "LineCritic", "MeanCritic", "PointCritic", "extend", "known_slope"]

EXTENSIONS = ("upper", "lower", "average")
# Entries of the cost matrix held at a time (8 MB): bounded memory, and small enough to stay near the processor.
_BLOCK = 1_000_000
# Queries that are looked at together.
_LEAF = 256
# Rounding, generously, in what decides which atoms are looked at.
_SLACK = 1e-12


@runtime_checkable
class Critic(Protocol):
    """A 1-Lipschitz function on R^d with E_p f − E_q f = W₁(p, q)."""

    def __call__(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Values at x (n, d), anywhere in R^d."""

    def gradient(self, x: ArrayLike) -> Float64[np.ndarray, "n d"]:
        """Gradient at x (n, d); at a kink, one of the subgradients."""


@dataclass(frozen=True)
class PointCritic:
    """f(x) = sign · min_j (c(x, y_j) − v_j): the c-transform of a potential on atoms.

    Attributes:
        points: the atoms y_j, shape (m, d).
        potential: v_j, shape (m,).
        metric: the ground metric c, ``"euclidean"``, ``"cityblock"`` or ``"chebyshev"``; f is 1-Lipschitz in it.
        sign: 1 for the upper extension (of q's potentials), −1 for the lower one (of p's).
    """

    points: Float64[np.ndarray, "m d"]
    potential: Float64[np.ndarray, " m"]
    metric: str
    sign: float = 1.0

    def __call__(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Values at x (n, d)."""
        return self.sign * self._lowest(as_query(x, self.points.shape[1]))[0]

    def gradient(self, x: ArrayLike) -> Float64[np.ndarray, "n d"]:
        """Away from the atom that attains the minimum, as fast as the metric allows (0 at the atom itself)."""
        query = as_query(x, self.points.shape[1])
        away = query - self.points[self._lowest(query)[1]]
        if self.metric == "cityblock":
            return self.sign * np.sign(away)
        if self.metric == "chebyshev":
            top = np.abs(away).argmax(axis=1)[:, None]
            steepest = np.zeros_like(away)
            np.put_along_axis(steepest, top, np.sign(np.take_along_axis(away, top, axis=1)), axis=1)
            return self.sign * steepest
        length = np.linalg.norm(away, axis=1, keepdims=True)
        return self.sign * np.divide(away, length, out=np.zeros_like(away), where=length > 0)

    def _lowest(self, query: Float64[np.ndarray, "n d"]) -> tuple[np.ndarray, np.ndarray]:
        """The minimum over the atoms, and the first atom that attains it, in bounded memory.

        A box of queries around c with radius r needs no atom whose cone at c lies more than 2r above the lowest one
        there: cones are 1-Lipschitz. Boxes are halved, and hand what they still need down to their halves.
        """
        values, nearest = np.empty(len(query)), np.zeros(len(query), dtype=np.intp)
        todo = [(np.arange(len(query)), np.arange(len(self.points)))] if len(query) else []
        prune = len(query) * len(self.points) > _BLOCK and bool(np.isfinite(query).all())
        while todo:
            rows, atoms = todo.pop()
            if prune:
                atoms, low, high = self._needed(query[rows], atoms)
                if len(rows) > _LEAF and len(atoms) > 1:
                    axis = int((high - low).argmax())
                    half = len(rows) // 2
                    order = np.argpartition(query[rows, axis], half)
                    todo += [(rows[order[:half]], atoms), (rows[order[half:]], atoms)]
                    continue
            step = max(1, _BLOCK // len(atoms))
            for start in range(0, len(rows), step):
                part = rows[start : start + step]
                costs = cdist(query[part], self.points[atoms], self.metric)
                costs -= self.potential[atoms]
                best = costs.argmin(axis=1)
                nearest[part] = atoms[best]
                values[part] = costs[np.arange(len(part)), best]
        return values, nearest

    def _needed(self, query: np.ndarray, atoms: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which atoms may attain the minimum somewhere in the box of these queries, and the box."""
        low, high = query.min(axis=0), query.max(axis=0)
        center = (low + (high - low) / 2)[None]
        # Half the diagonal: as far as any of the queries can be.
        radius = float(cdist(center, high[None], self.metric)[0, 0])
        potential = self.potential[atoms]
        height = cdist(center, self.points[atoms], self.metric)[0] - potential
        slack = _SLACK * (radius + float(np.abs(height).max()) + float(np.abs(potential).max()))
        return atoms[height <= height.min() + 2 * radius + slack], low, high


@dataclass(frozen=True)
class LineCritic:
    """A piecewise linear f on the line with slopes in [−1, 1].

    Attributes:
        knots: where the slope changes, ascending, shape (k,).
        slopes: before, between and after the knots, shape (k + 1,).
        values: f at the knots, shape (k,).
    """

    knots: Float64[np.ndarray, " k"]
    slopes: Float64[np.ndarray, " k1"]
    values: Float64[np.ndarray, " k"]

    @staticmethod
    def between(
        cdf_p: Callable[[np.ndarray], np.ndarray],
        cdf_q: Callable[[np.ndarray], np.ndarray],
        knots: Float64[np.ndarray, " k"],
    ) -> LineCritic:
        """f′ = sign(G − F), constant between the given knots; f = 0 at the first one."""
        if len(knots) == 0:
            knots = np.zeros(1)
        spread = max(float(knots[-1] - knots[0]), 1.0)
        probes = np.concatenate([[knots[0] - spread], (knots[:-1] + knots[1:]) / 2, [knots[-1] + spread]])
        slopes = np.sign(cdf_q(probes) - cdf_p(probes)).astype(np.float64)
        values = np.concatenate([[0.0], np.cumsum(slopes[1:-1] * np.diff(knots))])
        return LineCritic(knots, slopes, values)

    @staticmethod
    def of_laws(p: Any, q: Any, crossings: Float64[np.ndarray, " k"]) -> LineCritic:
        """F′ = sign(G − F) for two laws with ``cdf`` and ``survival`` whose CDFs cross at the given places.

        Between two crossings the sign is read where |F − G| is largest among the laws' own knots: next to a crossing
        far out in a tail, or far from where the laws live, both CDFs round to the same number.
        """
        turns = np.unique(crossings)
        reach = np.unique(np.concatenate([knots_of(law).position for law in (p, q)]))
        reach = reach[np.isfinite(reach)]
        places = np.concatenate([reach, (reach[1:] + reach[:-1]) / 2, (turns[1:] + turns[:-1]) / 2])
        below = p.cdf(places), q.cdf(places)
        upper = np.minimum(*below) > 0.5
        difference = below[1] - below[0]
        difference[upper] = p.survival(places[upper]) - q.survival(places[upper])
        piece = np.searchsorted(turns, places, side="right")
        slopes = np.zeros(len(turns) + 1)
        for index in np.unique(piece):
            mine = difference[piece == index]
            slopes[index] = np.sign(mine[np.abs(mine).argmax()])
        if len(turns) == 0:
            # One slope throughout: any place will do for the knot.
            return LineCritic(reach[len(reach) // 2 :][:1], np.repeat(slopes, 2), np.zeros(1))
        return LineCritic(turns, slopes, np.concatenate([[0.0], np.cumsum(slopes[1:-1] * np.diff(turns))]))

    @staticmethod
    def above(points: Float64[np.ndarray, " n"], values: Float64[np.ndarray, " n"]) -> LineCritic:
        """The upper extension x ↦ min_j (values_j + |x − points_j|): a zigzag with its valleys at the points."""
        order = np.argsort(points, kind="stable")
        place, height = points[order], values[order]
        # The value at an atom may be undercut by another atom's cone: two sweeps find the lowest.
        height = np.minimum(np.minimum.accumulate(height - place) + place, height)
        height = np.minimum(np.minimum.accumulate((height + place)[::-1])[::-1] - place, height)
        place, first = np.unique(place, return_index=True)
        height = height[first]
        peak = (place[1:] + place[:-1] + np.diff(height)) / 2
        peak = np.clip(peak, place[:-1], place[1:])
        knots, first = np.unique(np.concatenate([place, peak]), return_index=True)
        heights = np.concatenate([height, height[:-1] + (peak - place[:-1])])[first]
        slopes = np.concatenate([[-1.0], np.sign(np.diff(heights)), [1.0]])
        return LineCritic(knots, slopes, heights)

    @staticmethod
    def below(points: Float64[np.ndarray, " n"], values: Float64[np.ndarray, " n"]) -> LineCritic:
        """The lower extension x ↦ max_i (values_i − |x − points_i|): a zigzag with its peaks at the points."""
        mirrored = LineCritic.above(points, -values)
        return LineCritic(mirrored.knots, -mirrored.slopes, -mirrored.values)

    def __call__(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Values at x, shape (n, 1) or (n,)."""
        query = as_query(x, 1)[:, 0]
        inside = np.interp(query, self.knots, self.values)
        below = np.minimum(query - self.knots[0], 0.0) * self.slopes[0]
        above = np.maximum(query - self.knots[-1], 0.0) * self.slopes[-1]
        return inside + below + above

    def gradient(self, x: ArrayLike) -> Float64[np.ndarray, "n d"]:
        """Slopes at x, shape (n, 1); at a knot, the slope to its right."""
        return self.slopes[np.searchsorted(self.knots, as_query(x, 1)[:, 0], side="right")][:, None]


@dataclass(frozen=True)
class MeanCritic:
    """The mean of two critics: 1-Lipschitz because both are, optimal because both are.

    Attributes:
        lower: usually the lower extension.
        upper: usually the upper one.
    """

    lower: Critic
    upper: Critic

    def __call__(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Values at x (n, d)."""
        return (self.lower(x) + self.upper(x)) / 2

    def gradient(self, x: ArrayLike) -> Float64[np.ndarray, "n d"]:
        """Mean of both gradients: shorter than 1 where the extensions disagree."""
        return (self.lower.gradient(x) + self.upper.gradient(x)) / 2


def extend(
    p: Discrete,
    q: Discrete,
    potentials: tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " m"]],
    metric: str,
    extension: str,
) -> Critic:
    """The critic on all of R^d that optimal potentials of p and q define, with mean 0 over p's atoms.

    Args:
        p: atoms of the first law.
        q: atoms of the second.
        potentials: optimal and feasible (u, v) for cost c: u_i + v_j ≤ c(x_i, y_j).
        metric: c, ``"euclidean"``, ``"cityblock"`` or ``"chebyshev"``.
        extension: ``"upper"`` (from q's atoms), ``"lower"`` (from p's) or ``"average"``. With one gauge for all,
            lower ≤ average ≤ upper everywhere.

    Raises:
        InputError: an unknown extension.
    """
    if one_of(extension, "extension", EXTENSIONS) == "average":
        return MeanCritic(*(extend(p, q, potentials, metric, part) for part in ("lower", "upper")))
    u, v = potentials
    gauge = float(p.weights @ u)
    on_p, on_q = p.weights > 0, q.weights > 0
    if p.dim == 1:
        if extension == "upper":
            return LineCritic.above(q.points[on_q, 0], -v[on_q] - gauge)
        return LineCritic.below(p.points[on_p, 0], u[on_p] - gauge)
    if extension == "upper":
        return PointCritic(q.points[on_q], v[on_q] + gauge, metric)
    return PointCritic(p.points[on_p], u[on_p] - gauge, metric, sign=-1.0)


def known_slope(critic: object, metric: str) -> float | None:
    """The Lipschitz constant in the given metric, where the construction of a critic proves it (a bound); else None."""
    if isinstance(critic, LineCritic):
        return float(np.abs(critic.slopes).max())
    if isinstance(critic, PointCritic):
        return 1.0 if critic.metric == metric or critic.points.shape[1] == 1 else None
    if isinstance(critic, MeanCritic):
        slopes = [known_slope(part, metric) for part in (critic.lower, critic.upper)]
        return None if None in slopes else sum(slope for slope in slopes if slope is not None) / 2
    return None
