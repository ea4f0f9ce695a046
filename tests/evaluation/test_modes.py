"""Mode coverage: planted defects are found, perfect generators are not accused, and the nulls are exact."""

import math

import numpy as np
import pytest
from scipy import stats

from divergences import Discrete, Gaussian, InputError, Mixture, Uniform
from evaluation.intervals import holm
from evaluation.modes import _noise_floor, _reverse_kl, mode_coverage, quality_threshold


def grid(side=5, spacing=2.0, scale=0.05, weights=None):
    ticks = spacing * (np.arange(side) - (side - 1) / 2)
    return Mixture([Gaussian([x, y], scale**2 * np.eye(2)) for x in ticks for y in ticks], weights)


GRID = grid()


def draw(law, shares, n, rng):
    """Samples of the grid's modes with other shares."""
    centers = np.stack([part.mean for part in law.components])
    return centers[rng.choice(len(shares), size=n, p=shares)] + 0.05 * rng.standard_normal((n, 2))


def test_perfect_generator():
    found = mode_coverage(generated=GRID.sample(2500, np.random.default_rng(0)), modes=GRID)
    assert (found.captured, found.total, found.missing, found.starved, found.undecided) == (25, 25, (), (), ())
    assert found.high_quality_null == pytest.approx(0.98889, abs=1e-5)
    assert found.high_quality.agrees(found.high_quality_null)
    assert found.noise_floor == pytest.approx(0.00486, abs=1e-5)
    assert found.reverse_kl.agrees(0.0)
    assert found.reverse_kl.raw == pytest.approx(found.reverse_kl.value + found.noise_floor)
    assert sum(record.hits for record in found.per_mode) == found.inside.sum()


def test_mode_dropper():
    shares = np.full(25, 1 / 22)
    shares[[3, 11, 24]] = 0
    found = mode_coverage(generated=draw(GRID, shares, 2500, np.random.default_rng(1)), modes=GRID)
    assert found.missing == (3, 11, 24)
    assert found.captured == 22
    assert found.starved == ()
    assert {record.index for record in found.per_mode if record.p_adjusted < 0.05} >= {3, 11, 24}
    assert found.reverse_kl.agrees(math.log(25 / 22))


def test_starved_mode():
    shares = np.full(25, 1.0)
    shares[7] = 0.1
    found = mode_coverage(generated=draw(GRID, shares / shares.sum(), 2500, np.random.default_rng(2)), modes=GRID)
    assert (found.captured, found.missing, found.starved) == (25, (), (7,))


def test_low_quality_is_not_starvation():
    rng = np.random.default_rng(3)
    x = GRID.sample(2500, rng)
    x[::2] += 0.5
    found = mode_coverage(generated=x, modes=GRID)
    assert found.high_quality.agrees(0.494)
    assert (found.missing, found.starved) == ((), ())


def test_junk_misses_everything():
    found = mode_coverage(generated=np.full((500, 2), 99.0), modes=GRID)
    assert found.captured == 0
    assert found.missing == tuple(range(25))
    assert found.reverse_kl.value == math.inf
    assert found.high_quality.value == 0


def test_too_few_samples_are_undecided_not_missing():
    found = mode_coverage(generated=GRID.sample(40, np.random.default_rng(4)), modes=GRID)
    assert found.missing == ()
    assert 0 < len(found.undecided) == 25 - found.captured
    assert "draw at least 154 samples" in found.power_note
    one = mode_coverage(generated=GRID.components[0].sample(153, np.random.default_rng(5)), modes=GRID)
    assert one.missing == ()
    two = mode_coverage(generated=GRID.components[0].sample(154, np.random.default_rng(5)), modes=GRID)
    assert len(two.missing) == 24


def test_minimum_hits():
    x = np.concatenate([GRID.components[k].sample(100 if k else 3, np.random.default_rng(k)) for k in range(25)])
    assert mode_coverage(generated=x, modes=GRID).captured == 25
    strict = mode_coverage(generated=x, modes=GRID, minimum_hits=5)
    assert (strict.captured, strict.missing) == (24, (0,))


def test_the_rule_of_quality():
    line = Gaussian(0.0, 4.0)
    inside = mode_coverage(generated=[5.999, -5.999, 6.0, 6.001], modes=line).inside
    assert inside.tolist() == [True, True, False, False]
    assert quality_threshold(3) == 3.0
    for d in (4, 50, 700):
        assert stats.chi2.cdf(quality_threshold(d) ** 2, d) == pytest.approx(1 - math.exp(-4.5), abs=1e-12)
    ten = Gaussian(np.zeros(10), np.eye(10))
    found = mode_coverage(generated=ten.sample(4000, np.random.default_rng(6)), modes=ten)
    assert found.high_quality.agrees(found.high_quality_null)
    assert found.high_quality_null == pytest.approx(0.988891, abs=1e-6)


def test_nearest_is_meant_in_mahalanobis_distance():
    wide_and_narrow = Mixture([Gaussian([0.0], [[25.0]]), Gaussian([10.0], [[0.01]])])
    found = mode_coverage(generated=[[9.0]], modes=wide_and_narrow)
    assert found.nearest.tolist() == [0]
    assert found.inside.tolist() == [True]


def test_p_values_are_the_exact_binomials():
    found = mode_coverage(generated=GRID.sample(2500, np.random.default_rng(7)), modes=GRID)
    rate = 0.04 * (1 - math.exp(-4.5))
    expected = [stats.binomtest(record.hits, 2500, rate).pvalue for record in found.per_mode]
    np.testing.assert_allclose([record.p_value for record in found.per_mode], expected, rtol=1e-9)
    np.testing.assert_allclose([record.p_adjusted for record in found.per_mode], holm(expected))


def test_overlapping_modes_get_their_null_by_drawing():
    pair = Mixture([Gaussian([0.0], [[1.0]]), Gaussian([4.0], [[1.0]]), Gaussian([40.0], [[1.0]])], [0.3, 0.2, 0.5])
    found = mode_coverage(generated=pair.sample(1000, np.random.default_rng(8)), modes=pair)
    cdf = stats.norm.cdf
    # The border is in the middle, x = 2; the reach is 3.
    first = 0.3 * (cdf(2) - cdf(-3)) + 0.2 * (cdf(-2) - cdf(-7))
    second = 0.3 * (cdf(7) - cdf(2)) + 0.2 * (cdf(3) - cdf(-2))
    expected = np.array([record.expected for record in found.per_mode]) / 1000
    np.testing.assert_allclose(expected[:2], [first, second], atol=1e-3)
    assert expected[2] == pytest.approx(0.5 * (2 * cdf(3) - 1), rel=1e-12)
    assert found.high_quality_null == pytest.approx(expected.sum())


def test_elongated_modes_side_by_side_are_apart():
    # Their widest extents overlap as balls, but not as ellipses: no draw is needed and the null is exact.
    flat = np.diag([25.0, 0.01])
    pair = Mixture([Gaussian([0.0, 0.0], flat), Gaussian([0.0, 2.0], flat)])
    found = mode_coverage(generated=pair.sample(200, np.random.default_rng(9)), modes=pair)
    assert found.high_quality_null == pytest.approx(1 - math.exp(-4.5), rel=1e-12)


def test_noise_floor_is_the_mean_of_a_perfect_generators_score():
    rng = np.random.default_rng(10)
    for q, n in ((np.full(25, 0.04), 100), (np.array([0.9, 0.09, 0.01]), 60), (np.full(1000, 1e-3), 26_000)):
        draws = rng.multinomial(n, q, size=3000 if len(q) < 100 else 200) / n
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = np.where(draws > 0, draws * np.log(draws / q), 0).sum(axis=1)
        assert abs(scores.mean() - _noise_floor(n, q)) < 4 * scores.std() / np.sqrt(len(scores))
    assert _noise_floor(26_000, np.full(1000, 1e-3)) == pytest.approx(0.0193, abs=1e-4)


@pytest.mark.parametrize(
    "shares",
    [np.full(25, 0.04), np.r_[np.full(12, 1 / 12), np.zeros(13)], np.linspace(1, 3, 25) / 50],
    ids=["perfect", "half", "tilted"],
)
@pytest.mark.parametrize("n", [200, 2500])
def test_reverse_kl_interval_covers(shares, n):
    rng = np.random.default_rng(11)
    fair = np.full(25, 0.04)
    seen = shares > 0
    truth = float(shares[seen] @ np.log(shares[seen] / 0.04))
    covered = [_reverse_kl(rng.multinomial(n, shares), fair)[0].agrees(truth) for _ in range(400)]
    # 400 draws at 95 %: below 0.92 with probability 0.5 %.
    assert np.mean(covered) >= 0.92


def test_error_rates_of_missing_and_starved():
    """A perfect generator is accused with probability ≤ α; so is one with every mode at half its share, of starving."""
    law, rng = grid(side=3), np.random.default_rng(12)
    accused, starving = 0, 0
    half = np.full(9, 0.5 / 9)
    half[4] += 0.5
    for _ in range(150):
        perfect = mode_coverage(generated=draw(law, np.full(9, 1 / 9), 120, rng), modes=law, alpha=0.2)
        accused += bool(perfect.missing or perfect.starved)
        edge = mode_coverage(generated=draw(law, half, 400, rng), modes=law, alpha=0.2)
        starving += bool(edge.starved)
    # 150 trials at 20 %: above 29 % with probability 0.5 %.
    assert accused / 150 <= 0.29
    # At the very edge the test is exact up to the discreteness of counts ...
    assert starving / 150 <= 0.29
    # ... and not a test that never rejects.
    assert starving / 150 > 0.04


def test_power_note_is_true():
    note = mode_coverage(generated=GRID.sample(2500, np.random.default_rng(13)), modes=GRID).power_note
    lost = float(note.split("lost ")[1].split(" %")[0]) / 100
    shares = np.full(25, 0.04)
    shares[0] *= 1 - lost
    shares[1:] += 0.04 * lost / 24
    rng = np.random.default_rng(14)
    found = [0 in mode_coverage(generated=draw(GRID, shares, 2500, rng), modes=GRID).starved for _ in range(60)]
    assert np.mean(found) >= 0.87


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"generated": [[np.nan, 0.0]]}, "generated="),
        ({"generated": np.empty((0, 2))}, "generated="),
        ({"generated": np.ones((4, 3))}, "generated="),
        ({"generated": np.ones((2, 2, 2))}, "generated="),
        ({"generated": [["a", "b"]]}, "generated="),
        ({"modes": np.zeros((3, 2))}, "modes="),
        ({"modes": Uniform([0.0, 0.0], [1.0, 1.0])}, "modes="),
        ({"modes": Discrete([[0.0, 0.0]])}, "modes="),
        ({"modes": "grid"}, "modes="),
        ({"minimum_hits": 0}, "minimum_hits="),
        ({"margin": 0.0}, "margin="),
        ({"margin": 1.5}, "margin="),
        ({"alpha": 1.0}, "alpha="),
    ],
)
def test_bad_input(arguments, word):
    with pytest.raises(InputError, match=word):
        mode_coverage(**({"generated": np.zeros((5, 2)), "modes": GRID} | arguments))
