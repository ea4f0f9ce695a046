r"""Fits in the plane, and the descent over a mean and a Cholesky factor that they share with the kernel fits.

With x = m + L t, t ~ N(0, I), and ψ = ∂D/∂q the gradient needs no derivative of p:

$$ \partial_m D = L^{-\top} E[\psi\,t], \qquad \partial_L D = \mathrm{tril}\; L^{-\top} E[\psi\,(t t^\top - I)], $$

integrated by tensor Gauss-Legendre rules: over q, with panels as wide as the narrowest part of p, for reverse KL; over
the parts of p for JSD. The rules only steer: the reported value is integrated anew by whoever asked.

Reference (the score identity): *Simple statistical gradient-following algorithms* (Williams, 1992), https://doi.org/10.1007/BF00992696.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from jaxtyping import Float64
from scipy import optimize
from scipy.special import log_expit

from divergences.distributions import Distribution, Gaussian, parts_of
from divergences.placement import frame_of

__all__ = ["descend", "part_starts", "plane_minimum", "tensor_nodes"]

# (m, L) ↦ value, ∂/∂m, ∂/∂L
Objective: TypeAlias = Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray, np.ndarray]]

_REACH = 8.0
_FEWEST, _MOST = 12, 32
_NOTHING = 1e-18
_LOG2 = float(np.log(2.0))
_LOG_2PI = float(np.log(2 * np.pi))


def tensor_nodes(
    cuts: Float64[np.ndarray, " c"], order: int = 8
) -> tuple[Float64[np.ndarray, "n d"], Float64[np.ndarray, " n"]]:
    """Gauss-Legendre nodes and weights on the square cut at ``cuts`` along both axes."""
    node, weight = np.polynomial.legendre.leggauss(order)
    half = np.diff(cuts) / 2
    line = ((cuts[:-1] + half)[:, None] + half[:, None] * node).ravel()
    mass = (half[:, None] * weight).ravel()
    grid = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
    return grid, np.outer(mass, mass).ravel()


class _ReverseKL:
    """KL(q‖p) = E_q[log q − log p], at nodes that move with q."""

    def __init__(self, p: Distribution, moments: Gaussian) -> None:
        self.p = p
        widest = float(np.sqrt(np.linalg.eigvalsh(moments.cov)[-1]))
        narrowest = min(float(np.linalg.norm(frame_of(leaf)[1], -2)) for leaf in parts_of(p)[1])
        panels = int(np.clip(np.ceil(_REACH * widest / narrowest), _FEWEST, _MOST))
        self.t, weight = tensor_nodes(np.linspace(-_REACH, _REACH, panels + 1), 6)
        self.weight = weight * np.exp(-(self.t**2).sum(axis=1) / 2 - _LOG_2PI)
        keep = self.weight > _NOTHING
        self.t, self.weight = self.t[keep], self.weight[keep]
        self.entropy = -(self.t**2).sum(axis=1) / 2 - _LOG_2PI

    def __call__(self, m: np.ndarray, factor: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        log_q = self.entropy - float(np.log(np.diag(factor)).sum())
        score = self.weight * (log_q - self.p.log_prob(m + self.t @ factor.T))
        inverse = np.linalg.inv(factor).T
        outer = (self.t * score[:, None]).T @ self.t - score.sum() * np.eye(2)
        return float(score.sum()), inverse @ (score @ self.t), np.tril(inverse @ outer)


class _JensenShannon:
    """JSD = log 2 − ½ E_p[softplus(−d) + e^(−d) softplus(d)], d = log p/q: bounded, and all of it at nodes of p."""

    def __init__(self, p: Distribution) -> None:
        places, masses = [], []
        for share, leaf in zip(*parts_of(p), strict=True):
            center, matrix, cuts = frame_of(leaf)
            z, weight = tensor_nodes(cuts)
            x = center + z @ matrix.T
            places.append(x)
            masses.append(share * weight * np.exp(leaf.log_prob(x)) * abs(float(np.linalg.det(matrix))))
        self.x, self.mass = np.concatenate(places), np.concatenate(masses)
        keep = self.mass > _NOTHING
        self.x, self.mass = self.x[keep], self.mass[keep]
        self.log_p = p.log_prob(self.x)

    def __call__(self, m: np.ndarray, factor: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        inverse = np.linalg.inv(factor)
        t = (self.x - m) @ inverse.T
        d = self.log_p + (t**2).sum(axis=1) / 2 + _LOG_2PI + float(np.log(np.diag(factor)).sum())
        # e^(−d) softplus(d) tends to 1 where q is far above p, and to 0 where it is far below.
        with np.errstate(over="ignore"):
            pull = np.where(d > -30, np.exp(-np.maximum(d, -30.0)) * -log_expit(-d), 1.0)
        value = _LOG2 * float(self.mass.sum()) - 0.5 * float(self.mass @ (pull - log_expit(d)))
        score = -0.5 * self.mass * pull
        outer = (t * score[:, None]).T @ t - score.sum() * np.eye(2)
        return value, inverse.T @ (score @ t), np.tril(inverse.T @ outer)


def plane_minimum(p: Distribution, moments: Gaussian, kind: str) -> list[Gaussian]:
    """Local minima of reverse KL or JSD reached from the moments of p and from each of its parts."""
    objective: Objective = _ReverseKL(p, moments) if kind == "reverse_kl" else _JensenShannon(p)
    return descend(objective, part_starts(p, moments))


def part_starts(p: Distribution, moments: Gaussian) -> list[Gaussian]:
    """The moments, the moments shrunk, and the Gaussian parts of p (the heaviest 12)."""
    starts = [moments, Gaussian(moments.mean, 0.5 * moments.cov)]
    weights, leaves = parts_of(p)
    heaviest = np.argsort(-np.asarray(weights), kind="stable")[:12]
    return starts + [leaf for leaf in (leaves[k] for k in heaviest) if isinstance(leaf, Gaussian)]


def descend(objective: Objective, starts: list[Gaussian]) -> list[Gaussian]:
    """Quasi-Newton over the mean and the Cholesky factor (its diagonal by logarithms); distinct ends, best first."""
    dim = starts[0].dim
    rows, columns = np.tril_indices(dim)
    diagonal = rows == columns

    def unpack(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        factor = np.zeros((dim, dim))
        factor[rows, columns] = np.where(diagonal, np.exp(np.where(diagonal, u[dim:], 0.0)), u[dim:])
        return u[:dim], factor

    def function(u: np.ndarray) -> tuple[float, np.ndarray]:
        m, factor = unpack(u)
        value, by_mean, by_factor = objective(m, factor)
        inner = by_factor[rows, columns] * np.where(diagonal, factor[rows, columns], 1.0)
        return value, np.concatenate([by_mean, inner])

    ends: list[tuple[float, float, np.ndarray]] = []
    for start in starts:
        factor = np.linalg.cholesky(start.cov)
        first = np.concatenate([start.mean, np.where(diagonal, np.log(np.abs(factor[rows, columns]) + 1e-300), 0.0)])
        first[dim:] = np.where(diagonal, first[dim:], factor[rows, columns])
        result = optimize.minimize(function, first, jac=True, method="BFGS", options={"gtol": 1e-11, "maxiter": 500})
        if np.isfinite(result.fun):
            ends.append((float(result.fun), float(np.abs(result.jac).max()), result.x))
    # An end that is not stationary is reported only if there is nothing better to report.
    settled = [end for end in ends if end[1] < 1e-6] or sorted(ends, key=lambda end: end[0])[:1]
    found: list[np.ndarray] = []
    for _, _, u in sorted(settled, key=lambda end: end[0]):
        if all(np.abs(u - other).max() > 1e-4 for other in found):
            found.append(u)
    return [Gaussian(m, factor @ factor.T) for m, factor in map(unpack, found)]
