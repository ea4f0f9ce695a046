"""Stacked digits: planted losses among a thousand modes, and a classifier whose errors would hide them."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from divergences import InputError
from evaluation.stacked import stack_images, stacked_modes

# Digits are stood for by images of one pixel: what is tested is the counting, and the classifier is known.
PIXELS = np.repeat(np.arange(10), 1000)[:, None, None] / 10.0
LABELS = np.repeat(np.arange(10), 1000)


def exact(images):
    return np.rint(images[:, 0, 0] * 10).astype(int)


def stacked(codes):
    return (codes / 10.0)[:, None, None, :]


def test_perfect_generator_and_published_numbers():
    found = stacked_modes(
        generated=stacked(np.random.default_rng(0).integers(0, 10, (26_000, 3))),
        train=PIXELS,
        labels=LABELS,
        classifier=exact,
        rng=np.random.default_rng(1),
    )
    assert (found.captured, found.confirmed, found.total, found.missing) == (1000, 1000, 1000, ())
    assert found.noise_floor == pytest.approx(0.0193, abs=1e-4)
    assert found.reverse_kl.agrees(0.0)
    assert found.reverse_kl.raw == pytest.approx(0.0193, abs=0.003)
    assert found.captured_null == pytest.approx(1000.0, abs=1e-6)
    assert found.accuracy.value == 1.0
    few = stacked_modes(
        generated=stacked(np.random.default_rng(2).integers(0, 10, (1000, 3))),
        train=PIXELS,
        labels=LABELS,
        classifier=exact,
        rng=np.random.default_rng(1),
    )
    assert few.captured_null == pytest.approx(1000 * (1 - 0.999**1000))
    # Standard deviation of the number of modes hit by 1000 draws: about 10.
    assert abs(few.captured - few.captured_null) < 40
    assert few.missing == ()


def test_modes_that_only_the_classifier_draws():
    """500 of 1000 modes are drawn; a classifier that errs on 3 % of channels 'captures' many others."""
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 10, (26_000, 3))
    codes[:, 0] = codes[:, 0] // 2

    def sloppy(images):
        answers = exact(images)
        noise = np.random.default_rng(4)
        return np.where(noise.random(len(answers)) < 0.03, noise.integers(0, 10, len(answers)), answers)

    found = stacked_modes(generated=stacked(codes), train=PIXELS, labels=LABELS, classifier=sloppy, rng=rng)
    assert found.captured > 700
    assert found.confirmed == pytest.approx(500, abs=25)
    assert {mode[0] for mode in found.missing} == {5, 6, 7, 8, 9}
    # A mode with two or more wrong images passes for a starved one that was lucky: too few to say.
    assert len(found.missing) > 200
    assert found.reverse_kl.value == pytest.approx(np.log(2), abs=0.15)
    assert found.accuracy.agrees(0.973)
    strict = stacked_modes(
        generated=stacked(codes), train=PIXELS, labels=LABELS, classifier=sloppy, rng=rng, minimum_hits=10
    )
    assert strict.captured == pytest.approx(500, abs=5)


def test_digits_with_the_built_in_classifier():
    digits = load_digits()
    order = np.random.default_rng(5).permutation(len(digits.target))
    train, rest = order[:600], order[600:]
    images, codes = stack_images(digits.images[rest], digits.target[rest], 800, np.random.default_rng(6))
    keep = codes[:, 2] != 4
    found = stacked_modes(
        generated=images[keep], train=digits.images[train], labels=digits.target[train], rng=np.random.default_rng(7)
    )
    assert np.mean((found.answers == codes[keep]).all(axis=1)) > 0.9
    assert found.counts[:, :, 4].sum() < 0.02 * found.n
    assert "held-out folds" in found.rule
    assert found.reverse_kl.agrees(np.log(10 / 9))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"generated": np.ones((5, 1, 1))}, "generated="),
        ({"generated": np.ones((5, 2, 1, 3))}, "generated="),
        ({"generated": np.full((5, 1, 1, 3), np.nan)}, "generated=.*NaN"),
        ({"train": np.ones((5, 1))}, "train="),
        ({"labels": LABELS[:5]}, "labels="),
        ({"classifier": lambda images: images}, "classifier="),
        ({"classifier": lambda: 1}, "classifier="),
        ({"minimum_hits": 0}, "minimum_hits="),
        ({"alpha": 0.0}, "alpha="),
    ],
)
def test_bad_input(arguments, word):
    good = {"generated": np.zeros((5, 1, 1, 3)), "train": PIXELS, "labels": LABELS, "classifier": exact}
    with pytest.raises(InputError, match=word):
        stacked_modes(rng=np.random.default_rng(0), **(good | arguments))
