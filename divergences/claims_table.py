"""The table of claims, as every package's command prints it: both sides computed, compared, and shown with errors."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from typing import Any

from divergences.claim import Claim, Result

__all__ = ["claims_main"]

_WIDTH = 118
_INDENT = " " * 7


def claims_main(argv: Sequence[str], *, prog: str, description: str, claims: Callable[[], Sequence[Claim]]) -> int:
    """Check every claim, or those named, and print the table; a usage message leaves through argparse, status 2.

    Args:
        argv: arguments: names of claims, ``--json``.
        prog: the command, for messages.
        description: what the claims are about.
        claims: makes the claims; called after the arguments have been read, since it may import much.

    Returns:
        0 if every claim holds, 1 if one fails.
    """
    parser = argparse.ArgumentParser(prog=prog, description=description, allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help="claims to check (default: all)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args(list(argv))
    known = claims()
    unknown = set(arguments.names) - {claim.name for claim in known}
    if unknown:
        parser.error(f"no claim is named {', '.join(sorted(unknown))}; there are: {', '.join(c.name for c in known)}")
    chosen = [claim for claim in known if not arguments.names or claim.name in arguments.names]
    start = time.perf_counter()
    rows = []
    failed = 0
    for claim in chosen:
        began = time.perf_counter()
        result = claim.check()
        failed += not result.agrees
        rows.append(_row(claim, result))
        if not arguments.json:
            _say(_text(claim, result, time.perf_counter() - began))
    if arguments.json:
        _say(json.dumps({"claims": rows, "failed": failed}, indent=2, ensure_ascii=False))
    else:
        _say(f"\n{len(chosen) - failed} of {len(chosen)} claims hold ({time.perf_counter() - start:.1f} s).")
    return 1 if failed else 0


def _row(claim: Claim, result: Result) -> dict[str, Any]:
    return {
        "name": claim.name,
        "statement": claim.statement,
        "relation": claim.relation,
        "left": result.left.to_dict(),
        "right": result.right.to_dict(),
        "difference": result.difference,
        "tolerance": result.tolerance,
        "agrees": result.agrees,
        "reference": claim.reference,
    }


def _text(claim: Claim, result: Result, seconds: float) -> str:
    lines = [f"{'ok  ' if result.agrees else 'FAIL'} {claim.name}:  {claim.statement}"]
    for side, estimate in (("left ", result.left), ("right", result.right)):
        number = f"{estimate.value:.15g}" if abs(estimate.value) < float("inf") else str(estimate)
        lines.append(f"{_INDENT}{side}  {number:<22} ± {estimate.error:<8.1e} {estimate.method}")
    if claim.relation == "=":
        compared = f"difference {result.difference:.1e}, tolerance {result.tolerance:.1e}"
    else:
        compared = f"left − right = {result.difference:.1e} ≤ 0, tolerance {result.tolerance:.1e}"
    took = f" ({seconds:.1f} s)" if seconds >= 0.05 else ""
    whole = f"{compared}. {claim.reference}{took}"
    lines.append(textwrap.fill(whole, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT))
    return "\n".join(lines)


def _say(text: str) -> None:
    """To standard output, whatever its encoding can show; at once, since claims may take seconds each."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    sys.stdout.write(f"{text}\n".encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()
