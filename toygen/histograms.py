r"""A histogram as a law: piecewise constant on the cells of a regular grid, p = count/(n · volume of a cell)."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64

from divergences.checks import ArrayLike, as_count, as_generator, as_points
from divergences.distributions import Box, Knots, as_line, as_probabilities, as_query, need_line
from divergences.errors import InputError

__all__ = ["Histogram"]

_LARGEST = 1_000_000


class Histogram:
    """Counts on a regular grid, as a ``Distribution`` in one to three dimensions.

    Args:
        counts: points per cell, one axis per dimension; at least one point.
        low: the lower corner of the grid, shape (d,).
        high: the upper corner.

    >>> law = Histogram.of([0.0, 0.1, 0.2, 1.0], bins=2)
    >>> np.exp(law.log_prob([0.25, 0.75, 2.0]))
    array([1.5, 0.5, 0. ])
    """

    def __init__(self, counts: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        self.counts, self.low, self.high = np.asarray(counts), np.asarray(low), np.asarray(high)
        self.cell = (self.high - self.low) / self.counts.shape
        self._masses = (self.counts / self.counts.sum()).ravel()

    @classmethod
    def of(cls, train: Any, *, bins: Any = None) -> Histogram:
        """The histogram of points over their range.

        Args:
            train: points (n, d), d ≤ 3, or (n,) on the line.
            bins: cells per axis; None is Scott's rule, 3.49 σ n^(−1/3) on the line, with −1/(2+d) in d dimensions.

        Raises:
            InputError: more than three dimensions, an axis without spread, or more than a million cells.
        """
        x = as_points(train, "train", minimum=2)
        n, dim = x.shape
        if dim > 3:
            raise InputError(f"a histogram in {dim} dimensions has more cells than points; use gmm or kde.")
        low, high = x.min(axis=0), x.max(axis=0)
        if not (low < high).all():
            raise InputError("train has an axis along which all points are the same. Drop it, or use memorizer.")
        if bins is None:
            shape = [int(c) for c in np.ceil((high - low) / (3.49 * x.std(axis=0) * n ** (-1 / (2 + dim))))]
        else:
            shape = [as_count(bins, "bins")] * dim
        if np.prod(shape) > _LARGEST:
            raise InputError(f"bins make {np.prod(shape)} cells; at most {_LARGEST} are reasonable.")
        counts, _ = np.histogramdd(x, bins=shape, range=list(zip(low, high, strict=True)))
        return cls(counts, low, high)

    def __repr__(self) -> str:
        return f"Histogram({' × '.join(map(str, self.counts.shape))} cells)"

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.counts.ndim

    @property
    def support(self) -> Box:
        """The box of the grid."""
        return Box(self.low, self.high)

    def log_prob(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Log density at x (n, d); −∞ in an empty cell and outside the grid."""
        points = as_query(x, self.dim)
        inside = self.support.contains(points)
        place = np.where(inside[:, None], (points - self.low) / self.cell, 0.0).astype(np.intp)
        # The upper edge belongs to the last cell.
        place = np.minimum(place, np.array(self.counts.shape) - 1)
        mass = self._masses[np.ravel_multi_index(tuple(place.T), self.counts.shape)]
        with np.errstate(divide="ignore"):
            return np.log(np.where(inside, mass, 0.0)) - np.log(self.cell).sum()

    def sample(self, n: Any, rng: np.random.Generator) -> Float64[np.ndarray, "n d"]:
        """Draw n points: a cell by its mass, a place in it uniformly."""
        n, rng = as_count(n, "n", minimum=0), as_generator(rng)
        cells = np.unravel_index(rng.choice(len(self._masses), size=n, p=self._masses), self.counts.shape)
        return self.low + self.cell * (np.stack(cells, axis=1) + rng.random((n, self.dim)))

    def cdf(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """P(X ≤ x), on the line only."""
        need_line(self)
        return np.interp(as_line(x), self._edges, self._below)

    def survival(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """P(X > x), on the line only."""
        return 1.0 - self.cdf(x)

    def quantile(self, u: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Inverse of the CDF, on the line only."""
        need_line(self)
        return np.interp(as_probabilities(u), self._below, self._edges)

    def knots(self) -> Knots:
        """The edges of the cells, on the line only: each is a jump."""
        need_line(self)
        return Knots(self._edges, np.zeros(len(self._edges)))

    @property
    def _below(self) -> np.ndarray:
        below = np.cumsum(self._masses)
        return np.concatenate([[0.0], below / below[-1]])

    @property
    def _edges(self) -> np.ndarray:
        return np.linspace(self.low[0], self.high[0], self.counts.shape[0] + 1)
