"""k-NN divergences: against a naive twin, at ties, at their limits, and their coverage by simulation."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist
from scipy.special import digamma

from divergences import Gaussian, jsd
from divergences.errors import InputError, UnderResolved
from divergences.from_samples import knn_jsd, knn_kl
from divergences.nearest import _Distances, _jsd, _kl
from tests.divergences.test_from_samples import check_coverage, covers, gaussians

RNG = np.random.default_rng
LOG2 = np.log(2)


def kl_of_gaussians(d, shift, scale):
    return d * np.log(scale) + (d + shift**2) / (2 * scale**2) - d / 2


def jsd_of_gaussians(d, shift, scale):
    """On the line by quadrature; a shift is one-dimensional in any d, and other scales are radial."""
    if d == 1 or scale == 1:
        return jsd(Gaussian(0.0, 1.0), Gaussian(shift, scale**2)).value
    r = np.linspace(1e-9, 14 * scale, 200_001)
    p, q = stats.chi.pdf(r, d), stats.chi.pdf(r / scale, d) / scale
    ratio = stats.chi.logpdf(r, d) - stats.chi.logpdf(r / scale, d) + np.log(scale)
    integrand = 0.5 * p * (LOG2 - np.logaddexp(0, -ratio)) + 0.5 * q * (LOG2 - np.logaddexp(0, ratio))
    return np.trapezoid(integrand, r)


def naive_kl(x, y, k):
    own, cross = np.sort(cdist(x, x), axis=1)[:, k], np.sort(cdist(x, y), axis=1)[:, k - 1]
    return x.shape[1] * np.mean(np.log(cross / own)) + np.log(len(y) / (len(x) - 1))


def naive_jsd(x, y, k):
    """Ross's mutual information between label and place, for equal sizes."""
    total = 0.0
    for own, other in ((x, y), (y, x)):
        radius = np.sort(cdist(own, own), axis=1)[:, k]
        count = (cdist(own, other) <= radius[:, None]).sum(axis=1)
        total += np.mean(LOG2 + digamma(k) - digamma(k + count))
    return total / 2


@pytest.mark.parametrize(("n", "m"), [(60, 60), (45, 70)])
def test_kl_and_its_jackknife_are_the_naive_ones(n, m):
    x, y = gaussians(RNG(0), n, m, 2, 0.7, 1.2)
    k = 3
    assert knn_kl(x, y, k=k).raw == pytest.approx(naive_kl(x, y, k), rel=1e-12)
    found = _kl(_Distances.of(x, y, k), k, 2)
    np.testing.assert_allclose(found.without_x, [naive_kl(np.delete(x, i, 0), y, k) for i in range(n)], rtol=1e-10)
    np.testing.assert_allclose(found.without_y, [naive_kl(x, np.delete(y, j, 0), k) for j in range(m)], rtol=1e-10)


def test_jsd_and_its_jackknife_are_the_naive_ones():
    x, y = gaussians(RNG(1), 50, 50, 2, 0.7, 1.2)
    k = 3
    assert knn_jsd(x, y, k=k).raw == pytest.approx(naive_jsd(x, y, k), rel=1e-12)
    found = _jsd(x, y, k)
    # Removing a point without a change of the sizes that the formula is told.
    for j in (0, 17, 49):
        other = _jsd(np.delete(x, j, 0), y, k)
        assert found.without_x[j] == pytest.approx(other.value, abs=5e-3)
        assert found.without_y[j] == pytest.approx(_jsd(x, np.delete(y, j, 0), k).value, abs=5e-3)


def test_unequal_sizes_are_not_biased():
    # In a flat density the estimate of JSD is unbiased whatever the sizes: here both laws are uniform on a circle.
    rng = RNG(2)
    values = []
    for _ in range(60):
        angle_x, angle_y = rng.uniform(0, 2 * np.pi, 100), rng.uniform(0, 2 * np.pi, 300)
        x, y = (np.c_[np.cos(t), np.sin(t)] for t in (angle_x, angle_y))
        values.append(knn_jsd(x, y).raw)
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(60) + 2e-4


def test_ties_never_give_infinities():
    x, y = gaussians(RNG(3), 200, 200, 1, 1.0, 1.0)
    clean = knn_kl(x, y)
    # Few copies, within and across: handled.
    copied = x.copy()
    copied[:7] = x[0]
    mixed = y.copy()
    mixed[:7] = x[0]
    for a, b in ((copied, y), (x, mixed), (copied, mixed)):
        result = knn_kl(a, b)
        assert np.isfinite(result.interval).all()
        assert clean.agrees(result.value)
        assert "tied" in result.note
        assert np.isfinite(knn_jsd(a, b).interval).all()
    # A rounded sample, a law of atoms: refused, with the number.
    for a, b in ((np.round(x, 1), np.round(y, 1)), (np.sign(x), np.sign(y))):
        with pytest.raises(UnderResolved, match="repeat points") as caught:
            knn_kl(a, b)
        assert np.isfinite(caught.value.estimate.value)
    with pytest.raises(InputError, match="all points"):
        knn_kl(np.zeros(30), y)


def test_a_copy_of_the_sample_and_k_1():
    x = RNG(4).normal(size=(100, 2))
    with pytest.raises(UnderResolved, match="repeat points") as caught:
        knn_kl(x, x, k=1)
    assert np.isfinite(caught.value.estimate.interval).all()


def test_jsd_of_atoms_is_that_of_their_masses():
    rng = RNG(5)
    x, y = rng.choice(3, size=2000, p=[0.5, 0.25, 0.25]), rng.choice(3, size=2000, p=[0.25, 0.25, 0.5])
    assert knn_jsd(x, y).value == pytest.approx(0.0424747592, abs=0.02)


def test_jsd_of_disjoint_samples():
    x = RNG(6).normal(size=(400, 2))
    result = knn_jsd(x, x + 100)
    assert result.value == pytest.approx(LOG2)
    low, high = result.interval
    assert 0.01 > LOG2 - low > 1 / 400
    assert high == pytest.approx(LOG2)


def test_kl_that_cannot_be_seen_is_refused():
    x, y = gaussians(RNG(7), 1000, 1000, 1, 4.0, 1.0)
    with pytest.raises(UnderResolved, match="saturates") as caught:
        knn_kl(x, y)
    assert 4 < caught.value.estimate.value < 8
    for f in (knn_kl, knn_jsd):
        with pytest.raises(UnderResolved, match="in 8 dimensions"):
            f(RNG(8).normal(size=(200, 8)), RNG(9).normal(size=(200, 8)))


def test_location_and_scale_do_not_matter():
    x, y = gaussians(RNG(10), 80, 90, 2, 1.0, 1.0)
    for f in (knn_kl, knn_jsd):
        assert f(1e-3 * x + 5, 1e-3 * y + 5).value == pytest.approx(f(x, y).value, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: knn_kl(np.arange(5.0), np.arange(50.0)), "x has 5 points; k = 5 neighbours need at least 22"),
        (lambda: knn_kl(np.arange(50.0), np.arange(5.0)), "y has 5 points"),
        (lambda: knn_kl(np.arange(50.0), np.arange(50.0), k=0), "k must be at least 1"),
        (lambda: knn_jsd(np.arange(50.0), np.arange(50.0), k=1), "k must be at least 2"),
        (lambda: knn_jsd(np.arange(500.0), np.arange(50.0)), "fourfold"),
        (lambda: knn_jsd([np.inf] * 50, np.arange(50.0)), "infinite"),
    ],
)
def test_misuse_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


PAIRS = [(0.0, 1.0), (1.0, 1.0), (3**0.5, 1.0), (0.0, 1.8), (0.0, 0.7)]
SLOW = [(500, 500, 1), (500, 1000, 2), (1000, 500, 3), (500, 500, 3)]


def kl_coverage(runs, n, m, d, shift, scale):
    rng, truth, hits = RNG(11), kl_of_gaussians(d, shift, scale), []
    for _ in range(runs):
        try:
            hits.append(covers(knn_kl(*gaussians(rng, n, m, d, shift, scale)), truth))
        except UnderResolved:
            # Inside the regime a refusal must be rare: it counts as a miss.
            hits.append(False)
    return hits


@pytest.mark.parametrize(("shift", "scale"), PAIRS)
def test_kl_coverage(shift, scale):
    check_coverage(kl_coverage(50, 500, 500, 2, shift, scale), low=0.95)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m", "d"), SLOW)
@pytest.mark.parametrize(("shift", "scale"), PAIRS)
def test_kl_coverage_slow(n, m, d, shift, scale):
    check_coverage(kl_coverage(1000, n, m, d, shift, scale), low=0.95)


def jsd_coverage(runs, n, m, d, shift, scale):
    rng, truth = RNG(12), jsd_of_gaussians(d, shift, scale)
    return [covers(knn_jsd(*gaussians(rng, n, m, d, shift, scale)), truth) for _ in range(runs)]


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (1.0, 1.0), (0.0, 1.8), (4.0, 1.0)])
def test_jsd_coverage(shift, scale):
    check_coverage(jsd_coverage(40, 300, 300, 2, shift, scale), low=0.93)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m", "d"), [(300, 300, 1), (600, 300, 3), (300, 300, 3)])
@pytest.mark.parametrize(("shift", "scale"), [*PAIRS, (2.0, 1.0), (4.0, 1.0)])
def test_jsd_coverage_slow(n, m, d, shift, scale):
    check_coverage(jsd_coverage(1000, n, m, d, shift, scale), low=0.93)
