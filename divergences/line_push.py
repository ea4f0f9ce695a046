r"""The law of g(z) on the line: density, CDF, quantiles and atoms from the monotone pieces of g.

With the pieces g_i of ``line_map``, of inverses h_i, and F the CDF of the base,

$$ p_g(x) = \sum_i p_z(h_i(x))\,|h_i'(x)|, \qquad
   P(g(z) \le x) = \sum_{i\ \mathrm{rising}} P(z \in \mathrm{piece}_i,\, z \le h_i(x))
                 + \sum_{i\ \mathrm{falling}} P(z \in \mathrm{piece}_i,\, z \ge h_i(x)) + \sum_{a_j \le x} m_j , $$

the last sum over the atoms: plateaus of g. Made by ``divergences.pushforward``.

Reference: *Probability and Measure* (Billingsley, 1995), section 20.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from divergences.cells import adapt
from divergences.checks import ArrayLike
from divergences.distributions import (
    Box,
    Discrete,
    Distribution,
    Knots,
    as_line,
    as_probabilities,
    as_query,
    knots_of,
)
from divergences.errors import InputError, UnderResolved
from divergences.estimate import Estimate
from divergences.line_map import LineMap, Preimages
from divergences.placement import line_cells
from divergences.pushforward import CheckedMap, LineHint, Pilot, Pulled, finite_weights, sample_map

__all__ = ["LinePushforward"]

_EPS = float(np.finfo(np.float64).eps)
_FEWEST_CELLS = 32
# Mass below which a plateau, or a place where g is not finite, is not worth a word.
_NEGLIGIBLE = 1e-12
# Mass of a monotone piece below which it is felt in logarithms only, and the log density that is still felt.
_WEIGHTLESS = 1e-20
_FAINT = -40.0
# Multiples of the rounding of g within which x does not tell the z beside a fold apart.
_BLURRED = 2e6
_POLE_DOUBT = 4.0
_CHECK_NODES = 300_000
_MANY_PIECES = 12
_BISECTIONS = 100
_GRADING = 4.0 ** -np.arange(41)
_GRADED = 18  # of these, towards the places where g stands still


class LinePushforward:
    """x = g(z) on the line; see ``pushforward``."""

    dim = 1

    def __init__(self, g: CheckedMap, base: Distribution, pilot: Pilot) -> None:
        self.g = g
        self.base = base
        self._noise = pilot.noise
        self._unit = pilot.unit_x
        low, high = line_cells(base, ())
        edges = np.append(low[:, 0], high[-1, 0])
        parts = max(4, -(-_FEWEST_CELLS // len(low)))
        steps = edges[:-1, None] + np.diff(edges)[:, None] * np.arange(parts) / parts
        edges = np.unique(np.append(steps.ravel(), edges[-1]))
        ends = np.concatenate([base.support.low, base.support.high])
        unbounded = (bool(np.isinf(ends[0])), bool(np.isinf(ends[1])))
        self._map = LineMap(lambda z: g(z[:, None])[:, 0], edges, pilot.unit_x, pilot.noise, unbounded)
        self._between = _masses(base, edges)
        self._refuse_infinite()
        self.atoms, self.atom_masses = self._find_atoms()
        self.singular_mass = float(self.atom_masses.sum())
        # Beside a kink g leaves its plateau within its rounding first: where it ends is known to some 1e-12.
        known = 1e-11 if len(self.atoms) else 0.0
        self.singular = Estimate(self.singular_mass, known, method="mass above the plateaus of g (estimate)")
        self.singular_points: Discrete | None = finite_weights(self.atoms, self.atom_masses)
        self.point_mass = self.singular_mass
        self._piece_masses = [float(self._between(piece.edges[:1], piece.edges[-1:])[0]) for piece in self._map.pieces]
        heavy = np.array(self._piece_masses) > _WEIGHTLESS
        self._heavy, self._light = np.flatnonzero(heavy), np.flatnonzero(~heavy)
        self.mass = self._check_mass(pilot.z[:, 0])

    def __repr__(self) -> str:
        return f"pushforward({self.base!r}; {self.description})"

    @property
    def description(self) -> str:
        """What was found: monotone pieces, folds, kinks, singular mass."""
        text = f"{len(self._map.pieces)} monotone pieces"
        if self.singular_mass:
            places = ", ".join(f"{m:.6g} at x = {x:.6g}" for x, m in zip(self.atoms, self.atom_masses, strict=True))
            text += f", singular mass {self.singular_mass:.6g} ({places})"
        return text

    @property
    def unseen(self) -> float:
        """Mass of the z at which g could not be resolved: where float64 runs out, as at both ends of an inverse CDF."""
        return max(0.0, 1.0 - self.singular_mass - float(np.sum(self._piece_masses)))

    @cached_property
    def doubt(self) -> float:
        """Mean error of log p_g to be reckoned with besides that of an integral: rounding of g, poles, unseen mass."""
        poles = _POLE_DOUBT * self._noise ** (2 / 3) if len(self._critical.place) else 0.0
        # Log densities of laws at places that g does not reach any more are rarely below −100.
        return 4096 * self._noise + poles + 100 * self.unseen

    @cached_property
    def support(self) -> Box:
        """The smallest interval found to hold all mass; infinite where g keeps growing with an unbounded z."""
        image = self._map.image
        low, high = float(image[0]), float(image[-1])
        places = [*(piece.edges[[0, -1]] for piece in self._map.pieces), self._map.plateaus[:, :2].ravel()]
        furthest = (np.concatenate(places).min(), np.concatenate(places).max())
        for piece in self._map.pieces:
            for end, goes_on in ((0, self.base.support.low[0]), (-1, self.base.support.high[0])):
                outermost = piece.edges[end] == furthest[end]
                width = abs(piece.values[end] - piece.values[1 if end == 0 else -2])
                # Out there z is astronomically far: a map that still moves has no limit.
                if np.isinf(goes_on) and outermost and width > 1e-10 * self._unit:
                    if piece.values[end] == low:
                        low = -np.inf
                    if piece.values[end] == high:
                        high = np.inf
        # A limit at 0 is met up to rounding only.
        low, high = (0.0 if abs(end) < 16 * self._noise * self._unit else end for end in (low, high))
        return Box(np.array([low]), np.array([high]))

    def log_prob(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Log density at x (n, 1) of the absolutely continuous part: it integrates to 1 − singular_mass."""
        points = as_query(x, 1)[:, 0]
        found = self._map.preimages(points, self._heavy)
        if len(self._heavy) < len(self._map.pieces):
            # Folds far out in the tails count only where nothing else does.
            bare = np.ones(len(points), dtype=bool)
            bare[found.query[self.base.log_prob(found.z[:, None]) - np.log(found.slope) > _FAINT]] = False
            places = np.flatnonzero(bare)
            rest = self._map.preimages(points[places], self._light)
            rest = rest._replace(query=places[rest.query])
            found = Preimages(*(np.concatenate(pair) for pair in zip(found, rest, strict=True)))
        slope = self._beside_folds(points, found)
        terms = self.base.log_prob(found.z[:, None]) - np.log(slope)
        top = np.full(len(points), -np.inf)
        np.maximum.at(top, found.query, terms)
        shift = np.where(np.isfinite(top), top, 0.0)
        total = np.bincount(found.query, np.exp(terms - shift[found.query]), len(points))
        with np.errstate(divide="ignore"):
            return np.log(total) + shift

    def _beside_folds(self, points: np.ndarray, found: Preimages) -> Float64[np.ndarray, " r"]:
        """Slopes at the preimages; for points that come from known z, exact however close to a pole they lie.

        Within 1e-16 of a fold at x₀ = g(z₀) lies the mass of all z within 1e-8 of z₀, whose images are one number. If
        z itself is known, its slope is too, and so is that of the other preimages beside folds of the same height,
        since g ≈ x₀ + a(z − z₀)² gives slopes 2√(a|x − x₀|).
        """
        origin = _ORIGIN.get()
        critical = self._critical
        if origin is None or origin.law is not self or not len(critical.place):
            return found.slope
        if not np.array_equal(origin.x, points):
            return found.slope
        mine = np.abs(origin.z[:, None] - critical.place).argmin(axis=1)
        close = np.abs(points - critical.height[mine]) <= critical.blur[mine]
        away = origin.z[close] - critical.place[mine[close]]
        here = np.full(len(points), np.nan)
        # Where g″ vanishes as well, so small a slope is lost in the rounding of the polynomial.
        third = critical.third[mine[close]]
        here[close] = np.where(third > 0, third * away**2 / 2, self._map.steepness(origin.z[close])[0])
        slope, row = found.slope.copy(), np.flatnonzero(close[found.query])
        query = found.query[row]
        mine, other = mine[query], np.abs(found.z[row, None] - critical.place).argmin(axis=1)
        level = np.abs(points[query] - critical.height[other]) <= critical.blur[other]
        both = critical.turns[other] & critical.turns[mine] & (critical.bend[mine] > 0)
        ratio = np.full(len(mine), np.nan)
        ratio[both] = np.sqrt(critical.bend[other[both]] / critical.bend[mine[both]])
        exact = here[query] * np.where(other == mine, 1.0, ratio)
        usable = level & np.isfinite(exact) & (exact > 0)
        slope[row[usable]] = exact[usable]
        return slope

    @cached_property
    def _critical(self) -> _Critical:
        place = self._map.slow
        height = self.g(place[:, None])[:, 0] if len(place) else np.empty(0)
        place, height = place[np.isfinite(height)], height[np.isfinite(height)]
        span = self._map.inner[1] - self._map.inner[0]
        slope, bend = self._map.steepness(place)
        ends = np.array([end for piece in self._map.pieces for end in piece.edges[[0, -1]]])
        turns = (np.abs(place[:, None] - ends) <= 1e-14 * span).any(axis=1) if len(ends) else np.zeros(0, dtype=bool)
        step = 1e-3 * span
        sides = [self._map.steepness(place + side * step)[1] / step for side in (-1, 1)]
        level = ~turns & (slope * step <= 1e-9 * self._unit)
        third = np.where(level, np.fmin(*sides), 0.0)
        blur = _BLURRED * self._noise * np.maximum(np.abs(height), 0.01 * self._unit)
        return _Critical(place, height, blur, bend, third, turns)

    def log_ratio_density(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Log density with +∞ at the atoms: what log p − log p_g means where p_g has point masses."""
        points = as_query(x, 1)[:, 0]
        return np.where(np.isneginf(self.log_mass(points)), self.log_prob(points), np.inf)

    def log_mass(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Log of the point mass at x: −∞ wherever there is none."""
        points = as_query(x, 1)[:, 0]
        result = np.full(len(points), -np.inf)
        for atom, mass in zip(self.atoms, self.atom_masses, strict=True):
            near = np.abs(points - atom) <= 16 * self._noise * max(abs(atom), 0.01 * self._unit)
            result[near] = np.log(mass)
        return result

    def sample(self, n: int, rng: np.random.Generator) -> Float64[np.ndarray, "n d"]:
        """g(base.sample(n, rng)), shape (n, 1)."""
        return sample_map(self.g, self.base, n, rng)

    def cdf(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """P(X ≤ x), atoms included."""
        return self._tail(as_line(x), upper=False)

    def survival(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """P(X > x)."""
        return self._tail(as_line(x), upper=True)

    def quantile(self, u: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Smallest x with P(X ≤ x) ≥ u: g(F⁻¹(u)) where g is monotone, bisection otherwise."""
        levels = as_probabilities(u)
        if len(self._map.pieces) == 1 and not len(self.atoms) and hasattr(self.base, "quantile"):
            piece = self._map.pieces[0]
            z = self.base.quantile(levels if piece.rising else 1 - levels)
            image = self.g(np.clip(z, *self._reach)[:, None])[:, 0]
            return np.where(np.isfinite(image), image, np.clip(image, piece.values.min(), piece.values.max()))
        return self._bisect(levels)

    def knots(self) -> Knots:
        """Images of the mesh, with panels that shrink towards the poles of the density."""
        low, high = self._map.inner
        position, scale = [], []
        for index in self._heavy:
            piece = self._map.pieces[index]
            inside = (piece.edges >= low) & (piece.edges <= high)
            values = np.sort(piece.values[inside])
            gaps = np.diff(values)
            position.append(values)
            scale.append(np.minimum(np.append(gaps, np.inf), np.insert(gaps, 0, np.inf)))
            # Ends of pieces are jumps of the density, or worse: never to be thinned away.
            scale[-1][[0, -1]] = 0.0
        for pole in self._poles:
            steps = self._unit * np.concatenate([-_GRADING, _GRADING])
            steps = steps[np.abs(steps) > _EPS * abs(pole)]
            position += [np.array([pole]), pole + steps]
            scale += [np.zeros(1), np.abs(steps)]
        position.append(self.atoms)
        scale.append(np.zeros(len(self.atoms)))
        where = np.clip(np.concatenate(position), self.support.low[0], self.support.high[0])
        return Knots(where, np.concatenate(scale))

    def parts(self) -> tuple[Float64[np.ndarray, " k"], list[Distribution]]:
        """One part: itself."""
        return np.ones(1), [self]

    def pull_back(
        self, function: Callable[[Float64[np.ndarray, "n d"]], Any]
    ) -> tuple[Callable[[Float64[np.ndarray, "n d"]], Any], Distribution]:
        """(f∘g, base): E_{p_g}[f] is an expectation over z, singular part and all."""
        others = [law for law in getattr(function, "laws", ()) if law is not self and not isinstance(law, Discrete)]
        ends = [piece.values[[0, -1]] for piece in self._map.pieces]
        own = np.concatenate([self._poles, *ends])
        places = np.concatenate([own, *(knots_of(law).position for law in others)])
        scales = np.concatenate([np.zeros(len(own)), *(knots_of(law).scale for law in others)])
        found = self._map.preimages(places)
        breaks = np.unique(np.concatenate([self._map.slow, self._map.kinks, self._map.plateaus[:, :2].ravel()]))
        # A preimage of the value at a break is that break, but for rounding (its root, beside a fold).
        span = self._map.inner[1] - self._map.inner[0]
        known = np.append(breaks, self._map.inner)
        apart = (np.abs(found.z[:, None] - known) > 1e-8 * span).all(axis=1)
        breaks = breaks[np.diff(breaks, prepend=-np.inf) > 1e-14 * span]
        # The logarithm of the density has a pole where g stands still: panels that shrink towards it.
        steps = span * np.concatenate([-_GRADING[1:_GRADED], _GRADING[1:_GRADED]])
        graded = (self._map.slow[:, None] + steps).ravel()
        graded = graded[(graded > self._map.inner[0]) & (graded < self._map.inner[1])]
        z = np.concatenate([found.z[apart], breaks, graded])
        scale = np.concatenate([(scales[found.query] / found.slope)[apart], np.zeros(len(breaks) + len(graded))])
        return _LinePulled(self, function, (LineHint(self.base.support, Knots(z, scale)),)), self.base

    @property
    def _reach(self) -> tuple[float, float]:
        return self._map.inner

    @cached_property
    def _poles(self) -> Float64[np.ndarray, " k"]:
        """Images of the points at which g stands still: folds, 0 for z² on [0, 1], 0 for z³."""
        slow = self._map.slow
        beside = np.zeros(len(slow), dtype=bool)
        for index in self._heavy:
            edges = self._map.pieces[index].edges
            beside |= (slow >= edges[0]) & (slow <= edges[-1])
        values = self.g(slow[beside, None])[:, 0]
        return np.unique(values[np.isfinite(values)])

    def _refuse_infinite(self) -> None:
        lost = self._map.dropped
        mass = float(self._between(lost[:, 0], lost[:, 1]).sum()) if len(lost) else 0.0
        if mass > 1e-9:
            raise InputError(
                f"g cannot be resolved, or is not finite, on a set of mass {mass:.1e} near z = {lost[0, 0]:.6g}. It "
                "must be finite and piecewise smooth wherever the base has mass."
            )

    def _find_atoms(self) -> tuple[Float64[np.ndarray, " a"], Float64[np.ndarray, " a"]]:
        """Places and masses of the plateaus, those at one height merged."""
        rows = self._map.plateaus
        if not len(rows):
            return np.empty(0), np.empty(0)
        rows = rows[np.argsort(rows[:, 2], kind="stable")]
        masses = self._between(rows[:, 0], rows[:, 1])
        gap = np.diff(rows[:, 2]) > 8 * self._noise * np.maximum(np.abs(rows[1:, 2]), 0.01 * self._unit)
        group = np.concatenate([[0], np.cumsum(gap)])
        total = np.bincount(group, masses)
        heaviest = np.array([rows[group == k][np.argmax(masses[group == k]), 2] for k in range(len(total))])
        return heaviest[total > _NEGLIGIBLE], total[total > _NEGLIGIBLE]

    def _check_mass(self, z: np.ndarray) -> Estimate:
        """∫ p_g dx, integrated in x, against the mass that z-space says is not singular."""
        expected = 1.0 - self.singular_mass
        if not self._map.pieces:
            return Estimate(0.0, 0.0, method="no continuous part")
        if len(self._heavy) > _MANY_PIECES:
            return self._spot_check(z, expected)
        low, high = line_cells(self, ())
        integral = adapt(_Density(self), low, high, 1e-8, _CHECK_NODES)
        # Around a pole at x₀ float64 cannot tell x closer than eps·|x₀|: the mass there is beyond any integral in x.
        places = np.union1d(self._poles, self._map.plateaus[:, 2])
        reach = 256 * self._noise * np.maximum(np.abs(places), 0.01 * self._unit)
        apart = np.diff(places, prepend=-np.inf) > 2 * reach
        places, reach = places[apart], reach[apart]
        blurred = float((self.cdf(places + reach) - self.cdf(places - reach)).sum()) - self.singular_mass
        error = integral.error + max(blurred, 0.0) + 4096 * self._noise
        estimate = Estimate(integral.value, error, method="adaptive quadrature (estimate)", n=integral.nodes)
        if abs(estimate.value - expected) > 1e-7 + error:
            raise UnderResolved(
                f"the density of g(z) integrates to {estimate.value:.8g}, not {expected:.8g}: g has structure that the "
                "mesh did not see. Give the base knots() where g changes, or split it.",
                estimate,
            )
        return estimate

    def _spot_check(self, z: np.ndarray, expected: float) -> Estimate:
        """∫ p_g dx = P(z is found among the preimages of g(z)), on a sample: for maps of very many folds."""
        rows = self._map.plateaus
        flat = ((z[:, None] >= rows[:, 0]) & (z[:, None] <= rows[:, 1])).any(axis=1)
        found = self._map.preimages(self.g(z[:, None])[:, 0], self._heavy)
        near = np.abs(found.z - z[found.query]) < 1e-4 * float(np.ptp(z))
        share = float(np.mean(flat | (np.bincount(found.query, near, len(z)) > 0)))
        estimate = Estimate(expected * share, 3 * expected / len(z), method="preimages of a sample", n=len(z))
        if share < 1 - 3 / len(z):
            raise UnderResolved(f"for {1 - share:.2%} of a sample of z no preimage of g(z) is found.", estimate)
        return estimate

    def _tail(self, points: np.ndarray, *, upper: bool) -> np.ndarray:
        result = np.zeros(points.shape)
        for atom, mass in zip(self.atoms, self.atom_masses, strict=True):
            result[(points < atom) if upper else (points >= atom)] += mass
        for piece, whole in zip(self._map.pieces, self._piece_masses, strict=True):
            bottom, top = min(piece.values[[0, -1]]), max(piece.values[[0, -1]])
            result[points < bottom if upper else points > top] += whole
            inside = np.flatnonzero((points >= bottom) & (points <= top))
            z = self._map.invert(piece, points[inside]).z
            if piece.rising != upper:
                result[inside] += self._between(np.full(len(z), piece.edges[0]), z)
            else:
                result[inside] += self._between(z, np.full(len(z), piece.edges[-1]))
        return np.clip(result, 0.0, 1.0)

    def _bisect(self, levels: np.ndarray) -> np.ndarray:
        image = self._map.image
        # Where atoms jump over a level, they are the quantile; elsewhere it lies between two values of the mesh.
        above = self.cdf(image)
        index = np.clip(np.searchsorted(above, levels), 1, len(image) - 1)
        low, high = image[index - 1], image[index]
        for atom, mass in zip(self.atoms, self.atom_masses, strict=True):
            top = self.cdf(np.array([atom]))[0]
            low, high = (np.where((levels <= top) & (levels > top - mass), atom, end) for end in (low, high))
        upper = levels > 0.5
        for _ in range(_BISECTIONS):
            middle = low + (high - low) / 2
            if not ((low < middle) & (middle < high)).any():
                break
            below = np.where(upper, self.survival(middle) > 1 - levels, self.cdf(middle) < levels)
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return high


class _Critical(NamedTuple):
    """Where g stands still: z, g there, how far around it x is too coarse to tell z, |g″|, |g‴| where it counts."""

    place: np.ndarray
    height: np.ndarray
    blur: np.ndarray
    bend: np.ndarray
    third: np.ndarray
    turns: np.ndarray  # whether g turns there


class _Origin(NamedTuple):
    """What an integral over z is just now asking: points x of a law, and the z they are the images of."""

    law: LinePushforward
    x: np.ndarray
    z: np.ndarray


# Functions under an integral take x alone; which z it came from travels beside them.
_ORIGIN: ContextVar[_Origin | None] = ContextVar("_ORIGIN", default=None)


class _LinePulled(Pulled):
    """z ↦ f(g(z)), with z known to the law while f asks for its density."""

    def __init__(
        self, law: LinePushforward, function: Callable[[np.ndarray], np.ndarray], hints: tuple[Any, ...]
    ) -> None:
        super().__init__(function, law.g, hints)
        self._law = law

    def __call__(self, z: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, " n"]:
        x = self._g(z)
        token = _ORIGIN.set(_Origin(self._law, x[:, 0], z[:, 0]))
        try:
            return self._function(x)
        finally:
            _ORIGIN.reset(token)


class _Density:
    """The density of the continuous part, as what ``adapt`` integrates."""

    dim = 1
    matrix = np.eye(1)
    has_mass = False

    def __init__(self, law: LinePushforward) -> None:
        self._law = law
        self.largest = 0.0

    def __call__(self, z: Float64[np.ndarray, "m d"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        density = np.exp(self._law.log_prob(z))
        return density, np.zeros(len(z)), z


def _masses(base: Distribution, edges: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """(a, b) ↦ P(a < z ≤ b), from whichever tail keeps the digits."""
    cdf: Any = getattr(base, "cdf", None)
    survival: Any = getattr(base, "survival", None)
    if cdf is None or survival is None:
        return _integrated_masses(base, edges)

    def between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        below = cdf(a)
        return np.maximum(np.where(below > 0.5, survival(a) - survival(b), cdf(b) - below), 0.0)

    return between


def _integrated_masses(base: Distribution, edges: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The same for a base without CDF: Gauss-Legendre on the cells of its mesh."""
    node, weight = np.polynomial.legendre.leggauss(24)
    node, weight = (node + 1) / 2, weight / 2

    def panel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        z = a[:, None] + (b - a)[:, None] * node
        return (b - a) * (np.exp(base.log_prob(z.reshape(-1, 1))).reshape(z.shape) @ weight)

    total = np.concatenate([[0.0], np.cumsum(panel(edges[:-1], edges[1:]))])

    def below(z: np.ndarray) -> np.ndarray:
        z = np.clip(z, edges[0], edges[-1])
        cell = np.clip(np.searchsorted(edges, z, side="right") - 1, 0, len(edges) - 2)
        return total[cell] + panel(edges[cell], z)

    return lambda a, b: np.maximum(below(b) - below(a), 0.0)
