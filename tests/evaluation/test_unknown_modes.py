"""Bins and the detection table: planted losses are found, perfect generators are not accused, the power is true."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_digits

from divergences import InputError
from evaluation.detection import bin_detection, detection_table, lost_in_bin
from evaluation.unknown_modes import ndb, unknown_modes

X, Y = load_digits(return_X_y=True)
ORDER = np.random.default_rng(0).permutation(len(X))


def test_published_numbers_of_ndb():
    found = ndb(generated_counts=[180, 140, 80], reference_counts=[500, 300, 200])
    np.testing.assert_allclose(found.z, [-1.69099885, 1.8205477, 0], atol=5e-9)
    np.testing.assert_allclose(found.p_values, [0.09083702, 0.06867564, 1], atol=5e-9)
    assert found.different == 0
    assert found.jsd.raw == pytest.approx(0.0016206877869464897, abs=1e-12)


def test_equal_laws_and_empty_bins_of_ndb():
    rng = np.random.default_rng(1)
    q = np.full(50, 0.02)
    scores = [
        ndb(generated_counts=rng.multinomial(800, q), reference_counts=rng.multinomial(1500, q)) for _ in range(400)
    ]
    assert np.mean([one.different for one in scores]) == pytest.approx(scores[0].null, rel=0.1)
    assert abs(np.mean([one.jsd.value for one in scores])) < 0.02 * scores[0].jsd_floor + 1e-4
    assert np.mean([one.jsd.agrees(0.0) for one in scores]) > 0.92
    empty = ndb(generated_counts=[5, 0, 0], reference_counts=[5, 5, 0])
    assert empty.p_values[2] == 1.0
    assert empty.null == pytest.approx(0.1)


def test_the_conditional_test_keeps_its_level_at_the_margin():
    rng = np.random.default_rng(2)
    for share, n, m in ((0.02, 1000, 700), (0.3, 200, 900)):
        here, there = rng.binomial(n, share / 2, 20_000), rng.binomial(m, share, 20_000)
        for level in (0.05, 0.002):
            assert np.mean(lost_in_bin(here, there, n, m, 0.5) < level) <= level + 3 * math.sqrt(level / 20_000)
    assert np.mean(lost_in_bin(here, there, n, m, 0.5) < 0.05) > 0.005


def test_perfect_generators_are_not_accused():
    """In 16 dimensions with small cells, where cells that knew their data would be off; also with a coarse grid."""
    rng = np.random.default_rng(3)
    accused = 0
    for trial in range(45):
        x = rng.standard_normal((1100, 16))
        x = np.round(x[:, :2]) if trial % 3 == 0 else x
        found = unknown_modes(
            generated=x[:400], train=x[400:900], test=x[900:], rng=rng, bins=15, margin=1.0, alpha=0.2
        )
        accused += bool(found.missing or found.starved)
    # At margin 1, where perfect is the very edge: 45 trials at 20 % are above 35 % with probability 0.5 %.
    assert accused <= 16
    assert accused > 0


def test_a_lost_digit_is_shown():
    train, rest = ORDER[:1300], ORDER[1300:]
    kept = np.concatenate([train[Y[train] != 0], rest[Y[rest] != 0]])
    generated = X[kept] + np.random.default_rng(4).normal(0, 0.5, (len(kept), 64))
    found = unknown_modes(generated=generated, train=X[train], bins=12, rng=np.random.default_rng(5))
    lost = found.missing + found.starved
    assert lost
    for record in lost:
        assert np.mean(Y[train][list(record.examples)] == 0) > 0.8
        assert record.ratio.interval[1] < 0.5
        assert record.hits < 0.2 * record.expected
    assert found.p_value < 1e-3
    assert found.counts.sum() == found.n == len(kept)
    assert found.reference_counts.sum() == found.reference == 650
    again = unknown_modes(generated=generated, train=X[train], bins=12, rng=np.random.default_rng(5))
    assert again.missing == found.missing
    piled = unknown_modes(generated=X[train[Y[train] == 1]], train=X[train], bins=12, rng=np.random.default_rng(5))
    assert sum(record.hits for record in piled.excess) > 0.7 * piled.n
    assert all(record.ratio.interval[0] > 1 for record in piled.excess)


def test_more_bins_than_different_points():
    train = np.repeat([[0.0], [1.0]], 100, axis=0)
    found = unknown_modes(generated=np.zeros((90, 1)), train=train, bins=5, rng=np.random.default_rng(6))
    assert len(found.missing) == 1
    assert set(found.missing[0].examples) <= set(range(100, 200))


def test_the_detection_table_is_true():
    rng = np.random.default_rng(7)
    for row in detection_table(weights=[0.04, 0.01], modes=25, sizes=[500, 2500, 20_000]):
        full = np.arange(row.n + 1) if row.n < 600 else np.arange(2000)
        level = 0.05 / 25
        critical = full[stats.binom.cdf(full, row.n, 0.5 * row.weight) < level]
        if math.isinf(row.loss):
            assert critical.size == 0
            assert row.power == 0.0
            continue
        hits = rng.binomial(row.n, row.weight * (1 - row.loss), 20_000)
        power = np.mean(stats.binom.cdf(hits, row.n, 0.5 * row.weight) < level)
        assert power == pytest.approx(0.95, abs=0.01) or row.loss == 0
    losses = [row.loss for row in detection_table(weights=[0.04], modes=25, sizes=[300, 1000, 10_000, 10**6])]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] == math.inf
    assert losses[-1] < 0.52


def test_the_detection_table_of_bins_is_true():
    rng = np.random.default_rng(8)
    common, rare = bin_detection(weights=[0.1, 0.002], bins=10, n=1000, reference=600, rng=rng)
    assert rare.loss == math.inf
    assert rare.power < 0.5
    there = rng.binomial(600, 0.1, 5000)
    here = rng.binomial(1000, 0.1 * (1 - common.loss), 5000)
    power = np.mean(lost_in_bin(here, there, 1000, 600, 0.5) < 0.005)
    # The grid of losses has steps of 2 %.
    assert 0.93 < power < 0.99


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"generated": [[np.nan, 0.0]]}, "generated="),
        ({"generated": np.ones((5, 3))}, "generated="),
        ({"train": np.ones((79, 2))}, "train="),
        ({"test": np.ones((5, 3))}, "test="),
        ({"bins": 1}, "bins="),
        ({"bins": 51}, "bins="),
        ({"margin": 0.0}, "margin="),
        ({"alpha": 2.0}, "alpha="),
    ],
)
def test_bad_input(arguments, word):
    rng = np.random.default_rng(0)
    good = {"generated": np.zeros((5, 2)), "train": rng.normal(size=(100, 2)), "rng": rng}
    with pytest.raises(InputError, match=word):
        unknown_modes(**(good | arguments))


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: ndb(generated_counts=[1, 2], reference_counts=[1, 2, 3]), "bins"),
        (lambda: ndb(generated_counts=[1, -2], reference_counts=[1, 2]), "generated_counts="),
        (lambda: ndb(generated_counts=[1, 2], reference_counts=[0, 0]), "reference_counts="),
        (lambda: ndb(generated_counts=[1, np.nan], reference_counts=[1, 0]), "generated_counts="),
        (lambda: detection_table(weights=[0.0], modes=3), "weights="),
        (lambda: detection_table(weights=[], modes=3), "weights="),
        (lambda: detection_table(weights=[0.1], modes=0), "modes="),
        (lambda: detection_table(weights=[0.1], modes=3, high_quality=1.5), "high_quality="),
        (lambda: bin_detection(weights=[0.1], bins=3, n=0, reference=5, rng=np.random.default_rng(0)), "n="),
    ],
)
def test_bad_counts(call, word):
    with pytest.raises(InputError, match=word):
        call()
