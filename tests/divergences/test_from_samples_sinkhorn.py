"""The Sinkhorn divergence: closed forms, a second solver, certificates, and coverage by simulation."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from divergences import sinkhorn
from divergences.errors import InputError, NotCertified
from divergences.from_samples import sinkhorn_divergence
from divergences.wasserstein import wasserstein
from tests.divergences.test_from_samples import check_coverage, covers

RNG = np.random.default_rng


def normal_on_a_grid(mean, sd, points=220):
    # The trapezoidal rule is spectrally accurate on a Gaussian.
    z = np.linspace(-8, 8, points)
    weights = np.exp(-z * z / 2)
    return mean + sd * z, weights / weights.sum()


CLOSED_FORMS = [
    (0.1, 2.23475646863687712, 1.99992188745848124),
    (1.0, 3.22435667987139186, 1.99230933048551008),
    (10.0, 5.25338716644266967, 1.65097671502636213),
]


@pytest.mark.parametrize(("epsilon", "cost", "divergence"), CLOSED_FORMS)
def test_gaussians_on_grids(epsilon, cost, divergence):
    (x, a), (y, b) = normal_on_a_grid(0, 1), normal_on_a_grid(1, 2)
    result = sinkhorn_divergence(x, y, epsilon=epsilon, x_weights=a, y_weights=b)
    assert result.level is None
    assert abs(result.value - divergence) <= result.error + 1e-12
    assert result.error < 1e-8
    assert result.value == pytest.approx(divergence, abs=1e-11)
    assert "|x−y|²" in result.method
    assert f"ε = {epsilon:g}" in result.method
    across = sinkhorn._solve(
        sinkhorn._Atoms(x[:, None], a), sinkhorn._Atoms(y[:, None], b), epsilon, "sqeuclidean", 1e-10
    )
    assert across.dual - 1e-12 <= cost <= across.primal + 1e-12
    assert across.dual == pytest.approx(cost, abs=1e-11)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
def test_against_plain_sinkhorn(metric):
    """The textbook iteration in logarithms, with unequal weights, some of them zero."""
    rng = RNG(0)
    x, y = rng.normal(size=(25, 2)), rng.normal(size=(30, 2)) + 0.5
    a, b = rng.dirichlet(np.ones(25)), rng.dirichlet(np.ones(30))
    a[3] = b[5] = 0
    a, b = a / a.sum(), b / b.sum()
    eps = 0.5

    def plain(x, a, y, b):
        costs = cdist(x, y, metric)
        kernel, v = np.exp(-costs / eps), np.ones(len(b))
        for _ in range(4000):
            u = 1 / (kernel @ (b * v))
            v = 1 / ((a * u) @ kernel)
        plan = (a * u)[:, None] * kernel * (b * v)
        inner = plan[np.ix_(a > 0, b > 0)]
        product = np.outer(a[a > 0], b[b > 0])
        return (inner * costs[np.ix_(a > 0, b > 0)]).sum() + eps * (inner * np.log(inner / product)).sum()

    truth = plain(x, a, y, b) - plain(x, a, x, a) / 2 - plain(y, b, y, b) / 2
    result = sinkhorn_divergence(x, y, epsilon=eps, cost=metric, x_weights=a, y_weights=b)
    assert abs(result.value - truth) <= result.error + 1e-12


def test_bounds_hold_before_convergence():
    """Whatever the potentials, dual ≤ OT_ε ≤ primal; and they meet at the solution."""
    rng = RNG(1)
    x, y = sinkhorn._Atoms(rng.normal(size=(20, 1)), rng.dirichlet(np.ones(20))), None
    y = sinkhorn._Atoms(rng.normal(size=(15, 1)) + 1, rng.dirichlet(np.ones(15)))
    costs = cdist(x.points, y.points, "sqeuclidean")
    solved = sinkhorn._solve(x, y, 0.3, "sqeuclidean", 1e-12)
    for noise in (0.0, 1e-3, 0.1, 1.0):
        f, g = solved.f + noise * rng.normal(size=20), solved.g + noise * rng.normal(size=15)
        dual, primal, marginal = sinkhorn._bounds(costs, x.weights, y.weights, f, g, 0.3)
        assert dual - 1e-12 <= solved.dual <= primal + 1e-12
        assert (noise == 0) == (marginal < 1e-9)


def test_limits_and_symmetry():
    rng = RNG(2)
    x, y = rng.normal(size=(15, 2)), rng.normal(size=(15, 2)) + [1, 0]
    w = np.full(15, 1 / 15)
    both = {"x_weights": w, "y_weights": w}
    # ε → 0: transport; ε → ∞: half of an MMD, for |x−y|² the squared distance of means.
    transport = wasserstein(x, y, order=2).cost.value ** 2
    assert sinkhorn_divergence(x, y, epsilon=0.05, **both).value == pytest.approx(transport, rel=0.05)
    means = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum()
    assert sinkhorn_divergence(x, y, epsilon=1e5, **both).value == pytest.approx(means, rel=1e-3)
    forth, back = sinkhorn_divergence(x, y, epsilon=1.0, **both), sinkhorn_divergence(y, x, epsilon=1.0, **both)
    assert forth.agrees(back)
    assert sinkhorn_divergence(x, x[::-1], epsilon=1.0, **both).agrees(0.0)
    # Far away and rescaled: |x−y|² scales with its ε.
    far = sinkhorn_divergence(1e-4 * x + 3, 1e-4 * y + 3, epsilon=1e-8, **both)
    assert far.value == pytest.approx(1e-8 * forth.value, rel=1e-6)


def test_too_small_epsilon_is_refused(monkeypatch):
    monkeypatch.setattr(sinkhorn, "_ITERATIONS", 3)
    rng = RNG(3)
    x, y = rng.normal(size=40), rng.normal(size=40) + 1
    w = np.full(40, 1 / 40)
    with pytest.raises(NotCertified, match="too small") as caught:
        sinkhorn_divergence(x, y, epsilon=0.02, x_weights=w, y_weights=w)
    low, high = caught.value.interval
    monkeypatch.undo()
    truth = sinkhorn_divergence(x, y, epsilon=0.02, x_weights=w, y_weights=w).value
    assert low <= truth <= high


def test_sides_that_are_laws_add_no_sampling_error():
    rng = RNG(4)
    x = rng.normal(size=60)
    y, b = normal_on_a_grid(1, 2, 60)
    both = sinkhorn_divergence(x, 1 + 2 * rng.normal(size=60), epsilon=1.0)
    one = sinkhorn_divergence(x, y, epsilon=1.0, y_weights=b)
    assert one.level == both.level == 0.95
    assert one.error < both.error
    assert (one.n, both.n) == (60, 120)


def test_null():
    rng = RNG(5)
    x = rng.normal(size=(25, 2))
    apart = sinkhorn_divergence(x, rng.normal(size=(20, 2)) + 2, epsilon=1.0, rng=rng)
    assert apart.null.p_value == pytest.approx(1 / 40)
    same = sinkhorn_divergence(x, rng.normal(size=(20, 2)), epsilon=1.0, rng=rng)
    assert same.null.p_value > 0.05
    assert same.null.mean > 0
    assert same.raw == pytest.approx(same.null.statistic)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": 0.0}, "epsilon"),
        ({"cost": "manhattan"}, "cost must be one of"),
        ({"x_weights": np.full(10, 0.2)}, "x_weights must sum to 1"),
        ({"y": np.zeros((10, 2))}, "same space"),
        ({"y": np.arange(3.0)}, "y needs at least 8 points"),
        ({"x": np.full(10, 1e200)}, "overflow"),
        ({"x": np.zeros(9000)}, "does not fit"),
    ],
)
def test_misuse_is_named(change, message):
    call = {"x": np.arange(10.0), "y": np.arange(10.0), "epsilon": 1.0} | change
    with pytest.raises(InputError, match=message):
        sinkhorn_divergence(call.pop("x"), call.pop("y"), **call)


def coverage(runs, n, shift, scale, epsilon, truth):
    rng = RNG(6)
    return [
        covers(sinkhorn_divergence(rng.normal(size=n), shift + scale * rng.normal(size=n), epsilon=epsilon), truth)
        for _ in range(runs)
    ]


# A shift costs its square, at any ε.
@pytest.mark.parametrize(("shift", "epsilon"), [(0.0, 2.0), (1.0, 2.0)])
def test_coverage(shift, epsilon):
    check_coverage(coverage(25, 60, shift, 1.0, epsilon, shift**2))


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 0.2, 0.5, 1.0, 3.0])
def test_coverage_of_shifts_slow(shift):
    check_coverage(coverage(1000, 200, shift, 1.0, 1.0, shift**2), high=0.97 if shift == 3 else 1.0)


@pytest.mark.slow
@pytest.mark.parametrize(("epsilon", "cost", "divergence"), CLOSED_FORMS[1:])
def test_coverage_of_the_closed_forms_slow(epsilon, cost, divergence):
    check_coverage(coverage(1000, 200, 1.0, 2.0, epsilon, divergence), high=0.98)
