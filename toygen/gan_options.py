"""What ``python -m toygen TARGET`` can be told, and the recipe that follows from it."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from divergences.checks import as_count, as_number, one_of
from divergences.errors import InputError
from toygen.coins import SHARP
from toygen.command_line import Parser
from toygen.objectives import OBJECTIVES
from toygen.penalties import PENALTIES
from toygen.recipes import RECIPES, Recipe, recipe_for
from toygen.targets import TARGETS
from toygen.variants import variant

__all__ = ["chosen_recipe", "gan_parser"]

_RECIPES: dict[str, Recipe] = {**RECIPES, "sharp": SHARP}

_DESCRIPTION = """\
Train an ensemble of GANs on a distribution that is known exactly, and count how many of them get it right.

One GAN is an anecdote; an ensemble of 32, each from its own seed, is a measurement: "31 of 32 cover all 8 modes" is a
share with an interval. All members are trained side by side in one pass.
"""

_EXAMPLES = """\
examples:
  python -m toygen ring --quick --steps 2000 --out runs/ring
      eight Gaussians on a circle, a first look: a few minutes. Open runs/ring/contact-sheet.png.
  python -m toygen grid --quick --penalty none --out runs/collapse --gif
      25 Gaussians without a penalty: members lose modes. runs/collapse/training.gif shows how.
  python -m toygen two_peaks --objective wasserstein --quick --out runs/peaks
      a Wasserstein critic on the line.
  python -m toygen two_peaks --quick --latents 1 --steps 2000 --monitor 100 --out runs/truth
      W1, JSD and regret of every member beside the losses, while they learn: runs/truth/truth.csv.
  python -m toygen grid --out runs/grid
      the full recipe, sharp modes, hours for 32 members; --chunk 8 --members 8 takes a quarter of that.
  python -m toygen grid --out runs/grid --resume
      goes on where an interrupted run stopped: the result is the same to the last bit.
  python -m toygen atlas --help
      how often does a GAN lose a mode, and which part of the recipe decides?
  python -m toygen autoencoder --help
      AE, VAE, IWAE, WAE, VQ-VAE, VAE/GAN: exact likelihoods, and what the ELBO misses.
  python -m toygen --claims
      what is said about GANs, checked on trained networks: minutes.
  mintmark runs/ring/generated.npz --train runs/ring/train.npz --test runs/ring/test.npz --modes runs/ring/modes.npz
      audits what was generated.

recipes:
  standard            covers every mode of ring and grid; --quick is its short form
  sharp               generators with coins: covers them, and 98 of 100 samples are good (3000 steps on the ring, 8000
                      on the grid)
  gan_algorithm_1     the first algorithm of the GAN paper: momentum SGD, minimax loss
  wgan_algorithm_1    the first algorithm of the WGAN paper: RMSProp at 5e-5, weights clipped at 0.01, five moves of f

what is written to --out:
  generated.npz       points of the first healthy member      generated-all.npz   of all healthy members
  train.npz test.npz  the data, and as many held-out points   modes.npz           the modes, if they are Gaussians
  sampler.npz         the first generator, for toygen.Sampler contact-sheet.png   every member in a picture
  history.npz .csv    losses, by step and member              run.json            seeds, versions, the whole recipe
  training.gif        with --gif: the training as a film      truth.csv           with --monitor: what is true of every
                                                              member, with errors, beside what is perfect
"""


def gan_parser() -> Parser:
    """Of the options."""
    parser = Parser(
        prog="python -m toygen",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "target", metavar="TARGET", help=f"{', '.join(TARGETS)}, or a law of scipy.stats: scipy:gamma:2.0"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    game = parser.add_argument_group("the game")
    game.add_argument(
        "--recipe", default="standard", metavar="NAME", help=f"{', '.join(_RECIPES)} (default standard); see below"
    )
    game.add_argument(
        "--objective", metavar="NAME", help=f"{', '.join(OBJECTIVES)}; default: the recipe's (standard: non_saturating)"
    )
    game.add_argument(
        "--penalty",
        metavar="NAME",
        help=f"{', '.join(PENALTIES)}; default: the recipe's; if --objective makes a critic of a logit or the other "
        "way round, the usual one of the objective (critics: gradient_penalty, logits: r1_r2). Its weight follows it",
    )
    game.add_argument("--pack", type=int, metavar="M", help="points that D decides on at once, as PacGAN (default 1)")
    game.add_argument(
        "--latents", type=int, metavar="D", help="coordinates of z (default: the recipe's; standard 2, sharp 10)"
    )
    game.add_argument("--learning-rate", type=float, metavar="R", help="of both players at the start")
    game.add_argument("--quick", action="store_true", help="narrow networks, higher learning rate: less sharp, sooner")
    game.add_argument(
        "--width", type=int, help="of every hidden layer (default: the recipe's; standard 128, --quick 32)"
    )
    game.add_argument("--batch", type=int, default=64, help="points per minibatch (default 64)")
    size = parser.add_argument_group("how much")
    size.add_argument("--members", type=int, default=32, metavar="K", help="how many GANs (default 32)")
    size.add_argument("--steps", type=int, default=20_000, metavar="N", help="moves of the generator (default 20000)")
    size.add_argument("--seed", type=int, default=0, metavar="S", help="of the whole ensemble (default 0)")
    size.add_argument(
        "--train-size", type=int, default=10_000, help="training points, and as many test points (default 10000)"
    )
    size.add_argument("--samples", type=int, default=10_000, help="points drawn of each member (default 10000)")
    how = parser.add_argument_group("how")
    how.add_argument("--device", default="auto", metavar="NAME", help="auto (CUDA if there is one), cpu or cuda")
    how.add_argument(
        "--chunk",
        type=int,
        default=32,
        metavar="C",
        help="members trained side by side (default 32); fewer than C members cost as much as C. Results depend on it",
    )
    how.add_argument(
        "--resume",
        action="store_true",
        help="go on where an interrupted run in DIR stopped; one that is finished stays as it is",
    )
    how.add_argument(
        "--checkpoint",
        type=int,
        default=1000,
        metavar="N",
        help="steps between two checkpoints (default 1000; 0: none)",
    )
    how.add_argument(
        "--monitor",
        type=int,
        default=0,
        metavar="N",
        help="every N steps, write the truth to truth.csv: modes, exact distances, slopes, by member, and JSD and "
        "regret where there are as many latents as coordinates (default 0: never; 100 takes a quarter more time)",
    )
    how.add_argument("--gif", action="store_true", help="film the first members while they learn (1 or 2 dimensions)")
    return parser


def chosen_recipe(options: argparse.Namespace) -> Recipe:
    """What the options of the game say.

    Raises:
        InputError: an unknown name, a number out of range, or what does not go together.
    """
    known = _RECIPES[one_of(options.recipe, "--recipe", list(_RECIPES))]
    if options.recipe == "standard":
        recipe = recipe_for(known.objective if options.objective is None else options.objective, options.penalty)
        recipe = recipe.quick() if options.quick else recipe
    elif options.quick:
        raise InputError(f"--quick is the short form of the standard recipe; --recipe is {options.recipe!r}.")
    else:
        for name, names in (("objective", OBJECTIVES), ("penalty", PENALTIES)):
            if getattr(options, name) is not None:
                one_of(getattr(options, name), name, list(names))
        try:
            recipe = variant(known, objective=options.objective, penalty=options.penalty)
        except InputError as error:
            raise InputError(
                f"--penalty {options.penalty} does not go with --recipe {options.recipe}: {error}"
            ) from error
    given: dict[str, Any] = {}
    for name, part in (("width", "width"), ("pack", "pack"), ("latents", "latent_dim")):
        if (value := getattr(options, name)) is not None:
            given[part] = as_count(value, f"--{name}")
    if options.learning_rate is not None:
        given["learning_rate"] = as_number(options.learning_rate, "--learning-rate", above=0.0)
    return replace(recipe, **given, batch=options.batch, chunk=options.chunk)
