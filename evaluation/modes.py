r"""Which modes of a known target does a generator reach, and does it give each its fair share?

The target is a mixture of Gaussians. A sample belongs to its nearest mode in Mahalanobis distance
m_k(x)² = (x−μ_k)ᵀ Σ_k⁻¹ (x−μ_k), and is of *high quality* if that distance is below 3 for d ≤ 3 (the field's protocol,
strict). In more dimensions samples of a Gaussian lie on a shell, and the rule has two sides: m_k² between the quantiles
of χ²_d at 1e-6 and at 1 − exp(−4.5) + 1e-6 (``quality_band``), which keeps what 3σ holds in the plane, 0.98889. So a
generator that always says the same mean, or the centre of all modes, has no quality, however near that is. A mode is
*captured* by at least ``minimum_hits`` high-quality samples (1 in the literature).

A perfect generator does not score 100 %. Its high-quality share is P(HQ) = P(χ²_d < 9), or 0.98889 above three
dimensions, if the modes lie apart, and mode k is hit with probability p_k = w_k·P(HQ); where modes overlap, p_k comes
from a Monte Carlo draw of the mixture with a fixed seed. The hits of mode k among n samples are then binomial, and
three questions are answered exactly:

* ``per_mode``: are the hits compatible with n·p_k? (two-sided, Holm over the modes);
* ``missing``: fewer than ``minimum_hits`` hits, and P(X ≤ hits | n, p_k) significant after Holm. A mode without hits in
  a sample too small to expect any is ``undecided``, never missing;
* ``starved``: captured, but with a share of the high-quality hits significantly below ``margin``·p_k. Conditionally on
  n_HQ the hits are binomial with the mode's share among them, which is at least its absolute share, so a generator that
  gives every mode at least ``margin`` of its due is called starving with probability at most ``alpha``. Low quality
  spread evenly over the modes is not starvation: ``high_quality`` shows it.

The histogram h of the hits is compared with the fair shares q_k = p_k/Σp by both KL divergences and the JSD, each minus
what a perfect generator scores at this number of hits (``evaluation.histograms``); and the samples of each mode are
asked whether they stand in its place and are as wide as it is (``evaluation.mode_shapes``).

References:
    VEEGAN: reducing mode collapse in GANs using implicit variational learning (Srivastava et al., 2017),
    https://arxiv.org/abs/1705.07761. PacGAN: the power of two samples in generative adversarial networks (Lin et al.,
    2018), https://arxiv.org/abs/1712.04086.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from divergences import Estimate
from divergences.checks import ArrayLike, as_count, as_number, as_points
from evaluation.detection import lost_mode
from evaluation.histograms import histogram_scores
from evaluation.intervals import binomial_test, clopper_pearson, clopper_pearson_bounds, holm
from evaluation.labelled import ClassRecord, LabelledModes, labelled_modes
from evaluation.mode_geometry import Parts, assign, expected_hits, gaussian_parts
from evaluation.mode_shapes import ModeShape, mode_shapes
from evaluation.quality import quality_band, quality_threshold, quality_words

__all__ = [
    "ClassRecord",
    "LabelledModes",
    "ModeCoverage",
    "ModeRecord",
    "ModeShape",
    "labelled_modes",
    "mode_coverage",
    "quality_band",
    "quality_threshold",
    "quality_words",
]


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
        minimum_hits: high-quality samples that make a mode captured.
        rule: when a sample is of high quality and a mode is captured, in a sentence.
        forward_kl: KL(fair shares ‖ histogram) in nats, minus ``forward_floor``; infinite, with the reason in
            ``note``, if a mode is empty.
        forward_floor: a perfect generator's plain number on average, given that no mode is empty.
        jsd: Jensen-Shannon divergence of the histogram and the fair shares in nats, minus ``jsd_floor``.
        jsd_floor: a perfect generator's plain number on average.
        empty_chance: probability with which a perfect generator leaves some mode empty at this number of hits.
        alpha: family-wise error rate of each list of modes.
        measure_shapes: computes ``shapes``.
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
    minimum_hits: int
    rule: str
    forward_kl: Estimate
    forward_floor: float
    jsd: Estimate
    jsd_floor: float
    empty_chance: float
    alpha: float
    measure_shapes: Callable[[], tuple[ModeShape | None, ...]] = field(repr=False)

    @functools.cached_property
    def shapes(self) -> tuple[ModeShape | None, ...]:
        """Place and width of each mode's samples, measured when first asked; None with fewer than two hits."""
        return self.measure_shapes()

    @property
    def shrunk(self) -> tuple[int, ...]:
        """Modes whose covariance is significantly below ``margin`` of its due: partial collapse."""
        return tuple(own.index for own in self.shapes if own is not None and own.shrunk_p < self.alpha)

    @property
    def shifted(self) -> tuple[int, ...]:
        """Modes whose mean is significantly more than half a standard deviation out of place."""
        return tuple(own.index for own in self.shapes if own is not None and own.shifted_p < self.alpha)


def mode_coverage(
    *, generated: ArrayLike, modes: Any, minimum_hits: int = 1, margin: float = 0.5, alpha: float = 0.05
) -> ModeCoverage:
    """Count the modes a generator reaches, with exact tests of what it misses.

    Args:
        generated: samples, shape (n, d), or (n,) on the line.
        modes: the target: a ``Mixture`` of ``Gaussian`` laws, one ``Gaussian``, or what ``as_distribution`` makes one
            of.
        minimum_hits: high-quality samples that make a mode captured.
        margin: share of its due below which a captured mode is starved, and of its due covariance below which it is
            shrunk, in (0, 1].
        alpha: family-wise error rate of ``missing``, and each of ``starved``, ``shrunk`` and ``shifted``.

    Returns:
        Counts, shares and tests; see ``ModeCoverage``.

    Raises:
        InputError: NaN, empty or mis-shaped samples, another dimension than the modes', or modes that are not
            Gaussians.

    >>> from divergences import Gaussian, Mixture
    >>> target = Mixture([Gaussian([0.0, 0.0], np.eye(2)), Gaussian([9.0, 0.0], np.eye(2))])
    >>> found = mode_coverage(generated=np.random.default_rng(0).normal(size=(500, 2)), modes=target)
    >>> found.captured, found.missing, round(found.high_quality_null, 4)
    (1, (1,), 0.9889)
    """
    parts = gaussian_parts(modes)
    points = as_points(generated, "generated=", dim=parts.means.shape[1])
    least = as_count(minimum_hits, "minimum_hits=")
    margin = as_number(margin, "margin=", above=0.0, below=math.nextafter(1, 2))
    alpha = as_number(alpha, "alpha=", above=0.0, below=1.0)
    n, total = len(points), len(parts.weights)
    nearest, inside = assign(points, parts)
    hits = np.bincount(nearest[inside], minlength=total)
    n_inside = int(inside.sum())
    expected = expected_hits(parts, n)
    fair = expected.rates

    captured = hits >= least
    absent = holm(binomial_test(hits, n, fair, side="less")) < alpha
    below_margin = holm(binomial_test(hits, n_inside, margin * fair, side="less")) < alpha
    scores = histogram_scores(hits, fair)
    return ModeCoverage(
        captured=int(captured.sum()),
        total=total,
        missing=_indices(~captured & absent),
        undecided=_indices(~captured & ~absent),
        starved=_indices(captured & below_margin),
        high_quality=clopper_pearson(n_inside, n),
        high_quality_null=min(float(fair.sum()), 1.0),
        per_mode=_records(parts, hits, n, fair),
        reverse_kl=scores.reverse_kl,
        noise_floor=scores.reverse_floor,
        n=n,
        power_note=_power_note(n, n_inside, parts.weights, fair, margin, alpha),
        nearest=nearest,
        inside=inside,
        minimum_hits=least,
        rule=_rule(points.shape[1], least),
        forward_kl=scores.forward_kl,
        forward_floor=scores.forward_floor,
        jsd=scores.jsd,
        jsd_floor=scores.jsd_floor,
        empty_chance=scores.empty_chance,
        alpha=alpha,
        measure_shapes=functools.partial(mode_shapes, points[inside], nearest[inside], parts, expected, margin),
    )


def _records(
    parts: Parts, hits: Int64[np.ndarray, " k"], n: int, fair: Float64[np.ndarray, " k"]
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
    loss, found = lost_mode(n, n_inside, rate, margin, level, drawn=rate / float(fair.sum()))
    if not found:
        return f"with n={n} the complete loss of {mode} would be found; a partial loss would not"
    return (
        f"with n={n} ({n_inside} of high quality) {mode} that lost {math.ceil(100 * loss)} % of its mass would be "
        "found with probability ≥ 0.95; smaller losses could be missed"
    )


def _rule(dim: int, least: int) -> str:
    low, high = quality_band(dim)
    core = f" and at least {low:.4g}" if low > 0 else ""
    return (
        f"high quality: Mahalanobis distance to the nearest mode below {high:.4g} (strict){core}; "
        f"captured: at least {least} high-quality sample{'s' if least > 1 else ''}"
        + (" (the rule of VEEGAN and PacGAN)" if least == 1 else "")
    )


def _indices(mask: Bool[np.ndarray, " k"]) -> tuple[int, ...]:
    return tuple(int(index) for index in np.flatnonzero(mask))
