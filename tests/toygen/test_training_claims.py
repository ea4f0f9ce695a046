"""Claims on trained networks: the machinery, the cheap ones here, the rest slow; and broken ones fail."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from divergences import Estimate, Gaussian, Quadrature, jsd
from divergences.claim import Claim
from toygen import claims_critics, claims_discriminators, claims_ensembles, claims_studies
from toygen.claims import CLAIMS, claims_command
from toygen.claims_studies import Stage, at_least, at_most, ensemble_mean, shift_generator
from toygen.networks import MLP

CHEAP = ("memorizer-sits-on-train", "memorizer-misses-the-law")


def claim(name: str) -> Claim:
    return next(one for one in CLAIMS if one.name == name)


@pytest.fixture
def small(monkeypatch):
    """Trainings of a second: a Gaussian stage in place of the trained generator, few steps, few samples."""
    cached = (
        claims_studies.train_discriminators, claims_studies.gaussian_stage, claims_discriminators._fresh,
    )  # fmt: skip
    for function in cached:
        function.cache_clear()
    monkeypatch.setattr(claims_discriminators, "_STEPS", 60)
    monkeypatch.setattr(claims_discriminators, "_DRAWS", 20_000)
    monkeypatch.setattr(claims_studies, "network_stage", lambda: claims_studies.gaussian_stage(1.0))
    monkeypatch.setattr(claims_discriminators, "network_stage", lambda: claims_studies.gaussian_stage(1.0))
    yield
    for function in cached:
        function.cache_clear()


def test_there_are_enough_and_no_two_of_one_name():
    names = [one.name for one in CLAIMS]
    assert len(names) >= 15
    assert len(set(names)) == len(names)
    assert all(one.statement and "http" in one.reference for one in CLAIMS)


@pytest.mark.parametrize("name", CHEAP)
def test_cheap_claims_hold(name):
    result = claim(name).check()
    assert result.agrees, f"{result.left} against {result.right}"


@pytest.mark.parametrize("name", ["trained-value-goodfellow", "regret-bounds-distance"])
def test_what_holds_for_every_discriminator_holds_after_few_steps(name, small):
    result = claim(name).check()
    assert result.agrees, f"{result.left} against {result.right}"


def test_a_disturbed_discriminator_breaks_the_claims(small, monkeypatch):
    """V is sampled from a network whose logit is off by 0.3; the other side is of the network as it was trained."""
    assert claim("trained-value-goodfellow").check().agrees
    honest = claims_discriminators._value_by_densities("minimax", "goodfellow")
    trained = claims_discriminators._trained("minimax")
    with torch.no_grad():
        trained.discriminator.dense[-1].bias += 0.3
    assert not claims_discriminators._value("minimax", "goodfellow").agrees(honest)
    # And the identity is about any D: for the disturbed one it holds again.
    assert claim("trained-value-goodfellow").check().agrees
    with torch.no_grad():
        trained.discriminator.dense[-1].bias += 3.0
    assert not claim("trained-d-near-d-star").check().agrees
    assert not claim("trained-value-reaches-jsd").check().agrees


def test_a_wrong_convention_breaks_the_claim(small):
    wrong = claims_discriminators._value("minimax", "flipped")
    assert not wrong.agrees(claims_discriminators._value_by_densities("minimax", "goodfellow"))


def test_an_untrained_discriminator_is_not_near_d_star(small, monkeypatch):
    monkeypatch.setattr(claims_discriminators, "_STEPS", 0)
    assert not claim("trained-d-near-d-star-smooth").check().agrees


def test_a_broken_sampler_breaks_the_protocol(monkeypatch):
    monkeypatch.setattr(claims_ensembles, "_RUNS", 20)
    claims_ensembles._runs.cache_clear()
    assert claim("protocol-high-quality").check().agrees
    claims_ensembles._runs.cache_clear()
    honest = claims_ensembles.lossy
    monkeypatch.setattr(claims_ensembles, "lossy", lambda n, rng: honest(n, rng) * 1.01)
    try:
        assert not claim("protocol-high-quality").check().agrees
    finally:
        claims_ensembles._runs.cache_clear()


def test_a_test_without_effect_does_not_pass(monkeypatch):
    rng = np.random.default_rng(0)
    same = [rng.normal(size=16) for _ in range(2)]
    monkeypatch.setattr(claims_ensembles, "averaged", lambda: same)
    assert not claim("averaging-helps").check().agrees
    monkeypatch.setattr(claims_ensembles, "complete", lambda penalty, pack: (40, 64))
    assert not claim("packing-reduces-collapse").check().agrees
    assert not claim("penalty-reduces-collapse").check().agrees


def test_tracking_is_claimed_of_intervals_and_both_are_printed(monkeypatch):
    """Planted correlations: the critic's must lie above the loss's with the whole interval."""
    steps, members = np.arange(15.0)[:, None], claims_ensembles._TRACKED
    rng = np.random.default_rng(2)

    def planted(noise):
        distance = 15 - steps + 0.1 * rng.standard_normal((15, members))
        return distance, distance + noise * rng.standard_normal((15, members))

    tables = {"wasserstein": planted(2.0), "non_saturating": planted(10.0), "minimax": planted(1e6)}
    monkeypatch.setattr(claims_ensembles, "followed", tables.__getitem__)
    found = claims_ensembles._tracking("wasserstein")
    own = [stats.spearmanr(*pair).statistic for pair in zip(*(table.T for table in tables["wasserstein"]), strict=True)]
    assert found.interval == pytest.approx(stats.t.interval(0.95, members - 1, np.mean(own), stats.sem(own)))
    tracking = (
        "critic-tracks-quality",
        "loss-tracks-less",
        "saturated-loss-tracks-less",
        "saturated-loss-does-not-track",
    )
    results = {name: claim(name).check() for name in tracking}
    assert all(result.agrees for result in results.values())
    for side, objective in (
        (results["loss-tracks-less"].left, "non_saturating"),
        (results["loss-tracks-less"].right, "wasserstein"),
    ):
        assert side.method.startswith(f"{objective}: rank correlation 0.")
        assert "(95 %), 16 members" in side.method
    # A loss that tracks as well as the critic breaks all that is said of losses.
    tables["non_saturating"] = tables["minimax"] = planted(2.0)
    assert not any(claim(name).check().agrees for name in tracking[1:])


def test_sign_tests_keep_their_error_rate():
    rng = np.random.default_rng(1)
    passed = sum(
        claims_ensembles._sign_test(rng.normal(size=16), rng.normal(size=16), "noise").value <= 0.01
        for _ in range(2000)
    )
    # Binomial(2000, ≤ 0.01): above 36 with probability 0.0003.
    assert passed <= 36


def test_a_stage_integrates_what_it_should():
    """Against closed forms and the library: E_m of 1, of x, and JSD by the nodes of a Gaussian stage."""
    stage = Stage.of(Gaussian(0.0, 1.0), shift_generator(2.0))
    ones, error = stage.mean(np.ones((1, *stage.x.shape)))
    assert ones[0] == pytest.approx(1.0, abs=1e-9)
    assert error[0] < 1e-9
    assert stage.mean(stage.x[None])[0][0] == pytest.approx(1.0, abs=1e-8)
    apart = stage.weights[0] @ np.log(2 * stage.d_star[0]) + stage.weights[1] @ np.log(2 * (1 - stage.d_star[1]))
    exact = jsd(Gaussian(0.0, 1.0), Gaussian(2.0, 1.0), expect=Quadrature(tol=1e-10))
    assert apart / 2 == pytest.approx(exact.value, abs=1e-7)


def test_intervals_of_ensembles_hold_the_mean():
    rng = np.random.default_rng(2)
    held = sum(ensemble_mean(rng.normal(size=8), "noise").agrees(0.0) for _ in range(3000))
    # Binomial(3000, 0.999): below 2989 with probability 0.0003.
    assert held >= 2989


def test_ends_of_intervals_stand_without_error():
    mean = Estimate(1.0, 0.2, level=0.999)
    assert at_most(mean).interval == (1.2, 1.2)
    assert at_least(mean).interval == (0.8, 0.8)


def test_the_exact_critic_is_not_beaten_and_twice_as_steep_a_claim_would_be(monkeypatch):
    """A critic that reports its value without dividing by its slope breaks the bound."""

    class Steep:
        dense = ()

        def pick(self, members):
            return self

    monkeypatch.setattr(claims_critics, "_trained", lambda penalty: claims_studies.Trained(None, Steep()))  # type: ignore[arg-type]
    monkeypatch.setattr(claims_critics, "outputs", lambda network, x: -5.0 * x[None])
    proof, distance = claims_critics._points_proof("clip")
    assert proof == pytest.approx(distance, rel=0.05)
    assert proof <= distance + 1e-12
    assert 5 * proof > distance


@pytest.mark.parametrize(("size", "holds"), [(0.01, True), (0.5, False), (0.001, False)])
def test_weights_that_are_not_at_the_bound_break_the_claim(monkeypatch, size, holds):
    network = MLP([1, 4, 1], np.random.default_rng(0).spawn(2))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(size * torch.sign(parameter))
    trained = claims_studies.Trained(None, network.double())  # type: ignore[arg-type]
    monkeypatch.setattr(claims_critics, "_trained", lambda penalty: trained)
    assert claim("clipped-weights-pile-up").check().agrees is holds


def test_the_command_checks_what_is_named(capsys):
    assert claims_command(["memorizer-sits-on-train"]) == 0
    assert "1 of 1 claims hold" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        claims_command(["nonsense"])
    assert stopped.value.code == 2


def test_the_command_tells_what_it_trains_and_leaves_the_log_as_it_was(capsys, monkeypatch):
    level, handlers = claims_studies.LOG.level, list(claims_studies.LOG.handlers)
    talking = replace(claim("memorizer-sits-on-train"), left=lambda: _say())
    monkeypatch.setattr("toygen.claims.CLAIMS", (talking,))
    assert claims_command([]) == 0
    assert "training: something" in capsys.readouterr().err
    assert (claims_studies.LOG.level, claims_studies.LOG.handlers) == (level, handlers)


def _say() -> Estimate:
    logging.getLogger("toygen.claims").info("training: something")
    return Estimate(0.0, 0.0)


def test_a_failing_claim_is_exit_status_one(capsys, monkeypatch):
    broken = replace(claim("memorizer-sits-on-train"), right=lambda: Estimate(1.0, 0.0))
    monkeypatch.setattr("toygen.claims.CLAIMS", (broken,))
    assert claims_command([]) == 1
    assert "FAIL" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", [one.name for one in CLAIMS if one.name not in CHEAP])
def test_every_claim_holds(name):
    result = claim(name).check()
    assert result.agrees, f"{result.left} against {result.right}"
