"""Differences of saving are found, and sets that were saved alike are left in peace."""

import io

import numpy as np
import pytest
from PIL import Image

from evaluation import Samples, compare_sources
from evaluation.sources import _steps

RNG = np.random.default_rng(0)


def photos(n=200, seed=0):
    """Smooth colour images whose darkest and brightest pixels vary."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:12, :12] / 12
    waves = rng.uniform(1, 6, (n, 1, 1, 3, 2))
    values = 0.5 + 0.3 * np.sin(waves[..., 0] * x[None, :, :, None]) + 0.2 * np.cos(waves[..., 1] * y[None, :, :, None])
    return np.clip(255 * values + rng.normal(0, 3, (n, 12, 12, 3)), 2, 253).astype(np.uint8)


def strokes(n=200, seed=0):
    """Black and white, from 0 to 255 in every image, as handwriting is."""
    rng = np.random.default_rng(seed)
    images = np.clip(rng.normal(0, 200, (n, 12, 12)), 0, 255)
    images[:, 0, :2] = [0, 255]
    return images.astype(np.uint8)


def held(array, *formats):
    return Samples(array, "somewhere", "images", formats=formats)


TRAIN = photos(seed=1)
FLOATS = photos(seed=2) / 255
STRETCHED = (FLOATS - FLOATS.min(axis=(1, 2, 3), keepdims=True)) / np.ptp(FLOATS, axis=(1, 2, 3), keepdims=True)
GREY3 = np.repeat(photos(seed=2)[..., :1], 3, axis=3)


@pytest.mark.parametrize(
    ("generated", "train"),
    [
        (photos(), TRAIN),
        (strokes(), strokes(seed=1)),
        (photos() / 255, TRAIN / 255),
        (photos() / 127.5 - 1, TRAIN / 127.5 - 1),
        (GREY3, GREY3[::-1]),
        # A generator that hardly reaches white, where every image of train does: no sign of how train was saved.
        ((0.97 * strokes()).astype(np.uint8), strokes(seed=1)),
        ((strokes() / 255 - 0.13) / 0.31, (strokes(seed=1) / 255 - 0.13) / 0.31),
        (np.zeros((5, 4, 4), np.uint8), np.zeros((5, 4, 4), np.uint8)),
        (RNG.normal(size=(50, 4, 4)), RNG.normal(size=(50, 4, 4))),
    ],
)
def test_sets_that_were_saved_alike(generated, train):
    assert compare_sources(held(generated, "PNG"), held(train, "PNG")) == []
    assert compare_sources(held(generated), held(train, "JPEG quality 75")) == []


@pytest.mark.parametrize(
    ("generated", "train", "words"),
    [
        (photos() / 255, TRAIN, ["floats 0 to 1 and train bytes 0 to 255"]),
        (photos() / 127.5 - 1, TRAIN / 255, ["floats -1 to 1 and train floats 0 to 1"]),
        (photos().astype(float), TRAIN / 255, ["floats 0 to 255 and train floats 0 to 1"]),
        ((photos() / 255).astype(np.uint8), TRAIN, ["holds bytes 0 to 1 and"]),
        (photos() // 32 * 32, TRAIN, ["uses 8 levels of brightness and train 2"]),
        (np.clip(photos() / 255 + RNG.normal(0, 0.001, TRAIN.shape), 0, 1), TRAIN / 255, ["train is rounded"]),
        (np.round(255 * STRETCHED).astype(np.uint8), TRAIN, ["normalised one by one"]),
        (GREY3, TRAIN, ["generated are grey in three channels"]),
        (
            (0.8 * strokes()).astype(np.uint8),
            strokes(seed=1),
            ["generated reaches from 0 to 204 and train from 0 to 255"],
        ),
        (np.round(strokes() * (219 / 255) + 16).astype(np.uint8), strokes(seed=1), ["video"]),
        ((strokes() / 255 - 0.13) / 0.31, strokes(seed=1) / 255, ["floats on no scale of pixels and train floats 0"]),
    ],
)
def test_differences_are_found(generated, train, words):
    found = compare_sources(held(generated), held(train))
    assert len(found) == len(words), found
    for word, sentence in zip(words, found, strict=True):
        assert word in sentence
    # The other way round the same is found of the other set.
    assert len(compare_sources(held(train), held(generated))) == len(found)


@pytest.mark.parametrize(
    ("generated", "train", "word"),
    [
        (["PNG"], ["JPEG quality 75"], "not all are lossy"),
        (["WEBP lossy"], ["PNG", "BMP"], "not all are lossy"),
        (["JPEG quality 75", "PNG"], ["PNG"], "not all are lossy"),
        (["JPEG quality 95"], ["JPEG quality 75"], "compressed differently"),
        (["JPEG quality 75"], ["JPEG quality 75 to 95"], "compressed differently"),
        (["PNG"], ["BMP", "WEBP lossless"], None),
        (["JPEG quality 75"], ["JPEG quality 77"], None),
        ([], ["JPEG quality 75"], None),
    ],
)
def test_formats(generated, train, word):
    found = compare_sources(held(photos(), *generated), held(TRAIN, *train), names=("A", "B"))
    assert len(found) == (word is not None)
    if word:
        assert word in found[0]
        assert "A comes from" in found[0]


def rejpeg(images, quality):
    def once(image):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
        return np.asarray(Image.open(buffer))

    return np.stack([once(image) for image in images])


def test_compression_is_seen_in_the_pixels():
    """Photos that were JPEG, whatever they were saved as since; not those that were blurred, enlarged or darkened."""
    clean, train = (np.tile(photos(seed=seed) // 2 + 60, (1, 2, 2, 1)) for seed in (4, 5))
    for quality in (30, 75, 85):
        found = compare_sources(held(rejpeg(clean, quality), "PNG"), held(train, "PNG"), names=("A", "B"))
        assert len(found) == 1, (quality, found)
        assert "pixels of A show" in found[0]
    assert compare_sources(held(rejpeg(clean, 75)), held(rejpeg(train, 75))) == []
    # Of two that were, the steps tell which more strongly, even if one was compressed on top of the other.
    for one, other in ((50, 75), (70, 75), (75, 85)):
        for images in (rejpeg(clean, one), rejpeg(rejpeg(clean, other), one)):
            found = compare_sources(held(images, "PNG"), held(rejpeg(train, other), "PNG"), names=("A", "B"))
            assert len(found) == 1, (one, other, found)
            assert "those of A in coarser steps" in found[0]
    # Cut elsewhere, the blocks no longer lie where they were looked for: only the files would tell.
    for other in ((clean[:, 1:] // 2 + clean[:, :-1] // 2), np.repeat(clean, 2, axis=2), clean // 2 + 20):
        assert compare_sources(held(other), held(train)) == []
    # Files that say it need no second sentence.
    assert len(compare_sources(held(rejpeg(clean, 75), "JPEG quality 75"), held(train, "PNG"))) == 1
    assert compare_sources(held(strokes()), held(rejpeg(strokes(seed=1), 75))) == []


def test_points_are_not_compared():
    points = Samples(np.zeros((4, 2)), "x", "points")
    assert compare_sources(points, Samples(np.ones((4, 2)) * 300, "y", "points")) == []


def test_the_steps_are_those_of_the_table_in_the_file():
    """The pixels alone give back the numbers that the compressor wrote into its file."""
    clean = np.tile(photos(n=400, seed=4) // 2 + 60, (1, 2, 2, 1))
    order = np.add.outer(np.arange(8), np.arange(8))
    for quality in (40, 75):
        buffer = io.BytesIO()
        Image.fromarray(clean[0]).save(buffer, "JPEG", quality=quality)
        table = np.reshape(Image.open(buffer).quantization[0], (8, 8))[(order >= 1) & (order <= 4)]
        steps = np.array(_steps(rejpeg(clean, quality), "bytes 0 to 255"))
        assert (steps > 0).sum() >= 5
        np.testing.assert_array_equal(steps[steps > 0], table[steps > 0])
    assert _steps(clean, "bytes 0 to 255") == ()
