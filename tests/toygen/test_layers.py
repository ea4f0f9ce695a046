"""Convolutions, norms and averages with a member axis: each member is a plain torch network, in both derivatives."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from divergences import Gaussian, InputError
from toygen import (
    Average,
    EnsembleBatchNorm,
    EnsembleConv2d,
    EnsembleConvTranspose2d,
    EnsembleLayerNorm,
    EnsembleLinear,
    gan,
    minibatches,
    train,
)
from toygen.objectives import OBJECTIVES
from toygen.penalties import PENALTIES
from toygen.players import AHEAD

F64 = torch.float64
K, BATCH, SIDE = 3, 6, 8


def rngs(*seeds):
    return [np.random.default_rng(seed) for seed in seeds]


def tensor(*shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).standard_normal(shape))


CONVOLUTIONS = [
    (EnsembleConv2d, nn.Conv2d, {"size": 3, "padding": 1}),
    (EnsembleConv2d, nn.Conv2d, {"size": 4, "stride": 2, "padding": 1}),
    (EnsembleConvTranspose2d, nn.ConvTranspose2d, {"size": 4, "stride": 2, "padding": 1}),
    (EnsembleConvTranspose2d, nn.ConvTranspose2d, {"size": 3, "stride": 2}),
]


@pytest.mark.parametrize(("ours", "theirs", "how"), CONVOLUTIONS)
def test_each_member_convolves_like_a_plain_layer_in_both_derivatives(ours, theirs, how):
    layer = ours(2, 5, rngs(*range(K)), dtype=F64, **how)
    x = tensor(K, 4, 2, 6, 6).requires_grad_()
    y = layer(x)
    (slope,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
    slope.square().sum().backward()
    for member in range(K):
        plain = theirs(2, 5, how["size"], how.get("stride", 1), how.get("padding", 0), dtype=F64)
        plain.weight.data, plain.bias.data = layer.weight.data[member].clone(), layer.bias.data[member].clone()
        own = x.detach()[member].requires_grad_()
        expected = plain(own)
        assert (y[member] - expected).abs().max() < 1e-13
        (gradient,) = torch.autograd.grad(expected.sin().sum(), own, create_graph=True)
        gradient.square().sum().backward()
        assert (layer.weight.grad[member] - plain.weight.grad).abs().max() < 1e-11
        assert (x.grad[member] - own.grad).abs().max() < 1e-11


@pytest.mark.parametrize(("ours", "theirs", "how"), CONVOLUTIONS)
def test_the_initial_law_is_that_of_a_plain_layer(ours, theirs, how):
    layer = ours(6, 10, rngs(*range(40)), **how)
    with torch.random.fork_rng():
        plain = theirs(6, 10, how["size"])
    fan = (6 if ours is EnsembleConv2d else 10) * how["size"] ** 2
    found = layer.weight.detach().flatten()
    assert found.abs().max() <= 1 / np.sqrt(fan)
    # Uniform on ±1/√fan; tens of thousands of draws.
    assert float(found.std()) == pytest.approx(1 / np.sqrt(3 * fan), rel=0.02)
    assert float(plain.weight.detach().std()) == pytest.approx(1 / np.sqrt(3 * fan), rel=0.1)
    assert layer.bias.detach().abs().max() <= 1 / np.sqrt(fan)
    alone = ours(6, 10, rngs(7), **how)
    assert torch.equal(alone.weight[0], layer.weight[7])


@pytest.mark.parametrize("shape", [(20,), (5, 4, 4)])
def test_batch_norm_is_that_of_each_member_alone(shape):
    norm = EnsembleBatchNorm(shape[0], K, dtype=F64)
    norm.weight.data, norm.bias.data = tensor(K, shape[0], seed=1), tensor(K, shape[0], seed=2)
    plains = [(nn.BatchNorm1d if len(shape) == 1 else nn.BatchNorm2d)(shape[0], dtype=F64) for _ in range(K)]
    for member, plain in enumerate(plains):
        plain.weight.data, plain.bias.data = norm.weight.data[member].clone(), norm.bias.data[member].clone()
    for seed in range(3):
        x = 3 + 2 * tensor(K, BATCH, *shape, seed=10 + seed)
        y = norm(x)
        for member, plain in enumerate(plains):
            assert (y[member] - plain(x[member])).abs().max() < 1e-12
    x = tensor(K, BATCH, *shape, seed=5)
    y = norm.eval()(x)
    for member, plain in enumerate(plains):
        assert (norm.running_mean[member] - plain.running_mean).abs().max() < 1e-13
        assert (norm.running_var[member] - plain.running_var).abs().max() < 1e-12
        assert (y[member] - plain.eval()(x[member])).abs().max() < 1e-12


def test_layer_norm_is_that_of_each_member_alone():
    for shape in ((20,), (5, 4, 4)):
        norm = EnsembleLayerNorm(shape[0], K, dtype=F64)
        norm.weight.data, norm.bias.data = tensor(K, shape[0], seed=1), tensor(K, shape[0], seed=2)
        x = 3 + 2 * tensor(K, BATCH, *shape)
        y = norm(x)
        for member in range(K):
            for point in range(BATCH):
                own = x[member, point]
                own = (own - own.mean()) / (own.var(correction=0) + 1e-5).sqrt()
                ends = [-1, *[1] * (len(shape) - 1)]
                expected = norm.bias[member].view(ends) + own * norm.weight[member].view(ends)
                assert (y[member, point] - expected).abs().max() < 1e-12


def networks(seeds, dtype=F64):
    """A convolutional GAN on 8 × 8 pictures, as flat points."""
    g, d, kind = rngs(*seeds), rngs(*(seed + 100 for seed in seeds)), {"dtype": dtype}
    half, conv = SIDE // 2, {"size": 4, "stride": 2, "padding": 1}
    generator = nn.Sequential(
        EnsembleLinear(3, 4 * half**2, g, dtype),
        nn.Unflatten(2, (4, half, half)),
        EnsembleBatchNorm(4, len(seeds), **kind),
        nn.LeakyReLU(0.2),
        EnsembleConvTranspose2d(4, 1, g, **conv, **kind),
        nn.Flatten(2),
    )
    discriminator = nn.Sequential(
        nn.Unflatten(2, (1, SIDE, SIDE)),
        EnsembleConv2d(1, 4, d, **conv, **kind),
        EnsembleLayerNorm(4, len(seeds), **kind),
        nn.LeakyReLU(0.2),
        nn.Flatten(2),
        EnsembleLinear(4 * half**2, 1, d, dtype),
    )
    return generator, discriminator


def plain_networks(generator, discriminator, member):
    half = SIDE // 2
    g = nn.Sequential(
        nn.Linear(3, 4 * half**2),
        nn.Unflatten(1, (4, half, half)),
        nn.BatchNorm2d(4),
        nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(4, 1, 4, 2, 1),
        nn.Flatten(),
    ).double()
    d = nn.Sequential(
        nn.Unflatten(1, (1, SIDE, SIDE)),
        nn.Conv2d(1, 4, 4, 2, 1),
        nn.GroupNorm(1, 4),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(4 * half**2, 1),
    ).double()
    for plain, net in ((g, generator), (d, discriminator)):
        for theirs, ours in zip(plain.parameters(), net.parameters(), strict=True):
            theirs.data = as_plain(ours, member, theirs).clone()
    return g, d


def as_plain(ours, member, theirs):
    """A member's parameter in torch's own layout: dense weights are transposed, biases have no batch axis."""
    own = ours.detach()[member]
    return own.T if theirs.ndim == 2 else own.reshape(theirs.shape)


DATA = np.random.default_rng(1).normal(size=(50, SIDE**2))
LATENT = Gaussian(np.zeros(3), np.eye(3))


def turns_of(generator, discriminator, penalty, seeds):
    def adam(parameters):
        return torch.optim.Adam(parameters, lr=1e-3, betas=(0.0, 0.99), eps=1e-5)

    return gan(
        generator,
        discriminator,
        objective=OBJECTIVES["non_saturating"],
        latent=LATENT,
        penalty=PENALTIES[penalty].weighted(0.3),
        optimizer=adam,
        rng=rngs(*([3, seed] for seed in seeds)),
    )


@pytest.mark.parametrize("penalty", ["none", "r1_r2", "gradient_penalty"])
def test_convolutional_gans_train_like_plain_ones(penalty):
    seeds = range(K)
    generator, discriminator = networks(seeds)
    turns = turns_of(generator, discriminator, penalty, seeds)
    average = Average(generator, 0.5)
    plains = [plain_networks(generator, discriminator, member) for member in seeds]
    batches = minibatches(DATA, size=BATCH, rng=rngs(*([4, seed] for seed in seeds)), members=K, dtype=F64)
    for _ in train(turns, batches, 10):
        average.update()
    for member, (g, d) in enumerate(plains):
        alone(g, d, member, penalty)
        for plain, net in ((g, generator), (d, discriminator)):
            for theirs, ours in zip(plain.parameters(), net.parameters(), strict=True):
                assert (as_plain(ours, member, theirs) - theirs).abs().max() < 1e-9
        # The average judges by what the generator has seen: running numbers are taken over, not averaged.
        assert (average.network[2].running_mean[member] - g[2].running_mean).abs().max() < 1e-9
        assert (average.network[2].running_var[member] - g[2].running_var).abs().max() < 1e-9


def alone(g, d, member, penalty):
    """Ten steps of one GAN, the usual way."""
    adams = [torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.0, 0.99), eps=1e-5) for net in (d, g)]
    noise, mixes, _ = np.random.default_rng([3, member]).spawn(3)
    z = torch.tensor(noise.standard_normal((AHEAD, BATCH, 3)))
    mix = torch.tensor(mixes.random((AHEAD, BATCH, 1)))
    rows = np.random.default_rng([4, member]).spawn(1)[0].integers(0, len(DATA), AHEAD * BATCH)
    batches = torch.tensor(DATA[rows].reshape(AHEAD, BATCH, -1))
    for i in range(10):
        real, fake = batches[2 * i], g(z[2 * i]).detach()
        loss = -torch.log(d(real).sigmoid()).mean() - torch.log(1 - d(fake).sigmoid()).mean()
        if penalty == "r1_r2":
            loss = loss + 0.3 * 0.5 * (slope(d, real).square() + slope(d, fake).square()).mean()
        if penalty == "gradient_penalty":
            loss = loss + 0.3 * (slope(d, mix[i] * real + (1 - mix[i]) * fake) - 1).square().mean()
        for net, adam, value in ((d, adams[0], loss), (g, adams[1], None)):
            net.zero_grad()
            (value if value is not None else -torch.log(d(g(z[2 * i + 1])).sigmoid()).mean()).backward()
            adam.step()


def slope(d, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(d(x).sum(), x, create_graph=True)[0].norm(dim=1)


def ends(seeds, poison=None):
    generator, discriminator = networks(seeds, torch.float32)
    if poison is not None:
        discriminator[1].weight.data[poison, 0, 0, 0, 0] = float("nan")
    turns = turns_of(generator, discriminator, "r1_r2", seeds)
    batches = minibatches(DATA, size=BATCH, rng=rngs(*([4, seed] for seed in seeds)), members=len(seeds))
    list(train([dataclasses.replace(turns[0], repeats=2), turns[1]], batches, 4))
    return torch.cat([p.detach().flatten(1) for net in (generator, discriminator) for p in net.parameters()], dim=1)


def test_company_and_a_diverged_neighbour_change_no_bit():
    first, second = ends([7, 1, 2]), ends([7, 4, 3])
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1])
    poisoned = ends([7, 1, 2], poison=1)
    assert torch.isnan(poisoned[1]).any()
    assert torch.equal(poisoned[[0, 2]], first[[0, 2]])


def test_the_slot_of_a_convolutional_member_does_not_matter():
    seeds = list(range(32))
    there, here = ends(seeds), ends(seeds[::-1])
    assert torch.equal(there, here.flip(0))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: EnsembleConv2d(0, 1, rngs(0), size=3), "inputs must be at least 1"),
        (lambda: EnsembleConv2d(1, 1, [], size=3), "one generator per member"),
        (lambda: EnsembleConv2d(1, 1, rngs(0), size=2.5), "size must be a whole number"),
        (lambda: EnsembleConvTranspose2d(1, 1, rngs(0), size=3, stride=0), "stride must be at least 1"),
        (lambda: EnsembleConvTranspose2d(1, 1, rngs(0), size=3, padding=-1), "padding must be at least 0"),
        (lambda: EnsembleBatchNorm(0, 1), "features must be at least 1"),
        (lambda: EnsembleBatchNorm(1, 1, eps=0), "eps must be in"),
        (lambda: EnsembleLayerNorm(1, 0), "members must be at least 1"),
        (
            lambda: EnsembleConv2d(2, 1, rngs(0, 1, 2), size=3)(torch.zeros(2, 5, 2, 8, 8)),
            "3 members, 2 channels; x has",
        ),
        (lambda: EnsembleConv2d(2, 1, rngs(0, 1), size=3)(torch.zeros(2, 5, 4, 8, 8)), r"takes \(2, batch, 2, height"),
        (lambda: EnsembleConv2d(2, 1, rngs(0, 1), size=3)(torch.zeros(2, 5, 2)), "EnsembleConv2d takes"),
        (
            lambda: EnsembleConv2d(2, 1, rngs(0, 1), size=4)(torch.zeros(2, 5, 2, 8, 3)),
            r"leaves nothing of images \(8, 3\)",
        ),
        (
            lambda: EnsembleConvTranspose2d(2, 1, rngs(0, 1), size=3)(torch.zeros(2, 5, 1, 8, 8)),
            "2 members, 2 channels",
        ),
        (
            lambda: EnsembleConvTranspose2d(1, 1, rngs(0, 1), size=2, padding=2)(torch.zeros(2, 5, 1, 2, 2)),
            "EnsembleConvTranspose2d leaves nothing",
        ),
        (lambda: EnsembleBatchNorm(3, 2)(torch.zeros(1, 5, 3)), r"takes \(2, batch, 3, ...\): 2 members"),
        (lambda: EnsembleBatchNorm(3, 2)(torch.zeros(2, 5, 4, 2, 2)), r"x has shape \(2, 5, 4, 2, 2\)"),
        (lambda: EnsembleBatchNorm(3, 2)(torch.zeros(2, 1, 3)), "two numbers per feature in training"),
        (lambda: EnsembleLayerNorm(3, 2)(torch.zeros(3, 5, 3)), "EnsembleLayerNorm takes"),
        (lambda: EnsembleLayerNorm(3, 2)(torch.zeros(2, 5, 1, 2, 2)), "2 members, 3 features"),
        (lambda: EnsembleLayerNorm(3, 2)(torch.zeros(2, 3)), r"x has shape \(2, 3\)"),
    ],
)
def test_misuse_of_a_layer_is_named(make, match):
    with pytest.raises(InputError, match=match):
        make()
