"""The two printed algorithms against the library's own parts, and what their recipes say."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from divergences import Gaussian, InputError
from toygen import MLP, Recipe, fit_gan, gan, recipe_for, ring, two_peaks
from toygen.algorithms import GanSettings, WganSettings, gan_algorithm_1, wgan_algorithm_1
from toygen.objectives import OBJECTIVES
from toygen.penalties import PENALTIES
from toygen.recipes import RECIPES, Units
from toygen.train import train

MEMBERS, M = 2, 16


def networks():
    own = [[np.random.default_rng([stream, k]) for k in range(MEMBERS)] for stream in (1, 2)]
    return tuple(MLP([2, 8, outputs], rngs, dtype=torch.float64) for rngs, outputs in zip(own, (2, 1), strict=True))


def draws(seed, n):
    return [torch.tensor(np.random.default_rng([seed, i]).normal(size=(MEMBERS, M, 2))) for i in range(n)]


@pytest.mark.parametrize("name", ["gan_algorithm_1", "wgan_algorithm_1"])
def test_the_recipe_does_what_the_printed_algorithm_does(name, monkeypatch):
    recipe, rounds = RECIPES[name], 10
    turns_per_round = recipe.discriminator_steps + 1
    data, latents = draws(1, rounds * turns_per_round), draws(2, rounds * turns_per_round)

    # By the library: every move takes a batch of data, the generator's, too.
    g, d = networks()
    turns = gan(g, d, objective=OBJECTIVES[recipe.objective], latent=Gaussian([0.0, 0.0], np.eye(2)),
                penalty=replace(PENALTIES[recipe.penalty], bound=recipe.bound if "w" in name[:1] else None),
                optimizer=recipe.optimizer, rng=np.random.default_rng(0))  # fmt: skip
    turns[0] = replace(turns[0], repeats=recipe.discriminator_steps)
    from toygen import players

    handed = iter(latents)
    monkeypatch.setattr(players.Stream, "take", lambda stream, size: next(handed))
    list(train(turns, iter(data), rounds))

    # As printed: the generator's step takes none.
    printed_g, printed_d = networks()
    of_critic = [batch for i, batch in enumerate(data) if i % turns_per_round < recipe.discriminator_steps]
    noise = iter(latents)
    if name == "gan_algorithm_1":
        algorithm, settings = gan_algorithm_1, GanSettings(m=M)
    else:
        algorithm, settings = wgan_algorithm_1, WganSettings(m=M)
    run = algorithm(
        printed_g, printed_d, data=of_critic, noise=lambda m: next(noise), iterations=rounds, settings=settings
    )
    assert list(run) == list(range(1, rounds + 1))
    start = networks()
    for ours, printed, before in zip((g, d), (printed_g, printed_d), start, strict=True):
        for a, b, c in zip(ours.parameters(), printed.parameters(), before.parameters(), strict=True):
            assert (a - b).abs().max() < 1e-9
            assert not torch.equal(b, c)
    if name == "wgan_algorithm_1":
        assert max(float(p.detach().abs().max()) for p in printed_d.parameters()) <= 0.01


def test_their_numbers_are_those_of_the_papers():
    assert WganSettings()[:4] == (5e-5, 0.01, 64, 5)
    assert GanSettings().k == 1
    wgan, first = RECIPES["wgan_algorithm_1"], RECIPES["gan_algorithm_1"]
    assert (wgan.learning_rate, wgan.bound, wgan.batch, wgan.discriminator_steps) == WganSettings()[:4]
    assert (wgan.objective, wgan.penalty, wgan.method, wgan.betas[1]) == ("wasserstein", "clip", "rmsprop", 0.99)
    assert (first.objective, first.penalty, first.method) == ("minimax", "none", "sgd")
    assert (first.batch, first.discriminator_steps, first.learning_rate, first.betas[0]) == GanSettings()
    for recipe in (wgan, first):
        assert {recipe.rate_at(t) for t in (0.0, 0.5, 1.0)} == {recipe.learning_rate}
        assert (recipe.decay, recipe.quick().learning_rate) == (0.0, recipe.learning_rate)


@pytest.mark.parametrize("name", RECIPES)
def test_every_named_recipe_runs(name):
    data = two_peaks().sample(200, np.random.default_rng(0))
    recipe = replace(RECIPES[name], width=8, chunk=2)
    assert not fit_gan(data, recipe=recipe, members=2, steps=5).diverged.any()


def test_data_that_run_out_are_named():
    g, d = networks()
    for algorithm, settings in ((gan_algorithm_1, GanSettings(m=M)), (wgan_algorithm_1, WganSettings(m=M))):
        with pytest.raises(InputError, match="data ran out"):
            list(algorithm(g, d, data=draws(1, 1), noise=lambda m: draws(2, 1)[0], iterations=5, settings=settings))


@pytest.mark.parametrize(
    ("algorithm", "settings", "match"),
    [
        (gan_algorithm_1, GanSettings(m=0), "settings.m must be at least 1"),
        (gan_algorithm_1, GanSettings(m=M, k=0), "settings.k must be at least 1"),
        (gan_algorithm_1, GanSettings(m=M, rate=-0.1), "settings.rate must be in"),
        (gan_algorithm_1, GanSettings(m=M, momentum=1.0), "settings.momentum must be in"),
        (gan_algorithm_1, GanSettings(m=M // 2), "noise must come in minibatches of settings.m = 8 points"),
        (wgan_algorithm_1, WganSettings(m=M, alpha=0.0), "settings.alpha must be in"),
        (wgan_algorithm_1, WganSettings(m=M, c=-1), "settings.c must be in"),
        (wgan_algorithm_1, WganSettings(m=M, c=float("nan")), "settings.c must be in"),
        (wgan_algorithm_1, WganSettings(m=M, n_critic=0), "settings.n_critic must be at least 1"),
        (wgan_algorithm_1, WganSettings(m=M, decay=-0.5), "settings.decay must be in"),
        (wgan_algorithm_1, WganSettings(m=M // 2), "data must come in minibatches of settings.m = 8 points"),
    ],
)
def test_bad_settings_of_an_algorithm_are_named(algorithm, settings, match):
    g, d = networks()
    before = [p.detach().clone() for p in d.parameters()]
    with pytest.raises(InputError, match=match):
        list(algorithm(g, d, data=draws(1, 9), noise=lambda m: draws(2, 1)[0], iterations=2, settings=settings))
    assert all(torch.equal(a, b) for a, b in zip(before, d.parameters(), strict=True))


def test_no_momentum_and_no_memory_are_settings():
    g, d = networks()
    for algorithm, settings in (
        (gan_algorithm_1, GanSettings(m=M, momentum=0.0)),
        (wgan_algorithm_1, WganSettings(m=M, decay=0.0)),
    ):
        assert len(list(algorithm(g, d, data=draws(1, 9), noise=lambda m: draws(2, 1)[0], iterations=1,
                                  settings=settings))) == 1  # fmt: skip


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("objective", ["non_saturating", "wasserstein"])
def test_every_penalty_trains_in_any_units(objective, penalty):
    # Powers of two scale exactly; Adam's ε is the one number that is not converted.
    data = two_peaks().sample(200, np.random.default_rng(0))
    recipe = replace(recipe_for(objective, penalty), width=8, batch=8, chunk=2, depths=(1, 1))
    clouds = []
    for scale in (1.0, 256.0):
        ensemble = fit_gan(scale * data, recipe=recipe, members=1, steps=4, seed=1)
        assert not ensemble.diverged.any()
        clouds.append(ensemble.sampler(0)(50, np.random.default_rng(0)) / scale)
    one_centred_logit = objective == "non_saturating" and penalty in ("gradient_penalty", "one_sided")
    # The slope of a logit has a unit, and "one" means something else in another.
    if not one_centred_logit:
        assert clouds[1] == pytest.approx(clouds[0], abs=2e-3)


@pytest.mark.parametrize(
    ("recipe", "alike"),
    [
        (recipe_for("non_saturating"), True),
        (recipe_for("wasserstein"), True),
        (recipe_for("mmd"), False),
        (recipe_for("non_saturating", "gradient_penalty"), False),
        (RECIPES["wgan_algorithm_1"], False),
        (replace(recipe_for("wasserstein"), method="sgd", learning_rate=1e-5), False),
    ],
    ids=["standard", "critic", "mmd", "slope-of-logit", "clip", "critic-sgd"],
)
def test_units_matter_where_the_docstring_says(recipe, alike):
    data = ring().sample(500, np.random.default_rng(0))
    recipe = replace(recipe, width=16, batch=16, chunk=1, depths=(2, 2))
    clouds = []
    for scale in (1.0, 1024.0):
        ensemble = fit_gan(scale * data, recipe=recipe, members=1, steps=20, seed=1)
        clouds.append(ensemble.sampler(0)(200, np.random.default_rng(0)) / scale)
    assert (float(abs(clouds[1] - clouds[0]).max()) < 1e-3) == alike


def test_a_packed_recipe_builds_a_discriminator_of_packs():
    data = np.random.default_rng(0).normal(size=(50, 2)) + [5.0, -1.0]
    recipe = Recipe(pack=4, width=8, batch=8, chunk=2)
    units = Units.of(data)
    network = units.discriminator(recipe, [np.random.default_rng(k) for k in range(2)])
    assert (network.sizes[0], network.pack) == (8, 4)
    # Each point of a pack is standardised alike.
    center = torch.tensor(np.tile(units.center, 4), dtype=torch.float32)
    assert float(network.before(center).abs().max()) < 1e-4
    assert not fit_gan(data, recipe=recipe, members=2, steps=3).diverged.any()
    assert next(itertools.islice(units.discriminator(replace(recipe, objective="mmd"),
                                                     [np.random.default_rng(0)]).sizes, 4, None)) == 8  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"method": "lion"}, "method must be one of adam, rmsprop, sgd"),
        ({"schedule": "linear"}, "schedule must be one of cosine, constant"),
        ({"pack": 3}, "pack must divide batch = 64"),
        ({"pack": 0}, "pack must be at least 1"),
        ({"spectral": 0.0}, "spectral must be in"),
    ],
)
def test_a_bad_recipe_is_named(changes, match):
    with pytest.raises(InputError, match=match):
        Recipe(**changes)
