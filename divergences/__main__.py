"""``python -m divergences``: the table of claims, both sides computed; exit status 1 if one fails."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from divergences.claim import Claim
from divergences.claims_table import claims_main


def main(argv: list[str] | None = None) -> int:
    """Check every claim (or those named) and print the table.

    Args:
        argv: arguments, ``sys.argv[1:]`` by default.

    Returns:
        0 if every claim holds, 1 if one fails, 2 for misuse.
    """
    words = sys.argv[1:] if argv is None else argv
    return claims_main(
        [word for word in words if word != "--claims"],  # the table is all there is here; other commands need the word
        prog="python -m divergences",
        description="Check the theory of GANs and optimal transport, each claim by two independent computations, in "
        "about 20 s. --claims may stand before the names, as in the other commands.",
        claims=_claims,
    )


def _claims() -> Sequence[Claim]:
    # In our own command nobody else needs POT's torch backend, which takes seconds to import.
    for backend in ("PYTORCH", "JAX", "CUPY", "TENSORFLOW"):
        os.environ.setdefault(f"POT_BACKEND_DISABLE_{backend}", "1")
    from divergences.claims import CLAIMS

    return CLAIMS


if __name__ == "__main__":
    sys.exit(main())
