"""Memorization: copiers are caught; generators that know no more of train than of held-out data are not, as stated."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_digits

from divergences import InputError
from evaluation.copy_search import CopySearch
from evaluation.intervals import clopper_pearson, hypergeometric_tail
from evaluation.memorization import memorization
from evaluation.neighbors import Neighbors, nearest
from evaluation.sweep import sweep
from evaluation.verdict import Verdict
from evaluation.visits import Visits, VisitTests, below_rank

X, LABELS = load_digits(return_X_y=True)
ORDER = np.random.default_rng(0).permutation(len(X))
# The third part is what a perfect generator makes.
TRAIN, TEST, FRESH = np.split(X[ORDER], [800, 1200])


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
            exact = below_rank(a, j, n, m)
            assert np.mean(np.array(found) >= a) == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 4000))
    assert below_rank(20, 1, 1000, 450) == pytest.approx(np.prod((1000 - np.arange(20)) / (1450 - np.arange(20))))
    assert below_rank(13, 1, 12, 7) == 0.0
    assert hypergeometric_tail(5, 9, n, m) == pytest.approx(stats.hypergeom.sf(4, n + m, n, 9))


def naive_list(generated, train, test):
    """By loops, [(score, is it a training point)]: of the visited points, closest first; of the samples."""
    distinct = {tuple(z): [] for z in np.concatenate([train, test])}
    for z in train:
        distinct[tuple(z)].append(True)
    for z in test:
        distinct[tuple(z)].append(False)
    places, kinds = np.array(list(distinct)), [all(kind) for kind in distinct.values()]
    best, visits = {}, []
    for g in generated:
        gaps = np.sqrt(((places - g) ** 2).sum(axis=1))
        order = sorted(range(len(places)), key=lambda i: gaps[i])
        tied = [i for i in order if gaps[i] == gaps[order[0]]]
        others = [i for i in tied if not kinds[i]]
        # As near to a held-out point: that one is visited. Which of several does not matter to what is tested here.
        place = min(others or tied)
        score = gaps[order[0]] / np.mean(gaps[order[1:5]])
        best[place] = min(best.get(place, np.inf), score)
        visits.append((score, kinds[place]))
    return sorted((score, kinds[place]) for place, score in best.items()), visits


@pytest.mark.parametrize("kind", ["smooth", "coarse", "repeats"])
def test_the_list_of_visits_against_loops(kind):
    rng = np.random.default_rng(20)
    x = rng.standard_normal((160, 3))
    train, test, generated = x[:50], x[50:80], x[80:]
    if kind == "coarse":
        train, test, generated = (np.round(part) for part in (train, test, generated + 0.1))
    if kind == "repeats":
        train, test = np.concatenate([train, train[:9], test[:2]]), np.concatenate([test, test[5:9], train[20:24]])
        generated[:8] = train[20:28]
    found = memorization(generated=generated, train=train, test=test, alpha=0.5)
    expected, visits = naive_list(generated, train, test)
    if kind != "coarse":
        rates = {}
        for cut, _ in expected:
            counts = [sum(trained is wanted for score, trained in expected if score <= cut) for wanted in (True, False)]
            rates[cut] = len(train) / (len(test) + 1) * (1 + counts[1]) / max(counts[0], 1)
        for q_value, (score, trained), exact in zip(found.q_values, visits, found.distances == 0, strict=True):
            last = max(cut for cut in rates if cut <= score + 1e-12)
            least = min(1, *(rate for cut, rate in rates.items() if cut >= last))
            assert exact or q_value == pytest.approx(least if trained else 1, rel=1e-12)
    bounds = [i for i, (_, trained) in enumerate(expected) if not trained]
    ranks = [1, 2, 4, 8][: max(1, int(0.1 * len(expected) * len(test) / (len(train) + len(test)))).bit_length()]
    before = [sum(trained for _, trained in expected[: bounds[j - 1]]) if len(bounds) >= j else None for j in ranks]
    tails = [
        sum(stats.hypergeom.pmf(h, len(train) + len(test), len(test), a + j - 1) for h in range(j))
        for a, j in zip(before, ranks, strict=True)
    ]
    zero = [trained for score, trained in expected if score == 0]
    tails.append(stats.hypergeom.sf(sum(zero) - 1, len(train) + len(test), len(train), len(zero)))
    if kind != "coarse":
        assert found.p_value == pytest.approx(min(1, (len(tails) + 1) * min(tails)), rel=1e-9)
    else:
        assert found.p_value >= min(1, (len(tails) + 1) * min(tails)) - 1e-9


def shrunk_digits(rng):
    """400 samples at a third of the width of their class, and 400 each to train on and to hold out: of one law."""
    classes = [X[k == LABELS] for k in range(10)]
    means = np.stack([x.mean(axis=0) for x in classes])
    roots = [np.linalg.cholesky(0.9 * np.cov(x.T) + 1.5 * np.eye(64)) for x in classes]
    part = rng.integers(0, 10, 1200)
    noise = rng.standard_normal((1200, 64))
    noise[:400] /= 3
    return np.split(np.stack([means[k] + roots[k] @ z for k, z in zip(part, noise, strict=True)]), 3)


def collapsed(rng):
    """Everything near ten places, closer to them than the data lie to each other."""
    places, x = rng.standard_normal((10, 2)), rng.standard_normal((800, 2))
    return places[rng.integers(0, 10, 400)] + 1e-3 * rng.standard_normal((400, 2)), x[:400], x[400:]


def dense_and_coarse(rng):
    """Rounded, and kept to the middle: repeats of all sorts, and unequal sets."""
    x = np.round(2 * rng.standard_normal((600, 3))) / 2
    return np.round(rng.standard_normal((300, 3))) / 2, x[:450], x[450:]


def one_place(rng):
    x = rng.standard_normal((400, 5))
    return np.tile(rng.standard_normal((1, 5)), (300, 1)), x[:300], x[300:]


@pytest.mark.parametrize("case", [shrunk_digits, collapsed, dense_and_coarse, one_place])
def test_generators_that_never_saw_train_are_not_flagged(case):
    """The right null is not perfection: at α = 0.05, 100 audits each, more than 11 with probability 0.4 %."""
    rng = np.random.default_rng(21)
    found = [memorization(**dict(zip(("generated", "train", "test"), case(rng), strict=True)), alpha=0.05)
             for _ in range(100)]  # fmt: skip
    assert sum(one.p_value < 0.05 for one in found) <= 11
    assert sum(one.verdict is Verdict.FLAGGED for one in found) <= 11
    # Nor are single samples named: any naming at all would be false here.
    assert sum(one.discoveries > 0 for one in found) <= 20


def test_any_split_of_the_pool_is_equally_likely():
    """The p-value over all ways to call 5 of 10 points train, for one collapsed and one smooth generator, exactly."""
    from itertools import combinations

    rng = np.random.default_rng(22)
    pool = rng.standard_normal((10, 2))
    for generated in (0.2 * rng.standard_normal((30, 2)), rng.standard_normal((40, 2))):
        p_values = []
        for chosen in combinations(range(10), 5):
            mask = np.isin(np.arange(10), chosen)
            here, apart = (nearest(generated, part, 5) for part in (pool[mask], pool[~mask]))
            p_values.append(VisitTests(Visits.of(here, apart, apart, n_train=5, n_test=5)).p_value)
        assert len(p_values) == 252
        for alpha in np.unique(p_values):
            assert np.mean(np.array(p_values) <= alpha) <= alpha + 1e-12


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
        memorization(generated=dense, train=x[:500], test=x[500:]),
    ):
        assert found.verdict is Verdict.CLEAR


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0, 1.6])
def test_thirty_percent_perturbed_copies(noise):
    rng = np.random.default_rng(6)
    x, source = FRESH.copy(), rng.integers(0, len(TRAIN), 180)
    x[:180] = TRAIN[source] + noise * rng.standard_normal((180, 64))
    found = memorization(generated=x, train=TRAIN, test=TEST)
    assert found.verdict is Verdict.FLAGGED
    assert found.p_value < 1e-10
    true = [s for s in found.suspects if s.generated < 180]
    # A tenth of the training points named may be there by chance, on average over audits (measured: 3 to 15 %).
    assert len(true) >= 0.75 * len(found.suspects)
    assert len(true) >= (180 if noise < 1.5 else 160)
    assert np.mean([s.train == source[s.generated] or s.distance == 0 for s in true]) > 0.98
    assert found.exact_copies == (180 if noise == 0 else 0)
    assert found.copy_share.agrees(180 / len(x))
    scores = [s.score for s in found.suspects]
    assert scores == sorted(scores)


def test_four_percent_exact_copies():
    x = FRESH.copy()
    x[500:524] = TRAIN[:24]
    found = memorization(generated=x, train=TRAIN, test=TEST)
    assert found.verdict is Verdict.FLAGGED
    assert found.exact_copies == 24
    assert {s.generated for s in found.suspects} >= set(range(500, 524))
    assert found.copy_share.agrees(24 / len(x))


def test_only_training_points():
    found = memorization(generated=TRAIN[:500], train=TRAIN, test=TEST)
    assert found.verdict is Verdict.FLAGGED
    assert found.exact_copies == len(found.suspects) == 500
    assert found.copy_share.interval[0] > 0.97
    assert (found.distances == 0).all()
    assert (found.visited_train, found.visited_test) == (500, 0)


def test_one_training_point_for_ever():
    """Exactly, it is caught; nearly, it might be a collapse that hit a training point: not cleared."""
    rng = np.random.default_rng(23)
    exact = memorization(generated=np.tile(TRAIN[:1], (500, 1)), train=TRAIN, test=TEST)
    assert exact.verdict is Verdict.FLAGGED
    assert exact.copy_share.interval[0] > 0.98
    assert exact.discoveries == len(exact.suspects) == 500
    near = memorization(generated=TRAIN[:1] + 0.1 * rng.standard_normal((500, 64)), train=TRAIN, test=TEST)
    assert near.verdict is Verdict.INCONCLUSIVE
    assert "only 1 point " in near.note
    assert near.copy_share.interval == (0.0, 1.0)
    # A few of them among fresh samples: exact repeats are named, and nothing else.
    x = FRESH.copy()
    x[:20] = TRAIN[np.arange(20) % 3]
    few = memorization(generated=x, train=TRAIN, test=TEST)
    assert few.verdict is Verdict.FLAGGED
    assert {s.generated for s in few.suspects} == set(range(20))
    assert few.copy_share.agrees(20 / len(x))


def test_a_held_out_point_in_train_breaks_nothing():
    leaky = np.concatenate([TRAIN, TEST[:3]])
    perfect = memorization(generated=FRESH, train=leaky, test=TEST)
    assert perfect.verdict is Verdict.CLEAR
    assert (perfect.null_distances == 0).sum() == 3
    x = FRESH.copy()
    x[:60] = TRAIN[:60]
    assert memorization(generated=x, train=leaky, test=TEST).verdict is Verdict.FLAGGED


def test_repeats_within_train_do_not_hide_copies():
    twice = np.concatenate([TRAIN, TRAIN, TRAIN, TRAIN, TRAIN, TRAIN])
    rng = np.random.default_rng(9)
    x = FRESH[:500].copy()
    x[:100] = TRAIN[:100] + 0.3 * rng.standard_normal((100, 64))
    found = memorization(generated=x, train=twice, test=TEST)
    once = memorization(generated=x, train=TRAIN, test=TEST)
    assert found.verdict is Verdict.FLAGGED
    assert max(s.train for s in found.suspects) < len(TRAIN)
    assert found.p_value == once.p_value
    np.testing.assert_array_equal(found.q_values, once.q_values)


@pytest.mark.parametrize("m", [0, 400])
def test_a_sweep_that_is_there_changes_nothing(m):
    x, test = FRESH.copy(), TEST[:m] if m else None
    x[:40] = TRAIN[:40] + 0.3
    swept = sweep(generated=x, train=TRAIN, test=test, k=6)
    mine, theirs = (memorization(generated=x, train=TRAIN, test=test, swept=ready) for ready in (None, swept))
    for name, value in vars(mine).items():
        np.testing.assert_equal(value, getattr(theirs, name), err_msg=name)
    with pytest.raises(InputError, match="swept="):
        memorization(generated=x[:99], train=TRAIN, test=test, swept=swept)
    with pytest.raises(InputError, match="swept="):
        memorization(generated=x, train=TRAIN, test=test, swept=sweep(generated=x, train=TRAIN, test=test, k=2))


@pytest.mark.parametrize("test", [None, TEST[:19]])
def test_without_held_out_data_nothing_is_concluded(test):
    for x in (TRAIN[:50], TEST[100:150]):
        found = memorization(generated=x, train=TRAIN, test=test)
        assert found.verdict is Verdict.INCONCLUSIVE
        assert found.p_value == 1.0
        assert "test=" in found.note
        assert found.suspects == ()
    assert memorization(generated=TRAIN[:50], train=TRAIN, test=test).exact_copies == 50


@pytest.mark.parametrize("leak", [0.05, 0.4, 0.8])
@pytest.mark.parametrize("kind", ["perturbed", "exact", "of leaked rows", "none"])
def test_copies_do_not_hide_behind_held_out_data_that_leaked(kind, leak):
    rng = np.random.default_rng(21)
    train, test, samples = rng.normal(size=(1000, 8)), rng.normal(size=(500, 8)), rng.normal(size=(1000, 8))
    leaked = rng.choice(1000, round(500 * leak), replace=False)
    test[: len(leaked)] = train[leaked]
    copied = rng.choice(leaked if kind == "of leaked rows" else 1000, 250)
    if kind != "none":
        samples[:250] = train[copied] + 1e-3 * (kind == "perturbed") * rng.normal(size=(250, 8))
    found = memorization(generated=samples, train=train, test=test)
    assert found.leaked == len(leaked)
    assert f"{len(leaked)} points of test= are training points and were left out" in found.note
    assert len(found.null_scores) == 500 - len(leaked)
    # Rows of the held-out data are still those of the file.
    assert not set(found.nearest_test) & set(range(len(leaked)))
    if kind == "none":
        assert found.verdict is Verdict.CLEAR
    else:
        assert found.verdict is Verdict.FLAGGED
        assert found.copy_share.value == pytest.approx(0.25, abs=0.04)


@pytest.mark.parametrize("sizes", [(1000, 1000), (2000, 200), (300, 1500)])
@pytest.mark.parametrize("law", ["few values", "many", "some common"])
def test_data_that_repeat_themselves_have_not_leaked(law, sizes):
    rng = np.random.default_rng(22)

    def draw(n):
        if law == "some common":
            return np.where(rng.random(n) < 0.1, rng.integers(0, 20, n), rng.random(n))[:, None]
        return rng.integers(0, 1000 if law == "few values" else 100_000, n).astype(float)[:, None]

    kept = [len(CopySearch(draw(sizes[0]), draw(sizes[1]), None, None).kept) for _ in range(100)]
    assert kept == [sizes[1]] * 100


def test_other_reasons_to_conclude_nothing():
    rng = np.random.default_rng(10)
    x = rng.standard_normal((400, 3))
    assert memorization(generated=x[:3], train=x[100:200], test=x[200:230]).verdict is Verdict.INCONCLUSIVE
    assert memorization(generated=x[:90], train=x[100:105], test=x[200:300]).verdict is Verdict.INCONCLUSIVE
    # Training data handed in as held-out data.
    same = memorization(generated=x[:90], train=x[100:200], test=x[100:180])
    assert same.verdict is Verdict.INCONCLUSIVE
    assert "0 points that are held out" in same.note
    assert same.leaked == 80
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


def test_copy_share_by_hand():
    """300 of 10 000 samples visit train within the cut and 290 held-out data: 0.1 %, at most 0.6 %, not 3 %."""
    trained = np.arange(590) % 2 == 0
    trained[-10:] = True
    scores = np.linspace(0, 0.1, 590)
    elsewhere = np.full(9410, 0.5)
    visits = Visits(
        20_000,
        20_000,
        np.append(trained, True),
        np.append(scores, 0.5),
        np.concatenate([scores, elsewhere]),
        np.concatenate([trained, elsewhere > 0]),
        np.concatenate([np.arange(590), np.full(9410, 590)]),
    )
    share = visits.copy_share(0.1)
    limits = [(stats.beta.ppf(0.025, k, 10_001 - k), stats.beta.ppf(0.975, k + 1, 10_000 - k)) for k in (300, 290)]
    arms = [
        math.hypot(0.03 - limits[0][0], limits[1][1] - 0.029),
        math.hypot(limits[0][1] - 0.03, 0.029 - limits[1][0]),
    ]
    assert share.value == pytest.approx(0.001)
    assert share.interval == pytest.approx((max(0.001 - arms[0], 0), 0.001 + arms[1]))
    assert 0.005 < share.interval[1] < 0.006
    # Many more visits of held-out data than of train: what remains is what is known when no copy is seen.
    visits.trained[:] = visits.sample_trained[:590] = False
    assert visits.copy_share(0.1).interval == pytest.approx((0, 1 - 0.025**1e-4), rel=1e-3)


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
    x = FRESH.copy()
    x[:50] = TRAIN[:50] + 0.2
    found = memorization(generated=x, train=TRAIN, test=TEST)
    assert {suspect.generated for suspect in found.suspects} >= set(range(50))
    for suspect in found.suspects[:50]:
        gap = np.linalg.norm(TEST - x[suspect.generated], axis=1)
        assert suspect.nearest_test == gap.argmin()
        assert suspect.test_distance == pytest.approx(gap.min())
        assert suspect.distance < suspect.test_distance
        assert suspect.q_value == found.q_values[suspect.generated] <= 0.1
    assert found.false_suspects <= 0.1


LAWS = {"line": 1, "plane": 2, "64-D": 64, "mixtures": 3, "heavy tails": 3}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LAWS)
@pytest.mark.parametrize("generator", ["perfect", "a third as wide", "blurred", "a tenth", "kernels", "half of it"])
def test_honest_generators_are_not_flagged(kind, generator):
    """1000 audits each, at α = 0.05: none of them has seen train, and the interval must not lie above α."""
    rng = np.random.default_rng(15)
    dim = LAWS[kind]
    laws = [
        (rng.normal(0, 4, (6, dim)), rng.uniform(0.05, 1.5, (6, dim)), rng.dirichlet(np.ones(6))) for _ in range(20)
    ]
    flagged, named = 0, 0
    for trial in range(1000):
        x = rng.standard_t(2, (600, dim)) if kind == "heavy tails" else rng.standard_normal((600, dim))
        if generator in ("a third as wide", "a tenth"):
            x[:200] /= 3 if generator == "a third as wide" else 10
        if kind == "mixtures":
            means, scales, weights = laws[trial % 20]
            part = rng.choice(6, 600, p=weights)
            x = means[part] + scales[part] * x
        y = x[:200]
        if generator == "blurred":
            y = y + 0.5 * rng.standard_normal(y.shape)
        if generator == "kernels":
            y = y[rng.integers(0, 30, 200)] + 0.01 * rng.standard_normal(y.shape)
        if generator == "half of it":
            y = y[y[:, 0] > np.median(y[:, 0])]
        found = memorization(generated=y, train=x[200:400], test=x[400:], alpha=0.05)
        flagged += found.p_value < 0.05
        named += found.discoveries > 0
    assert clopper_pearson(flagged, 1000).interval[0] <= 0.05
    assert clopper_pearson(named, 1000).interval[0] <= 0.1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_one_percent_of_perturbed_copies_among_ten_thousand_digits(extra_data):
    """Noise of 6/255 per pixel; 10 000 train, 10 000 held-out: power ≥ 95 % at ≤ 5 % false alarms, and which ones."""
    with np.load(extra_data / "mnist.npz") as archive:
        images = archive["train"].reshape(60_000, 784).astype(np.float64)
    rng = np.random.default_rng(16)
    images = images[rng.permutation(60_000)]
    train, held_out, fresh = images[:10_000], images[10_000:20_000], images[20_000:30_000]
    copies = train[rng.choice(10_000, 500, replace=False)] + 6 * rng.standard_normal((500, 784))
    samples = np.concatenate([copies, fresh])
    # What a sample visits depends on it and the pool alone: one search serves every audit.
    swept = sweep(generated=samples, train=train, test=held_out, k=12, rules=())
    lists = swept.generated_train, swept.generated_test

    def rows_of(part, rows):
        return Neighbors(part.distances[rows], part.indices[rows])

    rows = np.concatenate([np.arange(100), 500 + np.arange(9900)])
    part = replace(swept, generated_train=rows_of(lists[0], rows), generated_test=rows_of(lists[1], rows))
    found = memorization(generated=samples[rows], train=train, test=held_out, alpha=0.05, swept=part)
    assert found.verdict is Verdict.FLAGGED
    assert {suspect.generated for suspect in found.suspects} >= set(range(100))
    assert (found.q_values[:100] <= 0.1).all()
    assert found.false_suspects <= 0.1
    assert found.copy_share.agrees(0.01)
    assert found.copy_share.interval[1] < 0.02
    # Other copies among other fresh images ...
    caught = 0
    for _ in range(200):
        rows = np.concatenate([rng.choice(500, 100, replace=False), 500 + rng.permutation(10_000)[:9900]])
        here, apart = (Neighbors(*(array[:, :5] for array in rows_of(part, rows))) for part in lists)
        caught += VisitTests(Visits.of(here, apart, apart, n_train=10_000, n_test=10_000)).p_value < 0.05
    assert caught / 200 >= 0.95
    # ... and for a generator without copies the split of the pool is drawn anew.
    distances = np.concatenate([part.distances[500:] for part in lists], axis=1)
    indices = np.concatenate([lists[0].indices[500:], 10_000 + lists[1].indices[500:]], axis=1)
    order = np.argsort(distances, axis=1, kind="stable")[:, :12]
    near = Neighbors(np.take_along_axis(distances, order, axis=1), np.take_along_axis(indices, order, axis=1))
    false = 0
    for _ in range(200):
        trained = rng.permutation(20_000) < 10_000
        here, apart = (_nearest_of_kind(near, trained == wanted) for wanted in (True, False))
        false += VisitTests(Visits.of(here, apart, apart, n_train=10_000, n_test=10_000)).p_value < 0.05
    assert clopper_pearson(false, 200).interval[0] <= 0.05


def _nearest_of_kind(near, wanted):
    """Of the nearest dozen the first five that are wanted; beyond them anything farther does, being no visit."""
    order = np.argsort(~wanted[near.indices], axis=1, kind="stable")[:, :5]
    mine = np.take_along_axis(wanted[near.indices], order, axis=1)
    distances = np.where(mine, np.take_along_axis(near.distances, order, axis=1), 1e9)
    return Neighbors(distances, np.take_along_axis(near.indices, order, axis=1))


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
