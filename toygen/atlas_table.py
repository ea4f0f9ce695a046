"""The atlas as text and as heat maps, with the published numbers beside it.

Published rows are scored by their papers' protocol: 2500 samples, high quality within 3σ of the nearest mode, a mode
captured by one such sample; ours beside them likewise, from the first 2500 samples of every member. Their networks and
lengths of training are their own: rows of two papers do not compare methods, only what was reached.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from divergences import Estimate
from evaluation.intervals import wilson
from toygen.atlas import Cell
from toygen.atlas_published import PUBLISHED, TIMED
from toygen.atlas_rows import Row
from toygen.coins import SHARP
from toygen.command_line import aligned

__all__ = ["text", "write_pictures"]

_HEAD = ("", "steps", "all modes covered", "modes", "high quality", "worst", "reverse KL", "lost", "core s")


def text(rows: Sequence[Row]) -> str:
    """The table as text: our cells target by target, what sharpness takes, then published numbers by one protocol."""
    apart, main = _ablation(rows), _main(rows)
    blocks = []
    for title, own in (("{}", main), ("ablation of the sharp recipe, {}", apart)):
        for target in dict.fromkeys(row.cell.target for row in own):
            blocks.append(_block(title.format(target), [row for row in own if row.cell.target == target]))
    return "\n\n".join(block for block in (*blocks, _timed(main), _beside(main)) if block)


def write_pictures(rows: Sequence[Row], folder: Path) -> list[Path]:
    """``atlas.png``: a heat map of the share of members that cover every mode, and one of the high-quality share.

    Every field carries its number, so nothing hangs on colour; the scale (cividis) rises in lightness alone.
    """
    from evaluation.pictures import save

    return [save(_heat_map(rows), folder / "atlas.png")]


def _block(title: str, own: Sequence[Row]) -> str:
    sizes = sorted({row.cell.members for row in own})
    head = f"{title}: {own[0].total} modes; {' or '.join(map(str, sizes))} members per cell; 95 % intervals"
    null = f"a perfect generator: {own[0].total} modes, high quality {own[0].high_quality_null:.3f}, reverse KL 0"
    if any(row.high_quality.interval[0] > row.high_quality_null for row in own):
        null += "; a share above that is of modes narrower than the target's"
    return "\n".join([head, *aligned([_HEAD, *(_line(row) for row in own)]), null])


def _main(rows: Sequence[Row]) -> list[Row]:
    """All but changes of the sharp recipe; of that itself the largest cell for each target."""
    plain = [row for row in rows if row.cell.recipe == "sharp" and not _turned(row.cell)]
    largest = {
        target: max((row for row in plain if row.cell.target == target), key=_kind)
        for target in {row.cell.target for row in plain}
    }
    return [row for row in rows if row.cell.recipe != "sharp" or row is largest.get(row.cell.target)]


def _ablation(rows: Sequence[Row]) -> list[Row]:
    """Changes of the sharp recipe, and what they are changes of."""
    sharp, main = [row for row in rows if row.cell.recipe == "sharp"], _main(rows)
    kinds = {_kind(row) for row in sharp if _turned(row.cell)}
    apart = [row for row in sharp if _turned(row.cell) or _kind(row) in kinds or row not in main]
    return sorted(apart, key=_kind)


def _turned(cell: Cell) -> bool:
    """Whether another game than that of the sharp recipe is played, or with another part."""
    return bool(cell.changes) or (cell.objective, cell.penalty) != (SHARP.objective, SHARP.penalty)


def _kind(row: Row) -> tuple[str, int, int]:
    return row.cell.target, row.cell.members, row.cell.steps


def _heat_map(rows: Sequence[Row]) -> Any:
    from evaluation.pictures import new_figure, style

    rows = _main(rows) or rows
    names = _games(rows)
    games = list(dict.fromkeys(names))
    targets = list(dict.fromkeys(row.cell.target for row in rows))
    found = {(name, row.cell.target): row for name, row in zip(names, rows, strict=True)}
    with style():
        figure = new_figure(3.4 + 2 * 1.25 * len(targets), 1.3 + 0.36 * len(games))
        panels = figure.subplots(1, 2, sharey=True)
        titles = ("members that cover every mode", "high-quality share")
        for axes, title, number in zip(panels, titles, (_coverage_field, _quality_field), strict=True):
            fields = [[number(found.get((game, target))) for target in targets] for game in games]
            values = np.array([[value for value, _ in line] for line in fields])
            axes.imshow(values, cmap="cividis", vmin=0.0, vmax=1.0, aspect="auto")
            for (i, j), value in np.ndenumerate(values):
                ink = "black" if value > 0.45 else "white"
                axes.text(j, i, fields[i][j][1], ha="center", va="center", fontsize=8, color=ink)
            axes.set_xticks(range(len(targets)), targets)
            axes.set_yticks(range(len(games)), games)
            axes.tick_params(length=0)
            axes.set_title(title)
            axes.spines[:].set_visible(False)
    return figure


def _coverage_field(row: Row | None) -> tuple[float, str]:
    if row is None:
        return math.nan, ""
    low, high = row.share.interval
    return row.share.value, f"{row.covered}/{row.cell.members}\n[{low:.2f}, {high:.2f}]"


def _quality_field(row: Row | None) -> tuple[float, str]:
    if row is None:
        return math.nan, ""
    low, high = row.high_quality.interval
    return row.high_quality.value, f"{row.high_quality.value:.3f}\n[{low:.2f}, {high:.2f}]"


def _games(rows: Sequence[Row]) -> list[str]:
    """Names without the number of steps, as far as it tells nothing apart."""
    short = [_game(row) for row in rows]
    seen = {(name, row.cell.target) for name, row in zip(short, rows, strict=True)}
    if len(seen) == len(rows):
        return short
    return [f"{name}, {row.cell.steps} steps" for name, row in zip(short, rows, strict=True)]


def _game(row: Row) -> str:
    return f"{row.cell.label} ({row.cell.recipe} {row.cell.width})"


def _line(row: Row) -> tuple[str, ...]:
    return (
        _game(row),
        str(row.cell.steps),
        f"{row.covered}/{row.cell.members} {_between(row.share)}",
        _with_interval(row.modes, 1),
        _with_interval(row.high_quality, 3),
        f"{row.lowest:.3f}",
        "-" if row.reverse_kl is None else _with_interval(row.reverse_kl, 3),
        str(row.diverged),
        f"{row.seconds:.0f}",
    )


def _timed(rows: Sequence[Row]) -> str:
    """What covering every mode with sharp samples takes: the sharp recipe, and the standard one written by hand."""
    ours = [row for row in rows if row.cell.recipe == "sharp" and row.cell.target in ("ring", "grid")]
    if not ours:
        return ""
    lines: list[tuple[str, ...]] = [("", "", "steps", "all modes covered", "high quality", "core s", "per member")]
    for target in dict.fromkeys(row.cell.target for row in ours):
        for row in ours:
            if row.cell.target == target:
                front = (target, f"this library, sharp {row.cell.width}", str(row.cell.steps))
                lines.append((*front, *_line(row)[2:5:2], *_per_member(row.seconds, row.cell.members)))
        for one in TIMED:
            if one.target == target:
                front = (target, f"standard recipe by hand: {one.framework}", str(one.steps))
                quality = f"{one.high_quality:.3f} ± {one.spread:.3f}"
                shown = f"{one.covered}/{one.members} {_between(wilson(one.covered, one.members))}"
                lines.append((*front, shown, quality, *_per_member(one.seconds, one.members)))
    head = "what it takes until every mode is covered by sharp samples: seconds of one core for all members"
    foot = (
        "by hand: G 4 x 128, D 3 x 128, R1 and R2, eight members in one batch, run once on one core of another machine "
        "(± as noted there, over members)\nwith two cores (--jobs 2) two cells run side by side"
    )
    return "\n".join([head, *aligned(lines), foot])


def _per_member(seconds: float, members: int) -> tuple[str, str]:
    return f"{seconds:.0f}", f"{seconds / members:.1f}"


def _between(share: Estimate) -> str:
    low, high = share.interval
    return f"[{low:.2f}, {high:.2f}]"


def _beside(rows: Sequence[Row]) -> str:
    """Published numbers and ours, by the protocol of the papers."""
    ours: dict[str, dict[str, Row]] = {}
    shown = [row for row in rows if row.cell.target in ("ring", "grid")]
    for name, row in zip(_games(shown), shown, strict=True):
        ours.setdefault(name, {})[row.cell.target] = row
    if not ours:
        return ""
    lines: list[tuple[str, ...]] = [("", "", "ring modes", "ring HQ %", "grid modes", "grid HQ %")]
    for paper in PUBLISHED:
        (ring, ring_error, ring_quality), (grid, grid_error, grid_quality) = paper.ring, paper.grid
        numbers = (_modes(ring, ring_error), f"{ring_quality:g}", _modes(grid, grid_error), f"{grid_quality:g}")
        lines.append((paper.source, paper.method, *numbers))
    for game, both in ours.items():
        fields = [field for target in ("ring", "grid") for field in _protocol_fields(both.get(target))]
        lines.append(("this library", game, *fields))
    head = "published, and ours by the same scoring: 2500 samples, 3σ, one hit; mean ± standard error over runs"
    foot = "trainings differ: rows of two sources compare what was reached, not the methods"
    return "\n".join([head, *aligned(lines), foot])


def _protocol_fields(row: Row | None) -> tuple[str, str]:
    if row is None:
        return "-", "-"
    return _modes(row.modes_2500.value, row.modes_2500_se), f"{100 * row.high_quality_2500.value:.1f}"


def _modes(value: float, error: float | None) -> str:
    return f"{value:.1f}" if error is None else f"{value:.1f} ± {error:.1f}"


def _with_interval(estimate: Estimate, digits: int) -> str:
    low, high = estimate.interval
    return f"{estimate.value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
