r"""Integrands of f-divergences over the mixture m = (p + q)/2, as functions of d = log p − log q.

Each is ≥ 0, finite where its divergence is, and keeps its digits at both ends: near d = 0 a power series replaces the
difference that would cancel, and at d = ±∞ the limit is taken by hand.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, log_expit

__all__ = ["hellinger_integrand", "jsd_integrand", "kl_integrand", "kl_terms"]

LOG2 = float(np.log(2.0))
_SMALL = 0.5


def kl_terms(d: np.ndarray) -> np.ndarray:
    """D − 1 + e^(−d) ≥ 0, by its series Σ_{k≥2} (−d)^k / k! where |d| < ½; ∞ at both ends."""
    near = np.clip(d, -_SMALL, _SMALL)
    series = np.zeros_like(near)
    for k in range(18, 1, -1):
        series = series * (-near / (k + 1)) + 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        far = np.where(np.isneginf(d), np.inf, d + np.expm1(-d))
    return np.where(np.abs(d) < _SMALL, series * near * near / 2, far)


def kl_integrand(d: np.ndarray) -> np.ndarray:
    """2σ(d)(d − 1 + e^(−d)), with the limits 2 at −∞ and ∞ at ∞."""
    with np.errstate(invalid="ignore"):
        far = expit(d) * (d - 1) + expit(-d)
    far = np.where(np.isneginf(d), 1.0, far)
    return 2 * np.where(np.abs(d) < _SMALL, expit(d) * kl_terms(np.clip(d, -_SMALL, _SMALL)), far)


def jsd_integrand(d: np.ndarray) -> np.ndarray:
    """Log 2 − H(σ(d)) = log 2 + σ log σ + (1−σ) log(1−σ), without cancellation at 0."""
    t = np.tanh(d / 2)  # σ = (1 + t)/2
    near = np.clip(t, -_SMALL, _SMALL)
    # ½[(1+t) log(1+t) + (1−t) log(1−t)] = Σ_{k≥1} t^(2k) / (2k(2k−1))
    square = near * near
    series = np.zeros_like(near)
    for k in range(26, 0, -1):
        series = series * square + 1.0 / (2 * k * (2 * k - 1))
    size = np.abs(d)
    with np.errstate(invalid="ignore"):
        far = LOG2 + log_expit(size) - np.where(np.isinf(size), 0.0, expit(-size) * size)
    return np.where(np.abs(t) < _SMALL, series * square, far)


def hellinger_integrand(d: np.ndarray) -> np.ndarray:
    """1 − 1/cosh(d/2) = 2 sinh²(d/4) / cosh(d/2)."""
    half = np.minimum(np.abs(d) / 2, 700.0)
    return np.where(half < 1, 2 * np.sinh(half / 2) ** 2 / np.cosh(half), 1 - 1 / np.cosh(half))
