"""Where tensors live: everything a step needs lies on one device, shown without having a second one.

Torch's "meta" device has shapes and no numbers, so that training there proves nothing about results; but an elementwise
operation of a tensor there and one on the CPU is an error, as it would be on a GPU. (Random numbers, learning rates and
weights of penalties are made on the CPU and must all be carried over.)
"""

import dataclasses

import numpy as np
import pytest
import torch

from toygen import SHARP, AutoencoderRecipe, CoinRun, GanRun, recipe_for
from toygen.autoencoder_chunks import AutoencoderChunk
from toygen.chunks import Chunk
from toygen.penalties import PENALTIES
from toygen.recipes import Units

META = torch.device("meta")
DATA = np.random.default_rng(0).uniform(size=(100, 2))


@pytest.fixture(autouse=True)
def without_fused_kernels(monkeypatch):
    """The fused Adam has no kernel for shapes alone."""
    adam = torch.optim.Adam
    monkeypatch.setattr(torch.optim, "Adam", lambda *groups, **options: adam(*groups, **{**options, "fused": False}))


def check_steps(chunk):
    steps = list(chunk.train())
    assert len(steps) == 3
    assert all(losses.device == META for step in steps for losses in step.losses.values())
    assert all(kept.device == META for kept in chunk._kept.values())


@pytest.mark.parametrize("objective", ["non_saturating", "wasserstein", "relativistic", "mmd", "f_gan_kl"])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_a_gan_keeps_to_its_device(objective, penalty):
    recipe = dataclasses.replace(
        recipe_for(objective, penalty), width=8, chunk=2, pack=1 + (objective == "wasserstein")
    )
    run = GanRun(DATA, recipe=recipe, members=2, steps=3)
    check_steps(Chunk(run._layout[0], Units.of(DATA), recipe, DATA, 3, META))


def test_a_generator_that_tosses_coins_does_too():
    run = CoinRun(DATA, recipe=dataclasses.replace(SHARP, width=8, chunk=2), members=2, steps=3)
    run._device = META
    check_steps(run._make(0))


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "ae"},
        {"kind": "vae", "free_bits": 0.5},
        {"kind": "vae", "likelihood": "bernoulli"},
        {"kind": "iwae", "samples": 4},
        {"kind": "wae"},
        {"kind": "vq_vae"},
        {"kind": "vq_vae", "codebook_decay": 0.9},
        {"kind": "vae_gan"},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_an_autoencoder_keeps_to_its_device(changes):
    recipe = AutoencoderRecipe(width=8, chunk=2, **changes)
    beta = {0: 2.0} if changes["kind"] == "vae" else {}
    check_steps(AutoencoderChunk(0, Units.of(DATA), recipe, 0, beta, DATA, 3, META))


def test_a_network_left_behind_would_be_found():
    recipe = AutoencoderRecipe(kind="wae", width=8, chunk=2)
    chunk = AutoencoderChunk(0, Units.of(DATA), recipe, 0, {}, DATA, 3, META)
    chunk.player._prior._device = torch.device("cpu")
    with pytest.raises(RuntimeError, match="device"):
        list(chunk.train())
