r"""The question whether training data are handed out, and what the answer means.

It is calibrated by itself: a perfect generator is flagged with a chance of at most the level given
(``evaluation.memorization``), whatever the other questions find. With fewer than ten samples nobody is cleared.
"""

from __future__ import annotations

from evaluation.findings import Finding
from evaluation.memorization import Memorization
from evaluation.questions import FEWEST
from evaluation.verdict import Verdict

__all__ = ["DISCOVERY_RATES", "copying"]

# False-discovery rates at which suspected copies are counted.
DISCOVERY_RATES = (0.01, 0.05, 0.1)


def copying(found: Memorization, *, same: bool, views: str | None = None) -> Finding:
    """Whether training data are handed out.

    Args:
        found: what was measured.
        same: generated= is train= itself, or rows of it.
        views: the shifts and mirror images that were looked through, in words; None if none.
    """
    rate = f"a perfect generator is flagged with a chance of at most {found.false_alarm:g}"
    n, verdict = len(found.scores), found.verdict
    note = found.note[:1].upper() + found.note[1:]
    if verdict is Verdict.CLEAR and n < FEWEST:
        verdict, note = (
            Verdict.INCONCLUSIVE,
            f"{n} samples are too few to clear a generator of copying. Draw more samples",
        )
    if verdict is Verdict.FLAGGED:
        meaning = (
            f"{note} ({rate}). "
            + ("Every sample is a training sample: was the training file passed as the generated one? " if same else "")
            + "Look at the pairs below: a copy resembles its training sample and not the held-out one. Near-duplicates "
            "within the data, some in train and some among the held-out, weaken this test; a held-out set drawn from "
            "elsewhere than train would make any generator look like a copier. If the pairs are copies, train on more "
            "data, for a shorter time, or with augmentation."
        )
    elif verdict is Verdict.CLEAR:
        meaning = (
            f"{note} ({rate}). Not seen: copies changed by more than the spacing of "
            "the data, and copies up to a symmetry "
            + (
                "that the features do not know, such as mirrored images."
                if views is None
                else f"other than those looked through ({views})."
            )
        )
    else:
        meaning = f"{note}."
        if len(found.null_scores) == 0:
            meaning += (
                " Keep some data aside before training and pass them as held-out data: copying shows only beside data "
                "that the generator has never seen."
            )
    return Finding(
        name="memorization",
        question="Does the generator hand out its training data?",
        quantity="share of samples that are copies",
        estimate=found.copy_share,
        null=0.0,
        p_value=found.p_value if len(found.null_scores) else None,
        verdict=verdict,
        meaning=meaning,
        evidence={
            "false_alarm": found.false_alarm,
            "views": views,
            "sensitivity": found.sensitivity,
            "exact_copies": found.exact_copies,
            "leaked": found.leaked,
            "suspect_count": len(found.suspects),
            "discoveries": {f"{share:g}": int((found.q_values <= share).sum()) for share in DISCOVERY_RATES},
            "least_q_value": float(found.q_values.min()),
            "visited_train": found.visited_train,
            "visited_test": found.visited_test,
            "false_suspects": found.false_suspects,
            "suspects": [
                {
                    "generated": suspect.generated,
                    "train": suspect.train,
                    "distance": suspect.distance,
                    "score": suspect.score,
                    "p_value": suspect.p_value,
                    "q_value": suspect.q_value,
                    "nearest_test": suspect.nearest_test,
                    "test_distance": suspect.test_distance,
                }
                for suspect in found.suspects
            ],
            "scores": found.scores,
            "null_scores": found.null_scores,
            "distances": found.distances,
            "null_distances": found.null_distances,
            "nearest_train": found.nearest_train,
            "nearest_test": found.nearest_test,
            "q_values": found.q_values,
        },
    )
