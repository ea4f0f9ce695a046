"""Learns one distribution from another: ensembles of GANs on targets whose truth is known.

>>> import numpy as np
>>> data = ring().sample(200, np.random.default_rng(0))
>>> ensemble = fit_gan(data, recipe=Recipe(width=8, chunk=2), members=2, steps=2, seed=0)
>>> ensemble.sampler(0)(5, np.random.default_rng(1)).shape
(5, 2)
"""

from toygen import objectives, penalties, targets
from toygen.layers import Affine, EnsembleLinear
from toygen.networks import MLP
from toygen.objectives import OBJECTIVES, Objective, flipped, flipped_half, minimax, non_saturating, wasserstein
from toygen.penalties import PENALTIES, Penalty, clip_weights, gradient_penalty, interpolate
from toygen.players import adam, gan, minibatches
from toygen.recipes import Recipe, recipe_for
from toygen.runs import GanEnsemble, GanRun, Progress, fit_gan
from toygen.sampler import Sampler
from toygen.targets import TARGETS, grid, ring, two_peaks
from toygen.train import Average, Step, Turn, single_thread, train

__all__ = [
    "Affine",
    "Average",
    "EnsembleLinear",
    "GanEnsemble",
    "GanRun",
    "MLP",
    "OBJECTIVES",
    "Objective",
    "PENALTIES",
    "Penalty",
    "Progress",
    "Recipe",
    "Sampler",
    "Step",
    "TARGETS",
    "Turn",
    "adam",
    "clip_weights",
    "fit_gan",
    "flipped",
    "flipped_half",
    "gan",
    "gradient_penalty",
    "grid",
    "interpolate",
    "minibatches",
    "minimax",
    "non_saturating",
    "objectives",
    "penalties",
    "recipe_for",
    "ring",
    "single_thread",
    "targets",
    "train",
    "two_peaks",
    "wasserstein",
]
