r"""Targets whose truth is known: mixtures of Gaussians, equally weighted unless said otherwise.

    ring(8, radius 1, scale 0.01)    nearest modes 76 σ apart      8 distinct means, angles 2πk/8, k = 0 … 7
    grid(5, spacing 2, scale 0.05)   nearest modes 40 σ apart      25 means {−4, −2, 0, 2, 4}²
    two_peaks()                      on the line                   two Gaussians

These are the sets of PacGAN and VEEGAN. Results on rings of another radius or scale are not comparable: distance over
scale is what makes a target hard. (A ring whose angles run to 2π *inclusive* has one mode twice and one too few; it is
easily made and has been published.)

References:
    VEEGAN: reducing mode collapse in GANs using implicit variational learning (Srivastava et al., 2017),
    https://arxiv.org/abs/1705.07761. PacGAN: the power of two samples in generative adversarial networks (Lin et al.,
    2018), https://arxiv.org/abs/1712.04086.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from divergences import Gaussian, InputError, Mixture
from divergences.checks import ArrayLike, as_count, as_number, as_points, one_of

__all__ = ["TARGETS", "grid", "ring", "target_by_name", "two_peaks"]


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
    modes = as_count(modes, "modes")
    radius = as_number(radius, "radius", above=0.0)
    angles = 2 * np.pi * np.arange(modes) / modes
    return _alike(radius * np.stack([np.cos(angles), np.sin(angles)], axis=1), scale)


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


TARGETS = {"ring": ring, "grid": grid, "two_peaks": two_peaks}


def target_by_name(name: Any) -> Mixture:
    """The target of that name with its default parameters; the error lists them all.

    Raises:
        InputError: there is none of that name.

    >>> target_by_name("grid")
    Mixture(25 components, dim=2)
    """
    return TARGETS[one_of(name, "target", list(TARGETS))]()


def _alike(means: np.ndarray, scale: ArrayLike) -> Mixture:
    variance = as_number(scale, "scale", above=0.0) ** 2 * np.eye(2)
    return Mixture([Gaussian(mean, variance) for mean in means])
