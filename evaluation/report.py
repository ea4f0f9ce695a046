r"""An audit as text for a terminal, as JSON for a machine, as one HTML page for people.

All three say the same: the verdict; each question with its answer, the number with its error beside what a perfect
generator would score, what the answer means; and how to repeat the audit. None holds a date or anything else that would
differ between two runs with the same seed.

The page is self-contained and holds no script; its policy header forbids the browser to fetch anything. Whatever came
from outside, such as file names and labels, is escaped.
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
from evaluation.findings import Finding, number, short
from evaluation.verdict import Verdict

__all__ = ["SCHEMA", "to_dict", "to_html", "to_json", "to_text"]

SCHEMA = "mintmark-audit-1"
_WIDTH = 100
_ROWS = 12
# Longer arrays are summed up in JSON: the samples themselves are the user's already.
_LISTED = 1000
_MARK = {Verdict.CLEAR: "✓", Verdict.FLAGGED: "✕", Verdict.INCONCLUSIVE: "?"}
_OVERLAP = {
    "generated_in_train": "generated samples equal to a training sample",
    "generated_repeats": "repeats among the generated samples",
    "test_in_train": "held-out samples equal to a training sample",
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
    lines += ["", *_wrapped(_rates(report), "  ")]
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
                "null": number(finding.null),
                "p_value": _p_value(finding.p_value),
                "meaning": finding.meaning,
                "table": _table(finding),
                "pictures": illustrate(report, finding),
            }
            for finding in report.findings
        ],
        protocol=[(name, value) for name, value in _protocol_rows(report)],
        rates=_rates(report),
    )
    return page if page.endswith("\n") else page + "\n"


def _p_value(p_value: float | None) -> str:
    if p_value is None:
        return "–"
    return "< 1e−15" if p_value < 1e-15 else short(float(f"{p_value:.2g}"))


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
    null = f"a perfect generator: {number(finding.null)}"
    if finding.p_value is not None:
        p_value = _p_value(finding.p_value)
        null += f"; p {p_value}" if p_value.startswith("<") else f"; p = {p_value}"
    lines += _wrapped(f"{finding.quantity}: {number(finding.estimate)} ({null})", "    ")
    lines += _wrapped(finding.meaning, "  ")
    table = _table(finding)
    if table is not None:
        columns = list(zip(table["head"], *table["rows"], strict=True))
        widths = [max(len(cell) for cell in column) for column in columns]
        for row in [table["head"], *table["rows"]]:
            lines.append("    " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
        if table["more"]:
            lines.append(f"    ... and {table['more']} more")
    return lines


def _table(finding: Finding) -> dict[str, Any] | None:
    """The rows worth reading: what is lost, or what looks copied."""
    evidence = finding.evidence
    if "regions" in evidence:
        head = ["region", "samples", "expected", "share, of its due", "training rows in it"]
        rows = [
            [
                r["name"],
                str(r["hits"]),
                short(r["expected"]),
                number(r["ratio"]),
                ", ".join(str(row) for row in r["examples"][:4]),
            ]
            for r in evidence["regions"]
        ]
    elif finding.name == "mode loss":
        records = [record for record in evidence["per_mode"] if record["status"] != "reached"]
        head = ["mode", "at", "status", "hits", "expected", "share", "fair"]
        rows = [
            [
                r["name"],
                "(" + ", ".join(short(x) for x in r["mean"][:3]) + (", …" if len(r["mean"]) > 3 else "") + ")",
                r["status"],
                str(r["hits"]),
                short(r["expected"]),
                number(r["share"]),
                short(r["fair"]),
            ]
            for r in records
        ]
    elif finding.name == "class loss":
        records = [record for record in evidence["per_class"] if record["status"] != "drawn"]
        head = ["class", "status", "assigned", "share, corrected", "fair"]
        rows = [[r["name"], r["status"], str(r["count"]), number(r["share"]), short(r["fair"])] for r in records]
    elif finding.name == "partial collapse":
        kind, shrunk = evidence["kind"], evidence["shrunk"]
        records = [record for record in evidence["per_mode"] if record["name"] in shrunk]
        head = [kind, "variance, of what it should be", "p, adjusted"]
        rows = [[r["name"], number(r["ratio"]), _p_value(r["p_adjusted"])] for r in records]
    elif finding.name == "memorization":
        records = evidence["suspects"]
        head = ["generated row", "training row", "distance", "score"]
        rows = [[str(r["generated"]), str(r["train"]), short(r["distance"]), short(r["score"])] for r in records]
    else:
        return None
    return {"head": head, "rows": rows[:_ROWS], "more": max(len(rows) - _ROWS, 0)} if rows else None


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
    if protocol["reference"] is not None:
        rows.append(("distribution compared with", protocol["reference"]))
    rows += [(_OVERLAP[name], str(count)) for name, count in protocol["overlap"].items()]
    rows += [(f"margin: {name}", f"{margin:g}") for name, margin in protocol["margins"].items()]
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
