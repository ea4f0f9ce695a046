r"""Six scales on which the Jensen-Shannon divergence is reported, in one table.

=============  ==================  =======================================================================
scale          of JSD in nats      who reports it
=============  ==================  =======================================================================
``jsd``        JSD                 the definition: ½KL(p‖m) + ½KL(q‖m), m = (p+q)/2; between 0 and log 2
``bits``       JSD / log 2         information theory; between 0 and 1
``distance``   √JSD                the metric; what ``scipy.spatial.distance.jensenshannon`` returns
``twice``      2·JSD               the f-GAN table's "Jensen-Shannon"; KL(p‖m) + KL(q‖m)
``goodfellow`` 2·JSD − log 4       V(D*, G) in the conventions ``goodfellow`` and ``flipped``
``half``       JSD − log 2         V(D*, G) in the convention ``flipped_half``
=============  ==================  =======================================================================

All are increasing functions of JSD, so an interval on one scale is an interval on every other.

References: *Divergence measures based on the Shannon entropy* (Lin, 1991), https://doi.org/10.1109/18.61115;
*A new metric for probability distributions* (Endres, Schindelin, 2003), https://doi.org/10.1109/TIT.2003.813506;
*Generative Adversarial Networks* (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from divergences.checks import as_number, one_of
from divergences.errors import InputError
from divergences.estimate import Estimate

__all__ = ["RESCALINGS", "Rescaling", "rescale_jsd"]

_LOG2 = math.log(2.0)
# By how much a number may miss its range and still be rounding: a value of −1e-17 is an honest zero.
_SLACK = 1e-9


class Rescaling(NamedTuple):
    """A scale: its formula, who uses it, and the two functions between it and JSD in nats."""

    formula: str
    used_by: str
    of_jsd: Callable[[float], float]
    to_jsd: Callable[[float], float]


RESCALINGS = {
    "jsd": Rescaling("JSD", "the definition, in nats", lambda j: j, lambda v: v),
    "bits": Rescaling("JSD / log 2", "information theory", lambda j: j / _LOG2, lambda v: v * _LOG2),
    "distance": Rescaling(
        "√JSD", "the metric; scipy's jensenshannon", lambda j: math.sqrt(max(j, 0.0)), lambda v: v * v
    ),
    "twice": Rescaling("2·JSD", "the f-GAN table; KL(p‖m) + KL(q‖m)", lambda j: 2 * j, lambda v: v / 2),
    "goodfellow": Rescaling(
        "2·JSD − log 4", "V(D*, G), goodfellow and flipped", lambda j: 2 * (j - _LOG2), lambda v: v / 2 + _LOG2
    ),
    "half": Rescaling("JSD − log 2", "V(D*, G), flipped_half", lambda j: j - _LOG2, lambda v: v + _LOG2),
}


def rescale_jsd(value: Estimate | float, *, source: str = "jsd", to: str) -> Estimate:
    """A Jensen-Shannon divergence on another scale, with its interval.

    Args:
        value: the number on the scale ``source``; a plain number is taken as known to rounding.
        source: the scale it is on, a key of ``RESCALINGS``.
        to: the scale wanted.

    Raises:
        InputError: an unknown scale, or a number that no pair of laws can have on the scale ``source``.

    >>> print(rescale_jsd(0.5803712780, source="distance", to="goodfellow"))  # N(0, 1) and N(2, 1)
    -0.712633 ± ...
    """
    start = RESCALINGS[one_of(source, "source", list(RESCALINGS))]
    end = RESCALINGS[one_of(to, "to", list(RESCALINGS))]
    if not isinstance(value, Estimate):
        number = as_number(value, "value")
        value = Estimate(number, math.ulp(max(abs(number), _LOG2)), method="a number as given")
    lowest, highest = start.of_jsd(0.0), start.of_jsd(_LOG2)
    if not lowest - _SLACK <= value.value <= highest + _SLACK:
        raise InputError(
            f"value is {value.value:.6g}, but {start.formula} lies between {lowest:.6g} and {highest:.6g}: is it on "
            f"another scale than source={source!r}?"
        )

    def move(number: float) -> float:
        # Ends of an interval may lie outside the range; JSD itself cannot.
        inside = min(max(number, lowest), highest)
        return end.of_jsd(min(max(start.to_jsd(inside), 0.0), _LOG2))

    middle, (low, high) = move(value.value), (move(number) for number in value.interval)
    rounding = 4 * math.ulp(max(abs(middle), 2 * _LOG2))
    lopsided = abs((high - middle) - (middle - low)) > 1e-9 * (high - low) + 4 * rounding
    return replace(
        value,
        value=middle,
        error=max(high - middle, middle - low) + rounding,
        bounds=(low - rounding, high + rounding) if lopsided else None,
        raw=None if value.raw is None else move(value.raw),
    )
