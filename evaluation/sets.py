"""Sets of samples that are to be compared: taken, checked to go together, and turned into features."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float64

from divergences.checks import as_points
from divergences.errors import InputError
from evaluation.features import features as named_features
from evaluation.moments import check_room
from evaluation.samples import Samples, as_samples

__all__ = ["check_together", "chosen_features", "embedded", "taken"]


def taken(value: Any, name: str) -> Samples:
    """Samples as they are, or an array checked; a path is refused."""
    if isinstance(value, str | os.PathLike):
        raise InputError(f"{name} is the path {os.fspath(value)!r}; read it with load_samples first.")
    if isinstance(value, Samples):
        return value
    return as_samples(value, name, "array")


def check_together(other: Samples, name: str, train: Samples) -> None:
    """Same shape and same scale as train, or an error that names both."""
    if other.array.shape[1:] != train.array.shape[1:]:
        raise InputError(
            f"{name} has {other.kind} of shape {other.array.shape[1:]} and train= {train.kind} of shape "
            f"{train.array.shape[1:]}. They must be the same kind of thing: bring them to one shape, channels included."
        )
    if train.kind == "points":
        return
    scales = {name: _scale(other.array), "train=": _scale(train.array)}
    if len(set(scales.values()) - {"unknown"}) > 1:
        raise InputError(
            f"the images of {name} are {scales[name]} and those of train= {scales['train=']}. Bring them to one scale, "
            "best uint8, before the audit."
        )


def _scale(images: np.ndarray) -> str:
    """The convention the pixels seem to follow; 'unknown' where they fit several, such as all-black images."""
    if images.dtype == np.uint8:
        return "uint8"
    low, high = float(images.min()), float(images.max())
    if low >= 0 and high > 8:
        return f"floats on a scale such as [0, {255 if high > 32 else 16}]"
    if low < 0 and high <= 1.5 and float((images < -0.25).mean()) > 0.05:
        return "floats on a scale such as [-1, 1]"
    return "floats on a scale such as [0, 1]" if low > -0.25 and 0.25 < high <= 1.5 else "unknown"


def chosen_features(wanted: Any, train: Samples, labels: np.ndarray | None) -> Any:
    """The recipe asked for; by default pixels of images and standardized points."""
    if wanted is None:
        wanted = "pixels" if train.kind == "images" else "standardize"
    return named_features(wanted, kind=train.kind, labels=labels)


def embedded(embed: Callable[..., Any], samples: Samples, name: str) -> Float64[np.ndarray, "n d"]:
    """Features of every sample, one row each, and no more of them than a covariance has room for."""
    points = as_points(embed(samples.array), f"the features of {name}")
    if len(points) != len(samples):
        raise InputError(
            f"features= made {len(points)} rows of the {len(samples)} samples of {name}; one each is needed."
        )
    check_room(points.shape[1], name)
    return points
