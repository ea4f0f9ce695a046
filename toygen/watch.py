"""The truth beside a training as a file that grows: what ``monitor`` sees every so many steps, for each member.

The columns are those of ``History.to_csv`` (empty: absent, or the member diverged), then what a perfect generator would
score, then ``done``, the steps over all chunks, by which a resumed run finds where to go on.

Exact densities (JSD, V(D*, G), regret) need as many latents as coordinates. On the line they are there in every look;
in the plane, where they take seconds, in those that fall on a multiple of 1000 steps, for the first four members of a
chunk.
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from divergences.checks import as_count
from divergences.errors import InputError
from evaluation.files import write_atomically
from toygen.monitor import History, Yardstick, monitor
from toygen.truth import Truth

if TYPE_CHECKING:
    from toygen.runs import Progress

__all__ = ["Watch"]

_DENSITIES_EVERY, _DENSITIES = 1000, 4
_FIRST, _LAST = ("step", "member"), "done"


class Watch:
    """Looks at the members of a run, and the table of what was seen.

    Args:
        target: the law that they learn, with ``sample`` and ``dim``; densities and modes are used where it has them. Or
            a ``Yardstick`` of it.
        every: steps of each chunk between two looks.

    Raises:
        InputError: a target that cannot be sampled, or a count below 1.
    """

    def __init__(self, target: Any, *, every: Any) -> None:
        self._every = as_count(every, "every")
        self._yardstick = target if isinstance(target, Yardstick) else Yardstick(target)
        self._rows: list[dict[str, str]] = []

    def look(self, progress: Progress) -> None:
        """Look if it is time to: call it after every step."""
        step = progress.step.index + 1
        if step % self._every:
            return
        plane = self._yardstick.target.dim == 2 and step % _DENSITIES_EVERY == 0
        truth, history = monitor(progress, self._yardstick, densities=_DENSITIES if plane else None), History()
        history.add(truth)
        columns = history.rows() | {
            name: np.full(len(truth.members), value) for name, value in (_nulls(truth) | {_LAST: progress.done}).items()
        }
        for row in zip(*columns.values(), strict=True):
            self._rows.append({name: _cell(value) for name, value in zip(columns, row, strict=True)})

    def keep(self, path: str | os.PathLike[str]) -> Path:
        """Write what was seen so far, whole or not at all.

        Raises:
            OSError: the place cannot be written.
        """
        # A look may lack a column that another has; the order is that in which they came.
        names = list(dict.fromkeys(name for row in self._rows for name in row)) or [*_FIRST, _LAST]
        text = io.StringIO()
        table = csv.DictWriter(text, names, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(self._rows)
        return write_atomically(path, lambda file: file.write(text.getvalue().encode()))

    def recall(self, path: str | os.PathLike[str], *, until: Any) -> None:
        """Take over the rows that ``keep`` wrote, up to ``until`` steps done: later looks will be taken again.

        Raises:
            InputError: no such file, or none that ``keep`` wrote.
        """
        try:
            with Path(path).open(encoding="utf-8", newline="") as file:
                table = csv.DictReader(file, strict=True)
                rows = list(table)
                names = list(table.fieldnames or ())
            if names[:2] != list(_FIRST) or _LAST not in names:
                raise ValueError("other columns")
            for row in rows:
                if None in row or None in row.values():
                    raise ValueError("rows of other lengths")
                for cell in row.values():
                    float(cell or "nan")
            found = [row for row in rows if int(row[_LAST]) <= until]
        except FileNotFoundError as error:
            raise InputError(f"{path} does not exist.") from error
        except (ValueError, csv.Error) as error:
            raise InputError(
                f"{path} cannot be read as the table of --monitor ({error}). Remove it, and the table begins where the "
                "run goes on; or go on without --monitor."
            ) from error
        # An empty cell stands for a column that this look did not have, or for a number that is absent: it stays one.
        self._rows = [dict(row) for row in found]


def _nulls(truth: Truth) -> dict[str, float]:
    """What a perfect generator would score."""
    low, high = truth.transport_null.interval
    return {
        "modes_null": truth.modes_null,
        "high_quality_null": truth.high_quality_null,
        "transport_null": truth.transport_null.value,
        "transport_null_low": low,
        "transport_null_high": high,
    }


def _cell(value: Any) -> str:
    number = float(value)
    return "" if np.isnan(number) else repr(int(number) if number.is_integer() else number)
