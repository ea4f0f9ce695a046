"""Named features: fitted on train alone, deterministic, and equal samples stay equal."""

import importlib
import json

import numpy as np
import pytest

from divergences import InputError
from evaluation import fid
from evaluation.features import Features, features, fingerprint

module = importlib.import_module("evaluation.features")  # the package exports a function of this name
RNG = np.random.default_rng(0)
RANDOM_CONV = [0.000000000000, 0.013459338870, 0.018158902133, 0.039054981834, 0.412163420519, 0.416899603396]
POINTS = RNG.standard_normal((50, 4)) @ np.diag([1.0, 10.0, 0.1, 2.0]) + 3
IMAGES = RNG.integers(0, 256, (20, 6, 5), dtype=np.uint8)


def test_defaults():
    np.testing.assert_array_equal(features().fit(POINTS)(POINTS), POINTS)
    assert features().name == "identity"
    assert features(kind="images").name == "pixels"


def test_pixels_are_flattened_and_scaled():
    embed = features("pixels").fit(IMAGES)
    np.testing.assert_array_equal(embed(IMAGES), IMAGES.reshape(20, 30) / 255)
    np.testing.assert_array_equal(embed(IMAGES / 255.0), IMAGES.reshape(20, 30) / 255.0)
    colour = RNG.integers(0, 256, (3, 2, 2, 3), dtype=np.uint8)
    assert features("pixels").fit(colour)(colour).shape == (3, 12)


def test_whole_numbers_in_a_table_are_not_pixels():
    table = np.array([[1, 2], [3, 4]], dtype=np.uint8)
    np.testing.assert_array_equal(features("identity").fit(table)(table), table.astype(float))


def test_standardize_uses_train_and_survives_constant_columns():
    train = np.column_stack([POINTS, np.full(50, 0.1)])
    embed = features("standardize").fit(train)
    z = embed(train)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(z[:, :4].std(axis=0), 1)
    np.testing.assert_allclose(z[:, 4], 0, atol=1e-12)
    # Another set does not move the scale.
    np.testing.assert_allclose(embed(train + 1)[:, 1] - z[:, 1], 1 / train[:, 1].std())
    assert embed(train + 1)[0, 4] == pytest.approx(1.0)


def test_pca_is_the_covariance_eigenbasis():
    embed = features("pca:3").fit(POINTS)
    z = embed(POINTS)
    values = np.sort(np.linalg.eigvalsh(np.cov(POINTS.T)))[::-1]
    np.testing.assert_allclose(np.cov(z.T), np.diag(values[:3]), atol=1e-9)


def test_pca_signs_do_not_depend_on_the_order_of_rows():
    one, other = features("pca:2").fit(POINTS), features("pca:2").fit(POINTS[::-1])
    np.testing.assert_allclose(one(POINTS), other(POINTS), atol=1e-9)


def test_equal_samples_have_equal_features_in_sets_of_any_size():
    train = RNG.standard_normal((203, 64))
    embed = features("pca:20").fit(train)
    whole = embed(train)
    for size in (1, 2, 7, 50):
        np.testing.assert_array_equal(embed(train[:size]), whole[:size])


def test_callables_and_recipes():
    def radius(x):
        return np.linalg.norm(x, axis=1)

    recipe = features(radius)
    assert recipe.name == "radius"
    assert recipe.fit(POINTS)(POINTS).shape == (50, 1)
    assert isinstance(recipe, Features)
    assert features(recipe) is recipe


def digits(n, classes=3, seed=0, side=14):
    """Bars at one of some angles, with noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    angle = np.pi * labels / classes + rng.normal(0, 0.08, n)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    away = np.abs(np.sin(angle)[:, None, None] * x + np.cos(angle)[:, None, None] * y + rng.normal(0, 1, (n, 1, 1)))
    return np.clip(220 - 90 * away + rng.normal(0, 15, (n, side, side)), 0, 255).astype(np.uint8), labels


def test_random_convolutions_are_those_of_their_seed():
    images = digits(40)[0]
    embed = features("random-conv:30", seed=3).fit(images)
    z = embed(images)
    assert z.shape == (40, 30)
    assert z.dtype == np.float64
    np.testing.assert_array_equal(features("random-conv:30", seed=3).fit(images)(images), z)
    assert np.abs(features("random-conv:30", seed=4).fit(images)(images) - z).max() > 0.1
    # An image's features do not depend on what stands beside it, nor on how many axes the channels take.
    np.testing.assert_array_equal(embed(images[7:9]), z[7:9])
    np.testing.assert_array_equal(features("random-conv:30", seed=3).fit(images[..., None])(images[..., None]), z)
    # Numbers computed once with seed 3: other machines and releases must find them again.
    ramp = np.arange(2 * 9 * 9 * 3, dtype=np.uint8).reshape(2, 9, 9, 3)
    known = features("random-conv:6", seed=3).fit(ramp)(ramp)
    np.testing.assert_allclose(known[1], RANDOM_CONV, atol=1e-9)


def test_random_convolutions_see_blur_and_lost_classes():
    # The blur moves FID by .009: 2.6 standard errors of 600 images, which does not part two intervals, but 6 of 2400.
    train, _ = digits(2400, seed=1)
    fresh, labels = digits(2400, seed=2)
    blurred = ((fresh.astype(int) + np.roll(fresh, 1, axis=2)) // 2).astype(np.uint8)
    embed = features("random-conv:16").fit(train)
    honest, blur, lost = (fid(generated=embed(x), reference=embed(train)) for x in (fresh, blurred, fresh[labels > 0]))
    assert honest.agrees(0.0)
    assert blur.interval[0] > honest.interval[1]
    assert lost.interval[0] > honest.interval[1]


@pytest.mark.parametrize("kind", ["images", "points"])
def test_a_classifier_separates_classes_and_not_samples_it_has_seen(kind):
    (train, labels), (fresh, others) = digits(400, seed=1), digits(400, seed=2)
    if kind == "points":
        train, fresh = train.reshape(400, -1) / 255.0, fresh.reshape(400, -1) / 255.0
    embed = features("classifier:8", labels=np.array(["a", "b", "c"])[labels], seed=5).fit(train)
    facts = fingerprint(embed)
    assert facts["accuracy"] > 0.9
    assert facts["classes"] == 3
    assert facts["seen_gap"] < 2.5
    z = embed(train)
    assert z.shape == (400, 8)
    np.testing.assert_array_equal(embed(train[3:5]), z[3:5])
    assert fid(generated=embed(fresh), reference=z).agrees(0.0)
    assert not fid(generated=embed(fresh[others > 0]), reference=z).agrees(0.0)


def test_a_classifier_of_shuffled_labels_is_refused():
    images, _ = digits(300)
    # Most samples have the same label, whatever they show.
    with pytest.raises(InputError, match="commonest class.*order of train="):
        features("classifier:4", labels=RNG.permutation(300) < 60).fit(images.reshape(300, -1))


def test_fingerprints_say_what_the_numbers_depend_on():
    for name in ("identity", "pixels", "standardize", "pca:2", "random-conv:5"):
        recipe = features(name)
        other = fingerprint(recipe.fit(IMAGES[1:]))
        fitted = fingerprint(recipe.fit(IMAGES))
        assert json.loads(json.dumps(fitted)) == fitted
        assert fitted["name"] == name
        assert "numpy" in fitted["versions"]
        assert (fitted != other) == (name not in ("identity", "pixels"))
        assert fitted == fingerprint(recipe.fit(IMAGES.copy()))
    assert fingerprint(features("random-conv", seed=1))["parameters"]["seed"] == 1
    assert fingerprint(np.linalg.norm)["name"] == "norm"


def test_a_function_named_by_its_module():
    recipe = features("numpy.linalg:svdvals")
    assert recipe.name == "numpy.linalg:svdvals"
    np.testing.assert_allclose(recipe.fit(IMAGES)(IMAGES), np.linalg.svd(IMAGES, compute_uv=False))


@pytest.mark.parametrize("shape", [(90, 60), (60, 90)])
def test_principal_axes_of_large_matrices_are_the_same(shape, monkeypatch):
    x = RNG.standard_normal(shape) * np.linspace(1, 3, shape[1])
    slow = features("pca:7").fit(x)(x)
    monkeypatch.setattr(module, "_SMALL", 0)
    np.testing.assert_allclose(features("pca:7").fit(x)(x), slow, atol=1e-9)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: features("inception"), "features="),
        (lambda: features("random-conv:0"), "random-conv:0"),
        (lambda: features("random-conv:1e3"), "random-conv:1e3"),
        (lambda: features("random-conv").fit(POINTS), "features of images"),
        (lambda: features("random-conv").fit(IMAGES)(IMAGES[:, :5]), "rows of shape"),
        (lambda: features("random-conv").fit(np.where(IMAGES > 250, np.nan, IMAGES)), "NaN"),
        (lambda: features("random-conv", seed=-1), "seed="),
        (lambda: features("classifier"), "labels="),
        (lambda: features("classifier", labels=[1, 2]).fit(IMAGES), r"shape \(20,\)"),
        (lambda: features("classifier", labels=[1] * 20).fit(IMAGES), "two classes"),
        (lambda: features("classifier", labels=[1] * 19 + [2]).fit(IMAGES), "these have one: 2"),
        (lambda: features("no_such_module:f"), "cannot be imported.*no_such_module"),
        (lambda: features("math:no_such"), "nothing called no_such"),
        (lambda: features("math:pi"), "cannot be called"),
        (lambda: features("math:hypot").fit(POINTS), "features="),
        (lambda: features(3), "features="),
        (lambda: features("pca:0"), "pca:0"),
        (lambda: features("pca:x"), "pca:x"),
        (lambda: features("pca:-3"), "pca:-3"),
        (lambda: features("pca:5").fit(POINTS), "pca:5.*at most 4"),
        (lambda: features("pca:3").fit(POINTS[:2]), "pca:3.*at most 2"),
        (lambda: features("pixels").fit(IMAGES)(IMAGES[:, :5]), "rows of shape"),
        (lambda: features("pixels").fit(np.empty((0, 3))), "train="),
        (lambda: features("standardize").fit([[np.nan, 1.0]]), "NaN"),
        (lambda: features("identity").fit(POINTS)(["a"]), "array"),
        (lambda: features("identity").fit([[1, 2], [3]]), "train="),
        (lambda: features(lambda x: x[:3]).fit(POINTS)(POINTS), "returned 3 rows"),
        (lambda: features(lambda x: x.reshape(5, 5, 8)).fit(POINTS), "features="),
    ],
)
def test_bad_input(call, word):
    with pytest.raises(InputError, match=word):
        call()
