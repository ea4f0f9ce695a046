r"""How large an f-divergence's integrand can be off the real line: what a proven quadrature error needs to know.

Each f-divergence is the integral of a function F of the two densities that is analytic wherever log p, log q and
log (p + q) are. Let log p = Q_p + s_p, where Q_p is the quadratic of the largest component and s_p the logarithm of
the sum of all components relative to it. Given bounds S on |p| and |q|, bounds Σ on |s_p|, |s_q|, |s_{p+q}|, and
a bound W on |Q_p − Q_q|, the triangle inequality bounds |F|. F falls in an *entire* part, whose ellipse may be as large
as one likes, and a *rest* that is analytic only where the logarithms are. With d = log p − log q:

* KL: F = p (d − 1) + q; entire: S_p (W + 1) + S_q; rest: S_p (Σ_p + Σ_q).
  As F = p Σ_{k≥2} (−d)^k / k!, also |F| ≤ S_p Δ² e^Δ / 2 with Δ = W + Σ_p + Σ_q;
* 2·JSD: F = p log p + q log q − (p + q) log (p + q) + (p + q) log 2; entire, as Q_{p+q} is one of Q_p and Q_q:
  S_{the other} W + log 2 · (S_p + S_q); rest: S_p Σ_p + S_q Σ_q + (S_p + S_q) Σ_{p+q}.
  As F = (p + q) Σ_{k≥1} t^(2k) / (2k(2k−1)), t = tanh(d/2), also |F| ≤ log 2 · (S_p + S_q) tan²(Δ/2) for Δ < 1;
* 2·H²: F = p + q − 2 √p √q; entire: S_p + S_q; rest: 2 √(S_p S_q);
* ∫p^a q^(1−a), 0 < a < 1: rest: S_p^a S_q^(1−a).

Where one law is smaller than the other by a factor r on the whole real panel, F is c times the larger law but for a
share ``loss(r)`` of it, and nothing need be known of the smaller one off the line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from scipy.special import xlogy

from divergences.generators import GENERATORS
from divergences.integrands import jsd_integrand, kl_terms

__all__ = ["Alone", "Form", "Moduli", "form_of", "power_form"]

Function: TypeAlias = Callable[[np.ndarray], np.ndarray]
# (p, q, d) at the nodes.
AtNodes: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
Slips: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
LOG2 = float(np.log(2.0))
_NEAR = 0.5


class Moduli(NamedTuple):
    """Upper bounds: ``size`` of |p|, |q|; ``rest`` of |log Σ u_k| for p, q and p + q; ``swing`` of |Q_p − Q_q|.

    ``minor`` is the size of whichever law does not hold the largest component of all.
    """

    size_p: np.ndarray
    size_q: np.ndarray
    rest_p: np.ndarray
    rest_q: np.ndarray
    rest_both: np.ndarray
    swing: np.ndarray
    minor: np.ndarray

    def swapped(self) -> Moduli:
        """The same with p and q exchanged."""
        return self._replace(size_p=self.size_q, size_q=self.size_p, rest_p=self.rest_q, rest_q=self.rest_p)


class Alone(NamedTuple):
    """F = factor · (the larger law) + a rest of at most ``loss(r)`` times it, where the other is ≤ r times it."""

    factor: float
    loss: Function


class Form(NamedTuple):
    """One integrand F of the two densities.

    Attributes:
        value: F at (p, q, d).
        slips: (|∂F/∂log p|, |∂F/∂log q|) at (p, q, d): what rounding of the log-densities does.
        entire: a bound on the part of F that is analytic everywhere.
        rest: a bound on the other part.
        close: another bound on all of F, for p ≈ q; ∞ where it says nothing.
        without_p: what F is where p is negligible against q; None if it does not become simple.
        without_q: likewise.
        grows: whether F grows with |d|, so that tails have to be weighed with it; else |F| ≤ 2(p + q).
        mixes: whether ``rest`` asks for log (p + q).
    """

    value: AtNodes
    slips: Slips
    entire: Callable[[Moduli], np.ndarray]
    rest: Callable[[Moduli], np.ndarray]
    close: Callable[[Moduli], np.ndarray]
    without_p: Alone | None
    without_q: Alone | None
    grows: bool = False
    mixes: bool = False


def form_of(weighted: Function) -> Form | None:
    """The form whose integrand over m is this very function; None for a stranger."""
    return _FORMS.get(weighted)


def power_form(order: float) -> Form | None:
    """The form of ∫ p^order q^(1−order); None where it may grow exponentially."""
    if not 0 < order < 1:
        return None

    def value(p: np.ndarray, q: np.ndarray, d: np.ndarray) -> np.ndarray:
        return p**order * q ** (1 - order)

    return Form(
        value,
        lambda p, q, d: (value(p, q, d),) * 2,
        lambda at: np.zeros_like(at.size_p),
        lambda at: _known(at) * at.size_p**order * at.size_q ** (1 - order),
        _nothing,
        Alone(0.0, lambda r: r**order),
        Alone(0.0, lambda r: r ** (1 - order)),
    )


def _known(at: Moduli) -> np.ndarray:
    """1 where both logarithms are analytic, else ∞."""
    return np.where(np.isfinite(at.rest_p + at.rest_q), 1.0, np.inf)


def _nothing(at: Moduli) -> np.ndarray:
    return np.full_like(at.size_p, np.inf)


def _logs(r: np.ndarray) -> np.ndarray:
    """Return r (|log r| + 3), for 0 ≤ r ≤ 1: bounds r log r + r, and r log (2r/(1+r)) − log (1+r) − r log 2."""
    return 3 * r - xlogy(r, r)


def _kl_value(p: np.ndarray, q: np.ndarray, d: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        value = np.where(p > 0, p * (d - 1), 0.0) + q
    near = np.abs(d) < _NEAR
    if near.any():
        # There the three terms would cancel.
        value[near] = p[near] * kl_terms(d[near])
    return value


def _kl_slips(p: np.ndarray, q: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(invalid="ignore"):
        return np.where(p > 0, p * np.abs(d), 0.0), np.abs(p - q)


def _kl_entire(at: Moduli) -> np.ndarray:
    return at.size_p * (at.swing + 1) + at.size_q


def _kl_rest(at: Moduli) -> np.ndarray:
    return at.size_p * (at.rest_p + at.rest_q)


def _kl_close(at: Moduli) -> np.ndarray:
    gap = at.swing + at.rest_p + at.rest_q
    small = np.minimum(gap, 1.0)
    return np.where(gap < 1, at.size_p * small * small * np.exp(small) / 2, np.inf)


def _js_value(p: np.ndarray, q: np.ndarray, d: np.ndarray) -> np.ndarray:
    size = np.abs(d)
    with np.errstate(invalid="ignore"):
        fading = np.log1p(np.exp(-size))
        small = np.minimum(p, q)
        value = np.maximum(p, q) * (LOG2 - fading) + np.where(small > 0, small * (LOG2 - fading - size), 0.0)
    near = size < 2 * _NEAR
    if near.any():
        value[near] = (p[near] + q[near]) * jsd_integrand(d[near])
    return value


def _js_slips(p: np.ndarray, q: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # p log(p/m) and q log(q/m), of which |log| ≤ min(log 2, |d|/2) for the larger, ≤ |d| for the smaller.
    size = np.abs(d)
    with np.errstate(invalid="ignore"):
        slope = np.where(d > 0, np.minimum(size, LOG2), size), np.where(d > 0, size, np.minimum(size, LOG2))
        return np.where(p > 0, p * slope[0], 0.0), np.where(q > 0, q * slope[1], 0.0)


def _gan_slips(p: np.ndarray, q: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = _js_slips(p, q, d)
    return first + LOG2 * p, second + LOG2 * q


def _js_entire(at: Moduli) -> np.ndarray:
    return at.minor * at.swing + LOG2 * (at.size_p + at.size_q)


def _js_rest(at: Moduli) -> np.ndarray:
    return at.size_p * (at.rest_p + at.rest_both) + at.size_q * (at.rest_q + at.rest_both)


def _js_close(at: Moduli) -> np.ndarray:
    gap = at.swing + at.rest_p + at.rest_q
    return np.where(gap < 1, LOG2 * (at.size_p + at.size_q) * np.tan(np.minimum(gap, 1.0) / 2) ** 2, np.inf)


def _hellinger_value(p: np.ndarray, q: np.ndarray, d: np.ndarray) -> np.ndarray:
    return (np.sqrt(p) - np.sqrt(q)) ** 2


_JS_ALONE = Alone(LOG2, _logs)
_HELLINGER_ALONE = Alone(1.0, lambda r: r + 2 * np.sqrt(r))
_KL = Form(_kl_value, _kl_slips, _kl_entire, _kl_rest, _kl_close, Alone(1.0, _logs), None, grows=True)

_FORMS: dict[Function, Form] = {
    GENERATORS["kl"].weighted: _KL,
    GENERATORS["reverse_kl"].weighted: Form(
        lambda p, q, d: _kl_value(q, p, -d),
        lambda p, q, d: _kl_slips(q, p, -d)[::-1],
        lambda at: _kl_entire(at.swapped()),
        lambda at: _kl_rest(at.swapped()),
        lambda at: _kl_close(at.swapped()),
        None,
        Alone(1.0, _logs),
        grows=True,
    ),
    GENERATORS["jensen_shannon"].weighted: Form(
        _js_value, _js_slips, _js_entire, _js_rest, _js_close, _JS_ALONE, _JS_ALONE, mixes=True
    ),
    GENERATORS["gan"].weighted: Form(
        lambda p, q, d: _js_value(p, q, d) - LOG2 * (p + q),
        _gan_slips,
        lambda at: at.minor * at.swing,
        _js_rest,
        _nothing,
        Alone(0.0, _logs),
        Alone(0.0, _logs),
        mixes=True,
    ),
    GENERATORS["squared_hellinger"].weighted: Form(
        _hellinger_value,
        lambda p, q, d: (np.abs(p - q),) * 2,
        lambda at: at.size_p + at.size_q,
        lambda at: _known(at) * 2 * np.sqrt(at.size_p * at.size_q),
        _nothing,
        _HELLINGER_ALONE,
        _HELLINGER_ALONE,
    ),
}
