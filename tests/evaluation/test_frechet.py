"""FID: parity with the field's formula, closed forms, bias gone, and intervals that cover."""

import numpy as np
import pytest
import scipy.linalg

from divergences import InputError
from evaluation.frechet import Moments, fid

REAL = np.random.RandomState(0).standard_normal((200, 8))  # noqa: NPY002 (a frozen, published stream)
FAKE = np.random.RandomState(1).standard_normal((150, 8)) * 0.9 + 0.2  # noqa: NPY002


def by_sqrtm(x, y):
    """The field's formula, as the reference implementations have it."""
    gap, s, t = x.mean(axis=0) - y.mean(axis=0), np.cov(x.T), np.cov(y.T)
    return gap @ gap + np.trace(s) + np.trace(t) - 2 * np.trace(scipy.linalg.sqrtm(s @ t).real)


def truth(mean, factor):
    """FID between N(0, I) and N(mean, F Fᵀ)."""
    covariance = factor @ factor.T
    return mean @ mean + len(mean) + np.trace(covariance) - 2 * np.sqrt(np.linalg.eigvalsh(covariance)).sum()


def simulate(d, n, m, trials, *, other, law=None, samples=True, seed=0):
    """Values, and the share of intervals that hold the truth."""
    rng = np.random.default_rng(seed)
    law = law or (lambda shape: rng.standard_normal(shape))
    factor = np.eye(d) + (0.5 / np.sqrt(d)) * np.random.default_rng(1).standard_normal((d, d)) if other else np.eye(d)
    mean = np.full(d, 0.2 if other else 0.0)
    target = truth(mean, factor)
    estimates = []
    for _ in range(trials):
        x, y = law((n, d)), law((m, d)) @ factor.T + mean
        if not samples:
            x, y = (Moments(a.mean(axis=0), np.cov(a.T), len(a)) for a in (x, y))
        estimates.append(fid(generated=y, reference=x))
    values = np.array([e.value for e in estimates])
    raw = np.array([e.raw for e in estimates])
    return values - target, raw - target, np.mean([e.agrees(target) for e in estimates])


def test_reference_value():
    assert fid(generated=FAKE, reference=REAL).raw == pytest.approx(0.78605009019903, rel=1e-8)


@pytest.mark.parametrize(("d", "n"), [(2, 40), (8, 60), (30, 400)])
def test_raw_is_the_fields_formula(d, n):
    rng = np.random.default_rng(d)
    x, y = rng.standard_normal((n, d)) @ rng.standard_normal((d, d)), rng.standard_normal((n + 7, d)) + 0.3
    assert fid(generated=y, reference=x).raw == pytest.approx(by_sqrtm(x, y), rel=1e-8)


def test_fewer_samples_than_dimensions_is_exact_too():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 40)), rng.standard_normal((300, 40)) * 1.5
    short = fid(generated=y, reference=x)
    # The same covariances without the samples take the other route, through eigenvectors.
    by_moments = fid(
        generated=Moments(y.mean(axis=0), np.cov(y.T), 300), reference=Moments(x.mean(axis=0), np.cov(x.T), 12)
    )
    assert short.raw == pytest.approx(by_moments.raw, rel=1e-10)
    nuclear = np.linalg.norm((x - x.mean(0)) @ (y - y.mean(0)).T, "nuc") / np.sqrt(11 * 299)
    gap = x.mean(0) - y.mean(0)
    expected = gap @ gap + np.trace(np.cov(x.T)) + np.trace(np.cov(y.T)) - 2 * nuclear
    assert short.raw == pytest.approx(expected, rel=1e-10)


def test_closed_forms():
    eye = np.eye(512)
    shifted = fid(generated=Moments(np.ones(512), eye, 10**9), reference=Moments(np.zeros(512), eye, 10**9))
    assert shifted.raw == pytest.approx(512, rel=1e-12)
    a, b = np.diag([1.0, 4.0, 9.0]), np.diag([4.0, 4.0, 0.0])
    zero = np.zeros(3)
    assert fid(generated=Moments(zero, a, 10**9), reference=Moments(zero, b, 10**9)).raw == pytest.approx(1 + 0 + 9)


def test_constant_features_and_equal_sets():
    rng = np.random.default_rng(1)
    x = np.column_stack([rng.standard_normal((300, 4)), np.full(300, 7.0)])
    y = np.column_stack([rng.standard_normal((300, 4)), np.full(300, 7.0)])
    assert fid(generated=y, reference=x).agrees(0.0)
    y[:, 4] += rng.standard_normal(300)
    assert fid(generated=y, reference=x).agrees(1.0)
    assert fid(generated=x, reference=x).raw == pytest.approx(0.0, abs=1e-12)
    assert fid(generated=np.zeros((20, 2)), reference=np.zeros((20, 2))).value == 0.0


def test_symmetric_in_its_arguments():
    one, other = fid(generated=FAKE, reference=REAL), fid(generated=REAL, reference=FAKE)
    assert one.value == pytest.approx(other.value, rel=1e-9)
    assert one.error == pytest.approx(other.error, rel=1e-9)


def test_planted_shift_is_seen_and_its_absence_too():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((2, 500, 10))
    assert fid(generated=y, reference=x).agrees(0.0)
    shifted = fid(generated=y + 0.3, reference=x)
    assert shifted.agrees(0.9)
    assert shifted.interval[0] > 0.3


@pytest.mark.parametrize("other", [False, True], ids=["equal laws", "different laws"])
@pytest.mark.parametrize(("d", "n", "m"), [(2, 100, 300), (8, 60, 200), (24, 75, 150)])
def test_bias_is_gone_and_intervals_cover(d, n, m, other):
    values, raw, covered = simulate(d, n, m, 120, other=other)
    standard_error = values.std() / np.sqrt(120)
    assert abs(values.mean()) < 4 * standard_error + 0.03 * raw.mean()
    assert raw.mean() > 8 * abs(values.mean()) or d == 2
    # 120 trials at 95 %: below 0.89 with probability 0.4 %.
    assert covered >= 0.89


def test_statistics_without_samples_cover_too():
    for other in (False, True):
        assert simulate(16, 80, 80, 80, other=other, samples=False)[2] >= 0.89


def test_heavy_tails_are_debiased_by_their_own_fourth_moments():
    rng = np.random.default_rng(3)

    def laplace(shape):
        return rng.laplace(size=shape) / np.sqrt(2)

    values, raw, covered = simulate(12, 200, 200, 120, other=True, law=laplace)
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(120) + 0.05 * raw.mean()
    assert covered >= 0.89


@pytest.mark.parametrize("n", [10, 40])
def test_too_few_samples_say_so_and_still_cover(n):
    for other in (False, True):
        assert simulate(20, n, n, 40, other=other)[2] >= 0.89
    note = fid(generated=REAL[:9], reference=REAL[100:]).note
    assert "fewer than 3 per dimension" in note
    assert "24 samples" in note


@pytest.mark.slow
@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize(
    ("d", "n", "m"), [(1, 500, 500), (4, 200, 200), (32, 200, 200), (64, 200, 400), (128, 768, 768)]
)
def test_coverage_at_length(d, n, m, other):
    values, raw, covered = simulate(d, n, m, 400 if d < 64 else 100, other=other)
    assert covered >= 0.91
    assert abs(values.mean()) < 4 * values.std() / 10 + 0.03 * raw.mean()


def test_moments_merge():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((100, 5)) * 3 + 100
    parts = [Moments.of(part) for part in np.split(x, [2, 30, 55])]
    merged = parts[0].merge(parts[1]).merge(parts[2]).merge(parts[3])
    np.testing.assert_allclose(merged.mean, x.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(merged.covariance, np.cov(x.T), rtol=1e-10, atol=1e-12)
    assert merged.n == 100
    y = rng.standard_normal((80, 5)) + 100
    assert fid(generated=merged, reference=y).value == pytest.approx(fid(generated=x, reference=y).value, rel=1e-9)
    bare = parts[0].merge(Moments(np.zeros(5), np.eye(5), 10))
    assert bare.samples is None


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: fid(generated=[[1.0, np.nan]] * 3, reference=REAL), "generated="),
        (lambda: fid(generated=FAKE[:1], reference=REAL), "generated="),
        (lambda: fid(generated=FAKE, reference=np.empty((0, 8))), "reference="),
        (lambda: fid(generated=FAKE[:, :5], reference=REAL), "generated=.*5.*8"),
        (lambda: fid(generated=np.ones((3, 4, 4)), reference=REAL), "generated="),
        (lambda: fid(generated=[["a"]], reference=REAL), "generated="),
        (lambda: Moments(np.zeros(2), np.eye(3), 5), "covariance"),
        (lambda: Moments(np.zeros(2), np.array([[1.0, 2.0], [0.0, 1.0]]), 5), "symmetric"),
        (lambda: Moments(np.array([np.nan, 0.0]), np.eye(2), 5), "finite"),
        (lambda: Moments(np.zeros(2), np.eye(2), 1), "n must"),
        (lambda: Moments(np.zeros(2), np.eye(2), 5, np.zeros((4, 2))), "samples"),
        (lambda: fid(generated=Moments(np.zeros(2), -np.eye(2), 50), reference=REAL[:, :2]), "semi-definite"),
        (lambda: Moments.of(REAL).merge(Moments.of(REAL[:, :3])), "merge"),
    ],
)
def test_bad_input(call, word):
    with pytest.raises(InputError, match=word):
        call()
