r"""What keeps a discriminator honest: pure functions that look at its slope, one number per member.

With g(x) = ∇ₓ D(x), per member,

    R1       E_p |g|²                     zero-centred, on data
    R2       E_q |g|²                     zero-centred, on generated points
    WGAN-GP  E_x̂ (|g| − 1)²               one-centred, on x̂ = m·x + (1 − m)·y with m uniform, one draw per pair
    clip     |w| ≤ c for every weight     a projection after each step, not a term of the loss

A zero-centred penalty makes the equilibrium locally attractive (a discriminator at D = ½ pays nothing), and in
practice it is what decides whether an ensemble covers every mode. A one-centred penalty asks for a critic of slope 1,
which is what a Kantorovich potential has on transport rays. Its weight is conventionally λ; R1 and R2 carry γ/2.

**γ has units**: |g|² is (logit / length)², so a γ that is right for data of unit variance is γ·s² for data of standard
deviation s. ``toygen.recipes`` states it for unit variance and converts.

References:
    Improved training of Wasserstein GANs (Gulrajani et al., 2017), https://arxiv.org/abs/1704.00028
    Which training methods for GANs do actually converge? (Mescheder et al., 2018), https://arxiv.org/abs/1801.04406
    The GAN is dead; long live the GAN! (Huang et al., 2024), https://arxiv.org/abs/2501.05441
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from divergences.checks import as_number, one_of
from divergences.errors import InputError

__all__ = [
    "PENALTIES",
    "Penalty",
    "Play",
    "clip",
    "clip_weights",
    "gradient_penalty",
    "interpolate",
    "none",
    "penalty_by_name",
    "r1",
    "r1_r2",
    "r2",
    "slopes",
    "wgan_gp",
]


def slopes(scores: Tensor, x: Tensor) -> Tensor:
    """∇ₓ of each score at its own point, differentiable once more.

    Args:
        scores: D(x), shape (K, b), computed from ``x``.
        x: the points, shape (K, b, d), with ``requires_grad``.

    Returns:
        The gradients, shape (K, b, d).

    Raises:
        InputError: ``x`` did not ask for gradients, or the scores do not hang on it.
    """
    if not x.requires_grad:
        raise InputError("x must require gradients before the critic sees it: x = x.detach().requires_grad_().")
    # Score (k, i) depends on point (k, i) alone, so the gradient of the sum holds every single gradient.
    (gradient,) = torch.autograd.grad(scores.sum(), x, create_graph=True, allow_unused=True)
    if gradient is None:
        raise InputError("scores do not depend on x; compute them from the very tensor given as x.")
    return gradient


def gradient_penalty(critic: Callable[[Tensor], Tensor], x: Tensor, *, center: Any = 0.0) -> Tensor:
    """E (|∇D(x)| − center)² per member: R1 on data, R2 on generated points (center 0), WGAN-GP (center 1).

    Args:
        critic: (K, b, d) → (K, b) or (K, b, 1).
        x: where to look, shape (K, b, d).
        center: the slope that costs nothing.

    Returns:
        Shape (K,), differentiable in the critic's parameters.

    Raises:
        InputError: ``x`` is not (K, b, d), or the critic's output does not depend on it.
    """
    if x.ndim != 3:
        raise InputError(f"x must have shape (members, batch, d); it has {tuple(x.shape)}.")
    points = x.detach().requires_grad_()
    return _centred(slopes(critic(points), points), as_number(center, "center"))


def _centred(gradient: Tensor, center: float) -> Tensor:
    if center == 0:
        # No square root: it has no derivative at slope 0, exactly where this penalty wants to be.
        return gradient.square().sum(dim=-1).mean(dim=1)
    return (torch.linalg.vector_norm(gradient, dim=-1) - center).square().mean(dim=1)


def interpolate(real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """Mix · real + (1 − mix) · fake: points on the segments between pairs.

    Args:
        real: shape (K, b, d).
        fake: shape (K, b, d).
        mix: shape (K, b, 1), in [0, 1]; each member's own draws.
    """
    return torch.lerp(fake, real, mix)


def clip_weights(parameters: Iterable[Tensor], bound: Any) -> None:
    """Project every parameter onto [−bound, bound], in place.

    Raises:
        InputError: a bound that is not positive.
    """
    bound = as_number(bound, "bound", above=0.0)
    with torch.no_grad():
        for parameter in parameters:
            parameter.clamp_(-bound, bound)


class Play(NamedTuple):
    """What a penalty may look at: one move of the discriminator.

    Attributes:
        critic: (K, b, d) → (K, b).
        x: data, then generated points, shape (K, 2b, d); requires gradients.
        scores: critic(x), shape (K, 2b): a penalty at these points needs no second pass.
        mix: uniform draws of shape (K, b, 1), each member's own.
    """

    critic: Callable[[Tensor], Tensor]
    x: Tensor
    scores: Tensor
    mix: Tensor

    @property
    def real(self) -> Tensor:
        """The data."""
        return self.x[:, : self.mix.shape[1]]

    @property
    def fake(self) -> Tensor:
        """The generated points."""
        return self.x[:, self.mix.shape[1] :]


@dataclass(frozen=True)
class Penalty:
    """A term of the discriminator's loss, a bound on its weights, or neither.

    Attributes:
        name: as on the command line.
        formula: LaTeX.
        reference: title (authors, year) and URL.
        term: (K,) from one move of the discriminator; None if there is no term.
        weight: what the term is multiplied by: a number, or a scalar tensor that somebody turns during training.
        bound: largest absolute weight; None if weights are free.
    """

    name: str
    formula: str
    reference: str = ""
    term: Callable[[Play], Tensor] | None = None
    weight: float | Tensor = 1.0
    bound: float | None = None


def _r1(play: Play) -> Tensor:
    return 0.5 * gradient_penalty(play.critic, play.real)


def _r2(play: Play) -> Tensor:
    return 0.5 * gradient_penalty(play.critic, play.fake)


def _r1_r2(play: Play) -> Tensor:
    # ½ E_p|g|² + ½ E_q|g|² over equal halves is the mean over both: one pass, shared with the loss.
    return _centred(slopes(play.scores, play.x), 0.0)


def _wgan_gp(play: Play) -> Tensor:
    return gradient_penalty(play.critic, interpolate(play.real, play.fake, play.mix), center=1.0)


_MESCHEDER = "Which training methods for GANs do actually converge? (Mescheder et al., 2018), "

none = Penalty("none", "0")
r1 = Penalty("r1", r"\tfrac\gamma2 E_p|\nabla D|^2", _MESCHEDER + "https://arxiv.org/abs/1801.04406, eq. 9", _r1)
r2 = Penalty("r2", r"\tfrac\gamma2 E_q|\nabla D|^2", _MESCHEDER + "https://arxiv.org/abs/1801.04406, eq. 10", _r2)
r1_r2 = Penalty(
    "r1_r2",
    r"\tfrac\gamma2 E_p|\nabla D|^2 + \tfrac\gamma2 E_q|\nabla D|^2",
    "The GAN is dead; long live the GAN! (Huang et al., 2024), https://arxiv.org/abs/2501.05441",
    _r1_r2,
)
wgan_gp = Penalty(
    "gradient_penalty",
    r"\lambda E_{\hat x}(|\nabla f(\hat x)| - 1)^2",
    "Improved training of Wasserstein GANs (Gulrajani et al., 2017), https://arxiv.org/abs/1704.00028, eq. 3",
    _wgan_gp,
)
clip = Penalty(
    "clip",
    r"|w| \le c",
    "Wasserstein GAN (Arjovsky, Chintala, Bottou, 2017), https://arxiv.org/abs/1701.07875, alg. 1",
    bound=0.01,
)

PENALTIES = {penalty.name: penalty for penalty in (none, r1, r2, r1_r2, wgan_gp, clip)}


def penalty_by_name(name: Any) -> Penalty:
    """The penalty of that name, of weight 1; the error lists them all.

    Raises:
        InputError: there is none of that name.

    >>> penalty_by_name("clip").bound
    0.01
    """
    return PENALTIES[one_of(name, "penalty", list(PENALTIES))]
