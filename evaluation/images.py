r"""Images as arrays, none of their values changed on the way.

All images of a set must have one size and one depth, and all be grey or all in colour. Images of 8 bits become bytes.
Those of 9 to 16 bits become fractions of the largest value that their file allows, in single precision: the scale
[0, 1] on which the pixels of bytes are compared too. What can be turned into grey or RGB without losing anything is,
and is noted: one bit per pixel, a palette, an alpha channel that is opaque everywhere. What cannot is refused, with a
list: transparency would show hidden colours, CMYK would be guessed at, the white of signed numbers and fractions is not
known. Decoders are named one by one, and truncated or exploding images refused.

For lossy formats the strength of the compression is estimated, because it moves every score: the quality of a JPEG from
its quantisation table.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from divergences.errors import InputError
from evaluation import readers
from evaluation.deep_images import Undecodable, deep_pixels, largest_value

__all__ = ["IMAGE_SUFFIXES", "Pictures", "class_labels", "decoded", "is_image_name", "shown"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".pgm", ".ppm", ".tif", ".tiff")
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM", "TIFF")
_SHOWN = 6
# Pixels of a set may take this many times the bytes of its files, unless they are few: what is more is a bomb.
MAX_RATIO = 500
_TIFF_CHANNELS = 277
HARMLESS = 2**28
_CLEAR = (
    "Put transparent ones on one background: Image.alpha_composite(Image.new('RGBA', image.size, 'white'), "
    "image.convert('RGBA')).convert('RGB')."
)
_INK = "Convert those of printing colours with their profile, or by image.convert('RGB')."
_DAMAGED = "Write damaged ones again, or leave them out."
_LARGE = "Cut large ones into smaller images, or leave them out."
_OTHER = "Save odd ones as 8-bit grey or RGB PNG, all in the same way, or leave them out."
# Sum of the luminance table of the JPEG standard (Annex K) at quality 50, entry by entry.
_LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)


@dataclass(frozen=True)
class Pictures:
    """A set of images that was read.

    Attributes:
        array: (n, h, w) or (n, h, w, 3), in order of their names: uint8, or float32 on [0, 1] if they have more than 8
            bits.
        labels: names of the class folders they lie in, shape (n,), or None.
        formats: the file formats met, such as "PNG" or "JPEG quality 95".
        notes: what was converted, in words.
    """

    array: np.ndarray
    labels: np.ndarray | None
    formats: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Image:
    name: str
    pixels: np.ndarray
    format: str
    change: str = ""
    either: bool = False  # grey values in a palette: equally well grey or in colour
    depth: int = 8


class _Odd(Exception):
    """This image cannot be used: why, and what to do."""

    def __init__(self, why: str, remedy: str = _OTHER) -> None:
        super().__init__(why)
        self.remedy = remedy


def is_image_name(name: str) -> bool:
    """Whether a file is taken for an image: by its ending, unless it or a folder on its way is hidden.

    >>> is_image_name("cats/1.PNG"), is_image_name("__MACOSX/._1.png"), is_image_name("notes.txt")
    (True, False, False)
    """
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") and part not in (".", "..") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden


def shown(name: str) -> str:
    """A name from a stranger's archive, fit for a terminal: short, and without control characters."""
    clean = "".join(letter if letter.isprintable() else "?" for letter in name)
    return clean if len(clean) <= 80 else f"…{clean[-79:]}"


def decoded(files: Iterable[tuple[str, bytes]], where: str) -> Pictures:
    """Decode images, named with slashes, and put them in order of their names.

    Args:
        files: (name, the bytes of the file).
        where: what they come from, for messages.

    Raises:
        InputError: none, or some that cannot be used, which are listed; or more pixels than fit in memory.
    """
    images: list[_Image] = []
    odd: list[str] = []
    remedies: dict[str, None] = {}
    total = seen = packed = 0
    for name, data in files:
        seen += 1
        packed += len(data)
        try:
            image = _decode(name, data)
        except _Odd as error:
            odd.append(f"{shown(name)} {error}" if len(odd) < _SHOWN else "")
            remedies[error.remedy] = None
            continue
        total += image.pixels.nbytes
        if total > readers.MAX_BYTES:
            limit = readers.MAX_BYTES / 2**30
            raise InputError(f"{where} holds more than {limit:g} GiB of pixels. Audit a part of it.")
        if total > HARMLESS and total > MAX_RATIO * packed:
            raise InputError(
                f"{where} would become more than {total / 2**20:.0f} MiB of pixels, over {MAX_RATIO} times the size of "
                "its files, as images made to fill the memory do. If it is honest, audit a part of it, or save it as "
                "an array."
            )
        images.append(image)
    if not seen:
        raise InputError(f"{where} holds no images ({', '.join(IMAGE_SUFFIXES)}).")
    if odd:
        more = ", …" if len(odd) > _SHOWN else ""
        raise InputError(
            f"{where}: {len(odd)} of {seen} images cannot be used as they are: {', '.join(odd[:_SHOWN])}{more}. A "
            f"silent conversion would change the scores. {' '.join(remedies)}"
        )
    images.sort(key=lambda image: image.name)
    changes = sorted({image.change for image in images} - {""})
    counts = [sum(image.change == change for image in images) for change in changes]
    notes = [f"{n} image{'s' if n > 1 else ''} {change}" for n, change in zip(counts, changes, strict=True)]
    names, formats = [image.name for image in images], _formats({image.format for image in images})
    return Pictures(_stacked(images, where), class_labels(names), formats, tuple(notes))


def class_labels(names: list[str]) -> np.ndarray | None:
    """The class of each image, where each lies in a folder of its class; None where they do not.

    >>> class_labels(["set/cat/1.png", "set/dog/1.png"]).tolist(), class_labels(["1.png", "dog/1.png"])
    (['cat', 'dog'], None)
    """
    parts = [PurePosixPath(name).parts for name in names]
    depth = 0
    while all(len(part) > depth + 1 and part[depth] == parts[0][depth] for part in parts):
        depth += 1
    if any(len(part) < depth + 2 for part in parts):
        return None
    return np.array([part[depth] for part in parts])


def _stacked(images: list[_Image], where: str) -> np.ndarray:
    """All of them in one array; the list is emptied on the way, so that they are not in memory twice."""
    firm = {image.pixels.ndim for image in images if not image.either}
    if firm == {3}:
        images = [_in_colour(image) if image.either else image for image in images]
    kinds: dict[str, list[str]] = {}
    for image in images:
        height, width = image.pixels.shape[:2]
        colour = "grey" if image.pixels.ndim == 2 else "colour"
        depth = "" if image.depth == 8 else f" of {image.depth} bits"
        kinds.setdefault(f"{width}×{height} {colour}{depth}", []).append(shown(image.name))
    if len(kinds) > 1:
        ranked = sorted(kinds.items(), key=lambda item: -len(item[1]))
        listed = "; ".join(f"{len(names)} are {what} ({_some(names)})" for what, names in ranked[:_SHOWN])
        raise InputError(
            f"{where}: all images must have one size and mode: {listed}. Bring them to one before the "
            "audit, or leave the odd ones out."
        )
    array = np.empty((len(images), *images[0].pixels.shape), images[0].pixels.dtype)
    for i in reversed(range(len(images))):
        array[i] = images.pop().pixels
    return array


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _in_colour(image: _Image) -> _Image:
    return _Image(image.name, np.repeat(image.pixels[..., None], 3, axis=2), image.format, image.change)


def _decode(name: str, data: bytes) -> _Image:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                frames = getattr(image, "n_frames", 1)
                if frames > 1:
                    raise _Odd(f"has {frames} frames")
                white = largest_value(image, data)
                if white > 255:
                    pixels, change = _fractions(image, data)
                    return _Image(name, pixels, _format(image, data), change, depth=white.bit_length())
                image.load()
                pixels, change = _pixels(image, white)
                return _Image(name, pixels, _format(image, data), change, either=change.endswith("grey palette"))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise _Odd("claims more pixels than an honest image has", _LARGE) from error
    except Undecodable as error:
        raise _Odd(str(error), _INK if "CMYK" in str(error) else _OTHER) from error
    except _Odd:
        raise
    except (*readers.BROKEN, Warning, RuntimeError, KeyError, IndexError, TypeError, AttributeError) as error:
        # Decoders meet damage in many ways; whichever it is, this file is not an image.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "BytesIO" in reason:
            reason = "no such format"
        raise _Odd(f"is not a complete PNG, JPEG, WEBP, BMP, PPM or TIFF image ({reason})", _DAMAGED) from error


def _fractions(image: Any, data: bytes) -> tuple[np.ndarray, str]:
    """Grey (h, w) or RGB (h, w, 3) of more than 8 bits as fractions of white, and what was done."""
    channels, white, key = deep_pixels(image, data)
    note = f"had more than 8 bits per channel, read as fractions of {white}"
    if channels.shape[-1] in (2, 4):
        if channels[..., -1].min() < white:
            raise _Odd(f"has mode {image.mode}, with transparent pixels", _CLEAR)
        channels = channels[..., :-1]
        note += "; the alpha channel, opaque everywhere, was dropped"
    elif key is not None and (channels == key).all(axis=-1).any():
        raise _Odd(f"has mode {image.mode}, with transparent pixels", _CLEAR)
    values = (channels / white).astype(np.float32)
    return (values[..., 0] if values.shape[-1] == 1 else values), note


def _pixels(image: Any, white: int) -> tuple[np.ndarray, str]:
    """8-bit grey (h, w) or RGB (h, w, 3), and what had to be done for it; only what loses nothing is done."""
    mode = image.mode
    grey, note = mode in ("L", "LA", "1"), ""
    if mode in ("LA", "RGBA", "PA") or "transparency" in image.info:
        if mode not in ("L", "LA", "P", "PA", "RGB", "RGBA", "1"):
            raise _Odd(f"has mode {mode} with transparency")
        if mode == "L" and white < 255 and isinstance(image.info.get("transparency"), int):
            # Of 2 or 4 bits the pixels have been spread over 0 to 255, and the transparent grey has not.
            image.info["transparency"] *= 255 // white
        image = image.convert("RGBA")
        if np.asarray(image)[..., 3].min() < 255:
            raise _Odd(f"has mode {mode}, with transparent pixels", _CLEAR)
        note = "had an alpha channel that is opaque everywhere, which was dropped"
        image = image.convert("RGB")
    elif mode == "P":
        image, note = image.convert("RGB"), "had a palette, whose colours were put in"
    elif mode == "1":
        image, note = image.convert("L"), "had one bit per pixel, read as 0 and 255"
    elif mode not in ("L", "RGB"):
        raise _Odd(f"has mode {mode}", _INK if mode in ("CMYK", "LAB", "YCbCr") else _OTHER)
    if image.format == "TIFF" and image.tag_v2.get(_TIFF_CHANNELS, 1) > len(image.getbands()):
        raise _Odd("has more channels than its colours need")
    pixels = np.asarray(image)
    if grey and pixels.ndim == 3:
        pixels = pixels[..., 0]
    if mode == "P" and pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        return np.ascontiguousarray(pixels[..., 0]), "had a grey palette"
    return np.ascontiguousarray(pixels), note


def _format(image: Any, data: bytes) -> str:
    if image.format in ("JPEG", "MPO"):
        return f"JPEG quality {_jpeg_quality(image)}"
    if image.format == "WEBP":
        # The chunk after the header says how the pixels are coded; an extended file has it further on.
        return "WEBP lossless" if b"VP8L" in data[:64] else "WEBP lossy"
    if image.format == "TIFF" and "jpeg" in str(image.info.get("compression")):
        return "JPEG in TIFF"
    return "PGM or PPM" if image.format == "PPM" else str(image.format)


def _jpeg_quality(image: Any) -> int:
    """The quality 1 to 100 of the standard table that is nearest in sum to the luminance table of this one."""
    total = sum(next(iter(image.quantization.values()), _LUMINANCE))
    return int(np.abs(_table_sums() - total).argmin()) + 1


@cache
def _table_sums() -> np.ndarray:
    quality = np.arange(1, 101)[:, None]
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return np.clip((np.array(_LUMINANCE) * scale + 50) // 100, 1, 255).sum(axis=1)


def _formats(met: set[str]) -> tuple[str, ...]:
    qualities = sorted(int(name.split()[-1]) for name in met if name.startswith("JPEG quality"))
    others = sorted(name for name in met if not name.startswith("JPEG quality"))
    if not qualities:
        return tuple(others)
    low, high = qualities[0], qualities[-1]
    return (f"JPEG quality {low}" if low == high else f"JPEG quality {low} to {high}", *others)
