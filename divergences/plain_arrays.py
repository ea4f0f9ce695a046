"""What users call an array, as numpy's own: torch tensors, masked arrays and tables of other libraries.

None of these libraries is imported: their objects are known by what they can do. Whatever numpy would drop without a
word, such as a mask, is refused instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from divergences.errors import InputError

__all__ = ["plain_array"]

_SHOWN = 3
_REAL = "biuf"


def plain_array(value: Any, name: str) -> np.ndarray:
    """A numpy array of whatever shape and type, not copied if it need not be; whether it holds numbers is not asked.

    Args:
        value: an array, nested lists, a torch tensor (or a list of them), a masked array without masked entries, or a
            table with ``to_numpy``.
        name: what the caller calls it, for the message.

    Raises:
        InputError: ragged rows; masked entries; a sparse, nested, quantized or complex tensor, or one without numbers;
            a table with columns that are not numbers.
    """
    if isinstance(value, list | tuple) and len(value) > 0:
        if _is_tensor(value[0]):
            value = [_of_tensor(one, name) if _is_tensor(one) else one for one in value]
        elif isinstance(value[0], np.ma.MaskedArray):
            value = np.ma.stack(value) if len({np.shape(one) for one in value}) == 1 else value
    if _is_tensor(value):
        return _of_tensor(value, name)
    if isinstance(value, np.ma.MaskedArray):
        return _unmasked(value, name)
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        raise InputError(f"{name} is a sparse matrix; pass its toarray().")
    try:
        if hasattr(value, "to_numpy"):
            return _of_table(value, name)
        return np.asarray(value)
    except InputError:
        raise
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{name} must be a rectangular array of numbers: {_first_line(error)}.") from error


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach") and any(kind.__module__.split(".")[0] == "torch" for kind in type(value).__mro__)


def _of_tensor(tensor: Any, name: str) -> np.ndarray:
    if getattr(tensor, "is_nested", False):
        raise InputError(f"{name} is a nested tensor, of rows of different length; pass one of equal rows.")
    if "strided" not in str(tensor.layout):
        raise InputError(f"{name} is a sparse tensor; pass its to_dense().")
    if getattr(tensor, "is_quantized", False):
        raise InputError(f"{name} is a quantized tensor; pass its dequantize().")
    if tensor.is_meta:
        raise InputError(f"{name} is a tensor on the device meta, which holds no numbers.")
    if tensor.is_complex():
        raise InputError(f"{name} must hold real numbers; it holds complex numbers. Convert it to float first.")
    plain = tensor.detach().cpu()
    if plain.dtype.is_floating_point and plain.element_size() < 4:
        plain = plain.float()  # numpy has no bfloat16; every number of 16 bits or fewer is a float32
    try:
        return np.asarray(plain.resolve_neg().numpy())
    except (TypeError, RuntimeError) as error:
        raise InputError(
            f"{name} is a tensor of dtype {tensor.dtype} that numpy cannot hold ({_first_line(error)}). Convert it to "
            "float first."
        ) from error


def _unmasked(value: Any, name: str) -> np.ndarray:
    hidden = np.ma.getmaskarray(value)
    if hidden.dtype.names is None and hidden.any():
        rows = np.flatnonzero(hidden.reshape(len(hidden), -1).any(axis=1)) if hidden.ndim else np.zeros(1, int)
        first = ", ".join(str(row) for row in rows[:_SHOWN])
        raise InputError(
            f"{name} is a masked array with {int(hidden.sum())} masked entries (first rows: {first}). What they should "
            "be is not ours to guess: drop these rows, or fill them with filled(...)."
        )
    return np.asarray(value.data)


def _of_table(value: Any, name: str) -> np.ndarray:
    """A table or column; numbers that its library keeps in types of its own are converted, text is not."""
    array = np.asarray(value)
    if array.dtype.kind != "O":
        return array
    whole = hasattr(value, "columns")
    columns = list(value.columns) if whole else [getattr(value, "name", None) or "the only one"]
    kinds = list(value.dtypes) if whole else [value.dtype]
    odd = [f"{column} ({kind})" for column, kind in zip(columns, kinds, strict=True) if not _is_real(kind)]
    if odd:
        listed = ", ".join(odd[:_SHOWN]) + (", ..." if odd[_SHOWN:] else "")
        raise InputError(f"{name} must hold real numbers; of its columns these do not: {listed}. Keep the others.")
    return np.asarray(value.to_numpy(dtype=np.float64, na_value=np.nan))


def _is_real(kind: Any) -> bool:
    """Of a column's type, as pandas (a letter) or polars (a question) tells it."""
    known = getattr(kind, "kind", None)
    if known is not None:
        return str(known) in _REAL
    return bool(kind.is_numeric()) if hasattr(kind, "is_numeric") else False


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
