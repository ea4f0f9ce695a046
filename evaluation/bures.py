r"""Two covariances in the coordinates in which one is the identity and the other diag(s²): all that FID needs of them.

**Trace term.** tr (S₁S₂)^½ = Σ s_i. With S₁ = L Lᵀ the s_i² are the eigenvalues of the symmetric M = LᵀS₂L = V s² Vᵀ
(fast), and the s_i themselves the singular values of L₁ᵀL₂ for any factors, for n < d samples the centred data (exact
to the last digits, singular covariances included). No square root of a non-symmetric matrix is taken, so nothing can
turn complex. An eigenvalue s² is known to ε|M|, so the first way is left where that shows in the sum.

**Coordinates.** z = Vᵀ L⁻¹(x − m₁) whitens the reference and w = s⁻¹ Vᵀ Lᵀ(y − m₂) the generated samples; the optimal
map between the two Gaussians, T = S₁^−½(S₁^½S₂S₁^½)^½S₁^−½, is Σ s_i z_i z_iᵀ, and its inverse Σ s_i w_i w_iᵀ.

**Bias.** Since the trace is concave, its plain value is too small by ½ Σ_ij c_ij (E[z_i²z_j²] − δ_ij)/n for each
covariance, with c_ij = s_i s_j/(s_i + s_j): for Gaussian features the bracket is 1 + δ_ij; from samples their own
fourth moments are used. A sample x whose leverage h = |z|²/n is not small pulls S₁ towards itself and so hides part of
its own moments; leaving it out changes the trace not by the second order alone but, along one direction, by
1 − h/2 − √(1 − h) = h²/8 + …, and each sample's term is scaled by the ratio of the two.

References: see ``evaluation.frechet``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from divergences.errors import InputError
from evaluation.moments import Moments, centered_blocks

__all__ = ["Pair", "Side"]

_ROWS = 4096
_FEW_ROWS = 64
# Samples per side of which all pairs are looked at for the second-order variance.
_PAIRS = 400
# Of the trapezoidal rule: exp(−π²/0.3) = 5e-15, and exp(−35) is 6e-16.
_STEP = 0.3
_TINY = 35.0


class Side:
    """One of the two sets in the common coordinates.

    Attributes:
        moments: mean, covariance, n and, if known, samples.
        gap: own mean minus the other's.
        whitener: (d, r); its columns map a centred sample to its coordinates.
        s: the r singular values.
        pull: |S w_k|² of the columns w_k.
        sums: Σ c_ij and Σ c_ij².
    """

    def __init__(
        self, moments: Moments, gap: np.ndarray, whitener: np.ndarray, s: np.ndarray, pull: np.ndarray
    ) -> None:
        self.moments, self.gap, self.whitener, self.s, self.pull = moments, gap, whitener, s, pull
        self.sums: Callable[[], tuple[float, float]] = functools.cache(lambda: _sums_of_weights(s))
        self._psi: Any = None
        self._fourth = 0.0

    def coordinates(self) -> Float64[np.ndarray, "r r"]:
        """The weights c_ij."""
        return self.s[:, None] * self.s / (self.s[:, None] + self.s) if self.s.size else np.zeros((0, 0))

    @property
    def bias(self) -> float:
        """½ Σ c_ij (E[z_i²z_j²] − δ_ij)/n, what the plain distance is too large by on account of this covariance."""
        trace = float(self.s.sum()) / 2
        if self.moments.samples is None:
            return 0.5 * (self.sums()[0] + trace) / self.moments.n
        self._look()
        return 0.5 * (self._fourth - trace) / self.moments.n

    @property
    def psi(self) -> Float64[np.ndarray, " n"]:
        """First-order influence of each sample on the distance, mean 0."""
        self._look()
        return self._psi

    def _look(self) -> None:
        """One pass over the samples for both."""
        if self._psi is not None:
            return
        n, root = self.moments.n, _root_of_weights(self.s)
        c = self.coordinates() if root is None else None
        psi, fourth = np.empty(n), 0.0
        for here, x in centered_blocks(self.moments, _ROWS):
            squares = (x @ self.whitener) ** 2
            psi[here] = 2 * x @ self.gap + np.einsum("nd,nd->n", x, x) - squares @ self.s
            leverage = squares.sum(axis=1) * (n / (n - 1) ** 2)
            form = np.einsum("nd,nd->n", squares @ c, squares) if root is None else ((squares @ root) ** 2).sum(axis=1)
            fourth += float(form @ _alone(leverage))
        self._psi, self._fourth = psi - psi.mean(), fourth / n

    @property
    def first_order(self) -> float:
        """Variance of the distance on account of this set: var ψ/n, for Gaussian features if there are no samples."""
        n = self.moments.n
        if self.moments.samples is not None:
            return float(self.psi.var(ddof=1)) / n
        return self.gaussian_first_order

    @property
    def gaussian_first_order(self) -> float:
        """(4δᵀSδ + 2|S − (S^½S'S^½)^½|²)/n: what var ψ/n is for Gaussian features."""
        covariance = self.moments.covariance
        mean_part = 4 * float(self.gap @ covariance @ self.gap)
        spread_part = float(np.vdot(covariance, covariance)) - 2 * float(self.s @ self.pull) + float(self.s @ self.s)
        return (mean_part + 2 * max(spread_part, 0.0)) / self.moments.n

    def seen_second_order(self) -> float:
        """2 E h(x, x')²/n² over pairs of samples; h is the term of the bias, with ½√(s_i s_j) ≥ c_ij in its place."""
        picked = np.linspace(0, self.moments.n - 1, min(self.moments.n, _PAIRS)).astype(np.intp)
        x = self.moments.samples[picked] - self.moments.mean
        z = (x @ self.whitener) * self.s**0.25
        own = z**2 @ np.sqrt(self.s)
        pairs = x @ x.T + ((z @ z.T) ** 2 - own[:, None] - own + self.s.sum()) / 4
        np.fill_diagonal(pairs, 0.0)
        return 2 * float(np.vdot(pairs, pairs)) / (len(picked) * (len(picked) - 1)) / self.moments.n**2


class Pair:
    """Both sets in the common coordinates.

    Attributes:
        raw: the plain distance.
        value: debiased to order 1/n.
        means: |m₁ − m₂|².
        means_bias: what that is too large by.
    """

    def __init__(self, reference: Moments, generated: Moments) -> None:
        gap = reference.mean - generated.mean
        s, (z, w), (pull_z, pull_w) = _common(reference, generated)
        self.reference = Side(reference, gap, z, s, pull_z)
        self.generated = Side(generated, -gap, w, s, pull_w)
        self.generated.sums = self.reference.sums
        self.s = s
        self.means = float(gap @ gap)
        traces = float(np.trace(reference.covariance)), float(np.trace(generated.covariance))
        # Rounding can leave −1e-15·tr where the truth is 0.
        self.raw = max(self.means + sum(traces) - 2 * float(s.sum()), 0.0)
        self.means_bias = traces[0] / reference.n + traces[1] / generated.n
        self.trace_bias = self.reference.bias + self.generated.bias
        self.value = self.raw - self.means_bias - self.trace_bias

    @property
    def sampled(self) -> bool:
        """Whether both sets have their samples."""
        return self.reference.moments.samples is not None and self.generated.moments.samples is not None

    @property
    def first_order(self) -> float:
        """Variance by the delta method."""
        return self.reference.first_order + self.generated.first_order

    @property
    def gaussian_first_order(self) -> float:
        """The same for Gaussian features: no fourth moments, which n < d spoils."""
        return self.reference.gaussian_first_order + self.generated.gaussian_first_order

    @property
    def gaussian_second_order(self) -> float:
        """Variance where both laws agree: of |Δm|² and of the curvature of the trace term."""
        p, q = self.reference.moments, self.generated.moments
        rate = 1 / p.n + 1 / q.n
        mean_part = 2 * float(np.sum((p.covariance / p.n + q.covariance / q.n) ** 2))
        return mean_part + rate**2 * (self.reference.sums()[1] + float(self.s @ self.s) / 4)

    @property
    def second_order(self) -> float:
        """The same, or what the samples' own pairs show if that is more."""
        if not self.sampled:
            return self.gaussian_second_order
        seen = self.reference.seen_second_order(), self.generated.seen_second_order()
        return max(self.gaussian_second_order, (math.sqrt(seen[0]) + math.sqrt(seen[1])) ** 2)


def _sums_of_weights(s: Float64[np.ndarray, " r"]) -> tuple[float, float]:
    """Σ c_ij and Σ c_ij², some rows at a time."""
    total, squares = 0.0, 0.0
    for start in range(0, s.size, _FEW_ROWS):
        own = s[start : start + _FEW_ROWS, None]
        c = own * s / (own + s)
        total, squares = total + float(c.sum()), squares + float(np.vdot(c, c))
    return total, squares


def _root_of_weights(s: Float64[np.ndarray, " r"]) -> Float64[np.ndarray, "r k"] | None:
    """R with Σ_k R_ik R_jk = c_ij to 13 digits and few columns k, or None where there would not be few.

    1/(s_i + s_j) = ∫ exp(u − (s_i + s_j)eᵘ) du by the trapezoidal rule, which is off by about exp(−π²/step).
    """
    if s.size == 0:
        return None
    low, high = float(s.min()), float(s.max())
    u = np.arange(-_TINY - math.log(2 * high), math.log(_TINY / (2 * low)), _STEP)
    if 4 * len(u) > s.size:
        return None
    return s[:, None] * np.exp(u / 2 - s[:, None] * np.exp(u)) * math.sqrt(_STEP)


def _alone(leverage: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """(1 − h/2 − √(1−h)) / (h²/8): 1 for small leverage, 4 at h = 1."""
    h = np.clip(leverage, 1e-4, 1.0)
    return (1 - h / 2 - np.sqrt(1 - h)) * 8 / h**2


_Two = tuple[np.ndarray, np.ndarray]


def _common(p: Moments, q: Moments) -> tuple[np.ndarray, _Two, _Two]:
    """s, the whiteners of both, and |S w_k|² of both."""
    fast = None if _thin(p) or _thin(q) else _by_cholesky(p, q)
    if fast is not None:
        return fast
    (left, left_inverse), (right, right_inverse) = _factor(p), _factor(q)
    # L_pᵀ L_q = V diag(s) Uᵀ: singular values straight from the factors keep their digits.
    v, s, u = np.linalg.svd(left.T @ right, full_matrices=False)
    keep = s > max(left.shape[0], 1) * np.finfo(np.float64).eps * max(float(s.max(initial=0.0)), 1e-300)
    one, other = v[:, keep], u.T[:, keep]
    pulls = np.sum((left @ one) ** 2, axis=0), np.sum((right @ other) ** 2, axis=0)
    return s[keep], (left_inverse @ one, right_inverse @ other), pulls


def _by_cholesky(p: Moments, q: Moments) -> tuple[np.ndarray, _Two, _Two] | None:
    """The same from eigenvalues of LᵀS_qL, or None where they would not be exact enough."""
    from scipy.linalg import blas, eigh, lapack

    # A matrix and its transpose are the same here, and so no copy is made for Fortran's order.
    lower, failed = lapack.dpotrf(p.covariance.T, lower=1)
    if failed:
        return None
    product, _ = lapack.dsygst(q.covariance.T, lower, itype=2, lower=1)
    values, vectors = eigh(product, driver="evd", overwrite_a=True, check_finite=False)
    if values[0] < 0:
        return None
    s = np.sqrt(values)
    blur = 2 * np.finfo(np.float64).eps * float(values[-1])
    gap = p.mean - q.mean
    raw = float(gap @ gap) + float(np.trace(p.covariance)) + float(np.trace(q.covariance)) - 2 * float(s.sum())
    doubt = float((blur / np.maximum(s, math.sqrt(blur))).sum()) if blur > 0 else math.inf
    if s[0] ** 2 <= blur or doubt > 1e-9 * max(raw, 1e-9 * float(s.sum())):
        return None
    # In Fortran's order and in place: these matrices are the largest there are.
    w = blas.dtrmm(1.0, lower, vectors.copy(order="F"), lower=1, overwrite_b=1)
    w /= s
    z = blas.dtrsm(1.0, lower, vectors, lower=1, trans_a=1, overwrite_b=1)
    # S_p z = L v = s w and S_q w = s z.
    return s, (z, w), (values * np.einsum("dr,dr->r", w, w), values * np.einsum("dr,dr->r", z, z))


def _thin(side: Moments) -> bool:
    """Whether the centred data are the smaller factor."""
    return side.samples is not None and side.n <= side.mean.size


def _factor(side: Moments) -> tuple[Float64[np.ndarray, "d r"], Float64[np.ndarray, "d r"]]:
    """L with S = L Lᵀ, and L (LᵀL)⁻¹: from the centred data where they are the smaller matrix, else from S."""
    if _thin(side):
        data = (side.samples - side.mean) / math.sqrt(side.n - 1)
        values, vectors = np.linalg.eigh(data @ data.T)
        keep = _positive(values)
        root = np.sqrt(values[keep])
        left = data.T @ vectors[:, keep]
        return left, left / root**2
    values, vectors = np.linalg.eigh(side.covariance)
    if values.min() < -1e-6 * max(float(values.max()), np.finfo(np.float64).tiny):
        raise InputError(f"covariance must be positive semi-definite; its smallest eigenvalue is {values.min():.3g}.")
    keep = _positive(values)
    root = np.sqrt(values[keep])
    return vectors[:, keep] * root, vectors[:, keep] / root


def _positive(values: Float64[np.ndarray, " k"]) -> Bool[np.ndarray, " k"]:
    """Eigenvalues that are more than rounding."""
    return values > len(values) * np.finfo(np.float64).eps * max(float(values.max()), 0.0)
