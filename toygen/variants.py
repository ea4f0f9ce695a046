"""A recipe with another objective or penalty, and with what hangs on them.

A weight that suits a logit does not suit a critic, and a critic without any bound on its slope proves nothing. So what
``recipe_for`` gives for the game asked for is taken over where the game became another one; the rest of the recipe
(networks, optimiser, schedule) stays.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from toygen.recipes import Recipe, recipe_for

__all__ = ["variant"]


def variant(recipe: Recipe, *, objective: Any = None, penalty: Any = None) -> Recipe:
    """The recipe with another objective or penalty.

    Args:
        recipe: of any kind; the result is of the same.
        objective: name of one of ``OBJECTIVES``; None keeps the recipe's.
        penalty: name of one of ``PENALTIES``; None keeps the recipe's, unless a logit becomes a critic or a critic a
            logit: then it is the usual one of the objective.

    Returns:
        With the weights of ``recipe_for`` where the penalty or the kind of output is another one, and with its number
        of moves of the discriminator where the kind of output is.

    Raises:
        InputError: an unknown name, or a penalty that the recipe cannot have.

    >>> from toygen.recipes import RECIPES
    >>> critic = variant(RECIPES["gan_algorithm_1"], objective="wasserstein")
    >>> critic.penalty, critic.weights, critic.discriminator_steps, critic.method
    ('gradient_penalty', (1.0, 1.0), 3, 'sgd')
    """
    game = recipe.objective if objective is None else objective
    usual, before = recipe_for(game), recipe_for(recipe.objective)
    # The usual penalty is that of the kind: a slope of one for critics, no slope at the data for logits.
    other_kind = usual.penalty != before.penalty
    if penalty is None:
        penalty = usual.penalty if other_kind else recipe.penalty
    asked = recipe_for(game, penalty)
    changes: dict[str, Any] = {"objective": game, "penalty": penalty}
    if other_kind or penalty != recipe.penalty:
        changes["weights"] = asked.weights
    if other_kind:
        changes["discriminator_steps"] = asked.discriminator_steps
    return replace(recipe, **changes)
