r"""More questions of an audit: shrunk modes, lost regions, and whether samples can be told from held-out data.

* *partial collapse*: no mode (or class) is narrower than half of what it should be, in variance. Known modes are judged
  by their high-quality samples, the cut-off allowed for (``evaluation.mode_shapes``). Of a labelled class, the variance
  of the samples assigned to it is compared with that of its training samples, by a normal test on the logarithm of the
  ratio. p is the least of the Holm-adjusted ones.
* *mode loss* without known modes: no bin of the data (k-means on half of train) has less than half of its share, by
  exact tests against the other half and the held-out data, Holm over the bins.
* *two-sample*: a classifier asked to pick the generated one of two samples, one generated and one held out, is right in
  at most 90 % of the cases (AUC, cross-fitted), and at most 90 % of all samples have a nearest other sample of their
  own kind; both are ½ for a perfect generator. p is twice the smaller of two normal ones, from the standard errors;
  flagged only if the exact permutation test says as well that there is any difference. A difference that is certain but
  smaller is reported, not flagged. It needs held-out data: a copier of the training data could not be told from *them*.

Reference:
    Revisiting classifier two-sample tests (Lopez-Paz, Oquab, 2017), https://arxiv.org/abs/1610.06545.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import ndtr

from divergences.estimate import Estimate
from divergences.two_sample import Z95
from evaluation.detection import DetectionRow, bin_detection
from evaluation.findings import Case, Finding, detection_record, listed, printable
from evaluation.intervals import holm
from evaluation.labelled import LabelledModes
from evaluation.mode_shapes import SHIFT_MARGIN
from evaluation.modes import ModeCoverage
from evaluation.questions import FEWEST, SHARE_MARGIN, SIZES
from evaluation.sweep import Sweep
from evaluation.two_sample import two_sample
from evaluation.unknown_modes import BinRecord, UnknownModes, unknown_modes
from evaluation.verdict import Verdict

__all__ = [
    "ANY_DIFFERENCE",
    "SPREAD_MARGIN",
    "TOLD_MARGIN",
    "class_collapse",
    "lost_regions",
    "mode_collapse",
    "told_apart",
]

SPREAD_MARGIN = 0.5
TOLD_MARGIN = 0.9
# Degrees of freedom below which half the variance of a mode is not told from all of it.
_FEWEST_FREEDOMS = 12
_PERMUTATIONS = 199
_FEWEST_TO_BIN = 200
_TABLE_SEED = 20_050_712
# Level of the exact test of any difference.
ANY_DIFFERENCE = 0.05
_AUC = "chance that a classifier picks the generated sample of two (AUC)"
_NEIGHBORS = "share of samples whose nearest other sample is of their own kind"
# Samples per side that the classifier looks at: more would cost minutes and change nothing at this margin.
_LARGEST = 4000
_EASIEST = 8


def mode_collapse(found: ModeCoverage) -> Case:
    """Which known modes are hit, but too narrow."""
    dim = len(found.per_mode[0].mean)
    ratios = {shape.index: shape.ratio for shape in found.shapes if shape is not None}
    p_values = {shape.index: shape.shrunk_p for shape in found.shapes if shape is not None}
    rare = [record.index for record in found.per_mode if (record.expected - 1) * dim < _FEWEST_FREEDOMS]
    return _collapse(
        names={record.index: str(record.index) for record in found.per_mode},
        ratios=ratios,
        p_values=p_values,
        rare=rare,
        n=found.n,
        kind="mode",
        how="of the high-quality samples of a mode, about their own mean, the cut-off at the threshold allowed for",
        shapes={
            shape.index: {
                "volume": shape.volume,
                "shift": shape.shift,
                "shift_null": shape.shift_null,
                "shift_p_adjusted": shape.shifted_p,
            }
            for shape in found.shapes
            if shape is not None
        },
        aside=(
            f" Out of place by more than {SHIFT_MARGIN:g} standard deviations, which is reported and not flagged: "
            f"{listed([str(index) for index in found.shifted])}."
            if found.shifted
            else ""
        ),
    )


def class_collapse(
    *,
    generated: Float64[np.ndarray, "n d"],
    train: Float64[np.ndarray, "m d"],
    found: LabelledModes,
    classes: Int64[np.ndarray, " m"],
) -> Case:
    """Which labelled classes are drawn, but too alike; ``classes`` are the indices of train's labels."""
    logs, errors, kept, rare = [], [], [], []
    for index in range(len(found.classes)):
        own, real = generated[found.assigned == index], train[classes == index]
        if len(real) < FEWEST:
            rare.append(index)
            continue
        if len(own) < FEWEST:
            continue  # a lost class, which is another question's
        (fake, fake_error), (true, true_error) = _log_variance(own), _log_variance(real)
        if not math.isfinite(true):
            continue
        logs.append(fake - true)
        errors.append(math.hypot(fake_error, true_error))
        kept.append(index)
    values, spread = np.array(logs), np.maximum(np.array(errors), 1e-12)
    with np.errstate(invalid="ignore"):
        tails = np.where(np.isneginf(values), 0.0, ndtr((values - math.log(SPREAD_MARGIN)) / spread))
    adjusted = holm(tails) if len(tails) else tails
    ratios = {}
    for index, value, error in zip(kept, values, spread, strict=True):
        middle, low, high = (float(np.exp(value + side * Z95 * error)) for side in (0, -1, 1))
        ratios[index] = Estimate(
            middle, max(high - middle, middle - low), level=0.95, method="delta method", bounds=(low, high)
        )
    lost = [index for index, label in enumerate(found.classes) if label in found.missing]
    return _collapse(
        names={index: printable(label) for index, label in enumerate(found.classes)},
        ratios=ratios,
        p_values=dict(zip(kept, (float(p) for p in adjusted), strict=True)),
        rare=rare,
        n=found.n,
        kind="class",
        how="of the samples assigned to a class, beside that of its training samples",
        shapes={index: {"lost": True} for index in lost},
    )


def _log_variance(points: Float64[np.ndarray, "n d"]) -> tuple[float, float]:
    """Log of the total variance, and its standard error from the fourth moments."""
    n = len(points)
    squares = ((points - points.mean(axis=0)) ** 2).sum(axis=1)
    total = float(squares.sum()) / (n - 1)
    if total <= 0:
        return -math.inf, 0.0
    return math.log(total), float(squares.std(ddof=1)) / total / math.sqrt(n)


def _collapse(
    *,
    names: dict[int, str],
    ratios: dict[int, Estimate],
    p_values: dict[int, float],
    rare: list[int],
    n: int,
    kind: str,
    how: str,
    shapes: Mapping[int, dict[str, Any]] = MappingProxyType({}),
    aside: str = "",
) -> Case:
    """The finding, whatever the modes are; ``shapes`` is what else is known of each, ``aside`` is said in any case."""
    p_value = min(p_values.values()) if p_values and n >= FEWEST else None
    plural = "classes" if kind == "class" else "modes"

    def conclude(level: float) -> Finding:
        shrunk = [index for index, p in p_values.items() if p < level]
        # The most suspicious one, or the narrowest if all are above suspicion.
        worst = min(p_values, key=lambda index: (p_values[index], ratios[index].value)) if p_values else None
        unknown = Estimate(1.0, math.inf, method="too few samples in every mode")
        estimate = ratios[worst] if worst is not None else unknown
        where = "" if worst is None else f", {kind} {names[worst]}"
        if shrunk:
            verdict = Verdict.FLAGGED
            meaning = (
                f"{plural.capitalize() if len(shrunk) > 1 else kind.capitalize()} "
                f"{listed([names[index] for index in shrunk])} {'are' if len(shrunk) > 1 else 'is'} drawn, but with "
                f"less than {SPREAD_MARGIN:g} of the variance due: the samples there are too alike. Variance "
                f"is that {how}. A truncated latent, a low temperature, or training too long against one "
                "discriminator would do this; so would preprocessing that blurs one of the two sets. Sample without "
                "truncation first; if the variance stays low, stop earlier or penalise the gradient."
            )
        elif unsure := [index for index, ratio in ratios.items() if index not in rare and ratio.value < SPREAD_MARGIN]:
            verdict = Verdict.INCONCLUSIVE
            meaning = (
                f"The samples of {plural if len(unsure) > 1 else kind} {listed([names[index] for index in unsure])} "
                f"have less than {SPREAD_MARGIN:g} of the variance due, but {n} samples do not tell whether that is "
                f"chance. Variance is that {how}. Draw more samples."
            )
        elif p_value is None or 2 * len(rare) > len(names):
            verdict = Verdict.INCONCLUSIVE
            meaning = (
                f"{n} samples put too few into most {plural} to tell half of the variance from all of it. Draw more."
            )
        else:
            verdict = Verdict.CLEAR
            meaning = (
                f"No {kind} is significantly below {SPREAD_MARGIN:g} of the variance it should have. Variance is that "
                f"{how}."
            )
            if rare:
                meaning += f" Too rare to judge at this n: {listed([names[index] for index in rare])}."
        return Finding(
            name="partial collapse",
            question=f"Is every {kind} that is drawn as wide as it should be?",
            quantity=f"variance relative to what it should be{where}",
            estimate=estimate,
            null=1.0,
            p_value=p_value,
            verdict=verdict,
            meaning=meaning + aside,
            evidence={
                "margin": SPREAD_MARGIN,
                "kind": kind,
                "shrunk": [names[index] for index in shrunk],
                "rare": [names[index] for index in rare],
                "per_mode": [
                    {"name": names[index], "ratio": ratios[index], "p_adjusted": p_values[index]}
                    | shapes.get(index, {})
                    for index in ratios
                ],
            },
        )

    return Case(p_value, conclude)


def lost_regions(
    *,
    generated: Float64[np.ndarray, "n d"],
    train: Float64[np.ndarray, "m d"],
    test: Float64[np.ndarray, "k d"] | None,
    rng: np.random.Generator,
    level: float = 0.05,
) -> Case | None:
    """Which regions of the data are left out; None where train is too small to be cut into bins.

    ``level`` is what Holm's procedure grants this question at least.
    """
    if len(train) < _FEWEST_TO_BIN or len(generated) < _FEWEST_TO_BIN:
        return None
    # All bins with their p-values: which of them are lost is decided at the level that is granted.
    every = math.nextafter(1, 0)
    found = unknown_modes(generated=generated, train=train, test=test, margin=SHARE_MARGIN, alpha=every, rng=rng)
    # The same counts are simulated whatever the seed of the audit: the table depends on the sizes alone.
    draw = np.random.default_rng(_TABLE_SEED)
    missed = [
        row
        for times in SIZES
        for row in bin_detection(
            weights=[1 / found.bins, 0.5 / found.bins], bins=found.bins, n=found.n * times, reference=found.reference,
            rng=draw, margin=SHARE_MARGIN, alpha=level,
        )
    ]  # fmt: skip

    def conclude(granted: float) -> Finding:
        lost = [record for record in (*found.missing, *found.starved) if record.p_adjusted < granted]
        verdict, meaning = _region_answer(found, lost, missed[:2])
        return Finding(
            name="mode loss",
            question="Does the generator reach every region of the data?",
            quantity=f"regions with their share, of {found.bins}",
            estimate=Estimate(
                float(found.bins - len(lost)),
                0.0,
                method="bins of k-means on half of train, less those shown to have too few samples",
                n=found.n,
            ),
            null=float(found.bins),
            p_value=found.p_value,
            verdict=verdict,
            meaning=meaning,
            evidence={
                "bins": found.bins,
                "ndb": found.ndb.different,
                "ndb_null": found.ndb.null,
                "jsd": found.ndb.jsd,
                "power": [str(row) for row in missed[:2]],
                "detection": detection_record("region", missed, level=level),
                "regions": [
                    {
                        "name": str(record.index),
                        "hits": record.hits,
                        "expected": record.expected,
                        "ratio": record.ratio,
                        "p_adjusted": record.p_adjusted,
                        "examples": list(record.examples),
                    }
                    for record in lost
                ],
            },
        )

    return Case(found.p_value, conclude)


def _region_answer(found: UnknownModes, lost: list[BinRecord], power: list[DetectionRow]) -> tuple[Verdict, str]:
    if lost:
        rows = ", ".join(str(record.examples[0]) for record in lost[:6] if record.examples)
        return Verdict.FLAGGED, (
            f"{len(lost)} of {found.bins} regions get less than {SHARE_MARGIN:g} of their share: look at training "
            f"rows {rows}{' and others' if len(lost) > 6 else ''}, from the middle of one such region each. Samples so "
            "distorted that they fall elsewhere would look the same, and so would training data that are not drawn "
            "like the held-out ones. If the regions are real, train longer or with larger batches, and compare seeds."
        )
    if all(math.isinf(row.loss) for row in power):
        return Verdict.INCONCLUSIVE, f"{found.n} samples would not show the complete loss of a region. Draw more."
    return Verdict.CLEAR, (
        f"No region has significantly less than {SHARE_MARGIN:g} of its share. Smaller losses would go unnoticed: the "
        "table says which."
    )


def told_apart(
    *,
    generated: Float64[np.ndarray, "n d"],
    test: Float64[np.ndarray, "k d"],
    rng: np.random.Generator,
    swept: Sweep | None = None,
) -> Case:
    """Whether a classifier can tell generated from held-out samples; ``swept`` is a sweep of both, beside train."""
    n = min(len(generated), len(test))
    if n < FEWEST:
        return Case(None, lambda level: _untold(n))
    # As many of each: only then is chance one half for the neighbours, too.
    rows = [
        np.arange(n) if len(points) == n else np.sort(rng.permutation(len(points))[:n]) for points in (generated, test)
    ]
    whole = len(generated) == len(test)
    found = two_sample(
        generated=generated[rows[0]], test=test[rows[1]], rng=rng, permutations=_PERMUTATIONS, most=_LARGEST,
        swept=swept if whole else None,
    )  # fmt: skip
    exact = found.p_value
    scores = {_AUC: found.classifier, _NEIGHBORS: found.neighbors}
    tails = {name: _tail(score) for name, score in scores.items()}
    quantity = min(scores, key=lambda name: (tails[name], -scores[name].value))
    seen = scores[quantity]
    p_value = min(1.0, 2 * tails[quantity])
    looked = np.flatnonzero(np.isfinite(found.scores))
    easiest = rows[0][looked[np.argsort(-found.scores[looked], kind="stable")][:_EASIEST]]

    def conclude(level: float) -> Finding:
        low, _ = seen.interval
        what = (
            f"A kernel classifier picks the generated sample of two in {found.classifier.value:.1%} of the cases, and "
            f"{found.neighbors.value:.1%} of all samples have a nearest other one of their own kind (generated or "
            f"held out). Chance is 50 % for both; by the exact permutation test of both, p = {exact:.2g}."
        )
        if p_value < level and low > TOLD_MARGIN and exact < ANY_DIFFERENCE:
            verdict = Verdict.FLAGGED
            meaning = (
                f"{what} More than {TOLD_MARGIN:.0%}, with confidence, is flagged. Anything that differs between the "
                "files does this: artefacts of the generator, but also rounding, scaling, compression, or cropping of "
                "one set only. Look at the samples that the classifier recognises most easily: rows "
                f"{listed([str(row) for row in easiest])}."
            )
        elif max(score.interval[1] for score in scores.values()) > TOLD_MARGIN:
            verdict = Verdict.INCONCLUSIVE
            meaning = (
                f"{what} {n} samples do not tell whether both lie below {TOLD_MARGIN:.0%}: an interval goes further "
                "up. Draw more samples."
            )
        else:
            verdict = Verdict.CLEAR
            sure = "is certain, but small" if exact < ANY_DIFFERENCE else "is compatible with none"
            meaning = (
                f"{what} The difference {sure}: flagged would be more than {TOLD_MARGIN:.0%}, with confidence. What "
                "these features or this classifier do not resolve goes unnoticed, such as a rare mode that is lost or "
                "a fine artefact; and copies of training data look like held-out ones."
            )
        return Finding(
            name="two-sample",
            question="Can the samples be told from held-out data?",
            quantity=quantity,
            estimate=seen,
            null=0.5,
            p_value=p_value,
            verdict=verdict,
            meaning=meaning,
            evidence={
                "margin": TOLD_MARGIN,
                "exact_p_value": exact,
                "classifier": found.classifier,
                "neighbors": found.neighbors,
                "easiest": easiest.tolist(),
                "looked_at": n,
                "shown_to_classifier": min(n, _LARGEST),
            },
        )

    return Case(p_value, conclude)


def _tail(score: Estimate) -> float:
    """P(so high | at the margin)."""
    spread = (score.value - score.interval[0]) / Z95
    if spread > 0:
        return float(ndtr((TOLD_MARGIN - score.value) / spread))
    return float(score.value <= TOLD_MARGIN)


def _untold(n: int) -> Finding:
    return Finding(
        name="two-sample",
        question="Can the samples be told from held-out data?",
        quantity=_AUC,
        estimate=Estimate(0.5, 0.5, method="too few samples"),
        null=0.5,
        p_value=None,
        verdict=Verdict.INCONCLUSIVE,
        meaning=f"{n} samples are too few to train a classifier. Draw more samples.",
    )
