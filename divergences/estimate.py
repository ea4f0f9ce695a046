r"""A number that knows how wrong it may be.

There are two kinds of error, and they are never mixed:

* a **confidence interval** (``level=0.95``): over repeated samples, ``interval`` holds the truth in that share of the
  cases. ``error`` is then the half-width *at that level*, not a standard error (of an interval that is not symmetric
  the longer arm);
* a **numerical error** (``level=None``): no probability is claimed. ``method`` says whether it is a proven *bound* or
  an *estimate* inferred, for instance, from two quadrature rules.

There is no arithmetic on estimates: errors of sums depend on how the parts hang together. Add first, then estimate:
this is why an ``expect`` method takes a whole sum of expectations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["Estimate"]

_ULPS = 8


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its error.

    Attributes:
        value: the number; ``inf`` is an answer.
        error: half-width of the interval around it, ≥ 0; with ``bounds`` the longer arm.
        level: confidence level of the interval, or None for a numerical error that claims no probability.
        method: how it was computed, and whether a numerical error is a "bound" or an "estimate".
        n: how many samples or function evaluations went in.
        raw: the uncorrected number, where ``value`` corrects a known bias.
        bounds: the interval itself, where it is not symmetric around the value.
        note: what a reader must know, such as why the value is infinite.

    >>> kl = Estimate(0.5, 1e-12, method="quadrature (estimate)")
    >>> float(kl), kl.agrees(0.5 + 5e-13)
    (0.5, True)
    >>> print(Estimate(0.31, 0.02, level=0.95, n=1000))
    0.31 ± 0.02 (95 %)
    """

    value: float
    error: float
    level: float | None = None
    method: str = ""
    n: int | None = None
    raw: float | None = None
    bounds: tuple[float, float] | None = None
    note: str = ""

    def __post_init__(self) -> None:
        # Tables and JSON want Python floats, whatever numpy scalar came in.
        object.__setattr__(self, "value", float(self.value))
        object.__setattr__(self, "error", float(self.error))
        if math.isnan(self.value) or not self.error >= 0:
            raise ValueError(f"an Estimate needs a number and an error ≥ 0, not {self.value} ± {self.error}")
        if self.level is not None and not 0 < self.level < 1:
            raise ValueError(f"a confidence level lies between 0 and 1, not {self.level}")

    def __float__(self) -> float:
        return self.value

    @property
    def interval(self) -> tuple[float, float]:
        """(lower, upper): ``bounds`` where given, else value ∓ error."""
        if self.bounds is not None:
            return self.bounds
        return (self.value - self.error, self.value + self.error) if math.isfinite(self.value) else (self.value,) * 2

    def agrees(self, other: float | Estimate) -> bool:
        """Whether ``other``, a number or another Estimate, is compatible: the intervals touch.

        A few units in the last place are allowed on top, since the intervals themselves are rounded.
        """
        low, high = self.interval
        other_low, other_high = other.interval if isinstance(other, Estimate) else (float(other),) * 2
        if math.isinf(low) or math.isinf(high) or math.isinf(other_low) or math.isinf(other_high):
            return low <= other_high and other_low <= high
        slack = _ULPS * math.ulp(max(abs(low), abs(high), abs(other_low), abs(other_high)))
        return low <= other_high + slack and other_low <= high + slack

    @property
    def bits(self) -> Estimate:
        """The same divergence in bits instead of nats.

        >>> print(Estimate(math.log(2.0), 0.0).bits)
        1 ± 0
        """
        scale = 1 / math.log(2.0)
        return replace(
            self,
            value=self.value * scale,
            error=self.error * scale,
            raw=None if self.raw is None else self.raw * scale,
            bounds=None if self.bounds is None else (self.bounds[0] * scale, self.bounds[1] * scale),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; infinities become strings, since JSON has none."""
        low, high = self.interval
        return {
            "value": _json_number(self.value),
            "error": _json_number(self.error),
            "interval": [_json_number(low), _json_number(high)],
            "level": self.level,
            "method": self.method,
            "n": self.n,
            "raw": None if self.raw is None else _json_number(self.raw),
            "note": self.note,
        }

    def __str__(self) -> str:
        if math.isinf(self.value):
            return "∞" if self.value > 0 else "−∞"
        suffix = "" if self.level is None else f" ({100 * self.level:g} %)"
        if self.bounds is not None:
            return f"{self.value:.6g} [{self.bounds[0]:.6g}, {self.bounds[1]:.6g}]{suffix}"
        return f"{self.value:.6g} ± {self.error:.2g}{suffix}"


def _json_number(number: float) -> float | str:
    """A float, or ``"inf"``, ``"-inf"``, ``"nan"`` as text."""
    return float(number) if math.isfinite(number) else str(float(number))
