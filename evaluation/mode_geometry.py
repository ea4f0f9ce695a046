r"""Where the modes of a Gaussian mixture are: nearest mode, the reach of each, and what a perfect generator would do.

A sample belongs to the mode of least Mahalanobis distance m_k(x)² = (x−μ_k)ᵀ Σ_k⁻¹ (x−μ_k). With many modes in few
dimensions only the nearest means are tried: a mode whose mean lies at Euclidean distance r has m_k(x) ≥ r/√λ, where λ
is the largest eigenvalue of any covariance, which certifies that no other can be nearer; where it does not, all are
tried.

A perfect generator's high-quality hits of mode k, in the mode's own coordinates z = L_k⁻¹(x − μ_k) with Σ_k = L_k L_kᵀ,
have a known law if the mode stands alone: a standard Gaussian cut off at |z| = t, with P(hit) = w_k·F_d(t²), mean 0 and
covariance c·I, c = F_{d+2}(t²)/F_d(t²), where F_d is the CDF of χ²_d. Modes within reach of each other are *crowded*:
their probabilities and moments come from a stratified draw of the mixture with a fixed seed.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import gammainc, gammaincinv, log_ndtr

from divergences import Gaussian, InputError, as_distribution
from divergences.checks import as_count
from divergences.distributions import parts_of

__all__ = ["Expected", "Parts", "assign", "expected_hits", "gaussian_parts", "quality_threshold"]

# What 3σ holds in the plane: P(χ²₂ < 9).
_PLANE_SHARE = 1.0 - math.exp(-4.5)
# Modes whose mutual mass within reach is below this are apart for every n one can draw.
_LEAK = 1e-9
_DRAWS = 400_000
_TREE_DIM = 10
_CANDIDATES = 12
_BLOCK = 2_000_000


@dataclass(frozen=True, eq=False)
class Parts:
    """The modes as arrays.

    Attributes:
        weights: shape (K,).
        means: shape (K, d).
        factors: Cholesky factors of the covariances, shape (K, d, d).
    """

    weights: Float64[np.ndarray, " k"]
    means: Float64[np.ndarray, "k d"]
    factors: Float64[np.ndarray, "k d d"]

    @functools.cached_property
    def inverses(self) -> Float64[np.ndarray, "k d d"]:
        """Inverses of the factors."""
        return np.linalg.inv(self.factors)

    @functools.cached_property
    def widths(self) -> Float64[np.ndarray, " k"]:
        """Standard deviation of each mode along its longest axis."""
        return np.linalg.svd(self.factors, compute_uv=False)[:, 0]

    def pick(self, chosen: Int64[np.ndarray, " s"]) -> Parts:
        """Some of the modes."""
        return Parts(self.weights[chosen], self.means[chosen], self.factors[chosen])

    def whiten(self, x: np.ndarray, index: int) -> Float64[np.ndarray, "n d"]:
        """Samples in the coordinates of one mode: there it is a standard Gaussian."""
        return (x - self.means[index]) @ self.inverses[index].T


class Moments(NamedTuple):
    """Of the whitened hits of one crowded mode: mean (d,), covariance (d, d), variance of |z − mean|²."""

    mean: Float64[np.ndarray, " d"]
    cov: Float64[np.ndarray, "d d"]
    spread: float


class Expected(NamedTuple):
    """What a perfect generator does: hit probabilities (K,), and the moments of the modes that are crowded."""

    rates: Float64[np.ndarray, " k"]
    crowded: dict[int, Moments]


def quality_threshold(dim: int) -> float:
    """The Mahalanobis distance below which a sample is of high quality: 3 for d ≤ 3, else √χ²_d-quantile at 0.98889.

    >>> quality_threshold(2), round(quality_threshold(10), 4)
    (3.0, 4.7857)
    """
    if as_count(dim, "dim") <= 3:
        return 3.0
    return math.sqrt(2 * float(gammaincinv(dim / 2, _PLANE_SHARE)))


def gaussian_parts(modes: Any) -> Parts:
    """The Gaussians of a mixture, as arrays.

    Raises:
        InputError: modes= has parts that are not Gaussian.
    """
    weights, leaves = parts_of(as_distribution(modes, "modes="))
    strangers = sorted({type(leaf).__name__ for leaf in leaves if not isinstance(leaf, Gaussian)})
    if strangers:
        raise InputError(
            f"modes= must be a Mixture of Gaussians; it has parts of type {', '.join(strangers)}. Only a Gaussian mode "
            "has a Mahalanobis distance."
        )
    laws = [leaf for leaf in leaves if isinstance(leaf, Gaussian)]
    means = np.stack([law.mean for law in laws])
    return Parts(np.asarray(weights), means, np.stack([law.frame().matrix for law in laws]))


def assign(x: np.ndarray, parts: Parts) -> tuple[Int64[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Nearest mode in Mahalanobis distance (the first of equals), and whether it is within the threshold."""
    dim, total = x.shape[1], len(parts.weights)
    if total <= 2 * _CANDIDATES:
        nearest, best = _among_all(x, parts)
    elif dim > _TREE_DIM:
        nearest, best = _by_nearest_mean(x, parts)
    else:
        nearest, best = np.empty(len(x), dtype=np.int64), np.empty(len(x))
        rows = max(1, _BLOCK // (_CANDIDATES * dim * dim))
        for start in range(0, len(x), rows):
            here = slice(start, start + rows)
            nearest[here], best[here] = _among_near(x[here], parts)
    return nearest, best < quality_threshold(dim) ** 2


def _among_all(x: np.ndarray, parts: Parts) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    best = np.full(len(x), np.inf)
    nearest = np.zeros(len(x), dtype=np.int64)
    for index in range(len(parts.weights)):
        whitened = parts.whiten(x, index)
        squared = np.einsum("nd,nd->n", whitened, whitened)
        closer = squared < best
        best[closer], nearest[closer] = squared[closer], index
    return nearest, best


def _by_nearest_mean(x: np.ndarray, parts: Parts) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """In many dimensions: the mode of the nearest mean where the second nearest is too far to be nearer, else all."""
    from evaluation.neighbors import nearest as nearest_points

    found = nearest_points(x, parts.means, 2)
    home = found.indices[:, 0].astype(np.int64)
    best = np.empty(len(x))
    counts = np.bincount(home, minlength=len(parts.weights))
    for index, rows in enumerate(np.split(np.argsort(home, kind="stable"), np.cumsum(counts)[:-1])):
        whitened = parts.whiten(x[rows], index)
        best[rows] = np.einsum("nd,nd->n", whitened, whitened)
    unsure = np.flatnonzero(found.distances[:, 1] ** 2 * (1 - 1e-9) <= float(parts.widths.max()) ** 2 * best)
    if unsure.size:
        home[unsure], best[unsure] = _among_all(x[unsure], parts)
    return home, best


def _among_near(x: np.ndarray, parts: Parts) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    from scipy.spatial import cKDTree

    distances, candidates = cKDTree(parts.means).query(x, k=_CANDIDATES)
    candidates = np.sort(candidates, axis=1)
    whitened = np.einsum("nkde,nke->nkd", parts.inverses[candidates], x[:, None] - parts.means[candidates])
    squared = np.einsum("nkd,nkd->nk", whitened, whitened)
    # Sorted candidates: argmin takes the first of equals.
    choice = squared.argmin(axis=1)[:, None]
    nearest = np.take_along_axis(candidates, choice, axis=1)[:, 0].astype(np.int64)
    best = np.take_along_axis(squared, choice, axis=1)[:, 0]
    unsure = np.flatnonzero(distances[:, -1] ** 2 * (1 - 1e-9) <= float(parts.widths.max()) ** 2 * best)
    if unsure.size:
        nearest[unsure], best[unsure] = _among_all(x[unsure], parts)
    return nearest, best


def expected_hits(parts: Parts, n: int) -> Expected:
    """P(a sample of the target is a high-quality hit of mode k), and the moments of the crowded modes' hits."""
    dim = parts.means.shape[1]
    inside = float(gammainc(dim / 2, quality_threshold(dim) ** 2 / 2))
    fair = parts.weights * inside
    crowded = _crowded(parts)
    if crowded.size == 0:
        return Expected(fair, {})
    key = tuple(array[crowded].tobytes() for array in (parts.weights, parts.means, parts.factors))
    rates, moments = _drawn(key, dim, max(_DRAWS, 20 * min(n, 100_000)))
    fair[crowded] = rates
    return Expected(fair, {int(k): own for k, own in zip(crowded, moments, strict=True) if own is not None})


def _crowded(parts: Parts) -> Int64[np.ndarray, " s"]:
    r"""Modes within reach of another one.

    Mode k reaches up to t·√(uᵀΣ_k u) along the unit vector u from j to k. Two modes are apart if their reaches do not
    touch (each mode's core is then nearest to itself) and if the Gaussian tail of either inside the other's is nil.
    """
    reach = quality_threshold(parts.means.shape[1])
    touching = np.zeros(len(parts.weights), dtype=bool)
    for index, mean in enumerate(parts.means):
        length = np.linalg.norm(parts.means - mean, axis=1)
        # First as if every mode were a ball as wide as its longest axis: few are left to look at closely.
        near = np.flatnonzero(
            _meets(length, reach * parts.widths[index], parts.widths, reach, parts.weights / parts.weights[index])
        )
        u = (parts.means[near] - mean) / np.maximum(length[near], np.finfo(np.float64).tiny)[:, None]
        own = np.linalg.norm(u @ parts.factors[index], axis=1)
        other = np.linalg.norm(np.einsum("kd,kde->ke", u, parts.factors[near]), axis=1)
        met = near[_meets(length[near], reach * own, other, reach, parts.weights[near] / parts.weights[index])]
        met = met[met != index]
        touching[met] = True
        touching[index] |= met.size > 0
    return np.flatnonzero(touching)


def _meets(
    length: np.ndarray, own_reach: Any, other: np.ndarray, reach: float, odds: np.ndarray
) -> Bool[np.ndarray, " k"]:
    """Whether reaches touch, or the tail of the other mode within the own reach is not nil."""
    # Of two modes in one place the other's extent has no direction: they touch, whatever it is.
    with np.errstate(divide="ignore", invalid="ignore"):
        leak_in = np.log(odds) + log_ndtr(-(length - own_reach) / other)
    return (length <= own_reach + reach * other) | (leak_in > math.log(_LEAK))


@functools.lru_cache(maxsize=16)
def _drawn(
    key: tuple[bytes, ...], dim: int, draws: int
) -> tuple[Float64[np.ndarray, " s"], tuple[Moments | None, ...]]:
    """Hit probabilities and moments of overlapping modes; each part contributes its own share exactly.

    The seed is fixed, so that the null is a fixed number; a training loop that asks again and again gets it from
    memory.
    """
    weights, means, factors = (np.frombuffer(part) for part in key)
    parts = Parts(weights, means.reshape(-1, dim), factors.reshape(-1, dim, dim))
    rng = np.random.default_rng(20_170_522)
    total = len(weights)
    per_part = max(draws // total, 1000)
    points = np.concatenate(
        [
            mean + rng.standard_normal((per_part, dim)) @ factor.T
            for mean, factor in zip(parts.means, parts.factors, strict=True)
        ]
    )
    nearest, inside = assign(points, parts)
    mass = np.repeat(weights / per_part, per_part)
    rates = np.bincount(nearest[inside], mass[inside], minlength=total)
    order = np.argsort(nearest[inside], kind="stable")
    rows = np.split(np.flatnonzero(inside)[order], np.cumsum(np.bincount(nearest[inside], minlength=total))[:-1])
    return rates, tuple(_moments(parts.whiten(points[own], k), mass[own]) for k, own in enumerate(rows))


def _moments(z: np.ndarray, mass: np.ndarray) -> Moments | None:
    if len(z) <= 2 * z.shape[1]:
        return None
    share = mass / mass.sum()
    mean = share @ z
    z = z - mean
    squared = np.einsum("nd,nd->n", z, z)
    center = float(share @ squared)
    return Moments(mean, (z * share[:, None]).T @ z, float(share @ (squared - center) ** 2))
