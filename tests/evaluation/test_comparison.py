"""Which generator is better: level, power, and what cannot be decided."""

import numpy as np
import pytest
from scipy import stats

from divergences import InputError
from evaluation import compare, fid

RNG = np.random.default_rng


def draws(rng, n, d, shift=0.0, scale=1.0):
    x = scale * rng.normal(size=(n, d))
    x[:, 0] += shift
    return x


def rejections(runs, first, second, n, d, alpha=0.05):
    rng = RNG(5)
    return sum(
        compare(
            a=draws(rng, n, d, *first), b=draws(rng, n, d, *second), train=draws(rng, n, d), features="identity"
        ).p_value
        < alpha
        for _ in range(runs)
    )


@pytest.mark.parametrize("runs", [100, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("spoiled", [(0.0, 1.0), (0.2, 1.0), (1.0, 1.0), (0.0, 1.5)])
def test_equally_good_ones_are_told_apart_at_the_level_only(runs, spoiled):
    # (0, 1) is the perfect generator, where the first-order variance vanishes.
    hits = rejections(runs, spoiled, spoiled, 400, 4)
    assert stats.binom.sf(hits - 1, runs, 0.06) > 1e-3, f"{hits} of {runs}"


def test_as_good_in_different_ways():
    # Both at distance 1: one by its mean, one by its width (d(1 − s)² = 4·0.25).
    hits = rejections(100, (1.0, 1.0), (0.0, 1.5), 400, 4)
    assert stats.binom.sf(hits - 1, 100, 0.06) > 1e-3


def test_power_and_direction():
    rng = RNG(1)
    train, better, worse = draws(rng, 1000, 4), draws(rng, 1000, 4, 0.1), draws(rng, 1000, 4, 0.5)
    found = compare(a=worse, b=better, train=train, features="identity")
    assert found.better == "b"
    assert found.p_value < 1e-4
    # The truth is 0.25 − 0.01.
    assert found.difference.agrees(0.24)
    assert found.a.value == fid(generated=worse, reference=train).value
    swapped = compare(a=better, b=worse, train=train, features="identity")
    assert swapped.better == "a"
    assert swapped.difference.value == pytest.approx(-found.difference.value)
    assert swapped.p_value == pytest.approx(found.p_value)


def test_a_copier_wins_on_train_and_not_on_held_out_data():
    rng = RNG(2)
    train, test, fresh = (draws(rng, 300, 6) for _ in range(3))
    copier = train.copy()
    on_train = compare(a=copier, b=fresh, train=train)
    assert on_train.difference.value < 0
    assert "copies" in on_train.note
    on_test = compare(a=copier, b=fresh, train=train, test=test)
    assert on_test.better is None
    assert on_test.reference == "test"
    assert on_test.note == ""


def test_too_few_samples_decide_nothing():
    rng = RNG(3)
    x, y, z = (draws(rng, 20, 16) for _ in range(3))
    found = compare(a=x + 9, b=y, train=z)
    assert found.better is None
    assert "pca:N" in found.note
    low, high = found.difference.interval
    assert low < found.difference.value < high


def test_equal_samples_have_no_difference():
    rng = RNG(4)
    x, z = draws(rng, 200, 3, 0.4), draws(rng, 200, 3)
    found = compare(a=x, b=x, train=z)
    assert found.difference.value == 0
    assert found.p_value == 1.0


def test_misuse():
    x = draws(RNG(0), 50, 2)
    with pytest.raises(InputError, match="b="):
        compare(a=x, b=x[:, :1], train=x)
    with pytest.raises(InputError, match="alpha="):
        compare(a=x, b=x, train=x, alpha=2.0)
    with pytest.raises(InputError, match="a="):
        compare(a=np.full((5, 2), np.nan), b=x, train=x)
