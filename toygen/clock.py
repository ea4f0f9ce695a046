"""How far a training is, and how long it will still take."""

from __future__ import annotations

import sys
import time
from typing import Protocol, runtime_checkable

__all__ = ["Clock"]


@runtime_checkable
class _Place(Protocol):
    @property
    def done(self) -> int:
        """Steps that are finished."""

    @property
    def total(self) -> int:
        """Of so many."""


class Clock:
    """Progress and the time left, on a terminal; silent elsewhere.

    Args:
        done: steps that were finished before, whose time is not known here.
    """

    def __init__(self, done: int) -> None:
        self._first, self._start, self._shown = done, time.monotonic(), -1.0

    def show(self, progress: _Place) -> None:
        """Twice a second, and at the end."""
        now = time.monotonic()
        if not sys.stderr.isatty() or (now - self._shown < 0.5 and progress.done < progress.total):
            return
        self._shown = now
        left = (now - self._start) / (progress.done - self._first) * (progress.total - progress.done)
        clock = f"{left // 3600:.0f}:{left % 3600 // 60:02.0f}:{left % 60:02.0f}"
        share = 100 * progress.done / progress.total
        line = f"\rstep {progress.done} of {progress.total} ({share:.0f} %), {clock} left"
        print(f"{line:<60}", end="", file=sys.stderr, flush=True)  # noqa: T201

    def end(self) -> None:
        """Leave the line."""
        if self._shown >= 0:
            print(file=sys.stderr)  # noqa: T201
