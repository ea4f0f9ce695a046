"""JSD and KL against W₁ as q slides away from p.

Left: two uniform laws on unit intervals (or two parallel line segments), θ apart. As soon as the supports differ KL is
infinite; once they are disjoint JSD is stuck at log 2, and its gradient is zero: a generator that is judged by it
learns nothing about where to go. W₁ is |θ|: it always points home.

Right: two Gaussians of equal width. Nothing is infinite here, and yet JSD saturates as soon as they are a few standard
deviations apart, KL grows as θ²/2, W₁ as |θ|.

After Wasserstein GAN (Arjovsky, Chintala, Bottou, 2017), example 1.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from divergences import Gaussian, Uniform, jsd, kl, wasserstein
from figures.canvas import D_COLOR, INK, P_COLOR, Q_COLOR, new_figure

_FAMILIES = {"uniform": lambda theta: Uniform(theta, theta + 1.0), "gaussian": lambda theta: Gaussian(theta, 1.0)}
_REACH = {"uniform": 2.0, "gaussian": 6.0}


def compute(rng: np.random.Generator, *, quick: bool = False) -> dict[str, np.ndarray]:
    """Exact divergences on a grid of θ: no training, no sampling, so neither rng nor quick changes anything."""
    data: dict[str, np.ndarray] = {}
    for family, law in _FAMILIES.items():
        theta = np.linspace(-_REACH[family], _REACH[family], 61)
        p = law(0.0)
        data[f"{family}_theta"] = theta
        data[f"{family}_jsd"] = np.array([float(jsd(p, law(t))) for t in theta])
        data[f"{family}_kl"] = np.array([float(kl(p, law(t))) for t in theta])
        data[f"{family}_w1"] = np.array([float(wasserstein(p, law(t)).cost) for t in theta])
    return data


def draw(data: dict[str, np.ndarray]) -> Figure:
    """Two panels."""
    figure = new_figure(11.5, 4.6)
    titles = {"uniform": r"$U[0,1]$ against $U[\theta, \theta+1]$", "gaussian": r"$N(0,1)$ against $N(\theta,1)$"}
    tops = {"uniform": 2.3, "gaussian": 6.3}
    for axes, family in zip(figure.subplots(1, 2), _FAMILIES, strict=True):
        theta, top = data[f"{family}_theta"], tops[family]
        axes.plot(theta, data[f"{family}_w1"], color=P_COLOR, label=r"$W_1$")
        axes.plot(theta, data[f"{family}_jsd"], color=Q_COLOR, linestyle="--", label="JSD")
        infinite = np.isinf(data[f"{family}_kl"])
        axes.plot(theta[~infinite], data[f"{family}_kl"][~infinite], color=D_COLOR, linestyle="-.", label="KL")
        if infinite.any():
            axes.plot(
                theta[infinite],
                np.full(infinite.sum(), 0.97 * top),
                color=D_COLOR,
                marker="^",
                markersize=4,
                linestyle="none",
                label=r"KL $= \infty$",
            )
            axes.plot(theta[~infinite], data[f"{family}_kl"][~infinite], color=D_COLOR, marker="o", linestyle="none")
        axes.axhline(np.log(2), color=INK, linewidth=0.9, linestyle=":")
        axes.text(theta[-1], np.log(2) + 0.02 * top, r"$\log 2$", color=INK, ha="right", va="bottom")
        axes.set(xlabel=r"$\theta$", ylim=(-0.03 * top, top), title=titles[family])
        axes.legend(loc="upper center", ncols=2)
    figure.axes[0].set_ylabel("nats (JSD, KL) or length ($W_1$)")
    return figure
