r"""Files read without trusting them.

A sample file often comes from somewhere else. So nothing is unpickled; an archive member is unpacked only after the
archive's directory has said how large it will become; an array header is believed only if the file is long enough for
it; images are decoded by four named decoders, and truncated or exploding ones refused. An image with a palette,
transparency or 16 bits is named and refused, because converting it silently would change the scores: 16 bits would be
clipped at 255, transparency would show hidden colours.
"""

from __future__ import annotations

import csv
import math
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from divergences.errors import InputError

__all__ = [
    "choose_key",
    "open_archive",
    "read_csv",
    "read_folder",
    "read_member",
    "read_npy",
    "read_text",
    "split_key",
    "stored_keys",
]

# No file may become larger than this in memory.
MAX_BYTES = 8 * 2**30
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
_IMAGE_MODES = {"L": "grey", "RGB": "colour"}
_SHOWN = 6
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, OverflowError, MemoryError, struct.error, zlib.error)


def split_key(source: str) -> tuple[Path, str | None]:
    """``FILE.npz:KEY`` → (FILE.npz, KEY), unless a file of that whole name exists."""
    path = Path(source)
    head, colon, key = source.rpartition(":")
    selected = colon and key and head.lower().endswith(".npz") and not _exists(path)
    path = Path(head) if selected else path
    if not _exists(path):
        raise InputError(f"{path}: there is no such file or folder.")
    return path, key if selected else None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long a name, or a NUL byte in it
        return False


def _open(path: Path) -> IO[bytes]:
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
    with _open(path) as file:
        try:
            return file.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8 text (byte {error.start}). Is it really a text file?") from error


def read_npy(path: Path) -> np.ndarray:
    """The array of a ``.npy`` file, read-only."""
    with _open(path) as file:
        return _read_array(file, path.stat().st_size, str(path))


def _read_array(file: Any, size: int, name: str) -> np.ndarray:
    """One array in .npy format whose header has been checked against the bytes that are there."""
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
    except _BROKEN as error:
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
    body = file.read(count * dtype.itemsize)
    file.read()  # to the end, so that an archive checks its checksum
    if len(body) < count * dtype.itemsize:
        raise InputError(f"{name} was cut short: copy or write it again.")
    flat = np.frombuffer(body, dtype=dtype, count=count)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def open_archive(path: Path) -> zipfile.ZipFile:
    """An ``.npz`` archive, open for reading; nothing in it has been unpacked yet."""
    _open(path).close()
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, *_BROKEN) as error:
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
    try:
        with archive.open(info) as member:
            return _read_array(member, info.file_size, f"{path}: {key!r}")
    except InputError:
        raise
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, *_BROKEN) as error:
        raise InputError(f"{path}: {key!r} is damaged or encrypted ({error}). Write it again.") from error


def read_csv(path: Path) -> np.ndarray:
    """A rectangle of numbers: commas, semicolons, tabs or blanks between them, at most one header line."""
    text = read_text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = next((mark for mark in (",", ";", "\t") if mark in first), None)
    cells = next(csv.reader([first], delimiter=delimiter), []) if delimiter else first.split()
    header = int(any(not _is_number(cell) for cell in cells))
    if header and any(_is_number(cell) for cell in cells):
        raise InputError(
            f"{path}: the first row mixes numbers and text ({first[:60]!r}). Keep the numeric columns only."
        )
    lines = [line for line in text.splitlines() if line.strip()][header:]
    if not lines:
        raise InputError(f"{path} holds no rows of numbers.")
    try:
        return np.loadtxt(lines, delimiter=delimiter, ndmin=2, comments=None)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{path} must hold the same number of numbers in every row, after at most one header line: "
            f"{str(error).rstrip('.')} (rows counted from 0 after the header)."
        ) from error


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def read_folder(folder: Path) -> np.ndarray:
    """All images of a folder, sorted by name, as (n, h, w) grey or (n, h, w, 3) colour bytes."""
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror or error}.") from error
    files = [entry for entry in entries if entry.suffix.lower() in _IMAGE_SUFFIXES and entry.is_file()]
    if not files:
        inner = next((entry.name for entry in entries if entry.is_dir()), None)
        hint = f" Its subfolders are not searched: name one, such as {folder / inner}." if inner else ""
        raise InputError(f"{folder} holds no images ({', '.join(_IMAGE_SUFFIXES)}).{hint}")
    images: list[np.ndarray] = []
    odd: dict[str, list[str]] = {}
    total = 0
    for file in files:
        image, what = _read_image(file)
        odd.setdefault(what, []).append(file.name)
        total += image.nbytes
        if total > MAX_BYTES:
            raise InputError(f"{folder} holds more than {MAX_BYTES / 2**30:g} GiB of pixels. Audit a part of it.")
        images.append(image)
    if len(odd) > 1:
        kinds = sorted(odd.items(), key=lambda item: -len(item[1]))
        listed = "; ".join(f"{len(names)} are {what} ({_some(names)})" for what, names in kinds[:_SHOWN])
        raise InputError(f"{folder}: all images must have one size and mode: {listed}. Convert them before the audit.")
    return np.stack(images)


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _read_image(path: Path) -> tuple[np.ndarray, str]:
    """The pixels, and the size and mode in words."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_IMAGE_FORMATS) as image:
                mode, frames = image.mode, getattr(image, "n_frames", 1)
                pixels = np.asarray(image) if mode in _IMAGE_MODES and frames == 1 else None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(f"{path} claims more pixels than an honest image has: {error}") from error
    except _BROKEN as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is not a complete PNG, JPEG, WEBP or BMP image ({reason}). Remove it.") from error
    if pixels is None:
        why = f"{frames} frames" if frames > 1 else f"mode {mode}"
        raise InputError(
            f"{path} has {why}; only 8-bit grey and RGB images are audited, since a silent conversion would change the "
            "scores. Convert the folder first, for instance with Pillow: image.convert('RGB').save(...)."
        )
    return pixels, f"{pixels.shape[1]}×{pixels.shape[0]} {_IMAGE_MODES[mode]}"
