"""Binomial intervals and tests against scipy.stats, and their coverage against the definition."""

import numpy as np
import pytest
from scipy import stats

from divergences import InputError
from evaluation.intervals import binomial_test, clopper_pearson, clopper_pearson_bounds, holm, wilson


@pytest.mark.parametrize("side", ["two-sided", "less", "greater"])
def test_p_values_are_scipys(side):
    rng = np.random.default_rng(0)
    for _ in range(150):
        n = int(rng.integers(1, 80))
        rate = float(rng.choice([rng.random(), 0.5, 0.04, 0.25, 0.0, 1.0]))
        hits = int(rng.integers(0, n + 1))
        expected = stats.binomtest(hits, n, rate, alternative=side).pvalue
        assert binomial_test([hits], n, rate, side=side)[0] == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_p_values_of_many_at_once():
    hits, rates = np.array([0, 60, 100, 2500]), np.array([0.04, 0.04, 0.04, 0.9])
    single = [binomial_test([h], 2500, r)[0] for h, r in zip(hits, rates, strict=True)]
    np.testing.assert_array_equal(binomial_test(hits, 2500, rates), single)


def test_no_trials_say_nothing():
    assert binomial_test([0], 0, 0.3, side="less")[0] == 1.0


@pytest.mark.parametrize("method", ["exact", "wilson"])
@pytest.mark.parametrize(("hits", "n"), [(0, 1), (0, 30), (1, 30), (15, 30), (30, 30), (3, 1000)])
def test_intervals_are_scipys(method, hits, n):
    estimate = clopper_pearson(hits, n) if method == "exact" else wilson(hits, n)
    expected = stats.binomtest(hits, n).proportion_ci(0.95, method=method)
    assert estimate.interval == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert estimate.value == hits / n
    assert estimate.error == pytest.approx(max(estimate.value - expected.low, expected.high - estimate.value))


def test_exact_interval_covers_at_every_share():
    n = 40
    low, high = clopper_pearson_bounds(np.arange(n + 1), n)
    for share in np.linspace(0.001, 0.999, 97):
        covered = (low <= share) & (share <= high)
        assert stats.binom.pmf(np.arange(n + 1), n, share)[covered].sum() >= 0.95


def test_holm_by_hand_and_its_error_rate():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm([]).size == 0
    rng = np.random.default_rng(1)
    false = [(holm(np.r_[rng.random(8), 1e-6 * rng.random(3)])[:8] < 0.1).any() for _ in range(2000)]
    # Eight true hypotheses: their family-wise error is at most 10 % (binomial noise: ± 1.3 %).
    assert 0.07 < np.mean(false) < 0.115


@pytest.mark.parametrize(
    "call",
    [
        lambda: clopper_pearson(3, 0),
        lambda: clopper_pearson(5, 4),
        lambda: clopper_pearson(-1, 4),
        lambda: wilson(5, 4),
        lambda: clopper_pearson(1, 4, level=1.5),
        lambda: binomial_test([1.5], 4, 0.5),
        lambda: binomial_test([1], 4, 1.5),
        lambda: binomial_test([1], 4, np.nan),
        lambda: binomial_test([1], 4, 0.5, side="both"),
        lambda: holm([0.1, np.nan]),
        lambda: holm([1.1]),
    ],
)
def test_bad_input(call):
    with pytest.raises(InputError):
        call()
