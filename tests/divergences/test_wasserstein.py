import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from scipy.spatial.distance import cdist

from divergences import Box, Discrete, Gaussian, Mixture, Uniform, wasserstein
from divergences.errors import InputError, NoDensity, NotCertified
from divergences.line import line_violation
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


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e-14, 1e14, 1e170, 1e300])
@pytest.mark.parametrize("order", [1, 2])
def test_any_scale(scale, order):
    # Squares of 1e-170 are 0 and those of 1e170 are infinite in float64; costs of 1e-14 are below a solver's tolerance.
    x = RNG(0).normal(size=(60, 2))
    y = x[:, ::-1] + 1
    for one, other in ((x, y), (x[:, 0], x[:, 1]), (x[:, 0], x[:50, 1])):
        cost = wasserstein(one * scale, other * scale, order=order).cost
        truth = wasserstein(one, other, order=order).cost
        assert abs(cost.value / scale - truth.value) <= cost.error / scale + truth.error
        assert cost.error < 1e-12 * cost.value
    table = wasserstein(x, y, metric=cdist(x, y) * scale, order=order).cost.value
    assert table / scale == pytest.approx(wasserstein(x, y, order=order).cost.value, rel=1e-12)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("gap", [2.0**20, 2.0**40])
def test_two_clusters_far_apart(order, gap):
    # What happens within the clusters is 1e-12 of the largest cost: below the solver's tolerance, and all that counts.
    rng = RNG(0)
    x, y = (rng.integers(-50, 50, (40, 2)).astype(float) for _ in range(2))
    parts = [wasserstein(x[cut], y[cut], order=order).cost.value for cut in (slice(20), slice(20, 40))]
    far = np.repeat([[0.0, 0.0], [gap, gap]], 20, axis=0)
    cost = wasserstein(x + far, y + far, order=order).cost
    truth = np.mean(np.power(parts, order)) ** (1 / order)
    assert cost.value == pytest.approx(truth, rel=1e-9)
    assert abs(cost.value - truth) <= cost.error


def test_atoms_that_hardly_count():
    rng = RNG(0)
    x, y = rng.normal(size=(60, 2)), rng.normal(size=(50, 2)) + 1
    truth = wasserstein(x, y).cost
    far = np.append(x, [[1e14, 0.0]], axis=0)
    # Without mass it is as if it were not there, wherever it is.
    t = wasserstein(far, y, p_weights=np.append(np.full(60, 1 / 60), 0.0))
    assert t.cost.agrees(truth)
    assert t.cost.error < 1e-12
    # With the mass of a rounding error, its share is uncertain: refused, with an interval that says by how much.
    far[-1, 0] = 1e12
    with pytest.raises(NotCertified) as caught:
        wasserstein(far, y, p_weights=np.append(np.full(60, (1 - 1e-13) / 60), 1e-13))
    low, high = caught.value.interval
    assert truth.value + 0.09 < low < high < truth.value + 0.11
    # Weights that sum to 1 within 1e-8 are taken as they are meant.
    rounded = np.full(60, 1 / 60)
    rounded[0] += 1e-9
    assert wasserstein(x, y, p_weights=rounded).cost.value == pytest.approx(truth.value, abs=1e-8)


def test_one_atom_against_many():
    y = RNG(0).normal(size=(30_000, 2))
    for t in (wasserstein([[1.0, 2.0]], y), wasserstein(y, [[1.0, 2.0]])):
        assert t.cost.agrees(float(np.hypot(*(y - [1.0, 2.0]).T).mean()))
        assert t.cost.error < 1e-11
        assert t.max_violation < 1e-13
    assert wasserstein([[0.0, 0.0]], [[3.0, 4.0]]).cost.agrees(5.0)
    assert wasserstein(np.ones((9, 2)), np.ones((4, 2))).cost.value == 0.0


def test_data_far_from_the_origin_keep_their_digits():
    # On a lattice that 1e8 does not round.
    x, y = (RNG(seed).integers(-9, 9, (50, 3)) / 8 for seed in (0, 1))
    for order in (1, 2):
        for one, other in ((x, y), (x[:, 0], y[:, 0])):
            near, far = wasserstein(one, other, order=order).cost, wasserstein(one + 2**27, other + 2**27, order=order)
            assert far.cost.value == pytest.approx(near.value, rel=1e-14)


METRICS = ["euclidean", "cityblock", "chebyshev", "sqeuclidean", "canberra", "braycurtis", "cosine", "hamming"]


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_by_name(metric):
    rng = RNG(0)
    x, y = rng.integers(1, 5, (12, 3)).astype(float), rng.integers(1, 6, (9, 3)) / 2
    costs = cdist(x, y, metric)
    marginals = np.concatenate([np.kron(np.eye(12), np.ones(9)), np.kron(np.ones(12), np.eye(9))])
    for order in (1, 2):
        oracle = optimize.linprog((costs**order).ravel(), A_eq=marginals, b_eq=np.repeat([1 / 12, 1 / 9], [12, 9])).fun
        t = wasserstein(x, y, metric=metric, order=order)
        assert t.cost.value**order == pytest.approx(oracle, rel=1e-8)
        u, v = t.potentials
        assert t.max_violation == pytest.approx(max(0.0, (u[:, None] + v - costs**order).max()), abs=1e-15)
        assert t.max_violation < 1e-12


def test_too_few_iterations_are_noticed(monkeypatch):
    x, y = RNG(0).normal(size=(80, 2)), RNG(1).normal(size=(80, 2))
    truth = wasserstein(x, y).cost.value
    monkeypatch.setattr("divergences.simplex._ITERATIONS", 100)
    monkeypatch.setattr("divergences.simplex._ITERATIONS_PER_ATOM", 0)
    with pytest.raises(NotCertified) as caught:
        wasserstein(x, y)
    low, high = caught.value.interval
    assert low < truth < high


def test_refinement_repairs_a_rough_solver(monkeypatch):
    # A solver that only sees costs rounded to 1e-4: the certificate sends it back, to the reduced costs, until it fits.
    import ot

    exact, calls = ot.lp.emd, []

    def rough(a, b, costs, **options):
        calls.append(1)
        return exact(a, b, np.round(costs, 4), **options)

    monkeypatch.setattr(ot.lp, "emd", rough)
    x, y = RNG(0).normal(size=(60, 2)), RNG(1).normal(size=(60, 2))
    cost = wasserstein(x, y).cost
    monkeypatch.undo()
    assert len(calls) > 1
    assert cost.value == pytest.approx(wasserstein(x, y).cost.value, rel=1e-9)


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
    with pytest.raises(InputError, match="this transport has none"):
        t.critic()


def test_lazy_solver_gives_the_same(monkeypatch):
    rng = RNG(5)
    x, y = rng.normal(size=(90, 2)), rng.normal(size=(70, 2)) + 1
    dense = {(m, o): wasserstein(x, y, metric=m, order=o).cost for m in ("euclidean", "cityblock") for o in (1, 2)}
    monkeypatch.setattr("divergences.simplex._DENSE_PAIRS", 10)
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
        (lambda: wasserstein(GOOD, GOOD, metric="euclidian"), "euclidean, cityblock, chebyshev"),
        (lambda: wasserstein(GOOD, GOOD, metric="cosine"), "not defined for 9 pairs"),
        (lambda: wasserstein(GOOD, GOOD, metric=3), "name"),
        (lambda: wasserstein(GOOD, GOOD, metric=-np.eye(3)), "finite and ≥ 0"),
        (lambda: wasserstein(GOOD, GOOD, metric=np.diag([np.inf] * 3)), "large finite cost"),
        (lambda: wasserstein(GOOD, GOOD, metric="sqeuclidean").critic(), "norm|order=1"),
        (lambda: wasserstein(GOOD, GOOD, p_weights=[1 / 3, 1 / 3, 1 / 3 + 1e-7]), "sums to 1.0000001"),
        (lambda: wasserstein([1.0, np.nan], [0.0, 1.0]), "p holds NaN in 1 of 2 rows"),
        (lambda: wasserstein(np.array([0.0, 1.0]), np.array([1.0, -np.inf])), "q holds infinite values in 1 of 2"),
        (lambda: wasserstein(Uniform(0, 1), Uniform(0, 2), metric="sqeuclidean"), "continuous laws"),
        (lambda: wasserstein(GOOD, GOOD, metric=np.zeros((2, 2))), "of shape"),
        (lambda: wasserstein(GOOD, GOOD, metric=np.full((3, 3), np.nan)), "finite"),
        (lambda: wasserstein(np.zeros((2, 2, 2)), GOOD), r"shape \(n, d\)"),
        (lambda: wasserstein(["a"], GOOD), "real numbers"),
        (lambda: wasserstein(GOOD, GOOD, order=2).critic(), "order=1"),
        (lambda: wasserstein([[1.7e308, 0.0]], [[-1.7e308, 0.0]], order=2), "overflow"),
        (lambda: wasserstein(np.array([1.7e308]), np.array([-1.7e308])), "overflow"),
        (lambda: wasserstein([[1e200, 0.0]], [[-1e200, 0.0]], order=2).potentials, "rescale"),
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


def test_the_quick_way_on_the_line_is_the_long_way():
    rng = RNG(0)
    x, y = rng.normal(size=2001), rng.standard_t(3, size=2001)
    for order in (1, 2):
        quick = wasserstein(x, y, order=order)
        long = wasserstein(x, y, order=order, p_weights=np.full(2001, 1 / 2001))
        listed = wasserstein(x.tolist(), y[:, None], order=order)
        assert abs(quick.cost.value - long.cost.value) <= quick.cost.error + long.cost.error
        assert quick.cost.agrees(listed.cost)
        assert quick.cost.error < 1e-12
        by_definition = np.mean(np.abs(np.sort(x) - np.sort(y)) ** order) ** (1 / order)
        assert quick.cost.agrees(by_definition)
    whole = rng.integers(0, 1000, 500), rng.integers(0, 1000, 500)
    assert wasserstein(*whole).cost.value == np.abs(np.sort(whole[0]) - np.sort(whole[1])).mean()
    single = x.astype(np.float32), y.astype(np.float32)
    assert wasserstein(*single).cost.agrees(wasserstein(*(side.astype(np.float64) for side in single)).cost)


@pytest.mark.parametrize("order", [1, 2])
def test_plan_and_potentials_are_made_on_demand_of_the_data_as_they_were(order):
    x, y = RNG(0).normal(size=300), RNG(1).normal(size=300) + 1
    kept = x.copy()
    t = wasserstein(x, y, order=order)
    assert not {"plan", "potentials", "max_violation"} & set(vars(t))
    x[:] = 0.0
    _certify(t, kept[:, None], y[:, None], np.full(300, 1 / 300), np.full(300, 1 / 300), order=order)
    assert t.max_violation < 1e-12
    assert np.array_equal(y, RNG(1).normal(size=300) + 1)


@pytest.mark.parametrize("order", [1, 2])
def test_violations_on_the_line_are_measured(order):
    rng = RNG(0)
    x, y = rng.integers(-9, 9, 40) / 3, rng.normal(size=30)
    for _ in range(20):
        u, v = rng.normal(size=40), rng.normal(size=30) - rng.uniform(0, 4)
        worst = (u[:, None] + v - np.abs(x[:, None] - y) ** order).max()
        assert line_violation(x, y, u, v, order) == pytest.approx(max(worst, 0.0), abs=1e-12)


def test_weights_without_mass_at_the_end_of_the_line():
    # Rounding of cumulative weights must not send 1e-16 of the mass to an atom at 1e20 that has none.
    weights = np.append(np.full(10, 0.1), 0.0)
    x = np.append(np.arange(10.0), 1e20)
    assert wasserstein(x, np.arange(10.0) + 0.5, p_weights=weights).cost.value == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("order", [1, 2])
def test_idle_atoms_have_feasible_potentials(d, order):
    rng = RNG(3)
    x, y = rng.integers(-5, 6, (30, d)).astype(float), 2 * rng.normal(size=(25, d))
    a, b = rng.dirichlet(np.ones(30)), rng.dirichlet(np.ones(25))
    a[::3], b[1::2] = 0.0, 0.0
    a, b = a / a.sum(), b / b.sum()
    t = wasserstein(x, y, order=order, p_weights=a, q_weights=b)
    _certify(t, x, y, a, b, order=order)
    assert t.max_violation < 1e-12
    if order == 1:
        # One gauge for every extension, on the line and off it.
        for extension in (None, "lower", "average", "upper"):
            assert a @ t.critic(extension)(x) == pytest.approx(0.0, abs=1e-12)


HEAVY = [
    (1, stats.t(1.1), 7.128768452290357),  # W₁(X, 2X) = E|X|
    (1, stats.pareto(1.02), 51.0),
    (1, stats.pareto(1.0), np.inf),
    (2, stats.t(2.01), np.sqrt(201.0)),  # W₂(X, 2X)² = E X²
    (2, stats.t(3), np.sqrt(3.0)),
    (2, stats.lognorm(3), np.exp(9.0)),
    (2, stats.pareto(2.0), np.inf),
    (2, stats.cauchy(), np.inf),
]


@pytest.mark.parametrize(
    ("order", "law", "truth"), HEAVY, ids=lambda v: getattr(getattr(v, "dist", None), "name", None)
)
def test_heavy_tails(order, law, truth):
    cost = wasserstein(law, law.dist(*law.args, scale=2), order=order).cost
    if np.isinf(truth):
        assert cost.value == np.inf
        assert cost.note
    else:
        assert abs(cost.value - truth) <= cost.error + 4e-16 * truth
        assert cost.error <= 1e-9 * truth


def test_shifts_of_laws_without_moments():
    # No variance, no mean: and still each point moves by 1.
    for order in (1, 2):
        assert wasserstein(stats.cauchy(), stats.cauchy(loc=1), order=order).cost.value == pytest.approx(1, abs=1e-9)
    # N(0, 1) and Student's t with 4 degrees, whose quantiles are algebraic: 25 digits by another library.
    assert wasserstein(Gaussian(0.0, 1.0), stats.t(4), order=2).cost.agrees(0.5143356515553935342992488)


class Lazy:
    """Half its mass at 0, half uniform on [0, 1]."""

    dim = 1
    support = Box(np.zeros(1), np.ones(1))

    def log_prob(self, x):
        raise NotImplementedError

    def sample(self, n, rng):
        return np.maximum(rng.uniform(-1, 1, (n, 1)), 0.0)

    def cdf(self, x):
        return np.where(np.ravel(x) < 0, 0.0, np.minimum(0.5 + np.ravel(x) / 2, 1.0))

    def survival(self, x):
        return np.where(np.ravel(x) < 0, 1.0, np.maximum(0.5 - np.ravel(x) / 2, 0.0))

    def quantile(self, u):
        return np.maximum(2 * np.asarray(u, dtype=float) - 1, 0.0)


def test_an_atom_within_a_law():
    for law, truth in ((Lazy(), (0.25, np.sqrt(1 / 12))), (Discrete([0.25, 0.75]), (0.125, np.sqrt(1 / 48)))):
        for order in (1, 2):
            cost = wasserstein(law, Uniform(0, 1), order=order).cost
            assert abs(cost.value - truth[order - 1]) <= cost.error + 1e-16
            assert cost.error < 1e-12


BIG = """
import resource, sys
import numpy as np
from divergences import wasserstein
import ot
rng = np.random.default_rng(0)
m, weighted = int(sys.argv[1]), sys.argv[2] == "weighted"
x, y = rng.normal(size=(20_000, 2)), 2 * rng.normal(size=(m, 2))
t = wasserstein(x, y, q_weights=rng.dirichlet(np.ones(m)) if weighted else None)
t.critic()(rng.normal(size=(100_000, 2)))
print(t.cost.value, t.cost.error, t.plan.nnz, t.max_violation, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("m", "kind"), [(20_000, "equal"), (15_000, "weighted")])
def test_twenty_thousand_points_in_two_gigabytes(m, kind):
    run = subprocess.run([sys.executable, "-c", BIG, str(m), kind], capture_output=True, text=True, check=True)
    value, error, moves, violation, kilobytes = map(float, run.stdout.split())
    assert value == pytest.approx(1.2533141373155002512, abs=0.05)
    assert error < 1e-9
    assert moves <= 20_000 + m
    assert violation < 1e-12
    assert kilobytes < 2e6
