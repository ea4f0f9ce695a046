r"""Targets whose truth is known.

    two_peaks, uniform, scipy_law     on the line
    ring(8), grid(25)                 Gaussians of equal weight: the sets of PacGAN and VEEGAN
    imbalanced, anisotropic           the ring with unequal weights; with stretched modes
    spiral, two_moons, swiss_roll     curves with Gaussian noise: an exact density by quadrature along the curve
    checkerboard                      uniform on the dark squares
    parallel_lines                    no density at all: it lives on lines
    embedded                          VEEGAN's ten 700-dimensional Gaussians in 1200 dimensions

Nearest modes of ``ring()`` are 76 σ apart, of ``grid()`` 40 σ. Results on rings of another radius or scale are not
comparable: distance over scale is what makes a target hard. (A ring whose angles run to 2π *inclusive* has one mode
twice and one too few; it is easily made and has been published.)

Every target has ``dim`` and ``sample(n, rng)``; all but ``parallel_lines`` are a ``Distribution`` with ``log_prob``.

References:
    VEEGAN: reducing mode collapse in GANs using implicit variational learning (Srivastava et al., 2017),
    https://arxiv.org/abs/1705.07761. PacGAN: the power of two samples in generative adversarial networks (Lin et al.,
    2018), https://arxiv.org/abs/1712.04086. Wasserstein GAN (Arjovsky, Chintala, Bottou, 2017),
    https://arxiv.org/abs/1701.07875, example 1 (parallel lines).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float64

from divergences import Discrete, Distribution, Gaussian, InputError, Mixture, Uniform, as_distribution
from divergences.checks import ArrayLike, as_count, as_number, as_points, as_weights, one_of
from toygen.curves import Arc, CurveLaw
from toygen.lines import ParallelLines

__all__ = [
    "TARGETS",
    "anisotropic",
    "checkerboard",
    "embedded",
    "grid",
    "imbalanced",
    "parallel_lines",
    "ring",
    "scipy_law",
    "spiral",
    "swiss_roll",
    "target_by_name",
    "two_moons",
    "two_peaks",
    "uniform",
]

_SCIPY = "scipy:"


def ring(modes: Any = 8, radius: ArrayLike = 1.0, scale: ArrayLike = 0.01) -> Mixture:
    """Gaussians of equal weight on a circle around the origin.

    Args:
        modes: how many; their angles are 2πk/modes, so all means differ.
        radius: of the circle.
        scale: standard deviation of each mode.

    Raises:
        InputError: no modes, or a radius or scale that is not positive.

    >>> ring().dim, len(ring().components)
    (2, 8)
    """
    return _alike(_circle(modes, radius)[0], scale)


def grid(side: Any = 5, spacing: ArrayLike = 2.0, scale: ArrayLike = 0.05) -> Mixture:
    """Side × side Gaussians of equal weight on a square grid centred at the origin.

    Args:
        side: modes per row.
        spacing: between neighbours.
        scale: standard deviation of each mode.

    Raises:
        InputError: no modes, or a spacing or scale that is not positive.

    >>> grid().components[0].mean
    array([-4., -4.])
    """
    side = as_count(side, "side")
    places = as_number(spacing, "spacing", above=0.0) * (np.arange(side) - (side - 1) / 2)
    return _alike(np.stack([axis.ravel() for axis in np.meshgrid(places, places, indexing="ij")], axis=1), scale)


def imbalanced(modes: Any = 8, radius: ArrayLike = 1.0, scale: ArrayLike = 0.01, *, ratio: ArrayLike = 10.0) -> Mixture:
    """The ring with weights that fall geometrically, from the first mode to the last by a factor of ``ratio``.

    Args:
        modes: how many.
        radius: of the circle.
        scale: standard deviation of each mode.
        ratio: weight of the first mode over that of the last.

    Raises:
        InputError: no modes, or a radius, scale or ratio that is not positive.

    >>> law = imbalanced(ratio=10.0)
    >>> round(float(law.weights[0] / law.weights[7]), 9), float(law.weights.sum())
    (10.0, 1.0)
    """
    means = _circle(modes, radius)[0]
    share = as_number(ratio, "ratio", above=0.0) ** -np.linspace(0.0, 1.0, len(means))
    return _alike(means, scale, share / share.sum())


def anisotropic(
    modes: Any = 8, radius: ArrayLike = 1.0, scale: ArrayLike = 0.01, *, ratio: ArrayLike = 10.0
) -> Mixture:
    """Gaussians on a circle, each stretched along its radius: standard deviation ratio·scale along, scale across.

    Distances to a mode are Mahalanobis distances here; a Euclidean 3σ rule would call most of a mode a failure.

    Args:
        modes: how many.
        radius: of the circle.
        scale: standard deviation across the radius.
        ratio: of the two standard deviations.

    Raises:
        InputError: no modes, or a radius, scale or ratio that is not positive.
    """
    means, outwards = _circle(modes, radius)
    across = as_number(scale, "scale", above=0.0)
    along = across * as_number(ratio, "ratio", above=0.0)
    sideways = outwards[:, ::-1] * [-1.0, 1.0]
    covariances = along**2 * outwards[:, :, None] * outwards[:, None] + (
        across**2 * sideways[:, :, None] * sideways[:, None]
    )
    return Mixture([Gaussian(mean, cov) for mean, cov in zip(means, covariances, strict=True)])


def two_peaks(
    means: ArrayLike = (-1.0, 1.0),
    scales: ArrayLike = (0.25, 0.25),
    weights: ArrayLike = (0.5, 0.5),
) -> Mixture:
    """Two Gaussians on the line.

    Args:
        means: of the two peaks; must differ.
        scales: their standard deviations.
        weights: ≥ 0, summing to 1.

    Raises:
        InputError: not two of each, equal means, scales that are not positive, or bad weights.

    >>> two_peaks()
    Mixture([Gaussian(-1, 0.0625), Gaussian(1, 0.0625)], [0.5, 0.5])
    """
    centers = as_points(means, "means", dim=1)[:, 0]
    widths = as_points(scales, "scales", dim=1)[:, 0]
    if len(centers) != 2 or len(widths) != 2 or centers[0] == centers[1]:
        raise InputError(
            f"means and scales must be two numbers each, means different; they are {means!r} and {scales!r}."
        )
    if not (widths > 0).all():
        raise InputError(f"scales must be positive; they are {scales!r}.")
    return Mixture([Gaussian(mean, width**2) for mean, width in zip(centers, widths, strict=True)], weights)


def uniform(low: ArrayLike = 0.0, high: ArrayLike = 1.0) -> Uniform:
    """The uniform law on a segment, or on a box.

    Args:
        low: a number, or shape (d,).
        high: likewise, larger in every coordinate.

    Raises:
        InputError: shapes that differ, or an empty box.
    """
    return Uniform(low, high)


def scipy_law(law: Any) -> Distribution:
    """Any frozen, continuous law of ``scipy.stats`` on the line, or whatever else ``as_distribution`` takes.

    Args:
        law: such as ``scipy.stats.gamma(2.0)``; or its text, ``"gamma:2.0"`` or ``"beta:0.5,0.5"``, shapes first, then
            loc and scale.

    Raises:
        InputError: an unknown name, parameters scipy refuses, or a law that is not on the line.
        NoDensity: samples or a sampler.

    >>> scipy_law("expon:0,2").support.low
    array([0.])
    """
    adapted = as_distribution(_frozen(law) if isinstance(law, str) else law, "law")
    if isinstance(adapted, Discrete) or adapted.dim != 1:
        raise InputError(f"law must be continuous and on the line; it is {adapted!r}.")
    return adapted


def spiral(turns: ArrayLike = 1.5, arms: Any = 2, radius: ArrayLike = 1.0, *, scale: ArrayLike = 0.02) -> CurveLaw:
    """An Archimedean spiral with noise: c(t) = radius·t·(cos 2π·turns·t, sin 2π·turns·t), with equal mass per area.

    Args:
        turns: of each arm around the origin.
        arms: how many, evenly rotated.
        radius: where an arm ends.
        scale: standard deviation of the noise.

    Raises:
        InputError: no arms, or turns, a radius or scale that is not positive.
    """
    arms = as_count(arms, "arms")
    angle = 2 * np.pi * as_number(turns, "turns", above=0.0)
    reach = as_number(radius, "radius", above=0.0)

    def arm(k: int) -> Arc:
        def path(t: np.ndarray) -> np.ndarray:
            phase = angle * t + 2 * np.pi * k / arms
            return reach * t[:, None] * np.stack([np.cos(phase), np.sin(phase)], axis=1)

        # The length of an Archimedean spiral grows like t², hence t = √u.
        return Arc(f"arm {k}", path, walk=np.sqrt, density=lambda t: 2 * t)

    return CurveLaw([arm(k) for k in range(arms)], scale=scale)


def two_moons(scale: ArrayLike = 0.05) -> CurveLaw:
    """Two interleaving half circles of radius 1 with noise, as in scikit-learn's ``make_moons``.

    Args:
        scale: standard deviation of the noise.

    Raises:
        InputError: a scale that is not positive.
    """

    def outer(t: np.ndarray) -> np.ndarray:
        return np.stack([np.cos(np.pi * t), np.sin(np.pi * t)], axis=1)

    def inner(t: np.ndarray) -> np.ndarray:
        return np.stack([1 - np.cos(np.pi * t), 0.5 - np.sin(np.pi * t)], axis=1)

    return CurveLaw([Arc("outer moon", outer), Arc("inner moon", inner)], scale=scale)


def swiss_roll(scale: ArrayLike = 0.25 / 7.5, size: ArrayLike = 7.5) -> CurveLaw:
    """The Swiss roll seen from its end, as in the figures of WGAN-GP.

    s·(cos s, sin s)/size with s uniform on [1.5π, 4.5π]: scikit-learn's ``make_swiss_roll`` without its height.

    Args:
        scale: standard deviation of the noise, in the units of the target.
        size: what lengths are divided by.

    Raises:
        InputError: a scale or size that is not positive.
    """
    unit = as_number(size, "size", above=0.0)

    def path(t: np.ndarray) -> np.ndarray:
        s = 1.5 * np.pi * (1 + 2 * t)
        return s[:, None] * np.stack([np.cos(s), np.sin(s)], axis=1) / unit

    return CurveLaw([Arc("swiss roll", path)], scale=scale)


def checkerboard(side: Any = 4, cell: ArrayLike = 1.0) -> Mixture:
    """Uniform on the dark squares of a board centred at the origin: a density with jumps, and exact.

    Args:
        side: squares per row; at least 2.
        cell: length of a square.

    Raises:
        InputError: fewer than 2 squares per row, or a length that is not positive.

    >>> len(checkerboard().components), checkerboard().log_prob([[-1.5, -1.5], [-0.5, -1.5]])
    (8, array([-2.07944154,        -inf]))
    """
    side = as_count(side, "side", minimum=2)
    length = as_number(cell, "cell", above=0.0)
    dark = np.argwhere(np.add.outer(np.arange(side), np.arange(side)) % 2 == 0)
    corners = length * (dark - side / 2)
    return Mixture([Uniform(corner, corner + length) for corner in corners])


def parallel_lines(lines: Any = 2, gap: ArrayLike = 1.0, *, offset: ArrayLike = 0.0) -> ParallelLines:
    """Vertical segments of length 1, uniformly; ``lines=1`` and an offset θ are example 1 of the WGAN paper.

    Args:
        lines: how many.
        gap: between neighbours.
        offset: where the first one stands.

    Raises:
        InputError: no lines, a gap that is not positive, or an offset that is no number.
    """
    return ParallelLines(lines, gap, offset=offset)


def embedded(
    modes: Any = 10,
    inner_dim: Any = 700,
    dim: Any = 1200,
    *,
    spacing: ArrayLike = 20.0,
    thickness: ArrayLike = 0.1,
    seed: Any = 0,
) -> Mixture:
    r"""High-dimensional Gaussians on a low-dimensional plane of a higher-dimensional space (VEEGAN's synthetic set).

    The modes are standard normal on a random subspace of ``inner_dim`` dimensions, their means pairwise ``spacing``
    apart, and have standard deviation ``thickness`` across it. The paper has no thickness and does not print its means;
    without a thickness there is no density, and no network ever hits the plane.

    **Scoring.** The paper calls a sample good within 10 σ of its mean. A *perfect* sample lies √700 ≈ 26 σ away, so a
    perfect generator scores 0. ``evaluation.mode_coverage`` uses the Mahalanobis distance and two χ² quantiles
    instead: a perfect generator scores 0.989, whatever the dimension. One quantile would not do. The origin is 14
    standard deviations from every mean, nearer than samples of a mode are (31.3 to 36.3), and with the outer edge alone
    a generator that always says the origin would be perfect; the inner edge makes it score 0. A single blob around the
    origin whose width makes up for its place still lies within both edges; then ``ModeCoverage.shifted`` accuses the
    modes.

    Args:
        modes: how many; at most ``inner_dim``.
        inner_dim: dimension of the subspace.
        dim: of the space.
        spacing: between two means, in standard deviations.
        thickness: standard deviation across the subspace, in standard deviations along it.
        seed: of the subspace; it is part of the target, not of an experiment.

    Raises:
        InputError: dimensions that do not nest, or lengths that are not positive.

    >>> law = embedded(3, 4, 6)
    >>> law.dim, round(float(np.linalg.norm(law.components[0].mean - law.components[1].mean)), 9)
    (6, 20.0)
    """
    modes, inner, outer = as_count(modes, "modes"), as_count(inner_dim, "inner_dim"), as_count(dim, "dim")
    if not modes <= inner <= outer:
        raise InputError(f"modes ≤ inner_dim ≤ dim is needed; they are {modes}, {inner} and {outer}.")
    rng = np.random.default_rng(as_count(seed, "seed", minimum=0))
    basis = np.linalg.qr(rng.standard_normal((outer, outer)))[0]
    across = as_number(thickness, "thickness", above=0.0)
    along = basis[:, :inner]
    covariance = (1 - across**2) * along @ along.T + across**2 * np.eye(outer)
    # Multiples of orthonormal vectors are all equally far apart.
    means = as_number(spacing, "spacing", above=0.0) / np.sqrt(2) * along[:, :modes].T
    # One factorisation serves them all: the modes differ by their means only.
    first = Gaussian(means[0], (covariance + covariance.T) / 2)
    components = [copy.copy(first) for _ in means]
    for component, mean in zip(components, means, strict=True):
        component.mean = mean
    return Mixture(components)


Target = Distribution | ParallelLines

TARGETS: dict[str, Callable[[], Target]] = {
    "ring": ring,
    "grid": grid,
    "two_peaks": two_peaks,
    "uniform": uniform,
    "imbalanced": imbalanced,
    "anisotropic": anisotropic,
    "spiral": spiral,
    "two_moons": two_moons,
    "swiss_roll": swiss_roll,
    "checkerboard": checkerboard,
    "parallel_lines": parallel_lines,
    "embedded": embedded,
}


def target_by_name(name: Any) -> Any:
    """The target of that name with its default parameters; ``"scipy:gamma:2.0"`` is a law of ``scipy.stats``.

    Returns:
        A ``Distribution``, or for "parallel_lines" a sampler without a density.

    Raises:
        InputError: there is none of that name; the error lists them all.

    >>> target_by_name("grid")
    Mixture(25 components, dim=2)
    """
    if isinstance(name, str) and name.startswith(_SCIPY):
        return scipy_law(name.removeprefix(_SCIPY))
    return TARGETS[one_of(name, "target", [*TARGETS, f"{_SCIPY}NAME:PARAMETERS"])]()


def _frozen(text: str) -> Any:
    """``"beta:0.5,0.5"`` → scipy.stats.beta(0.5, 0.5); nothing is evaluated."""
    from scipy import stats

    name, _, rest = text.partition(":")
    family = getattr(stats, name, None) if name.isidentifier() else None
    if not isinstance(family, stats.rv_continuous):
        raise InputError(f"law must name a continuous law of scipy.stats, such as gamma:2.0; it is {text!r}.")
    try:
        parameters = [float(part) for part in rest.split(",")] if rest else []
        law = family(*parameters)
        if np.isnan(law.support()).any() or np.isnan(law.ppf(0.5)):
            raise ValueError("the parameters are outside their domain")
    except (TypeError, ValueError) as error:
        raise InputError(f"law {text!r} cannot be made: {error}. Write NAME:shape,...,loc,scale.") from error
    return law


def _circle(modes: Any, radius: ArrayLike) -> tuple[Float64[np.ndarray, "k 2"], Float64[np.ndarray, "k 2"]]:
    """Means on a circle, and the directions outwards."""
    modes = as_count(modes, "modes")
    angles = 2 * np.pi * np.arange(modes) / modes
    outwards = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return as_number(radius, "radius", above=0.0) * outwards, outwards


def _alike(means: np.ndarray, scale: ArrayLike, weights: np.ndarray | None = None) -> Mixture:
    variance = as_number(scale, "scale", above=0.0) ** 2 * np.eye(2)
    return Mixture([Gaussian(mean, variance) for mean in means], as_weights(weights, "weights", len(means)))
