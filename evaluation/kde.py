r"""Kernel density estimates: samples turned into a law that can be scored.

    p(x) = Σ_i w_i h^(−d) K((x − x_i)/h),   K Gaussian, or Epanechnikov: K(u) ∝ max(1 − |u|², 0).

The bandwidth h is one number for all directions (scale the coordinates first if their units differ). Rules of thumb are
optimal for a Gaussian law: with σ² the mean variance of the coordinates and n_eff = 1/Σw²,

    silverman: h = σ (4/((d+2) n_eff))^(1/(d+4)),     scott: h = σ n_eff^(−1/(d+4)),

and, on the line, σ for Silverman's rule is the smaller of the standard deviation and the interquartile range/1.349. For
several separate modes they smooth far too much. ``"cv"`` maximises the leave-one-out likelihood Σ_i w_i log p₋ᵢ(x_i) of
the points themselves, never of data that are scored later; equal points are left out together, since a repeat would
reward h → 0. For the Epanechnikov kernel h is the radius of its support, √(d+4) times the standard deviation it adds to
a coordinate; rules are scaled by that factor. It reaches no farther, so that in few dimensions a k-d tree finds all
points that matter; the Gaussian kernel reaches everywhere, and is summed over all points in blocks.

A high likelihood of held-out data under a KDE of generated samples is no proof of a good generator: in many dimensions
the estimate is far from the law for every n one can draw, and a k-means codebook can beat the truth
(``evaluation.parzen`` shows whether it does).

References:
    Density estimation for statistics and data analysis (Silverman, 1986). A note on the evaluation of generative models
    (Theis, van den Oord, Bethge, 2016), https://arxiv.org/abs/1511.01844.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.special import gammaln, ndtr

from divergences import Gaussian, InputError
from divergences.checks import ArrayLike, as_count, as_generator, as_number, as_points, as_weights, one_of
from divergences.distributions import (
    Box,
    Distribution,
    Knots,
    as_line,
    as_probabilities,
    as_query,
    everywhere,
    need_line,
)

__all__ = ["KDE"]

_RULES = ("silverman", "scott", "cv")
# Largest intermediate array of a blocked evaluation, in floats (2 MB: several of them fit a processor's cache).
_BLOCK = 250_000
_HOPELESS = 1e12
# Up to here a k-d tree finds the points within a compact kernel's reach faster than all distances are computed.
_TREE_DIM = 10
_IQR_OF_NORMAL = 1.3489795003921634
_GAUSSIAN_KNOTS = np.array([0.0, 1.0, 2.0, 3.0, 4.5, 6.5, 9.0, 13.0, 19.0, 27.0, 38.5])


class KDE:
    """A kernel density estimate: a ``Distribution`` that can be scored, sampled and, on the line, integrated.

    Args:
        points: shape (n, d), or (n,) on the line.
        bandwidth: h > 0, or "silverman", "scott", "cv" (leave-one-out likelihood of ``points``).
        kernel: "gaussian" or "epanechnikov".
        weights: shape (n,), ≥ 0, summing to 1; None means equal weights.

    Raises:
        InputError: NaN or empty points, an unknown rule or kernel, h ≤ 0, or a rule for points without spread.

    Attributes:
        points: shape (n, d).
        weights: shape (n,).
        bandwidth: the h in use.
        kernel: its name.

    >>> pair = KDE([-1.0, 1.0], bandwidth=0.5)
    >>> float(pair.cdf([0.0])[0]), pair.dim
    (0.5, 1)
    """

    def __init__(
        self,
        points: ArrayLike,
        *,
        bandwidth: Any = "silverman",
        kernel: str = "gaussian",
        weights: ArrayLike | None = None,
    ) -> None:
        self.points: Float64[np.ndarray, "n d"] = as_points(points, "points")
        self.weights: Float64[np.ndarray, " n"] = as_weights(weights, "weights", len(self.points))
        self.kernel = one_of(kernel, "kernel", ("gaussian", "epanechnikov"))
        # A point without weight is no part of the estimate.
        keep = self.weights > 0
        self.points, self.weights = self.points[keep], self.weights[keep]
        if isinstance(bandwidth, str):
            self.bandwidth = _rule(one_of(bandwidth, "bandwidth", _RULES), self.points, self.weights, self.kernel)
        else:
            self.bandwidth = as_number(bandwidth, "bandwidth", above=0.0)

    def __repr__(self) -> str:
        return f"KDE({len(self.points)} points, dim={self.dim}, kernel={self.kernel!r}, bandwidth={self.bandwidth:.4g})"

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.points.shape[1]

    @property
    def support(self) -> Box:
        """All of R^d, or for the Epanechnikov kernel the box around its balls."""
        if self.kernel == "gaussian":
            return everywhere(self.dim)
        return Box(self.points.min(axis=0) - self.bandwidth, self.points.max(axis=0) + self.bandwidth)

    def log_prob(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Log density at x (n, d), in blocks of bounded memory; −inf where no kernel reaches."""
        query = as_query(x, self.dim)
        value = np.full(len(query), -np.inf)
        finite = np.flatnonzero(np.isfinite(query).all(axis=1))
        if self.kernel == "epanechnikov" and self.dim <= _TREE_DIM:
            value[finite] = _compact_log_density(query[finite], self._tree, self.weights, self.bandwidth)
            return value
        rows = max(1, _BLOCK // len(self.points))
        for start in range(0, len(finite), rows):
            here = finite[start : start + rows]
            squared = _squared_distances(query[here], self.points)
            terms = _log_kernel(squared, self.bandwidth, self.kernel, self.dim) + np.log(self.weights)
            value[here] = _log_sum(terms)
        return value

    @functools.cached_property
    def _tree(self) -> Any:
        from scipy.spatial import cKDTree

        return cKDTree(self.points)

    def sample(self, n: int, rng: np.random.Generator) -> Float64[np.ndarray, "n d"]:
        """Draw n points, shape (n, d): a point by its weight, plus the kernel's noise."""
        n = as_count(n, "n", minimum=0)
        chosen = as_generator(rng).choice(len(self.points), size=n, p=self.weights)
        noise = rng.standard_normal((n, self.dim))
        if self.kernel == "epanechnikov":
            # |u|² of the density ∝ |u|^(d−1)(1 − |u|²) is Beta(d/2, 2).
            radius = np.sqrt(rng.beta(self.dim / 2, 2, size=n))
            noise *= (radius / np.linalg.norm(noise, axis=1))[:, None]
        return self.points[chosen] + self.bandwidth * noise

    def cdf(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """P(X ≤ x), on the line only."""
        return self._averaged(as_line(x), 1.0)

    def survival(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """P(X > x) without cancellation in the upper tail, on the line only."""
        return self._averaged(as_line(x), -1.0)

    def quantile(self, u: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Inverse of the CDF by bisection to machine precision, on the line only."""
        need_line(self)
        levels = as_probabilities(u)
        reach = self.bandwidth * (_GAUSSIAN_KNOTS[-1] if self.kernel == "gaussian" else 1.0)
        low = np.full(levels.shape, self.points.min() - reach)
        high = np.full(levels.shape, self.points.max() + reach)
        upper = levels > 0.5
        while True:
            middle = low + (high - low) / 2
            if not ((low < middle) & (middle < high)).any():
                break
            below = np.where(upper, self.survival(middle) > 1 - levels, self.cdf(middle) < levels)
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        edges = self.support
        return np.where(levels == 0, edges.low[0], np.where(levels == 1, edges.high[0], middle))

    def knots(self) -> Knots:
        """Where an integrator has to look, on the line only: around every point, not closer than a third of h."""
        need_line(self)
        if self.kernel == "gaussian":
            offsets = np.concatenate([-_GAUSSIAN_KNOTS[:0:-1], _GAUSSIAN_KNOTS])
        else:
            offsets = np.linspace(-1.0, 1.0, 9)
        # Points in the same third of a bandwidth have the same knots.
        cells = np.unique(np.round(3 * self.points[:, 0] / self.bandwidth)) * self.bandwidth / 3
        ends = np.array([self.points.min(), self.points.max()])
        near = (np.concatenate([ends, cells])[:, None] + self.bandwidth * offsets).ravel()
        position = np.unique(np.clip(near, self.support.low[0], self.support.high[0]))
        keep = np.concatenate([[True], np.diff(np.floor(3 * position / self.bandwidth)) > 0])
        keep[-1] = True
        return Knots(position[keep], np.full(int(keep.sum()), self.bandwidth))

    def parts(self) -> tuple[Float64[np.ndarray, " k"], list[Distribution]]:
        """One Gaussian per point in two and more dimensions; on the line, and for other kernels, itself."""
        if self.kernel != "gaussian" or self.dim == 1:
            return np.ones(1), [self]
        covariance = self.bandwidth**2 * np.eye(self.dim)
        return self.weights, [Gaussian(point, covariance) for point in self.points]

    def _averaged(self, x: Float64[np.ndarray, " n"], sign: float) -> Float64[np.ndarray, " n"]:
        need_line(self)
        total = np.empty(x.shape)
        rows = max(1, _BLOCK // len(self.points))
        for start in range(0, len(x), rows):
            here = slice(start, start + rows)
            z = sign * (x[here, None] - self.points[:, 0]) / self.bandwidth
            total[here] = _kernel_cdf(z, self.kernel) @ self.weights
        return np.clip(total, 0.0, 1.0)


def _kernel_cdf(z: np.ndarray, kernel: str) -> Float64[np.ndarray, "n k"]:
    if kernel == "gaussian":
        return ndtr(z)
    # ∫ ¾(1 − t²) from −1 to z, with z + 1 factored out so that the lower tail keeps its digits.
    inner = np.clip(z, -1.0, 1.0)
    return (inner + 1) ** 2 * (2 - inner) / 4


def _squared_distances(x: np.ndarray, points: np.ndarray) -> Float64[np.ndarray, "n k"]:
    from scipy.spatial.distance import cdist

    return cdist(x, points, "sqeuclidean")


def _log_kernel(squared: np.ndarray, h: float, kernel: str, dim: int) -> Float64[np.ndarray, "..."]:
    """Logarithm of h^(−d) K(r/h) of squared distances r²."""
    if kernel == "gaussian":
        return -0.5 * squared / h**2 - dim * (math.log(h) + 0.5 * math.log(2 * math.pi))
    # Volume of the unit ball times the mean of 1 − |u|² over it, which is 2/(d+2).
    log_mass = 0.5 * dim * math.log(math.pi) - float(gammaln(dim / 2 + 1)) + math.log(2 / (dim + 2))
    with np.errstate(divide="ignore"):
        return np.log(np.maximum(1 - squared / h**2, 0.0)) - log_mass - dim * math.log(h)


def _compact_log_density(
    x: np.ndarray, tree: Any, weights: np.ndarray, h: float, *, others: bool = False
) -> Float64[np.ndarray, " n"]:
    """Log density under the Epanechnikov kernel, from the points within h alone; of ``others`` without equal points.

    Then it is the density of what is left, brought to mass 1: a point whose equals hold all the weight has none.
    """
    from scipy.spatial import cKDTree

    total, equal = np.zeros(len(x)), np.zeros(len(x))
    for here in _reaching(x, tree, h):
        pairs = cKDTree(x[here]).sparse_distance_matrix(tree, h, output_type="ndarray")
        own, weight, count = pairs["i"], weights[pairs["j"]], here.stop - here.start
        total[here] = np.bincount(own, weight * np.maximum(1 - (pairs["v"] / h) ** 2, 0.0), minlength=count)
        if others:
            equal[here] = np.bincount(own, weight * (pairs["v"] == 0), minlength=count)
    scale = float(_log_kernel(np.zeros(1), h, "epanechnikov", x.shape[1])[0])
    if others:
        total, rest = total - equal, 1 - equal
        # What cancels to less than this was nothing but rounding.
        total = np.where(total > 1e-12 * equal, total, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(rest > 0, np.log(total) - np.log(rest), -np.inf) + scale
    with np.errstate(divide="ignore"):
        return np.log(total) + scale


def _reaching(x: np.ndarray, tree: Any, h: float) -> Iterator[slice]:
    """Runs of rows that have ``_BLOCK`` pairs with points within h of them, or a single row."""
    if len(x) == 0:
        return
    before = np.cumsum(tree.query_ball_point(x, h, return_length=True))
    start = done = 0
    while start < len(x):
        stop = max(int(np.searchsorted(before, done + _BLOCK, side="right")), start + 1)
        yield slice(start, stop)
        start, done = stop, int(before[stop - 1])


def _log_sum(terms: np.ndarray) -> Float64[np.ndarray, " n"]:
    top = terms.max(axis=1, keepdims=True)
    top[~np.isfinite(top)] = 0.0
    with np.errstate(divide="ignore"):
        return np.log(np.exp(terms - top).sum(axis=1)) + top[:, 0]


def _rule(name: str, points: np.ndarray, weights: np.ndarray, kernel: str) -> float:
    dim = points.shape[1]
    mean = weights @ points
    sigma = math.sqrt(float((weights @ (points - mean) ** 2).mean()))
    if not sigma > 1e-150:
        raise InputError(f"bandwidth={name!r} needs points with some spread; all are equal. Give a number instead.")
    size = 1 / float(weights @ weights)
    factor = (4 / ((dim + 2) * size)) ** (1 / (dim + 4)) if name != "scott" else size ** (-1 / (dim + 4))
    reach = math.sqrt(dim + 4) if kernel == "epanechnikov" else 1.0
    if name == "cv":
        return _cross_validated(points, weights, kernel, factor * sigma * reach)
    if name == "silverman" and dim == 1:
        quartiles = _weighted_quantiles(points[:, 0], weights)
        robust = float(quartiles[1] - quartiles[0]) / _IQR_OF_NORMAL
        # Half of all points in one place say nothing about the scale of the rest.
        sigma = min(sigma, robust) if robust > 0 else sigma
    return factor * sigma * reach


def _weighted_quantiles(x: np.ndarray, weights: np.ndarray) -> Float64[np.ndarray, "2"]:
    order = np.argsort(x)
    middle = np.cumsum(weights[order]) - weights[order] / 2
    return np.interp([0.25, 0.75], middle, x[order])


def _cross_validated(points: np.ndarray, weights: np.ndarray, kernel: str, start: float) -> float:
    """Maximise the leave-one-out likelihood over log h: a grid of octaves around the rule of thumb, then Brent."""
    from scipy.optimize import minimize_scalar

    def loss(log_h: float) -> float:
        # A point that no other reaches makes the likelihood 0; the minimiser wants a finite number.
        return min(-_leave_one_out(points, weights, kernel, math.exp(log_h)), _HOPELESS)

    grid = math.log(start) + np.log(2.0) * np.arange(-10, 3)
    losses = np.array([loss(value) for value in grid])
    if not (losses < _HOPELESS).any():
        raise InputError(
            'bandwidth="cv" finds no bandwidth that explains every point by the others. Give a number instead.'
        )
    best = int(np.argmin(losses))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    found: Any = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-4})
    return math.exp(found.x if found.fun < losses[best] else grid[best])


def _leave_one_out(points: np.ndarray, weights: np.ndarray, kernel: str, h: float) -> float:
    if kernel == "epanechnikov" and points.shape[1] <= _TREE_DIM:
        from scipy.spatial import cKDTree

        return float(weights @ _compact_log_density(points, cKDTree(points), weights, h, others=True))
    total = 0.0
    log_weights = np.log(weights)
    rows = max(1, _BLOCK // len(points))
    for start in range(0, len(points), rows):
        here = slice(start, start + rows)
        squared = _squared_distances(points[here], points)
        same = squared == 0
        terms = np.where(same, -np.inf, _log_kernel(squared, h, kernel, points.shape[1]) + log_weights)
        rest = 1 - same @ weights
        with np.errstate(divide="ignore"):
            total += float(weights[here] @ (_log_sum(terms) - np.log(rest)))
    return total
