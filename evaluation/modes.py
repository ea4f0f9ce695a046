r"""Which modes of a known target does a generator reach, and does it give each its fair share?

The target is a mixture of Gaussians. A sample belongs to its nearest mode in Mahalanobis distance
m_k(x)² = (x−μ_k)ᵀ Σ_k⁻¹ (x−μ_k), and is of *high quality* if that distance is below 3 for d ≤ 3 (the field's protocol,
strict), above that below √χ²_d-quantile at 1 − exp(−4.5) = 0.98889: what 3σ holds in the plane. A mode is *captured* by
at least ``minimum_hits`` high-quality samples (1 in the literature).

A perfect generator does not score 100 %. Its high-quality share is P(HQ) = P(χ²_d < 9) if the modes lie apart, and mode
k is hit with probability p_k = w_k·P(HQ); where modes overlap, p_k comes from a Monte Carlo draw of the mixture with a
fixed seed. The hits of mode k among n samples are then binomial, and three questions are answered exactly:

* ``per_mode``: are the hits compatible with n·p_k? (two-sided, Holm over the modes);
* ``missing``: fewer than ``minimum_hits`` hits, and P(X ≤ hits | n, p_k) significant after Holm. A mode without hits in
  a sample too small to expect any is ``undecided``, never missing;
* ``starved``: captured, but with a share of the high-quality hits significantly below ``margin``·p_k. Conditionally on
  n_HQ the hits are binomial with the mode's share among them, which is at least its absolute share, so a generator that
  gives every mode at least ``margin`` of its due is called starving with probability at most ``alpha``. Low quality
  spread evenly over the modes is not starvation: ``high_quality`` shows it.

The reverse KL(h‖q) = Σ h_k log(h_k/q_k) between the histogram h of the n_HQ hits and the fair shares q_k = p_k/Σp is
biased: a perfect generator scores its *noise floor*, Σ_k E[(X_k/n_HQ) log(X_k/(n_HQ q_k))] with X_k ~ Bin(n_HQ, q_k),
about (K−1)/(2 n_HQ). It is subtracted; the plain number is kept as ``raw``. The interval takes the larger of the
first-order variance Var_h[log(h/q)]/n_HQ and the second-order one, (K−1)/(2 n_HQ²), which is all there is when h is
close to q, and adds the floor of the modes without a hit, which may or may not belong to the truth.

References:
    VEEGAN: reducing mode collapse in GANs using implicit variational learning (Srivastava et al., 2017),
    https://arxiv.org/abs/1705.07761. PacGAN: the power of two samples in generative adversarial networks (Lin et al.,
    2018), https://arxiv.org/abs/1712.04086.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import bdtr, betaincinv, gammainc, gammaincinv, gammaln, log_ndtr, xlog1py, xlogy

from divergences import Estimate, Gaussian, InputError, as_distribution
from divergences.checks import ArrayLike, as_count, as_number, as_points
from divergences.distributions import parts_of
from evaluation.intervals import binomial_test, clopper_pearson, clopper_pearson_bounds, holm
from evaluation.labelled import ClassRecord, LabelledModes, labelled_modes

__all__ = [
    "ClassRecord",
    "LabelledModes",
    "ModeCoverage",
    "ModeRecord",
    "labelled_modes",
    "mode_coverage",
    "quality_threshold",
]

# What 3σ holds in the plane: P(χ²₂ < 9).
_PLANE_SHARE = 1.0 - math.exp(-4.5)
_Z = 1.959963984540054
# Modes whose mutual mass within reach is below this are apart for every n one can draw.
_LEAK = 1e-9
_DRAWS = 400_000


@dataclass(frozen=True)
class ModeRecord:
    """One mode: what it should get and what it got.

    Attributes:
        index: its place among the parts of ``modes`` (``modes.parts()``: those of positive weight).
        mean: its centre.
        weight: its weight in the target.
        hits: high-quality samples nearest to it.
        expected: hits of a perfect generator, n·p_k.
        share: hits/n with its exact 95 % interval; the perfect generator's is expected/n.
        p_value: exact two-sided binomial test of the hits against p_k.
        p_adjusted: the same after Holm over all modes.
    """

    index: int
    mean: tuple[float, ...]
    weight: float
    hits: int
    expected: float
    share: Estimate
    p_value: float
    p_adjusted: float


@dataclass(frozen=True)
class ModeCoverage:
    """Which modes were reached; every number beside what a perfect generator would score at this n.

    Attributes:
        captured: modes with at least ``minimum_hits`` hits, of ``total``.
        total: number of modes.
        missing: modes that a perfect generator would have hit and this one did not, at family-wise error ``alpha``.
        undecided: modes not captured either, but too rare for this n to say that they are missing.
        starved: captured modes significantly below ``margin`` of their fair share, at family-wise error ``alpha``.
        high_quality: share of high-quality samples, exact 95 % interval.
        high_quality_null: that share for a perfect generator.
        per_mode: one record per mode.
        reverse_kl: KL(histogram of hits ‖ fair shares) in nats, minus ``noise_floor``; ``raw`` is the plain number.
        noise_floor: what a perfect generator's plain number is on average, at this number of hits.
        n: generated samples.
        power_note: the smallest loss this n finds reliably.
        nearest: index of the nearest mode of each sample, shape (n,).
        inside: whether each sample is of high quality, shape (n,).
    """

    captured: int
    total: int
    missing: tuple[int, ...]
    undecided: tuple[int, ...]
    starved: tuple[int, ...]
    high_quality: Estimate
    high_quality_null: float
    per_mode: tuple[ModeRecord, ...]
    reverse_kl: Estimate
    noise_floor: float
    n: int
    power_note: str
    nearest: Int64[np.ndarray, " n"]
    inside: Bool[np.ndarray, " n"]


def quality_threshold(dim: int) -> float:
    """The Mahalanobis distance below which a sample is of high quality: 3 for d ≤ 3, else √χ²_d-quantile at 0.98889.

    >>> quality_threshold(2), round(quality_threshold(10), 4)
    (3.0, 4.7857)
    """
    if as_count(dim, "dim") <= 3:
        return 3.0
    return math.sqrt(2 * float(gammaincinv(dim / 2, _PLANE_SHARE)))


def mode_coverage(
    *, generated: ArrayLike, modes: Any, minimum_hits: int = 1, margin: float = 0.5, alpha: float = 0.05
) -> ModeCoverage:
    """Count the modes a generator reaches, with exact tests of what it misses.

    Args:
        generated: samples, shape (n, d), or (n,) on the line.
        modes: the target: a ``Mixture`` of ``Gaussian`` laws, one ``Gaussian``, or what ``as_distribution`` makes one
            of.
        minimum_hits: high-quality samples that make a mode captured.
        margin: share of its due below which a captured mode is starved, in (0, 1].
        alpha: family-wise error rate of ``missing``, and of ``starved``.

    Returns:
        Counts, shares and tests; see ``ModeCoverage``.

    Raises:
        InputError: NaN, empty or mis-shaped samples, another dimension than the modes', or modes that are not
            Gaussians.

    >>> from divergences import Mixture
    >>> target = Mixture([Gaussian([0.0, 0.0], np.eye(2)), Gaussian([9.0, 0.0], np.eye(2))])
    >>> found = mode_coverage(generated=np.random.default_rng(0).normal(size=(500, 2)), modes=target)
    >>> found.captured, found.missing, round(found.high_quality_null, 4)
    (1, (1,), 0.9889)
    """
    parts = _gaussians(modes)
    points = as_points(generated, "generated=", dim=parts.means.shape[1])
    least = as_count(minimum_hits, "minimum_hits=")
    margin = as_number(margin, "margin=", above=0.0, below=math.nextafter(1, 2))
    alpha = as_number(alpha, "alpha=", above=0.0, below=1.0)
    n, total = len(points), len(parts.weights)
    nearest, inside = _assign(points, parts)
    hits = np.bincount(nearest[inside], minlength=total)
    n_inside = int(inside.sum())
    fair = _hit_probabilities(parts, n)

    captured = hits >= least
    absent = holm(binomial_test(hits, n, fair, side="less")) < alpha
    below_margin = holm(binomial_test(hits, n_inside, margin * fair, side="less")) < alpha
    reverse_kl, floor = _reverse_kl(hits, fair)
    return ModeCoverage(
        captured=int(captured.sum()),
        total=total,
        missing=_indices(~captured & absent),
        undecided=_indices(~captured & ~absent),
        starved=_indices(captured & below_margin),
        high_quality=clopper_pearson(n_inside, n),
        high_quality_null=min(float(fair.sum()), 1.0),
        per_mode=_records(parts, hits, n, fair),
        reverse_kl=reverse_kl,
        noise_floor=floor,
        n=n,
        power_note=_power_note(n, n_inside, parts.weights, fair, margin, alpha),
        nearest=nearest,
        inside=inside,
    )


@dataclass(frozen=True, eq=False)
class _Parts:
    weights: Float64[np.ndarray, " k"]
    means: Float64[np.ndarray, "k d"]
    factors: Float64[np.ndarray, "k d d"]  # Cholesky factors of the covariances

    def pick(self, chosen: Int64[np.ndarray, " s"]) -> _Parts:
        return _Parts(self.weights[chosen], self.means[chosen], self.factors[chosen])


def _gaussians(modes: Any) -> _Parts:
    weights, leaves = parts_of(as_distribution(modes, "modes="))
    strangers = sorted({type(leaf).__name__ for leaf in leaves if not isinstance(leaf, Gaussian)})
    if strangers:
        raise InputError(
            f"modes= must be a Mixture of Gaussians; it has parts of type {', '.join(strangers)}. Only a Gaussian mode "
            f"has "
            "a Mahalanobis distance."
        )
    laws = [leaf for leaf in leaves if isinstance(leaf, Gaussian)]
    means = np.stack([law.mean for law in laws])
    return _Parts(np.asarray(weights), means, np.stack([law.frame().matrix for law in laws]))


def _assign(x: np.ndarray, parts: _Parts) -> tuple[Int64[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Nearest mode in Mahalanobis distance (the first of equals), and whether it is within the threshold."""
    best = np.full(len(x), np.inf)
    nearest = np.zeros(len(x), dtype=np.int64)
    for index, (mean, factor) in enumerate(zip(parts.means, parts.factors, strict=True)):
        whitened = (x - mean) @ np.linalg.inv(factor).T
        squared = np.einsum("nd,nd->n", whitened, whitened)
        closer = squared < best
        best[closer], nearest[closer] = squared[closer], index
    return nearest, best < quality_threshold(x.shape[1]) ** 2


def _hit_probabilities(parts: _Parts, n: int) -> Float64[np.ndarray, " k"]:
    """P(a sample of the target is a high-quality hit of mode k)."""
    dim = parts.means.shape[1]
    inside = float(gammainc(dim / 2, quality_threshold(dim) ** 2 / 2))
    fair = parts.weights * inside
    crowded = _crowded(parts)
    if crowded.size:
        key = tuple(array[crowded].tobytes() for array in (parts.weights, parts.means, parts.factors))
        fair[crowded] = _drawn_probabilities(key, dim, max(_DRAWS, 20 * min(n, 100_000)))
    return fair


def _crowded(parts: _Parts) -> Int64[np.ndarray, " s"]:
    r"""Modes within reach of another one.

    Mode k reaches up to t·√(uᵀΣ_k u) along the unit vector u from j to k. Two modes are apart if their reaches do not
    touch (each mode's core is then nearest to itself) and if the Gaussian tail of either inside the other's is nil.
    """
    reach = quality_threshold(parts.means.shape[1])
    touching = np.zeros(len(parts.weights), dtype=bool)
    for index, mean in enumerate(parts.means):
        gap = parts.means - mean
        length = np.sqrt(np.einsum("kd,kd->k", gap, gap))
        u = gap / np.maximum(length, np.finfo(np.float64).tiny)[:, None]
        own = np.linalg.norm(u @ parts.factors[index], axis=1)
        other = np.linalg.norm(np.einsum("kd,kde->ke", u, parts.factors), axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            leak_in = np.log(parts.weights / parts.weights[index]) + log_ndtr(-(length - reach * own) / other)
        near = (length <= reach * (own + other)) | (leak_in > math.log(_LEAK))
        near[index] = False
        touching |= near
        touching[index] |= near.any()
    return np.flatnonzero(touching)


@functools.lru_cache(maxsize=16)
def _drawn_probabilities(key: tuple[bytes, bytes, bytes], dim: int, draws: int) -> Float64[np.ndarray, " s"]:
    """Hit probabilities of overlapping modes, by a stratified draw: each part contributes its own share exactly.

    The seed is fixed, so that the null is a fixed number; a training loop that asks again and again gets it from
    memory.
    """
    weights, means, factors = (np.frombuffer(part) for part in key)
    parts = _Parts(weights, means.reshape(-1, dim), factors.reshape(-1, dim, dim))
    rng = np.random.default_rng(20_170_522)
    per_part = max(draws // len(weights), 1000)
    total = np.zeros(len(weights))
    for weight, mean, factor in zip(weights, parts.means, parts.factors, strict=True):
        nearest, inside = _assign(mean + rng.standard_normal((per_part, dim)) @ factor.T, parts)
        total += weight * np.bincount(nearest[inside], minlength=len(weights)) / per_part
    return total


def _records(
    parts: _Parts, hits: Int64[np.ndarray, " k"], n: int, fair: Float64[np.ndarray, " k"]
) -> tuple[ModeRecord, ...]:
    p_values = binomial_test(hits, n, np.minimum(fair, 1.0))
    adjusted = holm(p_values)
    low, high = clopper_pearson_bounds(hits, n)
    records = []
    for k, count in enumerate(hits):
        value = float(count / n)
        bounds = (float(low[k]), float(high[k]))
        share = Estimate(
            value,
            max(value - bounds[0], bounds[1] - value),
            level=0.95,
            method="exact binomial interval (Clopper-Pearson)",
            n=n,
            bounds=bounds,
        )
        mean = tuple(float(coordinate) for coordinate in parts.means[k])
        weight, expected = float(parts.weights[k]), float(n * fair[k])
        records.append(ModeRecord(k, mean, weight, int(count), expected, share, float(p_values[k]), float(adjusted[k])))
    return tuple(records)


def _reverse_kl(hits: Int64[np.ndarray, " k"], fair: Float64[np.ndarray, " k"]) -> tuple[Estimate, float]:
    count = int(hits.sum())
    if count == 0:
        note = "no high-quality sample, hence no histogram of modes"
        return Estimate(math.inf, 0.0, method="plug-in", n=0, note=note), 0.0
    q = fair / fair.sum()
    floor = _noise_floor(count, q)
    seen = hits > 0
    h = hits[seen] / count
    with np.errstate(divide="ignore"):
        ratio = np.log(h) - np.log(q[seen])
    raw = float(h @ ratio)
    if math.isinf(raw):
        note = "a mode that no sample of the target reaches was hit"
        return Estimate(raw, 0.0, method="plug-in", n=count, raw=raw, note=note), floor
    first = float(h @ (ratio - raw) ** 2) / count
    second = (len(hits) - 1) / (2 * count**2)
    unsure = float((~seen).sum()) / (2 * count)
    # The estimated first-order variance already holds the second-order one (twice, as noise, near h = q).
    error = _Z * math.sqrt(max(first, second)) + unsure
    method = "plug-in over high-quality hits minus the exact noise floor; delta method to second order"
    return Estimate(raw - floor, error, level=0.95, method=method, n=count, raw=raw), floor


def _noise_floor(count: int, q: Float64[np.ndarray, " k"]) -> float:
    """E[KL(histogram‖q)] of ``count`` independent draws from q, by binomial sums over twelve standard deviations."""
    floor = 0.0
    shares, times = np.unique(q, return_counts=True)
    for share, repeats in zip(shares, times, strict=True):
        if share <= 0:
            continue
        mean, spread = count * share, math.sqrt(count * share * (1 - share))
        low, high = max(math.floor(mean - 12 * spread - 12), 1), min(math.ceil(mean + 12 * spread + 40), count)
        x = np.arange(low, high + 1, dtype=np.float64)
        log_mass = gammaln(count + 1) - gammaln(x + 1) - gammaln(count - x + 1)
        log_mass += xlogy(x, share) + xlog1py(count - x, -share)
        floor += int(repeats) * float(np.exp(log_mass) @ (x / count * np.log(x / mean)))
    return floor


def _power_note(n: int, n_inside: int, weights: np.ndarray, fair: np.ndarray, margin: float, alpha: float) -> str:
    """What a mode must lose to be found with probability 0.95, for the mode that is hardest to judge."""
    reachable = np.flatnonzero(fair > 0)
    rarest = reachable[np.argmin(fair[reachable])]
    rate, level = float(fair[rarest]), alpha / len(fair)
    mode = f"a mode of weight {weights[rarest]:.3g}"
    need = math.ceil(math.log(level) / math.log1p(-rate)) if rate < 1 else 1
    if n < need:
        return (
            f"with n={n} even the complete loss of {mode} could be chance ({n * rate:.3g} hits are expected); "
            f"draw at least {need} samples"
        )
    counts = np.arange(math.ceil(margin * rate * n_inside) + 1)
    counts = counts[counts < n_inside]
    significant = np.flatnonzero(bdtr(counts.astype(np.float64), n_inside, margin * rate) < level)
    if significant.size == 0:
        return f"with n={n} the complete loss of {mode} would be found; a partial loss would not"
    critical = int(significant[-1])
    # The largest rate at which the hits stay at or below the critical count with probability 0.95.
    kept = float(betaincinv(critical + 1, n_inside - critical, 0.05)) / rate
    lost = math.ceil(100 * (1 - kept))
    return (
        f"with n={n} ({n_inside} of high quality) {mode} that lost {lost} % of its mass would be found with "
        f"probability "
        "≥ 0.95; smaller losses could be missed"
    )


def _indices(mask: Bool[np.ndarray, " k"]) -> tuple[int, ...]:
    return tuple(int(index) for index in np.flatnonzero(mask))
