"""A GAN learns a bell: Figure 1 of Goodfellow et al., really trained.

Blue: the density p of the data. Vermillion: the generator's density p_g, exact, computed by change of variables from
the trained network: its steps are that network's kinks. Green: the trained discriminator D, and dotted the best
possible one, D* = p/(p + p_g). Below, the map from z, uniform (the network sees its normal quantile), to x = G(z):
where the arrows crowd, p_g is high.

(a) Early: p_g lies beside p, and D is still only partly right. (b) D alone is trained on, G held fixed: it approaches
D*. (c) G moves on, in the direction in which D rises. (d) The end: p_g is close to p, and D hovers around ½: it cannot
tell the two apart. In every panel V(D, G) of the trained D falls short of V(D*, G) = 2·JSD − log 4; the difference is
its regret.

After Generative Adversarial Networks (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.special import ndtri

from divergences import Gaussian, gan_value, jsd, optimal_discriminator, pushforward
from figures.canvas import D_COLOR, INK, P_COLOR, Q_COLOR, new_figure
from toygen import MLP, OBJECTIVES, PENALTIES, Average, Turn, adam, gan, minibatches, train

_TARGET = Gaussian(0.0, 1.0)
_LATENT = Gaussian(0.0, 1.0)
_START = (1.6, 0.55)
_SPAN = (-4.5, 4.5)
_BINS = 300
_SHOWN = np.linspace(0.01, 0.99, 25)
# Moves per stage; in (b) only D plays.
_STEPS = {"early": 15, "critic": 700, "middle": 150, "end": 2500}


def compute(rng: np.random.Generator, *, quick: bool = False) -> dict[str, np.ndarray]:
    """Train one GAN on N(0, 1) in four stages; at each, densities, discriminators, the map and the game's value."""
    generator = MLP([1, 32, 32, 1], rng.spawn(1))
    discriminator = MLP([1, 48, 48, 1], rng.spawn(1))
    _start_beside_the_target(generator, rng)
    batches = minibatches(_TARGET.sample(20_000, rng), size=256, rng=rng.spawn(1), members=1)

    def players(weight: float) -> list[Turn]:
        penalty = replace(PENALTIES["r1_r2"], weight=weight)
        return gan(
            generator,
            discriminator,
            objective=OBJECTIVES["non_saturating"],
            latent=_LATENT,
            penalty=penalty,
            rng=rng.spawn(1),
        )

    average = Average(generator, 0.995)
    stages = []
    for name, steps in _STEPS.items():
        # A little damping lets the two settle; D alone needs none, and comes closer to D* without.
        turns = players(0.001)[:1] if name == "critic" else players(0.03)
        for step in train(turns, batches, steps // 2 if quick and name == "end" else steps):
            if name == "end":
                average.update()
                for turn in turns:
                    turn.optimizer.param_groups[0]["lr"] = 1e-3 * (1 - step.index / steps)
        stages.append(_look(average.network if name == "end" else generator, discriminator))
    data = {key: np.stack([stage[key] for stage in stages]) for key in stages[0]}
    data["x"] = _centers()
    data["p"] = np.exp(_TARGET.log_prob(data["x"]))
    data["z"] = _SHOWN
    return data


def _start_beside_the_target(generator: MLP, rng: np.random.Generator) -> None:
    """Solitaire: fit G to an affine map, so that the first p_g is a bell to the right of p."""
    mean, width = _START

    def distance(z: torch.Tensor) -> torch.Tensor:
        return ((generator(z) - mean - width * z) ** 2).mean(dim=(1, 2))

    latents = minibatches(rng.normal(size=(20_000, 1)), size=256, rng=rng.spawn(1), members=1)
    for _ in train([Turn("start", distance, adam(generator.parameters()))], latents, 800):
        pass


def _centers() -> np.ndarray:
    edges = np.linspace(*_SPAN, _BINS + 1)
    return (edges[:-1] + edges[1:]) / 2


def _look(generator: MLP, discriminator: MLP) -> dict[str, np.ndarray]:
    """Everything the picture shows of one stage."""
    p_g = pushforward(lambda z: _evaluate(generator, z[:, 0])[:, None], _LATENT)

    def logit(x: np.ndarray) -> np.ndarray:
        return _evaluate(discriminator, x[:, 0])

    x = _centers()
    divergence = jsd(_TARGET, p_g)
    value = gan_value(logit, _TARGET, p_g)
    return {
        "p_g": np.exp(p_g.log_prob(x[:, None])),
        "d_star": optimal_discriminator(_TARGET, p_g)(x[:, None]),
        "d_trained": 1 / (1 + np.exp(-logit(x[:, None]))),
        "map": _evaluate(generator, ndtri(_SHOWN)),
        "jsd": np.array([divergence.value, divergence.error]),
        "value": np.array([value.value, value.error]),
    }


def _evaluate(network: MLP, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network.pick([0]).double()(torch.tensor(x).reshape(1, -1, 1))[0, :, 0].numpy()


def draw(data: dict[str, np.ndarray]) -> Figure:
    """Four panels, each with its z → x map below."""
    figure = new_figure(15, 5.2)
    grid = figure.subplots(2, 4, sharex=True, height_ratios=(3.2, 1))
    titles = ("(a) early", "(b) D alone is trained", "(c) G moves", "(d) the end")
    for k, title in enumerate(titles):
        upper, lower = grid[0, k], grid[1, k]
        upper.plot(data["x"], data["p"], color=P_COLOR, label="$p$")
        upper.plot(data["x"], data["p_g"][k], color=Q_COLOR, linestyle="--", label="$p_g$")
        upper.plot(data["x"], data["d_trained"][k], color=D_COLOR, linewidth=1.8, label="$D$")
        upper.plot(data["x"], data["d_star"][k], color=INK, linewidth=1.6, linestyle=":", label="$D^*$")
        best = 2 * data["jsd"][k, 0] - np.log(4)
        upper.set_title(f"{title}\n$V(D) = {data['value'][k, 0]:.3f}$, $V(D^*) = {best:.3f}$", fontsize=12.5)
        upper.set(xlim=(-4, 4), ylim=(0, 1.12))
        for z, x in zip(data["z"], data["map"][k], strict=True):
            start = -4 + 8 * z
            lower.annotate("", (x, 1), (start, 0), arrowprops={"arrowstyle": "->", "color": INK, "linewidth": 0.8})
        lower.set(ylim=(0, 1), yticks=[0, 1], yticklabels=["$z$", "$x$"], xlabel="$x$")
        lower.tick_params(left=False)
        lower.spines["left"].set_visible(False)
    grid[0, 0].legend(loc="upper left", ncols=2, columnspacing=1.0)
    return figure
