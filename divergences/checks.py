"""Checks of what users hand in, shared by every package: one clear error that names the culprit and the remedy.

Each check takes the *name* under which the caller knows the argument, so that the message can say
``12 of 500 rows of generated= hold NaN (first: row 7)`` instead of a traceback from deep inside a library.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float64

from divergences.errors import InputError
from divergences.plain_arrays import plain_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
else:
    # What users hand in is checked here, in words; a run-time type checker would only get in the way.
    ArrayLike = Any

__all__ = ["ArrayLike", "as_array", "as_count", "as_generator", "as_number", "as_points", "as_weights", "describe_rows"]

_SHOWN_ROWS = 3
WEIGHT_TOLERANCE = 1e-8


def describe_rows(bad: Bool[np.ndarray, " n"]) -> str:
    """Say how many rows are bad and which come first: ``'2 of 5 rows (first: rows 1, 3)'``.

    >>> describe_rows(np.array([False, True, False, True, False]))
    '2 of 5 rows (first: rows 1, 3)'
    """
    rows = np.flatnonzero(bad)
    first = ", ".join(str(row) for row in rows[:_SHOWN_ROWS])
    plural = "s" if len(rows[:_SHOWN_ROWS]) > 1 else ""
    return f"{len(rows)} of {len(bad)} rows (first: row{plural} {first})"


def as_array(value: Any, name: str) -> Float64[np.ndarray, "..."]:
    """Turn numbers into a float64 array; refuse text, objects, complex numbers, ragged lists and masked entries."""
    array = plain_array(value, name)
    if array.dtype.kind not in "biuf":
        kind = "complex numbers" if array.dtype.kind == "c" else f"dtype {array.dtype}"
        raise InputError(f"{name} must hold real numbers; it holds {kind}. Convert it to float first.")
    return array.astype(np.float64)


def as_points(value: Any, name: str, *, dim: int | None = None, minimum: int = 1) -> Float64[np.ndarray, "n d"]:
    """Points as a finite float64 array (n, d); a one-dimensional array (n,) is n points on the line.

    Args:
        value: array (n, d), or (n,) for points on the line.
        name: what the caller calls it, for the message.
        dim: the dimension d it must have, if known.
        minimum: the fewest points that make sense.

    Raises:
        InputError: wrong shape, too few points, NaN or infinite coordinates, or the wrong dimension.
    """
    array = as_array(value, name)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise InputError(
            f"{name} must have shape (n, d), or (n,) on the line; it has shape {array.shape}. "
            "Flatten images to (n, pixels) first."
        )
    if len(array) < minimum or array.shape[1] == 0:
        need = f"at least {minimum} point{'s' if minimum > 1 else ''} of at least one coordinate"
        raise InputError(f"{name} needs {need}; it has shape {array.shape}.")
    if dim is not None and array.shape[1] != dim:
        raise InputError(f"{name} must be {dim}-dimensional; its points have {array.shape[1]} coordinates.")
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        what = "NaN" if np.isnan(array).any() else "infinite values"
        raise InputError(
            f"{name} holds {what} in {describe_rows(~finite)}. Drop these rows or find out where they come from."
        )
    return array


def as_weights(value: Any, name: str, n: int) -> Float64[np.ndarray, " n"]:
    """Weights as a float64 array (n,): finite, ≥ 0, summing to 1 within 1e-8; None means equal weights.

    They are never rescaled silently: ``w / w.sum()`` is the caller's explicit act. What is left of the rounding
    (below 1e-8) is divided out.
    """
    if value is None:
        return np.full(n, 1.0 / n)
    array = as_array(value, name)
    if array.shape != (n,):
        raise InputError(f"{name} must have shape ({n},), one weight per point; it has shape {array.shape}.")
    if not np.isfinite(array).all():
        raise InputError(f"{name} holds NaN or infinite values in {describe_rows(~np.isfinite(array))}.")
    if (array < 0).any():
        raise InputError(f"{name} holds negative values in {describe_rows(array < 0)}; weights must be ≥ 0.")
    total = float(array.sum())
    if abs(total - 1) > WEIGHT_TOLERANCE:
        raise InputError(f"{name} must sum to 1; it sums to {total:.10g}. Divide by the sum if that is what you mean.")
    return array / total


def as_count(value: Any, name: str, *, minimum: int = 1) -> int:
    """A whole number ≥ minimum."""
    if isinstance(value, bool | np.bool_):
        raise InputError(f"{name} must be a whole number, not {value!r}.")
    try:
        count = operator.index(value)
    except TypeError as error:
        raise InputError(f"{name} must be a whole number; it is {value!r}.") from error
    if count < minimum:
        raise InputError(f"{name} must be at least {minimum}; it is {count}.")
    return count


def as_number(value: Any, name: str, *, above: float = -np.inf, below: float = np.inf) -> float:
    """A finite number strictly between two limits."""
    if isinstance(value, str | bytes) or np.ndim(value) != 0:
        raise InputError(f"{name} must be a single number; it is {value!r}.")
    number = float(as_array(value, name))
    if not np.isfinite(number) or not above < number < below:
        limits = "finite" if not np.isfinite([above, below]).any() else f"in ({above:g}, {below:g})"
        raise InputError(f"{name} must be {limits}; it is {number!r}.")
    return number


def as_generator(value: Any, name: str = "rng") -> np.random.Generator:
    """The random generator itself: nothing here reads or touches a global seed."""
    if not isinstance(value, np.random.Generator):
        raise InputError(
            f"{name} must be a numpy.random.Generator, such as numpy.random.default_rng(0); it is {value!r}."
        )
    return value


def one_of(value: Any, name: str, choices: Sequence[str]) -> str:
    """One of the named choices; the message lists them all."""
    if value not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)}; it is {value!r}.")
    return str(value)
