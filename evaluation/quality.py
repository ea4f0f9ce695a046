r"""When a sample is good enough to belong to its mode: between which Mahalanobis distances.

Up to three dimensions the rule is the field's: within 3σ. In more dimensions a standard Gaussian keeps away from its
own mean, |z| ≈ √d, and what is much nearer is as foreign to it as what is too far. A generator that always says the
centre of all modes may be nearer to each of them than their own samples are; with an outer edge alone, all it says
would count as perfect. So there is an inner edge, too.

References:
    VEEGAN: reducing mode collapse in GANs using implicit variational learning (Srivastava et al., 2017),
    https://arxiv.org/abs/1705.07761, for the rule in the plane.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from scipy.special import gammainc, gammaincc, gammaincinv

from divergences.checks import as_count

__all__ = ["chi2_between", "quality_band", "quality_threshold", "quality_words"]

# What 3σ holds in the plane: P(χ²₂ < 9).
_PLANE_SHARE = 1.0 - math.exp(-4.5)
# What the inner edge cuts off, above three dimensions: of a million perfect samples one. The rule shall refuse what is
# no sample of the mode; modes that are merely too narrow are found by their shape.
_CORE = 1e-6


def quality_threshold(dim: int) -> float:
    """The Mahalanobis distance below which a sample is of high quality: 3 for d ≤ 3, else √χ²_d-quantile at 0.98889.

    Above three dimensions there is an inner edge as well, see ``quality_band``.

    >>> quality_threshold(2), round(quality_threshold(10), 4)
    (3.0, 4.7858)
    """
    return quality_band(dim)[1]


@functools.cache
def quality_band(dim: int) -> tuple[float, float]:
    """The Mahalanobis distances s ≤ m < t of samples of high quality.

    Up to three dimensions it is the protocol of the field, 0 ≤ m < 3. Above, s² and t² are quantiles of χ²_d at 1e-6
    and at 0.98889 + 1e-6: a perfect generator keeps what 3σ hold in the plane, 1 − exp(−4.5) = 0.98889, and what is
    nearer to the mean than one sample in a million has no quality.

    >>> quality_band(3), [round(edge, 2) for edge in quality_band(1200)]
    ((0.0, 3.0), [31.33, 36.26])
    """
    if as_count(dim, "dim") <= 3:
        return 0.0, 3.0
    low, high = (math.sqrt(2 * float(gammaincinv(dim / 2, share))) for share in (_CORE, _PLANE_SHARE + _CORE))
    return low, high


def chi2_between(dim: Any, low: Any, high: Any) -> Any:
    """P(low ≤ χ²_dim < high), with all digits in either tail; a ``low`` below 0 is 0.

    >>> float(chi2_between(2, 0.0, 9.0)) == 1 - math.exp(-4.5)
    True
    """
    power, low, high = dim / 2, np.maximum(low, 0.0) / 2, np.asarray(high) / 2
    upper = gammaincc(power, low) - gammaincc(power, high)
    return np.where(low > power, upper, gammainc(power, high) - gammainc(power, low))


def quality_words(dim: int) -> str:
    """Where samples of high quality lie, for a sentence.

    >>> quality_words(2), quality_words(1200)
    ('within 3σ of a mode', 'between 31.3σ and 36.3σ from the nearest mode')
    """
    low, high = quality_band(dim)
    return f"between {low:.3g}σ and {high:.3g}σ from the nearest mode" if low > 0 else f"within {high:.3g}σ of a mode"
