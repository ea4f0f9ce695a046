"""Memorization: copiers are caught, perfect and smooth generators are not, at the stated rate."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_digits

from divergences import InputError
from evaluation.intervals import clopper_pearson, hypergeometric_tail
from evaluation.memorization import _below_rank, _Tests, memorization
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
    assert hypergeometric_tail(5, 9, n, m) == pytest.approx(stats.hypergeom.sf(4, n + m, n, 9))


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


def test_false_discovery_rate_of_single_samples():
    """Of the samples named with q ≤ 0.1, a tenth at most is there by chance on average; copies are named."""
    rng = np.random.default_rng(13)
    shares, powers = [], []
    for _ in range(100):
        x = rng.standard_normal((900, 4))
        y = rng.standard_normal((400, 4))
        y[:60] = x[rng.integers(0, 300, 60)] + 0.02 * rng.standard_normal((60, 4))
        found = memorization(generated=y, train=x[:300], test=x[300:])
        named = found.q_values <= 0.1
        assert found.discoveries == named.sum()
        shares.append(named[60:].sum() / max(named.sum(), 1))
        powers.append(named[:60].mean())
    assert np.mean(shares) <= 0.1 + 3 * np.std(shares) / 10
    assert np.mean(powers) > 0.8


def test_suspects_come_with_both_neighbours():
    x = averages(500, np.random.default_rng(14))
    x[:50] = TRAIN[:50] + 0.2
    found = memorization(generated=x, train=TRAIN, test=TEST)
    for suspect in found.suspects[:50]:
        gap = np.linalg.norm(TEST - x[suspect.generated], axis=1)
        assert suspect.nearest_test == gap.argmin()
        assert suspect.test_distance == pytest.approx(gap.min())
        assert suspect.distance < suspect.test_distance
        assert suspect.q_value == found.q_values[suspect.generated] <= 0.1
    assert found.false_suspects <= 0.1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["line", "plane", "64-D", "mixtures", "heavy tails", "narrow"])
def test_honest_generators_are_not_flagged(kind):
    """1000 audits each (300 in 64 dimensions) at α = 0.05; "narrow" keeps to the middle: honest, not perfect."""
    rng = np.random.default_rng(15)
    dim = {"line": 1, "plane": 2, "64-D": 64}.get(kind, 3)
    laws = [
        (rng.normal(0, 4, (6, dim)), rng.uniform(0.05, 1.5, (6, dim)), rng.dirichlet(np.ones(6))) for _ in range(20)
    ]
    flagged, audits = 0, 300 if dim == 64 else 1000
    for trial in range(audits):
        x = rng.standard_t(2, (600, dim)) if kind == "heavy tails" else rng.standard_normal((600, dim))
        if kind == "mixtures":
            means, scales, weights = laws[trial % 20]
            part = rng.choice(6, 600, p=weights)
            x = means[part] + scales[part] * x
        if kind == "narrow":
            x[:200] *= 0.5
        found = memorization(generated=x[:200], train=x[200:400], test=x[400:], alpha=0.05)
        flagged += found.verdict is Verdict.FLAGGED
    assert clopper_pearson(flagged, audits).interval[0] <= 0.05
    assert flagged > 0 or kind == "narrow"


@pytest.mark.slow
def test_one_percent_of_perturbed_copies_among_ten_thousand_digits(extra_data):
    """Noise of 6/255 per pixel; 10 000 train, 10 000 held-out: power ≥ 95 % at ≤ 5 % false alarms, and which ones."""
    with np.load(extra_data / "mnist.npz") as archive:
        images = archive["train"].reshape(60_000, 784).astype(np.float64)
    rng = np.random.default_rng(16)
    images = images[rng.permutation(60_000)]
    train, held_out, fresh = images[:10_000], images[10_000:20_000], images[20_000:30_000]
    copies = train[rng.integers(0, 10_000, 500)] + 6 * rng.standard_normal((500, 784))
    generated = np.concatenate([copies[:100], fresh[:9900]])
    found = memorization(generated=generated, train=train, test=held_out, alpha=0.05)
    assert found.verdict is Verdict.FLAGGED
    assert {suspect.generated for suspect in found.suspects} >= set(range(100))
    assert (found.q_values[:100] <= 0.1).all()
    assert found.copy_share.agrees(0.01)
    # A score depends on its own sample and on train alone: more audits are drawn from the scores of the pools.
    honest = np.concatenate([found.null_scores, found.scores[100:]])
    planted = memorization(generated=copies, train=train, test=held_out[:100]).scores
    caught, false = 0, 0
    for _ in range(300):
        pool = rng.permutation(honest)
        copied = np.concatenate([rng.choice(planted, 100, replace=False), pool[:9900]])
        caught += _Tests(copied, pool[9900:]).p_value < 0.05
        false += _Tests(pool[:9950], pool[9950:]).p_value < 0.05
    assert caught / 300 >= 0.95
    assert clopper_pearson(false, 300).interval[0] <= 0.05


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
