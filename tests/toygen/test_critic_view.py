import numpy as np
import pytest
import torch

from divergences import Gaussian, wasserstein
from divergences.errors import InputError
from toygen import CriticView

RNG = np.random.default_rng


def exact(extension=None, metric="euclidean", d=2):
    rng = RNG(0)
    return wasserstein(rng.normal(size=(40, d)), 2 * rng.normal(size=(30, d)) + 1, metric=metric).critic(extension)


@pytest.mark.parametrize(("extension", "metric", "d"), [
    (None, "euclidean", 1), (None, "euclidean", 2), ("average", "euclidean", 4), ("lower", "chebyshev", 2),
])  # fmt: skip
def test_values_and_gradients_are_those_of_the_critic(extension, metric, d):
    critic = exact(extension, metric, d)
    points = 3 * RNG(1).normal(size=(50, d))
    x = torch.tensor(points, requires_grad=True)
    scores = CriticView(critic)(x)
    weights = torch.linspace(-1, 2, 50, dtype=torch.float64)
    (weights * scores).sum().backward()
    np.testing.assert_array_equal(scores.detach().numpy(), critic(points))
    np.testing.assert_array_equal(x.grad.numpy(), weights.numpy()[:, None] * critic.gradient(points))


def test_gradients_are_derivatives():
    x = torch.tensor(3 * RNG(2).normal(size=(20, 2)), requires_grad=True)
    assert torch.autograd.gradcheck(CriticView(exact()), (x,))


def test_ties_and_atoms_have_a_subgradient():
    critic = wasserstein([[0.0, 0.0]], [[-1.0, 0.0]]).critic()
    x = torch.tensor([[-1.0, 0.0], [0.0, 0.0]], requires_grad=True)
    CriticView(critic)(x).sum().backward()
    assert x.grad.tolist() == [[0.0, 0.0], [1.0, 0.0]]
    line = wasserstein(Gaussian(0.0, 1.0), Gaussian(2.0, 1.0)).critic()
    assert CriticView(line)(torch.tensor([[0.0], [1.0]])).diff().item() == -1.0


def test_any_shape_type_and_no_parameters():
    view = CriticView(exact())
    # A trained ensemble takes (K, b, d) and gives (K, b).
    x = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(0))
    assert view(x).shape == (3, 5)
    assert view(x).dtype == torch.float32
    assert torch.equal(view(x)[1], view(x[1]))
    assert view(torch.empty(0, 2)).shape == (0,)
    assert not list(view.parameters())
    # The exact gradient has length 1: what a gradient penalty asks for.
    y = x.requires_grad_()
    (slopes,) = torch.autograd.grad(view(y).sum(), y, create_graph=True)
    assert slopes.norm(dim=-1).detach().numpy() == pytest.approx(1.0, abs=1e-6)
    # Its own derivative is not to be had, and not silently 0.
    with pytest.raises(InputError, match="no second derivatives"):
        slopes.norm(dim=-1).sum().backward()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: CriticView(lambda x: x), "critic must be what"),
        (lambda: CriticView(exact())(torch.zeros(3, 5)), r"shape \(n, 2\)"),
        (lambda: CriticView(exact())(torch.zeros(3, 2, dtype=torch.int64)), "x must be a tensor of real numbers"),
        (lambda: CriticView(exact())(torch.tensor(1.0)), "x must be a tensor of real numbers"),
        (lambda: CriticView(exact())(torch.full((1, 2), torch.nan)), "NaN"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=words):
        call()
