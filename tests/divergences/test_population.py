import numpy as np
import pytest
from scipy import stats

from divergences import Discrete, Gaussian, Mixture, Uniform, wasserstein
from divergences.errors import InputError
from divergences.population import stratified_sample, wasserstein_bracket
from tests.cases import ring

RNG = np.random.default_rng
NARROW, WIDE = Gaussian([0, 0], np.eye(2)), Gaussian([0, 0], 4 * np.eye(2))
RADIAL = 1.2533141373155002512


def test_the_table_of_brackets():
    # n = 1000, as published beside the theory: plug-in 1.225 and lower end 1.218 (se 0.010); 0.143 and 0 (se 0.004).
    rng = RNG(1)
    wider = wasserstein_bracket(NARROW, WIDE, rng=rng)
    assert wider.interval[0] < RADIAL < wider.interval[1]
    assert wider.lower.value > 1.2
    assert wider.lower.error < 0.03
    assert wider.upper.value == pytest.approx(RADIAL, abs=0.1)
    assert wider.null.value == pytest.approx(0.143, abs=0.03)
    same = wasserstein_bracket(NARROW, NARROW, rng=rng)
    assert same.lower.agrees(0.0)
    assert abs(same.lower.value) < 0.02
    assert same.upper.value == pytest.approx(0.143, abs=0.03)
    # The plug-in alone looks like a difference; beside its null it is none.
    assert same.upper.agrees(same.null)
    shifted = wasserstein_bracket(NARROW, Gaussian([3.0, 0.0], np.eye(2)), rng=rng, n=400)
    assert shifted.interval[0] < 3 < shifted.interval[1]
    assert shifted.lower.value > 2.9
    assert "W₁ in [" in str(shifted)


def test_samples_alone():
    rng = RNG(2)
    bracket = wasserstein_bracket(rng.normal(size=(500, 2)), 2 * rng.normal(size=(400, 2)), rng=rng, held_out=0.4)
    assert bracket.interval[0] < RADIAL < bracket.interval[1]
    assert bracket.lower.n == 200 + 160
    assert bracket.upper.n == 900
    # The critic it hands over is the one that was judged, and 1-Lipschitz.
    probes = 4 * rng.normal(size=(80, 2))
    rise = np.abs(bracket.critic(probes)[:, None] - bracket.critic(probes))
    assert (rise <= np.linalg.norm(probes[:, None] - probes, axis=2) + 1e-12).all()


def test_validation_finds_the_better_extension():
    # Here the lower extension generalises better by 0.1, as extensions differ on unseen points.
    lower, upper, chosen = (
        wasserstein_bracket(NARROW, WIDE, rng=RNG(3), n=250, extension=name) for name in ("lower", "upper", "validated")
    )
    assert lower.lower.value > upper.lower.value + 0.05
    assert chosen.extension == "lower"
    assert upper.extension == "upper"


def test_samplers_and_cityblock():
    def sampler(n, rng):
        return rng.normal(size=(n, 2)) + [1.0, 2.0]

    bracket = wasserstein_bracket(NARROW, sampler, rng=RNG(4), n=300, metric="cityblock")
    assert bracket.interval[0] < 3 < bracket.interval[1]
    assert bracket.lower.value > 2.8


def test_intervals_cover_on_the_line():
    # N(0, 1) and N(1, 4), samples of 60: 150 simulations.
    truth, runs, rng = 1.1666309411753725968, 150, RNG(5)
    brackets = [
        wasserstein_bracket(rng.normal(size=60), 1 + 2 * rng.normal(size=60), rng=rng, extension="lower")
        for _ in range(runs)
    ]
    lower, upper = (np.array([getattr(b, end).value for b in brackets]) for end in ("lower", "upper"))
    assert lower.mean() < truth < upper.mean()
    assert np.mean([b.interval[0] <= truth <= b.interval[1] for b in brackets]) >= 0.93
    assert np.mean([b.lower.interval[0] <= truth for b in brackets]) >= 0.96
    assert 0.92 <= np.mean([b.upper.agrees(upper.mean()) for b in brackets]) <= 0.985
    # Errors stated against errors seen, at both ends.
    assert np.mean([b.upper.error for b in brackets]) / 1.96 / upper.std() == pytest.approx(1, abs=0.15)
    assert np.mean([b.lower.error for b in brackets]) / 1.96 / lower.std() == pytest.approx(1, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("equal", [False, True])
def test_intervals_cover(d, equal):
    runs, rng = 1000, RNG(6)
    scale = 1.0 if equal else 2.0
    truth = 0.0 if equal else {1: np.sqrt(2 / np.pi), 2: RADIAL}[d]
    brackets = [
        wasserstein_bracket(rng.normal(size=(100, d)), scale * rng.normal(size=(100, d)), rng=rng) for _ in range(runs)
    ]
    mean = np.mean([b.upper.value for b in brackets])
    assert np.mean([b.interval[0] <= truth <= b.interval[1] for b in brackets]) >= 0.95
    assert np.mean([b.lower.interval[0] <= truth for b in brackets]) >= 0.965
    # At equality the influence bound is generous; else it is nominal.
    coverage = np.mean([b.upper.agrees(mean) for b in brackets])
    assert coverage >= 0.93
    assert equal or coverage <= 0.975


def test_stratified_counts_have_the_right_mean():
    weights = np.array([0.5, 0.3, 0.15, 0.05])
    law = Mixture([Gaussian(10.0 * k, 0.01) for k in range(4)], weights)
    rng, n, runs = RNG(7), 13, 600
    counts = np.array(
        [np.bincount((stratified_sample(law, n, rng)[:, 0] / 10).round().astype(int), minlength=4) for _ in range(runs)]
    )
    assert (counts.sum(axis=1) == n).all()
    assert (np.abs(counts - n * weights) < 1).all()
    # Rounding at random, without bias: four standard errors of a Bernoulli mean.
    np.testing.assert_allclose(counts.mean(axis=0), n * weights, atol=4 * 0.5 / np.sqrt(runs))
    # Whole numbers are kept exactly.
    exact = stratified_sample(law, 20, rng)[:, 0]
    assert np.bincount((exact / 10).round().astype(int)).tolist() == [10, 6, 3, 1]
    # In random order: the first half is not the first component.
    assert (stratified_sample(law, 1000, rng)[:500, 0] > 5).mean() == pytest.approx(0.5, abs=0.12)


def test_stratification_lowers_the_floor():
    # ring8 at σ = 0.1, n = 400: 0.21 for independent points, 0.05 stratified.
    law, rng = ring(0.1), RNG(8)
    plain = np.mean([wasserstein(law.sample(400, rng), law.sample(400, rng)).cost.value for _ in range(4)])
    held = [wasserstein_bracket(law, law, rng=rng, n=400) for _ in range(4)]
    floor = np.mean([b.upper.value for b in held])
    assert plain == pytest.approx(0.2116, abs=0.08)
    assert floor == pytest.approx(0.0523, abs=0.01)
    assert np.mean([b.null.value for b in held]) == pytest.approx(floor, abs=0.01)
    assert all(abs(b.lower.value) < 0.01 for b in held)
    # Errors know about it: within modes there is little to vary.
    spread = np.std([b.upper.value for b in held], ddof=1)
    assert all(1.96 * spread / 4 < b.upper.error < 0.03 for b in held)


def test_simple_and_discrete_laws_are_sampled():
    assert stratified_sample(stats.norm(5.0, 0.1), 50, RNG(0)).shape == (50, 1)
    assert set(stratified_sample(Discrete([1.0, 2.0]), 50, RNG(0))[:, 0]) == {1.0, 2.0}
    assert wasserstein_bracket(Uniform(0, 1), Discrete([0.5]), rng=RNG(0), n=200).lower.value == pytest.approx(
        0.25, abs=0.01
    )


POINTS = RNG(0).normal(size=(20, 2))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: wasserstein_bracket(POINTS, POINTS[:, 0], rng=RNG(0)), "same space"),
        (lambda: wasserstein_bracket(POINTS, POINTS[:5], rng=RNG(0)), "q needs at least 8"),
        (lambda: wasserstein_bracket(POINTS * np.nan, POINTS, rng=RNG(0)), "p holds NaN"),
        (lambda: wasserstein_bracket(POINTS, POINTS, rng=RNG(0), held_out=0.99), "held_out=0.99 leaves"),
        (lambda: wasserstein_bracket(POINTS, POINTS, rng=RNG(0), held_out=1.0), "held_out must be"),
        (lambda: wasserstein_bracket(POINTS, POINTS, rng=RNG(0), extension="best"), "extension must be one of"),
        (lambda: wasserstein_bracket(POINTS, POINTS, rng=RNG(0), metric="sqeuclidean"), "metric must be one of"),
        (lambda: wasserstein_bracket(POINTS, lambda n, rng: rng.normal(size=(3, 2)), rng=RNG(0)), "gave 3"),
        (lambda: stratified_sample(POINTS, 5, RNG(0)), "law is an array"),
        (lambda: stratified_sample(NARROW, 0, RNG(0)), "n must be at least 1"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=words):
        call()
