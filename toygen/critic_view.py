r"""An exact Kantorovich critic, seen by torch: to stand beside trained critics in the same plot.

A trained critic is a module from points to scores, with gradients by autograd. An exact one (``divergences.Critic``,
from ``wasserstein(p, q).critic()``) is computed in numpy, as a c-transform over atoms,

$$ f(x) = \min_j \big( c(x, y_j) - v_j \big), \qquad \nabla f(x) = \nabla_x c(x, y_{j(x)}), $$

whose gradient is known in closed form: away from the atom that attains the minimum, of length 1. ``CriticView`` hands
both to torch. It has no parameters and learns nothing. f is piecewise smooth: where two atoms tie, and at an atom
itself, the gradient is *one* subgradient, that of ``Critic.gradient``. Second derivatives are not offered.

Reference: *Optimal Transport: Old and New* (Villani, 2009), chapter 5, https://doi.org/10.1007/978-3-540-71050-9.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from divergences import Critic
from divergences.errors import InputError

__all__ = ["CriticView"]


class CriticView(torch.nn.Module):
    """An exact critic as a module: tensors (..., d) in, scores (...) out, differentiable once.

    Values are computed on the CPU in float64, in bounded memory, and come back in the type and on the device of x.

    Args:
        critic: what ``wasserstein(p, q).critic()`` gives.

    Raises:
        InputError: it is no critic (no values, or no gradient); or, when called, x is no tensor of real numbers.

    >>> from divergences import wasserstein
    >>> view = CriticView(wasserstein([[0.0, 0.0]], [[3.0, 4.0]]).critic())
    >>> x = torch.zeros(1, 2, requires_grad=True)
    >>> view(x).sum().backward()
    >>> [round(slope, 4) for slope in x.grad[0].tolist()]
    [-0.6, -0.8]
    """

    def __init__(self, critic: Any) -> None:
        super().__init__()
        if not isinstance(critic, Critic):
            raise InputError(
                "critic must be what wasserstein(p, q).critic() gives: callable, with a method gradient; it is "
                f"{type(critic).__name__}."
            )
        self.critic = critic

    def forward(self, x: Tensor) -> Tensor:
        """Scores at x (..., d): shape (...)."""
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim == 0:
            what = f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise InputError(f"x must be a tensor of real numbers of shape (..., d); it is {what}.")
        scores: Tensor = _Exact.apply(x, self.critic)
        return scores


class _Exact(torch.autograd.Function):
    """Values on the way forth, the critic's own gradient on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, critic: Any) -> Tensor:
        ctx.save_for_backward(x)
        ctx.critic = critic
        return torch.from_numpy(critic(_points(x))).to(x).reshape(x.shape[:-1])

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return slope.unsqueeze(-1) * _Slope.apply(x, ctx.critic), None


class _Slope(torch.autograd.Function):
    """The gradient itself, which must not pass for a constant where somebody differentiates it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, critic: Any) -> Tensor:
        return torch.from_numpy(critic.gradient(_points(x))).to(x).reshape(x.shape)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        raise InputError("an exact critic has no second derivatives here: it cannot stand in a gradient penalty.")


def _points(x: Tensor) -> Any:
    return x.detach().reshape(-1, x.shape[-1]).to("cpu", torch.float64).numpy()
