"""The best Gaussian under each divergence, against closed forms and against other optimisers."""

import numpy as np
import pytest
from scipy import integrate, optimize, stats
from scipy.special import ndtr

from divergences import Discrete, Gaussian, InputError, Mixture, Uniform, jsd, kl, wasserstein
from divergences.fit_transport import plane_transport_fit
from divergences.fits import fit_gaussian


def pair(a):
    return Mixture([Gaussian(-a, 1.0), Gaussian(a, 1.0)])


def sigma(law):
    return float(np.sqrt(law.cov[0, 0]))


# a: forward KL value; reverse KL (s, value) of the symmetric fit; JSD (s, value); W₂ (s, value).
TABLE = {
    1: (0.009742769933, (1.39373227, 0.010887863870), (1.40659563, 0.002537156528), (1.411312189513, 0.090542275934)),
    2: (0.171998762480, (2.04700952, 0.226507960761), (2.19636012, 0.046089146856), (2.176749036201, 0.511628413399)),
    3: (0.461994613468, (2.74376931, 0.840621431279), (3.11983227, 0.128410871750), (2.974019399038, 1.074806314712)),
    5: (0.935901951617, (4.22257194, 3.306603806699), (5.06409033, 0.255376530976), (4.569786417637, 2.262090205358)),
}
# One-mode fits: (a, divergence): m, s, value.
ONE_MODE = {
    (3, "reverse_kl"): (2.984305983, 1.023368561, 0.688768995855),
    (3, "jsd"): (2.968735587, None, 0.214077295721),
    (5, "reverse_kl"): (4.999995548, None, 0.693146317259),
    (5, "jsd"): (4.999992310, None, 0.215761242194),
}


@pytest.mark.parametrize("a", TABLE)
def test_table_of_two_modes(a):
    forward, reverse, shannon, second = TABLE[a]
    best = fit_gaussian(pair(a))
    assert best.law.cov[0, 0] == pytest.approx(1 + a * a, rel=1e-12)
    assert best.value.value == pytest.approx(forward, abs=2e-12)
    for divergence, (s, value) in (("reverse_kl", reverse), ("jsd", shannon)):
        fit = fit_gaussian(pair(a), divergence)
        covering = [m for m in fit.minima if abs(m.law.mean[0]) < 0.5]
        assert len(covering) == 1
        assert sigma(covering[0].law) == pytest.approx(s, abs=1e-7)
        assert covering[0].value.value == pytest.approx(value, abs=2e-12)
        one_mode = [m for m in fit.minima if abs(m.law.mean[0]) >= 0.5]
        # They exist beyond a = 2.41 (reverse KL) and 2.77 (JSD), in pairs.
        assert len(one_mode) == (2 if a > 2.5 else 0)
        if (a, divergence) in ONE_MODE:
            m, s, value = ONE_MODE[a, divergence]
            assert sorted(float(x.law.mean[0]) for x in one_mode) == pytest.approx([-m, m], abs=1e-7)
            assert [x.value.value for x in one_mode] == pytest.approx([value] * 2, abs=2e-12)
            assert s is None or sigma(one_mode[0].law) == pytest.approx(s, abs=1e-7)
        assert fit.value.value == pytest.approx(min(m.value.value for m in fit.minima), abs=1e-14)
    transport = fit_gaussian(pair(a), "w2")
    assert sigma(transport.law) == pytest.approx(second[0], abs=1e-11)
    assert transport.value.value == pytest.approx(second[1], abs=1e-11)
    assert transport.law.mean[0] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("a", [pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow), 5])
def test_first_order_transport_fit(a):
    # An independent route: scipy's quad on |F − G|, cut at the crossing, and Brent's minimiser over s.
    def w1(s):
        def difference(x):
            return 0.5 * ndtr(x - a) + 0.5 * ndtr(x + a) - ndtr(x / s)

        cut = optimize.brentq(difference, 1e-2, a + 3)
        pieces = [0, cut, a + 2, a + 6, 60] if cut < a + 2 else [0, cut, a + 6, 60]
        parts = zip(pieces[:-1], pieces[1:], strict=True)
        return 2 * sum(abs(integrate.quad(difference, u, v, epsabs=1e-13, epsrel=1e-12)[0]) for u, v in parts)

    fit = fit_gaussian(pair(a), "w1")
    s = optimize.minimize_scalar(w1, bracket=(0.999 * sigma(fit.law), 1.001 * sigma(fit.law)), options={"xtol": 1e-8})
    assert fit.law.mean[0] == pytest.approx(0.0, abs=1e-9)
    assert sigma(fit.law) == pytest.approx(s.x, abs=1e-7)
    assert fit.value.value == pytest.approx(s.fun, abs=1e-11)


def gap(a, divergence):
    """One mode minus covering."""
    minima = fit_gaussian(pair(a), divergence).minima
    one = min(m.value.value for m in minima if abs(m.law.mean[0]) > 0.5)
    return one - min(m.value.value for m in minima if abs(m.law.mean[0]) < 0.5)


@pytest.mark.parametrize(("divergence", "switch"), [("reverse_kl", 2.8000822176), ("jsd", 4.2447110426)])
def test_switch_points(divergence, switch):
    found = optimize.brentq(gap, switch - 0.01, switch + 0.01, args=(divergence,), xtol=1e-10)
    assert found == pytest.approx(switch, abs=5e-10)


def test_one_mode_minima_appear_where_they_should():
    # Saddle-node bifurcations at a = 2.412230 (reverse KL) and 2.756841 (JSD).
    for divergence, appears in (("reverse_kl", 2.412230), ("jsd", 2.756841)):
        assert len(fit_gaussian(pair(appears - 1e-4), divergence).minima) == 1
        assert len(fit_gaussian(pair(appears + 1e-4), divergence).minima) == 3


def test_a_shallow_minimum_is_one_by_quadrature_too():
    p = pair(2.765)
    shallow = fit_gaussian(p, "jsd").minima[-1].law
    m, s = float(shallow.mean[0]), sigma(shallow)
    bottom = jsd(p, shallow).value
    for angle in np.linspace(0, 2 * np.pi, 12, endpoint=False):
        around = Gaussian(m + 0.02 * np.cos(angle), (s + 0.02 * np.sin(angle)) ** 2)
        assert jsd(p, around).value > bottom + 1e-7


def test_every_mode_of_a_separated_mixture_is_a_local_minimum():
    p = Mixture([Gaussian(-20.0, 0.25), Gaussian(0.0, 4.0), Gaussian(20.0, 0.01)], [0.2, 0.5, 0.3])
    fit = fit_gaussian(p, "reverse_kl")
    for mean, variance, weight in ((-20, 0.25, 0.2), (0, 4, 0.5), (20, 0.01, 0.3)):
        near = [m for m in fit.minima if abs(m.law.mean[0] - mean) < 0.1 and m.law.cov[0, 0] < 1.5 * variance]
        assert len(near) == 1
        assert near[0].value.value == pytest.approx(-np.log(weight), abs=1e-3)
    assert fit.law.mean[0] == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("divergence", ["reverse_kl", "jsd", "w1", "w2", "mmd", "forward_kl"])
@pytest.mark.parametrize("p", [Gaussian(1.5, 4.0), Gaussian([1.0, -2.0], [[2.0, 0.5], [0.5, 1.0]])], ids=["1D", "2D"])
def test_a_gaussian_is_its_own_fit(p, divergence):
    fit = fit_gaussian(p, divergence)
    np.testing.assert_allclose(fit.law.mean, p.mean, atol=1e-6)
    np.testing.assert_allclose(fit.law.cov, p.cov, atol=1e-6)
    assert fit.value.value < 1e-12
    assert len(fit.minima) == 1


@pytest.mark.parametrize("divergence", ["reverse_kl", "jsd", "mmd"])
def test_no_neighbour_is_better(divergence):
    p = Mixture([Gaussian(-1.0, 0.16), Gaussian(1.5, 0.64), Gaussian(4.0, 0.09)], [0.3, 0.5, 0.2])
    fit = fit_gaussian(p, divergence)
    if divergence == "mmd":
        h = float(fit.divergence.split("h = ")[1].rstrip(")"))

        def value(q):
            return mmd_by_quad(p, q, h)
    else:

        def value(q):
            return (kl(q, p) if divergence == "reverse_kl" else jsd(p, q)).value

    m, s, best = float(fit.law.mean[0]), sigma(fit.law), value(fit.law)
    assert best == pytest.approx(fit.value.value, abs=1e-6 if divergence == "mmd" else 1e-12)
    for dm, ds in ((1e-3, 0), (-1e-3, 0), (0, 1e-3), (0, -1e-3), (0.1, 0.1), (-0.5, 0.2)):
        assert value(Gaussian(m + dm, (s + ds) ** 2)) > best


def mmd_by_quad(p, q, h):
    """∫∫ (p − q)(x) k(x, y) (p − q)(y) dx dy on a grid: the trapezoid rule is spectrally accurate here."""
    x = np.linspace(-12, 16, 1401)
    difference = np.exp(p.log_prob(x)) - np.exp(q.log_prob(x))
    kernel = np.exp(-((x[:, None] - x) ** 2) / (2 * h * h))
    return float(difference @ kernel @ difference) * (x[1] - x[0]) ** 2


def test_laws_of_other_kinds():
    # KL(N(0, s²)‖Laplace) = −½ log(2πe s²) + log 2 + s √(2/π): s = √(π/2).
    assert fit_gaussian(stats.laplace(), "reverse_kl").law.cov[0, 0] == pytest.approx(np.pi / 2, abs=1e-8)
    # W₂ of the uniform law: s = ∫ φ(Φ⁻¹(u)) du = 1/(2√π).
    assert sigma(fit_gaussian(Uniform(0.0, 1.0), "w2").law) == pytest.approx(1 / (2 * np.sqrt(np.pi)), abs=1e-10)
    assert fit_gaussian(Uniform(0.0, 1.0)).law.cov[0, 0] == pytest.approx(1 / 12, abs=1e-12)
    heavy = fit_gaussian(stats.cauchy(), "jsd")
    assert heavy.law.mean[0] == pytest.approx(0.0, abs=1e-7)
    uniform = fit_gaussian(Uniform(0.0, 1.0), "mmd", bandwidth=0.5)
    assert "h = 0.5" in uniform.divergence
    assert uniform.law.mean[0] == pytest.approx(0.5, abs=1e-6)
    assert uniform.value.value == pytest.approx(mmd_uniform(uniform.law, 0.5), abs=1e-9)


def mmd_uniform(q, h):
    """MMD² of U[0, 1] and a Gaussian, with a fine Gauss-Legendre rule for the uniform law."""
    node, weight = np.polynomial.legendre.leggauss(60)
    x, weight = (node + 1) / 2, weight / 2
    own = weight @ np.exp(-((x[:, None] - x) ** 2) / (2 * h * h)) @ weight
    variance = h * h + q.cov[0, 0]
    cross = h / np.sqrt(variance) * np.exp(-((x - q.mean[0]) ** 2) / (2 * variance))
    return float(own - 2 * weight @ cross + h / np.sqrt(h * h + 2 * q.cov[0, 0]))


def test_fits_in_the_plane():
    p = Mixture(
        [Gaussian([0.0, 0.0], [[2.0, 0.5], [0.5, 1.0]]), Gaussian([1.0, -2.0], [[1.0, -0.3], [-0.3, 1.5]])], [0.3, 0.7]
    )
    forward = fit_gaussian(p)
    np.testing.assert_allclose(forward.law.mean, [0.7, -1.4])
    np.testing.assert_allclose(forward.law.cov, [[1.51, -0.48], [-0.48, 2.19]])
    for divergence in ("reverse_kl", "jsd"):
        fit = fit_gaussian(p, divergence)

        def value(q, divergence=divergence):
            return (kl(q, p) if divergence == "reverse_kl" else jsd(p, q)).value

        assert fit.value.value < value(forward.law)
        rng = np.random.default_rng(0)
        for _ in range(3):
            bump = 0.03 * rng.standard_normal((2, 2))
            factor = np.linalg.cholesky(fit.law.cov) + np.tril(bump)
            assert value(Gaussian(fit.law.mean + 0.03 * rng.standard_normal(2), factor @ factor.T)) > fit.value.value
    kernel = fit_gaussian(p, "mmd", bandwidth=1.0)
    assert kernel.value.value < 1e-2
    assert np.linalg.norm(kernel.law.mean - forward.law.mean) < 0.2


def test_modes_in_the_plane():
    p = Mixture([Gaussian([-4.0, 0.0], np.eye(2)), Gaussian([4.0, 0.0], 0.5 * np.eye(2))], [0.3, 0.7])
    fit = fit_gaussian(p, "reverse_kl")
    assert fit.value.value == pytest.approx(-np.log(0.7), abs=2e-3)
    np.testing.assert_allclose(fit.law.mean, [4, 0], atol=0.02)
    # Of the fits that cover both modes none is stationary here: only the two modes are.
    assert len(fit.minima) == 2


@pytest.mark.parametrize("divergence", ["w2", "w1"])
def test_transport_fit_in_the_plane(divergence):
    # A radial law: by symmetry m = 0 and S = s²I, and W is that of the radii, F⁻¹(u) against s·√(−2 log(1 − u)).
    p = Mixture([Gaussian([1.0, 1.0], np.eye(2)), Gaussian([1.0, 1.0], 9 * np.eye(2))])
    u = (np.arange(20_000) + 0.5) / 20_000
    rayleigh = np.sqrt(-2 * np.log1p(-u))
    grid = np.linspace(0, 30, 60_001)
    radius = np.interp(u, 1 - 0.5 * np.exp(-(grid**2) / 2) - 0.5 * np.exp(-(grid**2) / 18), grid)
    power = 2 if divergence == "w2" else 1
    truth = optimize.minimize_scalar(
        lambda s: float(np.mean(np.abs(radius - s * rayleigh) ** power)), bounds=(1.0, 3.0), method="bounded"
    )
    fit = fit_gaussian(p, divergence, rng=np.random.default_rng(3))
    assert fit.value.agrees(truth.fun ** (1 / power))
    assert fit.value.error < 0.3
    assert fit.value.raw > truth.fun ** (1 / power)
    spread = np.sqrt(5.0)
    assert 0 < fit.accuracy < 0.15 * spread
    np.testing.assert_allclose(fit.law.mean, [1, 1], atol=fit.accuracy)
    np.testing.assert_allclose(fit.law.cholesky, truth.x * np.eye(2), atol=fit.accuracy)


def test_transport_fit_of_a_gaussian_by_points():
    # What fit_gaussian knows exactly: the route by points must agree within what it states.
    p = Gaussian([1.0, -2.0], [[2.0, 0.5], [0.5, 1.0]])
    sampled = plane_transport_fit(p, p, 2, np.random.default_rng(0))
    np.testing.assert_allclose(sampled.law.cholesky, p.cholesky, atol=sampled.accuracy)
    assert sampled.value.interval[0] == 0.0
    assert sampled.value.error < 0.2


def test_reported_values_are_the_divergences_themselves():
    p = pair(2.0)
    assert fit_gaussian(p, "forward_kl").value.agrees(kl(p, fit_gaussian(p).law))
    w1 = fit_gaussian(p, "w1")
    assert w1.value.agrees(wasserstein(p, w1.law).cost)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"p": pair(1), "divergence": "kl"}, "forward_kl"),
        ({"p": Discrete([0.0, 1.0])}, "density"),
        ({"p": Gaussian(np.zeros(3), np.eye(3))}, "one and two"),
        ({"p": Uniform(0.0, 1.0), "divergence": "reverse_kl"}, "infinite for every Gaussian"),
        ({"p": stats.cauchy()}, "variance"),
        ({"p": stats.cauchy(), "divergence": "w1"}, "variance"),
        ({"p": pair(1), "divergence": "jsd", "bandwidth": 1.0}, "bandwidth"),
        ({"p": pair(1), "divergence": "mmd", "bandwidth": -1.0}, "bandwidth"),
        ({"p": Uniform([0.0, 0.0], [1.0, 1.0]), "divergence": "w2"}, "rng"),
        ({"p": [1.0, 2.0]}, "samples"),
    ],
)
def test_misuse_is_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        fit_gaussian(**arguments)
