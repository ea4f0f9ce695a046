r"""Features made by networks: random convolutions, and the Inception network of the published FID.

**Random convolutions** need no weights and no training: three layers of filters drawn from a seed, each followed by
max(·, 0), then averages over the four quarters of the image. They see edges, textures and, coarsely, where these are;
equal seeds give equal features everywhere. The only thing fitted is the mean and spread of each channel in train.
Arithmetic is in double precision, and the last digits are cut, so that a copy stays at distance 0 whatever set it
stands in.

**Inception** features (see ``evaluation.inception``) are comparable with published numbers if the weights are the
public file and the resize mode is the one of the number. Grey images are repeated in three channels; what an ImageNet
network says of digits means little, and the fingerprint says that they were grey.

References:
    What is the best multi-stage architecture for object recognition? (Jarrett, Kavukcuoglu, Ranzato, LeCun, 2009),
    https://doi.org/10.1109/ICCV.2009.5459469.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64

from divergences.errors import InputError
from evaluation.inception import pooled
from evaluation.resize import resized
from evaluation.rows import Transform, as_images, same_rows, steady, train_digest, versions
from evaluation.weights import Weights

__all__ = ["InceptionFeatures", "RandomConvolutions"]

_CHUNK = 64
_FILTERS = (32, 48)
# Images at least this wide are halved by a layer; smaller ones would lose where things are.
_HALVED_FROM = 12


@dataclass(frozen=True)
class RandomConvolutions:
    """Means over image quarters of random filters' responses.

    Attributes:
        dimensions: features per image.
        seed: of the filters.
    """

    dimensions: int = 128
    seed: int = 0

    @property
    def name(self) -> str:
        """What reports call it."""
        return f"random-conv:{self.dimensions}"

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What the numbers depend on."""
        parameters = {"dimensions": self.dimensions, "seed": self.seed, "filters": list(_FILTERS)}
        return {"name": self.name, "parameters": parameters, "versions": versions("numpy", "torch")}

    def fit(self, train: Any) -> Transform:
        """Learn the mean and spread of each channel."""
        images = as_images(train, "train=", self.name)
        channels = images.reshape(-1, images.shape[-1])
        # In blocks, so that bytes are not all widened at once.
        total = sum(block.sum(axis=0, dtype=np.float64) for block in np.array_split(channels, 64))
        center = total / len(channels)
        square = sum((np.subtract(block, center) ** 2).sum(axis=0) for block in np.array_split(channels, 64))
        spread = np.sqrt(square / len(channels))
        filters = _filters(np.random.default_rng(self.seed), images.shape[-1], self.dimensions)
        made = self.fingerprint | {"train": train_digest(train)}
        return _Convolved(images.shape[1:], center, np.where(spread > 0, spread, 1.0), filters, made)


def _filters(
    rng: np.random.Generator, channels: int, dimensions: int
) -> list[tuple[Float64[np.ndarray, "o i k k"], Float64[np.ndarray, " o"]]]:
    """Weights that keep the variance from layer to layer, and offsets that let filters differ in what they ignore."""
    widths = [channels, *_FILTERS, -(-dimensions // 4)]
    layers = []
    for size, inputs, outputs in zip((5, 3, 3), widths, widths[1:], strict=False):
        scale = np.sqrt(2.0 / (inputs * size * size))
        layers.append((rng.normal(0.0, scale, (outputs, inputs, size, size)), rng.normal(0.0, 0.3, outputs)))
    return layers


@dataclass(frozen=True, eq=False)
class _Convolved:
    shape: tuple[int, ...]
    center: Float64[np.ndarray, " c"]
    spread: Float64[np.ndarray, " c"]
    layers: list[tuple[np.ndarray, np.ndarray]]
    fingerprint: dict[str, Any] = field(default_factory=dict)

    def __call__(self, array: Any, name: str = "array") -> Float64[np.ndarray, "n d"]:
        images = as_images(array, name, self.fingerprint["name"])
        same_rows(images, self.shape, name)
        rows = [self._features(images[start : start + _CHUNK]) for start in range(0, len(images), _CHUNK)]
        return steady(np.concatenate(rows), 1.0)

    def _features(self, images: np.ndarray) -> Float64[np.ndarray, "n d"]:
        import torch
        from torch.nn import functional

        scaled = (images.astype(np.float64) - self.center) / self.spread
        x = torch.from_numpy(np.ascontiguousarray(np.moveaxis(scaled, -1, 1)))
        with torch.inference_mode():
            for weight, offset in self.layers:
                stride = 2 if min(x.shape[2:]) >= _HALVED_FROM else 1
                padding = weight.shape[-1] // 2
                x = functional.conv2d(
                    x, torch.from_numpy(weight), torch.from_numpy(offset), stride=stride, padding=padding
                ).relu()
            quarters = functional.adaptive_avg_pool2d(x, (2, 2)).flatten(1)
        return quarters.numpy()[:, : self.fingerprint["parameters"]["dimensions"]]


@dataclass(frozen=True)
class InceptionFeatures:
    """The 2048 numbers of Inception's last pooling layer.

    Attributes:
        weights: from ``evaluation.weights.load_weights``.
        resize: "tf1", "pytorch-fid" or "clean".
    """

    weights: Weights
    resize: str = "tf1"

    @property
    def name(self) -> str:
        """What reports call it: with the weights, since another file makes other numbers."""
        other = "" if self.weights.public else ", not the public file"
        return f"inception:{self.resize} (weights SHA-256 {self.weights.sha256[:8]}…{other})"

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What the numbers depend on."""
        return {
            "name": f"inception:{self.resize}",
            "parameters": {"layer": "pool3", "dimensions": 2048},
            "resize": self.resize,
            "weights_file": self.weights.file,
            "weights_sha256": self.weights.sha256,
            "weights_public": self.weights.public,
            "versions": versions("numpy", "torch", *(["Pillow"] if self.resize == "clean" else [])),
        }

    def fit(self, train: Any) -> Transform:
        """Nothing is learnt from train; its channels are noted."""
        images = as_images(train, "train=", "inception")
        return _Seen(self, images.shape[-1], self.fingerprint | {"grey": images.shape[-1] == 1, "device": _device()})


@dataclass(frozen=True, eq=False)
class _Seen:
    recipe: InceptionFeatures
    channels: int
    fingerprint: dict[str, Any]

    def __call__(self, array: Any, name: str = "array") -> Float64[np.ndarray, "n d"]:
        images = as_images(array, name, "inception")
        same_rows(images, (*images.shape[1:3], self.channels), name)
        _on_the_scale_of_bytes(images, name)
        rows = []
        for start in range(0, len(images), _CHUNK):
            part: Any = images[start : start + _CHUNK]
            if part.dtype != np.uint8:
                part = part * 255.0
            part = np.broadcast_to(part, (*part.shape[:3], 3))
            rows.append(pooled(self.recipe.weights, resized(part, self.recipe.resize), device=_device()))
        return np.concatenate(rows).astype(np.float64)


def _on_the_scale_of_bytes(images: np.ndarray, name: str) -> None:
    """Floats must be on [0, 1], so that 255 times them is a pixel."""
    if images.dtype == np.uint8:
        return
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        raise InputError(
            f"{name}: Inception features need images of bytes 0..255 or floats in [0, 1]; these reach from {low:g} to "
            f"{high:g}. Bring them to one of the two."
        )


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
