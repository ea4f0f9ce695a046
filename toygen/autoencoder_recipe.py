"""A recipe for autoencoders: everything that defines a training besides the data, the seed and the number of steps."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import nn

from divergences.checks import as_count, as_number, one_of
from divergences.errors import InputError

__all__ = ["AutoencoderRecipe"]

if TYPE_CHECKING:
    _Text: TypeAlias = str
    _Count: TypeAlias = int
    _Number: TypeAlias = float
    _Counts: TypeAlias = tuple[int, int]
    _Numbers: TypeAlias = tuple[float, float]
    _Maybe: TypeAlias = float | None
else:
    # What users hand in is checked here, in words; a run-time type checker would only get in the way.
    _Text = _Count = _Number = _Numbers = _Counts = _Maybe = Any

_KINDS = ("ae", "vae", "iwae", "wae", "vq_vae", "vae_gan")
BAYESIAN = ("vae", "iwae")


@dataclass(frozen=True)
class AutoencoderRecipe:
    """How an ensemble of autoencoders is trained.

    Attributes:
        kind: "ae", "vae", "iwae", "wae", "vq_vae" or "vae_gan".
        likelihood: of "vae" and "iwae": "gaussian", or "bernoulli" for data in [0, 1].
        noise: s of the Gaussian likelihood, in standard deviations of the data; None is learned.
        first_noise: where a learned s starts. At 1 the decoder's mean explains everything, and most members stay there
            for thousands of steps; at 0.1 the codes are slow to spread over the prior.
        latent_dim: k.
        width: of every hidden layer.
        depths: hidden layers of encoder and decoder; (0, 0) is linear, which makes a VAE probabilistic PCA.
        batch: points per minibatch.
        learning_rate: of Adam at the start; a cosine to 0.
        betas: how long Adam remembers gradients and their squares.
        beta: weight of the rate.
        free_bits: bits per latent dimension that are free of charge.
        samples: latents per point and step ("iwae": the m of the bound).
        mmd_weight: λ of "wae".
        codes: vectors of the codebook of "vq_vae".
        commitment: β of "vq_vae".
        codebook_decay: γ of the codebook's moving average; None trains it by its gradient.
        likeness: γ of "vae_gan".
        chunk: members trained side by side: always this many.
    """

    kind: _Text = "vae"
    likelihood: _Text = "gaussian"
    noise: _Maybe = None
    first_noise: _Number = 0.3
    latent_dim: _Count = 2
    width: _Count = 64
    depths: _Counts = (2, 2)
    batch: _Count = 64
    learning_rate: _Number = 3e-3
    betas: _Numbers = (0.9, 0.999)
    beta: _Number = 1.0
    free_bits: _Number = 0.0
    samples: _Count = 1
    mmd_weight: _Number = 10.0
    codes: _Count = 32
    commitment: _Number = 0.25
    codebook_decay: _Maybe = None
    likeness: _Number = 1.0
    chunk: _Count = 32

    def __post_init__(self) -> None:
        one_of(self.kind, "kind", _KINDS)
        one_of(self.likelihood, "likelihood", ("gaussian", "bernoulli"))
        for name in ("latent_dim", "width", "batch", "samples", "codes", "chunk"):
            self._set(name, as_count(getattr(self, name), name))
        for name in ("learning_rate", "first_noise", "mmd_weight", "commitment", "likeness"):
            self._set(name, as_number(getattr(self, name), name, above=0.0))
        for name in ("beta", "free_bits"):
            number = as_number(getattr(self, name), name)
            if number < 0:
                raise InputError(f"{name} must be at least 0; it is {number}.")
            self._set(name, number)
        if self.noise is not None:
            self._set("noise", as_number(self.noise, "noise", above=0.0))
        if self.codebook_decay is not None:
            self._set("codebook_decay", as_number(self.codebook_decay, "codebook_decay", above=0.0, below=1.0))
        for name in ("depths", "betas"):
            pair = getattr(self, name)
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise InputError(f"{name} must be two numbers; it is {pair!r}.")
        self._set("depths", tuple(as_count(depth, "depths", minimum=0) for depth in self.depths))
        self._set("betas", tuple(as_number(beta, "betas", above=-1e-300, below=1.0) for beta in self.betas))
        if self.kind != "vae" and (self.beta != 1 or self.free_bits != 0):
            raise InputError(f'beta and free_bits weigh the rate of kind="vae"; kind is {self.kind!r}.')

    def _set(self, name: str, value: Any) -> None:
        # Checked and turned into plain Python numbers, so that a recipe can be compared and written as JSON.
        object.__setattr__(self, name, value)

    def rate_at(self, progress: _Number) -> float:
        """Learning rate after a share ``progress`` of the steps."""
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Of one player: Adam, elementwise, hence members stay apart."""
        return torch.optim.Adam(list(parameters), lr=self.learning_rate, betas=self.betas, fused=True)
