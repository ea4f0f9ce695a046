r"""Stacked digits: a thousand modes whose truth is known, for generators of colour images.

Three greyscale digits, drawn independently, are stacked as the channels of one image; the mode is the triple of their
classes, and there are K³ = 1000. The published protocol draws 26 000 images, lets a classifier name each channel,
counts a mode as captured by at least one image, and reports KL(histogram ‖ uniform) in nats.

Both numbers depend on n and on the classifier, which nobody states:

* a perfect generator scores KL > 0, its *floor*: about (K³−1)/(2n) = 0.019 at 26 000, plus what the digits' own
  frequencies and the classifier's confusion C do to the uniform law. It is computed exactly for the law (f·C)⊗³ that a
  generator with train's frequencies f shows through this classifier, and subtracted; the published number is ``raw``;
* a classifier that errs on 2 % of the channels puts 6 % of the images into wrong modes: 1500 of 26 000, enough to
  "capture" hundreds of modes that are never drawn. ``captured`` is the published count; ``confirmed`` are the modes
  with more images than such errors explain: with corrected shares π (EM through C⊗³) and the leak ℓ_m = (π·C⊗³)_m − π_m
  (C⊗³)_mm of all other modes into m, P(X ≥ hits | n, ℓ_m) at a false-discovery rate of ``alpha`` (Benjamini-Hochberg);
* ``missing`` are modes whose images are too few for half of the fair share (exact binomial, Holm over all).

C is measured, and its entries have errors of their own, which these tests do not carry: with 1000 labelled digits per
class they matter little.

References:
    VEEGAN: reducing mode collapse in GANs using implicit variational learning (Srivastava et al., 2017),
    https://arxiv.org/abs/1705.07761. PacGAN: the power of two samples in generative adversarial networks (Lin et al.,
    2018), https://arxiv.org/abs/1712.04086. Unrolled generative adversarial networks (Metz et al., 2017),
    https://arxiv.org/abs/1611.02163.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from divergences import Estimate, InputError
from divergences.checks import ArrayLike, as_array, as_count, as_generator, as_number, describe_rows
from evaluation.histograms import expected_total, histogram_scores
from evaluation.intervals import benjamini_hochberg, binomial_test, clopper_pearson, holm
from evaluation.recognition import as_labels, ask, recognise

__all__ = ["StackedModes", "stack_images", "stacked_modes"]

_MARGIN = 0.5
_EM_STEPS = 300


@dataclass(frozen=True)
class StackedModes:
    """The score of a generator of stacked digits.

    Attributes:
        captured: modes with at least ``minimum_hits`` images: the published count, of ``total``.
        total: K³.
        captured_null: the count that a perfect generator has on average at this n, through this classifier.
        confirmed: modes with more images than the classifier's errors explain, false-discovery rate ``alpha``.
        missing: modes with significantly less than half of their fair share, family-wise error ``alpha``.
        reverse_kl: KL(histogram ‖ uniform) in nats, minus ``noise_floor``; ``raw`` is the published number.
        noise_floor: a perfect generator's plain number on average, through this classifier.
        jsd: of the histogram and the uniform law, minus its own floor.
        accuracy: of the classifier on a single digit, exact 95 % interval.
        confusion: row i: how it answers to digits of class i, shape (K, K).
        classes: the labels, sorted.
        counts: images per mode, shape (K, K, K).
        answers: the mode of each image, as indices of ``classes``, shape (n, 3).
        n: generated images.
        rule: how all this was counted, in a sentence.
    """

    captured: int
    total: int
    captured_null: float
    confirmed: int
    missing: tuple[tuple[Any, Any, Any], ...]
    reverse_kl: Estimate
    noise_floor: float
    jsd: Estimate
    accuracy: Estimate
    confusion: Float64[np.ndarray, "k k"]
    classes: tuple[Any, ...]
    counts: Int64[np.ndarray, "k k k"]
    answers: Int64[np.ndarray, "n 3"]
    n: int
    rule: str


def stack_images(
    images: ArrayLike, labels: ArrayLike, n: int, rng: np.random.Generator
) -> tuple[Float64[np.ndarray, "n h w 3"], Int64[np.ndarray, "n 3"]]:
    """Draw stacked images: three independent ones of ``images`` as the channels of each.

    Args:
        images: greyscale, shape (m, h, w).
        labels: whole numbers, shape (m,).
        n: how many.
        rng: draws them.

    Returns:
        Images (n, h, w, 3), and the three labels of each, (n, 3).

    >>> x, y = stack_images(np.arange(4.0).reshape(2, 1, 2), [7, 8], 5, np.random.default_rng(0))
    >>> x.shape, bool((x[:, 0, 0] == 2.0 * (y - 7)).all())
    ((5, 1, 2, 3), True)
    """
    greys = _greys(images, "images")
    names = np.asarray(labels)
    if names.shape != (len(greys),) or names.dtype.kind not in "biu":
        raise InputError(f"labels must be {len(greys)} whole numbers, one per image; it has shape {names.shape}.")
    chosen = as_generator(rng).integers(0, len(greys), (as_count(n, "n"), 3))
    return np.moveaxis(greys[chosen], 1, -1), names[chosen].astype(np.int64)


def stacked_modes(
    *,
    generated: ArrayLike,
    train: ArrayLike,
    labels: ArrayLike,
    rng: np.random.Generator,
    classifier: Callable[[np.ndarray], Any] | None = None,
    minimum_hits: int = 1,
    alpha: float = 0.05,
) -> StackedModes:
    """Count the modes that a generator of stacked digits reaches, with its classifier's errors allowed for.

    Args:
        generated: images, shape (n, h, w, 3).
        train: single digits, shape (m, h, w), on the same scale.
        labels: of train, shape (m,).
        rng: cuts the folds on which the built-in classifier is judged.
        classifier: a function (images (k, h, w)) -> labels (k,); its confusion is measured on train=, which it should
            not have been trained on. None: a support-vector machine on pixels, judged on held-out folds.
        minimum_hits: images that make a mode captured; 1 is the published rule.
        alpha: false-discovery rate of ``confirmed``, family-wise error rate of ``missing``.

    Returns:
        Counts and distances, each beside what a perfect generator would score; see ``StackedModes``.

    Raises:
        InputError: images of another shape, NaN, labels that do not go with train, or a classifier that fails.
    """
    digits = _greys(train, "train=")
    images = as_array(generated, "generated=")
    if images.ndim != 4 or images.shape[3] != 3 or len(images) == 0 or images.shape[1:3] != digits.shape[1:]:
        raise InputError(
            f"generated= must hold images of shape (n, {digits.shape[1]}, {digits.shape[2]}, 3), three channels of the "
            f"size of train=; it has shape {images.shape}."
        )
    _finite(images, "generated=")
    least, alpha = as_count(minimum_hits, "minimum_hits="), as_number(alpha, "alpha=", above=0.0, below=1.0)
    classes, index = as_labels(labels, len(digits))
    channels = np.moveaxis(images, -1, 1).reshape(-1, *digits.shape[1:])
    size, n = len(classes), len(images)
    if classifier is None:
        flat = digits.reshape(len(digits), -1)
        confused, said = recognise(flat, index, channels.reshape(len(channels), -1), as_generator(rng, "rng="))
    else:
        said = ask(classifier, channels, classes, "the channels of generated=")
        confused = np.zeros((size, size), dtype=np.int64)
        np.add.at(confused, (index, ask(classifier, digits, classes, "train=")), 1)
    answers = said.reshape(n, 3)
    counts = np.zeros((size,) * 3, dtype=np.int64)
    np.add.at(counts, tuple(answers.T), 1)
    confusion = confused / confused.sum(axis=1, keepdims=True)
    frequencies = np.bincount(index) / len(index)
    perfect = _outer(frequencies @ confusion)
    uniform = np.full(size**3, 1 / size**3)
    scores = histogram_scores(counts.ravel(), uniform, perfect.ravel())
    fewer = _p_too_few(counts, confusion, _outer(frequencies))
    lost = np.argwhere(holm(fewer.ravel()).reshape(counts.shape) < alpha)
    accuracy = clopper_pearson(int(np.trace(confused)), int(confused.sum()))
    return StackedModes(
        captured=int((counts >= least).sum()),
        total=size**3,
        captured_null=expected_total(n, perfect.ravel(), uniform, lambda h, _: (h * n >= least - 0.5) * 1.0),
        confirmed=int((benjamini_hochberg(_p_by_error(counts, confused).ravel()) < alpha).sum()),
        missing=tuple((classes[a], classes[b], classes[c]) for a, b, c in lost),
        reverse_kl=scores.reverse_kl,
        noise_floor=scores.reverse_floor,
        jsd=scores.jsd,
        accuracy=accuracy,
        confusion=confusion,
        classes=classes,
        counts=counts,
        answers=answers,
        n=n,
        rule=(
            f"a mode is captured by at least {least} of {n} images; each channel is named by a classifier that is "
            f"right on {accuracy.value:.2%} of labelled digits ("
            + ("held-out folds)" if classifier is None else "train, which it should not have seen)")
        ),
    )


def _greys(images: Any, name: str) -> Float64[np.ndarray, "m h w"]:
    array = as_array(images, name)
    if array.ndim != 3 or array.size == 0:
        raise InputError(f"{name} must hold greyscale images of shape (m, h, w); it has shape {array.shape}.")
    _finite(array, name)
    return array


def _finite(images: np.ndarray, name: str) -> None:
    finite = np.isfinite(images).reshape(len(images), -1).all(axis=1)
    if not finite.all():
        raise InputError(f"{name} holds NaN or infinite values in {describe_rows(~finite)}. Drop these images.")


def _outer(shares: np.ndarray) -> Float64[np.ndarray, "k k k"]:
    return np.einsum("a,b,c->abc", shares, shares, shares)


def _through(shares: np.ndarray, confusion: np.ndarray) -> Float64[np.ndarray, "k k k"]:
    """Shares of answers, where each channel is confused by itself: shares·C⊗³."""
    for axis in range(3):
        shares = np.moveaxis(np.tensordot(shares, confusion, axes=(axis, 0)), -1, axis)
    return shares


def _leaks(shares: np.ndarray, confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much of all other modes is taken for each mode, and the share of each that is recognised."""
    kept = _outer(np.diag(confusion))
    return np.maximum(_through(shares, confusion) - shares * kept, 0.0), kept


def _p_by_error(counts: np.ndarray, confused: np.ndarray) -> Float64[np.ndarray, "k k k"]:
    """P(as many images or more), if the mode is never drawn and the others are confused with it."""
    # An error not seen among the examples is not taken for impossible.
    smooth = (confused + 0.5 / len(confused)) / (confused.sum(axis=1, keepdims=True) + 0.5)
    n = int(counts.sum())
    answers = counts / n
    shares = np.full(counts.shape, 1 / counts.size)
    for _ in range(_EM_STEPS):
        expected = _through(shares, smooth)
        shares = shares * _through(np.divide(answers, expected), smooth.T)
        shares = shares / shares.sum()
    leak, _ = _leaks(shares, smooth)
    return binomial_test(counts.ravel(), n, np.minimum(leak.ravel(), 1.0), side="greater").reshape(counts.shape)


def _p_too_few(counts: np.ndarray, confusion: np.ndarray, fair: np.ndarray) -> Float64[np.ndarray, "k k k"]:
    """P(as few images or fewer), if the mode had half of its fair share; what leaks in is not counted, for caution."""
    rate = _MARGIN * fair * _outer(np.diag(confusion))
    return binomial_test(counts.ravel(), int(counts.sum()), rate.ravel(), side="less").reshape(counts.shape)
