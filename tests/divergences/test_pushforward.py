"""p_g of x = g(z): closed-form densities, folds, atoms, and the divergences that use them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from divergences import (
    Discrete,
    Gaussian,
    InputError,
    Mixture,
    MonteCarlo,
    Quadrature,
    Uniform,
    gan_value,
    jsd,
    kl,
    optimal_logit,
    total_variation,
    wasserstein,
)
from divergences.pushforward import pushforward

NORMAL, UNIT = Gaussian(0.0, 1.0), Uniform(0.0, 1.0)
NORMAL_2, UNIT_2 = Gaussian([0.0, 0.0], np.eye(2)), Uniform([0.0, 0.0], [1.0, 1.0])
LOG2 = np.log(2.0)
TURN = np.array([[0.8, -0.6], [0.6, 0.8]])

LINE = [
    ("identity", lambda z: z, NORMAL, stats.norm.pdf, np.linspace(-8, 8, 501), 1e-12),
    ("affine", lambda z: 3 - 2 * z, NORMAL, stats.norm(3, 2).pdf, np.linspace(-8, 14, 501), 1e-12),
    ("square", lambda z: z**2, UNIT, lambda x: 0.5 / np.sqrt(x), np.geomspace(1e-14, 0.999, 501), 1e-12),
    ("chi2", lambda z: z**2, NORMAL, stats.chi2(1).pdf, np.geomspace(1e-10, 50, 501), 1e-12),
    ("cube", lambda z: z**3, Uniform(-1.0, 1.0), lambda x: x ** (-2 / 3) / 6, np.geomspace(1e-10, 0.999, 501), 1e-11),
    ("lognormal", np.exp, NORMAL, stats.lognorm(1).pdf, np.geomspace(1e-4, 1e6, 501), 1e-11),
    ("inverse CDF", special.ndtri, UNIT, stats.norm.pdf, np.linspace(-8, 4, 501), 1e-9),
    ("CDF", special.ndtr, NORMAL, np.ones_like, np.linspace(1e-4, 1 - 1e-4, 501), 1e-9),
    ("absolute value", np.abs, NORMAL, lambda x: 2 * stats.norm.pdf(x), np.linspace(1e-6, 8, 501), 1e-12),
    (
        "fold",
        lambda z: np.sin(np.pi * z),
        UNIT,
        lambda x: 2 / np.pi / np.sqrt(1 - x * x),
        np.linspace(1e-6, 0.999, 501),
        1e-10,
    ),
    (
        "leaky",
        lambda z: np.where(z > 0.3, z - 0.3, 0.1 * (z - 0.3)),
        NORMAL,
        lambda x: np.where(x > 0, stats.norm.pdf(x + 0.3), 10 * stats.norm.pdf(10 * x + 0.3)),
        np.linspace(-0.7, 5, 500),
        1e-11,
    ),
    (
        "jump",
        lambda z: np.sign(z - 0.3) + z,
        NORMAL,
        lambda x: np.where(x < 0, stats.norm.pdf(x + 1), stats.norm.pdf(x - 1)) * (np.abs(x - 0.3) > 1),
        np.linspace(-5, 5, 500),
        1e-11,
    ),
]


def network(seed, inner=1, outer=1, width=16, slope=0.2):
    rng = np.random.default_rng(seed)
    shapes = [(inner, width), (width, width), (width, outer)]
    weights = [rng.standard_normal(shape) / np.sqrt(shape[0]) for shape in shapes]
    biases = [0.5 * rng.standard_normal(shape[1]) for shape in shapes]

    def g(z):
        for k in range(3):
            z = z @ weights[k] + biases[k]
            z = np.where(z > 0, z, slope * z) if k < 2 else z
        return z

    return g


@pytest.mark.parametrize(("g", "base", "pdf", "x", "accuracy"), [case[1:] for case in LINE], ids=[c[0] for c in LINE])
def test_density_on_the_line(g, base, pdf, x, accuracy):
    law = pushforward(g, base)
    truth = pdf(x)
    np.testing.assert_allclose(np.exp(law.log_prob(x)), truth, rtol=accuracy, atol=1e-300)
    assert law.mass.agrees(1.0)
    assert law.mass.error < 1e-4
    assert law.singular_mass == 0
    assert law.singular_points is None
    # CDF and quantile are inverse to each other, and both tails add up.
    levels = np.linspace(0.02, 0.98, 25)
    np.testing.assert_allclose(law.cdf(law.quantile(levels)), levels, atol=1e-12)
    np.testing.assert_allclose(law.cdf(x) + law.survival(x), 1.0, atol=1e-12)


def test_pushforward_is_the_law_of_its_samples():
    law = pushforward(network(3), NORMAL)
    draws = law.sample(20_000, np.random.default_rng(1))[:, 0]
    assert stats.kstest(draws, law.cdf).pvalue > 1e-3
    assert law.mass.agrees(1.0)
    assert law.mass.error < 1e-8
    # Density against the derivative of the CDF.
    x = np.linspace(*np.quantile(draws, [0.05, 0.95]), 40)
    slope = (law.cdf(x + 1e-5) - law.cdf(x - 1e-5)) / 2e-5
    away = np.abs(slope - np.exp(law.log_prob(x))) < 1e-5 * slope
    assert away.mean() > 0.9  # but for the kinks


def test_single_precision_networks_are_recognised():
    double = network(5)
    law, exact = (
        pushforward(lambda z: double(z.astype(np.float32)).astype(np.float32), NORMAL),
        pushforward(double, NORMAL),
    )
    x = exact.sample(200, np.random.default_rng(0))
    ratio = law.log_prob(x) - exact.log_prob(x)
    assert np.median(np.abs(ratio)) < 1e-3


@pytest.mark.slow
def test_many_folds():
    law = pushforward(lambda z: np.sin(8 * z) + 0.1 * z, NORMAL)
    draws = law.sample(1500, np.random.default_rng(1))[:, 0]
    assert stats.kstest(draws, law.cdf).pvalue > 1e-3
    edges = np.linspace(-0.9, 0.9, 10)
    x = edges[:-1, None] + np.diff(edges)[:, None] * np.linspace(0, 1, 501)
    # Coarse: the density has poles inside.
    binned = np.trapezoid(np.minimum(np.exp(law.log_prob(x.ravel())), 50).reshape(x.shape), x, axis=1)
    assert np.abs(binned - np.diff(law.cdf(edges))).max() < 5e-3


@settings(max_examples=15, deadline=None)
@given(
    st.floats(0.05, 3.0),
    st.floats(0.0, 2.0),
    st.floats(-2.0, 2.0),
    st.floats(0.2, 3.0),
    st.sampled_from([-1.0, 1.0]),
)
def test_monotone_maps(slope, bump, shift, width, sign):
    def g(z):
        return sign * (slope * z + bump * np.tanh((z - shift) / width))

    law = pushforward(g, NORMAL)
    z = np.linspace(-4, 4, 101)
    derivative = slope + bump / width / np.cosh((z - shift) / width) ** 2
    np.testing.assert_allclose(np.exp(law.log_prob(g(z))), stats.norm.pdf(z) / derivative, rtol=1e-9)
    np.testing.assert_allclose(law.cdf(g(z)), stats.norm.cdf(sign * z), atol=1e-13)
    assert law.mass.agrees(1.0)


def test_relu_puts_half_the_mass_on_a_point():
    law = pushforward(lambda z: np.maximum(z, 0.0), NORMAL)
    assert law.singular_mass == pytest.approx(0.5, abs=1e-12)
    np.testing.assert_allclose(law.singular_points.atoms, [[0.0]])
    assert law.mass.agrees(0.5)
    x = np.linspace(0.01, 5, 50)
    np.testing.assert_allclose(law.log_prob(x), stats.norm.logpdf(x), rtol=1e-12)
    assert np.isneginf(law.log_prob([-0.5, -1e-9])).all()
    np.testing.assert_allclose(law.cdf([-1e-9, 0.0, 1.0]), [0.0, 0.5, stats.norm.cdf(1)], atol=1e-12)
    np.testing.assert_allclose(law.quantile([0.2, 0.5, 0.9]), [0, 0, stats.norm.ppf(0.9)], atol=1e-9)
    # A law far to the right: all mass moves up, by the difference of the means.
    assert wasserstein(law, Gaussian(8.0, 0.01)).cost.value == pytest.approx(8 - 1 / np.sqrt(2 * np.pi), abs=1e-9)


def test_kinks_are_found_wherever_they_are():
    law = pushforward(lambda z: np.maximum(z - 0.3, 0.0) + np.minimum(z + 1.1, 0.0) + 2.0, NORMAL)
    assert law.singular_mass == pytest.approx(stats.norm.cdf(0.3) - stats.norm.cdf(-1.1), abs=1e-12)
    np.testing.assert_allclose(law.singular_points.atoms, [[2.0]], rtol=1e-13)


def test_saturation_is_singular_in_floating_point():
    law = pushforward(lambda z: np.tanh(5 * z), NORMAL)
    assert 1e-5 < law.singular_mass < 1e-2
    np.testing.assert_allclose(np.sort(law.singular_points.atoms[:, 0]), [-1, 1])


def test_a_constant_map_has_no_density():
    law = pushforward(lambda z: 0 * z + 2.5, NORMAL)
    assert law.singular_mass == pytest.approx(1.0, abs=1e-12)
    assert np.isneginf(law.log_prob([2.4, 2.6])).all()
    assert jsd(law, NORMAL).agrees(LOG2)


def test_discrete_base_gives_a_discrete_law():
    law = pushforward(lambda z: z**2, Discrete([-1.0, 1.0, 2.0]))
    assert isinstance(law, Discrete)
    np.testing.assert_allclose(law.masses, [2 / 3, 1 / 3])


def test_base_may_be_a_mixture_or_a_stranger():
    base = Mixture([Gaussian(-3.0, 0.01), Gaussian(3.0, 0.25)], [0.3, 0.7])
    x = np.linspace(1.0, 20.0, 200)
    root = np.sqrt(x)
    truth = (np.exp(base.log_prob(root)) + np.exp(base.log_prob(-root))) / (2 * root)
    np.testing.assert_allclose(np.exp(pushforward(lambda z: z**2, base).log_prob(x)), truth, rtol=1e-10)
    laplace = pushforward(lambda z: 2 * z + 1, stats.laplace())
    np.testing.assert_allclose(laplace.log_prob(x), stats.laplace(1, 2).logpdf(x), rtol=1e-11)


@pytest.mark.parametrize(
    ("g", "words"),
    [
        (lambda z: z + np.random.default_rng().standard_normal(z.shape), "deterministic"),
        (lambda z: np.sqrt(z), "NaN"),
        (lambda z: z[:, 0], "shape"),
        (lambda z: np.concatenate([z, z], axis=1), "dimension"),
        (lambda z: 1 / 0, "ZeroDivisionError"),
        (lambda z: np.array(["a"] * len(z)), "real numbers"),
        ("not a map", "function"),
    ],
)
def test_useless_maps_are_refused(g, words):
    with pytest.raises(InputError, match=words):
        pushforward(g, NORMAL)


def test_high_dimensions_and_samplers_are_refused():
    with pytest.raises(InputError, match="one and two dimensions"):
        pushforward(lambda z: z, Gaussian(np.zeros(3), np.eye(3)))
    with pytest.raises(InputError, match="base"):
        pushforward(lambda z: z, lambda n, rng: rng.standard_normal((n, 1)))


# --- the divergences of p_g ------------------------------------------------------------------------------------------


def test_relu_against_its_base():
    law = pushforward(lambda z: np.maximum(z, 0.0), NORMAL)
    # Where x > 0 both agree; the atom and the negative half are seen perfectly: half of each.
    assert jsd(law, NORMAL).agrees(0.5 * LOG2)
    assert total_variation(NORMAL, law).agrees(0.5)
    assert kl(law, NORMAL).value == np.inf
    assert kl(NORMAL, law).value == np.inf
    assert jsd(law, NORMAL, expect=MonteCarlo(np.random.default_rng(0), n=20_000)).agrees(0.5 * LOG2)
    value = gan_value(optimal_logit(NORMAL, law), NORMAL, law)
    assert value.agrees(LOG2 - 2 * LOG2)
    assert jsd(law, law).agrees(0.0)


def test_kl_against_singular_mass():
    # p = U[0, 1]; p_g is U[0, 1] with half of it pressed onto 2: KL(p‖p_g) = log 2, JSD by hand.
    law = pushforward(lambda z: np.where(z < 1, z, 2.0), Uniform(0.0, 2.0))
    assert law.singular_mass == pytest.approx(0.5, abs=1e-12)
    # Densities are known to some 1e-14, which no integrator can see.
    assert kl(UNIT, law).value == pytest.approx(LOG2, abs=1e-12)
    hand = 0.5 * np.log(1 / 0.75) + 0.25 * np.log(0.5 / 0.75) + 0.25 * LOG2
    assert jsd(UNIT, law).value == pytest.approx(hand, abs=1e-12)


def test_masses_on_the_same_point_are_compared():
    one = pushforward(lambda z: np.maximum(z, 0.0), NORMAL)
    two = pushforward(lambda z: np.maximum(z + 0.5, 0.0), NORMAL)
    a, b = 0.5, stats.norm.cdf(-0.5)
    x = np.linspace(0, 12, 200_001)
    p, q = stats.norm.pdf(x), stats.norm.pdf(x - 0.5)
    half = np.trapezoid(p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q)), x)
    atoms = a * np.log(2 * a / (a + b)) + b * np.log(2 * b / (a + b))
    assert jsd(one, two).value == pytest.approx(0.5 * (half + atoms), abs=1e-9)


def test_divergences_with_closed_forms():
    same = pushforward(lambda z: z, NORMAL)
    assert kl(same, Gaussian(1.0, 1.0)).agrees(0.5)
    assert kl(Gaussian(0.0, 4.0), same).agrees(0.5 * (3 - np.log(4)))
    square = pushforward(lambda z: z**2, UNIT)
    assert kl(square, UNIT).value == pytest.approx(1 - LOG2, abs=1e-10)
    assert kl(UNIT, square).value == pytest.approx(LOG2 - 0.5, abs=1e-10)
    chi2 = pushforward(lambda z: z**2, NORMAL)
    assert kl(chi2, stats.chi2(1)).value < 1e-15
    assert wasserstein(same, Gaussian(1.0, 1.0)).cost.agrees(1.0)
    assert wasserstein(square, UNIT, order=2).cost.value == pytest.approx(np.sqrt(1 / 30), abs=1e-12)


@pytest.mark.parametrize(
    ("g", "base", "q", "truth"),
    [
        # KL(p_g‖q) with a pole of p_g at x₀ ≠ 0, which x alone cannot resolve: E log p_g(g(z)) − E log q(g(z)) by hand.
        (lambda z: np.sin(np.pi * z), UNIT, UNIT, np.log(4 / np.pi)),
        (lambda z: 5 + z**2, Uniform(-1.0, 1.0), Uniform(5.0, 6.0), 1 - LOG2),
        (lambda z: 5 + z**2, UNIT, Uniform(5.0, 6.0), 1 - LOG2),
        (lambda z: 1 + z**3, Uniform(-1.0, 1.0), Uniform(0.0, 2.0), 2 - np.log(3)),
        (np.cos, Uniform(-1.5 * np.pi, 2.5 * np.pi), Uniform(-1.0, 1.0), np.log(4 / np.pi)),
    ],
    ids=["sine", "fold", "edge", "inflection", "many folds of one height"],
)
def test_poles_cost_no_accuracy(g, base, q, truth):
    law = pushforward(g, base)
    estimate = kl(law, q)
    assert abs(estimate.value - truth) <= estimate.error + law.doubt
    assert law.doubt < 2e-10


def mlp(activation, dim, seed):
    """A torch network in float64, wide enough to fold."""
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(seed)
    sizes = [(dim, 12), (12, 12), (12, dim)]
    layers = [torch.randn(a, b, generator=generator, dtype=torch.float64) * (1.6 / a**0.5) for a, b in sizes]
    shifts = [0.6 * torch.randn(b, generator=generator, dtype=torch.float64) for _, b in sizes]

    def g(z):
        x = torch.as_tensor(z)
        for k, (weight, shift) in enumerate(zip(layers, shifts, strict=True)):
            x = x @ weight + shift
            x = activation(torch, x) if k < 2 else x
        return x

    return g


ACTIVATIONS = {
    "tanh": lambda torch, x: torch.tanh(x),
    "leaky relu": lambda torch, x: torch.nn.functional.leaky_relu(x, 0.2),
    "relu": lambda torch, x: torch.relu(x),
}


def binned_jsd(p, q):
    """JSD of bin masses: by data processing never above that of the laws."""
    m = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return 0.5 * float(np.nansum(p * np.log(p / m)) + np.nansum(q * np.log(q / m)))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_divergences_of_a_network_on_the_line(name):
    g = mlp(ACTIVATIONS[name], 1, 4)
    law = pushforward(g, NORMAL)
    # By counting: where a third of a million quantiles of z go, in 2000 bins; p by its CDF.
    x = np.asarray(g(special.ndtri((np.arange(300_000) + 0.5) / 300_000)[:, None]))[:, 0]
    p = Gaussian(float(np.median(x)), float(x.std()) ** 2)
    edges = np.unique(np.quantile(x, np.linspace(0, 1, 1001)))
    edges = np.unique(np.concatenate([[-np.inf], edges, p.quantile(np.linspace(0.001, 0.999, 1000)), [np.inf]]))
    counted = np.histogram(x, edges)[0] / len(x)
    lower = binned_jsd(np.diff(p.cdf(edges)), counted)
    exact = jsd(p, law)
    assert lower - 1e-4 <= exact.value <= lower + 3e-3
    # Two sums of integrals over jumps of the density (kinks of g): 1e-8 of each other.
    assert gan_value(optimal_logit(p, law), p, law).value == pytest.approx(2 * exact.value - 2 * LOG2, abs=1e-8)
    # Importance weights p/p_g = e^logit carry samples of p_g over to p, wherever p_g has mass.
    z = np.random.default_rng(5).standard_normal((20_000, 1))
    x = np.asarray(g(z))
    low, high = np.quantile(x, [0.3, 0.7])
    middle = (x[:, 0] > low) & (x[:, 0] < high)
    weights = np.where(middle, np.exp(np.where(middle, optimal_logit(p, law)(x), 0.0)), 0.0)
    if not law.singular_mass:
        target = float(p.cdf([high])[0] - p.cdf([low])[0])
        assert weights.mean() == pytest.approx(target, abs=4.5 * weights.std() / np.sqrt(len(z)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_divergences_of_a_network_in_the_plane(name):
    g = mlp(ACTIVATIONS[name], 2, 1)
    law = pushforward(g, NORMAL_2)
    rng = np.random.default_rng(6)
    x = np.asarray(g(rng.standard_normal((400_000, 2))))
    p = Gaussian(x.mean(axis=0), np.cov(x.T))
    draws = p.sample(400_000, rng)
    ticks = [np.concatenate([[-np.inf], np.quantile(x[:, k], np.linspace(0.02, 0.98, 25)), [np.inf]]) for k in range(2)]
    counts = [np.histogram2d(*points.T, bins=ticks)[0].ravel() / len(points) for points in (draws, x)]
    exact = jsd(p, law, expect=MonteCarlo(rng, n=2000))
    # 26² cells see a good part of it, and never more.
    assert binned_jsd(*counts) - 2e-3 <= exact.interval[1]
    assert exact.interval[0] <= binned_jsd(*counts) + 0.15
    # Importance weights p/p_g carry samples of p_g over to p, but for what p has where p_g has nothing.
    chosen = x[:4000]
    logit = optimal_logit(p, law)(chosen)
    low, high = np.quantile(x, [0.4, 0.6], axis=0)
    inside = ((chosen > low) & (chosen < high)).all(axis=1) & np.isfinite(logit)
    weights = np.where(inside, np.exp(np.where(inside, logit, 0.0)), 0.0)
    probe = np.linspace(low, high, 30)
    grid = np.stack(np.meshgrid(probe[:, 0], probe[:, 1]), axis=-1).reshape(-1, 2)
    reached = np.exp(p.log_prob(grid)) * np.isfinite(law.log_prob(grid))
    area = float(reached.mean() * (high - low).prod())
    assert weights.mean() == pytest.approx(area, abs=4.5 * weights.std() / np.sqrt(len(chosen)) + 0.05 * area)


def test_what_is_singular_has_an_error():
    line = pushforward(lambda z: np.maximum(z - 0.3, 0.0), NORMAL)
    assert line.singular.agrees(stats.norm.cdf(0.3))
    assert line.singular.error < 1e-10
    plane = pushforward(lambda z: np.maximum(z @ TURN + 0.3, 0.0), NORMAL_2)
    assert plane.singular.agrees(1 - stats.norm.cdf(0.3) ** 2)
    assert plane.singular.value == plane.singular_mass
    assert plane.singular.error < 2e-4
    assert pushforward(np.tanh, NORMAL).singular.value == 0.0
    assert pushforward(lambda z: z, NORMAL_2).singular.agrees(0.0)


def test_what_float64_cannot_reach_is_stated():
    law = pushforward(special.ndtri, UNIT)
    assert 0 < law.unseen < 1e-13
    estimate = jsd(law, NORMAL)
    assert estimate.value <= law.unseen
    assert estimate.value <= estimate.error + law.doubt


def test_a_generator_in_the_game():
    p, law = Mixture([Gaussian(-2.0, 0.25), Gaussian(2.0, 0.25)]), pushforward(network(0), NORMAL)
    rng = np.random.default_rng(0)
    exact = jsd(p, law)
    assert exact.error < 1e-8
    assert exact.agrees(jsd(p, law, expect=MonteCarlo(rng, n=40_000)))
    assert kl(law, p).agrees(kl(law, p, expect=MonteCarlo(rng, n=40_000)))

    def soft(x):
        return np.clip(optimal_logit(p, law)(x), -8, 8)

    assert gan_value(soft, p, law).agrees(gan_value(soft, p, law, expect=MonteCarlo(rng, n=40_000)))
    assert gan_value(soft, p, law).value < 2 * exact.value - 2 * LOG2 + 1e-9


# --- the plane -------------------------------------------------------------------------------------------------------


def box_muller(u):
    radius, angle = np.sqrt(-2 * np.log(u[:, 0])), 2 * np.pi * u[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def complex_square(z):
    return np.stack([z[:, 0] ** 2 - z[:, 1] ** 2, 2 * z[:, 0] * z[:, 1]], axis=1)


def polar(u):
    return u[:, :1] * np.stack([np.cos(2 * np.pi * u[:, 1]), np.sin(2 * np.pi * u[:, 1])], axis=1)


SCALED = np.array([[0.0, -2.0], [3.0, 0.0]]) @ TURN
PLANE = [
    ("identity", lambda z: z, NORMAL_2, stats.multivariate_normal([0, 0]).pdf, 1e-11),
    ("linear", lambda z: z @ SCALED.T + 1, NORMAL_2, stats.multivariate_normal([1, 1], SCALED @ SCALED.T).pdf, 1e-11),
    ("Box-Muller", box_muller, UNIT_2, stats.multivariate_normal([0, 0]).pdf, 1e-5),
    ("polar", polar, UNIT_2, lambda x: 1 / (2 * np.pi * np.hypot(x[:, 0], x[:, 1])), 1e-9),
    (
        "complex square",
        complex_square,
        NORMAL_2,
        lambda x: np.exp(-np.hypot(x[:, 0], x[:, 1]) / 2) / (4 * np.pi * np.hypot(x[:, 0], x[:, 1])),
        1e-10,
    ),
    ("four folds", np.abs, NORMAL_2, lambda x: 4 * stats.multivariate_normal([0, 0]).pdf(x), 1e-11),
]


@pytest.mark.parametrize(("g", "base", "pdf", "accuracy"), [case[1:] for case in PLANE], ids=[c[0] for c in PLANE])
def test_density_in_the_plane(g, base, pdf, accuracy):
    law = pushforward(g, base)
    x = law.sample(1500, np.random.default_rng(3))
    np.testing.assert_allclose(np.exp(law.log_prob(x)), pdf(x), rtol=accuracy)
    assert law.singular_mass == 0
    assert law.mass.agrees(1.0)


def test_mass_in_the_plane_by_a_grid():
    law = pushforward(complex_square, NORMAL_2)
    # Rings: the density has its pole at the origin.
    edges = np.concatenate([[0.0], np.geomspace(0.01, 60, 12)])
    node, weight = np.polynomial.legendre.leggauss(8)
    radius = edges[:-1, None] + np.diff(edges)[:, None] * (node + 1) / 2
    angle = 2 * np.pi * (np.arange(16) + 0.5) / 16
    r, a = np.meshgrid(radius.ravel(), angle, indexing="ij")
    density = np.exp(law.log_prob(np.stack([r * np.cos(a), r * np.sin(a)], axis=-1).reshape(-1, 2))).reshape(r.shape)
    mass = (np.diff(edges)[:, None] / 2 * weight).ravel() @ (density.mean(axis=1) * 2 * np.pi * radius.ravel())
    assert mass == pytest.approx(1.0, abs=1e-7)


def test_a_network_in_the_plane():
    law = pushforward(network(2, 2, 2), NORMAL_2)
    x, high = law.sample(20_000, np.random.default_rng(4)), 40
    low, top = np.quantile(x, [0.2, 0.8], axis=0)
    ticks = [np.linspace(low[k], top[k], high + 1) for k in range(2)]
    middles = [(t[1:] + t[:-1]) / 2 for t in ticks]
    grid = np.stack(np.meshgrid(*middles, indexing="ij"), axis=-1).reshape(-1, 2)
    inside = np.exp(law.log_prob(grid)).sum() * np.prod((top - low) / high)
    share = ((x >= low) & (x <= top)).all(axis=1).mean()
    assert inside == pytest.approx(share, abs=0.02)
    assert law.mass.value > 0.995


def test_singular_mass_in_the_plane():
    law = pushforward(lambda z: np.maximum(z, 0.0), NORMAL_2)
    assert law.singular_mass == pytest.approx(0.75, abs=2e-6)
    assert law.point_mass == pytest.approx(0.25, abs=2e-6)
    np.testing.assert_allclose(law.singular_points.atoms, [[0.0, 0.0]], atol=1e-9)
    x = np.random.default_rng(0).uniform(0.01, 3, (200, 2))
    np.testing.assert_allclose(law.log_prob(x), NORMAL_2.log_prob(x), rtol=1e-10)
    # Three quarters of each are seen perfectly.
    expect = MonteCarlo(np.random.default_rng(0), n=4000)
    assert jsd(law, NORMAL_2, expect=expect).agrees(0.75 * LOG2)
    turned = pushforward(lambda z: np.maximum(z @ TURN + 0.3, 0.0), NORMAL_2)
    assert turned.singular_mass == pytest.approx(1 - stats.norm.cdf(0.3) ** 2, abs=3e-4)


def test_a_map_onto_a_curve_has_no_density():
    law = pushforward(lambda z: np.stack([z[:, 0], z[:, 0] ** 2], axis=1), NORMAL_2)
    assert law.singular_mass == pytest.approx(1.0, abs=1e-6)
    assert law.singular_points is None
    assert np.isneginf(law.log_prob([[0.0, 1.0], [1.0, 0.0]])).all()


@pytest.mark.slow
def test_divergences_in_the_plane():
    law, q = pushforward(lambda z: z @ SCALED.T + 1, NORMAL_2), Gaussian([0.0, 0.0], 2 * np.eye(2))
    exact = Gaussian([1.0, 1.0], SCALED @ SCALED.T)
    assert jsd(law, q, expect=Quadrature(tol=1e-6)).agrees(jsd(exact, q))
    folded = pushforward(complex_square, NORMAL_2)
    rng = np.random.default_rng(0)
    coarse = jsd(folded, q, expect=Quadrature(tol=1e-4, max_nodes=20_000))
    assert coarse.agrees(jsd(folded, q, expect=MonteCarlo(rng, n=4000)))
