r"""Pictures of samples: contact sheets, sample grids, nearest pairs, small charts.

They are read on a projector and by people who do not see red and green apart, so nothing is told by colour alone: the
target p is blue with round marks, the model q vermillion with crosses and hatching (palette: *Color Universal Design*,
Okabe, Ito, 2008, https://jfly.uni-koeln.de/color/).

Every function returns a matplotlib ``Figure`` that belongs to no global state: no pyplot, no window, no rc setting of
the user reaches it, and none is left behind. Text that came from outside (file names, labels) is drawn as it is and
never parsed as mathematics. ``save`` writes the same bytes for the same figure: no date, no version, no random ids.
"""

from __future__ import annotations

import base64
import contextlib
import io
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from divergences.adapters import as_distribution
from divergences.checks import as_array, as_count
from divergences.distributions import Gaussian, Mixture, parts_of
from divergences.errors import InputError
from evaluation.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "P_COLOR",
    "Q_COLOR",
    "contact_sheet",
    "nearest_pairs",
    "sample_grid",
    "save",
    "to_data_uri",
]

P_COLOR = "#0072B2"
Q_COLOR = "#D55E00"
INK = "#1a1a1a"
GREY = "#6b6b6b"
_SIGMAS = 3.0
# Above this many points a vector file is larger and slower than a picture of them.
_MANY_POINTS = 200
_MOST_PANELS = 400
_MOST_POINTS = 4000
_GUTTER = 0.06
_STYLE: Any = {
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "figure.constrained_layout.h_pad": 0.07,
    "figure.dpi": 150,
    "figure.titlesize": 13,
    "font.size": 10,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "savefig.dpi": 150,
    "svg.hashsalt": "mintmark",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}


def contact_sheet(
    panels: Sequence[tuple[str, Any]], *, modes: Mixture | Gaussian | None = None, title: str = ""
) -> Figure:
    """Point clouds side by side, one panel each, such as the members of an ensemble; all on the same axes.

    In the plane each mode is drawn as its 3σ ellipse: blue, with a ring around it where it would be too small to see,
    if the cloud hit it (at least one high-quality sample, see ``mode_coverage``); dashed vermillion with a cross if it
    is missing. On the line a panel is a histogram over the density of ``modes``. Rows that are not finite are left
    out, and counted in the panel: an ensemble may hold a member that diverged. Points are rasterised.

    Args:
        panels: pairs (title, points), points of shape (n, 2), or (n, 1) or (n,) on the line; n = 0 is allowed.
        modes: the mixture of Gaussians the clouds should show, or None.
        title: over the whole sheet.

    Returns:
        The figure; ``save`` it.

    Raises:
        InputError: no panels, more than 400, or points of three dimensions or more.
    """
    if len(panels) == 0 or len(panels) > _MOST_PANELS:
        raise InputError(f"panels must hold 1 to {_MOST_PANELS} pairs (title, points); it holds {len(panels)}.")
    clouds = [_finite_points(points, f"panels[{i}]") for i, (_, points) in enumerate(panels)]
    laws = [] if modes is None else _gaussians(modes)
    dims = {cloud.shape[1] for cloud, _ in clouds} | {law.dim for law in laws}
    if len(dims) != 1 or not dims <= {1, 2}:
        raise InputError(
            f"panels and modes must all be on the line or all in the plane; they have dimensions {sorted(dims)}. "
            "Project them to two coordinates first."
        )
    columns = math.ceil(math.sqrt(len(panels) * 1.6)) if len(panels) > 4 else len(panels)
    rows = math.ceil(len(panels) / columns)
    side = 3.2 if len(panels) <= 3 else max(1.25, min(2.4, 13.0 / columns))
    with style():
        figure = new_figure(columns * side, rows * (side + 0.3) + (0.4 if title else 0.0))
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        window = _window([cloud for cloud, _ in clouds], laws)
        for axes, (name, _), (cloud, lost) in zip(grid, panels, clouds, strict=False):
            draw = _draw_plane if dims == {2} else _draw_line
            missing = [] if modes is None else _missing(cloud, modes, len(laws))
            # All points are counted; more than a few thousand would only hide each other.
            shown = cloud if dims == {1} else cloud[evenly(len(cloud), _MOST_POINTS)]
            draw(axes, shown, list(zip(laws, missing, strict=True)), window)
            if modes is not None:
                axes.set_xlabel(f"{len(laws) - sum(missing)} of {len(laws)} modes", fontsize=8, labelpad=2)
            axes.set_title(name if not lost else f"{name}\n{lost} rows not finite", fontsize=9 if columns > 3 else 10)
            if modes is not None and dims == {1}:
                x = np.linspace(float(window[0, 0]), float(window[1, 0]), 600)
                axes.plot(x, np.exp(modes.log_prob(x[:, None])), color=P_COLOR, linewidth=1.4)
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        if title:
            figure.suptitle(title)
    return figure


def sample_grid(images: Any, columns: int = 8, *, captions: Sequence[str] = (), title: str = "") -> Figure:
    """Images in rows of ``columns``, in the order given, each pixel drawn as a square.

    Args:
        images: array (n, h, w) or (n, h, w, c) with c = 1, 3; uint8, or floats, which are
            shown on the range that all of them span together.
        columns: images per row.
        captions: a line under each image, or none.
        title: over the grid.

    Raises:
        InputError: not a stack of images, or not one caption per image.
    """
    tiles = _as_tiles(images, "images")
    columns = min(as_count(columns, "columns"), len(tiles))
    if len(captions) not in (0, len(tiles)):
        raise InputError(f"captions must hold one line per image, {len(tiles)}, or none; it holds {len(captions)}.")
    return _mosaic(tiles, columns, captions=captions, title=title)


def nearest_pairs(generated: Any, train: Any, test: Any, *, captions: Sequence[str] = ()) -> Figure:
    """Suspected copies as columns of three images: generated, its nearest training image, its nearest held-out image.

    A copy looks like its training image and unlike the held-out one. What looks like both is merely typical.

    Args:
        generated: images (k, h, w) or (k, h, w, c).
        train: the nearest training image of each, same shape.
        test: the nearest held-out image of each, same shape, or None where there are no held-out data.
        captions: a line under each column, or none.

    Raises:
        InputError: the stacks differ in shape, or not one caption per column.
    """
    stacks = {"generated": generated, "nearest in train": train, "nearest held out": test}
    arrays = {name: np.asarray(stack) for name, stack in stacks.items() if stack is not None}
    if len({array.shape for array in arrays.values()}) != 1:
        shapes = ", ".join(f"{name}: {array.shape}" for name, array in arrays.items())
        raise InputError(f"generated, train and test must have one shape, one image per pair; they have {shapes}.")
    joint = _as_tiles(np.concatenate(list(arrays.values())), "generated, train and test")
    count = len(joint) // len(arrays)
    if len(captions) not in (0, count):
        raise InputError(f"captions must hold one line per column, {count}, or none; it holds {len(captions)}.")
    below = [""] * (len(joint) - count) + list(captions) if captions else []
    return _mosaic(joint, count, captions=below, beside=list(arrays))


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as .png or .svg, whole or not at all, the same bytes for the same figure.

    Raises:
        InputError: another suffix.
        OSError: the place cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".png", ".svg"):
        raise InputError(f"a picture is saved as .png or .svg, not as {Path(path).name!r}.")
    data = _rendered(figure, suffix[1:])
    return write_atomically(path, lambda file: file.write(data))


def to_data_uri(figure: Figure, suffix: str = "svg") -> str:
    """A figure as a ``data:`` address, to stand in an HTML page without a file beside it.

    Args:
        figure: the figure.
        suffix: ``"svg"`` for lines, ``"png"`` for pixels.
    """
    kind = {"svg": "image/svg+xml", "png": "image/png"}[suffix]
    return f"data:{kind};base64,{base64.b64encode(_rendered(figure, suffix)).decode('ascii')}"


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Our settings, whatever the user's matplotlibrc says; the user's come back afterwards."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def new_figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _rendered(figure: Figure, suffix: str) -> bytes:
    metadata: dict[str, Any] = {"Date": None, "Creator": None} if suffix == "svg" else {"Software": None}
    buffer = io.BytesIO()
    with style(), warnings.catch_warnings():
        # A label may hold letters that the font lacks: they are drawn as boxes, and the reader sees that.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format=suffix, metadata=metadata, facecolor="white")
    return buffer.getvalue()


def _finite_points(points: Any, name: str) -> tuple[Float64[np.ndarray, "n d"], int]:
    """The finite rows, and how many others there were."""
    array = as_array(points, name)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2:
        raise InputError(f"{name} must hold points of shape (n, 2); they have shape {array.shape}.")
    finite = np.isfinite(array).all(axis=1)
    return array[finite], int((~finite).sum())


def _gaussians(modes: Mixture | Gaussian) -> list[Gaussian]:
    laws = parts_of(as_distribution(modes, "modes"))[1]
    gaussians = [law for law in laws if isinstance(law, Gaussian)]
    if len(gaussians) < len(laws):
        raise InputError("modes must be a Mixture of Gaussians; only these have a mean and a covariance to draw.")
    return gaussians


def _window(clouds: list[np.ndarray], laws: list[Gaussian]) -> Float64[np.ndarray, "2 d"]:
    """What every panel shows: all modes with room around them, else all but the outermost points."""
    if laws:
        reach = np.stack([_SIGMAS * np.sqrt(np.diag(law.cov)) for law in laws])
        means = np.stack([law.mean for law in laws])
        low, high = (means - reach).min(axis=0), (means + reach).max(axis=0)
    else:
        pooled = np.concatenate(clouds)
        if len(pooled) == 0:
            return np.stack([-np.ones(pooled.shape[1]), np.ones(pooled.shape[1])])
        low, high = np.quantile(pooled, [0.001, 0.999], axis=0)
    room = np.maximum((high - low) * 0.12, 1e-9 + 1e-3 * np.abs(high))
    low, high = low - room, high + room
    span = high - low
    if span.max() < 4 * span.min():  # coordinates of like scale: a square window, and circles stay circles
        middle, half = (low + high) / 2, span.max() / 2
        low, high = middle - half, middle + half
    return np.stack([low, high])


def _draw_plane(axes: Axes, cloud: np.ndarray, modes: list[tuple[Gaussian, bool]], window: np.ndarray) -> None:
    from matplotlib.patches import Ellipse

    scatter(axes, cloud, color=INK, size=3.0, marker=".", label=None)
    axes.set_xlim(*window[:, 0])
    axes.set_ylim(*window[:, 1])
    if math.isclose(*(window[1] - window[0]), rel_tol=1e-6):
        axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[["top", "right"]].set_visible(True)
    # An ellipse of radius 0.03 in a window of 2 cannot be seen: one that small gets a mark around it.
    small = float(np.max(window[1] - window[0])) / 15
    for law, lost in modes:
        variance, directions = np.linalg.eigh(law.cov)
        width, height = 2 * _SIGMAS * np.sqrt(variance)
        angle = math.degrees(math.atan2(directions[1, 0], directions[0, 0]))
        color, line = (Q_COLOR, "--") if lost else (P_COLOR, "-")
        center = (float(law.mean[0]), float(law.mean[1]))
        axes.add_patch(Ellipse(center, width, height, angle=angle, fill=False, ec=color, ls=line, lw=1.0))
        if lost:
            axes.plot(*center, marker="x", color=color, markersize=7.0, mew=2.0)
        elif max(width, height) < small:
            axes.plot(*center, marker="o", color=color, markersize=11, mew=1.0, fillstyle="none")


def _draw_line(axes: Axes, cloud: np.ndarray, modes: list[tuple[Gaussian, bool]], window: np.ndarray) -> None:
    low, high = (float(edge) for edge in window[:, 0])
    if len(cloud):
        counts, edges = np.histogram(cloud[:, 0], np.linspace(low, high, 61))
        axes.stairs(counts / len(cloud) / np.diff(edges), edges, fill=True, color=Q_COLOR, alpha=0.45)
    for law, lost in modes:
        if lost:
            axes.plot(law.mean, [0.0], marker="x", color=Q_COLOR, markersize=8, mew=2.2, clip_on=False)
    axes.set_xlim(low, high)
    axes.set_yticks([])


def scatter(axes: Axes, points: np.ndarray, *, color: str, size: float, marker: str, label: str | None) -> None:
    alpha = float(np.clip(12.0 / math.sqrt(max(len(points), 1)), 0.12, 0.8))
    axes.scatter(
        points[:, 0], points[:, 1], s=size, marker=marker, color=color, alpha=alpha, linewidths=0, label=label,
        rasterized=len(points) > _MANY_POINTS, zorder=1,
    )  # fmt: skip


def _missing(cloud: np.ndarray, modes: Mixture | Gaussian, count: int) -> list[bool]:
    """Which modes got no high-quality sample."""
    from evaluation.modes import mode_coverage

    if len(cloud) == 0:
        return [True] * count
    return [record.hits == 0 for record in mode_coverage(generated=cloud, modes=modes).per_mode]


def _as_tiles(images: Any, name: str) -> UInt8[np.ndarray, "n h w 3"]:
    """Images as RGB bytes, all on one scale."""
    array = np.asarray(images)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[-1] not in (1, 3) or array.size == 0 or array.dtype.kind not in "biuf":
        raise InputError(
            f"{name} must be images of shape (n, h, w), or (n, h, w, c) with c = 1 or 3; it has shape "
            f"{array.shape} and dtype {array.dtype}."
        )
    if array.dtype != np.uint8:
        values = array.astype(np.float64)
        if not np.isfinite(values).all():
            raise InputError(f"{name} holds NaN or infinite pixels.")
        low, high = float(values.min()), float(values.max())
        array = np.round(255 * (values - low) / ((high - low) or 1.0)).astype(np.uint8)
    return np.repeat(array, 3, axis=-1) if array.shape[-1] == 1 else array


def _mosaic(
    tiles: UInt8[np.ndarray, "n h w 3"],
    columns: int,
    *,
    captions: Sequence[str],
    title: str = "",
    beside: Sequence[str] = (),
) -> Figure:
    """Tiles in rows, with a line under each that has a caption and a name beside each row: one axes, in inches."""
    rows = math.ceil(len(tiles) / columns)
    lines = max((caption.count("\n") + 1 for caption in captions if caption), default=0)
    step = min(1.0, 8.0 / columns)
    # A row is as high as its images and the captions below it.
    heights = [
        step * _aspect(tiles) + (0.15 * lines + 0.05 if any(captions[r * columns : (r + 1) * columns]) else 0.0)
        for r in range(rows)
    ]
    left, top = (0.95 if beside else 0.0), (0.4 if title else 0.05)
    width, height = left + columns * step, top + sum(heights)
    with style():
        figure = new_figure(width, height)
        figure.set_layout_engine("none")
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        for index, tile in enumerate(tiles):
            row, column = divmod(index, columns)
            x, y = left + column * step, top + sum(heights[:row])
            room = step * (1 - _GUTTER)
            axes.imshow(tile, interpolation="nearest", extent=(x, x + room, y + room * _aspect(tiles), y))
            if captions:
                place = (x + room / 2, y + room * _aspect(tiles) + 0.03)
                axes.text(*place, captions[index], ha="center", va="top", fontsize=7)
        for row, name in enumerate(beside):
            middle = top + sum(heights[:row]) + step * _aspect(tiles) / 2
            axes.text(left - 0.1, middle, name.replace(" ", "\n", 1), ha="right", va="center", fontsize=9)
        if title:
            axes.text(width / 2, top / 2, title, ha="center", va="center", fontsize=12)
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        axes.set_aspect("auto")
    return figure


def _aspect(tiles: np.ndarray) -> float:
    return float(tiles.shape[1] / tiles.shape[2])


def evenly(n: int, wanted: int) -> Int64[np.ndarray, " k"]:
    """At most ``wanted`` of the rows 0 … n − 1, evenly spaced, ends included."""
    return np.unique(np.linspace(0, n - 1, min(n, wanted)).round().astype(np.int64))
