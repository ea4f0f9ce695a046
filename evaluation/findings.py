r"""One question, one answer; several answers, one error rate.

Every finding is prepared in two steps. First a question measures and, where it tests a hypothesis, states one p-value
of *the generator is good enough in this respect* (``evaluation.questions`` says what that is for each). Then Holm's
procedure over these p-values says which hypotheses fall and at which level, and only then the question is answered. If
all hypotheses hold, the chance that any finding is flagged is at most the rate given, whatever depends on whatever.

Reference:
    A simple sequentially rejective multiple test procedure (Holm, 1979), https://www.jstor.org/stable/4615733.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from divergences.estimate import Estimate
from evaluation.detection import POWER, DetectionRow
from evaluation.verdict import Verdict

__all__ = [
    "QUESTIONS",
    "Case",
    "Finding",
    "beside",
    "decide",
    "detection_record",
    "listed",
    "number",
    "printable",
    "short",
]

_LISTED = 12
# Below this a share is rounding.
_NOTHING = 1e-15


# What may be asked, in the order of reports.
QUESTIONS = (
    "mode loss",
    "fidelity",
    "partial collapse",
    "class loss",
    "distribution",
    "two-sample",
    "memorization",
)


@dataclass(frozen=True, eq=False)
class Finding:
    """The answer to one question.

    Attributes:
        name: short and stable: one of ``QUESTIONS``.
        question: in words.
        quantity: what ``estimate`` is an estimate of, with its unit.
        estimate: the number, with its error.
        null: what a perfect generator would score at this n.
        p_value: of the hypothesis that the generator is good enough in this respect, before Holm; None if not tested.
        verdict: clear, flagged or inconclusive.
        evidence: further numbers and arrays, by name.
        meaning: what the answer means, what else could explain it, and what to do.
    """

    name: str
    question: str
    quantity: str
    estimate: Estimate
    null: Estimate | float | None
    p_value: float | None
    verdict: Verdict
    meaning: str
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Case:
    """A question that has been measured and not yet answered.

    Attributes:
        p_value: what enters Holm's procedure; None where nothing could be tested.
        conclude: gets the level at which Holm tests this case (0 if its hypothesis stands) and gives the answer.
    """

    p_value: float | None
    conclude: Callable[[float], Finding]


def decide(cases: list[Case], alpha: float) -> list[Finding]:
    """Answer all cases under one family-wise error rate, by Holm's step-down procedure.

    Args:
        cases: measured questions.
        alpha: the chance that any of the tested hypotheses is rejected though all of them hold.
    """
    tested = [index for index, case in enumerate(cases) if case.p_value is not None]
    levels = dict.fromkeys(range(len(cases)), 0.0)
    order = sorted(tested, key=lambda index: cases[index].p_value or 0.0)
    for rank, index in enumerate(order):
        level = alpha / (len(order) - rank)
        if (cases[index].p_value or 0.0) >= level:
            break
        levels[index] = level
    return [case.conclude(levels[index]) for index, case in enumerate(cases)]


def number(value: Estimate | float | None) -> str:
    """A number for people: four digits, with its interval where it has one.

    >>> number(Estimate(0.98765432, 0.01, level=0.95)), number(25.0), number(None)
    ('0.9877 ± 0.01', '25', '–')
    """
    if value is None:
        return "–"
    if not isinstance(value, Estimate):
        return short(value)
    if math.isinf(value.value):
        if value.bounds is not None and math.isfinite(value.bounds[0]):
            return f"at least {short(value.bounds[0])}"
        return "∞" if value.value > 0 else "−∞"
    if value.bounds is not None:
        low, high = value.bounds
        if low == high:
            return short(value.value)
        # All three to the same place: what is far below the width of the interval is noise.
        middle, low, high = _rounded(value.value, low, high)
        return f"{short(middle)} [{short(low)}, {short(high)}]"
    if value.error == 0:
        return short(value.value)
    return f"{short(value.value)} ± {value.error:.2g}"


def beside(null: Estimate | float | None, estimate: Estimate) -> str:
    """A null for people: a bare number to the place that the estimate beside it is shown to.

    >>> beside(3.2e-5, Estimate(-1.25, 1.1, level=0.95)), beside(0.9, Estimate(0.88, 0.1, level=0.95))
    ('0', '0.9')
    """
    if null is None or isinstance(null, Estimate) or not math.isfinite(estimate.value):
        return number(null)
    return short(_rounded(float(null), *estimate.interval)[0])


def _rounded(*values: float) -> tuple[float, ...]:
    """Four digits of the largest, and the others to the same place."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest == 0:
        return values
    places = 3 - math.floor(math.log10(largest))
    return tuple(round(value, places) if math.isfinite(value) else value for value in values)


def detection_record(
    unit: str, rows: Sequence[DetectionRow], *, level: float, names: Sequence[str] | None = None
) -> dict[str, Any]:
    """A detection table as evidence: which loss of a mode, class or region is found with 95 % power, at which n.

    Args:
        unit: what is lost: "mode", "class", "region".
        rows: of the table.
        level: that the whole question was tested at, at least.
        names: of what each row is about, where it has one.
    """
    told = [None] * len(rows) if names is None else list(names)
    return {
        "unit": unit,
        "power": POWER,
        "level": level,
        "rows": [
            {"name": name, "n": row.n, "weight": row.weight, "expected": row.expected, "loss": row.loss}
            for name, row in zip(told, rows, strict=True)
        ],
    }


def listed(names: list[str]) -> str:
    """The first dozen, and how many more there are."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def short(value: float) -> str:
    """Four digits; what is only rounding is 0."""
    if abs(value) < _NOTHING:
        value = 0.0
    return f"{value:.4g}".replace("inf", "∞").replace("-", "−")


def printable(text: object) -> str:
    r"""Text that every file and font can take: half characters, as in undecodable file names, are spelled out.

    >>> printable("a\udcff")
    'a\\udcff'
    """
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")
