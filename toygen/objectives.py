r"""What the players want: pure functions of the discriminator's logits, one loss per member.

A discriminator gives its own logit ``a``, D = σ(a). With p the data's law, q the generator's and ``softplus`` the
stable log(1 + eᵃ),

    −log σ(a) = softplus(−a),    −log(1 − σ(a)) = softplus(a),

so no loss here ever takes the logarithm of a rounded probability.

The discriminator's best value under the three label conventions (its loss is the negative):

    goodfellow     E_p log D + E_q log(1 − D)           ≤ 2·JSD(p, q) − log 4   at D* = p/(p + q)
    flipped        E_p log(1 − D) + E_q log D           ≤ 2·JSD(p, q) − log 4   at D* = q/(p + q)
    flipped_half   ½ E_p log(1 − D) + ½ E_q log D       ≤   JSD(p, q) − log 2   at D* = q/(p + q)

``minimax`` lets G minimise that same value: its gradient with respect to the logit is −σ(a), which **vanishes** exactly
where G is worst and D is sure (σ(a) → 0). ``non_saturating`` lets G maximise log D instead: same fixed point, gradient
−(1 − σ(a)), which is largest there. The two are different objectives, and each does here what its name says.
``wasserstein`` has no logits but scores of a critic. If the critic is 1-Lipschitz, E_p f − E_q f ≤ W₁(p, q); a penalty
keeps it nearly so.

References:
    Generative adversarial nets (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661
    Wasserstein GAN (Arjovsky, Chintala, Bottou, 2017), https://arxiv.org/abs/1701.07875
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn.functional import softplus

from divergences.checks import one_of
from divergences.errors import InputError

__all__ = [
    "OBJECTIVES",
    "Objective",
    "flipped",
    "flipped_half",
    "minimax",
    "non_saturating",
    "objective_by_name",
    "wasserstein",
]


@dataclass(frozen=True)
class Objective:
    """A game between a discriminator (or critic) and a generator.

    Attributes:
        name: as on the command line.
        formula: LaTeX of what the discriminator maximises and the generator minimises.
        reference: title (authors, year) and URL.
        convention: label convention of the logit ("goodfellow", "flipped", "flipped_half"); None for a critic's score.
        of_real_and_fake: the discriminator's loss, logits (K, b) and (K, c) → (K,).
        of_fake: the generator's loss, logits (K, c) → (K,).
    """

    name: str
    formula: str
    reference: str
    convention: str | None
    of_real_and_fake: Callable[[Tensor, Tensor], Tensor]
    of_fake: Callable[[Tensor], Tensor]

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """What D minimises: one number per member, shape (K,).

        Args:
            real_logits: D's logits of data, shape (K, b).
            fake_logits: D's logits of generated points, shape (K, c).

        Raises:
            InputError: logits that are not (K, batch), or different K.
        """
        _check(real_logits, "real_logits")
        _check(fake_logits, "fake_logits")
        if len(real_logits) != len(fake_logits):
            raise InputError(
                f"real_logits and fake_logits must have the same members; they have {len(real_logits)} and "
                f"{len(fake_logits)}."
            )
        return self.of_real_and_fake(real_logits, fake_logits)

    def generator_loss(self, fake_logits: Tensor) -> Tensor:
        """What G minimises: one number per member, shape (K,).

        Args:
            fake_logits: D's logits of generated points, shape (K, c).

        Raises:
            InputError: logits that are not (K, batch).
        """
        _check(fake_logits, "fake_logits")
        return self.of_fake(fake_logits)


def _check(logits: Tensor, name: str) -> None:
    # (K, batch, 1) would be averaged over the wrong axis without a word.
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise InputError(
            f"{name} must have shape (members, batch); it has {tuple(logits.shape)}. Drop the last axis of a network's "
            "output with logits[..., 0]."
        )


def _log_loss(real: Tensor, fake: Tensor) -> Tensor:
    return softplus(-real).mean(dim=1) + softplus(fake).mean(dim=1)


def _flipped_log_loss(real: Tensor, fake: Tensor) -> Tensor:
    return softplus(real).mean(dim=1) + softplus(-fake).mean(dim=1)


_GOODFELLOW = "Generative adversarial nets (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661"

minimax = Objective(
    name="minimax",
    formula=r"\min_G \max_D \; E_p \log D + E_q \log(1 - D)",
    reference=_GOODFELLOW + ", eq. 1",
    convention="goodfellow",
    of_real_and_fake=_log_loss,
    of_fake=lambda fake: -softplus(fake).mean(dim=1),
)

non_saturating = Objective(
    name="non_saturating",
    formula=r"\max_D \; E_p \log D + E_q \log(1 - D); \quad \min_G \; -E_q \log D",
    reference=_GOODFELLOW + ", sec. 3",
    convention="goodfellow",
    of_real_and_fake=_log_loss,
    of_fake=lambda fake: softplus(-fake).mean(dim=1),
)

flipped = Objective(
    name="flipped",
    formula=r"\min_G \max_D \; E_p \log(1 - D) + E_q \log D",
    reference=_GOODFELLOW + ", eq. 1 with the labels exchanged: real = 0, generated = 1",
    convention="flipped",
    of_real_and_fake=_flipped_log_loss,
    of_fake=lambda fake: -softplus(-fake).mean(dim=1),
)

flipped_half = Objective(
    name="flipped_half",
    formula=r"\min_G \max_D \; \tfrac12 E_p \log(1 - D) + \tfrac12 E_q \log D",
    reference=_GOODFELLOW + ", eq. 1 with the labels exchanged and the value halved",
    convention="flipped_half",
    of_real_and_fake=lambda real, fake: 0.5 * _flipped_log_loss(real, fake),
    of_fake=lambda fake: -0.5 * softplus(-fake).mean(dim=1),
)

wasserstein = Objective(
    name="wasserstein",
    formula=r"\min_G \max_{\|f\|_L \le 1} \; E_p f - E_q f",
    reference="Wasserstein GAN (Arjovsky, Chintala, Bottou, 2017), https://arxiv.org/abs/1701.07875, eq. 2",
    convention=None,
    of_real_and_fake=lambda real, fake: fake.mean(dim=1) - real.mean(dim=1),
    of_fake=lambda fake: -fake.mean(dim=1),
)

OBJECTIVES = {objective.name: objective for objective in (minimax, non_saturating, flipped, flipped_half, wasserstein)}


def objective_by_name(name: Any) -> Objective:
    """The objective of that name; the error lists them all.

    Raises:
        InputError: there is none of that name.

    >>> objective_by_name("minimax").convention
    'goodfellow'
    """
    return OBJECTIVES[one_of(name, "objective", list(OBJECTIVES))]
