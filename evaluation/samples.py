r"""Samples in: arrays, files, folders and archives of images, and samplers, each read without trusting it.

=========================  ============================================================================================
``.npy``                   mapped, not read, so that it may be larger than the memory; not to be changed meanwhile
``.npz``                   the key ``samples``, ``arr_0`` (as ADM writes them, with labels in ``arr_1``), or the only
                           array
``.csv``                   a rectangle of numbers, one sample per row, a header line allowed
``.pt .safetensors``       the tensor ``samples``, or the only one; images in torch's order (n, c, h, w) are turned
a folder, ``.zip .tar``    PNG, JPEG, WEBP, BMP, PGM, PPM or TIFF images of one size and mode, of 8 or 16 bits,
                           subfolders included; see ``evaluation.images``. If each image lies in a folder of its class,
                           these are the labels
``module:callable``        a sampler ``(n, rng) -> array``; naming it imports, and so runs, its module
=========================  ============================================================================================

``FILE:KEY`` names another array of an ``.npz`` or tensor file. An array (n, d), or (n,) on the line, is *points*;
(n, h, w) or (n, h, w, c) is *images*. Points in single or double precision and images of bytes stay as they are;
everything else becomes double precision.

Whatever is wrong, there is one ``InputError`` that names the file and what to do. Nothing is repaired on the way, since
every silent conversion changes the scores.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from divergences.checks import as_array, as_count, as_generator
from divergences.distributions import Gaussian, Mixture
from divergences.errors import InputError
from divergences.plain_arrays import plain_array
from evaluation.archives import ARCHIVE_SUFFIXES, read_archive, read_folder
from evaluation.callables import import_callable, names_callable
from evaluation.images import Pictures
from evaluation.readers import (
    cells_of,
    choose_key,
    open_archive,
    read_csv,
    read_member,
    read_npy,
    read_text,
    split_key,
    stored_keys,
)
from evaluation.rows import finite
from evaluation.tensors import TENSOR_SUFFIXES, read_tensors

__all__ = ["Samples", "as_samples", "draw", "is_sampler", "load_labels", "load_modes", "load_samples"]

_SAMPLE_KEYS = ("samples", "arr_0")
_LABEL_KEYS = ("labels", "samples", "arr_0")
# What may stand before the colon of FILE:KEY: such a name is a file, never a module.
_FILES = (".npy", ".npz", ".csv", ".txt", *TENSOR_SUFFIXES, *ARCHIVE_SUFFIXES)
_HEADERS = ("label", "labels", "class", "y")


@dataclass(frozen=True)
class Samples:
    """What was read.

    Attributes:
        array: points (n, d), float32 or float64, or images (n, h, w) or (n, h, w, c), uint8, float32 or float64; it
            may be a read-only view of a mapped file.
        source: where it came from, for the report.
        kind: "points" or "images".
        labels: labels found beside the samples, shape (n,), or None: the key ``labels`` of the same file, or the names
            of the class folders that images lie in.
        formats: the formats of image files, such as "PNG" or "JPEG quality 95".
        notes: what was converted on reading, in words.
    """

    array: np.ndarray
    source: str
    kind: Literal["points", "images"]
    labels: np.ndarray | None = None
    formats: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.array)


def load_samples(source: Any, *, n: Any = None, rng: Any = None) -> Samples:
    """Read samples from a file, folder or archive, draw them from a named sampler, or take an array as it is.

    Args:
        source: a path (see the module's text), ``FILE:KEY``, or ``module:callable``; an array (n, d), (n,), (n, h, w)
            or (n, h, w, c); or ``Samples``, which are returned.
        n: how many samples to draw from a sampler; only for these.
        rng: a ``numpy.random.Generator`` for the sampler.

    Returns:
        The samples; at least two of them, all finite.

    Raises:
        InputError: whatever makes the source unusable, in one sentence with its remedy.

    >>> load_samples(np.zeros((3, 2))).kind, load_samples(np.zeros((3, 8, 8), dtype=np.uint8)).kind
    ('points', 'images')
    """
    if isinstance(source, str) and is_sampler(source):
        if n is None:
            raise InputError(f"{source} is a sampler: say how many samples to draw, with n= (--n on the command line).")
        return draw(import_callable(source, "the sampler"), n, rng, name=source)
    if n is not None:
        raise InputError("n= is for samplers, module:callable; of files and arrays all samples are taken.")
    if isinstance(source, Samples):
        return source
    if not isinstance(source, str | os.PathLike):
        return as_samples(source, "samples", "array")
    path, key = split_key(os.fspath(source))
    pictures = _pictures(path)
    if pictures is not None:
        samples = as_samples(pictures.array, str(path), os.fspath(source))
        return Samples(samples.array, samples.source, samples.kind, pictures.labels, pictures.formats, pictures.notes)
    array, labels = _arrays(path, key)
    samples = as_samples(array, str(path), os.fspath(source))
    if labels is not None and labels.shape != (len(samples),):
        raise InputError(
            f"{path}: labels must have shape ({len(samples)},), one per sample; they have shape {labels.shape}."
        )
    return Samples(samples.array, samples.source, samples.kind, labels)


def is_sampler(source: str) -> bool:
    """Whether a source is written as ``module:callable``, and is not a file.

    >>> is_sampler("my_gan:sample"), is_sampler("samples.npz:x"), is_sampler("samples.npy")
    (True, False, False)
    """
    head = source.rpartition(":")[0].lower()
    return names_callable(source) and not head.endswith(_FILES) and not os.path.exists(source)


def draw(sampler: Callable[..., Any], n: Any, rng: Any, *, name: str) -> Samples:
    """Draw samples.

    Args:
        sampler: ``(n, rng) -> array``.
        n: how many, at least 2.
        rng: a ``numpy.random.Generator``.
        name: what the caller calls the sampler.

    Raises:
        InputError: the sampler fails, draws another number of samples, or what ``as_samples`` refuses.

    >>> draw(lambda n, rng: rng.normal(size=(n, 2)), 5, np.random.default_rng(0), name="normal").array.shape
    (5, 2)
    """
    count = as_count(n, "n=", minimum=2)
    generator = as_generator(rng, "rng=")
    try:
        drawn = sampler(count, generator)
    except Exception as error:  # the function is not ours, and may raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(
            f"{name} was called as a sampler, {name}({count}, rng), and failed: {reason}. A sampler takes the number "
            "of samples and a numpy.random.Generator, and returns an array."
        ) from error
    samples = as_samples(drawn, f"what {name} drew", f"sampler {name}")
    if len(samples) != count:
        raise InputError(f"{name} was asked for {count} samples and drew {len(samples)}.")
    return samples


def as_samples(value: Any, name: str, source: str) -> Samples:
    """Check an array that should hold samples; points become floats, images stay bytes or become floats.

    Args:
        value: the array.
        name: what the caller calls it, for messages.
        source: where it came from, for the report.

    Raises:
        InputError: not numbers, the wrong number of axes, fewer than two samples, NaN or infinite values.
    """
    value = plain_array(value, name)
    array = value if value.dtype in (np.uint8, np.float32, np.float64) else as_array(value, name)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim not in (2, 3, 4):
        raise InputError(
            f"{name} must be points (n, d) or images (n, h, w) or (n, h, w, c); it has shape {array.shape}."
        )
    if array.ndim == 4 and array.shape[-1] not in (1, 3):
        hint = " They look channels-first: use numpy.moveaxis(x, 1, -1)." if array.shape[1] in (1, 3) else ""
        if not hint and array.shape[-1] == 4:
            hint = " If the fourth is an alpha channel, put them on one background and keep three: x[..., :3]."
        raise InputError(f"{name}: images must have 1 or 3 channels, last; they have shape {array.shape}.{hint}")
    if len(array) < 2 or array.size == 0:
        raise InputError(
            f"{name} holds {len(array)} sample{'' if len(array) == 1 else 's'} of shape {array.shape[1:]}; at least 2 "
            "are needed, of at least one coordinate each."
        )
    if array.ndim == 2 and array.dtype == np.uint8:
        array = array.astype(np.float64)
    if array.dtype != np.uint8:
        array = finite(array, name)
    if array.ndim > 2 and array.dtype != np.uint8:
        array = _whole_bytes(array, value.dtype)
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
            label per line; a first line that says ``label`` is a header; or a folder or archive of images whose
            subfolders are their classes.

    Returns:
        Shape (n,).

    Raises:
        InputError: unreadable, empty, or more than one label per row.
    """
    file, key = split_key(os.fspath(path))
    suffix = file.suffix.lower()
    pictures = _pictures(file)
    if pictures is not None:
        if pictures.labels is None:
            raise InputError(f"{file}: its images do not lie in one folder per class, so that they have no labels.")
        return pictures.labels
    if suffix == ".npy":
        array = read_npy(file)
    elif suffix == ".npz":
        with open_archive(file) as archive:
            array = read_member(archive, key or choose_key(archive, file, _LABEL_KEYS), file)
    elif suffix in (".csv", ".txt"):
        lines = [line.strip() for line in read_text(file).splitlines()]
        lines = [line for line in lines if line]
        if suffix == ".csv":
            lines = _one_column(lines, file)
        array = np.array(lines[1:] if lines and lines[0].lower() in _HEADERS else lines)
    else:
        raise InputError(f"{file}: labels are read from .npy, .npz, .csv or .txt files, or a folder of class folders.")
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


def _one_column(lines: list[str], file: Path) -> list[str]:
    """The only cell of each line."""
    found = []
    for line in lines:
        cells = cells_of(line, ",")
        if len(cells) != 1 or (cells[0] == line and any(mark in line for mark in ";\t")):
            raise InputError(
                f"{file}: labels are one per line, and {line[:40]!r} holds several cells. Keep the column of labels "
                "only, and put labels that hold commas in quotation marks."
            )
        found.append(cells[0].strip())
    return found


def _whole_bytes(array: np.ndarray, given: np.dtype[Any]) -> np.ndarray:
    """Integer pixels become uint8, so that one picture has one scale whatever integer type it was saved in."""
    if given.kind in "iu":
        if array.min() < 0 or array.max() > 255:
            raise InputError(
                f"integer images must lie in 0..255; these reach from {array.min():g} to {array.max():g}. Scale them "
                "to uint8, or to floats in [0, 1]."
            )
        return array.astype(np.uint8)
    return array


def _pictures(path: Path) -> Pictures | None:
    """The images of a folder or archive; None if it is neither."""
    if path.is_dir():
        return read_folder(path)
    return read_archive(path) if path.name.lower().endswith(ARCHIVE_SUFFIXES) else None


def _arrays(path: Path, key: str | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Samples, and labels where they stand beside them."""
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return read_csv(path), None
    if suffix == ".npy":
        return read_npy(path), None
    if suffix == ".npz":
        return _samples_and_labels(path, key)
    if suffix in TENSOR_SUFFIXES:
        return _tensors(path, key)
    raise InputError(
        f"{path}: samples are read from .npy, .npz, .csv, {', '.join(TENSOR_SUFFIXES)}, a folder of images, "
        f"{', '.join(ARCHIVE_SUFFIXES)}, or module:callable, not from files like {suffix or path.name!r}. Save the "
        "array with numpy.save and audit that."
    )


def _samples_and_labels(path: Path, key: str | None) -> tuple[np.ndarray, np.ndarray | None]:
    with open_archive(path) as archive:
        keys = stored_keys(archive)
        chosen = key or choose_key(archive, path, _SAMPLE_KEYS)
        array = read_member(archive, chosen, path)
        labels = None
        if chosen != "labels" and "labels" in keys:
            labels = read_member(archive, "labels", path)
        elif chosen == "arr_0" and "arr_1" in keys:
            second = read_member(archive, "arr_1", path)
            # ADM writes class labels there; anything else is not ours to interpret.
            labels = second if second.dtype.kind in "iu" and second.shape == array.shape[:1] else None
    return array, labels


def _tensors(path: Path, key: str | None) -> tuple[np.ndarray, np.ndarray | None]:
    found = read_tensors(path, ())
    names = [name for name in found if name != "labels"]
    chosen = key
    if chosen is None:
        chosen = "samples" if "samples" in found else names[0] if len(names) == 1 else None
    if chosen is None or chosen not in found:
        listed = ", ".join(repr(name[:40]) for name in list(found)[:6]) + (", ..." if len(found) > 6 else "")
        wanted = f"no tensor {key!r}; it holds " if key else "several tensors, " if found else "no tensors"
        remedy = f" Name one: {path}:{next(iter(found))[:40]}." if found else ""
        raise InputError(f"{path} holds {wanted}{listed}.{remedy}")
    array, labels = found[chosen], found.get("labels") if chosen != "labels" else None
    if array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[-1] not in (1, 3):
        array = np.moveaxis(array, 1, -1)
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
