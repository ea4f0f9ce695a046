"""Distances between distributions, each number with its error.

Laws: ``Gaussian``, ``Uniform``, ``Mixture``, ``Discrete``, and ``as_distribution`` for what other libraries call one.
Divergences: ``kl``, ``jsd``, ``total_variation``, ``hellinger`` by ``Quadrature`` or ``MonteCarlo``; ``wasserstein``
with plan, potentials, certificate and critic. The GAN game: ``optimal_logit``, ``optimal_discriminator``,
``gan_value``. ``CLAIMS`` pairs the theory with two independent computations of each side.

Everything is in nats. The package imports neither torch nor POT until an optimal-transport problem needs solving.
"""

from divergences.adapters import as_distribution
from divergences.adversarial import gan_value, optimal_discriminator, optimal_logit
from divergences.claims import CLAIMS, Claim
from divergences.distributions import Box, Discrete, Distribution, Gaussian, Mixture, Uniform
from divergences.errors import InputError, NoDensity, NotCertified, UnderResolved
from divergences.estimate import Estimate
from divergences.expectation import MonteCarlo, Quadrature
from divergences.f_divergences import hellinger, jsd, kl, total_variation
from divergences.kantorovich import Critic
from divergences.wasserstein import Transport, wasserstein

__all__ = [
    "CLAIMS",
    "Box",
    "Claim",
    "Critic",
    "Discrete",
    "Distribution",
    "Estimate",
    "Gaussian",
    "InputError",
    "Mixture",
    "MonteCarlo",
    "NoDensity",
    "NotCertified",
    "Quadrature",
    "Transport",
    "UnderResolved",
    "Uniform",
    "as_distribution",
    "gan_value",
    "hellinger",
    "jsd",
    "kl",
    "optimal_discriminator",
    "optimal_logit",
    "total_variation",
    "wasserstein",
]
