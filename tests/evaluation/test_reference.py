"""The published definitions in a few plain lines each, against the library, on sets of every awkward kind.

The digits of the frozen toy stand beside each metric's own tests; here the same quantities are computed on other sizes,
dimensions, numbers of neighbours and orders, with constant features, repeated points, ties and points far from 0.
"""

import math

import numpy as np
import pytest
import scipy.linalg
from scipy import stats
from scipy.spatial.distance import cdist

from evaluation import (
    alpha_precision,
    authenticity,
    cmmd,
    copy_tests,
    data_copying,
    fid,
    improved_precision_recall,
    kid,
    memorization_distance,
    prdc,
    rbf_mmd,
    two_sample,
    vendi,
)
from evaluation.manifold import coverage_null
from evaluation.prd import f_beta, prd_curve


def _sets(kind):
    """(reference, generated, held-out) of one kind."""
    rng = np.random.default_rng(len(kind))
    x, y, z = rng.standard_normal((57, 3)), 0.9 * rng.standard_normal((41, 3)) + 0.2, rng.standard_normal((33, 3))
    if kind == "line":
        return x[:, :1], y[:, :1], z[:, :1]
    if kind == "wide":
        return rng.standard_normal((30, 90)), rng.standard_normal((26, 90)) * 1.1, rng.standard_normal((20, 90))
    if kind == "constant feature":
        return tuple(np.column_stack([a, np.full(len(a), 7.0)]) for a in (x, y, z))
    if kind == "repeated points":
        return np.concatenate([x, x[:20], x[:9]]), np.concatenate([y, y[:5], x[:12]]), np.concatenate([z, x[5:9]])
    if kind == "integer grid":
        return tuple(rng.integers(-2, 3, a.shape).astype(float) + [0, 0, 9] for a in (x, y, z))
    if kind == "far from 0":
        return x + 4096, y + 4096, z + 4096
    if kind == "float32":
        return x.astype(np.float32), y.astype(np.float32), z.astype(np.float32)
    return x, y, z


KINDS = ["plain", "line", "wide", "constant feature", "repeated points", "integer grid", "far from 0", "float32"]


def _radii(x, k):
    """Distance to the k-th nearest other point: behind the point itself, whatever stands at 0 beside it."""
    return np.sort(cdist(x, x), axis=1)[:, k]


@pytest.mark.parametrize("k", [1, 3, 5, 11])
@pytest.mark.parametrize("kind", KINDS)
def test_balls_of_neighbours(kind, k):
    real, fake, _ = _sets(kind)
    across = cdist(real, fake)
    mine, theirs = _radii(real, k)[:, None], _radii(fake, k)
    found = prdc(generated=fake, reference=real, k=k)
    expected = [
        (across < mine).any(axis=0).mean(),
        (across < theirs).any(axis=1).mean(),
        (across < mine).sum(axis=0).mean() / k,
        (across.min(axis=1) < mine[:, 0]).mean(),
    ]
    scores = [found.precision, found.recall, found.density, found.coverage]
    assert [score.value for score in scores] == pytest.approx(expected, abs=1e-12)
    closed = improved_precision_recall(generated=fake, reference=real, k=k)
    expected = [(across <= mine).any(axis=0).mean(), (across <= theirs).any(axis=1).mean()]
    assert [closed.precision.value, closed.recall.value] == pytest.approx(expected, abs=1e-12)
    n, m = len(real), len(fake)
    chance = 1.0
    for i in range(1, k + 1):
        chance *= (n - i) / (n + m - i)
    assert found.null.coverage.value == pytest.approx(1 - chance, abs=1e-12)
    for score in (*scores, closed.precision, closed.recall, found.null.precision, found.null.recall):
        low, high = score.interval
        assert low <= score.value <= high


@pytest.mark.parametrize("kind", KINDS)
def test_nearest_train_points(kind):
    real, fake, held_out = _sets(kind)
    within, across = cdist(real, real), cdist(fake, real)
    np.fill_diagonal(within, np.inf)
    authentic = [within[row.argmin()].min() < row.min() for row in across]
    found = authenticity(generated=fake, train=real, test=held_out)
    assert found.share.value == np.mean(authentic)
    np.testing.assert_array_equal(found.nearest_train, across.argmin(axis=1))
    other = [within[row.argmin()].min() < row.min() for row in cdist(held_out, real)]
    assert found.null.value == np.mean(other)
    angles = 1 - np.abs(fake @ real.T) / np.outer(np.linalg.norm(fake, axis=1), np.linalg.norm(real, axis=1))
    tolerance = 1e-6 if kind == "float32" else 1e-12
    near = memorization_distance(generated=fake, train=real)
    assert near.distance.value == pytest.approx(angles.min(axis=1).mean(), abs=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_alpha_precision_and_beta_recall(kind):
    real, fake, _ = (a.astype(np.float64) for a in _sets(kind))
    alphas = np.linspace(0, 1, 30)
    away, other = np.linalg.norm(real - real.mean(axis=0), axis=1), np.linalg.norm(fake - real.mean(axis=0), axis=1)
    precision = [np.mean(other <= np.quantile(away, alpha)) for alpha in alphas]
    across = cdist(real, fake)
    typical = np.linalg.norm(fake - fake.mean(axis=0), axis=1)[across.argmin(axis=1)]
    close = across.min(axis=1) <= _radii(real, 1)
    recall = [np.mean(close & (typical <= np.quantile(typical, alpha))) for alpha in alphas]
    found = alpha_precision(generated=fake, reference=real)
    for estimate, curve in ((found.precision, precision), (found.recall, recall)):
        # One point at the rim of a quantile may fall either way by rounding.
        assert estimate.value == pytest.approx(1 - 2 * np.abs(alphas - curve).sum() / 29, abs=2e-3)
        assert estimate.interval[0] <= estimate.value <= estimate.interval[1]


@pytest.mark.parametrize("q", [0.3, 1.0, 2.0, 7.0, math.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_effective_number_of_samples(kind, q):
    _, fake, _ = (a.astype(np.float64) for a in _sets(kind))
    rows = fake / np.linalg.norm(fake, axis=1, keepdims=True)
    shares = np.linalg.eigvalsh(rows @ rows.T / len(rows))
    shares = shares[shares > 1e-12]
    if q == 1:
        expected = np.exp(-np.sum(shares * np.log(shares)))
    else:
        expected = 1 / shares.max() if q == math.inf else np.sum(shares**q) ** (1 / (1 - q))
    # Small orders weigh the eigenvalues that rounding makes of 0.
    assert vendi(generated=fake, q=q).score.value == pytest.approx(expected, rel=1e-10 if q >= 1 else 1e-5)


def test_published_numbers_of_effective_samples():
    # Kernels in place of vectors: the rows of any square root have these products, and length 1.
    points = np.array([0.0, 0.0, 10.0, 10.0, 20.0, 20.0])
    kernels = [np.exp(-np.abs(points[:, None] - points)), np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])]
    for kernel, expected in zip(kernels, (2.999999995877713, 2.1573004833739833), strict=True):
        values, vectors = np.linalg.eigh(kernel)
        rows = vectors * np.sqrt(np.clip(values, 0, None))
        assert vendi(generated=rows).score.value == pytest.approx(expected, rel=1e-12)


def _kernel_distance(x, y, kernel):
    a, b, c = kernel(x, x), kernel(y, y), kernel(x, y)
    biased = a.mean() + b.mean() - 2 * c.mean()
    for square in (a, b):
        np.fill_diagonal(square, np.nan)
    return np.nanmean(a) + np.nanmean(b) - 2 * c.mean(), biased


@pytest.mark.parametrize("kind", KINDS)
def test_kernel_distances(kind):
    real, fake, _ = (a.astype(np.float64) for a in _sets(kind))
    found = kid(generated=fake, reference=real)
    expected = _kernel_distance(real, fake, lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3)
    # Differences of sums of cubes of |x|²/d.
    scale = 1e-13 * (np.sum(real**2, axis=1).max() / real.shape[1] + 1) ** 3
    assert (found.value, found.raw) == pytest.approx(expected, abs=max(scale, 1e-12))
    for width in (0.5, 3.0, 10.0):

        def gauss(a, b, width=width):
            return np.exp(-cdist(a, b, "sqeuclidean") / (2 * width**2))

        expected = _kernel_distance(real, fake, gauss)
        found = rbf_mmd(generated=fake, reference=real, bandwidths=width)
        assert (found.value, found.raw) == pytest.approx(expected, abs=1e-14)
    assert cmmd(generated=fake, reference=real).raw == pytest.approx(1000 * expected[1], abs=1e-10)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("wide", "constant feature", "line")])
def test_frechet_distance_by_the_square_root_of_the_product(kind):
    real, fake, _ = (a.astype(np.float64) for a in _sets(kind))
    gap, s, t = real.mean(axis=0) - fake.mean(axis=0), np.cov(real.T), np.cov(fake.T)
    expected = gap @ gap + np.trace(s + t) - 2 * np.trace(scipy.linalg.sqrtm(s @ t).real)
    assert fid(generated=fake, reference=real).raw == pytest.approx(expected, rel=1e-8)
    # A feature that never changes adds the square of its gap, and nothing else.
    wider = [np.column_stack([a, np.full(len(a), value)]) for a, value in ((real, 3.0), (fake, 5.0))]
    assert fid(generated=wider[1], reference=wider[0]).raw == pytest.approx(expected + 4, rel=1e-8)


@pytest.mark.parametrize(("d", "spread", "gap"), [(1, 0.5, 0.0), (3, 2.0, 1.0), (40, 1.1, 0.3)])
def test_frechet_distance_of_known_moments(d, spread, gap):
    rng = np.random.default_rng(d)
    raw = rng.standard_normal((500, d))
    white = (raw - raw.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(raw.T).reshape(d, d))).T
    # Samples with exactly these moments: the plain number is the closed form.
    found = fid(generated=spread * white + gap, reference=white)
    assert found.raw == pytest.approx(d * gap**2 + d * (1 - spread) ** 2, rel=1e-8)
    scales = np.linspace(0.2, 2.0, d)
    found = fid(generated=scales * white + gap, reference=white)
    assert found.raw == pytest.approx(d * gap**2 + np.sum((1 - scales) ** 2), rel=1e-8)


@pytest.mark.parametrize("kind", ["plain", "line", "wide", "far from 0"])
def test_nearest_neighbour_labels(kind):
    real, fake, _ = _sets(kind)
    pool = np.concatenate([fake, real])
    apart = cdist(pool, pool)
    np.fill_diagonal(apart, np.inf)
    first = np.arange(len(pool)) < len(fake)
    same = first[apart.argmin(axis=1)] == first
    found = two_sample(generated=fake, test=real, rng=np.random.default_rng(0), permutations=19)
    assert found.neighbors.value == pytest.approx(same.mean(), abs=1e-12)
    assert found.neighbors_generated == pytest.approx(same[first].mean(), abs=1e-12)
    assert found.neighbors_test == pytest.approx(same[~first].mean(), abs=1e-12)


@pytest.mark.parametrize(("n", "m", "d"), [(90, 70, 1), (200, 150, 3), (60, 300, 40)])
def test_copies_against_held_out_data(n, m, d):
    rng = np.random.default_rng(n)
    real, fake, held_out = rng.standard_normal((n, d)), 0.9 * rng.standard_normal((m, d)), rng.standard_normal((80, d))
    copied = min(m // 4, n)
    fake[:copied] = real[:copied] + 0.01

    def cell(points):
        return np.digitize(points[:, 0], [-0.6, 0.7])

    total = weight = 0.0
    for which in range(3):
        parts = [a[cell(a) == which] for a in (real, fake, held_out)]
        near, far = cdist(parts[1], parts[0]).min(axis=1), cdist(parts[2], parts[0]).min(axis=1)
        size, other = len(near), len(far)
        wins = stats.mannwhitneyu(near, far).statistic
        z = (wins - size * other / 2 + 0.5) / math.sqrt(size * other * (size + other + 1) / 12)
        if size > 20:
            total, weight = total + other * z, weight + other
    found = data_copying(generated=fake, train=real, test=held_out, cells=cell, rng=np.random.default_rng(0))
    assert found.score.value == pytest.approx(total / weight, abs=1e-12)
    shares = copy_tests(generated=fake, train=real, test=held_out, rng=np.random.default_rng(0)).share
    assert shares.null.value == pytest.approx(n / (n + 80), abs=1e-12)


@pytest.mark.parametrize("bins", [2, 5, 40])
def test_precision_recall_curves_of_histograms(bins):
    rng = np.random.default_rng(bins)
    p, q = rng.dirichlet(np.full(bins, 0.7), 2)
    q[0] = 0
    q /= q.sum()
    precision, recall = prd_curve(1e3 * q, p)
    for i in range(0, 1001, 50):
        slope = math.tan(1e-10 + (math.pi / 2 - 2e-10) * i / 1000)
        expected = sum(min(slope * a, b) for a, b in zip(p, q, strict=True))
        assert precision[i] == pytest.approx(expected, abs=1e-12)
        assert recall[i] == pytest.approx(min(expected / slope, 1), abs=1e-12)
    for beta in (8.0, 1 / 8):
        best = max((1 + beta**2) * a * b / (beta**2 * a + b + 1e-10) for a, b in zip(precision, recall, strict=True))
        assert f_beta(precision, recall, beta) == pytest.approx(best, rel=1e-12)
    assert precision.max() == pytest.approx(1)
    assert recall.max() == pytest.approx(1 - p[0], abs=1e-9)


@pytest.mark.parametrize(("n", "m", "k"), [(20, 12, 3), (9, 60, 1), (40, 40, 7)])
def test_coverage_of_one_law_by_simulation(n, m, k):
    rng, runs = np.random.default_rng(n), 3000
    # The law does not matter: the plainest one.
    values = []
    for _ in range(runs):
        real, fake = rng.random((n, 1)), rng.random((m, 1))
        values.append((cdist(real, fake).min(axis=1) < _radii(real, k)).mean())
    assert coverage_null(n, m, k) == pytest.approx(np.mean(values), abs=4 * np.std(values) / math.sqrt(runs))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_published_example_of_ten_thousand_points():
    rng = np.random.default_rng(0)
    real, fake = (rng.standard_normal((10_000, 1000)) for _ in "ab")
    found = prdc(generated=fake, reference=real, k=5)
    # One unseeded draw was published, and one is here: their intervals touch.
    for score, published in zip(
        (found.precision, found.recall, found.density, found.coverage), (0.4772, 0.4705, 1.0555, 0.9735), strict=True
    ):
        assert abs(score.value - published) <= 2 * score.error
    assert found.precision.agrees(found.null.precision)
