"""Whole runs: member k is the same whoever is asked for with it, units do not matter, and divergence is reported."""

import dataclasses

import numpy as np
import pytest
import torch

from divergences import InputError
from evaluation.modes import mode_coverage
from toygen import GanRun, Recipe, Sampler, fit_gan, grid, recipe_for, ring
from toygen.objectives import OBJECTIVES
from toygen.recipes import Units

TINY = Recipe(width=16, batch=16, chunk=4)
DATA = ring().sample(300, np.random.default_rng(0))


def fit(**changes):
    settings = {"recipe": TINY, "members": 2, "steps": 15, "seed": 5} | changes
    return fit_gan(DATA, **settings)


def weights(ensemble, place):
    networks = (ensemble.generators, ensemble.discriminators)
    return torch.cat([p[place].detach().flatten() for network in networks for p in network.parameters()])


@pytest.fixture(scope="module")
def six():
    return fit(members=6)


@pytest.mark.parametrize("members", [[5], [0, 5], [5, 1], 6], ids=str)
def test_a_member_is_bitwise_the_same_however_many_are_asked_for(six, members):
    other = fit(members=members)
    for place, member in enumerate(other.members):
        assert torch.equal(weights(other, place), weights(six, member))
        for name in ("discriminator", "generator"):
            assert np.array_equal(other.history[name][:, place], six.history[name][:, member])


def test_members_and_seeds_differ(six):
    networks = [weights(six, place) for place in range(6)]
    assert len({tuple(network[:20].tolist()) for network in networks}) == 6
    assert not torch.equal(networks[0], weights(fit(seed=6), 0))


def test_the_result_says_what_it_is(six, tmp_path):
    assert six.members == (0, 1, 2, 3, 4, 5)
    assert six.healthy == six.members
    assert six.history["step"].tolist() == list(range(15))
    assert six.history["generator"].shape == (15, 6)
    clouds = six.sample(40, np.random.default_rng(0))
    assert clouds.shape == (6, 40, 2)
    sampler = six.sampler(3)
    assert sampler.about["member"] == 3
    assert sampler.about["recipe"]["chunk"] == 4
    assert sampler.about["versions"]["torch"] == torch.__version__
    loaded = Sampler.load(sampler.save(tmp_path / "s.npz"))
    own = np.random.default_rng(0).spawn(6)[3]
    assert np.array_equal(loaded(40, own), clouds[3])


def test_a_member_that_diverged_is_named_and_never_sampled(six):
    recipe = dataclasses.replace(TINY, objective="wasserstein", penalty="none", learning_rate=1e12)
    broken = fit(recipe=recipe, steps=40)
    assert broken.diverged.all()
    assert broken.healthy == ()
    assert broken.sample(7, np.random.default_rng(0)).shape == (0, 7, 2)
    with pytest.raises(InputError, match="member 1 diverged"):
        broken.sampler(1)
    # One of six: the others keep their points.
    mixed = dataclasses.replace(six, diverged=np.array([False, True, False, False, False, False]))
    whole, rest = six.sample(9, np.random.default_rng(0)), mixed.sample(9, np.random.default_rng(0))
    assert np.array_equal(np.delete(whole, 1, axis=0), rest)


def test_the_units_of_the_data_do_not_matter():
    # Powers of two scale exactly, so the two runs differ by rounding only where a shift comes in.
    for objective in ("non_saturating", "wasserstein"):
        recipe = dataclasses.replace(recipe_for(objective), width=16, batch=16, chunk=2)
        small = fit_gan(DATA, recipe=recipe, members=1, steps=5, seed=1)
        large = fit_gan(1024 * DATA, recipe=recipe, members=1, steps=5, seed=1)
        points = [e.sampler(0)(100, np.random.default_rng(0)) for e in (small, large)]
        assert points[1] / 1024 == pytest.approx(points[0], abs=1e-4)
        unit = 1024 if objective == "wasserstein" else 1
        # Adam's ε = 1e-8 is the one length that is not converted: it shows in the third digit.
        assert large.history["generator"] / unit == pytest.approx(small.history["generator"], rel=0.01)


def test_the_untrained_generator_speaks_in_the_units_of_the_data():
    far = DATA * 50 + [1000.0, -3000.0]
    cloud = fit_gan(far, recipe=TINY, members=1, steps=0).sampler(0)(100, np.random.default_rng(0))
    assert np.abs(cloud.mean(axis=0) - far.mean(axis=0)).max() < 50
    units = Units.of(far)
    assert units.scale == pytest.approx(np.sqrt(far.var(axis=0).mean()))


def test_progress_can_be_watched_and_iterated():
    seen = []
    fit(members=5, steps=3, progress=lambda state: seen.append((state.done, state.total, state.members[0])))
    assert seen == [(1, 6, 0), (2, 6, 0), (3, 6, 0), (4, 6, 4), (5, 6, 4), (6, 6, 4)]
    run = GanRun(DATA, recipe=TINY, members=1, steps=3)
    with pytest.raises(InputError, match="not finished"):
        run.result()
    states = iter(run)
    state = next(states)
    assert state.generator(torch.zeros(4, 2, 2)).shape == (4, 2, 2)
    with pytest.raises(InputError, match="not finished"):
        run.result()
    assert len(list(run)) == 3
    assert torch.equal(weights(run.result(), 0), weights(fit_gan(DATA, recipe=TINY, members=1, steps=3), 0))


def test_schedules_run_from_their_first_to_their_last_value():
    recipe = Recipe()
    assert recipe.rate_at(0) == 1e-3
    assert recipe.rate_at(0.5) == pytest.approx(5e-4)
    assert recipe.rate_at(1) == pytest.approx(0, abs=1e-19)
    assert [recipe.weight_at(t) for t in (0, 0.5, 1)] == pytest.approx([0.1, 0.01, 0.001])


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("penalty", [None, "none", "clip"])
def test_every_objective_trains(objective, penalty):
    recipe = dataclasses.replace(recipe_for(objective, penalty), width=8, batch=8, chunk=2)
    ensemble = fit_gan(DATA, recipe=recipe, members=2, steps=4)
    assert not ensemble.diverged.any()
    if penalty == "clip":
        assert max(float(p.detach().abs().max()) for p in ensemble.discriminators.parameters()) <= recipe.bound


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"members": 0}, "members must be at least 1"),
        ({"members": []}, "different indices, at least one"),
        ({"members": [1, 1]}, "different indices"),
        ({"members": [-1]}, r"members\[0\] must be at least 0"),
        ({"members": 2.5}, "members must be a whole number"),
        ({"steps": -1}, "steps must be at least 0"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_misuse_of_a_run_is_named(changes, match):
    with pytest.raises(InputError, match=match):
        fit(**changes)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ([[1.0, 2.0]], "train needs at least 2 points"),
        (np.ones((5, 2)), "train has no spread"),
        ([[0.0, 1.0], [np.inf, 1.0]], "train holds infinite values"),
        (np.zeros((3, 2, 2)), "train must have shape"),
        ([], "train needs at least 2 points"),
        ("ring", "train must hold real numbers"),
    ],
)
def test_bad_data_are_named(data, match):
    with pytest.raises(InputError, match=match):
        fit_gan(data, recipe=TINY, steps=1)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"objective": "minmax"}, "objective must be one of minimax"),
        ({"penalty": "sn"}, "penalty must be one of none"),
        ({"width": 0}, "width must be at least 1"),
        ({"batch": 1.5}, "batch must be a whole number"),
        ({"chunk": True}, "chunk must be a whole number"),
        ({"learning_rate": 0.0}, "learning_rate must be in"),
        ({"weights": (0.1, 0.0)}, "weights must be in"),
        ({"weights": (0.1,)}, "weights must be two numbers"),
        ({"weights": 0.1}, "weights must be two numbers"),
        ({"betas": (0.0, 1.0)}, r"betas must lie in \[0, 1\)"),
        ({"decay": -0.1}, r"decay must lie in \[0, 1\)"),
        ({"depths": (1, 0)}, "depths must be at least 1"),
        ({"bound": float("nan")}, "bound must be in"),
    ],
)
def test_a_bad_recipe_is_named(changes, match):
    with pytest.raises(InputError, match=match):
        Recipe(**changes)


def test_the_quick_recipe_is_the_same_game():
    quick = Recipe(penalty="none").quick()
    assert (quick.objective, quick.penalty, quick.width, quick.learning_rate) == ("non_saturating", "none", 32, 4e-3)
    critic = recipe_for("wasserstein")
    assert critic.quick() == dataclasses.replace(critic, width=32)


def captured(target, recipe, steps):
    train = target.sample(10_000, np.random.default_rng(1))
    ensemble = fit_gan(train, recipe=recipe, members=8, steps=steps, seed=1)
    clouds = ensemble.sample(10_000, np.random.default_rng(2))
    coverages = [mode_coverage(generated=cloud, modes=target) for cloud in clouds]
    return [coverage.captured for coverage in coverages], [coverage.high_quality.value for coverage in coverages]


@pytest.mark.slow
def test_the_penalised_recipe_covers_the_ring_on_every_seed():
    modes, quality = captured(ring(), Recipe(width=64), 3000)
    assert modes == [8] * 8
    assert min(quality) > 0.3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_on_the_grid_it_is_the_penalty_that_keeps_the_modes():
    modes, quality = captured(grid(), Recipe().quick(), 8000)
    assert modes == [25] * 8
    assert min(quality) > 0.15
    # The same without: most members drop modes (and are no less sharp for it).
    modes, _ = captured(grid(), Recipe(penalty="none").quick(), 8000)
    assert sum(count < 25 for count in modes) >= 6
