r"""Sums of expectations Σ_i w_i · E_{p_i}[f_i], by two routes that share no code.

Every density divergence here is such a sum: KL is one, the value of the GAN game is two. ``Quadrature`` and
``MonteCarlo`` carry their own parameters and are called with the terms; whoever asks for a divergence picks one:
``kl(p, q, expect=MonteCarlo(rng, n=10**6))``.

**Quadrature** (one and two dimensions). General-purpose adaptive integrators only refine where they have seen
something, and so return a converged, wrong number when a narrow mode hides between their first nodes. Here the cells
are placed by the laws themselves, and log-densities are used throughout. There are two ways:

* an f-divergence of mixtures of Gaussian and uniform laws, ½E_p[g(d)] + ½E_q[g(d)] with d = log p − log q, has a
  *proven* error: the integrand is bounded in the complex plane around each cell (``panel_bounds``, ``cell_bounds``);
* all else: each cell (``knots`` and ``frame``) is compared with the sum of its 2^d children until the differences
  meet the tolerance. Along with each f_i the mass ∫p_i is integrated on the same cells: if it is not 1,
  ``UnderResolved`` is raised. The error stated is the sum of the last differences plus a bound on rounding: an
  *estimate*, since it is inferred from two rules. It is nearly always far too large; since it was once seen too small
  by a factor of three, where several narrow modes meet, five times the differences are stated.

**MonteCarlo** (any dimension). Draws each mixture part in proportion to its weight (stratification: no part is
missed, and the variance can only fall), and states a normal 95 % interval.

A term whose law is ``Discrete`` is summed exactly by both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtri

from divergences.cell_bounds import integrate_plane_pair
from divergences.cells import MASS_TOLERANCE, adapt, integrate_cells
from divergences.checks import as_count, as_generator, as_number
from divergences.distributions import Discrete, Distribution, parts_of
from divergences.errors import InputError, UnderResolved
from divergences.estimate import Estimate
from divergences.panel_bounds import integrate_pair
from divergences.placement import frame_of, line_cells, plane_cells, tail_sections

__all__ = ["Expect", "MonteCarlo", "Quadrature"]

Function: TypeAlias = Callable[[Float64[np.ndarray, "n d"]], Float64[np.ndarray, " n"]]
Term: TypeAlias = tuple[float, Function, Distribution]

_EPS = float(np.finfo(np.float64).eps)
# Below this a density times anything is lost in underflow; what could survive is the business of the tail check.
_NO_MASS = 1e-280
# Between a cell and its children the difference is usually far above the error that is left, but not always.
_SAFETY = 5.0


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
        proven = self._proven(_checked(terms))
        if proven is not None:
            return proven
        values, errors, nodes = [], [], 0
        kinds = set()
        for weight, function, law in terms:
            # A law may know its density only so well: of a pushforward, what its mesh and its map cannot resolve.
            doubt = max(getattr(one, "doubt", 0.0) for one in (law, *getattr(function, "laws", ())))
            while hasattr(law, "pull_back"):
                # E_{g(z)}[f] = E_z[f∘g]: no preimages, no poles, and what is singular is simply met.
                function, law = law.pull_back(function)
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
            errors.append(abs(weight) * (error + doubt))
            nodes += count
        return _combine(values, sum(errors), level=None, method=" + ".join(sorted(kinds)), n=nodes)

    def _proven(self, terms: tuple[Term, ...]) -> Estimate | None:
        """½·E_p[g] + ½·E_q[g] of one g(log p − log q), with a proven error where there is one."""
        if len(terms) != 2 or terms[0][1] is not terms[1][1] or terms[0][0] != terms[1][0]:
            return None
        weight, function, _ = terms[0]
        form = getattr(function, "form", None)
        if form is None or terms[0][2] is not function.p or terms[1][2] is not function.q:  # type: ignore[attr-defined]
            return None
        prove = {1: integrate_pair, 2: integrate_plane_pair}.get(function.p.dim)  # type: ignore[attr-defined]
        if prove is None:
            return None
        found = prove(form, terms[0][2], terms[1][2], tol=self.tol, max_nodes=self.max_nodes)
        if found is None:
            return None
        value, error, nodes = found
        return Estimate(
            2 * weight * value, 2 * abs(weight) * error, method="Gauss-Legendre quadrature on panels (bound)", n=nodes
        )

    def _integrate(self, function: Function, law: Distribution) -> tuple[float, float, int]:
        """E_law[function] with its error and the number of nodes."""
        if law.dim == 1:
            cells = line_cells(law, getattr(function, "laws", ()))
            results = [(1.0, adapt(_Weighted(function, law, None), *cells, self.tol, self.max_nodes))]
        else:
            weights, leaves = parts_of(law)
            results = []
            for weight, leaf in zip(weights, leaves, strict=True):
                integrand = _Weighted(function, leaf, frame_of(leaf))
                low, high = plane_cells(leaf, integrand.cuts, (law, *getattr(function, "laws", ())))
                budget = self.max_nodes // len(leaves)
                results.append((float(weight), adapt(integrand, low, high, self.tol, budget)))
        value = _total([weight * result.value for weight, result in results])
        error = _SAFETY * sum(weight * result.error for weight, result in results)
        nodes = sum(result.nodes for _, result in results)
        mass = sum(weight * result.mass for weight, result in results)
        if abs(mass - 1) > MASS_TOLERANCE + sum(weight * result.mass_error for weight, result in results):
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


def _tail(function: Function, law: Distribution) -> float:
    """What f·p still contributes far out in the tails of the law: ±inf if it does not die out there.

    Two sections far out are compared, on each side of each part: where the integral converges the further one is the
    smaller, by orders of magnitude; where it diverges it is not. Light tails are only looked at for integrands that
    grow exponentially in the log-ratio: nothing else survives exp(−x²/2).
    """
    far_out = 0.0
    for leaf in parts_of(law)[1]:
        for sections in tail_sections(leaf, steep=getattr(function, "steep", False)):
            near, far = (
                float(integrate_cells(_Weighted(function, law, None), low, high)[0][:, 0].sum())
                for low, high in sections
            )
            if np.isinf(far) or (abs(far) > 1e-8 and abs(far) >= 0.5 * abs(near)):
                return float(np.copysign(np.inf, far))
            far_out += abs(far)
    return far_out


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
