r"""The question how far the samples are from the data in mean and covariance (FID), and what the answer means.

The hypothesis: the Fréchet distance is at most a tenth of the total variance of the training features. It is debiased,
so that a perfect generator scores 0 on average; with fewer than three samples per dimension only bounds are known, and
the answer says so.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64

from divergences.estimate import Estimate
from evaluation.findings import Case, Finding, number, short
from evaluation.frechet import excess, fid, pair_of, score
from evaluation.moments import Moments
from evaluation.questions import FEWEST
from evaluation.verdict import Verdict

__all__ = ["VARIANCE_MARGIN", "distribution"]

VARIANCE_MARGIN = 0.1


def distribution(
    *,
    generated: Moments,
    reference: Moments,
    train: Float64[np.ndarray, "m d"],
    test: Float64[np.ndarray, "k d"] | None,
    own: bool = True,
) -> Case:
    """How far the features of the samples are from the reference's, beside how far held-out ones are.

    Args:
        generated: of the samples.
        reference: of train, or other statistics; where they have no fingerprint the answer says so.
        train: its features: its variance is what distances are measured by.
        test: features of held-out data, or None.
        own: whether the reference is train's own.
    """
    pair = pair_of(generated=generated, reference=reference)
    measured = score(pair)
    held_out = None if test is None else fid(generated=test, reference=reference)
    variance = float(train.var(axis=0, ddof=1).sum())
    margin = VARIANCE_MARGIN * variance
    n = generated.n
    # Statistics that real data do not have, either, say nothing of the generator.
    foreign = not own and held_out is not None and held_out.interval[0] > margin
    known = n >= FEWEST and not foreign and math.isfinite(measured.interval[0])
    p_value = excess(pair, measured, margin) if known else None
    whose = "the training data" if own else "the statistics given"
    bias = None if measured.raw is None or measured.note else measured.raw - measured.value

    def conclude(level: float) -> Finding:
        low, high = measured.interval
        if p_value is not None and p_value < level and low > margin:
            verdict = Verdict.FLAGGED
        elif not known or high > margin:
            verdict = Verdict.INCONCLUSIVE
        else:
            verdict = Verdict.CLEAR
        meaning = _distance_facts(measured, held_out, bias, n, sampled=reference.samples is not None)
        if not own and reference.fingerprint is None:
            meaning += " The statistics do not say what features they are of: nobody can check that they are these."
        return Finding(
            name="distribution",
            question=f"Do the samples have the mean and covariance of {whose}?",
            quantity=f"Fréchet distance to {'train' if own else whose} (FID)",
            estimate=measured,
            null=0.0,
            p_value=p_value,
            verdict=verdict,
            meaning=f"{_FOREIGN if foreign else _distance_answer(verdict, measured, margin, n)} {meaning}",
            evidence={
                "margin": margin,
                "total_variance": variance,
                "held_out": held_out,
                "plain": measured.raw,
                "plain_bias": bias,
                "error": measured.method,
            },
        )

    return Case(p_value, conclude)


_FOREIGN = (
    "Held-out data lie above the margin, too: these statistics are of other data, or of other features than those "
    "compared here. Make them anew with the same --features."
)


def _distance_facts(measured: Estimate, held_out: Estimate | None, bias: float | None, n: int, *, sampled: bool) -> str:
    """What was measured, how well, and what else scores."""
    what = "The distance compares means and covariances. "
    if measured.note:
        what += f"{measured.note[:1].upper()}{measured.note[1:]}."
    else:
        what += "It is debiased: a perfect generator scores 0 on average, at any n."
    if held_out is not None:
        what += f" Held-out data score {number(held_out)}."
    if measured.raw is not None:
        what += f" The plain distance, which other programs print, is {short(measured.raw)}"
        what += "." if bias is None else f"; {short(bias)} of that is what {n} samples make by themselves."
    if not measured.note:
        what += (
            " The error comes from the influence of each sample; nothing is extrapolated to more samples."
            if sampled
            else " The error is that of Gaussian features, since only their statistics are known."
        )
    return what


def _distance_answer(verdict: Verdict, measured: Estimate, margin: float, n: int) -> str:
    limit = f"{VARIANCE_MARGIN:g} of the total variance of train, {margin:.3g}"
    if verdict is Verdict.FLAGGED:
        return (
            f"This generator lies above {limit}, with confidence: its samples lie elsewhere or spread "
            "otherwise. Lost modes, blur, or preprocessing that differs between the two sets would all do this; "
            "compare the samples first."
        )
    if verdict is Verdict.INCONCLUSIVE:
        where = (
            "lies above it as a whole, but not at the level granted"
            if measured.interval[0] > margin
            else "goes further up"
        )
        return (
            f"{n} samples do not tell whether it lies below {limit}: the interval {where}. Draw more "
            "samples, or use features of fewer dimensions (pca:N)."
        )
    sure = "is certain, but small" if measured.interval[0] > 0 else "is compatible with none"
    return (
        f"The difference {sure}: flagged would be more than {limit}, with confidence. Equal means and "
        "covariances do not make equal distributions: this finding alone would miss much."
    )
