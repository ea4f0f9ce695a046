r"""Samples in: files, folders of images and arrays, each read without trusting it.

What is read: ``.npy``; ``.npz`` (the key ``samples``, ``arr_0``, or the only array; ``FILE.npz:KEY`` names another);
``.csv`` (a rectangle of numbers, one sample per row, a header line allowed); a folder of PNG, JPEG, WEBP or BMP images
of one size and mode. An array (n, d), or (n,) on the line, is *points*; (n, h, w) or (n, h, w, c) is *images*.

Files are read without trusting them, see ``evaluation.readers``; whatever is wrong, there is one ``InputError`` that
names the file and what to do. Nothing is repaired on the way, since every silent conversion changes the scores.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from divergences.checks import as_array, describe_rows
from divergences.distributions import Gaussian, Mixture
from divergences.errors import InputError
from evaluation.readers import (
    choose_key,
    open_archive,
    read_csv,
    read_folder,
    read_member,
    read_npy,
    read_text,
    split_key,
    stored_keys,
)

__all__ = ["Samples", "load_labels", "load_modes", "load_samples"]

_SAMPLE_KEYS = ("samples", "arr_0")
_LABEL_KEYS = ("labels", "samples", "arr_0")
_HEADERS = ("label", "labels", "class", "y")


@dataclass(frozen=True)
class Samples:
    """What was read.

    Attributes:
        array: points (n, d) float64, or images (n, h, w) or (n, h, w, c), uint8 or float.
        source: where it came from, for the report.
        kind: "points" or "images".
        labels: labels found beside the samples in the same ``.npz`` (key ``labels``), shape (n,), or None.
    """

    array: np.ndarray
    source: str
    kind: Literal["points", "images"]
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.array)


def load_samples(source: Any) -> Samples:
    """Read samples from a file or folder, or take an array as it is.

    Args:
        source: a path to ``.npy``, ``.npz``, ``FILE.npz:KEY``, ``.csv`` or a folder of images; an array (n, d), (n,),
            (n, h, w) or (n, h, w, c); or ``Samples``, which are returned.

    Returns:
        The samples; at least two of them, all finite.

    Raises:
        InputError: whatever makes the source unusable, in one sentence with its remedy.

    >>> load_samples(np.zeros((3, 2))).kind, load_samples(np.zeros((3, 8, 8), dtype=np.uint8)).kind
    ('points', 'images')
    """
    if isinstance(source, Samples):
        return source
    if not isinstance(source, str | os.PathLike):
        return as_samples(source, "samples", "array")
    path, key = split_key(os.fspath(source))
    labels = None
    if path.is_dir():
        array = read_folder(path)
    elif path.suffix.lower() == ".csv":
        array = read_csv(path)
    elif path.suffix.lower() == ".npy":
        array = read_npy(path)
    elif path.suffix.lower() == ".npz":
        array, labels = _samples_and_labels(path, key)
    else:
        raise InputError(
            f"{path}: samples are read from .npy, .npz, .csv or a folder of images, not from files like "
            f"{path.suffix or path.name!r}. Save the array with numpy.save and audit that."
        )
    samples = as_samples(array, str(path), os.fspath(source))
    if labels is not None and labels.shape != (len(samples),):
        raise InputError(
            f"{path}: labels must have shape ({len(samples)},), one per sample; they have shape {labels.shape}."
        )
    return Samples(samples.array, samples.source, samples.kind, labels)


def as_samples(value: Any, name: str, source: str) -> Samples:
    """Check an array that should hold samples; points become float64, images keep uint8 or become float64.

    Args:
        value: the array.
        name: what the caller calls it, for messages.
        source: where it came from, for the report.

    Raises:
        InputError: not numbers, the wrong number of axes, fewer than two samples, NaN or infinite values.
    """
    if type(value).__module__.split(".")[0] == "torch" and hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    array = value if isinstance(value, np.ndarray) and value.dtype == np.uint8 else as_array(value, name)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim not in (2, 3, 4):
        raise InputError(
            f"{name} must be points (n, d) or images (n, h, w) or (n, h, w, c); it has shape {array.shape}."
        )
    if array.ndim == 4 and array.shape[-1] not in (1, 3):
        hint = " They look channels-first: use numpy.moveaxis(x, 1, -1)." if array.shape[1] in (1, 3) else ""
        raise InputError(f"{name}: images must have 1 or 3 channels, last; they have shape {array.shape}.{hint}")
    if len(array) < 2 or array.size == 0:
        raise InputError(
            f"{name} holds {len(array)} sample{'' if len(array) == 1 else 's'} of shape {array.shape[1:]}; at least 2 "
            "are needed, of at least one coordinate each."
        )
    if array.ndim == 2:
        array = array.astype(np.float64)
    finite: Any = np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if not finite.all():
        what = "NaN" if np.isnan(array).any() else "infinite values"
        raise InputError(
            f"{name} holds {what} in {describe_rows(~finite)}. Drop these rows or find out where they come from."
        )
    if array.ndim > 2 and array.dtype != np.uint8:
        array = _whole_bytes(array, value)
    return Samples(array, source, "points" if array.ndim == 2 else "images")


def load_modes(path: str | os.PathLike[str]) -> Mixture:
    """Read a mixture of Gaussians: the modes the generator should cover.

    Args:
        path: ``.npz`` with ``means`` (k, d), or (k,) on the line; ``covariances``: (k, d, d) matrices, (k, d) variances
            per coordinate, (k,) variances per mode, or one variance for all; and, optionally, ``weights`` (k,).

    Raises:
        InputError: missing or unusable arrays.
    """
    file = Path(path)
    if file.suffix.lower() != ".npz":
        raise InputError(f"{file}: modes are read from an .npz with means, covariances and weights.")
    with open_archive(file) as archive:
        keys = stored_keys(archive)
        lacking = [key for key in ("means", "covariances") if key not in keys]
        if lacking:
            raise InputError(
                f"{file} lacks {' and '.join(lacking)}; it holds {', '.join(keys) or 'nothing'}. Write it with "
                "numpy.savez(path, means=..., covariances=..., weights=...)."
            )
        arrays = {key: read_member(archive, key, file) for key in ("means", "covariances", "weights") if key in keys}
    try:
        return _mixture(arrays["means"], arrays["covariances"], arrays.get("weights"))
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def load_labels(path: str | os.PathLike[str]) -> np.ndarray:
    """Read one label per sample: integers where all are whole numbers, else text.

    Args:
        path: ``.npy``, ``.npz`` (key ``labels`` or the only array; ``FILE.npz:KEY``), or ``.csv`` or ``.txt`` with one
            label per line; a first line that says ``label`` is a header.

    Returns:
        Shape (n,).

    Raises:
        InputError: unreadable, empty, or more than one label per row.
    """
    file, key = split_key(os.fspath(path))
    suffix = file.suffix.lower()
    if suffix == ".npy":
        array = read_npy(file)
    elif suffix == ".npz":
        with open_archive(file) as archive:
            array = read_member(archive, key or choose_key(archive, file, _LABEL_KEYS), file)
    elif suffix in (".csv", ".txt"):
        lines = [line.strip() for line in read_text(file).splitlines()]
        lines = [line for line in lines if line]
        array = np.array(lines[1:] if lines and lines[0].lower() in _HEADERS else lines)
    else:
        raise InputError(f"{file}: labels are read from .npy, .npz, .csv or .txt files.")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or len(array) == 0:
        raise InputError(f"{file}: labels must have shape (n,), one per sample; they have shape {array.shape}.")
    if array.dtype.kind not in "biufU":
        raise InputError(f"{file}: labels must be whole numbers or text; they are {array.dtype}.")
    try:
        numbers = array.astype(np.float64)
    except ValueError:
        return array.astype(str)
    if not np.isfinite(numbers).all() or (numbers != np.round(numbers)).any():
        raise InputError(f"{file}: labels must be whole numbers or text; some are fractions, NaN or infinite.")
    return numbers.astype(np.int64)


def _whole_bytes(array: np.ndarray, given: Any) -> np.ndarray:
    """Integer pixels become uint8, so that one picture has one scale whatever integer type it was saved in."""
    if np.asarray(given).dtype.kind in "iu":
        if array.min() < 0 or array.max() > 255:
            raise InputError(
                f"integer images must lie in 0..255; these reach from {array.min():g} to {array.max():g}. Scale them "
                "to uint8, or to floats in [0, 1]."
            )
        return array.astype(np.uint8)
    return array


def _samples_and_labels(path: Path, key: str | None) -> tuple[np.ndarray, np.ndarray | None]:
    with open_archive(path) as archive:
        chosen = key or choose_key(archive, path, _SAMPLE_KEYS)
        array = read_member(archive, chosen, path)
        labels = None
        if chosen != "labels" and "labels" in stored_keys(archive):
            labels = read_member(archive, "labels", path)
    return array, labels


def _mixture(means: np.ndarray, covariances: np.ndarray, weights: np.ndarray | None) -> Mixture:
    centers = as_array(means, "means")
    centers = centers[:, None] if centers.ndim == 1 else centers
    if centers.ndim != 2 or centers.size == 0:
        raise InputError(f"means must have shape (k, d); they have shape {centers.shape}.")
    k, d = centers.shape
    spread = as_array(covariances, "covariances")
    eye = np.eye(d)
    if spread.ndim == 0:
        matrices = np.broadcast_to(spread * eye, (k, d, d))
    elif spread.shape == (k,):
        matrices = spread[:, None, None] * eye
    elif spread.shape == (k, d):
        matrices = spread[:, :, None] * eye
    elif spread.shape == (k, d, d):
        matrices = spread
    else:
        raise InputError(
            f"covariances must have shape ({k}, {d}, {d}), ({k}, {d}) or ({k},), or be one number, to go with means of "
            f"shape {centers.shape}; they have shape {spread.shape}."
        )
    return Mixture([Gaussian(mean, matrix) for mean, matrix in zip(centers, matrices, strict=True)], weights)
