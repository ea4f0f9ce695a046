"""An ensemble is K networks side by side: each equals its own plain torch twin."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from divergences import InputError
from toygen import MLP, Affine, EnsembleLinear
from toygen.networks import stack


def rngs(*seeds):
    return [np.random.default_rng(seed) for seed in seeds]


def plain_twin(network, member):
    """nn.Sequential of nn.Linear with the member's weights: the naive version."""
    modules = []
    for layer in network.layers:
        linear = nn.Linear(layer.weight.shape[1], layer.weight.shape[2], dtype=layer.weight.dtype)
        linear.weight.data = layer.weight.data[member].T.clone()
        linear.bias.data = layer.bias.data[member, 0].clone()
        modules += [linear, nn.LeakyReLU(0.2)]
    return nn.Sequential(*modules[:-1])


def test_each_member_is_a_plain_network():
    network = MLP([3, 7, 5, 2], rngs(0, 1, 2), dtype=torch.float64)
    x = torch.randn(3, 11, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = network(x)
    assert y.shape == (3, 11, 2)
    for member in range(3):
        assert torch.allclose(y[member], plain_twin(network, member)(x[member]), atol=1e-14)


def test_the_initial_law_is_that_of_a_linear_layer():
    layer = EnsembleLinear(25, 40, rngs(*range(50)))
    ours = layer.weight.detach().flatten().numpy()
    assert np.abs(ours).max() <= 0.2
    # Uniform on ±1/√25: standard deviation 0.2/√3; 50 000 draws.
    assert ours.std() == pytest.approx(0.2 / np.sqrt(3), rel=0.01)
    assert layer.bias.detach().abs().max() <= 0.2
    theirs = nn.Linear(25, 4000)
    assert theirs.weight.detach().abs().max() <= 0.2
    assert float(theirs.weight.detach().std()) == pytest.approx(ours.std(), rel=0.01)


def test_a_member_depends_on_its_own_generator_only():
    one = MLP([2, 8, 1], rngs(5))
    many = MLP([2, 8, 1], rngs(3, 4, 5))
    for a, b in zip(one.parameters(), many.parameters(), strict=True):
        assert torch.equal(a[0], b[2])
        assert not torch.equal(b[0], b[1])


def test_ends_carry_the_units():
    network = MLP([2, 4, 2], rngs(0), before=Affine([1.0, 2.0], [3.0, 4.0]), after=Affine([10.0, 20.0], [0.5, 0.25]))
    bare = MLP([2, 4, 2], rngs(0))
    x = torch.tensor([[[1.0, 1.0]]])
    inside = bare(torch.tensor([[[4.0, 6.0]]]))
    assert torch.allclose(network(x), torch.tensor([10.0, 20.0]) + torch.tensor([0.5, 0.25]) * inside)
    assert len(list(network.parameters())) == len(list(bare.parameters()))


def test_picking_and_stacking_copy_members():
    network = MLP([2, 4, 1], rngs(0, 1, 2))
    x = torch.ones(3, 5, 2)
    picked = network.pick([2, 0])
    assert torch.allclose(picked(x[:2]), network(x)[[2, 0]])
    picked.layers[0].weight.data.zero_()
    assert network.layers[0].weight.abs().sum() > 0
    joint = stack([network.pick([0, 1]), network.pick([2])])
    assert torch.allclose(joint(x), network(x))


def test_a_member_that_is_not_finite_is_seen():
    network = MLP([2, 4, 1], rngs(0, 1, 2))
    network.layers[1].bias.data[1] = float("inf")
    assert network.healthy().tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: MLP([2], rngs(0)), "at least the input and output widths"),
        (lambda: MLP([2, 0, 1], rngs(0)), r"sizes\[1\] must be at least 1"),
        (lambda: MLP([2, 4, 1], []), "one generator per member"),
    ],
)
def test_misuse_is_named(make, match):
    with pytest.raises(InputError, match=match):
        make()


@pytest.mark.parametrize("outputs", [1, 2, 8, 9])
def test_a_layer_has_the_right_first_and_second_derivatives_however_narrow(outputs):
    layer = EnsembleLinear(5, outputs, [np.random.default_rng(k) for k in range(2)], torch.float64)
    x = torch.tensor(np.random.default_rng(9).standard_normal((2, 3, 5)), requires_grad=True)
    expected = torch.einsum("kbi,kio->kbo", x, layer.weight) + layer.bias
    assert (layer(x) - expected).abs().max() < 1e-14
    assert layer(x).is_contiguous()

    def by_parameters(x, weight, bias):
        return functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    inputs = (x, layer.weight, layer.bias)
    assert torch.autograd.gradcheck(by_parameters, inputs)
    assert torch.autograd.gradgradcheck(by_parameters, inputs)


def test_a_slope_is_differentiated_twice_like_that_of_plain_networks():
    net = MLP([2, 6, 5, 1], [np.random.default_rng(k) for k in range(3)], dtype=torch.float64)
    points = torch.tensor(np.random.default_rng(9).standard_normal((3, 7, 2)))

    def plain(x):
        for i, layer in enumerate(net.layers):
            x = x @ layer.weight + layer.bias
            x = torch.where(x > 0, x, 0.2 * x) if i < 2 else x
        return x

    found = []
    for network in (net, plain):
        x = points.clone().requires_grad_()
        score = network(x)
        (slope,) = torch.autograd.grad(score.sum(), x, create_graph=True)
        loss = score.square().mean() + (slope.norm(dim=-1) - 1).square().mean()
        found.append(torch.autograd.grad(loss, list(net.parameters())))
    for ours, theirs in zip(*found, strict=True):
        assert (ours - theirs).abs().max() < 1e-12


def test_networks_work_under_the_transforms_of_torch_func():
    net = MLP([2, 6, 2], [np.random.default_rng(0)], dtype=torch.float64)
    z = torch.tensor([0.3, -0.4], dtype=torch.float64)
    jacobian = torch.func.jacrev(lambda z: net(z[None, None])[0, 0])(z)
    many = torch.func.vmap(torch.func.jacrev(lambda z: net(z[None, None])[0, 0]))(z.expand(3, 2))
    step = 1e-6 * torch.eye(2, dtype=torch.float64)
    with torch.no_grad():
        quotient = (
            torch.stack([(net((z + e)[None, None]) - net((z - e)[None, None]))[0, 0] for e in step], dim=1) / 2e-6
        )
    assert (jacobian - quotient).abs().max() < 1e-8
    assert (many - jacobian).abs().max() < 1e-14
