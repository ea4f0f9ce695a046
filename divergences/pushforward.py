r"""The exact density of x = g(z): what a generator's p_g is, in one and two dimensions.

Lectures say that p_g of an implicit model cannot be had. In low dimension it can: by the change of variables

$$ p_g(x) = \sum_{z :\, g(z) = x} \frac{p_z(z)}{|\det J_g(z)|} , $$

summed over *all* preimages, since a network folds the line (or plane) over itself. On the line g is taken apart into
monotone pieces (``line_map``); in the plane it is triangulated, and each candidate is polished by Newton's method
(``plane_map``). At a fold the density is infinite but integrable.

**Singular mass.** Where g loses rank (a ReLU that is off, a saturated tanh) it presses a set of positive mass onto a
point or a curve. That part of p_g has no density. It is found and reported apart: ``log_prob`` is the density of the
absolutely continuous part and integrates to 1 − ``singular_mass``. Against a law with a density the singular part is
seen perfectly: with s = ``singular_mass`` it adds s/2 · log 2 to JSD(p, p_g) and s/2 to the total variation, makes
KL(p_g‖p) infinite, and leaves KL(p‖p_g) = ∫ p log(p / p_g) over the continuous part alone. ``log_ratio_density`` is
what such formulas use: the log density, and +∞ on the singular set.

**Its own terms in z-space.** E_{p_g}[f] = E_{p_z}[f∘g] needs no preimages and has no singularities; ``pull_back`` hands
this form to an integrator, together with the places in z where f∘g has structure.

Reference: *Normalizing Flows for Probabilistic Modeling and Inference* (Papamakarios et al., 2021), section 2,
https://arxiv.org/abs/1912.02762; the area formula: *Measure Theory and Fine Properties of Functions* (Evans, Gariepy,
2015), chapter 3, https://doi.org/10.1201/b18333.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64

from divergences.adapters import as_distribution
from divergences.checks import ArrayLike, as_array, as_count, as_generator, describe_rows
from divergences.distributions import Box, Discrete, Distribution, Frame, Knots
from divergences.errors import InputError

__all__ = ["pushforward"]

_PILOT = 2048
_CHUNK = 1 << 16
_EPS = float(np.finfo(np.float64).eps)


def pushforward(g: Any, base: Any) -> Distribution:
    r"""The law of x = g(z), z ~ base, with its exact density; k = d ≤ 2.

    Args:
        g: the map, z (n, k) -> x (n, k), row by row: a formula, an inverse CDF, a trained network. It must be
            deterministic, piecewise smooth, and finite wherever the base has mass.
        base: the law of z, anything ``as_distribution`` takes, of dimension 1 or 2.

    Returns:
        A ``Distribution`` with, besides ``log_prob``, ``sample`` and ``support``: ``singular_mass`` (float, 0 for a map
        that loses no rank) and ``singular`` (the same number as an Estimate), ``singular_points`` (a ``Discrete`` of
        the points that carry ``point_mass`` of it, each with its share; None if there is none: in the plane it may lie
        on curves), ``mass`` (an Estimate of ∫ p_g, checked against 1 − singular_mass), ``description``, and on the line
        ``cdf``, ``survival`` and ``quantile``, so that ``wasserstein`` takes it. Relative accuracy of the density away
        from folds and kinks, for g computed in float64: about 1e-11 on the line and 1e-9 in the plane; for a network
        that computes in float32 about 1e-3. Beside a fold at x₀ ≠ 0 a mass of the order of 1e-8 lies closer to x₀ than
        float64 can tell: ``log_prob`` is capped there, but an integral over z (``pull_back``) is told z itself, and
        exact to 1e-10. The density ends where z runs out of floating-point numbers: Φ⁻¹ of a uniform z never exceeds
        8.3 (on the line ``unseen`` is the mass that this concerns). What all this may do to the mean of a log density
        is ``doubt``. Of a ``Discrete`` base the pushforward is ``Discrete``.

    Raises:
        InputError: g is not callable, not deterministic, gives NaN or the wrong shape, changes the dimension, or
            cannot be resolved by a mesh; a base of more than two dimensions.
        UnderResolved: the density found does not integrate to 1 − singular_mass.

    >>> from divergences import Uniform
    >>> square = pushforward(lambda z: z**2, Uniform(0.0, 1.0))  # the density is 1/(2√x)
    >>> np.exp(square.log_prob([[0.25], [2.0]])).round(12)
    array([1., 0.])
    """
    law = as_distribution(base, "base")
    if not callable(g):
        raise InputError(f"g must be a function from z (n, k) to x (n, k); it is {type(g).__name__}.")
    if isinstance(law, Discrete):
        return Discrete(CheckedMap(g, law.dim)(law.points), law.weights)
    if law.dim > 2:
        raise InputError(
            f"pushforward gives densities in one and two dimensions; base has {law.dim}. Sample g(z) and compare "
            "samples, or fit a density to them (evaluation.KDE)."
        )
    checked = CheckedMap(g, law.dim)
    pilot = _examine(checked, law)
    # The two kinds of law are large, and need what is above: they are imported when the first one is made.
    if law.dim == 1:
        from divergences.line_push import LinePushforward

        return LinePushforward(checked, law, pilot)
    from divergences.plane_push import PlanePushforward

    return PlanePushforward(checked, law, pilot)


@dataclass
class CheckedMap:
    """The user's g, called in blocks, with the shape of what it returns checked every time."""

    g: Callable[[Any], Any]
    dim: int
    single: bool = field(default=False, init=False)  # whether it answers in float32

    def __call__(self, z: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "n k"]:
        if len(z) > _CHUNK:
            return np.concatenate([self(z[start : start + _CHUNK]) for start in range(0, len(z), _CHUNK)])
        try:
            # Overflow far out in the tails is expected; whether it matters is decided by the mass there.
            with np.errstate(all="ignore"):
                raw = self.g(z.copy())
        except Exception as error:
            raise InputError(
                f"g failed on an array z of shape {z.shape}: {type(error).__name__}: {error}. It must take float64 "
                "numpy arrays; wrap a torch network as lambda z: net(torch.as_tensor(z, dtype=...))."
            ) from error
        self.single = self.single or "32" in str(getattr(raw, "dtype", ""))
        values = as_array(raw, "what g returns")
        if values.shape != z.shape:
            raise InputError(
                f"g must map z of shape {z.shape} to the same shape (k = d); it gave {values.shape}. A density of g(z) "
                "exists only if the dimension stays the same."
            )
        return values


@dataclass(frozen=True)
class Pilot:
    """A first look at g: typical length scales of z and x, and the relative rounding of g."""

    z: Float64[np.ndarray, "n k"]
    x: Float64[np.ndarray, "n k"]
    unit_z: float
    unit_x: float
    noise: float


def _examine(g: CheckedMap, base: Distribution) -> Pilot:
    """Sample the base and refuse maps that cannot have a density."""
    z = base.sample(_PILOT, np.random.default_rng(0))
    x = g(z)
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        what = "NaN" if np.isnan(x).any() else "infinite values"
        raise InputError(
            f"g gives {what} in {describe_rows(~finite)} of a sample of the base (first at z = "
            f"{z[~finite][0].tolist()}). It must be finite wherever the base has mass."
        )
    if not np.array_equal(x, g(z)):
        raise InputError(
            "g is not deterministic: two calls with the same z differ. Put a network into evaluation mode, and move "
            "all randomness into z."
        )
    unit_z, unit_x = _spread(z), _spread(x)
    # Fourth differences see nothing of a smooth function over so small a step: what they show is rounding.
    step = 1e-5 * unit_z * np.eye(base.dim)[0]
    fourth = g(z + 2 * step) - 4 * g(z + step) + 6 * x - 4 * g(z - step) + g(z - 2 * step)
    size = np.maximum(np.abs(x), 0.01 * unit_x)
    with np.errstate(invalid="ignore"):
        rounding = np.abs(fourth) / (8 * size)
    noise = float(np.median(rounding[np.isfinite(rounding)])) if np.isfinite(rounding).any() else 0.0
    noise = max(noise, _EPS, float(np.finfo(np.float32).eps) if g.single else 0.0)
    if noise > 1e-3:
        raise InputError(f"g is too noisy for a density: nearby z differ by {noise:.1g} of its own size.")
    return Pilot(z, x, unit_z, unit_x, noise)


def _spread(x: np.ndarray) -> float:
    """Length over which a sample varies: the interquartile range, where that is 0 the whole range."""
    low, high = np.quantile(x, [0.25, 0.75], axis=0)
    for size in (float((high - low).max()), float(np.ptp(x, axis=0).max()), float(np.abs(x).max())):
        if size > 0:
            return size
    return 1.0


class Pulled:
    """z ↦ f(g(z)), carrying where it has structure as if that were a law."""

    def __init__(self, function: Callable[[np.ndarray], np.ndarray], g: CheckedMap, hints: tuple[Any, ...]) -> None:
        self._function = function
        self._g = g
        self.laws = hints
        self.steep = bool(getattr(function, "steep", False))

    def __call__(self, z: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, " n"]:
        return self._function(self._g(z))


class Hint:
    """A law of which only the places are known: its knots, or its frame, tell an integrator over z where to look."""

    def __init__(self, support: Box) -> None:
        self.support = support
        self.dim = len(support.low)

    def log_prob(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """No mass anywhere."""
        return np.full(len(as_array(x, "x")), -np.inf)

    def sample(self, n: int, rng: np.random.Generator) -> Float64[np.ndarray, "n d"]:
        """Refused: there is nothing to draw from."""
        raise InputError("a hint of places has no samples.")


class LineHint(Hint):
    """Knots in z."""

    def __init__(self, support: Box, places: Knots) -> None:
        super().__init__(support)
        self._places = places

    def knots(self) -> Knots:
        """The places."""
        return self._places


class PlaneHint(Hint):
    """A frame in z."""

    def __init__(self, support: Box, frame: Frame) -> None:
        super().__init__(support)
        self._frame = frame

    def frame(self) -> Frame:
        """The place and its scale."""
        return self._frame


def sample_map(g: CheckedMap, base: Distribution, n: int, rng: np.random.Generator) -> Float64[np.ndarray, "n k"]:
    """g(base.sample(n, rng))."""
    z = base.sample(as_count(n, "n", minimum=0), as_generator(rng))
    return g(z) if len(z) else z


def finite_weights(points: ArrayLike, masses: np.ndarray) -> Discrete | None:
    """The singular points with their shares of the singular mass, or None."""
    total = float(np.sum(masses))
    return Discrete(points, np.asarray(masses) / total) if total > 0 else None
