"""What every kind of features needs: rows of one shape, fingerprints, and last digits that stay put."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float64, Shaped

from divergences.checks import as_array, describe_rows
from divergences.errors import InputError
from divergences.plain_arrays import plain_array

__all__ = [
    "Transform",
    "as_images",
    "as_rows",
    "blocks",
    "finite",
    "rowwise_product",
    "same_rows",
    "steady",
    "train_digest",
    "versions",
]

Transform = Callable[..., Float64[np.ndarray, "n d"]]

# Binary digits of a computed feature that are kept.
_DIGITS = 40
_BLOCK = 1 << 22
# Rows that are multiplied at once.
_ROWS = 4096


def as_rows(array: Any, name: str) -> np.ndarray:
    """An array of at least one sample of at least one value, one per row, not copied if it need not be."""
    given = plain_array(array, name)
    if given.ndim == 1:
        given = given[:, None]
    if given.ndim == 0 or given.size == 0:
        raise InputError(f"{name} must hold at least one sample of at least one value; it has shape {given.shape}.")
    return given


def as_images(array: Any, name: str, features: str) -> Shaped[np.ndarray, "n h w c"]:
    """Images with their channels last, bytes or finite floats; points are refused.

    Args:
        array: (n, h, w) or (n, h, w, c).
        name: what the caller calls it.
        features: the features that need images, for the message.
    """
    given = as_rows(array, name)
    if given.ndim == 3:
        given = given[..., None]
    if given.ndim != 4 or given.shape[-1] not in (1, 3):
        raise InputError(
            f"features={features} are features of images, (n, h, w), (n, h, w, 1) or (n, h, w, 3); {name} has shape "
            f"{np.shape(array)}. For points: identity, standardize or pca:N."
        )
    return given if given.dtype == np.uint8 else finite(given, name)


def finite(given: np.ndarray, name: str) -> np.ndarray:
    """The rows as floats, or an error that says which hold NaN or infinite values; floats are not copied."""
    values = given if given.dtype in (np.float32, np.float64) else as_array(given, name)
    good = np.concatenate([np.isfinite(part).reshape(len(part), -1).all(axis=1) for part in blocks(values)])
    if not good.all():
        what = "NaN" if np.isnan(values[~good]).any() else "infinite values"
        raise InputError(
            f"{name} holds {what} in {describe_rows(~good)}. Drop these rows or find out where they come from."
        )
    return values


def blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """The array in runs of rows of a few million values, so that a mapped file is never whole in memory."""
    step = max(1, _BLOCK * len(array) // max(1, array.size))
    for start in range(0, len(array), step):
        yield array[start : start + step]


def same_rows(given: np.ndarray, shape: tuple[int, ...], name: str) -> None:
    """An error unless the rows have the shape that they have in train."""
    if given.shape[1:] != shape:
        raise InputError(
            f"{name} must have rows of shape {shape}, as train= has; its rows have shape {given.shape[1:]}."
        )


def steady(points: Float64[np.ndarray, "n d"], size: float) -> Float64[np.ndarray, "n d"]:
    """Features without their last digits.

    A matrix product rounds a row differently in arrays of different length. Cutting the last digits keeps equal samples
    equal, so that an exact copy is still at distance 0.

    Args:
        points: features.
        size: what the kept digits are counted from.
    """
    grain = np.exp2(np.ceil(np.log2(max(size, 1e-150))) - _DIGITS)
    return np.round(points / grain) * grain


def rowwise_product(
    points: Float64[np.ndarray, "n d"], matrix: Float64[np.ndarray, "d k"]
) -> Float64[np.ndarray, "n k"]:
    """``points @ matrix``, each row the same to the last bit in arrays of any length and on every machine.

    A matrix product sums in an order that depends on the shapes and the processor. Here each row and each column is cut
    into two whole numbers so short that every sum of their products is exact in any order. What is cut off is below
    2⁻³⁸ of the largest entries' product times √d, for d up to 2¹⁶.

    References:
        Error-free transformations of matrix multiplication (Ozaki et al., 2012),
        https://doi.org/10.1007/s11075-011-9478-1
    """
    bits = (np.finfo(np.float64).nmant + 1 - int(np.ceil(np.log2(max(points.shape[1], 2))))) // 2
    k = matrix.shape[1]
    column_units, columns = _halves(matrix.T, bits)
    columns = columns.reshape(2 * k, -1).T
    product = np.empty((len(points), k))
    for start in range(0, len(points), _ROWS):
        row_units, rows = _halves(points[start : start + _ROWS], bits)
        n = rows.shape[1]
        sums = (rows.reshape(2 * n, -1) @ columns).reshape(2, n, 2, k)
        finest = sums[1, :, 1] * 2.0**-bits + (sums[0, :, 1] + sums[1, :, 0])
        product[start : start + n] = (finest * 2.0**-bits + sums[0, :, 0]) * (row_units * column_units.T)
    return product


def _halves(rows: Float64[np.ndarray, "n d"], bits: int) -> tuple[np.ndarray, np.ndarray]:
    """The unit of each row, (n, 1), and its entries as leading and following whole numbers of that many bits."""
    largest = np.abs(rows).max(axis=1, keepdims=True)
    unit = np.exp2(np.ceil(np.log2(np.where(largest > 0, largest, 1.0))) - bits)
    scaled = rows / unit
    leading = np.round(scaled)
    return unit, np.stack([leading, np.round((scaled - leading) * 2.0**bits)])


def train_digest(train: Any) -> str:
    """A short name of the data that features were fitted on: 16 hexadecimal digits of a hash of shape and values.

    >>> train_digest(np.arange(4.0)) == train_digest(np.arange(4.0, dtype=np.float32))
    True
    """
    given = as_rows(train, "train=")
    digest = hashlib.blake2b(repr(given.shape).encode(), digest_size=8)
    for part in blocks(given):
        digest.update(np.ascontiguousarray(part, dtype=np.float64).tobytes())
    return digest.hexdigest()


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of this package and of those named."""
    found = {}
    for package in ("mintmark", *packages):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "unknown"
    return found
