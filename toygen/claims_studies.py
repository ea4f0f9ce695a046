r"""The trainings that the claims are about: small, seeded, each done once however many claims ask for it.

A *stage* is a pair of laws with a quadrature of its own: p, and the law p_g of a trained generator that is then held
still, its density from ``pushforward``. On the stage only discriminators are trained, eight of them per objective, on
fresh points in every step: what they should become is known.
"""

from __future__ import annotations

import functools
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from scipy.special import expit
from torch import Tensor

from divergences import Estimate, Gaussian, Mixture, pushforward
from toygen.layers import Affine, EnsembleLinear, SpectralLinear
from toygen.networks import MLP
from toygen.objectives import OBJECTIVES
from toygen.penalties import PENALTIES
from toygen.pieces import Kinked, kinks
from toygen.players import gan
from toygen.recipes import Recipe
from toygen.runs import fit_gan
from toygen.sampler import Sampler
from toygen.train import train

__all__ = [
    "LOG",
    "Stage",
    "Trained",
    "at_least",
    "at_most",
    "ensemble_mean",
    "gaussian_stage",
    "network_stage",
    "train_discriminators",
]

LOG = logging.getLogger("toygen.claims")
MEMBERS, _BATCH = 8, 128
# What a discriminator (not a critic) multiplies standardized points with, as in the standard recipe.
GAIN = 3.0
_NODES = 20_001
# Two-sided 99.9 %: a table of claims should not fail by chance.
LEVEL = 0.999


@dataclass(frozen=True, eq=False)
class Stage:
    """Two laws on the line, the second of x = G(z), z ~ N(0, 1), and nodes for integrals over each.

    Attributes:
        p: law of the data.
        q: law of the generator.
        generator: G, one member.
        x: nodes, shape (2, m): the first row for p, the second, G of a grid in z, for q.
        weights: of the nodes, shape (2, m).
        ratio: log p/q at the nodes, shape (2, m).
    """

    p: Any
    q: Any
    generator: MLP
    x: Float64[np.ndarray, "2 m"]
    weights: Float64[np.ndarray, "2 m"]
    ratio: Float64[np.ndarray, "2 m"]

    @classmethod
    def of(cls, p: Any, generator: MLP) -> Stage:
        """The nodes are equidistant in x for p and in z for q, where no fold of G can make an integrand singular."""
        push = Sampler(generator, Gaussian(0.0, 1.0)).push
        q = pushforward(push, Kinked(kinks(generator)))
        z = np.linspace(-8.0, 8.0, _NODES)
        low, high = (float(end) for end in p.quantile(np.array([1e-12, 1 - 1e-12])))
        rows = np.linspace(low, high, _NODES), push(z[:, None])[:, 0]
        weights = np.stack([np.exp(p.log_prob(rows[0])) * (rows[0][1] - rows[0][0]), np.exp(-(z**2) / 2)])
        weights[1] *= (z[1] - z[0]) / math.sqrt(2 * math.pi)
        ratio = np.stack([p.log_prob(row) - q.log_prob(row) for row in rows])
        return cls(p, q, generator, np.stack(rows), weights, ratio)

    @property
    def d_star(self) -> Float64[np.ndarray, "2 m"]:
        """p/(p + q) at the nodes."""
        return expit(self.ratio)

    def mean(self, values: Float64[np.ndarray, "k 2 m"]) -> tuple[np.ndarray, np.ndarray]:
        """E_m of values at the nodes, m = (p + q)/2, member by member; and its change on leaving out every other node.

        Shapes (K,), (K,).
        """
        whole = 0.5 * (self.weights * values).sum(axis=(1, 2))
        half = (self.weights * values)[:, :, ::2].sum(axis=(1, 2))
        return whole, np.abs(whole - half)

    def outputs(self, discriminator: MLP) -> Float64[np.ndarray, "k 2 m"]:
        """What the members say at the nodes, in float64."""
        return outputs(discriminator, self.x.reshape(-1)).reshape(-1, *self.x.shape)


class Trained(NamedTuple):
    """Discriminators after training on a stage, in float64, and the stage."""

    stage: Stage
    discriminator: MLP


def outputs(discriminator: MLP, x: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, "k n"]:
    """Of every member at points of the line."""
    with torch.no_grad():
        points = torch.from_numpy(x)[None, :, None].to(discriminator.dtype).expand(discriminator.members, -1, -1)
        values: np.ndarray = discriminator(points)[..., 0].double().numpy()
    return values


def ensemble_mean(values: Float64[np.ndarray, " k"], method: str, extra: float = 0.0) -> Estimate:
    """Mean over members with Student's 99.9 % interval: of the *expected* value over seeds."""
    from scipy.special import stdtrit

    n = len(values)
    arm = float(stdtrit(n - 1, 0.5 + LEVEL / 2)) * float(values.std(ddof=1)) / math.sqrt(n) + extra
    return Estimate(float(values.mean()), arm, level=LEVEL, method=f"{method}, mean of {n} members", n=n)


def at_most(mean: Estimate) -> Estimate:
    """The upper end of an interval, to stand on the left of "≤": the claim then holds with the interval's level."""
    return replace(mean, value=mean.interval[1], error=0.0, method=f"{mean.method}: upper end")


def at_least(mean: Estimate) -> Estimate:
    """The lower end of an interval, to stand on the right of "≤"."""
    return replace(mean, value=mean.interval[0], error=0.0, method=f"{mean.method}: lower end")


def told(function: Callable[..., Any]) -> Callable[..., Any]:
    """Done once per set of arguments; the log says what is being trained, and how long it took."""

    @functools.cache
    @functools.wraps(function)
    def once(*arguments: Any) -> Any:
        name = " ".join([function.__name__.replace("_", " "), *map(str, arguments)])
        LOG.info("training: %s ...", name)
        start = time.perf_counter()
        result = function(*arguments)
        LOG.info("training: %s, %.1f s", name, time.perf_counter() - start)
        return result

    return once


@told
def network_stage() -> Stage:
    """p: a mixture of two Gaussians; p_g: of a generator after 300 steps, not yet good.

    Of eight generators the first is taken that does not fold the line over itself: at a fold p_g is infinite, and no
    network of finite width comes near D* there.
    """
    p = Mixture([Gaussian(-1.0, 0.25), Gaussian(1.5, 0.36)], [0.4, 0.6])
    data = p.sample(5000, np.random.default_rng(5))
    recipe = replace(Recipe(latent_dim=1, chunk=8).quick(), depths=(2, 2))
    ensemble = fit_gan(data, recipe=recipe, members=8, steps=300, seed=5)
    z = np.linspace(-8.0, 8.0, 2001)[:, None]
    slopes = [np.diff(ensemble.sampler(k).push(z)[:, 0]) for k in range(8)]
    place = next(k for k, own in enumerate(slopes) if (own > 0).all() or (own < 0).all())
    return Stage.of(p, ensemble.generators.pick([place]))


@told
def gaussian_stage(distance: float) -> Stage:
    """N(0, 1) and N(distance, 1), the second as the law of G(z) = z + distance."""
    return Stage.of(Gaussian(0.0, 1.0), shift_generator(distance))


def shift_generator(distance: float) -> MLP:
    """G(z) = z + distance, one member."""
    generator = MLP([1, 1], [np.random.default_rng(0)])
    with torch.no_grad():
        generator.dense[0].weight.fill_(1.0)
        generator.dense[0].bias.fill_(distance)
    return generator


@told
def train_discriminators(stage: str, objective: str, penalty: str, steps: int) -> Trained:
    """Eight discriminators (three layers of 32) on a stage: Adam, cosine from 3e-3 to 0, batches of 128 fresh points.

    Args:
        stage: "network", or "gaussian DISTANCE".
        objective: name of one of ``OBJECTIVES``.
        penalty: name of one of ``PENALTIES``; a one-centred one weighs 10, the paper's λ; others weigh nothing here.
        steps: moves.
    """
    where: Stage = network_stage() if stage == "network" else gaussian_stage(float(stage.split()[1]))
    rules = PENALTIES[penalty]
    # The first layer sees points of about unit variance, as in a recipe.
    spread = float(np.sqrt(np.average((where.x - where.x.mean()) ** 2, weights=where.weights)))
    center = float(np.average(where.x, weights=where.weights))
    layer: Any = functools.partial(SpectralLinear, gain=1.0) if rules.needs is SpectralLinear else EnsembleLinear
    rngs = np.random.default_rng(17).spawn(MEMBERS)
    critic = OBJECTIVES[objective].lipschitz
    gain = 1.0 if critic else GAIN
    before = Affine([-gain * center / spread], [gain / spread])
    network = MLP(
        [1, 32, 32, 32, 1], rngs, before=before, after=Affine([0.0], [spread]) if critic else None, layer=layer
    )
    move(where, network, objective, penalty, steps)
    return Trained(where, network.double())


def move(stage: Stage, network: MLP, objective: str, penalty: str, steps: int) -> None:
    """Train the discriminators against the generator of the stage, which stays as it is."""
    rules = PENALTIES[penalty]
    generator = stage.generator.pick([0] * network.members)
    turn = gan(
        generator,
        network,
        objective=OBJECTIVES[objective],
        latent=Gaussian([0.0], [[1.0]]),
        penalty=rules.weighted(10.0) if rules.term is not None else rules,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=3e-3, betas=(0.5, 0.99)),
        rng=np.random.default_rng(18),
    )[0]
    for step in train([turn], fresh(stage.p, network.members, _BATCH), steps):
        for group in turn.optimizer.param_groups:
            group["lr"] = 3e-3 * 0.5 * (1 + math.cos(math.pi * (step.index + 1) / steps))


def fresh(law: Any, members: int, size: int, seed: int = 19) -> Iterator[Tensor]:
    """Batches of points nobody has seen: (K, size, d)."""
    rng = np.random.default_rng(seed)
    while True:
        block = law.sample(64 * members * size, rng).reshape(64, members, size, -1)
        yield from torch.from_numpy(block.astype(np.float32))
