r"""What lectures state, checked: each claim pairs two computations that share no code.

A claim holds if the two Estimates agree within the errors they state themselves: no tolerance is set by hand. The
statements stand in ``claims_game`` (the best discriminator, its value, what falls short of it), ``claims_limits``
(vanishing gradients, empirical laws, dropped modes), ``claims_transport`` (duality, the critic), ``claims_bounds``
(f-divergences and their inequalities), ``claims_generators`` (densities of x = g(z), fits) and ``claims_inference``
(likelihood, conditionals, information); ``claims_textbook`` holds the laws and the formulas that scipy integrates.

``python -m divergences`` prints the table.
"""

from __future__ import annotations

from divergences.claim import Claim, Result
from divergences.claims_bounds import BOUNDS
from divergences.claims_game import GAME
from divergences.claims_generators import GENERATORS_AND_FITS
from divergences.claims_inference import INFERENCE
from divergences.claims_limits import LIMITS
from divergences.claims_transport import TRANSPORT

__all__ = ["CLAIMS", "Claim", "Result"]

CLAIMS: tuple[Claim, ...] = (*GAME, *LIMITS, *TRANSPORT, *BOUNDS, *GENERATORS_AND_FITS, *INFERENCE)
