r"""Layers of many networks at once.

An *ensemble* is K networks of one shape that never meet: every parameter carries a leading **member axis**, and a
layer moves all members in one batched product,

    y[k] = x[k] @ weight[k] + bias[k],    x (K, batch, in) → y (K, batch, out).

For networks as small as a toy needs, launching an operation costs more than the arithmetic in it, so K members
together take far less than K times as long as one. ``members = 1`` is the ordinary case of the same code.

Nothing mixes members: the gradient of Σ_k loss[k] with respect to ``weight[k]`` is the gradient of ``loss[k]`` alone.

Two layers constrain a discriminator. ``SpectralLinear`` divides each weight matrix by its largest singular value, so
that a network of them has a Lipschitz constant below the product of its gains. ``MinibatchFeatures`` lets a
discriminator see how close the points of a minibatch lie together, which gives a collapsed generator away.

References:
    Spectral normalization for generative adversarial networks (Miyato et al., 2018), https://arxiv.org/abs/1802.05957
    Improved techniques for training GANs (Salimans et al., 2016), https://arxiv.org/abs/1606.03498, sec. 3.2
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from divergences.checks import as_count, as_number

__all__ = ["Affine", "EnsembleLinear", "MinibatchFeatures", "SpectralLinear"]

# Directions that are followed at once, and how often before the first step, from a random start.
_BLOCK, _WARM_UP = 8, 30
# Up to how many outputs a layer's products are taken the other way round.
_NARROW = 8


class EnsembleLinear(nn.Module):
    """K dense layers: (K, batch, inputs) → (K, batch, outputs).

    The initial law is torch's own for ``nn.Linear``: weights and bias uniform on ±1/√inputs. Member k is drawn from
    ``rngs[k]`` and from nothing else, weight first.

    Args:
        inputs: width of what comes in.
        outputs: width of what goes out.
        rngs: one generator per member.
        dtype: of the parameters.

    >>> layer = EnsembleLinear(2, 3, [np.random.default_rng(k) for k in range(4)])
    >>> layer(torch.zeros(4, 5, 2)).shape
    torch.Size([4, 5, 3])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        rngs: Sequence[np.random.Generator],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        weights, biases = [], []
        for rng in rngs:
            weights.append(rng.uniform(-bound, bound, (inputs, outputs)))
            biases.append(rng.uniform(-bound, bound, (1, outputs)))
        self.weight = nn.Parameter(torch.tensor(np.stack(weights), dtype=dtype))
        self.bias = nn.Parameter(torch.tensor(np.stack(biases), dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """One batched matrix product with the bias added in the same call."""
        return _dense(x, self.weight, self.bias)


class SpectralLinear(EnsembleLinear):
    """K dense layers with spectral normalisation: y = x @ (gain · weight/σ) + bias, σ the largest singular value.

    σ = vᵀ W u with the leading singular vectors v, u, which follow the weights by power iteration: they are buffers,
    constants for every derivative. They move in ``follow`` only, which ``gan`` calls after each move of the
    discriminator: looking at a network never changes it. The bias is left alone, as in the paper.

    One iteration per move, as in the paper, but on a block of 8 directions from which the leading one is picked: at a
    learning rate of 1e-3 a single direction lags, and its σ was up to 9 % too small where the block's was within
    0.03 %.

    Args:
        inputs: width of what comes in.
        outputs: width of what goes out.
        rngs: one generator per member.
        dtype: of the parameters.
        gain: the largest singular value the layer is given.

    >>> layer = SpectralLinear(4, 3, [np.random.default_rng(k) for k in range(2)], gain=2.0)
    >>> torch.linalg.matrix_norm(layer.scaled_weight(), ord=2).detach().numpy().round(3)
    array([2., 2.], dtype=float32)
    """

    block: Tensor
    u: Tensor
    v: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        rngs: Sequence[np.random.Generator],
        dtype: torch.dtype = torch.float32,
        *,
        gain: float = 1.0,
    ) -> None:
        super().__init__(inputs, outputs, rngs, dtype)
        self.gain = as_number(gain, "gain", above=0.0)
        start = np.stack([rng.standard_normal((outputs, min(_BLOCK, inputs, outputs))) for rng in rngs])
        self.register_buffer("block", torch.tensor(start, dtype=dtype))
        self.register_buffer("u", torch.zeros(len(rngs), outputs, 1, dtype=dtype))
        self.register_buffer("v", torch.zeros(len(rngs), inputs, 1, dtype=dtype))
        self.follow(_WARM_UP)

    def follow(self, iterations: int = 1) -> None:
        """Let the singular vectors follow the weights by at least one block power iteration."""
        with torch.no_grad():
            for _ in range(iterations):
                left = torch.linalg.qr(self.weight @ self.block)[0]
                right = self.weight.mT @ left
                self.block.copy_(torch.linalg.qr(right)[0])
            # Within the block the leading direction is exact: the last eigenvector of a small matrix. (LAPACK refuses
            # NaN, and a member that diverged must not take its companions along.)
            small = torch.nan_to_num(right.mT @ right, posinf=0.0, neginf=0.0)
            lead = torch.linalg.eigh(small)[1][..., -1:]
            self.v.copy_(left @ lead)
            self.u.copy_(nn.functional.normalize(right @ lead, dim=1))

    def sigma(self) -> Tensor:
        """The largest singular values as they are followed, shape (K,); differentiable in the weights."""
        return (self.v.mT @ self.weight @ self.u)[:, 0, 0]

    def scaled_weight(self) -> Tensor:
        """Gain · weight/σ, what the layer multiplies with: shape (K, inputs, outputs)."""
        return self.weight * (self.gain / self.sigma())[:, None, None]

    def forward(self, x: Tensor) -> Tensor:
        """One batched product with the scaled weights."""
        return _dense(x, self.scaled_weight(), self.bias)


class MinibatchFeatures(nn.Module):
    r"""Closeness within a minibatch: (K, b, inputs) → (K, b, kernels).

        o_c(i) = Σ_j exp(−‖M_c h_i − M_c h_j‖₁),     M_c: inputs → dims,     j over the whole minibatch, i too.

    Args:
        inputs: width of the features h.
        rngs: one generator per member.
        kernels: how many numbers each point is given.
        dims: dimension in which points are compared.
        dtype: of the parameter.
    """

    def __init__(
        self,
        inputs: int,
        rngs: Sequence[np.random.Generator],
        *,
        kernels: int = 8,
        dims: int = 4,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.kernels, self.dims = as_count(kernels, "kernels"), as_count(dims, "dims")
        bound = 1 / math.sqrt(inputs)
        maps = [rng.uniform(-bound, bound, (inputs, self.kernels * self.dims)) for rng in rngs]
        self.weight = nn.Parameter(torch.tensor(np.stack(maps), dtype=dtype))

    def forward(self, h: Tensor) -> Tensor:
        """One number per point and kernel: how much company it has."""
        mapped = (h @ self.weight).reshape(*h.shape[:2], self.kernels, self.dims)
        distance = (mapped[:, :, None] - mapped[:, None]).abs().sum(dim=-1)
        return torch.exp(-distance).sum(dim=2)


class Affine(nn.Module):
    """x ↦ shift + gain · x, coordinate by coordinate: the same for all members, and never trained.

    It carries the units: a generator ends with one, so that it speaks in the units of the data, and a discriminator
    begins with one, so that what reaches its first layer has a known scale.

    Args:
        shift: one number per coordinate.
        gain: one number per coordinate.
        dtype: of the two buffers.
    """

    shift: Tensor
    gain: Tensor

    def __init__(self, shift: Sequence[float], gain: Sequence[float], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor(shift, dtype=dtype))
        self.register_buffer("gain", torch.tensor(gain, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Shift + gain · x."""
        return torch.addcmul(self.shift, x, self.gain)


def leaky(x: Tensor, slope: float, *, twice: bool = False) -> Tensor:
    """LeakyReLU, in place where that helps: x is not to be looked at again.

    Args:
        x: what comes out of a dense layer.
        slope: of the negative half, above 0.
        twice: whether the result will be differentiated twice. Torch's own double backward then makes, for each
            activation, a tensor of zeros (the second derivative) and adds it up; here none is made.
    """
    if twice and torch.is_grad_enabled():
        y: Tensor = _Leaky.apply(x, slope)
        return y
    return nn.functional.leaky_relu_(x, slope)


class _Leaky(torch.autograd.Function):
    """LeakyReLU whose second derivative is known to be nothing."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, slope: float) -> Tensor:
        return nn.functional.leaky_relu(x, slope)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.slope = inputs[1]
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return _Masked.apply(grads[0], ctx.saved_tensors[0], ctx.slope), None


class _Masked(torch.autograd.Function):
    """g where y is positive and slope·g elsewhere: linear in g, and piecewise constant in y."""

    generate_vmap_rule = True

    @staticmethod
    def forward(g: Tensor, y: Tensor, slope: float) -> Tensor:
        return torch.ops.aten.leaky_relu_backward(g, y, slope, True)  # noqa: FBT003 (y is the result)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.slope = inputs[2]
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return _Masked.apply(grads[0], ctx.saved_tensors[0], ctx.slope), None, None


def _dense(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """X @ weight + bias."""
    if weight.shape[2] > _NARROW:
        return torch.baddbmm(bias, x, weight)
    y: Tensor = _Narrow.apply(x, weight, bias)
    return y


class _Narrow(torch.autograd.Function):
    """X @ weight + bias for few outputs, every product the way round in which BLAS is fast.

    A product whose result has one or two columns costs BLAS as much as one of 32; with one or two *rows* it does not.
    So y = (weightᵀ xᵀ)ᵀ, and the weights' gradient is (gᵀ x)ᵀ: three to six times faster. What is differentiated a
    second time is made of differentiable operations.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        # A copy always: the result must not be a view, since an activation may overwrite it.
        y = torch.baddbmm(bias.mT, weight.mT.contiguous(), x.mT).mT
        return y.clone(memory_format=torch.contiguous_format)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[0], inputs[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (g,) = grads
        x, weight = ctx.saved_tensors
        # An outer product needs no BLAS.
        to_x = g * weight.mT if weight.shape[2] == 1 else torch.bmm(g, weight.mT)
        return to_x, torch.bmm(g.mT, x).mT, g.sum(dim=1, keepdim=True)


for _function in (_Leaky, _Masked, _Narrow):
    # Torch asks for it at every call, and finding it out takes longer than many a product here.
    setattr(_function.forward, "__signature__", inspect.signature(_function.forward))  # noqa: B010 (unknown to types)
