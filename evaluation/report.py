r"""An audit as text for a terminal, as JSON for a machine, as one HTML page for people.

All three say the same: the verdict; each question with its answer, the number with its error beside what a perfect
generator would score, what the answer means; and how to repeat the audit. None holds a date or anything else that would
differ between two runs with the same seed.

**JSON**, schema ``mintmark-audit-2`` (the number rises when a key goes or changes its meaning; new keys may come at any
time):

=================  =====================================================================================================
``schema``         "mintmark-audit-2"
``verdict``        "clear", "flagged" or "inconclusive", of the whole
``exit_status``    0, 1 or 3
``findings[]``     ``name, question, verdict, quantity, estimate, null, p_value, meaning, evidence``
``scores[]``       ``name, estimate, null, p_value, meaning``: numbers without a verdict, since schema 2
``protocol``       ``generated, train, test`` (``source, n, shape, dtype, formats, notes``; null if not given),
                   ``features, fingerprint, feature_dimensions, margins, seed, versions, alpha, alpha_memorization,
                   overlap, warnings, reference, views, classes`` (null, or ``by``: "built-in", "classifier" or
                   "generated_labels", and ``judge, name, judged_on, answers`` where there are such)
=================  =====================================================================================================

An estimate is ``value, error, interval, level, method, n, raw, note``; a null is an estimate, a number, or null where
nobody knows. Not a number and infinities are the strings "nan", "inf" and "-inf". An array of more than 1000 numbers is
summed up as ``shape, min, median, max``. ``evidence`` holds what the finding rests on, among it

* ``detection``: ``unit, power, level, rows[]`` of ``name, n, weight, expected, loss``: the least share of a mode, class
  or region whose loss is found with that power at that n ("inf": not even all of it);
* of *mode loss*: ``per_mode[]``, ``rule, minimum_hits``, and the divergences of the histogram less their floors
  (``reverse_kl, noise_floor, forward_kl, forward_floor, jsd, jsd_floor``); or ``regions[]`` without known modes; or,
  of stacked digits, ``lost[]`` of ``name, classes, modes, hits, expected, p_adjusted``;
* of *mode loss* and *class loss*, in the records of what is short: ``examples``, rows of train, and for points in up to
  three dimensions ``examples_at``, their coordinates;
* of *partial collapse*: ``per_mode[]`` of ``name, ratio, p_adjusted``; of known modes ``volume, shift, shift_null``;
* of *two-sample*: ``classifier, neighbors, exact_p_value, looked_at``, and ``easiest``: rows recognised most easily;
* of *distribution*: ``plain, plain_bias, held_out, margin``;
* of *memorization*: ``suspects[]`` of ``generated, train, distance, score, p_value, q_value, nearest_test,
  test_distance``, ``suspect_count``, and ``discoveries``: samples at each false-discovery rate.

``NOTATION.md`` lists every field. The page is self-contained and holds no script; its policy header forbids the browser
to fetch anything. Whatever came from outside, such as file names and labels, is escaped.
"""

from __future__ import annotations

import json
import math
import textwrap
from importlib import resources
from typing import Any

import numpy as np

from divergences.estimate import Estimate
from evaluation.audit import AuditReport
from evaluation.findings import Finding, beside, number
from evaluation.scores import Score
from evaluation.tables import Table, p_text, score_table, tables_of
from evaluation.verdict import Verdict

__all__ = ["SCHEMA", "to_dict", "to_html", "to_json", "to_text"]

SCHEMA = "mintmark-audit-2"
_WIDTH = 100
_PERFECT = "a perfect generator"
# Longer arrays are summed up in JSON: the samples themselves are the user's already.
_LISTED = 1000
_MARK = {Verdict.CLEAR: "✓", Verdict.FLAGGED: "✕", Verdict.INCONCLUSIVE: "?"}
_OVERLAP = {
    "generated_in_train": "generated samples equal to a training sample",
    "generated_repeats": "repeats among the generated samples",
    "test_in_train": "held-out samples equal to a training sample",
    "generated_in_test": "generated samples that are held-out samples",
}
_SUMMARY = {
    Verdict.CLEAR: "Nothing that was asked speaks against this generator.",
    Verdict.FLAGGED: "This generator fails at least one question.",
    Verdict.INCONCLUSIVE: "At least one question could not be answered, and none was failed.",
}


def to_dict(report: AuditReport) -> dict[str, Any]:
    """The report in plain JSON types: no NaN, infinities as strings."""
    return {
        "schema": SCHEMA,
        "verdict": report.verdict.value,
        "exit_status": report.exit_status,
        "findings": [
            {
                "name": finding.name,
                "question": finding.question,
                "verdict": finding.verdict.value,
                "quantity": finding.quantity,
                "estimate": _plain(finding.estimate),
                "null": _plain(finding.null),
                "p_value": _plain(finding.p_value),
                "meaning": finding.meaning,
                "evidence": _plain(finding.evidence),
            }
            for finding in report.findings
        ],
        "scores": [
            {
                "name": score.name,
                "estimate": _plain(score.estimate),
                "null": _plain(score.null),
                "p_value": _plain(score.p_value),
                "meaning": score.meaning,
            }
            for score in report.scores
        ],
        "protocol": _plain(report.protocol),
    }


def to_json(report: AuditReport) -> str:
    """The report as strictly valid JSON text, ending with a newline."""
    return json.dumps(to_dict(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_text(report: AuditReport) -> str:
    """The report for a terminal, at most 100 columns wide."""
    lines = [f"mintmark audit: {report.verdict.value.upper()}. {_SUMMARY[report.verdict]}", ""]
    for name in ("generated", "train", "test"):
        lines.append(f"  {name:<10}{_described(report.protocol[name])}")
    lines.append(f"  {'features':<10}{_features(report)}")
    for warning in report.protocol["warnings"]:
        lines += _wrapped(f"! {warning}", "  ")
    for finding in report.findings:
        lines += ["", *_finding_lines(finding)]
    lines += _score_lines(report)
    lines += ["", "PROTOCOL", *_wrapped(_rates(report), "  ")]
    for name, value in _protocol_rows(report)[3:]:
        lines += _wrapped(f"{name}: {value}", "    ")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def to_html(report: AuditReport) -> str:
    """The report as one self-contained HTML page."""
    from jinja2 import Environment, StrictUndefined

    from evaluation.illustrations import illustrate, overview

    source = resources.files("evaluation").joinpath("templates/report.html.j2").read_text(encoding="utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = template.from_string(source).render(
        title=f"{report.verdict.value}: {report.protocol['generated']['source']}",
        verdict=report.verdict.value,
        mark=_MARK[report.verdict],
        summary=_SUMMARY[report.verdict],
        counts=_counts(report),
        sources=[(name, _described(report.protocol[name])) for name in ("generated", "train", "test")],
        warnings=report.protocol["warnings"],
        overview=overview(report),
        findings=[
            {
                "name": finding.name,
                "anchor": finding.name.replace(" ", "-"),
                "question": finding.question,
                "verdict": finding.verdict.value,
                "mark": _MARK[finding.verdict],
                "quantity": finding.quantity,
                "estimate": number(finding.estimate),
                "method": finding.estimate.method,
                "null": beside(finding.null, finding.estimate),
                "p_value": p_text(finding.p_value),
                "meaning": finding.meaning,
                "tables": tables_of(finding),
                "pictures": illustrate(report, finding),
            }
            for finding in report.findings
        ],
        scores=[
            {
                "name": score.name,
                "estimate": number(score.estimate),
                "null": beside(score.null, score.estimate),
                "whence": _whence(score),
                "method": score.estimate.method,
                "meaning": score.meaning,
            }
            for score in report.scores
        ],
        protocol=[(name, value) for name, value in _protocol_rows(report)],
        rates=_rates(report),
    )
    return page if page.endswith("\n") else page + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Estimate):
        return value.to_dict()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        if value.size <= _LISTED:
            return _plain(value.tolist())
        middle = _plain(float(np.median(value)))
        return {"shape": list(value.shape), "min": _plain(value.min()), "median": middle, "max": _plain(value.max())}
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _described(source: dict[str, Any] | None) -> str:
    if source is None:
        return "not given"
    n, *shape = source["shape"]
    if len(shape) == 1:
        return f"{source['source']}: {n} points of {shape[0]} coordinate{'s' if shape[0] > 1 else ''}"
    kind = "grey" if len(shape) == 2 else f"{shape[2]}-channel"
    return f"{source['source']}: {n} {kind} images of {shape[1]}×{shape[0]} pixels, {source['dtype']}"


def _features(report: AuditReport) -> str:
    return f"{report.protocol['features']}, {report.protocol['feature_dimensions']} dimensions"


def _counts(report: AuditReport) -> str:
    given = [finding.verdict for finding in report.findings]
    parts = [f"{given.count(verdict)} {verdict.value}" for verdict in reversed(Verdict) if verdict in given]
    return f"{len(given)} question{'s' if len(given) > 1 else ''}: {', '.join(parts)}"


def _finding_lines(finding: Finding) -> list[str]:
    lines = [f"{_MARK[finding.verdict]} {finding.name.upper()}: {finding.verdict.value}. {finding.question}"]
    null = f"a perfect generator: {beside(finding.null, finding.estimate)}"
    if finding.p_value is not None:
        p_value = p_text(finding.p_value)
        null += f"; p {p_value}" if p_value.startswith("<") else f"; p = {p_value}"
    lines += _wrapped(f"{finding.quantity}: {number(finding.estimate)} ({null})", "    ")
    lines += _wrapped(finding.meaning, "  ")
    for table in tables_of(finding):
        lines += [*_wrapped(f"{table.title}:", "  "), *_table_lines(table), *_wrapped(table.note, "    ")]
    return lines


def _whence(score: Score) -> str:
    """What the null of a score was measured on, where it was."""
    note = score.null.note if isinstance(score.null, Estimate) else ""
    return note.replace("score of test=", "the held-out data")


def _table_lines(table: Table) -> list[str]:
    """Columns to the right; the last one is wrapped where a row would be too wide."""
    rows = [table.head, *table.rows]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    widths[-1] = max(min(widths[-1], _WIDTH - 4 - sum(widths[:-1]) - 2 * (len(widths) - 1)), 8)
    lines = []
    for row in rows:
        start = "    " + "".join(f"{cell.rjust(width)}  " for cell, width in zip(row, widths, strict=False))
        parts = textwrap.wrap(row[-1], widths[-1]) or [""]
        start = start[: 4 + sum(widths[:-1]) + 2 * (len(widths) - 1)]
        lines.append(start + parts[0].rjust(widths[-1]))
        lines += [" " * len(start) + part.rjust(widths[-1]) for part in parts[1:]]
    return [*lines, f"    ... and {table.more} more"] if table.more else lines


def _score_lines(report: AuditReport) -> list[str]:
    """Each score beside its null, and below it what it means."""
    if not report.scores:
        return []
    rows = score_table(report.scores).rows
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    widths[2] = max(widths[2], len(_PERFECT))
    lines = ["", "SCORES, without a verdict", f"    {'':<{widths[0]}}  {'generated':<{widths[1]}}  {_PERFECT}"]
    for name, value, null, meaning in rows:
        lines.append(f"    {name:<{widths[0]}}  {value:<{widths[1]}}  {null:<{widths[2]}}")
        lines += _wrapped(meaning, "      ")
    return lines


def _protocol_rows(report: AuditReport) -> list[tuple[str, str]]:
    protocol = report.protocol
    rows = [(name, _described(protocol[name])) for name in ("generated", "train", "test")]
    rows += [
        (f"{name}: read as", "; ".join([", ".join(source["formats"]), *source["notes"]]).strip("; "))
        for name in ("generated", "train", "test")
        if (source := protocol[name]) is not None and (source["formats"] or source["notes"])
    ]
    rows.append(("features", _features(report)))
    rows.append(("fingerprint of the features", json.dumps(_plain(protocol["fingerprint"]), sort_keys=True)))
    if protocol["classes"] is not None:
        told = protocol["classes"]
        digest = f"; digest of the answers {told['answers']}" if "answers" in told else ""
        rows.append(("classes of the generated samples", told["judge"] + digest))
    if protocol["reference"] is not None:
        rows.append(("distribution compared with", protocol["reference"]))
    rows += [(_OVERLAP[name], str(count)) for name, count in protocol["overlap"].items()]
    rows += [(f"margin: {name}", f"{margin:g}") for name, margin in protocol["margins"].items()]
    if protocol["views"] is not None:
        rows.append(("copies looked for up to", protocol["views"]))
    rows.append(("seed", str(protocol["seed"])))
    rows += list(protocol["versions"].items())
    return rows


def _rates(report: AuditReport) -> str:
    alpha, own = report.protocol["alpha"], report.protocol["alpha_memorization"]
    return (
        "A generator that is good enough in every respect asked, within the margins stated, is flagged with a chance "
        f"of at most {alpha:g}: {own:g} for memorization, {alpha - own:g} for the other questions together (Holm's "
        "procedure over their p-values). Brackets and ± are 95 % intervals, each for its number alone. The number of a "
        "perfect generator is what it would score with as many samples."
    )


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
