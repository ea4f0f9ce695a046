"""Kernel densities: reference values, mass 1, sampling against the CDF, and bandwidths that find the right scale."""

import numpy as np
import pytest
from scipy import integrate, stats

from divergences import Gaussian, InputError, Mixture
from divergences.distributions import Distribution
from evaluation import kde
from evaluation.kde import KDE

FAKE = np.random.RandomState(1).standard_normal((150, 8)) * 0.9 + 0.2  # noqa: NPY002 (a frozen, published stream)
TEST = np.random.RandomState(2).standard_normal((160, 8))  # noqa: NPY002
KERNELS = ["gaussian", "epanechnikov"]


@pytest.mark.parametrize(
    ("h", "value"), [(0.3, -21.7560748443), (0.5, -13.1819735626), (0.7, -11.9323686835), (1.0, -12.0558700850)]
)
def test_published_parzen_likelihoods(h, value):
    assert KDE(FAKE, bandwidth=h).log_prob(TEST).mean() == pytest.approx(value, abs=1e-9)


def test_is_the_mixture_of_gaussians_it_says():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(30), rng.dirichlet(np.ones(30))
    law, twin = KDE(x, bandwidth=0.3, weights=w), Mixture([Gaussian(c, 0.09) for c in x], w)
    grid = np.linspace(-4, 4, 101)
    np.testing.assert_allclose(law.log_prob(grid[:, None]), twin.log_prob(grid[:, None]), rtol=1e-12)
    np.testing.assert_allclose(law.cdf(grid), twin.cdf(grid), rtol=1e-12)
    np.testing.assert_allclose(law.survival(grid), twin.survival(grid), rtol=1e-10)
    np.testing.assert_allclose(law.quantile([0.01, 0.5, 0.999]), twin.quantile([0.01, 0.5, 0.999]), rtol=1e-12)
    weights, parts = KDE(np.column_stack([x, x]), bandwidth=0.3, weights=w).parts()
    plane = Mixture(parts, weights)
    np.testing.assert_allclose(
        plane.log_prob([[0.1, 0.2]]), KDE(np.column_stack([x, x]), bandwidth=0.3, weights=w).log_prob([[0.1, 0.2]])
    )


@pytest.mark.parametrize("kernel", KERNELS)
def test_mass_is_one_in_one_to_three_dimensions(kernel):
    rng = np.random.default_rng(1)
    for d, h, steps in ((1, 0.2, 4001), (2, 0.5, 401), (3, 1.0, 81)):
        points = 0.5 * rng.standard_normal((20, d))
        axis = np.linspace(-7, 7, steps)
        grid = np.stack(np.meshgrid(*[axis] * d, indexing="ij"), axis=-1).reshape(-1, d)
        mass = np.exp(KDE(points, bandwidth=h, kernel=kernel).log_prob(grid)).sum() * (axis[1] - axis[0]) ** d
        assert mass == pytest.approx(1.0, abs=2e-3 if kernel == "epanechnikov" else 1e-9)


@pytest.mark.parametrize("kernel", KERNELS)
def test_cdf_quantile_and_density_belong_together(kernel):
    law = KDE([-1.0, 0.0, 2.0], bandwidth=0.4, kernel=kernel, weights=[0.2, 0.3, 0.5])
    for x in (-0.8, 0.1, 1.9):
        mass = integrate.quad(
            lambda t: float(np.exp(law.log_prob([[t]]))[0]), -4, x, points=[-1.4, -0.6, -0.4, 0.4, 1.6], limit=200
        )[0]
        assert law.cdf([x])[0] == pytest.approx(mass, abs=1e-8)
        assert law.quantile(law.cdf([x]))[0] == pytest.approx(x, abs=1e-9)
    assert (law.cdf([-9.0, 9.0]) == [0.0, 1.0]).all() or kernel == "gaussian"
    low, high = law.support.low[0], law.support.high[0]
    np.testing.assert_array_equal(law.quantile([0.0, 1.0]), [low, high])


@pytest.mark.parametrize("kernel", KERNELS)
def test_samples_follow_the_law(kernel):
    law = KDE([-1.0, 0.0, 2.0], bandwidth=0.4, kernel=kernel, weights=[0.2, 0.3, 0.5])
    x = law.sample(20_000, np.random.default_rng(2))
    assert stats.kstest(x[:, 0], law.cdf).pvalue > 1e-3
    wide = KDE(np.zeros((1, 5)), bandwidth=2.0, kernel=kernel).sample(20_000, np.random.default_rng(3))
    # Epanechnikov: a coordinate's variance is h²/(d + 4).
    expected = 4.0 if kernel == "gaussian" else 4.0 / 9
    np.testing.assert_allclose(wide.var(axis=0), expected, rtol=0.05)


@pytest.mark.parametrize("kernel", KERNELS)
def test_is_a_distribution_with_knots_everywhere_it_lives(kernel):
    law = KDE(np.r_[np.linspace(0, 1, 200), 50.0], bandwidth=0.05, kernel=kernel)
    assert isinstance(law, Distribution)
    position, scale = law.knots()
    assert (np.diff(position) > 0).all()
    assert (scale > 0).all()
    assert ((position > 49.9) & (position < 50.1)).sum() >= 3
    assert position.size < 1500


def test_silverman_is_the_textbook_number():
    x = np.random.default_rng(4).standard_normal(500)
    iqr = np.subtract(*np.quantile(x, [0.75, 0.25], method="hazen")) / 1.3489795003921634
    expected = (4 / 3 / 500) ** 0.2 * min(x.std(), iqr)
    assert KDE(x).bandwidth == pytest.approx(expected, rel=1e-6)
    assert KDE(x, bandwidth="scott").bandwidth == pytest.approx(500**-0.2 * x.std())
    plane = np.random.default_rng(4).standard_normal((500, 2))
    assert KDE(plane).bandwidth == pytest.approx(500 ** (-1 / 6) * np.sqrt(plane.var(axis=0).mean()))


@pytest.mark.parametrize("kernel", KERNELS)
def test_cross_validation_is_the_best_of_a_fine_grid(kernel):
    rng = np.random.default_rng(5)
    x = np.r_[rng.standard_normal(30) * 0.1 - 3, rng.standard_normal(30) * 0.1 + 3][:, None]
    law = KDE(x, bandwidth="cv", kernel=kernel)

    def naive(h):
        return sum(
            KDE(np.delete(x, i, axis=0), bandwidth=h, kernel=kernel).log_prob(x[i : i + 1])[0] for i in range(60)
        )

    grid = law.bandwidth * np.exp(np.linspace(-2, 2, 21))
    assert naive(law.bandwidth) >= max(naive(float(h)) for h in grid) - 1e-3
    assert law.bandwidth < 0.3 * KDE(x, bandwidth="scott", kernel=kernel).bandwidth


def test_repeats_do_not_pull_the_bandwidth_to_zero():
    x = np.random.default_rng(6).standard_normal(100)
    once, twice = KDE(x, bandwidth="cv").bandwidth, KDE(np.repeat(x, 2), bandwidth="cv").bandwidth
    assert twice == pytest.approx(once, rel=0.02)


def test_blocks_change_nothing(monkeypatch):
    whole = KDE(FAKE, bandwidth=0.7).log_prob(TEST)
    monkeypatch.setattr(kde, "_BLOCK", 700)
    np.testing.assert_array_equal(KDE(FAKE, bandwidth=0.7).log_prob(TEST), whole)


@pytest.mark.parametrize("dim", [1, 3])
def test_pruning_changes_nothing(dim, monkeypatch):
    """The k-d tree of the compact kernel against the sum over all points, in density and cross-validation."""
    rng = np.random.default_rng(7)
    x = np.round(rng.standard_normal((200, dim)), 1)
    w, query = rng.dirichlet(np.ones(200)), np.r_[3 * rng.standard_normal((100, dim)), x[:5]]

    def both():
        law = KDE(x, bandwidth=0.9, kernel="epanechnikov", weights=w)
        return law.log_prob(query), KDE(x, bandwidth="cv", kernel="epanechnikov", weights=w).bandwidth

    pruned = both()
    monkeypatch.setattr(kde, "_BLOCK", 37)
    blocked = both()
    np.testing.assert_array_equal(blocked[0], pruned[0])
    assert blocked[1] == pytest.approx(pruned[1], rel=1e-6)
    monkeypatch.setattr(kde, "_TREE_DIM", 0)
    full = both()
    assert np.isneginf(full[0]).any()
    np.testing.assert_allclose(pruned[0], full[0], rtol=1e-10)
    assert pruned[1] == pytest.approx(full[1], rel=1e-6)


def test_far_away():
    assert KDE([0.0], bandwidth=1.0).log_prob([[60.0]])[0] == pytest.approx(-0.5 * 3600 - 0.5 * np.log(2 * np.pi))
    assert KDE([0.0], bandwidth=1.0, kernel="epanechnikov").log_prob([[1.5], [np.inf]]).tolist() == [-np.inf, -np.inf]


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: KDE([]), "points"),
        (lambda: KDE([np.nan, 1.0]), "points"),
        (lambda: KDE(np.ones((2, 2, 2))), "points"),
        (lambda: KDE([1.0, 2.0], bandwidth=0), "bandwidth"),
        (lambda: KDE([1.0, 2.0], bandwidth=-1.0), "bandwidth"),
        (lambda: KDE([1.0, 2.0], bandwidth="best"), "bandwidth"),
        (lambda: KDE([1.0, 1.0]), "bandwidth"),
        (lambda: KDE([1.0], bandwidth="cv"), "bandwidth"),
        (lambda: KDE([1.0, 2.0], kernel="box"), "kernel"),
        (lambda: KDE([1.0, 2.0], weights=[1.0]), "weights"),
        (lambda: KDE([1.0, 2.0], weights=[0.9, 0.9]), "weights"),
        (lambda: KDE(np.eye(2), bandwidth=1.0).cdf([0.0]), "line"),
        (lambda: KDE(np.eye(2), bandwidth=1.0).log_prob([[0.0]]), "x"),
    ],
)
def test_bad_input(call, word):
    with pytest.raises(InputError, match=word):
        call()
