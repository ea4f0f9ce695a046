"""The interval of a square: its level by simulation of the model it is made for, and what influences tell of errors."""

import numpy as np
import pytest
from scipy import stats

from evaluation.squares import Spread, square_interval


def held(theta, dim, trials, *, seed=0, spectrum=""):
    """Share of intervals that hold |δ|² = θ: |δ + ε|² − d v for normal ε of variance v in each of d directions."""
    rng, v = np.random.default_rng(seed), 0.04
    seen = rng.standard_normal((trials, dim)) * np.sqrt(v)
    seen[:, 0] += np.sqrt(theta)
    plain = np.sum(seen**2, axis=1)
    spreads = [Spread(4 * v * p, 2 * dim * v**2, dim * v, spectrum=spectrum) for p in plain]
    ends = [square_interval(p - dim * v, spread) for p, spread in zip(plain, spreads, strict=True)]
    return np.mean([low <= theta <= high for low, high in ends])


@pytest.mark.parametrize("dim", [1, 3, 40])
def test_it_holds_the_truth_at_its_level_near_zero_and_far_away(dim):
    tau = np.sqrt(2 * dim) * 0.04
    for theta in (0.0, tau, 3 * tau):
        share = held(theta, dim, 200)
        # 200 trials at 95 %: below 0.91 with probability 0.9 %.
        assert share >= 0.91, (theta, share)


def test_few_even_directions_are_given_no_more_than_they_need():
    """At 3τ in five directions the upper arm cannot fail; the lower one takes what it leaves, if it may."""
    theta = 3 * np.sqrt(10) * 0.04
    even, unknown = (held(theta, 5, 1000, spectrum=spectrum) for spectrum in ("even", ""))
    # The same draws, 95 % and three standard errors of a thousand.
    assert 0.93 <= even <= 0.97
    assert unknown >= even + 0.005


def test_a_long_spectrum_has_the_variance_of_its_own_direction():
    """One direction of variance 1 along δ beside a thousand small ones: their mean says nothing of it."""
    rng, theta, small = np.random.default_rng(3), 100.0, 0.1
    second, bias = 2 * (1 + 1000 * small**2), 1 + 1000 * small
    found = {"long": 0, "": 0}
    for _ in range(400):
        along, others = 10 + rng.standard_normal(), np.sqrt(small) * rng.standard_normal(1000)
        rest = float(others @ others)
        value, first = along**2 + rest - bias, 4 * (along**2 + small * rest)
        for spectrum in found:
            low, high = square_interval(value, Spread(first, second, bias, spectrum=spectrum))
            found[spectrum] += low <= theta <= high
    # 95 % and three standard errors of 400 trials.
    assert found["long"] >= 0.917 * 400
    assert found[""] < 0.9 * 400


@pytest.mark.slow
@pytest.mark.parametrize("dim", [1, 3, 40])
@pytest.mark.parametrize("times", [0.0, 0.3, 1.0, 3.0, 30.0])
def test_its_level_at_length(dim, times):
    share = held(times * np.sqrt(2 * dim) * 0.04, dim, 20_000, seed=1)
    # Two standard errors of 20 000 trials; conservative below the fewest degrees of freedom.
    assert share >= 0.935 - 0.0035
    assert share <= (0.985 if dim < 40 else 0.975)


def test_influences_tell_the_variance_the_skewness_and_how_well_both_are_known():
    rng = np.random.default_rng(2)
    first, second = rng.exponential(size=50), rng.standard_normal(80)
    found = Spread.of_influences([first, second], 0.1, 0.2)
    variances = stats.sem(first) ** 2, stats.sem(second) ** 2
    assert found.first == pytest.approx(sum(variances))
    third = stats.moment(first, 3) / 50**2 + stats.moment(second, 3) / 80**2
    assert found.skew == pytest.approx(third / sum(variances) ** 1.5)
    # Of normal influences Satterthwaite's freedom is Welch's, up to the samples' own fourth moments.
    normal = rng.standard_normal(20_000), 2 * rng.standard_normal(10_000)
    welch = (1 / 20_000 + 4 / 10_000) ** 2 / (1 / 20_000**3 + 16 / 10_000**3)
    assert Spread.of_influences(normal, 0.1, 0.2).freedom == pytest.approx(welch, rel=0.1)
    assert Spread.of_influences([np.zeros(9)], 0.1, 0.2) == Spread(0.0, 0.1, 0.2)


def test_a_skewed_or_badly_known_error_only_moves_the_upper_end():
    plain = square_interval(1.0, Spread(0.04, 1e-4, 0.01))
    skewed = square_interval(1.0, Spread(0.04, 1e-4, 0.01, skew=0.5))
    unsure = square_interval(1.0, Spread(0.04, 1e-4, 0.01, freedom=20.0))
    assert skewed[0] == unsure[0] == plain[0]
    assert skewed[1] == pytest.approx(plain[1] + 0.2 * 0.5 * (2 * 1.959964**2 + 1) / 6)
    assert unsure[1] > plain[1]
    assert square_interval(1.0, Spread(0.04, 1e-4, 0.01, skew=-0.5)) == plain
    # Less than eight degrees of freedom are noise.
    assert square_interval(1.0, Spread(0.04, 1e-4, 0.01, freedom=2.0)) == square_interval(
        1.0, Spread(0.04, 1e-4, 0.01, freedom=8.0)
    )
    assert square_interval(0.0, Spread(0.0, 0.0, 0.0)) == (0.0, 0.0)
