r"""Small charts of an audit: how far generated samples lie from train, what share each mode got, where the copies are.

Each chart shows a measured quantity beside what a perfect generator would give: held-out distances beside generated
ones, fair shares beside measured ones. Colours and settings are those of ``evaluation.pictures``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from divergences.checks import as_points
from divergences.errors import InputError
from divergences.estimate import Estimate
from evaluation.pictures import GREY, P_COLOR, Q_COLOR, new_figure, scatter, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["distance_histogram", "mode_chart", "suspects_scatter"]

_MOST_MODES = 60


def suspects_scatter(generated: Any, train: Any, *, pairs: Any) -> Figure:
    """Suspected copies in the plane: training points, generated points, a line from each suspect to its neighbour.

    Args:
        generated: points (n, 2).
        train: points (m, 2).
        pairs: integers (k, 2): index in ``generated``, index in ``train``.

    Raises:
        InputError: points outside the plane, or indices that point nowhere.
    """
    fakes, reals = as_points(generated, "generated", dim=2), as_points(train, "train", dim=2)
    links = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    if links.size and (links.min() < 0 or (links.max(axis=0) >= [len(fakes), len(reals)]).any()):
        raise InputError("pairs must index generated and train; some point past their ends.")
    with style():
        figure = new_figure(4.6, 4.2)
        axes = figure.subplots()
        scatter(axes, reals, color=P_COLOR, size=7.0, marker="o", label="train")
        scatter(axes, fakes, color=GREY, size=3.0, marker=".", label="generated")
        for g, t in links:
            axes.plot(*np.stack([fakes[g], reals[t]]).T, color=Q_COLOR, linewidth=0.8)
        if links.size:
            hits = fakes[links[:, 0]]
            axes.scatter(hits[:, 0], hits[:, 1], s=28, marker="x", color=Q_COLOR, linewidths=1.2, label="suspects")
        legend = axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=3, markerscale=2.0)
        for handle in legend.legend_handles:
            if handle is not None:
                handle.set_alpha(1.0)
    return figure


def distance_histogram(
    distances: Any, null_distances: Any | None = None, *, xlabel: str = "distance to the nearest training sample"
) -> Figure:
    """How far generated samples lie from their nearest training sample, against how far held-out samples do.

    Args:
        distances: generated → train, shape (n,).
        null_distances: held-out → train, shape (m,), or None.
        xlabel: what the distances are, and in which unit.

    Raises:
        InputError: NaN, negative or no distances.
    """
    ours = as_points(distances, "distances")[:, 0]
    null = None if null_distances is None else as_points(null_distances, "null_distances")[:, 0]
    pooled = ours if null is None else np.concatenate([ours, null])
    if (pooled < 0).any():
        raise InputError("distances and null_distances must be ≥ 0.")
    # A few far outliers would squeeze everything else into the first bar: the last bar takes what lies beyond.
    top = float(np.quantile(pooled, 0.995)) or 1.0
    edges = np.linspace(0.0, top * (1 + 1e-9), 41)
    with style():
        figure = new_figure(6.4, 2.7)
        axes = figure.subplots()
        for values, color, hatch, name in (
            (null, P_COLOR, "", "held out → train: what no copying looks like"),
            (ours, Q_COLOR, "////", "generated → train"),
        ):
            if values is not None:
                share = np.histogram(np.minimum(values, top), edges)[0] / len(values)
                axes.stairs(share, edges, fill=True, color=color, alpha=0.25, edgecolor="none")
                axes.stairs(share, edges, color=color, linewidth=1.4, hatch=hatch, label=name)
        beyond = int((pooled > edges[-1]).sum())
        axes.set_xlabel(xlabel + (f"\n(last bar: {beyond} beyond)" if beyond else ""))
        axes.set_ylabel("share of samples")
        axes.set_xlim(0, edges[-1])
        axes.set_ylim(0, None)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.24), ncols=2)
    return figure


def mode_chart(
    names: Sequence[str], shares: Sequence[Estimate], *, fair: Any, lost: Sequence[bool], xlabel: str = "mode"
) -> Figure:
    """Each mode's share of the generated samples, with its interval, against its fair share.

    Args:
        names: what to call the modes, one each. More than 60 are cut to the 60 that fall shortest.
        shares: share of the samples in each mode.
        fair: the share each mode would get from a perfect generator, shape (k,).
        lost: which modes are missing or starved: drawn as crosses.
        xlabel: what the modes are.

    Raises:
        InputError: not one entry per mode.
    """
    expected = as_points(fair, "fair")[:, 0]
    if not len(names) == len(shares) == len(expected) == len(lost) > 0:
        raise InputError(
            f"names, shares, fair and lost must have one entry per mode; they have {len(names)}, {len(shares)}, "
            f"{len(expected)} and {len(lost)}."
        )
    value = np.array([float(share) for share in shares])
    order = np.arange(len(names))
    if len(names) > _MOST_MODES:
        order = np.sort(np.argsort(value - expected, kind="stable")[:_MOST_MODES])
        xlabel = f"{xlabel} (the {_MOST_MODES} of {len(names)} that fall shortest)"
    interval = np.array([share.interval for share in shares])[order]
    crossed = np.asarray(lost, dtype=bool)[order]
    value, expected = value[order], expected[order]
    place = np.arange(len(order))
    with style():
        figure = new_figure(min(9.0, max(4.2, 1.6 + 0.26 * len(order))), 2.8)
        axes = figure.subplots()
        axes.hlines(expected, place - 0.4, place + 0.4, color=P_COLOR, linewidth=2.2, label="fair share")
        axes.vlines(place, interval[:, 0], interval[:, 1], color=Q_COLOR, linewidth=1.1)
        kept = ~crossed
        if kept.any():
            axes.plot(place[kept], value[kept], "o", color=Q_COLOR, markersize=4.5, label="generated, 95 %")
        if crossed.any():
            axes.plot(
                place[crossed], value[crossed], "x", color=Q_COLOR, markersize=8, mew=2.2, label="lost", clip_on=False
            )
        longest = max(len(name) for name in names)
        axes.set_xticks(place, [names[int(i)] for i in order], rotation=90 if longest > 3 and len(order) > 6 else 0)
        axes.set_xlim(-0.8, len(order) - 0.2)
        axes.set_ylim(0, None)
        axes.set_xlabel(xlabel)
        axes.set_ylabel("share of samples")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.22), ncols=3)
    return figure
