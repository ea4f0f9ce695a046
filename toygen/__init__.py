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
from toygen.autoencoder_recipe import AutoencoderRecipe
from toygen.autoencoder_runs import AutoencoderEnsemble, AutoencoderProgress, AutoencoderRun, fit_autoencoder
from toygen.autoencoders import VQVAE, Autoencoder, Likelihood, Vae, Wae
from toygen.baselines import BASELINES, Baseline, gmm, histogram, kde, langevin, memorizer
from toygen.checkpoints import load_checkpoint, save_checkpoint
from toygen.chunks import MemberPlan
from toygen.codebook import Codebook, CodebookUse, codebook_use
from toygen.coins import SHARP, CoinRecipe, CoinRun, fit_sharp
from toygen.collapse import CollapseReport, posterior_collapse
from toygen.convolutions import EnsembleBatchNorm, EnsembleConv2d, EnsembleConvTranspose2d, EnsembleLayerNorm
from toygen.critic_view import CriticView
from toygen.curves import Arc, CurveLaw
from toygen.elbo_gap import ElboGap, elbo_gap, importance_bound
from toygen.evidence import Evidence, evidence, mean_over_members
from toygen.latent_law import LatentLaw, bernoulli_law
from toygen.latent_model import LatentModel
from toygen.layers import Affine, EnsembleLinear, MinibatchFeatures, SpectralLinear
from toygen.lines import ParallelLines
from toygen.monitor import History, Readings, Truth, Yardstick, monitor
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
from toygen.vae_gan import VaeGan

__all__ = [
    "Affine",
    "Arc",
    "Autoencoder",
    "AutoencoderEnsemble",
    "AutoencoderProgress",
    "AutoencoderRecipe",
    "AutoencoderRun",
    "Average",
    "BASELINES",
    "Baseline",
    "Codebook",
    "CodebookUse",
    "CoinRecipe",
    "CoinRun",
    "CollapseReport",
    "CriticView",
    "CurveLaw",
    "ElboGap",
    "EnsembleBatchNorm",
    "EnsembleConv2d",
    "EnsembleConvTranspose2d",
    "EnsembleLayerNorm",
    "EnsembleLinear",
    "Evidence",
    "Film",
    "GanEnsemble",
    "GanRun",
    "GanSettings",
    "History",
    "LatentLaw",
    "LatentModel",
    "Likelihood",
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
    "Readings",
    "Recipe",
    "SHARP",
    "Sampler",
    "SpectralLinear",
    "Step",
    "TARGETS",
    "Truth",
    "Turn",
    "VQVAE",
    "Vae",
    "VaeGan",
    "Wae",
    "WganSettings",
    "Yardstick",
    "adam",
    "anisotropic",
    "bernoulli_law",
    "checkerboard",
    "clip_weights",
    "codebook_use",
    "elbo_gap",
    "embedded",
    "evidence",
    "fit_autoencoder",
    "fit_gan",
    "fit_sharp",
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
    "importance_bound",
    "interpolate",
    "kde",
    "langevin",
    "least_squares",
    "load_checkpoint",
    "mean_over_members",
    "memorizer",
    "minibatches",
    "minimax",
    "monitor",
    "non_saturating",
    "objectives",
    "parallel_lines",
    "penalties",
    "posterior_collapse",
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
