r"""A generator with jumps: some of its latents enter by their sign alone.

A continuous generator of connected latents reaches a connected set: between two modes of its target it must leave a
bridge of low-quality points, however long it trains. With z ~ N(0, I_k) as ever, let

    G(z) = net(sign z₁, ..., sign z_c, s·z_{c+1}, ..., s·z_k) + b[sign z₁, ..., sign z_c]:

c fair coins choose one of 2^c patches, each the image of a small Gaussian cloud, and nothing joins two patches. The
generator is told neither where the modes lie nor how many there are; 2^c only has to be several times their number,
for a patch lies on one mode, and 256 patches on 25 modes can be shared out to a few percent. A mixture of Gaussians as
the law of the latents does the same (references); coins keep the law what it was, and the network's weights learn what
each of them means.

On the way to ``SHARP``, on ``grid``, batch 64, networks 3 × 64, one seed, four members each (eight where marked *),
10 000 points of each: the mean high-quality share, that of the worst member, and how many cover 25 modes (a perfect
generator: 0.989). Enough to choose by, not to compare rows a few hundredths apart; ``toygen.atlas`` takes more members.

    6000 steps  two ordinary latents                          0.140  0.121  4
                8 coins, s = 1                                0.877  0.830  4
                8 coins, s = 0.3                              0.886  0.781  8*
                6 coins, s = 0.3                              0.725  0.685  2
                8 coins, s = 0.3, shifts                      0.910  0.889  8*
    3000 steps  8 coins, s = 0.3, shifts                      0.869  0.827  4
                the same, shifts three times as fast          0.841  0.824  4
                a quarter negatives, shifts                   0.865  0.808  4
                a quarter negatives, shifts three times       0.945  0.919  4
                a quarter negatives, shifts eight times       0.901  0.864  0
                an eighth negatives, shifts three times       0.958  0.914  8*

**What came of it** (``python -m toygen atlas``): on ``ring`` 64 of 64 members cover 8 modes after 3000 steps; on
``grid`` 61 of 64 cover 25 after 4000 and 64 of 64 after 8000, with mean high-quality shares of 0.962 and 0.979. The
first eight of the 64 began with the weights that the first look began with. In the one lost mode of 4000 steps that was
looked at (``scatter=1``, also 61 of 64) nothing was missing: all its patches lay together 4σ to 10σ beside it. Time is
what brings them home. In runs of eight members neither a larger penalty at the end (0.01) nor learning rates that stay
above a tenth helped, nor to let the discriminator rest, or its average, while the generator goes on: the share fell
from 0.910 to between 0.58 and 0.70.

The width of a mode is not learned: in one the points' standard deviation is 0.3 to 0.5 of the target's with negatives,
0.8 without, which the high-quality share does not punish. On ``ring`` it is above a perfect generator's for that.

References:
    DeLiGAN: generative adversarial networks for diverse and limited data (Gurumurthy et al., 2017),
    https://arxiv.org/abs/1706.02071. BourGAN: generative networks with metric embeddings (Xiao et al., 2018),
    https://arxiv.org/abs/1805.07674. Disconnected manifold learning for generative adversarial networks (Khayatkhoei
    et al., 2018), https://arxiv.org/abs/1806.00880
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from divergences.checks import as_count, as_number
from divergences.errors import InputError
from toygen.chunks import Chunk, MemberPlan
from toygen.layers import Affine
from toygen.negatives import NegativesChunk
from toygen.networks import MLP
from toygen.recipes import Recipe, Units
from toygen.runs import GanEnsemble, GanRun, Progress

__all__ = ["SHARP", "CoinMLP", "CoinRecipe", "CoinRun", "Coins", "fit_sharp"]

_MOST_COINS = 16
_ON_BOTH = ("consensus", "instance_noise")

if TYPE_CHECKING:
    _Count: TypeAlias = int
    _Number: TypeAlias = float
    _Numbers: TypeAlias = tuple[float, float]
else:
    _Count = _Number = _Numbers = Any


class Coins(Affine):
    """(z₁, ..., z_k) ↦ (sign z₁, ..., sign z_c, s·z_{c+1}, ..., s·z_k), the same for all members.

    Args:
        dim: k.
        coins: c, between 0 and k.
        spread: s.
        dtype: of what it is applied to.

    Raises:
        InputError: more coins than latents, or a spread that is not positive.

    >>> Coins(3, 2, 0.5)(torch.tensor([[-0.1, 2.0, 3.0]]))
    tensor([[-1.0000,  1.0000,  1.5000]])
    """

    coins: Tensor

    def __init__(self, dim: Any, coins: Any, spread: Any, dtype: torch.dtype = torch.float32) -> None:
        dim, coins = as_count(dim, "dim"), as_count(coins, "coins", minimum=0)
        if coins > dim:
            raise InputError(f"coins must be at most the number of latents, {dim}; it is {coins}.")
        super().__init__([0.0] * dim, [as_number(spread, "spread", above=0.0)] * dim, dtype)
        self.register_buffer("coins", torch.arange(dim) < coins)

    def forward(self, x: Tensor) -> Tensor:
        """Signs first, then s times the rest."""
        return torch.where(self.coins, torch.copysign(torch.ones_like(x), x), super().forward(x))


class CoinMLP(MLP):
    """A generator that tosses coins, and shifts each of its patches by itself.

    Args:
        sizes: widths from latents to points.
        rngs: one generator per member: for its layers first, then for its shifts.
        before: the coins.
        after: into the units of the data.
        scatter: standard deviation of the shifts at the start.
        unit: length of a shift of 1, in the units of the data.
        gain: how many times faster the shifts learn than they would by themselves.

    Attributes:
        shifts: b/unit, shape (K, 2^c, d).
        unit: length of a shift of 1, for each member: shape (K, 1, 1).
    """

    unit: Tensor

    def __init__(
        self,
        sizes: Sequence[Any],
        rngs: Sequence[np.random.Generator],
        *,
        before: Coins,
        after: Affine,
        scatter: float,
        unit: float,
        gain: float,
    ) -> None:
        super().__init__(sizes, rngs, before=before, after=after)
        # One per member, for an ensemble is cut and joined along the member axis of all it holds.
        self.register_buffer("unit", torch.full((len(rngs), 1, 1), unit * gain, dtype=torch.float32))
        patches = 2 ** int(before.coins.sum())
        start = np.stack([rng.standard_normal((patches, self.sizes[-1])) for rng in rngs]) * (scatter / gain)
        self.shifts = nn.Parameter(torch.tensor(start, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """All members at once: the network's points, each shifted with its patch."""
        count = self.shifts.shape[1].bit_length() - 1
        digits = 2 ** torch.arange(count, device=x.device)
        patch = ((x[..., :count].detach() > 0) * digits).sum(dim=-1, keepdim=True)
        shift = self.shifts.gather(1, patch.expand(*patch.shape[:-1], self.shifts.shape[-1]))
        points: Tensor = super().forward(x) + self.unit * shift
        return points


@dataclass(frozen=True)
class CoinRecipe(Recipe):
    """A recipe whose generator tosses coins.

    Attributes:
        coins: how many latents enter by their sign; 0 is an ordinary generator.
        spread: what the others are multiplied by.
        scatter: standard deviation of the patches' shifts at the start, for data of unit variance; 0 is no shifts.
        shift_gain: how many times faster the shifts learn than the network's weights.
        negatives: share of ``toygen.negatives`` among what D is shown as generated; 0 is none.
        reach: smallest and largest standard deviation of their noise, for data of unit variance.
    """

    coins: _Count = 8
    spread: _Number = 0.3
    scatter: _Number = 0.7
    shift_gain: _Number = 3.0
    negatives: _Number = 0.125
    reach: _Numbers = (0.05, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("coins", as_count(self.coins, "coins", minimum=0))
        self._set("spread", as_number(self.spread, "spread", above=0.0))
        self._set("scatter", as_number(self.scatter, "scatter"))
        self._set("shift_gain", as_number(self.shift_gain, "shift_gain", above=0.0))
        if self.scatter < 0:
            raise InputError(f"scatter must be at least 0; it is {self.scatter}.")
        self._set("negatives", as_number(self.negatives, "negatives"))
        if not 0 <= self.negatives < 1:
            raise InputError(f"negatives must lie in [0, 1); it is {self.negatives}.")
        if self.negatives and self.penalty in _ON_BOTH:
            raise InputError(f"negatives must be 0 with penalty {self.penalty!r}, which changes the turns of both.")
        if not isinstance(self.reach, tuple | list) or len(self.reach) != 2:
            raise InputError(f"reach must be two numbers; it is {self.reach!r}.")
        self._set("reach", tuple(as_number(width, "reach", above=0.0) for width in self.reach))
        if self.reach[0] > self.reach[1]:
            raise InputError(f"reach must be a smallest and a largest width, in this order; it is {self.reach}.")
        if self.coins > _MOST_COINS:
            raise InputError(f"coins must be at most {_MOST_COINS}: there is a patch for every outcome of all of them.")
        if self.coins > self.latent_dim:
            raise InputError(f"coins must be at most latent_dim = {self.latent_dim}; it is {self.coins}.")


if TYPE_CHECKING:
    _CoinRecipe: TypeAlias = CoinRecipe
else:
    _CoinRecipe = Any

# Chosen by the first look above. The plans of ``toygen.atlas`` hold it for 64 members on both targets, and an ablation.
SHARP = CoinRecipe(width=64, depths=(3, 3), latent_dim=10)


class CoinRun(GanRun):
    """A ``GanRun`` of a ``CoinRecipe``; everything that is said of the one holds for the other.

    >>> data = np.random.default_rng(0).normal(size=(100, 2))
    >>> recipe = CoinRecipe(width=8, chunk=2, latent_dim=3, coins=2)
    >>> run = CoinRun(data, recipe=recipe, members=2, steps=3)
    >>> [progress.done for progress in run]
    [1, 2, 3]
    """

    def __init__(
        self,
        train: Any,
        *,
        recipe: _CoinRecipe = SHARP,
        members: Any = 8,
        steps: Any = 12_000,
        seed: Any = 0,
        device: Any = "cpu",
    ) -> None:
        if not isinstance(recipe, CoinRecipe):
            raise InputError(f"recipe must be a CoinRecipe; it is {recipe!r}. A Recipe is trained by GanRun.")
        super().__init__(train, recipe=recipe, members=members, steps=steps, seed=seed, device=device)
        self._units: Units = _CoinUnits(*self._units)
        self._share, self._reach = recipe.negatives, recipe.reach

    def _chunk(self, plans: Sequence[MemberPlan]) -> Chunk:
        if not self._share:
            return super()._chunk(plans)
        return NegativesChunk(
            plans,
            self._units,
            self._recipe,
            self._train,
            self._steps,
            self._device,
            share=self._share,
            reach=self._reach,
        )


def fit_sharp(
    train: Any,
    *,
    recipe: _CoinRecipe = SHARP,
    members: Any = 8,
    steps: Any = 12_000,
    seed: Any = 0,
    device: Any = "cpu",
    progress: Callable[[Progress], object] | None = None,
) -> GanEnsemble:
    """Train an ensemble of GANs whose generators toss coins to the end: ``fit_gan`` for a ``CoinRecipe``.

    Args:
        train: points (n, d), shared by all members.
        recipe: how to train.
        members: how many (0 … K − 1), or the indices of those that are wanted.
        steps: moves of the generator.
        seed: of the whole ensemble.
        device: "auto", "cpu", "cuda" or "cuda:1".
        progress: told where the run stands after every step.

    Raises:
        InputError: data that are not at least two different finite points, no members, negative steps or seed,
            or a device that is not there.
    """
    run = CoinRun(train, recipe=recipe, members=members, steps=steps, seed=seed, device=device)
    for state in run:
        if progress is not None:
            progress(state)
    return run.result()


def empty_generator(sizes: Sequence[int], coins: int, shifts: Sequence[int] | None) -> MLP:
    """A generator of one member in float64, for weights from a file.

    Args:
        sizes: widths from latents to points.
        coins: how many.
        shifts: the shape that a file gives them; None is none.

    Raises:
        InputError: a number of coins, or of shifts, that no generator has.
    """
    if coins > _MOST_COINS:
        raise InputError(f"before.coins must hold at most {_MOST_COINS} coins; it holds {coins}")
    if shifts is not None and tuple(shifts) != (1, 2**coins, sizes[-1]):
        raise InputError(f"shifts must have the shape {(1, 2**coins, sizes[-1])}; they have {tuple(shifts)}")
    before, after = Coins(sizes[0], coins, 1.0), Affine([0.0] * sizes[-1], [1.0] * sizes[-1])
    rngs = [np.random.default_rng(0)]
    if shifts is None:
        return MLP(sizes, rngs, before=before, after=after).double()
    return CoinMLP(sizes, rngs, before=before, after=after, scatter=0.0, unit=1.0, gain=1.0).double()


class _CoinUnits(Units):
    """Centre and scale of the data, and a generator that tosses coins."""

    def generator(self, recipe: Recipe, rngs: Sequence[np.random.Generator]) -> MLP:
        if not isinstance(recipe, CoinRecipe):
            return super().generator(recipe, rngs)
        coins = Coins(recipe.latent_dim, recipe.coins, recipe.spread)
        if recipe.scatter == 0:
            network = super().generator(recipe, rngs)
            network.before = coins
            return network
        dim = len(self.center)
        return CoinMLP(
            [recipe.latent_dim, *[recipe.width] * recipe.depths[0], dim],
            rngs,
            before=coins,
            after=Affine(self.center, [self.scale] * dim),
            scatter=recipe.scatter,
            unit=self.scale,
            gain=recipe.shift_gain,
        )
