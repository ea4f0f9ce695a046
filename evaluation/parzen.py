r"""Likelihoods of held-out data: exact where the density is known, by Parzen windows where it is not, with a warning.

Where a model has a density, its mean log-likelihood on held-out data is E_p log q = −H(p) − KL(p‖q) up to the chance of
the draw: an honest yardstick, ± 1.96 standard errors (``log_likelihood``).

Where it has only samples, the literature puts a Gaussian on each and scores with that ("Parzen window estimate"). The
bandwidth must be chosen on data that are not scored: on ``validation``, or by leaving out one of the samples in turn.
What results is the likelihood of the *smoothed samples*, and in many dimensions it says little about the generator:
Theis, van den Oord and Bethge let the centres of k-means beat true samples on MNIST, since being near every image
counts for more than looking like one. The effect can be measured: with ``train=`` the same score is given to real
samples and to as many k-means centres of them. Where the centres win, ``warning`` says so, and a higher number is no
sign of a better generator.

References:
    A note on the evaluation of generative models (Theis, van den Oord, Bethge, 2016), https://arxiv.org/abs/1511.01844.
    Generative adversarial networks (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from divergences import Estimate, InputError, as_distribution
from divergences.checks import ArrayLike, as_generator, as_points, one_of
from divergences.two_sample import Z95
from evaluation.kde import KDE

__all__ = ["Parzen", "log_likelihood", "parzen"]

_OCTAVES = np.log(2.0) * np.arange(-10, 4)
# Real samples per k-means centre: with one, the centres are the samples.
_PER_CENTER = 4


@dataclass(frozen=True)
class Parzen:
    """A Parzen-window score, and what it is worth here.

    Attributes:
        log_likelihood: mean log density of the test data in nats; 95 % interval over test points (the bandwidth and the
            samples are taken as given).
        bandwidth: of the kernel.
        chosen_on: what the bandwidth was chosen on: never the test data.
        real: the same score of real samples in place of generated ones; None without train=.
        codebook: the same score of as many k-means centres of train; None without train=.
        warning: empty, or why the score does not order generators here.
    """

    log_likelihood: Estimate
    bandwidth: float
    chosen_on: str
    real: Estimate | None
    codebook: Estimate | None
    warning: str


def log_likelihood(*, law: Any, test: ArrayLike) -> Estimate:
    """Mean log density of held-out data under a law with a known density, in nats.

    Args:
        law: a ``Distribution``, or what ``as_distribution`` makes one of.
        test: shape (m, d), m ≥ 2.

    Returns:
        The mean with its 95 % interval; −inf, with a note, if a point lies where the law has no density.

    Raises:
        InputError: NaN or mis-shaped data, or fewer than two points.
        NoDensity: the law is a sampler.

    >>> from divergences import Gaussian
    >>> x = np.random.default_rng(0).normal(size=4000)
    >>> log_likelihood(law=Gaussian(0.0, 1.0), test=x).agrees(-0.5 * math.log(2 * math.pi * math.e))
    True
    """
    known = as_distribution(law, "law=")
    points = as_points(test, "test=", dim=known.dim, minimum=2)
    return _mean(np.asarray(known.log_prob(points), dtype=np.float64), "mean log density")


def parzen(
    *,
    generated: ArrayLike,
    test: ArrayLike,
    rng: np.random.Generator,
    validation: ArrayLike | None = None,
    train: ArrayLike | None = None,
    kernel: str = "gaussian",
) -> Parzen:
    """Score held-out data by Parzen windows on generated samples, beside what real samples and a codebook would score.

    Args:
        generated: samples, shape (n, d), n ≥ 3.
        test: held-out data that are scored, shape (m, d), m ≥ 2.
        rng: picks the real samples and seeds k-means.
        validation: held-out data, not among test=, on which the bandwidth is chosen. None: by leaving out one of the
            samples in turn.
        train: real samples, shape (N, d), N ≥ 12, for the comparison: N/4 of them, at most n, against as many centres.
        kernel: "gaussian" or "epanechnikov" (then −inf as soon as one test point is out of reach).

    Raises:
        InputError: NaN, mis-shaped or too few samples, or an unknown kernel.

    >>> rng = np.random.default_rng(0)
    >>> fresh, test = rng.normal(size=(2, 500, 1))
    >>> abs(parzen(generated=fresh, test=test, rng=rng).log_likelihood.value + 1.42) < 0.1
    True
    """
    points = as_points(generated, "generated=", minimum=3)
    scored = as_points(test, "test=", dim=points.shape[1], minimum=2)
    aside = None if validation is None else as_points(validation, "validation=", dim=points.shape[1])
    known = None if train is None else as_points(train, "train=", dim=points.shape[1], minimum=3 * _PER_CENTER)
    kernel = one_of(kernel, "kernel=", ("gaussian", "epanechnikov"))
    rng = as_generator(rng, "rng=")
    law = _fitted(points, aside, kernel)
    own = _score(law, scored)
    real = codebook = None
    warning = "not checked: pass train= to see whether a codebook of k-means centres beats real samples here"
    if known is not None:
        from evaluation.unknown_modes import k_means

        size = min(len(points), len(known) // _PER_CENTER)
        real = _score(_fitted(known[rng.permutation(len(known))[:size]], aside, kernel), scored)
        codebook = _score(_fitted(k_means(known, size, rng), aside, kernel), scored)
        warning = _warning(real, codebook, size)
    chosen_on = "leaving out one sample in turn" if aside is None else "validation data"
    return Parzen(own, law.bandwidth, chosen_on, real, codebook, warning)


def _fitted(points: np.ndarray, validation: np.ndarray | None, kernel: str) -> KDE:
    """The estimate whose bandwidth makes the validation data likeliest: octaves around Scott's rule, then Brent."""
    if validation is None:
        return KDE(points, bandwidth="cv", kernel=kernel)
    from scipy.optimize import minimize_scalar

    def loss(log_h: float) -> float:
        value = -float(KDE(points, bandwidth=math.exp(log_h), kernel=kernel).log_prob(validation).mean())
        return value if math.isfinite(value) else 1e12

    grid = math.log(KDE(points, bandwidth="scott", kernel=kernel).bandwidth) + _OCTAVES
    losses = [loss(value) for value in grid]
    best = int(np.argmin(losses))
    if losses[best] >= 1e12:
        raise InputError("validation= lies out of reach of the kernel at every bandwidth. Use kernel='gaussian'.")
    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    found: Any = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-3})
    return KDE(points, bandwidth=math.exp(found.x if found.fun < losses[best] else grid[best]), kernel=kernel)


def _score(law: KDE, test: np.ndarray) -> Estimate:
    return _mean(law.log_prob(test), f"Parzen windows of bandwidth {law.bandwidth:.4g} on {len(law.points)} samples")


def _mean(values: np.ndarray, method: str) -> Estimate:
    outside = int(np.isneginf(values).sum())
    if outside:
        note = f"{outside} of {len(values)} points lie where the density is 0"
        return Estimate(-math.inf, 0.0, method=method, n=len(values), note=note)
    error = Z95 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return Estimate(float(values.mean()), error, level=0.95, method=method, n=len(values))


def _warning(real: Estimate, codebook: Estimate, size: int) -> str:
    if not codebook.value > real.value:
        return ""
    return (
        f"{size} k-means centres score {codebook.value:.4g} where as many real samples score {real.value:.4g}: here a "
        "higher Parzen likelihood is no sign of a better generator (Theis et al., 2016)"
    )
