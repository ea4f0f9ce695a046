r"""Does a generator hand out its training data? Asked by whose points its samples come close to.

"Close to a training point" means nothing by itself: any sample is close to some training point, and a generator that
keeps to the dense regions or shrinks its modes comes closer than fresh data do. The question is whether samples come
closer to *training* points than to *held-out* points, which the generator might as well have been given. Both together
are the pool; each sample visits the nearest point of the pool, with the score r = d₁/mean(d₂, ..., d₅), and the visited
points, closest first, are a list in which a generator that knows no more of train than of the held-out data finds
training points by chance alone (``evaluation.visits``). The tests are exact:

* the number of training points before the j-th held-out point of the list, j = 1, 2, 4, ... up to a tenth of it;
* the number of training points among the points that samples repeat to the last bit;
* where held-out data repeat no training point and no sample repeats a held-out point: the number of samples that repeat
  a training point, against none of the held-out data.

The smallest p-value times the number of tests is the reported one (Bonferroni): **a generator that is independent of
train given the law of the data is flagged with probability at most** ``alpha``, whatever its own law and whatever that
of the data; perfect, smooth, blurred, shrunk or collapsed. (The third test alone assumes more: that the generator is
perfect, or that no single value has positive probability. It is what catches a generator that returns one training
image for ever.)

*Single samples* have a q-value: of the training points named with q ≤ 0.1, at most a tenth was not copied, on average,
for every generator as above. Beside it stand, to look at, the score against train alone, s = d₁/mean(d₂, ..., d₅) with
distances to training points, that of the held-out data, and the conformal p-value (1 + held-out scores as low)/(1 + m),
right for a perfect generator.

Held-out data that stand in train are no yardstick. Where they have leaked (``evaluation.copy_search`` says how that is
told from data that repeat themselves) they are left out, and the note says so.

What it cannot see: copies of a handful of training points, unless exact, since about log₂(10/alpha) different points
are needed to tell copying from coincidence; copies perturbed by more than the spacing of the data; copies up to a
symmetry that the features do not know (mirrored or shifted images, in pixels: see ``invariant``), and copies of points
of which the data hold several near-repeats. A generator that overfits without copying, such as a kernel density
narrower than the spacing of the data, is flagged: it knows train.

References:
    A non-parametric test to detect data-copying in generative models (Meehan, Chaudhuri, Dasgupta, 2020),
    https://arxiv.org/abs/2004.05675. Extracting training data from diffusion models (Carlini et al., 2023),
    https://arxiv.org/abs/2301.13188: distances in units of those to further neighbours. Testing for outliers with
    conformal p-values (Bates et al., 2023), https://arxiv.org/abs/2104.08279. For the list of visits see
    ``evaluation.visits``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from divergences import Estimate
from divergences.checks import ArrayLike, as_number, as_points
from evaluation.copy_search import CopySearch, Scored, check_swept
from evaluation.intervals import hypergeometric_tail
from evaluation.sweep import Sweep
from evaluation.verdict import Verdict
from evaluation.views import Views
from evaluation.visits import Visits, VisitTests

__all__ = ["Memorization", "Suspect", "memorization"]

FEWEST_HELD_OUT = 20
FEWEST_TRAIN = 10
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
        p_value: (1 + held-out points scoring as low) / (1 + held-out points): of this sample alone, for a perfect
            generator (conformal).
        q_value: of the training points named with q ≤ 0.1 at most a tenth was not copied, on average. It cannot fall
            below N/(M + 1) over the number of training points visited as closely, so that fewer than ten copied points
            (of N = M) are not named one by one.
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
        verdict: FLAGGED if ``p_value`` < ``false_alarm``; INCONCLUSIVE without enough held-out data, or where samples
            come near to so few points that not even copies of them all could be told from coincidence; else CLEAR.
        suspects: the samples to look at, most suspicious first; empty unless flagged.
        copy_share: share of samples that are copies: those visiting training points (practically) as closely as the
            suspects do, minus what chance puts there; 95 % interval. Copies perturbed beyond that are not counted.
            ``raw`` is without the minus.
        p_value: of the hypothesis that the generator knows no more of train than of the held-out data; 1 without
            held-out data.
        false_alarm: the probability with which such a generator is flagged is at most this (``alpha``).
        sensitivity: the share of copies that these numbers of samples, training and held-out points would find with
            probability 0.95.
        exact_copies: samples equal to a training point to the last bit.
        distances: from each sample to its nearest training point, shape (n,).
        null_distances: from each held-out point to its nearest training point, shape (m,).
        scores: of the samples against train, shape (n,).
        null_scores: of the held-out points against train, shape (m,).
        nearest_train: row of the nearest training point, shape (n,).
        nearest_test: row of the nearest held-out point, shape (n,); −1 without held-out data.
        note: what was found or what is needed, in a sentence.
        q_values: false-discovery rates of the samples, shape (n,); 1 without held-out data.
        discoveries: samples with a false-discovery rate of at most 0.1.
        false_suspects: share of the suspects that chance alone is expected to put there; 0 if there are none.
        test_distances: from each sample to its nearest held-out point, shape (n,); infinite without.
        leaked: held-out points that are training points, and were left out; null_distances and null_scores are those of
            the others.
        visited_train: visited training points within the cut of the suspects (of the tests, if not flagged).
        visited_test: held-out points within it; chance puts there M for every N training points.
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
    leaked: int
    visited_train: int
    visited_test: int


def memorization(
    *,
    generated: ArrayLike,
    train: ArrayLike,
    test: Any = None,
    alpha: float = 0.01,
    invariant: Views | None = None,
    swept: Sweep | None = None,
) -> Memorization:
    """Test whether a generator comes closer to its training data than to held-out data.

    Args:
        generated: features of the samples, shape (n, d).
        train: features of the training data, shape (N, d).
        test: features of held-out data, shape (m, d): drawn like train, never trained on. Without them, or with fewer
            than 20, the verdict is INCONCLUSIVE.
        alpha: probability with which a generator that is independent of train may be flagged.
        invariant: shifts and mirror images under which a copy is still a copy; the three sets are then rows of pixels.
            Costs one search per view.
        swept: what ``evaluation.sweep`` found for these very sets, with lists of at least 5: saves the searches and
            changes nothing else. Not used with ``invariant``, nor where points of train and test repeat each other.

    Returns:
        Verdict, suspects and share of copies; see ``Memorization``.

    Raises:
        InputError: NaN, empty or mis-shaped arrays, mismatched dimensions, or a sweep of other sets.

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

    check_swept(swept, len(points), len(known), len(held_out))
    search = CopySearch(known, held_out, invariant, swept)
    sample, null, beside = search.sample(points), search.null(), search.beside(points)
    exact, twins = int((sample.distances == 0).sum()), int((null.distances == 0).sum())
    n_test, leaked = len(search.kept), len(held_out) - len(search.kept)
    common: dict[str, Any] = {
        "false_alarm": alpha,
        "exact_copies": exact,
        "distances": sample.distances,
        "null_distances": null.distances,
        "scores": sample.scores,
        "null_scores": null.scores,
        "nearest_train": sample.nearest,
        "nearest_test": beside.nearest,
        "leaked": leaked,
        "test_distances": beside.distances,
    }
    if needed := _missing(len(known), n_test, twins, leaked, given=test is not None):
        return _unknown(needed, exact, common)

    visits = search.visits(points)
    # Nothing else repeats anything: then a repeat is no coincidence of coarse data.
    bare = twins == 0 and not (beside.distances == 0).any()
    tests = VisitTests(visits, repeats=hypergeometric_tail(exact, exact, len(points), n_test) if bare else 1.0)
    sensitivity = tests.sensitivity(alpha)
    needed = _too_few(tests, alpha, sensitivity)
    flagged = tests.p_value < alpha
    verdict = Verdict.FLAGGED if flagged else Verdict.INCONCLUSIVE if needed else Verdict.CLEAR
    q_values = visits.q_values()
    if bare and exact:
        by_chance = len(points) / (n_test + 1) / exact
        q_values = np.where(sample.distances == 0, np.minimum(q_values, by_chance), q_values)
    cut = _cut(tests, q_values, flagged=flagged, needed=needed, sure=bare and exact > 0)
    chosen = np.flatnonzero((visits.sample_scores <= cut) & visits.sample_trained)
    seen = _seen(visits, cut)
    return Memorization(
        verdict=verdict,
        suspects=_suspects(chosen, sample, null, q_values, beside) if flagged else (),
        copy_share=visits.copy_share(cut, sure=bare and cut == 0),
        p_value=tests.p_value,
        sensitivity=sensitivity,
        note=_note(verdict, needed, len(chosen), seen, visits, exact, sensitivity) + _left_out(leaked),
        q_values=q_values,
        discoveries=int((q_values <= _FALSE_SUSPECTS).sum()),
        false_suspects=float(q_values[chosen].max()) if flagged else 0.0,
        visited_train=seen[0],
        visited_test=seen[1],
        **common,
    )


def _cut(tests: VisitTests, q_values: np.ndarray, *, flagged: bool, needed: str, sure: bool) -> float:
    """The score up to which samples count as copies."""
    if not flagged:
        # Where nothing could be seen, nothing is ruled out.
        return np.inf if needed else tests.largest
    cut = tests.cut(_FALSE_SUSPECTS)
    within = (tests.visits.sample_scores <= cut) & tests.visits.sample_trained
    # A few training points, repeated exactly: nothing but these is certain.
    return 0.0 if sure and (q_values[within] > _FALSE_SUSPECTS).any() else cut


def _seen(visits: Visits, cut: float) -> tuple[int, int]:
    """Training and held-out points visited within the cut."""
    within = visits.scores <= cut
    return int((within & visits.trained).sum()), int((within & ~visits.trained).sum())


def _missing(n_train: int, n_test: int, twins: int, leaked: int, *, given: bool) -> str:
    """What is missing in train and held-out data; empty if nothing is."""
    if n_train < FEWEST_TRAIN:
        return f"train= has {n_train} points; at least {FEWEST_TRAIN} are needed to know how far apart they lie"
    if not given:
        return "without held-out data (test=) nobody can say how close to train a fresh sample would be"
    if n_test < FEWEST_HELD_OUT:
        left = f"{n_test} points that are held out" if leaked else f"{n_test} points"
        return f"test= has {left}; at least {FEWEST_HELD_OUT} held-out points are needed{_left_out(leaked)}"
    if twins > _USELESS * n_test:
        return (
            f"{twins} of {n_test} points of test= are equal to points of train=, and the data repeat themselves "
            "otherwise, too: they are too coarse for copies to mean anything"
        )
    return ""


def _left_out(leaked: int) -> str:
    """What was done with held-out points that are none."""
    return f"; {leaked} points of test= are training points and were left out" if leaked else ""


def _too_few(tests: VisitTests, alpha: float, sensitivity: float) -> str:
    """Whether copying could have been seen at all."""
    if sensitivity > _USELESS:
        return (
            f"with so few samples only a generator that copies {100 * sensitivity:.0f} % of the time would be found; "
            "generate more, or hold out more"
        )
    visited, needed = len(tests.visits.scores), tests.needed(alpha)
    if visited < needed:
        return (
            f"the samples come nearest to only {visited} point{'s' if visited > 1 else ''} of train and held-out data, "
            f"and {needed} are needed to tell copying from coincidence: the generator has collapsed"
        )
    return ""


def _unknown(needed: str, exact: int, common: dict[str, Any]) -> Memorization:
    n = len(common["scores"])
    share = Estimate(0.0, 1.0, level=0.95, method="none", n=n, bounds=(0.0, 1.0), note="too few known points")
    return Memorization(
        verdict=Verdict.INCONCLUSIVE,
        suspects=(),
        copy_share=share,
        p_value=1.0,
        sensitivity=1.0,
        note=needed + _repeats(exact, n),
        q_values=np.ones(n),
        discoveries=0,
        false_suspects=0.0,
        visited_train=0,
        visited_test=0,
        **common,
    )


def _suspects(
    chosen: np.ndarray, sample: Scored, null: Scored, q_values: np.ndarray, beside: Scored
) -> tuple[Suspect, ...]:
    chosen = chosen[np.lexsort((chosen, sample.distances[chosen], sample.scores[chosen]))]
    below = np.searchsorted(np.sort(null.scores), sample.scores[chosen], side="right")
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
        for i, p in zip(chosen, (1 + below) / (1 + len(null.scores)), strict=True)
    )


def _repeats(exact: int, n: int) -> str:
    return f"; {exact} of {n} samples equal a training point exactly" if exact else ""


def _note(
    verdict: Verdict,
    needed: str,
    n_suspects: int,
    seen: tuple[int, int],
    visits: Visits,
    exact: int,
    sensitivity: float,
) -> str:
    n = len(visits.sample_scores)
    if verdict is Verdict.INCONCLUSIVE:
        return needed + _repeats(exact, n)
    if verdict is Verdict.FLAGGED:
        fair = visits.n_train / (visits.n_train + visits.n_test)
        return (
            f"{n_suspects} of {n} samples look like copies: the points that samples come closest to are {seen[0]} "
            f"training and {seen[1]} held-out ones, where {fair:.0%} of training points are expected"
            + _repeats(exact, n)
        )
    return (
        "no closer to train than to held-out data; copies in fewer than "
        f"{100 * sensitivity:.2g} % of the samples could have gone unnoticed" + _repeats(exact, n)
    )
