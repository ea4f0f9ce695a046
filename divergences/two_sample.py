r"""Two samples compared: the number, its interval, and what two samples of *one* law would have scored.

Let T(x, y) be a statistic of n + m points, such as an estimated divergence. If both samples come from the same law, any
relabelling of the pooled points is as likely as the one seen, whatever the law. With B random relabellings

$$ p = \frac{1 + \#\{b : T_b \ge T\}}{1 + B} $$

is a p-value of *exact* level: $P(p \le \alpha) \le \alpha$ for every n, m and B, with equality when α(1 + B) is a whole
number and there are no ties. No asymptotics, no estimate of a variance. The relabelled scores are the null that an
estimate should stand beside: most divergences of two finite samples are not 0 when the laws are equal.

References: *Testing Statistical Hypotheses* (Lehmann, Romano, 2005), chapter 15, https://doi.org/10.1007/0-387-27605-X;
*Permutation P-values Should Never Be Zero* (Phipson, Smyth, 2010), https://doi.org/10.2202/1544-6115.1585.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from divergences.checks import ArrayLike, as_array, as_count, as_generator, as_points
from divergences.errors import InputError
from divergences.estimate import Estimate

__all__ = ["Null", "TwoSampleEstimate", "permutation_test"]

Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Null:
    """What the statistic is when both samples are relabellings of the same points.

    Attributes:
        statistic: the statistic on the labels as given. Where an estimate is bias-corrected this is the plain number:
            the relabelled scores carry the same bias.
        scores: the statistic under each relabelling, shape (B,).
    """

    statistic: float
    scores: Float64[np.ndarray, " b"]

    @property
    def p_value(self) -> float:
        """(1 + #{scores ≥ statistic}) / (1 + B): large values of the statistic speak against equal laws."""
        # Equal up to rounding is a tie, and ties count.
        slack = 1e-12 * max(float(np.abs(self.scores).max()), abs(self.statistic))
        return float((1 + np.count_nonzero(self.scores >= self.statistic - slack)) / (1 + len(self.scores)))

    @property
    def mean(self) -> float:
        """Mean of the relabelled scores: what a perfect generator would score at these sample sizes."""
        return float(self.scores.mean())

    def quantile(self, level: float = 0.95) -> float:
        """The score that a perfect generator stays below with probability ``level``."""
        return float(np.quantile(self.scores, level))

    def __str__(self) -> str:
        return f"null {self.mean:.3g} (95 % below {self.quantile():.3g}), p = {self.p_value:.3g}"


@dataclass(frozen=True, slots=True)
class TwoSampleEstimate(Estimate):
    """An ``Estimate`` from two samples, beside its null.

    Attributes:
        null: scores of relabelled samples; None if no ``rng`` was given to draw the relabellings with.
    """

    null: Null | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, with the null's mean, 95 % quantile and p-value."""
        summary = None
        if self.null is not None:
            summary = {
                "statistic": self.null.statistic,
                "mean": self.null.mean,
                "quantile": self.null.quantile(),
                "p_value": self.null.p_value,
                "permutations": len(self.null.scores),
            }
        return Estimate.to_dict(self) | {"null": summary}


def permutation_test(
    statistic: Callable[[Float64[np.ndarray, "n d"], Float64[np.ndarray, "m d"]], Any],
    x: ArrayLike,
    y: ArrayLike,
    *,
    rng: np.random.Generator,
    permutations: int = 199,
) -> Null:
    """Are x and y samples of one law? Exact level for any statistic, any law, any n.

    Args:
        statistic: (n, d), (m, d) → a number (or an Estimate), large when the samples differ. Whatever it tunes (a
            bandwidth, a classifier) it must tune on the two arrays it is given, or on their union.
        x: first sample, shape (n, d) or (n,).
        y: second sample, shape (m, d) or (m,).
        rng: draws the relabellings.
        permutations: B; the smallest possible p-value is 1/(1 + B).

    Returns:
        A ``Null`` with the scores and ``p_value``.

    Raises:
        InputError: unusable samples, different dimensions, or a statistic that gives NaN or no number.

    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=50), rng.normal(size=50) + 1
    >>> permutation_test(lambda a, b: abs(a.mean() - b.mean()), x, y, rng=rng).p_value
    0.005
    """
    left, right = as_pair(x, y)
    draw = as_generator(rng)
    count = as_count(permutations, "permutations", minimum=1)
    pooled = np.concatenate([left, right])
    scores = np.empty(count)
    observed = _score(statistic, left, right)
    for b in range(count):
        order = draw.permutation(len(pooled))
        scores[b] = _score(statistic, pooled[order[: len(left)]], pooled[order[len(left) :]])
    return Null(observed, scores)


def as_pair(
    x: ArrayLike, y: ArrayLike, *, minimum: int = 1
) -> tuple[Float64[np.ndarray, "n d"], Float64[np.ndarray, "m d"]]:
    """Both samples, checked, in the same space."""
    left, right = as_points(x, "x", minimum=minimum), as_points(y, "y", minimum=minimum)
    if left.shape[1] != right.shape[1]:
        raise InputError(
            f"x and y must live in the same space; x has dimension {left.shape[1]}, y has {right.shape[1]}."
        )
    return left, right


def remarks(*found: tuple[bool, str]) -> str:
    """The notes that apply, in one line."""
    return "; ".join(text for applies, text in found if applies)


def few(n: int, m: int, regime: int) -> tuple[bool, str]:
    """The remark that a sample is smaller than those for which coverage was simulated."""
    return min(n, m) < regime, f"fewer than {regime} points: coverage of the interval was not simulated there"


def relabellings(n: int, m: int, rng: np.random.Generator, count: int) -> Float64[np.ndarray, "pool count"]:
    """Indicator columns of who is relabelled x: shape (n + m, count), each column with n ones."""
    labels = np.zeros((n + m, count))
    for column in labels.T:
        column[rng.permutation(n + m)[:n]] = 1.0
    return labels


def _score(statistic: Callable[..., Any], x: np.ndarray, y: np.ndarray) -> float:
    value = statistic(x, y)
    if isinstance(value, Estimate):
        return value.value
    array = as_array(value, "the value of statistic")
    if array.ndim != 0 or np.isnan(array):
        raise InputError(f"statistic must give one number; it gave {value!r}.")
    return float(array)
