"""Kernels, slices and permutation nulls: closed forms, naive twins, and coverage by simulation."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from divergences.errors import InputError, UnderResolved
from divergences.estimate import Estimate
from divergences.from_samples import (
    Null,
    energy_distance,
    knn_jsd,
    knn_kl,
    median_bandwidth,
    mmd,
    permutation_test,
    sinkhorn_divergence,
    sliced_wasserstein,
)
from divergences.wasserstein import wasserstein

RNG = np.random.default_rng


def check_coverage(hits, low=0.93, high=1.0):
    """Fail where the hits contradict a coverage in [low, high] at one in a thousand."""
    n, k = len(hits), int(np.sum(hits))
    assert stats.binom.cdf(k, n, low) > 1e-3, f"covered {k} of {n}: below {low}"
    assert high == 1 or stats.binom.sf(k - 1, n, high) > 1e-3, f"covered {k} of {n}: above {high}"


def covers(estimate, truth):
    return estimate.interval[0] <= truth <= estimate.interval[1]


def gaussians(rng, n, m, d, shift, scale):
    x, y = rng.normal(size=(n, d)), scale * rng.normal(size=(m, d))
    y[:, 0] += shift
    return x, y


def even_if_refused(call):
    """The estimate; small samples have a valid null where the estimate itself is refused."""
    try:
        return call()
    except UnderResolved as refusal:
        return refusal.estimate


def mmd_of_gaussians(h, d, shift, scale):
    """Squared MMD of N(0, I) and N(shift e1, scale² I) under exp(−r²/2h²)."""

    def mean(mu, variance):
        return (h * h / (h * h + variance)) ** (d / 2) * np.exp(-mu * mu / 2 / (h * h + variance))

    return mean(0, 2) + mean(0, 2 * scale**2) - 2 * mean(shift, 1 + scale**2)


def energy_of_gaussians(shift, scale):
    def distance(mu, variance):
        s = np.sqrt(variance)
        return s * np.sqrt(2 / np.pi) * np.exp(-mu * mu / 2 / variance) + mu * (1 - 2 * stats.norm.cdf(-mu / s))

    return 2 * distance(shift, 1 + scale**2) - distance(0, 2) - distance(0, 2 * scale**2)


def w1_of_gaussians(shift, scale):
    spread = abs(scale - 1)
    if spread == 0:
        return abs(shift)
    z = shift / spread
    return spread * np.sqrt(2 / np.pi) * np.exp(-z * z / 2) + shift * (2 * stats.norm.cdf(z) - 1)


def sliced_of_gaussians(d, shift, scale, order):
    """SW of N(0, I) and N(shift e1, scale² I): a one-dimensional mean over θ₁."""
    if order == 2:
        return np.sqrt(shift**2 / d + (scale - 1) ** 2)
    if d == 1:
        return w1_of_gaussians(shift, scale)
    theta = 2 * stats.beta.ppf((np.arange(2000) + 0.5) / 2000, (d - 1) / 2, (d - 1) / 2) - 1
    return np.mean([w1_of_gaussians(abs(shift * t), scale) for t in theta])


# Unbiased and exact parts against naive twins.


@pytest.mark.parametrize("name", ["rbf", "laplacian", "imq"])
def test_mmd_is_the_u_statistic(name):
    x, y = gaussians(RNG(0), 30, 41, 2, 0.5, 1.3)
    h = 0.8
    kernels = {
        "rbf": lambda r: np.exp(-(r**2) / (2 * h * h)),
        "laplacian": lambda r: np.exp(-r / h),
        "imq": lambda r: 1 / np.sqrt(1 + r**2 / h**2),
    }

    def naive(a, b):
        k = kernels[name]
        within = [k(cdist(s, s))[~np.eye(len(s), dtype=bool)].mean() for s in (a, b)]
        return sum(within) - 2 * k(cdist(a, b)).mean()

    result = mmd(x, y, kernel=name, bandwidth=h, rng=RNG(1), permutations=60)
    assert result.value == pytest.approx(naive(x, y), rel=1e-11)
    # The null is that of the naive statistic under the same relabellings.
    slow = permutation_test(naive, x, y, rng=RNG(1), permutations=400)
    assert abs(result.null.mean - slow.mean) < 4 * slow.scores.std() * np.sqrt(1 / 60 + 1 / 400)
    assert stats.ks_2samp(result.null.scores, slow.scores).pvalue > 1e-3
    own = mmd(x, y, kernel=lambda a, b: kernels[name](cdist(a, b)))
    assert own.value == pytest.approx(result.value, rel=1e-11)
    assert own.null is None


def test_mmd_blocks_agree_with_one_block(monkeypatch):
    x, y = gaussians(RNG(0), 50, 33, 3, 0.5, 1.0)
    whole = mmd(x, y, rng=RNG(2), permutations=20)
    monkeypatch.setattr("divergences.kernels._BLOCK", 300)
    blocked = mmd(x, y, rng=RNG(2), permutations=20)
    assert blocked.value == pytest.approx(whole.value, rel=1e-12)
    np.testing.assert_allclose(blocked.null.scores, whole.null.scores, atol=1e-14)
    assert blocked.interval == pytest.approx(whole.interval, rel=1e-9)


def test_energy_is_twice_the_squared_cramer_distance_without_bias():
    # Averaged over many samples the U-statistic is the truth, while scipy's plug-in is not.
    rng = RNG(3)
    values = [energy_distance(rng.normal(size=20), rng.normal(size=20) + 1).value for _ in range(300)]
    assert np.mean(values) == pytest.approx(energy_of_gaussians(1.0, 1.0), abs=4 * np.std(values) / np.sqrt(300))
    x, y = rng.normal(size=40), rng.normal(size=50) + 1
    plug_in = stats.energy_distance(x, y) ** 2
    bias = np.abs(x[:, None] - x).mean() / 39 + np.abs(y[:, None] - y).mean() / 49
    assert energy_distance(x, y).value == pytest.approx(plug_in - bias, rel=1e-10)


def test_distances_far_from_the_origin_keep_their_digits():
    x, y = gaussians(RNG(4), 60, 60, 2, 1.0, 1.0)
    x, y = np.round(x, 6), np.round(y, 6)
    for f in (mmd, energy_distance):
        assert f(x + 2.0**20, y + 2.0**20).value == pytest.approx(f(x, y).value, rel=1e-7)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("n", "m"), [(40, 40), (40, 31)])
def test_on_the_line_sliced_is_wasserstein(order, n, m):
    x, y = gaussians(RNG(5), n, m, 1, 0.7, 1.5)
    result = sliced_wasserstein(x, y, rng=RNG(0), order=order, permutations=20)
    assert result.raw == pytest.approx(wasserstein(x, y, order=order).cost.value, rel=1e-10)
    pool = np.concatenate([x, y])
    # The same relabellings, drawn in the same order, one by one.
    draw = RNG(0)
    first = np.arange(n + m) < n
    scores = []
    for _ in range(20):
        label = draw.permutation(first)
        scores.append(wasserstein(pool[label], pool[~label], order=order).cost.value)
    np.testing.assert_allclose(result.null.scores, scores, rtol=1e-9)


def test_sliced_of_a_shift():
    x = RNG(6).normal(size=(300, 3))
    result = sliced_wasserstein(x, x + [2.0, 0, 0], rng=RNG(0), order=2, projections=400, permutations=1)
    # A common sample shifted: no sampling bias, only directions. E θ₁² = 1/3.
    assert result.raw == pytest.approx(2 / np.sqrt(3), rel=0.1)
    assert result.agrees(2 / np.sqrt(3))


# The permutation null.


def test_permutation_level_is_exact():
    rng = RNG(7)
    p = [
        permutation_test(
            lambda a, b: abs(a.mean() - b.mean()),
            rng.exponential(size=7),
            rng.exponential(size=5),
            rng=rng,
            permutations=19,
        ).p_value
        for _ in range(800)
    ]
    for alpha in (0.05, 0.25, 0.5):
        rate = np.mean(np.array(p) <= alpha + 1e-12)
        assert abs(rate - alpha) < 3.5 * np.sqrt(alpha * (1 - alpha) / 800)
    assert min(p) == pytest.approx(0.05)


@pytest.mark.parametrize(
    "test",
    [
        lambda x, y, rng: mmd(x, y, rng=rng, permutations=19),
        lambda x, y, rng: energy_distance(x, y, rng=rng, permutations=19),
        lambda x, y, rng: sliced_wasserstein(x, y, rng=rng, projections=8, permutations=19),
        lambda x, y, rng: even_if_refused(lambda: knn_kl(x, y, k=1, rng=rng, permutations=19)),
        lambda x, y, rng: knn_jsd(x, y, k=2, rng=rng, permutations=19),
    ],
    ids=["mmd", "energy", "sliced", "knn_kl", "knn_jsd"],
)
def test_level_and_power_of_every_null(test):
    rng = RNG(8)
    p = np.array([test(rng.normal(size=(14, 2)), rng.normal(size=(11, 2)), rng).null.p_value for _ in range(100)])
    for alpha in (0.1, 0.5):
        assert abs(np.mean(p <= alpha + 1e-12) - alpha) < 3.5 * np.sqrt(alpha * (1 - alpha) / 100)
    x, y = gaussians(rng, 60, 60, 2, 2.0, 1.0)
    assert test(x, y, rng).null.p_value == pytest.approx(0.05)


def test_ties_count_against_rejection():
    assert Null(1.0, np.array([1.0, 1.0, 0.0])).p_value == 0.75
    assert Null(1.0, np.array([1.0 - 1e-14, 0.0, 0.0])).p_value == 0.5
    assert permutation_test(lambda a, b: 0.0, [1.0, 2.0], [3.0], rng=RNG(0), permutations=9).p_value == 1.0


def test_null_in_words_and_json():
    result = energy_distance([0.0, 1, 2, 3], [5.0, 6, 7, 8], rng=RNG(0), permutations=40)
    assert "p = " in str(result.null)
    summary = result.to_dict()["null"]
    assert summary["p_value"] == result.null.p_value
    assert summary["quantile"] == result.null.quantile(0.95)
    assert summary["permutations"] == 40
    assert energy_distance([0.0, 1, 2, 3], [5.0, 6, 7, 8]).to_dict()["null"] is None
    assert isinstance(result, Estimate)


# Coverage. The default suite runs a small version of what -m slow runs with a thousand samples.

FAST = 80
PAIRS = [(0.0, 1.0), (0.2, 1.0), (0.6, 1.0), (3.0, 1.0), (0.0, 2.0)]


def mmd_coverage(runs, n, m, d, shift, scale, bandwidth):
    rng, hits = RNG(9), []
    for _ in range(runs):
        result = mmd(*gaussians(rng, n, m, d, shift, scale), bandwidth=bandwidth)
        h = bandwidth or float(result.method.split("bandwidth ")[1].split()[0])
        hits.append(covers(result, mmd_of_gaussians(h, d, shift, scale)))
    return hits


@pytest.mark.parametrize(("shift", "scale"), PAIRS)
def test_mmd_coverage(shift, scale):
    check_coverage(mmd_coverage(FAST, 100, 130, 2, shift, scale, 1.0), high=0.97 if shift == 3 else 1.0)


@pytest.mark.slow
@pytest.mark.parametrize(("shift", "scale"), PAIRS)
@pytest.mark.parametrize(("n", "m", "d", "bandwidth"), [(100, 100, 1, 1.0), (200, 100, 3, None), (300, 300, 1, None)])
def test_mmd_coverage_slow(shift, scale, n, m, d, bandwidth):
    check_coverage(mmd_coverage(1000, n, m, d, shift, scale, bandwidth), high=0.97 if shift == 3 else 1.0)


@pytest.mark.parametrize("runs", [FAST, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("shift", "scale"), PAIRS)
def test_energy_coverage(runs, shift, scale):
    rng, truth = RNG(10), energy_of_gaussians(shift, scale)
    hits = [covers(energy_distance(*gaussians(rng, 100, 130, 1, shift, scale)), truth) for _ in range(runs)]
    check_coverage(hits, high=0.97 if shift == 3 else 1.0)


def sliced_coverage(runs, n, m, d, shift, scale, order, projections):
    rng, truth = RNG(11), sliced_of_gaussians(d, shift, scale, order)
    return [
        covers(
            sliced_wasserstein(
                *gaussians(rng, n, m, d, shift, scale), rng=rng, order=order, projections=projections, permutations=1
            ),
            truth,
        )
        for _ in range(runs)
    ]


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.2, 1.0), (3.0, 1.0)])
def test_sliced_coverage(order, shift, scale):
    check_coverage(sliced_coverage(FAST, 200, 200, 2, shift, scale, order, 10), high=0.975 if shift == 3 else 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("shift", "scale"), PAIRS)
@pytest.mark.parametrize(("n", "m", "d"), [(200, 200, 1), (200, 400, 2), (300, 300, 5)])
def test_sliced_coverage_slow(order, shift, scale, n, m, d):
    check_coverage(sliced_coverage(1000, n, m, d, shift, scale, order, 50), high=0.97 if shift == 3 else 1.0)


# Misuse.


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mmd([[1.0, np.nan]] * 5, [[1.0, 2]] * 5), "x holds NaN"),
        (lambda: mmd(np.zeros((5, 2)), np.zeros((5, 3))), "same space"),
        (lambda: mmd(np.zeros(5), np.zeros(5)), "bandwidth"),
        (lambda: mmd([1.0, 2, 3], [1.0, 2, 3, 4]), "at least 4"),
        (lambda: mmd(np.arange(5.0), np.arange(5.0), kernel="poly"), "kernel must be one of"),
        (lambda: mmd(np.arange(5.0), np.arange(5.0), bandwidth=-1.0), "bandwidth"),
        (lambda: mmd(np.arange(5.0), np.arange(5.0), kernel=lambda a, b: a[:, 0]), "kernel must map"),
        (lambda: mmd(np.arange(5.0), np.arange(5.0), kernel=lambda a, b: a @ b.T, bandwidth=1.0), "kernel of your own"),
        (lambda: energy_distance(np.arange(5.0), np.arange(5.0), rng=RNG(0), permutations=0), "permutations"),
        (lambda: sliced_wasserstein(np.arange(9.0), np.arange(9.0), rng=RNG(0), order=3), "order must be 1 or 2"),
        (lambda: sliced_wasserstein(np.arange(3.0), np.arange(9.0), rng=RNG(0)), "at least 8"),
        (lambda: permutation_test(lambda a, b: a[:, 0], [1.0, 2], [3.0], rng=RNG(0)), "one number"),
        (lambda: permutation_test(lambda a, b: np.nan, [1.0, 2], [3.0], rng=RNG(0)), "one number"),
        (lambda: sinkhorn_divergence([], [1.0], epsilon=1.0), "x needs at least 1 point"),
        (lambda: median_bandwidth("abc", [1.0]), "x must hold real numbers"),
    ],
)
def test_misuse_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_outside_the_regime_the_note_says_so():
    rng = RNG(12)
    small, large = rng.normal(size=(60, 2)), rng.normal(size=(600, 2)) + 1
    results = [
        mmd(small, large),
        energy_distance(small, large),
        sliced_wasserstein(small, large, rng=rng, projections=4, permutations=1),
        knn_kl(small, large),
        knn_jsd(small, large[:200]),
        sinkhorn_divergence(small, large[:60], epsilon=2.0),
    ]
    for result in results:
        assert "was not simulated" in result.note
    assert mmd(large, large + 1).note == ""
    assert "tenth of the mean cost" in sinkhorn_divergence(small, large[:60], epsilon=0.2).note
    wide = rng.normal(size=(200, 7))
    assert "dimensions" in sliced_wasserstein(wide, wide + 1, rng=rng, projections=4, permutations=1).note
