r"""Modes that are hit, but not filled: is each in its place, and as wide as it should be?

Partial collapse hides from every count: a generator that puts all of a mode's samples on its centre has full quality
and full coverage. In the mode's own coordinates z = L_k⁻¹(x − μ_k) a perfect generator's n_k high-quality hits are
standard normal, **cut off at** |z| = t: being of high quality is what made them hits. With F_d the CDF of χ²_d, the
covariance of N(0, s²I) cut off there is not s² but (above three dimensions there is an inner edge as well, and each F
stands for its difference between the edges)

    g(s²) = s² F_{d+2}(t²/s²) / F_d(t²/s²),     and    E|z|⁴ = s⁴ d(d+2) F_{d+4}(t²/s²) / F_d(t²/s²).

*Spread.* The covariance ratio tr(Σ_k⁻¹ Σ̂_k)/d of the samples' own covariance, about their own mean, is brought back
through g. The trace has mean d·g and a variance known from the two moments above; a gamma law with these two (which is
exact without the cut-off) gives the p-values, and by inversion over s² the interval. Simulated, its lower tail at
s² = ½ is right within 10 % down to p = 10⁻³ for 3 hits and more; at s² = 1, where the cut-off bites, a level of 5 % is
about 6 %. A mode that collapsed onto a line keeps half of its trace: the geometric mean of the variance ratios along
all axes, (det Σ̂/det Σ)^{1/d}, does not. The determinant is distributed as a product of χ² variables, its d-th root
nearly as a gamma variable (exactly for d = 2). ``shrunk``: trace or volume below ``margin`` (½), the smaller p doubled,
Holm over modes.

*Shift.* The mean z̄ of hits moves by g(1)·δ if the mode moves by δ (first order: large shifts are understated, since
hits leave on the far side). n_k g|z̄/g|² is χ²_d in place and noncentral χ²_d with n_k g|δ|² elsewhere; widened by the
spread if that is above 1, so that a blown-up mode is not called shifted. ``shifted``: |δ| above ½, Holm over modes.

Modes within reach of each other share samples; their reference moments come from the same draw of the target as their
hit probabilities, and the ratio is to those, without g.

References:
    Continuous univariate distributions, volume 1 (Johnson, Kotz, Balakrishnan, 1994), for moments after truncation.
    No published protocol of mode coverage reports the shape of modes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import chdtrc, chndtr, gammainc, gammaincc, gammaln

from divergences import Estimate
from evaluation.intervals import holm
from evaluation.mode_geometry import Expected, Moments, Parts
from evaluation.quality import chi2_between, quality_band

__all__ = ["SHIFT_MARGIN", "ModeShape", "mode_shapes"]

# Standard deviations by which a mode may be out of place.
SHIFT_MARGIN = 0.5
_TAIL = 0.025
_HALVINGS = 40
_LOG_RATIOS = (math.log(1e-8), math.log(1e3))
_METHOD = "truncation at the quality threshold accounted for; interval by inverting the test"


@dataclass(frozen=True)
class ModeShape:
    """Place and width of the high-quality samples of one mode; ``None`` of a mode with fewer than two hits.

    Attributes:
        index: of the mode.
        hits: high-quality samples, n_k.
        ratio: covariance ratio tr(Σ⁻¹ Σ̂)/d, 1 for a perfect generator; 95 % interval; ``raw`` is without the
            correction for the cut-off.
        ratio_p: two-sided p-value of ratio = 1.
        volume: (det Σ̂ / det Σ)^(1/d), the geometric mean of the variance ratios along all axes; it sees a mode that
            collapsed onto a line or a plane. None on the line and with 2d hits or fewer.
        shrunk_p: p-value of "ratio and volume ≥ margin", Holm-adjusted over the modes.
        shift: Mahalanobis length of the mean's displacement in standard deviations of the mode, without bias;
            95 % interval; ``raw`` is the plain length.
        shift_null: the plain length of a perfect generator (root mean square).
        shift_p: p-value of "no shift".
        shifted_p: p-value of "shift ≤ ½", Holm-adjusted over the modes.
    """

    index: int
    hits: int
    ratio: Estimate
    ratio_p: float
    volume: Estimate | None
    shrunk_p: float
    shift: Estimate
    shift_null: float
    shift_p: float
    shifted_p: float


def mode_shapes(
    x: Float64[np.ndarray, "n d"],
    nearest: Int64[np.ndarray, " n"],
    parts: Parts,
    expected: Expected,
    margin: float,
) -> tuple[ModeShape | None, ...]:
    """Mean shift and covariance ratio of every mode.

    Args:
        x: the high-quality samples.
        nearest: the mode of each.
        parts: the modes.
        expected: their reference, from ``expected_hits``.
        margin: of the covariance ratio, in (0, 1].

    Returns:
        One record per mode, None for those with fewer than two hits.
    """
    total, dim = parts.means.shape
    counts = np.bincount(nearest, minlength=total)
    rows = np.split(np.argsort(nearest, kind="stable"), np.cumsum(counts)[:-1])
    modes = np.flatnonzero(counts >= 2)
    if modes.size == 0:
        return (None,) * total
    measured = _Measured(
        [_summary(parts.whiten(x[rows[k]], int(k)), expected.crowded.get(int(k)), dim) for k in modes],
        counts[modes],
        dim,
    )
    ratio = measured.ratios()
    volume = measured.volumes()
    shrunk = holm(measured.shrunk(math.log(margin)))
    equal = np.zeros(len(modes))
    ratio_p = np.minimum(2 * np.minimum(measured.tail(equal, lower=True), measured.tail(equal, lower=False)), 1.0)
    shift, shift_p, beyond = measured.shifts()
    shifted = holm(beyond)
    records: list[ModeShape | None] = [None] * total
    for i, k in enumerate(modes):
        records[k] = ModeShape(
            index=int(k),
            hits=int(counts[k]),
            ratio=ratio[i],
            ratio_p=float(ratio_p[i]),
            volume=volume[i],
            shrunk_p=float(shrunk[i]),
            shift=shift[i],
            shift_null=float(measured.null_length[i]),
            shift_p=float(shift_p[i]),
            shifted_p=float(shifted[i]),
        )
    return tuple(records)


def cut_moments(s2: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Trace of the covariance of N(0, s²I) cut off at the edges of quality, and the variance of |z|²."""
    power = dim / 2
    edges = [edge**2 / s2 for edge in quality_band(dim)]
    low, high = (edge / 2 for edge in edges)
    inside, once, twice = (chi2_between(dim + 2 * step, *edges) for step in range(3))
    # Of a law so wide, in many dimensions, that next to nothing is inside, the leading terms are left: it is even
    # there. One so narrow is seen by its tail at the inner edge, an exponential law.
    seen, limit = inside > 1e-250, high / (power + 1)
    narrow = ~seen & (low > power)
    tail = 1 / np.where(narrow, 1 - (power - 1) / np.where(narrow, low, 1.0), 1.0)
    edge_first, edge_second = (low + tail) / power, ((low + tail) ** 2 + tail**2) / (power * (power + 1))
    first = np.divide(once, inside, out=np.where(narrow, edge_first, limit), where=seen)
    both = np.divide(twice, inside, out=np.where(narrow, edge_second, limit * high / (power + 2)), where=seen)
    second = s2 * dim * first
    fourth = s2**2 * dim * (dim + 2) * both
    return second, np.maximum(fourth - second**2, 0.0)


def _summary(z: np.ndarray, crowded: Moments | None, dim: int) -> tuple[float, ...]:
    """Trace of the covariance, displacement, its χ² form per hit; then the reference moments if the mode is crowded."""
    mean = z.mean(axis=0)
    trace = float(((z - mean) ** 2).sum()) / (len(z) - 1)
    volume = _volume((z - mean).T @ (z - mean) / (len(z) - 1)) if dim > 1 and len(z) > 2 * dim else math.nan
    if crowded is None:
        c = float(cut_moments(np.ones(1), dim)[0][0]) / dim
        alone = (math.nan, math.nan, math.nan, dim / c, volume, math.nan)
        return trace, float(mean @ mean) / c**2, float(mean @ mean) / c, *alone
    gap = mean - crowded.mean
    inverse = np.linalg.inv(crowded.cov)
    moved = inverse @ gap
    squares = float((crowded.cov**2).sum())
    center = float(np.trace(crowded.cov))
    form = float(gap @ moved)
    reference = (center, squares, crowded.spread, float(np.trace(inverse)), volume, _volume(crowded.cov))
    return trace, float(moved @ moved), form, *reference


def _volume(cov: np.ndarray) -> float:
    """The geometric mean of the eigenvalues; 0 of a flat cloud."""
    sign, log_det = np.linalg.slogdet(cov)
    return math.exp(log_det / len(cov)) if sign > 0 else 0.0


class _Measured:
    """The modes with at least two hits, as vectors; ``nan`` reference moments mean that the mode stands alone."""

    def __init__(self, rows: list[tuple[float, ...]], hits: np.ndarray, dim: int) -> None:
        table = np.array(rows)
        self.trace, self.squared_length, self.form = table[:, 0], table[:, 1], table[:, 2]
        self.reference = table[:, 3:6]
        self.hits, self.dim = hits.astype(np.float64), dim
        self.null_length = np.sqrt(table[:, 6] / self.hits)
        self.volume, self.reference_volume = table[:, 7], table[:, 8]

    def moments(self, log_ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the sample's trace if the mode's covariance ratio were exp(log_ratio)."""
        s2 = np.exp(log_ratio)
        center, spread = cut_moments(s2, self.dim)
        squares = center**2 / self.dim
        drawn = np.isfinite(self.reference[:, 0])
        center = np.where(drawn, s2 * self.reference[:, 0], center)
        squares = np.where(drawn, s2**2 * self.reference[:, 1], squares)
        spread = np.where(drawn, s2**2 * self.reference[:, 2], spread)
        # Variance of the unbiased trace: a U-statistic of degree two.
        return center, spread / self.hits + 2 * squares / (self.hits * (self.hits - 1))

    def tail(self, log_ratio: np.ndarray, *, lower: bool) -> Float64[np.ndarray, " m"]:
        """P(trace at most, or at least, as seen), by the gamma law of the same mean and variance."""
        mean, variance = self.moments(log_ratio)
        shape = mean**2 / variance
        return (gammainc if lower else gammaincc)(shape, self.trace * mean / variance)

    def shrunk(self, log_margin: float) -> Float64[np.ndarray, " m"]:
        """P-values of "no narrower than the margin": of trace and volume the smaller, doubled, where there are both."""
        at_margin = np.full(len(self.hits), log_margin)
        by_trace, by_volume = self.tail(at_margin, lower=True), self.volume_tail(at_margin, lower=True)
        both = np.minimum(2 * np.fmin(by_trace, by_volume), 1.0)
        return np.where(np.isfinite(self.volume), both, by_trace)

    def volume_moments(self, log_ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and relative variance of the sample's volume; those of Wishart's law but for the cut-off in the mean."""
        s2 = np.exp(log_ratio)
        scale = np.where(
            np.isfinite(self.reference_volume), s2 * self.reference_volume, cut_moments(s2, self.dim)[0] / self.dim
        )
        freedom = np.maximum(self.hits[:, None] - 1 - np.arange(self.dim), 1.0) / 2
        first, second = (
            (gammaln(freedom + power) - gammaln(freedom)).sum(axis=1) for power in (1 / self.dim, 2 / self.dim)
        )
        return scale * 2 * np.exp(first) / (self.hits - 1), np.expm1(second - 2 * first)

    def volume_tail(self, log_ratio: np.ndarray, *, lower: bool) -> Float64[np.ndarray, " m"]:
        """P(volume at most, or at least, as seen), by the gamma law of that mean and variance: exact in the plane."""
        mean, relative = self.volume_moments(log_ratio)
        return (gammainc if lower else gammaincc)(1 / relative, self.volume / (mean * relative))

    def volumes(self) -> list[Estimate | None]:
        """Volume ratios, with the ends at which either tail is 2.5 %."""
        value = self._root(lambda log_ratio: self.volume_moments(log_ratio)[0] < self.volume)
        low = self._root(lambda log_ratio: self.volume_tail(log_ratio, lower=False) < _TAIL)
        high = self._root(lambda log_ratio: self.volume_tail(log_ratio, lower=True) > _TAIL)
        return [
            _ratio(value[i], low[i], high[i], int(self.hits[i]), float(self.volume[i]))
            if math.isfinite(self.volume[i])
            else None
            for i in range(len(self.hits))
        ]

    def ratios(self) -> list[Estimate]:
        """Covariance ratios, with the ends at which either tail is 2.5 %."""
        value = self._root(lambda log_ratio: self.moments(log_ratio)[0] < self.trace)
        low = self._root(lambda log_ratio: self.tail(log_ratio, lower=False) < _TAIL)
        high = self._root(lambda log_ratio: self.tail(log_ratio, lower=True) > _TAIL)
        at_one = self.moments(np.zeros(len(self.hits)))[0]
        return [
            _ratio(value[i], low[i], high[i], int(self.hits[i]), float(self.trace[i] / at_one[i]))
            for i in range(len(self.hits))
        ]

    def _root(self, below: Callable[[np.ndarray], np.ndarray]) -> Float64[np.ndarray, " m"]:
        """The ratio up to which ``below`` holds; infinite beyond what the cut-off lets one see."""
        low, high = np.full(len(self.hits), _LOG_RATIOS[0]), np.full(len(self.hits), _LOG_RATIOS[1])
        beyond = below(high)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            holds = below(middle)
            low, high = np.where(holds, middle, low), np.where(holds, high, middle)
        return np.where(beyond, np.inf, np.where(low == _LOG_RATIOS[0], 0.0, np.exp(low)))

    def shifts(self) -> tuple[list[Estimate], Float64[np.ndarray, " m"], Float64[np.ndarray, " m"]]:
        """Lengths, p-values of no shift, and p-values of a shift within the margin."""
        widened = np.maximum(1.0, self.trace / self.moments(np.zeros(len(self.hits)))[0])
        statistic = self.hits * self.form / widened
        # χ² per squared length: g for a mode alone; along the direction seen for a crowded one.
        length = np.sqrt(self.squared_length)
        per_length = np.divide(
            statistic, self.squared_length, out=np.full(len(length), math.inf), where=self.squared_length > 0
        )
        low = self._length(statistic, per_length, 1 - _TAIL)
        high = self._length(statistic, per_length, _TAIL)
        value = np.sqrt(np.maximum(self.squared_length - widened * self.null_length**2, 0.0))
        estimates = [
            _length_estimate(value[i], low[i], high[i], int(self.hits[i]), float(length[i])) for i in range(len(value))
        ]
        margin = np.where(np.isfinite(per_length), per_length, 0.0) * SHIFT_MARGIN**2
        beyond = np.clip(1 - chndtr(statistic, float(self.dim), margin), 0.0, 1.0)
        return estimates, chdtrc(self.dim, statistic), beyond

    def _length(self, statistic: np.ndarray, per_length: np.ndarray, level: float) -> Float64[np.ndarray, " m"]:
        """The shift at which a χ² as large as seen has this probability of not being exceeded."""
        low, high = np.zeros(len(statistic)), 4 * (statistic + 40 + self.dim)
        # Already in place, less than this is too probable: the interval starts at 0.
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            holds = chndtr(statistic, float(self.dim), middle) > level
            low, high = np.where(holds, middle, low), np.where(holds, high, middle)
        return np.sqrt(low / per_length)


def _ratio(value: float, low: float, high: float, hits: int, raw: float) -> Estimate:
    if math.isinf(value):
        note = "as wide as what the quality threshold lets one see, or wider"
        return Estimate(value, 0.0, level=0.95, method=_METHOD, n=hits, raw=raw, bounds=(float(low), value), note=note)
    bounds = (float(min(low, value)), float(max(high, value)))
    error = max(value - bounds[0], bounds[1] - value)
    return Estimate(float(value), error, level=0.95, method=_METHOD, n=hits, raw=raw, bounds=bounds)


def _length_estimate(value: float, low: float, high: float, hits: int, raw: float) -> Estimate:
    bounds = (float(min(low, value)), float(max(high, value)))
    error = max(value - bounds[0], bounds[1] - value)
    return Estimate(float(value), error, level=0.95, method=_METHOD, n=hits, raw=raw, bounds=bounds)
