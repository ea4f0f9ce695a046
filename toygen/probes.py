r"""What is measured on networks and clouds of points, for all members of an ensemble at once.

Every function takes a leading member axis K and gives one number per member, most of them as ``Readings``: values with
half-widths of 95 % intervals. A member with a number that is not finite gets NaN and disturbs nobody.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from divergences import UnderResolved, wasserstein
from toygen.game import Game
from toygen.networks import MLP, pack_points
from toygen.objectives import Objective
from toygen.penalties import none
from toygen.pieces import line_exact
from toygen.plane_pieces import plane_exact
from toygen.train import single_thread

__all__ = [
    "Known",
    "Readings",
    "clouds",
    "game_gradients",
    "known_law",
    "scores",
    "slopes_between",
    "transport",
]

_Z = 1.959964


class Readings(NamedTuple):
    """One number per member, with its error.

    Attributes:
        value: shape (K,); NaN where there is none.
        error: shape (K,): half-width of the 95 % interval, or a numerical error where there is nothing random.
    """

    value: Float64[np.ndarray, " k"]
    error: Float64[np.ndarray, " k"]

    @classmethod
    def of_means(cls, *parts: Float64[np.ndarray, "k n"]) -> Readings:
        """The sum of the means over the last axes of independent samples."""
        # A member that diverged has infinities: inf − inf is its own affair.
        with np.errstate(invalid="ignore", over="ignore"):
            value = np.sum([part.mean(axis=1) for part in parts], axis=0)
            variance = np.sum([part.var(axis=1, ddof=1) / part.shape[1] for part in parts], axis=0)
        return cls(value, _Z * np.sqrt(variance))


class Known(NamedTuple):
    """What the density of p_g tells: JSD(p, p_g), V(D*, G) − V(D, G), singular mass; K numbers each."""

    jsd: Readings
    regret: Readings
    singular_mass: Float64[np.ndarray, " k"]


def clouds(generator: MLP, latents: Float64[np.ndarray, "k n z"]) -> Float64[np.ndarray, "k n d"]:
    """G(z) of every member, in the units of the data."""
    with single_thread(), torch.no_grad():
        points: np.ndarray = generator(_tensor(latents, generator)).double().cpu().numpy()
    return points


def scores(discriminator: MLP, x: Float64[np.ndarray, "k n d"]) -> Float64[np.ndarray, "k m"]:
    """The discriminator's output at points, or at packs of them: (K, n/pack)."""
    with single_thread(), torch.no_grad():
        out = discriminator(pack_points(_tensor(x, discriminator), discriminator.pack))[..., 0]
    values: np.ndarray = out.double().cpu().numpy()
    return values


def transport(x: Float64[np.ndarray, "k n d"], y: Float64[np.ndarray, "k n d"]) -> Readings:
    r"""W₁ between two clouds of n points, member by member: exact, by sorting on the line and by a linear program else.

    The error is that of a sample for its *expected* distance at this n, 1.96·√(Var u(x)/n + Var v(y)/n) with optimal
    potentials u, v; that this expectation lies above W₁ of the laws is what the null is there for.

    Reference: Central limit theorems for empirical transportation cost in general dimension (del Barrio, Loubes, 2019),
    https://arxiv.org/abs/1705.01299.
    """
    if x.shape[2] == 1:
        return _line_transport(x[..., 0], y[..., 0])
    value, error = np.full(len(x), np.nan), np.full(len(x), np.nan)
    for k in np.flatnonzero(np.isfinite(x).all(axis=(1, 2))):
        plan = wasserstein(x[k], y[k])
        value[k] = plan.cost.value
        if plan.potentials is not None:
            error[k] = _Z * np.sqrt(sum(float(part.var(ddof=1)) / len(part) for part in plan.potentials))
    return Readings(value, error)


def _line_transport(x: Float64[np.ndarray, "k n"], y: Float64[np.ndarray, "k n"]) -> Readings:
    n = x.shape[1]
    pooled = np.concatenate([x, y], axis=1)
    order = pooled.argsort(axis=1)
    place = np.take_along_axis(pooled, order, axis=1)
    # The critic climbs where more of y than of x lies to the left: f′ = sign(G − F).
    lead = np.cumsum(np.where(order < n, -1.0, 1.0), axis=1)[:, :-1]
    with np.errstate(invalid="ignore"):
        gaps = np.diff(place, axis=1)
        climb = np.concatenate([np.zeros((len(x), 1)), np.cumsum(np.sign(lead) * gaps, axis=1)], axis=1)
        value = (np.abs(lead) * gaps).sum(axis=1) / n
    critic = np.empty_like(climb)
    np.put_along_axis(critic, order, climb, axis=1)
    return Readings(value, Readings.of_means(critic[:, :n], critic[:, n:]).error)


def slopes_between(
    discriminator: MLP, x: Float64[np.ndarray, "k n d"], y: Float64[np.ndarray, "k n d"], mix: np.ndarray
) -> tuple[Float64[np.ndarray, " k"], Readings]:
    """|∇D| at m·x + (1 − m)·y: the largest found, a lower bound of the Lipschitz constant, and the mean.

    Args:
        discriminator: its slope is looked at.
        x: data.
        y: generated points.
        mix: m, uniform, shape (K, n/pack, 1).
    """
    with single_thread():
        ends = [pack_points(_tensor(points, discriminator), discriminator.pack) for points in (x, y)]
        m = _tensor(mix, discriminator)
        between = (m * ends[0] + (1 - m) * ends[1]).requires_grad_()
        (gradient,) = torch.autograd.grad(discriminator(between)[..., 0].sum(), between)
        lengths = gradient.norm(dim=-1).double().cpu().numpy()
        # A kinked activation has a slope even at NaN.
        lengths[~torch.isfinite(between.detach()).all(dim=-1).cpu().numpy()] = np.nan
    return lengths.max(axis=1), Readings.of_means(lengths)


def game_gradients(
    generator: MLP,
    discriminator: MLP,
    objective: Objective,
    latents: Float64[np.ndarray, "k n z"],
    real: Float64[np.ndarray, "k n d"],
) -> tuple[Readings, Readings]:
    """Norms of ∇_φ L_D and ∇_θ L_G, without the penalty.

    The points are taken in two halves. Their mean gradient is what is measured; the error is half the distance of the
    halves' gradients, the norm's own noise: a gradient of 0 measures about as much as its error.
    """
    players = copy.deepcopy(generator), copy.deepcopy(discriminator)
    for player in players:
        player.requires_grad_(requires_grad=True)
    game = Game(*players, objective, none)
    half = latents.shape[1] // (2 * game.pack) * game.pack
    z, x = _tensor(latents, generator), _tensor(real, discriminator)
    rows: list[list[Tensor]] = [[], []]
    with single_thread():
        for part in (slice(0, half), slice(half, 2 * half)):
            fake = players[0](z[:, part])
            losses = (game.of_generator(x[:, part], fake), game.of_discriminator(x[:, part], fake.detach()))
            for row, player, loss in zip(rows, players, losses, strict=True):
                weights = list(player.parameters())
                found = torch.autograd.grad(loss.sum(), weights)
                row.append(torch.cat([gradient.flatten(1) for gradient in found], dim=1).double())
    norms = []
    for first, second in rows:
        pair = [((first + sign * second) / 2).norm(dim=1).cpu().numpy() for sign in (1, -1)]
        norms.append(Readings(pair[0], pair[1]))
    return norms[1], norms[0]


def known_law(
    generator: MLP,
    discriminator: MLP,
    target: Any,
    *,
    convention: str | None,
    places: list[int],
    rngs: list[np.random.Generator],
    n: int,
) -> tuple[Known, dict[int, str]]:
    """JSD and regret by the exact density of p_g, for the members at the given places; NaN for the others.

    On the line both are integrated (``pieces``); in the plane they are means over n samples of each law, at which both
    densities are computed (``plane_pieces``). Where a density cannot be resolved the reason is given instead.
    """
    arrays = np.full((5, generator.members), np.nan)
    refused: dict[int, str] = {}
    for k in places:
        ours, theirs = generator.pick([k]), discriminator.pick([k])
        try:
            if target.dim == 1:
                arrays[:, k] = line_exact(ours, theirs, target, convention)
            else:
                arrays[:, k] = plane_exact(ours, theirs, target, convention, rng=rngs[k], n=n)
        except UnderResolved as error:
            refused[k] = str(error)
    return Known(Readings(*arrays[:2]), Readings(*arrays[2:4]), arrays[4]), refused


def _tensor(array: np.ndarray, like: MLP) -> Tensor:
    return torch.as_tensor(array, dtype=like.dtype, device=next(like.parameters()).device)
