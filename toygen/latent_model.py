r"""What a decoder says about data, exactly: p(x), p(z|x) and the ELBO by quadrature over one or two latents.

    p(z) = N(0, I_k),    p(x|z) = N(m(z), diag s²)  or  Bernoulli(σ(m(z))),    p(x) = ∫ p(x|z) p(z) dz

On the cells at the start the decoder moves by at most three standard deviations of its noise (three units of logit), so
that no posterior, however narrow, hides between nodes; cells that cannot matter for a given x are left out; the
others are halved until halving changes nothing. Nothing is trained here, and nothing is sampled.

Errors are stated per point. They are estimates: for log p(x) about 1e-12 for a smooth or one-dimensional decoder. With
two latents the kinks of a LeakyReLU network are curves that cells can only close in on: 1e-6 is aimed at there.

Reference: Auto-encoding variational Bayes (Kingma, Welling, 2014), https://arxiv.org/abs/1312.6114

A linear decoder is probabilistic PCA, whose marginal law is N(0, WWᵀ + s²I):

>>> model = LatentModel(lambda z: 2.0 * z, 1, noise=1.0)
>>> exact = model.posterior([[1.0]])
>>> float(exact.log_prob[0].round(10)), float(exact.mean[0, 0].round(10)), float(exact.cov[0, 0, 0].round(10))
(-1.8236574894, 0.4, 0.2)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtr

from divergences.cells import split
from divergences.checks import ArrayLike, as_array, as_count, as_generator, as_number, as_points
from divergences.errors import InputError
from toygen.latent_cells import Evaluate, gauss_rule, integrate_rows

__all__ = ["Expected", "LatentModel", "Posterior"]

_LOG_2PI = float(np.log(2 * np.pi))
# Latents beyond this carry 1e-32 of the prior.
_REACH = 12.0
# How far the decoder may move across a starting cell, in units of its noise; and where the prior still matters.
_MOVE, _PRIOR = 3.0, -42.0
# Cells whose share of p(x) is below the tolerance times e^-14 are left out.
_LOST = 14.0
_MOST_CELLS = 200_000
# What the decoder may be asked for in all while cells are made: in many coordinates far fewer cells than that.
_MOST_NUMBERS = 400_000_000
_BLOCK = 4_000_000
_WIDEST = 8 * _BLOCK
_TOL = {1: 1e-12, 2: 1e-6}
_FRAME = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 10.0])


class Posterior(NamedTuple):
    """The exact posterior of n points.

    Attributes:
        log_prob: log p(x), shape (n,).
        error: of ``log_prob``, an estimate, shape (n,).
        mean: of p(z|x), shape (n, k).
        cov: of p(z|x), shape (n, k, k).
    """

    log_prob: Float64[np.ndarray, " n"]
    error: Float64[np.ndarray, " n"]
    mean: Float64[np.ndarray, "n k"]
    cov: Float64[np.ndarray, "n k k"]


class Expected(NamedTuple):
    """E_q[log p(x|z)] under one Gaussian per point.

    Attributes:
        value: shape (n,).
        error: an estimate, shape (n,).
    """

    value: Float64[np.ndarray, " n"]
    error: Float64[np.ndarray, " n"]


@dataclass(frozen=True)
class _Mesh:
    """Starting cells over the latents, and what the decoder does on each."""

    low: np.ndarray
    high: np.ndarray
    output: np.ndarray  # at the centre, (c, d)
    reach: np.ndarray  # how far outputs on the cell are from that, in units of noise (Bernoulli: Σ|Δ logit|), (c,)
    log_prior: np.ndarray  # at the centre, (c,)
    log_most: np.ndarray  # the largest on the cell, (c,)
    log_volume: np.ndarray


class LatentModel:
    """A decoder with its prior and its noise.

    Args:
        decoder: z (n, k) → m(z) (n, d), float64 arrays, deterministic: the mean, or for Bernoulli the logits.
        latent_dim: k; any for sampling and scoring p(x|z), at most 2 for p(x).
        noise: s of the Gaussian p(x|z), one number or one per coordinate; None is the Bernoulli likelihood.

    Raises:
        InputError: a decoder that is no such function, or a noise that is not positive.
    """

    def __init__(self, decoder: Any, latent_dim: Any, *, noise: Any = None) -> None:
        if not callable(decoder):
            raise InputError(f"decoder must be a function from z (n, k) to (n, d); it is {type(decoder).__name__}.")
        self._decoder = decoder
        self.latent_dim = as_count(latent_dim, "latent_dim")
        self.dim = 0
        self.dim = self.decode(np.zeros((1, self.latent_dim))).shape[1]
        self.noise: Float64[np.ndarray, " d"] | None = None
        if noise is not None:
            given = as_array(noise, "noise")
            if given.shape not in ((), (self.dim,)) or not ((given > 0) & np.isfinite(given)).all():
                raise InputError(
                    f"noise must be a positive number, or one per coordinate ({self.dim}); it is {given.tolist()}."
                )
            self.noise = np.broadcast_to(given, (self.dim,)).copy()

    def __repr__(self) -> str:
        law = "Bernoulli" if self.noise is None else "Gaussian"
        return f"LatentModel({law}, latent_dim={self.latent_dim}, dim={self.dim})"

    def decode(self, z: Any) -> Float64[np.ndarray, "n d"]:
        """m(z), checked: finite, one row per row."""
        points = as_array(z, "z")
        parts = [
            as_array(self._decoder(points[start : start + 65_536]), "what the decoder returns")
            for start in range(0, max(len(points), 1), 65_536)
        ]
        out = np.concatenate(parts)
        if out.ndim != 2 or len(out) != len(points) or (self.dim and out.shape[1] != self.dim):
            raise InputError(f"decoder must map z of shape {points.shape} to ({len(points)}, d); it gave {out.shape}.")
        if not np.isfinite(out).all():
            raise InputError("decoder gives NaN or infinite values: it has no law. Its training diverged?")
        return out

    def sample(self, n: Any, rng: Any) -> Float64[np.ndarray, "n d"]:
        """Draw x: z from the prior, then x from p(x|z), noise and all."""
        n, rng = as_count(n, "n", minimum=0), as_generator(rng)
        output = self.decode(rng.standard_normal((n, self.latent_dim)))
        if self.noise is None:
            return (rng.random(output.shape) < 1 / (1 + np.exp(-output))).astype(np.float64)
        return output + self.noise * rng.standard_normal(output.shape)

    def log_likelihood(self, x: ArrayLike, z: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Log p(x|z), row by row."""
        points, latents = self._as_data(x), as_points(z, "z", dim=self.latent_dim)
        if len(points) != len(latents):
            raise InputError(f"x and z must have the same number of rows; they have {len(points)} and {len(latents)}.")
        return self._score(points, self.decode(latents))

    def log_prob(self, x: ArrayLike, *, tol: Any = None) -> Float64[np.ndarray, " n"]:
        """Log p(x); ``posterior`` says how wrong it may be. For an integrand of ``divergences`` use ``LatentLaw``."""
        return self.posterior(x, tol=tol).log_prob

    def posterior(self, x: ArrayLike, *, tol: Any = None) -> Posterior:
        """Log p(x) with its error, and the first two moments of p(z|x).

        Args:
            x: points (n, d).
            tol: relative error of p(x) aimed at; None is 1e-12 for k = 1 and 1e-6 for k = 2.

        Raises:
            InputError: k above 2, points of another dimension, or a decoder too steep for its noise.
        """
        self._need_small()
        goal = _TOL[self.latent_dim] if tol is None else as_number(tol, "tol", above=0.0)
        points = self._as_data(x)
        size = max(1, _BLOCK // (len(self._mesh.low) * max(1, min(self.dim, 8))))
        blocks = [self._posterior(points[i : i + size], goal) for i in range(0, len(points), size)]
        return Posterior(*(np.concatenate(part) for part in zip(*blocks, strict=True)))

    def expected_log_likelihood(
        self, x: ArrayLike, mean: ArrayLike, variance: ArrayLike, *, tol: Any = None
    ) -> Expected:
        """E[log p(x|z)] for z ~ N(mean, diag variance), one Gaussian per point: the ELBO's reconstruction, exactly.

        Args:
            x: points (n, d).
            mean: shape (n, k).
            variance: shape (n, k), positive.
            tol: error aimed at, times max(1, |value|).

        Raises:
            InputError: k above 2, or shapes that do not fit.
        """
        self._need_small()
        points, center, sd = self.check_gaussians(x, mean, variance)
        goal = _TOL[self.latent_dim] if tol is None else as_number(tol, "tol", above=0.0)
        edges = np.concatenate([-_FRAME[:0:-1], _FRAME])
        low, high = _grid(edges, self.latent_dim)
        row = np.repeat(np.arange(len(points)), len(low))

        def evaluate(rows: np.ndarray, u: np.ndarray) -> np.ndarray:
            z = center[rows, None] + sd[rows, None] * u
            density = np.exp(-0.5 * (u**2).sum(axis=2) - 0.5 * self.latent_dim * _LOG_2PI)
            return (density * self._score(points[rows, None], self.decode_nodes(z)))[:, :, None]

        value, error = integrate_rows(
            self._in_blocks(evaluate),
            row,
            np.tile(low, (len(points), 1)),
            np.tile(high, (len(points), 1)),
            rows=len(points),
            tol=goal,
            floor=1.0,
        )
        return Expected(value[:, 0], error[:, 0])

    def _posterior(self, x: np.ndarray, tol: float) -> tuple[np.ndarray, ...]:
        mesh, k = self._mesh, self.latent_dim
        center, upper = self._scan(x)
        joint = center + mesh.log_prior
        best = (joint + mesh.log_volume).argmax(axis=1)
        least = (joint + mesh.log_volume).max(axis=1, keepdims=True) + np.log(tol) - _LOST
        keep = upper + mesh.log_most + mesh.log_volume > least
        row, cell = np.nonzero(keep)
        shift = joint[np.arange(len(x)), best]
        origin = (mesh.low[best] + mesh.high[best]) / 2
        left, right = np.triu_indices(k)

        def evaluate(rows: np.ndarray, z: np.ndarray) -> np.ndarray:
            log_joint = self._score(x[rows, None], self.decode_nodes(z)) + _log_prior(z)
            weight = np.exp(log_joint - shift[rows, None])[:, :, None]
            away = z - origin[rows, None]
            return np.concatenate([weight, weight * away, weight * away[..., left] * away[..., right]], axis=2)

        total, error = integrate_rows(
            self._in_blocks(evaluate), row, mesh.low[cell], mesh.high[cell], rows=len(x), tol=tol, floor=0.0
        )
        mass = total[:, :1]
        mean = total[:, 1 : 1 + k] / mass
        cov = np.empty((len(x), k, k))
        cov[:, left, right] = total[:, 1 + k :] / mass - mean[:, left] * mean[:, right]
        cov[:, right, left] = cov[:, left, right]
        log_prob = shift + np.log(mass[:, 0])
        lost = len(mesh.low) * tol * np.exp(-_LOST) + 2 * k * ndtr(-_REACH) * np.exp(
            np.minimum(self._log_peak - log_prob, 700.0)
        )
        rounding = 4 * np.finfo(np.float64).eps * np.abs(log_prob)
        return log_prob, error[:, 0] / mass[:, 0] + lost + rounding, origin + mean, cov

    @cached_property
    def _mesh(self) -> _Mesh:
        low, high = _grid(np.linspace(-_REACH, _REACH, 25), self.latent_dim)
        unit, _ = gauss_rule(self.latent_dim)
        most_cells = min(_MOST_CELLS, _MOST_NUMBERS // (len(unit) * self.dim))
        rows = max(1, _BLOCK // (len(unit) * self.dim))
        done: list[tuple[np.ndarray, ...]] = []
        count = 0
        while len(low):
            if count + len(low) > most_cells:
                more = f" of {self.dim} coordinates" if most_cells < _MOST_CELLS else ""
                raise InputError(
                    f"the decoder is too steep for its noise: resolving p(x){more} takes more than {most_cells} cells "
                    "over the latents. Use a larger noise, a smoother decoder, or fewer coordinates; the IWAE bound "
                    "(importance_bound) needs no cells."
                )
            parts_of_low = np.array_split(np.arange(len(low)), -(-len(low) // rows))
            middle = self.decode((low + high) / 2)
            extent, reach = (
                np.concatenate(part)
                for part in zip(*(self._extent(low[i], high[i], middle[i], unit) for i in parts_of_low), strict=True)
            )
            nearest = np.maximum(np.maximum(low, -high), 0.0)
            most = _log_prior(nearest)
            wide = (extent > _MOVE) & (most > _PRIOR)
            # Nodes stop short of the corners of a cell.
            parts = (low, high, middle, 1.25 * reach, _log_prior((low + high) / 2), most)
            done.append(tuple(part[~wide] for part in parts))
            count += len(done[-1][0])
            low, high = split(low[wide], high[wide])
        low, high, output, moved, log_prior, log_most = (np.concatenate(column) for column in zip(*done, strict=True))
        return _Mesh(low, high, output, moved, log_prior, log_most, np.log(high - low).sum(axis=1))

    def _in_blocks(self, evaluate: Evaluate) -> Evaluate:
        """The same for so few cells at a time that what the decoder returns takes little memory in any dimension."""

        def sparing(rows: np.ndarray, z: np.ndarray) -> np.ndarray:
            size = max(1, _WIDEST // (z.shape[1] * self.dim))
            if len(rows) <= size:
                return evaluate(rows, z)
            starts = range(0, len(rows), size)
            return np.concatenate([evaluate(rows[i : i + size], z[i : i + size]) for i in starts])

        return sparing

    def _extent(
        self, low: np.ndarray, high: np.ndarray, middle: np.ndarray, unit: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """By how much outputs on each cell differ, and how far they are from the one at its centre."""
        values = self.decode_nodes(low[:, None] + (high - low)[:, None] * unit)
        if self.noise is not None:
            extent = np.sqrt((np.ptp(values, axis=1) ** 2 / self.noise**2).sum(axis=1))
            return extent, np.sqrt(((values - middle[:, None]) ** 2 / self.noise**2).sum(axis=2)).max(axis=1)
        extent = np.sqrt((np.ptp(values, axis=1) ** 2).sum(axis=1))
        return extent, np.abs(values - middle[:, None]).sum(axis=2).max(axis=1)

    def _scan(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log p(x|z) at the centres of all cells, (n, c), and what it cannot exceed on them."""
        mesh = self._mesh
        if self.noise is None:
            center = x @ mesh.output.T - np.logaddexp(0.0, mesh.output).sum(axis=1)
            return center, center + mesh.reach
        square = np.zeros((len(x), len(mesh.low)))
        for axis in range(self.dim):
            square += ((x[:, axis, None] - mesh.output[:, axis]) / self.noise[axis]) ** 2
        nearest = np.maximum(np.sqrt(square) - mesh.reach, 0.0)
        return self._log_peak - 0.5 * square, self._log_peak - 0.5 * nearest**2

    @cached_property
    def _log_peak(self) -> float:
        """The largest p(x|z) there is."""
        return 0.0 if self.noise is None else -float(np.log(self.noise).sum()) - 0.5 * self.dim * _LOG_2PI

    def _score(self, x: np.ndarray, output: np.ndarray) -> np.ndarray:
        """Log p(x|z) from m(z): (..., d) to (...)."""
        if self.noise is None:
            return (x * output - np.logaddexp(0.0, output)).sum(axis=-1)
        return self._log_peak - 0.5 * (((x - output) / self.noise) ** 2).sum(axis=-1)

    def starting_cells(self) -> tuple[Float64[np.ndarray, "c k"], Float64[np.ndarray, "c k"]]:
        """Corners of cells over the latents, on which the decoder moves by a few units of its noise."""
        self._need_small()
        return self._mesh.low, self._mesh.high

    def decode_nodes(self, z: np.ndarray) -> np.ndarray:
        """m(z) of latents of any shape (..., k): (..., d)."""
        return self.decode(z.reshape(-1, self.latent_dim)).reshape(*z.shape[:-1], self.dim)

    def score_nodes(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Log p(x|z), broadcasting x (..., d) against latents (..., k)."""
        return self._score(x, self.decode_nodes(z))

    def check_gaussians(self, x: ArrayLike, mean: ArrayLike, variance: ArrayLike) -> tuple[np.ndarray, ...]:
        """Points (n, d), and the mean and standard deviation (n, k) of one Gaussian each."""
        points = self._as_data(x)
        return points, *self._as_gaussians(len(points), mean, variance)

    def _as_data(self, x: ArrayLike) -> Float64[np.ndarray, "n d"]:
        points = as_points(x, "x", dim=self.dim)
        if self.noise is None and not ((points >= 0) & (points <= 1)).all():
            raise InputError("x must lie in [0, 1] for a Bernoulli likelihood.")
        return points

    def _as_gaussians(self, n: int, mean: ArrayLike, variance: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        center, spread = as_points(mean, "mean", dim=self.latent_dim), as_array(variance, "variance")
        if spread.ndim == 1:
            spread = spread[:, None]
        if len(center) != n or spread.shape != center.shape:
            raise InputError(
                f"mean and variance must have shape ({n}, {self.latent_dim}), one Gaussian per point; they have "
                f"{center.shape} and {spread.shape}."
            )
        if not ((spread > 0) & np.isfinite(spread)).all():
            raise InputError("variance must be positive and finite.")
        return center, np.sqrt(spread)

    def _need_small(self) -> None:
        if self.latent_dim > 2:
            raise InputError(
                f"p(x) is computed by quadrature for latents of one or two dimensions; these have {self.latent_dim}. "
                "The IWAE bound (importance_bound) works in any."
            )


def _log_prior(z: np.ndarray) -> np.ndarray:
    return -0.5 * (z**2).sum(axis=-1) - 0.5 * z.shape[-1] * _LOG_2PI


def _grid(edges: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Tensor cells between the edges."""
    low = np.stack(np.meshgrid(*[edges[:-1]] * dim, indexing="ij"), axis=-1).reshape(-1, dim)
    high = np.stack(np.meshgrid(*[edges[1:]] * dim, indexing="ij"), axis=-1).reshape(-1, dim)
    return low, high
