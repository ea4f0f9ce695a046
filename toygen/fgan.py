r"""The f-GAN table as losses: for every f-divergence a game whose value at the best discriminator is that divergence.

With network output v, output activation T = g_f(v) and conjugate f* (``divergences.GENERATORS`` has all three),

    discriminator maximises   E_p[T(v)] − E_q[f*(T(v))]  ≤  D_f(p‖q),   equal at T* = f′(p/q)
    generator minimises       −E_q[f*(T(v))]

so the two losses are −E_p[T] + E_q[f*(T)] and −E_q[f*(T)]. What is written here is T(v) and the *composed* f*(g_f(v)),
in which everything that would overflow or cancel has been cancelled on paper:

    name                T = g_f(v)             f*(T)                    v at the optimum, d = log p − log q
    kl                  v                      e^(v−1)                  1 + d
    reverse_kl          −e^v                   −1 − v                   −d
    pearson_chi2        v                      v²/4 + v, −1 at v < −2   2(e^d − 1)
    neyman_chi2         1 − e^v                2 − 2e^(v/2)             −2d
    squared_hellinger   1 − e^v                e^(−v) − 1               −d/2
    jensen_shannon      log 2 + log σ(v)       −log 2 − log σ(−v)       d
    gan                 log σ(v)               −log σ(−v)               d
    total_variation     ½ tanh v               ½ tanh v                 ±∞

Mind the sign: the activations of ``reverse_kl``, ``neyman_chi2`` and ``squared_hellinger`` fall, so there a *large* v
says "generated". "gan" is ``minimax`` to the letter, and "jensen_shannon" is ``minimax`` shifted by log 4. The
exponentials are no accident: these divergences are unbounded, and so are their losses and gradients.

Reference: f-GAN: training generative neural samplers using variational divergence minimization (Nowozin, Cseke,
Tomioka, 2016), https://arxiv.org/abs/1606.00709, tables 1, 2, 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

__all__ = ["VARIATIONAL", "Variational"]

_LOG2 = math.log(2.0)


class Variational(NamedTuple):
    """One row of the table; elementwise on the network's output v.

    Attributes:
        activation: v ↦ T = g_f(v).
        conjugate: v ↦ f*(g_f(v)).
    """

    activation: Callable[[Tensor], Tensor]
    conjugate: Callable[[Tensor], Tensor]

    def of_real_and_fake(self, real: Tensor, fake: Tensor) -> Tensor:
        """−E_p[T] + E_q[f*(T)]: (K, b), (K, c) → (K,)."""
        return self.conjugate(fake).mean(dim=1) - self.activation(real).mean(dim=1)

    def of_fake(self, fake: Tensor) -> Tensor:
        """−E_q[f*(T)]: (K, c) → (K,)."""
        return -self.conjugate(fake).mean(dim=1)


def _pearson_conjugate(v: Tensor) -> Tensor:
    # On u ≥ 0 the supremum sits at u = 0 once v < −2: the parabola stops at its lowest point.
    return (v.clamp(min=-2.0) / 2 + 1).square() - 1


VARIATIONAL: dict[str, Variational] = {
    "kl": Variational(lambda v: v, lambda v: torch.exp(v - 1)),
    "reverse_kl": Variational(lambda v: -torch.exp(v), lambda v: -1 - v),
    "pearson_chi2": Variational(lambda v: v, _pearson_conjugate),
    "neyman_chi2": Variational(lambda v: -torch.expm1(v), lambda v: 2 - 2 * torch.exp(v / 2)),
    "squared_hellinger": Variational(lambda v: -torch.expm1(v), lambda v: torch.expm1(-v)),
    "jensen_shannon": Variational(lambda v: _LOG2 - softplus(-v), lambda v: softplus(v) - _LOG2),
    "gan": Variational(lambda v: -softplus(-v), softplus),
    "total_variation": Variational(lambda v: torch.tanh(v) / 2, lambda v: torch.tanh(v) / 2),
}
