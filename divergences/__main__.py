"""``python -m divergences``: the table of claims, both sides computed; exit status 1 if one fails."""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
import time


def main(argv: list[str] | None = None) -> int:
    """Check every claim (or those named) and print the table.

    Args:
        argv: arguments, ``sys.argv[1:]`` by default.

    Returns:
        0 if every claim holds, 1 if one fails, 2 for misuse.
    """
    parser = argparse.ArgumentParser(
        prog="python -m divergences",
        description="Check the theory of GANs and optimal transport, each claim by two independent computations.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="claims to check (default: all)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args(argv)
    # In our own command nobody else needs POT's torch backend, which takes seconds to import.
    for backend in ("PYTORCH", "JAX", "CUPY", "TENSORFLOW"):
        os.environ.setdefault(f"POT_BACKEND_DISABLE_{backend}", "1")
    from divergences.claims import CLAIMS

    unknown = set(arguments.names) - {claim.name for claim in CLAIMS}
    if unknown:
        parser.error(f"no claim is named {', '.join(sorted(unknown))}; there are: {', '.join(c.name for c in CLAIMS)}")
    chosen = [claim for claim in CLAIMS if not arguments.names or claim.name in arguments.names]
    start = time.perf_counter()
    rows = []
    failed = 0
    for claim in chosen:
        result = claim.check()
        failed += not result.agrees
        rows.append(
            {
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
        )
        if not arguments.json:
            mark = "ok  " if result.agrees else "FAIL"
            print(f"{mark} {claim.name}:  {claim.statement}")
            for side, estimate in (("left ", result.left), ("right", result.right)):
                number = f"{estimate.value:.15g}" if abs(estimate.value) < float("inf") else str(estimate)
                print(f"       {side}  {number:<22} ± {estimate.error:<8.1e} {estimate.method}")
            if claim.relation == "=":
                compared = f"difference {result.difference:.1e}, tolerance {result.tolerance:.1e}"
            else:
                compared = f"left − right = {result.difference:.1e} ≤ 0, tolerance {result.tolerance:.1e}"
            print(
                textwrap.fill(f"{compared}. {claim.reference}", 118, initial_indent=" " * 7, subsequent_indent=" " * 7)
            )
    if arguments.json:
        print(json.dumps({"claims": rows, "failed": failed}, indent=2, ensure_ascii=False))
    else:
        print(f"\n{len(chosen) - failed} of {len(chosen)} claims hold ({time.perf_counter() - start:.1f} s).")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
