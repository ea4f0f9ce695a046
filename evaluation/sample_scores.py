r"""Realism and rarity: how good, and how unusual, is this one sample?

Both look at the balls around reference points that reach their k-th nearest other one, of radius ρ_i:

    realism(g) = max_i ρ_i² / (|g − x_i|² + 10⁻⁵)   over the half of the balls that is smaller,
    rarity(g)  = min { ρ_i : |g − x_i| < ρ_i },      0 where no ball holds g.

Realism ≥ 1 means on the estimated manifold, with balls around outliers left aside; rarity is the size of the smallest
ball that holds g: large where data are thin. Realism is in squares, as its authors' program has it; other programs
print its root. Both are in units of the features: they rank samples, and compare with held-out data in the same
features, nothing else.

References:
    Improved precision and recall metric for assessing generative models (Kynkäänniemi, Karras, Laine, Lehtinen, Aila,
    2019), https://arxiv.org/abs/1904.06991. Rarity score: a new metric to evaluate the uncommonness of synthesized
    images (Han, Choi, Choi, Kim, Ha, Choi, 2023), https://arxiv.org/abs/2206.08549.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.special import bdtr, bdtrik

from divergences import Estimate, InputError
from divergences.checks import ArrayLike, as_count
from evaluation.judged import Judged, judge
from evaluation.resplit import LEVEL
from evaluation.sweep import Sweep, sweep
from evaluation.tiles import as_cloud

__all__ = ["SampleScores", "realism", "rarity"]


@dataclass(frozen=True)
class SampleScores:
    """A score for each sample.

    Attributes:
        values: of the generated samples, shape (m,).
        null: of the held-out ones, shape (t,); None without.
    """

    values: Float64[np.ndarray, " m"]
    null: Float64[np.ndarray, " t"] | None = None

    @property
    def median(self) -> Estimate:
        """Of the generated samples' scores that are not 0 (outside of all balls), with a 95 % interval."""
        return _median(self.values)

    @property
    def null_median(self) -> Estimate | None:
        """Of the held-out ones': what a perfect generator has, where the two intervals meet."""
        return None if self.null is None else _median(self.null)


def _median(scores: Float64[np.ndarray, " m"]) -> Estimate:
    """Between two order statistics, for new samples and this reference: right for every law of the scores."""
    ordered = np.sort(scores[scores > 0])
    n, method = len(ordered), "median of the samples; order statistics, given the reference"
    if not n:
        return Estimate(0.0, math.inf, LEVEL, method, n=0, bounds=(0.0, math.inf), note="no sample lies in a ball")
    # As many on either side as a fair coin leaves out with probability 2½ %.
    out = int(bdtrik((1 - LEVEL) / 2, n, 0.5)) if bdtr(0, n, 0.5) <= (1 - LEVEL) / 2 else -1
    low, high = (float(ordered[out]), float(ordered[n - 1 - out])) if out >= 0 else (0.0, math.inf)
    value = float(np.median(ordered))
    return Estimate(value, max(value - low, high - value), LEVEL, method, n=n, bounds=(low, high))


def realism(
    *, generated: ArrayLike, reference: ArrayLike, test: Any = None, k: int = 3, swept: Sweep | None = None
) -> SampleScores:
    """How far inside the manifold of the reference each sample is: ≥ 1 inside.

    Args:
        generated: shape (m, d).
        reference: shape (n, d), n > k; the balls of more than median radius are left aside.
        test: held-out data, shape (t, d), for the null.
        k: a ball reaches to the k-th nearest other reference point.
        swept: a sweep of these very sets with ``judged_by=k``, the reference as ``train``, if there is one already.

    Raises:
        InputError: NaN, mismatched dimensions, or n ≤ k.

    >>> realism(generated=[1.4, 5.0], reference=[0.0, 1.0, 2.0, 3.0], k=1).values.round(2)
    array([6.25, 0.25])
    """
    own, null = _judged(generated, reference, test, k, swept)
    return SampleScores(own.realism, None if null is None else null.realism)


def rarity(
    *, generated: ArrayLike, reference: ArrayLike, test: Any = None, k: int = 3, swept: Sweep | None = None
) -> SampleScores:
    """How thin the data are where each sample lies: the radius of the smallest ball that holds it; 0 outside of all.

    Args:
        generated: shape (m, d).
        reference: shape (n, d), n > k.
        test: held-out data, shape (t, d), for the null.
        k: a ball reaches to the k-th nearest other reference point; open.
        swept: a sweep of these very sets with ``judged_by=k``, the reference as ``train``, if there is one already.

    Raises:
        InputError: NaN, mismatched dimensions, or n ≤ k.

    >>> rarity(generated=[0.4, 8.0, 99.0], reference=[0.0, 1.0, 6.0, 9.0], k=1).values
    array([1., 3., 0.])
    """
    own, null = _judged(generated, reference, test, k, swept)
    return SampleScores(own.rarity, None if null is None else null.rarity)


def _judged(generated: Any, reference: Any, test: Any, k: Any, swept: Sweep | None) -> tuple[Judged, Judged | None]:
    count = as_count(k, "k")
    if swept is not None:
        if swept.judged_by != count:
            raise InputError(f"swept= was judged by k={swept.judged_by}; make it with sweep(judged_by={count}).")
        return swept.judged["generated"], swept.judged.get("test")
    real = as_cloud(reference, "reference=")
    if len(real) <= count:
        raise InputError(f"reference= needs more than k={count} points; it has {len(real)}. Lower k.")
    fake = as_cloud(generated, "generated=", dim=real.dim)
    held_out = None if test is None else as_cloud(test, "test=", dim=real.dim)
    # Lists of the reference alone; the sweep wants a second set, however small.
    radii = sweep(generated=real.raw[: count + 1], train=real.raw, k=count, rules=()).train_train.distances[:, -1]
    return judge(fake, real, radii), None if held_out is None else judge(held_out, real, radii)
