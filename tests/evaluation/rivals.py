"""The packages whose numbers are reproduced, imported beside a CPU build of torch; they are oracles of tests only."""

import io
import warnings

import numpy as np
import pytest

from benchmarks.rivals import load


def rival(name):
    """The module of that name, or a visible skip where it is not installed or does not import."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load(name)
    except (ImportError, RuntimeError) as error:
        return pytest.skip(f"{name} is not at hand as an oracle: {error}")


def random_weights(seed):
    """Tensors for the Inception network whose features are neither dead nor exploding, from numpy's frozen stream."""
    import torch

    from evaluation.inception import tensor_shapes

    rng = np.random.RandomState(seed)
    pool = rng.standard_normal(100_003)
    state = {}
    for name, shape in tensor_shapes().items():
        if name.endswith("conv.weight"):
            # Drawing all 22 million would take longer than the network does.
            value = np.resize(np.roll(pool, rng.randint(len(pool))), shape) * np.sqrt(2.0 / np.prod(shape[1:]))
        elif name.endswith(("bn.weight", "running_var")):
            value = rng.uniform(0.5, 1.5, shape)
        else:
            value = rng.uniform(-0.2, 0.2, shape)
        state[name] = torch.from_numpy(np.asarray(value, dtype=np.float32))
    counters = {
        name.replace("running_mean", "num_batches_tracked"): torch.tensor(0) for name in state if "_mean" in name
    }
    classifier = {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    return state | counters | classifier


def saved(state):
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def images(n=4, size=(32, 40), seed=0):
    """Smooth colour images with an edge each."""
    rng = np.random.RandomState(seed)
    h, w = size
    y, x = np.mgrid[:h, :w] / max(h, w)
    waves = rng.uniform(1, 9, (n, 1, 1, 3, 2))
    values = 127 + 90 * np.sin(waves[..., 0] * x[None, :, :, None]) + 60 * np.cos(waves[..., 1] * y[None, :, :, None])
    values[:, :, : w // 3] += rng.uniform(-60, 60, (n, 1, 1, 3))
    return np.clip(values, 0, 255).astype(np.uint8)
