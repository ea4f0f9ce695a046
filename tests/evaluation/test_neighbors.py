"""Against the naive oracle: all distances by cdist, sorted by distance and index."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from divergences import InputError
from evaluation import neighbors
from evaluation.neighbors import nearest, nearest_others


def oracle(query, points, k, *, others=False):
    distances = cdist(query, points)
    if others:
        np.fill_diagonal(distances, np.inf)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, axis=1), order


def cloud(kind, n, d, rng):
    return rng.standard_normal((n, d)) if kind == "continuous" else rng.integers(0, 3, (n, d)).astype(float)


@pytest.mark.parametrize("kind", ["continuous", "ties"])
@pytest.mark.parametrize("d", [1, 2, 7, 11, 64])
@pytest.mark.parametrize("shift", [0.0, 1e4])
@pytest.mark.parametrize("k", [1, 4, 120])
def test_is_the_oracle(kind, d, shift, k):
    rng = np.random.default_rng(d)
    points = cloud(kind, 120, d, rng) + shift
    points[17] = points[3]
    query = np.concatenate([cloud(kind, 40, d, rng) + shift, points[:10]])
    found = nearest(query, points, k)
    distances, order = oracle(query, points, k)
    np.testing.assert_array_equal(found.indices, order)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-9)


@pytest.mark.parametrize("kind", ["continuous", "ties"])
@pytest.mark.parametrize("d", [2, 30])
def test_others_leave_out_the_point_but_not_its_twin(kind, d):
    points = cloud(kind, 90, d, np.random.default_rng(1))
    points[40] = points[2]
    found = nearest_others(points, 3)
    distances, order = oracle(points, points, 3, others=True)
    np.testing.assert_array_equal(found.indices, order)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-9)
    assert found.distances[2, 0] == 0.0


@pytest.mark.parametrize("d", [2, 30])
def test_all_points_equal(d):
    found = nearest_others(np.ones((12, d)), 3)
    assert (found.distances == 0).all()
    assert (found.indices[0] == [1, 2, 3]).all()
    assert (found.indices[7] == [0, 1, 2]).all()


def test_a_copy_far_from_the_origin_is_at_distance_zero():
    # The matrix-product identity alone gives about 1e-4 here.
    points = np.random.default_rng(2).standard_normal((300, 100)) * 1e-3 + 1e3
    found = nearest(points[:50], points)
    assert (found.distances == 0).all()
    np.testing.assert_array_equal(found.indices[:, 0], np.arange(50))


@pytest.mark.parametrize("d", [2, 30])
def test_blocks_change_nothing(monkeypatch, d):
    rng = np.random.default_rng(3)
    points, query = rng.standard_normal((100, d)), rng.standard_normal((77, d))
    whole = nearest(query, points, 5)
    monkeypatch.setattr(neighbors, "_BLOCK", 600)
    cut = nearest(query, points, 5)
    np.testing.assert_array_equal(whole.indices, cut.indices)
    np.testing.assert_array_equal(whole.distances, cut.distances)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: nearest(np.ones((3, 2)), np.ones((4, 2)), 5), "k"),
        (lambda: nearest(np.ones((3, 2)), np.ones((4, 2)), 0), "k"),
        (lambda: nearest_others(np.ones((4, 2)), 4), "k"),
        (lambda: nearest_others(np.ones((1, 2))), "points"),
        (lambda: nearest(np.ones((3, 3)), np.ones((4, 2))), "query"),
        (lambda: nearest(np.ones((0, 2)), np.ones((4, 2))), "query"),
        (lambda: nearest(np.ones((3, 2)), np.full((4, 2), np.nan)), "points"),
    ],
)
def test_bad_input(call, word):
    with pytest.raises(InputError, match=word):
        call()
