r"""Arrays and tables read without trusting the file.

A sample file often comes from somewhere else. So nothing is unpickled; an archive member is unpacked only after the
archive's directory has said how large it will become; an array header is believed only if the file is long enough for
it. A ``.npy`` array is mapped, not read: its pages come into memory when they are looked at, and may be dropped again,
so that a file larger than the memory can be worked through. It must not be changed while it is in use.
"""

from __future__ import annotations

import csv
import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from divergences.errors import InputError

__all__ = [
    "cells_of",
    "choose_key",
    "open_archive",
    "opened",
    "read_csv",
    "read_member",
    "read_npy",
    "read_text",
    "split_key",
    "stored_keys",
]

# No file may become larger than this in memory.
MAX_BYTES = 8 * 2**30
# An array that is to become this many times its size in the archive is a bomb, unless it is small.
MAX_RATIO = 200
HARMLESS = 2**28
# Files in which a part can be named, FILE:KEY.
_WITH_KEYS = (".npz", ".pt", ".pth", ".safetensors")
_SHOWN = 6
# What readers raise on damaged files.
BROKEN = (OSError, ValueError, SyntaxError, EOFError, OverflowError, MemoryError, struct.error, zlib.error)


def split_key(source: str) -> tuple[Path, str | None]:
    """``FILE.npz:KEY`` → (FILE.npz, KEY), and likewise of tensor files, unless a file of that whole name exists."""
    if not source.strip():
        raise InputError("the path is empty: name a file or folder.")
    path = Path(source)
    head, colon, key = source.rpartition(":")
    selected = colon and key and head.lower().endswith(_WITH_KEYS) and not _exists(path)
    path = Path(head) if selected else path
    if not _exists(path):
        raise InputError(f"{path}: there is no such file or folder.")
    return path, key if selected else None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long a name, or a NUL byte in it
        return False


def opened(path: Path) -> IO[bytes]:
    """An ordinary, non-empty file of bearable size, open for reading."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; a file is needed here.")
    try:
        if not _exists(path):
            raise InputError(f"{path}: there is no such file.")
        if not path.is_file():
            raise InputError(f"{path} is not an ordinary file.")
        size = path.stat().st_size
        if size == 0:
            raise InputError(f"{path} is empty. Was the program that writes it interrupted?")
        if size > MAX_BYTES:
            raise InputError(f"{path} holds {size / 2**30:.1f} GiB; at most {MAX_BYTES / 2**30:g} GiB are read.")
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error


def read_text(path: Path) -> str:
    """The whole of a UTF-8 text file."""
    with opened(path) as file:
        try:
            return file.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8 text (byte {error.start}). Is it really a text file?") from error


def read_npy(path: Path) -> np.ndarray:
    """The array of a ``.npy`` file, read-only and mapped: nothing is in memory before it is looked at."""
    with opened(path) as file:
        shape, fortran, dtype = _checked_header(file, path.stat().st_size, str(path))
        mapped = np.memmap(file, dtype, "r", file.tell(), shape, "F" if fortran else "C")
    return np.asarray(mapped)


def _read_array(file: Any, size: int, name: str) -> np.ndarray:
    """One array in .npy format, read from an archive."""
    shape, fortran, dtype = _checked_header(file, size, name)
    count = math.prod(shape)
    body = file.read(count * dtype.itemsize)
    file.read()  # to the end, so that an archive checks its checksum
    if len(body) < count * dtype.itemsize:
        raise InputError(f"{name} was cut short: copy or write it again.")
    flat = np.frombuffer(body, dtype=dtype, count=count)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def _checked_header(file: Any, size: int, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type of an array in .npy format, if the bytes that it promises are there."""
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise InputError(f"{name} is in .npy format {version}, with field names. Save a plain array of numbers.")
    except InputError:
        raise
    except BROKEN as error:
        raise InputError(
            f"{name} is not a .npy array, or its header is damaged; pickles are never read. Write it with numpy.save."
        ) from error
    if dtype.hasobject:
        raise InputError(
            f"{name} holds pickled Python objects, which could run code when read. Save a plain array of numbers: "
            "numpy.save(path, numpy.stack(list_of_samples))."
        )
    count, there = math.prod(shape), size - file.tell()
    if any(axis < 0 for axis in shape) or count * dtype.itemsize > there:
        raise InputError(
            f"{name} promises an array of shape {shape} and dtype {dtype}, but holds only {there} bytes of it. It was "
            "cut short: copy or write it again."
        )
    if count * dtype.itemsize == 0:
        raise InputError(f"{name} holds nothing: its shape is {shape}.")
    return shape, fortran, dtype


def open_archive(path: Path) -> zipfile.ZipFile:
    """An ``.npz`` archive, open for reading; nothing in it has been unpacked yet."""
    opened(path).close()
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, *BROKEN) as error:
        raise InputError(
            f"{path} is not a complete .npz archive ({error}). It was cut short or is something else; write it again "
            "with numpy.savez."
        ) from error


def stored_keys(archive: zipfile.ZipFile) -> list[str]:
    """The names of the arrays in an archive."""
    return [name[:-4] for name in archive.namelist() if name.endswith(".npy")]


def choose_key(archive: zipfile.ZipFile, path: Path, preferred: tuple[str, ...]) -> str:
    """The first preferred key that is there, else the only one; an error lists them otherwise."""
    keys = stored_keys(archive)
    for key in preferred:
        if key in keys:
            return key
    if len(keys) == 1:
        return keys[0]
    if not keys:
        raise InputError(f"{path} holds no arrays. Write it with numpy.savez(path, samples=...).")
    if {"mu", "sigma"} <= set(keys):
        raise InputError(
            f"{path} holds the statistics of a feature set (mu, sigma), and no samples. An audit needs the samples "
            "themselves; statistics serve a Fréchet distance alone."
        )
    raise InputError(f"{path} holds several arrays ({_some(keys)}); say which: {path}:{keys[0]}.")


def read_member(archive: zipfile.ZipFile, key: str, path: Path) -> np.ndarray:
    """One array of an archive, unpacked only if the archive says that it fits in memory."""
    keys = stored_keys(archive)
    if key not in keys:
        raise InputError(f"{path} holds no array {key!r}; it holds {_some(keys) or 'nothing'}.")
    info = archive.getinfo(f"{key}.npy")
    if info.file_size > MAX_BYTES:
        raise InputError(
            f"{path}: {key!r} would become {info.file_size / 2**30:.1f} GiB in memory; at most {MAX_BYTES / 2**30:g} "
            "GiB are read. Audit a part of it."
        )
    if info.file_size > HARMLESS and info.file_size > MAX_RATIO * info.compress_size:
        raise InputError(
            f"{path}: {key!r} would become {info.file_size / 2**20:.0f} MiB in memory, over {MAX_RATIO} times what it "
            "takes in the file, as archives made to fill the memory do. If it is honest, write it with numpy.savez, "
            "not compressed."
        )
    try:
        with archive.open(info) as member:
            return _read_array(member, info.file_size, f"{path}: {key!r}")
    except InputError:
        raise
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, *BROKEN) as error:
        raise InputError(f"{path}: {key!r} is damaged or encrypted ({error}). Write it again.") from error


def read_csv(path: Path) -> np.ndarray:
    """A rectangle of numbers: commas, semicolons, tabs or blanks between them, at most one header line."""
    rows = [(i, line) for i, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]
    first = rows[0][1] if rows else ""
    delimiter = next((mark for mark in (";", ",", "\t") if mark in first), None)
    cells = cells_of(first, delimiter)
    _check_header(cells, [line for _, line in rows[1:2]], path)
    if rows and not any(_is_number(cell) for cell in cells):
        rows = rows[1:]
    if not rows:
        raise InputError(f"{path} holds no rows of numbers.")
    try:
        return np.loadtxt([line for _, line in rows], delimiter=delimiter, ndmin=2, comments=None, quotechar='"')
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{path} must hold the same number of numbers in every row, after at most one header line: "
            f"{_first_offence(rows, delimiter) or str(error).split(';')[0]}."
        ) from error


def cells_of(line: str, delimiter: str | None) -> list[str]:
    """The cells of one line, quotation marks taken off; blanks part them if there is no delimiter."""
    try:
        return next(csv.reader([line], delimiter=delimiter), []) if delimiter else line.split()
    except csv.Error:  # a cell longer than the module takes, or bytes that are no text
        return line.split(delimiter)


def _check_header(cells: list[str], following: list[str], path: Path) -> None:
    """An error for the header lines of tables whose row or column numbers would be taken for data."""
    if len(cells) > 1 and not cells[0].strip() and all(cell.strip() for cell in cells[1:]):
        raise InputError(
            f"{path}: the first column has no name, as row numbers have in the files of pandas. They are no "
            "coordinates: write the table without them, to_csv(path, index=False)."
        )
    if len(cells) > 1 and cells == [str(i) for i in range(len(cells))] and any("." in line for line in following):
        raise InputError(
            f"{path}: the first row counts the columns, 0 to {len(cells) - 1}, as pandas does for columns without "
            "names. Write the table without it, to_csv(path, header=False, index=False)."
        )


def _first_offence(rows: list[tuple[int, str]], delimiter: str | None) -> str:
    """Where the first row stands that cannot be read, and why, with the line numbers of the file."""
    width = len(cells_of(rows[0][1], delimiter))
    for number, line in rows:
        cells = cells_of(line, delimiter)
        for column, cell in enumerate(cells, 1):
            if _is_number(cell):
                continue
            place = f"line {number}, column {column}"
            if not cell.strip():
                return f"{place} is empty"
            comma = "; write decimal points, not commas" if _is_number(cell.replace(",", ".")) else ""
            return f"{place} is no number ({cell[:40]!r}){comma}"
        if len(cells) != width:
            return f"line {number} holds {len(cells)} numbers and line {rows[0][0]} holds {width}"
    return ""


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
