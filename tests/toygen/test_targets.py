"""The targets are what their names say: the published traps are tested for."""

import numpy as np
import pytest
from scipy import stats

from divergences import Distribution, InputError, NoDensity, jsd, wasserstein
from divergences.distributions import parts_of
from evaluation.modes import mode_coverage
from toygen.curves import Arc, CurveLaw
from toygen.targets import (
    TARGETS,
    anisotropic,
    checkerboard,
    embedded,
    grid,
    imbalanced,
    parallel_lines,
    ring,
    scipy_law,
    spiral,
    swiss_roll,
    target_by_name,
    two_moons,
    two_peaks,
)


def means(law):
    return np.stack([part.mean for part in parts_of(law)[1]])


def test_the_ring_has_eight_distinct_modes_of_equal_weight():
    # A linspace that runs to 2π inclusive repeats the first mode: seven modes, one of double weight.
    law = ring()
    distances = np.linalg.norm(means(law)[:, None] - means(law)[None], axis=2)
    assert distances[~np.eye(8, dtype=bool)].min() == pytest.approx(2 * np.sin(np.pi / 8), rel=1e-12)
    assert np.linalg.norm(means(law), axis=1) == pytest.approx(np.ones(8))
    assert law.weights == pytest.approx(np.full(8, 1 / 8))
    labels = np.argmin(np.linalg.norm(law.sample(8000, np.random.default_rng(0))[:, None] - means(law), axis=2), axis=1)
    assert np.abs(np.bincount(labels, minlength=8) - 1000).max() < 5 * np.sqrt(1000)


def test_scale_is_a_standard_deviation():
    for law, scale in ((ring(scale=0.02), 0.02), (grid(scale=0.3), 0.3)):
        for part in parts_of(law)[1]:
            assert part.cov == pytest.approx(scale**2 * np.eye(2))
    assert two_peaks(scales=(0.5, 2.0)).components[1].cov[0, 0] == 4.0


def test_the_grid_is_the_published_one():
    expected = {(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)}
    assert {tuple(mean) for mean in means(grid())} == expected
    assert means(grid(side=2, spacing=3.0)).tolist() == [[-1.5, -1.5], [-1.5, 1.5], [1.5, -1.5], [1.5, 1.5]]


def test_two_peaks_live_on_the_line():
    law = two_peaks(means=(-3.0, 1.0), weights=(0.25, 0.75))
    assert law.dim == 1
    assert law.cdf([-1.0])[0] == pytest.approx(0.25, abs=1e-9)


def test_imbalanced_weights_fall_geometrically():
    law = imbalanced(modes=5, ratio=16.0)
    assert law.weights[:-1] / law.weights[1:] == pytest.approx(np.full(4, 2.0))
    assert means(law) == pytest.approx(means(ring(5)))


def test_anisotropic_modes_are_long_along_the_radius():
    for part in anisotropic(modes=6, scale=0.02, ratio=5.0).components:
        outwards = part.mean / np.linalg.norm(part.mean)
        sideways = np.array([-outwards[1], outwards[0]])
        assert outwards @ part.cov @ outwards == pytest.approx(0.1**2)
        assert sideways @ part.cov @ sideways == pytest.approx(0.02**2)
        assert outwards @ part.cov @ sideways == pytest.approx(0, abs=1e-12)


CURVES = {
    "spiral": spiral(turns=1.0, arms=2, scale=0.08),
    "two_moons": two_moons(scale=0.15),
    "swiss_roll": swiss_roll(scale=0.12),
}


@pytest.mark.parametrize("law", CURVES.values(), ids=CURVES.keys())
def test_the_density_of_a_noisy_curve_is_exact(law):
    # It integrates to one: a trapezoid grid with a spacing of σ/2 sees a blur of width σ to many digits.
    x = law.sample(40_000, np.random.default_rng(0))
    low, high = x.min(axis=0) - 5 * law.scale, x.max(axis=0) + 5 * law.scale
    counts = np.ceil((high - low) / (0.5 * law.scale)).astype(int)
    axes = [np.linspace(low[i], high[i], counts[i]) for i in (0, 1)]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    density = np.exp(law.log_prob(places.reshape(-1, 2))).reshape(counts)
    cell = (axes[0][1] - axes[0][0]) * (axes[1][1] - axes[1][0])
    assert density.sum() * cell == pytest.approx(1.0, abs=1e-8)
    # ... against a histogram of samples: χ² over square cells of four grid points a side.
    blocks = [axis[: len(axis) // 4 * 4].reshape(-1, 4) for axis in axes]
    edges = [
        np.append(block[:, 0], block[-1, -1]) - (axis[1] - axis[0]) / 2
        for block, axis in zip(blocks, axes, strict=True)
    ]
    edges = [np.append(edge[:-1], edge[-2] + 4 * (axis[1] - axis[0])) for edge, axis in zip(edges, axes, strict=True)]
    rows, columns = (4 * len(block) for block in blocks)
    expected = cell * density[:rows, :columns].reshape(rows // 4, 4, columns // 4, 4).sum(axis=(1, 3)) * len(x)
    seen, _, _ = np.histogram2d(*x.T, bins=edges)
    well = expected > 20
    chi2 = float(((seen - expected)[well] ** 2 / expected[well]).sum())
    assert well.sum() > 50
    assert abs(chi2 - well.sum()) < 4.5 * np.sqrt(2 * well.sum())
    # ... and twice as many panels of half the length say the same.
    finer = law._panels(law.scale)
    away = np.random.default_rng(1).normal(size=(500, 2))
    away /= np.linalg.norm(away, axis=1)[:, None]
    for reach, error in ((0, 1e-8), (6, 1e-6), (15, 1e-2)):
        at = x[:500] + reach * law.scale * away
        assert law.log_prob(at) == pytest.approx(law._log_prob(at, *finer), abs=error)


def test_a_segment_of_a_curve_has_a_closed_form():
    segment = CurveLaw([Arc("segment", lambda t: np.stack([2 * t, 0 * t], axis=1))], scale=0.1)
    x = np.array([[1.0, 0.05], [-0.2, 0.1], [2.0, 0.0], [2.35, -0.3]])
    along = stats.norm.cdf(x[:, 0] / 0.1) - stats.norm.cdf((x[:, 0] - 2) / 0.1)
    assert np.exp(segment.log_prob(x)) == pytest.approx(along / 2 * stats.norm(0, 0.1).pdf(x[:, 1]), rel=1e-9)
    assert np.isneginf(segment.log_prob([[np.inf, 0.0]])).all()
    assert segment.sample(0, np.random.default_rng(0)).shape == (0, 2)


def test_curves_are_where_they_should_be():
    exact = {"scale": 1e-6}
    x = spiral(turns=2.0, arms=3, **exact).sample(2000, np.random.default_rng(0))
    radius, angle = np.hypot(*x.T), np.arctan2(x[:, 1], x[:, 0])
    turn = (angle - 2 * np.pi * 2.0 * radius) % (2 * np.pi / 3)
    assert np.minimum(turn, 2 * np.pi / 3 - turn)[radius > 0.05].max() < 1e-3
    # Equal mass per area means that r² is uniform.
    assert stats.kstest(radius**2, "uniform").pvalue > 1e-3
    moons = two_moons(**exact).sample(2000, np.random.default_rng(0))
    upper, lower = np.abs(np.hypot(*moons.T) - 1), np.abs(np.hypot(moons[:, 0] - 1, moons[:, 1] - 0.5) - 1)
    assert np.minimum(upper, lower).max() < 1e-4
    roll = swiss_roll(**exact).sample(2000, np.random.default_rng(0))
    s = 7.5 * np.hypot(*roll.T)
    assert roll * 7.5 == pytest.approx(s[:, None] * np.stack([np.cos(s), np.sin(s)], axis=1), abs=1e-3)


def test_the_checkerboard_is_uniform_on_its_dark_squares():
    law = checkerboard(side=4, cell=0.5)
    x = law.sample(5000, np.random.default_rng(0))
    assert (np.floor(x / 0.5).sum(axis=1) % 2 == 0).all()
    assert np.abs(x).max() <= 1.0
    assert law.log_prob(x) == pytest.approx(np.full(5000, np.log(1 / (8 * 0.25))))
    assert np.isneginf(law.log_prob([[0.25, -0.25]])).all()
    assert len(checkerboard(side=3).components) == 5


def test_parallel_lines_have_no_density_and_a_distance_all_the_same():
    law = parallel_lines(lines=3, gap=2.0, offset=-1.0)
    x = law(3000, np.random.default_rng(0))
    assert set(x[:, 0]) == {-1.0, 1.0, 3.0}
    assert stats.kstest(x[:, 1], "uniform").pvalue > 1e-3
    with pytest.raises(NoDensity, match="sampler, without a density"):
        jsd(law, law)
    # Example 1 of the WGAN paper: W1 is |θ|, whatever θ; the JSD of the atoms is log 2 for all but θ = 0.
    zero = parallel_lines(lines=1).discrete(50)
    for theta in (0.0, 0.3, -1.5):
        moved = parallel_lines(lines=1, offset=theta).discrete(50)
        assert float(wasserstein(zero, moved).cost) == pytest.approx(abs(theta), abs=1e-9)
        assert float(jsd(zero, moved)) == pytest.approx(np.log(2) if theta else 0.0, abs=1e-12)


def test_embedded_modes_are_thin_far_apart_and_scored_by_a_quantile():
    law = embedded(modes=4, inner_dim=7, dim=12, thickness=0.05)
    values = np.linalg.eigvalsh(law.components[2].cov)
    assert values == pytest.approx([0.05**2] * 5 + [1.0] * 7, rel=1e-9)
    gaps = np.linalg.norm(means(law)[:, None] - means(law)[None], axis=2)[~np.eye(4, dtype=bool)]
    assert gaps == pytest.approx(np.full(12, 20.0))
    # The means lie in the subspace themselves.
    assert np.linalg.norm(law.components[0]._whiten @ law.components[0].mean) == pytest.approx(
        20 / np.sqrt(2), rel=1e-9
    )
    scores = mode_coverage(generated=law.sample(4000, np.random.default_rng(0)), modes=law)
    assert scores.captured == 4
    assert scores.high_quality.agrees(0.98889)
    again = embedded(modes=4, inner_dim=7, dim=12, thickness=0.05)
    assert np.array_equal(again.components[3].mean, law.components[3].mean)


@pytest.mark.slow
def test_at_full_size_the_ten_sigma_rule_calls_a_perfect_sampler_worthless():
    law = embedded()
    x = law.sample(400, np.random.default_rng(0))
    squared = np.min([-2 * (part.log_prob(x) - part._log_norm) for part in law.components], axis=0)
    assert (squared < stats.chi2(1200).ppf(0.98889)).mean() == pytest.approx(0.98889, abs=0.02)
    euclidean = np.min([np.linalg.norm(x - part.mean, axis=1) for part in law.components], axis=0)
    assert euclidean.min() > 22
    assert not (euclidean < 10).any()


def test_laws_of_scipy_by_object_and_by_text():
    for text, law in (("gamma:2.0", stats.gamma(2.0)), ("beta:0.5,0.5", stats.beta(0.5, 0.5)), ("norm", stats.norm())):
        for ours in (scipy_law(text), scipy_law(law), target_by_name(f"scipy:{text}")):
            assert ours.dim == 1
            assert ours.log_prob([0.3, 0.6]) == pytest.approx(law.logpdf([0.3, 0.6]), rel=1e-12)
            assert ours.sample(5, np.random.default_rng(0)).shape == (5, 1)


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "embedded"])
def test_every_target_is_found_by_name(name):
    law = target_by_name(name)
    assert law.sample(3, np.random.default_rng(0)).shape == (3, law.dim)
    assert isinstance(law, Distribution) == (name != "parallel_lines")


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ring(0), "modes must be at least 1"),
        (lambda: ring(radius=-1.0), "radius"),
        (lambda: ring(scale=0.0), "scale"),
        (lambda: grid(2.5), "side must be a whole number"),
        (lambda: grid(spacing=float("nan")), "spacing"),
        (lambda: two_peaks(means=(1.0, 1.0)), "means different"),
        (lambda: two_peaks(scales=(1.0, -1.0)), "scales must be positive"),
        (lambda: two_peaks(weights=(0.5, 0.6)), "weights must sum to 1"),
        (lambda: imbalanced(ratio=0.0), "ratio must be in"),
        (lambda: anisotropic(ratio=-1.0), "ratio must be in"),
        (lambda: spiral(arms=0), "arms must be at least 1"),
        (lambda: spiral(turns=0.0), "turns must be in"),
        (lambda: two_moons(scale=-0.1), "scale must be in"),
        (lambda: swiss_roll(size=0.0), "size must be in"),
        (lambda: CurveLaw([], scale=1.0), "at least one curve"),
        (lambda: checkerboard(side=1), "side must be at least 2"),
        (lambda: checkerboard(cell=0.0), "cell must be in"),
        (lambda: parallel_lines(gap=0.0), "gap must be in"),
        (lambda: parallel_lines(offset=float("nan")), "offset must be finite"),
        (lambda: embedded(5, 4, 6), "modes ≤ inner_dim ≤ dim"),
        (lambda: embedded(2, 4, 6, thickness=0.0), "thickness"),
        (lambda: scipy_law("gama:2.0"), "must name a continuous law"),
        (lambda: scipy_law("poisson:2.0"), "must name a continuous law"),
        (lambda: scipy_law("__class__"), "must name a continuous law"),
        (lambda: scipy_law("gamma:-2.0"), "cannot be made"),
        (lambda: scipy_law("gamma"), "cannot be made"),
        (lambda: scipy_law("gamma:x"), "cannot be made"),
        (lambda: scipy_law(stats.poisson(2.0)), "continuous and on the line"),
        (lambda: scipy_law(stats.multivariate_normal([0, 0])), "continuous and on the line"),
        (lambda: target_by_name("pentagon"), "ring, grid, two_peaks, .*scipy:NAME:PARAMETERS; it is 'pentagon'"),
    ],
)
def test_misuse_is_named(make, match):
    with pytest.raises(InputError, match=match):
        make()
