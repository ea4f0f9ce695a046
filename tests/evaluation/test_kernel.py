"""Kernel distances: published digits, closed forms, the naive estimate as oracle, errors and nulls that hold."""

import numpy as np
import pytest

from divergences import InputError
from divergences.kernels import mmd
from evaluation.kernel import cmmd, kid, rbf_mmd
from tests.evaluation.rivals import rival

REAL = np.random.RandomState(0).standard_normal((200, 8))  # noqa: NPY002 (a frozen, published stream)
FAKE = np.random.RandomState(1).standard_normal((150, 8)) * 0.9 + 0.2  # noqa: NPY002


def naive(x, y, kernel):
    a, b, c = kernel(x, x), kernel(y, y), kernel(x, y)
    n, m = len(x), len(y)
    within = (a.sum() - np.trace(a)) / (n * (n - 1)) + (b.sum() - np.trace(b)) / (m * (m - 1))
    return within - 2 * c.mean(), a.mean() + b.mean() - 2 * c.mean()


def cubic(a, b):
    return (a @ b.T / a.shape[1] + 1) ** 3


def kid_truth(d, q):
    """Squared MMD of N(0, I) and N(μ, I), q = |μ|²."""
    a = q / d
    return (1 + a) ** 3 + 3 * (1 + a) * (2 * q + d) / d**2 + 6 * q / d**3 + 1 + 3 / d - 2 * (1 + 3 * (q + d) / d**2)


def test_published_digits():
    found = kid(generated=FAKE, reference=REAL)
    assert (found.value, found.raw) == pytest.approx((0.19983250450145595, 0.2759317609553307), rel=1e-12)
    wide = rbf_mmd(generated=FAKE, reference=REAL, bandwidths=10.0)
    assert (wide.value, wide.raw) == pytest.approx((0.004149743161477648, 0.004919346218341003), rel=1e-10)
    narrow = rbf_mmd(generated=FAKE, reference=REAL, bandwidths=2)
    assert (narrow.value, narrow.raw) == pytest.approx((0.026167046989999443, 0.035008511655418906), rel=1e-11)
    assert cmmd(generated=FAKE, reference=REAL).raw == pytest.approx(4.919346218341003, rel=1e-10)


def rbf_truth(d, q, h):
    """The same with the kernel exp(−|x−y|²/2h²)."""
    s = h * h
    return 2 * (s / (s + 2)) ** (d / 2) * (1 - np.exp(-q / (2 * (s + 2))))


@pytest.mark.parametrize("tile", [7, 64, 1000])
def test_tiles_give_the_whole_matrix(monkeypatch, tile):
    monkeypatch.setattr("evaluation.kernel._TILE", tile)
    rng = np.random.default_rng(0)
    found = kid(generated=FAKE, reference=REAL, rng=rng, permutations=19)
    assert (found.value, found.raw) == pytest.approx(naive(REAL, FAKE, cubic), rel=1e-12)
    # The relabelled scores, one by one.
    pool, again = np.concatenate([FAKE, REAL]), np.random.default_rng(0)
    for score in found.null.scores:
        order = again.permutation(350)
        first = np.zeros(350, dtype=bool)
        first[order[:150]] = True
        assert score == pytest.approx(naive(pool[first], pool[~first], cubic)[0], abs=1e-13)


def test_one_gaussian_kernel_is_the_mmd_of_the_ground_floor():
    ours, theirs = rbf_mmd(generated=FAKE, reference=REAL, bandwidths=3.0), mmd(REAL, FAKE, bandwidth=3.0)
    assert ours.value == pytest.approx(theirs.value, rel=1e-10)
    several = rbf_mmd(generated=FAKE, reference=REAL, bandwidths=[2.0, 3.0])
    alone = rbf_mmd(generated=FAKE, reference=REAL, bandwidths=2.0)
    assert several.value == pytest.approx((alone.value + ours.value) / 2, rel=1e-12)


def test_the_published_protocol_to_the_digit():
    draw = np.random.RandomState(2020)  # noqa: NPY002
    values = []
    for _ in range(10):
        mine, theirs = draw.choice(150, 50, replace=False), draw.choice(200, 50, replace=False)
        values.append(naive(FAKE[mine], REAL[theirs], cubic)[0])
    found = kid(generated=FAKE, reference=REAL, subsets=(10, 50))
    assert (found.value, found.spread) == pytest.approx((np.mean(values), np.std(values)), rel=1e-12)
    # What tables print after "±" says nothing about n; the error does.
    assert found.interval[0] < kid(generated=FAKE, reference=REAL).value < found.interval[1]
    assert found.to_dict()["spread"] == found.spread


def test_equals_torch_fidelity_on_the_same_features():
    module = rival("torch_fidelity.metric_kid")
    import torch

    features = torch.from_numpy(FAKE), torch.from_numpy(REAL)
    other = module.kid_features_to_metric(*features, kid_subsets=20, kid_subset_size=100, rng_seed=2020, verbose=False)
    found = kid(generated=FAKE, reference=REAL, subsets=(20, 100))
    expected = other["kernel_inception_distance_mean"], other["kernel_inception_distance_std"]
    assert (found.value, found.spread) == pytest.approx(expected, rel=1e-10)


def covered(statistic, truth, make, trials=100):
    """Share of intervals that hold the truth, and bias in standard deviations."""
    found = [statistic(*make()) for _ in range(trials)]
    values = np.array([estimate.value for estimate in found])
    return np.mean([estimate.agrees(truth) for estimate in found]), (values.mean() - truth) / values.std()


def shifted(rng, n, m, d, shift):
    def make():
        x, y = rng.standard_normal((n, d)), rng.standard_normal((m, d))
        y[:, 0] += shift
        return x, y

    return make


@pytest.mark.parametrize("shift", [0.0, 0.2, 1.0])
def test_intervals_cover_near_and_far_from_equality(shift):
    make = shifted(np.random.default_rng(1), 100, 150, 8, shift)
    share, bias = covered(lambda x, y: kid(generated=y, reference=x), kid_truth(8, shift**2), make)
    # 100 trials at 95 %: below 0.88 with probability 0.4 %.
    assert share >= 0.88
    assert abs(bias) < 0.4


def test_a_kernel_that_sees_only_close_pairs_still_covers():
    """In 32 dimensions at bandwidth 2 few pairs count, and Σ has a long spectrum."""
    make = shifted(np.random.default_rng(3), 200, 200, 32, 1.0)
    share, bias = covered(
        lambda x, y: rbf_mmd(generated=y, reference=x, bandwidths=2.0), rbf_truth(32, 1.0, 2.0), make, 100
    )
    # 100 trials at 95 %: below 0.88 with probability 0.4 %.
    assert share >= 0.88
    assert abs(bias) < 0.4


def test_the_interval_of_subsets_covers_too():
    make = shifted(np.random.default_rng(2), 150, 150, 4, 0.7)
    share, bias = covered(lambda x, y: kid(generated=y, reference=x, subsets=(5, 60)), kid_truth(4, 0.49), make, 60)
    # 60 trials at 95 %: below 0.85 with probability 0.3 %.
    assert share >= 0.85
    assert abs(bias) < 0.55


@pytest.mark.slow
@pytest.mark.parametrize(("d", "n", "m"), [(2, 100, 100), (8, 100, 200), (32, 200, 200)])
@pytest.mark.parametrize("shift", [0.0, 0.1, 0.2, 0.5, 1.0])
def test_coverage_at_length(d, n, m, shift):
    for statistic, truth in (
        (lambda x, y: kid(generated=y, reference=x), kid_truth(d, shift**2)),
        (lambda x, y: rbf_mmd(generated=y, reference=x, bandwidths=2.0), rbf_truth(d, shift**2, 2.0)),
    ):
        share, bias = covered(statistic, truth, shifted(np.random.default_rng(3), n, m, d, shift), 1000)
        # The bar is 0.93 to 0.97, up to two standard errors of 1000 trials.
        assert 0.93 - 0.016 <= share <= 0.97 + 0.011
        assert abs(bias) <= 0.1 + 2 / np.sqrt(1000)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_null_has_its_level_in_two_thousand_tests():
    rng, p_values = np.random.default_rng(5), []
    for _ in range(2000):
        x, y = rng.standard_t(3, size=(12, 2)), rng.standard_t(3, size=(15, 2))
        found = [f(generated=y, reference=x, rng=rng, permutations=19).null.p_value for f in (kid, rbf_mmd, cmmd)]
        p_values.append(found)
    for level in (0.05, 0.25, 0.5):
        rate = np.mean(np.array(p_values) <= level + 1e-12, axis=0)
        # Exact: three standard errors of 2000 tests either way.
        assert rate == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / 2000))


def test_closed_form_of_the_gaussian_kernel():
    assert rbf_truth(8, 1.0, 2.0) == pytest.approx(0.031587391751378445, rel=1e-13)
    assert kid_truth(8, 1.0) == pytest.approx(0.494140625, rel=1e-13)
    rng = np.random.default_rng(6)
    x, y = rng.standard_normal((2, 1500, 8))
    y[:, 0] += 1
    assert rbf_mmd(generated=y, reference=x, bandwidths=2.0).agrees(0.031587391751378445)
    assert kid(generated=y, reference=x).agrees(0.494140625)


def test_samples_mapped_from_disk_are_never_copied_as_a_whole(tmp_path, monkeypatch):
    import tracemalloc

    monkeypatch.setattr("evaluation.kernel._TILE", 256)
    rng, maps = np.random.default_rng(7), []
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", rng.standard_normal((1200, 2048), dtype=np.float32))
        maps.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    expected = kid(generated=np.array(maps[0]), reference=np.array(maps[1]))
    tracemalloc.start()
    found = kid(generated=maps[0], reference=maps[1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.value == expected.value
    # One of the two in float64 would be 20 MB; before the sweep a look at their size takes blocks of 16 MB.
    assert peak < 40e6


def test_the_null_has_its_level_and_the_defect_its_p_value():
    rng = np.random.default_rng(4)
    p_values = [
        kid(generated=rng.standard_normal((30, 3)), reference=rng.standard_normal((40, 3)), rng=rng, permutations=19)
        for _ in range(200)
    ]
    rejected = np.mean([found.null.p_value <= 0.05 for found in p_values])
    # Exactly 5 %: above 0.10 with probability 0.2 %.
    assert rejected <= 0.10
    assert rejected > 0
    found = rbf_mmd(generated=1.4 * REAL[:100], reference=REAL[100:], rng=rng)
    assert found.null.p_value == 0.005
    assert found.interval[0] > 0


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: kid(generated=[[1.0, np.nan]] * 5, reference=REAL), "generated="),
        (lambda: kid(generated=FAKE, reference=REAL[:3]), "reference="),
        (lambda: kid(generated=FAKE[:, :5], reference=REAL), "generated=.*5.*8"),
        (lambda: kid(generated=FAKE, reference=REAL, subsets=(100, 1000)), "150 generated"),
        (lambda: kid(generated=FAKE, reference=REAL, subsets=100), "subsets="),
        (lambda: kid(generated=FAKE, reference=REAL, subsets=(0, 10)), "subsets="),
        (lambda: kid(generated=FAKE, reference=REAL, subsets=(2, 9), rng=np.random.default_rng(0)), "subsets="),
        (lambda: kid(generated=FAKE, reference=REAL, rng=0), "rng="),
        (lambda: kid(generated=FAKE * 1e60, reference=REAL), "overflows"),
        (lambda: rbf_mmd(generated=FAKE, reference=REAL, bandwidths=[1.0, 0.0]), "bandwidths="),
        (lambda: rbf_mmd(generated=FAKE, reference=REAL, bandwidths=[]), "bandwidths="),
        (lambda: cmmd(generated=FAKE, reference=REAL, bandwidth=-1), "bandwidth="),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_bad_input(call, word):
    with pytest.raises(InputError, match=word):
        call()
