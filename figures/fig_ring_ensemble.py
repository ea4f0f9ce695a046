"""A ring of eight, learned by an ensemble: one panel per member.

One seed is an anecdote. Here every member is the same GAN (non-saturating, zero-centred gradient penalties R1 and R2)
started from its own seed, and all of them are trained in one batched pass. Under each panel stands how many of the
eight modes it covers, counted on 2 500 samples by the usual rule: a sample is of high quality if it lies within three
standard deviations of the nearest mode, and a mode is covered if at least one high-quality sample falls to it. A
perfect generator has 98.9 % of high-quality samples. A real one has fewer: it is continuous, so its modes are joined by
thin bridges.

The line on top gives the share of members that cover all eight, with its 95 % interval.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from evaluation.intervals import clopper_pearson
from evaluation.modes import mode_coverage
from figures.canvas import INK, P_COLOR, Q_COLOR, new_figure
from toygen import Recipe, fit_gan, targets

_SAMPLES = 2500
_SHOWN = 600


def compute(rng: np.random.Generator, *, quick: bool = False) -> dict[str, np.ndarray]:
    """Train the ensemble; count what each member covers."""
    members, steps = (8, 4000) if quick else (32, 10_000)
    target = targets.ring()
    train = target.sample(10_000, rng)
    recipe = Recipe(chunk=members).quick()
    ensemble = fit_gan(train, recipe=recipe, members=members, steps=steps, seed=int(rng.integers(2**32)))
    clouds = ensemble.sample(_SAMPLES, rng)
    counts = [mode_coverage(generated=cloud, modes=target) for cloud in clouds]
    complete = sum(count.captured == count.total for count in counts)
    share = clopper_pearson(complete, members)
    return {
        "samples": clouds[:, :_SHOWN],
        "means": np.array([record.mean for record in counts[0].per_mode]),
        "captured": np.array([count.captured for count in counts]),
        "hit": np.array([[record.hits > 0 for record in count.per_mode] for count in counts]),
        "high_quality": np.array([count.high_quality.value for count in counts]),
        "high_quality_null": np.array(counts[0].high_quality_null),
        "complete": np.array([complete, members]),
        "complete_interval": np.array(share.interval),
    }


def draw(data: dict[str, np.ndarray]) -> Figure:
    """One panel per member: samples, and a ring around each mode, dashed where it is missing."""
    members = len(data["samples"])
    columns = 8 if members > 8 else 4
    rows = -(-members // columns)
    figure = new_figure(1.6 * columns, 1.85 * rows + 1.0)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    modes = len(data["means"])
    for axes in grid[members:]:
        axes.set_visible(False)
    for k, axes in enumerate(grid[:members]):
        axes.scatter(*data["samples"][k].T, s=2, color=Q_COLOR, linewidths=0, rasterized=True)
        for mean, hit in zip(data["means"], data["hit"][k], strict=True):
            line = {"edgecolor": P_COLOR} if hit else {"edgecolor": INK, "linestyle": ":"}
            axes.add_patch(Circle(tuple(mean), 0.17, fill=False, linewidth=1.3, **line))
            if not hit:
                axes.plot(*mean, marker="x", color=INK, markersize=7)
        axes.set(xlim=(-1.45, 1.45), ylim=(-1.45, 1.45), aspect="equal", xticks=[], yticks=[])
        axes.set_xlabel(f"{data['captured'][k]}/{modes}   HQ {100 * data['high_quality'][k]:.0f} %", fontsize=10)
    complete, total = data["complete"]
    low, high = data["complete_interval"]
    figure.suptitle(
        f"{complete} of {total} members cover all {modes} modes: {complete / total:.0%}, "
        f"95 % interval [{low:.0%}, {high:.0%}]\n"
        f"high-quality samples (HQ) of a perfect generator: {100 * float(data['high_quality_null']):.1f} %",
        fontsize=12,
    )
    return figure
