"""Memorization: copiers are caught, perfect and smooth generators are not, at the stated rate."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_digits

from divergences import InputError
from evaluation.memorization import _as_many_repeats, _below_rank, memorization
from evaluation.verdict import Verdict

X = load_digits().data
ORDER = np.random.default_rng(0).permutation(len(X))
TRAIN, TEST = X[ORDER[:1347]], X[ORDER[1347:]]


def averages(n, rng):
    """New images: means of two different training images."""
    one = rng.integers(0, len(TRAIN), n)
    return (TRAIN[one] + TRAIN[(one + rng.integers(1, len(TRAIN), n)) % len(TRAIN)]) / 2


def test_exact_tails_against_enumeration_by_simulation():
    rng = np.random.default_rng(1)
    n, m = 12, 7
    below = {j: [] for j in (1, 2, 4)}
    for _ in range(4000):
        scores = rng.random(n + m)
        others = np.sort(scores[n:])
        for j, found in below.items():
            found.append((scores[:n] < others[j - 1]).sum())
    for j, found in below.items():
        for a in (1, 3, 8):
            exact = _below_rank(a, j, n, m)
            assert np.mean(np.array(found) >= a) == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 4000))
    assert _below_rank(20, 1, 1000, 450) == pytest.approx(np.prod((1000 - np.arange(20)) / (1450 - np.arange(20))))
    assert _below_rank(13, 1, 12, 7) == 0.0
    assert _as_many_repeats(5, 9, n, m) == pytest.approx(stats.hypergeom.sf(4, n + m, n, 9))


@pytest.mark.parametrize(
    ("d", "n", "n_train", "m", "coarse"), [(2, 100, 80, 60, False), (12, 60, 60, 110, False), (4, 150, 60, 60, True)]
)
def test_false_alarm_rate(d, n, n_train, m, coarse):
    """Perfect generators, 500 audits each, also with ties and repeats: flagged at most at the stated rate."""
    rng = np.random.default_rng(2)
    flagged = 0
    for _ in range(500):
        x = rng.standard_normal((n + n_train + m, d))
        x = np.round(x) if coarse else x
        found = memorization(generated=x[:n], train=x[n : n + n_train], test=x[n + n_train :], alpha=0.1)
        flagged += found.verdict is Verdict.FLAGGED
    assert flagged / 500 <= 0.1
    assert coarse or flagged > 0


def test_perfect_generator_of_digits():
    found = memorization(generated=TEST[:200], train=TRAIN, test=TEST[200:])
    assert found.verdict is Verdict.CLEAR
    assert found.suspects == ()
    assert found.copy_share.agrees(0.0)
    assert "could have gone unnoticed" in found.note


def test_smooth_generators_are_clear():
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(10, covariance_type="diag", reg_covar=0.1, random_state=0, tol=0.1).fit(TRAIN)
    dense = 0.5 * np.random.default_rng(3).standard_normal((400, 2))
    x = np.random.default_rng(4).standard_normal((900, 2))
    for found in (
        memorization(generated=model.sample(500)[0], train=TRAIN, test=TEST),
        memorization(generated=averages(500, np.random.default_rng(5)), train=TRAIN, test=TEST),
        memorization(generated=dense, train=x[:500], test=x[500:]),
    ):
        assert found.verdict is Verdict.CLEAR


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0, 1.6])
def test_thirty_percent_perturbed_copies(noise):
    rng = np.random.default_rng(6)
    x, source = averages(1000, rng), rng.integers(0, len(TRAIN), 300)
    x[:300] = TRAIN[source] + noise * rng.standard_normal((300, 64))
    found = memorization(generated=x, train=TRAIN, test=TEST)
    assert found.verdict is Verdict.FLAGGED
    assert found.p_value < 1e-10
    true = [s for s in found.suspects if s.generated < 300]
    assert len(true) >= 0.9 * len(found.suspects)
    assert np.mean([s.train == source[s.generated] or s.distance == 0 for s in true]) > 0.99
    assert found.exact_copies == (300 if noise == 0 else 0)
    if noise <= 0.5:
        assert len(true) == 300
        assert found.copy_share.agrees(0.3)
    scores = [s.score for s in found.suspects]
    assert scores == sorted(scores)


def test_two_percent_exact_copies():
    rng = np.random.default_rng(7)
    x = averages(1000, rng)
    x[500:520] = TRAIN[:20]
    found = memorization(generated=x, train=TRAIN, test=TEST)
    assert found.verdict is Verdict.FLAGGED
    assert found.exact_copies == 20
    assert {s.generated for s in found.suspects} >= set(range(500, 520))
    assert found.copy_share.agrees(0.02)


def test_only_training_points():
    found = memorization(generated=TRAIN[:500], train=TRAIN, test=TEST)
    assert found.verdict is Verdict.FLAGGED
    assert found.exact_copies == len(found.suspects) == 500
    assert found.copy_share.interval[0] > 0.98
    assert (found.distances == 0).all()


def test_a_held_out_point_in_train_breaks_nothing():
    leaky = np.concatenate([TRAIN, TEST[:3]])
    perfect = memorization(generated=TEST[200:], train=leaky, test=TEST[:200])
    assert perfect.verdict is Verdict.CLEAR
    assert (perfect.null_distances == 0).sum() == 3
    rng = np.random.default_rng(8)
    x = averages(1000, rng)
    x[:60] = TRAIN[:60]
    assert memorization(generated=x, train=leaky, test=TEST).verdict is Verdict.FLAGGED


def test_repeats_within_train_do_not_hide_copies():
    twice = np.concatenate([TRAIN, TRAIN, TRAIN, TRAIN, TRAIN, TRAIN])
    rng = np.random.default_rng(9)
    x = averages(500, rng)
    x[:100] = TRAIN[:100] + 0.3 * rng.standard_normal((100, 64))
    found = memorization(generated=x, train=twice, test=TEST)
    assert found.verdict is Verdict.FLAGGED
    assert max(s.train for s in found.suspects) < len(TRAIN)


@pytest.mark.parametrize("test", [None, TEST[:19]])
def test_without_held_out_data_nothing_is_concluded(test):
    for x in (TRAIN[:50], TEST[100:150]):
        found = memorization(generated=x, train=TRAIN, test=test)
        assert found.verdict is Verdict.INCONCLUSIVE
        assert found.p_value == 1.0
        assert "test=" in found.note
        assert found.suspects == ()
    assert memorization(generated=TRAIN[:50], train=TRAIN, test=test).exact_copies == 50


def test_other_reasons_to_conclude_nothing():
    rng = np.random.default_rng(10)
    x = rng.standard_normal((400, 3))
    assert memorization(generated=x[:3], train=x[100:200], test=x[200:230]).verdict is Verdict.INCONCLUSIVE
    assert memorization(generated=x[:90], train=x[100:105], test=x[200:300]).verdict is Verdict.INCONCLUSIVE
    # Training data handed in as held-out data.
    same = memorization(generated=x[:90], train=x[100:200], test=x[100:180])
    assert same.verdict is Verdict.INCONCLUSIVE
    assert "not held out" in same.note
    assert memorization(generated=x[:5], train=x[:1], test=x[5:40]).verdict is Verdict.INCONCLUSIVE


def test_sensitivity_is_true():
    rng = np.random.default_rng(11)
    x = rng.standard_normal((900, 6))
    train, test = x[:300], x[300:400]
    share = memorization(generated=x[400:], train=train, test=test).sensitivity
    assert 0.02 < share < 0.2
    caught = 0
    for _ in range(60):
        y = rng.standard_normal((500, 6))
        copies = rng.random(500) < share
        y[copies] = train[rng.integers(0, 300, copies.sum())] + 1e-6
        caught += memorization(generated=y, train=train, test=rng.standard_normal((100, 6))).verdict is Verdict.FLAGGED
    assert caught / 60 >= 0.88


@pytest.mark.parametrize("share", [0.02, 0.3])
@pytest.mark.parametrize("spread", [1.0, 4.0])
def test_copy_share_interval_covers(share, spread):
    rng = np.random.default_rng(12)
    covered = 0
    for _ in range(150):
        x = rng.standard_normal((500, 3))
        y = spread * rng.standard_normal((200, 3))
        copies = rng.random(200) < share
        y[copies] = x[rng.integers(0, 300, copies.sum())] + 1e-6
        covered += memorization(generated=y, train=x[:300], test=x[300:]).copy_share.agrees(share)
    # 150 trials at 95 %: below 0.90 with probability 0.4 %.
    assert covered / 150 >= 0.9


def test_nearest_rows():
    found = memorization(generated=TEST[:30] + 0.01, train=TRAIN, test=TEST)
    np.testing.assert_array_equal(found.nearest_test, np.arange(30))
    gaps = np.linalg.norm(TRAIN[found.nearest_train] - TEST[:30] - 0.01, axis=1)
    np.testing.assert_allclose(found.distances, gaps)
    assert (memorization(generated=TEST[:30], train=TRAIN).nearest_test == -1).all()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"generated": [[np.nan] * 64]}, "generated="),
        ({"generated": np.empty((0, 64))}, "generated="),
        ({"generated": np.ones((3, 5))}, "generated="),
        ({"train": np.full((30, 64), np.inf)}, "train="),
        ({"train": np.ones((3, 8, 8))}, "train="),
        ({"test": np.full((30, 64), np.nan)}, "test="),
        ({"test": np.ones((30, 5))}, "test="),
        ({"test": np.empty((0, 64))}, "test="),
        ({"alpha": 0.0}, "alpha="),
    ],
)
def test_bad_input(arguments, word):
    with pytest.raises(InputError, match=word):
        memorization(**({"generated": TEST[:9], "train": TRAIN[:50], "test": TEST[:50]} | arguments))
