"""Named features: fitted on train alone, deterministic, and equal samples stay equal."""

import numpy as np
import pytest

from divergences import InputError
from evaluation.features import Features, features

RNG = np.random.default_rng(0)
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


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: features("inception"), "features="),
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
