"""The truth beside the losses: every reading against a computation of its own."""

import csv
import functools
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from divergences import (
    Gaussian,
    InputError,
    Mixture,
    MonteCarlo,
    Quadrature,
    Uniform,
    gan_regret,
    gan_value,
    jsd,
    pushforward,
    wasserstein,
)
from evaluation import mode_coverage
from toygen import MLP, Recipe, Sampler, parallel_lines, ring, two_peaks
from toygen.layers import Affine
from toygen.monitor import History, Truth, Yardstick, monitor
from toygen.objectives import OBJECTIVES
from toygen.pieces import Kinked, Pieces, kinks, line_exact
from toygen.plane_pieces import PlanePieces, plane_exact
from toygen.probes import clouds, game_gradients, slopes_between, transport
from toygen.runs import GanRun, Progress
from toygen.train import Step

RING, PEAKS = ring(), two_peaks()
TINY = Recipe(width=8, depths=(1, 1), chunk=2, batch=16)
LINE = replace(TINY, latent_dim=1)


def net(sizes, members, seed, **more):
    return MLP(sizes, np.random.default_rng(seed).spawn(members), **more)


def line(weight, bias, members=1):
    """x ↦ weight·x + bias on the line, in float64."""
    network = net([1, 1], members, 0, dtype=torch.float64)
    with torch.no_grad():
        network.dense[0].weight.fill_(weight)
        network.dense[0].bias.fill_(bias)
    return network


def plane(matrix, bias, members=1):
    network = net([2, len(bias)], members, 0, dtype=torch.float64)
    with torch.no_grad():
        network.dense[0].weight.copy_(torch.tensor(np.broadcast_to(matrix, (members, 2, len(bias))).copy()))
        network.dense[0].bias.copy_(torch.tensor(np.broadcast_to(bias, (members, 1, len(bias))).copy()))
    return network


def step(index=0):
    return Step(index, {})


@functools.cache
def yardstick(target, n):
    """The null takes a linear program per pair: once for all tests."""
    return Yardstick(target, n=n, rng=np.random.default_rng(9))


def look(target, generator, discriminator, *, objective="minimax", seed=0, n=100, **more):
    return monitor(
        step(),
        yardstick(target, n),
        objective=objective,
        generator=generator,
        discriminator=discriminator,
        rng=np.random.default_rng(seed),
        **more,
    )


# --- distances -------------------------------------------------------------------------------------------------------


def test_transport_on_the_line_is_scipys():
    from scipy.stats import wasserstein_distance

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 40, 1)), rng.standard_exponential((5, 40, 1))
    found = transport(x, y)
    expected = [wasserstein_distance(a[:, 0], b[:, 0]) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(found.value, expected, rtol=1e-12)


def test_transport_in_the_plane_is_the_best_assignment():
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 3, 30, 2))
    for k, (a, b) in enumerate(zip(x, y, strict=True)):
        cost = cdist(a, b)
        rows, columns = linear_sum_assignment(cost)
        assert transport(x, y).value[k] == pytest.approx(cost[rows, columns].mean(), rel=1e-9)


def test_the_error_of_transport_is_that_of_optimal_potentials():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(1, 60, 1)), 3 + rng.normal(size=(1, 60, 1))
    parts = wasserstein(x[0], y[0]).potentials
    expected = 1.959964 * np.sqrt(sum(part.var(ddof=1) / 60 for part in parts))
    # Potentials are unique up to a constant where the laws overlap; here mass moves everywhere.
    assert transport(x, y).error[0] == pytest.approx(expected, rel=0.05)


def test_intervals_of_transport_hold_the_expected_distance():
    # 2000 members are 2000 repetitions; their mean is the expected distance, known to 2 % of an interval.
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2000, 100, 1)), 1 + 2 * rng.normal(size=(2000, 100, 1))
    found = transport(x, y)
    held = (np.abs(found.value - found.value.mean()) <= found.error).mean()
    assert 0.93 <= held <= 0.975


def test_the_null_holds_a_fresh_pair_nineteen_times_in_twenty():
    law, held = PEAKS, 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        low, high = Yardstick(law, n=20, rng=rng).transport_null.interval
        pair = transport(*(law.sample(20, rng).reshape(1, 20, 1) for _ in range(2))).value[0]
        held += low <= pair <= high
    # Binomial(120, 0.95) is below 105 with probability 0.0007.
    assert held >= 105


# --- networks --------------------------------------------------------------------------------------------------------


def test_the_slope_of_a_linear_critic_is_its_weight():
    critic = plane(np.array([[3.0], [4.0]]), np.array([1.0]), members=3)
    rng = np.random.default_rng(4)
    steepest, mean = slopes_between(
        critic, rng.normal(size=(3, 9, 2)), rng.normal(size=(3, 9, 2)), rng.random((3, 9, 1))
    )
    np.testing.assert_allclose(steepest, 5.0)
    np.testing.assert_allclose(mean.value, 5.0)


def test_gradients_of_a_linear_game_are_its_moments():
    rng = np.random.default_rng(5)
    z, x = rng.normal(size=(1, 40, 1)), rng.normal(size=(1, 40, 1))
    ours, theirs = game_gradients(line(2.0, 1.0), line(-3.0, 0.5), OBJECTIVES["wasserstein"], z, x)
    # L_D = E D(G(z)) − E D(x), D = vx + c; L_G = −E D(G(z)), G = wz + b.
    assert ours.value[0] == pytest.approx(abs((2 * z + 1).mean() - x.mean()))
    assert theirs.value[0] == pytest.approx(np.hypot(3 * z.mean(), 3.0))
    halves = [(2 * z + 1)[:, part].mean() - x[:, part].mean() for part in (slice(0, 20), slice(20, 40))]
    assert ours.error[0] == pytest.approx(abs(halves[0] - halves[1]) / 2)


def test_looking_leaves_gradients_and_weights_alone():
    generator, discriminator = net([1, 4, 1], 2, 0), net([1, 4, 1], 2, 1)
    before = [p.detach().clone() for p in (*generator.parameters(), *discriminator.parameters())]
    look(PEAKS, generator, discriminator)
    for was, now in zip(before, (*generator.parameters(), *discriminator.parameters()), strict=True):
        assert torch.equal(was, now.detach())
        assert now.grad is None
        assert now.requires_grad


def test_kinks_are_where_the_slope_changes_and_nowhere_else():
    network = net([1, 6, 6, 1], 1, 12, dtype=torch.float64, before=Affine([0.3], [2.0], dtype=torch.float64))
    places = kinks(network, reach=5.0)
    assert len(places) > 3
    assert ((np.diff(places) > 0) & (np.abs(places[1:]) < 5)).all()

    def slopes(x):
        points = torch.from_numpy(x)[None, :, None].requires_grad_()
        return torch.autograd.grad(network(points).sum(), points)[0][0, :, 0].numpy()

    left, right = slopes(places - 1e-9), slopes(places + 1e-9)
    assert (np.abs(left - right) > 1e-12).all()
    # Between neighbours the slope is constant.
    ends = np.concatenate([[-5.0], places, [5.0]])
    for a, b in itertools.pairwise(ends):
        inside = slopes(np.linspace(a, b, 12)[1:-1])
        np.testing.assert_allclose(inside, inside[0], rtol=1e-12)


def test_the_density_of_a_kinked_generator_is_resolved():
    """Four generators that bend sharply: the JSD against a histogram of samples, which cannot exceed it by more."""
    generator = net([1, 16, 16, 1], 4, 13, after=Affine([0.0], [4.0]))
    target = Gaussian(0.0, 1.0)
    truth = look(target, generator, net([1, 4, 1], 4, 14), densities=4)
    assert "jsd of some" not in truth.absent
    edges = np.linspace(-8, 8, 401)
    z = np.random.default_rng(15).standard_normal((4, 200_000, 1))
    mass = np.diff(target.cdf(edges))
    for k, cloud in enumerate(clouds(generator, z)):
        share = np.histogram(cloud, edges)[0] / cloud.size
        middle = (mass + share) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = [np.nansum(side * np.log(side / middle)) / 2 for side in (mass, share)]
        # Bins lose a little (data processing), counting adds about bins/(8n).
        assert sum(parts) == pytest.approx(truth.jsd.value[k], abs=0.01)


def bent(seed, sizes, gain=1.5, **more):
    """A network on the line with sharper bends than a fresh one has."""
    network = net(sizes, 1, seed, dtype=torch.float64, **more)
    with torch.no_grad():
        for layer in network.dense[:-1]:
            layer.weight.mul_(gain)
    return network


@pytest.mark.parametrize(("seed", "target"), [(0, PEAKS), (1, Uniform(-1.0, 2.0)), (2, Gaussian(0.5, 0.01))])
def test_pieces_agree_with_the_general_pushforward(seed, target):
    generator = bent(seed, [1, 16, 16, 16, 1], after=Affine([0.0], [3.0], dtype=torch.float64))
    discriminator = bent(seed + 9, [1, 16, 16, 1])
    found = line_exact(generator, discriminator, target, "flipped_half")
    law = pushforward(Sampler(generator, Gaussian(0.0, 1.0)).push, Kinked(kinks(generator)))
    expect = Quadrature(tol=1e-5, max_nodes=400_000)

    def logit(x):
        with torch.no_grad():
            return discriminator(torch.from_numpy(x)[None])[0, :, 0].numpy()

    apart = jsd(target, law, expect=expect)
    short = gan_regret(logit, target, law, convention="flipped_half", expect=expect)
    assert abs(found.jsd - apart.value) <= apart.error + found.jsd_error
    assert abs(found.regret - short.value) <= short.error + found.regret_error
    assert apart.error < 1e-3
    assert found.jsd_error < 1e-5
    assert found.singular_mass == 0.0


def test_pieces_are_exact_where_the_law_is_known():
    p, q = Gaussian(0.0, 1.0), Gaussian(1.0, 4.0)
    found = line_exact(line(2.0, 1.0), line(-0.5, 0.2), p, "goodfellow")
    apart = jsd(p, q, expect=Quadrature(tol=1e-12))
    short = gan_regret(lambda x: -0.5 * x[:, 0] + 0.2, p, q, expect=Quadrature(tol=1e-12))
    assert abs(found.jsd - apart.value) <= found.jsd_error + apart.error
    assert abs(found.regret - short.value) <= found.regret_error + short.error
    assert found.jsd_error < 1e-7


def test_the_density_of_pieces_integrates_to_one():
    pieces = Pieces.of(bent(3, [1, 16, 16, 1]))
    edges = np.unique(pieces.y)
    inside = (edges[:-1] + edges[1:]) / 2
    nodes, weights = np.polynomial.legendre.leggauss(12)
    half = np.diff(edges) / 2
    total = (half * (pieces.density(inside, inside[:, None] + half[:, None] * nodes) @ weights)).sum()
    assert total == pytest.approx(1.0, abs=1e-9)


def test_a_generator_that_does_not_move_is_an_atom():
    """All of p_g on one point: JSD = log 2, and the regret is that of D's logit a, E_p softplus(−a) + softplus(a)."""
    found = line_exact(line(0.0, 0.7), line(0.0, 0.3), PEAKS, "goodfellow")
    assert found.singular_mass == pytest.approx(1.0)
    assert found.jsd == pytest.approx(np.log(2))
    assert found.regret == pytest.approx(np.logaddexp(0, -0.3) + np.logaddexp(0, 0.3), abs=1e-9)


def folded(seed):
    """A network of the plane with folds."""
    network = net([2, 12, 12, 2], 1, seed, dtype=torch.float64, after=Affine([0.0, 0.0], [2.0, 2.0], torch.float64))
    with torch.no_grad():
        for layer in network.dense:
            layer.weight.mul_(1.7)
    return network


def test_preimages_in_the_plane_are_those_of_the_general_pushforward():
    generator = folded(0)
    base = Gaussian(np.zeros(2), np.eye(2))
    x = clouds(generator, np.random.default_rng(16).standard_normal((1, 200, 2)))[0]
    found = PlanePieces(generator).preimages(x)
    pushed = PlanePieces(generator).push(found.z)
    np.testing.assert_allclose(pushed, x[found.query], atol=1e-8)
    weight = np.exp(base.log_prob(found.z)) / found.volume
    density = np.bincount(found.query, weights=weight, minlength=200)
    general = np.exp(pushforward(Sampler(generator, base).push, base).log_prob(x))
    alike = np.abs(density / general - 1) < 1e-6
    # Both may miss a pair of preimages beside a fold.
    assert alike.mean() >= 0.97
    assert np.bincount(found.query, minlength=200).max() >= 3


def test_errors_in_the_plane_hold_what_the_general_pushforward_says():
    base, target = Gaussian(np.zeros(2), np.eye(2)), Gaussian([0.3, 0.0], np.eye(2))
    discriminator = net([2, 8, 1], 1, 5, dtype=torch.float64)

    def logit(x):
        with torch.no_grad():
            return discriminator(torch.from_numpy(x)[None])[0, :, 0].numpy()

    generator = folded(1)
    found = plane_exact(generator, discriminator, target, "goodfellow", rng=np.random.default_rng(17), n=1000)
    law = pushforward(Sampler(generator, base).push, base)
    expect = MonteCarlo(np.random.default_rng(18), n=1500)
    apart, short = jsd(target, law, expect=expect), gan_regret(logit, target, law, expect=expect)
    assert abs(found.jsd - apart.value) <= 2 * (found.jsd_error + apart.error)
    assert abs(found.regret - short.value) <= 2 * (found.regret_error + short.error)
    assert found.jsd_error < 0.04


def test_a_generator_of_the_plane_that_does_not_move_is_singular():
    found = plane_exact(
        plane(np.zeros((2, 2)), np.ones(2)),
        plane(np.zeros((2, 1)), np.array([0.3])),
        RING,
        "goodfellow",
        rng=np.random.default_rng(0),
        n=50,
    )
    assert found.singular_mass == 1.0
    assert found.jsd == pytest.approx(np.log(2))
    assert found.regret == pytest.approx(np.logaddexp(0, -0.3) + np.logaddexp(0, 0.3))


# --- the game --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["minimax", "flipped", "flipped_half"])
def test_densities_on_the_line_are_those_of_the_gaussian_that_it_is(name):
    p, q = Gaussian(0.0, 1.0), Gaussian(1.0, 4.0)
    truth = look(p, line(2.0, 1.0), line(-0.5, 0.2), objective=name, densities=1, n=4000)
    convention = OBJECTIVES[name].convention
    regret = gan_regret(lambda x: -0.5 * x[:, 0] + 0.2, p, q, convention=convention)
    value = gan_value(lambda x: -0.5 * x[:, 0] + 0.2, p, q, convention=convention)
    assert abs(truth.jsd.value[0] - jsd(p, q).value) <= truth.jsd.error[0] + 1e-9
    assert abs(truth.regret.value[0] - regret.value) <= truth.regret.error[0] + 1e-9
    assert abs(truth.value.value[0] - value.value) <= 2 * truth.value.error[0]
    total = truth.value.value[0] + truth.regret.value[0]
    assert abs(total - truth.best.value[0]) <= 2 * truth.value.error[0] + truth.regret.error[0] + truth.best.error[0]


def test_densities_in_the_plane_are_those_of_the_gaussian_that_it_is():
    p = Gaussian([0.0, 0.0], np.eye(2))
    matrix, bias = np.array([[1.5, 0.3], [0.0, 0.8]]), np.array([0.7, -0.2])
    q = Gaussian(bias, matrix.T @ matrix)
    logit = np.array([[0.4], [-0.9]])
    truth = look(p, plane(matrix, bias), plane(logit, np.array([0.1])), densities=1)
    rng = np.random.default_rng(6)
    exact = jsd(p, q, expect=MonteCarlo(rng, n=200_000))
    regret = gan_regret(lambda x: (x @ logit)[:, 0] + 0.1, p, q, expect=MonteCarlo(rng, n=200_000))
    # Two independent 95 % intervals, widened to four standard errors.
    assert abs(truth.jsd.value[0] - exact.value) <= 2 * (truth.jsd.error[0] + exact.error)
    assert abs(truth.regret.value[0] - regret.value) <= 2 * (truth.regret.error[0] + regret.error)
    assert truth.jsd.error[0] < 0.02


def test_a_critic_claims_the_difference_of_means():
    truth = look(Gaussian(0.0, 1.0), line(1.0, 2.0), line(-3.0, 0.0), objective="wasserstein", n=4000)
    assert abs(truth.critic.value[0] - 6.0) <= 2 * truth.critic.error[0]
    assert truth.critic.value[0] <= truth.steepest[0] * (truth.transport.value[0] + 1e-9) * 1.05
    assert "value" in truth.absent
    assert truth.value is None


# --- modes -----------------------------------------------------------------------------------------------------------


def test_modes_and_quality_are_those_of_the_audit():
    target = ring(modes=5, scale=0.1)
    generator = net([2, 16, 2], 3, 7, after=Affine([0.0, 0.0], [2.0, 2.0]))
    truth = look(target, generator, net([2, 4, 1], 3, 8), seed=11)
    # The same draws again: each member's stream gives its latents first.
    latents = np.stack([stream.standard_normal((100, 2)) for stream in np.random.default_rng(11).spawn(3)])
    audits = [mode_coverage(generated=cloud, modes=target) for cloud in clouds(generator, latents)]
    assert truth.modes.tolist() == [own.captured for own in audits]
    np.testing.assert_allclose(truth.high_quality.value, [own.high_quality.value for own in audits])
    assert truth.high_quality_null == pytest.approx(audits[0].high_quality_null)
    assert truth.modes_total == 5
    assert truth.high_quality.value.max() > 0


def test_the_null_of_modes_is_what_a_perfect_generator_reaches():
    law = Mixture([Gaussian(0.0, 1.0), Gaussian(100.0, 1.0)], [0.99, 0.01])
    null = Yardstick(law, n=50, rng=np.random.default_rng(0)).modes_null
    rng = np.random.default_rng(1)
    seen = [mode_coverage(generated=law.sample(50, rng), modes=law).captured for _ in range(40)]
    assert abs(np.mean(seen) - null) <= 4 * np.std(seen) / 40**0.5


# --- what cannot be had ----------------------------------------------------------------------------------------------


def test_what_is_absent_says_why():
    target = RING
    truth = look(target, net([3, 4, 2], 2, 0), net([2, 4, 1], 2, 1), objective=None, densities=2)
    assert "3 dimensions" in truth.absent["jsd"]
    assert "not named" in truth.absent["value"]
    assert truth.jsd is None
    assert truth.discriminator_gradient is None
    lines = look(parallel_lines(), net([2, 4, 2], 1, 0), net([2, 4, 1], 1, 1), densities=1)
    assert "no density" in lines.absent["jsd"]
    assert "no mixture" in lines.absent["modes"]
    assert np.isfinite(lines.transport.value).all()
    asked = look(target, net([2, 4, 2], 1, 0), net([2, 4, 1], 1, 1))
    assert "densities=0" in asked.absent["jsd"]


def test_a_packed_discriminator_is_measured_on_packs():
    discriminator = net([4, 4, 1], 2, 1).packed(2)
    truth = look(RING, net([2, 4, 2], 2, 0), discriminator)
    assert np.isfinite(truth.value.value).all()
    assert np.isfinite(truth.slope.value).all()


def test_features_have_gradients_but_no_value():
    truth = look(RING, net([2, 4, 2], 2, 0), net([2, 4, 8], 2, 1), objective="mmd")
    assert "features" in truth.absent["value"]
    assert np.isfinite(truth.generator_gradient.value).all()


@pytest.mark.parametrize("target", [RING, PEAKS])
def test_a_diverged_member_keeps_its_nan_to_itself(target):
    dim = target.dim
    generator, discriminator = net([dim, 4, dim], 3, 0), net([dim, 4, 1], 3, 1)
    healthy = look(target, generator, discriminator).columns()
    with torch.no_grad():
        generator.dense[0].weight[1] = torch.nan
    broken = look(target, generator, discriminator).columns()
    for name in ("transport", "high_quality", "value", "slope", "generator_gradient"):
        assert np.isnan(broken[name][1]), name
        np.testing.assert_allclose(broken[name][[0, 2]], healthy[name][[0, 2]], rtol=1e-6)
    assert broken["modes"][1] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": 3}, "step must be a Progress"),
        ({"generator": None}, "generator must be a toygen.MLP"),
        ({"discriminator": net([2, 1], 2, 0)}, "same members"),
        ({"generator": net([2, 3], 1, 0)}, "3 coordinates"),
        ({"target": "ring"}, "target must be a law"),
        ({"objective": "nonsense"}, "objective must be one of"),
        ({"rng": 3}, "rng must be"),
        ({"densities": -1}, "densities must be"),
    ],
)
def test_misuse_is_named(change, message):
    arguments = {
        "step": step(),
        "target": Yardstick(RING, n=8),
        "generator": net([2, 2], 1, 0),
        "discriminator": net([2, 1], 1, 0),
        "rng": np.random.default_rng(0),
        "objective": "minimax",
    }
    arguments |= change
    with pytest.raises(InputError, match=message):
        monitor(arguments.pop("step"), arguments.pop("target"), **arguments)


# --- while training --------------------------------------------------------------------------------------------------


def watched(objective="non_saturating", *, watch=True, members=2):
    data = RING.sample(100, np.random.default_rng(0))
    run = GanRun(data, recipe=replace(TINY, objective=objective), members=members, steps=4, seed=1)
    history = History()
    for progress in run:
        assert isinstance(progress, Progress)
        if watch and progress.step.index % 2:
            history.add(monitor(progress, yardstick(RING, 40), objective=objective, rng=np.random.default_rng(3)))
    return run.result(), history


def test_a_watched_training_is_the_training_nobody_watches():
    seen, unseen = watched()[0], watched(watch=False)[0]
    for a, b in zip(seen.generators.parameters(), unseen.generators.parameters(), strict=True):
        assert torch.equal(a, b)


def test_three_lines_are_enough():
    history, truth = History(), Yardstick(PEAKS, n=40)
    for progress in GanRun(PEAKS.sample(100, np.random.default_rng(0)), recipe=LINE, members=2, steps=4):
        if progress.done % 2 == 0:
            history.add(monitor(progress, truth))
    found = history.arrays()
    assert found["step"].tolist() == [1, 3]
    for name in ("modes", "high_quality", "transport", "jsd", "value", "best", "regret", "slope", "generator_gradient"):
        assert np.isfinite(found[name]).all(), name
        assert found[name].shape == (2, 2), name
    # What is drawn is new at every look, and the same whenever one looks again.
    again = monitor(progress, truth).columns()
    np.testing.assert_array_equal(again["transport"], found["transport"][-1])
    at_start = monitor(progress._replace(step=step(1)), truth).columns()
    assert (at_start["transport"] != again["transport"]).all()


@pytest.mark.parametrize("asked", [1, [3, 1]])
def test_only_those_are_looked_at_who_were_asked_for(asked):
    data, truth = RING.sample(100, np.random.default_rng(0)), yardstick(RING, 40)

    def look(members):
        *_, last = GanRun(data, recipe=replace(TINY, chunk=4), members=members, steps=2)
        return monitor(last, truth, densities=2)

    every, some = look(4), look(asked)
    chosen = [0] if asked == 1 else asked
    assert some.members == tuple(chosen)
    for name, column in some.columns().items():
        if name not in ("jsd", "jsd_error", "best", "best_error", "regret", "regret_error", "singular_mass"):
            np.testing.assert_array_equal(column, every.columns()[name][chosen], err_msg=name)
    assert np.isfinite(some.columns()["jsd"]).all()


def test_history_is_arrays_and_csv(tmp_path):
    history = watched(members=4)[1]
    with pytest.raises(InputError, match="different chunks"):
        history.arrays()
    second = history.arrays(members=(2, 3))
    assert second["step"].tolist() == [1, 3]
    assert second["transport"].shape == (2, 2)
    np.testing.assert_array_equal(second["transport"][0], history.truths[2].transport.value)
    with history.to_csv(tmp_path / "truth.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["step"], row["member"]) for row in rows] == [
        (s, m) for pair in ("01", "23") for s in "13" for m in pair
    ]
    for name, column in history.rows().items():
        np.testing.assert_array_equal([float(row[name] or "nan") for row in rows], column)


def test_the_same_rng_tells_the_same_truth():
    first, second = (watched()[1].truths[-1].columns() for _ in range(2))
    for name, column in first.items():
        np.testing.assert_array_equal(column, second[name])


def test_history_refuses_what_is_no_truth():
    with pytest.raises(InputError, match="what monitor gives"):
        History().add({"step": 3})
    with pytest.raises(InputError, match="no truths yet"):
        History().arrays()
    assert History().rows()["step"].shape == (0,)


def test_truths_are_plain_arrays():
    truth = look(RING, net([2, 4, 2], 3, 0), net([2, 4, 1], 3, 1))
    assert isinstance(truth, Truth)
    assert all(column.shape == (3,) and column.dtype == np.float64 for column in truth.columns().values())
    assert truth.seconds > 0
