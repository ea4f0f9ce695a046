r"""What a GAN has to beat: classical models of a density, and the training set itself.

    gmm          Gaussian mixture by expectation-maximisation           log_prob
    kde          kernel density estimate (``evaluation.KDE``)           log_prob
    histogram    piecewise constant on a regular grid                   log_prob
    langevin     a Markov chain on a fitted density                     none of its own
    memorizer    the training set, resampled                            none: point masses

Each is made of training points and is a sampler ``(n, rng) -> array (n, d)`` like a trained generator, so whatever
audits one audits the other. Those with a density carry it as ``law`` and score points with ``log_prob``.

**EM.** With responsibilities r_ik = w_k N(x_i; μ_k, Σ_k)/Σ_j w_j N(x_i; μ_j, Σ_j), the updates w_k = Σ_i r_ik/n,
μ_k = Σ_i r_ik x_i / Σ_i r_ik, Σ_k = Σ_i r_ik (x_i − μ_k)(x_i − μ_k)ᵀ/Σ_i r_ik never lower the likelihood. Added to
every Σ_k is a ridge, without which a component may shrink onto a single point and the likelihood grow without bound.

**Langevin.** x ← x + h ∇log p(x) + √(2h) ξ is biased: started at N(0, s²) it ends at variance s²/(1 − h/2s²), of order
h away. The Metropolis-adjusted chain takes each such step with probability min(1, p(x′)k(x′→x)/p(x)k(x→x′)) and has p
itself as its stationary law. Neither crosses wide gaps between modes in any reasonable time: chains start at training
points, so the share of each mode is that of the training set.

References:
    Maximum likelihood from incomplete data via the EM algorithm (Dempster, Laird, Rubin, 1977),
    https://doi.org/10.1111/j.2517-6161.1977.tb01600.x
    k-means++: the advantages of careful seeding (Arthur, Vassilvitskii, 2007),
    https://dl.acm.org/doi/10.5555/1283383.1283494
    Exponential convergence of Langevin distributions and their discrete approximations (Roberts, Tweedie, 1996),
    https://doi.org/10.2307/3318418
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from divergences import Discrete, Distribution, Gaussian, InputError, Mixture, NoDensity
from divergences.checks import ArrayLike, as_count, as_generator, as_number, as_points
from divergences.distributions import parts_of
from evaluation.kde import KDE
from toygen.histograms import Histogram

__all__ = ["BASELINES", "Baseline", "gmm", "histogram", "kde", "langevin", "memorizer", "score"]

Draw = Callable[[int, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Baseline:
    """A sampler ``(n, rng) -> array (n, d)`` made of training points, with its density if it has one.

    Attributes:
        name: as in ``BASELINES``.
        dim: d.
        draw: (n, rng) ↦ points (n, d).
        law: the density as a ``Distribution``, for divergences; None if there is none.
        about: how it came about: numbers and short arrays, such as EM's ``log_likelihood`` after each iteration.
    """

    name: str
    dim: int
    draw: Draw
    law: Distribution | None = None
    about: dict[str, Any] = field(default_factory=dict)

    def __call__(self, n: Any, rng: Any) -> Float64[np.ndarray, "n d"]:
        """Draw n points, shape (n, d)."""
        return self.draw(as_count(n, "n", minimum=0), as_generator(rng))

    def log_prob(self, x: ArrayLike) -> Float64[np.ndarray, " n"]:
        """Log density at x (n, d).

        Raises:
            NoDensity: this baseline has none.
        """
        if self.law is None:
            raise NoDensity(
                f"{self.name} has no density. Draw from it and fit one (evaluation.KDE), or compare samples directly "
                "with wasserstein."
            )
        return self.law.log_prob(x)


def gmm(
    train: Any, *, components: Any = 8, restarts: Any = 4, ridge: ArrayLike = 1e-6, iterations: Any = 500, rng: Any
) -> Baseline:
    """A Gaussian mixture with full covariances, by expectation-maximisation from k-means++ seeds.

    Args:
        train: points (n, d), or (n,) on the line.
        components: how many Gaussians; at most n.
        restarts: how many starts; the best likelihood wins.
        ridge: what is added to every variance, as a share of the mean variance of the coordinates.
        iterations: most per start; it stops when the mean log likelihood gains less than 1e-8.
        rng: for the seeds.

    Returns:
        ``law`` is a ``Mixture``; ``about["log_likelihood"]`` the mean log likelihood (nats per point) after each
        iteration of the best start, which never falls (up to what the ridge takes).

    Raises:
        InputError: unusable points, all points the same, or more components than points.
    """
    points, rng = as_points(train, "train", minimum=2), as_generator(rng)
    count, limit = as_count(components, "components"), as_count(iterations, "iterations")
    if count > len(points):
        raise InputError(f"components must be at most the number of points, {len(points)}; it is {count}.")
    spread = float(points.var(axis=0).mean())
    if not spread > 0:
        raise InputError("train has no spread: all its points are the same. Use memorizer.")
    floor = as_number(ridge, "ridge", above=0.0) * spread * np.eye(points.shape[1])
    runs = [_expectation_maximisation(points, count, floor, limit, rng) for _ in range(as_count(restarts, "restarts"))]
    law, history = max(runs, key=lambda run: run[1][-1])
    about = {"log_likelihood": np.array(history), "components": count}
    return Baseline("gmm", law.dim, law.sample, law, about)


def kde(train: Any, *, bandwidth: Any = "cv") -> Baseline:
    """A Gaussian kernel density estimate; the rule of the bandwidth is one of ``evaluation.KDE``, or a number.

    Args:
        train: points (n, d), or (n,) on the line.
        bandwidth: h, or "cv" (leave-one-out likelihood), "silverman", "scott".

    Raises:
        InputError: unusable points or bandwidth.
    """
    law = KDE(train, bandwidth=bandwidth)
    return Baseline("kde", law.dim, law.sample, law, {"bandwidth": law.bandwidth})


def histogram(train: Any, *, bins: Any = None) -> Baseline:
    """A histogram on a regular grid, as a density; up to three dimensions.

    Args:
        train: points (n, d), or (n,) on the line.
        bins: cells per axis; None is the cube-root rule of Scott, extended to d dimensions.

    Returns:
        ``law`` is 0 outside the range of the training points: a held-out point there has log density −∞.

    Raises:
        InputError: unusable points, more than three dimensions, or an axis without spread.
    """
    law = Histogram.of(train, bins=bins)
    return Baseline("histogram", law.dim, law.sample, law, {"bins": law.counts.shape})


def langevin(
    train: Any,
    *,
    law: Any = None,
    step: ArrayLike | None = None,
    steps: Any = 200,
    adjusted: bool = True,
) -> Baseline:
    """Langevin sampling of a density fitted to the training points, from starts at training points.

    Args:
        train: points (n, d), or (n,) on the line.
        law: the density to walk on; None is a ``kde``.
        step: h, a squared length; None is a quarter of the squared length on which the density changes (the smallest
            standard deviation of a Gaussian part), else a hundredth of the mean variance.
        steps: of each chain. Every point drawn is the end of a chain of its own.
        adjusted: Metropolis-adjusted (MALA: the density is stationary), or plain (ULA: biased, see the module).

    Returns:
        A sampler without a density of its own.

    Raises:
        InputError: unusable points, a law of another dimension or without density, or a step that is not positive.
    """
    points, count = as_points(train, "train"), as_count(steps, "steps")
    target: Distribution = kde(points).law if law is None else law  # type: ignore[assignment]
    if not isinstance(target, Distribution):
        raise NoDensity(f"law must have a density to walk on; it is {target!r}.")
    if target.dim != points.shape[1]:
        raise InputError(f"law must have the dimension of train, {points.shape[1]}; it has {target.dim}.")
    size = _usual_step(target, points) if step is None else as_number(step, "step", above=0.0)
    walk = _Walk(target, size, adjusted=adjusted)

    def draw(n: int, rng: np.random.Generator) -> np.ndarray:
        x = points[rng.integers(0, len(points), n)]
        for _ in range(count if n else 0):
            x = walk(x, rng)
        return x

    return Baseline("langevin", target.dim, draw, None, {"step": size, "steps": count, "adjusted": adjusted})


def memorizer(train: Any) -> Baseline:
    """The training set, drawn with replacement: the best generator by every score that forgets to ask for novelty.

    Its "likelihood" is a mass, not a density.

    Args:
        train: points (n, d), or (n,) on the line.

    Raises:
        InputError: unusable points.
    """
    atoms = Discrete(as_points(train, "train"))
    return Baseline("memorizer", atoms.dim, atoms.sample, None, {"points": len(atoms.points)})


BASELINES: dict[str, Callable[[Any, np.random.Generator], Baseline]] = {
    "gmm": lambda train, rng: gmm(train, rng=rng),
    "kde": lambda train, rng: kde(train),
    "histogram": lambda train, rng: histogram(train),
    "langevin": lambda train, rng: langevin(train),
    "memorizer": lambda train, rng: memorizer(train),
}


def score(law: Distribution, x: ArrayLike) -> Float64[np.ndarray, "n d"]:
    """∇ₓ log p(x): exact for Gaussians and their mixtures (Gaussian KDEs too), else by central differences.

    Args:
        law: the density.
        x: shape (n, d).
    """
    points = as_points(x, "x", dim=law.dim, minimum=0)
    if isinstance(law, KDE) and law.kernel == "gaussian":
        return _pull(law.points, np.log(law.weights), points, law.bandwidth)
    weights, parts = parts_of(law)
    gaussians = [part for part in parts if isinstance(part, Gaussian)]
    if len(gaussians) < len(parts):
        return _differences(law, points)
    terms = np.stack([part.log_prob(points) for part in gaussians], axis=1) + np.log(weights)
    share = np.exp(terms - terms.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    pulls = np.stack([np.linalg.solve(part.cov, (part.mean - points).T).T for part in gaussians], axis=1)
    return np.einsum("nk,nkd->nd", share, pulls)


def _pull(centers: np.ndarray, log_weights: np.ndarray, x: np.ndarray, h: float) -> Float64[np.ndarray, "n d"]:
    """(Σ r_i x_i − x)/h² with kernel responsibilities r, in blocks."""
    from scipy.spatial.distance import cdist

    out = np.empty(x.shape)
    rows = max(1, 4_000_000 // len(centers))
    for start in range(0, len(x), rows):
        here = slice(start, start + rows)
        terms = log_weights - 0.5 * cdist(x[here], centers, "sqeuclidean") / h**2
        share = np.exp(terms - terms.max(axis=1, keepdims=True))
        out[here] = (share @ centers / share.sum(axis=1, keepdims=True) - x[here]) / h**2
    return out


def _differences(law: Distribution, x: np.ndarray) -> Float64[np.ndarray, "n d"]:
    slope = np.zeros(x.shape)
    for axis in range(x.shape[1]):
        shift = np.zeros(x.shape[1])
        shift[axis] = 1e-5 * max(1e-3, float(np.ptp(x[:, axis])) if len(x) else 1.0)
        rise = law.log_prob(x + shift) - law.log_prob(x - shift)
        # Beyond the edge of a support there is no slope to follow.
        slope[:, axis] = np.where(np.isfinite(rise), rise, 0.0) / (2 * shift[axis])
    return slope


@dataclass(frozen=True)
class _Walk:
    """One step of all chains at once."""

    law: Distribution
    step: float
    adjusted: bool

    def __call__(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        slope = score(self.law, x)
        proposal = x + self.step * slope + math.sqrt(2 * self.step) * rng.standard_normal(x.shape)
        if not self.adjusted:
            return proposal
        taken = self._accepted(x, slope, proposal, rng.random(len(x)))
        return np.where(taken[:, None], proposal, x)

    def _accepted(self, x: np.ndarray, slope: np.ndarray, to: np.ndarray, u: np.ndarray) -> Bool[np.ndarray, " n"]:
        back = x - to - self.step * score(self.law, to)
        forth = to - x - self.step * slope
        ratio = self.law.log_prob(to) - self.law.log_prob(x)
        ratio += ((forth**2).sum(axis=1) - (back**2).sum(axis=1)) / (4 * self.step)
        return np.log(u) < ratio


def _usual_step(law: Distribution, points: np.ndarray) -> float:
    if isinstance(law, KDE):
        return 0.25 * law.bandwidth**2
    parts = parts_of(law)[1]
    smallest = [float(np.linalg.eigvalsh(part.cov)[0]) for part in parts if isinstance(part, Gaussian)]
    if len(smallest) == len(parts):
        return 0.25 * min(smallest)
    return 0.01 * max(float(points.var(axis=0).mean()), np.finfo(np.float64).tiny)


def _expectation_maximisation(
    points: np.ndarray, count: int, floor: np.ndarray, iterations: int, rng: np.random.Generator
) -> tuple[Mixture, list[float]]:
    dim = points.shape[1]
    means = _far_apart(points, count, rng)
    weights = np.full(count, 1 / count)
    covariances = np.tile(np.cov(points.T).reshape(dim, dim) / count + floor, (count, 1, 1))
    history: list[float] = []
    for _ in range(iterations):
        share, gained = _expected(points, weights, means, covariances)
        history.append(gained)
        if len(history) > 1 and history[-1] - history[-2] < 1e-8:
            break
        # A component that lost every point keeps a trace of weight: its mean is then that of all points.
        share += 1e-12
        mass = share.sum(axis=0)
        means = share.T @ points / mass[:, None]
        away = points - means[:, None]
        covariances = (share.T[:, :, None] * away).swapaxes(1, 2) @ away / mass[:, None, None] + floor
        weights = mass / mass.sum()
    laws = [Gaussian(mean, (cov + cov.T) / 2) for mean, cov in zip(means, covariances, strict=True)]
    return Mixture(laws, weights), history


def _expected(
    points: np.ndarray, weights: np.ndarray, means: np.ndarray, covariances: np.ndarray
) -> tuple[np.ndarray, float]:
    """Responsibilities (n, k), and the mean log likelihood."""
    factors = np.linalg.cholesky((covariances + covariances.swapaxes(1, 2)) / 2)
    white = np.linalg.solve(factors, (points - means[:, None]).swapaxes(1, 2))
    terms = np.log(weights) - np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
    terms = terms - 0.5 * (white**2).sum(axis=1).T - 0.5 * points.shape[1] * math.log(2 * math.pi)
    top = terms.max(axis=1, keepdims=True)
    share = np.exp(terms - top)
    total = share.sum(axis=1, keepdims=True)
    return share / total, float((np.log(total) + top).mean())


def _far_apart(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++: each next centre is drawn with probability ∝ squared distance to the nearest so far."""
    chosen = [points[rng.integers(len(points))]]
    nearest = ((points - chosen[0]) ** 2).sum(axis=1)
    for _ in range(count - 1):
        # Where every point has been chosen, any is as good as another.
        odds = nearest / nearest.sum() if nearest.sum() > 0 else None
        chosen.append(points[rng.choice(len(points), p=odds)])
        nearest = np.minimum(nearest, ((points - chosen[-1]) ** 2).sum(axis=1))
    return np.stack(chosen)
