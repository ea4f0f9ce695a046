r"""The best Gaussian under each divergence: why a GAN may drop a mode and maximum likelihood may not.

Fitting q = N(m, S) to p means to minimise D(p, q), and what the minimum looks like depends on D:

* **forward KL(p‖q)** is minimised by the moments of p (E_p log q is a quadratic form): it covers all modes;
* **reverse KL(q‖p)** pays for every bit of q where p has none: beyond a certain separation of the modes it sits on one;
* **JSD** does the same, later; **W₁, W₂** always cover: both are convex in (m, s) on the line, so their minimum is the
  only one; **MMD²** with the Gaussian kernel of stated bandwidth may have several.

For ½N(−a, 1) + ½N(a, 1) the global minimum jumps from covering to one mode at a = 2.80008222 (reverse KL) and
a = 4.24471104 (JSD), while the covering fit stays a local minimum: gradient descent ends where it began.

On the line every local minimum is sought: the objective is scanned over (m, s), and from each low point of the scan,
from each mode of p and each of its parts, a Newton iteration with exact gradient and Hessian is started. With
t = (x − m)/s and ψ = ∂D/∂q the derivatives are expectations under q of Hermite polynomials,

$$ \partial_m D = E_q[\psi\,t]/s, \qquad \partial_s D = E_q[\psi\,(t^2 - 1)]/s, $$

with ψ = log q/p for reverse KL and ψ = ½ log q/((p+q)/2) for JSD, so no derivative of p is ever needed. In the
plane a quasi-Newton method over the mean and the Cholesky factor is started from the moments and from each part of p.

References: *Divergence measures and message passing* (Minka, 2005), MSR-TR-2005-173;
*How (not) to Train your Generative Model* (Huszár, 2015), https://arxiv.org/abs/1511.05101;
*A Kernel Two-Sample Test* (Gretton et al., 2012), https://jmlr.org/papers/v13/gretton12a.html.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from divergences.adapters import as_distribution
from divergences.checks import as_generator, as_number, one_of
from divergences.distributions import Discrete, Distribution, Gaussian, parts_of
from divergences.errors import InputError
from divergences.estimate import Estimate
from divergences.expectation import Expect, Quadrature
from divergences.f_divergences import jsd, kl
from divergences.fit_line import all_minima, transport_fit
from divergences.fit_plane import plane_minimum

__all__ = ["Fit", "Minimum", "fit_gaussian"]

DIVERGENCES = ("forward_kl", "reverse_kl", "jsd", "w1", "w2", "mmd")
_QUADRATURE = Quadrature()


class Minimum(NamedTuple):
    """A local minimum: the law and the divergence there."""

    law: Gaussian
    value: Estimate


@dataclass(frozen=True)
class Fit:
    """The best Gaussian found.

    Attributes:
        law: the global minimum (of those equal to nine decimals, the one with the smaller mean).
        value: the divergence there, with its error; for ``mmd`` this is MMD².
        minima: all local minima found, best first; law and value repeat the first of them.
        divergence: which divergence was minimised, with its kernel where it has one.
        accuracy: half-width (95 %) of the entries of mean and Cholesky factor, where the fit rests on sampled points
            (``w1`` and ``w2`` in the plane); 0 elsewhere: m and s to about 1e-9 of the spread of p.
    """

    law: Gaussian
    value: Estimate
    minima: tuple[Minimum, ...]
    divergence: str
    accuracy: float = 0.0


def fit_gaussian(
    p: Any,
    divergence: str = "forward_kl",
    *,
    bandwidth: float | None = None,
    rng: np.random.Generator | None = None,
    expect: Expect = _QUADRATURE,
) -> Fit:
    r"""The Gaussian q closest to p under a divergence, with all local minima on the line.

    Args:
        p: the target, anything ``as_distribution`` takes with a density, in one or two dimensions.
        divergence: ``"forward_kl"`` KL(p‖q), ``"reverse_kl"`` KL(q‖p), ``"jsd"``, ``"w1"``, ``"w2"``, ``"mmd"``
            (MMD² with the kernel exp(−|x−y|²/2h²)).
        bandwidth: h of the MMD kernel; default: the root mean variance of p over its coordinates.
        rng: needed for ``w1`` and ``w2`` in the plane (but for a Gaussian p), which rest on sampled points.
        expect: how the reported value is integrated.

    Returns:
        A ``Fit``. Values are as exact as ``expect``; on the line m and s solve the stationarity conditions to about
        1e-9 of the spread of p. In the plane the search starts from the moments and from the parts of p: the best of
        these local minima is reported, and no claim is made that there is no better one. ``w1`` and ``w2`` in the
        plane come from exact transport between points: the value has an interval, and ``accuracy`` is that of the law,
        some per cent of the spread of p.

    Raises:
        InputError: an unknown divergence, a ``Discrete`` p, more than two dimensions, a bandwidth that is not
            positive, a law without second moments, or reverse KL to a law that has not full support (it is infinite
            for every Gaussian).

    >>> from divergences import Mixture
    >>> two = Mixture([Gaussian(-3.0, 1.0), Gaussian(3.0, 1.0)])
    >>> float(fit_gaussian(two).law.cov[0, 0].round(9))                    # covers both modes: 1 + 3²
    10.0
    >>> [round(float(m.value), 6) for m in fit_gaussian(two, "reverse_kl").minima]   # left, right, both
    [0.688769, 0.688769, 0.840621]
    """
    kind = one_of(divergence, "divergence", DIVERGENCES)
    law = as_distribution(p, "p")
    if isinstance(law, Discrete):
        raise InputError("p must have a density to be fitted by a Gaussian; smooth its points first (evaluation.KDE).")
    if law.dim > 2:
        raise InputError(f"fit_gaussian works in one and two dimensions; p has {law.dim}.")
    if bandwidth is not None and kind != "mmd":
        raise InputError(f"bandwidth belongs to divergence='mmd'; it means nothing for {kind!r}.")
    moments = _moments(law) if kind in ("forward_kl", "w1", "w2") else _start(law)
    if kind == "forward_kl":
        return _fit(kind, [Minimum(moments, kl(law, moments, expect=expect))])
    if kind in ("w1", "w2"):
        return _transport(law, kind, moments, rng)
    if kind == "reverse_kl" and not _full_support(law):
        raise InputError(
            f"the support of p={law!r} is not all of R^{law.dim}, so KL(q‖p) is infinite for every Gaussian q. Use "
            "forward_kl, jsd or a transport distance."
        )
    if kind == "mmd":
        return _mmd(law, moments, bandwidth)
    value: Callable[[Gaussian], Estimate] = (
        (lambda q: kl(q, law, expect=expect)) if kind == "reverse_kl" else (lambda q: jsd(law, q, expect=expect))
    )
    laws = all_minima(law, moments, kind) if law.dim == 1 else plane_minimum(law, moments, kind)
    return _fit(kind, [Minimum(q, value(q)) for q in laws])


def _fit(name: str, minima: list[Minimum]) -> Fit:
    """Sorted by value; equal values (to their errors, as symmetry makes them) by mean."""
    ordered = sorted(minima, key=lambda m: (round(m.value.value, 9), m.law.mean.tolist()))
    return Fit(ordered[0].law, ordered[0].value, tuple(ordered), name)


def _full_support(law: Distribution) -> bool:
    return bool(np.isinf(law.support.low).all() and np.isinf(law.support.high).all())


def _moments(law: Distribution) -> Gaussian:
    """The Gaussian with p's mean and covariance, part by part."""
    weights, leaves = parts_of(law)
    means, seconds = [], []
    for leaf in leaves:
        mean, covariance = _leaf_moments(leaf)
        means.append(mean)
        seconds.append(covariance)
    center = np.asarray(weights) @ np.stack(means)
    spread = sum(w * (c + np.outer(m - center, m - center)) for w, m, c in zip(weights, means, seconds, strict=True))
    return Gaussian(center, spread)


def _start(law: Distribution) -> Gaussian:
    """The moments; for a law that has none, median and quartiles: enough to begin a search with."""
    try:
        return _moments(law)
    except InputError:
        if not hasattr(law, "quantile"):
            raise
        low, middle, high = law.quantile(np.array([0.25, 0.5, 0.75]))
        return Gaussian(middle, ((high - low) / 1.349) ** 2)


def _leaf_moments(leaf: Distribution) -> tuple[Float64[np.ndarray, " d"], Float64[np.ndarray, "d d"]]:
    if isinstance(leaf, Gaussian):
        return leaf.mean, leaf.cov
    tails: Any = getattr(leaf, "tails", None)
    if tails is not None and tails((1e-20, 1e-60, 1e-140)):
        # Tails that span decades: the second moment may not exist, and adaptive rules do not notice.
        second = _QUADRATURE((1.0, _monomial(np.zeros(1), 0, 0), leaf))
        if not np.isfinite(second.value) or second.error > 1e-6 * abs(second.value):
            raise InputError(f"{leaf!r} has no finite variance, so no Gaussian has its moments.")
    center = leaf.sample(1024, np.random.default_rng(0)).mean(axis=0)
    dims = range(leaf.dim)
    # Around a pilot mean, so that nothing cancels far from the origin.
    shift = np.array([_QUADRATURE((1.0, _monomial(center, i), leaf)).value for i in dims])
    second_moment = np.array([[_QUADRATURE((1.0, _monomial(center, i, j), leaf)).value for j in dims] for i in dims])
    if not np.isfinite(second_moment).all():
        raise InputError(f"{leaf!r} has no finite variance, so no Gaussian has its moments.")
    return center + shift, second_moment - np.outer(shift, shift)


def _monomial(center: np.ndarray, *axes: int) -> Callable[[np.ndarray], np.ndarray]:
    def product(x: np.ndarray) -> np.ndarray:
        # Far out in a heavy tail a square may overflow: ∞ is then the answer.
        with np.errstate(over="ignore"):
            return np.prod([x[:, axis] - center[axis] for axis in axes], axis=0)

    return product


def _transport(law: Distribution, kind: str, moments: Gaussian, rng: np.random.Generator | None) -> Fit:
    """W₁ and W₂: convex in (m, s) on the line; in the plane by points."""
    if isinstance(law, Gaussian):
        zero = Estimate(0.0, 0.0, method="p is Gaussian (exact)")
        return _fit(kind, [Minimum(law, zero)])
    if law.dim > 1:
        from divergences.fit_transport import plane_transport_fit

        if rng is None:
            raise InputError(
                f"{kind} in the plane is fitted between sampled points: give rng=numpy.random.default_rng(0)."
            )
        sampled = plane_transport_fit(law, moments, 1 if kind == "w1" else 2, as_generator(rng))
        minimum = Minimum(sampled.law, sampled.value)
        return Fit(sampled.law, sampled.value, (minimum,), kind, sampled.accuracy)
    if not (hasattr(law, "cdf") and hasattr(law, "survival")):
        raise InputError(f"{kind} needs the CDF of p; {law!r} has none.")
    best, value = transport_fit(law, moments, 1 if kind == "w1" else 2)
    return _fit(kind, [Minimum(best, value)])


def _mmd(law: Distribution, moments: Gaussian, bandwidth: float | None) -> Fit:
    """MMD² with a Gaussian kernel, in closed form for mixtures of Gaussians."""
    from divergences.fit_kernel import KernelFit

    default = float(np.sqrt(np.trace(moments.cov) / law.dim))
    h = default if bandwidth is None else as_number(bandwidth, "bandwidth", above=0.0)
    problem = KernelFit(law, h)
    minima = [Minimum(q, problem.value(q)) for q in problem.minima(moments)]
    return _fit(f"mmd (kernel exp(−|x−y|²/2h²), h = {h:.6g})", minima)
