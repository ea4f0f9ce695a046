r"""The law of a generator in the plane, at chosen points: every preimage, by Newton's method on a piecewise linear map.

p_g(x) = Σ φ(z)/|det J(z)| over all z with G(z) = x. The latent plane is cut into a fine square grid, each cell into two
triangles. A point x has its preimages in those triangles whose image, a little inflated, contains it; from there
Newton's method runs on G itself, with its exact Jacobian: on a network of this library, which is piecewise linear, it
ends after a move or two.

What a grid can miss are preimages within a cell of a fold. That is measured: of a point x = G(z) drawn from p_g one
preimage is known, and the share of points where it is not found is about the mass of p_g that the densities lack. It is
1 to 2 % for trained generators, and stands in the error.

``divergences.pushforward`` does the same for any map, and refines its mesh where it must; it takes twenty times as long
on a trained network, and is what this is tested against.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64
from scipy.special import log_expit

from divergences import Estimate, UnderResolved
from divergences.adversarial import CONVENTIONS
from toygen.networks import MLP
from toygen.pieces import Exact, coin_divergence
from toygen.train import single_thread

__all__ = ["PlanePieces", "Preimages", "plane_exact"]

_Z = 1.959964
# Beyond lies a mass of 2e-7.
_REACH, _SIDE = 5.25, 240
_LONGEST = 6 * _REACH / _SIDE
_INFLATE = 0.6
_MOVES = 8
# Two ends of Newton's method closer than this are one preimage.
_SAME = 1e-6
_PAIRS = 2_000_000
# A map that loses more than this share of its mass is not resolved.
_LOST = 0.02
# det J below this share of |J|² is no area at all.
_FLAT = 1e-12


class Preimages(NamedTuple):
    """Solutions of G(z) = x: which x, z, and |det J| there."""

    query: Int64[np.ndarray, " m"]
    z: Float64[np.ndarray, "m 2"]
    volume: Float64[np.ndarray, " m"]


class PlanePieces:
    """A generator of the plane, one member, on a grid of latents.

    Args:
        generator: (1, b, 2) → (1, b, 2).
    """

    def __init__(self, generator: MLP) -> None:
        self._generator = copy.deepcopy(generator).double().cpu().requires_grad_(requires_grad=False)
        line = np.linspace(-_REACH, _REACH, _SIDE + 1)
        corners = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1)
        images = self.push(corners.reshape(-1, 2)).reshape(corners.shape)
        self._z, self._x = (_triangles(corner) for corner in (corners, images))
        self._scale = float(np.abs(images).max())

    def push(self, z: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n 2"]:
        """G(z), computed in float64."""
        with single_thread(), torch.no_grad():
            x: np.ndarray = self._generator(torch.from_numpy(z)[None])[0].numpy()
        return x

    def slope(
        self, z: Float64[np.ndarray, "n 2"]
    ) -> tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, "n 2 2"], Float64[np.ndarray, " n"]]:
        """G(z), its Jacobian [i, j] = ∂G_i/∂z_j, and |det J|, 0 where the map loses rank."""
        with single_thread(), torch.enable_grad():
            points = torch.from_numpy(z)[None].requires_grad_()
            out = self._generator(points)
            rows = [torch.autograd.grad(out[..., i].sum(), points, retain_graph=i == 0)[0][0] for i in range(2)]
        jacobian = torch.stack(rows, dim=1).numpy()
        volume = np.abs(jacobian[:, 0, 0] * jacobian[:, 1, 1] - jacobian[:, 0, 1] * jacobian[:, 1, 0])
        volume[volume <= _FLAT * (jacobian**2).sum(axis=(1, 2))] = 0.0
        return out.detach()[0].numpy(), jacobian, volume

    def preimages(self, x: Float64[np.ndarray, "n 2"]) -> Preimages:
        """All that the grid finds."""
        query, z = self._starts(x)
        found = []
        for _ in range(_MOVES):
            at, jacobian, volume = self.slope(z)
            off = x[query] - at
            done = (np.abs(off).max(axis=1) <= 1e-10 * self._scale) & (volume > 0)
            found.append(Preimages(query[done], z[done], volume[done]))
            on = ~done & (volume > 0)
            query, z, off, jacobian = query[on], z[on], off[on], jacobian[on]
            if not len(query):
                break
            move = np.linalg.solve(jacobian, off[..., None])[..., 0]
            # The root lies about a cell away: a piece on which G hardly moves must not throw z out of the plane.
            z = z + move * np.minimum(1.0, _LONGEST / np.abs(move).max(axis=1, keepdims=True))
        return _distinct(Preimages(*(np.concatenate(part) for part in zip(*found, strict=True))), len(x))

    def _starts(self, x: Float64[np.ndarray, "n 2"]) -> tuple[Int64[np.ndarray, " m"], Float64[np.ndarray, "m 2"]]:
        """Pairs of a point and a place in the latent plane whose image, were G affine on its triangle, is the point."""
        low, high = self._x.min(axis=1), self._x.max(axis=1)
        margin = _INFLATE * (high - low)
        low, high = low - margin, high + margin
        # Ranges of points along the coordinate that tells more of them apart.
        sorts = [x[:, axis].argsort() for axis in range(2)]
        spans = [
            (x[order, axis].searchsorted(low[:, axis]), x[order, axis].searchsorted(high[:, axis], "right"))
            for axis, order in enumerate(sorts)
        ]
        axis = int(np.argmin([(last - first).sum() for first, last in spans]))
        order, (first, last), other = sorts[axis], spans[axis], 1 - axis
        counts = last - first
        queries, places = [], []
        # In blocks of triangles with about so many pairs.
        ends = np.searchsorted(np.cumsum(counts), np.arange(_PAIRS, counts.sum() + _PAIRS + 1, _PAIRS), "right") + 1
        for start, stop in zip(np.r_[0, ends[:-1]], ends, strict=True):
            own = counts[start:stop]
            triangle = np.repeat(np.arange(start, start + len(own)), own)
            rank = np.arange(len(triangle)) - np.repeat(np.cumsum(own) - own, own)
            query = order[first[triangle] + rank]
            inside = (low[triangle, other] <= x[query, other]) & (x[query, other] <= high[triangle, other])
            triangle, query = triangle[inside], query[inside]
            corner = self._x[triangle]
            a, b, to = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0], x[query] - corner[:, 0]
            with np.errstate(divide="ignore", invalid="ignore"):
                area = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
                s = (to[:, 0] * b[:, 1] - to[:, 1] * b[:, 0]) / area
                t = (a[:, 0] * to[:, 1] - a[:, 1] * to[:, 0]) / area
            hit = (s >= -_INFLATE) & (t >= -_INFLATE) & (s + t <= 1 + _INFLATE)
            latent = self._z[triangle[hit]]
            shares = np.stack([s[hit], t[hit]], axis=1)
            places.append(latent[:, 0] + np.einsum("ni,nij->nj", shares, latent[:, 1:] - latent[:, :1]))
            queries.append(query[hit])
        return np.concatenate(queries), np.concatenate(places)


def plane_exact(
    generator: MLP, discriminator: MLP, target: Any, convention: str | None, *, rng: np.random.Generator, n: int
) -> Exact:
    """What the density of p_g tells of one member in the plane: means over n samples of each law, with 95 % intervals.

    Args:
        generator: one member, (1, b, 2) → (1, b, 2).
        discriminator: one member, its output a logit; not looked at without a convention.
        target: a law in the plane with ``log_prob``.
        convention: of the logit; None: no regret.
        rng: what is drawn is drawn from it.
        n: samples of each law.

    Raises:
        UnderResolved: the map folds too finely for the grid.
    """
    pieces = PlanePieces(generator)
    z = rng.standard_normal((n, 2))
    x = target.sample(n, rng), pieces.push(z)
    preimages = pieces.preimages(np.concatenate(x))
    weight = np.exp(-0.5 * (preimages.z**2).sum(axis=1)) / (2 * np.pi * preimages.volume)
    q = np.bincount(preimages.query, weights=weight, minlength=2 * n).astype(np.float64)
    # Of a generated point one preimage is known; where it was not found it is put in, and counted.
    own = preimages.query >= n
    near = np.abs(preimages.z[own] - z[preimages.query[own] - n]).max(axis=1) <= 10 * _SAME
    seen = np.bincount(preimages.query[own][near] - n, minlength=n) > 0
    volume = pieces.slope(z)[2]
    lost = float((~seen & (volume > 0)).mean())
    if lost > _LOST:
        raise UnderResolved(
            f"of {100 * lost:.1f}% of the generated points the latent is not found again: the generator folds the "
            "plane too finely. divergences.pushforward may resolve it.",
            Estimate(lost, _Z * np.sqrt(lost * (1 - lost) / n), level=0.95, method="share not found again", n=n),
        )
    with np.errstate(divide="ignore"):
        q[n:] += np.where(seen, 0.0, np.exp(-0.5 * (z**2).sum(axis=1)) / (2 * np.pi * volume))
        ratio = target.log_prob(np.concatenate(x)) - np.log(q)
    # Where neither has a density that can be told, D* = ½.
    sides = np.where(np.isnan(ratio), 0.0, ratio).reshape(2, n)
    parts = [0.5 * (np.log(2) + log_expit(sign * side)) for sign, side in zip((1.0, -1.0), sides, strict=True)]
    # Mass that is missing from q moves E_p log(p + q) up and E_q log(1 − D*) down, each by at most about itself.
    found, singular = _mean(parts, 0.5 * lost), float((volume == 0).mean())
    if convention is None:
        return Exact(*found, np.nan, np.nan, singular)
    rules = CONVENTIONS[convention]
    twin = copy.deepcopy(discriminator).double().cpu()
    with single_thread(), torch.no_grad():
        logits = rules.sign * twin(torch.from_numpy(np.concatenate(x))[None])[0, :, 0].numpy().reshape(2, n)
    short = _mean(list(rules.scale * coin_divergence(sides, logits)), rules.scale * lost)
    return Exact(*found, *short, singular)


def _mean(parts: list[Float64[np.ndarray, " n"]], extra: float) -> tuple[float, float]:
    value = float(sum(part.mean() for part in parts))
    return value, _Z * float(np.sqrt(sum(part.var(ddof=1) / len(part) for part in parts))) + extra


def _triangles(corners: Float64[np.ndarray, "s s 2"]) -> Float64[np.ndarray, "t 3 2"]:
    """Both triangles of every cell of a grid."""
    a, b, c, d = (
        part.reshape(-1, 2) for part in (corners[:-1, :-1], corners[1:, :-1], corners[:-1, 1:], corners[1:, 1:])
    )
    return np.concatenate([np.stack([a, b, c], axis=1), np.stack([d, c, b], axis=1)])


def _distinct(found: Preimages, queries: int) -> Preimages:
    """Each preimage once, however many starts ended in it."""
    order = found.query.argsort(kind="stable")
    query, z, volume = (part[order] for part in found)
    rank = np.arange(len(query)) - query.searchsorted(query)
    first = np.ones(len(query), dtype=bool)
    for back in range(1, int(rank.max(initial=0)) + 1):
        late = np.flatnonzero(rank >= back)
        first[late[np.abs(z[late] - z[late - back]).max(axis=1) <= _SAME]] = False
    return Preimages(query[first], z[first], volume[first])
