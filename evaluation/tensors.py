r"""Tensors read without running anything: ``.safetensors`` by the format's own text, ``.pt`` by torch's safe loader.

A ``.safetensors`` file is eight bytes that say how long its header is, the header, and the bytes of the tensors. The
header is JSON: name → dtype, shape, and where the bytes begin and end. Every number in it is checked against the file,
and the tensors are mapped, not read. ``.pt`` files are pickles; ``torch.load(weights_only=True)`` builds nothing but
tensors from them and refuses the rest, so that a hostile file runs no code.

References:
    Safetensors: a simple and safe way to store and distribute tensors, https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import json
import math
import os
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from divergences.errors import InputError
from evaluation import readers

__all__ = ["TENSOR_SUFFIXES", "read_tensors"]

TENSOR_SUFFIXES = (".pt", ".pth", ".safetensors")
_LONGEST_HEADER = 100_000_000
_DTYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "?"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1"},
}


def read_tensors(path: Path, wanted: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The tensors of a file by name; a file that holds a single nameless tensor knows it as "".

    Args:
        path: ``.pt``, ``.pth`` or ``.safetensors``.
        wanted: names whose arrays are needed; if it is empty, all are.

    Raises:
        InputError: damage, lies in the header, code instead of tensors, or numbers of a type numpy does not have.
    """
    if path.suffix.lower() == ".safetensors":
        return _safetensors(path, wanted)
    return _pickled(path, wanted)


def _safetensors(path: Path, wanted: tuple[str, ...]) -> dict[str, np.ndarray]:
    with readers.opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(size - 8, _LONGEST_HEADER):
            raise InputError(f"{path} is no .safetensors file, or it was cut short. Copy or write it again.")
        header = _header(file.read(length), path)
        room = size - 8 - length
        places = {name: _place(entry, name, room, path) for name, entry in header.items() if name != "__metadata__"}
        _check_layout([(begin, end) for _, _, begin, end in places.values()], room, path)
        found = {}
        for name, (kind, shape, begin, _) in places.items():
            if wanted and name not in wanted:
                continue
            if math.prod(shape) == 0:
                raise InputError(f"{path}: {name!r} holds nothing: its shape is {shape}.")
            if kind not in _DTYPES:
                raise InputError(f"{path}: {name!r} has dtype {kind}; save it as float32 or uint8.")
            mapped = np.asarray(np.memmap(file, np.dtype(_DTYPES[kind]), "r", 8 + length + begin, shape))
            found[name] = _widened(mapped) if kind == "BF16" else mapped
    return found


def _header(text: bytes, path: Path) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) < len(pairs):
            raise ValueError("a name stands twice")
        return dict(pairs)

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: its header is damaged ({str(error)[:80]}). Copy or write it again.") from error
    if not isinstance(header, dict) or not set(header) - {"__metadata__"}:
        raise InputError(f"{path} holds no tensors.")
    return header


def _place(entry: Any, name: str, room: int, path: Path) -> tuple[str, tuple[int, ...], int, int]:
    """Type, shape, beginning and end of a tensor, if they agree with one another."""

    def whole(values: Any) -> bool:
        return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)

    if not (
        isinstance(entry, dict)
        and isinstance(entry.get("dtype"), str)
        and whole(entry.get("shape"))
        and whole(entry.get("data_offsets"))
        and len(entry["data_offsets"]) == 2
        and len(entry["shape"]) <= 64
    ):
        raise InputError(f"{path}: the header's entry {name[:80]!r} is damaged. Copy or write the file again.")
    (begin, end), shape, kind = entry["data_offsets"], tuple(entry["shape"]), entry["dtype"]
    if not begin <= end <= room:
        raise InputError(f"{path}: {name[:80]!r} lies outside the file, which was cut short. Copy or write it again.")
    if kind in _DTYPES and math.prod(shape) * np.dtype(_DTYPES[kind]).itemsize != end - begin:
        raise InputError(
            f"{path}: {name[:80]!r} of shape {shape[:8]} and dtype {kind} does not take {end - begin} bytes. Copy or "
            "write the file again."
        )
    return kind, shape, begin, end


def _check_layout(places: list[tuple[int, int]], room: int, path: Path) -> None:
    """The format lets tensors neither overlap nor leave gaps in which something could hide."""
    at = 0
    for begin, end in sorted(places):
        if begin != at:
            raise InputError(f"{path}: its tensors overlap or leave gaps, which the format forbids. Write it again.")
        at = end
    if at != room:
        raise InputError(f"{path} holds {room - at} bytes that belong to no tensor. Copy or write it again.")


def _widened(halves: np.ndarray) -> np.ndarray:
    """bfloat16 is the upper half of a float32."""
    return (halves.astype(np.uint32) << 16).view(np.float32)


def _pickled(path: Path, wanted: tuple[str, ...]) -> dict[str, np.ndarray]:
    readers.opened(path).close()
    modern = _check_archive(path)
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch wonders about in a file that it then refuses
            given = torch.load(path, map_location="cpu", weights_only=True, mmap=modern)
    except Exception as error:  # torch raises anything from KeyError to RuntimeError on damaged or hostile files
        raise InputError(
            f"{path} holds something other than tensors, whose loading could run code (such as a whole model, or numpy "
            "arrays), or it is damaged. Save the tensor alone: torch.save(samples, path); or use .npy."
        ) from error
    if torch.is_tensor(given):
        given = {"": given}
    if not isinstance(given, dict):
        raise InputError(
            f"{path} holds a {type(given).__name__}; a tensor, or a dict of tensors such as "
            "{'samples': x, 'labels': y}, is needed."
        )
    found = {str(name): value for name, value in given.items() if torch.is_tensor(value)}
    return {name: _array(found[name], name, path) for name in found if not wanted or name in wanted}


def _check_archive(path: Path) -> bool:
    """Whether it is an archive, as torch writes them today; one that would explode, or a program, is refused."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            total = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, *readers.BROKEN) as error:
        raise InputError(f"{path} is damaged ({str(error)[:80]}). Copy or write it again.") from error
    if total > readers.MAX_BYTES:
        raise InputError(
            f"{path} would become {total / 2**30:.1f} GiB in memory; at most {readers.MAX_BYTES / 2**30:g} GiB are "
            "read. Audit a part of it."
        )
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        raise InputError(
            f"{path} is a TorchScript archive, a program whose loading runs code. Save samples as a tensor: "
            "torch.save(samples, path)."
        )
    return True


def _array(tensor: Any, name: str, path: Path) -> np.ndarray:
    import torch

    what = f"{path}: {name!r}" if name else str(path)
    if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        raise InputError(f"{what} is a sparse, quantized or empty-handed tensor. Save it as an ordinary one.")
    if tensor.numel() * tensor.element_size() > readers.MAX_BYTES:
        raise InputError(
            f"{what} would become {tensor.numel() * tensor.element_size() / 2**30:.1f} GiB in memory; at most "
            f"{readers.MAX_BYTES / 2**30:g} GiB are read."
        )
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    try:
        return np.asarray(tensor.detach().resolve_conj().resolve_neg().numpy())
    except (TypeError, RuntimeError) as error:
        raise InputError(f"{what} has dtype {tensor.dtype}; save it as float32 or uint8.") from error
