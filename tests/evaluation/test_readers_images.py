"""Folders and archives of images: read in place, in order, unchanged; what is damaged or hostile is refused by name."""

import gzip
import io
import struct
import tarfile
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from divergences import InputError
from evaluation import archives, load_labels, load_samples, readers

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 6, 5), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (5, 6, 5, 3), dtype=np.uint8)
NAMES = ["b/1.png", "a/2.png", "a/10.png", "c/0.png", "b/0.png"]
ORDER = [NAMES.index(name) for name in sorted(NAMES)]
KINDS = ["folder", "zip", "tar", "tar.gz", "tar.bz2", "tar.xz", "tgz"]


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def write(place, kind, files):
    """The files (name → bytes) as a folder or archive."""
    if kind == "folder":
        for name, data in files.items():
            (place / "set" / name).parent.mkdir(parents=True, exist_ok=True)
            (place / "set" / name).write_bytes(data)
        return place / "set"
    path = place / f"set.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path
    mode = {"tar": "w", "tar.gz": "w:gz", "tgz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}[kind]
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_sorted_labelled_and_equal_wherever_they_lie(tmp_path, kind):
    files = {name: encoded(image) for name, image in zip(NAMES, COLOUR, strict=True)}
    files |= {"readme.txt": b"no image", ".hidden/x.png": b"", "__MACOSX/a/._2.png": b"x", "a/.thumb.png": b""}
    path = write(tmp_path, kind, files)
    samples = load_samples(path)
    np.testing.assert_array_equal(samples.array, COLOUR[ORDER])
    assert samples.array.dtype == np.uint8
    assert samples.labels.tolist() == ["a", "a", "b", "b", "c"]
    assert load_labels(path).tolist() == ["a", "a", "b", "b", "c"]
    assert samples.formats == ("PNG",)
    assert samples.notes == ()


def test_only_class_folders_are_labels(tmp_path):
    data = encoded(GREY[0])
    flat = write(tmp_path, "zip", {"set/1.png": data, "set/2.png": data})
    assert load_samples(flat).labels is None
    with pytest.raises(InputError, match="one folder per class"):
        load_labels(flat)
    mixed = write(tmp_path, "tar", {"1.png": data, "dog/2.png": data})
    assert load_samples(mixed).labels is None


def test_formats_and_qualities_are_told(tmp_path):
    smooth = np.clip(np.add.outer(np.arange(32) * 4, np.arange(32) * 3), 0, 255).astype(np.uint8)
    for quality in (30, 75, 95):
        path = write(tmp_path, "zip", {f"{i}.jpg": encoded(smooth, "JPEG", quality=quality) for i in range(2)})
        assert load_samples(path).formats == (f"JPEG quality {quality}",)
    files = {"0.jpg": encoded(smooth, "JPEG", quality=50), "1.jpeg": encoded(smooth, "JPEG", quality=90)}
    files["2.webp"] = encoded(np.stack([smooth] * 3, -1), "WEBP", lossless=True)
    path = write(tmp_path, "zip", {name: files[name] for name in ("0.jpg", "1.jpeg")})
    assert load_samples(path).formats == ("JPEG quality 50 to 90",)
    path = write(tmp_path, "zip", {"0.webp": files["2.webp"], "1.ppm": encoded(np.stack([smooth] * 3, -1), "PPM")})
    assert load_samples(path).formats == ("PGM or PPM", "WEBP lossless")
    lossy = encoded(np.stack([smooth] * 3, -1), "WEBP", quality=50)
    path = write(tmp_path, "zip", {"0.webp": lossy, "1.webp": lossy})
    assert load_samples(path).formats == ("WEBP lossy",)


def _palette(image):
    return Image.fromarray(image).quantize(64)


def test_what_loses_nothing_is_converted_and_noted(tmp_path):
    two = (GREY[0] // 128 * 255).astype(np.uint8)
    grey = {"0.png": encoded(GREY[1]), "1.png": encoded(Image.fromarray(two).convert("1"))}
    palette = Image.fromarray(two).convert("P")
    grey["2.png"] = encoded(palette)
    grey["3.png"] = encoded(Image.merge("LA", (Image.fromarray(two), Image.new("L", (5, 6), 255))))
    samples = load_samples(write(tmp_path, "zip", grey))
    np.testing.assert_array_equal(samples.array, np.stack([GREY[1], two, two, two]))
    assert len(samples.notes) == 3
    assert any("one bit per pixel" in note for note in samples.notes)

    opaque = Image.fromarray(COLOUR[1]).convert("RGBA")
    colour = {"0.png": encoded(COLOUR[0]), "1.png": encoded(opaque), "2.png": encoded(palette)}
    colour["3.png"] = encoded(_palette(COLOUR[2]))
    samples = load_samples(write(tmp_path, "tar", colour))
    expected = [COLOUR[0], COLOUR[1], np.stack([two] * 3, -1), np.asarray(_palette(COLOUR[2]).convert("RGB"))]
    np.testing.assert_array_equal(samples.array, np.stack(expected))


def _clear(image, mode):
    picture = Image.fromarray(image).convert(mode)
    picture.putpixel((2, 2), (*picture.getpixel((2, 2))[:-1], 254))
    return picture


ODD = {
    "clear.png": (lambda: encoded(_clear(COLOUR[0], "RGBA")), "mode RGBA, with transparent pixels"),
    "clear_grey.png": (lambda: encoded(_clear(GREY[0], "LA")), "mode LA, with transparent pixels"),
    "key.png": (lambda: encoded(COLOUR[0], transparency=tuple(int(c) for c in COLOUR[0, 0, 0])), "mode RGB, with tr"),
    "print.jpg": (lambda: encoded(Image.new("CMYK", (5, 6)), "JPEG"), "mode CMYK"),
    "film.webp": (
        lambda: encoded(
            Image.new("RGB", (5, 6), "red"), "WEBP", save_all=True, append_images=[Image.new("RGB", (5, 6))]
        ),
        "2 frames",
    ),
    "film.png": (
        lambda: encoded(Image.new("L", (5, 6)), "PNG", save_all=True, append_images=[Image.new("L", (5, 6), 9)]),
        "2 frames",
    ),
    "page.png": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 6\n", "not a complete"),
    "gif.png": (lambda: encoded(GREY[0], "GIF"), "not a complete"),
    "cut.jpg": (lambda: encoded(COLOUR[0], "JPEG")[:-60], "not a complete"),
    "empty.bmp": (lambda: b"", "is empty|not a complete"),
}


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
@pytest.mark.parametrize("name", ODD)
def test_what_cannot_be_used_is_named(tmp_path, name, kind):
    make, word = ODD[name]
    path = write(tmp_path, kind, {"a.png": encoded(COLOUR[0]), name: make(), "z.png": encoded(COLOUR[1])})
    with pytest.raises(InputError, match=word) as caught:
        load_samples(path)
    assert name in str(caught.value)


def test_offenders_are_counted_and_the_first_listed(tmp_path):
    files = {f"{i:02d}.png": encoded(_clear(COLOUR[0], "RGBA") if i % 2 else COLOUR[0]) for i in range(30)}
    with pytest.raises(InputError, match="15 of 30 images cannot be used.*01.png") as caught:
        load_samples(write(tmp_path, "zip", files))
    assert "11.png" in str(caught.value)
    assert "13.png" not in str(caught.value)
    sizes = {f"{i}.png": encoded(RNG.integers(0, 9, (4 + i, 4), dtype=np.uint8)) for i in range(20)}
    with pytest.raises(InputError, match="one size and mode") as caught:
        load_samples(write(tmp_path, "zip", sizes))
    assert len(str(caught.value)) < 600


def test_names_cannot_speak_to_the_terminal(tmp_path):
    path = write(tmp_path, "zip", {"../../etc/\x1b[2Jpasswd\n.png": b"no image", "\u202egnp.exe" * 40 + ".png": b""})
    with pytest.raises(InputError, match="2 of 2") as caught:
        load_samples(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["set.zip"]


def test_names_that_lead_elsewhere_are_names(tmp_path):
    data = encoded(GREY[0])
    path = write(tmp_path, "tar", {"../../outside.png": data, "/etc/inside.png": data})
    assert load_samples(path).array.shape == (2, 6, 5)
    link = tarfile.TarInfo("link.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(path, "a") as archive:
        archive.addfile(link)
    assert len(load_samples(path)) == 2


def test_folder_loops_are_not_walked(tmp_path):
    folder = write(tmp_path, "folder", {"a/1.png": encoded(GREY[0]), "b/1.png": encoded(GREY[1])})
    (folder / "a" / "again").symlink_to(folder)
    assert len(load_samples(folder)) == 2


class TestBombs:
    def test_zip_that_unpacks_to_much(self, tmp_path, monkeypatch):
        monkeypatch.setattr(archives, "HARMLESS", 2**20)
        blank = encoded(np.zeros((700, 700), dtype=np.uint8), "BMP")
        path = write(tmp_path, "zip", {f"{i}.bmp": blank for i in range(3)})
        assert path.stat().st_size < 20_000
        with pytest.raises(InputError, match="would become"):
            load_samples(path)

    @pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz"])
    @pytest.mark.parametrize("name", ["1.bmp", "skipped.bin"])
    def test_tar_that_unpacks_to_much(self, tmp_path, monkeypatch, kind, name):
        monkeypatch.setattr(archives, "HARMLESS", 2**20)
        path = write(tmp_path, kind, {"0.png": encoded(GREY[0]), name: bytes(8 * 2**20)})
        with pytest.raises(InputError, match="would become"):
            load_samples(path)

    def test_lying_sizes(self, tmp_path, monkeypatch):
        info = tarfile.TarInfo("0.png")
        info.size = 2**50
        (tmp_path / "set.tar").write_bytes(info.tobuf() + bytes(1024))
        with pytest.raises(InputError, match="would become"):
            load_samples(tmp_path / "set.tar")
        header = tarfile.TarInfo("x")
        header.type, header.size = tarfile.XHDTYPE, 2**40
        monkeypatch.setattr(archives, "HARMLESS", 2**20)
        (tmp_path / "set.tgz").write_bytes(gzip.compress(header.tobuf() + bytes(2**23)))
        with pytest.raises(InputError, match="would become|not a complete"):
            load_samples(tmp_path / "set.tgz")

    def test_many_and_large(self, tmp_path, monkeypatch):
        files = {f"{i}.png": encoded(GREY[0]) for i in range(6)}
        for kind in ("folder", "zip", "tar"):
            path = write(tmp_path, kind, files)
            with monkeypatch.context() as patch:
                patch.setattr(archives, "MAX_IMAGES", 5)
                with pytest.raises(InputError, match="more than 5 images"):
                    load_samples(path)
            with monkeypatch.context() as patch:
                patch.setattr(archives, "MAX_IMAGE_FILE", 50)
                with pytest.raises(InputError, match="MiB"):
                    load_samples(path)
            with monkeypatch.context() as patch:
                patch.setattr(readers, "MAX_BYTES", 20_000 if kind == "tar" else 1500)
                big = write(tmp_path, kind, {f"{i}.png": encoded(np.zeros((99, 99), np.uint8)) for i in range(6)})
                with pytest.raises(InputError, match="GiB"):
                    load_samples(big)

    def test_pixels(self, tmp_path):
        header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
        data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
        path = write(tmp_path, "zip", {"0.png": data + struct.pack(">I", 10**9) + b"IDAT"})
        with warnings.catch_warnings(), pytest.raises(InputError, match=r"0\.png claims more pixels"):
            load_samples(path)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_no_damage_goes_unnoticed(tmp_path, kind):
    """Cut anywhere or with a byte changed, an archive is refused or, if the damage touches no image, read in full."""
    files = {f"{i}.png": encoded(image) for i, image in enumerate(COLOUR)}
    path = write(tmp_path, kind, files)
    whole = path.read_bytes()
    rng = np.random.default_rng(5)
    refused = 0
    for i in range(120):
        at = int(rng.integers(1, len(whole)))
        spoilt = whole[:at] if i % 2 else whole[:at] + bytes([whole[at] ^ int(rng.integers(1, 256))]) + whole[at + 1 :]
        path.write_bytes(spoilt)
        try:
            samples = load_samples(path)
        except InputError:
            refused += 1
            continue
        np.testing.assert_array_equal(samples.array, COLOUR)
    assert refused > 50


def test_other_archives(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"no zip")
    (tmp_path / "x.tar").write_bytes(b"no tar" * 200)
    np.savez(tmp_path / "arrays.npz", GREY)
    (tmp_path / "arrays.npz").rename(tmp_path / "arrays.zip")
    for name, word in (("x.zip", "not a complete .zip"), ("x.tar", "not a complete .tar"), ("arrays.zip", "an .npz")):
        with pytest.raises(InputError, match=word):
            load_samples(tmp_path / name)
    path = write(tmp_path, "zip", {"0.png": encoded(GREY[0])})
    data = bytearray(path.read_bytes())
    for header in (b"PK\x03\x04", b"PK\x01\x02"):
        data[data.index(header) + (6 if header[2] == 3 else 8)] |= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="encrypted"):
        load_samples(path)


@pytest.mark.slow
def test_real_jpegs(extra_data):
    samples = load_samples(extra_data / "cifar10-test-jpeg.zip")
    assert samples.array.shape == (10_000, 32, 32, 3)
    assert np.unique(samples.labels, return_counts=True)[1].tolist() == [1000] * 10
    assert samples.formats[0].startswith("JPEG")
