import numpy as np
import pytest
from scipy import stats

from divergences import Discrete, Gaussian, Mixture, MonteCarlo, Uniform, jsd, kl, wasserstein
from divergences.descent import descend
from divergences.errors import InputError, NoDensity
from divergences.gradients import LocationFamily, ScaleFamily, generator_gradient
from tests.cases import line

RNG = np.random.default_rng
LOG4 = np.log(4)
STANDARD = Gaussian(0.0, 1.0)
# 2·JSD′(μ) of N(0, 1) and N(μ, 1).
SATURATING = {
    0.5: 0.235263506114852,
    1.0: 0.397972867183250,
    2.0: 0.449599509206673,
    4.0: 0.137194817581478,
    8.0: 0.000392874736072794,
}
NON_SATURATING = {
    0.5: 0.264736493885148,
    1.0: 0.602027132816750,
    2.0: 1.55040049079333,
    4.0: 3.86280518241852,
    8.0: 7.99960712526393,
}


@pytest.mark.parametrize("mu", SATURATING)
@pytest.mark.parametrize("numerical", [False, True], ids=["closed score", "numerical score"])
def test_the_table(mu, numerical):
    family = (lambda m: Gaussian(m, 1.0)) if numerical else LocationFamily(STANDARD)
    for loss, truth in (("saturating", SATURATING[mu]), ("non_saturating", NON_SATURATING[mu]), ("wasserstein", 1.0)):
        gradient = generator_gradient(STANDARD, family, mu, loss=loss)
        # The table is printed to 15 digits.
        assert abs(gradient.value - truth) <= gradient.error + 1e-14 * max(1, truth)
        assert gradient.error < 1e-10


def difference(f, theta, h=1e-3):
    """Derivative by Richardson's extrapolation of central differences: good to about 1e-9 here."""
    first, second = ((f(theta + s) - f(theta - s)) / (2 * s) for s in (h, 2 * h))
    return (4 * first - second) / 3


MIXTURE = line([-1, 1.5], [0.4, 0.8], [0.3, 0.7])
FAMILIES = [
    (STANDARD, LocationFamily(MIXTURE), 0.7),
    (MIXTURE, ScaleFamily(Gaussian(0.5, 1.0)), 1.5),
    (MIXTURE, ScaleFamily(MIXTURE), 0.6),
    (STANDARD, lambda t: stats.t(5, loc=t), 0.4),
    (Uniform(-1, 1), lambda t: Gaussian(0.2, t**2), 0.8),
]


@pytest.mark.parametrize("case", range(len(FAMILIES)))
def test_envelope_theorems(case):
    # Two routes: the discriminator held fixed, and the derivative of the divergence itself.
    p, family, theta = FAMILIES[case]
    truth = difference(lambda t: 2 * jsd(p, family(t)).value, theta)
    assert generator_gradient(p, family, theta).value == pytest.approx(truth, abs=3e-8)
    truth = difference(lambda t: wasserstein(p, family(t)).cost.value, theta)
    assert generator_gradient(p, family, theta, loss="wasserstein").value == pytest.approx(truth, abs=3e-8)
    if not isinstance(p, Uniform):
        truth = difference(lambda t: kl(family(t), p).value - 2 * jsd(p, family(t)).value, theta)
        found = generator_gradient(p, family, theta, loss="non_saturating")
        assert found.value == pytest.approx(truth, abs=3e-8 * max(1, abs(truth)))


@pytest.mark.parametrize("case", range(3))
def test_closed_and_numerical_scores_agree(case):
    p, family, theta = FAMILIES[case]
    for loss in ("saturating", "non_saturating", "wasserstein"):
        closed = generator_gradient(p, family, theta, loss=loss)
        numerical = generator_gradient(p, lambda t, law=family: law(t), theta, loss=loss)
        assert numerical.agrees(closed)
        assert numerical.error < 1e-9


def test_a_kink_in_theta_shows_in_the_error():
    family = lambda m: stats.laplace(m, 1)  # noqa: E731
    gradient = generator_gradient(stats.laplace(), family, 1.0, loss="wasserstein")
    assert gradient.agrees(1.0)
    assert 1e-9 < gradient.error < 1e-5


def test_gradients_vanish_explode_or_stay():
    family = LocationFamily(STANDARD)
    sizes = {
        loss: [generator_gradient(STANDARD, family, mu, loss=loss).value for mu in (6.0, 9.0, 12.0)]
        for loss in ("saturating", "non_saturating", "wasserstein")
    }
    assert sizes["saturating"][0] > 10 * sizes["saturating"][1] > 100 * sizes["saturating"][2] > 0
    np.testing.assert_allclose(sizes["non_saturating"], [6, 9, 12], rtol=0.01)
    np.testing.assert_allclose(sizes["wasserstein"], 1.0, rtol=1e-12)
    # At p = q there is nothing to learn from the game.
    for loss in ("saturating", "non_saturating"):
        assert generator_gradient(STANDARD, family, 0.0, loss=loss).agrees(0.0)


def test_by_simulation():
    family = LocationFamily(STANDARD)
    estimate = generator_gradient(STANDARD, family, 2.0, expect=MonteCarlo(RNG(0), n=50_000, level=0.999))
    assert estimate.agrees(SATURATING[2.0])
    assert estimate.level == 0.999


@pytest.mark.parametrize(
    "start",
    [Gaussian(3.0, 4.0), stats.t(2, loc=-1), line([-5, 5], [0.5, 3], [0.5, 0.5]), STANDARD, stats.laplace(-4, 1)],
    ids=["far", "heavy", "two modes", "arrived", "Laplace"],
)
@pytest.mark.parametrize("rate", [0.2, 0.7, 1.0])
def test_proposition_two(start, rate):
    target = line([-2, 1], [1.0, 0.7], [0.4, 0.6])
    descent = descend(target, start, steps=150, rate=rate, cells=200)
    assert (np.diff(descent.values) <= descent.error).all()
    assert (descent.values >= -LOG4 - descent.error).all()
    assert (descent.values <= descent.guarantee + descent.error).all()
    assert descent.values[-1] + LOG4 < 1e-9
    assert descent.gaps[-1] < 1e-4
    np.testing.assert_allclose(descent.path.sum(axis=1), 1.0)
    # The cells lose little, never gain, and say how much.
    truth = 2 * jsd(target, start).value - LOG4
    assert descent.start.agrees(truth)
    assert truth - 2e-3 < descent.start.raw == descent.values[0] <= truth + descent.error
    assert descent.end.value == descent.values[-1]


def test_descent_at_full_rate_is_halving():
    # q ← (p + q)/2: the distance halves each time, whatever the laws.
    descent = descend(Discrete([0, 1, 2], [0.5, 0.25, 0.25]), Discrete([0, 1, 2, 3], [0.1, 0.2, 0.3, 0.4]), rate=1.0)
    np.testing.assert_allclose(descent.gaps, descent.gaps[0] * 0.5 ** np.arange(51), atol=1e-15)
    assert descent.edges is None
    assert descent.start.value == pytest.approx(descent.values[0], abs=1e-15)


def test_one_step_by_hand():
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.2, 0.3, 0.5])
    descent = descend(Discrete([0, 1, 2], p), Discrete([0, 1, 2], q), steps=1, rate=0.3)
    moved = q * np.exp(-0.3 * np.log(q / (p + q)))
    np.testing.assert_allclose(descent.path[1], moved / moved.sum(), rtol=1e-14)
    value = (np.log(p[:2] / (p + q)[:2]) @ p[:2]) + (np.log(q / (p + q)) @ q)
    assert descent.values[0] == pytest.approx(value, abs=1e-14)


FAMILY = LocationFamily(STANDARD)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: generator_gradient(STANDARD, FAMILY, 1.0, loss="minimax"), "loss must be one of"),
        (lambda: generator_gradient(STANDARD, STANDARD, 1.0), "family must be a function"),
        (lambda: generator_gradient(STANDARD, FAMILY, np.nan), "theta must be"),
        (lambda: generator_gradient(Gaussian([0, 0], np.eye(2)), FAMILY, 1.0), "works on the line; p has dimension 2"),
        (lambda: generator_gradient(STANDARD, lambda t: Uniform(t, t + 1), 0.3), "support of .* moves"),
        (lambda: generator_gradient(STANDARD, lambda t: STANDARD, 0.3), "does not change with theta"),
        (lambda: generator_gradient(Uniform(0, 1), FAMILY, 0.3, loss="non_saturating"), "loss is infinite"),
        (lambda: generator_gradient(stats.cauchy(), FAMILY, 0.3, loss="wasserstein"), "no mean"),
        (lambda: LocationFamily(stats.laplace()), "base must be"),
        (lambda: ScaleFamily(Gaussian([0, 0], np.eye(2))), "base must be"),
        (lambda: ScaleFamily(STANDARD)(-1.0), "theta must be"),
        (lambda: descend(STANDARD, Uniform(0, 1)), "q0 has no mass"),
        (lambda: descend(STANDARD, STANDARD, rate=1.5), r"rate must be in \(0, 1\]"),
        (lambda: descend(STANDARD, STANDARD, steps=0), "steps must be"),
        (lambda: descend(STANDARD, Discrete([0.0])), "both be Discrete"),
        (lambda: descend(Gaussian([0, 0], np.eye(2)), Gaussian([0, 0], np.eye(2))), "on the line or with Discrete"),
        (lambda: descend(STANDARD, Gaussian([0, 0], np.eye(2))), "same space"),
        (lambda: descend(Discrete([0.0, 1.0]), Discrete([0.0])), "q0 has no mass"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_a_law_without_cdf_is_refused():
    class Stranger:
        dim, support = 1, STANDARD.support

        def log_prob(self, x):
            return STANDARD.log_prob(x)

        def sample(self, n, rng):
            return STANDARD.sample(n, rng)

    with pytest.raises(NoDensity, match="q0=.* has no CDF"):
        descend(Mixture([STANDARD]), Stranger())
