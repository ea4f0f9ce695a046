r"""What the ELBO misses, measured: the gap, and whose fault it is.

    log p(x) − ELBO(x; q) = KL(q ‖ p(z|x)) = [log p(x) − ELBO(x; q*)] + [ELBO(x; q*) − ELBO(x; q)]
                                               approximation gap          amortisation gap

q is what the encoder says about x, q* the best Gaussian with a diagonal covariance *for this x*: the family is to blame
for the first part, the encoder for the second. log p(x) and E_q[log p(x|z)] are computed by quadrature
(``LatentModel``), so both parts come with numerical errors and without sampling noise.

q* is found by Newton's method on the ELBO. With z = μ + σu, u ~ N(0, I), and l = log p(x|z), its derivatives need none
of the decoder (Bonnet's and Price's theorems), so kinks do no harm:

    ∂_μ E l = E[l u]/σ,      ∂²_μ E l = E[l (uuᵀ − I)]/σσᵀ,      ∂_{log σ} E l = E[l (u² − 1)]

The approximation gap is then what *this* search leaves: an upper bound of the least one, and the amortisation gap a
lower bound, to within ``shortfall``, the gain that one more Newton step promises. A posterior with several modes has
several locally best Gaussians; the search starts from the encoder's q and from the posterior's moments.

References:
    Inference suboptimality in variational autoencoders (Cremer et al., 2018), https://arxiv.org/abs/1801.03558
    Importance weighted autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519
    The variational Gaussian approximation revisited (Opper, Archambeau, 2009),
    https://doi.org/10.1162/neco.2008.08-07-592

>>> model = LatentModel(lambda z: 2.0 * z, 1, noise=1.0)  # posterior N(0.4 x, 0.2)
>>> gap = elbo_gap(model, [[1.0]], [[0.4]], [[0.2]])  # the encoder knows it
>>> float(gap.gap[0].round(10)) + 0.0, float(gap.log_prob[0].round(10))
(0.0, -1.8236574894)
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jaxtyping import Float64
from scipy.special import logsumexp, ndtri, stdtrit

from divergences import Estimate, InputError
from divergences.checks import ArrayLike, as_count, as_generator
from toygen.latent_model import LatentModel, Posterior

__all__ = ["ElboGap", "elbo_gap", "importance_bound", "importance_draws", "mean_of"]

if TYPE_CHECKING:
    _Model: TypeAlias = LatentModel
else:
    # What users hand in is checked here, in words.
    _Model = Any

_LEVEL = 0.95
_STEPS = 60
_LOG_2PI = float(np.log(2 * np.pi))
# Nodes per axis for the search, in standard deviations of q: the composite rule does not mind kinks.
_PANELS, _REACH = {1: 16, 2: 8}, 8.0


@dataclass(frozen=True)
class ElboGap:
    """The ELBO of n points and what it misses, in nats; ``mean`` averages a part over the points.

    Attributes:
        log_prob: log p(x), exact, shape (n,).
        reconstruction: E_q[log p(x|z)], exact.
        rate: KL(q ‖ p(z)), closed form.
        gap: log p(x) − ELBO = KL(q ‖ p(z|x)).
        approximation: what is left of the gap with the best Gaussian for each point.
        amortisation: what the encoder loses against that.
        error: numerical error of each of the parts above, an estimate.
        shortfall: what the search for the best Gaussian may have left on the table.
        best_mean: of q*, shape (n, k).
        best_variance: of q*, shape (n, k).
    """

    log_prob: Float64[np.ndarray, " n"]
    reconstruction: Float64[np.ndarray, " n"]
    rate: Float64[np.ndarray, " n"]
    gap: Float64[np.ndarray, " n"]
    approximation: Float64[np.ndarray, " n"]
    amortisation: Float64[np.ndarray, " n"]
    error: Float64[np.ndarray, " n"]
    shortfall: Float64[np.ndarray, " n"]
    best_mean: Float64[np.ndarray, "n k"]
    best_variance: Float64[np.ndarray, "n k"]

    @property
    def elbo(self) -> Float64[np.ndarray, " n"]:
        """Reconstruction − rate."""
        return self.reconstruction - self.rate

    def mean(self, part: str) -> Estimate:
        """Mean of a part over the points, with the 95 % interval of the mean over the law they were drawn from.

        Raises:
            InputError: no such part.
        """
        names = [field.name for field in fields(self) if not field.name.startswith("best")] + ["elbo"]
        if part not in names:
            raise InputError(f"part must be one of {', '.join(names)}; it is {part!r}.")
        values = getattr(self, part)
        return mean_of(values, float(self.error.mean()))


def elbo_gap(model: _Model, x: ArrayLike, mean: ArrayLike, variance: ArrayLike, *, tol: Any = None) -> ElboGap:
    """Log p(x) − ELBO, and its two parts.

    Args:
        model: decoder and noise; latents of one or two dimensions.
        x: points (n, d).
        mean: the encoder's, shape (n, k).
        variance: the encoder's, shape (n, k).
        tol: handed to the quadratures.

    Raises:
        InputError: no ``LatentModel``, latents of more dimensions, or shapes that do not fit.
    """
    _check_model(model)
    found = model.expected_log_likelihood(x, mean, variance, tol=tol)
    points = np.asarray(x, dtype=np.float64).reshape(len(found.value), -1)
    center = np.asarray(mean, dtype=np.float64).reshape(len(points), -1)
    spread = np.asarray(variance, dtype=np.float64).reshape(len(points), -1)
    exact = model.posterior(points, tol=tol)
    rate = _rate(center, spread)
    best = found.value - rate
    start = best.copy()
    best_center, best_spread = center.copy(), spread.copy()
    error = exact.error + found.error
    shortfall = np.full(len(points), np.inf)
    for first, second in ((center, spread), _moments(exact)):
        new_center, new_spread, left = _search(model, points, first, second)
        reached = model.expected_log_likelihood(points, new_center, new_spread, tol=tol)
        value = reached.value - _rate(new_center, new_spread)
        better = (value > best) | (shortfall == np.inf)
        best = np.where(better, np.maximum(value, best), best)
        best_center = np.where((value >= best)[:, None], new_center, best_center)
        best_spread = np.where((value >= best)[:, None], new_spread, best_spread)
        shortfall = np.where(better, left, shortfall)
        error = np.maximum(error, exact.error + reached.error)
    return ElboGap(
        log_prob=exact.log_prob,
        reconstruction=found.value,
        rate=rate,
        gap=exact.log_prob - start,
        approximation=exact.log_prob - best,
        amortisation=best - start,
        error=error,
        shortfall=shortfall,
        best_mean=best_center,
        best_variance=best_spread,
    )


def importance_bound(
    model: _Model,
    x: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    *,
    samples: Any,
    repeats: Any = 100,
    rng: Any,
) -> Estimate:
    """E[log (1/m) Σ w_i], the IWAE bound on the mean of log p(x), by simulation; latents of any dimension.

    Args:
        model: decoder and noise.
        x: points (n, d).
        mean: the encoder's, shape (n, k).
        variance: the encoder's, shape (n, k).
        samples: m; 1 is the ELBO.
        repeats: independent draws per point, at least 2.
        rng: of the draws.

    Returns:
        The mean over the points, with a 95 % interval over the draws (the points are taken as given).

    Raises:
        InputError: no ``LatentModel``, shapes that do not fit, or a count below its least.
    """
    draws = importance_draws(model, x, mean, variance, samples=samples, repeats=repeats, rng=rng)
    means = draws.mean(axis=1)
    half = float(ndtri((1 + _LEVEL) / 2)) * float(means.std(ddof=1)) / np.sqrt(len(draws))
    m = as_count(samples, "samples")
    return Estimate(float(means.mean()), half, level=_LEVEL, method=f"IWAE bound, m = {m}", n=draws.size * m)


def importance_draws(
    model: _Model,
    x: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    *,
    samples: Any,
    repeats: Any,
    rng: Any,
) -> Float64[np.ndarray, "r n"]:
    """Log (1/m) Σ w_i, point by point and draw by draw; the arguments are those of ``importance_bound``."""
    _check_model(model)
    m, repeats = as_count(samples, "samples"), as_count(repeats, "repeats", minimum=2)
    points, center, sd = model.check_gaussians(x, mean, variance)
    generator = as_generator(rng)
    draws = np.empty((repeats, len(points)))
    for i in range(repeats):
        u = generator.standard_normal((len(points), m, model.latent_dim))
        z = center[:, None] + sd[:, None] * u
        score = model.score_nodes(points[:, None], z)
        log_weight = score - 0.5 * (z**2).sum(axis=2) + 0.5 * (u**2).sum(axis=2) + np.log(sd).sum(axis=1)[:, None]
        draws[i] = logsumexp(log_weight, axis=1) - np.log(m)
    return draws


def _check_model(model: Any) -> None:
    if not isinstance(model, LatentModel):
        raise InputError(f"model must be a LatentModel, such as ensemble.model(0); it is {type(model).__name__}.")


def mean_of(values: Float64[np.ndarray, " n"], numerical: float) -> Estimate:
    """The mean of independent values, with Student's 95 % interval and their numerical error on top."""
    n, half = len(values), np.inf
    if n > 1:
        half = float(stdtrit(n - 1, (1 + _LEVEL) / 2)) * float(values.std(ddof=1)) / np.sqrt(n)
    return Estimate(float(values.mean()), half + numerical, level=_LEVEL, method="mean over points", n=n)


def _rate(mean: np.ndarray, variance: np.ndarray) -> Float64[np.ndarray, " n"]:
    """KL(N(mean, diag variance) ‖ N(0, I))."""
    return 0.5 * (mean**2 + (variance - 1) - np.log(variance)).sum(axis=1)


def _moments(exact: Posterior) -> tuple[np.ndarray, np.ndarray]:
    """The posterior's means and variances."""
    return exact.mean, np.maximum(np.diagonal(exact.cov, axis1=1, axis2=2), 1e-300)


def _search(
    model: LatentModel, x: np.ndarray, mean: np.ndarray, variance: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Newton's method from a Gaussian per point: mean and variance of the best one, and what a step still promises."""
    u, w = _standard_rule(model.latent_dim)
    k = model.latent_dim
    eye = np.eye(k)

    def look(rows: np.ndarray, center: np.ndarray, sd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        score = model.score_nodes(x[rows, None], center[:, None] + sd[:, None] * u)
        return score, score @ w - _rate(center, sd**2)

    center, sd = mean.copy(), np.sqrt(variance)
    damping = np.ones(len(x))
    promise = np.full(len(x), np.inf)
    alive = np.arange(len(x))
    score, value = look(alive, center, sd)
    for _ in range(_STEPS):
        own, m, s = score[alive], center[alive], sd[alive]
        weighted = (own - own.max(axis=1, keepdims=True)) * w  # E[u] = E[uuᵀ − I] = 0: a constant may go
        slope = weighted @ u / s - m
        bend = (np.einsum("nq,qi,qj->nij", weighted, u, u) - weighted.sum(axis=1)[:, None, None] * eye) / (
            s[:, :, None] * s[:, None]
        )
        # In log σ: the slope is E[l (u² − 1)] + 1 − σ², and the fixed point 1/σ² = 1 − ∂²E l.
        curvature = 1 - np.einsum("nii->ni", bend)
        pull = 1 - s**2 * curvature
        hessian = eye - bend
        lowest = np.linalg.eigvalsh(hessian)[:, 0]
        safe = hessian + np.maximum(0.05 - lowest, 0.0)[:, None, None] * eye
        move = np.linalg.solve(safe, slope[:, :, None])[:, :, 0]
        target = np.clip(0.5 * np.log1p(np.clip(pull / np.maximum(s**2 * curvature, 0.1), -0.9, 10.0)), -1.0, 1.0)
        promise[alive] = 0.5 * np.abs((slope * move).sum(axis=1)) + 0.25 * (pull**2).sum(axis=1)
        step = damping[alive, None]
        new_score, new_value = look(alive, m + step * move, s * np.exp(step * target))
        better = new_value > value[alive]
        moved = alive[better]
        center[moved], sd[moved] = (m + step * move)[better], (s * np.exp(step * target))[better]
        score[moved], value[moved] = new_score[better], new_value[better]
        damping[alive] = np.where(better, np.minimum(1.0, 2 * damping[alive]), damping[alive] / 4)
        alive = alive[(promise[alive] > 1e-13) & (damping[alive] > 1e-8)]
        if len(alive) == 0:
            break
    return center, sd**2, promise


def _standard_rule(dim: int) -> tuple[Float64[np.ndarray, "q k"], Float64[np.ndarray, " q"]]:
    """Composite Gauss-Legendre nodes for E under N(0, I), weights normalised."""
    count = _PANELS[dim]
    node, weight = np.polynomial.legendre.leggauss(6)
    edges = np.linspace(-_REACH, _REACH, count + 1)
    width = edges[1] - edges[0]
    places = (edges[:-1, None] + width * (node + 1) / 2).ravel()
    masses = np.tile(weight, count) * np.exp(-0.5 * places**2)
    masses /= masses.sum()
    if dim == 1:
        return places[:, None], masses
    grid = np.stack(np.meshgrid(places, places, indexing="ij"), axis=-1).reshape(-1, 2)
    joint = np.outer(masses, masses).ravel()
    # The corners weigh nothing.
    matters = joint > 1e-14
    return grid[matters], joint[matters]
