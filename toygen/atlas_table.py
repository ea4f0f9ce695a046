"""The atlas as a table, as a CSV file and as heat maps, with the published numbers beside it.

Every row is one cell, every number has its interval over the members: Wilson's for the share of members that cover all
modes, the bootstrap's 95 % percentiles for means (2000 resamples from a fixed seed). Of members that are all alike the
bootstrap makes an interval without width; it says that they are alike, not that no other seed could differ.

Published rows are scored by their papers' protocol: 2500 samples, high quality within 3σ of the nearest mode, a mode
captured by one such sample; ours beside them likewise, from the first 2500 samples of every member. Their networks and
lengths of training are their own: rows of two papers do not compare methods, only what was reached.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from divergences import Estimate, InputError
from evaluation.files import write_atomically
from evaluation.intervals import wilson
from toygen.atlas import Cell, Outcome, tupled
from toygen.command_line import aligned

__all__ = ["PUBLISHED", "Published", "Row", "read_csv", "shipped", "text", "write_csv", "write_pictures"]

_RESAMPLES = 2000
_SHIPPED = Path(__file__).parent / "data" / "atlas.csv"
_WILSON, _BOOTSTRAP = "binomial interval (Wilson)", "mean over members, bootstrap percentiles"
_STANDARD_ERROR = "mean over members, 1.96 standard errors"
_VERSIONS = ("torch", "numpy", "python", "machine")


class Published(NamedTuple):
    """A row of a paper's table.

    Attributes:
        source: the paper.
        method: as it calls it.
        ring: modes of 8, their standard error, high-quality share in percent; None is not given.
        grid: the same of 25.
    """

    source: str
    method: str
    ring: tuple[float, float | None, float]
    grid: tuple[float, float | None, float]


_VEEGAN, _PACGAN = "VEEGAN (2017)", "PacGAN (2018)"
PUBLISHED = (
    Published(_VEEGAN, "GAN", (1.0, None, 99.3), (3.3, None, 0.5)),
    Published(_VEEGAN, "ALI", (2.8, None, 0.13), (15.8, None, 1.6)),
    Published(_VEEGAN, "Unrolled GAN", (7.6, None, 35.6), (23.6, None, 16.0)),
    Published(_VEEGAN, "VEEGAN", (8.0, None, 52.9), (24.6, None, 40.0)),
    Published(_PACGAN, "GAN", (6.3, 0.5, 98.2), (17.3, 0.8, 94.8)),
    Published(_PACGAN, "ALI", (6.6, 0.3, 97.6), (24.1, 0.4, 95.7)),
    Published(_PACGAN, "PacGAN2", (7.9, 0.1, 95.6), (23.8, 0.7, 91.3)),
    Published(_PACGAN, "PacGAN3", (7.8, 0.1, 97.7), (24.6, 0.4, 94.2)),
    Published(_PACGAN, "PacGAN4", (7.8, 0.1, 95.9), (24.8, 0.2, 93.6)),
)


@dataclass(frozen=True)
class Row:
    """A cell and what its members do, in estimates.

    Attributes:
        cell: the setting.
        total: modes of the target.
        covered: members that capture every mode; one that diverged does not.
        share: covered of all members, Wilson's interval.
        modes: captured on average.
        high_quality: share of high-quality samples on average.
        lowest: that of the worst member.
        reverse_kl: on average over the members with any hit; None if there is none.
        modes_2500: as ``modes``, by the published protocol.
        high_quality_2500: as ``high_quality``, by the published protocol.
        high_quality_null: of a perfect generator.
        diverged: members.
        seconds: of processor time.
        versions: of what computed it.
    """

    cell: Cell
    total: int
    covered: int
    share: Estimate
    modes: Estimate
    high_quality: Estimate
    lowest: float
    reverse_kl: Estimate | None
    modes_2500: Estimate
    high_quality_2500: Estimate
    high_quality_null: float
    diverged: int
    seconds: float
    versions: dict[str, str]

    @classmethod
    def of(cls, outcome: Outcome) -> Row:
        """Estimates from the members."""
        covered = sum(count == outcome.total for count in outcome.captured)
        known = [value for value in outcome.reverse_kl if value is not None]
        return cls(
            cell=outcome.cell,
            total=outcome.total,
            covered=covered,
            share=wilson(covered, outcome.cell.members),
            modes=_bootstrap(outcome.captured),
            high_quality=_bootstrap(outcome.high_quality),
            lowest=min(outcome.high_quality),
            reverse_kl=_bootstrap(known, outcome.cell.members) if known else None,
            modes_2500=_mean(outcome.captured_2500),
            high_quality_2500=_mean(outcome.high_quality_2500),
            high_quality_null=outcome.high_quality_null,
            diverged=sum(outcome.diverged),
            seconds=outcome.seconds,
            versions={name: outcome.versions.get(name, "") for name in _VERSIONS},
        )


_SETTINGS: dict[str, Callable[[str], Any]] = {
    "target": str,
    "objective": str,
    "penalty": str,
    "recipe": str,
    "width": int,
    "steps": int,
    "members": int,
    "changes": lambda written: tuple((name, tupled(value)) for name, value in json.loads(written)),
    "seed": int,
    "train_size": int,
    "samples": int,
}
_ESTIMATES = {
    "share": _WILSON,
    "modes": _BOOTSTRAP,
    "high_quality": _BOOTSTRAP,
    "reverse_kl": _BOOTSTRAP,
    "modes_2500": _STANDARD_ERROR,
    "high_quality_2500": _STANDARD_ERROR,
}
_PLAIN: dict[str, Callable[[str], Any]] = {
    "total": int,
    "covered": int,
    "lowest": float,
    "high_quality_null": float,
    "diverged": int,
    "seconds": float,
}
_HEAD = ("", "steps", "all modes covered", "modes", "high quality", "worst", "reverse KL", "lost", "core s")
_COLUMNS = [
    *_SETTINGS,
    "digest",
    *_PLAIN,
    *(f"{name}{end}" for name in _ESTIMATES for end in ("", "_low", "_high")),
    *_VERSIONS,
]


def write_csv(rows: Sequence[Row], path: Path | str) -> Path:
    """One line per cell: settings, numbers with the ends of their 95 % intervals, versions. Whole or not at all."""
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        line: dict[str, Any] = {name: getattr(row.cell, name) for name in _SETTINGS}
        line |= {"changes": json.dumps(row.cell.changes), "digest": row.cell.digest, **row.versions}
        line |= {name: getattr(row, name) for name in _PLAIN}
        for name in _ESTIMATES:
            found: Estimate | None = getattr(row, name)
            ends = (found.value, *found.interval) if found is not None else ("", "", "")
            line |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
        writer.writerow(line)
    return write_atomically(path, lambda file: file.write(buffer.getvalue().encode("utf-8")))


def read_csv(path: Path | str) -> list[Row]:
    """Read what ``write_csv`` wrote.

    Raises:
        InputError: no such file, or another one.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            lines = list(reader)
            if reader.fieldnames is None or list(reader.fieldnames) != _COLUMNS:
                raise ValueError("other columns")
        return [_row(line) for line in lines]
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a table of the atlas ({error}).") from error


def shipped() -> list[Row]:
    """The table that comes with the library."""
    return read_csv(_SHIPPED)


def text(rows: Sequence[Row]) -> str:
    """The table as text: our cells target by target, then published numbers and ours by one protocol."""
    apart = _ablation(rows)
    main = _main(rows)
    blocks = []
    for target in dict.fromkeys(row.cell.target for row in main):
        blocks.append(_block(target, [row for row in main if row.cell.target == target]))
    if apart:
        blocks.append(_block("ablation of the sharp recipe, grid", apart))
    beside = _beside(main)
    return "\n\n".join([*blocks, *([beside] if beside else [])])


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
    plain = [row for row in rows if row.cell.recipe == "sharp" and not row.cell.changes]
    largest = {
        target: max((row for row in plain if row.cell.target == target), key=_kind)
        for target in {row.cell.target for row in plain}
    }
    return [row for row in rows if row.cell.recipe != "sharp" or row is largest.get(row.cell.target)]


def _ablation(rows: Sequence[Row]) -> list[Row]:
    """Changes of the sharp recipe, and what they are changes of."""
    sharp, main = [row for row in rows if row.cell.recipe == "sharp"], _main(rows)
    kinds = {_kind(row) for row in sharp if row.cell.changes}
    apart = [row for row in sharp if row.cell.changes or _kind(row) in kinds or row not in main]
    return sorted(apart, key=_kind)


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
    low, high = row.share.interval
    return (
        _game(row),
        str(row.cell.steps),
        f"{row.covered}/{row.cell.members} [{low:.2f}, {high:.2f}]",
        _with_interval(row.modes, 1),
        _with_interval(row.high_quality, 3),
        f"{row.lowest:.3f}",
        "-" if row.reverse_kl is None else _with_interval(row.reverse_kl, 3),
        str(row.diverged),
        f"{row.seconds:.0f}",
    )


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
    return _modes(row.modes_2500.value, row.modes_2500.error / 1.96), f"{100 * row.high_quality_2500.value:.1f}"


def _modes(value: float, error: float | None) -> str:
    return f"{value:.1f}" if error is None else f"{value:.1f} ± {error:.1f}"


def _with_interval(estimate: Estimate, digits: int) -> str:
    low, high = estimate.interval
    return f"{estimate.value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _bootstrap(values: Sequence[Any], members: int | None = None) -> Estimate:
    """The mean with its 95 % percentile interval over resampled members; the same for the same values."""
    own = np.asarray(values, dtype=np.float64)
    rows = np.random.default_rng(0).integers(0, len(own), (_RESAMPLES, len(own)))
    low, high = np.quantile(own[rows].mean(axis=1), [0.025, 0.975])
    return _estimate(math.fsum(own) / len(own), float(low), float(high), _BOOTSTRAP, members or len(own))


def _mean(values: Sequence[Any]) -> Estimate:
    own = np.asarray(values, dtype=np.float64)
    mean = math.fsum(own) / len(own)
    if len(own) == 1:
        return _estimate(mean, mean, mean, _STANDARD_ERROR, 1)
    arm = 1.96 * float(own.std(ddof=1)) / math.sqrt(len(own))
    return _estimate(mean, mean - arm, mean + arm, _STANDARD_ERROR, len(own))


def _estimate(value: float, low: float, high: float, method: str, n: int) -> Estimate:
    # Of members that are all alike the quantiles may miss the mean by a rounding.
    low, high = min(low, value), max(high, value)
    return Estimate(value, max(value - low, high - value), level=0.95, method=method, n=n, bounds=(low, high))


def _row(line: dict[str, str]) -> Row:
    cell = Cell(**{name: read(line[name]) for name, read in _SETTINGS.items()})
    found: dict[str, Any] = {name: read(line[name]) for name, read in _PLAIN.items()}
    for name, method in _ESTIMATES.items():
        ends = [line[f"{name}{end}"] for end in ("", "_low", "_high")]
        if name == "share":
            found[name] = wilson(found["covered"], cell.members)
        else:
            value, low, high = (float(end) if end else math.nan for end in ends)
            found[name] = _estimate(value, low, high, method, cell.members) if ends[0] else None
    return Row(cell=cell, versions={name: line[name] for name in _VERSIONS}, **found)
