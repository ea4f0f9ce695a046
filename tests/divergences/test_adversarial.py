import numpy as np
import pytest
from scipy.special import expit

from divergences import (
    Discrete,
    Gaussian,
    Mixture,
    MonteCarlo,
    Uniform,
    gan_regret,
    gan_value,
    jsd,
    optimal_discriminator,
    optimal_logit,
)
from divergences.errors import InputError
from tests.cases import LINE, PLANE, SHIFTS, STANDARD

LOG2, LOG4 = np.log(2), np.log(4)
OPTIMUM = {"goodfellow": (2, -LOG4), "flipped": (2, -LOG4), "flipped_half": (1, -LOG2)}
X = np.linspace(-3, 5, 33)[:, None]


@pytest.mark.parametrize("convention", OPTIMUM)
@pytest.mark.parametrize("pair", [pair for pair in LINE[:5] + PLANE[:1]], ids=lambda pair: pair.name)
def test_value_at_the_optimum(pair, convention):
    scale, offset = OPTIMUM[convention]
    value = gan_value(optimal_logit(pair.p, pair.q, convention=convention), pair.p, pair.q, convention=convention)
    assert abs(value.value - (scale * pair.jsd + offset)) <= value.error + 1e-12


@pytest.mark.parametrize(("mu", "truth"), SHIFTS.items())
def test_shifted_normals_to_many_digits(mu, truth):
    q = Gaussian(mu, 1.0)
    assert gan_value(optimal_logit(STANDARD, q), STANDARD, q).value == pytest.approx(2 * truth - LOG4, abs=1e-14)
    np.testing.assert_allclose(optimal_discriminator(STANDARD, q)(X), expit(mu**2 / 2 - mu * X[:, 0]), rtol=1e-11)


def test_conventions_mirror_each_other():
    q = Gaussian(1.0, 2.0)
    straight, flipped = optimal_discriminator(STANDARD, q), optimal_discriminator(STANDARD, q, convention="flipped")
    np.testing.assert_allclose(straight(X) + flipped(X), 1.0, rtol=1e-14)
    p_density, q_density = np.exp(STANDARD.log_prob(X)), np.exp(q.log_prob(X))
    np.testing.assert_allclose(straight(X), p_density / (p_density + q_density), rtol=1e-12)

    def any_logit(x):
        return np.sin(x[:, 0])

    def negative(x):
        return -np.sin(x[:, 0])

    assert gan_value(any_logit, STANDARD, q).agrees(gan_value(negative, STANDARD, q, convention="flipped"))


def test_any_other_discriminator_is_worse():
    q = Gaussian(1.0, 2.0)
    best = optimal_logit(STANDARD, q)
    top = gan_value(best, STANDARD, q)
    for bend in (0.1, -0.1, 1.0):
        bent = gan_value(lambda x, bend=bend: best(x) + bend * np.tanh(x[:, 0]), STANDARD, q)
        assert bent.value + bent.error < top.value - top.error
    # A discriminator that knows nothing: D = ½ gives −log 4 whatever p and q.
    assert gan_value(lambda x: np.zeros(len(x)), STANDARD, q).agrees(-LOG4)


def test_monte_carlo_route():
    q = Gaussian(1.0, 2.0)
    sampled = gan_value(optimal_logit(STANDARD, q), STANDARD, q, expect=MonteCarlo(np.random.default_rng(4), n=100_000))
    assert sampled.agrees(2 * jsd(STANDARD, q).value - LOG4)


def test_certain_and_wrong_is_minus_infinity():
    value = gan_value(lambda x: np.where(x[:, 0] > 0, np.inf, -np.inf), STANDARD, Gaussian(1.0, 1.0))
    assert value.value == -np.inf
    assert "certain and wrong" in value.note


def test_perfect_discriminator_of_disjoint_supports():
    p, q = Uniform(0, 1), Uniform(2, 3)
    logit = optimal_logit(p, q)
    np.testing.assert_array_equal(logit([[0.5], [2.5], [9.0]]), [np.inf, -np.inf, 0.0])
    assert gan_value(logit, p, q).agrees(0.0)


def test_discrete_laws():
    p, q = Discrete([0, 1], [0.8, 0.2]), Discrete([0, 1], [0.3, 0.7])
    np.testing.assert_allclose(optimal_discriminator(p, q)([[0.0], [1.0]]), [8 / 11, 2 / 9])
    assert gan_value(optimal_logit(p, q), p, q).agrees(2 * jsd(p, q).value - LOG4)


def test_bad_input():
    q = Gaussian(1.0, 1.0)
    with pytest.raises(InputError, match="goodfellow, flipped, flipped_half"):
        optimal_logit(STANDARD, q, convention="reversed")
    with pytest.raises(InputError, match="logit must map"):
        gan_value(lambda x: x, STANDARD, q)
    with pytest.raises(InputError, match="NaN"):
        gan_value(lambda x: np.full(len(x), np.nan), STANDARD, q)


@pytest.mark.parametrize("convention", ["goodfellow", "flipped", "flipped_half"])
def test_regret_is_what_the_value_falls_short(convention):
    p, q = Mixture([Gaussian(-2.0, 1.0), Gaussian(2.0, 0.25)]), Gaussian(0.5, 4.0)
    best = optimal_logit(p, q, convention=convention)

    def logit(x):
        return 0.6 * best(x) + np.sin(x[:, 0])

    regret = gan_regret(logit, p, q, convention=convention)
    short = gan_value(best, p, q, convention=convention).value - gan_value(logit, p, q, convention=convention).value
    assert regret.value == pytest.approx(short, abs=1e-9)
    assert gan_regret(best, p, q, convention=convention).value == 0.0


def test_regret_keeps_its_digits_near_the_optimum():
    p, q = Gaussian(0.0, 1.0), Gaussian(1.0, 1.0)
    best = optimal_logit(p, q)
    # Second order: ½ε² ∫ p q/(p+q), by an independent sum over a fine grid.
    x = np.linspace(-12, 13, 200_001)[:, None]
    density, other = np.exp(p.log_prob(x)), np.exp(q.log_prob(x))
    overlap = np.sum(density * other / (density + other)) * (x[1, 0] - x[0, 0])
    for epsilon in (1e-7, 1e-4):
        regret = gan_regret(lambda z, shift=epsilon: best(z) + shift, p, q)
        assert regret.value == pytest.approx(epsilon**2 / 2 * overlap, rel=1e-7)


def test_regret_of_certainty():
    apart = Uniform(0.0, 1.0), Uniform(2.0, 3.0)
    assert gan_regret(optimal_logit(*apart), *apart).value == 0.0
    assert gan_regret(lambda x: np.where(x[:, 0] < 1.5, 9.0, -9.0), *apart).agrees(2 * np.log1p(np.exp(-9.0)))
    wrong = gan_regret(lambda x: np.where(x[:, 0] < 1.5, -np.inf, np.inf), *apart)
    assert wrong.value == np.inf
    # Logits far beyond what e^x can hold.
    p, q = Gaussian(0.0, 1.0), Gaussian(1.0, 1.0)
    assert gan_regret(lambda x: 2000.0 + 0 * x[:, 0], p, q).value == pytest.approx(
        2000 + float(gan_value(optimal_logit(p, q), p, q))
    )
