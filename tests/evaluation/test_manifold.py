"""Published programs' numbers on a frozen toy, exact nulls by simulation, intervals by simulation, planted defects."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from divergences import InputError
from evaluation import resplit
from evaluation.alpha import alpha_precision, authenticity
from evaluation.manifold import coverage_null, improved_precision_recall, prdc
from evaluation.prd import _of_bins, f_beta, prd, prd_curve
from evaluation.sample_scores import SampleScores, rarity, realism
from evaluation.sweep import Rule, sweep
from evaluation.vendi import memorization_distance, vendi


@pytest.fixture(scope="module")
def toy():
    """(real, fake, test): streams of the legacy generator are frozen for good."""
    draw = np.random.RandomState
    return (
        draw(0).standard_normal((200, 8)),
        draw(1).standard_normal((150, 8)) * 0.9 + 0.2,
        draw(2).standard_normal((160, 8)),
    )


def numbers(scores, *names):
    return [getattr(scores, name).value for name in names]


PRDC = ("precision", "recall", "density", "coverage")


# --- what the published programs print -------------------------------------------------------------------------------


def test_toy_is_the_toy(toy):
    assert toy[0].sum() == pytest.approx(-24.857124576862212, abs=1e-12)
    assert toy[1].sum() == pytest.approx(267.3179468955838, abs=1e-11)


def test_prdc_and_improved_precision_recall_of_the_toy(toy):
    real, fake, _ = toy
    both = sweep(generated=fake, train=real, k=6, rules=[Rule(5), Rule(3, closed=True)])
    for swept in (None, both):
        scores = prdc(generated=fake, reference=real, swept=swept)
        np.testing.assert_allclose(numbers(scores, *PRDC), [0.9666666667, 0.87, 1.1226666667, 0.91], atol=5e-11)
        closed = improved_precision_recall(generated=fake, reference=real, swept=swept)
        assert numbers(closed, "precision", "recall") == [0.94, 0.745]


def test_authenticity_of_the_toy_and_the_known_bug(toy):
    real, fake, _ = toy
    found = authenticity(generated=fake, train=real)
    assert 100 * found.share.value == pytest.approx(58.666666666666664, abs=1e-12)
    # The published program takes, for each sample, the radius of the train point that has the number of a *sample*.
    within = cdist(real, real)
    np.fill_diagonal(within, np.inf)
    across = cdist(real, fake)
    radius, there, which = within.min(axis=1), across.min(axis=1), across.argmin(axis=1)
    bug = (radius[which] < there).mean()
    correct = np.mean([radius[i] < d for i, d in zip(across.argmin(axis=0), across.min(axis=0), strict=True)])
    assert found.share.value == correct
    assert abs(bug - correct) > 0.02


def test_memorization_distance_of_the_toy(toy):
    real, fake, _ = toy
    assert memorization_distance(generated=fake, train=real).distance.value == pytest.approx(
        0.1489721621790351, abs=1e-15
    )
    # The direction of another library: from train to generated.
    assert memorization_distance(generated=real, train=fake).distance.value == pytest.approx(
        0.16033923540023615, abs=1e-15
    )


def test_vendi_of_the_toy(toy):
    real, _, _ = toy
    assert vendi(generated=real).score.value == pytest.approx(7.853667435196063, rel=1e-13)
    assert vendi(generated=real, q=2).score.value == pytest.approx(7.720864726679152, rel=1e-13)
    assert vendi(generated=np.eye(9)).score.value == pytest.approx(9.0)
    assert vendi(generated=np.ones((9, 3))).score.value == pytest.approx(1.0)
    assert vendi(generated=real, q=math.inf).score.value < vendi(generated=real, q=5).score.value


def test_vendi_by_either_side_of_the_matrix():
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((30, 30))
    for q in (0.5, 1.0, 2.0, math.inf):
        square, tall = vendi(generated=wide, q=q).score, vendi(generated=np.repeat(wide, 2, axis=0), q=q).score
        assert square.value == pytest.approx(tall.value, rel=1e-12)
    # A column of zeros makes the other product the smaller one.
    tall = rng.standard_normal((31, 30))
    for q in (0.5, 1.0, 2.0, math.inf):
        by_columns, by_rows = vendi(generated=tall, q=q).score, vendi(generated=np.c_[tall, np.zeros(31)], q=q).score
        assert by_rows.interval == pytest.approx(by_columns.interval, rel=1e-9)


@pytest.mark.parametrize("q", [0.5, 1.0, 2.0, 5.0])
def test_derivatives_of_the_entropy_are_those_of_differences(q):
    from evaluation.vendi import _entropy

    rng = np.random.default_rng(3)
    values = np.sort(rng.uniform(0.5, 1.5, 4))
    values /= values.sum()
    change = rng.standard_normal((4, 4))
    change = (change + change.T) / 2
    change -= np.eye(4) * np.trace(change) / 4

    def entropy(step):
        found = np.linalg.eigvalsh(np.diag(values) + step * change)
        return -np.sum(found * np.log(found)) if q == 1 else np.log(np.sum(found**q)) / (1 - q)

    _, slope, curvature = _entropy(values, q)
    first, second = slope @ np.diag(change), -np.vdot(curvature, change**2) - (1 - q) * (slope @ np.diag(change)) ** 2
    h = 1e-4
    assert (entropy(h) - entropy(-h)) / (2 * h) == pytest.approx(first, rel=1e-5)
    assert (entropy(h) - 2 * entropy(0) + entropy(-h)) / h**2 == pytest.approx(second, rel=1e-4)


def test_prd_of_the_toy():
    precision, recall = prd_curve([0.6, 0.4, 0.0], [0.3, 0.3, 0.4])
    assert f_beta(precision, recall, 8.0) == pytest.approx(0.6023089631023334, abs=1e-13)
    assert f_beta(precision, recall, 1 / 8) == pytest.approx(0.9848288753231104, abs=1e-13)
    assert precision.max() == pytest.approx(1.0)
    assert recall.max() == pytest.approx(0.6, abs=1e-9)
    assert prd_curve([0, 1], [1, 0])[0].max() == 0


def naive_realism(points, owners, k):
    within, across = cdist(owners, owners), cdist(points, owners)
    radii = np.sort(within, axis=1)[:, k]
    ratio = radii**2 / (across**2 + 1e-5)
    return np.where(radii <= np.median(radii), ratio, 0).max(axis=1)


def naive_rarity(points, owners, k):
    radii = np.sort(cdist(owners, owners), axis=1)[:, k]
    inside = np.where(cdist(points, owners) < radii, radii, np.inf).min(axis=1)
    return np.where(np.isinf(inside), 0, inside)


@pytest.mark.parametrize("d", [1, 2, 8, 40])
def test_realism_and_rarity_are_the_naive_ones(d):
    rng = np.random.default_rng(d)
    real, fake, test = (rng.standard_normal((n, d)) for n in (1500, 130, 70))
    fake[:20] = real[:20]
    real[100:110] = real[90:100]
    for function, naive in ((realism, naive_realism), (rarity, naive_rarity)):
        scores = function(generated=fake, reference=real, test=test, k=3)
        np.testing.assert_allclose(scores.values, naive(fake, real, 3), rtol=1e-12)
        np.testing.assert_allclose(scores.null, naive(test, real, 3), rtol=1e-12)


def test_medians_of_realism_and_rarity_have_honest_errors():
    rng = np.random.default_rng(17)
    real, many = rng.standard_normal((150, 2)), rng.standard_normal((10_000, 2))
    for function in (realism, rarity):
        scores = function(generated=many, reference=real, test=many[:90]).values
        truth = np.median(scores[scores > 0])
        held = []
        # Samples of one law, in bunches of 50.
        for bunch in scores.reshape(200, 50):
            found = SampleScores(bunch).median
            assert found.value == np.median(bunch[bunch > 0])
            held.append(found.agrees(truth))
        # At least 95 % for every law; 200 trials: below 0.9 with probability 0.3 %.
        assert 0.9 <= np.mean(held) <= 0.995
    few = function(generated=many[:4], reference=real, test=many[:90])
    assert few.median.interval == (0.0, math.inf)
    assert few.null_median.n <= 90
    assert few.null_median.interval[0] <= few.null_median.value <= few.null_median.interval[1]
    assert function(generated=many[:2] + 99, reference=real).median.note == "no sample lies in a ball"


def test_alpha_precision_is_the_naive_one(toy):
    real, fake, _ = toy
    scores = alpha_precision(generated=fake, reference=real)
    center, other = real.mean(axis=0), fake.mean(axis=0)
    alphas = np.linspace(0, 1, 30)
    radii = np.quantile(np.linalg.norm(real - center, axis=1), alphas)
    curve = [(np.linalg.norm(fake - center, axis=1) <= r).mean() for r in radii]
    within = cdist(real, real)
    np.fill_diagonal(within, np.inf)
    across = cdist(real, fake)
    nearest = np.linalg.norm(fake[across.argmin(axis=1)] - other, axis=1)
    close = across.min(axis=1) <= within.min(axis=1)
    back = [(close & (nearest <= r)).mean() for r in np.quantile(nearest, alphas)]
    np.testing.assert_allclose(scores.precision_curve, curve, atol=1e-12)
    np.testing.assert_allclose(scores.recall_curve, back, atol=1e-12)
    assert scores.precision.value == pytest.approx(1 - 2 * np.abs(alphas - curve).sum() / 29)
    assert scores.null.precision.value > scores.precision.value
    assert scores.null.precision.agrees(0.95)


# --- nulls -----------------------------------------------------------------------------------------------------------


def simulate(function, runs, n, m, d, seed=0):
    values = []
    for run in range(runs):
        rng = np.random.default_rng([seed, run])
        values.append(function(rng.standard_normal((m, d)), rng.standard_normal((n, d))))
    values = np.array(values)
    return values.mean(axis=0), values.std(axis=0, ddof=1) / math.sqrt(runs)


@pytest.mark.parametrize(("d", "law"), [(2, "normal"), (128, "normal"), (3, "heavy")])
def test_density_and_coverage_have_exact_nulls_in_every_dimension(d, law):
    def score(fake, real):
        if law == "heavy":
            fake, real = np.sinh(3 * fake), np.sinh(3 * real)
        values, _ = SCORE(fake, real)
        return values[2:4]

    mean, error = simulate(score, 400, 60, 40, d)
    np.testing.assert_allclose(mean, [1.0, coverage_null(60, 40, 5)], atol=4 * error.max())
    assert error.max() < 0.02


def SCORE(fake, real):
    from evaluation.manifold import _Score

    return _Score(Rule(5))(fake, real)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("d", "precision", "density", "covered"),
    [(2, 0.996, 1.008, 0.966), (16, 0.859, 1.006, 0.953), (128, 0.65, 0.886, 0.965)],
)
def test_published_values_of_a_perfect_generator(d, precision, density, covered):
    rng = np.random.default_rng(d)
    found = prdc(generated=rng.standard_normal((1000, d)), reference=rng.standard_normal((1000, d)))
    # One draw was published, and one is here: their intervals touch.
    assert found.null.precision.value == pytest.approx(precision, abs=0.04)
    for estimate, other in ((found.precision, precision), (found.density, density), (found.coverage, covered)):
        assert abs(estimate.value - other) <= 2 * estimate.error


def test_wide_reference_and_narrow_samples_are_precise_and_miss_much():
    rng = np.random.default_rng(0)
    found = improved_precision_recall(
        generated=0.1 * rng.standard_normal((300, 4)), reference=3 * rng.standard_normal((300, 4))
    )
    assert found.precision.value > 0.8
    assert found.recall.value < 0.3


def test_published_values_of_the_coverage_null():
    assert coverage_null(500, 500, 5) == pytest.approx(0.96922, abs=5e-6)
    assert coverage_null(10_000, 10_000, 5) == pytest.approx(0.96877, abs=5e-6)
    assert coverage_null(200, 120, 5) == pytest.approx(0.9073, abs=5e-5)


@pytest.mark.parametrize("d", [2, 12])
def test_points_left_out_score_like_a_perfect_generator(d):
    # The null needs no held-out data: its expectation is that of held-out data against one point less.
    def score(fake, real):
        values, _ = SCORE(fake, real)
        found, share = prdc(generated=fake[:45], reference=real), authenticity(generated=fake, train=real)
        # Recall by 45 samples has a null of 45 points.
        return (
            values[0] - values[4],
            found.recall.value - found.null.recall.value,
            share.share.value - share.null.value,
        )

    uncut = resplit.Spread(None, None, 1, 0)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("manifold", "alpha"):
            patch.setattr(f"evaluation.{module}.spread", lambda *_, **__: uncut)
        mean, error = simulate(score, 60, 60, 60, d)
    # 59 points against 60: the rest of the difference.
    assert (np.abs(mean) < 4 * error + 0.004).all(), (mean, error)
    assert error.max() < 0.015


def test_held_out_data_are_the_null_where_there_are_any(toy):
    real, fake, test = toy
    theirs = prdc(generated=test, reference=real)
    null = prdc(generated=test[:150] * 2, reference=real, test=test).null
    assert null.precision.value == theirs.precision.value
    assert null.recall.note.startswith("reference points left out")
    equal = prdc(generated=fake, reference=real, test=test[:150]).null
    assert equal.recall.value == prdc(generated=test[:150], reference=real).recall.value
    assert authenticity(generated=fake, train=real, test=test).null.value == (
        authenticity(generated=test, train=real).share.value
    )
    assert vendi(generated=fake, reference=real).null.n == 150
    assert memorization_distance(generated=fake, train=real, test=test).null.value == pytest.approx(
        memorization_distance(generated=test, train=real).distance.value
    )


def test_authenticity_null_moves_with_the_dimension():
    for d, expected in ((1, 0.32), (2, 0.38), (8, 0.60), (64, 0.80)):
        rng = np.random.default_rng(d)
        found = authenticity(generated=rng.standard_normal((600, d)), train=rng.standard_normal((600, d)))
        assert found.null.value == pytest.approx(expected, abs=0.06)
        assert found.share.agrees(found.null)


# --- intervals -------------------------------------------------------------------------------------------------------

LAWS = {
    "plane": (120, 120, 2, 1.0, 0.0),
    "narrow": (100, 100, 2, 0.7, 0.5),
    "unequal": (150, 80, 8, 1.0, 0.0),
    "wide": (100, 100, 32, 1.1, 0.0),
    "large": (1500, 1500, 6, 0.9, 0.2),
}


def coverage(law, runs):
    """Share of intervals that hold the mean of all runs; their width in units of the one that would be right."""
    n, m, d, scale, shift = LAWS[law]
    rows = []
    for run in range(runs):
        rng = np.random.default_rng([7, run])
        real, fake = rng.standard_normal((n, d)), scale * rng.standard_normal((m, d)) + shift / math.sqrt(d)
        scores, share = prdc(generated=fake, reference=real), authenticity(generated=fake, train=real)
        estimates = [getattr(scores, name) for name in PRDC] + [scores.null.precision, share.share, share.null]
        rows.append([(e.value, *e.interval) for e in estimates])
    value, low, high = np.moveaxis(np.array(rows), 2, 0)
    mean = value.mean(axis=0)
    return ((low <= mean) & (mean <= high)).mean(axis=0), (high - low).mean(axis=0) / (3.92 * value.std(axis=0))


@pytest.mark.parametrize("law", ["narrow", "wide"])
def test_intervals_hold_the_expected_score(law):
    covered, width = coverage(law, 40)
    # 34 of 40 or fewer has probability 1.4 % at 95 %.
    assert (covered >= 34 / 40).all(), covered
    assert (width < 4).all(), width


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
def test_intervals_hold_the_expected_score_in_many_simulations(law):
    runs = 100 if law == "large" else 300
    covered, width = coverage(law, runs)
    assert (covered >= 0.92 - 1.96 * math.sqrt(0.05 * 0.95 / runs)).all(), (covered, width)


def held_by_intervals(rows):
    """Share of intervals that hold the mean of all runs, column by column."""
    value, low, high = np.moveaxis(np.array(rows), 2, 0)
    mean = value.mean(axis=0)
    return ((low <= mean + 1e-12) & (mean <= high + 1e-12)).mean(axis=0)


def drawn(run, n, d, *, other):
    """Reference and generated samples of one law, or of narrower and shifted ones."""
    rng = np.random.default_rng([8, run, n, d])
    real, fake = rng.standard_normal((n, d)), rng.standard_normal((n, d))
    return real, fake * 0.8 + 0.5 / math.sqrt(d) if other else fake


ORDERS = (0.5, 1.0, 2.0, 5.0, math.inf)


@pytest.mark.parametrize("other", [False, True])
def test_intervals_of_vendi_near_and_far_from_its_largest_value(other):
    rows = []
    for run in range(100):
        _, fake = drawn(run, 200, 2, other=other)
        rows.append([(e.value, *e.interval) for e in (vendi(generated=fake, q=q).score for q in (1.0, 2.0))])
    # 100 trials at 95 %: below 0.88 with probability 0.4 %.
    assert (held_by_intervals(rows) >= 0.88).all()


@pytest.mark.slow
@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize(("d", "n"), [(2, 200), (2, 1000), (16, 200), (16, 1000)])
def test_intervals_of_vendi_at_length(d, n, other):
    rows = []
    for run in range(1000):
        _, fake = drawn(run, n, d, other=other)
        rows.append([(e.value, *e.interval) for e in (vendi(generated=fake, q=q).score for q in ORDERS)])
    # 0.93, less two standard errors of 1000 trials; conservative for large q.
    assert (held_by_intervals(rows) >= 0.93 - 0.016).all()


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize(("d", "n", "runs"), [(2, 200, 500), (16, 200, 500), (2, 1000, 200), (16, 1000, 200)])
def test_intervals_of_all_manifold_scores_at_length(d, n, runs, other):
    rows = []
    for run in range(runs):
        real, fake = drawn(run, n, d, other=other)
        scores, closed = prdc(generated=fake, reference=real), improved_precision_recall(generated=fake, reference=real)
        curves, share = alpha_precision(generated=fake, reference=real), authenticity(generated=fake, train=real)
        estimates = [getattr(scores, name) for name in PRDC] + [scores.null.precision, scores.null.recall]
        estimates += [closed.precision, closed.recall, share.share, share.null, curves.precision, curves.recall]
        rows.append([(e.value, *e.interval) for e in estimates])
    # 0.93, less two and a half standard errors; twelve scores are looked at. Shares near 1 are conservative.
    covered = held_by_intervals(rows)
    assert (covered >= 0.93 - 2.5 * math.sqrt(0.07 * 0.93 / runs)).all(), covered


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("d", [2, 16])
def test_intervals_where_samples_reach_much_of_the_data_by_outliers_only(d):
    rows = []
    for run in range(300):
        rng = np.random.default_rng([10, run])
        real, fake = rng.standard_normal((200, d)), 0.6 * rng.standard_normal((200, d)) + 1.5 / math.sqrt(d)
        scores, closed = prdc(generated=fake, reference=real), improved_precision_recall(generated=fake, reference=real)
        estimates = [scores.precision, scores.coverage, closed.precision, scores.recall, closed.recall]
        rows.append([(e.value, *e.interval) for e in estimates])
    covered = held_by_intervals(rows)
    # 0.93, less two and a half standard errors; recall in the plane has 0.91, as documented.
    assert (covered[:3] >= 0.93 - 0.037).all(), covered
    assert (covered[3:] >= 0.91 - 0.041).all(), covered


# Masses of twenty bins: of one law, with half of the modes missing, of laws that share little, and next to nothing.
BINS = {
    "same": lambda p, rng: (p, p),
    "half missing": lambda p, rng: (p, np.where(np.arange(20) < 10, p, 0)),
    "half bad": lambda p, rng: (np.where(np.arange(20) < 10, p, 0), p),
    "uneven": lambda p, rng: (p, rng.dirichlet(np.full(20, 0.5))),
    "apart": lambda p, rng: (np.where(np.arange(20) < 10, p, p / 50), np.where(np.arange(20) < 10, p / 50, p)),
}


def prd_covered(kind, n, runs):
    """Share of intervals of both ends that hold the mean score: no clustering, the bins are known."""
    rng, rows = np.random.default_rng(9), []
    masses = [mass / mass.sum() for mass in BINS[kind](rng.dirichlet(np.full(20, 5.0)), rng)]
    for _ in range(runs):
        reference, generated = (rng.choice(20, n, p=mass) for mass in masses)
        scores = _of_bins([(generated, reference)], 20, rng, "")
        rows.append([(e.value, *e.interval) for e in (scores.f8, scores.f_eighth)])
    return held_by_intervals(rows)


@pytest.mark.parametrize("kind", ["same", "half missing", "apart"])
def test_intervals_of_the_prd_curve_in_known_bins(kind):
    # 40 trials at 95 %: below 0.825 with probability 0.3 %.
    assert (prd_covered(kind, 200, 40) >= 0.825).all()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("n", [200, 1000])
@pytest.mark.parametrize("kind", BINS)
def test_intervals_of_the_prd_curve_in_known_bins_at_length(kind, n):
    # 0.93, less two standard errors of 500 trials.
    assert (prd_covered(kind, n, 500) >= 0.93 - 0.023).all()


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("d", [2, 16])
def test_intervals_of_the_prd_curve_at_length(d, other):
    rows = []
    for run in range(200):
        real, fake = drawn(run, 200, d, other=other)
        scores = prd(generated=fake, reference=real, rng=np.random.default_rng(run), runs=4)
        estimates = [scores.f8, scores.f_eighth, scores.null.f8, scores.null.f_eighth]
        rows.append([(e.value, *e.interval) for e in estimates])
    # Conservative, as documented; 0.93 less two standard errors of 200 trials.
    covered = held_by_intervals(rows)
    assert (covered >= 0.93 - 0.036).all(), covered


# --- planted defects -------------------------------------------------------------------------------------------------


def test_each_defect_lowers_the_score_that_is_about_it():
    rng = np.random.default_rng(0)
    real, fake = (rng.standard_normal((400, 2)) + 8 * rng.integers(0, 2, (400, 1)) for _ in range(2))
    fine = prdc(generated=fake, reference=real)
    assert all(getattr(fine, name).agrees(getattr(fine.null, name)) for name in PRDC)
    missing = prdc(generated=fake[fake[:, 0] < 4], reference=real)
    assert missing.precision.agrees(missing.null.precision)
    assert missing.recall.interval[1] < missing.null.recall.interval[0]
    assert missing.coverage.interval[1] < missing.null.coverage.value
    noisy = prdc(generated=fake + 3 * rng.standard_normal(fake.shape), reference=real)
    assert noisy.precision.interval[1] < noisy.null.precision.interval[0]
    assert noisy.density.interval[1] < 1
    copied = authenticity(generated=real[:200] + 1e-3, train=real)
    assert copied.share.interval[1] < copied.null.interval[0]
    assert vendi(generated=fake[:1].repeat(50, axis=0), reference=real).score.value == pytest.approx(1)


def test_prd_sees_what_is_missing_and_what_is_bad():
    rng = np.random.default_rng(0)
    real, fake = (rng.standard_normal((300, 2)) + 8 * rng.integers(0, 2, (300, 1)) for _ in range(2))
    fine, missing = (
        prd(generated=g, reference=real, rng=np.random.default_rng(1), clusters=8, runs=2)
        for g in (fake, fake[fake[:, 0] < 4])
    )
    assert fine.f8.agrees(fine.null.f8)
    assert missing.f8.interval[1] < missing.null.f8.interval[0]
    assert missing.f_eighth.value > 0.85
    again = prd(generated=fake, reference=real, rng=np.random.default_rng(1), clusters=8, runs=2)
    assert again.f8 == fine.f8


# --- degenerate and bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [2, 20])
def test_all_points_equal(d):
    same = np.ones((40, d))
    scores = prdc(generated=same, reference=same)
    assert numbers(scores, *PRDC) == [0, 0, 0, 0]
    assert "twins" in scores.precision.note
    closed = improved_precision_recall(generated=same, reference=same)
    assert numbers(closed, "precision", "recall") == [1, 1]
    assert numbers(closed.null, "precision", "recall") == [1, 1]
    assert authenticity(generated=same, train=same).share.value == 0
    assert (realism(generated=same, reference=same).values == 0).all()
    assert (rarity(generated=same, reference=same).values == 0).all()
    assert memorization_distance(generated=same, train=same).distance.value == 0


def test_smallest_sets_and_the_line():
    rng = np.random.default_rng(0)
    scores = prdc(generated=rng.standard_normal(7), reference=rng.standard_normal(7))
    for name in PRDC:
        low, high = getattr(scores, name).interval
        assert low <= getattr(scores, name).value <= high
    assert scores.precision.error > 0.3


def test_far_away_samples_have_upper_bounds():
    rng = np.random.default_rng(0)
    scores = prdc(generated=rng.standard_normal((100, 3)) + 1000, reference=rng.standard_normal((100, 3)))
    assert numbers(scores, *PRDC) == [0, 0, 0, 0]
    for name in PRDC:
        assert 0 < getattr(scores, name).interval[1] < 0.25


GOOD = np.random.default_rng(0).standard_normal((12, 3))


@pytest.mark.parametrize("function", [prdc, improved_precision_recall, alpha_precision, realism, rarity])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"generated": np.full((12, 3), np.nan)}, "generated= holds NaN"),
        ({"reference": np.full((12, 3), np.inf)}, "reference= holds infinite"),
        ({"generated": np.ones((12, 2))}, "generated= must be 3-dimensional"),
        ({"test": np.ones((12, 2))}, "test= must be 3-dimensional"),
        ({"reference": np.ones((0, 3))}, "reference= needs"),
        ({"reference": GOOD[:2]}, "reference= needs"),
    ],
)
def test_bad_input(function, arguments, words):
    with pytest.raises(InputError, match=words):
        function(**({"generated": GOOD, "reference": GOOD} | arguments))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: prdc(generated=GOOD, reference=GOOD, k=11), "generated=|reference= needs at least k"),
        (lambda: prdc(generated=GOOD, reference=GOOD, k=0), "k must be at least 1"),
        (lambda: prdc(generated=GOOD, reference=GOOD, swept=sweep(generated=GOOD, train=GOOD)), "swept= needs"),
        (lambda: authenticity(generated=GOOD, train=GOOD[:3]), "train= needs"),
        (lambda: authenticity(generated=GOOD, train=GOOD, swept=sweep(generated=GOOD, train=GOOD, k=1)), "swept="),
        (lambda: vendi(generated=np.zeros((3, 2))), "generated= holds zeros"),
        (lambda: vendi(generated=GOOD, q=0), "q must be"),
        (lambda: memorization_distance(generated=GOOD, train=np.zeros((3, 3))), "train= holds zeros"),
        (lambda: prd_curve([1.0], [0.5, 0.5]), "same"),
        (lambda: prd_curve([-1.0, 2.0], [0.5, 0.5]), "evaluated"),
        (lambda: prd(generated=GOOD, reference=GOOD, rng=np.random.default_rng(0)), "reference= needs"),
    ],
)
def test_bad_input_elsewhere(call, words):
    with pytest.raises(InputError, match=words):
        call()
