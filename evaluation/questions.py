r"""The questions of an audit: what each asks, when it is flagged, and what the answer means.

The hypotheses leave room for generators that are good and not perfect; the margins are stated in every report.

* *mode loss*: no mode is left out that a perfect generator would have hit, and each captured mode has at least half its
  fair share of the high-quality samples. p = 2·min over modes of the Holm-adjusted exact binomial p-values; the 2 pays
  for two families of tests.
* *fidelity*: the high-quality share is at least 0.75 of a perfect generator's. Exact binomial p; flagged only if the
  upper confidence bound lies below the margin as well.
* *class loss*: each class has at least half its share in train. p is the least of the Holm-adjusted ones.
* *distribution* (``evaluation.distance_question``): the debiased Fréchet distance to train is at most a tenth of the
  total variance of train's features. Normal p, from the distance's own standard error; flagged only if the lower
  confidence bound lies above the margin as well. A difference that is certain but smaller is reported, not flagged.
* *memorization* (``evaluation.copy_question``) is calibrated by itself, at its own false-alarm rate, and does not join
  the others in Holm's procedure.

With fewer than ten generated samples nothing is tested, and what cannot be tested is inconclusive. So is a mode or
class whose complete loss this n would not have shown; and a number that is not flagged while its 95 % interval reaches
beyond the margin it is held against. Modes and classes are many, and the worst of many intervals reaches far by chance:
there it is the number itself that must not lie beyond the margin. None of this changes what is flagged.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from divergences.estimate import Estimate
from evaluation.detection import class_detection, mode_detection
from evaluation.examples import class_examples, mode_examples
from evaluation.findings import Case, Finding, detection_record, listed, printable, short
from evaluation.intervals import binomial_test, holm
from evaluation.labelled import LabelledModes
from evaluation.modes import ModeCoverage, quality_words
from evaluation.verdict import Verdict

__all__ = ["class_loss", "fidelity", "mode_loss"]

FEWEST = 10
SHARE_MARGIN = 0.5
FIDELITY_MARGIN = 0.25
# Detection tables are made for this many times the samples there are.
SIZES = (1, 3, 10)


def mode_loss(
    found: ModeCoverage, *, level: float = 0.05, train: Float64[np.ndarray, "m d"] | None = None, modes: Any = None
) -> Case:
    """Which known modes are missing or starved; ``level`` is what Holm's procedure grants this question at least.

    With ``train`` and ``modes``, in the coordinates of the samples, real examples of what is lost are shown.
    """
    hits = np.array([record.hits for record in found.per_mode])
    fair = np.array([record.expected for record in found.per_mode]) / found.n
    reached = hits > 0
    absent = holm(binomial_test(hits, found.n, np.minimum(fair, 1.0), side="less"))
    starving = holm(binomial_test(hits, int(found.inside.sum()), np.minimum(SHARE_MARGIN * fair, 1.0), side="less"))
    p_values = np.minimum(2 * np.where(reached, starving, absent), 1.0)
    names = [f"{record.index} at {_place(record.mean)}" for record in found.per_mode]
    # Half the level for each of the two families of tests.
    missed = mode_detection(
        weights=[record.weight for record in found.per_mode], rates=fair, inside=int(found.inside.sum()), n=found.n,
        sizes=[found.n * times for times in SIZES], margin=SHARE_MARGIN, level=level / 2,
    )  # fmt: skip

    def conclude(granted: float) -> Finding:
        lost = p_values < granted
        states = np.select([lost & ~reached, lost, ~reached], ["missing", "starved", "undecided"], "reached")
        blind = all(math.isinf(row.loss) for row in missed if row.n == found.n)
        short_of = np.flatnonzero(lost).tolist()
        examples = {} if train is None else mode_examples(train, modes, short_of)
        verdict, meaning = _mode_answer(found, states, names, granted, blind=blind)
        strange = [names[index] for index in short_of if examples and not examples[index]["examples"]]
        if strange:
            meaning += f" Train itself has no sample of {listed(strange)}: is the modes file that of these data?"
        unsure = int((states == "undecided").sum())
        return Finding(
            name="mode loss",
            question="Does the generator reach every known mode, and give each its share?",
            quantity=f"modes reached, of {found.total}",
            estimate=Estimate(
                float(reached.sum()),
                float(unsure),
                method="modes with a high-quality sample; the upper end adds those too rare to judge at this n",
                n=found.n,
                bounds=(float(reached.sum()), float(reached.sum()) + unsure),
            ),
            null=float(np.sum(1 - (1 - np.minimum(fair, 1.0)) ** found.n)),
            p_value=float(p_values.min()),
            verdict=verdict,
            meaning=meaning,
            evidence={
                "missing": np.flatnonzero(states == "missing").tolist(),
                "starved": np.flatnonzero(states == "starved").tolist(),
                "undecided": np.flatnonzero(states == "undecided").tolist(),
                "rule": found.rule,
                "minimum_hits": found.minimum_hits,
                "reverse_kl": found.reverse_kl,
                "noise_floor": found.noise_floor,
                "forward_kl": found.forward_kl,
                "forward_floor": found.forward_floor,
                "jsd": found.jsd,
                "jsd_floor": found.jsd_floor,
                "empty_chance": found.empty_chance,
                "power": found.power_note,
                "detection": detection_record("mode", missed, level=level),
                "per_mode": [
                    {
                        "name": str(record.index),
                        "mean": list(record.mean),
                        "weight": record.weight,
                        "hits": record.hits,
                        "expected": record.expected,
                        "share": record.share,
                        "fair": record.expected / found.n,
                        "p_adjusted": record.p_adjusted,
                        "status": str(state),
                    }
                    | examples.get(record.index, {})
                    for record, state in zip(found.per_mode, states, strict=True)
                ],
            },
        )

    return Case(float(p_values.min()) if found.n >= FEWEST else None, conclude)


def _mode_answer(
    found: ModeCoverage, states: np.ndarray, names: list[str], level: float, *, blind: bool
) -> tuple[Verdict, str]:
    def called(state: str) -> str:
        picked = [name for name, own in zip(names, states, strict=True) if own == state]
        return f"mode{'s' if len(picked) > 1 else ''} {listed(picked)}" if picked else ""

    told = [
        f"{verb} {called(state)}" for verb, state in (("misses", "missing"), ("starves", "starved")) if called(state)
    ]
    if told:
        return Verdict.FLAGGED, (
            f"The generator {' and '.join(told)}. A perfect generator would do this with a chance below {level:.2g}. "
            "Samples that fall there but are of low quality would look the same: compare the fidelity finding. So "
            "would a modes file with modes that train does not have. If the modes are real, train longer, with a "
            "gradient penalty or larger batches, and compare seeds."
        )
    unsure = int((states == "undecided").sum())
    if unsure or found.n < FEWEST:
        return Verdict.INCONCLUSIVE, (
            f"{unsure or 'None'} of {found.total} modes got no high-quality sample, but {found.n} samples are too few "
            f"to judge: {found.power_note}. Draw more samples."
        )
    if blind:
        return Verdict.INCONCLUSIVE, (
            f"Every mode is reached, but {found.n} samples would not show that one of them is starved. Draw more."
        )
    return Verdict.CLEAR, (
        f"Every mode is reached, and none is significantly below {SHARE_MARGIN:g} of its fair share. Smaller losses "
        "would go unnoticed: the last table says which."
    )


def fidelity(found: ModeCoverage) -> Case:
    """Whether enough samples are of high quality."""
    null = found.high_quality_null
    margin = (1 - FIDELITY_MARGIN) * null
    p_value = float(binomial_test([int(found.inside.sum())], found.n, margin, side="less")[0])

    def conclude(level: float) -> Finding:
        lower, upper = found.high_quality.interval
        dim = len(found.per_mode[0].mean)
        inner = ", or nearer to a mean than samples of its mode are" if dim > 3 else ""
        what = f"High quality is {quality_words(dim)}; of a perfect generator's samples {null:.2%} are."
        if p_value < level and upper < margin:
            verdict = Verdict.FLAGGED
            meaning = (
                f"{what} Here it is certainly less than {1 - FIDELITY_MARGIN:g} of that, {margin:.3g}: many samples "
                f"lie between the modes{inner}. A network that bridges them, too short a training, or noise added to "
                "the samples would explain it; so would covariances in the modes file that are too small. Look at "
                "where these samples lie; train longer, or give the generator a latent law with as many peaks."
            )
        elif found.n < FEWEST or lower < margin:
            verdict = Verdict.INCONCLUSIVE
            meaning = (
                f"{what} {found.n} samples do not tell whether the share lies above {margin:.3g}: the interval goes "
                "further down. Draw more samples."
            )
        else:
            verdict = Verdict.CLEAR
            sure = "is certain, but small" if upper < null else "is compatible with none"
            meaning = (
                f"{what} The shortfall {sure}: flagged would be a share below {1 - FIDELITY_MARGIN:g} of that, "
                f"{margin:.3g}, with confidence. This finding does not see whether modes are lost, nor whether the "
                "samples are copies: a generator that repeats one good sample has full fidelity, and so has any if the "
                "covariances in the modes file are too large."
            )
        return Finding(
            name="fidelity",
            question="Do the samples lie where the target has its mass?",
            quantity="share of high-quality samples",
            estimate=found.high_quality,
            null=null,
            p_value=p_value,
            verdict=verdict,
            meaning=meaning,
            evidence={"margin": margin, "hits": int(found.inside.sum())},
        )

    return Case(p_value if found.n >= FEWEST else None, conclude)


def class_loss(
    found: LabelledModes,
    *,
    level: float = 0.05,
    train: np.ndarray | None = None,
    classes: Int64[np.ndarray, " m"] | None = None,
) -> Case:
    """Which labelled classes are missing; ``level`` is what Holm's procedure grants this question at least.

    With ``train``, points or images, and the index of the class of each, real examples of what is lost are shown.
    """
    adjusted = np.array([record.p_adjusted for record in found.per_class])
    names = [printable(record.label) for record in found.per_class]
    total = len(names)
    missed = class_detection(
        shares=[record.fair for record in found.per_class], recalls=found.recalls, leaks=found.leaks,
        sizes=[found.n * times for times in SIZES], margin=SHARE_MARGIN, level=level,
    )  # fmt: skip

    def conclude(granted: float) -> Finding:
        lost = adjusted < granted
        missing = [name for name, gone in zip(names, lost, strict=True) if gone]
        # What this level does not reject, and what this n could not have rejected, stays open.
        open_ = [name for name in map(printable, found.undecided) if name not in missing]
        gone = np.flatnonzero(lost).tolist()
        examples = {} if train is None or classes is None else class_examples(train, classes, gone)
        verdict, meaning = _class_answer(found, missing, open_)
        kept = total - len(missing)
        return Finding(
            name="class loss",
            question="Does the generator draw every class of the training labels?",
            quantity=f"classes drawn, of {total}",
            estimate=Estimate(
                float(kept),
                float(len(open_)),
                method="classes not shown to be short; the lower end leaves out those too rare to judge at this n",
                n=found.n,
                bounds=(float(kept - len(open_)), float(kept)),
            ),
            null=float(total),
            p_value=float(adjusted.min()),
            verdict=verdict,
            meaning=meaning,
            evidence={
                "missing": missing,
                "undecided": open_,
                "judge": found.judge,
                "face_value": found.face_value,
                "accuracy": found.accuracy,
                "confusion": found.confusion,
                "assigned": found.assigned,
                "power": found.power_note,
                "detection": detection_record(
                    "class", [row for _, row in missed], level=level, names=[names[index] for index, _ in missed]
                ),
                "per_class": [
                    {
                        "name": name,
                        "count": record.raw_count,
                        "share": record.share,
                        "fair": record.fair,
                        "recall": record.recall,
                        "p_adjusted": record.p_adjusted,
                        "status": "missing" if own else "undecided" if name in open_ else "drawn",
                    }
                    | examples.get(index, {})
                    for index, (name, record, own) in enumerate(zip(names, found.per_class, lost, strict=True))
                ],
            },
        )

    return Case(float(adjusted.min()) if found.n >= FEWEST else None, conclude)


def _class_answer(found: LabelledModes, missing: list[str], open_: list[str]) -> tuple[Verdict, str]:
    sight = found.sight
    if missing:
        return Verdict.FLAGGED, (
            f"Class{'es' if len(missing) > 1 else ''} {listed(missing)} got less than {SHARE_MARGIN:g} of the share "
            f"that train gives {'them' if len(missing) > 1 else 'it'}"
            f"{'' if found.face_value else ', confusions allowed for'} ({sight}). Samples so distorted that they pass "
            "for another class would give the same picture: look at them. If the loss is real, look for classes that "
            "are rare in train or were learned late, and compare seeds."
        )
    if open_ or found.n < FEWEST:
        return Verdict.INCONCLUSIVE, (
            f"No class is shown to be lost, but {found.n} samples would not have shown the complete loss of "
            f"{listed(open_) or 'one'}: {found.power_note}. Draw more samples."
        )
    return Verdict.CLEAR, (
        f"Every class is drawn, none with significantly less than {SHARE_MARGIN:g} of its share in train ({sight}). "
        "Smaller losses would go unnoticed: the last table says which."
    )


def _place(mean: tuple[float, ...]) -> str:
    shown = ", ".join(short(float(f"{coordinate:.3g}")) for coordinate in mean[:3])
    return f"({shown}{', …' if len(mean) > 3 else ''})"
