r"""Multilayer perceptrons, K at a time.

G and D are the same object with different ends: affine → (dense → LeakyReLU(0.2)) × depth → dense → affine. A network
of this kind is continuous and piecewise linear, hence two facts that every picture of a toy GAN shows:

* a generator maps a connected latent space onto a connected set, so between two modes there is always a thin bridge of
  low-quality samples: the share of high-quality samples stays below the perfect generator's;
* it has a density wherever its Jacobian is regular, so its divergence from a known target can be computed.

A generator ends in the units of the data; a discriminator takes points in the units of the data and gives back *its own
logit* (or a critic's score), shape (K, batch, 1).

A discriminator may decide on *packs* of m points at once (``packed``): its input is then m points side by side. One
draw of m points shows a missing mode more clearly than one point does, which is why packing counters mode collapse.

Reference: PacGAN: the power of two samples in generative adversarial networks (Lin et al., 2018),
https://arxiv.org/abs/1712.04086.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from divergences.checks import as_count
from divergences.errors import InputError
from toygen.layers import Affine, EnsembleLinear, MinibatchFeatures, leaky

__all__ = ["MLP", "pack_points"]

SLOPE = 0.2


class MLP(nn.Module):
    """An ensemble of K perceptrons with LeakyReLU(0.2): (K, batch, sizes[0]) → (K, batch, sizes[-1]).

    Args:
        sizes: widths from input to output; at least two.
        rngs: one generator per member; their number is K.
        before: applied to the input, if given.
        after: applied to the output, if given.
        dtype: of parameters and activations.
        layer: makes a dense layer from (inputs, outputs, rngs, dtype), such as ``SpectralLinear``.
        company: minibatch features of the last hidden layer, handed to the output layer beside it.

    Attributes:
        pack: points per decision, see ``packed``.

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
        layer: Callable[..., EnsembleLinear] = EnsembleLinear,
        company: MinibatchFeatures | None = None,
    ) -> None:
        super().__init__()
        if len(sizes) < 2:
            raise InputError(f"sizes must name at least the input and output widths; it is {list(sizes)}.")
        if len(rngs) == 0:
            raise InputError("rngs must hold one generator per member; it is empty.")
        self.sizes = tuple(as_count(size, f"sizes[{i}]") for i, size in enumerate(sizes))
        self.before = before
        self.after = after
        self.company = company
        self.pack = 1
        widths = list(self.sizes[:-1])
        widths[-1] += 0 if company is None else company.kernels
        pairs = zip(widths, self.sizes[1:], strict=True)
        self.layers = nn.ModuleList(layer(inputs, outputs, rngs, dtype) for inputs, outputs in pairs)

    @property
    def members(self) -> int:
        """K."""
        return len(self.dense[0].weight)

    @property
    def dtype(self) -> torch.dtype:
        """Of parameters and activations."""
        return self.dense[0].weight.dtype

    @property
    def device(self) -> torch.device:
        """Where it lives."""
        return self.dense[0].weight.device

    @property
    def dense(self) -> list[EnsembleLinear]:
        """The dense layers, from input to output."""
        return [layer for layer in self.layers if isinstance(layer, EnsembleLinear)]

    def forward(self, x: Tensor) -> Tensor:
        """All members at once, each on its own batch."""
        # Whoever asks for gradients in the points themselves, as penalties do, will differentiate them once more.
        twice = x.is_leaf and x.requires_grad
        if self.before is not None:
            x = self.before(x)
        last = len(self.layers) - 1
        for i, layer in enumerate(self.layers):
            if i == last and self.company is not None:
                x = torch.cat([x, self.company(x)], dim=-1)
            x = layer(x)
            if i < last:
                x = leaky(x, SLOPE, twice=twice)
        return x if self.after is None else self.after(x)

    def packed(self, count: Any) -> MLP:
        """This network, as a discriminator that decides on packs of ``count`` points side by side.

        Raises:
            InputError: an input width that does not hold that many points.
        """
        count = as_count(count, "count")
        if self.sizes[0] % count:
            raise InputError(f"a pack of {count} points needs an input width it divides; it is {self.sizes[0]}.")
        self.pack = count
        return self

    def pick(self, members: Sequence[int]) -> MLP:
        """An ensemble of copies of the given members, in the given order, detached from training."""
        chosen = copy.deepcopy(self)
        for home, name in _member_tensors(chosen):
            _replace(home, name, getattr(home, name).detach()[list(members)].clone())
        return chosen

    def healthy(self) -> np.ndarray:
        """Which members hold finite numbers only: shape (K,) of bool. A diverged member is not a generator."""
        finite = [torch.isfinite(p.detach()).flatten(1).all(dim=1) for p in self.parameters()]
        return torch.stack(finite).all(dim=0).cpu().numpy()


def stack(networks: Sequence[MLP]) -> MLP:
    """One ensemble of all members of several ensembles of the same shape."""
    joint = copy.deepcopy(networks[0])
    for (home, name), *parts in zip(_member_tensors(joint), *map(_member_tensors, networks), strict=True):
        _replace(home, name, torch.cat([getattr(part, own).detach() for part, own in parts]))
    return joint


def pack_points(x: Tensor, count: int) -> Tensor:
    """Points (K, b, d) side by side, ``count`` at a time: (K, b/count, count·d).

    Raises:
        InputError: a batch that does not divide into packs.
    """
    if count == 1:
        return x
    members, batch, dim = x.shape
    if batch % count:
        raise InputError(f"a batch of {batch} points does not divide into packs of {count}; choose a multiple.")
    return x.reshape(members, batch // count, count * dim)


def _member_tensors(network: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Every tensor with a member axis, and where it lives. An ``Affine`` is the same for all."""
    for module in network.modules():
        if not isinstance(module, Affine):
            for name in (*module._parameters, *module._buffers):
                yield module, name


def _replace(home: nn.Module, name: str, tensor: Tensor) -> None:
    setattr(home, name, nn.Parameter(tensor) if name in home._parameters else tensor)
