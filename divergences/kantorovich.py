r"""Kantorovich critics: 1-Lipschitz functions that attain W₁, defined on all of R^d.

Kantorovich-Rubinstein duality says $W_1(P, Q) = \max_{|f|_L \le 1} E_P f - E_Q f$. A transport solver gives the
potentials only *at the atoms*; the critic of a WGAN is a function on the whole space. The c-transform

$$ f(x) = \min_j \big( c(x, y_j) - v_j \big) $$

over the atoms y_j of positive mass is that function: a minimum of 1-Lipschitz functions is 1-Lipschitz, by
construction and exactly, for any v; and with the optimal v it attains W₁. Nothing has to be clipped or penalised.

On the line the critic is known in closed form: f′ = sign(G − F), with F and G the CDFs of p and q.

Reference: *Optimal Transport: Old and New* (Villani, 2009), chapter 5, https://doi.org/10.1007/978-3-540-71050-9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64
from scipy.spatial.distance import cdist

from divergences.checks import ArrayLike
from divergences.distributions import Discrete, as_line, as_query

__all__ = ["Critic", "LineCritic", "PointCritic"]

_BLOCK = 4_000_000


@runtime_checkable
class Critic(Protocol):
    """A 1-Lipschitz function on R^d with E_p f − E_q f = W₁(p, q)."""

    def __call__(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Values at x (n, d), anywhere in R^d."""

    def gradient(self, x: ArrayLike) -> Float64[np.ndarray, "n d"]:
        """Gradient at x (n, d); at a kink, one of the subgradients."""


@dataclass(frozen=True)
class PointCritic:
    """f(x) = min_j (c(x, y_j) − v_j): the c-transform of a potential on atoms.

    Attributes:
        points: the atoms y_j, shape (m, d).
        potential: v_j, shape (m,).
        metric: the ground metric c, ``"euclidean"`` or ``"cityblock"``; f is 1-Lipschitz in it.
    """

    points: Float64[np.ndarray, "m d"]
    potential: Float64[np.ndarray, " m"]
    metric: str

    @staticmethod
    def of(
        points: Float64[np.ndarray, "m d"], potential: Float64[np.ndarray, " m"], p: Discrete, metric: str
    ) -> PointCritic:
        """The critic of a solved transport from p to the atoms ``points``: zero mean over p's atoms."""
        raw = PointCritic(points, potential, metric)
        # The gauge is free (adding a constant changes no difference of means): fix it, so that plots compare.
        return PointCritic(points, potential + float(p.weights @ raw(p.points)), metric)

    def __call__(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Values at x (n, d)."""
        query = as_query(x, self.points.shape[1])
        return np.concatenate([costs.min(axis=1) for costs in self._blocks(query)]) if len(query) else np.empty(0)

    def gradient(self, x: ArrayLike) -> Float64[np.ndarray, "n d"]:
        """Unit vector away from the atom that attains the minimum (0 at the atom itself)."""
        query = as_query(x, self.points.shape[1])
        if len(query) == 0:
            return np.empty((0, self.points.shape[1]))
        nearest = np.concatenate([costs.argmin(axis=1) for costs in self._blocks(query)])
        away = query - self.points[nearest]
        if self.metric == "cityblock":
            return np.sign(away)
        length = np.linalg.norm(away, axis=1, keepdims=True)
        return np.divide(away, length, out=np.zeros_like(away), where=length > 0)

    def _blocks(self, query: np.ndarray) -> Iterator[np.ndarray]:
        """Costs minus potential, a block of rows at a time: never the whole n×m matrix at once."""
        rows = max(1, _BLOCK // len(self.points))
        for start in range(0, len(query), rows):
            yield cdist(query[start : start + rows], self.points, self.metric) - self.potential


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

    def __call__(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Values at x, shape (n, 1) or (n,)."""
        query = as_line(x)
        inside = np.interp(query, self.knots, self.values)
        below = np.minimum(query - self.knots[0], 0.0) * self.slopes[0]
        above = np.maximum(query - self.knots[-1], 0.0) * self.slopes[-1]
        return inside + below + above

    def gradient(self, x: ArrayLike) -> Float64[np.ndarray, "n d"]:
        """Slopes at x, shape (n, 1); at a knot, the slope to its right."""
        return self.slopes[np.searchsorted(self.knots, as_line(x), side="right")][:, None]
