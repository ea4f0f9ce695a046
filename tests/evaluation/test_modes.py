"""Mode coverage: planted defects are found, perfect generators are not accused, and the nulls are exact."""

import math
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from divergences import Discrete, Gaussian, InputError, Mixture, Uniform
from evaluation.histograms import histogram_scores
from evaluation.intervals import holm
from evaluation.mode_geometry import Parts, assign, expected_hits
from evaluation.mode_shapes import _Measured, _summary, cut_moments
from evaluation.modes import mode_coverage
from evaluation.quality import chi2_between, quality_band, quality_threshold


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
    assert [quality_band(d) for d in (1, 2, 3)] == [(0.0, 3.0)] * 3
    for d in (4, 50, 700, 1200):
        low, high = quality_band(d)
        assert high == quality_threshold(d)
        assert stats.chi2.cdf(low**2, d) == pytest.approx(1e-6, rel=1e-9)
        assert stats.chi2.cdf(high**2, d) - stats.chi2.cdf(low**2, d) == pytest.approx(1 - math.exp(-4.5), abs=1e-12)
    ten = Gaussian(np.zeros(10), np.eye(10))
    found = mode_coverage(generated=ten.sample(4000, np.random.default_rng(6)), modes=ten)
    assert found.high_quality.agrees(found.high_quality_null)
    assert found.high_quality_null == pytest.approx(0.988891, abs=1e-6)


def test_the_null_share_is_that_of_a_simulation_in_many_dimensions():
    rng, n = np.random.default_rng(21), 400_000
    for dim in (4, 60):
        low, high = quality_band(dim)
        lengths = np.sqrt(rng.chisquare(dim, n))
        share = np.mean((lengths >= low) & (lengths < high))
        assert abs(share - 0.988891) < 4 * math.sqrt(0.011 / n)
    # Both edges at once, by scipy's law, where they cut deep.
    for dim, low, high in ((7, 2.0, 3.0), (1200, 900.0, 1000.0), (1200, 1400.0, 1500.0), (3, -1.0, 9.0)):
        upper = dim < high and low > dim
        own = stats.chi2.sf(low, dim) - stats.chi2.sf(high, dim) if upper else np.diff(stats.chi2.cdf([low, high], dim))
        assert float(chi2_between(dim, low, high)) == pytest.approx(float(np.squeeze(own)), rel=1e-9)


@pytest.mark.parametrize(("dim", "apart"), [(60, 100.0), (60, 3.0)], ids=["alone", "crowded"])
def test_one_point_is_no_sample_of_a_mode_in_many_dimensions(dim, apart):
    """Whatever is much nearer to a mean than a sample of the mode has no quality; real samples score the null."""
    means = np.zeros((2, dim))
    means[:, 0] = -apart / 2, apart / 2
    law = Mixture([Gaussian(mean, np.eye(dim)) for mean in means])
    rng = np.random.default_rng(22)
    for place in (means[0], np.r_[apart / 2, np.ones(2), np.zeros(dim - 3)]):
        collapsed = mode_coverage(generated=place + 1e-3 * rng.standard_normal((300, dim)), modes=law)
        assert (collapsed.captured, collapsed.high_quality.value, collapsed.missing) == (0, 0.0, (0, 1))
    perfect = mode_coverage(generated=law.sample(4000, rng), modes=law)
    assert (perfect.captured, perfect.missing, perfect.shrunk, perfect.shifted) == (2, (), (), ())
    assert perfect.high_quality.agrees(perfect.high_quality_null)
    assert perfect.high_quality_null == pytest.approx(1 - math.exp(-4.5), abs=0.005 if apart < 10 else 1e-12)
    assert " and at least 4.628" in perfect.rule


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


def _terms(h, q):
    """Reverse KL, forward KL and JSD of histograms in rows, written out."""
    m = (h + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        own = np.where(h > 0, h * np.log(h / q), 0).sum(axis=1)
        other = (q * np.log(q / h)).sum(axis=1)
        half = np.where(h > 0, h * np.log(h / m), 0).sum(axis=1) / 2 + (q * np.log(q / m)).sum(axis=1) / 2
    return own, other, half


def test_noise_floors_are_the_mean_of_a_perfect_generators_scores():
    rng = np.random.default_rng(10)
    for q, n in ((np.full(25, 0.04), 200), (np.array([0.9, 0.09, 0.01]), 600), (np.full(1000, 1e-3), 26_000)):
        draws = rng.multinomial(n, q, size=3000 if len(q) < 100 else 200)
        found = histogram_scores(draws[0], q)
        floors = (found.reverse_floor, found.forward_floor, found.jsd_floor)
        for scores, floor in zip(_terms(draws / n, q), floors, strict=True):
            finite = scores[np.isfinite(scores)]
            assert abs(finite.mean() - floor) < 4 * finite.std() / np.sqrt(len(finite))
        empty = (draws == 0).any(axis=1)
        # Bins are negatively associated: the product is a slight overestimate where two can be empty at once.
        assert abs(empty.mean() - found.empty_chance) < 4 * math.sqrt(0.25 / len(draws))
    assert found.reverse_floor == pytest.approx(0.0193, abs=1e-4)
    assert found.jsd_floor == pytest.approx(999 / (8 * 26_000), rel=0.02)


@pytest.mark.parametrize(
    "shares",
    [np.full(25, 0.04), np.r_[np.full(12, 1 / 12), np.zeros(13)], np.linspace(1, 3, 25) / 50],
    ids=["perfect", "half", "tilted"],
)
@pytest.mark.parametrize("n", [200, 2500])
def test_intervals_of_the_histogram_scores_cover(shares, n):
    rng = np.random.default_rng(11)
    fair = np.full(25, 0.04)
    reverse, forward, jsd = (float(value[0]) for value in _terms(shares[None], fair))
    covered = []
    for _ in range(300):
        found = histogram_scores(rng.multinomial(n, shares), fair)
        # Infinite because of a bin that is empty by chance: not an interval, and said so.
        chance = math.isinf(found.forward_kl.value) and math.isfinite(forward)
        assert not chance or "infinite" in found.forward_kl.note
        covered.append(
            [
                found.reverse_kl.agrees(reverse),
                chance or found.forward_kl.agrees(forward),
                found.jsd.agrees(jsd),
            ]
        )
    # 300 draws at 95 %: below 0.91 with probability 0.3 %.
    assert (np.mean(covered, axis=0) >= 0.91).all()


def test_an_empty_mode_makes_the_forward_kl_infinite_and_says_so():
    kept = Mixture(GRID.components[1:])
    found = mode_coverage(generated=kept.sample(2500, np.random.default_rng(15)), modes=GRID)
    assert found.forward_kl.value == math.inf
    assert "1 of 25 modes got no sample (first: 0)" in found.forward_kl.note
    assert found.empty_chance < 1e-40
    assert found.jsd.agrees(0.5 * (math.log(50 / 49) + math.log(2) / 25 + 24 / 25 * math.log(48 / 49)))
    assert found.minimum_hits == 1
    assert "below 3 (strict)" in found.rule
    assert "at least 1 high-quality sample (" in found.rule


SKEW = Mixture([Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]]), Gaussian([20.0, 0.0], np.diag([4.0, 0.1]))], [0.8, 0.2])


def moved(law, rng, n, *, ratio=1.0, shift=0.0):
    """Samples of a mixture whose first mode is scaled about its centre and moved, in its own coordinates."""
    counts = rng.multinomial(n, law.weights)
    parts = [part.sample(count, rng) for part, count in zip(law.components, counts.tolist(), strict=True)]
    factor = np.linalg.cholesky(law.components[0].cov)
    z = np.linalg.solve(factor, (parts[0] - law.components[0].mean).T).T
    z = math.sqrt(ratio) * z + np.r_[shift, np.zeros(z.shape[1] - 1)]
    parts[0] = law.components[0].mean + z @ factor.T
    return np.concatenate(parts)


def test_shrunk_and_shifted_modes_are_found():
    rng = np.random.default_rng(16)
    collapsed = mode_coverage(generated=moved(SKEW, rng, 400, ratio=0.09), modes=SKEW)
    assert (collapsed.missing, collapsed.starved, collapsed.shrunk, collapsed.shifted) == ((), (), (0,), ())
    assert collapsed.shapes[0].ratio.agrees(0.09)
    assert collapsed.shapes[1].ratio.agrees(1.0)
    elsewhere = mode_coverage(generated=moved(SKEW, rng, 400, shift=1.0), modes=SKEW)
    assert (elsewhere.shrunk, elsewhere.shifted) == ((), (0,))
    assert elsewhere.shapes[0].shift.value == pytest.approx(1.0, abs=0.15)
    one_place = mode_coverage(generated=np.zeros((50, 2)), modes=SKEW)
    assert (one_place.shrunk, one_place.shifted) == ((0,), ())
    assert one_place.shapes[0].ratio.value == 0
    assert one_place.shapes[1] is None
    line = moved(SKEW, rng, 400)
    line[:, 1] = np.where(line[:, 0] < 10, 0.8 * line[:, 0], line[:, 1])
    flat = mode_coverage(generated=line, modes=SKEW)
    assert (flat.shrunk, flat.shapes[0].volume.value) == ((0,), pytest.approx(0.0, abs=1e-6))
    assert flat.shapes[1].volume.agrees(1.0)
    blown_up = mode_coverage(generated=moved(SKEW, rng, 800, ratio=4.0), modes=SKEW)
    assert (blown_up.shrunk, blown_up.shifted) == ((), ())
    assert blown_up.shapes[0].ratio.agrees(4.0)


OVERLAP = Mixture([Gaussian([0.0, 0.0], np.eye(2)), Gaussian([3.0, 0.0], np.eye(2))])


@pytest.mark.parametrize(("dim", "crowded"), [(2, False), (2, True), (10, False)])
def test_levels_and_coverage_of_shapes(dim, crowded):
    """2000 perfect modes with 20 hits each: fair p-values and covered intervals; at the margin, the level it says."""
    rng = np.random.default_rng(17)
    trials, hits = 2000, 20
    means = np.zeros((2, dim))
    means[1, 0] = 3.0 if crowded else 1e3
    parts = Parts(np.array([0.5, 0.5]), means, np.broadcast_to(np.eye(dim), (2, dim, dim)))
    reference = expected_hits(parts, 1000).crowded.get(0)
    assert (reference is not None) == crowded

    def measured(ratio):
        x = np.concatenate([mean + math.sqrt(ratio) * rng.standard_normal((6 * trials * hits, dim)) for mean in means])
        x = rng.permutation(x) if crowded else x[: 2 * trials * hits]
        nearest, inside = assign(x, parts)
        z = x[inside & (nearest == 0)][: trials * hits].reshape(trials, hits, dim)
        return _Measured([_summary(own, reference, dim) for own in z], np.full(trials, hits), dim)

    perfect, zero = measured(1.0), np.zeros(trials)
    lower, upper = perfect.tail(zero, lower=True), perfect.tail(zero, lower=False)
    shifts, shift_p, beyond = perfect.shifts()
    # 2000 trials at 5 %: a standard error of 0.5 %.
    assert 0.035 < np.mean(2 * np.minimum(lower, upper) < 0.05) < 0.065
    assert 0.03 < np.mean(shift_p < 0.05) < 0.06
    assert np.mean(beyond < 0.05) < 0.01
    assert np.mean([own.interval[0] == 0.0 for own in shifts]) > 0.965
    assert np.mean([own.agrees(1.0) for own in perfect.ratios()]) > 0.935
    if dim == 2:
        assert np.mean([own.agrees(1.0) for own in perfect.volumes()]) > 0.935
    # A crowded mode that shrinks is crowded less: what is left of it is not half of what it was.
    if not crowded:
        half = measured(0.5)
        for level in (0.05, 0.005):
            rejected = np.mean(half.tail(np.full(trials, math.log(0.5)), lower=True) < level)
            assert abs(rejected - level) < 4 * math.sqrt(level / trials)
        if hits > 2 * dim:
            volume = half.volume_tail(np.full(trials, math.log(0.5)), lower=True)
            assert abs(np.mean(volume < 0.05) - 0.05) < 4 * math.sqrt(0.05 / trials)
            assert np.mean([own.agrees(0.5) for own in half.volumes()]) > 0.935
        assert np.mean(half.shrunk(math.log(0.5)) < 0.05) < 0.065
        assert np.mean([own.agrees(0.5) for own in half.ratios()]) > 0.94


def test_a_thousand_modes_are_quick_and_right():
    ticks = np.stack(np.meshgrid(*[np.arange(10.0)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    rng = np.random.default_rng(18)
    weights = rng.dirichlet(np.full(1000, 20.0))
    law = Mixture([Gaussian(center, np.diag(rng.uniform(0.2, 1.0, 3) * 0.01)) for center in ticks], weights)
    x = law.sample(26_000, rng)
    found = mode_coverage(generated=x, modes=law)
    assert (found.captured, found.missing, found.starved, found.shrunk) == (1000, (), (), ())
    assert found.reverse_kl.agrees(0.0)
    gaps = (x[:500, None] - ticks) / np.stack([np.sqrt(np.diag(part.cov)) for part in law.components])
    np.testing.assert_array_equal(found.nearest[:500], (gaps**2).sum(axis=2).argmin(axis=1))


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


def simulated_hits(parts, per_part, rng):
    """By the definition, in all dimensions: z and weight of the hits of each mode."""
    dim, (core, reach) = parts.means.shape[1], quality_band(parts.means.shape[1])
    points = [
        mean + rng.standard_normal((per_part, dim)) @ factor.T
        for mean, factor in zip(parts.means, parts.factors, strict=True)
    ]
    z = np.stack(
        [np.linalg.solve(f, (np.concatenate(points) - m).T).T for m, f in zip(parts.means, parts.factors, strict=True)]
    )
    squared = (z**2).sum(axis=2)
    nearest, mass = squared.argmin(axis=0), np.repeat(parts.weights / per_part, per_part)
    hits = [(nearest == k) & (squared[k] >= core**2) & (squared[k] < reach**2) for k in range(len(z))]
    return [(z[k][own], mass[own]) for k, own in enumerate(hits)]


@pytest.mark.parametrize(("dim", "alike"), [(20, True), (3, True), (4, False)])
def test_the_null_of_crowded_modes_is_that_of_a_simulation(dim, alike):
    """Twenty dimensions are drawn in the two that the means span, and four in blocks: as all of it at once."""
    rng = np.random.default_rng(19)
    roots = rng.standard_normal((3, dim, dim)) / 4 + np.eye(dim)
    factors = np.linalg.cholesky(roots @ roots.swapaxes(1, 2))
    factors = np.broadcast_to(factors[0], factors.shape) if alike else factors
    away = rng.standard_normal((3, dim))
    places = 5 + 2.0 * away / np.linalg.norm(away, axis=1)[:, None]
    parts = Parts(np.array([0.5, 0.3, 0.2]), np.stack([f @ p for f, p in zip(factors, places, strict=True)]), factors)
    expected, per_part = expected_hits(parts, 1000), 130_000
    assert set(expected.crowded) == {0, 1, 2}
    # Both sides have an error: √2 of one. Five of them hold for all 1300 numbers.
    for k, (z, mass) in enumerate(simulated_hits(parts, per_part, rng)):
        far = 5 * math.sqrt(2)
        assert abs(expected.rates[k] - mass.sum()) < far * math.sqrt((mass**2).sum())
        found, share = expected.crowded[k], mass / mass.sum()
        count = 1 / (share**2).sum()
        mean = share @ z
        cov = (z - mean).T @ ((z - mean) * share[:, None])
        squares = ((z - mean) ** 2).sum(axis=1)
        wide = np.diag(cov)
        assert (abs(found.mean - mean) < far * np.sqrt(wide / count)).all()
        assert (abs(found.cov - cov) < far * np.sqrt((np.outer(wide, wide) + cov**2) / count)).all()
        kurtosis = (squares - share @ squares) ** 2
        spread = share @ kurtosis
        assert abs(found.spread - spread) < far * math.sqrt(share @ (kurtosis - spread) ** 2 / count)


def test_modes_in_one_place_and_on_a_line():
    """All modes in one place: the first has all hits, exactly. On a line in the plane: an integral knows the rates."""
    same = expected_hits(Parts(np.array([0.5, 0.5]), np.ones((2, 5)), np.broadcast_to(np.eye(5), (2, 5, 5))), 100)
    np.testing.assert_allclose(same.rates, [1 - math.exp(-4.5), 0.0], rtol=1e-12)
    pair = expected_hits(Parts(np.array([0.5, 0.5]), np.array([[0.0, 0.0], [3.0, 0.0]]), np.stack([np.eye(2)] * 2)), 9)
    # Own points left of 1.5 within 3 of the origin, and the other mode's that lie there.
    x = np.linspace(-3, 1.5, 200_001)
    strip = (stats.norm.pdf(x) + stats.norm.pdf(x - 3)) / 2 * (2 * stats.norm.cdf(np.sqrt(9 - x**2)) - 1)
    np.testing.assert_allclose(pair.rates, np.trapezoid(strip, x), atol=4 * 0.5 / math.sqrt(400_000))


def test_the_null_takes_little_memory_in_many_dimensions():
    rng = np.random.default_rng(20)
    factors = np.stack([np.diag(rng.uniform(0.9, 1.1, 40)) for _ in range(3)])
    parts = Parts(np.full(3, 1 / 3), rng.standard_normal((3, 40)), factors)
    tracemalloc.start()
    try:
        assert set(expected_hits(parts, 1000).crowded) == {0, 1, 2}
        # The points alone would take 128 MB.
        assert tracemalloc.get_traced_memory()[1] < 110e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("dim", "ratios"), [(4, (0.001, 0.3, 1.0)), (60, (0.4, 0.7, 1.0, 1.3))])
def test_moments_between_the_edges_are_those_of_a_simulation(dim, ratios):
    """|z|² of N(0, s²I), given that it is a hit; with the inner edge deep in its upper tail where s is small."""
    rng, n = np.random.default_rng(23), 1_000_000
    low, high = quality_band(dim)
    for s2 in ratios:
        squares = s2 * rng.chisquare(dim, n)
        squares = squares[(squares >= low**2) & (squares < high**2)]
        second, spread = (float(value[0]) for value in cut_moments(np.array([s2]), dim))
        error = squares.std() / math.sqrt(len(squares))
        assert abs(second - squares.mean()) < 4 * error
        kurtosis = ((squares - squares.mean()) ** 2).std() / math.sqrt(len(squares))
        assert abs(spread - squares.var()) < 4 * kurtosis
    # So narrow that only the tail at the inner edge is left: it joins without a jump, and grows.
    for dim in (4, 60, 400, 1200):
        second, spread = cut_moments(np.exp(np.linspace(math.log(1e-8), 0.0, 20_001)), dim)
        assert (np.diff(second) / second[:-1] > -1e-5).all()
        assert second[0] == pytest.approx(quality_band(dim)[0] ** 2, rel=1e-5)
        assert np.isfinite(spread).all()


def test_a_law_much_wider_than_the_threshold_is_even_within_it():
    """In a ball of radius t and d dimensions: E r² = t² d/(d+2), E r⁴ = t⁴ d/(d+4)."""
    for dim in (2, 50, 1200):
        square = quality_threshold(dim) ** 2
        second, spread = cut_moments(np.array([1e4, 1e8]), dim)
        np.testing.assert_allclose(second, square * dim / (dim + 2), rtol=1e-3)
        np.testing.assert_allclose(spread, square**2 * (dim / (dim + 4) - (dim / (dim + 2)) ** 2), rtol=0.1)
