"""Exact inference: against probabilistic PCA, whose marginal and posterior are closed forms, and other quadratures."""

import math
import tracemalloc

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from divergences import Gaussian, InputError, Quadrature, jsd, kl, wasserstein
from toygen import latent_model
from toygen.collapse import posterior_collapse, variance_of
from toygen.elbo_gap import elbo_gap, importance_bound
from toygen.latent_law import LatentLaw, bernoulli_law
from toygen.latent_model import LatentModel
from toygen.networks import MLP


def linear(k, d, noise=0.4, seed=0):
    rng = np.random.default_rng([seed, k, d])
    w, b = rng.normal(size=(d, k)), rng.normal(size=d)
    return LatentModel(lambda z: z @ w.T + b, k, noise=noise), w, b


def network(k, d, noise, seed=1, width=12):
    """A LeakyReLU network: kinks and all."""
    net = MLP([k, width, width, d], [np.random.default_rng(seed)], dtype=torch.float64)
    net.requires_grad_(requires_grad=False)
    for layer in net.dense:
        layer.weight.mul_(2.0)
    return LatentModel(lambda z: net(torch.tensor(z)[None])[0].numpy(), k, noise=noise)


def truth(w, b, noise, x):
    """log p(x), posterior mean and precision of probabilistic PCA."""
    k = w.shape[1]
    marginal = stats.multivariate_normal(b, w @ w.T + np.diag(np.broadcast_to(noise, len(b)) ** 2))
    scaled = w / np.broadcast_to(noise, len(b))[:, None] ** 2
    precision = w.T @ scaled + np.eye(k)
    return marginal.logpdf(x), (x - b) @ scaled @ np.linalg.inv(precision), precision


@pytest.mark.parametrize(("k", "d", "noise"), [(1, 1, 0.4), (1, 3, [0.3, 0.5, 0.02]), (2, 2, 0.4), (2, 4, 0.7)])
def test_linear_decoders_agree_with_closed_forms(k, d, noise):
    model, w, b = linear(k, d, noise)
    # Far outliers, too.
    x = b + 1.5 * (model.sample(12 if k == 2 else 60, np.random.default_rng(0)) - b)
    exact = model.posterior(x, tol=1e-11)
    log_prob, mean, precision = truth(w, b, noise, x)
    assert np.abs(exact.log_prob - log_prob).max() < 1e-10
    assert (np.abs(exact.log_prob - log_prob) <= exact.error + 1e-13 * np.abs(log_prob)).all()
    assert np.abs(exact.mean - mean).max() < 1e-10
    assert np.abs(exact.cov - np.linalg.inv(precision)).max() < 1e-10


def test_a_network_against_another_quadrature():
    model = network(1, 2, 0.15)
    x = model.sample(4, np.random.default_rng(3))
    exact = model.posterior(x)
    grid = np.linspace(-9, 9, 360_001)[:, None]
    prior = stats.norm.pdf(grid[:, 0])
    for i, point in enumerate(x):
        joint = prior * np.exp(model.log_likelihood(np.repeat(point[None], len(grid), axis=0), grid))
        mass = integrate.trapezoid(joint, grid[:, 0])
        mean = integrate.trapezoid(joint * grid[:, 0], grid[:, 0]) / mass
        # The trapezoid's own error at kinks, h²/12 times a jump of slope, is 1e-9.
        assert exact.log_prob[i] == pytest.approx(np.log(mass), abs=2e-8)
        assert exact.mean[i, 0] == pytest.approx(mean, abs=2e-8)
    assert exact.error.max() < 1e-10


def test_two_latents_with_kinks_state_their_error():
    model = network(2, 2, 0.5)
    x = model.sample(1, np.random.default_rng(3))
    exact = model.posterior(x)
    axis = np.linspace(-7, 7, 701)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    prior = stats.norm.pdf(grid).prod(axis=1) * (axis[1] - axis[0]) ** 2
    for i in range(len(x)):
        mass = (prior * np.exp(model.log_likelihood(np.repeat(x[i : i + 1], len(grid), axis=0), grid))).sum()
        assert exact.log_prob[i] == pytest.approx(np.log(mass), abs=1e-4)
    assert exact.error.max() < 1e-5


@pytest.mark.parametrize("k", [1, 2])
def test_the_gap_and_its_parts_of_a_linear_model(k):
    model, w, b = linear(k, 2, 0.6)
    x = model.sample(6, np.random.default_rng(1))
    _, mean, precision = truth(w, b, 0.6, x)
    rng = np.random.default_rng(2)
    q_mean, q_variance = mean + 0.2 * rng.normal(size=mean.shape), rng.uniform(0.1, 0.6, size=mean.shape)
    gap = elbo_gap(model, x, q_mean, q_variance)
    away = q_mean - mean
    diagonal = precision.diagonal()
    exact = 0.5 * (
        (diagonal * q_variance).sum(1)
        + np.einsum("ni,ij,nj->n", away, precision, away)
        - k
        - np.log(q_variance).sum(1)
        - np.linalg.slogdet(precision)[1]
    )
    assert np.abs(gap.gap - exact).max() < 1e-8
    # The best Gaussian with a diagonal covariance has the diagonal of the precision.
    least = 0.5 * (np.log(diagonal).sum() - np.linalg.slogdet(precision)[1])
    assert np.abs(gap.approximation - least).max() < 1e-8
    assert np.abs(gap.best_variance - 1 / diagonal).max() < 1e-5
    assert np.abs(gap.best_mean - mean).max() < 1e-5
    assert np.abs(gap.amortisation + gap.approximation - gap.gap).max() < 1e-12
    assert gap.mean("gap").agrees(float(exact.mean()))
    assert np.abs(gap.elbo - (gap.log_prob - exact)).max() < 1e-8


def test_the_gap_of_a_network_is_the_divergence_from_its_posterior():
    model = network(1, 2, 0.25)
    x = model.sample(3, np.random.default_rng(5))
    exact = model.posterior(x)
    q_mean, q_variance = exact.mean + 0.1, 1.5 * exact.cov[:, :, 0]
    gap = elbo_gap(model, x, q_mean, q_variance)
    for i in range(3):
        q = stats.norm(q_mean[i, 0], np.sqrt(q_variance[i, 0]))
        z = np.linspace(*q.interval(1 - 1e-15), 200_001)
        joint = model.log_likelihood(np.repeat(x[i : i + 1], len(z), axis=0), z[:, None]) + stats.norm.logpdf(z)
        everywhere = np.linspace(-8, 8, 400_001)
        whole = model.log_likelihood(np.repeat(x[i : i + 1], len(everywhere), axis=0), everywhere[:, None])
        evidence = integrate.trapezoid(np.exp(whole) * stats.norm.pdf(everywhere), everywhere)
        divergence = integrate.trapezoid(q.pdf(z) * (q.logpdf(z) - (joint - np.log(evidence))), z)
        assert gap.gap[i] == pytest.approx(divergence, abs=1e-6)
        # No Gaussian nearby does better than the one that was found.
        best = gap.approximation[i]
        for shift, stretch in ((0.02, 1.0), (-0.02, 1.0), (0.0, 1.05), (0.0, 0.95)):
            sd = np.sqrt(gap.best_variance[i])
            other = gap.best_mean[i] + shift * sd, gap.best_variance[i] * stretch
            score = model.expected_log_likelihood(x[i : i + 1], other[0][None], other[1][None]).value[0]
            rate = 0.5 * float((other[0] ** 2 + other[1] - 1 - np.log(other[1])).sum())
            assert gap.log_prob[i] - (score - rate) > best - 1e-7
    assert (gap.gap >= gap.approximation - 1e-12).all()
    assert (gap.approximation > 0).all()
    assert (gap.amortisation > 0).all()


def test_the_importance_bound_rises_to_the_evidence():
    model, w, b = linear(2, 3, 0.8)
    x = model.sample(20, np.random.default_rng(1))
    log_prob, mean, precision = truth(w, b, 0.8, x)
    q = mean, np.broadcast_to(1.3 / precision.diagonal(), mean.shape)
    bounds = [importance_bound(model, x, *q, samples=m, rng=np.random.default_rng(0)) for m in (1, 3, 10, 100)]
    gap = elbo_gap(model, x, *q)
    assert bounds[0].value == pytest.approx(float(gap.elbo.mean()), abs=2 * bounds[0].error)
    for lower, upper in zip(bounds, bounds[1:], strict=False):
        assert lower.value < upper.value
    assert bounds[-1].value == pytest.approx(float(log_prob.mean()), abs=0.01)
    # With the posterior itself all weights are equal.
    one, w, b = linear(1, 2, 0.5)
    x = one.sample(5, np.random.default_rng(1))
    log_prob, mean, precision = truth(w, b, 0.5, x)
    sure = importance_bound(one, x, mean, np.full((5, 1), 1 / precision[0, 0]), samples=2, rng=np.random.default_rng(0))
    assert sure.value == pytest.approx(float(log_prob.mean()), abs=1e-12)


def test_the_law_on_the_line_is_the_gaussian_that_it_is():
    model, w, b = linear(1, 1, 0.5)
    law, same = LatentLaw(model), Gaussian(b[0], float((w @ w.T)[0, 0] + 0.25))
    x = np.linspace(-8, 8, 101)[:, None]
    assert np.abs(law.log_prob(x) - same.log_prob(x)).max() < 1e-9
    assert np.abs(law.cdf(x) - same.cdf(x)).max() < 1e-11
    assert law.doubt < 1e-5
    other = Gaussian(0.0, 1.0)
    for divergence in (kl, jsd):
        assert divergence(law, other).value == pytest.approx(divergence(same, other).value, abs=1e-8)
    assert law.survival(x) == pytest.approx(same.survival(x), abs=1e-11)
    draws = law.sample(4000, np.random.default_rng(0))[:, 0]
    assert stats.kstest(draws, lambda t: law.cdf(t)).pvalue > 1e-3


def test_the_law_in_the_plane():
    model = network(1, 2, 0.3)
    law = LatentLaw(model)
    x = np.concatenate([model.sample(20, np.random.default_rng(9)), [[1.0, 1.5], [-3.0, 2.0]]])
    exact = model.posterior(x)
    assert np.abs(law.log_prob(x) - exact.log_prob).max() < 1e-8
    # Where the lattice ends: continuous to within a nat of hundreds, and nothing is minus infinity.
    ray = np.linspace(0, 30, 200)[:, None] * [1.0, 0.0]
    steps = np.diff(law.log_prob(ray), n=2)
    assert np.isfinite(law.log_prob(ray)).all()
    assert np.abs(steps).max() < 3.0
    # A curvature of −(0.15/0.3)² per step is the noise's own; in between the law is smooth.
    w = np.random.default_rng([0, 1, 2]).normal(size=(2, 1))
    flat = LatentLaw(LatentModel(lambda z: z @ w.T, 1, noise=0.5))
    twin = Gaussian([0.0, 0.0], w @ w.T + 0.25 * np.eye(2))
    y = np.random.default_rng(0).normal(size=(200, 2)) * 3
    near = twin.log_prob(y) > -60
    assert near.sum() > 150
    assert np.abs(flat.log_prob(y[near]) - twin.log_prob(y[near])).max() < 1e-9
    assert np.abs(flat.log_prob(y) - twin.log_prob(y)).max() < 2.0
    assert kl(flat, Gaussian([0.5, 0.0], np.eye(2)), expect=Quadrature(tol=1e-4)).value == pytest.approx(
        kl(twin, Gaussian([0.5, 0.0], np.eye(2))).value, abs=1e-4
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_transport_to_the_law_on_the_line():
    model, w, b = linear(2, 1, 0.5)
    law, same = LatentLaw(model), Gaussian(b[0], float((w @ w.T)[0, 0] + 0.25))
    u = np.array([1e-9, 0.03, 0.5, 0.9, 1 - 1e-6])
    assert law.quantile(u) == pytest.approx(same.quantile(u), abs=1e-8)
    other = Gaussian(0.0, 1.0)
    assert wasserstein(law, other).cost.value == pytest.approx(wasserstein(same, other).cost.value, abs=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_latents_in_the_plane():
    model = network(2, 2, 0.4, width=8)
    law = LatentLaw(model)
    x = model.sample(20, np.random.default_rng(9))
    assert np.abs(law.log_prob(x) - model.posterior(x).log_prob).max() < 1e-5
    target = Gaussian([0.0, 0.0], np.eye(2))
    one = jsd(law, target, expect=Quadrature(tol=1e-4))
    draws = law.sample(200_000, np.random.default_rng(1))
    log_ratio = np.logaddexp(law.log_prob(draws), target.log_prob(draws)) - np.log(2)
    half = (law.log_prob(draws) - log_ratio).mean()
    draws = target.sample(200_000, np.random.default_rng(2))
    log_ratio = np.logaddexp(law.log_prob(draws), target.log_prob(draws)) - np.log(2)
    assert one.value == pytest.approx((half + (target.log_prob(draws) - log_ratio).mean()) / 2, abs=5e-3)


def test_bits_have_an_exact_law():
    net = MLP([1, 8, 5], [np.random.default_rng(0)], dtype=torch.float64).requires_grad_(requires_grad=False)
    model = LatentModel(lambda z: 3 * net(torch.tensor(z)[None])[0].numpy(), 1)
    law = bernoulli_law(model)
    assert len(law.points) == 32
    z = np.linspace(-9, 9, 20_001)[:, None]
    probability = 1 / (1 + np.exp(-model.decode(z)))
    for x, mass in zip(law.points[::5], law.weights[::5], strict=True):
        joint = np.prod(np.where(x == 1, probability, 1 - probability), axis=1) * stats.norm.pdf(z[:, 0])
        assert mass == pytest.approx(integrate.trapezoid(joint, z[:, 0]), abs=1e-7)
    draws = model.sample(20_000, np.random.default_rng(0))
    assert np.abs(draws.mean(axis=0) - law.weights @ law.points).max() < 4 * 0.5 / np.sqrt(20_000)


def test_collapse_report():
    rng = np.random.default_rng(0)
    n = 800
    mean = np.column_stack([0.8 * rng.normal(size=n), np.zeros(n), np.sqrt(0.01) * rng.normal(size=n)])
    variance = np.broadcast_to([1 - 0.8**2, 1.0, 0.99], mean.shape)
    report = posterior_collapse(mean, variance, rng=rng)
    assert [unit.verdict for unit in report.units] == ["active", "collapsed", "undecided"]
    assert report.verdict == "undecided"
    assert report.active == 1
    assert report.units[0].activity.agrees(0.64)
    assert report.units[1].rate.value == 0.0
    # The joint law of (x, z) is known here: q(z) is the prior, and all rate is information.
    two = posterior_collapse(mean[:, :2], variance[:, :2], rng=rng)
    assert two.verdict == "partial"
    exact = -0.5 * np.log(1 - 0.64)
    assert two.rate.agrees(exact)
    # Of n points the mixture is narrower than the law's: biased by the order of k/n.
    assert two.information.value == pytest.approx(exact, abs=0.02)
    assert two.aggregate_kl.value == pytest.approx(two.rate.value - two.information.value)
    nothing = posterior_collapse(mean[:, 1:2], variance[:, 1:2], rng=rng)
    assert nothing.verdict == "collapsed"
    assert abs(nothing.information.value) < 1e-12
    few = posterior_collapse(np.arange(8.0) * 100, np.ones(8), rng=rng)
    assert few.information.value == pytest.approx(np.log(8), abs=1e-6)


LAWS = {
    "normal": (lambda rng, n: rng.standard_normal(n), 1.0),
    "spikes": (lambda rng, n: np.where(rng.random(n) < 0.5, -1.0, 1.0) + 0.05 * rng.standard_normal(n), 1.0025),
    "uniform": (lambda rng, n: rng.random(n), 1 / 12),
    "exponential": (lambda rng, n: rng.exponential(size=n), 1.0),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("n", [8, 20, 50, 200])
def test_activity_intervals_cover(law, n):
    rng, trials = np.random.default_rng(11), 2000
    draw, exact = LAWS[law]
    found = [variance_of(0.3 * draw(rng, n)) for _ in range(trials)]
    covered = np.mean([one.agrees(0.09 * exact) for one in found])
    # What the docstring says, and 2.5 standard errors. Two spikes are covered nearly always.
    least = 0.90 if law == "exponential" and n < 50 else 0.945
    assert covered > least - 2.5 * math.sqrt(least * (1 - least) / trials)
    assert covered < 0.97 + 2.5 * math.sqrt(0.03 * 0.97 / trials) or n < 50 or law == "spikes"
    # Never of no width, and no wider than it has to be: with 200 values as wide as the exact one, within a quarter.
    assert min(one.interval[1] - one.interval[0] for one in found) > 0
    if n == 200 and law == "normal":
        wide = np.median([one.interval[1] - one.interval[0] for one in found])
        q = stats.chi2.ppf([0.025, 0.975], n - 1)
        assert wide < 1.25 * 0.09 * (n - 1) * (1 / q[0] - 1 / q[1])


def test_a_variance_of_hardly_any_spread():
    assert variance_of(np.full(8, 3.0)).interval == (0.0, 0.0)
    one = variance_of(np.r_[np.zeros(7), 1.0])
    assert one.value == pytest.approx(1 / 8)
    assert one.interval[0] < 1e-6
    assert np.isfinite(one.interval[1])
    # As many on the one spike as on the other: the jackknife sees no spread at all.
    even = variance_of(np.repeat([-1.0, 1.0], 4))
    assert even.interval[0] < 1.0 < even.value < even.interval[1]


def test_cells_in_many_coordinates_are_bounded(monkeypatch):
    """A decoder that moves by thousands of its noise in 300 coordinates is refused, in little time and memory."""
    monkeypatch.setattr(latent_model, "_MOST_NUMBERS", latent_model._MOST_NUMBERS // 8)
    rng = np.random.default_rng(12)
    wide = rng.standard_normal((300, 2))
    model = LatentModel(lambda z: 30 * np.sin(z @ wide.T), 2, noise=0.01)
    tracemalloc.start()
    try:
        # A smooth one is scored, in blocks: probabilistic PCA.
        smooth = LatentModel(lambda z: z @ wide.T / 150, 2, noise=1.0)
        x = np.zeros((2, 300))
        law = stats.multivariate_normal(np.zeros(300), np.eye(300) + wide @ wide.T / 150**2)
        np.testing.assert_allclose(smooth.log_prob(x), law.logpdf(x), rtol=1e-9)
        with pytest.raises(InputError, match="of 300 coordinates takes more than .* cells"):
            model.log_prob(np.zeros((3, 300)))
        assert tracemalloc.get_traced_memory()[1] < 1e9
    finally:
        tracemalloc.stop()


def test_bad_input():
    model, *_ = linear(1, 2)
    with pytest.raises(InputError, match="noise"):
        LatentModel(lambda z: z, 1, noise=0.0)
    with pytest.raises(InputError, match="noise"):
        LatentModel(lambda z: z, 1, noise=[1.0, 2.0])
    with pytest.raises(InputError, match="decoder"):
        LatentModel(3, 1)
    with pytest.raises(InputError, match="NaN"):
        LatentModel(lambda z: z * np.nan, 1, noise=1.0)
    with pytest.raises(InputError, match="2-dimensional"):
        model.posterior([[1.0]])
    with pytest.raises(InputError, match="variance"):
        elbo_gap(model, [[1.0, 1.0]], [[0.0]], [[-1.0]])
    with pytest.raises(InputError, match="one Gaussian per point"):
        elbo_gap(model, [[1.0, 1.0]], [[0.0], [0.0]], [[1.0], [1.0]])
    with pytest.raises(InputError, match="part"):
        elbo_gap(model, [[1.0, 1.0]], [[0.0]], [[1.0]]).mean("bias")
    for broken in (1, None, lambda z: z):
        with pytest.raises(InputError, match="model must be a LatentModel"):
            elbo_gap(broken, [[1.0, 1.0]], [[0.0]], [[1.0]])
        with pytest.raises(InputError, match="model must be a LatentModel"):
            importance_bound(broken, [[1.0, 1.0]], [[0.0]], [[1.0]], samples=2, rng=np.random.default_rng(0))
    three = LatentModel(lambda z: z, 3, noise=1.0)
    assert three.sample(4, np.random.default_rng(0)).shape == (4, 3)
    with pytest.raises(InputError, match="importance_bound"):
        three.posterior(np.zeros((1, 3)))
    with pytest.raises(InputError, match="one or two"):
        LatentLaw(three)
    with pytest.raises(InputError, match="bernoulli_law"):
        LatentLaw(LatentModel(lambda z: z, 1))
    with pytest.raises(InputError, match="LatentLaw"):
        bernoulli_law(model)
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        LatentModel(lambda z: z, 1).posterior([[2.0]])
    with pytest.raises(InputError, match="variance"):
        posterior_collapse(np.zeros((9, 1)), np.zeros((9, 1)), rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="mean"):
        posterior_collapse([0.0], [1.0], rng=np.random.default_rng(0))
