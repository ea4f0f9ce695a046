"""Distances between distributions, each with its error."""

from divergences.adapters import as_distribution
from divergences.distributions import Discrete, Gaussian, Mixture, Uniform
from divergences.errors import InputError, NoDensity, NotCertified, UnderResolved
from divergences.estimate import Estimate

__all__ = [
    "Discrete",
    "Estimate",
    "Gaussian",
    "InputError",
    "Mixture",
    "NoDensity",
    "NotCertified",
    "UnderResolved",
    "Uniform",
    "as_distribution",
]
