r"""What keeps a discriminator honest, each acting on every member for itself.

**Terms of its loss** that look at its slope g(x) = ∇ₓ D(x), and a projection:

    r1                    E_p |g|²               zero-centred, on data
    r2                    E_q |g|²               zero-centred, on generated points
    gradient_penalty      E_x̂ (|g| − 1)²         one-centred, on x̂ = m·x + (1 − m)·y with m uniform, one draw per pair
    one_sided             E_x̂ (|g| − 1)₊²        the same, but a slope below 1 costs nothing
    zero_centred          E_x̂ |g|²               zero-centred, between the pairs
    clip                  |w| ≤ c                of every weight: a projection after each step, not a term

A zero-centred penalty makes the equilibrium locally attractive (a discriminator at D = ½ pays nothing), and in
practice it is what decides whether an ensemble covers every mode. A one-centred penalty asks for a critic of slope 1,
which is what a Kantorovich potential has on transport rays; 1-Lipschitz is all that duality asks for, hence the
one-sided form. Its weight is conventionally λ; R1 and R2 carry γ/2.

**Ways to play and to build it:**

    spectral              W/σ(W) in every layer                              ``layers.SpectralLinear``
    minibatch             it sees how close a minibatch lies together        ``layers.MinibatchFeatures``
    instance_noise        x + σε instead of x, for data and generated points, in both turns
    consensus             both players also descend ½|∇_φ L_D|² + ½|∇_θ L_G|²
    unrolled              G plays against D as it will be after some steps η of gradient descent, and differentiates
                          through them; D itself moves as ever

Packing is a property of the network, ``MLP.packed``; averaging one of the loop, ``train.Average``.

**γ has units**: |g|² is (logit / length)², so a γ that is right for data of unit variance is γ·s² for data of standard
deviation s. ``toygen.recipes`` states it for unit variance and converts.

References:
    Improved training of Wasserstein GANs (Gulrajani et al., 2017), https://arxiv.org/abs/1704.00028
    Which training methods for GANs do actually converge? (Mescheder et al., 2018), https://arxiv.org/abs/1801.04406
    The GAN is dead; long live the GAN! (Huang et al., 2024), https://arxiv.org/abs/2501.05441
    Each penalty carries its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from divergences.checks import as_number, one_of
from divergences.errors import InputError
from toygen.layers import MinibatchFeatures, SpectralLinear

__all__ = [
    "PENALTIES",
    "Penalty",
    "Play",
    "clip",
    "clip_weights",
    "consensus",
    "gradient_penalty",
    "instance_noise",
    "interpolate",
    "minibatch",
    "none",
    "one_sided",
    "penalty_by_name",
    "r1",
    "r1_r2",
    "r2",
    "slopes",
    "spectral",
    "unrolled",
    "wgan_gp",
    "zero_centred",
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


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], x: Tensor, *, center: Any = 0.0, one_sided: bool = False
) -> Tensor:
    """E (|∇D(x)| − center)² per member: R1 on data, R2 on generated points (center 0), WGAN-GP (center 1).

    Args:
        critic: (K, b, d) → (K, b) or (K, b, 1).
        x: where to look, shape (K, b, d).
        center: the slope that costs nothing.
        one_sided: whether all slopes below ``center`` cost nothing, either.

    Returns:
        Shape (K,), differentiable in the critic's parameters.

    Raises:
        InputError: ``x`` is not (K, b, d), or the critic's output does not depend on it.
    """
    if x.ndim != 3:
        raise InputError(f"x must have shape (members, batch, d); it has {tuple(x.shape)}.")
    points = x.detach().requires_grad_()
    gradient, center = slopes(critic(points), points), as_number(center, "center")
    if one_sided and center != 0:
        return torch.relu(torch.linalg.vector_norm(gradient, dim=-1) - center).square().mean(dim=1)
    return _centred(gradient, center)


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

    With packs (``MLP.packed``), a point here is a pack.

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
    """What keeps a discriminator honest: a term of its loss, a bound, noise on what it sees, another way to play.

    Attributes:
        name: as on the command line.
        formula: LaTeX.
        reference: title (authors, year) and URL.
        term: (K,) from one move of the discriminator; None if there is no term.
        weight: what the term is multiplied by: a number, or a scalar tensor that somebody turns during training.
        bound: largest absolute weight; None if weights are free.
        noise: standard deviation of the noise on every point that reaches D, in the units of the data; None is none.
        tension: weight of ½|gradients of both players|² in both losses; None is none.
        foresight: number of D's moves that G looks ahead.
        rate: length of those moves.
        needs: the layer that the discriminator must be built with.
    """

    name: str
    formula: str
    reference: str = ""
    term: Callable[[Play], Tensor] | None = None
    weight: float | Tensor = 1.0
    bound: float | None = None
    noise: float | Tensor | None = None
    tension: float | Tensor | None = None
    foresight: int = 0
    rate: float | Tensor = 0.01
    needs: type[nn.Module] | None = None

    def weighted(self, weight: float | Tensor) -> Penalty:
        """The same with another weight, whatever that is here: of a term, σ of the noise, of the tension, or the rate.

        >>> instance_noise.weighted(0.3).noise
        0.3
        """
        if self.noise is not None:
            return replace(self, noise=weight)
        if self.tension is not None:
            return replace(self, tension=weight)
        if self.foresight:
            return replace(self, rate=weight)
        return replace(self, weight=weight)


def _r1(play: Play) -> Tensor:
    return 0.5 * gradient_penalty(play.critic, play.real)


def _r2(play: Play) -> Tensor:
    return 0.5 * gradient_penalty(play.critic, play.fake)


def _r1_r2(play: Play) -> Tensor:
    # ½ E_p|g|² + ½ E_q|g|² over equal halves is the mean over both: one pass, shared with the loss.
    return _centred(slopes(play.scores, play.x), 0.0)


def _wgan_gp(play: Play) -> Tensor:
    return gradient_penalty(play.critic, interpolate(play.real, play.fake, play.mix), center=1.0)


def _one_sided(play: Play) -> Tensor:
    return gradient_penalty(play.critic, interpolate(play.real, play.fake, play.mix), center=1.0, one_sided=True)


def _zero_centred(play: Play) -> Tensor:
    return gradient_penalty(play.critic, interpolate(play.real, play.fake, play.mix))


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
one_sided = Penalty(
    "one_sided",
    r"\lambda E_{\hat x}(|\nabla f(\hat x)| - 1)_+^2",
    "On the regularization of Wasserstein GANs (Petzka, Fischer, Lukovnikov, 2018), https://arxiv.org/abs/1709.08894",
    _one_sided,
)
zero_centred = Penalty(
    "zero_centred",
    r"\lambda E_{\hat x}|\nabla D(\hat x)|^2",
    "Improving generalization and stability of generative adversarial networks (Thanh-Tung, Tran, Venkatesh, 2019), "
    "https://arxiv.org/abs/1902.03984",
    _zero_centred,
)
clip = Penalty(
    "clip",
    r"|w| \le c",
    "Wasserstein GAN (Arjovsky, Chintala, Bottou, 2017), https://arxiv.org/abs/1701.07875, alg. 1",
    bound=0.01,
)

spectral = Penalty(
    "spectral",
    r"W \mapsto W / \sigma(W)",
    "Spectral normalization for generative adversarial networks (Miyato et al., 2018), "
    "https://arxiv.org/abs/1802.05957",
    needs=SpectralLinear,
)
minibatch = Penalty(
    "minibatch",
    r"o_c(x_i) = \sum_j \exp(-\|M_c h_i - M_c h_j\|_1)",
    "Improved techniques for training GANs (Salimans et al., 2016), https://arxiv.org/abs/1606.03498, sec. 3.2",
    needs=MinibatchFeatures,
)
instance_noise = Penalty(
    "instance_noise",
    r"D(x + \sigma\varepsilon), \; \varepsilon \sim N(0, I)",
    "Amortised MAP inference for image super-resolution (Sønderby et al., 2017), https://arxiv.org/abs/1610.04490; "
    "Towards principled methods for training GANs (Arjovsky, Bottou, 2017), https://arxiv.org/abs/1701.04862",
    noise=0.1,
)
consensus = Penalty(
    "consensus",
    r"\tfrac\gamma2 (|\nabla_\varphi L_D|^2 + |\nabla_\theta L_G|^2)",
    "The numerics of GANs (Mescheder, Nowozin, Geiger, 2017), https://arxiv.org/abs/1705.10461, eq. 8",
    tension=0.1,
)
unrolled = Penalty(
    "unrolled",
    r"\min_\theta L_G(\theta, \varphi_n), \; \varphi_{k+1} = \varphi_k - \eta \nabla_\varphi L_D(\theta, \varphi_k)",
    "Unrolled generative adversarial networks (Metz et al., 2017), https://arxiv.org/abs/1611.02163, eq. 4-6",
    foresight=5,
)

PENALTIES = {
    penalty.name: penalty
    for penalty in (
        none,
        r1,
        r2,
        r1_r2,
        wgan_gp,
        one_sided,
        zero_centred,
        clip,
        spectral,
        minibatch,
        instance_noise,
        consensus,
        unrolled,
    )
}


def penalty_by_name(name: Any) -> Penalty:
    """The penalty of that name, of weight 1; the error lists them all.

    Raises:
        InputError: there is none of that name.

    >>> penalty_by_name("clip").bound
    0.01
    """
    return PENALTIES[one_of(name, "penalty", list(PENALTIES))]
