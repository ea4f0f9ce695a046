r"""Posterior collapse: which latents carry information, how much, and with what certainty.

An encoder that has given up on a latent says the prior whatever x is: no rate, no information, mean constant. Measured
from what it says about n points, q_i = N(μ_i, diag σ_i²):

* **activity** of a unit: Var_x μ_j(x). Active above 0.01, the threshold of the reference, where activities were found
  to be either far above or far below;
* **rate** of a unit: E_x KL(q(z_j|x) ‖ p(z_j)), closed form;
* **information** I_q(x; z) = E_x KL(q(z|x) ‖ q(z)), q(z) = (1/n) Σ_i q_i; at most log n, and at most the rate:

      rate = I_q(x; z) + KL(q(z) ‖ p(z))

  the second part, the **aggregate KL**, is how far the codes as a whole are from the prior. It is rate that informs
  about nothing, and why draws from the prior may decode to nonsense ("holes").

Activities and rates have intervals over the law of the points; the information is that of these n points, with an
interval over the draws of z.

References:
    Importance weighted autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519, sec. 4.3 (active units)
    ELBO surgery (Hoffman, Johnson, 2016), http://approximateinference.org/accepted/HoffmanJohnson2016.pdf
    Don't blame the ELBO! (Lucas et al., 2019), https://arxiv.org/abs/1911.02469

>>> rng = np.random.default_rng(0)
>>> mean = np.column_stack([rng.normal(0.0, 0.9, 400), np.zeros(400)])
>>> variance = np.column_stack([np.full(400, 0.19), np.ones(400)])
>>> report = posterior_collapse(mean, variance, rng=rng)
>>> report.verdict, [unit.verdict for unit in report.units]
('partial', ['active', 'collapsed'])
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logsumexp, ndtri, stdtrit

from divergences import Estimate, InputError
from divergences.checks import ArrayLike, as_array, as_generator, as_number, as_points
from toygen.elbo_gap import mean_of

__all__ = ["CollapseReport", "LatentUnit", "posterior_collapse"]

_LEVEL = 0.95
_DRAWS = 10_000
_BLOCK = 4_000_000
_FREEDOM = 2.5


@dataclass(frozen=True)
class LatentUnit:
    """One latent dimension.

    Attributes:
        activity: Var_x E_q[z_j], 95 %.
        rate: E_x KL(q(z_j|x) ‖ p(z_j)) in nats, 95 %.
        verdict: "active", "collapsed", or "undecided" where the interval of the activity holds the threshold.
    """

    activity: Estimate
    rate: Estimate
    verdict: str


@dataclass(frozen=True)
class CollapseReport:
    """Posterior collapse of one encoder on n points.

    Attributes:
        units: one per latent dimension.
        rate: E_x KL(q(z|x) ‖ p(z)), over the law of the points, 95 %.
        information: I_q(x; z) of these points, over the draws, 95 %; at most log n.
        aggregate_kl: KL(q(z) ‖ p(z)) for these points, over the draws, 95 %.
        verdict: "none" (all units active), "partial", "collapsed" (no unit active), or "undecided".
    """

    units: tuple[LatentUnit, ...]
    rate: Estimate
    information: Estimate
    aggregate_kl: Estimate
    verdict: str

    @property
    def active(self) -> int:
        """How many units are active for certain."""
        return sum(unit.verdict == "active" for unit in self.units)


def posterior_collapse(mean: ArrayLike, variance: ArrayLike, *, threshold: Any = 0.01, rng: Any) -> CollapseReport:
    """Judge an encoder by what it says about n points.

    Args:
        mean: of q(z|x), shape (n, k), n ≥ 8.
        variance: of q(z|x), shape (n, k).
        threshold: least activity of an active unit.
        rng: of the draws for the information.

    Raises:
        InputError: shapes that do not fit, too few points, or a variance that is not positive.
    """
    center = as_points(mean, "mean", minimum=8)
    spread = as_array(variance, "variance")
    spread = spread[:, None] if spread.ndim == 1 else spread
    limit = as_number(threshold, "threshold", above=0.0)
    if spread.shape != center.shape or not ((spread > 0) & np.isfinite(spread)).all():
        raise InputError(
            f"variance must be positive and have the shape of mean, {center.shape}; it has shape {spread.shape}. An "
            "encoder without a variance has no posterior that could collapse."
        )
    rates = 0.5 * (center**2 + (spread - 1) - np.log(spread))
    units = []
    for axis in range(center.shape[1]):
        activity = variance_of(center[:, axis])
        low, high = activity.interval
        verdict = "active" if low > limit else "collapsed" if high <= limit else "undecided"
        units.append(LatentUnit(activity, mean_of(rates[:, axis], 0.0), verdict))
    information = _information(center, spread, as_generator(rng))
    total = float(rates.sum(axis=1).mean())
    return CollapseReport(
        units=tuple(units),
        rate=mean_of(rates.sum(axis=1), 0.0),
        information=information,
        aggregate_kl=Estimate(
            total - information.value, information.error, level=_LEVEL, method="rate − information", n=information.n
        ),
        verdict=_overall({unit.verdict for unit in units}),
    )


def _overall(verdicts: set[str]) -> str:
    if "undecided" in verdicts:
        return "undecided"
    if len(verdicts) == 2:
        return "partial"
    return "none" if "active" in verdicts else "collapsed"


def variance_of(values: np.ndarray) -> Estimate:
    """Of a law from n ≥ 3 values, with a 95 % interval that is honest for few of them.

    The jackknife of log s²: each value is left out in turn. To its variance is added 2/n², the least relative variance
    that s² has under any law (two spikes of equal height: the jackknife sees none of it where as many values lie on one
    as on the other). Student's quantile has as many degrees of freedom as values carry the spread, (Σd²)²/Σd⁴ of the
    jackknife's deviations d, at most n − 1 and at least 2.5.

    Covers, simulated, at n = 8, 20, 50, 200: normal 98, 98, 97, 96 %; uniform 99, 98, 97, 96 %; two narrow spikes 99,
    100, 100, 100 %; exponential 91, 93, 95, 96 %. Of heavier tails, less: what has not been drawn is not seen. Where
    all values are equal there is nothing to judge by, and the interval is [0, 0].
    """
    n = len(values)
    square = (values - values.mean()) ** 2
    total = float(square.sum())
    variance = total / (n - 1)
    if total == 0.0:
        return Estimate(0.0, 0.0, level=_LEVEL, method="variance", n=n, bounds=(0.0, 0.0), note="all values are equal")
    # Of s² without one value, relative to s². Where that one was all there is, hardly anything is left.
    without = np.maximum((1 - square / total * (n / (n - 1))) * ((n - 1) / (n - 2)), 1e-12)
    away = np.log(without) - np.log(without).mean()
    spread = float((away**2).sum())
    error = float(np.sqrt((n - 1) / n * spread + 2 / n**2))
    freedom = n - 1.0 if spread == 0 else float(np.clip(spread**2 / (away**4).sum(), _FREEDOM, n - 1))
    factor = float(np.exp(min(float(stdtrit(freedom, (1 + _LEVEL) / 2)) * error, 300.0)))
    low, high = variance / factor, variance * factor
    return Estimate(
        variance, high - variance, level=_LEVEL, method="variance, jackknife of its logarithm", n=n, bounds=(low, high)
    )


def _information(center: np.ndarray, spread: np.ndarray, rng: np.random.Generator) -> Estimate:
    """E log q(z|x)/q(z): the same number of draws for every point."""
    n, k = center.shape
    repeats = max(2, -(-_DRAWS // n))
    noise = rng.standard_normal((n, repeats, k))
    z = center[:, None] + np.sqrt(spread)[:, None] * noise
    log_scale = 0.5 * np.log(spread).sum(axis=1)
    own = -0.5 * (noise**2).sum(axis=2) - log_scale[:, None]
    flat = z.reshape(-1, k)
    mixed = np.empty(len(flat))
    rows = max(1, _BLOCK // n)
    for start in range(0, len(flat), rows):
        block = flat[start : start + rows]
        square = sum((block[:, axis, None] - center[:, axis]) ** 2 / spread[:, axis] for axis in range(k))
        mixed[start : start + rows] = logsumexp(-0.5 * square - log_scale, axis=1) - np.log(n)
    gain = own - mixed.reshape(n, repeats)
    error = float(np.sqrt((gain.var(axis=1, ddof=1) / repeats).sum())) / n
    return Estimate(
        float(gain.mean()),
        float(ndtri((1 + _LEVEL) / 2)) * error,
        level=_LEVEL,
        method="stratified Monte Carlo",
        n=n * repeats,
    )
