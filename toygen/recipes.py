r"""A recipe: everything that defines a training besides the data, the seed and the number of steps.

The standard one covers every mode of ``ring`` and ``grid`` on every seed that was tried: non-saturating loss with R1
and R2, γ falling geometrically from 0.1 to 0.001, Adam at 1e-3 with a cosine to 0 and without momentum, an exponential
average of G, four hidden layers in G and three in D. What each part buys:

* the zero-centred penalty decides **coverage**; without it (``penalty="none"``) a generator drops modes of the grid;
* depth, the cosine, the average and the gain at D's input buy **sharpness**. The gain (3) lets a freshly initialised D
  bend on the scale of the modes instead of the scale of the whole cloud.

Two recipes are the first algorithms of their papers, number for number (``RECIPES``; ``toygen.algorithms`` writes them
out line by line): "gan_algorithm_1" and "wgan_algorithm_1". Both act on networks of this library (two hidden layers, no
gain at D's input) and on standardised data, since the papers name no network for a toy.

**Units.** Lengths and γ are stated for data of unit variance; networks are built in the units of the data and the
weights of the penalties converted. So a ring of radius 1 and one of radius 1000 train alike with the standard recipe,
to the last digit if one is a power of two times the other. s is one number, the root mean variance over coordinates: a
round mode stays round.

    logits:   D(x) = net(3·(x − c)/s)      γ·s² for zero-centred penalties
    critics:  f(x) = s·net(3·(x − c)/s)    λ·s: slopes have no unit, and E_p f − E_q f is in the units of the data

"Logits" here are all outputs without a unit: of ``hinge``, of ``mmd``, of the f-GANs and so on, too. The σ of instance
noise is in standard deviations of the data.

Three things do depend on the units; standardise the data where that matters:

* "gradient_penalty" and "one_sided" on logits, and so ``mmd`` with its usual penalty: a slope of one logit per unit of
  length is another demand in other units, and nothing converts it;
* critics' gradients, which carry the unit of the data. Adam and RMSProp divide it out but for their ε of 1e-8, which is
  felt where gradients are as small as under ``penalty="clip"``, "wgan_algorithm_1" included;
* critics under ``method="sgd"``, whose steps are as long as the gradients.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from divergences.checks import as_count, as_number, one_of
from divergences.errors import InputError
from toygen.layers import Affine, EnsembleLinear, MinibatchFeatures, SpectralLinear
from toygen.networks import MLP
from toygen.objectives import OBJECTIVES, Objective
from toygen.optimizers import MemberOptimizer
from toygen.penalties import PENALTIES, Penalty

__all__ = ["RECIPES", "Recipe", "Units", "recipe_for"]

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
_METHODS = ("adam", "rmsprop", "sgd")
_SCHEDULES = ("cosine", "constant")
# What a penalty is weighted with, at the start and at the end, for data of unit variance; the standard weights are
# those of the zero-centred penalties. (Unrolled moves of 0.1 overshoot, and G plays against a D that never comes.)
_WEIGHTS = {"instance_noise": (0.5, 0.01), "consensus": (0.1, 0.1), "unrolled": (0.01, 0.01)}


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
        learning_rate: at the start, for both.
        betas: how long gradients and their squares are remembered: both by Adam, the first as the momentum of SGD, the
            second by RMSProp.
        decay: of the exponential average of G.
        input_gain: what D multiplies standardized points with.
        chunk: members trained side by side: always this many, see ``toygen.runs``.
        method: "adam", "rmsprop" or "sgd", for both.
        schedule: of the learning rate: "cosine" to 0, or "constant".
        pack: points the discriminator decides on at once (PacGAN); must divide ``batch``.
        spectral: largest singular value of each layer of the discriminator under ``penalty="spectral"``. The paper's is
            1; in 1500 quick steps of ``hinge`` on the ring, eight members each, 2 gave twice the high-quality share
            (median 0.36 against 0.19) and lost one mode where 1 lost two whole members.
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
    chunk: _Count = 32
    method: _Text = "adam"
    schedule: _Text = "cosine"
    pack: _Count = 1
    spectral: _Number = 2.0

    def __post_init__(self) -> None:
        one_of(self.objective, "objective", list(OBJECTIVES))
        one_of(self.penalty, "penalty", list(PENALTIES))
        one_of(self.method, "method", _METHODS)
        one_of(self.schedule, "schedule", _SCHEDULES)
        for name in ("width", "batch", "latent_dim", "discriminator_steps", "chunk", "pack"):
            self._set(name, as_count(getattr(self, name), name))
        if self.batch % self.pack:
            raise InputError(f"pack must divide batch = {self.batch}; it is {self.pack}.")
        for name in ("bound", "learning_rate", "input_gain", "spectral"):
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
        its rate, and so does whatever is not trained by Adam.
        """
        if _is_critic(self) or self.method != "adam":
            return replace(self, width=32)
        last = self.weights[1] if self.penalty in _WEIGHTS else 0.05
        return replace(self, width=32, learning_rate=4 * self.learning_rate, weights=(self.weights[0], last))

    def rate_at(self, progress: _Number) -> float:
        """Learning rate after a share ``progress`` of the steps."""
        if self.schedule == "constant":
            return float(self.learning_rate)
        return float(self.learning_rate * 0.5 * (1 + math.cos(math.pi * progress)))

    def weight_at(self, progress: _Number) -> float:
        """Weight of the penalty, for data of unit variance."""
        first, last = self.weights
        return float(first * (last / first) ** progress)

    def optimizer(self, parameters: Iterable[nn.Parameter], rates: Sequence[float] | None = None) -> MemberOptimizer:
        """Of one player: elementwise, hence members stay apart.

        Args:
            parameters: of the player.
            rates: a learning rate for each member; None is the recipe's for all.
        """
        return MemberOptimizer(parameters, self._elementwise, self.learning_rate if rates is None else rates)

    def _elementwise(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        if self.method == "sgd":
            return torch.optim.SGD(parameters, lr=1.0, momentum=self.betas[0])
        if self.method == "rmsprop":
            return torch.optim.RMSprop(parameters, lr=1.0, alpha=self.betas[1])
        # Fused: launching costs more than adding.
        return torch.optim.Adam(parameters, lr=1.0, betas=self.betas, fused=True)


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
        """A point (or a pack) in the units of the data ↦ a logit, or a critic's score in the units of the data."""
        center = self.center * recipe.pack
        sizes = [len(center), *[recipe.width] * recipe.depths[1], OBJECTIVES[recipe.objective].outputs]
        gain = recipe.input_gain / self.scale
        before = Affine([-gain * c for c in center], [gain] * len(center))
        after = Affine([0.0], [self.scale]) if _is_critic(recipe) else None
        needs = PENALTIES[recipe.penalty].needs
        layer = partial(SpectralLinear, gain=recipe.spectral) if needs is SpectralLinear else EnsembleLinear
        company = MinibatchFeatures(recipe.width, rngs) if needs is MinibatchFeatures else None
        return MLP(sizes, rngs, before=before, after=after, layer=layer, company=company).packed(recipe.pack)

    def penalty(self, recipe: Recipe, weight: Tensor) -> Penalty:
        """The recipe's penalty, its weight a tensor to be turned during training (see ``penalty_unit``)."""
        return replace(PENALTIES[recipe.penalty].weighted(weight), bound=self._bound(recipe))

    def penalty_unit(self, recipe: Recipe) -> float:
        """What a weight for data of unit variance is multiplied with for these data."""
        if recipe.penalty == "instance_noise":
            return self.scale
        if recipe.penalty in ("consensus", "unrolled"):
            # Parameters have no unit; a critic's loss, and so its gradient in them, is a length.
            return 1 / self.scale if _is_critic(recipe) else 1.0
        if _is_critic(recipe):
            return self.scale
        # "Slope one" of a logit means something else in other units; nothing converts it.
        return 1.0 if recipe.penalty in (_ONE_CENTRED, "one_sided") else self.scale**2

    def _bound(self, recipe: Recipe) -> float | None:
        return None if PENALTIES[recipe.penalty].bound is None else recipe.bound


def recipe_for(objective: Any, penalty: Any = None) -> Recipe:
    """The recipe for an objective, with its usual penalty unless another one is named.

    Args:
        objective: name of one of ``OBJECTIVES``.
        penalty: name of one of ``PENALTIES``; None is "gradient_penalty" for ``wasserstein`` and ``mmd``, else "r1_r2".

    Raises:
        InputError: an unknown name.

    >>> recipe_for("wasserstein").penalty, recipe_for("minimax").penalty
    ('gradient_penalty', 'r1_r2')
    """
    known: Objective = OBJECTIVES[one_of(objective, "objective", list(OBJECTIVES))]
    judged_by_slope = known.lipschitz or known.outputs > 1
    usual = _ONE_CENTRED if judged_by_slope else "r1_r2"
    recipe = Recipe(objective=objective, penalty=usual if penalty is None else penalty)
    if judged_by_slope:
        recipe = replace(recipe, weights=(1.0, 1.0), betas=(0.0, 0.9), discriminator_steps=3)
    return replace(recipe, weights=_WEIGHTS.get(recipe.penalty, recipe.weights))


def _positive(value: Any, name: str) -> float:
    return as_number(value, name, above=0.0)


def _share(value: Any, name: str) -> float:
    share = as_number(value, name)
    if not 0 <= share < 1:
        raise InputError(f"{name} must lie in [0, 1); it is {value!r}.")
    return share


def _is_critic(recipe: Recipe) -> bool:
    return OBJECTIVES[recipe.objective].lipschitz


_PLAIN = Recipe(penalty="none", schedule="constant", depths=(2, 2), decay=0.0, input_gain=1.0)

RECIPES = {
    "standard": Recipe(),
    # k = 1, "the least expensive option"; the paper names no rate and no momentum: these are ours.
    "gan_algorithm_1": replace(_PLAIN, objective="minimax", method="sgd", learning_rate=0.05, betas=(0.5, 0.0)),
    "wgan_algorithm_1": replace(
        _PLAIN,
        objective="wasserstein",
        penalty="clip",
        method="rmsprop",
        learning_rate=5e-5,
        betas=(0.0, 0.99),
        bound=0.01,
        batch=64,
        discriminator_steps=5,
    ),
}
