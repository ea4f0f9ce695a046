r"""Sums of expectations Σ_i w_i · E_{p_i}[f_i], by two routes that share no code.

Every density divergence here is such a sum: KL is one, the value of the GAN game is two. ``Quadrature`` and
``MonteCarlo`` carry their own parameters and are called with the terms; whoever asks for a divergence picks one:
``kl(p, q, expect=MonteCarlo(rng, n=10**6))``.

**Quadrature** (one and two dimensions). General-purpose adaptive integrators only refine where they have seen
something, and so return a converged, wrong number when a narrow mode hides between their first nodes. Here the first
cells are placed by the laws themselves (``knots`` and ``frame``), log-densities are used throughout, and each
cell is compared with the sum of its 2^d children until the differences meet the tolerance. Along with each f_i the
mass ∫p_i is integrated on the same cells: if it is not 1, ``UnderResolved`` is raised. The error stated is the sum of
the last differences plus a bound on rounding: an *estimate*, since it is inferred from two rules, but one that held
with room to spare on every closed form it was tried on.

**MonteCarlo** (any dimension). Draws each mixture part in proportion to its weight (stratification: no part is
missed, and the variance can only fall), and states a normal 95 % interval.

A term whose law is ``Discrete`` is summed exactly by both.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtri

from divergences.checks import as_count, as_generator, as_number
from divergences.distributions import Discrete, Distribution, knots_of, parts_of
from divergences.errors import InputError, UnderResolved
from divergences.estimate import Estimate

__all__ = ["Expect", "MonteCarlo", "Quadrature"]

Function: TypeAlias = Callable[[Float64[np.ndarray, "n d"]], Float64[np.ndarray, " n"]]
Term: TypeAlias = tuple[float, Function, Distribution]

_EPS = float(np.finfo(np.float64).eps)
_ORDER = {1: 16, 2: 8}
_MAX_LEVELS = 45
_MASS_TOLERANCE = 1e-7
# A mass off by less is rounding.
_LOST = 1e-12
# Below this a density times anything is lost in underflow; what could survive is the business of the tail check.
_NO_MASS = 1e-280
# What a heavy tail contributes between and beyond these tail probabilities decides whether an integral is infinite.
_TAIL_LEVELS = (1e-20, 1e-60, 1e-140)


@runtime_checkable
class Expect(Protocol):
    """What ``Quadrature`` and ``MonteCarlo`` are: a sum of expectations in, an Estimate out."""

    def __call__(self, *terms: Term) -> Estimate:
        """Estimate Σ weight · E_p[f]."""


@dataclass(frozen=True)
class Quadrature:
    """Adaptive Gauss-Legendre quadrature in one and two dimensions, placed by the laws themselves.

    Args:
        tol: error aimed at, times max(1, |value|).
        max_nodes: most function evaluations per term; what is not resolved by then is stated in the error.

    >>> from divergences import Gaussian, kl
    >>> kl(Gaussian(0.0, 1.0), Gaussian(2.0, 1.0), expect=Quadrature(tol=1e-10)).agrees(2.0)
    True
    """

    tol: float = 1e-10
    max_nodes: int = 20_000_000

    def __post_init__(self) -> None:
        as_number(self.tol, "tol", above=0.0)
        as_count(self.max_nodes, "max_nodes")

    def __call__(self, *terms: Term) -> Estimate:
        """Estimate Σ weight · E_p[f]; f may carry ``laws``, whose knots then help to place the cells.

        Raises:
            UnderResolved: ∫p differs from 1 on the cells used, so no integral on them can be trusted.
            InputError: a law of more than two dimensions.
        """
        values, errors, nodes = [], [], 0
        kinds = set()
        for weight, function, law in _checked(terms):
            if isinstance(law, Discrete):
                value, error, count = _exact_sum(function, law)
                kinds.add("exact sum (bound)")
            elif law.dim > 2:
                raise InputError(
                    f"Quadrature works in one and two dimensions; this law has {law.dim}. Use expect=MonteCarlo(rng)."
                )
            else:
                value, error, count = self._integrate(function, law)
                kinds.add("adaptive quadrature (estimate)")
            values.append(weight * value)
            errors.append(abs(weight) * error)
            nodes += count
        return _combine(values, sum(errors), level=None, method=" + ".join(sorted(kinds)), n=nodes)

    def _integrate(self, function: Function, law: Distribution) -> tuple[float, float, int]:
        """E_law[function] with its error and the number of nodes."""
        if law.dim == 1:
            cells = line_cells(law, getattr(function, "laws", ()))
            results = [(1.0, adapt(_Weighted(function, law, None), *cells, self.tol, self.max_nodes))]
        else:
            weights, leaves = parts_of(law)
            results = []
            for weight, leaf in zip(weights, leaves, strict=True):
                integrand = _Weighted(function, leaf, _frame_of(leaf))
                low, high = _plane_cells(leaf, integrand.cuts, (law, *getattr(function, "laws", ())))
                budget = self.max_nodes // len(leaves)
                results.append((float(weight), adapt(integrand, low, high, self.tol, budget)))
        value = _total([weight * result.value for weight, result in results])
        error = sum(weight * result.error for weight, result in results)
        nodes = sum(result.nodes for _, result in results)
        mass = sum(weight * result.mass for weight, result in results)
        if abs(mass - 1) > _MASS_TOLERANCE + sum(weight * result.mass_error for weight, result in results):
            raise UnderResolved(
                f"the density of {law!r} integrates to {mass:.6g}, not 1, on the {nodes} nodes used: either its "
                "log_prob is not normalised, or a narrow mode was missed. Give the law knots(), or use MonteCarlo.",
                Estimate(value, max(error, abs(value)), method="unresolved quadrature", n=nodes),
            )
        if np.isfinite(value):
            tail = _tail(function, law)
            if np.isinf(tail):
                return tail, 0.0, nodes
            if abs(tail) > max(self.tol, 1e-9) * max(1.0, abs(value)):
                raise UnderResolved(
                    f"the integrand has not died out where the density of {law!r} underflows: {abs(tail):.1e} of "
                    "it lies beyond. The integral is infinite or nearly so; use a closed form if there is one.",
                    Estimate(value, max(error, abs(value)), method="unresolved quadrature", n=nodes),
                )
            error += abs(tail)
        return value, error, nodes


@dataclass(frozen=True)
class MonteCarlo:
    """Stratified Monte Carlo in any dimension, with a normal confidence interval.

    Args:
        rng: the random generator; its state advances.
        n: samples per term.
        level: confidence level of the interval.

    >>> from divergences import Gaussian, kl
    >>> estimate = kl(Gaussian(0.0, 1.0), Gaussian(2.0, 1.0), expect=MonteCarlo(np.random.default_rng(1), n=10_000))
    >>> estimate.agrees(2.0), estimate.level
    (True, 0.95)
    """

    rng: np.random.Generator
    n: int = 1_000_000
    level: float = 0.95

    def __post_init__(self) -> None:
        as_generator(self.rng)
        as_count(self.n, "n", minimum=2)
        as_number(self.level, "level", above=0.0, below=1.0)

    def __call__(self, *terms: Term) -> Estimate:
        """Estimate Σ weight · E_p[f].

        The interval is asymptotic: it is right where f has a variance under p and n is large. A sample on which f is
        infinite makes the answer infinite.
        """
        values, variance, rounding, count = [], 0.0, 0.0, 0
        sampled = False
        for weight, function, law in _checked(terms):
            if isinstance(law, Discrete):
                value, error, n = _exact_sum(function, law)
                rounding += abs(weight) * error
            else:
                sampled = True
                value, square, n = self._average(function, law)
                variance += weight**2 * square
            values.append(weight * value)
            count += n
        half_width = float(ndtri((1 + self.level) / 2)) * float(np.sqrt(variance)) + rounding
        level = self.level if sampled else None
        return _combine(
            values, half_width, level=level, method="stratified Monte Carlo" if sampled else "exact", n=count
        )

    def _average(self, function: Function, law: Distribution) -> tuple[float, float, int]:
        """Mean of function over samples of law, and the variance of that mean."""
        weights, leaves = parts_of(law)
        value, variance, total = 0.0, 0.0, 0
        for weight, leaf in zip(weights, leaves, strict=True):
            n = max(2, int(np.ceil(self.n * weight)))
            sums = np.zeros(2)
            shift = None
            for start in range(0, n, 1 << 18):
                draws = _call(function, leaf.sample(min(1 << 18, n - start), self.rng))
                # Variance around a pilot mean: raw sums of squares would cancel.
                shift = float(draws.mean()) if shift is None else shift
                if not np.isfinite(draws).all():
                    return float(draws[~np.isfinite(draws)][0]), 0.0, n
                sums += [(draws - shift).sum(), ((draws - shift) ** 2).sum()]
            mean = sums[0] / n
            value += weight * (shift + mean if shift is not None else mean)
            variance += weight**2 * max(sums[1] / n - mean**2, 0.0) / (n - 1)
            total += n
        return float(value), float(variance), total


@dataclass(frozen=True)
class Integral:
    """An integral with its error, the mass found on the same cells, and how many nodes it took."""

    value: float
    error: float
    mass: float
    mass_error: float
    nodes: int


@runtime_checkable
class Integrand(Protocol):
    """What ``adapt`` integrates over cells: nodes (m, d) in, (values, densities, places) out."""

    dim: int
    matrix: np.ndarray
    largest: float
    has_mass: bool

    def __call__(self, z: Float64[np.ndarray, "m d"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values (m,) to integrate, densities (m,) that should have mass 1, places (m, d) in the space itself."""


class _Weighted:
    """Nodes of cells in, rows [f·p, p] out; in the plane, in the coordinates of the law's own frame."""

    def __init__(
        self,
        function: Function,
        law: Distribution,
        frame: tuple[np.ndarray, np.ndarray, np.ndarray] | None,
    ) -> None:
        self.function = function
        self.law = law
        self.dim = law.dim
        line: tuple[np.ndarray, np.ndarray, np.ndarray] = (np.zeros(1), np.eye(1), np.empty(0))
        self.center, self.matrix, self.cuts = frame if frame is not None else line
        self.largest = 0.0
        self.has_mass = True
        self._log_volume = float(np.linalg.slogdet(self.matrix)[1])

    def __call__(self, z: Float64[np.ndarray, "m d"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x = self.center + z @ self.matrix.T if self.dim > 1 else z
        density = np.exp(self.law.log_prob(x) + self._log_volume)
        values = _call(self.function, x)
        with np.errstate(invalid="ignore"):
            # Where there is no mass, f does not count, whatever it is.
            self.largest = max(self.largest, float(np.abs(values[density > _NO_MASS]).max(initial=0.0)))
            return np.where(density > _NO_MASS, density * values, 0.0), density, x


def adapt(
    integrand: Integrand,
    low: Float64[np.ndarray, "c d"],
    high: Float64[np.ndarray, "c d"],
    tol: float,
    max_nodes: int,
) -> Integral:
    """Compare each cell with its children until the differences, smallest first, add up to the tolerance."""
    current, _, noise = _integrate_cells(integrand, low, high)
    nodes = len(low) * _ORDER[integrand.dim] ** integrand.dim
    done, error, rounding = np.zeros(2), np.zeros(2), 0.0
    level = 0
    while True:
        child_low, child_high = _split(low, high)
        children, scale, child_noise = _integrate_cells(integrand, child_low, child_high)
        nodes += len(child_low) * _ORDER[integrand.dim] ** integrand.dim
        family = 2**integrand.dim
        sums = children.reshape(-1, family, 2).sum(axis=1)
        infinite = ~np.isfinite(sums[:, 0])
        if infinite.any():
            return Integral(float(sums[infinite, 0][0]), 0.0, 1.0, 0.0, nodes)
        difference = np.abs(sums - current)
        noise = child_noise.reshape(-1, family).sum(axis=1)
        # Half of what is left of the tolerance may be spent on each level; noise cannot be refined away.
        goal = tol * max(1.0, abs(done[0] + sums[:, 0].sum()))
        worst = np.maximum(difference[:, 0], goal * difference[:, 1] / _MASS_TOLERANCE)
        order = np.argsort(worst)
        spent = np.cumsum(worst[order])
        accept = np.zeros(len(low), dtype=bool)
        accept[order[spent <= max(goal - error[0], 0.0) / 2]] = True
        accept |= worst <= noise
        level += 1
        if level >= _MAX_LEVELS or nodes * 2 > max_nodes:
            accept[:] = True
        done += sums[accept].sum(axis=0)
        error += difference[accept].sum(axis=0)
        rounding += float(noise[accept].sum()) + 4 * _EPS * float(scale.reshape(-1, family).sum(axis=1)[accept].sum())
        if accept.all():
            # Mass that no cell has seen (an edge where the density is infinite, a tail) may carry the largest f met.
            lost = abs(1.0 - float(done[1])) if integrand.has_mass else 0.0
            unseen = lost * integrand.largest if lost > _LOST else 0.0
            # Log-densities are known to 1e-14 or so; where p ≈ q this squared is what is left of zero.
            error[0] += rounding + unseen + 1e-28
            return Integral(float(done[0]), float(error[0]), float(done[1]), float(error[1]), nodes)
        keep = np.repeat(~accept, family)
        low, high, current = child_low[keep], child_high[keep], children[keep]


def _integrate_cells(
    integrand: Integrand, low: Float64[np.ndarray, "c d"], high: Float64[np.ndarray, "c d"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Integrals (c, 2) of [f·p, p] over the cells, Σ|f·p| (c,), and what rounding of x can do to them (c,)."""
    unit, weights = _rule(_ORDER[integrand.dim], integrand.dim)
    integrals, scales, noises = np.empty((len(low), 2)), np.empty(len(low)), np.empty(len(low))
    block = max(1, 200_000 // len(unit))
    for start in range(0, len(low), block):
        cut = slice(start, start + block)
        width = high[cut] - low[cut]
        z = low[cut, None, :] + width[:, None, :] * unit
        count = len(width)
        values, density, x = integrand(z.reshape(-1, integrand.dim))
        volume = width.prod(axis=1)
        values, density = values.reshape(count, -1), density.reshape(count, -1)
        with np.errstate(invalid="ignore"):
            integrals[cut, 0] = volume * (values @ weights)
            integrals[cut, 1] = volume * (density @ weights)
            scales[cut] = volume * (np.abs(values) @ weights)
            # A node is known to eps·|x|: over a cell of width h this moves the integral by at most
            # eps·|x|/h times the variation of the integrand, times the volume.
            reach = np.abs(x).reshape(count, -1, integrand.dim).max(axis=1)
            extent = np.abs(width @ np.abs(integrand.matrix).T)
            blur = _EPS * (reach / np.maximum(extent, np.finfo(np.float64).tiny)).max(axis=1)
            noises[cut] = blur * volume * (values.max(axis=1) - values.min(axis=1))
    return integrals, scales, np.nan_to_num(noises, nan=0.0, posinf=0.0)


@cache
def _rule(order: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Tensor Gauss-Legendre rule on the unit cube: nodes (m, d), weights (m,)."""
    node, weight = np.polynomial.legendre.leggauss(order)
    node, weight = (node + 1) / 2, weight / 2
    if dim == 1:
        return node[:, None], weight
    grid = np.stack(np.meshgrid(node, node, indexing="ij"), axis=-1).reshape(-1, 2)
    return grid, np.outer(weight, weight).ravel()


def _split(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 2^d halves of each cell, siblings side by side."""
    dim = low.shape[1]
    middle = low + (high - low) / 2
    corners = np.stack(np.meshgrid(*[[0, 1]] * dim, indexing="ij"), axis=-1).reshape(-1, dim).astype(bool)
    lows = np.where(corners[None], middle[:, None], low[:, None])
    highs = np.where(corners[None], high[:, None], middle[:, None])
    return lows.reshape(-1, dim), highs.reshape(-1, dim)


def line_cells(law: Distribution, others: tuple[Distribution, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Panels between the knots of all laws involved, within the reach of the one that carries the mass."""
    own = knots_of(law)
    start, stop = float(own.position.min()), float(own.position.max())
    knots = [own] + [knots_of(other) for other in others if other is not law and not isinstance(other, Discrete)]
    position = np.concatenate([knot.position for knot in knots])
    scale = np.concatenate([knot.scale for knot in knots])
    inside = (position >= start) & (position <= stop)
    position, scale = position[inside], scale[inside]
    order = np.lexsort((scale, position))
    position, scale = position[order], scale[order]
    # Thin: a knot closer to the last one kept than a third of both their scales adds cost, not sight.
    kept = [0]
    for index in range(1, len(position)):
        last = kept[-1]
        if position[index] - position[last] > 0.3 * min(scale[index], scale[last]):
            kept.append(index)
    edges = np.unique(np.append(position[kept], stop))
    return edges[:-1, None], edges[1:, None]


def _frame_of(leaf: Distribution) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The leaf's own frame; for a stranger, its bounded support, or a pilot sample's mean and covariance."""
    if hasattr(leaf, "frame"):
        frame = leaf.frame()
        return frame.center, frame.matrix, frame.cuts
    if leaf.support.bounded:
        return leaf.support.low, np.diag(leaf.support.high - leaf.support.low), np.linspace(0, 1, 17)
    pilot = leaf.sample(4096, np.random.default_rng(0))
    spread = np.linalg.cholesky(np.cov(pilot.T) + 1e-300 * np.eye(2))
    reach = np.array([0.0, 0.5, 1, 1.5, 2, 3, 4, 5, 7, 10, 14, 20, 28])
    return pilot.mean(axis=0), spread, np.concatenate([-reach[:0:-1], reach])


def _plane_cells(
    leaf: Distribution, cuts: np.ndarray, others: tuple[Distribution, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """A tensor grid in the leaf's frame, cut as well at the edges of other laws' boxes where it is axis-parallel."""
    center, matrix, _ = _frame_of(leaf)
    axes = []
    for axis in range(2):
        extra = np.empty(0)
        if matrix[axis, 1 - axis] == 0:
            boxes = [part.support for other in others for part in parts_of(other)[1]]
            walls = np.array([wall for box in boxes for wall in (box.low[axis], box.high[axis]) if np.isfinite(wall)])
            extra = (walls - center[axis]) / matrix[axis, axis]
            extra = extra[(extra > cuts[0]) & (extra < cuts[-1])]
        axes.append(np.unique(np.concatenate([cuts, extra])))
    low = np.stack(np.meshgrid(axes[0][:-1], axes[1][:-1], indexing="ij"), axis=-1).reshape(-1, 2)
    high = np.stack(np.meshgrid(axes[0][1:], axes[1][1:], indexing="ij"), axis=-1).reshape(-1, 2)
    return _refine_near(center, matrix, low, high, [part for law in others for part in parts_of(law)[1]])


def _refine_near(
    center: np.ndarray, matrix: np.ndarray, low: np.ndarray, high: np.ndarray, parts: list[Distribution]
) -> tuple[np.ndarray, np.ndarray]:
    """Split cells until none that touches a narrow part is wide against it: a spike cannot hide between nodes."""
    frames = [part.frame() for part in parts if hasattr(part, "frame")]
    if not frames:
        return low, high
    reach = np.array([frame.cuts[-1] for frame in frames])[:, None]
    place = np.stack([frame.center for frame in frames])
    extent = reach * np.stack([np.linalg.norm(frame.matrix, axis=1) for frame in frames])
    scale = np.array([np.linalg.norm(frame.matrix, -2) for frame in frames])
    done: list[tuple[np.ndarray, np.ndarray]] = []
    while len(low):
        middle = center + (low + high) / 2 @ matrix.T
        half = (high - low) / 2 @ np.abs(matrix).T
        wide = np.zeros(len(low), dtype=bool)
        for j in range(len(frames)):
            near = (np.abs(middle - place[j]) <= half + extent[j]).all(axis=1)
            wide |= near & (half.max(axis=1) > 1.5 * scale[j])
        done.append((low[~wide], high[~wide]))
        low, high = _split(low[wide], high[wide])
    return np.concatenate([cells[0] for cells in done]), np.concatenate([cells[1] for cells in done])


def _tail(function: Function, law: Distribution) -> float:
    """What f·p still contributes far out in the tails of the law: ±inf if it does not die out there.

    Two sections far out are compared, on each side of each part: where the integral converges the further one is the
    smaller, by orders of magnitude; where it diverges it is not. Light tails are only looked at for integrands that
    grow exponentially in the log-ratio: nothing else survives exp(−x²/2).
    """
    far_out = 0.0
    for leaf in parts_of(law)[1]:
        for sections in _sections(leaf, steep=getattr(function, "steep", False)):
            near, far = (
                float(_integrate_cells(_Weighted(function, law, None), low, high)[0][:, 0].sum())
                for low, high in sections
            )
            if np.isinf(far) or (abs(far) > 1e-8 and abs(far) >= 0.5 * abs(near)):
                return float(np.copysign(np.inf, far))
            far_out += abs(far)
    return far_out


def _sections(leaf: Distribution, *, steep: bool) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """Cells of two successive sections of each tail of a simple law."""
    if hasattr(leaf, "tails") and leaf.dim == 1:
        edges = [
            [np.geomspace(abs(a), abs(b), 257) * np.sign(b) for a, b in itertools.pairwise(places)]
            for places in leaf.tails(_TAIL_LEVELS)
        ]
        return [[_cells(section[:, None]) for section in sections] for sections in edges]
    if steep and leaf.dim == 1 and hasattr(leaf, "frame") and np.isinf(leaf.support.low).all():
        frame = leaf.frame()
        reach = [np.linspace(20, 27, 9)[:, None], np.linspace(27, 34, 9)[:, None]]
        return [[_cells(frame.center + side * frame.matrix[0, 0] * part) for part in reach] for side in (-1.0, 1.0)]
    return []


def _cells(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Panels (low, high) between successive edges, in either direction."""
    return np.minimum(edges[:-1], edges[1:]), np.maximum(edges[:-1], edges[1:])


def _exact_sum(function: Function, law: Discrete) -> tuple[float, float, int]:
    """Σ mass · f(atom), and a bound on its rounding."""
    terms = law.masses * _call(function, law.atoms)
    if not np.isfinite(terms).all():
        return _total(list(terms)), 0.0, len(terms)
    return float(terms.sum()), 8 * _EPS * (float(np.abs(terms).sum()) + 1e-2), len(terms)


def _checked(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    if not terms:
        raise InputError("an expectation needs at least one term (weight, f, p).")
    dims = {law.dim for _, _, law in terms}
    if len(dims) > 1:
        raise InputError(f"all laws must live in the same space; they have dimensions {sorted(dims)}.")
    return terms


def _call(function: Function, x: np.ndarray) -> np.ndarray:
    """f(x), checked: one real number per point, no NaN."""
    values = np.asarray(function(x), dtype=np.float64)
    if values.shape != (len(x),):
        raise InputError(f"a function under an expectation must map (n, d) to (n,); it gave shape {values.shape}.")
    if np.isnan(values).any():
        raise InputError(f"a function under an expectation gave NaN, first at x = {x[np.isnan(values)][0].tolist()}.")
    return values


def _total(values: list[float]) -> float:
    """Sum; opposite infinities have none."""
    if np.inf in values and -np.inf in values:
        raise InputError("the expectation is ∞ − ∞: it does not exist.")
    return float(sum(values))


def _combine(values: list[float], error: float, *, level: float | None, method: str, n: int) -> Estimate:
    value = _total(values)
    if np.isinf(value):
        return Estimate(value, 0.0, method=method, n=n, note="the integrand is infinite on a set of positive mass")
    return Estimate(value, error, level=level, method=method, n=n)
