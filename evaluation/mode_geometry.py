r"""Where the modes of a Gaussian mixture are: nearest mode, the reach of each, and what a perfect generator would do.

A sample belongs to the mode of least Mahalanobis distance m_k(x)² = (x−μ_k)ᵀ Σ_k⁻¹ (x−μ_k). With many modes in few
dimensions only the nearest means are tried: a mode whose mean lies at Euclidean distance r has m_k(x) ≥ r/√λ, where λ
is the largest eigenvalue of any covariance, which certifies that no other can be nearer; where it does not, all are
tried.

A perfect generator's high-quality hits of mode k, in the mode's own coordinates z = L_k⁻¹(x − μ_k) with Σ_k = L_k L_kᵀ,
have a known law if the mode stands alone: a standard Gaussian cut off outside s ≤ |z| < t, with P(hit) = w_k·F_d, mean
0 and covariance c·I, c = F_{d+2}/F_d, where F_d is short for F_d(t²) − F_d(s²) with the CDF of χ²_d. Modes within reach
of each other are *crowded*: their probabilities and moments come from a stratified draw of the mixture with a fixed
seed. The edges s and t are those of ``evaluation.quality``.

Where the crowded modes share one covariance and their means span fewer dimensions than there are, r < d, only those r
are drawn. Whitened and rotated into the span, a sample of mode j is u = a_j + N(0, I_r) there, and what is left of it
is an independent standard Gaussian of d − r dimensions: c = |rest|² ~ χ²_{d−r} adds the same to all distances
m_k² = |u − a_k|² + c. The nearest mode depends on u alone, a hit has the probability
F_{d−r}(t² − |u − a_k|²) − F_{d−r}(s² − |u − a_k|²) given u, and the moments E[c; hit] = (d−r)·F_{d−r+2} and
E[c²; hit] = (d−r)(d−r+2)·F_{d−r+4} between the same places are known too.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import log_ndtr

from divergences import Gaussian, InputError, as_distribution
from divergences.distributions import parts_of
from evaluation.quality import chi2_between, quality_band, quality_threshold

__all__ = ["Expected", "Parts", "assign", "expected_hits", "gaussian_parts"]

# Modes whose mutual mass within reach is below this are apart for every n one can draw.
_LEAK = 1e-9
_DRAWS = 400_000
_TREE_DIM = 10
_CANDIDATES = 12
_BLOCK = 2_000_000
# Whitened means closer to the span of those before them than this, in standard deviations or relative to the longest
# difference, lie in it.
_FLAT = (1e-9, 1e-12)


@dataclass(frozen=True, eq=False)
class Parts:
    """The modes as arrays.

    Attributes:
        weights: shape (K,).
        means: shape (K, d).
        factors: Cholesky factors of the covariances, shape (K, d, d); one, repeated without a copy, where all are
            the same (``gaussian_parts`` does so).
    """

    weights: Float64[np.ndarray, " k"]
    means: Float64[np.ndarray, "k d"]
    factors: Float64[np.ndarray, "k d d"]

    @functools.cached_property
    def alike(self) -> bool:
        """Whether all modes have the same covariance, to the last digit."""
        return self.factors.strides[0] == 0 or bool((self.factors == self.factors[0]).all())

    @functools.cached_property
    def inverses(self) -> Float64[np.ndarray, "k d d"]:
        """Inverses of the factors."""
        return self._repeated(np.linalg.inv(self.factors[:1] if self.alike else self.factors))

    @functools.cached_property
    def widths(self) -> Float64[np.ndarray, " k"]:
        """Standard deviation of each mode along its longest axis."""
        return self._repeated(np.linalg.svd(self.factors[:1] if self.alike else self.factors, compute_uv=False)[:, 0])

    def _repeated(self, values: np.ndarray) -> np.ndarray:
        return np.broadcast_to(values, (len(self.weights), *values.shape[1:]))

    def pick(self, chosen: Int64[np.ndarray, " s"]) -> Parts:
        """Some of the modes."""
        factors = np.broadcast_to(self.factors[0], (len(chosen), *self.factors.shape[1:])) if self.alike else None
        return Parts(self.weights[chosen], self.means[chosen], self.factors[chosen] if factors is None else factors)

    def whiten(self, x: np.ndarray, index: int) -> Float64[np.ndarray, "n d"]:
        """Samples in the coordinates of one mode: there it is a standard Gaussian."""
        return (x - self.means[index]) @ self.inverses[index].T


@dataclass(frozen=True, eq=False)
class Moments:
    """Of the whitened hits of one crowded mode: mean (d,), covariance (d, d), variance of |z − mean|².

    Attributes:
        inner_mean: in the span of the means, shape (r,).
        inner_cov: likewise, shape (r, r).
        rest: variance in every direction across the span.
        spread: variance of |z − mean|².
        basis: orthonormal, shape (d, r); None if the span is everything.
    """

    inner_mean: Float64[np.ndarray, " r"]
    inner_cov: Float64[np.ndarray, "r r"]
    rest: float
    spread: float
    basis: Float64[np.ndarray, "d r"] | None = None

    @property
    def mean(self) -> Float64[np.ndarray, " d"]:
        """Mean of z."""
        return self.inner_mean if self.basis is None else self.basis @ self.inner_mean

    @property
    def cov(self) -> Float64[np.ndarray, "d d"]:
        """Covariance of z; made anew each time, as it may be large."""
        if self.basis is None:
            return self.inner_cov
        excess = self.inner_cov - self.rest * np.eye(len(self.inner_cov))
        return self.rest * np.eye(len(self.basis)) + self.basis @ excess @ self.basis.T


class Expected(NamedTuple):
    """What a perfect generator does: hit probabilities (K,), and the moments of the modes that are crowded."""

    rates: Float64[np.ndarray, " k"]
    crowded: dict[int, Moments]


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
    matrices = [law.frame().matrix for law in laws]
    first = matrices[0]
    if all(matrix is first or np.array_equal(matrix, first) for matrix in matrices):
        return Parts(np.asarray(weights), means, np.broadcast_to(first, (len(laws), *first.shape)))
    return Parts(np.asarray(weights), means, np.stack(matrices))


def assign(x: np.ndarray, parts: Parts) -> tuple[Int64[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Nearest mode in Mahalanobis distance (the first of equals), and whether that is within the band of quality."""
    nearest, best = _closest(x, parts)
    low, high = quality_band(x.shape[1])
    return nearest, (best >= low**2) & (best < high**2)


def _closest(x: np.ndarray, parts: Parts) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Nearest mode and squared Mahalanobis distance to it."""
    dim, total = x.shape[1], len(parts.weights)
    if total <= 2 * _CANDIDATES:
        return _among_all(x, parts)
    if dim > _TREE_DIM:
        return _by_nearest_mean(x, parts)
    nearest, best = np.empty(len(x), dtype=np.int64), np.empty(len(x))
    rows = max(1, _BLOCK // (_CANDIDATES * dim * dim))
    for start in range(0, len(x), rows):
        here = slice(start, start + rows)
        nearest[here], best[here] = _among_near(x[here], parts)
    return nearest, best


def _among_all(x: np.ndarray, parts: Parts) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    best = np.full(len(x), np.inf)
    nearest = np.zeros(len(x), dtype=np.int64)
    # In many dimensions the whitening is nearly all of the work: modes that are alike have it done once.
    once = parts.alike and x.shape[1] > _TREE_DIM
    shared = parts.whiten(x, 0) if once else None
    places = (parts.means - parts.means[0]) @ parts.inverses[0].T if once else parts.means
    for index in range(len(parts.weights)):
        whitened = parts.whiten(x, index) if shared is None else shared - places[index]
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
    low, high = quality_band(dim)
    inside = float(chi2_between(dim, low**2, high**2))
    fair = parts.weights * inside
    crowded = _crowded(parts)
    if crowded.size == 0:
        return Expected(fair, {})
    own, draws = parts.pick(crowded), max(_DRAWS, 20 * min(n, 100_000))
    basis = _span(own)
    if basis is None:
        found = _drawn(tuple(array.tobytes() for array in (own.weights, own.means, own.factors)), dim, dim, draws)
    else:
        places = (own.means - own.means[0]) @ own.inverses[0].T @ basis
        found = _drawn((own.weights.tobytes(), places.tobytes()), basis.shape[1], dim, draws)
    fair[crowded] = found.rates
    moments = zip(crowded, found.moments, strict=True)
    return Expected(fair, {int(k): replace(one, basis=basis) for k, one in moments if one is not None})


def _span(parts: Parts) -> Float64[np.ndarray, "d r"] | None:
    """Orthonormal basis of what the whitened means span, seen from the first; None if that is no simplification.

    Gram-Schmidt in the order of the means: unlike singular vectors, the basis moves little if the last digits do.
    """
    dim = parts.means.shape[1]
    if not parts.alike:
        return None
    gaps = (parts.means - parts.means[0]) @ parts.inverses[0].T
    flat = _FLAT[0] + _FLAT[1] * float(np.linalg.norm(gaps, axis=1).max())
    basis = np.empty((dim, 0))
    for gap in gaps:
        for _ in range(2):
            gap = gap - basis @ (basis.T @ gap)
        length = float(np.linalg.norm(gap))
        if length > flat:
            basis = np.column_stack([basis, gap / length])
        if basis.shape[1] == dim:
            return None
    return basis


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
        other = own if parts.alike else np.linalg.norm(np.einsum("kd,kde->ke", u, parts.factors[near]), axis=1)
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


class _Drawn(NamedTuple):
    """Hit probabilities, and moments in the span without its basis."""

    rates: Float64[np.ndarray, " s"]
    moments: tuple[Moments | None, ...]


@functools.lru_cache(maxsize=16)
def _drawn(key: tuple[bytes, ...], inner: int, dim: int, draws: int) -> _Drawn:
    """Hit probabilities and moments of overlapping modes; each part contributes its own share exactly.

    The seed is fixed, so that the null is a fixed number; a training loop that asks again and again gets it from
    memory. Points are drawn in blocks, and nothing but sums is kept.

    Args:
        key: weights, means (in the span) and, unless all are standard Gaussians, factors.
        inner: dimensions to draw.
        dim: dimensions in all.
        draws: points, about.
    """
    weights, means, *factors = (np.frombuffer(part) for part in key)
    total, shape = len(weights), (len(weights), inner, inner)
    matrices = factors[0].reshape(shape) if factors else np.broadcast_to(np.eye(inner), shape)
    parts = Parts(weights, means.reshape(total, inner), matrices)
    rng = np.random.default_rng(20_170_522)
    per_part = max(draws // total, 1000)
    sums = [_Sums.zero(inner) for _ in range(total)]
    rows = max(1, _BLOCK // max(inner, 1))
    for start in range(0, total * per_part, rows):
        source = np.arange(start, min(start + rows, total * per_part)) // per_part
        points = rng.standard_normal((len(source), inner))
        for j in range(source[0], source[-1] + 1):
            own = slice(*np.searchsorted(source, [j, j + 1]))
            points[own] = parts.means[j] + (points[own] @ parts.factors[j].T if factors else points[own])
        nearest, best = _closest(points, parts)
        room, core = (edge**2 - best for edge in reversed(quality_band(dim)))
        seen = np.flatnonzero((room > 0) & ((core <= 0) | (dim > inner)))
        seen = seen[np.argsort(nearest[seen], kind="stable")]
        counts = np.bincount(nearest[seen], minlength=total)
        for k, hits in enumerate(np.split(seen, np.cumsum(counts)[:-1])):
            if hits.size:
                limits = core[hits], room[hits]
                sums[k].add(parts.whiten(points[hits], k), weights[source[hits]] / per_part, limits, dim - inner)
    return _Drawn(np.array([one.mass for one in sums]), tuple(one.moments(dim - inner) for one in sums))


@dataclass
class _Sums:
    """Weighted sums over the hits of one mode; a row is (1, z, |z|²), with z in the span.

    Attributes:
        hits: how many, the probability of each counted.
        plain: of the products of a row with itself, times the probability of a hit, shape (r + 2, r + 2).
        once: of the rows, times E[c; hit], shape (r + 2,).
        twice: of E[c²; hit].
    """

    hits: float
    plain: Float64[np.ndarray, "s s"]
    once: Float64[np.ndarray, " s"]
    twice: float

    @staticmethod
    def zero(inner: int) -> _Sums:
        return _Sums(0.0, np.zeros((inner + 2, inner + 2)), np.zeros(inner + 2), 0.0)

    @property
    def mass(self) -> float:
        return float(self.plain[0, 0])

    def add(self, z: np.ndarray, mass: np.ndarray, limits: tuple[np.ndarray, np.ndarray], rest: int) -> None:
        """Points that hit if c, of ``rest`` dimensions, lies between their limits."""
        row = np.column_stack([np.ones(len(z)), z, np.einsum("nd,nd->n", z, z)])
        if rest == 0:
            self.hits += len(z)
            self.plain += (row * mass[:, None]).T @ row
            return
        chance, first, second = (chi2_between(rest + 2 * power, *limits) for power in range(3))
        self.hits += float(chance.sum())
        self.plain += (row * (mass * chance)[:, None]).T @ row
        self.once += rest * (mass * first) @ row
        self.twice += rest * (rest + 2) * float(mass @ second)

    def moments(self, rest: int) -> Moments | None:
        """Of the hits; None if they are too few."""
        inner = len(self.once) - 2
        if self.hits <= 2 * max(inner, 1):
            return None
        plain, once = self.plain / self.mass, self.once / self.mass
        mean = plain[0, 1:-1]
        # |z − mean|² from a row.
        form = np.concatenate([[mean @ mean], -2 * mean, [1.0]])
        center = float(plain[0] @ form + once[0])
        square = float(form @ plain @ form + 2 * once @ form) + self.twice / self.mass
        return Moments(
            mean, plain[1:-1, 1:-1] - np.outer(mean, mean), once[0] / max(rest, 1), max(square - center**2, 0.0)
        )
