r"""What lectures state, checked: each claim pairs two computations that share no code.

A claim holds if the two Estimates agree within the errors they state themselves: no tolerance is set by hand. The
statements stand in ``claims_game`` (the game, JSD, duality), ``claims_limits`` (what goes wrong far away and in
samples, f-divergences, bounds) and ``claims_inference`` (likelihood, conditionals, information).

``python -m divergences`` prints the table.
"""

from __future__ import annotations

from divergences.claim import Claim, Result
from divergences.claims_game import GAME
from divergences.claims_inference import INFERENCE
from divergences.claims_limits import LIMITS

__all__ = ["CLAIMS", "Claim", "Result"]

CLAIMS: tuple[Claim, ...] = (*GAME, *LIMITS, *INFERENCE)
