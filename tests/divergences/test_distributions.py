import numpy as np
import pytest
from scipy import integrate, stats

from divergences import Discrete, Gaussian, Mixture, Uniform, as_distribution, kl
from divergences.errors import InputError, NoDensity

RNG = np.random.default_rng
PAIR = Mixture([Gaussian(-2.0, 0.25), Gaussian(1.0, 4.0)], [0.3, 0.7])


def test_gaussian_agrees_with_scipy():
    cov = [[2.0, 0.5, 0.1], [0.5, 1.0, 0.2], [0.1, 0.2, 0.7]]
    law, oracle = Gaussian([1.0, 2.0, 3.0], cov), stats.multivariate_normal([1.0, 2.0, 3.0], cov)
    x = RNG(0).normal(size=(50, 3)) * 3
    np.testing.assert_allclose(law.log_prob(x), oracle.logpdf(x), rtol=1e-12)
    draws = law.sample(200_000, RNG(1))
    np.testing.assert_allclose(np.cov(draws.T), cov, atol=0.03)


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_mixture_density_is_the_weighted_sum(dim):
    rng = RNG(dim)
    parts = [Gaussian(rng.normal(size=dim), np.diag(rng.uniform(0.5, 2, dim))) for _ in range(3)]
    parts.append(Uniform(-np.ones(dim), np.ones(dim)))
    weights = [0.1, 0.2, 0.3, 0.4]
    x = rng.normal(size=(40, dim))
    oracle = sum(w * np.exp(part.log_prob(x)) for w, part in zip(weights, parts, strict=True))
    np.testing.assert_allclose(np.exp(Mixture(parts, weights).log_prob(x)), oracle, rtol=1e-12)
    gaussian = Mixture(parts[:3], [0.2, 0.3, 0.5])
    oracle = sum(w * np.exp(part.log_prob(x)) for w, part in zip([0.2, 0.3, 0.5], parts[:3], strict=True))
    np.testing.assert_allclose(np.exp(gaussian.log_prob(x)), oracle, rtol=1e-12)


@pytest.mark.parametrize("law", [Gaussian(1.0, 4.0), Uniform(-1.0, 3.0), PAIR], ids=repr)
def test_cdf_quantile_and_density_belong_together(law):
    x = np.linspace(-4, 6, 21)
    for a, b in zip(x[:-1], x[1:], strict=True):
        edges = [e for e in (-1.0, 3.0) if a < e < b]
        mass = integrate.quad(lambda t: np.exp(law.log_prob([[t]])[0]), a, b, points=edges or None)[0]
        assert float(law.cdf([b])[0] - law.cdf([a])[0]) == pytest.approx(mass, abs=1e-9)
    u = np.array([1e-9, 0.01, 0.3, 0.5, 0.9, 1 - 1e-9])
    np.testing.assert_allclose(law.cdf(law.quantile(u)), u, rtol=1e-9)
    np.testing.assert_allclose(law.survival(x) + law.cdf(x), 1.0, rtol=1e-12)
    assert stats.kstest(law.sample(5000, RNG(2))[:, 0], law.cdf).pvalue > 1e-3


def test_mixture_of_mixtures_is_flattened():
    nested = Mixture([PAIR, Gaussian(0.0, 1.0)], [0.5, 0.5])
    weights, parts = nested.parts()
    np.testing.assert_allclose(weights, [0.15, 0.35, 0.5])
    assert len(parts) == 3
    assert len(nested.components) == 2


def test_zero_weight_is_no_part():
    law = Mixture([Gaussian(0.0, 1.0), Uniform(5.0, 6.0)], [1.0, 0.0])
    assert kl(law, Gaussian(0.0, 1.0)).agrees(0.0)
    assert law.support.high[0] == np.inf


def test_discrete_merges_equal_points_and_knows_minus_zero():
    law = Discrete([[0.0, 1.0], [-0.0, 1.0], [2.0, 3.0]])
    assert len(law.atoms) == 2
    np.testing.assert_allclose(np.exp(law.log_prob([[0.0, 1.0], [5.0, 5.0]])), [2 / 3, 0.0])


def test_a_draw_of_nothing_is_empty():
    assert PAIR.sample(0, RNG(0)).shape == (0, 1)
    assert PAIR.log_prob(np.empty((0, 1))).shape == (0,)


def test_same_seed_same_sample():
    np.testing.assert_array_equal(PAIR.sample(100, RNG(5)), PAIR.sample(100, RNG(5)))


@pytest.mark.parametrize(
    "frozen",
    [
        stats.norm(1, 2),
        stats.uniform(-1, 3),
        stats.t(3, loc=1, scale=2),
        stats.laplace(0.5, 2),
        stats.gamma(2.0),
        stats.cauchy(1, 0.5),
        stats.lognorm(0.7),
        stats.beta(2, 3),
        stats.logistic(),
    ],
    ids=lambda frozen: frozen.dist.name,
)
def test_scipy_laws(frozen):
    law = as_distribution(frozen)
    x = frozen.ppf(np.linspace(0.01, 0.99, 25))
    np.testing.assert_allclose(law.log_prob(x[:, None]), frozen.logpdf(x), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(law.cdf(x), frozen.cdf(x), rtol=1e-10)
    assert kl(law, law).value <= 1e-12
    assert law.sample(7, RNG(0)).shape == (7, 1)


def test_scipy_multivariate_and_discrete():
    law = as_distribution(stats.multivariate_normal([0, 1], [[2, 0.5], [0.5, 1]]))
    assert isinstance(law, Gaussian)
    binomial = as_distribution(stats.binom(3, 0.5))
    np.testing.assert_allclose(np.exp(binomial.log_prob([[0.0], [1.0], [4.0]])), [0.125, 0.375, 0.0], atol=1e-15)


def test_torch_laws():
    torch = pytest.importorskip("torch")
    d = torch.distributions
    assert repr(as_distribution(d.Normal(1.0, 2.0))) == "Gaussian(1, 4)"
    assert isinstance(as_distribution(d.Uniform(0.0, 2.0)), Uniform)
    mixture = d.MixtureSameFamily(
        d.Categorical(torch.tensor([0.3, 0.7])), d.Normal(torch.tensor([-2.0, 1.0]), torch.tensor([0.5, 2.0]))
    )
    adapted = as_distribution(mixture)
    assert isinstance(adapted, Mixture)
    # float32 weights: the twin is exact for what torch holds, 0.3 to seven digits.
    assert kl(adapted, PAIR).value < 1e-12
    full = d.MultivariateNormal(torch.tensor([0.0, 1.0]), torch.tensor([[2.0, 0.5], [0.5, 1.0]]))
    assert isinstance(as_distribution(full), Gaussian)
    gumbel = as_distribution(d.Gumbel(torch.tensor(0.0), torch.tensor(1.0)))
    x = np.linspace(-2, 5, 9)
    np.testing.assert_allclose(gumbel.log_prob(x[:, None]), stats.gumbel_r.logpdf(x), rtol=1e-6)
    state = torch.random.get_rng_state()
    np.testing.assert_array_equal(gumbel.sample(5, RNG(1)), gumbel.sample(5, RNG(1)))
    assert torch.equal(state, torch.random.get_rng_state())
    with pytest.raises(InputError, match="batch_shape"):
        as_distribution(d.Gumbel(torch.zeros(3), torch.ones(3)))
    with pytest.raises(NoDensity):
        as_distribution(torch.nn.Linear(1, 1))


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_sklearn_mixtures(kind):
    from sklearn.mixture import GaussianMixture

    data = np.concatenate([RNG(0).normal(size=(200, 2)), RNG(1).normal(size=(200, 2)) * 0.3 + 4])
    model = GaussianMixture(2, covariance_type=kind, random_state=0).fit(data)
    np.testing.assert_allclose(as_distribution(model).log_prob(data), model.score_samples(data), rtol=1e-9)
    with pytest.raises(InputError, match="fit"):
        as_distribution(GaussianMixture(2))


@pytest.mark.parametrize("kernel", ["gaussian", "epanechnikov", "exponential"])
def test_sklearn_kernel_density(kernel):
    from sklearn.neighbors import KernelDensity

    data = RNG(0).normal(size=(60, 1))
    model = KernelDensity(bandwidth=0.4, kernel=kernel).fit(data)
    law = as_distribution(model)
    x = np.linspace(-3, 3, 31)[:, None]
    np.testing.assert_allclose(law.log_prob(x), model.score_samples(x), rtol=1e-9)
    assert kl(law, Gaussian(0.0, 4.0)).value > 0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Gaussian(0.0, -1.0), "positive definite"),
        (lambda: Gaussian(0.0, 0.0), "positive definite"),
        (lambda: Gaussian([0, 0], [[1, 2], [0, 1]]), "symmetric"),
        (lambda: Gaussian([0, 0], np.eye(3)), r"cov must have shape \(2, 2\)"),
        (lambda: Gaussian(np.nan, 1.0), "finite"),
        (lambda: Gaussian("a", 1.0), "real numbers"),
        (lambda: Gaussian(1j, 1.0), "complex"),
        (lambda: Uniform(1.0, 1.0), "below high"),
        (lambda: Uniform(0.0, np.inf), "finite"),
        (lambda: Uniform([0, 0], [1, 1, 1]), "same shape"),
        (lambda: Mixture([]), "non-empty"),
        (lambda: Mixture([Gaussian(0.0, 1.0)], [0.5]), "sum to 1"),
        (lambda: Mixture([Gaussian(0.0, 1.0)] * 2, [1.5, -0.5]), "negative"),
        (lambda: Mixture([Gaussian(0.0, 1.0)] * 2, [0.5, np.nan]), "NaN"),
        (lambda: Mixture([Gaussian(0.0, 1.0), Gaussian([0, 0], np.eye(2))]), "same space"),
        (lambda: Mixture([Discrete([0.0])]), "Discrete"),
        (lambda: Discrete([]), "at least 1 point"),
        (lambda: Discrete([[0.0, np.nan]]), "NaN in 1 of 1 rows"),
        (lambda: Discrete([0.0, 1.0], [0.5, 0.4]), "sums to 0.9"),
        (lambda: Discrete([[[0.0]]]), r"shape \(n, d\)"),
        (lambda: Discrete([[0.0], [1.0, 2.0]]), "rectangular"),
        (lambda: PAIR.log_prob([[0.0, 1.0]]), r"shape \(n, 1\)"),
        (lambda: PAIR.log_prob([[np.nan]]), "NaN"),
        (lambda: PAIR.quantile([1.5]), "between 0 and 1"),
        (lambda: PAIR.sample(-1, RNG(0)), "at least 0"),
        (lambda: Gaussian([0, 0], np.eye(2)).cdf([0.0]), "on the line"),
        (lambda: as_distribution(stats.norm), "class|frozen"),
        (lambda: as_distribution(stats.norm([0, 1], 1)), "batch"),
        (lambda: as_distribution(42), "int"),
        (lambda: as_distribution(Gaussian), "make an instance"),
    ],
)
def test_bad_input(build, message):
    with pytest.raises(InputError, match=message):
        build()
