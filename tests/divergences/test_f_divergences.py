import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from divergences import Gaussian, Mixture, MonteCarlo, Uniform, hellinger, jsd, kl, total_variation
from divergences.errors import InputError, NoDensity, UnderResolved
from divergences.expectation import Quadrature
from tests.cases import DISCRETE, LINE, NARROW_RING, PLANE, SHIFTS, STANDARD

# The bank itself holds twelve to sixteen digits.
DIGITS = 3e-13


def _check(estimate, truth):
    if np.isinf(truth):
        assert estimate.value == truth
        assert estimate.error == 0
        assert estimate.note
        return
    assert abs(estimate.value - truth) <= estimate.error + DIGITS * max(1, abs(truth))
    assert estimate.error <= 1e-8 * max(1, abs(truth))
    assert estimate.level is None


def _known(name, bank):
    return [pytest.param(pair, getattr(pair, name), id=pair.name) for pair in bank if getattr(pair, name) is not None]


@pytest.mark.parametrize(("pair", "truth"), _known("kl", LINE + PLANE + DISCRETE))
def test_kl(pair, truth):
    _check(kl(pair.p, pair.q), truth)


@pytest.mark.parametrize(("pair", "truth"), _known("reverse", LINE + PLANE + DISCRETE))
def test_reverse_kl(pair, truth):
    _check(kl(pair.q, pair.p), truth)


@pytest.mark.parametrize(("pair", "truth"), _known("jsd", LINE + PLANE + DISCRETE))
def test_jsd(pair, truth):
    _check(jsd(pair.p, pair.q), truth)


def test_no_cancellation_near_equality():
    assert kl(STANDARD, Gaussian(1e-4, 1.0)).value == pytest.approx(5e-9, rel=1e-9)
    assert kl(STANDARD, Gaussian(1e-7, 1.0)).value == pytest.approx(5e-15, rel=1e-6)
    assert jsd(STANDARD, Gaussian(1e-4, 1.0)).value == pytest.approx(1e-8 / 8, rel=1e-8)
    assert kl(STANDARD, Gaussian(0.0, 1.0)).value == 0


def test_narrow_ring_is_not_overlooked():
    _check(kl(NARROW_RING.p, NARROW_RING.q), NARROW_RING.kl)
    _check(jsd(NARROW_RING.p, NARROW_RING.q), NARROW_RING.jsd)


@pytest.mark.parametrize("mu", SHIFTS)
def test_total_variation_and_hellinger_of_shifted_normals(mu):
    from scipy.special import ndtr

    tv, h = total_variation(STANDARD, Gaussian(mu, 1.0)), hellinger(STANDARD, Gaussian(mu, 1.0))
    assert tv.agrees(2 * ndtr(mu / 2) - 1)
    assert h.agrees(1 - np.exp(-(mu**2) / 8))
    # Inequalities that hold pointwise in the f of each divergence.
    j, k = jsd(STANDARD, Gaussian(mu, 1.0)), kl(STANDARD, Gaussian(mu, 1.0))
    assert tv.value**2 <= k.value / 2
    assert tv.value**2 / 2 <= j.value <= np.log(2) * tv.value
    assert np.log(2) * h.value <= j.value <= h.value


rows = st.lists(st.tuples(st.floats(-50, 50), st.floats(-3, 3), st.floats(0.01, 1)), min_size=1, max_size=5)


def _mixture(rows):
    weights = np.array([weight for *_, weight in rows])
    # Standard deviations from 1e-3 to 1e3.
    return Mixture([Gaussian(mean, 10.0 ** (2 * power)) for mean, power, _ in rows], weights / weights.sum())


@settings(max_examples=25, deadline=None, derandomize=True)
@given(rows, rows)
def test_properties_on_random_mixtures(p_rows, q_rows):
    p, q = _mixture(p_rows), _mixture(q_rows)
    forward, divergence = kl(p, q), jsd(p, q)
    assert forward.error <= 1e-9 * max(1, forward.value)
    assert forward.value >= 0
    assert 0 <= divergence.value <= np.log(2)
    assert jsd(q, p).agrees(divergence)
    # The same number by a route that shares nothing: JSD through KL to the mixture.
    middle = Mixture([p, q])
    halves = (kl(p, middle), kl(q, middle))
    assert abs((halves[0].value + halves[1].value) / 2 - divergence.value) <= divergence.error + halves[0].error + 1e-12


def test_monte_carlo_covers_at_its_level():
    p, q = Mixture([Gaussian(-1.0, 0.16), Gaussian(1.5, 0.64)], [0.3, 0.7]), Gaussian(0.5, 2.0)
    truth = kl(p, q)
    rng = np.random.default_rng(1)
    hits = sum(kl(p, q, expect=MonteCarlo(rng, n=400)).agrees(truth) for _ in range(500))
    # 95 % ± 3.3 standard errors of a binomial with 500 trials.
    assert 459 <= hits <= 491


def test_monte_carlo_works_in_many_dimensions():
    p, q = Mixture([Gaussian(np.zeros(10), np.eye(10))]), Gaussian(np.full(10, 0.3), np.eye(10))
    estimate = kl(p, q, expect=MonteCarlo(np.random.default_rng(0), n=100_000))
    assert estimate.agrees(0.45)
    assert estimate.error < 0.01
    with pytest.raises(InputError, match="MonteCarlo"):
        kl(p, q)


def test_monte_carlo_is_stratified():
    # A part of weight 1e-3 is drawn even when n · weight is below 1; its share of KL is log-ratio 450.
    p = Mixture([Gaussian(0.0, 1.0), Gaussian(30.0, 1.0)], [0.999, 0.001])
    estimate = kl(p, STANDARD, expect=MonteCarlo(np.random.default_rng(0), n=500))
    assert estimate.value == pytest.approx(kl(p, STANDARD).value, rel=0.1)


def test_gaps_in_a_support_make_kl_infinite():
    p = Mixture([Uniform(0, 1), Uniform(2, 4)])
    q = Mixture([Uniform(0, 1), Uniform(3, 4)])
    assert kl(q, p).agrees(np.log(2) / 2)
    assert kl(p, q).value == np.inf


class _Unnormalised:
    dim = 1
    support = STANDARD.support

    def log_prob(self, x):
        return STANDARD.log_prob(x) + 0.1

    def sample(self, n, rng):
        return STANDARD.sample(n, rng)


def test_a_law_that_lies_about_its_density_is_found_out():
    with pytest.raises(UnderResolved, match=r"integrates to 1\.105") as caught:
        kl(_Unnormalised(), STANDARD)
    assert np.isfinite(caught.value.estimate.value)


class _HiddenSpike(_Unnormalised):
    """A stranger without knots, whose mode of weight 1 % no pilot sample of its sampler shows."""

    truth = Mixture([Gaussian(0.0, 1.0), Gaussian(300.0, 1e-8)], [0.99, 0.01])

    def log_prob(self, x):
        return self.truth.log_prob(x)


def test_a_missed_mode_is_found_out():
    with pytest.raises(UnderResolved, match="narrow mode"):
        jsd(_HiddenSpike(), STANDARD)


def test_stranger_with_a_density_is_welcome():
    class Stranger(_Unnormalised):
        def log_prob(self, x):
            return STANDARD.log_prob(x)

    assert kl(Stranger(), Gaussian(1.0, 1.0)).agrees(0.5)


def test_bad_input():
    with pytest.raises(InputError, match="same space"):
        kl(STANDARD, Gaussian([0, 0], np.eye(2)))
    with pytest.raises(NoDensity, match="KDE"):
        kl(np.zeros((5, 1)), STANDARD)
    with pytest.raises(NoDensity, match="sampler"):
        jsd(lambda n, rng: rng.normal(size=n), STANDARD)
    with pytest.raises(InputError, match="tol"):
        Quadrature(tol=-1.0)
    with pytest.raises(InputError, match="at least 2"):
        MonteCarlo(np.random.default_rng(0), n=1)
