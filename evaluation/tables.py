r"""The tables of a report: what was lost, what looks copied, how the histograms differ, what could have been missed.

A table is a title, a head, rows of text, and how many more rows there are: text, HTML and tests read the same one. The
numbers behind it stand in the JSON report, all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from divergences.estimate import Estimate
from evaluation.findings import Finding, beside, number, short
from evaluation.scores import Score

__all__ = ["Table", "p_text", "score_table", "tables_of"]

_ROWS = 12
# Of each row of examples, as many are shown.
_SHOWN = 4
_LOST = ("missing", "starved", "undecided")


@dataclass(frozen=True)
class Table:
    """A table as it is shown.

    Attributes:
        title: what it says, in a sentence.
        head: of the columns.
        rows: cells as text.
        more: how many rows were left out.
        note: what a reader of the table must know; may be empty.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    more: int = 0
    note: str = ""

    @classmethod
    def of(cls, title: str, head: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> Table:
        """The first dozen rows."""
        return cls(title, tuple(head), tuple(tuple(row) for row in rows[:_ROWS]), max(len(rows) - _ROWS, 0), note)


def p_text(p_value: float | None) -> str:
    """A p-value for people.

    >>> p_text(0.01234), p_text(1e-30), p_text(None)
    ('0.012', '< 1e−15', '–')
    """
    if p_value is None:
        return "–"
    return "< 1e−15" if p_value < 1e-15 else short(float(f"{p_value:.2g}"))


def tables_of(finding: Finding) -> list[Table]:
    """The tables that belong to a finding, without empty ones."""
    makers: dict[str, Callable[[Finding], Iterator[Table]]] = {
        "mode loss": _stacked
        if "stacked" in finding.evidence
        else _regions
        if "regions" in finding.evidence
        else _modes,
        "class loss": _classes,
        "partial collapse": _collapse,
        "memorization": _copies,
    }
    maker = makers.get(finding.name)
    made = [] if maker is None else list(maker(finding))
    if "detection" in finding.evidence:
        made.append(_detection(finding.evidence["detection"]))
    return [table for table in made if table.rows]


def score_table(scores: Sequence[Score]) -> Table:
    """All scores, each beside what a perfect generator would get."""
    rows = [(score.name, number(score.estimate), beside(score.null, score.estimate), score.meaning) for score in scores]
    return Table("Scores, without a verdict", ("score", "generated", "a perfect generator", "meaning"), tuple(rows))


def _modes(finding: Finding) -> Iterator[Table]:
    evidence = finding.evidence
    # What was lost comes first, then what is farthest from its due.
    records = sorted(evidence["per_mode"], key=lambda r: (r["status"] not in _LOST, r["p_adjusted"]))
    yield Table.of(
        "Mass of each mode, beside a perfect generator's",
        ("mode", "at", "status", "hits", "expected", "share", "fair", "p"),
        [
            (
                r["name"],
                "(" + ", ".join(short(x) for x in r["mean"][:3]) + (", …" if len(r["mean"]) > 3 else "") + ")",
                r["status"],
                str(r["hits"]),
                short(r["expected"]),
                number(r["share"]),
                short(r["fair"]),
                p_text(r["p_adjusted"]),
            )
            for r in records
        ],
        f"{evidence['rule'][:1].upper()}{evidence['rule'][1:]}. p of the due share: exact, two-sided, after Holm.",
    )
    yield _examples(records, "mode")
    names = [
        ("reverse KL, samples ‖ target", "reverse_kl", "noise_floor"),
        ("forward KL, target ‖ samples", "forward_kl", "forward_floor"),
        ("Jensen-Shannon divergence", "jsd", "jsd_floor"),
    ]
    # An infinity says why.
    reasons = [
        f"{name.split(',')[0]}: {evidence[key].note}." for name, key, _ in names if math.isinf(evidence[key].value)
    ]
    yield Table.of(
        "Histogram of the modes against the target, in nats",
        ("divergence", "above the floor", "plain", "floor"),
        [(name, number(evidence[key]), _raw(evidence[key]), short(evidence[floor])) for name, key, floor in names],
        " ".join(["The floor is what a perfect generator scores on average with as many hits.", *reasons]),
    )


def _examples(records: list[dict[str, Any]], kind: str) -> Table:
    """Training samples of what was lost, one line each; no rows where nothing was."""
    shown = [r for r in records if "examples" in r]
    at = any(r.get("examples_at") for r in shown)
    return Table.of(
        f"What is missing: training samples of each {kind} that is short",
        (kind, "status", "training rows", *(["where they lie"] if at else [])),
        [
            (
                r["name"],
                r["status"],
                ", ".join(str(row) for row in r["examples"][:_SHOWN]) or "none: train has no such sample",
                *([", ".join(_point(x) for x in r["examples_at"][: _SHOWN - 1])] if at else []),
            )
            for r in shown
        ],
    )


def _point(x: Sequence[float]) -> str:
    return "(" + ", ".join(short(float(f"{value:.3g}")) for value in x) + ")"


def _raw(estimate: Estimate) -> str:
    return short(estimate.value if estimate.raw is None else estimate.raw)


def _regions(finding: Finding) -> Iterator[Table]:
    yield Table.of(
        "Regions left out",
        ("region", "samples", "expected", "share, of its due", "p", "training rows in it"),
        [
            (
                r["name"],
                str(r["hits"]),
                short(r["expected"]),
                number(r["ratio"]),
                p_text(r["p_adjusted"]),
                ", ".join(str(row) for row in r["examples"][:_SHOWN]),
            )
            for r in finding.evidence["regions"]
        ],
    )


def _stacked(finding: Finding) -> Iterator[Table]:
    evidence = finding.evidence
    yield Table.of(
        "Stacks that were lost, the surest first",
        ("channels", "modes", "images", "expected", "p, after Holm"),
        [
            (r["name"], str(r["modes"]), str(r["hits"]), short(r["expected"]), p_text(r["p_adjusted"]))
            for r in sorted(evidence["lost"], key=lambda r: r["p_adjusted"])
        ],
    )
    rows = [
        ("KL(samples ‖ uniform)", number(evidence["reverse_kl"]), _raw(evidence["reverse_kl"])),
        ("Jensen-Shannon divergence", number(evidence["jsd"]), _raw(evidence["jsd"])),
    ]
    yield Table.of(
        "Histogram of the modes against the uniform law, in nats",
        ("divergence", "above the floor", "plain, as published"),
        rows,
        f"The floor of the first, {short(evidence['noise_floor'])}, is what a perfect generator scores on average "
        f"through this classifier. Rule: {evidence['rule']}.",
    )


def _classes(finding: Finding) -> Iterator[Table]:
    records = sorted(finding.evidence["per_class"], key=lambda r: (r["status"] == "drawn", r["p_adjusted"]))
    yield Table.of(
        "Share of each class",
        ("class", "status", "assigned", "share, corrected", "fair", "p"),
        [
            (
                r["name"],
                r["status"],
                str(r["count"]),
                number(r["share"]),
                short(r["fair"]),
                p_text(r["p_adjusted"]),
            )
            for r in records
        ],
        (
            "Labels at face value. "
            if finding.evidence.get("face_value")
            else "The classifier's confusion is corrected for. "
        )
        + "p of at least half of the due share, after Holm.",
    )
    yield _examples(records, "class")


def _collapse(finding: Finding) -> Iterator[Table]:
    evidence = finding.evidence
    kind, shrunk = evidence["kind"], evidence["shrunk"]
    # What is too narrow comes first, then what is narrowest.
    records = sorted(evidence["per_mode"], key=lambda r: (r["name"] not in shrunk, r["p_adjusted"], r["ratio"].value))
    head: tuple[str, ...] = (kind, "status", "variance", "p")
    rows: list[tuple[str, ...]] = [
        (
            r["name"],
            "class lost" if r.get("lost") else "too narrow" if r["name"] in shrunk else "wide enough",
            number(r["ratio"]),
            p_text(r["p_adjusted"]),
        )
        for r in records
    ]
    note = f"Variance is in units of what is due; p of at least {short(evidence['margin'])} of that, after Holm."
    if any("shift" in r for r in records):
        head += ("volume", "mean shift, σ", "chance")
        rows = [
            (*row, number(r["volume"]), number(r["shift"]), short(r["shift_null"]))
            for row, r in zip(rows, records, strict=True)
        ]
        note += (
            " Volume is the geometric mean of the variances along all axes: it sees a mode that collapsed onto a line. "
            "Chance is how long a perfect generator's shift is; the shift is what exceeds it."
        )
    yield Table.of(f"Shape of each {kind}, the most suspicious first", head, rows, note)


def _copies(finding: Finding) -> Iterator[Table]:
    evidence = finding.evidence
    if len(evidence["null_scores"]):
        yield Table.of(
            "Samples nearer to train than chance explains, at a false-discovery rate",
            ("rate, at most", "samples", "of them by chance, on average"),
            [
                (f"q ≤ {rate}", str(count), "–" if count == 0 else f"≤ {short(float(rate) * count)}")
                for rate, count in evidence["discoveries"].items()
            ],
        )
    yield Table.of(
        "Suspects, most suspicious first",
        ("generated row", "training row", "distance", "score", "p", "q", "held-out row", "distance to it"),
        [
            (
                str(s["generated"]),
                str(s["train"]),
                short(s["distance"]),
                short(s["score"]),
                p_text(s["p_value"]),
                p_text(s["q_value"]),
                str(s["nearest_test"]),
                short(s["test_distance"]),
            )
            for s in evidence["suspects"]
        ],
    )


def _detection(detection: dict[str, Any]) -> Table:
    """One line per mode, class or region; one column per number of samples."""
    unit, rows = detection["unit"], detection["rows"]
    sizes = list(dict.fromkeys(row["n"] for row in rows))
    lines: dict[tuple[Any, float], dict[int, float]] = {}
    for row in rows:
        lines.setdefault((row["name"], row["weight"]), {})[row["n"]] = row["loss"]
    cells = []
    for (name, weight), losses in lines.items():
        label = f"share {short(weight)}" if name is None else f"{name}: share {short(weight)}"
        cells.append((label, *(_loss(losses.get(n)) for n in sizes)))
    note = (
        f"The part of a {unit} that must be lost to be found with {100 * detection['power']:.0f} % power: "
        "less could go unnoticed. The first column is this audit, the others are larger ones."
    )
    return Table.of("What this audit could have missed", (unit, *(f"n = {n}" for n in sizes)), cells, note)


def _loss(loss: float | None) -> str:
    if loss is None:
        return "–"
    return "none is found" if math.isinf(loss) else f"{math.ceil(100 * loss)} %"
