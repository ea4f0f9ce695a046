"""FID: parity with the field's formula, closed forms, bias gone, and intervals that cover."""

import warnings

import numpy as np
import pytest
import scipy.linalg

from divergences import InputError
from evaluation import bures
from evaluation.bures import Pair, _root_of_weights, _sums_of_weights
from evaluation.frechet import Moments, class_fid, fid, fid_influence
from tests.evaluation.rivals import rival

REAL = np.random.RandomState(0).standard_normal((200, 8))  # noqa: NPY002 (a frozen, published stream)
FAKE = np.random.RandomState(1).standard_normal((150, 8)) * 0.9 + 0.2  # noqa: NPY002


def _classes(generated, mine, theirs):
    return class_fid(generated=generated, generated_labels=mine, reference=REAL, reference_labels=theirs)


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


def test_number_of_dimensions_for_unit_gaps():
    eye = np.eye(2048)
    one, other = Moments(np.zeros(2048), eye, 10**6), Moments(np.ones(2048), eye, 10**6)
    assert Pair(one, other).raw == pytest.approx(2048, rel=1e-12)


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
    values, raw, covered = simulate(d, n, m, 80, other=other)
    standard_error = values.std() / np.sqrt(80)
    assert abs(values.mean()) < 4 * standard_error + 0.03 * raw.mean()
    assert raw.mean() > 8 * abs(values.mean()) or d == 2
    # 80 trials at 95 %: below 0.875 with probability 0.3 %.
    assert covered >= 0.875


def test_statistics_without_samples_cover_too():
    for other in (False, True):
        assert simulate(16, 80, 80, 80, other=other, samples=False)[2] >= 0.89


def test_heavy_tails_are_debiased_by_their_own_fourth_moments():
    rng = np.random.default_rng(3)

    def laplace(shape):
        return rng.laplace(size=shape) / np.sqrt(2)

    values, raw, covered = simulate(12, 200, 200, 60, other=True, law=laplace)
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(60) + 0.05 * raw.mean()
    # 60 trials at 95 %: below 0.85 with probability 0.3 %.
    assert covered >= 0.85


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


def test_both_ways_to_the_trace_agree(monkeypatch):
    rng = np.random.default_rng(7)
    x = rng.standard_normal((90, 12)) @ rng.standard_normal((12, 12))
    y = rng.standard_normal((70, 12)) @ np.diag(np.geomspace(1, 1e-3, 12)) + 0.1
    bare = [Moments(a.mean(axis=0), np.cov(a.T), len(a)) for a in (x, y)]
    quick = [fid(generated=y, reference=x), fid(generated=bare[1], reference=bare[0])]
    psi = fid_influence(generated=y, reference=x)
    monkeypatch.setattr(bures, "_by_cholesky", lambda p, q: None)
    for one, other in zip(
        quick, [fid(generated=y, reference=x), fid(generated=bare[1], reference=bare[0])], strict=True
    ):
        assert one.raw == pytest.approx(other.raw, rel=1e-11)
        assert one.value == pytest.approx(other.value, rel=1e-9)
        assert one.interval == pytest.approx(other.interval, rel=1e-8)
    np.testing.assert_allclose(psi, fid_influence(generated=y, reference=x), rtol=1e-7, atol=1e-9)


def test_the_quick_way_is_left_where_digits_would_go():
    rng = np.random.default_rng(8)
    flat = np.diag(np.geomspace(1, 1e-9, 6))
    x, y = rng.standard_normal((300, 6)) @ flat, rng.standard_normal((300, 6)) @ flat
    assert bures._by_cholesky(Moments.of(x), Moments.of(y)) is None
    left, right = (np.linalg.qr(a - a.mean(0))[1].T / np.sqrt(299) for a in (x, y))
    root = np.linalg.svd(left.T @ right)[1].sum()
    gap = x.mean(0) - y.mean(0)
    expected = gap @ gap + np.trace(np.cov(x.T)) + np.trace(np.cov(y.T)) - 2 * root
    assert fid(generated=y, reference=x).raw == pytest.approx(expected, rel=1e-8)


def test_influence_is_what_leaving_a_sample_out_does():
    rng = np.random.default_rng(9)
    x, y = rng.standard_normal((400, 4)), 1.3 * rng.standard_normal((300, 4)) + 0.2
    y[5] = 6.0
    psi = fid_influence(generated=y, reference=x)
    whole = fid(generated=y, reference=x).raw
    for i in (5, 17, 40):
        without = fid(generated=np.delete(y, i, axis=0), reference=x).raw
        assert whole - without == pytest.approx(psi[i] / 299, rel=0.1, abs=2e-5)
    assert np.argmax(psi) == 5
    assert abs(psi.mean()) < 1e-12
    assert psi.std(ddof=1) ** 2 / 300 == pytest.approx(Pair(Moments.of(x), Moments.of(y)).generated.first_order)


def test_classes_that_are_mixed_up_show_only_class_by_class():
    rng = np.random.default_rng(10)
    labels = np.repeat(["cat", "dog"], 400)
    x, y = rng.standard_normal((2, 800, 2)) + 5 * (labels == "dog")[:, None]
    good = class_fid(generated=y, generated_labels=labels, reference=x, reference_labels=labels)
    assert list(good.classes) == ["cat", "dog"]
    assert good.mean.agrees(0.0)
    assert good.mean.value == pytest.approx(sum(part.value for part in good.classes.values()) / 2)
    assert good.mean.error < max(part.error for part in good.classes.values())
    swapped = class_fid(generated=y[::-1], generated_labels=labels, reference=x, reference_labels=labels)
    assert swapped.mean.agrees(50.0)
    assert fid(generated=y[::-1], reference=x).agrees(0.0)


def test_the_mean_over_classes_covers():
    rng, labels, held = np.random.default_rng(11), np.repeat(np.arange(4), 60), []
    for _ in range(40):
        x, y = rng.standard_normal((240, 3)), rng.standard_normal((240, 3)) + 0.5
        found = class_fid(generated=y, generated_labels=labels, reference=x, reference_labels=labels)
        held.append(found.mean.agrees(0.75))
    # 40 trials at 95 %: below 0.85 with probability 0.3 %.
    assert np.mean(held) >= 0.85


def infinity(x, y, rng):
    """FID-infinity: plain distances of 15 sizes, a line in 1/n, its value at 0."""
    n = len(x)
    sizes, plain = np.linspace(max(n // 10, x.shape[1] + 2), n, 15).astype(int), []
    for size in sizes:
        one, other = (a[rng.choice(n, size, replace=False)] for a in (x, y))
        plain.append(Pair(Moments.of(one), Moments.of(other)).raw)
    return np.polyfit(1 / sizes, plain, 1)[1]


def test_beats_the_extrapolation_from_subsets():
    rng, d, n = np.random.default_rng(12), 16, 240
    target = d * 0.01 + d * 0.01
    ours, theirs = [], []
    for _ in range(25):
        x, y = rng.standard_normal((n, d)), 1.1 * rng.standard_normal((n, d)) + 0.1
        ours.append(fid(generated=y, reference=x).value)
        theirs.append(infinity(x, y, rng))
    ours_rmse, theirs_rmse = (np.sqrt(np.mean((np.array(v) - target) ** 2)) for v in (ours, theirs))
    assert ours_rmse < theirs_rmse


@pytest.mark.parametrize("package", ["pytorch_fid.fid_score", "torch_fidelity.metric_fid", "cleanfid.fid"])
def test_equals_the_packages_on_the_same_features(package):
    module = rival(package)
    rng = np.random.default_rng(13)
    x, y = rng.standard_normal((300, 20)) @ rng.standard_normal((20, 20)), rng.standard_normal((250, 20)) + 0.3
    first, second = (x.mean(axis=0), np.cov(x.T)), (y.mean(axis=0), np.cov(y.T))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if package.startswith("pytorch_fid"):
            other = module.calculate_frechet_distance(*first, *second)
        elif package.startswith("cleanfid"):
            other = module.frechet_distance(*first, *second)
        else:
            stats = [dict(zip(("mu", "sigma"), part, strict=True)) for part in (first, second)]
            other = next(iter(module.fid_statistics_to_metric(*stats, verbose=False).values()))
    assert fid(generated=y, reference=x).raw == pytest.approx(float(other), rel=1e-8)


def student(rng, shape):
    """Each coordinate by itself: the eighth moments that the error of an error needs do not exist."""
    return rng.standard_t(5, size=shape) / np.sqrt(5 / 3)


def together(rng, shape):
    """Multivariate t₅: all coordinates of a sample share one scale, and are large at once."""
    return rng.standard_normal(shape) / np.sqrt(rng.chisquare(5, size=(shape[0], 1)) / 3)


def gauss(rng, shape):
    return rng.standard_normal(shape)


# Covariance factors of the reference and of the generated samples, and the gap of the means.
REGIMES = {
    "equal": lambda d: (np.eye(d), np.eye(d), 0.0),
    "nearly": lambda d: (np.eye(d), 1.05 * np.eye(d), 0.05),
    "shift": lambda d: (np.eye(d), np.eye(d), 0.5),
    "spread": lambda d: (np.eye(d), 1.5 * np.eye(d), 0.0),
    "both": lambda d: (np.eye(d), 1.3 * np.eye(d), 0.3),
    "turned": lambda d: (
        _narrow(d),
        np.linalg.qr(np.random.default_rng(d).standard_normal((d, d)))[0] @ _narrow(d),
        0.0,
    ),
}


def _narrow(d):
    return np.diag(np.geomspace(1, 0.2, d))


def target_of(name, d):
    """By the square root of one covariance, as a formula of textbooks has it."""
    first, second, gap = REGIMES[name](d)
    root = scipy.linalg.sqrtm(first @ first.T).real
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ second @ second.T @ root), 0, None)).sum()
    return d * gap**2 + np.sum(first**2) + np.sum(second**2) - 2 * cross


def regime(law, d, n, name, trials, seed):
    """Share of intervals that hold the truth; bias in reported and in true standard errors; the latter's own error."""
    rng, (first, second, gap) = np.random.default_rng(seed), REGIMES[name](d)
    target = target_of(name, d)
    found = [
        fid(generated=law(rng, (n, d)) @ second.T + gap, reference=law(rng, (n, d)) @ first.T) for _ in range(trials)
    ]
    values = np.array([estimate.value for estimate in found])
    reported = np.mean([estimate.error for estimate in found]) / 1.96
    held = np.mean([estimate.agrees(target) for estimate in found])
    bias = values.mean() - target
    return held, bias / reported, bias / values.std(), 1 / np.sqrt(trials)


@pytest.mark.parametrize("law", [gauss, student, together])
@pytest.mark.parametrize("name", ["equal", "shift", "both", "turned"])
def test_fifteen_samples_per_dimension_suffice(law, name):
    held, bias, _, blur = regime(law, 4, 60, name, 100, 14)
    # 100 trials at 95 %: below 0.88 with probability 0.4 %.
    assert held >= 0.88
    assert abs(bias) < 0.1 + 4 * blur


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("law", [gauss, student, together])
@pytest.mark.parametrize("name", list(REGIMES))
@pytest.mark.parametrize(("d", "n"), [(1, 15), (1, 100), (2, 30), (2, 500), (8, 120), (8, 500), (32, 480)])
def test_coverage_in_two_thousand_simulations(law, name, d, n):
    if d == 1 and (law is together or name == "turned"):
        pytest.skip("one coordinate is a coordinate by itself")
    held, reported, true, blur = regime(law, d, n, name, 2000, 15)
    # The bar is 0.93 to 0.97 and a bias of a tenth of a standard error, each up to two standard errors of 2000 trials.
    assert held >= 0.93 - 2 * np.sqrt(0.93 * 0.07 / 2000)
    assert abs(reported) <= 0.1 + 2 * blur
    # As documented: conservative with the fewest samples, where the laws agree, and for tails that are heavy at once.
    if n >= 60 * d and name != "equal":
        assert held <= (0.97 if d > 1 and law is not together else 0.98) + 2 * np.sqrt(0.03 * 0.97 / 2000)
    if law is not together or n >= 60 * d:
        assert abs(true) <= 0.1 + 2 * blur


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("d", "n"), [(16, 500), (16, 5000), (64, 500), (64, 2000)])
@pytest.mark.parametrize("name", ["equal", "both"])
def test_root_mean_square_error_is_below_that_of_the_extrapolation(d, n, name):
    rng, (first, second, gap), target = np.random.default_rng(17), REGIMES[name](d), target_of(name, d)
    ours, theirs = [], []
    for _ in range(60):
        x, y = gauss(rng, (n, d)) @ first.T, gauss(rng, (n, d)) @ second.T + gap
        ours.append(fid(generated=y, reference=x).value - target)
        theirs.append(infinity(x, y, rng) - target)
    assert np.mean(np.square(ours)) < 0.95 * np.mean(np.square(theirs))


@pytest.mark.slow
@pytest.mark.parametrize("law", [gauss, student, together])
@pytest.mark.parametrize("name", list(REGIMES))
@pytest.mark.parametrize(("d", "n"), [(8, 24), (8, 56), (24, 72), (24, 168), (48, 144)])
def test_fewer_samples_still_cover(law, name, d, n):
    assert regime(law, d, n, name, 400, 16)[0] >= 0.93 - 0.022


def test_halves_that_are_too_small_do_not_raise_the_value():
    """At three samples per dimension halves have no inverse to speak of: corrected by them, 19 of 20 were too high."""
    held, bias, _, _ = regime(gauss, 96, 288, "equal", 20, 17)
    assert held >= 0.8
    assert abs(bias) < 0.6


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
        (lambda: fid_influence(generated=FAKE[:8], reference=REAL), "generated=.*8 samples in 8"),
        (lambda: fid_influence(generated=Moments(np.zeros(8), np.eye(8), 99), reference=REAL), "without samples"),
        (lambda: _classes(FAKE, np.zeros(150), np.zeros(200, int)), "generated_labels=.*float64"),
        (lambda: _classes(FAKE, np.zeros(9, int), np.zeros(200, int)), "generated_labels="),
        (lambda: _classes(FAKE, np.zeros(150, int), np.arange(200) % 2), "class 1 has 0 samples in generated="),
    ],
)
def test_bad_input(call, word):
    with pytest.raises(InputError, match=word):
        call()


def test_classes_that_alternate_with_the_rows_are_halved_fairly():
    rng = np.random.default_rng(0)
    centers = 4.0 * np.eye(3)
    reference = centers[np.arange(900) % 3] + rng.normal(size=(900, 3))
    generated = centers[np.arange(900) % 2] + rng.normal(size=(900, 3))
    found = fid(generated=generated, reference=reference)
    assert found.value == pytest.approx(found.raw, rel=0.1)
    shuffled = fid(generated=rng.permutation(generated), reference=rng.permutation(reference))
    assert found.agrees(shuffled)


@pytest.mark.parametrize("spread", [1.0, 1e3, 1e6])
def test_few_columns_make_the_weights_of_the_bias(spread):
    """Σ_k R_ik R_jk is s_i s_j/(s_i + s_j) in all pairs, the smallest included."""
    s = np.geomspace(1 / spread, spread, 1500) * 7.0
    root = _root_of_weights(s)
    assert root.shape[1] < len(s) / 4
    np.testing.assert_allclose(root @ root.T, s[:, None] * s / (s[:, None] + s), rtol=2e-13)
    assert _root_of_weights(s[:100]) is None


def test_sums_of_the_weights():
    s = np.random.default_rng(6).uniform(0.1, 3.0, 150)
    c = 1 / (1 / s[:, None] + 1 / s)
    np.testing.assert_allclose(_sums_of_weights(s), [c.sum(), (c**2).sum()], rtol=1e-13)
    assert _sums_of_weights(s[:0]) == (0.0, 0.0)


def test_many_dimensions_are_debiased_as_few_are():
    """With the weights in few columns and with all of them: the same number, and the same as by its definition."""
    d, n = 640, 1950
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(n, d)), 1.1 * rng.standard_t(8, size=(n, d))
    pair = Pair(Moments.of(x), Moments.of(y))
    assert _root_of_weights(pair.s) is not None
    side = pair.reference
    squares = ((x - x.mean(axis=0)) @ side.whitener) ** 2
    h = np.clip(squares.sum(axis=1) * n / (n - 1) ** 2, 1e-4, 1.0)
    c = 1 / (1 / pair.s[:, None] + 1 / pair.s)
    fourth = ((squares @ c) * squares).sum(axis=1) @ ((1 - h / 2 - np.sqrt(1 - h)) * 8 / h**2) / n
    assert side.bias == pytest.approx((fourth - pair.s.sum() / 2) / (2 * n), rel=1e-11)
