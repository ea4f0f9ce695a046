"""Donsker-Varadhan and NWJ bounds: tight at the log-ratio, honest when fitted, refused when degenerate."""

import numpy as np
import pytest

import divergences.bounds as bounds
from divergences.errors import InputError, UnderResolved
from divergences.from_samples import dv_bound, fit_log_ratio, nwj_bound
from tests.divergences.test_from_samples import check_coverage, covers, gaussians

RNG = np.random.default_rng


def bound_of(critic, shift, scale, nwj):
    """The exact bound of a quadratic critic between N(0, 1) and N(shift, scale²)."""
    a, b, c = critic.coefficients

    def standard(mean, variance):
        return (mean - critic.center[0]) / critic.scale[0], variance / critic.scale[0] ** 2

    mean, variance = standard(0.0, 1.0)
    first = a + b * mean + c * (mean**2 + variance)
    mean, variance = standard(shift, scale**2)
    spread = 1 - 2 * c * variance
    if spread <= 0:
        return -np.inf
    log_mean = a + (b * mean + c * mean**2 + b * b * variance / 2) / spread - np.log(spread) / 2
    return first + 1 - np.exp(log_mean) if nwj else first - log_mean


def test_formulas():
    rng = RNG(0)
    x, y = rng.normal(size=400), rng.normal(size=500) + 0.5

    def critic(z):
        return np.sin(z[:, 0])

    dv, nwj = dv_bound(x, y, critic=critic), nwj_bound(x, y, critic=critic)
    assert dv.raw == pytest.approx(np.sin(x).mean() - np.log(np.exp(np.sin(y)).mean()))
    assert nwj.value == pytest.approx(np.sin(x).mean() - np.exp(np.sin(y) - 1).mean())
    assert nwj.value < dv.value < dv.raw
    # A constant means nothing to the one and everything to the other.
    assert dv_bound(x, y, critic=lambda z: critic(z) + 300).value == pytest.approx(dv.value)
    assert nwj_bound(x, y, critic=lambda z: critic(z) + 3).value < nwj.value


def test_fit_is_the_log_ratio():
    rng = RNG(1)
    x, y = rng.normal(size=(40_000, 2)), rng.normal(size=(80_000, 2)) * [1.0, 1.5] + [0.7, 0.0]
    ratio = fit_log_ratio(x, y)
    z = RNG(2).normal(size=(200, 2))
    truth = -0.5 * (z**2).sum(axis=1) + 0.5 * (z[:, 0] - 0.7) ** 2 + 0.5 * (z[:, 1] / 1.5) ** 2 + np.log(1.5)
    assert np.abs(ratio(z) - truth).max() < 0.15
    # Separable samples and constant coordinates have a finite answer.
    apart = fit_log_ratio(np.c_[np.arange(20.0), np.ones(20)], np.c_[np.arange(20.0) + 100, np.ones(20)])
    assert np.isfinite(apart.coefficients).all()


def test_fitted_bounds_do_not_overfit():
    """At P = Q the truth is 0; in-sample the bound is above it, on the other half never on average."""
    rng = RNG(3)
    fitted = [dv_bound(rng.normal(size=(500, 4)), rng.normal(size=(500, 4)), rng=rng).value for _ in range(20)]
    assert np.mean(fitted) < 0
    within = []
    for _ in range(10):
        x, y = rng.normal(size=(500, 4)), rng.normal(size=(500, 4))
        within.append(bounds._donsker_varadhan(fit_log_ratio(x, y)(x), fit_log_ratio(x, y)(y))[1])
    assert np.mean(within) > 0.01


def test_degenerate_weights_are_refused():
    x, y = gaussians(RNG(4), 1000, 1000, 1, 4.0, 1.0)
    for f in (dv_bound, nwj_bound):
        with pytest.raises(UnderResolved, match="carried by") as caught:
            f(x, y, rng=RNG(0))
        assert caught.value.estimate.level == 0.95
        assert "effective sample size" in caught.value.estimate.note
    x, y = gaussians(RNG(5), 1000, 1000, 1, 0.5, 1.0)
    assert "less often" not in dv_bound(x, y, rng=RNG(0)).note
    x, y = gaussians(RNG(5), 1000, 1000, 1, 1.4, 1.0)
    assert "less often" in dv_bound(x, y, rng=RNG(0)).note


def test_null():
    x, y = gaussians(RNG(6), 300, 300, 1, 0.6, 1.0)
    result = dv_bound(x, y, rng=RNG(0), permutations=19)
    assert result.null.p_value == pytest.approx(0.05)
    assert result.null.mean < 0
    given = nwj_bound(x, y, critic=lambda z: 1 + 0.1 * z[:, 0], rng=RNG(0), permutations=19)
    assert given.null.p_value > 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: dv_bound(x, x), "rng is needed"),
        (lambda x: dv_bound(x, x, critic=lambda z: z[:, 0], permutations=9), "rng is needed"),
        (lambda x: dv_bound(x, x, critic="T"), "critic must be a function"),
        (lambda x: dv_bound(x, x, critic=lambda z: z), "critic must map"),
        (lambda x: dv_bound(x, x, critic=lambda z: z[:, 0] * np.inf), "critic must map"),
        (lambda x: nwj_bound(x, x, critic=lambda z: 1e4 + z[:, 0]), "overflows"),
        (lambda x: dv_bound(x[:5], x, rng=RNG(0)), "x needs at least 16"),
        (lambda x: dv_bound(np.ones((30, 12)), np.ones((30, 12)), rng=RNG(0)), "too many for"),
    ],
)
def test_misuse_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call(np.arange(1.0, 31.0))


def coverage(f, runs, n, shift, scale, monkeypatch):
    rng, hits, fitted = RNG(7), [], []

    def spy(x, y):
        fitted.append(fit_log_ratio(x, y))
        return fitted[-1]

    monkeypatch.setattr(bounds, "fit_log_ratio", spy)
    for _ in range(runs):
        fitted.clear()
        result = f(*gaussians(rng, n, n, 1, shift, scale), rng=rng)
        hits.append(covers(result, np.mean([bound_of(critic, shift, scale, f is nwj_bound) for critic in fitted])))
    return hits


PAIRS = [(0.0, 1.0), (0.5, 1.0), (0.8, 1.0), (0.0, 1.5)]


@pytest.mark.parametrize("f", [dv_bound, nwj_bound])
@pytest.mark.parametrize(("shift", "scale"), PAIRS)
def test_coverage_of_the_bound(f, shift, scale, monkeypatch):
    check_coverage(coverage(f, 40, 500, shift, scale, monkeypatch))


@pytest.mark.slow
@pytest.mark.parametrize("f", [dv_bound, nwj_bound])
@pytest.mark.parametrize(
    ("n", "shift", "scale"), [*((500, *pair) for pair in PAIRS), (2000, 1.0, 1.0), (2000, 0.5, 1.0)]
)
def test_coverage_of_the_bound_slow(f, n, shift, scale, monkeypatch):
    check_coverage(coverage(f, 1000, n, shift, scale, monkeypatch))


@pytest.mark.parametrize("runs", [120, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("f", [dv_bound, nwj_bound])
def test_coverage_with_a_given_critic(f, runs):
    """Critic = the true log-ratio (+ 1): the bound is KL itself."""
    rng = RNG(8)
    hits = [
        covers(f(*gaussians(rng, 1000, 1000, 1, 0.7, 1.0), critic=lambda z: 1 + 0.245 - 0.7 * z[:, 0]), 0.245)
        for _ in range(runs)
    ]
    check_coverage(hits, high=0.975)
