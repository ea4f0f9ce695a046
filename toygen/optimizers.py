r"""Optimisers with a learning rate for every member.

Adam, RMSProp and SGD with momentum move a parameter w by −rate·f, where f depends on the gradients and on nothing else.
So torch's own optimiser, at rate 1, is let loose on tensors that are zero: it leaves −f there, and

    w[k] ← w[k] + rate[k]·(−f[k]),    member by member.

There is one implementation for equal and for mixed rates, so a member is bit by bit the same in both; and what decides
f is torch's code, with torch's state. Weight decay looks at w, and is not offered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from divergences.errors import InputError

__all__ = ["MemberOptimizer"]


class MemberOptimizer(torch.optim.Optimizer):
    """An elementwise optimiser of K members with K learning rates.

    Args:
        parameters: each with a leading member axis.
        make: makes the elementwise optimiser, at learning rate 1, from a list of parameters.
        rates: one learning rate per member, or one for all.

    Raises:
        InputError: a number of rates that is not the number of members.

    >>> w = nn.Parameter(torch.zeros(2, 3))
    >>> sgd = MemberOptimizer([w], lambda moves: torch.optim.SGD(moves, lr=1.0), [0.5, 2.0])
    >>> w.sum().backward()
    >>> sgd.step()
    >>> w[:, 0].tolist()
    [-0.5, -2.0]
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        make: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
        rates: Sequence[float] | float,
    ) -> None:
        self._weights: list[Tensor] = list(parameters)
        super().__init__(self._weights, {})
        moves = [nn.Parameter(torch.zeros_like(w)) for w in self._weights]
        self._inner = make(moves)
        self._moves: list[Tensor] = list(moves)
        first = self._weights[0]
        self._rates = torch.zeros(len(first), dtype=first.dtype, device=first.device)
        self._shaped = [self._rates.view(-1, *[1] * (w.ndim - 1)) for w in self._weights]
        self.set_rates(rates)

    def set_rates(self, rates: Sequence[float] | float) -> None:
        """Change the learning rates: one per member, or one for all."""
        count = len(self._rates)
        values = list(rates) if isinstance(rates, Sequence) else [rates] * count
        if len(values) != count:
            raise InputError(f"rates must hold one learning rate per member ({count}); it holds {len(values)}.")
        self._rates.copy_(torch.tensor(values, dtype=self._rates.dtype))

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every member at its own rate."""
        if closure is not None:
            raise InputError("closure must be None: an elementwise optimiser takes the gradients that are there.")
        for weight, move in zip(self._weights, self._moves, strict=True):
            move.grad = weight.grad
        torch._foreach_zero_(self._moves)
        self._inner.step()
        torch._foreach_addcmul_(self._weights, self._moves, self._shaped)

    def state_dict(self) -> dict[str, Any]:
        """What is remembered of past gradients; the rates are the caller's."""
        return self._inner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what ``state_dict`` gave."""
        self._inner.load_state_dict(state_dict)
