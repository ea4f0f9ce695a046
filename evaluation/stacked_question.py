r"""The question of mode loss for images that are stacks of three labelled ones: a thousand modes, each with a test.

The classes of the channels are named by a classifier trained on single labelled digits, whose confusion on held-out
folds is allowed for (``evaluation.stacked``). A mode is lost if its images are too few for half of its fair share:
exact binomial tests, Holm over all modes; p of the question is their least adjusted one. The published count of
captured modes and the published divergence stand beside it, each with what a perfect generator scores through this
classifier. With so few images that not even a complete loss would be found, the answer is inconclusive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from divergences.checks import ArrayLike, as_array
from divergences.errors import InputError
from divergences.estimate import Estimate
from evaluation.detection import DetectionRow, one_loss
from evaluation.findings import Case, Finding, detection_record, listed, number, printable
from evaluation.questions import FEWEST, SHARE_MARGIN, SIZES
from evaluation.stacked import StackedModes, stacked_modes
from evaluation.verdict import Verdict

__all__ = ["StackedDigits", "stacked_loss"]


@dataclass(frozen=True, eq=False)
class StackedDigits:
    """Single labelled images, three of which are the channels of each training image.

    Attributes:
        images: greyscale, shape (m, h, w), on the scale of the stacked ones.
        labels: of them, shape (m,).

    Raises:
        InputError: images that are not grey, or not one label each.
    """

    images: Any
    labels: Any

    def __post_init__(self) -> None:
        shape, count = np.shape(self.images), np.shape(self.labels)
        if len(shape) != 3 or count != shape[:1]:
            raise InputError(
                f"StackedDigits needs grey images of shape (m, h, w) and one label each; the images have shape {shape} "
                f"and the labels {count}."
            )

    def example(self, classes: tuple[Any, Any, Any]) -> Float64[np.ndarray, "h w 3"]:
        """A real image of a mode: the first digit of each class, stacked."""
        names = np.asarray(self.labels)
        rows = [int(np.flatnonzero(names == name)[0]) for name in classes]
        return np.stack([np.asarray(self.images[row], dtype=np.float64) for row in rows], axis=-1)


def stacked_loss(*, generated: ArrayLike, digits: StackedDigits, rng: np.random.Generator, level: float = 0.05) -> Case:
    """Which of the stacked modes are lost; ``level`` is what Holm's procedure grants this question at least.

    Args:
        generated: images, shape (n, h, w, 3).
        digits: single images with their labels.
        rng: cuts the folds on which the classifier is judged.
        level: as above.

    Raises:
        InputError: as ``stacked_modes``.
    """
    images = as_array(generated, "generated=")
    found = stacked_modes(generated=images, train=digits.images, labels=digits.labels, rng=rng, alpha=level)
    p_value = float(found.p_adjusted.min())
    missed = _missed(found, level)

    def conclude(granted: float) -> Finding:
        lost = np.argwhere(found.p_adjusted < granted)
        names = ["".join(printable(found.classes[k]) for k in mode) for mode in lost]
        verdict, meaning = _answer(found, names, missed)
        return Finding(
            name="mode loss",
            question="Does the generator reach every stack of three classes?",
            quantity=f"modes with an image, of {found.total}",
            estimate=Estimate(
                float(found.captured),
                0.0,
                method="images named by a classifier; published rule, its errors not allowed for",
                n=found.n,
            ),
            null=found.captured_null,
            p_value=p_value if found.n >= FEWEST else None,
            verdict=verdict,
            meaning=meaning,
            evidence={
                "stacked": True,
                "missing": names,
                "missing_classes": [[found.classes[k] for k in mode] for mode in lost.tolist()],
                "confirmed": found.confirmed,
                "rule": found.rule,
                "reverse_kl": found.reverse_kl,
                "noise_floor": found.noise_floor,
                "jsd": found.jsd,
                "accuracy": found.accuracy,
                "confusion": found.confusion,
                "detection": detection_record("mode", missed, level=level),
                "lost": [
                    {"name": name, "hits": int(found.counts[tuple(mode)]), "p_adjusted": _at(found.p_adjusted, mode)}
                    for name, mode in zip(names, lost, strict=True)
                ],
            },
        )

    return Case(p_value if found.n >= FEWEST else None, conclude)


def _at(values: Float64[np.ndarray, "k k k"], mode: Int64[np.ndarray, " 3"]) -> float:
    return float(values[tuple(mode)])


def _missed(found: StackedModes, level: float) -> list[DetectionRow]:
    """For the rarest mode, as it is recognised on average; errors that leak into it are left aside."""
    share = 1 / found.total
    seen = share * float(np.mean(np.diag(found.confusion))) ** 3
    rows = []
    for n in (found.n * times for times in SIZES):
        loss, power = one_loss(n, seen, SHARE_MARGIN, level / found.total)
        rows.append(DetectionRow(n, share, n * share, loss, power))
    return rows


def _answer(found: StackedModes, names: list[str], missed: list[DetectionRow]) -> tuple[Verdict, str]:
    how = (
        f"The classifier that names the channels is right on {found.accuracy.value:.1%} of held-out digits; its errors "
        f"alone put images into modes that are never drawn, so that {found.captured} modes have an image and "
        f"{found.confirmed} have more than such errors explain."
    )
    if names:
        return Verdict.FLAGGED, (
            f"{len(names)} of {found.total} modes have too few images for {SHARE_MARGIN:g} of their share: "
            f"{listed(names)}. {how} Digits so distorted that they pass for others would look the same: look at the "
            "samples. If the loss is real, a discriminator that sees several samples at once, or a gradient penalty, "
            "is the usual cure; compare seeds."
        )
    if found.n < FEWEST or math.isinf(missed[0].loss):
        return Verdict.INCONCLUSIVE, (
            f"{found.n} images are too few to show even the complete loss of one mode of {found.total}. {how} Draw "
            "more: the published protocol draws 26 000."
        )
    return Verdict.CLEAR, (
        f"No mode has significantly less than {SHARE_MARGIN:g} of its share. {how} The divergence of the histogram "
        f"from the uniform law is {number(found.reverse_kl)} nats above its floor. Smaller losses would go unnoticed: the "
        "table says which."
    )
