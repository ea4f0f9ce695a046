r"""A recipe: everything that defines a training besides the data, the seed and the number of steps.

The standard one covers every mode of ``ring`` and ``grid`` on every seed that was tried: non-saturating loss with R1
and R2, γ falling geometrically from 0.1 to 0.001, Adam at 1e-3 with a cosine to 0 and without momentum, an exponential
average of G, four hidden layers in G and three in D. What each part buys:

* the zero-centred penalty decides **coverage**; without it (``penalty="none"``) a generator drops modes of the grid;
* depth, the cosine, the average and the gain at D's input buy **sharpness**. The gain (3) lets a freshly initialised D
  bend on the scale of the modes instead of the scale of the whole cloud.

**Units.** Lengths and γ are stated for data of unit variance; networks are built in the units of the data and the
weights of the penalties converted, so that a ring of radius 1 and one of radius 1000 train alike. s is one number, the
root mean variance over coordinates: a round mode stays round.

    logits:   D(x) = net(3·(x − c)/s)      γ·s² for zero-centred penalties
    critics:  f(x) = s·net(3·(x − c)/s)    λ·s: slopes have no unit, and E_p f − E_q f is in the units of the data
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from divergences.checks import as_count, as_number, one_of
from divergences.errors import InputError
from toygen.layers import Affine
from toygen.networks import MLP
from toygen.objectives import OBJECTIVES, Objective
from toygen.penalties import PENALTIES, Penalty

__all__ = ["Recipe", "Units", "recipe_for"]

if TYPE_CHECKING:
    _Text: TypeAlias = str
    _Count: TypeAlias = int
    _Number: TypeAlias = float
    _Counts: TypeAlias = tuple[int, int]
    _Numbers: TypeAlias = tuple[float, float]
else:
    # What users hand in is checked here, in words; a run-time type checker would only get in the way.
    _Text = _Count = _Number = _Numbers = _Counts = Any

_ONE_CENTRED = "gradient_penalty"


@dataclass(frozen=True)
class Recipe:
    """How an ensemble is trained; see the module for what each part buys.

    Attributes:
        objective: name of one of ``OBJECTIVES``.
        penalty: name of one of ``PENALTIES``.
        weights: of the penalty, at the start and at the end, for data of unit variance; geometric in between.
        bound: largest absolute weight under ``penalty="clip"``.
        width: of every hidden layer.
        depths: hidden layers of the generator and of the discriminator.
        batch: points per minibatch.
        latent_dim: dimension of z ~ N(0, 1).
        discriminator_steps: moves of D per move of G.
        learning_rate: at the start, for both; cosine to 0.
        betas: of Adam, for both.
        decay: of the exponential average of G.
        input_gain: what D multiplies standardized points with.
        chunk: members trained side by side: always this many, see ``toygen.runs``.
    """

    objective: _Text = "non_saturating"
    penalty: _Text = "r1_r2"
    weights: _Numbers = (0.1, 0.001)
    bound: _Number = 0.01
    width: _Count = 128
    depths: _Counts = (4, 3)
    batch: _Count = 64
    latent_dim: _Count = 2
    discriminator_steps: _Count = 1
    learning_rate: _Number = 1e-3
    betas: _Numbers = (0.0, 0.99)
    decay: _Number = 0.999
    input_gain: _Number = 3.0
    chunk: _Count = 8

    def __post_init__(self) -> None:
        one_of(self.objective, "objective", list(OBJECTIVES))
        one_of(self.penalty, "penalty", list(PENALTIES))
        for name in ("width", "batch", "latent_dim", "discriminator_steps", "chunk"):
            self._set(name, as_count(getattr(self, name), name))
        for name in ("bound", "learning_rate", "input_gain"):
            self._set(name, as_number(getattr(self, name), name, above=0.0))
        self._set("decay", _share(self.decay, "decay"))
        for name, check in (("weights", _positive), ("betas", _share), ("depths", as_count)):
            pair = getattr(self, name)
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise InputError(f"{name} must be two numbers; it is {pair!r}.")
            self._set(name, tuple(check(value, name) for value in pair))

    def _set(self, name: str, value: Any) -> None:
        # Checked and turned into plain Python numbers, so that a recipe can be compared and written as JSON.
        object.__setattr__(self, name, value)

    def quick(self) -> Recipe:
        """The same game for a minute instead of ten: narrow networks and, for logits, a four times higher rate.

        The penalised grid was covered by 32 of 32 members (four seeds, 8000 to 12 000 steps), with a mean high-quality
        share of 0.4 at 8000 steps and 0.55 at 12 000; without a penalty none of 16 members covered it. A critic keeps
        its rate.
        """
        if _is_critic(self):
            return replace(self, width=32)
        return replace(self, width=32, learning_rate=4 * self.learning_rate, weights=(self.weights[0], 0.05))

    def rate_at(self, progress: _Number) -> float:
        """Learning rate after a share ``progress`` of the steps."""
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))

    def weight_at(self, progress: _Number) -> float:
        """Weight of the penalty, for data of unit variance."""
        first, last = self.weights
        return float(first * (last / first) ** progress)

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Adam for one player. Elementwise, hence members stay apart; fused, since launching costs more than adding."""
        return torch.optim.Adam(list(parameters), lr=self.learning_rate, betas=self.betas, fused=True)


class Units(NamedTuple):
    """Centre and scale of the data."""

    center: list[float]
    scale: float

    @classmethod
    def of(cls, points: np.ndarray) -> Units:
        """Mean, and root mean variance over the coordinates, of points (n, d).

        Raises:
            InputError: all points are the same.
        """
        scale = float(np.sqrt(points.var(axis=0).mean()))
        if not scale > 0:
            raise InputError("train has no spread: all its points are the same. There is nothing to learn.")
        return cls(points.mean(axis=0).tolist(), scale)

    def generator(self, recipe: Recipe, rngs: Sequence[np.random.Generator]) -> MLP:
        """Z ↦ a point in the units of the data."""
        dim = len(self.center)
        sizes = [recipe.latent_dim, *[recipe.width] * recipe.depths[0], dim]
        return MLP(sizes, rngs, after=Affine(self.center, [self.scale] * dim))

    def discriminator(self, recipe: Recipe, rngs: Sequence[np.random.Generator]) -> MLP:
        """A point in the units of the data ↦ a logit, or a critic's score in the units of the data."""
        sizes = [len(self.center), *[recipe.width] * recipe.depths[1], 1]
        gain = recipe.input_gain / self.scale
        before = Affine([-gain * c for c in self.center], [gain] * len(self.center))
        after = Affine([0.0], [self.scale]) if _is_critic(recipe) else None
        return MLP(sizes, rngs, before=before, after=after)

    def penalty(self, recipe: Recipe, weight: Tensor) -> Penalty:
        """The recipe's penalty, its weight a tensor to be turned during training (see ``penalty_unit``)."""
        return replace(PENALTIES[recipe.penalty], weight=weight, bound=self._bound(recipe))

    def penalty_unit(self, recipe: Recipe) -> float:
        """What a weight for data of unit variance is multiplied with for these data."""
        if _is_critic(recipe):
            return self.scale
        # "Slope one" of a logit means something else in other units; nothing converts it.
        return 1.0 if recipe.penalty == _ONE_CENTRED else self.scale**2

    def _bound(self, recipe: Recipe) -> float | None:
        return None if PENALTIES[recipe.penalty].bound is None else recipe.bound


def recipe_for(objective: Any, penalty: Any = None) -> Recipe:
    """The recipe for an objective, with its usual penalty unless another one is named.

    Args:
        objective: name of one of ``OBJECTIVES``.
        penalty: name of one of ``PENALTIES``; None is "gradient_penalty" for ``wasserstein``, else "r1_r2".

    Raises:
        InputError: an unknown name.

    >>> recipe_for("wasserstein").penalty, recipe_for("minimax").penalty
    ('gradient_penalty', 'r1_r2')
    """
    known: Objective = OBJECTIVES[one_of(objective, "objective", list(OBJECTIVES))]
    if known.convention is not None:
        return Recipe(objective=objective, penalty="r1_r2" if penalty is None else penalty)
    base = Recipe(
        objective=objective, penalty=_ONE_CENTRED if penalty is None else penalty, weights=(1.0, 1.0), betas=(0.0, 0.9)
    )
    return replace(base, discriminator_steps=3)


def _positive(value: Any, name: str) -> float:
    return as_number(value, name, above=0.0)


def _share(value: Any, name: str) -> float:
    share = as_number(value, name)
    if not 0 <= share < 1:
        raise InputError(f"{name} must lie in [0, 1); it is {value!r}.")
    return share


def _is_critic(recipe: Recipe) -> bool:
    return OBJECTIVES[recipe.objective].convention is None
