r"""The law of a decoder with Gaussian noise, p(x) = ∫ N(x; m(z), s²) N(z; 0, I) dz, as a ``Distribution``.

A divergence asks for log p(x) at a hundred thousand points, so the integral over z is done once. Since

    N(x; m, s²) = ∫ N(y; m, s²/2) N(x; y, s²/2) dy = h^d Σ_i N(y_i; m, s²/2) N(x; y_i, s²/2) · (1 + ε)

on a lattice y of spacing h = 0.4 s, with a relative |ε| ≤ 2d·exp(−2π²·(s/2)²/h²) < 2e-13 *for every x and m* (Poisson's
summation formula: the product of the two is a Gaussian in y of standard deviation s/2), p is, to that accuracy, a
mixture of Gaussians on a lattice, with weights W_i = h^d ∫ N(y_i; m(z), s²/2) p(z) dz. What remains is the quadrature
over z behind W: its cells are halved until the decoder is a polynomial on each, to within a share of its noise.
``LatentModel.posterior``, which adapts to each x by itself, is asked for the difference at a sample: ``doubt``. Latents
are resolved as far as their prior is above e^−65 (one) or e^−45 (two); where p itself is smaller than that, log p is a
matter of a nat or so, of a hundred.

Example: a decoder that bends the line into a parabola; its law has a divergence from anything with a density.

>>> from divergences import Gaussian, jsd
>>> law = LatentLaw(LatentModel(lambda z: np.tanh(z), 1, noise=0.5))
>>> print(jsd(law, Gaussian(0.0, 0.5)))
0.00...
"""

from __future__ import annotations

import itertools
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.spatial import cKDTree
from scipy.special import logsumexp, ndtr

from divergences import Discrete, Estimate, Gaussian, InputError, Mixture, UnderResolved
from divergences.cells import split
from divergences.checks import ArrayLike
from divergences.distributions import Box, Distribution, Frame, Knots, as_line, as_query, everywhere, need_line
from toygen.latent_cells import gauss_rule
from toygen.latent_model import LatentModel

__all__ = ["LatentLaw", "bernoulli_law"]

_LOG_2PI = float(np.log(2 * np.pi))
_SPACING = 0.4
# How far the lattice reaches beyond the decoder's range, in units of noise, and how many sites it may have.
_MARGIN = 12.0
_MOST_SITES = 500_000
# Cells: widest in units of noise; how far the decoder may be from a polynomial, times prior mass; most nodes.
_WIDEST = {1: 1.0, 2: 2.0}
_BENT = {1: 1e-12, 2: 1e-8}
_MOST_NODES = {1: 200_000, 2: 1_500_000}
_LEAST_PRIOR = {1: -65.0, 2: -45.0}
_PROBES = {1: 64, 2: 16}
_TINY = 1e-290
# Sites of less mass than this are not worth a cell of an integral.
_NO_MASS = 1e-14
_BLOCK = 4_000_000
_MOST_BITS = 12
_NEAREST = 32


class LatentLaw:
    """The exact law of x under a ``LatentModel``: density, samples, and on the line CDF and quantiles.

    Args:
        model: Gaussian likelihood, latents and points of one or two dimensions each.

    Attributes:
        model: the model.
        doubt: what the log density may be off by in the mean: the largest difference from ``LatentModel.posterior`` at
            a sample of the model, with the error of that.

    Raises:
        InputError: a Bernoulli likelihood, more dimensions, or a noise too small for the range of the decoder.
    """

    def __init__(self, model: LatentModel) -> None:
        if not isinstance(model, LatentModel):
            raise InputError(f"model must be a toygen.LatentModel; it is {type(model).__name__}.")
        if model.noise is None:
            raise InputError("a Bernoulli likelihood has no density: use bernoulli_law(model), a Discrete.")
        if model.dim > 2 or model.latent_dim > 2:
            raise InputError(
                f"the exact law is there for points and latents of one or two dimensions; these have {model.dim} and "
                f"{model.latent_dim}. model.posterior works for points of any dimension."
            )
        self.model = model
        self._noise = model.noise
        nodes, weights = _nodes(model)
        self._outputs, self._log_weights = nodes, np.log(weights)
        low, high = nodes.min(axis=0) - _MARGIN * self._noise, nodes.max(axis=0) + _MARGIN * self._noise
        counts = np.ceil((high - low) / (_SPACING * self._noise)).astype(int) + 1
        if counts.prod() > _MOST_SITES:
            raise InputError(
                f"the law of this decoder would take a lattice of {counts.tolist()} sites, 0.4 noises apart. Use a "
                "larger noise, or compare samples."
            )
        self._sites = [low[i] + _SPACING * self._noise[i] * np.arange(counts[i]) for i in range(model.dim)]
        # Half way from a point this far outside to the decoder's range there are still sites.
        margin = _MARGIN * self._noise
        self._reach = Box(low - margin, high + margin)
        table = _spread(nodes, weights, self._sites, self._noise)
        self._table = table / table.sum()
        self.doubt = self._check()

    def __repr__(self) -> str:
        return f"LatentLaw({self.model!r})"

    @property
    def dim(self) -> int:
        """Dimension d of x."""
        return self.model.dim

    @property
    def support(self) -> Box:
        """All of R^d."""
        return everywhere(self.dim)

    def log_prob(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Log density at x (n, d)."""
        points = as_query(x, self.dim)
        rows = max(1, _BLOCK // max(len(sites) for sites in self._sites))
        blocks = [self._log_prob(points[i : i + rows]) for i in range(0, len(points), rows)]
        return np.concatenate(blocks) if blocks else np.empty(0)

    def sample(self, n: Any, rng: Any) -> Float64[np.ndarray, "n d"]:
        """Draw n points: z from the prior, x = m(z) + noise."""
        return self.model.sample(n, rng)

    def cdf(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """P(X ≤ x), on the line only."""
        return self._tail(x, -1.0)

    def survival(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """P(X > x), on the line only."""
        return self._tail(x, 1.0)

    def quantile(self, u: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Inverse of the CDF, on the line only."""
        return self._mixture.quantile(u)

    def knots(self) -> Knots:
        """One every standard deviation of the noise, and further apart beyond the decoder's range."""
        need_line(self)
        noise = float(self._noise[0])
        low, high = float(self._outputs.min()), float(self._outputs.max())
        reach = noise * np.array([1.0, 2.0, 3.0, 4.5, 6.5, 9.0, 13.0, 19.0, 27.0, 36.0])
        inner = np.linspace(low, high, max(2, int(np.ceil((high - low) / noise)) + 1))
        position = np.concatenate([low - reach[::-1], inner, high + reach])
        return Knots(position, np.full(position.size, noise))

    def frame(self) -> Frame:
        """Mean and Cholesky factor, with cells out to where a mass of 1e-14 lies on a site."""
        grid = np.stack(np.meshgrid(*self._sites, indexing="ij"), axis=-1).reshape(-1, self.dim)
        mass = self._table.ravel()
        grid, mass = grid[mass > _NO_MASS], mass[mass > _NO_MASS]
        mean = mass @ grid / mass.sum()
        cov = np.atleast_2d((grid - mean).T @ ((grid - mean) * mass[:, None])) + np.diag(self._noise**2 / 2)
        matrix = np.linalg.cholesky(cov)
        # Sites that carry something, and as far around them as their own Gaussians do.
        back = np.linalg.inv(matrix)
        reach = float((np.abs((grid - mean) @ back.T) + 5 * np.linalg.norm(back * self._noise, axis=1)).max())
        inner = np.linspace(0.0, 3.5, 8)
        outer = np.geomspace(3.5, max(reach, 4.5), 1 + int(np.ceil(np.log(max(reach, 4.5) / 3.5) / np.log(1.25))))
        cuts = np.concatenate([inner, outer[1:]])
        return Frame(mean, matrix, np.concatenate([-cuts[:0:-1], cuts]))

    def parts(self) -> tuple[Float64[np.ndarray, " k"], list[Distribution]]:
        """One part: itself."""
        return np.ones(1), [self]

    def _tail(self, x: ArrayLike, side: float) -> Float64[np.ndarray, " n"]:
        """What lies beyond x: above for +1, below for −1."""
        need_line(self)
        points = as_line(x)
        rows, scale = max(1, _BLOCK // len(self._sites[0])), np.sqrt(2) / self._noise[0]
        out = np.empty(len(points))
        for start in range(0, len(points), rows):
            away = side * scale * (self._sites[0] - points[start : start + rows, None])
            out[start : start + rows] = ndtr(away) @ self._table
        return out

    @cached_property
    def _mixture(self) -> Mixture:
        need_line(self)
        used = self._table > 0
        variance = float(self._noise[0]) ** 2 / 2
        return Mixture([Gaussian(site, variance) for site in self._sites[0][used]], self._table[used])

    def _log_prob(self, x: np.ndarray) -> np.ndarray:
        with np.errstate(under="ignore"):
            kernels = [_kernel(x[:, i], self._sites[i], self._noise[i]) for i in range(self.dim)]
            density = kernels[0] @ self._table
            if self.dim == 2:
                density = (density * kernels[1]).sum(axis=1)
        out = np.full(len(x), -np.inf)
        seen = (density > _TINY) & self._reach.contains(x)
        out[seen] = np.log(density[seen])
        far = ~seen & np.isfinite(x).all(axis=1)
        if far.any():
            out[far] = self._far(x[far])
        return out

    def _far(self, x: np.ndarray) -> np.ndarray:
        """Log density where the lattice underflows or ends, 24 and more standard deviations of the noise away.

        There the sum over the nodes is that over the few with the largest terms: what it lacks is of the order of one
        nat, of hundreds.
        """
        tree, top = self._tree
        constant = top - float(np.log(self._noise).sum()) - 0.5 * self.dim * _LOG_2PI
        lifted = np.concatenate([x / self._noise, np.zeros((len(x), 1))], axis=1)
        with np.errstate(over="ignore"):
            distance = tree.query(lifted, k=min(_NEAREST, tree.n))[0].reshape(len(x), -1)
            return logsumexp(-0.5 * distance**2, axis=1) + constant

    @cached_property
    def _tree(self) -> tuple[cKDTree, float]:
        # |x − m|²/s² − 2 log w is a squared distance, with one more coordinate for the weight.
        top = float(self._log_weights.max())
        height = np.sqrt(2 * (top - self._log_weights))
        return cKDTree(np.concatenate([self._outputs / self._noise, height[:, None]], axis=1)), top

    def _check(self) -> float:
        x = self.model.sample(_PROBES[self.model.latent_dim], np.random.default_rng(0))
        exact = self.model.posterior(x)
        return float(np.max(np.abs(self.log_prob(x) - exact.log_prob) + exact.error))


def _nodes(model: LatentModel) -> tuple[Float64[np.ndarray, "m d"], Float64[np.ndarray, " m"]]:
    """What the decoder gives at the nodes of cells on which it is as good as a polynomial, and the prior's weights."""
    k = model.latent_dim
    unit, weight = gauss_rule(k)
    onto_children = _interpolation(k)
    low, high = model.starting_cells()
    budget = _MOST_NODES[k] // len(unit)
    done: list[tuple[np.ndarray, np.ndarray]] = []
    count = 0
    while len(low):
        values = model.decode_nodes(low[:, None] + (high - low)[:, None] * unit)
        child_low, child_high = split(low, high)
        finer = model.decode_nodes(child_low[:, None] + (child_high - child_low)[:, None] * unit)
        family = finer.reshape(len(low), -1, model.dim)
        guess = np.einsum("pq,cqd->cpd", onto_children, values)
        bend = (np.abs(family - guess) / model.noise).max(axis=(1, 2))
        extent = (np.ptp(values, axis=1) / model.noise).max(axis=1)
        log_mass = -0.5 * (np.maximum(np.maximum(low, -high), 0.0) ** 2).sum(axis=1) + np.log(high - low).sum(axis=1)
        wide = ((extent > _WIDEST[k]) | (bend * np.exp(log_mass) > _BENT[k])) & (log_mass > _LEAST_PRIOR[k])
        if count + 2**k * int(wide.sum()) + int((~wide).sum()) > budget:
            wide[:] = False
        done.append((low[~wide], high[~wide]))
        count += len(done[-1][0])
        keep = np.repeat(wide, 2**k)
        low, high = child_low[keep], child_high[keep]
    low, high = (np.concatenate(side) for side in zip(*done, strict=True))
    z = low[:, None] + (high - low)[:, None] * unit
    prior = np.exp(-0.5 * (z**2).sum(axis=2) - 0.5 * k * _LOG_2PI)
    weights = (prior * weight * (high - low).prod(axis=1)[:, None]).ravel()
    outputs = model.decode_nodes(z).reshape(-1, model.dim)
    matters = weights > np.exp(_LEAST_PRIOR[k] - 20.0)
    return outputs[matters], weights[matters]


def _interpolation(dim: int) -> Float64[np.ndarray, "p q"]:
    """From values of a polynomial at the nodes of a cell to those at the nodes of its 2^k children."""
    unit, _ = gauss_rule(dim)
    low, high = split(np.zeros((1, dim)), np.ones((1, dim)))
    targets = (low[:, None] + (high - low)[:, None] * unit).reshape(-1, dim)
    nodes = np.unique(unit[:, 0])
    rows = [_lagrange(nodes, targets[:, axis]) for axis in range(dim)]
    if dim == 1:
        return rows[0]
    return np.einsum("pi,pj->pij", rows[0], rows[1]).reshape(len(targets), -1)


def _lagrange(nodes: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Lagrange polynomials of the nodes, at other places (none of which is a node)."""
    ratio = (at[:, None, None] - nodes) / (nodes[:, None] - nodes + np.eye(len(nodes)))
    ratio[:, np.arange(len(nodes)), np.arange(len(nodes))] = 1.0
    return ratio.prod(axis=2)


def _kernel(x: np.ndarray, sites: np.ndarray, noise: float) -> Float64[np.ndarray, "n i"]:
    """N(x; y, s²/2) between places on one axis."""
    return np.exp(-(((x[:, None] - sites) / noise) ** 2)) / (noise * np.sqrt(np.pi))


def _spread(
    outputs: np.ndarray, weights: np.ndarray, sites: list[np.ndarray], noise: np.ndarray
) -> Float64[np.ndarray, "..."]:
    """W: the weights, smoothed with half of the noise's variance, on the lattice."""
    table = np.zeros([len(axis) for axis in sites])
    rows = max(1, _BLOCK // max(len(axis) for axis in sites))
    for start in range(0, len(outputs), rows):
        cut = slice(start, start + rows)
        with np.errstate(under="ignore"):
            first = weights[cut, None] * _kernel(outputs[cut, 0], sites[0], noise[0])
            if len(sites) == 1:
                table += first.sum(axis=0)
            else:
                table += first.T @ _kernel(outputs[cut, 1], sites[1], noise[1])
    return table


def bernoulli_law(model: LatentModel) -> Discrete:
    """The exact law of x in {0, 1}^d under a Bernoulli likelihood, d ≤ 12: all 2^d masses, by quadrature over z.

    Raises:
        InputError: a Gaussian likelihood, or too many coordinates.
        UnderResolved: masses that do not sum to 1.
    """
    if model.noise is not None:
        raise InputError("only a Bernoulli likelihood has a law on {0, 1}^d; of a Gaussian one take LatentLaw(model).")
    if model.dim > _MOST_BITS:
        raise InputError(f"the law on {{0, 1}}^d is tabulated up to d = {_MOST_BITS}; this model has {model.dim}.")
    points = np.array(list(itertools.product((0.0, 1.0), repeat=model.dim)))
    exact = model.posterior(points)
    masses = np.exp(exact.log_prob)
    total = float(masses.sum())
    if abs(total - 1) > 1e-8 + float((masses * exact.error).sum()):
        raise UnderResolved(
            f"the masses of {{0, 1}}^{model.dim} sum to {total:.9g}: the quadrature over the latents is too coarse.",
            Estimate(total, abs(total - 1), method="sum of masses"),
        )
    return Discrete(points, masses / total)
