r"""The question of mode loss for images that are stacks of three labelled ones: a thousand modes, and unions of them.

The classes of the channels are named by a classifier trained on single labelled digits, whose confusion on held-out
folds is allowed for (``evaluation.stacked``). If every mode has at least half of its fair share, so has every union of
modes. Tested are, by exact binomial tests and Holm over all of them,

* each of the K³ modes;
* each pair of classes in two channels, whatever the third: 3K² unions of K modes;
* each class in one channel: 3K unions of K² modes,

since a generator that never draws a seven in the first channel shows it in the union long before any single mode has
expected enough images. Only images that are recognised are expected, and all that are seen count: errors of the
classifier make the tests more cautious. The published count of captured modes and the published divergence stand beside
the answer, each with what a perfect generator scores through this classifier. With so few images that not even the
complete loss of a single mode would be found, nobody is cleared.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from divergences.checks import ArrayLike, as_array
from divergences.errors import InputError
from divergences.estimate import Estimate
from evaluation.detection import DetectionRow, one_loss
from evaluation.findings import Case, Finding, detection_record, listed, number, printable
from evaluation.intervals import binomial_test, holm
from evaluation.questions import FEWEST, SHARE_MARGIN, SIZES
from evaluation.stacked import StackedModes, stacked_modes
from evaluation.verdict import Verdict

__all__ = ["StackedDigits", "stacked_loss"]

_CHANNELS = 3
# What stands for the channels that a union leaves open.
_ANY = "·"


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

    def example(self, classes: tuple[Any, ...]) -> Float64[np.ndarray, "h w 3"]:
        """A real image of a mode: the first digit of each class, stacked."""
        names = np.asarray(self.labels)
        rows = [int(np.flatnonzero(names == name)[0]) for name in classes]
        return np.stack([np.asarray(self.images[row], dtype=np.float64) for row in rows], axis=-1)


@dataclass(frozen=True)
class _Union:
    """Modes that share the classes of some channels; a single mode shares all three."""

    name: str
    classes: tuple[Any, ...]
    open: frozenset[int]
    hits: int
    expected: float
    p_adjusted: float


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
    unions = _unions(found, np.asarray(digits.labels))
    p_value = min(union.p_adjusted for union in unions)
    missed = _missed(found, level / len(unions))

    def conclude(granted: float) -> Finding:
        # A mode within a lost union is no news.
        lost: list[_Union] = []
        for union in unions:
            if union.p_adjusted < granted and not any(_within(union, other) for other in lost):
                lost.append(union)
        verdict, meaning = _answer(found, lost, missed)
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
                "missing": [union.name for union in lost],
                "confirmed": found.confirmed,
                "rule": found.rule,
                "reverse_kl": found.reverse_kl,
                "noise_floor": found.noise_floor,
                "jsd": found.jsd,
                "accuracy": found.accuracy,
                "confusion": found.confusion,
                "detection": detection_record(
                    "mode", [row for _, row in missed], level=level, names=[name for name, _ in missed]
                ),
                "lost": [
                    {
                        "name": union.name,
                        "classes": list(union.classes),
                        "modes": len(found.classes) ** len(union.open),
                        "hits": union.hits,
                        "expected": union.expected,
                        "p_adjusted": union.p_adjusted,
                    }
                    for union in lost
                ],
            },
        )

    return Case(p_value if found.n >= FEWEST else None, conclude)


def _unions(found: StackedModes, labels: np.ndarray) -> list[_Union]:
    """Classes of one channel, pairs of two, and modes, the largest first."""
    size = len(found.classes)
    shares = np.array([np.mean(labels == name) for name in found.classes])
    seen = np.einsum("a,b,c->abc", *[shares * np.diag(found.confusion)] * _CHANNELS)
    told: list[tuple[str, tuple[Any, ...], frozenset[int]]] = []
    hits, rates = [], []
    for kept in (k for count in (1, 2, 3) for k in itertools.combinations(range(_CHANNELS), count)):
        open_ = tuple(axis for axis in range(_CHANNELS) if axis not in kept)
        counted, expected = found.counts.sum(axis=open_), seen.sum(axis=open_)
        for place in np.ndindex(*[size] * len(kept)):
            own = dict(zip(kept, place, strict=True))
            name = "".join(printable(found.classes[own[k]]) if k in own else _ANY for k in range(_CHANNELS))
            # An open channel shows whatever comes first.
            example = tuple(found.classes[own.get(k, 0)] for k in range(_CHANNELS))
            told.append((name, example, frozenset(open_)))
            hits.append(int(counted[place]))
            rates.append(float(expected[place]))
    p_values = holm(binomial_test(hits, found.n, SHARE_MARGIN * np.array(rates), side="less"))
    return [
        _Union(*who, count, found.n * rate, float(p))
        for who, count, rate, p in zip(told, hits, rates, p_values, strict=True)
    ]


def _within(one: _Union, other: _Union) -> bool:
    closed = [k for k in range(_CHANNELS) if k not in other.open]
    return one.open < other.open and all(one.classes[k] == other.classes[k] for k in closed)


def _missed(found: StackedModes, level: float) -> list[tuple[str, DetectionRow]]:
    """What an average mode, pair and class must lose to be found; errors that leak into it are left aside."""
    size, right = len(found.classes), float(np.mean(np.diag(found.confusion))) ** _CHANNELS
    rows = []
    for name, share in (("a mode", size**-3.0), ("a pair", size**-2.0), ("a class", 1 / size)):
        for n in (found.n * times for times in SIZES):
            loss, power = one_loss(n, share * right, SHARE_MARGIN, level)
            rows.append((name, DetectionRow(n, share, n * share, loss, power)))
    return rows


def _answer(found: StackedModes, lost: list[_Union], missed: list[tuple[str, DetectionRow]]) -> tuple[Verdict, str]:
    how = (
        f"The classifier that names the channels is right on {found.accuracy.value:.1%} of held-out digits; its errors "
        f"alone put images into modes that are never drawn: {found.captured} modes have an image, and "
        f"{found.confirmed} have more than such errors explain."
    )
    if lost:
        return Verdict.FLAGGED, (
            f"Too few images for {SHARE_MARGIN:g} of the share due have {listed([union.name for union in lost])} (one "
            f"sign per channel; {_ANY} is any class). {how} Digits so distorted that they pass for others would look "
            "the same: look at the samples. If the loss is real, a discriminator that sees several samples at once, or "
            "a gradient penalty, is the usual cure; compare seeds."
        )
    if found.n < FEWEST or math.isinf(missed[0][1].loss):
        return Verdict.INCONCLUSIVE, (
            f"{found.n} images are too few to show even the complete loss of one mode of {found.total}. {how} Draw "
            "more: the published protocol draws 26 000."
        )
    return Verdict.CLEAR, (
        f"No mode, pair of classes or class has significantly less than {SHARE_MARGIN:g} of its share. {how} The "
        f"divergence of the histogram from the uniform law is {number(found.reverse_kl)} nats above its floor. Smaller "
        "losses would go unnoticed: the last table says which."
    )
