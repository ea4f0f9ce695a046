r"""Multilayer perceptrons, K at a time.

G and D are the same object with different ends: affine → (dense → LeakyReLU(0.2)) × depth → dense → affine. A network
of this kind is continuous and piecewise linear, hence two facts that every picture of a toy GAN shows:

* a generator maps a connected latent space onto a connected set, so between two modes there is always a thin bridge of
  low-quality samples: the share of high-quality samples stays below the perfect generator's;
* it has a density wherever its Jacobian is regular, so its divergence from a known target can be computed.

A generator ends in the units of the data; a discriminator takes points in the units of the data and gives back *its own
logit* (or a critic's score), shape (K, batch, 1).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from divergences.checks import as_count
from divergences.errors import InputError
from toygen.layers import Affine, EnsembleLinear

__all__ = ["MLP"]

SLOPE = 0.2


class MLP(nn.Module):
    """An ensemble of K perceptrons with LeakyReLU(0.2): (K, batch, sizes[0]) → (K, batch, sizes[-1]).

    Args:
        sizes: widths from input to output; at least two.
        rngs: one generator per member; their number is K.
        before: applied to the input, if given.
        after: applied to the output, if given.
        dtype: of parameters and activations.

    Raises:
        InputError: fewer than two sizes, a size below 1, or no members.

    >>> generator = MLP([2, 16, 16, 2], [np.random.default_rng(k) for k in range(3)])
    >>> generator.members, generator(torch.zeros(3, 7, 2)).shape
    (3, torch.Size([3, 7, 2]))
    """

    def __init__(
        self,
        sizes: Sequence[Any],
        rngs: Sequence[np.random.Generator],
        *,
        before: Affine | None = None,
        after: Affine | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if len(sizes) < 2:
            raise InputError(f"sizes must name at least the input and output widths; it is {list(sizes)}.")
        if len(rngs) == 0:
            raise InputError("rngs must hold one generator per member; it is empty.")
        self.sizes = tuple(as_count(size, f"sizes[{i}]") for i, size in enumerate(sizes))
        self.before = before
        self.after = after
        pairs = zip(self.sizes[:-1], self.sizes[1:], strict=True)
        self.layers = nn.ModuleList(EnsembleLinear(inputs, outputs, rngs, dtype) for inputs, outputs in pairs)

    @property
    def members(self) -> int:
        """K."""
        return len(self.dense[0].weight)

    @property
    def dtype(self) -> torch.dtype:
        """Of parameters and activations."""
        return self.dense[0].weight.dtype

    @property
    def dense(self) -> list[EnsembleLinear]:
        """The dense layers, from input to output."""
        return [layer for layer in self.layers if isinstance(layer, EnsembleLinear)]

    def forward(self, x: Tensor) -> Tensor:
        """All members at once, each on its own batch."""
        if self.before is not None:
            x = self.before(x)
        last = len(self.layers) - 1
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i < last:
                x = nn.functional.leaky_relu(x, SLOPE)
        return x if self.after is None else self.after(x)

    def pick(self, members: Sequence[int]) -> MLP:
        """An ensemble of copies of the given members, in the given order, detached from training."""
        chosen = copy.deepcopy(self)
        for layer in chosen.dense:
            layer.weight = nn.Parameter(layer.weight.detach()[list(members)].clone())
            layer.bias = nn.Parameter(layer.bias.detach()[list(members)].clone())
        return chosen

    def healthy(self) -> np.ndarray:
        """Which members hold finite numbers only: shape (K,) of bool. A diverged member is not a generator."""
        finite = [torch.isfinite(p.detach()).flatten(1).all(dim=1) for p in self.parameters()]
        return torch.stack(finite).all(dim=0).cpu().numpy()


def stack(networks: Sequence[MLP]) -> MLP:
    """One ensemble of all members of several ensembles of the same shape."""
    joint = copy.deepcopy(networks[0])
    columns = zip(*(network.dense for network in networks), strict=True)
    for layer, parts in zip(joint.dense, columns, strict=True):
        layer.weight = nn.Parameter(torch.cat([part.weight.detach() for part in parts]))
        layer.bias = nn.Parameter(torch.cat([part.bias.detach() for part in parts]))
    return joint
