r"""The Gaussian closest to p in MMD with the kernel k(x, y) = exp(−|x − y|²/2h²).

Between Gaussians the mean of the kernel is a closed form,

$$ E\,k(X, Y) = \frac{h^d}{\sqrt{\det V}}\; e^{-\frac12 \Delta^\top V^{-1} \Delta}, \qquad V = h^2 I + S_X + S_Y,
   \quad \Delta = m_X - m_Y , $$

so MMD² = E k(X,X′) − 2 E k(X,Y) + E k(Y,Y′) of a mixture and a Gaussian is a finite sum. Any other p is replaced by the
nodes of a quadrature rule, parts of zero covariance, which is as exact as the rule.

Reference: *A Kernel Two-Sample Test* (Gretton et al., 2012), https://jmlr.org/papers/v13/gretton12a.html.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from divergences.distributions import Distribution, Gaussian, parts_of
from divergences.errors import UnderResolved
from divergences.estimate import Estimate
from divergences.fit_plane import descend, part_starts, tensor_nodes
from divergences.placement import frame_of, line_cells

__all__ = ["KernelFit"]

_EPS = float(np.finfo(np.float64).eps)
_MASS = 1e-6
_ROWS = 512


class KernelFit:
    """MMD² between p and N(m, LLᵀ), with its gradient.

    Args:
        p: the law, in one or two dimensions.
        h: bandwidth of the kernel.

    Raises:
        UnderResolved: p is a black box that the quadrature nodes do not resolve.
    """

    def __init__(self, p: Distribution, h: float) -> None:
        self.p, self.h, self.dim = p, h, p.dim
        weights, means, covariances = [], [], []
        unresolved = 0.0
        for share, leaf in zip(*parts_of(p), strict=True):
            if isinstance(leaf, Gaussian):
                weights.append(np.array([share]))
                means.append(leaf.mean[None])
                covariances.append(leaf.cov[None])
            else:
                x, mass, coarse = _nodes(leaf, h)
                unresolved += share * coarse
                weights.append(share * mass)
                means.append(x)
                covariances.append(np.zeros((len(x), p.dim, p.dim)))
        self.weights = np.concatenate(weights)
        self.means = np.concatenate(means)
        self.covariances = np.concatenate(covariances)
        lost = abs(float(self.weights.sum()) - 1)
        self.error = 16 * _EPS + 4 * (lost + unresolved)
        self.own = sum(
            float(self.weights[rows] @ self._pairs(rows) @ self.weights)
            for rows in (slice(i, i + _ROWS) for i in range(0, len(self.weights), _ROWS))
        )
        if lost > _MASS:
            estimate = Estimate(self.own, max(self.own, lost), method="unresolved quadrature", n=len(self.weights))
            raise UnderResolved(
                f"the quadrature nodes see a mass of {1 - lost:.6g} of p, not 1. Give the law knots() or a frame().",
                estimate,
            )

    def __call__(self, m: np.ndarray, factor: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """MMD² and its derivatives by m and by the Cholesky factor."""
        identity = self.h**2 * np.eye(self.dim)
        spread = factor @ factor.T
        inverse = np.linalg.inv(identity + spread + self.covariances)
        away = self.means - m
        pull = np.einsum("kij,kj->ki", inverse, away)
        kernel = self.weights * self.h**self.dim * np.sqrt(np.linalg.det(inverse))
        kernel *= np.exp(-0.5 * (away * pull).sum(axis=1))
        both = np.linalg.inv(identity + 2 * spread)
        itself = self.h**self.dim * float(np.sqrt(np.linalg.det(both)))
        value = self.own - 2 * float(kernel.sum()) + itself
        by_spread = np.einsum("k,kij->ij", kernel, inverse) - np.einsum("k,ki,kj->ij", kernel, pull, pull)
        by_spread = by_spread - itself * both
        return value, -2 * kernel @ pull, np.tril(2 * by_spread @ factor)

    def value(self, q: Gaussian) -> Estimate:
        """MMD² itself."""
        value = self(q.mean, np.linalg.cholesky(q.cov))[0]
        return Estimate(max(value, 0.0), self.error, method="MMD² of Gaussian parts (estimate)", n=len(self.weights))

    def minima(self, moments: Gaussian) -> list[Gaussian]:
        """Local minima reached from the moments, from the parts of p and, on the line, from a scan."""
        starts = part_starts(self.p, moments)
        if self.dim == 1:
            starts += self._scan(moments)
        return descend(self, starts)

    def _scan(self, moments: Gaussian) -> list[Gaussian]:
        center, spread = float(moments.mean[0]), float(np.sqrt(moments.cov[0, 0]))
        places = center + spread * np.linspace(-2.5, 2.5, 41)
        widths = spread * np.geomspace(0.02, 2.0, 12)
        table = np.array([[self(np.array([m]), np.array([[s]]))[0] for s in widths] for m in places])
        around = np.pad(table, 1, constant_values=np.inf)
        shifts = [around[1 + i : 42 + i, 1 + j : 13 + j] for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
        low = np.argwhere(np.all([table <= shift for shift in shifts], axis=0))
        return [Gaussian(places[i], widths[j] ** 2) for i, j in low]

    def _pairs(self, rows: slice) -> Float64[np.ndarray, "r k"]:
        v = self.h**2 * np.eye(self.dim) + self.covariances[rows, None] + self.covariances[None]
        away = self.means[rows, None] - self.means[None]
        if self.dim == 1:
            return self.h / np.sqrt(v[..., 0, 0]) * np.exp(-0.5 * away[..., 0] ** 2 / v[..., 0, 0])
        solved = np.linalg.solve(v, away[..., None])[..., 0]
        return self.h**self.dim / np.sqrt(np.linalg.det(v)) * np.exp(-0.5 * (away * solved).sum(axis=-1))


def _nodes(leaf: Distribution, h: float) -> tuple[Float64[np.ndarray, "n d"], Float64[np.ndarray, " n"], float]:
    """Quadrature nodes of a law, the mass of each, and the mass on panels left wide against the kernel."""
    coarse = 0.0
    if leaf.dim == 2:
        center, matrix, cuts = frame_of(leaf)
        z, weight = tensor_nodes(cuts, 12)
        x = center + z @ matrix.T
        mass = weight * abs(float(np.linalg.det(matrix))) * np.exp(leaf.log_prob(x))
    else:
        low, high = line_cells(leaf, ())
        edges = np.append(low[:, 0], high[-1, 0])
        # The kernel varies on the scale h: no panel where there is mass may be much wider.
        parts = np.clip(np.ceil(np.diff(edges) / (2 * h)), 1, 64).astype(int)
        middle = np.exp(leaf.log_prob(((edges[:-1] + edges[1:]) / 2)[:, None])) * np.diff(edges)
        wide = (parts > 1) & (middle < 1e-6)
        parts[wide] = 1
        coarse = float(middle[wide].sum())
        edges = np.unique(
            np.concatenate([np.linspace(a, b, k + 1) for a, b, k in zip(edges[:-1], edges[1:], parts, strict=True)])
        )
        node, weight = np.polynomial.legendre.leggauss(16)
        half = np.diff(edges) / 2
        x = ((edges[:-1] + half)[:, None] + half[:, None] * node).reshape(-1, 1)
        mass = (half[:, None] * weight).ravel() * np.exp(leaf.log_prob(x))
    keep = mass > 1e-14
    return x[keep], mass[keep], coarse
