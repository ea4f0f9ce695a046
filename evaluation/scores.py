r"""The published scores, beside the answers of an audit: numbers without a verdict, each with its error and its null.

A score decides nothing here. It is there to be compared with other people's tables, and to be read beside what a
perfect generator would get *at these sizes and in this dimension*: precision is 0.65 and authenticity 80 % for a
perfect generator in 64 dimensions or more, and a bare number misleads. The null is

* the score of the held-out data against train, where there are held-out data (precision, recall, α-precision, β-recall,
  authenticity, KID, Vendi ratio, FID); for recall they must be as many as the generated samples;
* without them, what train itself says: each point left out in turn (precision, recall, authenticity), one random half
  against the other (α-precision, β-recall);
* exact, whatever the law, for density, coverage and C_T; 0 for distances without bias, 1 for ratios. KID's is 0 as
  well where the held-out data have more than 25 million pairs with train, which would take long.

All neighbours come from one sweep over the pairs of points (``evaluation.sweep``), which serves the search for copies
and the two-sample finding as well.

Left out are scores that could not be told from nothing: all of them with fewer than ten points in a set; C_T without
20 held-out points; the Vendi ratio below eight dimensions, where it is bounded by the dimension, and where more than
512 eigenvalues would be needed, which takes long.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from divergences.errors import InputError
from divergences.estimate import Estimate
from evaluation.alpha import alpha_precision, authenticity
from evaluation.copies import FEWEST_HELD_OUT, data_copying
from evaluation.kernel import kid
from evaluation.manifold import prdc
from evaluation.support import vendi_ratio
from evaluation.sweep import Rule, Sweep, sweep

__all__ = ["Score", "fid_scores", "published_scores", "shared_sweep"]

_K = 5
_FEWEST = 10
# Cells of C_T are k-means; the same samples have the same score whatever the seed of the audit.
_CELL_SEED = 20_200_411
_VENDI_DIMENSIONS = (8, 512)
# Pairs of held-out and train points up to which KID is computed for them, too.
_QUICK_PAIRS = 25_000_000


@dataclass(frozen=True, eq=False)
class Score:
    """A published score: a number without a verdict.

    Attributes:
        name: as it is called in papers.
        estimate: the number, with its error.
        null: what a perfect generator would score at these sizes; None where nobody knows.
        meaning: what it measures and which direction is good, in a sentence.
    """

    name: str
    estimate: Estimate
    null: Estimate | float | None
    meaning: str


def shared_sweep(
    *, generated: Float64[np.ndarray, "n d"], train: Float64[np.ndarray, "m d"], test: Float64[np.ndarray, "k d"] | None
) -> Sweep | None:
    """The one look at all pairs of points that an audit takes: lists of six, and prdc's balls where there are enough.

    None for a set of a single point, which has no other.
    """
    fewest = min(len(points) for points in (generated, train, test) if points is not None)
    if fewest < 2:
        return None
    rules = (Rule(_K),) if fewest > _K else ()
    return sweep(generated=generated, train=train, test=test, k=_K + 1, rules=rules)


def fid_scores(measured: Estimate, held_out: Estimate | None) -> tuple[Score, ...]:
    """The Fréchet distance as it is estimated here, and as other programs print it.

    Args:
        measured: of the generated samples, debiased; the plain number is its ``raw``.
        held_out: of the held-out data, or None.
    """
    debiased = Score(
        "FID",
        measured,
        0.0 if held_out is None else held_out,
        "Distance of means and covariances (Fréchet), debiased at any n; lower is better.",
    )
    if measured.raw is None:
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
    return (
        *_manifold(generated, train, test, found),
        *_typical(generated, train, test, found),
        _kernel(generated, train, test),
        *_copying(generated, train, test),
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
    for name, meaning in meanings.items():
        null = None if found.null is None else getattr(found.null, name)
        yield Score(name, getattr(found, name), null, meaning)


def _typical(generated: np.ndarray, train: np.ndarray, test: Any, swept: Sweep | None) -> Iterator[Score]:
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
    yield Score(
        "authenticity",
        new.share,
        new.null,
        "Share of samples not too near to train; far below the null is copying, above it off the data.",
    )


def _kernel(generated: np.ndarray, train: np.ndarray, test: Any) -> Score:
    # The estimate is without bias: a perfect generator has 0 on average, whatever held-out data happen to score.
    known = test is not None and len(test) * len(train) <= _QUICK_PAIRS
    null = kid(generated=test, reference=train) if known else 0.0
    meaning = "Kernel distance of the first three moments, unbiased (may be negative); lower is better."
    return Score("KID", kid(generated=generated, reference=train), null, meaning)


def _copying(generated: np.ndarray, train: np.ndarray, test: Any) -> Iterator[Score]:
    if test is None or len(test) < FEWEST_HELD_OUT:
        return
    try:
        found = data_copying(generated=generated, train=train, test=test, rng=np.random.default_rng(_CELL_SEED))
    except InputError:
        return  # no cell with points of all three sets: nothing to compare
    meaning = "Distances to train, ranked against held-out data's, in standard errors; far below 0 is copying."
    yield Score("C_T", found.score, found.null, meaning)


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
