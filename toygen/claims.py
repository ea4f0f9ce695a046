r"""Claims that need training, checked on really trained networks: each pairs two computations that share no code.

A claim holds if the two sides agree within the errors they state: no tolerance is set by hand. Where a statement is
about how well training goes, the number it promises stands in the statement, and the end of a 99.9 % interval over
seeds is held against it; where it is a statistical effect, the p-value of an exact test against a stated error rate.
The statements stand in ``claims_discriminators``, ``claims_gradients``, ``claims_critics`` and ``claims_ensembles``,
the trainings in ``claims_studies``.

``python -m toygen --claims`` prints the table in two minutes of one core; names after it choose claims.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from divergences.claim import Claim
from divergences.claims_table import claims_main
from toygen.claims_critics import CRITICS
from toygen.claims_discriminators import DISCRIMINATORS
from toygen.claims_ensembles import ENSEMBLES
from toygen.claims_gradients import GRADIENTS
from toygen.claims_studies import LOG

__all__ = ["CLAIMS", "claims_command"]

CLAIMS: tuple[Claim, ...] = (*DISCRIMINATORS, *GRADIENTS, *CRITICS, *ENSEMBLES)


def claims_command(argv: Sequence[str]) -> int:
    """``python -m toygen --claims [NAME ...] [--json]``: the table on stdout, what is being trained on stderr.

    Args:
        argv: what follows ``--claims``.

    Returns:
        0 if every claim holds, 1 if one fails.
    """
    handler = logging.StreamHandler(sys.stderr)
    level = LOG.level
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    try:
        return claims_main(
            argv,
            prog="python -m toygen --claims",
            description="Check what is said about GANs on trained networks, each claim by two computations.",
            claims=lambda: CLAIMS,
        )
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(level)
