"""Whole runs: member k is the same whoever is asked for with it, units do not matter, and divergence is reported."""

import dataclasses

import numpy as np
import pytest
import torch

from divergences import InputError
from evaluation.modes import mode_coverage
from toygen import GanRun, MemberPlan, Recipe, Sampler, fit_gan, grid, recipe_for, ring
from toygen.networks import stack
from toygen.objectives import OBJECTIVES
from toygen.penalties import PENALTIES
from toygen.recipes import RECIPES, Units

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
    entropy = np.random.default_rng(0).integers(0, 2**32, 4).tolist()
    own = np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(5, 3, 0)))  # seed 5, member 3, its first
    assert np.array_equal(loaded(40, own), clouds[3])


def test_the_points_of_a_member_are_the_same_alone_and_in_company(six):
    alone, two = fit(members=[2]), fit(members=[4, 2])
    points = six.sample(30, np.random.default_rng(9))
    assert np.array_equal(alone.sample(30, np.random.default_rng(9))[0], points[2])
    assert np.array_equal(two.sample(30, np.random.default_rng(9)), points[[4, 2]])
    # A second call draws anew, and members do not share latents.
    rng = np.random.default_rng(9)
    first, second = six.sample(30, rng), six.sample(30, rng)
    assert np.array_equal(first, points)
    assert not np.isin(second, first).any()
    same_network = dataclasses.replace(six, generators=stack([six.generators.pick([0])] * 6))
    clouds = same_network.sample(30, np.random.default_rng(9))
    assert len(np.unique(clouds[..., 0])) == 6 * 30


def test_points_of_mixed_members_go_by_seed_index_and_order():
    mixed = fit(recipe=CHUNK, members=[1, 1, 1], seeds=[5, 5, 6], learning_rates=[1e-3, 2e-3, 1e-3], steps=2)
    points = mixed.sample(20, np.random.default_rng(3))
    assert np.array_equal(
        fit(recipe=CHUNK, members=[1], seed=6, steps=2).sample(20, np.random.default_rng(3))[0], points[2]
    )
    assert np.array_equal(
        fit(recipe=CHUNK, members=[1], seed=5, steps=2).sample(20, np.random.default_rng(3))[0], points[0]
    )
    # The same index and seed twice: latents of their own.
    twice = dataclasses.replace(mixed, generators=stack([mixed.generators.pick([0])] * 3))
    clouds = twice.sample(20, np.random.default_rng(3))
    assert not np.isin(clouds[0], clouds[1]).any()


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
        ({"recipe": "hinge"}, "recipe must be a toygen.Recipe"),
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


CHUNK = Recipe(width=8, batch=8)
GAMES = {
    "adam": CHUNK,
    "critic": dataclasses.replace(recipe_for("wasserstein"), width=8, batch=8),
    "clip": dataclasses.replace(RECIPES["wgan_algorithm_1"], width=8, batch=8, discriminator_steps=2),
    "sgd": dataclasses.replace(RECIPES["gan_algorithm_1"], width=8, batch=8),
    **{name: dataclasses.replace(recipe_for("hinge", name), width=8, batch=8) for name in ("spectral", "unrolled")},
}


def test_the_usual_chunk_fills_the_registers():
    assert Recipe().chunk == 32


@pytest.mark.parametrize("name", GAMES)
def test_members_of_mixed_settings_are_bitwise_those_of_uniform_runs(name):
    recipe = GAMES[name]
    members, seeds = [3, 0, 17, 0, 3], [5, 5, 9, 5, 5]
    rates = [recipe.learning_rate * factor for factor in (1, 2, 0.5, 1, 1)]
    pairs = [(0.1, 0.01), (0.1, 0.01), (0.2, 0.2), (0.3, 0.01), (0.1, 0.02)]
    changes = {"seeds": seeds, "learning_rates": rates, "penalty_weights": [*pairs[:2], 0.2, *pairs[3:]]}
    mixed = fit(recipe=recipe, members=members, steps=6, **changes)
    assert mixed.members == tuple(members)
    for place in range(5):
        own = dataclasses.replace(recipe, learning_rate=rates[place], weights=pairs[place])
        # There it sits in another slot, among others.
        alone = fit(recipe=own, members=[members[place]], seed=seeds[place], steps=6)
        assert torch.equal(weights(mixed, place), weights(alone, 0))
        assert np.array_equal(mixed.history["generator"][:, place], alone.history["generator"][:, 0])
        ours, theirs = mixed.sampler(place).about, alone.sampler(0).about
        assert ours == theirs
    networks = {tuple(weights(mixed, place).tolist()) for place in range(5)}
    # A penalty without a weight cannot tell the first member from the last.
    assert len(networks) == 4 if PENALTIES[recipe.penalty].weighted(7.0) == PENALTIES[recipe.penalty] else 5


def test_members_can_be_trained_again_from_their_plans():
    first = fit(recipe=CHUNK, members=3, steps=6)
    second = fit(recipe=CHUNK, members=[1, 1], learning_rates=[2e-3, 3e-3], seed=9, steps=6)
    again = fit(recipe=CHUNK, members=[second.plans[1], first.plans[2], MemberPlan(1, 9, 2e-3, CHUNK.weights)], steps=6)
    assert again.members == (1, 2, 1)
    for place, (ensemble, old) in enumerate([(second, 1), (first, 2), (second, 0)]):
        assert again.plans[place] == ensemble.plans[old]
        assert torch.equal(weights(again, place), weights(ensemble, old))
        assert again.sampler(place).about == ensemble.sampler(old).about


def test_the_slot_does_not_matter_where_the_chunk_fills_the_registers():
    # 40 members are two chunks; in a mixed run of seeds the same members sit elsewhere.
    many = fit(recipe=CHUNK, members=40, steps=6)
    order = [39, 1, 0, 33, 12]
    moved = fit(recipe=CHUNK, members=order, seeds=[5] * 5, steps=6)
    for place, member in enumerate(order):
        assert torch.equal(weights(moved, place), weights(many, member))


def test_one_member_really_diverges_and_the_others_do_not_notice():
    recipe = dataclasses.replace(CHUNK, objective="wasserstein", penalty="none")
    settings = {"recipe": recipe, "members": 3, "steps": 60}
    calm = fit(**settings, learning_rates=[1e-3, 2e-3, 1e-3])
    broken = fit(**settings, learning_rates=[1e-3, 1e12, 1e-3])
    assert broken.diverged.tolist() == [False, True, False]
    assert broken.healthy == (0, 2)
    assert [at is None for at in broken.diverged_at] == [True, False, True]
    at = broken.diverged_at[1]
    losses = np.stack([broken.history[name][:, 1] for name in ("discriminator", "generator")])
    assert np.isfinite(losses[:, :at]).all()
    assert not np.isfinite(losses[:, at]).all()
    for place in (0, 2):
        assert torch.equal(weights(broken, place), weights(calm, place))
    assert broken.sample(5, np.random.default_rng(0)).shape == (2, 5, 2)


def test_the_history_can_be_read_by_a_spreadsheet(six, tmp_path):
    lines = six.write_history(tmp_path / "history.csv").read_text().splitlines()
    assert lines[0].split(",")[:3] == ["step", "discriminator_0", "discriminator_1"]
    table = np.array([[float(cell) for cell in line.split(",")] for line in lines[1:]])
    assert np.array_equal(table[:, 0], np.arange(15))
    both = np.concatenate([six.history["discriminator"], six.history["generator"]], axis=1)
    assert np.array_equal(table[:, 1:].astype(np.float32), both.astype(np.float32))
    thin = six.write_history(tmp_path / "thin.csv", every=6).read_text().splitlines()
    assert [line.split(",")[0] for line in thin] == ["step", "0", "6", "12"]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"seeds": [1]}, r"seeds must hold one entry per member \(2\); it holds 1"),
        ({"seeds": 3}, "seeds must be a list"),
        ({"seeds": [1, -1]}, r"seeds\[1\] must be at least 0"),
        ({"learning_rates": [0.1, 0.0]}, r"learning_rates\[1\] must be in"),
        ({"learning_rates": "12"}, "learning_rates must be a list"),
        ({"penalty_weights": [0.1, (0.1, 0.2, 0.3)]}, r"penalty_weights\[1\] must be a weight at the start and"),
        ({"penalty_weights": [0.1, -1]}, r"penalty_weights\[1\] must be in"),
        ({"members": [1, 1], "seeds": [4, 4]}, "members must differ in their index, seed"),
        ({"members": [MemberPlan(0, 5, 1e-3, (0.1, 0.1))], "seeds": [4]}, "members are plans that say everything"),
        ({"members": [MemberPlan(0, 5, 0.0, (0.1, 0.1))]}, r"learning_rates\[0\] must be in"),
        ({"device": "tpu"}, "device must be auto, cpu, cuda"),
        ({"device": "cuda:99"}, "device 'cuda:99' is not there"),
        ({"device": 3.5}, "device must be auto, cpu, cuda"),
    ],
)
def test_misuse_of_mixed_settings_and_devices_is_named(changes, match):
    with pytest.raises(InputError, match=match):
        fit(**changes)


def test_auto_is_the_cpu_where_there_is_no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert fit(device="auto", steps=1).device == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", GAMES)
def test_a_cuda_device_trains_the_same_members(name):
    changes = {"recipe": GAMES[name], "members": 3, "steps": 4}
    there, here = fit(device="cuda", **changes), fit(device="cpu", **changes)
    assert there.device.startswith("cuda")
    for place in range(3):
        # The same random numbers; rounding differs, and Adam shows it in its first steps.
        assert (weights(there, place) - weights(here, place)).abs().max() < 1e-2
        assert torch.equal(weights(there, place), weights(fit(device="cuda", **changes), place))


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
