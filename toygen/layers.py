r"""Layers of many networks at once.

An *ensemble* is K networks of one shape that never meet: every parameter carries a leading **member axis**, and a
layer moves all members in one batched product,

    y[k] = x[k] @ weight[k] + bias[k],    x (K, batch, in) → y (K, batch, out).

For networks as small as a toy needs, launching an operation costs more than the arithmetic in it, so K members
together take far less than K times as long as one. ``members = 1`` is the ordinary case of the same code.

Nothing mixes members: the gradient of Σ_k loss[k] with respect to ``weight[k]`` is the gradient of ``loss[k]`` alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Affine", "EnsembleLinear"]


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
        return torch.baddbmm(self.bias, x, self.weight)


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
