"""Distances between distributions, each number with its error.

Laws: ``Gaussian``, ``Uniform``, ``Mixture``, ``Discrete``, and ``as_distribution`` for what other libraries call one.
f-divergences (``kl``, ``jsd``, ``chi2``, ``renyi``, any ``f_divergence`` of the f-GAN table) by ``Quadrature`` or
``MonteCarlo``; ``wasserstein`` with plan, potentials, certificate and critic; estimators from samples alone
(``knn_kl``, ``mmd``, ``sinkhorn_divergence`` ...). The exact density of a generator's output: ``pushforward``; the best
Gaussian under each divergence: ``fit_gaussian``. The GAN game: ``optimal_logit``, ``optimal_discriminator``,
``gan_value``. ``CLAIMS`` pairs the theory with two independent computations of each side.

Everything is in nats. The package imports neither torch nor POT until an optimal-transport problem needs solving.
"""

from typing import TYPE_CHECKING, Any

from divergences.adapters import as_distribution
from divergences.adversarial import gan_regret, gan_value, optimal_discriminator, optimal_logit
from divergences.brackets import jsd_bracket, kl_bracket
from divergences.critics import CriticReport, dual_value, proves
from divergences.descent import Descent, descend
from divergences.distributions import Box, Discrete, Distribution, Gaussian, Mixture, Uniform
from divergences.errors import InputError, NoDensity, NotCertified, UnderResolved
from divergences.estimate import Estimate
from divergences.expectation import MonteCarlo, Quadrature
from divergences.f_divergences import (
    alpha_divergence,
    chi2,
    f_divergence,
    hellinger,
    js_distance,
    jsd,
    kl,
    renyi,
    total_variation,
)
from divergences.fits import Fit, Minimum, fit_gaussian
from divergences.from_samples import (
    LogRatio,
    Null,
    TwoSampleEstimate,
    dv_bound,
    energy_distance,
    fit_log_ratio,
    knn_jsd,
    knn_kl,
    mmd,
    nwj_bound,
    permutation_test,
    sinkhorn_divergence,
    sliced_wasserstein,
)
from divergences.generators import GENERATORS, Generator
from divergences.gradients import LocationFamily, ScaleFamily, generator_gradient
from divergences.kantorovich import Critic
from divergences.population import WassersteinBracket, stratified_sample, wasserstein_bracket
from divergences.pushforward import pushforward
from divergences.rescalings import RESCALINGS, Rescaling, rescale_jsd
from divergences.slopes import lipschitz
from divergences.wasserstein import Transport, wasserstein

if TYPE_CHECKING:
    from divergences.claims import CLAIMS, Claim

__all__ = [
    "Box",
    "CLAIMS",
    "Claim",
    "Critic",
    "CriticReport",
    "Descent",
    "Discrete",
    "Distribution",
    "Estimate",
    "Fit",
    "GENERATORS",
    "Gaussian",
    "Generator",
    "InputError",
    "LocationFamily",
    "LogRatio",
    "Minimum",
    "Mixture",
    "MonteCarlo",
    "NoDensity",
    "NotCertified",
    "Null",
    "Quadrature",
    "RESCALINGS",
    "Rescaling",
    "ScaleFamily",
    "Transport",
    "TwoSampleEstimate",
    "UnderResolved",
    "Uniform",
    "WassersteinBracket",
    "alpha_divergence",
    "as_distribution",
    "chi2",
    "descend",
    "dual_value",
    "dv_bound",
    "energy_distance",
    "f_divergence",
    "fit_gaussian",
    "fit_log_ratio",
    "gan_regret",
    "gan_value",
    "generator_gradient",
    "hellinger",
    "js_distance",
    "jsd",
    "jsd_bracket",
    "kl",
    "kl_bracket",
    "knn_jsd",
    "knn_kl",
    "lipschitz",
    "mmd",
    "nwj_bound",
    "optimal_discriminator",
    "optimal_logit",
    "permutation_test",
    "proves",
    "pushforward",
    "renyi",
    "rescale_jsd",
    "sinkhorn_divergence",
    "sliced_wasserstein",
    "stratified_sample",
    "total_variation",
    "wasserstein",
    "wasserstein_bracket",
]


def __getattr__(name: str) -> Any:
    # The claims bring all of scipy with them, which whoever wants a divergence need not wait for.
    if name in ("CLAIMS", "Claim"):
        from divergences import claims

        return getattr(claims, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
