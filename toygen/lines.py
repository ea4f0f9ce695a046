r"""Parallel lines: the law on which Jensen-Shannon sees nothing and Wasserstein everything.

P_θ is uniform on {θ} × [0, 1]. For θ ≠ 0 and P_0: KL = ∞, JSD = log 2, TV = 1, whatever θ, and W₁ = |θ|.

Reference: Wasserstein GAN (Arjovsky, Chintala, Bottou, 2017), https://arxiv.org/abs/1701.07875, example 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64

from divergences import Discrete
from divergences.checks import ArrayLike, as_count, as_generator, as_number

__all__ = ["ParallelLines"]


class ParallelLines:
    """Vertical segments {offset + k·gap} × [0, 1], k = 0 … lines − 1, uniformly: a law in the plane without a density.

    KL between two of these with different offsets is ∞ (as a limit), JSD log 2, TV 1, whatever the distance: only
    W₁ = |difference of the offsets| has a slope. It is a sampler: density divergences refuse it with ``NoDensity``.
    """

    dim = 2

    def __init__(self, lines: Any = 1, gap: ArrayLike = 1.0, *, offset: ArrayLike = 0.0) -> None:
        self.lines = as_count(lines, "lines")
        self.gap = as_number(gap, "gap", above=0.0)
        self.offset = as_number(offset, "offset")

    def __repr__(self) -> str:
        return f"ParallelLines(lines={self.lines}, gap={self.gap:g}, offset={self.offset:g})"

    def sample(self, n: Any, rng: np.random.Generator) -> Float64[np.ndarray, "n 2"]:
        """Draw n points, shape (n, 2)."""
        n, rng = as_count(n, "n", minimum=0), as_generator(rng)
        return np.stack([self.offset + self.gap * rng.integers(0, self.lines, n), rng.random(n)], axis=1)

    def __call__(self, n: Any, rng: np.random.Generator) -> Float64[np.ndarray, "n 2"]:
        """The same: it is a sampler."""
        return self.sample(n, rng)

    def discrete(self, n: Any) -> Discrete:
        """Its quantisation: n equal atoms per line, at the middles of n equal pieces; within 1/(4n) of it in W₁."""
        heights = (np.arange(as_count(n, "n")) + 0.5) / n
        places = self.offset + self.gap * np.arange(self.lines)
        return Discrete(np.stack([np.repeat(places, n), np.tile(heights, self.lines)], axis=1))
