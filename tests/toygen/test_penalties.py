"""Penalties against hand-written gradients, and their own double backward against finite differences."""

import dataclasses
import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch

from divergences import Gaussian, InputError
from toygen import MLP, gan, penalties, train
from toygen.game import Game
from toygen.layers import MinibatchFeatures, SpectralLinear
from toygen.networks import pack_points
from toygen.objectives import minimax, wasserstein
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
    with pytest.raises(InputError, match="none, r1, r2, r1_r2, gradient_penalty, one_sided, zero_centred, clip, spect"):
        penalty_by_name("dropout")
    with pytest.raises(InputError, match="build it with SpectralLinear"):
        gan_of(network(), penalties.spectral)
    with pytest.raises(InputError, match="build it with MinibatchFeatures"):
        gan_of(network(), penalties.minibatch)
    with pytest.raises(InputError, match="scores a minibatch as a whole"):
        gan_of(company_network(), penalties.r1)


def company_network(members=3, kernels=2):
    rngs = [np.random.default_rng(k) for k in range(members)]
    company = MinibatchFeatures(8, rngs, kernels=kernels, dims=3, dtype=torch.float64)
    return MLP([2, 8, 8, 1], rngs, dtype=torch.float64, company=company)


def gan_of(discriminator, penalty, objective=minimax):
    rngs = [np.random.default_rng(10 + k) for k in range(3)]
    generator = MLP([2, 8, 2], rngs, dtype=torch.float64)
    return generator, gan(
        generator, discriminator, objective=objective, latent=Gaussian([0.0, 0.0], np.eye(2)), penalty=penalty, rng=rngs
    )


def test_one_sided_lets_gentle_slopes_be():
    normal = torch.tensor([[[3.0], [4.0]], [[0.0], [0.5]]], dtype=torch.float64)
    one = gradient_penalty(lambda y: y @ normal, points(2), center=1.0, one_sided=True)
    both = gradient_penalty(lambda y: y @ normal, points(2), center=1.0)
    assert one.detach().numpy() == pytest.approx([16.0, 0.0], abs=1e-12)
    assert both.detach().numpy() == pytest.approx([16.0, 0.25], abs=1e-12)
    play = played(network())
    between = interpolate(play.real, play.fake, play.mix)
    for penalty, settings in ((penalties.one_sided, {"center": 0.1, "one_sided": True}), (penalties.zero_centred, {})):
        expected = gradient_penalty(play.critic, between, **(settings | ({"center": 1.0} if settings else {})))
        assert penalty.term(play).detach().numpy() == pytest.approx(expected.detach().numpy(), rel=1e-12)


def spectral_network(gain=1.0):
    rngs = [np.random.default_rng(k) for k in range(3)]
    return MLP([2, 24, 24, 1], rngs, dtype=torch.float64, layer=partial(SpectralLinear, gain=gain))


def test_spectral_normalisation_against_the_singular_values():
    critic = spectral_network(gain=1.5)
    for layer in critic.layers:
        layer.follow(200)
        exact = torch.linalg.matrix_norm(layer.weight, ord=2)
        assert layer.sigma().detach().numpy() == pytest.approx(exact.detach().numpy(), rel=1e-9)
        scaled = torch.linalg.matrix_norm(layer.scaled_weight(), ord=2).detach().numpy()
        assert scaled == pytest.approx(np.full(3, 1.5), rel=1e-9)
        # Its derivative is that of σ itself: v uᵀ, with the vectors held still.
        (slope,) = torch.autograd.grad(layer.sigma().sum(), layer.weight)
        assert torch.allclose(slope, layer.v @ layer.u.mT, atol=1e-12)
    # Gains 1.5 and slopes of at most 1 in between: no secant is steeper than 1.5³.
    x = points(n=400).flip(1)
    rise = (critic(points(n=400)) - critic(x))[..., 0].abs() / (points(n=400) - x).norm(dim=-1)
    assert 0 < float(rise.detach().max()) <= 1.5**3


def test_sigma_is_followed_through_training_and_by_training_only():
    critic = spectral_network()
    before = [layer.u.clone() for layer in critic.layers]
    critic(points())
    assert all(torch.equal(layer.u, u) for layer, u in zip(critic.layers, before, strict=True))
    _, turns = gan_of(critic, penalties.spectral)
    batches = (points(n=16, seed=i) for i in itertools.count())
    for _ in train(turns, batches, 40):
        pass
    for layer in critic.layers:
        scaled = torch.linalg.matrix_norm(layer.scaled_weight(), ord=2)
        assert scaled.detach().numpy() == pytest.approx(np.ones(3), rel=1e-3)
    assert any(not torch.equal(layer.u, u) for layer, u in zip(critic.layers, before, strict=True))


def test_minibatch_features_by_hand_and_apart_for_data_and_fakes():
    critic, x = company_network(), points(n=5)
    for k in range(3):
        mapped = (x[k, :, :1] * critic.company.weight.detach()[k, :1]).reshape(5, 2, 3)
        by_hand = [[sum(torch.exp(-(mapped[i, c] - mapped[j, c]).abs().sum()) for j in range(5)) for c in range(2)]
                   for i in range(5)]  # fmt: skip
        wide = torch.zeros(3, 5, 8, dtype=torch.float64)
        wide[..., 0] = x[..., 0]
        assert critic.company(wide)[k].detach().numpy() == pytest.approx(torch.tensor(by_hand).numpy())
    # A collapsed minibatch is seen at once: every point has all the company there is.
    same = critic.company(torch.ones(3, 5, 8, dtype=torch.float64))
    assert torch.equal(same.detach(), torch.full((3, 5, 2), 5.0, dtype=torch.float64))
    # In the game data are compared with data, and generated points with generated points.
    game = Game(MLP([2, 8, 2], [np.random.default_rng(k) for k in range(3)]), critic, minimax, penalties.minibatch)
    fake = points(n=5, seed=3)
    apart = minimax.discriminator_loss(critic(x)[..., 0], critic(fake)[..., 0])
    assert torch.equal(game.of_discriminator(x, fake), apart)
    joint = critic(torch.cat([x, fake], 1))[..., 0]
    assert not torch.allclose(minimax.discriminator_loss(joint[:, :5], joint[:, 5:]), apart)


def test_packs_are_points_side_by_side():
    x = torch.arange(12.0).reshape(1, 6, 2)
    assert pack_points(x, 3).tolist() == [[[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]]
    assert pack_points(x, 1) is x
    with pytest.raises(InputError, match="does not divide into packs of 4"):
        pack_points(x, 4)
    with pytest.raises(InputError, match="needs an input width it divides; it is 2"):
        network().packed(3)


def test_instance_noise_is_added_in_both_turns_with_its_standard_deviation():
    seen = []

    class Watching(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, x):
            seen.append(x.detach())
            return self.inner(x)

    generator, (judge, maker) = gan_of(Watching(), penalties.instance_noise.weighted(0.25))
    for parameter in generator.parameters():
        parameter.data.zero_()
    batch = torch.full((3, 4000, 2), 7.0, dtype=torch.float64)
    judge.loss(batch)
    maker.loss(batch)
    both, fakes = seen
    for cloud, center in ((both[:, :4000], 7.0), (both[:, 4000:], 0.0), (fakes, 0.0)):
        assert float(cloud.mean()) == pytest.approx(center, abs=5 * 0.25 / math.sqrt(24_000))
        assert cloud.std(dim=(1, 2)).numpy() == pytest.approx(np.full(3, 0.25), rel=0.05)
    assert not torch.equal(both[0, :4000] - 7, both[1, :4000] - 7)


def test_consensus_puts_friction_into_a_rotating_game():
    # The Dirac-GAN: p = δ₀, G(z) = θ, D(x) = φx, and V = φ·0 − φ·θ: alternating descent circles, consensus winds in.
    class Point(torch.nn.Module):
        def __init__(self, start):
            super().__init__()
            self.at = torch.nn.Parameter(torch.full((1, 1, 1), start, dtype=torch.float64))

    class Place(Point):
        def forward(self, z):
            return self.at + 0 * z

    class Slope(Point):
        def forward(self, x):
            return self.at * x

    ends = {}
    for penalty in (penalties.none, penalties.consensus.weighted(1.0)):
        g, d = Place(1.0), Slope(0.0)
        turns = gan(g, d, objective=wasserstein, latent=Gaussian(0.0, 1.0), penalty=penalty,
                    optimizer=partial(torch.optim.SGD, lr=0.1), rng=[np.random.default_rng(0)])  # fmt: skip
        for _ in train(turns, itertools.repeat(torch.zeros(1, 4, 1, dtype=torch.float64)), 120):
            pass
        ends[penalty.name] = math.hypot(float(g.at.detach()), float(d.at.detach()))
    assert ends["none"] > 0.8
    # |∇_φ L_D|² = θ² and |∇_θ L_G|² = φ²: both shrink by a factor of about 1 − 0.1·γ a round.
    assert ends["consensus"] < 1e-4


def test_unrolling_differentiates_through_the_discriminators_own_moves():
    # The same game, by hand: φₙ = φ + nηθ after n moves, L_G = −φₙθ, dL_G/dθ = −φ − 2nηθ (without unrolling: −φ).
    at, slope = 0.8, 0.3

    class Place(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.at = torch.nn.Parameter(torch.full((1, 1, 1), at, dtype=torch.float64))

        def forward(self, z):
            return self.at + 0 * z

    class Slope(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.at = torch.nn.Parameter(torch.full((1, 1, 1), slope, dtype=torch.float64))

        def forward(self, x):
            return self.at * x

    for moves, expected in ((0, -slope), (1, -slope + 2 * 0.05 * at), (4, -slope + 2 * 4 * 0.05 * at)):
        g, d = Place(), Slope()
        penalty = dataclasses.replace(penalties.unrolled, foresight=moves, rate=0.05)
        game = Game(g, d, wasserstein, penalty)
        real = torch.zeros(1, 4, 1, dtype=torch.float64)
        game.of_generator(real, g(torch.zeros(1, 4, 1, dtype=torch.float64))).sum().backward(inputs=[g.at])
        assert float(g.at.grad) == pytest.approx(expected, abs=1e-12)
        assert float(d.at.detach()) == slope


def test_the_weight_may_be_a_tensor_that_is_turned():
    weight = torch.tensor(2.0)
    penalty = dataclasses.replace(penalties.r1, weight=weight)
    weight.fill_(3.0)
    assert float(penalty.weight) == 3.0
