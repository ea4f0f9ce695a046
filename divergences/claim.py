r"""What a claim is: a statement, and two computations of it that share no code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from divergences.checks import one_of
from divergences.estimate import Estimate

__all__ = ["Claim", "Result", "exact"]

_ULP = 4e-16


def exact(value: float, method: str = "closed form") -> Estimate:
    """A number known in closed form, up to its rounding."""
    return Estimate(value, _ULP * max(1.0, abs(value)) if np.isfinite(value) else 0.0, method=method)


class Result(NamedTuple):
    """Both sides of a claim, and whether they stand in the relation stated."""

    left: Estimate
    right: Estimate
    agrees: bool

    @property
    def difference(self) -> float:
        """Left minus right (0 for equal infinities)."""
        return 0.0 if self.left.value == self.right.value else self.left.value - self.right.value

    @property
    def tolerance(self) -> float:
        """The sum of the errors both sides state."""
        return self.left.error + self.right.error


@dataclass(frozen=True)
class Claim:
    """A statement with two independent computations.

    Attributes:
        name: short identifier.
        statement: the formula, in LaTeX.
        relation: ``"="`` or ``"≤"``.
        reference: title (authors, year) and address.
        left: computes the left side.
        right: computes the right side, by other means.
    """

    name: str
    statement: str
    relation: str
    reference: str
    left: Callable[[], Estimate]
    right: Callable[[], Estimate]

    def __post_init__(self) -> None:
        one_of(self.relation, "relation", ("=", "≤"))

    def check(self) -> Result:
        """Compute both sides and compare them within their own errors."""
        left, right = self.left(), self.right()
        agrees = left.agrees(right) if self.relation == "=" else left.interval[0] <= right.interval[1]
        return Result(left, right, agrees)
