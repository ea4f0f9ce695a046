"""The classical baselines: EM climbs, densities integrate to one, Langevin's bias is the one stated."""

import numpy as np
import pytest
from scipy import stats

from divergences import Distribution, Gaussian, InputError, Mixture, NoDensity, Uniform, as_distribution, kl
from evaluation.kde import KDE
from toygen.baselines import BASELINES, Baseline, gmm, histogram, kde, langevin, memorizer, score

PAIR = Mixture([Gaussian([-3.0, 0.0], np.diag([1.0, 0.25])), Gaussian([3.0, 1.0], np.diag([0.25, 1.0]))], [0.3, 0.7])
TRAIN = PAIR.sample(600, np.random.default_rng(0))


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_is_a_sampler(name):
    fitted = BASELINES[name](TRAIN[:150], np.random.default_rng(0))
    assert isinstance(fitted, Baseline)
    assert (fitted.name, fitted.dim) == (name, 2)
    first, again = (fitted(7, np.random.default_rng(1)) for _ in range(2))
    assert first.shape == (7, 2)
    assert np.array_equal(first, again)
    assert fitted(0, np.random.default_rng(1)).shape == (0, 2)
    with pytest.raises(InputError, match="n must be at least 0"):
        fitted(-1, np.random.default_rng(1))
    with pytest.raises(InputError, match="rng must be"):
        fitted(3, 0)
    with pytest.raises(NoDensity, match="sampler, without a density"):
        as_distribution(fitted)
    if name in ("langevin", "memorizer"):
        with pytest.raises(NoDensity, match=f"{name} has no density"):
            fitted.log_prob(first)
    else:
        assert isinstance(fitted.law, Distribution)
        assert np.array_equal(fitted.log_prob(first), fitted.law.log_prob(first))


def test_em_climbs_to_where_the_truth_is():
    fitted = gmm(TRAIN, components=2, rng=np.random.default_rng(0))
    history = fitted.about["log_likelihood"]
    assert (np.diff(history) > -1e-10).all()
    assert history[-1] == pytest.approx(fitted.log_prob(TRAIN).mean(), abs=1e-6)
    order = np.argsort([part.mean[0] for part in fitted.law.components])
    for k, truth in zip(order, PAIR.components, strict=True):
        assert fitted.law.components[k].mean == pytest.approx(truth.mean, abs=0.3)
        assert fitted.law.components[k].cov == pytest.approx(truth.cov, abs=0.3)
    assert fitted.law.weights[order] == pytest.approx([0.3, 0.7], abs=0.08)
    # A likelihood at least that of the truth, and no less than scikit-learn's EM finds.
    from sklearn.mixture import GaussianMixture

    theirs = GaussianMixture(2, reg_covar=1e-6, tol=1e-8, max_iter=500, random_state=0, n_init=4).fit(TRAIN)
    assert history[-1] > PAIR.log_prob(TRAIN).mean()
    assert history[-1] == pytest.approx(theirs.score(TRAIN), abs=1e-5)


def test_one_component_is_moments_and_a_pile_of_equal_points_is_survived():
    one = gmm(TRAIN, components=1, ridge=1e-12, rng=np.random.default_rng(0)).law.components[0]
    assert one.mean == pytest.approx(TRAIN.mean(axis=0))
    assert one.cov == pytest.approx(np.cov(TRAIN.T, bias=True), rel=1e-6)
    pile = np.concatenate([np.zeros((50, 1)), np.random.default_rng(0).normal(5, 1, size=(50, 1))])
    fitted = gmm(pile, components=3, rng=np.random.default_rng(0))
    assert np.isfinite(fitted.log_prob(pile)).all()


def test_the_kde_is_that_of_evaluation():
    fitted = kde(TRAIN[:100], bandwidth=0.4)
    assert fitted.about["bandwidth"] == 0.4
    assert np.array_equal(fitted.log_prob(TRAIN), KDE(TRAIN[:100], bandwidth=0.4).log_prob(TRAIN))


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_histogram_is_a_density(dim):
    points = np.random.default_rng(0).normal(size=(400, dim))
    law = histogram(points).law
    middles = [law.low[i] + law.cell[i] * (np.arange(law.counts.shape[i]) + 0.5) for i in range(dim)]
    centers = np.stack([axis.ravel() for axis in np.meshgrid(*middles, indexing="ij")], axis=1)
    density = np.exp(law.log_prob(centers)).reshape(law.counts.shape)
    assert density == pytest.approx(law.counts / (400 * law.cell.prod()))
    assert np.isfinite(law.log_prob(points)).all()  # the extreme points sit on the edges, and inside
    assert np.isneginf(law.log_prob(law.high[None] + 0.1)).all()
    # Samples fall into the cells as the training points did.
    drawn = law.sample(40_000, np.random.default_rng(1))
    shares = np.histogramdd(drawn, bins=law.counts.shape, range=list(zip(law.low, law.high, strict=True)))[0] / 40_000
    assert np.abs(shares - law.counts / 400).max() < 5 * np.sqrt((law.counts / 400).max() / 40_000)
    if dim == 1:
        assert law.cdf(law.high)[0] == 1.0
        assert law.cdf(law.quantile([0.2, 0.9])) == pytest.approx([0.2, 0.9])
        assert float(kl(law, Uniform(law.low[0], law.high[0]))) == pytest.approx(
            float((law.counts / 400 * np.log(np.where(law.counts, law.counts, 1) / 400 * law.counts.size)).sum())
        )


def test_the_score_is_the_gradient_of_the_log_density():
    x = TRAIN[:40]
    for law in (PAIR, Gaussian([1.0, 2.0], [[2.0, 0.5], [0.5, 1.0]]), KDE(TRAIN[:50], bandwidth=0.5)):
        exact = score(law, x)
        for axis in (0, 1):
            h = 1e-5 * np.eye(2)[axis]
            slope = (law.log_prob(x + h) - law.log_prob(x - h)) / 2e-5
            assert exact[:, axis] == pytest.approx(slope, abs=1e-6)
    gamma = as_distribution(stats.gamma(3.0))
    assert score(gamma, [[1.0], [2.5]])[:, 0] == pytest.approx([2.0 - 1, 2 / 2.5 - 1], abs=1e-6)


@pytest.mark.parametrize("adjusted", [False, True])
def test_langevin_has_the_stated_bias_and_the_adjusted_chain_has_none(adjusted):
    spread, step, n = 2.0, 2.0, 20_000
    walk = langevin(np.zeros(2), law=Gaussian(0.0, spread**2), step=step, steps=60, adjusted=adjusted)
    variance = walk(n, np.random.default_rng(3)).var()
    expected = spread**2 if adjusted else spread**2 / (1 - step / (2 * spread**2))
    # The variance of a variance: 2 s⁴/n.
    assert abs(variance - expected) < 4 * expected * np.sqrt(2 / n)
    assert abs(spread**2 / (1 - step / (2 * spread**2)) - spread**2) > 20 * expected * np.sqrt(2 / n)


def test_langevin_keeps_the_modes_of_its_starts():
    starts = np.repeat([[-20.0], [20.0]], [30, 70], axis=0)
    far = Mixture([Gaussian(-20.0, 1.0), Gaussian(20.0, 1.0)], [0.5, 0.5])
    x = langevin(starts, law=far, steps=50)(4000, np.random.default_rng(0))
    assert (x > 0).mean() == pytest.approx(0.7, abs=0.03)
    assert x[x > 0].std() == pytest.approx(1.0, abs=0.06)


def test_the_memorizer_invents_nothing():
    drawn = memorizer(TRAIN[:20])(500, np.random.default_rng(0))
    assert {tuple(row) for row in drawn} == {tuple(row) for row in TRAIN[:20]}


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: gmm(TRAIN[:3], components=4, rng=np.random.default_rng(0)), "at most the number of points, 3"),
        (lambda: gmm(np.ones((9, 2)), rng=np.random.default_rng(0)), "no spread"),
        (lambda: gmm(TRAIN, ridge=0.0, rng=np.random.default_rng(0)), "ridge"),
        (lambda: gmm([[np.nan, 1.0], [0.0, 1.0]], rng=np.random.default_rng(0)), "train holds NaN"),
        (lambda: kde(TRAIN, bandwidth=-1.0), "bandwidth"),
        (lambda: histogram(np.zeros((5, 4)) + np.arange(5)[:, None]), "4 dimensions"),
        (lambda: histogram([[0.0, 1.0], [1.0, 1.0]]), "an axis along which all points are the same"),
        (lambda: histogram(TRAIN, bins=2000), "make 4000000 cells"),
        (lambda: langevin(TRAIN, law=Gaussian(0.0, 1.0)), "dimension of train, 2; it has 1"),
        (lambda: langevin(TRAIN, law=lambda n, rng: TRAIN), "must have a density to walk on"),
        (lambda: langevin(TRAIN, step=0.0), "step"),
        (lambda: langevin(TRAIN, steps=0), "steps must be at least 1"),
        (lambda: memorizer([]), "train needs at least 1 point"),
    ],
)
def test_misuse_is_named(make, match):
    with pytest.raises(InputError, match=match):
        make()
