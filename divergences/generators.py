r"""The f-GAN table: every f-divergence as a game.

A convex f with f(1) = 0 defines $D_f(p\|q) = E_q[f(p/q)]$; its conjugate f*(t) = sup_u (ut − f(u)) gives the
variational bound

$$ D_f(p\|q) \ge E_p[T(x)] - E_q[f^*(T(x))], $$

tight at T* = f′(p/q). A network with output v ∈ R reaches the domain of f* through the activation T = g_f(v). Each
generator here carries f, f*, T* and g_f, and ``weighted``, the same divergence as an integrand over m = (p + q)/2 in
d = log p − log q, freed of the term that integrates to zero, so that it neither overflows nor cancels.

"gan" is the one with f(1) = −log 4: its divergence is 2·JSD − log 4, the value of the GAN game.

Reference: *f-GAN: Training Generative Neural Samplers using Variational Divergence Minimization* (Nowozin, Cseke,
Tomioka, 2016), https://arxiv.org/abs/1606.00709.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from scipy.special import expit, log_expit, xlogy

from divergences.checks import ArrayLike
from divergences.integrands import hellinger_integrand, jsd_integrand, kl_integrand

__all__ = ["GENERATORS", "Generator"]

Function: TypeAlias = Callable[[Any], np.ndarray]
LOG2 = float(np.log(2.0))


class Generator(NamedTuple):
    """One f-divergence; every function is elementwise on float64 arrays.

    Attributes:
        name: as in ``GENERATORS``.
        formula: f(u) in LaTeX.
        f: u ≥ 0 ↦ f(u).
        conjugate: t ↦ f*(t); ∞ outside its domain.
        optimal: d = log p − log q ↦ T* = f′(e^d).
        activation: network output v ∈ R ↦ T in the domain of f*.
        weighted: d ↦ the integrand over m = (p + q)/2.
        top: the largest value D_f can take (∞ if unbounded).
        steep: whether ``weighted`` grows faster than |d|, as χ² does.
    """

    name: str
    formula: str
    f: Function
    conjugate: Function
    optimal: Function
    activation: Function
    weighted: Function
    top: float = np.inf
    steep: bool = True


def _pearson_weighted(d: np.ndarray) -> np.ndarray:
    # q/m·(u − 1)² = 2 (u − 1)²/(u + 1) = 2 (e^d − 1) tanh(d/2)
    return 2 * np.expm1(d) * np.tanh(d / 2)


def _within(domain: np.ndarray, value: np.ndarray) -> np.ndarray:
    return np.where(domain, value, np.inf)


def _quiet(function: Function) -> Function:
    """Overflow to ∞ and 0·∞ at the ends of the range are answers here, not accidents."""

    def call(x: ArrayLike) -> np.ndarray:
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            return np.asarray(function(np.asarray(x, dtype=np.float64)))

    return call


def _row(
    name: str,
    formula: str,
    functions: tuple[Function, Function, Function, Function, Function],
    top: float = np.inf,
) -> Generator:
    f, conjugate, optimal, activation, weighted = (_quiet(function) for function in functions)
    steep = name in ("pearson_chi2", "neyman_chi2")
    return Generator(name, formula, f, conjugate, optimal, activation, weighted, top=top, steep=steep)


# Per row: f(u), f*(t), T*(d), g_f(v), integrand over m.
GENERATORS: dict[str, Generator] = {
    row.name: row
    for row in (
        _row(
            "kl",
            r"u \log u",
            (
                lambda u: xlogy(u, u),
                lambda t: np.exp(t - 1),
                lambda d: 1 + d,
                lambda v: v,
                kl_integrand,
            ),
        ),
        _row(
            "reverse_kl",
            r"-\log u",
            (
                lambda u: -np.log(u),
                lambda t: _within(t < 0, -1 - np.log(np.where(t < 0, -t, 1.0))),
                lambda d: -np.exp(-d),
                lambda v: -np.exp(v),
                lambda d: kl_integrand(-d),
            ),
        ),
        _row(
            "pearson_chi2",
            r"(u-1)^2",
            (
                lambda u: (u - 1) ** 2,
                # On u ≥ 0 the supremum sits at u = 0 once t < −2.
                lambda t: np.where(t >= -2, t * t / 4 + t, -1.0),
                lambda d: 2 * np.expm1(d),
                lambda v: v,
                _pearson_weighted,
            ),
        ),
        _row(
            "neyman_chi2",
            r"(1-u)^2/u",
            (
                lambda u: (1 - u) ** 2 / u,
                lambda t: _within(t <= 1, 2 - 2 * np.sqrt(np.where(t <= 1, 1 - t, 0.0))),
                lambda d: -np.expm1(-2 * d),
                lambda v: -np.expm1(v),
                lambda d: _pearson_weighted(-d),
            ),
        ),
        _row(
            "squared_hellinger",
            r"(\sqrt u-1)^2",
            (
                lambda u: (np.sqrt(u) - 1) ** 2,
                lambda t: _within(t < 1, t / np.where(t < 1, 1 - t, 1.0)),
                lambda d: -np.expm1(-d / 2),
                lambda v: -np.expm1(v),
                lambda d: 2 * hellinger_integrand(d),
            ),
            2.0,
        ),
        _row(
            "jensen_shannon",
            r"u \log u - (u+1) \log\tfrac{1+u}{2}",
            (
                lambda u: xlogy(u, u) - (u + 1) * np.log((1 + u) / 2),
                lambda t: _within(t < LOG2, -np.log(np.where(t < LOG2, 2 - np.exp(t), 1.0))),
                lambda d: LOG2 + log_expit(d),
                lambda v: LOG2 + log_expit(v),
                lambda d: 2 * jsd_integrand(d),
            ),
            2 * LOG2,
        ),
        _row(
            "gan",
            r"u \log u - (u+1) \log(u+1)",
            (
                lambda u: xlogy(u, u) - (u + 1) * np.log1p(u),
                lambda t: _within(t < 0, -np.log(np.where(t < 0, -np.expm1(t), 1.0))),
                log_expit,
                log_expit,
                lambda d: 2 * jsd_integrand(d) - 2 * LOG2,
            ),
            0.0,
        ),
        _row(
            "total_variation",
            r"\tfrac12 |u-1|",
            (
                lambda u: np.abs(u - 1) / 2,
                lambda t: _within(np.abs(t) <= 0.5, np.maximum(t, -0.5)),
                lambda d: np.sign(d) / 2,
                lambda v: np.tanh(v) / 2,
                lambda d: np.abs(np.tanh(d / 2)),
            ),
            1.0,
        ),
    )
}


def power_weighted(order: float) -> Function:
    """q/m·u^order = 2 e^(order·d) / (1 + e^d), whose integral over m is ∫p^order q^(1−order)."""

    def weighted(d: np.ndarray) -> np.ndarray:
        # The larger of e^(order·d) and e^((order−1)·d) is kept in the exponent: nothing overflows before its time.
        with np.errstate(over="ignore", invalid="ignore"):
            exponent = np.where(d < 0, order * d, (order - 1) * d)
            value = 2 * np.exp(exponent) * np.where(d < 0, expit(-d), expit(d))
        return np.where(np.isneginf(d), 0.0 if order > 0 else np.inf, value)

    return _quiet(weighted)
