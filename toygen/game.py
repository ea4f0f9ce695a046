r"""One discriminator against one generator: the losses of both, on given points.

Between a network and an objective stand the points as the discriminator gets to see them: one by one, in packs of m
side by side, or a minibatch at a time. Here that is arranged, along with the games that need both players at once:

* **consensus**: with L_D(θ, φ) and L_G(θ, φ), both players also descend ½|∇_φ L_D|² + ½|∇_θ L_G|², which is 0 exactly
  where neither wants to move. A rotating game gets a friction;
* **unrolled**: G's loss is L_G(θ, φₙ(θ)), φ_{k+1} = φ_k − η ∇_φ L_D(θ, φ_k), on the same points all along, and its
  gradient runs through the n moves: G learns what its own move will make D do.

Squared gradients are summed within each member, so members still never mix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from divergences.errors import InputError
from toygen.layers import SpectralLinear
from toygen.networks import pack_points
from toygen.objectives import Objective
from toygen.penalties import Penalty, Play

__all__ = ["Game", "per_member"]


@dataclass(frozen=True)
class Game:
    """A generator, a discriminator, what they want, and what keeps the discriminator honest.

    Attributes:
        generator: (K, b, k) → (K, b, d).
        discriminator: (K, b, d) → (K, b, outputs of the objective); with packs (K, b/m, m·d) → (K, b/m, outputs).
        objective: what the two want.
        penalty: what keeps the discriminator honest.

    Raises:
        InputError: different members, or a discriminator that the penalty cannot work with.
    """

    generator: nn.Module
    discriminator: nn.Module
    objective: Objective
    penalty: Penalty

    def __post_init__(self) -> None:
        ours, theirs = (len(next(net.parameters())) for net in (self.generator, self.discriminator))
        if ours != theirs:
            raise InputError(f"generator and discriminator must have the same members; they have {ours} and {theirs}.")
        needs = self.penalty.needs
        if needs is not None and not any(isinstance(part, needs) for part in self.discriminator.modules()):
            raise InputError(
                f"penalty {self.penalty.name} is a layer of the discriminator: build it with {needs.__name__}."
            )
        if self.penalty.term is not None and self._coupled:
            raise InputError(
                f"penalty {self.penalty.name} looks at the slope of each score at its own point; this discriminator "
                "scores a minibatch as a whole. Use it without such a penalty, or without minibatch features."
            )

    @property
    def pack(self) -> int:
        """Points per decision."""
        pack: int = getattr(self.discriminator, "pack", 1)
        return pack

    @property
    def _coupled(self) -> bool:
        return getattr(self.discriminator, "company", None) is not None

    def of_discriminator(self, real: Tensor, fake: Tensor, mix: Tensor | None = None) -> Tensor:
        """What D minimises, its penalty included: (K, b, d), (K, b, d) → (K,).

        Args:
            real: data.
            fake: generated points, detached.
            mix: uniform draws (K, b/m, 1), for a penalty with a term.
        """
        term = self.penalty.term
        if term is None or mix is None:
            return self.objective.discriminator_loss(*self._scores(real, fake))
        x = torch.cat([pack_points(real, self.pack), pack_points(fake, self.pack)], dim=1).requires_grad_()
        out, half = self._decide(x), mix.shape[1]
        loss = self.objective.discriminator_loss(out[:, :half], out[:, half:])
        witness = self.objective.witness
        if witness is None:
            return loss + self.penalty.weight * term(Play(self._decide, x, out, mix))
        # The slope is that of the witness in its argument; the features it is made of stand still beside it.
        still = self._decide(x.detach())

        def critic(points: Tensor) -> Tensor:
            return witness(self._decide(points), still[:, :half], still[:, half:])

        return loss + self.penalty.weight * term(Play(critic, x, critic(x), mix))

    def of_generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """What G minimises: (K, b, d), (K, b, d) → (K,); the data matter where the objective or the foresight asks."""
        if self.penalty.foresight:
            return self._foreseen(real, fake)
        if not self.objective.paired:
            return self.objective.generator_loss(self._decide(pack_points(fake, self.pack)))
        with torch.no_grad():
            of_data = self._decide(pack_points(real, self.pack))
        return self.objective.generator_loss(self._decide(pack_points(fake, self.pack)), of_data)

    def with_tension(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """L_D and L_G, each with γ·(½|∇_φ L_D|² + ½|∇_θ L_G|²): (K,), (K,); ``fake`` must hang on the generator."""
        scores = self._scores(real, fake)
        losses = (self.objective.discriminator_loss(*scores), self.objective.generator_loss(scores[1], scores[0]))
        owners = (self.discriminator, self.generator)
        tension = sum(
            _squares(torch.autograd.grad(loss.sum(), list(net.parameters()), create_graph=True))
            for loss, net in zip(losses, owners, strict=True)
        )
        weight = 0.5 * (0.0 if self.penalty.tension is None else self.penalty.tension)
        return losses[0] + weight * tension, losses[1] + weight * tension

    def follow(self) -> None:
        """Let what hangs on D's weights catch up with them: the singular vectors of spectral normalisation."""
        for part in self.discriminator.modules():
            if isinstance(part, SpectralLinear):
                part.follow()

    def _foreseen(self, real: Tensor, fake: Tensor) -> Tensor:
        weights: dict[str, Tensor] = dict(self.discriminator.named_parameters())
        for _ in range(self.penalty.foresight):
            loss = self.objective.discriminator_loss(*self._scores(real, fake, weights))
            slopes = torch.autograd.grad(loss.sum(), list(weights.values()), create_graph=True)
            weights = {
                name: weight - per_member(self.penalty.rate, slope) * slope
                for (name, weight), slope in zip(weights.items(), slopes, strict=True)
            }
        of_data, of_fake = self._scores(real, fake, weights)
        return self.objective.generator_loss(of_fake, of_data)

    def _scores(self, real: Tensor, fake: Tensor, weights: dict[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        real, fake = pack_points(real, self.pack), pack_points(fake, self.pack)
        if self._coupled:
            # Data are compared with data and generated points with generated points.
            return self._decide(real, weights), self._decide(fake, weights)
        out = self._decide(torch.cat([real, fake], dim=1), weights)
        return out[:, : real.shape[1]], out[:, real.shape[1] :]

    def _decide(self, x: Tensor, weights: dict[str, Tensor] | None = None) -> Tensor:
        out = self.discriminator(x) if weights is None else functional_call(self.discriminator, weights, (x,))
        return out[..., 0] if self.objective.outputs == 1 else out


def per_member(value: float | Tensor, like: Tensor) -> float | Tensor:
    """A number, or one per member (K,), shaped to be multiplied with a tensor that has a member axis."""
    if isinstance(value, Tensor) and value.ndim == 1:
        return value.view(-1, *[1] * (like.ndim - 1))
    return value


def _squares(gradients: Sequence[Tensor]) -> Tensor:
    return torch.stack([gradient.square().flatten(1).sum(dim=1) for gradient in gradients]).sum(dim=0)
