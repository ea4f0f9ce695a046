"""What an audit answers: clear, flagged, or not enough to say.

``INCONCLUSIVE`` is an answer of its own: too few samples, or no held-out data. It is never a pass, and it never hides a
flag: of several verdicts, FLAGGED beats INCONCLUSIVE beats CLEAR.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

__all__ = ["Verdict", "worst"]


class Verdict(enum.Enum):
    """The answer to one question, or to a whole audit."""

    CLEAR = "clear"
    FLAGGED = "flagged"
    INCONCLUSIVE = "inconclusive"

    def __str__(self) -> str:
        return self.value


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict of all together: FLAGGED beats INCONCLUSIVE beats CLEAR; nothing asked is INCONCLUSIVE.

    >>> worst([Verdict.CLEAR, Verdict.INCONCLUSIVE])
    <Verdict.INCONCLUSIVE: 'inconclusive'>
    """
    given = set(verdicts)
    if not given or (Verdict.INCONCLUSIVE in given and Verdict.FLAGGED not in given):
        return Verdict.INCONCLUSIVE
    return Verdict.FLAGGED if Verdict.FLAGGED in given else Verdict.CLEAR
