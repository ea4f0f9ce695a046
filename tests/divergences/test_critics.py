import tracemalloc

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from divergences import Discrete, Gaussian, Mixture, MonteCarlo, Quadrature, Uniform, as_distribution, wasserstein
from divergences.critics import dual_value, proves
from divergences.errors import InputError
from divergences.kantorovich import EXTENSIONS, LineCritic, MeanCritic, PointCritic, extend, known_slope
from divergences.line import line_transport
from divergences.slopes import lipschitz
from tests.cases import LINE

RNG = np.random.default_rng
GOOD = RNG(0).normal(size=(20, 2))


def solved(n, m, d, metric="euclidean", seed=0):
    rng = RNG(seed)
    x, y = rng.normal(size=(n, d)), 2 * rng.normal(size=(m, d)) + 1
    b = rng.dirichlet(np.ones(m))
    b[: m // 4] = 0.0
    b /= b.sum()
    t = wasserstein(x, y, metric=metric, q_weights=b)
    p, q = Discrete(x), Discrete(y, b)
    return p, q, t, {name: extend(p, q, t.potentials, metric, name) for name in EXTENSIONS}


@pytest.mark.parametrize("metric", ["euclidean", "cityblock", "chebyshev"])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_extensions_attain_w1_and_are_one_lipschitz(d, metric):
    p, q, t, critics = solved(90, 70, d, metric)
    probes = np.concatenate([p.points, q.points, 8 * RNG(1).normal(size=(150, d))])
    distance = cdist(probes, probes, metric)
    values = {}
    for name, f in critics.items():
        values[name] = f(probes)
        assert p.weights @ f(p.points) - q.weights @ f(q.points) == pytest.approx(t.cost.value, rel=1e-12)
        assert (np.abs(values[name][:, None] - values[name]) <= distance + 1e-12).all()
        assert abs(f(p.points).mean()) < 1e-12
        assert known_slope(f, metric) == 1.0
    assert (values["lower"] <= values["average"] + 1e-12).all()
    assert (values["average"] <= values["upper"] + 1e-12).all()
    # They agree where there is mass, and differ elsewhere.
    np.testing.assert_allclose(critics["lower"](p.points), critics["upper"](p.points), atol=1e-12)
    assert (values["upper"] - values["lower"]).max() > 0.5


@pytest.mark.parametrize("d", [1, 3])
def test_extensions_are_the_largest_and_the_smallest(d):
    # By their definition, pair by pair.
    p, q, t, critics = solved(40, 30, d)
    u, v = t.potentials
    gauge = p.weights @ u
    probes = 5 * RNG(2).normal(size=(60, d))
    keep = q.weights > 0
    upper = [min(np.linalg.norm(x - y) - w for y, w in zip(q.points[keep], v[keep], strict=True)) for x in probes]
    lower = [max(w - np.linalg.norm(x - y) for y, w in zip(p.points, u, strict=True)) for x in probes]
    np.testing.assert_allclose(critics["upper"](probes), np.array(upper) - gauge, atol=1e-12)
    np.testing.assert_allclose(critics["lower"](probes), np.array(lower) - gauge, atol=1e-12)


@pytest.mark.parametrize(("d", "metric"), [(1, "euclidean"), (2, "euclidean"), (2, "cityblock"), (3, "chebyshev")])
def test_gradients_are_derivatives(d, metric):
    _, _, _, critics = solved(30, 30, d, metric)
    x = 3 * RNG(3).normal(size=(200, d))
    h = 1e-6
    for f in critics.values():
        differences = np.stack([(f(x + h * e) - f(x - h * e)) / (2 * h) for e in np.eye(d)], axis=1)
        smooth = np.abs(differences - f.gradient(x)).max(axis=1) < 1e-5
        assert smooth.mean() > 0.95  # the rest straddle a kink


def test_zigzag_on_the_line():
    points, values = np.array([0.0, 3.0, 3.0, 4.0]), np.array([0.0, 1.0, 2.5, 0.5])
    x = np.linspace(-3, 7, 201)
    brute = (values + np.abs(x[:, None] - points)).min(axis=1)
    np.testing.assert_allclose(LineCritic.above(points, values)(x), brute, atol=1e-14)
    np.testing.assert_allclose(LineCritic.below(points, -values)(x), -brute, atol=1e-14)
    single = LineCritic.above(np.array([2.0]), np.array([1.0]))
    np.testing.assert_allclose(single([0.0, 2.0, 5.0]), [3.0, 1.0, 4.0])


def test_evaluation_in_bounded_memory():
    critic = PointCritic(RNG(0).normal(size=(10_000, 2)), np.zeros(10_000), "euclidean")
    x = RNG(1).normal(size=(3000, 2))
    tracemalloc.start()
    MeanCritic(critic, critic)(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All pairs would take 240 MB.
    assert peak < 40e6


@pytest.mark.parametrize("metric", ["euclidean", "cityblock", "chebyshev"])
@pytest.mark.parametrize("rough", [False, True])
def test_pruning_changes_no_bit(metric, rough):
    rng = RNG(7)
    y = np.concatenate([rng.normal(size=(900, 2)), rng.integers(-3, 4, (600, 2))])
    v = 5 * rng.normal(size=1500) if rough else -np.abs(y).max(axis=1)
    # Queries in clumps, on atoms, with ties, twice, and one far away.
    x = np.concatenate([y, 0.01 * rng.normal(size=(2000, 2)) + 3, rng.integers(-4, 5, (500, 2)), [[1e6, 0.0]]])
    critic = PointCritic(y, v, metric)
    costs = cdist(x, y, metric) - v
    np.testing.assert_array_equal(critic(x), costs.min(axis=1))
    np.testing.assert_array_equal(critic._lowest(x)[1], costs.argmin(axis=1))
    few = np.concatenate([critic(x[k : k + 10]) for k in range(0, 500, 10)])
    np.testing.assert_array_equal(critic(x)[:500], few)
    assert critic(np.empty((0, 2))).shape == (0,)
    assert critic.gradient(np.empty((0, 2))).shape == (0, 2)
    assert critic([[np.inf, 0.0]]) == np.inf


@pytest.mark.slow
def test_a_million_points_against_ten_thousand_atoms():
    rng = RNG(8)
    y = 2 * rng.normal(size=(10_000, 2))
    critic = PointCritic(y, wasserstein(rng.normal(size=(500, 2)), y[:500]).critic()(y) * -1, "euclidean")
    x = 3 * rng.normal(size=(1_000_000, 2))
    tracemalloc.start()
    values = critic(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All pairs would take 80 GB; a few arrays of the size of x are needed in any case.
    assert peak < 200e6
    some = rng.integers(len(x), size=2000)
    np.testing.assert_array_equal(values[some], (cdist(x[some], y) - critic.potential).min(axis=1))


def test_dual_value_of_laws_in_closed_form():
    p, q = Gaussian(0.0, 1.0), Gaussian(1.0, 4.0)
    value = dual_value(lambda x: x[:, 0] ** 2, p, q)
    assert value.agrees(1.0 - 5.0)
    assert value.error < 1e-6
    assert dual_value(wasserstein(p, q).critic(), p, q).agrees(1.1666309411753725968)
    assert dual_value(wasserstein(p, q).critic(), p, q, expect=MonteCarlo(RNG(0), n=40_000, level=0.999)).agrees(
        1.1666309411753725968
    )
    plane = Gaussian([0, 0], np.eye(2)), Gaussian([0, 0], 4 * np.eye(2))
    radial = dual_value(lambda x: -np.linalg.norm(x, axis=1), *plane)
    assert radial.agrees(1.2533141373155002512)
    assert dual_value(np.ravel, Discrete([0.0, 1.0]), Discrete([3.0])).agrees(-2.5)


def test_dual_value_on_a_law_and_samples():
    x = RNG(4).normal(size=3000)
    p = Gaussian(2.0, 1.0)
    exact, mixed = dual_value(np.ravel, p, x), dual_value(np.ravel, p, x, expect=MonteCarlo(RNG(1), n=3000))
    assert exact.agrees(2.0)
    assert exact.level == 0.95
    # Twice the variance when the law is sampled too.
    assert mixed.error / exact.error == pytest.approx(np.sqrt(2), rel=0.1)
    assert dual_value(np.ravel, x, p).value == pytest.approx(-exact.value)


def test_dual_value_interval_covers():
    # Unequal sizes and variances, a skewed critic value: Welch's interval holds the truth in 93 to 97 %.
    rng, runs = RNG(5), 2000
    hits = sum(
        dual_value(lambda x: np.abs(x[:, 0]), rng.normal(size=60), 3 * rng.normal(size=25)).agrees(
            (1 - 3) * np.sqrt(2 / np.pi)
        )
        for _ in range(runs)
    )
    assert 0.93 < hits / runs < 0.97


SLOPES = [
    (lambda x: x @ [3.0, 4.0], 5.0, 4.0),
    (lambda x: np.sin(20 * x[:, 0]), 20.0, 20.0),
    (lambda x: np.exp(-((x - 1) ** 2).sum(axis=1) / (2 * 0.05**2)), np.exp(-0.5) / 0.05, np.exp(-0.5) / 0.05),
    (lambda x: np.minimum((x**2).sum(axis=1), 9.0), 6.0, 6.0),
    (lambda x: 2 * np.sqrt(1e-4 + (x**2).sum(axis=1)), 2.0, 2.0),
    (lambda x: np.full(len(x), 7.0), 0.0, 0.0),
]


@pytest.mark.parametrize(("f", "euclidean", "cityblock"), SLOPES)
def test_lipschitz_finds_the_steepest_place(f, euclidean, cityblock):
    points = RNG(0).normal(size=(300, 2))
    for metric, truth in (("euclidean", euclidean), ("cityblock", cityblock)):
        found = lipschitz(f, points, rng=RNG(1), metric=metric, budget=60_000)
        # A lower bound, and a tight one.
        assert found.interval[0] <= truth * (1 + 1e-9) + 1e-12
        assert found.value >= 0.998 * truth
        assert found.interval[1] == np.inf
        assert "lower bound" in found.method


def test_lipschitz_of_a_relu_network_against_a_dense_grid():
    rng = RNG(2)
    a, b, c = rng.normal(size=(2, 32)), rng.normal(size=(32, 32)) / 6, rng.normal(size=32) / 6

    def net(x, dtype=np.float64):
        x = x.astype(dtype)
        return np.maximum(np.maximum(x @ a.astype(dtype), 0) @ b.astype(dtype), 0) @ c.astype(dtype) + dtype(30)

    h = 0.02
    grid = np.stack(np.meshgrid(*[np.arange(-4, 4, h)] * 2, indexing="ij"), axis=-1)
    values = net(grid.reshape(-1, 2)).reshape(grid.shape[:2])
    dense = np.hypot(np.diff(values, axis=0)[:, :-1], np.diff(values, axis=1)[:-1]).max() / h
    points = rng.normal(size=(300, 2))
    assert lipschitz(net, points, rng=RNG(0)).value >= 0.999 * dense
    # Rounding of single precision is not mistaken for a slope.
    single = lipschitz(lambda x: net(x, np.float32).astype(np.float64), points, rng=RNG(0))
    assert single.value == pytest.approx(lipschitz(net, points, rng=RNG(0)).value, rel=0.01)
    assert single.interval[0] <= lipschitz(net, points, rng=RNG(0)).value * (1 + 1e-9)


def test_exact_critics_need_no_search():
    x, y = GOOD, GOOD * 2
    assert lipschitz(wasserstein(x, y).critic(), x).interval == (1.0, 1.0)
    assert lipschitz(wasserstein(x, y, metric="cityblock").critic(), x, metric="cityblock").error == 0
    # 1-Lipschitz in one metric is not in another.
    assert lipschitz(wasserstein(x, y, metric="chebyshev").critic(), x, metric="chebyshev").interval == (1.0, 1.0)
    other = lipschitz(wasserstein(x, y, metric="cityblock").critic(), x, rng=RNG(0), budget=5000)
    assert other.value == pytest.approx(np.sqrt(2), rel=1e-6)
    assert lipschitz(wasserstein(GOOD[:, 0], GOOD[:, 0]).critic(), GOOD[:, 0]).value == 0.0


def test_what_a_critic_proves():
    p, q = Gaussian([0, 0], np.eye(2)), Gaussian([0, 0], 4 * np.eye(2))
    truth = 1.2533141373155002512
    rng = RNG(6)
    critic = wasserstein(p.sample(300, rng), q.sample(300, rng)).critic()
    quick = Quadrature(tol=1e-3, max_nodes=100_000)
    exact = proves(critic, p, q, expect=quick)
    assert exact.slope.interval == (1.0, 1.0)
    assert 0.85 * truth < exact.proves.interval[1] < truth
    # Scaling a critic changes its claim, not what it proves.
    boasting = proves(lambda x: 20 * critic(x), p, q, rng=RNG(0), expect=quick, budget=20_000)
    assert boasting.claims.value > 15 * truth
    assert boasting.proves.value == pytest.approx(exact.proves.value, rel=0.02)
    assert "largest found" in boasting.proves.note
    flipped = proves(lambda x: -critic(x), p.sample(50, rng), q.sample(50, rng), rng=RNG(0), budget=5000)
    assert "flipped" in flipped.proves.note
    assert proves(lambda x: np.zeros(len(x)), GOOD, GOOD, rng=RNG(0), budget=5000).proves.value == 0.0
    assert "proves W₁ ≥" in str(exact)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: wasserstein(GOOD, GOOD + 1).critic()(np.full((1, 2), np.nan)), "x holds NaN"),
        (lambda: wasserstein(GOOD[:, 0], GOOD[:, 1]).critic()([np.nan]), "x holds NaN"),
        (lambda: wasserstein(GOOD[:, 0], GOOD[:, 1]).critic().gradient(GOOD), r"shape \(n, 1\)"),
        (lambda: dual_value(3, GOOD, GOOD), "critic must be a function"),
        (lambda: dual_value(lambda x: x, GOOD, GOOD), "one score per point"),
        (lambda: dual_value(lambda x: x[:, :1], GOOD, GOOD), "Drop the last axis"),
        (lambda: dual_value(lambda x: np.log(x[:, 0] * 0 - 1.0), GOOD, GOOD), "NaN or infinite scores"),
        (lambda: dual_value(np.ravel, GOOD, GOOD[:, 0]), "same space"),
        (lambda: dual_value(np.ravel, [1.0], [1.0, 2.0]), "p needs at least 2"),
        (lambda: dual_value(np.ravel, [1.0, np.nan], [1.0, 2.0]), "p holds NaN"),
        (lambda: dual_value(np.ravel, Uniform(0, 1), "x"), "q must be"),
        (lambda: lipschitz(np.ravel, GOOD[:, 0]), "rng is needed"),
        (lambda: lipschitz(np.ravel, np.zeros(5), rng=RNG(0)), "all equal"),
        (lambda: lipschitz(np.ravel, GOOD[:, 0], rng=RNG(0), budget=3), "budget"),
        (lambda: lipschitz(np.ravel, GOOD[:, 0], rng=RNG(0), metric="cosine"), "metric must be one of"),
        (lambda: proves(np.ravel, GOOD[:, 0], GOOD[:, 1]), "rng is needed"),
        (lambda: extend(*solved(5, 5, 1)[:2], (np.zeros(5), np.zeros(5)), "euclidean", "best"), "extension must be"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in log")
def test_bad_input(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_laws_with_parts_integrate_too():
    ring = Mixture([Gaussian([2.0, 0.0], 0.04 * np.eye(2)), Gaussian([-2.0, 0.0], 0.04 * np.eye(2))])
    assert dual_value(lambda x: x[:, 0] ** 2, ring, Gaussian([0, 0], np.eye(2))).agrees(4.04 - 1)


@pytest.mark.parametrize(
    ("p", "q"),
    [
        (Gaussian(1000.0, 1.0), Gaussian(1000.1, 1.0)),
        (Gaussian(0.0, 1.0), Mixture([Gaussian(-0.3, 0.16), Gaussian(2.2, 0.64)], [0.3, 0.7])),
        (Gaussian(0.0, 1e-12), Gaussian(1e-6, 4e-12)),
        (
            Mixture([Gaussian(-50.0, 0.01), Gaussian(50.0, 0.01)]),
            Mixture([Gaussian(-51.0, 0.01), Gaussian(51.0, 0.01)]),
        ),
        (Gaussian(0.0, 1.0), Gaussian(0.0, 1.0)),
        (Uniform(0, 1), Uniform(2, 3)),
        *[(pair.p, pair.q) for pair in LINE if pair.w1 is not None and np.isfinite(pair.w1)],
    ],
)
def test_line_critics_of_laws_turn_where_they_should(p, q):
    # Far from 0, with a crossing far out in a tail (both CDFs are 1 in float64 there), and on a tiny scale.
    p, q = as_distribution(p), as_distribution(q)
    value, error, crossings = line_transport(p, q, 1)
    f = LineCritic.of_laws(p, q, crossings)
    gain = dual_value(f, p, q, expect=Quadrature())
    assert gain.value == pytest.approx(value, rel=1e-9, abs=1e-15 + error)
