"""What can go wrong, one class per kind of misuse.

An infinite divergence is *not* an error: it is an answer, ``Estimate(inf, error=0)``. An error means that no
honest number can be given. Errors that distrust a number still hand it over (``err.estimate``, ``err.interval``),
so that the caller can look at it with open eyes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from divergences.estimate import Estimate

__all__ = ["InputError", "NoDensity", "NotCertified", "UnderResolved"]


class InputError(ValueError):
    """An argument cannot be used: the message names it, says what is wrong with it, and what to do."""


class NoDensity(InputError):
    """A density was needed and only a sampler was given, or the law has no closed-form density or CDF."""


class UnderResolved(ArithmeticError):
    """An integral did not pass its own checks; ``estimate`` holds the number that is not to be trusted."""

    def __init__(self, message: str, estimate: Estimate) -> None:
        super().__init__(message)
        self.estimate = estimate


class NotCertified(ArithmeticError):
    """An optimal-transport cost failed its certificate; the truth lies in ``interval`` = (dual, primal)."""

    def __init__(self, message: str, interval: tuple[float, float]) -> None:
        super().__init__(message)
        self.interval = interval
