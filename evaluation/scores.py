r"""The published scores, beside the answers of an audit: numbers without a verdict, each with its error and its null.

A score decides nothing here. It is there to be compared with other people's tables, and to be read beside what a
perfect generator would get *at these sizes and in this dimension*: precision is 0.65 and authenticity 80 % for a
perfect generator in 64 dimensions or more, and a bare number misleads. The null is

* the score of the held-out data against train, where there are held-out data; for recall and coverage they must be as
  many as the generated samples. Features that were fitted on train set it apart from any fresh data, if only a little,
  and only this null knows it;
* without them, what train itself says: each point left out in turn (precision, recall, authenticity), one random half
  against the other (α-precision, β-recall, PRD's F8 and F1/8); nobody knows it for realism, rarity, MiFID's distance
  and the support size;
* exact for one law without ties, as long as the features do not know train: density and coverage without such
  held-out data; whatever the law, C_T; 0 for distances without bias, 1 for ratios. KID's is 0 as well where the
  held-out data have more than 25 million pairs with train, which would take long.

Four of them have a p-value, of "no nearer to train than held-out data" (C_T, authenticity, distance share) or "no more
repeats than among held-out data": exactly those of ``evaluation.copies.copy_tests``, each for itself alone. They
describe as well: nothing is decided by them, and the error rate of an audit knows nothing of them.

All Euclidean distances come from one sweep over the pairs of points (``evaluation.sweep``), which serves the search for
copies and the two-sample finding as well; MiFID's distance is an angle, and takes a look of its own.

Left out are scores that could not be told from nothing: all of them with fewer than ten points in a set; C_T, the
distance share and the p-values without 20 held-out points; the Vendi ratio below eight dimensions, where it is bounded
by the dimension, and where more than 512 eigenvalues would be needed, which takes long; MiFID's distance below three
dimensions, where there are hardly any angles, and beyond 10¹¹ multiplications.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float64

from divergences.errors import InputError
from divergences.estimate import Estimate
from evaluation.alpha import alpha_precision, authenticity
from evaluation.copies import FEWEST_HELD_OUT, CopyTests, copy_tests
from evaluation.findings import short
from evaluation.kernel import kid
from evaluation.manifold import prdc
from evaluation.prd import prd
from evaluation.repeats import repeated_share
from evaluation.sample_scores import rarity, realism
from evaluation.support import support_size, vendi_ratio
from evaluation.sweep import Counts, Rule, Sweep, sweep
from evaluation.vendi import memorization_distance

__all__ = ["Score", "fid_scores", "published_scores", "shared_sweep"]

_K = 5
_FEWEST = 10
# Cells of C_T are k-means; the same samples have the same score whatever the seed of the audit.
_CELL_SEED = 20_200_411
_VENDI_DIMENSIONS = (8, 512)
# Balls of realism and rarity, as published; bins and clusterings of PRD (published: 20 and 10).
_JUDGED_BY = 3
_BINS, _CLUSTERINGS = 20, 5
_FEWEST_ANGLES = 3
_MOST_MULTIPLICATIONS = 1e11
# Pairs of held-out and train points up to which KID is computed for them, too.
_QUICK_PAIRS = 25_000_000
_NO_NEARER = "no nearer to train than held-out data"


@dataclass(frozen=True, eq=False)
class Score:
    """A published score: a number without a verdict.

    Attributes:
        name: as it is called in papers.
        estimate: the number, with its error.
        null: what a perfect generator would score at these sizes; None where nobody knows.
        meaning: what it measures and which direction is good, in a sentence; with its p-value, where it has one.
        p_value: of a perfect generator's chance to look as bad, for this score alone; None where there is none. It
            enters no verdict.
    """

    name: str
    estimate: Estimate
    null: Estimate | float | None
    meaning: str
    p_value: float | None = None


def shared_sweep(
    *, generated: Float64[np.ndarray, "n d"], train: Float64[np.ndarray, "m d"], test: Float64[np.ndarray, "k d"] | None
) -> Sweep | None:
    """The one look at all pairs of an audit: lists of six; with enough points, prdc's balls, realism and rarity.

    None for a set of a single point, which has no other.
    """
    fewest = min(len(points) for points in (generated, train, test) if points is not None)
    if fewest < 2:
        return None
    rules = (Rule(_K),) if fewest > _K else ()
    judged_by = _JUDGED_BY if fewest >= _FEWEST else None
    return sweep(generated=generated, train=train, test=test, k=_K + 1, rules=rules, judged_by=judged_by)


def fid_scores(measured: Estimate, held_out: Estimate | None) -> tuple[Score, ...]:
    """The Fréchet distance as it is estimated here, and as other programs print it.

    Args:
        measured: of the generated samples, debiased; the plain number is its ``raw``.
        held_out: of the held-out data, or None.

    Returns:
        Both; only the first with too few samples for a bias to be known.
    """
    debiased = Score(
        "FID",
        measured,
        0.0 if held_out is None else held_out,
        f"Distance of means and covariances (Fréchet), {_debiased(measured)}; lower is better.",
    )
    if measured.raw is None or measured.note:
        return (debiased,)
    bias = measured.raw - measured.value
    low, high = measured.interval
    plain = Estimate(
        measured.raw,
        measured.error,
        level=measured.level,
        method="plain Fréchet distance; the interval is the debiased one's, moved by the bias",
        n=measured.n,
        bounds=(low + bias, high + bias),
    )
    meaning = "What other programs print; the null is what finite samples make alone. Lower is better."
    return debiased, Score("FID, plain", plain, bias, meaning)


def _debiased(measured: Estimate) -> str:
    return "not debiased: too few samples for that" if measured.note else "debiased at any n"


def published_scores(
    *,
    generated: Float64[np.ndarray, "n d"],
    train: Float64[np.ndarray, "m d"],
    test: Float64[np.ndarray, "k d"] | None = None,
    swept: Sweep | None = None,
) -> tuple[Score, ...]:
    """All scores that these sets allow.

    Args:
        generated: features of the samples.
        train: features of the training data.
        test: features of held-out data, or None.
        swept: ``shared_sweep`` of these very sets, if there is one already.

    Returns:
        The scores; none with fewer than ten points in a set.
    """
    sets = [points for points in (generated, train, test) if points is not None]
    if min(len(points) for points in sets) < _FEWEST:
        return ()
    found = swept if swept is not None else shared_sweep(generated=generated, train=train, test=test)
    copied = _copy_tests(generated, train, test, found)
    return (
        *_manifold(generated, train, test, found),
        *_typical(generated, train, test, found, copied),
        *_single(generated, train, test, found),
        *_curve(generated, train, test),
        _kernel(generated, train, test),
        *_copying(copied),
        *_angles(generated, train, test),
        *_support(generated, test, found),
        _repeats(generated, train, test, found, copied),
        *_variety(generated, train, test),
    )


def _manifold(generated: np.ndarray, train: np.ndarray, test: Any, swept: Sweep | None) -> Iterator[Score]:
    found = prdc(generated=generated, reference=train, test=test, k=_K, swept=swept)
    meanings = {
        "precision": f"Share of samples inside the balls of the data (k = {_K}); up to the null, higher is better.",
        "recall": f"Share of the data inside the balls of the samples (k = {_K}); up to the null, higher is better.",
        "density": "Balls of the data per sample / k: below 1 off the data, above 1 crowded where data are dense.",
        "coverage": "Share of the balls of the data that hold a sample; up to the null, higher is better.",
    }
    beside = None if swept is None or test is None else prdc(generated=test, reference=train, k=_K, swept=_held(swept))
    for name, meaning in meanings.items():
        null = None if found.null is None else getattr(found.null, name)
        if beside is not None and (name == "density" or (name == "coverage" and len(test) == len(generated))):
            null = _of_test(getattr(beside, name))
        yield Score(name, getattr(found, name), null, meaning)


def _of_test(null: Estimate | None) -> Estimate | None:
    return None if null is None else replace(null, note="score of test=")


def _held(swept: Sweep) -> Sweep | None:
    """The same sweep with the held-out points in place of the generated ones; None where it holds none."""
    if swept.test_test is None or swept.test_train is None or swept.train_test is None:
        return None
    counts = {
        rule: Counts(own.test_in_train, own.train_in_test)
        for rule, own in swept.counts.items()
        if own.test_in_train is not None and own.train_in_test is not None
    }
    return Sweep(swept.train_train, swept.test_test, swept.test_train, swept.train_test, counts)


def _copy_tests(generated: np.ndarray, train: np.ndarray, test: Any, swept: Sweep | None) -> CopyTests | None:
    """The published signs of copying; None without enough held-out data to say anything."""
    if test is None or len(test) < FEWEST_HELD_OUT:
        return None
    draw = np.random.default_rng(_CELL_SEED)
    return copy_tests(generated=generated, train=train, test=test, rng=draw, swept=swept)


def _tested(meaning: str, p_value: float | None, of: str) -> tuple[str, float | None]:
    """The meaning with the p-value behind it, and the p-value."""
    if p_value is None:
        return meaning, None
    told = "< 1e−15" if p_value < 1e-15 else f"= {short(float(f'{p_value:.2g}'))}"
    return f'{meaning} p {told} of "{of}"; taken alone, no verdict rests on it.', p_value


def _typical(
    generated: np.ndarray, train: np.ndarray, test: Any, swept: Sweep | None, copied: CopyTests | None
) -> Iterator[Score]:
    found = alpha_precision(generated=generated, reference=train, test=test, swept=swept)
    null = found.null
    yield Score(
        "α-precision",
        found.precision,
        None if null is None else null.precision,
        "Are samples as far from the middle of the data as data are? 1 at best, higher is better.",
    )
    yield Score(
        "β-recall",
        found.recall,
        None if null is None else null.recall,
        "Data with a typical sample as near as their next neighbour; up to the null, higher is better.",
    )
    new = authenticity(generated=generated, train=train, test=test, swept=swept)
    known = None if copied is None or copied.authenticity is None else copied.authenticity.p_value
    meaning = "Share of samples not too near to train; far below the null is copying, above it off the data."
    yield Score("authenticity", new.share, new.null, *_tested(meaning, known, _NO_NEARER))


def _single(generated: np.ndarray, train: np.ndarray, test: Any, swept: Sweep | None) -> Iterator[Score]:
    sets = {"generated": generated, "reference": train, "test": test}
    meanings = {
        "realism": f"Of the median sample: how deep inside the smaller half of the data's balls (k = {_JUDGED_BY}); "
        "≥ 1 is inside, higher is better.",
        "rarity": f"Of the median sample inside: radius of the smallest ball of the data (k = {_JUDGED_BY}); below "
        "the null only common samples are drawn.",
    }
    found = {
        "realism": realism(**sets, k=_JUDGED_BY, swept=swept),
        "rarity": rarity(**sets, k=_JUDGED_BY, swept=swept),
    }
    for name, scores in found.items():
        score, null = scores.median, scores.null_median
        if score.n is not None and score.n >= _FEWEST:
            yield Score(name, score, _of_test(null), meanings[name])


def _curve(generated: np.ndarray, train: np.ndarray, test: Any) -> Iterator[Score]:
    least = min(len(train) // 2, len(generated), len(train) if test is None else len(test))
    if least < _BINS:
        return
    draw = np.random.default_rng(_CELL_SEED)
    found = prd(generated=generated, reference=train, test=test, rng=draw, clusters=_BINS, runs=_CLUSTERINGS)
    null, how = found.null, f"of the precision-recall curve over {_BINS} clusters"
    meanings = {
        "PRD F8": (found.f8, None if null is None else null.f8, f"Recall {how}: low where data are missing."),
        "PRD F1/8": (found.f_eighth, None if null is None else null.f_eighth, f"Precision {how}: low off the data."),
    }
    for name, (score, beside, meaning) in meanings.items():
        yield Score(name, score, beside, f"{meaning} Up to the null, higher is better.")


def _angles(generated: np.ndarray, train: np.ndarray, test: Any) -> Iterator[Score]:
    others = len(generated) + (0 if test is None else len(test))
    sets = [points for points in (generated, train, test) if points is not None]
    if train.shape[1] < _FEWEST_ANGLES or others * len(train) * train.shape[1] > _MOST_MULTIPLICATIONS:
        return
    if not all(points.any(axis=1).all() for points in sets):
        return  # a point at the origin has no angle
    found = memorization_distance(generated=generated, train=train, test=test)
    meaning = "Mean of the least 1 − |cos| to train, the number in MiFID; far below the null is copying."
    yield Score("MiFID's distance", found.distance, _of_test(found.null), meaning)


def _support(generated: np.ndarray, test: Any, swept: Sweep | None) -> Iterator[Score]:
    if test is None:
        return
    try:
        found = support_size(generated=generated, reference=test, swept=swept)
    except InputError:
        # Held-out data that repeat themselves have no least distance.
        found = support_size(generated=generated, reference=test, tolerance=0.0)
    meaning = (
        "Birthday paradox: so many equally likely outcomes would coincide as often as the samples do, nearer to each "
        "other than any two held-out ones; far below the null, samples repeat."
    )
    yield Score("support size", found.size, _of_test(found.null), meaning)


def _repeats(
    generated: np.ndarray, train: np.ndarray, test: Any, swept: Sweep | None, copied: CopyTests | None
) -> Score:
    """Equal samples, beside equal points among as many held-out ones; of train, where those are too few."""
    own = None if swept is None else swept.generated_generated
    share = repeated_share(generated=generated, lists=own)
    if test is not None and (len(test) >= len(generated) or len(test) >= len(train)):
        real, lists, of = test, None if swept is None else swept.test_test, "score of test="
    else:
        real, lists, of = train, None if swept is None else swept.train_train, "the training data"
    size = min(len(generated), len(real))
    if size < len(generated):
        of += f", of {size} only: more would repeat more"
    null = repeated_share(generated=real, size=size, lists=lists, note=of)
    count = round(share.value * len(generated))
    meaning = f"Share of samples equal to another one, {count} of {len(generated)}; lower is better, down to the null."
    p_value = None if copied is None else copied.repeats.p_value
    return Score("repeated samples", share, null, *_tested(meaning, p_value, "no more pairs than held-out data have"))


def _kernel(generated: np.ndarray, train: np.ndarray, test: Any) -> Score:
    # The estimate is without bias: a perfect generator has 0 on average, whatever held-out data happen to score.
    known = test is not None and len(test) * len(train) <= _QUICK_PAIRS
    null = kid(generated=test, reference=train) if known else 0.0
    meaning = "Kernel distance of the first three moments, unbiased (may be negative); lower is better."
    return Score("KID", kid(generated=generated, reference=train), null, meaning)


def _copying(copied: CopyTests | None) -> Iterator[Score]:
    if copied is None or copied.data_copying is None or copied.share is None:
        return
    found, share = copied.data_copying, copied.share
    meaning = (
        "Distances to train, ranked against held-out data's, in standard errors; far below 0 is copying, or too many "
        "samples where data are dense."
    )
    yield Score("C_T", found.score, found.null, *_tested(meaning, found.p_value, _NO_NEARER))
    meaning = (
        "Share of samples nearer to train than to held-out data (DCR), N/(N + M) by chance; far above it is copying, "
        "below it held-out data that are not like train."
    )
    yield Score("distance share", share.score, share.null, *_tested(meaning, share.p_value, _NO_NEARER))


def _variety(generated: np.ndarray, train: np.ndarray, test: Any) -> Iterator[Score]:
    dim, least = train.shape[1], min(len(train), len(generated))
    low, high = _VENDI_DIMENSIONS
    center = train.mean(axis=0)
    sets = [None if points is None else points - center for points in (generated, train, test)]
    if dim < low or min(dim, least) > high or not all(s is None or s.any(axis=1).all() for s in sets):
        return
    real = sets[1]
    if sets[0] is None or real is None:
        return
    yield Score(
        "Vendi ratio",
        vendi_ratio(generated=sets[0], reference=real),
        1.0 if sets[2] is None else vendi_ratio(generated=sets[2], reference=real),
        "Effective number of different samples over that of real ones; below 1 there is less variety.",
    )
