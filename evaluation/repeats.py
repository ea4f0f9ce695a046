r"""How many samples are repeated to the last bit, beside how many of as many real points are.

A share R/n of samples that equal another one is no share of independent trials: repeats come in twos. Counted by what
is drawn (Poisson), N draws of one outcome add N·1[N ≥ 2] to R, with variance about E[min(N², N + 4)·1[N ≥ 2]] (between
98 and 163 % of it for every rate), so that the n samples are worth n·ΣN/Σmin(N², N + 4) trials: n/2 where repeats are
rare, n where one image comes back for ever. The interval is Clopper and Pearson's for so many.

The share grows with n. A real set of m ≥ n points is therefore asked what share n of them, drawn without replacement,
hold: a point of multiplicity c among the m keeps no partner with probability C(m−c, n−1)/C(m−1, n−1).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

from divergences import Estimate, InputError
from divergences.checks import ArrayLike, as_count, as_points
from evaluation.neighbors import Neighbors
from evaluation.visits import limits

__all__ = ["repeated_share"]


def repeated_share(
    *, generated: ArrayLike, size: int | None = None, lists: Neighbors | None = None, note: str = ""
) -> Estimate:
    """Share of points that equal another point of their set, among ``size`` of them.

    Args:
        generated: shape (m, d), m ≥ 2.
        size: of the random part of the set that is asked, 2 ≤ size ≤ m; None for all m.
        lists: the nearest others of each point, if they are known: saves the look at points that have no equal.
        note: for the estimate.

    Returns:
        The share with its 95 % interval; exact on average over parts of the set.

    Raises:
        InputError: NaN or fewer than two points; a size that the set does not have; lists of other points.

    >>> found = repeated_share(generated=[1.0, 1.0, 2.0, 3.0])
    >>> found.value, round(repeated_share(generated=[1.0, 1.0, 2.0, 3.0], size=2).value, 12)
    (0.5, 0.166666666667)
    """
    points = as_points(generated, "generated=", minimum=2)
    m = len(points)
    n = m if size is None else as_count(size, "size=", minimum=2)
    if n > m:
        raise InputError(f"size= is {n}, more than the {m} points of generated=. Lower it or bring more points.")
    if lists is not None and len(lists.distances) != m:
        raise InputError(f"lists= holds {len(lists.distances)} points and generated= {m}: make them of the same set.")
    sizes = _groups(points if lists is None else points[lists.distances[:, 0] == 0])
    hits = float(sizes @ _kept(sizes, m, n)) * n / m
    worth = float(np.minimum(sizes**2, sizes + 4).sum() / sizes.sum()) if sizes.size else 2.0
    # A part of the set holds smaller groups than the set.
    crowding = worth if n == m else max(worth, 2.0)
    share = hits / n
    low, high = limits(share, n / crowding)
    return Estimate(
        share,
        max(share - low, high - share),
        level=0.95,
        method="share of points with an equal; Clopper-Pearson, for as many trials as groups of equals are worth",
        n=n,
        note=note,
        bounds=(low, high),
    )


def _groups(points: np.ndarray) -> Int64[np.ndarray, " g"]:
    """How many points each group of at least two equal ones holds."""
    if len(points) == 0:
        return np.empty(0, dtype=np.int64)
    # 0 and -0 are equal.
    sizes = np.unique(points + 0.0, axis=0, return_counts=True)[1].astype(np.int64)
    return sizes[sizes > 1]


def _kept(sizes: Int64[np.ndarray, " g"], m: int, n: int) -> Float64[np.ndarray, " g"]:
    """Chance that a point of such a group, being among n of m, finds an equal there."""
    alone = np.ones(len(sizes))
    for j in range(int(sizes.max(initial=1)) - 1):
        # C(m−c, n−1)/C(m−1, n−1), factor by factor: the next equal is not among the n either.
        larger = sizes > j + 1
        alone[larger] *= max(m - n - j, 0) / (m - 1 - j)
        if not alone[larger].any():
            break
    return 1 - alone
