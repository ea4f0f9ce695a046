r"""The law of g(z) in the plane: density by the preimages that ``plane_map`` finds, singular mass by area.

The density found integrates to the probability that z is among the preimages found for g(z), since

$$ \int \sum_{z\ \mathrm{found}} \frac{p_z(z)}{|\det J(z)|}\,dx
   = E_{p_z}\big[\mathbf 1\{z\ \text{found for}\ g(z)\}\big] . $$

This is measured on a sample: ``mass``. Singular mass is that of the triangles on which det J = 0, by quadrature; what
lies on triangles that straddle the border of that set counts in proportion: exact to about 1e-4 (``singular`` states
it), and ``point_mass`` to 0.02. Made by ``divergences.pushforward``.

Reference: *Measure Theory and Fine Properties of Functions* (Evans, Gariepy, 2015), section 3.3,
https://doi.org/10.1201/b18333.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float64

from divergences.checks import ArrayLike
from divergences.distributions import Box, Discrete, Distribution, Frame, as_query, parts_of
from divergences.errors import InputError, UnderResolved
from divergences.estimate import Estimate
from divergences.placement import frame_of
from divergences.plane_map import PlaneMap
from divergences.pushforward import CheckedMap, Pilot, PlaneHint, Pulled, finite_weights, sample_map

__all__ = ["PlanePushforward"]

_NEGLIGIBLE = 1e-9
_SIX_POINT_RULE = 1e-5
# Points of the base whose own preimage is looked for.
_CHECKED = 8192
# Share of a sample whose own z is not found, above which the density is refused.
_LOST = 0.01


class PlanePushforward:
    """x = g(z) in the plane; see ``pushforward``."""

    dim = 2

    def __init__(self, g: CheckedMap, base: Distribution, pilot: Pilot) -> None:
        self.g = g
        self.base = base
        bounded = base.support.bounded
        low, high = _region(base)
        self._map = PlaneMap(g, low, high, lambda z: np.exp(base.log_prob(z)), pilot.noise, bounded)
        self._pilot = pilot
        masses = self._map.masses(self._map.corners)
        masses /= masses.sum()
        self.singular_mass = float(masses @ self._map.lost)
        if self.singular_mass < _NEGLIGIBLE:
            self.singular_mass = 0.0
        self.singular = self._singular_estimate(masses)
        self.singular_points, self.point_mass = self._points(masses)
        self.mass = self._check_mass()

    def __repr__(self) -> str:
        return f"pushforward({self.base!r}; {self.description})"

    @property
    def description(self) -> str:
        """What was found: the mesh, and singular mass on points or curves."""
        text = f"{len(self._map.corners)} triangles"
        if self.singular_mass:
            text += (
                f", singular mass {self.singular_mass:.6g} ({self.point_mass:.6g} of it on points, the rest on curves)"
            )
        return text

    @property
    def doubt(self) -> float:
        """Mean error of log p_g to be reckoned with, besides that of any integral: Jacobians, and preimages missed."""
        low, _ = self.mass.interval
        return 1e-9 + max(1.0 - self.singular_mass - low, 0.0)

    @property
    def support(self) -> Box:
        """All of the plane for an unbounded base; else a box around the images of the mesh."""
        if not self.base.support.bounded:
            return Box(np.full(2, -np.inf), np.full(2, np.inf))
        images = self._map.images.reshape(-1, 2)
        grow = 0.05 * np.ptp(images, axis=0)
        return Box(images.min(axis=0) - grow, images.max(axis=0) + grow)

    def log_prob(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Log density at x (n, 2) of the absolutely continuous part: it integrates to 1 − singular_mass."""
        points = as_query(x, 2)
        roots = self._map.preimages(points)
        terms = self.base.log_prob(roots.z) - np.log(roots.volume)
        top = np.full(len(points), -np.inf)
        np.maximum.at(top, roots.query, terms)
        shift = np.where(np.isfinite(top), top, 0.0)
        with np.errstate(divide="ignore"):
            return np.log(np.bincount(roots.query, np.exp(terms - shift[roots.query]), len(points))) + shift

    def log_ratio_density(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Log density with +∞ on the points and curves that carry singular mass."""
        points = as_query(x, 2)
        if not self.singular_mass:
            return self.log_prob(points)
        return np.where(self._map.singular(points), np.inf, self.log_prob(points))

    def log_mass(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Refused: on common curves two singular parts have no masses at points that could be compared."""
        raise InputError(
            "both laws have singular mass in the same place in the plane, and how it compares along a curve is not "
            "known. Compare samples of them with wasserstein."
        )

    def sample(self, n: int, rng: np.random.Generator) -> Float64[np.ndarray, "n d"]:
        """g(base.sample(n, rng)), shape (n, 2)."""
        return sample_map(self.g, self.base, n, rng)

    def frame(self) -> Frame:
        """Mean and Cholesky factor of a sample, so that integrators know where and how wide the law is."""
        x = self._pilot.x
        center = x.mean(axis=0)
        covariance = np.cov(x.T) + (1e-6 * self._pilot.unit_x) ** 2 * np.eye(2)
        reach = np.array([0.0, 1.0, 2.0, 3.5, 5.0, 8.0])
        return Frame(center, np.linalg.cholesky(covariance), np.concatenate([-reach[:0:-1], reach]))

    def parts(self) -> tuple[Float64[np.ndarray, " k"], list[Distribution]]:
        """One part: itself."""
        return np.ones(1), [self]

    def pull_back(
        self, function: Callable[[Float64[np.ndarray, "n d"]], Any]
    ) -> tuple[Callable[[Float64[np.ndarray, "n d"]], Any], Distribution]:
        """(f∘g, base): E_{p_g}[f] is an expectation over z, singular part and all.

        Narrow parts of the other laws are carried back through g, so that an integrator over z looks there.
        """
        others = [law for law in getattr(function, "laws", ()) if law is not self and not isinstance(law, Discrete)]
        hints = [hint for law in others for part in parts_of(law)[1] for hint in self._preimage_frames(part)]
        return Pulled(function, self.g, tuple(hints)), self.base

    def _preimage_frames(self, part: Distribution) -> list[PlaneHint]:
        if not hasattr(part, "frame"):
            return []
        frame = part.frame()
        middle = frame.center + frame.matrix @ np.full(2, (frame.cuts[0] + frame.cuts[-1]) / 2)
        roots = self._map.preimages(middle[None])
        jacobian = self._map.jacobian(roots.z)
        reach = min(float(np.ptp(frame.cuts)) / 2, 4.0)
        cuts = np.array([-reach, 0.0, reach])
        return [
            PlaneHint(self.base.support, Frame(z, np.linalg.solve(matrix, frame.matrix), cuts))
            for z, matrix in zip(roots.z, jacobian, strict=True)
        ]

    def _points(self, masses: np.ndarray) -> tuple[Discrete | None, float]:
        """Images of the flat triangles that are points and not curves, and the mass of these triangles."""
        flat = self._map.flat & (masses > 0)
        if not self.singular_mass or not flat.any():
            return None, 0.0
        images, share = self._map.images[flat], masses[flat]
        step = 1e-9 * self._map.scale
        still = np.ptp(images, axis=1).max(axis=1) <= step
        if not still.any():
            return None, 0.0
        keys, inverse = np.unique(np.round(images[still, 0] / step), axis=0, return_inverse=True)
        total = np.bincount(inverse.ravel(), share[still])
        heavy = total > _NEGLIGIBLE
        if not heavy.any():
            return None, 0.0
        return finite_weights(keys[heavy] * step, total[heavy]), float(total[heavy].sum())

    def _singular_estimate(self, masses: np.ndarray) -> Estimate:
        """With the mass of the triangles that straddle the border, each of which counts by the share of its probes."""
        straddling = masses[(self._map.lost > 0) & (self._map.lost < 1)]
        # Probes are four a triangle: independent errors of at most a half each add up like a walk.
        error = 3 * float(np.sqrt((straddling**2).sum())) + _SIX_POINT_RULE if self.singular_mass else _NEGLIGIBLE
        return Estimate(
            self.singular_mass, error, level=None, method="mass of the triangles without area (estimate)", n=len(masses)
        )

    def _check_mass(self) -> Estimate:
        z = self.base.sample(_CHECKED, np.random.default_rng(1))
        x = self.g(z)
        z, x = z[np.isfinite(x).all(axis=1)], x[np.isfinite(x).all(axis=1)]
        lost_rank = self._map.rank_lost(z)
        roots = self._map.preimages(x)
        own = np.abs(roots.z - z[roots.query]).max(axis=1) <= 1e-4 * self._pilot.unit_z
        found = np.bincount(roots.query, own, len(z)) > 0
        regular = ~lost_rank
        share = float(found[regular].mean()) if regular.any() else 1.0
        n = max(int(regular.sum()), 1)
        # Binomial at this n; "rule of three" where nothing was lost.
        error = max(2 * np.sqrt(share * (1 - share) / n), 3.0 / n)
        continuous = 1.0 - self.singular_mass
        estimate = Estimate(
            share * continuous, error * continuous, level=0.95, method="preimages of a sample", n=len(z)
        )
        sampled = float(lost_rank.mean())
        if abs(sampled - self.singular_mass) > 4 * np.sqrt(max(sampled * (1 - sampled), 1 / len(z)) / len(z)) + 1e-3:
            raise UnderResolved(
                f"the mesh finds a singular mass of {self.singular_mass:.4f}, a sample of z {sampled:.4f}: the set on "
                "which g loses rank is not resolved.",
                estimate,
            )
        if share < 1 - _LOST:
            raise UnderResolved(
                f"for {1 - share:.1%} of a sample of z no preimage of g(z) is found: g is too rough, or folds too "
                "finely, for the mesh.",
                estimate,
            )
        return estimate


def _region(base: Distribution) -> tuple[np.ndarray, np.ndarray]:
    """The rectangle around where all parts of the base live."""
    if base.support.bounded:
        return base.support.low, base.support.high
    lows, highs = [], []
    for leaf in parts_of(base)[1]:
        center, matrix, cuts = frame_of(leaf)
        middle, half = (cuts[0] + cuts[-1]) / 2, (cuts[-1] - cuts[0]) / 2
        extent = half * np.linalg.norm(matrix, axis=1)
        lows.append(center + matrix @ np.full(2, middle) - extent)
        highs.append(center + matrix @ np.full(2, middle) + extent)
    low = np.maximum(np.min(lows, axis=0), base.support.low)
    high = np.minimum(np.max(highs, axis=0), base.support.high)
    return low, high
