"""One picture of a trained VAE: what it believes, what its bound misses and where, and where its codes lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.pictures import GREY, INK, P_COLOR, Q_COLOR, new_figure, style
from toygen.autoencoder_runs import AutoencoderEnsemble
from toygen.evidence import Evidence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_evidence"]

_SHADOW = 0.25


def draw_evidence(
    ensemble: AutoencoderEnsemble, place: int, target: Any, x: np.ndarray, found: Evidence, *, title: str, rng: Any
) -> Figure:
    """Three panels: the law against the target, the two gaps at held-out points, the posteriors' means and the prior.

    Args:
        ensemble: of kind "vae" or "iwae".
        place: of the member.
        target: the law of the points.
        x: held-out points (n, d), d of one or two.
        found: what ``evidence`` says about them.
        title: over the figure.
        rng: of the draws shown.
    """
    with style():
        figure = new_figure(11.0, 3.9)
        law, gaps, codes = figure.subplots(1, 3)
        figure.suptitle(title, parse_math=False)
        if x.shape[1] == 1:
            _law_on_the_line(law, ensemble, place, target, x)
            _gaps_on_the_line(gaps, x, found)
        else:
            _law_in_the_plane(law, ensemble, place, target, rng)
            _gaps_in_the_plane(gaps, x, found)
        mean, variance = ensemble.encode(x, place)
        if mean.shape[1] == 1:
            _codes_on_the_line(codes, x, mean[:, 0], variance[:, 0])
        else:
            _codes_in_the_plane(codes, mean, variance)
    return figure


def _law_on_the_line(axes: Axes, ensemble: AutoencoderEnsemble, place: int, target: Any, x: np.ndarray) -> None:
    low, high = float(x.min()), float(x.max())
    grid = np.linspace(low - 0.25 * (high - low), high + 0.25 * (high - low), 400)[:, None]
    axes.plot(grid[:, 0], np.exp(target.log_prob(grid)), color=P_COLOR, label="target p")
    density = np.exp(ensemble.law(place).log_prob(grid))
    axes.plot(grid[:, 0], density, color=Q_COLOR, ls="--", label="exact law of the VAE")
    axes.set(
        title="what it believes",
        xlabel="x",
        ylabel="density",
        ylim=(0, 1.3 * float(np.exp(target.log_prob(grid)).max())),
    )
    axes.legend(frameon=False, fontsize=8)


def _law_in_the_plane(axes: Axes, ensemble: AutoencoderEnsemble, place: int, target: Any, rng: Any) -> None:
    real, drawn = target.sample(1500, rng), ensemble.sampler(place)(1500, rng)
    axes.scatter(
        drawn[:, 0], drawn[:, 1], s=8, marker="x", color=Q_COLOR, alpha=0.5, lw=0.6, label="VAE, noise and all"
    )
    axes.scatter(real[:, 0], real[:, 1], s=5, marker="o", color=P_COLOR, alpha=0.6, lw=0, label="target p")
    axes.set(title="what it believes", xlabel="x₁", ylabel="x₂")
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(frameon=False, fontsize=8, loc="center", markerscale=2.0)


def _gaps_on_the_line(axes: Axes, x: np.ndarray, found: Evidence) -> None:
    order = np.argsort(x[:, 0])
    low, both = found.points.approximation[order], found.points.gap[order]
    axes.fill_between(x[order, 0], 0, low, color=Q_COLOR, alpha=0.55, lw=0, label="the Gaussian family's")
    axes.fill_between(x[order, 0], low, both, color=INK, alpha=0.55, lw=0, label="the encoder's")
    # Between points nothing was measured.
    axes.plot(x[order, 0], both, ".", color=INK, ms=3)
    axes.set(title="what the ELBO misses, log q(x) − ELBO", xlabel="x", ylabel="nats", ylim=(0, None))
    axes.legend(frameon=False, fontsize=8)


def _gaps_in_the_plane(axes: Axes, x: np.ndarray, found: Evidence) -> None:
    shown = axes.scatter(x[:, 0], x[:, 1], c=found.points.gap, s=16, cmap="cividis", lw=0, vmin=0)
    assert axes.figure is not None
    axes.figure.colorbar(shown, ax=axes, label="nats")
    axes.set(title="what the ELBO misses, log q(x) − ELBO", xlabel="x₁", ylabel="x₂")
    axes.set_aspect("equal", adjustable="datalim")


def _codes_on_the_line(axes: Axes, x: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> None:
    if x.shape[1] == 1:
        order = np.argsort(x[:, 0])
        sd = np.sqrt(variance[order])
        axes.fill_between(x[order, 0], mean[order] - sd, mean[order] + sd, color=Q_COLOR, alpha=_SHADOW, lw=0)
        axes.plot(x[order, 0], mean[order], color=Q_COLOR, label="q(z|x): mean ± sd")
        axes.set(xlabel="x", ylabel="z")
    else:
        axes.hist(mean, bins=30, color=Q_COLOR, alpha=0.6, label="means of q(z|x)")
        axes.set(xlabel="z", ylabel="points")
    for edge in (-1, 1):
        axes.plot(axes.get_xlim(), [edge, edge], color=GREY, ls=":", lw=0.8) if x.shape[1] == 1 else axes.axvline(
            edge, color=GREY, ls=":", lw=0.8
        )
    axes.set_title("its codes; dotted: the prior ± sd")
    axes.legend(frameon=False, fontsize=8)


def _codes_in_the_plane(axes: Axes, mean: np.ndarray, variance: np.ndarray) -> None:
    from matplotlib.patches import Circle, Ellipse

    for center, spread in zip(mean, variance, strict=True):
        width, height = 2 * np.sqrt(spread)
        ellipse = Ellipse((center[0], center[1]), width, height, color=Q_COLOR, alpha=_SHADOW, lw=0)
        axes.add_patch(ellipse)
    axes.scatter(mean[:, 0], mean[:, 1], s=4, color=INK, lw=0, zorder=3)
    for radius in (1, 2):
        axes.add_patch(Circle((0, 0), radius, fill=False, color=GREY, ls=":", lw=0.8))
    axes.set(title="its codes ± sd; circles: the prior's", xlabel="z₁", ylabel="z₂")
    reach = max(2.3, 1.1 * float(np.abs(mean).max()))
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach))
    axes.set_aspect("equal")
