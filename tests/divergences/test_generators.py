import numpy as np
import pytest

from divergences import Gaussian, Mixture, MonteCarlo, Uniform, f_divergence, hellinger, jsd, kl, total_variation
from divergences.brackets import jsd_bracket, kl_bracket
from divergences.errors import InputError, UnderResolved
from divergences.expectation import Quadrature
from divergences.f_divergences import alpha_divergence, chi2, js_distance, renyi
from divergences.generators import GENERATORS
from tests.cases import COV_1, COV_2, PLANE, SHIFTS, STANDARD, line, ring

D = np.linspace(-6, 6, 49)
U = np.exp(D)
P, Q = line([-1, 1.5], [0.4, 0.8], [0.3, 0.7]), line([-0.5, 2], [0.6, 0.5], [0.6, 0.4])
NUMERIC = Quadrature()
rows = pytest.mark.parametrize("generator", GENERATORS.values(), ids=lambda generator: generator.name)


@rows
def test_fenchel_equality_at_the_optimum(generator):
    t = generator.optimal(D)
    np.testing.assert_allclose(generator.f(U), U * t - generator.conjugate(t), rtol=1e-12, atol=1e-11)


@rows
def test_conjugate_bounds_from_above(generator):
    # f(u) ≥ ut − f*(t) for every t, here for what any network output v gives.
    for v in np.linspace(-5, 5, 41):
        t = generator.activation(np.full(1, v))
        assert (generator.f(U) >= U * t - generator.conjugate(t) - 1e-10).all()


@rows
def test_weighted_integrand_is_the_same_divergence(generator):
    # E_q[f(p/q)] as the table writes it, by an integrator of somebody else.
    from scipy import integrate

    def textbook(x):
        q = np.exp(Q.log_prob([[x]])[0])
        return q * float(generator.f(np.exp(P.log_prob([[x]])) / q)[0])

    value, error = integrate.quad(textbook, -6.0, 8.0, points=[-1, -0.5, 0.5, 1.5, 2], epsabs=1e-11, limit=300)
    estimate = f_divergence(P, Q, generator)
    if np.isinf(estimate.value):
        # Only the χ² whose denominator has the lighter tail may be infinite.
        assert generator.name.endswith("chi2")
    else:
        assert estimate.value == pytest.approx(value, abs=error + 1e-8)


@rows
def test_variational_bound_is_tight(generator):
    p, q = STANDARD, Gaussian(0.7, 1.0)
    expect = Quadrature()
    truth = f_divergence(p, q, generator)

    def log_ratio(x):
        return p.log_prob(x) - q.log_prob(x)

    def at(shift):
        return expect(
            (1.0, lambda x: generator.activation(generator_output(log_ratio(x) + shift)), p),
            (-1.0, lambda x: generator.conjugate(generator.activation(generator_output(log_ratio(x) + shift))), q),
        ).value

    if generator.name == "total_variation":
        pytest.skip("the optimal T is a jump that tanh only approaches")
    inverse = {
        "kl": lambda d: 1 + d,
        "reverse_kl": lambda d: -d,
        "pearson_chi2": lambda d: 2 * np.expm1(d),
        "neyman_chi2": lambda d: -2 * d,
        "squared_hellinger": lambda d: -d / 2,
        "jensen_shannon": lambda d: d,
        "gan": lambda d: d,
    }
    generator_output = inverse[generator.name]
    assert at(0.0) == pytest.approx(truth.value, abs=1e-9)
    assert at(0.3) < truth.value - 1e-6


def test_relations_between_divergences():
    assert f_divergence(P, Q, "jensen_shannon").value == pytest.approx(2 * jsd(P, Q).value, rel=1e-13)
    assert f_divergence(P, Q, "squared_hellinger").value == pytest.approx(2 * hellinger(P, Q).value, rel=1e-13)
    assert f_divergence(P, Q, "reverse_kl").value == pytest.approx(kl(Q, P).value, rel=1e-13)
    assert f_divergence(P, Q, "gan").value == pytest.approx(2 * jsd(P, Q).value - np.log(4), rel=1e-13)
    assert js_distance(P, Q).value == pytest.approx(np.sqrt(jsd(P, Q).value), rel=1e-14)
    assert alpha_divergence(P, Q, order=0.5).value == pytest.approx(4 * hellinger(P, Q).value, rel=1e-12)
    assert renyi(P, Q, order=0.5).value == pytest.approx(-2 * np.log1p(-hellinger(P, Q).value), rel=1e-12)
    assert renyi(P, Q, order=0.999).value == pytest.approx(kl(P, Q).value, rel=2e-3)
    assert jsd(P, Q).bits.value == pytest.approx(jsd(P, Q).value / np.log(2))


def test_user_generator():
    mine = GENERATORS["kl"]._replace(name="mine", weighted=lambda d: 3 * GENERATORS["kl"].weighted(d))
    assert f_divergence(P, Q, mine).value == pytest.approx(3 * kl(P, Q).value, rel=1e-13)


@pytest.mark.parametrize("mu", [mu for mu in SHIFTS if mu <= 4])
def test_chi2_of_shifted_normals(mu):
    truth = np.expm1(mu**2)
    for kind in ("pearson", "neyman"):
        assert chi2(STANDARD, Gaussian(mu, 1.0), kind=kind).value == pytest.approx(truth, rel=1e-12)
        numeric = chi2(STANDARD, Gaussian(mu, 1.0), kind=kind, expect=NUMERIC)
        assert numeric.value == pytest.approx(truth, rel=1e-12)
        assert numeric.error < 1e-9 * truth


GAUSSIANS = [
    (STANDARD, Gaussian(1.0, 2.0)),
    (Gaussian(1.0, 0.5), Gaussian(-0.3, 0.7)),
    (Gaussian([0, 0], COV_1), Gaussian([1, -2], COV_2)),
]


@pytest.mark.parametrize(("p", "q"), GAUSSIANS)
def test_closed_forms_against_quadrature(p, q):
    for closed, numeric in (
        (kl(p, q), kl(p, q, expect=NUMERIC)),
        (hellinger(p, q), hellinger(p, q, expect=NUMERIC)),
        (renyi(p, q, order=0.3), renyi(p, q, order=0.3, expect=NUMERIC)),
        (alpha_divergence(p, q, order=0.7), alpha_divergence(p, q, order=0.7, expect=NUMERIC)),
    ):
        assert "closed form" in closed.method
        assert "quadrature" in numeric.method
        assert closed.agrees(numeric)


def test_closed_form_kl_in_many_dimensions_and_near_equality():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(20, 20))
    cov = root @ root.T + np.eye(20)
    p, q = Gaussian(np.zeros(20), cov), Gaussian(np.full(20, 0.1), 1.3 * cov)
    delta = np.full(20, 0.1)
    truth = 0.5 * (20 / 1.3 - 20 + 20 * np.log(1.3) + delta @ np.linalg.solve(1.3 * cov, delta))
    assert kl(p, q).agrees(truth)
    assert kl(p, q).error < 1e-9
    near = Gaussian(np.zeros(20), (1 + 1e-7) * cov)
    assert kl(p, near).value == pytest.approx(20 * 1e-14 / 4, rel=1e-4)


def test_infinite_chi2_is_an_answer():
    wide = Gaussian(0.0, 2.1)
    assert chi2(wide, STANDARD).value == np.inf
    assert chi2(wide, STANDARD, expect=NUMERIC).value == np.inf
    # Finite, but most of it lies where the density underflows: refused rather than cut off.
    with pytest.raises(UnderResolved, match="not died out"):
        chi2(Gaussian(0.0, 1.99), STANDARD, expect=NUMERIC)
    assert chi2(Uniform(0, 1), Uniform(0.5, 1.5)).value == np.inf
    assert renyi(Uniform(0, 1), Uniform(2, 3), order=0.5).value == np.inf
    assert renyi(Uniform(0, 1), Uniform(0.5, 1.5), order=0.5).value == pytest.approx(2 * np.log(2), rel=1e-12)


@pytest.mark.parametrize("pair", PLANE[:5], ids=lambda pair: pair.name)
def test_brackets_hold(pair):
    for bracket, truth in (
        (kl_bracket(pair.p, pair.q), pair.kl),
        (kl_bracket(pair.q, pair.p), pair.reverse),
        (jsd_bracket(pair.p, pair.q), pair.jsd),
    ):
        if truth is not None:
            assert bracket.interval[0] <= truth <= bracket.interval[1]
            assert bracket.level is None


def test_brackets_hold_on_random_mixtures():
    rng = np.random.default_rng(3)
    for _ in range(4):
        p, q = (
            Mixture(
                [Gaussian(rng.normal(0, 3, 2), np.diag(rng.uniform(0.1, 2, 2))) for _ in range(3)],
                rng.dirichlet(np.ones(3)),
            )
            for _ in range(2)
        )
        for bracket, divergence in ((kl_bracket, kl), (jsd_bracket, jsd)):
            low, high = bracket(p, q).interval
            assert low <= divergence(p, q, expect=Quadrature(tol=1e-6)).value <= high


def test_brackets_are_tight_where_they_should_be():
    separated = jsd_bracket(ring(0.02), ring(0.02, [0, 2, 4, 6]))
    assert separated.interval == pytest.approx((0.2157615543388357,) * 2, abs=1e-9)
    wide = Gaussian(np.zeros(50), 10 * np.eye(50))
    pair = Mixture([Gaussian(np.zeros(50), np.eye(50)), Gaussian(np.full(50, 5.0), np.eye(50))])
    truth = kl(pair, wide, expect=MonteCarlo(np.random.default_rng(0), 20_000))
    low, high = kl_bracket(pair, wide).interval
    assert low - truth.error <= truth.value <= high + truth.error


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: f_divergence(P, Q, "kullback"), "generator must be one of kl, reverse_kl"),
        (lambda: renyi(P, Q, order=1.0), r"kl\(p, q\)"),
        (lambda: renyi(P, Q, order=-1.0), "order must be"),
        (lambda: alpha_divergence(P, Q, order=0.0), r"kl\(q, p\)"),
        (lambda: chi2(P, Q, kind="fisher"), "pearson, neyman"),
        (lambda: kl_bracket(P, Uniform(0, 1)), "Gaussians"),
        (lambda: total_variation(P, Gaussian([0, 0], np.eye(2))), "same space"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
