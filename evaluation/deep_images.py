r"""Images of more than 8 bits per channel, every bit of them.

Pillow has no mode for colours of 16 bits: it reads such files and hands out the upper bytes alone. What it does have is
a decoder for each byte order. So a file is decoded twice, the second time with the order reversed, which hands out the
lower bytes; grey with an alpha channel, for which there is one decoder only, is read as four channels of 8 bits.
Binary PGM and PPM files have no compression and are read as they stand.

The largest value that the file's own format allows is white: 65535 for 16 bits.
"""

from __future__ import annotations

import io
import struct
import sys
import zlib
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt16

__all__ = ["Deep", "Undecodable", "deep_pixels", "largest_value"]

_HEADER_END = 33  # of a PNG: signature, and the chunk IHDR
_OPPOSITE = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}
_TIFF_BITS, _TIFF_WHITE, _TIFF_SIGN = 258, 262, 339


class Undecodable(Exception):
    """More than 8 bits, in a layout that is not read; the text says which."""


class Deep(NamedTuple):
    """Channels as they are in the file.

    Attributes:
        channels: (h, w, c) with c = 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha).
        white: the largest value the file allows.
        key: the colour that is meant to be transparent, (c,), or None.
    """

    channels: UInt16[np.ndarray, "h w c"]
    white: int
    key: np.ndarray | None


def largest_value(image: Any, data: bytes) -> int:
    """The largest value that a channel of an opened image may have by its header; 255 where that is not said.

    Args:
        image: as Pillow opened it.
        data: the bytes of its file.
    """
    if image.format == "PNG" and data[12:16] == b"IHDR":
        return int(2 ** data[24] - 1)
    if image.format == "TIFF":
        bits = image.tag_v2.get(_TIFF_BITS, (1,))
        return int(2 ** max(bits if isinstance(bits, tuple) else (bits,)) - 1)
    if image.format == "PPM" and data[:2] in (b"P5", b"P6"):
        return _netpbm_header(data)[2]
    if image.format == "PPM" and image.mode == "I":
        raise Undecodable("has more than 8 bits, written as text")
    # Pillow scales colours written as text to 8 bits, whatever they were.
    if image.format == "PPM" and data[:2] == b"P3" and _netpbm_header(data)[2] > 255:
        raise Undecodable("has more than 8 bits, written as text")
    return 255


def deep_pixels(image: Any, data: bytes) -> Deep:
    """The channels of an image of 9 to 16 bits.

    Args:
        image: as Pillow opened it; it has not been loaded yet.
        data: the bytes of its file.

    Raises:
        Undecodable: signed numbers, fractions, more than 16 bits, black and white exchanged, CMYK, unknown channels.
    """
    white = largest_value(image, data)
    if white > 65535:
        raise Undecodable(f"has {white.bit_length()} bits per channel")
    if image.format == "PPM":
        return Deep(_netpbm(data), white, None)
    if image.format == "TIFF":
        _check_tiff(image)
    if image.mode.startswith("I"):
        image.load()
        channels = np.asarray(image).astype(np.uint16)[..., None]
    elif image.format == "PNG" and data[25] == 4:
        channels = _grey_with_alpha(data)
    elif image.mode in ("RGB", "RGBA"):
        channels = _both_bytes(image, data)
    else:
        raise Undecodable(f"has mode {image.mode} and more than 8 bits per channel")
    key = image.info.get("transparency")
    return Deep(channels, white, None if key is None else np.atleast_1d(np.asarray(key, dtype=np.int64)))


def _check_tiff(image: Any) -> None:
    tags = image.tag_v2
    if image.mode == "CMYK":
        raise Undecodable("has mode CMYK")
    if image.mode == "F" or set(np.atleast_1d(tags.get(_TIFF_SIGN, 1)).tolist()) != {1}:
        raise Undecodable(f"has mode {image.mode}, signed numbers or fractions, whose white is not known")
    if tags.get(_TIFF_WHITE) == 0:
        raise Undecodable("has more than 8 bits per channel, with 0 for white")


def _both_bytes(image: Any, data: bytes) -> np.ndarray:
    """Upper bytes from one decoding, lower ones from a second with the byte order reversed."""
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=(image.format,)) as again:
        again.tile = [_reversed(tile) for tile in again.tile]
        again.load()
        lower = np.asarray(again)
    image.load()
    upper = np.asarray(image)
    if upper.shape != lower.shape or upper.dtype != np.uint8:
        raise Undecodable("has more than 8 bits per channel, which this Pillow does not give out")
    return upper.astype(np.uint16) << 8 | lower


def _reversed(tile: Any) -> Any:
    codec, extents, offset, given = tile
    words = (given,) if isinstance(given, str) else tuple(given)
    head, order = str(words[0])[:-4], str(words[0])[-4:]
    # Premultiplied and unknown channels have rawmodes of their own, and are not colours as they stand.
    if head not in ("RGB", "RGBA") or order not in _OPPOSITE:
        raise Undecodable(f"has more than 8 bits per channel, in a layout ({words[0]}) that is not read")
    other = head + _OPPOSITE[order]
    changed = other if isinstance(given, str) else (other, *words[1:])
    return tile._replace(args=changed) if hasattr(tile, "_replace") else (codec, extents, offset, changed)


def _grey_with_alpha(data: bytes) -> np.ndarray:
    """A PNG of grey and alpha of 16 bits each has the same rows as one of four channels of 8 bits."""
    from PIL import Image

    header = data[12:24] + b"\x08\x06" + data[26:29]
    relabelled = data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[_HEADER_END:]
    with Image.open(io.BytesIO(relabelled), formats=("PNG",)) as image:
        image.load()
        four = np.asarray(image).astype(np.uint16)
    return four[..., 0::2] << 8 | four[..., 1::2]


def _netpbm_header(data: bytes) -> tuple[int, int, int, int]:
    """Width, height, largest value, and where the pixels begin."""
    numbers: list[int] = []
    at = 2
    while len(numbers) < 3:
        while at < len(data) and data[at : at + 1].isspace():
            at += 1
        if data[at : at + 1] == b"#":
            at = data.find(b"\n", at) + 1 or len(data)
            continue
        end = at
        while end < len(data) and data[end : end + 1].isdigit():
            end += 1
        if end == at:
            raise ValueError("its header is damaged")
        numbers.append(int(data[at:end]))
        at = end
    return numbers[0], numbers[1], numbers[2], at + 1


def _netpbm(data: bytes) -> np.ndarray:
    width, height, white, start = _netpbm_header(data)
    count = width * height * (3 if data[:2] == b"P6" else 1)
    if len(data) - start < 2 * count:
        raise ValueError("it was cut short")
    values = np.frombuffer(data, ">u2", count, start).astype(np.uint16)
    if values.max() > white:
        raise ValueError("it holds values beyond its own largest")
    return values.reshape(height, width, -1)
