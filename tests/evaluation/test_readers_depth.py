"""Images of more than 8 bits, written here byte by byte: every bit is read, or the file is refused by name."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from divergences import InputError
from evaluation import audit, compare_sources, images, load_samples
from tests.evaluation.test_readers_images import COLOUR, GREY, encoded, write

RNG = np.random.default_rng(3)
SHAPES = {1: (9, 7), 2: (9, 7, 2), 3: (9, 7, 3), 4: (9, 7, 4)}
PNG_COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}


def deep(channels, seed=0, opaque=True):
    """Random 16-bit channels, the two bytes of which differ; the last of 2 or 4 is alpha."""
    values = np.random.default_rng(seed).integers(0, 65536, SHAPES[channels]).astype(np.uint16)
    if channels in (2, 4) and opaque:
        values[..., -1] = 65535
    return values


def _chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _filtered(values, filters):
    """Rows of a PNG: the filter's number, then the bytes less what the filter predicts; the format's own formulas."""
    height = len(values)
    rows = values.reshape(height, -1).astype(">u2").view(np.uint8).reshape(height, -1).astype(int)
    step = 2 * (values.shape[2] if values.ndim == 3 else 1)
    above = np.zeros(rows.shape[1], dtype=int)
    out = bytearray()
    for number, row in zip(filters, rows, strict=True):
        left = np.concatenate([np.zeros(step, int), row[:-step]]) if row.size > step else np.zeros_like(row)
        corner = np.concatenate([np.zeros(step, int), above[:-step]]) if row.size > step else np.zeros_like(row)
        guess = left + above - corner
        distances = np.abs(np.stack([guess - left, guess - above, guess - corner]))
        paeth = np.choose(distances.argmin(axis=0), [left, above, corner])
        predicted = [0 * row, left, above, (left + above) // 2, paeth][number]
        out += bytes([number]) + ((row - predicted) % 256).astype(np.uint8).tobytes()
        above = row
    return bytes(out)


def png(values, interlaced=False, transparent=None):
    """A PNG of 16 bits; the filters take turns."""
    height, width = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    if interlaced:
        starts = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
        parts = [values[top::down, left::right] for top, left, down, right in starts]
        parts = [part for part in parts if part.size]
    else:
        parts = [values]
    body = b"".join(_filtered(part, [i % 5 for i in range(len(part))]) for part in parts)
    header = struct.pack(">IIBBBBB", width, height, 16, PNG_COLOUR[channels], 0, 0, int(interlaced))
    keyed = b"" if transparent is None else _chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent))
    start = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + keyed
    return start + _chunk(b"IDAT", zlib.compress(body)) + _chunk(b"IEND", b"")


def tiff(values, order="<", packed=False, extra=None, photometric=None, sign=1, bits=16):
    """A TIFF of one strip."""
    height, width = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    pixels = values.astype(f"{order}u2").tobytes()
    pixels = zlib.compress(pixels) if packed else pixels
    photometric = (2 if channels >= 3 else 1) if photometric is None else photometric
    fields = [(256, [width]), (257, [height]), (258, [bits] * channels), (259, [8 if packed else 1])]
    fields += [(262, [photometric]), (273, [8]), (277, [channels]), (278, [height]), (279, [len(pixels)]), (284, [1])]
    fields += [] if extra is None else [(338, [extra])]
    fields += [(339, [sign] * channels)]
    at = 8 + len(pixels) + len(pixels) % 2
    table, far = struct.pack(f"{order}H", len(fields)), b""
    room = at + 2 + 12 * len(fields) + 4
    for tag, numbers in fields:
        kind, letter = (4, "I") if tag in (273, 279) else (3, "H")
        body = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        if len(body) > 4:
            body, far = struct.pack(f"{order}I", room + len(far)), far + body
        table += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + body.ljust(4, b"\0")
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", at)
    return start + pixels + bytes(len(pixels) % 2) + table + bytes(4) + far


def netpbm(values, white=65535):
    head = b"P6" if values.ndim == 3 else b"P5"
    height, width = values.shape[:2]
    return head + f"\n# made here\n{width} {height}\n{white}\n".encode() + values.astype(">u2").tobytes()


WRITERS = {
    **{f"png {c}": (c, png) for c in (1, 2, 3, 4)},
    **{f"png {c} interlaced": (c, lambda x: png(x, interlaced=True)) for c in (1, 2, 3, 4)},
    **{f"tiff {c} {o}": (c, lambda x, o=o: tiff(x, o)) for c in (1, 3, 4) for o in "<>"},
    **{f"tiff {c} {o} packed": (c, lambda x, o=o: tiff(x, o, packed=True)) for c in (1, 3) for o in "<>"},
    "tiff alpha said": (4, lambda x: tiff(x, extra=2)),
    "pgm": (1, netpbm),
    "ppm": (3, netpbm),
}


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
@pytest.mark.parametrize("name", WRITERS)
def test_every_bit_is_read(tmp_path, name, kind):
    channels, make = WRITERS[name]
    suffix = {"png": "png", "tif": "tif"}.get(name[:3], name)
    values = [deep(channels, seed) for seed in range(3)]
    path = write(tmp_path, kind, {f"{i}.{suffix}": make(x) for i, x in enumerate(values)})
    samples = load_samples(path)
    assert samples.array.dtype == np.float32
    colours = np.stack([x[..., : channels - 1] if channels in (2, 4) else x for x in values])
    colours = colours[..., 0] if colours.ndim == 4 and colours.shape[-1] == 1 else colours
    assert samples.array.shape == colours.shape
    np.testing.assert_array_equal(np.round(samples.array * 65535.0), colours)
    assert len(samples.notes) == 1
    assert samples.notes[0].startswith("3 images had more than 8 bits per channel, read as fractions of 65535")
    assert ("alpha" in samples.notes[0]) == (channels in (2, 4))


def test_the_writers_here_agree_with_pillow_in_the_upper_bytes(tmp_path):
    """Where Pillow cuts, it must cut what we wrote: otherwise reader and writer could be wrong alike."""
    for name, (channels, make) in WRITERS.items():
        (tmp_path / "x").write_bytes(make(deep(channels)))
        with Image.open(tmp_path / "x") as image:
            read = np.asarray(image)
        if read.dtype == np.uint8 and channels > 2 and name != "ppm":
            np.testing.assert_array_equal(read, deep(channels) >> 8)
        elif channels == 1:
            np.testing.assert_array_equal(read, deep(channels))


def test_the_scale_is_that_of_bytes(tmp_path):
    """Byte b saved with 16 bits is 257 b, and b / 255 again when read."""
    wide = write(tmp_path, "zip", {f"{i}.png": png(x.astype(np.uint16) * 257) for i, x in enumerate(COLOUR)})
    samples = load_samples(wide)
    np.testing.assert_array_equal(samples.array, (COLOUR / 255).astype(np.float32))
    narrow = load_samples(write(tmp_path, "tar", {f"{i}.png": encoded(x) for i, x in enumerate(COLOUR)}))
    assert "bytes 0 to 255" in compare_sources(samples, narrow)[0]
    with pytest.raises(InputError, match="one scale"):
        audit(generated=samples, train=narrow, rng=RNG)


def test_other_depths_are_fractions_of_their_own_white(tmp_path):
    values = deep(1) >> 6
    path = write(tmp_path, "zip", {f"{i}.pgm": netpbm(values, 1023) for i in range(2)})
    np.testing.assert_allclose(load_samples(path).array[1], values / 1023, rtol=1e-7)
    path = write(tmp_path, "zip", {f"{i}.pgm": netpbm(deep(1), 1023) for i in range(2)})
    with pytest.raises(InputError, match="beyond its own largest"):
        load_samples(path)


def test_depths_are_not_mixed(tmp_path):
    files = {"8.png": encoded(GREY[0]), "16.png": encoded(Image.fromarray(GREY[1].astype(np.uint16) * 257))}
    files |= {f"{i}.png": encoded(GREY[i]) for i in range(3)}
    with pytest.raises(InputError, match=r"4 are 5×6 grey \(.*8\.png\); 1 are 5×6 grey of 16 bits \(16\.png\)"):
        load_samples(write(tmp_path, "zip", files))
    files = {"a.tif": tiff(deep(3)), "b.png": png(deep(3))}
    assert len(load_samples(write(tmp_path, "tar", files))) == 2


def _hole(channels):
    values = deep(channels)
    values[3, 2, -1] = 65534
    return values


def _meets(values):
    return tuple(int(v) for v in np.atleast_1d(values[4, 4]))


ODD = {
    "clear.png": (lambda: png(_hole(4)), "RGBA, with transparent pixels", "alpha_composite"),
    "clear_grey.png": (lambda: png(_hole(2)), "with transparent pixels", "alpha_composite"),
    "clear.tif": (lambda: tiff(_hole(4)), "RGBA, with transparent pixels", "alpha_composite"),
    "key.png": (lambda: png(deep(3), transparent=_meets(deep(3))), "transparent pixels", "alpha_composite"),
    "key_grey.png": (lambda: png(deep(1), transparent=_meets(deep(1))), "transparent pixels", "alpha_composite"),
    "premultiplied.tif": (lambda: tiff(deep(4), extra=1), "in a layout", "Save odd ones"),
    "unknown.tif": (lambda: tiff(deep(4), extra=0), "in a layout", "Save odd ones"),
    "white_is_zero.tif": (lambda: tiff(deep(1), photometric=0), "0 for white", "Save odd ones"),
    "signed.tif": (lambda: tiff(deep(1), sign=2), "signed numbers", "Save odd ones"),
    "ink.tif": (lambda: tiff(deep(4), photometric=5), "mode CMYK", "profile"),
    "text.pgm": (lambda: b"P2\n7 9\n65535\n" + b"300 " * 63, "written as text", "Save odd ones"),
    "text.ppm": (lambda: b"P3\n7 9\n65535\n" + b"300 " * 189, "written as text", "Save odd ones"),
    "cut.png": (lambda: png(deep(3))[:-40], "not a complete", "Write damaged"),
    "cut_grey.png": (lambda: png(deep(2))[:-40], "not a complete", "Write damaged"),
    "cut.tif": (lambda: tiff(deep(3))[:60], "not a complete", "Write damaged"),
    "cut.ppm": (lambda: netpbm(deep(3))[:-1], "not a complete", "Write damaged"),
    "fractions.tif": (lambda: encoded(deep(1).astype(np.float32), "TIFF"), "has|fractions|32 bits", "Save odd ones"),
}


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
@pytest.mark.parametrize("name", ODD)
def test_what_cannot_be_used_is_named_with_its_remedy(tmp_path, name, kind):
    make, word, remedy = ODD[name]
    path = write(tmp_path, kind, {"a.png": png(deep(3)), name: make(), "z.png": png(deep(3, 1))})
    with pytest.raises(InputError, match=word) as caught:
        load_samples(path)
    assert f"1 of 3 images cannot be used as they are: {name} " in str(caught.value)
    assert remedy in str(caught.value)


def test_a_transparent_colour_that_no_pixel_has_is_dropped(tmp_path):
    values = deep(3) | 1
    path = write(tmp_path, "zip", {f"{i}.png": png(values, transparent=(0, 0, 0)) for i in range(2)})
    np.testing.assert_array_equal(np.round(load_samples(path).array[0] * 65535.0), values)


def test_transparent_grey_of_few_bits_is_seen(tmp_path):
    rows = b"".join(bytes([0, 0b00011011, 0b11100100]) for _ in range(3))
    header = struct.pack(">IIBBBBB", 8, 3, 2, 0, 0, 0, 0)
    for key, clear in ((3, True), (7, False)):
        data = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"tRNS", struct.pack(">H", key))
        data += _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
        path = write(tmp_path, "zip", {"0.png": data, "1.png": data})
        if clear:
            with pytest.raises(InputError, match="2 of 2 images.*transparent pixels"):
                load_samples(path)
        else:
            assert load_samples(path).array[0, 0].tolist() == [0, 85, 170, 255, 255, 170, 85, 0]


def test_tiff_of_8_bits(tmp_path):
    for array in (GREY, COLOUR):
        for options in ({}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}):
            files = {f"{i}.tiff": encoded(x, "TIFF", **options) for i, x in enumerate(array)}
            samples = load_samples(write(tmp_path, "zip", files))
            np.testing.assert_array_equal(samples.array, array)
            assert samples.formats == ("TIFF",)
    files = {f"{i}.tif": encoded(x, "TIFF", compression="jpeg") for i, x in enumerate(COLOUR)}
    lossy = load_samples(write(tmp_path, "zip", files))
    assert lossy.formats == ("JPEG in TIFF",)
    assert "not all are lossy" in compare_sources(lossy, load_samples(write(tmp_path, "zip", {
        f"{i}.png": encoded(x) for i, x in enumerate(COLOUR)
    })))[0]  # fmt: skip


def test_images_made_to_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "HARMLESS", 2**20)
    blank = encoded(Image.new("1", (2000, 2000)))
    for kind in ("folder", "zip", "tar"):
        path = write(tmp_path, kind, {f"{i}.png": blank for i in range(9)})
        with pytest.raises(InputError, match="500 times the size of its files"):
            load_samples(path)
    monkeypatch.setattr(images, "HARMLESS", 2**26)
    assert load_samples(path).array.shape == (9, 2000, 2000)


@pytest.mark.parametrize("make", [png, tiff, netpbm])
def test_no_damage_is_read_as_something_else(tmp_path, make):
    """Cut or with a byte changed, a checksummed file is refused or read as it was; none raises anything else."""
    whole = make(deep(3))
    rng = np.random.default_rng(8)
    refused = 0
    for i in range(80):
        at = int(rng.integers(1, len(whole)))
        spoilt = whole[:at] if i % 2 else whole[:at] + bytes([whole[at] ^ int(rng.integers(1, 256))]) + whole[at + 1 :]
        path = write(tmp_path, "zip", {"0.png": spoilt, "1.png": whole})
        try:
            read = load_samples(path).array
        except InputError:
            refused += 1
            continue
        if make is png:
            np.testing.assert_array_equal(np.round(read[0] * 65535.0), deep(3))
    assert refused >= 40
