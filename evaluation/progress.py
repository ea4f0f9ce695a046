"""How far an audit is: what comes next, and how many of all its steps lie behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Steps", "steps_of"]

# Reading, features, distances, distribution, memorization, scores.
_ALWAYS = 6


class Steps:
    """Tells a listener of each step.

    Args:
        tell: called as (what, done, total); None for silence.
        total: how many steps there will be.
    """

    def __init__(self, tell: Callable[[str, int, int], None] | None, total: int) -> None:
        self._tell = tell
        self._done = 0
        self._total = total

    def next(self, what: str) -> None:
        """A step begins."""
        self.say(what)
        self._done += 1

    def say(self, what: str) -> None:
        """The steps begun so far have ended."""
        if self._tell is not None:
            self._tell(what, self._done, self._total)


def steps_of(*, modes: Any, labels: Any, test: Any) -> int:
    """How many steps an audit of these has: each kind of modes is one, and so are unknown modes and held-out data."""
    return _ALWAYS + max((modes is not None) + (labels is not None), 1) + (test is not None)
