r"""A decoder with its noise, as one network: (z, ε) ↦ m(z) + s·ε.

The law p(x) of a VAE with a Gaussian likelihood is that of m(z) + s·ε with standard normals z and ε. A LeakyReLU
network can carry ε past its hidden layers untouched, in two units per coordinate, since leaky(t) − leaky(−t) =
(1 + slope)·t. So the law is the pushforward of a Gaussian by an ``MLP``, and a VAE is saved, loaded and drawn from like
any generator.
"""

from __future__ import annotations

import numpy as np
import torch

from divergences.errors import InputError
from toygen.networks import MLP, SLOPE

__all__ = ["noisy_decoder"]


def noisy_decoder(decoder: MLP, noise: float) -> MLP:
    """The network (z, ε) ↦ m(z) + s·ε.

    Args:
        decoder: m, one member: (1, b, k) → (1, b, d), in float64.
        noise: s, in the units of the data.

    Returns:
        (1, b, k + d) → (1, b, d), equal to the formula but for rounding.

    Raises:
        InputError: more than one member, or a decoder that begins with an affine map.

    >>> mean = MLP([1, 4, 2], [np.random.default_rng(0)], dtype=torch.float64)
    >>> whole, z = noisy_decoder(mean, 0.5), torch.tensor([[[0.3, 1.0, -2.0]]], dtype=torch.float64)
    >>> (whole(z) - mean(z[:, :, :1])).detach().numpy().round(12)
    array([[[ 0.5, -1. ]]])
    """
    if decoder.members != 1 or decoder.before is not None:
        raise InputError("decoder must be one member that begins with a dense layer.")
    latents, *hidden, dim = decoder.sizes
    sizes = [latents + dim, *(width + 2 * dim for width in hidden), dim]
    after = decoder.after
    whole = MLP(sizes, [np.random.default_rng(0)], after=after, dtype=torch.float64)
    eye = torch.eye(dim, dtype=torch.float64)
    scaled = noise * (eye if after is None else torch.diag(1 / after.gain.double()))
    both = torch.cat([eye, -eye], dim=1)
    with torch.no_grad():
        for i, (layer, own) in enumerate(zip(whole.dense, decoder.dense, strict=True)):
            inputs, outputs = own.weight.shape[1:]
            first, last = i == 0, i == len(hidden)
            # What arrives is ε itself, or (leaky(ε), leaky(−ε)); what leaves is (ε, −ε), or s·ε.
            carried = eye if first else both.T / (1 + SLOPE)
            carried = carried @ (scaled if last else both)
            layer.weight.zero_()
            layer.bias.zero_()
            layer.weight[0, :inputs, :outputs] = own.weight[0]
            layer.bias[0, :, :outputs] = own.bias[0]
            columns = slice(0, dim) if last else slice(outputs, None)
            layer.weight[0, inputs:, columns] = carried
    return whole
