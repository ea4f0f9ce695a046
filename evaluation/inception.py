r"""The Inception network behind the published FID numbers, without its weights.

FID is by definition a distance between features of one particular network: Inception v3 as it was released on
2015-12-05, at its last pooling layer (2048 numbers per image). Here the network stands as data, a nested list of steps,
whose tensors have the names that they have in the public weight files (see ``evaluation.weights``).

It differs from torchvision's in three details of that first release: its averages at borders do not count the padding;
the last mixed block takes a maximum where the others take an average; it has 1008 outputs. Each convolution is followed
by batch normalisation with the stored statistics (ε = 0.001) and max(·, 0). It runs in single precision, as it did for
the published numbers.

**Equal images have equal features**: images are passed in batches of one size, the last filled up with zeros, since the
last bits of a convolution depend on the size of its batch.

References:
    Rethinking the Inception architecture for computer vision (Szegedy et al., 2016), https://arxiv.org/abs/1512.00567.
    GANs trained by a two time-scale update rule converge to a local Nash equilibrium (Heusel et al., 2017),
    https://arxiv.org/abs/1706.08500.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from divergences.errors import InputError

if TYPE_CHECKING:
    import torch

    from evaluation.weights import Weights

__all__ = ["pooled", "tensor_shapes"]

_EPSILON = 0.001
# Larger batches are slower on a processor, whose caches they overflow, and faster on a GPU.
_BATCH = 1
_BATCH_GPU = 64


@dataclass(frozen=True)
class _Conv:
    """A convolution, its normalisation and max(·, 0)."""

    name: str
    inputs: int
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: tuple[int, int] = (0, 0)


def _conv(name: str, inputs: int, outputs: int, *kernel: int) -> _Conv:
    """One that keeps the size of its image."""
    height, width = kernel or (1, 1)
    return _Conv(name, inputs, outputs, (height, width), 1, (height // 2, width // 2))


# The network is data: a step is a convolution, a pooling by name, or a tuple of branches that run side by side.
_Steps = list[Any]


def _mixed_a(at: str, width: int, pooled: int) -> tuple[_Steps, ...]:
    return (
        [_conv(f"{at}.branch1x1", width, 64)],
        [_conv(f"{at}.branch5x5_1", width, 48), _conv(f"{at}.branch5x5_2", 48, 64, 5, 5)],
        [
            _conv(f"{at}.branch3x3dbl_1", width, 64),
            _conv(f"{at}.branch3x3dbl_2", 64, 96, 3, 3),
            _conv(f"{at}.branch3x3dbl_3", 96, 96, 3, 3),
        ],
        ["average", _conv(f"{at}.branch_pool", width, pooled)],
    )


def _mixed_b(at: str, width: int) -> tuple[_Steps, ...]:
    return (
        [_Conv(f"{at}.branch3x3", width, 384, (3, 3), 2)],
        [
            _conv(f"{at}.branch3x3dbl_1", width, 64),
            _conv(f"{at}.branch3x3dbl_2", 64, 96, 3, 3),
            _Conv(f"{at}.branch3x3dbl_3", 96, 96, (3, 3), 2),
        ],
        ["halve"],
    )


def _mixed_c(at: str, width: int, inner: int) -> tuple[_Steps, ...]:
    return (
        [_conv(f"{at}.branch1x1", width, 192)],
        [
            _conv(f"{at}.branch7x7_1", width, inner),
            _conv(f"{at}.branch7x7_2", inner, inner, 1, 7),
            _conv(f"{at}.branch7x7_3", inner, 192, 7, 1),
        ],
        [
            _conv(f"{at}.branch7x7dbl_1", width, inner),
            _conv(f"{at}.branch7x7dbl_2", inner, inner, 7, 1),
            _conv(f"{at}.branch7x7dbl_3", inner, inner, 1, 7),
            _conv(f"{at}.branch7x7dbl_4", inner, inner, 7, 1),
            _conv(f"{at}.branch7x7dbl_5", inner, 192, 1, 7),
        ],
        ["average", _conv(f"{at}.branch_pool", width, 192)],
    )


def _mixed_d(at: str, width: int) -> tuple[_Steps, ...]:
    return (
        [_conv(f"{at}.branch3x3_1", width, 192), _Conv(f"{at}.branch3x3_2", 192, 320, (3, 3), 2)],
        [
            _conv(f"{at}.branch7x7x3_1", width, 192),
            _conv(f"{at}.branch7x7x3_2", 192, 192, 1, 7),
            _conv(f"{at}.branch7x7x3_3", 192, 192, 7, 1),
            _Conv(f"{at}.branch7x7x3_4", 192, 192, (3, 3), 2),
        ],
        ["halve"],
    )


def _mixed_e(at: str, width: int, pooling: str) -> tuple[_Steps, ...]:
    def split(name: str) -> tuple[_Steps, ...]:
        return ([_conv(f"{at}.{name}a", 384, 384, 1, 3)], [_conv(f"{at}.{name}b", 384, 384, 3, 1)])

    return (
        [_conv(f"{at}.branch1x1", width, 320)],
        [_conv(f"{at}.branch3x3_1", width, 384), split("branch3x3_2")],
        [
            _conv(f"{at}.branch3x3dbl_1", width, 448),
            _conv(f"{at}.branch3x3dbl_2", 448, 384, 3, 3),
            split("branch3x3dbl_3"),
        ],
        [pooling, _conv(f"{at}.branch_pool", width, 192)],
    )


_NETWORK: _Steps = [
    _Conv("Conv2d_1a_3x3", 3, 32, (3, 3), 2),
    _Conv("Conv2d_2a_3x3", 32, 32, (3, 3)),
    _conv("Conv2d_2b_3x3", 32, 64, 3, 3),
    "halve",
    _conv("Conv2d_3b_1x1", 64, 80),
    _Conv("Conv2d_4a_3x3", 80, 192, (3, 3)),
    "halve",
    _mixed_a("Mixed_5b", 192, 32),
    _mixed_a("Mixed_5c", 256, 64),
    _mixed_a("Mixed_5d", 288, 64),
    _mixed_b("Mixed_6a", 288),
    _mixed_c("Mixed_6b", 768, 128),
    _mixed_c("Mixed_6c", 768, 160),
    _mixed_c("Mixed_6d", 768, 160),
    _mixed_c("Mixed_6e", 768, 192),
    _mixed_d("Mixed_7a", 768),
    _mixed_e("Mixed_7b", 1280, "average"),
    _mixed_e("Mixed_7c", 2048, "maximum"),
]


def _convolutions(steps: _Steps) -> Iterator[_Conv]:
    for step in steps:
        if isinstance(step, tuple):
            for branch in step:
                yield from _convolutions(branch)
        elif isinstance(step, _Conv):
            yield step


def tensor_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that a weight file must hold; it may hold the classifier and counters besides.

    >>> len(tensor_shapes()), tensor_shapes()["Mixed_7c.branch_pool.conv.weight"]
    (470, (192, 2048, 1, 1))
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for step in _convolutions(_NETWORK):
        shapes[f"{step.name}.conv.weight"] = (step.outputs, step.inputs, *step.kernel)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{step.name}.bn.{part}"] = (step.outputs,)
    return shapes


def pooled(
    weights: Weights, batch: Float32[np.ndarray, "n 3 h w"], *, device: str = "cpu"
) -> Float32[np.ndarray, "n 2048"]:
    """Features of prepared images (see ``evaluation.resize``): the last pooling layer, single precision.

    Args:
        weights: from ``evaluation.weights.load_weights``.
        batch: prepared images.
        device: a torch device, such as "cuda".

    Raises:
        InputError: a program that returns something other than 2048 numbers per image.
    """
    import torch

    tensors = None if weights.tensors is None else {name: t.to(device) for name, t in weights.tensors.items()}
    size = _BATCH if device == "cpu" else _BATCH_GPU
    rows = []
    with torch.inference_mode(), torch.backends.cudnn.flags(deterministic=True, allow_tf32=False):
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            filled = np.zeros((size, *part.shape[1:]), dtype=np.float32)
            filled[: len(part)] = part
            x = torch.from_numpy(filled).to(device)
            out = _run_program(weights.program, x) if tensors is None else _features(tensors, x)
            rows.append(out[: len(part)].cpu().numpy())
    return np.concatenate(rows) if rows else np.empty((0, 2048), dtype=np.float32)


def _features(tensors: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    import torch

    maps = _run(_NETWORK, x, tensors)
    return torch.nn.functional.adaptive_avg_pool2d(maps, (1, 1)).flatten(1)


def _run(steps: _Steps, x: torch.Tensor, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    import torch
    from torch.nn import functional

    for step in steps:
        if isinstance(step, tuple):
            x = torch.cat([_run(branch, x, tensors) for branch in step], 1)
        elif step == "halve":
            x = functional.max_pool2d(x, 3, stride=2)
        elif step == "average":
            x = functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        elif step == "maximum":
            x = functional.max_pool2d(x, 3, stride=1, padding=1)
        else:
            x = functional.conv2d(x, tensors[f"{step.name}.conv.weight"], stride=step.stride, padding=step.padding)
            mean, var, weight, bias = (
                tensors[f"{step.name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
            )
            x = functional.relu(functional.batch_norm(x, mean, var, weight, bias, training=False, eps=_EPSILON))
    return x


def _run_program(program: Any, x: torch.Tensor) -> torch.Tensor:
    """A program's own layers, if it keeps its resizing apart from them, else the whole of it."""
    import torch

    try:
        out = getattr(program, "layers", program)(x)
    except RuntimeError as error:  # a stranger's program
        reason = (str(error).splitlines() or ["no reason given"])[-1]
        raise InputError(
            f"the TorchScript program of weights= fails on images of shape {tuple(x.shape)}: {reason}. It must make "
            "2048 numbers of each."
        ) from error
    out = out.flatten(1) if torch.is_tensor(out) and out.ndim > 1 else out
    if not torch.is_tensor(out) or tuple(out.shape) != (len(x), 2048):
        what = tuple(out.shape) if torch.is_tensor(out) else type(out).__name__
        raise InputError(f"the TorchScript program of weights= must make 2048 numbers of each image; it made {what}.")
    return out.float()
