r"""Codebooks: the discrete bottleneck of a VQ-VAE, one codebook per member.

Each code z (of the encoder) is replaced by the nearest of n code vectors e_i. The choice has no derivative, so

* **straight-through**: forwards the decoder sees e, backwards its gradient is handed to z unchanged,
  e.g. ``z + (e − z).detach()``;
* **codebook loss** ‖sg[z] − e‖²: pulls the chosen vector to the codes (sg: no gradient);
* **commitment loss** β‖z − sg[e]‖²: keeps the codes near the vector they chose.

In place of the codebook loss, the vectors may follow an **exponential moving average** of the codes that chose them:
N_i ← γN_i + (1 − γ)n_i, M_i ← γM_i + (1 − γ)Σz, e_i = M_i/N_i, which is online k-means.

Squared lengths are summed over the coordinates and averaged over the batch.

References:
    Neural discrete representation learning (van den Oord et al., 2017), https://arxiv.org/abs/1711.00937 (sec. 3.2,
    app. A.1)
    Estimating or propagating gradients through stochastic neurons (Bengio et al., 2013),
    https://arxiv.org/abs/1308.3432 (straight-through)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from divergences import Estimate
from divergences.checks import as_array, as_count, as_number
from divergences.errors import InputError

__all__ = ["Codebook", "CodebookUse", "Quantized", "codebook_use", "quantize"]

# An unused vector's count decays to nothing; it is divided by no less than this, and so stays where it is.
_LEAST = 1e-5


@dataclass(frozen=True)
class CodebookUse:
    """How a codebook is used by the law of the points.

    Attributes:
        shares: of the choices, by code, shape (n,).
        dead: codes that no point chose.
        perplexity: exp(entropy) of the choice, 95 %, from 1 (one code does everything) to n (all do the same).
        raw: exp(entropy) of the shares, which is too small: entropies of shares are.
    """

    shares: Float64[np.ndarray, " n"]
    dead: int
    perplexity: Estimate
    raw: float


def codebook_use(indices: Any, codes: Any) -> CodebookUse:
    """Which codes independent points chose, and how many codes that is worth.

    The entropy of the shares is biased by −(used − 1)/2n, which is put right (Miller, Madow), and has the variance
    Var[log share]/n; the interval is its image under exp, cut to [1, codes].

    Args:
        indices: of the codes that points chose, shape (n,), n ≥ 2.
        codes: of the codebook.

    Raises:
        InputError: fewer than two choices, or indices out of range.

    Reference: Note on the bias of information estimates (Miller, 1955).

    >>> use = codebook_use(np.arange(1000) % 4, 5)
    >>> use.dead, round(use.raw, 6), use.perplexity.agrees(4.0)
    (1, 4.0, True)
    """
    count = as_count(codes, "codes")
    chosen = as_array(indices, "indices")
    if chosen.ndim != 1 or len(chosen) < 2 or not ((chosen >= 0) & (chosen < count) & (chosen % 1 == 0)).all():
        raise InputError(f"indices must be at least two of the codes 0 ... {count - 1}, shape (n,).")
    n = len(chosen)
    shares = np.bincount(chosen.astype(int), minlength=count) / n
    used = shares[shares > 0]
    entropy = -float(used @ np.log(used))
    # Where all shares are the same the first-order variance is nothing: what is left is that of a χ² of used − 1.
    variance = float(used @ np.log(used) ** 2 - entropy**2) / n + (len(used) - 1) / (2 * n**2)
    corrected, half = entropy + (len(used) - 1) / (2 * n), 1.959963984540054 * math.sqrt(max(variance, 0.0))
    low, value, high = (min(max(math.exp(corrected + side * half), 1.0), float(count)) for side in (-1, 0, 1))
    estimate = Estimate(
        value, max(high - value, value - low), level=0.95, method="entropy of shares, Miller-Madow", n=n,
        bounds=(low, high),
    )  # fmt: skip
    return CodebookUse(shares, int((shares == 0).sum()), estimate, math.exp(entropy))


class Quantized(NamedTuple):
    """What a codebook made of codes.

    Attributes:
        points: the chosen vectors, with the gradient of the codes (straight-through), shape (K, b, k).
        indices: which vector each code chose, shape (K, b).
        codebook: mean ‖sg[z] − e‖², shape (K,): its gradient is the codebook's.
        commitment: mean ‖z − sg[e]‖², shape (K,): its gradient is the encoder's. The same number.
    """

    points: Tensor
    indices: Tensor
    codebook: Tensor
    commitment: Tensor

    def perplexity(self, codes: int) -> Tensor:
        """Exp of the entropy of the batch's choices among ``codes`` vectors: from 1 to ``codes``, shape (K,)."""
        counts = nn.functional.one_hot(self.indices, codes).to(self.points.dtype).mean(dim=1)
        return torch.exp(-torch.special.xlogy(counts, counts).sum(dim=-1))


def quantize(codes: Tensor, vectors: Tensor) -> Quantized:
    """Replace each code by the nearest vector (the first of equals).

    Args:
        codes: shape (K, b, k).
        vectors: shape (K, n, k).

    Raises:
        InputError: shapes that do not fit together.
    """
    fits = codes.ndim == vectors.ndim == 3
    if not fits or len(codes) != len(vectors) or codes.shape[2] != vectors.shape[2]:
        raise InputError(
            "codes must have shape (members, batch, k) and vectors (members, n, k); they have "
            f"{tuple(codes.shape)} and {tuple(vectors.shape)}."
        )
    with torch.no_grad():
        # Differences, not a product: toys have few coordinates, and a product would round away near ties.
        indices = (codes[:, :, None] - vectors[:, None]).square().sum(dim=-1).argmin(dim=-1)
    # A gather and not an index: its gradient is summed in order, the same every time.
    chosen = vectors.gather(1, indices[:, :, None].expand(-1, -1, vectors.shape[2]))
    return Quantized(
        points=codes + (chosen - codes).detach(),
        indices=indices,
        codebook=(codes.detach() - chosen).square().sum(dim=-1).mean(dim=1),
        commitment=(codes - chosen.detach()).square().sum(dim=-1).mean(dim=1),
    )


class Codebook(nn.Module):
    """K codebooks of n vectors in k dimensions.

    Args:
        codes: n.
        dim: k.
        rngs: one generator per member; the vectors start as standard normals.
        decay: γ of the moving average; None trains the vectors by the gradient of the codebook loss.
        dtype: of the vectors.

    Attributes:
        vectors: shape (K, n, k): a parameter, or with ``decay`` a buffer.

    >>> book = Codebook(4, 1, [np.random.default_rng(0)])
    >>> sorted(book(torch.linspace(-2, 2, 100)[None, :, None]).indices.unique().tolist())
    [0, 1, 2, 3]
    """

    vectors: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(
        self,
        codes: Any,
        dim: Any,
        rngs: Sequence[np.random.Generator],
        *,
        decay: Any = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        codes, dim = as_count(codes, "codes"), as_count(dim, "dim")
        if len(rngs) == 0:
            raise InputError("rngs must hold one generator per member; it is empty.")
        start = torch.tensor(np.stack([rng.standard_normal((codes, dim)) for rng in rngs]), dtype=dtype)
        self.decay = None if decay is None else as_number(decay, "decay", above=0.0, below=1.0)
        if self.decay is None:
            self.vectors = nn.Parameter(start)
        else:
            self.register_buffer("vectors", start)
            self.register_buffer("counts", torch.ones(start.shape[:2], dtype=dtype))
            self.register_buffer("sums", start.clone())

    @property
    def codes(self) -> int:
        """Vectors per codebook, n."""
        return self.vectors.shape[1]

    def forward(self, codes: Tensor) -> Quantized:
        """Replace codes (K, b, k) by the nearest vectors."""
        return quantize(codes, self.vectors)

    def follow(self, codes: Tensor, indices: Tensor) -> None:
        """Move the averages towards these codes (K, b, k) and their choices (K, b); without ``decay`` do nothing."""
        if self.decay is None:
            return
        with torch.no_grad():
            chosen = nn.functional.one_hot(indices, self.codes).to(codes.dtype)
            self.counts.lerp_(chosen.sum(dim=1), 1 - self.decay)
            self.sums.lerp_(chosen.mT @ codes, 1 - self.decay)
            used = self.counts > _LEAST
            means = self.sums / self.counts.clamp(min=_LEAST)[:, :, None]
            self.vectors.copy_(torch.where(used[:, :, None], means, self.vectors))

    def usage(self, indices: Tensor) -> Tensor:
        """Share of the choices (K, b) that fell on each vector: shape (K, n)."""
        return nn.functional.one_hot(indices, self.codes).to(torch.float64).mean(dim=1)
