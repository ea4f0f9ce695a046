"""Penalties against hand-written gradients, and their own double backward against finite differences."""

import dataclasses

import numpy as np
import pytest
import torch

from divergences import InputError
from toygen import MLP, penalties
from toygen.penalties import Play, clip_weights, gradient_penalty, interpolate, penalty_by_name, slopes


def network(members=3, width=8):
    return MLP([2, width, width, 1], [np.random.default_rng(k) for k in range(members)], dtype=torch.float64)


def points(members=3, n=6, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=(members, n, 2)))


def test_the_slope_of_a_plane_is_its_normal():
    normal = torch.tensor([[[3.0], [4.0]], [[0.0], [1.0]]], dtype=torch.float64)
    x = points(2)
    for center, expected in ((0.0, [25.0, 1.0]), (1.0, [16.0, 0.0]), (5.0, [0.0, 16.0])):
        penalty = gradient_penalty(lambda y: y @ normal, x, center=center)
        assert penalty.detach().numpy() == pytest.approx(expected, abs=1e-12)


def test_a_quadratic_critic_by_hand():
    x = points()
    penalty = gradient_penalty(lambda y: y.square().sum(-1), x)
    assert penalty.detach().numpy() == pytest.approx((4 * x.square().sum(-1)).mean(1).numpy(), rel=1e-12)


@pytest.mark.parametrize("center", [0.0, 1.0])
def test_its_derivative_in_the_weights_is_right(center):
    critic, x = network(), points()
    loss = gradient_penalty(critic, x, center=center).sum()
    gradients = torch.autograd.grad(loss, list(critic.parameters()), allow_unused=True)
    for parameter, gradient in zip(critic.parameters(), gradients, strict=True):
        flat = parameter.data.view(-1)
        for place in (0, flat.numel() // 2):
            flat[place] += 1e-6
            up = float(gradient_penalty(critic, x, center=center).detach().sum())
            flat[place] -= 2e-6
            down = float(gradient_penalty(critic, x, center=center).detach().sum())
            flat[place] += 1e-6
            analytic = 0.0 if gradient is None else float(gradient.reshape(-1)[place])
            assert analytic == pytest.approx((up - down) / 2e-6, abs=1e-7)


def test_a_flat_critic_has_a_finite_derivative():
    critic = network()
    for parameter in critic.parameters():
        parameter.data.zero_()
    for center in (0.0, 1.0):
        loss = gradient_penalty(critic, points(), center=center).sum()
        gradients = torch.autograd.grad(loss, list(critic.parameters()), allow_unused=True)
        assert all(torch.isfinite(g).all() for g in gradients if g is not None)


def test_each_member_pays_for_itself_alone():
    critic, x = network(), points()
    penalty = gradient_penalty(critic, x)
    gradient = torch.autograd.grad(penalty[1], critic.layers[0].weight)[0]
    assert gradient[1].abs().sum() > 0
    assert gradient[[0, 2]].abs().sum() == 0
    alone = gradient_penalty(critic.pick([1]), x[1:2])
    assert float(alone.detach()) == pytest.approx(float(penalty[1].detach()), rel=1e-12)


def played(critic, n=6):
    x = points(n=2 * n).requires_grad_()
    mix = torch.tensor(np.random.default_rng(7).random((3, n, 1)))

    def score(y):
        return critic(y)[..., 0]

    return Play(score, x, score(x), mix)


def test_the_shared_pass_of_r1_r2_equals_the_two_alone():
    play = played(network())
    both = penalties.r1_r2.term(play)
    apart = penalties.r1.term(play) + penalties.r2.term(play)
    assert both.detach().numpy() == pytest.approx(apart.detach().numpy(), rel=1e-12)
    halves = 0.5 * gradient_penalty(play.critic, play.real) + 0.5 * gradient_penalty(play.critic, play.fake)
    assert both.detach().numpy() == pytest.approx(halves.detach().numpy(), rel=1e-12)


def test_wgan_gp_looks_between_the_pairs():
    play = played(network())
    between = play.mix * play.real + (1 - play.mix) * play.fake
    assert torch.allclose(interpolate(play.real, play.fake, play.mix), between, atol=1e-15)
    expected = gradient_penalty(play.critic, between, center=1.0)
    assert penalties.wgan_gp.term(play).detach().numpy() == pytest.approx(expected.detach().numpy(), rel=1e-12)


def test_clipping_is_a_projection():
    critic = network()
    before = [parameter.detach().clone() for parameter in critic.parameters()]
    clip_weights(critic.parameters(), 0.05)
    for old, new in zip(before, critic.parameters(), strict=True):
        assert torch.equal(new.detach(), old.clamp(-0.05, 0.05))
    assert any((old.abs() > 0.05).any() for old in before)


@pytest.mark.parametrize("bound", [0.0, -1.0, float("nan"), "a"])
def test_a_bound_must_be_positive(bound):
    with pytest.raises(InputError, match="bound"):
        clip_weights(network().parameters(), bound)


def test_misuse_is_named():
    with pytest.raises(InputError, match=r"x must have shape \(members, batch, d\)"):
        gradient_penalty(network(), torch.zeros(4, 2, dtype=torch.float64))
    with pytest.raises(InputError, match="must require gradients"):
        slopes(torch.zeros(3, 4), points())
    x = points().requires_grad_()
    with pytest.raises(InputError, match="do not depend on x"):
        slopes(torch.zeros(3, 6, requires_grad=True), x)
    with pytest.raises(InputError, match="none, r1, r2, r1_r2, gradient_penalty, clip"):
        penalty_by_name("spectral")


def test_the_weight_may_be_a_tensor_that_is_turned():
    weight = torch.tensor(2.0)
    penalty = dataclasses.replace(penalties.r1, weight=weight)
    weight.fill_(3.0)
    assert float(penalty.weight) == 3.0
