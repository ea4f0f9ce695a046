r"""Does a generator hand out its training data? Measured against what held-out data does.

"Close to a training point" means nothing by itself: held-out points are close to some training point, too. The null is
therefore the held-out data. Each point x gets the score

    s(x) = d₁ / mean(d₂, ..., d₅),

its distance to the nearest training point in units of the distances to the next ones (exact repeats within train count
once). The unit matters: a smooth generator that keeps to the dense regions has smaller distances than held-out data but
the same ratios, while for a copy d₁ is small and the others are not.

If the generator is perfect, its n samples and the m held-out points are exchangeable given train, and so are their
scores, whatever the law of the data. Then the number A_j of samples scoring below the j-th smallest held-out score is
negative hypergeometric:

    P(A_j ≥ a) = P(H ≤ j−1),  H ~ Hypergeometric(n + m, m, a + j − 1 draws),

exactly, for every n and m (ties only make A_j smaller). The test looks at j = 1, 2, 4, ... up to 2 % of m, and at the
number of exact repeats of training points, which given the total number of repeats is hypergeometric too. The smallest
p-value times the number of tests is the reported one (Bonferroni): **a perfect generator with independent samples is
flagged with probability at most** ``alpha``. Only small j are used, so that what counts is being closer than
(practically) every held-out point; a collapsed generator, which puts all samples in one place, is not mistaken for a
copier unless that place is a training point or, with probability 2 %, happens to score like one.

*Single samples* have the conformal p-value (1 + held-out scores as low)/(1 + m), right for each sample, and adjusted by
Benjamini and Hochberg a false-discovery rate (the p-values share their held-out data, which makes them positively
dependent; Bates et al. show that the rate holds). The list of suspects is cut where at most a tenth is expected by
chance.

What it cannot see: copies perturbed by more than the spacing of the data, copies up to a symmetry that the features do
not know (mirrored or shifted images, in pixels), and copies of points of which train holds several near-repeats.

References:
    A non-parametric test to detect data-copying in generative models (Meehan, Chaudhuri, Dasgupta, 2020),
    https://arxiv.org/abs/2004.05675. Extracting training data from diffusion models (Carlini et al., 2023),
    https://arxiv.org/abs/2301.13188: distances in units of those to further neighbours. Testing for outliers with
    conformal p-values (Bates et al., 2023), https://arxiv.org/abs/2104.08279.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import betaincinv

from divergences import Estimate
from divergences.checks import ArrayLike, as_number, as_points
from evaluation.intervals import benjamini_hochberg, clopper_pearson_bounds, hypergeometric_tail, log_choose
from evaluation.neighbors import nearest
from evaluation.verdict import Verdict
from evaluation.views import Views

__all__ = ["Memorization", "Suspect", "memorization"]

FEWEST_HELD_OUT = 20
FEWEST_TRAIN = 10
_NEIGHBORS = 5
# The largest threshold tested, as a quantile of held-out scores.
_TESTED = 0.02
# A list of suspects may hold about this share of samples that are there by chance.
_FALSE_SUSPECTS = 0.1
_USELESS = 0.5


@dataclass(frozen=True)
class Suspect:
    """A generated sample that looks like a copy.

    Attributes:
        generated: its row in ``generated``.
        train: the row of ``train`` it looks like.
        distance: between the two.
        score: that distance in units of the distances to the next training points.
        p_value: (1 + held-out points scoring as low) / (1 + held-out points): of this sample alone (conformal).
        q_value: that p-value adjusted over all samples by Benjamini and Hochberg: of the samples with q ≤ 0.1 at most
            a tenth is there by chance on average. It cannot fall below n/(rank·(m + 1)), so few copies among many
            samples need as many held-out points to be named with confidence one by one, even where the verdict on all
            is certain.
        nearest_test: row of the nearest held-out point: what resembles it without having been copied.
        test_distance: the distance to that.
    """

    generated: int
    train: int
    distance: float
    score: float
    p_value: float
    q_value: float
    nearest_test: int
    test_distance: float


@dataclass(frozen=True)
class Memorization:
    """Whether training data are handed out.

    Attributes:
        verdict: FLAGGED if ``p_value`` < ``false_alarm``; INCONCLUSIVE without enough held-out data; else CLEAR.
        suspects: the samples to look at, most suspicious first; empty unless flagged.
        copy_share: share of samples that are copies: those scoring below (practically) all held-out points, minus what
            chance puts there; 95 % interval. Copies perturbed beyond that are not counted. ``raw`` is without the
            minus.
        p_value: of the hypothesis that generated and held-out samples are exchangeable; 1 without held-out data.
        false_alarm: the probability with which a perfect generator is flagged is at most this (``alpha``).
        sensitivity: the share of copies that this n and this held-out set would find with probability 0.95.
        exact_copies: samples equal to a training point to the last bit.
        distances: from each sample to its nearest training point, shape (n,).
        null_distances: from each held-out point to its nearest training point, shape (m,).
        scores: of the samples, shape (n,).
        null_scores: of the held-out points, shape (m,).
        nearest_train: row of the nearest training point, shape (n,).
        nearest_test: row of the nearest held-out point, shape (n,); −1 without held-out data.
        note: what was found or what is needed, in a sentence.
        q_values: false-discovery rates of the samples, shape (n,); 1 without held-out data.
        discoveries: samples with a false-discovery rate of at most 0.1.
        false_suspects: share of the suspects that chance alone is expected to put there; 0 if there are none.
        test_distances: from each sample to its nearest held-out point, shape (n,); infinite without.
    """

    verdict: Verdict
    suspects: tuple[Suspect, ...]
    copy_share: Estimate
    p_value: float
    false_alarm: float
    sensitivity: float
    exact_copies: int
    distances: Float64[np.ndarray, " n"]
    null_distances: Float64[np.ndarray, " m"]
    scores: Float64[np.ndarray, " n"]
    null_scores: Float64[np.ndarray, " m"]
    nearest_train: Int64[np.ndarray, " n"]
    nearest_test: Int64[np.ndarray, " n"]
    note: str
    q_values: Float64[np.ndarray, " n"]
    discoveries: int
    false_suspects: float
    test_distances: Float64[np.ndarray, " n"]


def memorization(
    *,
    generated: ArrayLike,
    train: ArrayLike,
    test: Any = None,
    alpha: float = 0.01,
    invariant: Views | None = None,
) -> Memorization:
    """Test whether a generator returns training data more often than held-out data resemble them.

    Args:
        generated: features of the samples, shape (n, d).
        train: features of the training data, shape (N, d).
        test: features of held-out data, shape (m, d): drawn like train, never trained on. Without them, or with fewer
            than 20, the verdict is INCONCLUSIVE.
        alpha: probability with which a perfect generator may be flagged.
        invariant: shifts and mirror images under which a copy is still a copy; the three sets are then rows of pixels.
            Costs one search per view.

    Returns:
        Verdict, suspects and share of copies; see ``Memorization``.

    Raises:
        InputError: NaN, empty or mis-shaped arrays, or mismatched dimensions.

    >>> rng = np.random.default_rng(0)
    >>> train, test, fresh = rng.normal(size=(3, 400, 8))
    >>> str(memorization(generated=fresh, train=train, test=test).verdict)
    'clear'
    >>> str(memorization(generated=train[:300] + 0.01, train=train, test=test).verdict)
    'flagged'
    """
    known = as_points(train, "train=")
    points = as_points(generated, "generated=", dim=known.shape[1])
    alpha = as_number(alpha, "alpha=", above=0.0, below=1.0)
    held_out = np.empty((0, known.shape[1])) if test is None else as_points(test, "test=", dim=known.shape[1])

    sample, null = _Scored(points, known, invariant), _Scored(held_out, known, invariant)
    tests = _Tests(sample.scores, null.scores)
    sensitivity = tests.sensitivity(alpha)
    needed = _needed(len(known), held_out, null, sensitivity, given=test is not None)
    p_value = tests.p_value if len(held_out) >= FEWEST_HELD_OUT and len(known) >= FEWEST_TRAIN else 1.0
    otherwise = Verdict.INCONCLUSIVE if needed else Verdict.CLEAR
    verdict = Verdict.FLAGGED if p_value < alpha else otherwise
    cut = tests.cut() if verdict is Verdict.FLAGGED else tests.largest
    beside = _Scored(points, held_out, invariant)
    q_values = _q_values(sample.scores, null.scores)
    suspects = _suspects(sample, null, q_values, beside, cut) if verdict is Verdict.FLAGGED else ()
    by_chance = len(points) * (1 + int((null.scores <= cut).sum())) / (1 + len(null.scores))
    copy_share = _copy_share(sample.scores, null.scores, cut)
    exact = int((sample.distances == 0).sum())
    return Memorization(
        verdict=verdict,
        suspects=suspects,
        copy_share=copy_share,
        p_value=p_value,
        false_alarm=alpha,
        sensitivity=sensitivity,
        exact_copies=exact,
        distances=sample.distances,
        null_distances=null.distances,
        scores=sample.scores,
        null_scores=null.scores,
        nearest_train=sample.nearest,
        nearest_test=beside.nearest,
        note=_note(verdict, needed, len(suspects), exact, len(points), sensitivity),
        q_values=q_values,
        discoveries=int((q_values <= _FALSE_SUSPECTS).sum()),
        false_suspects=min(by_chance / len(suspects), 1.0) if suspects else 0.0,
        test_distances=beside.distances,
    )


class _Scored:
    """Nearest training point, distance to it, and score of each point: of its best view, if there are several."""

    def __init__(self, points: np.ndarray, train: np.ndarray, views: Views | None) -> None:
        self.distances, self.scores = np.full(len(points), np.inf), np.full(len(points), np.inf)
        self.nearest = np.full(len(points), -1, dtype=np.int64)
        if len(points) == 0 or len(train) == 0:
            return
        known = train if views is None else views.plain(train, "train=")
        # Repeats within train would make d₂ = d₁ for a copy and hide it.
        first = np.sort(np.unique(known + 0.0, axis=0, return_index=True)[1])
        for view in [points] if views is None else views.of(points, "generated= or test="):
            found = nearest(view, known[first], min(_NEIGHBORS, len(first)))
            closer = np.flatnonzero(found.distances[:, 0] < self.distances)
            self.nearest[closer] = first[found.indices[closer, 0]]
            self.distances[closer] = found.distances[closer, 0]
            unit = found.distances[closer, 1:].mean(axis=1) if len(first) > 1 else np.ones(len(closer))
            # Distinct points differ, so the unit is positive unless the difference underflows.
            self.scores[closer] = self.distances[closer] / np.maximum(unit, np.finfo(np.float64).tiny)


def _q_values(scores: np.ndarray, null: np.ndarray) -> Float64[np.ndarray, " n"]:
    """Conformal p-values, adjusted: (1 + held-out points scoring as low)/(1 + m), then Benjamini-Hochberg."""
    return benjamini_hochberg(_conformal(scores, null))


def _conformal(scores: np.ndarray, null: np.ndarray) -> Float64[np.ndarray, " n"]:
    return (1 + np.searchsorted(np.sort(null), scores, side="right")) / (1 + len(null))


class _Tests:
    """The exact tests: samples below the j-th smallest held-out score, for a few j; and exact repeats."""

    def __init__(self, scores: np.ndarray, null: np.ndarray) -> None:
        self.n, self.m = len(scores), len(null)
        ordered = np.sort(null)
        largest = max(1, int(_TESTED * self.m))
        self.ranks = [2**power for power in range(largest.bit_length())] if self.m else []
        self.count = len(self.ranks) + 1
        self.cuts = [float(ordered[j - 1]) for j in self.ranks]
        self.largest = float(np.nextafter(self.cuts[-1], -1.0)) if self.cuts else 0.0
        self.below = [int((scores < cut).sum()) for cut in self.cuts]
        self.copies, self.null_copies = int((scores == 0).sum()), int((null == 0).sum())
        p_values = [_below_rank(a, j, self.n, self.m) for a, j in zip(self.below, self.ranks, strict=True)]
        p_values.append(hypergeometric_tail(self.copies, self.copies + self.null_copies, self.n, self.m))
        self.p_value = min(1.0, self.count * min(p_values))

    def cut(self) -> float:
        """The score up to which samples are suspects: the largest with few chance companions, else the purest."""
        below = [self.copies, *self.below]
        chance = [self.n * (self.null_copies + 1) / (self.m + 1), *(self.n * j / (self.m + 1) for j in self.ranks)]
        # Samples strictly below a cut: the next smaller float stands for "strictly", 0 for exact repeats.
        cuts = [0.0, *(float(np.nextafter(cut, -1.0)) for cut in self.cuts)]
        rates = [by_chance / seen if seen else math.inf for by_chance, seen in zip(chance, below, strict=True)]
        pure = [cut for cut, rate in zip(cuts, rates, strict=True) if rate <= _FALSE_SUSPECTS]
        return max(pure) if pure else cuts[int(np.argmin(rates))]

    def sensitivity(self, alpha: float) -> float:
        """The share of (tight) copies found with probability 0.95: enough of them below every held-out score."""
        if self.m == 0:
            return 1.0
        low, high = 0, self.n + 1
        while high - low > 1:
            middle = (low + high) // 2
            enough = self.count * _below_rank(middle, 1, self.n, self.m) < alpha
            low, high = (low, middle) if enough else (middle, high)
        return 1.0 if high > self.n else float(betaincinv(high, self.n - high + 1, 0.95))


def _below_rank(a: int, j: int, n: int, m: int) -> float:
    """P(at least ``a`` of n samples lie below the j-th smallest of m others), all exchangeable."""
    if a == 0:
        return 1.0
    draws = a + j - 1
    others = np.arange(max(0, draws - n), min(j - 1, m) + 1, dtype=np.float64)
    log_mass = log_choose(m, others) + log_choose(n, draws - others) - log_choose(n + m, draws)
    return min(1.0, float(np.exp(log_mass).sum()))


def _needed(n_train: int, held_out: np.ndarray, null: _Scored, sensitivity: float, *, given: bool) -> str:
    """Why no verdict can be given, and what would help; empty if one can."""
    if n_train < FEWEST_TRAIN:
        return f"train= has {n_train} points; at least {FEWEST_TRAIN} are needed to know how far apart they lie"
    if not given:
        return "without held-out data (test=) nobody can say how close to train a fresh sample would be"
    if len(held_out) < FEWEST_HELD_OUT:
        return f"test= has {len(held_out)} points; at least {FEWEST_HELD_OUT} held-out points are needed"
    repeats = int((null.distances == 0).sum())
    if repeats > _USELESS * len(held_out):
        return (
            f"{repeats} of {len(held_out)} points of test= are equal to points of train=: they are not held out, or "
            f"the "
            "data are too coarse for copies to mean anything"
        )
    if sensitivity > _USELESS:
        return (
            f"with so few samples only a generator that copies {100 * sensitivity:.0f} % of the time would be found; "
            "generate more, or hold out more"
        )
    return ""


def _suspects(sample: _Scored, null: _Scored, q_values: np.ndarray, beside: _Scored, cut: float) -> tuple[Suspect, ...]:
    chosen = np.flatnonzero(sample.scores <= cut)
    chosen = chosen[np.lexsort((chosen, sample.distances[chosen], sample.scores[chosen]))]
    p_values = _conformal(sample.scores[chosen], null.scores)
    return tuple(
        Suspect(
            generated=int(i),
            train=int(sample.nearest[i]),
            distance=float(sample.distances[i]),
            score=float(sample.scores[i]),
            p_value=float(p),
            q_value=float(q_values[i]),
            nearest_test=int(beside.nearest[i]),
            test_distance=float(beside.distances[i]),
        )
        for i, p in zip(chosen, p_values, strict=True)
    )


def _copy_share(scores: np.ndarray, null: np.ndarray, cut: float) -> Estimate:
    r"""The excess c in P(s ≤ cut) = c + (1 − c)·P₀(s ≤ cut).

    Samples that are no copies score like held-out data or higher, so c lies between the excess and P(s ≤ cut) itself:
    the lower limit is that of the excess (both shares by their exact intervals, joined by square and add: Newcombe,
    1998), the upper one that of the share.
    """
    n, m = len(scores), len(null)
    there = int((null <= cut).sum())
    if there == m:
        note = "no held-out data" if m == 0 else "every held-out point is a repeat of a training point"
        return Estimate(0.0, 1.0, level=0.95, method="none", n=n, bounds=(0.0, 1.0), note=note)
    here = int((scores <= cut).sum())
    share, chance = here / n, (there + 1) / (m + 1)
    (low,), (high,) = clopper_pearson_bounds([here], n)
    (_,), (chance_high,) = clopper_pearson_bounds([there], m)
    excess = (share - chance) / (1 - chance)
    arm = math.hypot(share - low, (1 - share) * (chance_high - chance) / (1 - chance)) / (1 - chance)
    value, bounds = max(excess, 0.0), (max(excess - arm, 0.0), float(high))
    return Estimate(
        value,
        max(value - bounds[0], bounds[1] - value),
        level=0.95,
        method="excess of samples scoring below (practically) all held-out points",
        n=n,
        raw=share,
        bounds=bounds,
    )


def _note(verdict: Verdict, needed: str, n_suspects: int, exact: int, n: int, sensitivity: float) -> str:
    repeats = f"; {exact} of {n} samples equal a training point exactly" if exact else ""
    if verdict is Verdict.INCONCLUSIVE:
        return needed + repeats
    if verdict is Verdict.FLAGGED:
        return f"{n_suspects} of {n} samples are closer to a training point than held-out data come{repeats}"
    return (
        f"no closer to train than held-out data are; copies in fewer than {100 * sensitivity:.2g} % of the samples "
        f"could "
        f"have gone unnoticed{repeats}"
    )
