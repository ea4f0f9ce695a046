r"""Convolutions and norms of many networks at once, on images (K, batch, channels, height, width).

A grouped convolution keeps groups of channels apart, which is what an ensemble needs: the K members' channels are laid
side by side, (batch, K·channels, height, width), and convolved in K groups, each with its own member's kernels. Nothing
mixes members, in either derivative.

The layers are plain modules, so a network is an ``nn.Sequential`` of them and of torch's own layers that act pointwise
or on trailing axes. Points stay flat, (K, batch, d), outside: ``nn.Unflatten(2, (c, h, w))`` and ``nn.Flatten(2)``
stand at the ends, and ``gan``, ``minibatches`` and ``train`` take such networks like any other.

**Norms and penalties.** ``EnsembleBatchNorm`` makes a score depend on the whole minibatch; a penalty on the slope of
each score at its own point then means something else, and data and generated points, which a discriminator gets in one
pass, share their mean. In a critic take ``EnsembleLayerNorm``, which looks at one point at a time.

References:
    Batch normalization: accelerating deep network training by reducing internal covariate shift (Ioffe, Szegedy, 2015),
        https://arxiv.org/abs/1502.03167
    Layer normalization (Ba, Kiros, Hinton, 2016), https://arxiv.org/abs/1607.06450
    Unsupervised representation learning with deep convolutional generative adversarial networks (Radford, Metz,
        Chintala, 2016), https://arxiv.org/abs/1511.06434
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, conv2d, conv_transpose2d

from divergences.checks import as_count, as_number
from divergences.errors import InputError

__all__ = ["EnsembleBatchNorm", "EnsembleConv2d", "EnsembleConvTranspose2d", "EnsembleLayerNorm"]


class _Convolution(nn.Module):
    """Kernels (K, first, second, size, size) and biases (K, outputs), uniform on ±1/√(second·size²) as torch's own."""

    # torch's function, and whether its kernels are laid out (inputs, outputs) instead of (outputs, inputs).
    _convolve: Callable[..., Tensor]
    _transposed: bool

    def _side(self, side: int) -> int:
        """Of what goes out."""
        raise NotImplementedError

    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        rngs: Sequence[np.random.Generator],
        *,
        size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        inputs, outputs = as_count(inputs, "inputs"), as_count(outputs, "outputs")
        if len(rngs) == 0:
            raise InputError("rngs must hold one generator per member; it is empty.")
        self.size, self.stride = as_count(size, "size"), as_count(stride, "stride")
        self.padding = as_count(padding, "padding", minimum=0)
        shape = (inputs, outputs) if self._transposed else (outputs, inputs)
        bound = 1 / math.sqrt(shape[1] * self.size**2)
        kernels, biases = [], []
        for rng in rngs:
            kernels.append(rng.uniform(-bound, bound, (*shape, self.size, self.size)))
            biases.append(rng.uniform(-bound, bound, outputs))
        self.weight = nn.Parameter(torch.tensor(np.stack(kernels), dtype=dtype))
        self.bias = nn.Parameter(torch.tensor(np.stack(biases), dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """One grouped convolution."""
        members = len(self.weight)
        _check(self, x, members, self.weight.shape[1 if self._transposed else 2], image=True)
        if min(self._side(side) for side in x.shape[3:]) < 1:
            raise InputError(
                f"{type(self).__name__} leaves nothing of images {tuple(x.shape[3:])} with size={self.size}, "
                f"stride={self.stride} and padding={self.padding}; choose smaller kernels or larger images."
            )
        kernels, biases = self.weight.flatten(0, 1), self.bias.flatten()
        y = self._convolve(_beside(x), kernels, biases, stride=self.stride, padding=self.padding, groups=members)
        return _apart(y, members)


class EnsembleConv2d(_Convolution):
    """K convolutions: (K, b, inputs, h, w) → (K, b, outputs, h', w'), h' = ⌊(h + 2·padding − size)/stride⌋ + 1.

    The initial law is torch's own for ``nn.Conv2d``. Member k is drawn from ``rngs[k]`` and from nothing else.

    Args:
        inputs: channels of what comes in.
        outputs: channels of what goes out.
        rngs: one generator per member.
        size: of the square kernels.
        stride: between two of their places.
        padding: zeros around the image.
        dtype: of the parameters.

    Raises:
        InputError: no members, or a number that is not a count; when called, another shape.

    >>> layer = EnsembleConv2d(3, 8, [np.random.default_rng(k) for k in range(4)], size=4, stride=2, padding=1)
    >>> layer(torch.zeros(4, 5, 3, 16, 16)).shape
    torch.Size([4, 5, 8, 8, 8])
    """

    _convolve, _transposed = staticmethod(conv2d), False

    def _side(self, side: int) -> int:
        return (side + 2 * self.padding - self.size) // self.stride + 1


class EnsembleConvTranspose2d(_Convolution):
    """K transposed convolutions: (K, b, inputs, h, w) → (K, b, outputs, h', w').

    Sides grow: h' = (h − 1)·stride − 2·padding + size.

    The initial law is torch's own for ``nn.ConvTranspose2d``. Kernels whose size is no multiple of the stride leave a
    checkerboard: some pixels are reached by more of them than others.

    Args:
        inputs: channels of what comes in.
        outputs: channels of what goes out.
        rngs: one generator per member.
        size: of the square kernels.
        stride: between two of their places.
        padding: pixels cut off around the result.
        dtype: of the parameters.

    Raises:
        InputError: no members, or a number that is not a count; when called, another shape.

    >>> layer = EnsembleConvTranspose2d(8, 3, [np.random.default_rng(k) for k in range(4)], size=4, stride=2, padding=1)
    >>> layer(torch.zeros(4, 5, 8, 8, 8)).shape
    torch.Size([4, 5, 3, 16, 16])
    """

    _convolve, _transposed = staticmethod(conv_transpose2d), True

    def _side(self, side: int) -> int:
        return (side - 1) * self.stride - 2 * self.padding + self.size


class EnsembleBatchNorm(nn.Module):
    """K batch normalisations: (K, b, features, ...) → the same shape.

    Each member's feature is standardised over its own batch (and over the pixels), then scaled and shifted. In ``eval``
    mode the running means and variances take the batch's place; the running variance is the unbiased one, as in torch.

    Args:
        features: width, or channels.
        members: K.
        momentum: how far the running numbers move towards each batch's.
        eps: added to variances.
        dtype: of the parameters.

    Raises:
        InputError: a number that is out of its range; when called, another shape.

    >>> norm = EnsembleBatchNorm(3, 2)
    >>> norm(torch.arange(12.0).reshape(2, 2, 3))[0].detach().numpy().round(3)
    array([[-1., -1., -1.],
           [ 1.,  1.,  1.]], dtype=float32)
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, features: Any, members: Any, *, momentum: Any = 0.1, eps: Any = 1e-5, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        shape = as_count(members, "members"), as_count(features, "features")
        self.momentum, self.eps = as_number(momentum, "momentum", above=0.0), as_number(eps, "eps", above=0.0)
        self.weight = nn.Parameter(torch.ones(shape, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(shape, dtype=dtype))
        self.register_buffer("running_mean", torch.zeros(shape, dtype=dtype))
        self.register_buffer("running_var", torch.ones(shape, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """All members' features side by side, in one call; the running numbers move in training mode."""
        _check(self, x, *self.weight.shape)
        if self.training and math.prod(x.shape[1:2] + x.shape[3:]) < 2:
            raise InputError(
                "EnsembleBatchNorm needs two numbers per feature in training, points or pixels; x has shape "
                f"{tuple(x.shape)}. Use larger batches, or EnsembleLayerNorm."
            )
        running = (self.running_mean.view(-1), self.running_var.view(-1))
        scale = (self.weight.flatten(), self.bias.flatten())
        y = batch_norm(_beside(x), *running, *scale, self.training, self.momentum, self.eps)
        return _apart(y, len(x))


class EnsembleLayerNorm(nn.Module):
    """K layer normalisations: (K, b, features, ...) → the same shape, each point standardised over all its numbers.

    Scale and shift are per feature (channel) and member.

    Args:
        features: width, or channels.
        members: K.
        eps: added to variances.
        dtype: of the parameters.

    Raises:
        InputError: a number that is out of its range; when called, another shape.
    """

    def __init__(self, features: Any, members: Any, *, eps: Any = 1e-5, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        shape = as_count(members, "members"), as_count(features, "features")
        self.eps = as_number(eps, "eps", above=0.0)
        self.weight = nn.Parameter(torch.ones(shape, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(shape, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Standardise each point, then scale and shift its features."""
        members, features = self.weight.shape
        _check(self, x, members, features)
        y = nn.functional.layer_norm(x, x.shape[2:], eps=self.eps)
        shape = (members, 1, features, *[1] * (x.ndim - 3))
        return torch.addcmul(self.bias.view(shape), y, self.weight.view(shape))


def _check(layer: nn.Module, x: Tensor, members: int, features: int, *, image: bool = False) -> None:
    """Shapes only: it costs nothing beside a convolution, and the message says what torch's own would hide."""
    if (x.ndim == 5 if image else x.ndim >= 3) and (x.shape[0], x.shape[2]) == (members, features):
        return
    wanted = f"({members}, batch, {features}, height, width)" if image else f"({members}, batch, {features}, ...)"
    raise InputError(
        f"{type(layer).__name__} takes {wanted}: {members} members, {features} "
        f"{'channels' if image else 'features'}; x has shape {tuple(x.shape)}."
    )


def _beside(x: Tensor) -> Tensor:
    """Members side by side: (K, b, c, ...) → (b, K·c, ...)."""
    return x.transpose(0, 1).flatten(1, 2)


def _apart(x: Tensor, members: int) -> Tensor:
    """And back: (b, K·c, ...) → (K, b, c, ...)."""
    return x.unflatten(1, (members, -1)).transpose(0, 1)
