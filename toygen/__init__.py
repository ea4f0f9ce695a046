"""Learns one distribution from another: ensembles of GANs on targets whose truth is known.

>>> import numpy as np
>>> data = ring().sample(200, np.random.default_rng(0))
>>> ensemble = fit_gan(data, recipe=Recipe(width=8, chunk=2), members=2, steps=2, seed=0)
>>> ensemble.sampler(0)(5, np.random.default_rng(1)).shape
(5, 2)
"""

from toygen import objectives, penalties, targets
from toygen.algorithms import GanSettings, WganSettings, gan_algorithm_1, wgan_algorithm_1
from toygen.animation import Film
from toygen.baselines import BASELINES, Baseline, gmm, histogram, kde, langevin, memorizer
from toygen.checkpoints import load_checkpoint, save_checkpoint
from toygen.chunks import MemberPlan
from toygen.critic_view import CriticView
from toygen.curves import Arc, CurveLaw
from toygen.layers import Affine, EnsembleLinear, MinibatchFeatures, SpectralLinear
from toygen.lines import ParallelLines
from toygen.networks import MLP
from toygen.objectives import (
    OBJECTIVES,
    Objective,
    flipped,
    flipped_half,
    hinge,
    least_squares,
    minimax,
    non_saturating,
    relativistic,
    relativistic_average,
    wasserstein,
)
from toygen.optimizers import MemberOptimizer
from toygen.penalties import PENALTIES, Penalty, clip_weights, gradient_penalty, interpolate
from toygen.players import adam, gan, minibatches
from toygen.recipes import RECIPES, Recipe, recipe_for
from toygen.runs import GanEnsemble, GanRun, Progress, fit_gan
from toygen.sampler import Sampler
from toygen.targets import (
    TARGETS,
    anisotropic,
    checkerboard,
    embedded,
    grid,
    imbalanced,
    parallel_lines,
    ring,
    scipy_law,
    spiral,
    swiss_roll,
    two_moons,
    two_peaks,
    uniform,
)
from toygen.train import Average, Step, Turn, single_thread, train

__all__ = [
    "Affine",
    "Arc",
    "Average",
    "BASELINES",
    "Baseline",
    "CriticView",
    "CurveLaw",
    "EnsembleLinear",
    "Film",
    "GanEnsemble",
    "GanRun",
    "GanSettings",
    "MLP",
    "MemberOptimizer",
    "MemberPlan",
    "MinibatchFeatures",
    "OBJECTIVES",
    "Objective",
    "PENALTIES",
    "ParallelLines",
    "Penalty",
    "Progress",
    "RECIPES",
    "Recipe",
    "Sampler",
    "SpectralLinear",
    "Step",
    "TARGETS",
    "Turn",
    "WganSettings",
    "adam",
    "anisotropic",
    "checkerboard",
    "clip_weights",
    "embedded",
    "fit_gan",
    "flipped",
    "flipped_half",
    "gan",
    "gan_algorithm_1",
    "gmm",
    "gradient_penalty",
    "grid",
    "hinge",
    "histogram",
    "imbalanced",
    "interpolate",
    "kde",
    "langevin",
    "least_squares",
    "load_checkpoint",
    "memorizer",
    "minibatches",
    "minimax",
    "non_saturating",
    "objectives",
    "parallel_lines",
    "penalties",
    "recipe_for",
    "relativistic",
    "relativistic_average",
    "ring",
    "save_checkpoint",
    "scipy_law",
    "single_thread",
    "spiral",
    "swiss_roll",
    "targets",
    "train",
    "two_moons",
    "two_peaks",
    "uniform",
    "wasserstein",
    "wgan_algorithm_1",
]
