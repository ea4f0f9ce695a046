r"""What a trained VAE is worth, in nats per held-out point, each number beside what it is to be compared with.

    −H(p)  ≥  E log q(x)  ≥  E log (1/m) Σ w_i  ≥  ELBO         (p the target, q(x) the member's exact law)

The four are averages over the same points. The steps between them are averaged point by point, which leaves most of
the sampling error out:

* **kl** E[log p(x) − log q(x)]: an estimate of KL(p ‖ q); a perfect model has none;
* **approximation** and **amortisation**: the two parts of log q(x) − ELBO (``toygen.elbo_gap``);
* **tightening**: what m importance samples regain of it.

log q(x) and the ELBO are computed by quadrature over the latents, the IWAE bound by simulation: the order above is
measured, not built in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from divergences import Estimate, InputError
from divergences.checks import ArrayLike, as_count, as_generator, as_points
from divergences.distributions import Distribution
from toygen.autoencoder_runs import AutoencoderEnsemble
from toygen.collapse import CollapseReport, posterior_collapse
from toygen.elbo_gap import ElboGap, elbo_gap, importance_draws, mean_of

__all__ = ["Evidence", "evidence", "mean_over_members"]

_LEVEL = 0.95
_TOL = {1: 1e-8, 2: 1e-4}


@dataclass(frozen=True)
class Evidence:
    """One member on n held-out points: means in nats per point, each with its 95 % interval over the points.

    Attributes:
        member: its index under the seed.
        log_prob: log q(x), exact.
        bound: the IWAE bound of ``samples`` importance samples.
        elbo: exact.
        reconstruction: E_q[log p(x|z)], exact.
        rate: KL(q(z|x) ‖ p(z)).
        gap: log q(x) − ELBO, point by point.
        approximation: the part of it that the best Gaussian leaves.
        amortisation: the part of it that is the encoder's.
        tightening: IWAE bound − ELBO, point by point.
        perfect: log p(x), what a perfect model would score on these points; None without a target.
        kl: log p(x) − log q(x), point by point, an estimate of KL(p ‖ q); None without a target.
        collapse: which latents are active.
        samples: of the bound.
        points: what was asked for, point by point.
    """

    member: int
    log_prob: Estimate
    bound: Estimate
    elbo: Estimate
    reconstruction: Estimate
    rate: Estimate
    gap: Estimate
    approximation: Estimate
    amortisation: Estimate
    tightening: Estimate
    perfect: Estimate | None
    kl: Estimate | None
    collapse: CollapseReport
    samples: int
    points: ElboGap


def evidence(
    ensemble: AutoencoderEnsemble,
    x: ArrayLike,
    place: Any = 0,
    *,
    target: Distribution | None = None,
    samples: Any = 16,
    repeats: Any = 20,
    tol: Any = None,
    rng: Any,
) -> Evidence:
    """Score one member on points it was not trained on.

    Args:
        ensemble: of kind "vae" or "iwae", with one or two latents.
        x: points (n, d), n ≥ 8.
        place: of the member, 0 … K − 1.
        target: the law of the points, if it is known.
        samples: m of the IWAE bound.
        repeats: how often the bound is drawn for each point.
        tol: of the quadratures, see ``LatentModel.posterior``; None is 1e-8 for one latent and 1e-4 for two.
        rng: of the draws.

    Raises:
        InputError: another kind, more latents, too few points, or a target that gives some of the points no density.

    >>> from toygen.autoencoder_runs import AutoencoderRecipe, fit_autoencoder
    >>> from divergences import Gaussian
    >>> target, rng = Gaussian(0.0, 1.0), np.random.default_rng(0)
    >>> recipe = AutoencoderRecipe(latent_dim=1, width=4, chunk=1)
    >>> ensemble = fit_autoencoder(target.sample(200, rng), recipe=recipe, members=1, steps=20)
    >>> found = evidence(ensemble, target.sample(50, rng), target=target, rng=rng)
    >>> bool(found.elbo.value <= found.bound.value <= found.log_prob.value)
    True
    """
    points = as_points(x, "x", minimum=8)
    m, generator = as_count(samples, "samples"), as_generator(rng)
    model = ensemble.model(place)
    mean, variance = ensemble.encode(points, place)
    aim = _TOL.get(model.latent_dim) if tol is None else tol
    gap = elbo_gap(model, points, mean, variance, tol=aim)
    draws = importance_draws(model, points, mean, variance, samples=m, repeats=repeats, rng=generator)
    bound = draws.mean(axis=0)  # independent from point to point: its noise is part of what the interval sees
    numerical = float(gap.error.mean())
    truth = None
    if target is not None:
        truth = target.log_prob(points)
        if not np.isfinite(truth).all():
            raise InputError("target gives some of the points no density: it is not their law.")
    return Evidence(
        member=ensemble.members[place],
        log_prob=gap.mean("log_prob"),
        bound=mean_of(bound, 0.0),
        elbo=gap.mean("elbo"),
        reconstruction=gap.mean("reconstruction"),
        rate=gap.mean("rate"),
        gap=gap.mean("gap"),
        approximation=gap.mean("approximation"),
        amortisation=gap.mean("amortisation"),
        tightening=mean_of(bound - gap.elbo, numerical),
        perfect=None if truth is None else mean_of(truth, 0.0),
        kl=None if truth is None else mean_of(truth - gap.log_prob, numerical),
        collapse=posterior_collapse(mean, variance, rng=generator),
        samples=m,
        points=gap,
    )


def mean_over_members(values: Sequence[Estimate]) -> Estimate:
    """The mean over trained members, with Student's 95 % interval over the law of the seeds.

    What all members share, the training data and the points they are scored on, is taken as given.

    Raises:
        InputError: fewer than two members.

    >>> mean_over_members([Estimate(1.0, 0.1), Estimate(2.0, 0.1), Estimate(3.0, 0.1)]).error.__round__(3)
    2.484
    """
    if len(values) < 2:
        raise InputError(f"an interval over members takes at least two of them; there are {len(values)}.")
    numbers = np.array([float(value) for value in values])
    half = float(stdtrit(len(numbers) - 1, (1 + _LEVEL) / 2)) * float(numbers.std(ddof=1)) / np.sqrt(len(numbers))
    return Estimate(float(numbers.mean()), half, level=_LEVEL, method="mean over members, Student", n=len(numbers))
