"""The rows of the atlas: what the members of a cell do, in estimates, and the CSV file of them.

Every row is one cell, every number has its interval over the members: Wilson's for the share of members that cover all
modes, the bootstrap's 95 % percentiles for means (2000 resamples from a fixed seed). Of members that are all alike the
bootstrap makes an interval without width; it says that they are alike, not that no other seed could differ. By the
published protocol means have Student's interval, cut to what a mean can be, and a standard error, as in the papers.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from divergences import Estimate, InputError
from evaluation.files import write_atomically
from evaluation.intervals import wilson
from toygen.atlas import Cell, Outcome, tupled

__all__ = ["Row", "read_csv", "shipped", "write_csv"]

_RESAMPLES = 2000
_SHIPPED = Path(__file__).parent / "data" / "atlas.csv"
_WILSON, _BOOTSTRAP = "binomial interval (Wilson)", "mean over members, bootstrap percentiles"
_STUDENT = "mean over members, Student's interval cut to the possible"
_VERSIONS = ("torch", "numpy", "python", "machine")


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
        modes_2500_se: its standard error over members; None for one member.
        high_quality_2500: as ``high_quality``, by the published protocol.
        high_quality_2500_se: its standard error over members; None for one member.
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
    modes_2500_se: float | None
    high_quality_2500: Estimate
    high_quality_2500_se: float | None
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
            modes_2500=_mean(outcome.captured_2500, most=float(outcome.total)),
            modes_2500_se=_standard_error(outcome.captured_2500),
            high_quality_2500=_mean(outcome.high_quality_2500, most=1.0),
            high_quality_2500_se=_standard_error(outcome.high_quality_2500),
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
    "modes_2500": _STUDENT,
    "high_quality_2500": _STUDENT,
}
_PLAIN: dict[str, Callable[[str], Any]] = {
    "total": int,
    "covered": int,
    "lowest": float,
    "high_quality_null": float,
    "diverged": int,
    "seconds": float,
}
_OPTIONAL = ("modes_2500_se", "high_quality_2500_se")
_COLUMNS = [
    *_SETTINGS,
    "digest",
    *_PLAIN,
    *(f"{name}{end}" for name in _ESTIMATES for end in ("", "_low", "_high")),
    *_OPTIONAL,
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
        line |= {name: getattr(row, name) for name in (*_PLAIN, *_OPTIONAL)}  # None becomes an empty field
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


def _bootstrap(values: Sequence[Any], members: int | None = None) -> Estimate:
    """The mean with its 95 % percentile interval over resampled members; the same for the same values."""
    own = np.asarray(values, dtype=np.float64)
    rows = np.random.default_rng(0).integers(0, len(own), (_RESAMPLES, len(own)))
    low, high = np.quantile(own[rows].mean(axis=1), [0.025, 0.975])
    return _estimate(math.fsum(own) / len(own), float(low), float(high), _BOOTSTRAP, members or len(own))


def _mean(values: Sequence[Any], *, most: float) -> Estimate:
    """The mean of numbers between 0 and ``most``; that of one says nothing about other members."""
    mean, error = math.fsum(values) / len(values), _standard_error(values)
    arm = math.inf if error is None else float(stdtrit(len(values) - 1, 0.975)) * error
    return _estimate(mean, max(mean - arm, 0.0), min(mean + arm, most), _STUDENT, len(values))


def _standard_error(values: Sequence[Any]) -> float | None:
    if len(values) == 1:
        return None
    return float(np.std(np.asarray(values, dtype=np.float64), ddof=1)) / math.sqrt(len(values))


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
    found |= {name: float(line[name]) if line[name] else None for name in _OPTIONAL}
    return Row(cell=cell, versions={name: line[name] for name in _VERSIONS}, **found)
