"""What the figures share: the style, the colours, saving with the same bytes for the same data."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from evaluation.files import write_atomically

__all__ = ["D_COLOR", "INK", "P_COLOR", "Q_COLOR", "lecture_style", "new_figure", "save"]

P_COLOR = "#0072B2"
Q_COLOR = "#D55E00"
D_COLOR = "#009E73"
INK = "#444444"
_STYLE = Path(__file__).with_name("lecture.mplstyle")


@contextmanager
def lecture_style() -> Iterator[None]:
    """The one style file, on top of matplotlib's own defaults: nobody's rc file changes a figure."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rc_file(_STYLE, use_default_template=False)
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of the given size in inches that belongs to no window."""
    return Figure(figsize=(width, height))


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write ``stem.svg`` and ``stem.png``, without dates or version numbers in them."""
    return [_write(figure, stem.with_name(stem.name + suffix)) for suffix in (".svg", ".png")]


def _write(figure: Figure, path: Path) -> Path:
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
    with lecture_style():
        figure.savefig(buffer, format=path.suffix[1:], metadata=metadata)
    return write_atomically(path, lambda file: file.write(buffer.getvalue()))
