r"""Is generator A better than generator B? The difference of their Fréchet distances, with a p-value.

Two distances to the same reference data share its error: what makes the reference look unusual makes both distances
larger. So it is the *difference* that gets an interval. By the delta method, with ψ the influence of a sample on its
distance,

    Var(FID_A − FID_B) ≈ var ψ_A/n_A + var ψ_B/n_B + var(ψ_ref,A − ψ_ref,B)/m,

where the last term vanishes if both miss in the same way. Where a generator is nearly perfect its ψ vanish, and the
second-order variance of each distance is added. Both distances are debiased, so unequal sample sizes favour nobody.

Better means: nearer to the data in mean and covariance of the features. It does not mean that modes are kept or that
nothing is copied, so compare held-out data where there are any (a copier of the training data is near to *them*), and
audit the winner.

Reference:
    A test of relative similarity for model selection in generative models (Bounliphone et al., 2015),
    https://arxiv.org/abs/1511.04581, where the same is done for the MMD.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from scipy.special import ndtr

from divergences import Estimate
from divergences.checks import as_number
from divergences.two_sample import Z95
from evaluation.bures import Pair
from evaluation.findings import number
from evaluation.frechet import PER_DIMENSION, score
from evaluation.moments import Moments
from evaluation.samples import Samples
from evaluation.sets import check_together, chosen_features, embedded, taken
from evaluation.tables import p_text

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """Which of two generators is nearer to the data.

    Attributes:
        difference: FID of A minus FID of B, debiased, with its 95 % interval: below 0, A is better.
        a: debiased FID of A.
        b: debiased FID of B.
        p_value: of equal distances, two-sided.
        alpha: the level the decision was made at.
        reference: "test" or "train", what both were compared with.
        features: in which features.
        note: what a reader must know.
    """

    difference: Estimate
    a: Estimate
    b: Estimate
    p_value: float
    alpha: float
    reference: Literal["test", "train"]
    features: str
    note: str = ""

    @property
    def better(self) -> Literal["a", "b"] | None:
        """The one that is better at level ``alpha``, or None if that is not decided."""
        if self.p_value >= self.alpha:
            return None
        return "a" if self.difference.value < 0 else "b"

    def to_text(self) -> str:
        """For a terminal."""
        told = {
            "a": "A is better: nearer to the data in mean and covariance of the features.",
            "b": "B is better: nearer to the data in mean and covariance of the features.",
            None: "Not decided: the difference is within its error.",
        }
        lines = [
            f"mintmark compare: {told[self.better]}",
            "",
            f"  FID of A       {number(self.a)}",
            f"  FID of B       {number(self.b)}",
            f"  A − B          {number(self.difference)} (95 %)",
            f"  p-value        {p_text(self.p_value)} of equal distances, two-sided; decided below {self.alpha:g}",
            f"  compared with  {'held-out' if self.reference == 'test' else 'training'} data, features {self.features}",
        ]
        if self.note:
            lines += textwrap.wrap(f"Note: {self.note}.", 100, initial_indent="  ", subsequent_indent="  ")
        return "\n".join(lines) + "\n"

    def to_json(self) -> str:
        """Strictly valid JSON, ending with a newline."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "schema": "mintmark-comparison-1",
            "better": self.better,
            "difference": self.difference.to_dict(),
            "a": self.a.to_dict(),
            "b": self.b.to_dict(),
            "p_value": self.p_value,
            "alpha": self.alpha,
            "reference": self.reference,
            "features": self.features,
            "note": self.note,
        }


def compare(*, a: Any, b: Any, train: Any, test: Any = None, features: Any = None, alpha: float = 0.05) -> Comparison:
    """Decide which of two sets of samples is nearer to the data.

    Args:
        a: samples of generator A: points (n, d), images, or ``Samples``.
        b: samples of generator B, of the same kind.
        train: the training data; features are fitted on them.
        test: held-out data; if given, both are compared with them and not with train.
        features: as for ``audit``: a name, a callable, or None for pixels of images and standardized points.
        alpha: chance of a decision where both are equally far away.

    Raises:
        InputError: NaN, fewer than two samples, or sets that do not go together.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> train, close, far = rng.normal(size=(3, 2000, 2))
    >>> found = compare(a=close, b=far + 0.3, train=train)
    >>> found.better, found.p_value < 1e-6
    ('a', True)
    """
    alpha = as_number(alpha, "alpha=", above=0.0, below=1.0)
    known = taken(train, "train=")
    chosen = chosen_features(features, known, None)
    embed = chosen.fit(known.array)
    reference: Literal["test", "train"] = "train" if test is None else "test"
    target = _moments(embed, train if test is None else test, f"{reference}=", known)
    sides = [_moments(embed, value, name, known) for value, name in ((a, "a="), (b, "b="))]
    pairs = [Pair(target, side) for side in sides]
    scores = [score(pair) for pair in pairs]
    dim = target.mean.size
    fewest = min(side.n for side in (*sides, target))
    note = "" if test is not None else "compared with the training data: a generator that copies them looks good here"
    if fewest < PER_DIMENSION * dim:
        short = f"{fewest} samples in {dim} dimensions are too few for a difference; use pca:N"
        return _undecided(scores, alpha, reference, chosen.name, "; ".join(filter(None, [short, note])))
    difference = scores[0].value - scores[1].value
    spread = math.sqrt(_variance(pairs[0], pairs[1], dim / fewest))
    p_value = 2 * float(ndtr(-abs(difference) / spread)) if spread > 0 else 1.0
    estimate = Estimate(
        difference, Z95 * spread, level=0.95, method="difference of debiased distances, delta method", n=fewest
    )
    return Comparison(estimate, scores[0], scores[1], p_value, alpha, reference, chosen.name, note)


def _variance(first: Pair, second: Pair, share: float) -> float:
    """Of the difference: first order with the reference's part paired, and second order of both."""
    paired = float((first.reference.psi - second.reference.psi).var(ddof=1)) / first.reference.moments.n
    linear = first.generated.first_order + second.generated.first_order + paired
    return linear * (1 + share / 2) + (first.second_order + second.second_order) * (1 + share)


def _undecided(
    scores: list[Estimate], alpha: float, reference: Literal["test", "train"], features: str, note: str
) -> Comparison:
    """What can be said with too few samples: the difference of two wide intervals."""
    (low_a, high_a), (low_b, high_b) = (score.interval for score in scores)
    value, low, high = scores[0].value - scores[1].value, low_a - high_b, high_a - low_b
    estimate = Estimate(
        value, max(high - value, value - low), level=0.95, method="difference of two intervals", bounds=(low, high)
    )
    return Comparison(estimate, scores[0], scores[1], 1.0, alpha, reference, features, note)


def _moments(embed: Callable[..., Any], value: Any, name: str, train: Samples) -> Moments:
    samples = taken(value, name)
    check_together(samples, name, train)
    return Moments.of(embedded(embed, samples, name), name=name)
