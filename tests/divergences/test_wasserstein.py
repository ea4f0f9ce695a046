import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from scipy.spatial.distance import cdist

from divergences import Discrete, Gaussian, Mixture, Uniform, wasserstein
from divergences.errors import InputError, NoDensity, NotCertified
from tests.cases import COV_1, COV_2, DISCRETE, LINE, line

RNG = np.random.default_rng


@pytest.mark.parametrize("pair", [pair for pair in LINE + DISCRETE if pair.w1 is not None], ids=lambda pair: pair.name)
def test_w1_on_the_line(pair):
    cost = wasserstein(pair.p, pair.q).cost
    assert cost.agrees(wasserstein(pair.q, pair.p).cost)
    if np.isinf(pair.w1):
        assert cost.value == np.inf
        assert cost.note
    else:
        assert abs(cost.value - pair.w1) <= cost.error + 4e-16 * pair.w1
        assert cost.error <= 1e-9 * max(1, pair.w1)


@pytest.mark.parametrize(
    ("p", "q", "truth"),
    [
        (Gaussian(0.0, 1.0), Gaussian(1.0, 4.0), np.sqrt(2)),
        (Uniform(0, 1), Uniform(0, 2), np.sqrt(1 / 3)),
        (line([-2, 2], [0.5, 0.5], [0.5, 0.5]), line([-1, 3], [0.5, 0.5], [0.5, 0.5]), 1.0),
        (line([-1, 1], [1, 1], [0.5, 0.5]), Gaussian(0.0, 1.411312189513**2), 0.090542275934),
        (line([-5, 5], [1, 1], [0.5, 0.5]), Gaussian(0.0, 4.569786417637**2), 2.262090205358),
    ],
)
def test_w2_on_the_line(p, q, truth):
    cost = wasserstein(p, q, order=2).cost
    assert abs(cost.value - truth) <= cost.error + 1e-12


def test_w2_of_gaussians():
    cost = wasserstein(Gaussian([0, 0], COV_1), Gaussian([1, -2], COV_2), order=2).cost
    assert cost.agrees(2.3374069371007000473)
    assert cost.error < 1e-12
    assert wasserstein(Gaussian([0, 0], COV_1), Gaussian([0, 0], COV_1), order=2).cost.agrees(0.0)
    line_cost = wasserstein(Gaussian([0.0], [[1.0]]), Gaussian([1.0], [[4.0]]), order=2).cost
    assert line_cost.agrees(np.sqrt(2))


def _certify(t, p, q, a, b, metric="euclidean", order=1):
    """Everything a user may ask of a transport, from first principles."""
    costs = cdist(p, q, metric) ** order
    plan = t.plan.toarray()
    np.testing.assert_allclose(plan.sum(axis=1), a, atol=1e-12)
    np.testing.assert_allclose(plan.sum(axis=0), b, atol=1e-12)
    assert (plan >= 0).all()
    u, v = t.potentials
    assert (u[:, None] + v[None, :] <= costs + 1e-9 * costs.max()).all()
    power = t.cost.value**order
    assert (plan * costs).sum() == pytest.approx(power, rel=1e-9, abs=1e-12)
    assert a @ u + b @ v == pytest.approx(power, rel=1e-9, abs=1e-12)
    if order == 1:
        f = t.critic()
        assert a @ f(p) - b @ f(q) == pytest.approx(power, rel=1e-9, abs=1e-12)
        probes = np.concatenate([p, q, RNG(1).normal(size=(60, p.shape[1])) * 4])
        rise = np.abs(f(probes)[:, None] - f(probes)[None, :])
        assert (rise <= cdist(probes, probes, metric) + 1e-12).all()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(1, 3),
    st.sampled_from([1, 2]),
    st.booleans(),
    st.integers(0, 999),
)
def test_against_a_general_lp_solver(n, m, d, order, equal, seed):
    rng = RNG(seed)
    # Coordinates on a coarse lattice: ties and duplicates are the hard cases.
    x, y = rng.integers(-3, 4, (n, d)).astype(float), rng.integers(-3, 4, (m, d)) / 2
    a, b = (np.full(n, 1 / n), np.full(m, 1 / m)) if equal else (rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m)))
    t = wasserstein(x, y, order=order, p_weights=a, q_weights=b)
    marginals = np.concatenate([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])
    oracle = optimize.linprog((cdist(x, y) ** order).ravel(), A_eq=marginals, b_eq=np.concatenate([a, b]))
    assert t.cost.value**order == pytest.approx(max(oracle.fun, 0), abs=1e-8)
    _certify(t, x, y, a, b, order=order)


@pytest.mark.parametrize("metric", ["euclidean", "cityblock"])
@pytest.mark.parametrize("d", [1, 2])
def test_a_larger_transport_is_certified(metric, d):
    rng = RNG(0)
    x, y = rng.normal(size=(150, d)), rng.normal(size=(180, d)) * 2 + 1
    b = rng.dirichlet(np.ones(180))
    _certify(wasserstein(x, y, metric=metric, q_weights=b), x, y, np.full(150, 1 / 150), b, metric)


def test_zero_weight_atoms_do_not_bend_the_critic():
    rng = RNG(2)
    x, y = rng.normal(size=(100, 2)), rng.normal(size=(80, 2))
    a = np.zeros(100)
    a[:20] = 1 / 20
    b = np.zeros(80)
    b[40:] = 1 / 40
    t = wasserstein(x, y, p_weights=a, q_weights=b)
    _certify(t, x, y, a, b)
    assert t.cost.agrees(wasserstein(x[:20], y[40:]).cost)


@pytest.mark.parametrize("scale", [1e-150, 1e-14, 1e-6, 1.0, 1e6, 1e14, 1e150])
def test_any_scale(scale):
    x = RNG(0).normal(size=(60, 2))
    y = x[:, ::-1] + 1
    t = wasserstein(x * scale, y * scale)
    assert t.cost.value / scale == pytest.approx(wasserstein(x, y).cost.value, rel=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e2, 1e6])
def test_a_set_against_itself_is_zero_wherever_it_lies(offset):
    x = RNG(0).normal(size=(100, 2)) + offset
    assert wasserstein(x, x[::-1]).cost.value <= 1e-12


def test_radial_truths():
    # A rotationally symmetric pair: W₁ of the laws is W₁ of the radii, √(π/2); samples come close from above.
    rng = RNG(3)
    cost = wasserstein(rng.normal(size=(1500, 2)), 2 * rng.normal(size=(1500, 2))).cost.value
    assert cost == pytest.approx(1.2533141373155002512, abs=0.08)


def test_agrees_with_scipy_on_weighted_samples():
    rng = RNG(4)
    x, y, a, b = (
        rng.normal(size=400),
        rng.normal(size=300) + 1,
        rng.dirichlet(np.ones(400)),
        rng.dirichlet(np.ones(300)),
    )
    oracle = stats.wasserstein_distance(x, y, a, b)
    assert wasserstein(x, y, p_weights=a, q_weights=b).cost.value == pytest.approx(oracle, rel=1e-12)


def test_cost_matrix():
    costs = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]])
    t = wasserstein(np.zeros((3, 1)), np.zeros((2, 1)), metric=costs)
    assert t.cost.value == pytest.approx(2 / 3)
    with pytest.raises(InputError, match="neither"):
        t.critic()


def test_lazy_solver_gives_the_same(monkeypatch):
    rng = RNG(5)
    x, y = rng.normal(size=(90, 2)), rng.normal(size=(70, 2)) + 1
    dense = {(m, o): wasserstein(x, y, metric=m, order=o).cost for m in ("euclidean", "cityblock") for o in (1, 2)}
    monkeypatch.setattr(sys.modules["divergences.wasserstein"], "_DENSE_PAIRS", 10)
    for (metric, order), cost in dense.items():
        t = wasserstein(x, y, metric=metric, order=order)
        assert t.cost.value == pytest.approx(cost.value, rel=1e-12)
        _certify(t, x, y, np.full(90, 1 / 90), np.full(70, 1 / 70), metric, order)


def test_a_wrong_answer_of_the_solver_is_not_passed_on(monkeypatch):
    import ot

    def lazy_worker(a, b, costs, **_):
        return np.outer(a, b), {"v": np.zeros(len(b))}  # feasible, but not optimal

    monkeypatch.setattr(ot.lp, "emd", lazy_worker)
    x, y = RNG(0).normal(size=(20, 2)), RNG(1).normal(size=(20, 2))
    with pytest.raises(NotCertified, match="not optimal") as caught:
        wasserstein(x, y)
    low, high = caught.value.interval
    monkeypatch.undo()
    assert low < wasserstein(x, y).cost.value < high


def test_critic_of_laws_on_the_line():
    p, q = line([-2, 2], [0.5, 0.5], [0.5, 0.5]), Gaussian(0.0, 4.0)
    t = wasserstein(p, q)
    f = t.critic()
    np.testing.assert_allclose(f.knots, [-2.35465796321442, 0, 2.35465796321442], atol=1e-12)
    x, y = p.sample(200_000, RNG(0)), q.sample(200_000, RNG(1))
    assert f(x).mean() - f(y).mean() == pytest.approx(t.cost.value, abs=0.02)
    assert set(np.unique(f.gradient(np.linspace(-5, 5, 50)))) == {-1.0, 1.0}
    assert t.plan is None
    assert t.potentials is None


def test_gradient_of_the_critic_is_its_slope():
    x, y = RNG(0).normal(size=(30, 2)), RNG(1).normal(size=(30, 2)) + 2
    f = wasserstein(x, y).critic()
    probes = RNG(2).normal(size=(50, 2)) * 3
    step = 1e-6
    numeric = np.stack([(f(probes + step * e) - f(probes - step * e)) / (2 * step) for e in np.eye(2)], axis=1)
    np.testing.assert_allclose(f.gradient(probes), numeric, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(f.gradient(probes), axis=1), 1.0)


GOOD = np.zeros((3, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wasserstein(np.array([[0.0, np.nan]]), GOOD), "p holds NaN in 1 of 1 rows"),
        (lambda: wasserstein(GOOD, np.array([[0.0, np.inf]])), "q holds infinite"),
        (lambda: wasserstein(GOOD, np.zeros((3, 3))), "same space"),
        (lambda: wasserstein(np.empty((0, 2)), GOOD), "at least 1 point"),
        (lambda: wasserstein(GOOD, GOOD, p_weights=[0.5, 0.5]), "one weight per point"),
        (lambda: wasserstein(GOOD, GOOD, p_weights=[0.5, 0.5, 0.5]), "sums to 1.5"),
        (lambda: wasserstein(GOOD, GOOD, q_weights=[1.5, -0.5, 0.0]), "negative"),
        (lambda: wasserstein(Gaussian(0.0, 1.0), [0.0], p_weights=[1.0]), "goes with an array"),
        (lambda: wasserstein(GOOD, GOOD, order=3), "order must be 1 or 2"),
        (lambda: wasserstein(GOOD, GOOD, metric="hamming"), "euclidean, cityblock"),
        (lambda: wasserstein(GOOD, GOOD, metric=np.zeros((2, 2))), "must have shape"),
        (lambda: wasserstein(GOOD, GOOD, metric=np.full((3, 3), np.nan)), "finite"),
        (lambda: wasserstein(np.zeros((2, 2, 2)), GOOD), r"shape \(n, d\)"),
        (lambda: wasserstein(["a"], GOOD), "real numbers"),
        (lambda: wasserstein(GOOD, GOOD, order=2).critic(), "order=1"),
        (lambda: wasserstein([[1e200, 0.0]], [[-1e200, 0.0]], order=2), "overflow"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_laws_without_an_exact_route_say_what_to_do():
    with pytest.raises(NoDensity, match="sample"):
        wasserstein(Gaussian([0, 0], np.eye(2)), Gaussian([1, 1], np.eye(2)))
    with pytest.raises(NoDensity, match="sample"):
        wasserstein(Mixture([Gaussian([0, 0], np.eye(2))]), Discrete([[0.0, 0.0]]))
