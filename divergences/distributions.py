r"""A distribution can be scored, sampled, or both.

Here live the laws that can be both: ``log_prob(x)`` for x of shape (n, d) and ``sample(n, rng)``. ``Gaussian``,
``Uniform`` and their ``Mixture`` have densities on R^d; ``Discrete`` has point masses, and its ``log_prob`` is the
logarithm of a mass. What has samples but no density is a *sampler* ``(n, rng) -> array``.

Three things more make an honest integral possible, and each law that knows them says so:

* ``support``: the smallest box outside which there is no mass;
* ``knots()`` (on the line): where the law has structure, and on which scale: means ± kσ, edges, extreme quantiles.
  An integrator that starts from these cannot overlook a narrow mode;
* ``parts()``: the weights and the simple laws a mixture is made of, each with a ``frame()``, the affine map from a
  standard box to where it lives. In the plane each part is integrated on its own scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64
from scipy.special import ndtr, ndtri

from divergences.checks import ArrayLike, as_array, as_count, as_generator, as_points, as_weights
from divergences.errors import InputError, NoDensity

__all__ = ["Box", "Discrete", "Distribution", "Frame", "Gaussian", "Knots", "Mixture", "Uniform"]

# Where a Gaussian's density underflows: nothing beyond can be felt, however fast a log-ratio grows.
GAUSSIAN_REACH = 38.5
_GAUSSIAN_KNOTS = np.array([0.0, 1.0, 2.0, 3.0, 4.5, 6.5, 9.0, 13.0, 19.0, 27.0, GAUSSIAN_REACH])
_GAUSSIAN_FRAME = np.array([0.0, 1.5, 3.0, 5.0, 7.0, 10.0])
# Largest intermediate array of a blocked evaluation, in floats (64 MB).
_BLOCK = 8_000_000
_LOG_2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True)
class Box:
    """An axis-parallel box [low, high] of R^d; infinite edges are allowed."""

    low: Float64[np.ndarray, " d"]
    high: Float64[np.ndarray, " d"]

    def contains(self, x: Float64[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Which points lie inside, edges included."""
        return np.all((x >= self.low) & (x <= self.high), axis=1)

    @property
    def bounded(self) -> bool:
        """Whether every edge is finite."""
        return bool(np.isfinite(self.low).all() and np.isfinite(self.high).all())


class Knots(NamedTuple):
    """Where a law on the line has structure: positions, and the length scale on which it changes there."""

    position: Float64[np.ndarray, " k"]
    scale: Float64[np.ndarray, " k"]


class Frame(NamedTuple):
    """x = center + matrix @ z maps a box, cut at ``cuts`` along every axis, onto where a law lives."""

    center: Float64[np.ndarray, " d"]
    matrix: Float64[np.ndarray, "d d"]
    cuts: Float64[np.ndarray, " c"]


@runtime_checkable
class Distribution(Protocol):
    """What every density divergence needs; ``Gaussian``, ``Mixture``, KDEs and pushforwards all are one."""

    @property
    def dim(self) -> int:
        """Dimension d of the space."""

    @property
    def support(self) -> Box:
        """The smallest box that holds all mass."""

    def log_prob(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Natural logarithm of the density at x (n, d): shape (n,); −inf where there is none."""

    def sample(self, n: int, rng: np.random.Generator) -> Float64[np.ndarray, "n d"]:
        """Draw n independent points, shape (n, d)."""


class Gaussian:
    """The normal law N(mean, cov) on R^d.

    Args:
        mean: a number on the line, else shape (d,).
        cov: the *variance* on the line, else the covariance matrix (d, d): symmetric, positive definite.

    Attributes:
        mean: shape (d,).
        cov: shape (d, d).
        cholesky: the lower triangular L with LLᵀ = cov.

    Raises:
        InputError: wrong shapes, NaN, or a covariance that is not symmetric positive definite.

    >>> round(float(Gaussian(0.0, 4.0).log_prob([[0.0]])[0]), 12)  # −½ log(2π·4)
    -1.612085713765
    """

    def __init__(self, mean: ArrayLike, cov: ArrayLike) -> None:
        center = np.atleast_1d(as_array(mean, "mean"))
        if center.ndim != 1 or center.size == 0:
            raise InputError(f"mean must be a number or have shape (d,); it has shape {center.shape}.")
        matrix = as_array(cov, "cov")
        if matrix.ndim == 0 and center.size == 1:
            matrix = matrix.reshape(1, 1)
        if matrix.shape != (center.size, center.size):
            raise InputError(
                f"cov must have shape ({center.size}, {center.size}) to go with mean; it has shape {matrix.shape}."
            )
        if not (np.isfinite(center).all() and np.isfinite(matrix).all()):
            raise InputError("mean and cov must be finite; they hold NaN or infinite values.")
        if not np.allclose(matrix, matrix.T, rtol=1e-10, atol=0):
            raise InputError("cov must be symmetric; use (cov + cov.T) / 2 if the difference is rounding.")
        matrix = (matrix + matrix.T) / 2
        try:
            self.cholesky = np.linalg.cholesky(matrix)
        except np.linalg.LinAlgError as error:
            smallest = float(np.linalg.eigvalsh(matrix)[0])
            raise InputError(
                f"cov must be positive definite; its smallest eigenvalue is {smallest:.3g}. "
                "A law on a line or plane has no density here: use Discrete samples of it and wasserstein."
            ) from error
        self.mean = center
        self.cov = matrix
        # Precision factor: whitened = (x − mean) @ _whiten.T, by a triangular inverse of a small, well-scaled factor.
        self._whiten = np.linalg.inv(self.cholesky)
        self._log_norm = -float(np.log(np.diag(self.cholesky)).sum()) - 0.5 * center.size * _LOG_2PI

    def __repr__(self) -> str:
        if self.dim == 1:
            return f"Gaussian({self.mean[0]:g}, {self.cov[0, 0]:g})"
        return f"Gaussian({self.mean.tolist()}, {self.cov.tolist()})"

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.mean.size

    @property
    def support(self) -> Box:
        """All of R^d."""
        return everywhere(self.dim)

    def log_prob(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Log density at x (n, d)."""
        with np.errstate(over="ignore", invalid="ignore"):
            z = (as_query(x, self.dim) - self.mean) @ self._whiten.T
            return self._log_norm - 0.5 * np.einsum("nd,nd->n", z, z)

    def sample(self, n: int, rng: np.random.Generator) -> Float64[np.ndarray, "n d"]:
        """Draw n points, shape (n, d)."""
        n = as_count(n, "n", minimum=0)
        return self.mean + as_generator(rng).standard_normal((n, self.dim)) @ self.cholesky.T

    def cdf(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """P(X ≤ x), on the line only."""
        return ndtr(self._standardize(x))

    def survival(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """P(X > x) without cancellation in the upper tail, on the line only."""
        return ndtr(-self._standardize(x))

    def quantile(self, u: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Inverse of the CDF, on the line only."""
        need_line(self)
        return self.mean[0] + self.cholesky[0, 0] * ndtri(as_probabilities(u))

    def knots(self) -> Knots:
        """Mean ± kσ, out to where the density underflows."""
        need_line(self)
        sigma = self.cholesky[0, 0]
        position = self.mean[0] + sigma * np.concatenate([-_GAUSSIAN_KNOTS[:0:-1], _GAUSSIAN_KNOTS])
        return Knots(position, np.full(position.size, sigma))

    def frame(self) -> Frame:
        """Mean + Cholesky factor · z, z in [−10, 10]^d: beyond lies a mass below 4e-23 per side in the plane."""
        cuts = np.concatenate([-_GAUSSIAN_FRAME[:0:-1], _GAUSSIAN_FRAME])
        return Frame(self.mean, self.cholesky, cuts)

    def parts(self) -> tuple[Float64[np.ndarray, " k"], list[Distribution]]:
        """One part: itself."""
        return np.ones(1), [self]

    def _standardize(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        need_line(self)
        return (as_line(x) - self.mean[0]) / self.cholesky[0, 0]


class Uniform:
    """The uniform law on the box [low, high].

    Args:
        low: a number on the line, else shape (d,).
        high: likewise; larger than ``low`` in every coordinate.

    >>> Uniform(0.0, 2.0).log_prob([[1.0], [3.0]])
    array([-0.69314718,        -inf])
    """

    def __init__(self, low: ArrayLike, high: ArrayLike) -> None:
        bottom = np.atleast_1d(as_array(low, "low"))
        top = np.atleast_1d(as_array(high, "high"))
        if bottom.ndim != 1 or bottom.shape != top.shape or bottom.size == 0:
            raise InputError(
                f"low and high must be numbers or have the same shape (d,); they have {bottom.shape} and {top.shape}."
            )
        if not (np.isfinite(bottom).all() and np.isfinite(top).all()):
            raise InputError("low and high must be finite: there is no uniform law on an unbounded set.")
        if not (bottom < top).all():
            raise InputError(
                f"low must be below high in every coordinate; low={bottom.tolist()}, high={top.tolist()}. "
                "A degenerate box has no density: use Discrete samples of it and wasserstein."
            )
        self.low = bottom
        self.high = top
        self._log_density = -float(np.log(top - bottom).sum())

    def __repr__(self) -> str:
        if self.dim == 1:
            return f"Uniform({self.low[0]:g}, {self.high[0]:g})"
        return f"Uniform({self.low.tolist()}, {self.high.tolist()})"

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.low.size

    @property
    def support(self) -> Box:
        """The box itself."""
        return Box(self.low, self.high)

    def log_prob(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Log density at x (n, d); −inf outside the box."""
        return np.where(self.support.contains(as_query(x, self.dim)), self._log_density, -np.inf)

    def sample(self, n: int, rng: np.random.Generator) -> Float64[np.ndarray, "n d"]:
        """Draw n points, shape (n, d)."""
        n = as_count(n, "n", minimum=0)
        return as_generator(rng).uniform(self.low, self.high, (n, self.dim))

    def cdf(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """P(X ≤ x), on the line only."""
        need_line(self)
        return np.clip((as_line(x) - self.low[0]) / (self.high[0] - self.low[0]), 0.0, 1.0)

    def survival(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """P(X > x), on the line only."""
        need_line(self)
        return np.clip((self.high[0] - as_line(x)) / (self.high[0] - self.low[0]), 0.0, 1.0)

    def quantile(self, u: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Inverse of the CDF, on the line only."""
        need_line(self)
        return self.low[0] + (self.high[0] - self.low[0]) * as_probabilities(u)

    def knots(self) -> Knots:
        """The two edges."""
        need_line(self)
        # Scale 0: an edge is a jump, and must never be thinned away.
        return Knots(np.concatenate([self.low, self.high]), np.zeros(2))

    def frame(self) -> Frame:
        """The unit box."""
        return Frame(self.low, np.diag(self.high - self.low), np.linspace(0.0, 1.0, 5))

    def parts(self) -> tuple[Float64[np.ndarray, " k"], list[Distribution]]:
        """One part: itself."""
        return np.ones(1), [self]


class Mixture:
    """Σ_k weights[k] · components[k]: laws with densities in the same space.

    Args:
        components: ``Gaussian``, ``Uniform``, other mixtures, or anything that is a ``Distribution`` with a density.
        weights: shape (K,), ≥ 0, summing to 1 within 1e-8; None means equal weights.

    Raises:
        InputError: no components, mixed dimensions, bad weights, or a ``Discrete`` component (no density).

    >>> pair = Mixture([Gaussian(-2.0, 1.0), Gaussian(2.0, 1.0)], [0.5, 0.5])
    >>> pair.dim, float(pair.cdf([0.0])[0])
    (1, 0.5)
    """

    def __init__(self, components: Sequence[Any], weights: ArrayLike | None = None) -> None:
        if not isinstance(components, Sequence) or len(components) == 0:
            raise InputError("components must be a non-empty list of distributions.")
        # The adapters know these classes, so they are only asked here, when the first mixture is made.
        from divergences.adapters import as_distribution

        laws = [as_distribution(component, f"components[{i}]") for i, component in enumerate(components)]
        if any(isinstance(law, Discrete) for law in laws):
            raise InputError("a Mixture has a density; Discrete components have none. Mix their points by hand.")
        dims = sorted({law.dim for law in laws})
        if len(dims) > 1:
            raise InputError(f"components must live in the same space; they have dimensions {dims}.")
        self.components = laws
        self.weights = as_weights(weights, "weights", len(laws))
        # A weight of zero is no part at all: its log would be −inf and its place in the plane irrelevant.
        pairs = [
            (weight * inner, leaf)
            for weight, law in zip(self.weights, laws, strict=True)
            for inner, leaf in zip(*parts_of(law), strict=True)
            if weight * inner > 0
        ]
        self._leaf_weights = np.array([weight for weight, _ in pairs])
        self._leaves = [leaf for _, leaf in pairs]
        self._gaussian = all(isinstance(leaf, Gaussian) for leaf in self._leaves)
        if self._gaussian:
            self._means = np.stack([leaf.mean for leaf in self._leaves])  # type: ignore[attr-defined]
            self._whitens = np.stack([leaf._whiten for leaf in self._leaves])  # type: ignore[attr-defined]
            norms = np.array([leaf._log_norm for leaf in self._leaves])  # type: ignore[attr-defined]
            self._log_scale = np.log(self._leaf_weights) + norms

    def __repr__(self) -> str:
        if len(self.components) > 4:
            return f"Mixture({len(self.components)} components, dim={self.dim})"
        return f"Mixture({self.components}, {self.weights.tolist()})"

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.components[0].dim

    @property
    def support(self) -> Box:
        """The smallest box around the components' supports (there may be gaps in it)."""
        boxes = [leaf.support for leaf in self._leaves]
        return Box(np.min([box.low for box in boxes], axis=0), np.max([box.high for box in boxes], axis=0))

    def log_prob(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Log density at x (n, d), by log-sum-exp over the components, in blocks of bounded memory."""
        points = as_query(x, self.dim)
        rows = max(1, _BLOCK // (len(self._leaves) * self.dim))
        blocks = [points[start : start + rows] for start in range(0, len(points), rows)]
        return np.concatenate([_log_sum_exp(self._log_terms(block)) for block in blocks]) if blocks else np.empty(0)

    def sample(self, n: int, rng: np.random.Generator) -> Float64[np.ndarray, "n d"]:
        """Draw n points, shape (n, d), in random order of components."""
        n = as_count(n, "n", minimum=0)
        labels = as_generator(rng).choice(len(self.weights), size=n, p=self.weights)
        points = np.empty((n, self.dim))
        for label, component in enumerate(self.components):
            mask = labels == label
            if mask.any():
                points[mask] = component.sample(int(mask.sum()), rng)
        return points

    def cdf(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """P(X ≤ x), on the line only."""
        return self._weighted("cdf", x)

    def survival(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """P(X > x), on the line only."""
        return self._weighted("survival", x)

    def quantile(self, u: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Inverse of the CDF by bisection to machine precision, on the line only."""
        need_line(self)
        levels = as_probabilities(u)
        ends = np.stack([leaf.quantile(levels) for leaf in self._leaves])  # type: ignore[attr-defined]
        low, high = ends.min(axis=0), ends.max(axis=0)
        upper = levels > 0.5
        while True:
            middle = low + (high - low) / 2
            if not ((low < middle) & (middle < high)).any():
                return np.where(low == high, low, middle)
            # The smaller of the two tails keeps its digits.
            below = np.where(upper, self.survival(middle) > 1 - levels, self.cdf(middle) < levels)
            low, high = np.where(below, middle, low), np.where(below, high, middle)

    def knots(self) -> Knots:
        """All knots of all parts."""
        need_line(self)
        parts = [knots_of(leaf) for leaf in self._leaves]
        return Knots(np.concatenate([k.position for k in parts]), np.concatenate([k.scale for k in parts]))

    def parts(self) -> tuple[Float64[np.ndarray, " k"], list[Distribution]]:
        """Weights and simple laws; mixtures of mixtures are flattened."""
        return self._leaf_weights, self._leaves

    def _log_terms(self, x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, "n k"]:
        # Beyond 1e154 standard deviations squares overflow, to a log density of −∞: which is what it is there.
        with np.errstate(over="ignore"):
            return self._log_terms_unchecked(x)

    def _log_terms_unchecked(self, x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, "n k"]:
        if self._gaussian and self.dim == 1:
            z = (x - self._means[:, 0]) * self._whitens[:, 0, 0]
            return self._log_scale - 0.5 * z * z
        if self._gaussian and self.dim <= 3:
            # Whitening factors are lower triangular; a few passes over (n, k) beat any contraction of small axes.
            offset = [x[:, axis, None] - self._means[:, axis] for axis in range(self.dim)]
            square = np.zeros((len(x), len(self._leaves)))
            for row in range(self.dim):
                z = offset[0] * self._whitens[:, row, 0]
                for column in range(1, row + 1):
                    z += offset[column] * self._whitens[:, row, column]
                square += z * z
            return self._log_scale - 0.5 * square
        log_weights = np.log(self._leaf_weights)
        return np.stack([leaf.log_prob(x) for leaf in self._leaves], axis=1) + log_weights

    def _weighted(self, name: str, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        need_line(self)
        points = as_line(x)
        total = np.zeros(points.shape)
        for weight, leaf in zip(self._leaf_weights, self._leaves, strict=True):
            total += weight * _cdf_like(leaf, name)(points)
        return total


class Discrete:
    """Point masses: Σ_i weights[i] · δ(points[i]).

    Args:
        points: shape (n, d), or (n,) on the line. Equal points are one atom for ``log_prob``, ``kl`` and ``jsd``.
        weights: shape (n,), ≥ 0, summing to 1 within 1e-8; None means equal weights (an empirical law).

    >>> coin = Discrete([0.0, 1.0], [0.25, 0.75])
    >>> np.exp(coin.log_prob([[1.0], [2.0]]))
    array([0.75, 0.  ])
    """

    def __init__(self, points: ArrayLike, weights: ArrayLike | None = None) -> None:
        self.points = as_points(points, "points")
        self.weights = as_weights(weights, "weights", len(self.points))
        self.uniform = bool((self.weights == self.weights[0]).all())

    def __repr__(self) -> str:
        return f"Discrete({len(self.points)} points, dim={self.dim})"

    @property
    def dim(self) -> int:
        """Dimension d."""
        return self.points.shape[1]

    @cached_property
    def _merged(self) -> tuple[Float64[np.ndarray, "a d"], Float64[np.ndarray, " a"]]:
        # Only on demand: a large sample that is merely transported needs no merging.
        atoms, inverse = np.unique(self.points + 0.0, axis=0, return_inverse=True)  # + 0.0: −0.0 and 0.0 are one point
        masses = np.bincount(inverse.ravel(), weights=self.weights, minlength=len(atoms))
        return atoms[masses > 0], masses[masses > 0]

    @property
    def atoms(self) -> Float64[np.ndarray, "a d"]:
        """Distinct points of positive mass, sorted, shape (a, d)."""
        return self._merged[0]

    @property
    def masses(self) -> Float64[np.ndarray, " a"]:
        """Mass of each atom, shape (a,)."""
        return self._merged[1]

    @cached_property
    def _index(self) -> dict[bytes, float]:
        return {atom.tobytes(): float(mass) for atom, mass in zip(self.atoms, self.masses, strict=True)}

    @property
    def support(self) -> Box:
        """The smallest box around the atoms of positive mass."""
        return Box(self.atoms.min(axis=0), self.atoms.max(axis=0))

    def log_prob(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Log *mass* at x (n, d): −inf where there is no atom."""
        query = np.ascontiguousarray(as_query(x, self.dim) + 0.0)
        mass = np.array([self._index.get(row.tobytes(), 0.0) for row in query])
        with np.errstate(divide="ignore"):
            return np.log(mass)

    def sample(self, n: int, rng: np.random.Generator) -> Float64[np.ndarray, "n d"]:
        """Draw n points, shape (n, d)."""
        n = as_count(n, "n", minimum=0)
        return self.points[as_generator(rng).choice(len(self.points), size=n, p=self.weights)]

    def cdf(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """P(X ≤ x), on the line only."""
        need_line(self)
        steps = np.concatenate([[0.0], np.cumsum(self.masses)])
        return np.minimum(steps[np.searchsorted(self.atoms[:, 0], as_line(x), side="right")], 1.0)

    def survival(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """P(X > x), on the line only."""
        return 1.0 - self.cdf(x)

    def quantile(self, u: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Smallest atom whose CDF reaches u, on the line only."""
        need_line(self)
        index = np.searchsorted(np.cumsum(self.masses), as_probabilities(u) - 1e-15)
        return self.atoms[np.minimum(index, len(self.atoms) - 1), 0]

    def knots(self) -> Knots:
        """The atoms, on the line only: each is a jump of the CDF."""
        need_line(self)
        return Knots(self.atoms[:, 0], np.zeros(len(self.atoms)))


def parts_of(law: Distribution) -> tuple[Float64[np.ndarray, " k"], list[Distribution]]:
    """Weights and simple laws; a law that cannot say is one part."""
    return law.parts() if hasattr(law, "parts") else (np.ones(1), [law])


def knots_of(law: Distribution) -> Knots:
    """The law's own knots; for a stranger, quantiles of a pilot sample, which the mass check then has to confirm."""
    if hasattr(law, "knots"):
        knots: Knots = law.knots()
        return knots
    pilot = np.sort(law.sample(4096, np.random.default_rng(0))[:, 0])
    spread = max(float(pilot[-1] - pilot[0]), float(np.finfo(np.float64).tiny))
    reach = spread * np.array([0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    position = np.concatenate([pilot[0] - reach[::-1], pilot[::64], pilot[-1] + reach])
    edges = np.concatenate([law.support.low, law.support.high])
    position = np.clip(position, edges[0], edges[1])
    position = np.unique(np.concatenate([position, edges[np.isfinite(edges)]]))
    gaps = np.diff(position)
    return Knots(position, np.minimum(np.append(gaps, np.inf), np.insert(gaps, 0, np.inf)))


def _cdf_like(law: Distribution, name: str) -> Any:
    method = getattr(law, name, None)
    if method is None:
        raise NoDensity(f"{law!r} has no {name}. Use samples of it: wasserstein(law.sample(n, rng), ...).")
    return method


def _log_sum_exp(terms: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, " n"]:
    top = terms.max(axis=1, keepdims=True)
    top[~np.isfinite(top)] = 0.0
    with np.errstate(divide="ignore"):
        return np.log(np.exp(terms - top).sum(axis=1)) + top[:, 0]


def everywhere(dim: int) -> Box:
    return Box(np.full(dim, -np.inf), np.full(dim, np.inf))


def as_query(x: ArrayLike, dim: int) -> Float64[np.ndarray, "n d"]:
    """Points at which a density is asked; infinite coordinates are fine there, NaN is not."""
    points = as_array(x, "x")
    if points.ndim == 1 and dim == 1:
        points = points[:, None]
    if points.ndim != 2 or points.shape[1] != dim:
        raise InputError(f"x must have shape (n, {dim}); it has shape {points.shape}.")
    if np.isnan(points).any():
        raise InputError("x holds NaN; a density has no value there.")
    return points


def as_line(x: ArrayLike) -> Float64[np.ndarray, " n"]:
    points = as_array(x, "x")
    if points.ndim == 2 and points.shape[1] == 1:
        points = points[:, 0]
    return points


def as_probabilities(u: ArrayLike) -> Float64[np.ndarray, " n"]:
    levels = as_array(u, "u")
    if not ((levels >= 0) & (levels <= 1)).all():
        raise InputError("u must hold probabilities between 0 and 1.")
    return levels


def need_line(law: Any) -> None:
    if law.dim != 1:
        raise InputError(f"only a law on the line has a CDF and quantiles; this one has dimension {law.dim}.")
