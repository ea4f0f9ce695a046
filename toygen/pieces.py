r"""The law of a generator on the line, piece by piece: exact, and in milliseconds.

A network of this library is piecewise linear. On the line it has a few hundred kinks, each of which can be computed
(``kinks``); between two of them G(z) = y + a·(z − z₀), and z ~ N(0, 1) has the density

$$ p_g(x) = \sum_{j :\, x \in G([z_j, z_{j+1}])} \frac{\varphi(z_j + (x - y_j)/a_j)}{|a_j|}, $$

smooth between the images of the kinks, where it jumps. An integral over x is therefore taken interval by interval, with
Gauss's rule, and an interval on which two rules differ is halved. The general route is ``divergences.pushforward``,
which takes any g and finds its folds by itself; it takes thirty times as long, and is what this one is tested against.

A piece on which G does not move is an atom: it has no density, and D* is 0 there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from scipy.special import expit, log_expit, ndtr, xlogy

from divergences.adversarial import CONVENTIONS
from divergences.distributions import Gaussian, Knots, knots_of
from toygen.networks import MLP, SLOPE
from toygen.train import single_thread

__all__ = ["Exact", "Kinked", "Pieces", "coin_divergence", "kinks", "line_exact"]

# Beyond lies a mass of 2e-19.
_REACH = 9.0
# An interval is halved until its two rules differ by less than this share of what the whole integral may err by.
_TOLERANCE = 1e-6
_ROUNDS = 20
_FINE, _COARSE = np.polynomial.legendre.leggauss(6), np.polynomial.legendre.leggauss(4)
# What summing some 10⁴ numbers costs.
_ROUNDING = 1e-12
# A piece whose image is shorter than this share of all images is an atom.
_FLAT = 1e-12


class Exact(NamedTuple):
    """JSD(p, p_g), V(D*, G) − V(D, G) with their numerical errors, and singular mass; NaN where there is none."""

    jsd: float
    jsd_error: float
    regret: float
    regret_error: float
    singular_mass: float


class Pieces(NamedTuple):
    """G, one member, taken apart at its kinks.

    Attributes:
        z: ends of the pieces, ascending from −9 to 9, shape (m + 1,).
        y: G there, shape (m + 1,).
        flat: which pieces are atoms, shape (m,).
    """

    z: Float64[np.ndarray, " e"]
    y: Float64[np.ndarray, " e"]
    flat: Any

    @classmethod
    def of(cls, generator: MLP) -> Pieces:
        """Those of a generator on the line, one member, in float64."""
        z = np.unique(np.concatenate([kinks(generator, _REACH), np.arange(-_REACH, _REACH + 0.25, 0.5)]))
        y = values(generator, z)
        return cls(z, y, np.abs(np.diff(y)) <= _FLAT * np.abs(y).max())

    @property
    def atoms(self) -> tuple[Float64[np.ndarray, " a"], Float64[np.ndarray, " a"]]:
        """Where the atoms lie, and their masses."""
        return self.y[:-1][self.flat], np.diff(ndtr(self.z))[self.flat]

    def density(self, inside: Float64[np.ndarray, " n"], x: Float64[np.ndarray, "n q"]) -> Float64[np.ndarray, "n q"]:
        """p_g at points x of intervals, each of which lies between neighbouring images of ends.

        Args:
            inside: one point of each interval, which says which pieces cover it.
            x: points of the same intervals.
        """
        low, high = np.minimum(self.y[:-1], self.y[1:]), np.maximum(self.y[:-1], self.y[1:])
        row, piece = np.nonzero((low < inside[:, None]) & (inside[:, None] < high) & ~self.flat)
        pace = np.diff(self.z)[piece] / np.diff(self.y)[piece]
        z = self.z[piece, None] + (x[row] - self.y[piece, None]) * pace[:, None]
        found = np.zeros_like(x)
        np.add.at(found, row, np.abs(pace)[:, None] * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi))
        return found


def line_exact(generator: MLP, discriminator: MLP, target: Any, convention: str | None) -> Exact:
    """What the density of p_g tells of one member on the line.

    Args:
        generator: one member, (1, b, 1) → (1, b, 1).
        discriminator: one member, its output a logit; not looked at without a convention.
        target: a law on the line with ``log_prob``.
        convention: of the logit; None: no regret.
    """
    # In float64: no integral should chase float32's rounding.
    generator, discriminator = (copy.deepcopy(network).double().cpu() for network in (generator, discriminator))
    pieces = Pieces.of(generator)
    ends = [pieces.y, knots_of(target).position]
    if convention is not None:
        ends.append(kinks(discriminator, float(max(np.abs(part).max() for part in ends))))
    rules = None if convention is None else CONVENTIONS[convention]

    def integrand(inside: Any, x: Any) -> Float64[np.ndarray, "2 n q"]:
        q = pieces.density(inside, x)
        log_p = target.log_prob(x.reshape(-1, 1)).reshape(x.shape)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = log_p - np.log(q)
            p = np.exp(log_p)
            jsd = sum(
                np.where(mass > 0, 0.5 * mass * (np.log(2) + log_expit(sign * ratio)), 0.0)
                for sign, mass in ((1, p), (-1, q))
            )
        if rules is None:
            return np.stack([jsd, np.zeros_like(x)])
        own = rules.sign * values(discriminator, x.reshape(-1)).reshape(x.shape)
        # Where neither has mass the ratio is NaN and weighs nothing.
        short = np.where(p + q > 0, rules.scale * (p + q) * coin_divergence(np.nan_to_num(ratio, nan=0.0), own), 0.0)
        return np.stack([jsd, short])

    (jsd, short), errors = integrate(integrand, np.unique(np.concatenate(ends)))
    places, masses = pieces.atoms
    total = float(masses.sum())
    jsd += 0.5 * np.log(2) * total
    if rules is None:
        return Exact(float(jsd), float(errors[0]), np.nan, np.nan, total)
    if total > 0:
        short += rules.scale * (masses * -log_expit(-rules.sign * values(discriminator, places))).sum()
    return Exact(float(jsd), float(errors[0]), float(short), float(errors[1]), total)


def integrate(
    function: Callable[[Any, Any], Float64[np.ndarray, "2 n q"]], edges: Float64[np.ndarray, " e"]
) -> tuple[Float64[np.ndarray, " 2"], Float64[np.ndarray, " 2"]]:
    """∫ of two functions, smooth between edges, with what two rules of Gauss differ by: an estimate of the error.

    Args:
        function: from one point inside each interval (n,) and nodes (n, q) to two values each, (2, n, q).
        edges: ascending, all of them places where a function may jump.
    """
    left, right = edges[:-1], edges[1:]
    allowed = _TOLERANCE / len(left)
    total, doubt = np.zeros(2), np.full(2, _ROUNDING)
    for turn in range(_ROUNDS):
        middle, half = (left + right) / 2, (right - left) / 2
        sums = [
            half * (function(middle, middle[:, None] + half[:, None] * nodes) @ weights)
            for nodes, weights in (_FINE, _COARSE)
        ]
        gap = np.abs(sums[0] - sums[1])
        open_ = (gap > allowed).any(axis=0) if turn < _ROUNDS - 1 else np.zeros(len(left), bool)
        total += sums[0][:, ~open_].sum(axis=1)
        doubt += gap[:, ~open_].sum(axis=1)
        left, right = np.r_[left[open_], middle[open_]], np.r_[middle[open_], right[open_]]
        if not open_.any():
            break
    return total, doubt


def values(network: MLP, x: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Of a network in float64, one member, at points of the line."""
    with single_thread(), torch.no_grad():
        found: np.ndarray = network(torch.as_tensor(x, dtype=torch.float64)[None, :, None])[0, :, 0].numpy()
    return found


class Kinked(Gaussian):
    """N(0, 1) that knows where a generator on the line has its kinks: a density of G(z) jumps there.

    Args:
        places: the kinks.
    """

    def __init__(self, places: Float64[np.ndarray, " m"]) -> None:
        super().__init__([0.0], [[1.0]])
        self._places = places

    def knots(self) -> Knots:
        """Those of the normal law, and the kinks; scale 0: never to be thinned away."""
        own = super().knots()
        return Knots(
            np.concatenate([own.position, self._places]), np.concatenate([own.scale, np.zeros(len(self._places))])
        )


def kinks(network: MLP, reach: float = 40.0) -> Float64[np.ndarray, " m"]:
    """Where a network on the line, one member, changes its slope within ±reach: exact up to rounding.

    Between two kinks of the layers before, every unit is linear, so that a change of sign has one place.
    """
    own = copy.deepcopy(network).double().cpu()
    places = np.array([-reach, reach])
    with torch.no_grad():
        for depth in range(1, len(own.layers)):
            h = torch.from_numpy(places)[None, :, None]
            if own.before is not None:
                h = own.before(h)
            for i, layer in enumerate(own.layers[:depth]):
                h = layer(h if i == 0 else torch.nn.functional.leaky_relu(h, SLOPE))
            at_places = h[0].numpy()
            left, right = at_places[:-1], at_places[1:]
            piece, unit = np.nonzero(left * right < 0)
            share = left[piece, unit] / (left[piece, unit] - right[piece, unit])
            places = np.unique(np.concatenate([places, places[piece] + share * np.diff(places)[piece]]))
    inner: np.ndarray = places[1:-1]
    return inner


def coin_divergence(best: Float64[np.ndarray, "..."], own: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """KL(Bernoulli(σ(best)) ‖ Bernoulli(σ(own))), from the logits."""
    share, rest = expit(best), expit(-best)
    return xlogy(share, share) + xlogy(rest, rest) - share * log_expit(own) - rest * log_expit(-own)
