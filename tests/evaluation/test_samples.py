"""Files in: what must be read, and what must be refused with one clear error each."""

import io
import json
import pickle
import struct
import sys
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

from divergences import InputError
from evaluation import readers
from evaluation.samples import Samples, load_labels, load_modes, load_samples

RNG = np.random.default_rng(0)
POINTS = RNG.standard_normal((5, 2))
GREY = RNG.integers(0, 256, (4, 6, 5), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)


class Evil:
    """Leaves a trace if anything unpickles it."""

    def __reduce__(self):
        return (open, ("/tmp/mintmark-evil-ran", "w"))


def write_folder(folder, images, suffix="png"):
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:03d}.{suffix}")
    return folder


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_points_come_back_as_they_were(tmp_path, order):
    np.save(tmp_path / "x.npy", np.asarray(POINTS, order=order))
    samples = load_samples(tmp_path / "x.npy")
    assert samples.kind == "points"
    assert samples.source == str(tmp_path / "x.npy")
    np.testing.assert_array_equal(samples.array, POINTS)


def test_npy_is_mapped_and_precision_kept(tmp_path):
    for dtype in (np.float32, np.float64):
        np.save(tmp_path / "x.npy", POINTS.astype(dtype))
        read = load_samples(tmp_path / "x.npy").array
        assert read.dtype == dtype
        assert isinstance(read.base, np.memmap)
        assert not read.flags.writeable
        np.testing.assert_array_equal(read, POINTS.astype(dtype))
    np.save(tmp_path / "x.npy", COLOUR)
    assert isinstance(load_samples(tmp_path / "x.npy").array.base, np.memmap)


def test_a_file_larger_than_the_memory_allowed_is_worked_through(tmp_path):
    # 400 MB, sparse on disk; reading it whole, or one copy in double precision, would show.
    tracemalloc.start()
    mapped = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (50_000, 2048))
    mapped[::1000, 0] = 1
    del mapped
    assert load_samples(tmp_path / "x.npy").array.shape == (50_000, 2048)
    assert tracemalloc.get_traced_memory()[1] < 60e6
    tracemalloc.stop()


@pytest.mark.parametrize("dtype", [np.float16, ">f8", np.int16, np.uint8, np.bool_])
def test_points_of_any_other_number_type_become_float64(tmp_path, dtype):
    array = (POINTS * 3).astype(dtype) if dtype != np.uint8 else np.arange(10, dtype=np.uint8).reshape(5, 2)
    np.save(tmp_path / "x.npy", array)
    read = load_samples(tmp_path / "x.npy").array
    assert read.dtype == np.float64
    np.testing.assert_array_equal(read, array.astype(np.float64))


def test_points_on_the_line_get_their_axis():
    assert load_samples(np.arange(4.0)).array.shape == (4, 1)


def test_arrays_and_samples_pass_through():
    samples = load_samples(GREY)
    assert samples.kind == "images"
    assert samples.array.dtype == np.uint8
    assert load_samples(samples) is samples


@pytest.mark.parametrize("key", ["samples", "arr_0", "whatever"])
def test_npz_key_is_found(tmp_path, key):
    np.savez_compressed(tmp_path / "x.npz", **{key: POINTS})
    np.testing.assert_array_equal(load_samples(tmp_path / "x.npz").array, POINTS)


def test_npz_key_can_be_named_and_labels_are_seen(tmp_path):
    np.savez(tmp_path / "x.npz", a=POINTS, b=POINTS + 1, labels=np.arange(5))
    samples = load_samples(f"{tmp_path / 'x.npz'}:b")
    np.testing.assert_array_equal(samples.array, POINTS + 1)
    np.testing.assert_array_equal(samples.labels, np.arange(5))
    with pytest.raises(InputError, match=r"several arrays \(a, b, labels\).*x\.npz:a"):
        load_samples(tmp_path / "x.npz")
    with pytest.raises(InputError, match="no array 'c'; it holds a, b, labels"):
        load_samples(f"{tmp_path / 'x.npz'}:c")


@pytest.mark.parametrize(
    "text",
    [
        "1,2\n3,4\n5,6\n",
        "x,y\n1,2\n3,4\n5,6",
        "\ufeffx;y\n1;2\n3;4\n5;6\n",
        "1 2\n\n3 4\n5 6\n",
        '"x","y"\n"1","2"\n"3","4"\n"5","6"\n',
        "x\ty\r\n1\t2\r\n3\t4\r\n5\t6\r\n",
    ],
)
def test_csv(tmp_path, text):
    (tmp_path / "x.csv").write_bytes(text.encode())
    np.testing.assert_array_equal(load_samples(tmp_path / "x.csv").array, [[1, 2], [3, 4], [5, 6]])


@pytest.mark.parametrize(("images", "suffix"), [(GREY, "png"), (COLOUR, "png"), (GREY, "bmp"), (COLOUR, "bmp")])
def test_lossless_folders_come_back_as_they_were(tmp_path, images, suffix):
    folder = write_folder(tmp_path / "f", images, suffix)
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_text("not an image either")
    np.testing.assert_array_equal(load_samples(folder).array, images)


def test_jpeg_and_webp_are_read(tmp_path):
    folder = write_folder(tmp_path / "f", COLOUR, "jpg")
    Image.fromarray(COLOUR[0]).save(folder / "z.WEBP", format="WEBP")
    assert load_samples(folder).array.shape == (5, 6, 5, 3)


def test_tensors_are_arrays():
    import torch

    for dtype in (torch.bfloat16, torch.float16, torch.float64, torch.int64):
        tensor = torch.arange(6).reshape(3, 2).to(dtype)
        np.testing.assert_array_equal(load_samples(tensor).array, np.arange(6.0).reshape(3, 2))


def test_wide_integers_that_are_bytes_become_bytes():
    np.testing.assert_array_equal(load_samples(GREY.astype(np.int64)).array, GREY)
    assert load_samples(GREY.astype(np.int64)).array.dtype == np.uint8
    with pytest.raises(InputError, match=r"0\.\.255"):
        load_samples(GREY.astype(np.int64) * 2)


def npy_bytes(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def lying_header(shape, dtype="<f8"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + bytes(80)


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def flipped(data, place):
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


STORED = io.BytesIO()
np.savez(STORED, samples=POINTS)
BAD_FILES = {
    "empty.npy": (b"", "is empty"),
    "empty.csv": (b"", "is empty"),
    "garbage.npy": (b"hello world, this is no array", "not a .npy array"),
    "pickle.npy": (pickle.dumps(Evil()), "pickles are never read"),
    "object.npy": (npy_bytes(np.array([Evil()], dtype=object), allow_pickle=True), "pickled Python objects"),
    "object.npz": (zipped(x=npy_bytes(np.array([Evil()], dtype=object), allow_pickle=True)), "pickled Python objects"),
    "cut.npy": (npy_bytes(POINTS)[:-9], "cut short"),
    "cut.npz": (STORED.getvalue()[:-30], "not a complete .npz"),
    "flipped.npz": (flipped(STORED.getvalue(), len(STORED.getvalue()) // 2), "damaged"),
    "pickle.npz": (pickle.dumps(Evil()), "not a complete .npz"),
    "none.npz": (zipped(), "no arrays"),
    "huge.npy": (lying_header((10**13, 8)), "promises an array"),
    "huge.npz": (zipped(x=lying_header((10**9, 8))), "promises an array"),
    "negative.npy": (lying_header((-1, 8)), "promises an array"),
    "version.npy": (b"\x93NUMPY\x07\x00" + struct.pack("<H", 10) + bytes(50), "format"),
    "complex.npy": (npy_bytes(POINTS + 1j), "complex"),
    "text.npy": (npy_bytes(np.array(["a", "b"])), "real numbers"),
    "records.npy": (npy_bytes(np.zeros(3, dtype=[("a", float)])), "real numbers"),
    "zero.npy": (npy_bytes(np.zeros((0, 2))), "holds nothing"),
    "flat.npy": (npy_bytes(np.zeros((3, 0))), "holds nothing"),
    "scalar.npy": (npy_bytes(np.float64(3.0)), "shape \\(\\)"),
    "five.npy": (npy_bytes(np.zeros((2, 2, 2, 2, 2))), "must be points"),
    "one.npy": (npy_bytes(np.zeros((1, 2))), "holds 1 sample of shape"),
    "nan.npy": (npy_bytes(np.array([[0.0], [np.nan], [1.0]])), r"NaN in 1 of 3 rows \(first: row 1\)"),
    "inf.npy": (npy_bytes(np.array([[0.0], [np.inf], [1.0]])), "infinite values in 1 of 3 rows"),
    "first.npy": (npy_bytes(np.zeros((4, 3, 8, 8))), "numpy.moveaxis"),
    "ragged.csv": (b"1,2\n\n3\n", "line 3 holds 1 numbers and line 1 holds 2"),
    "word.csv": (b"a,b\n1,2\n3,x\n", r"line 3, column 2 is no number \('x'\)"),
    "mixed.csv": (b"1,two\n3,4\n", r"line 1, column 2 is no number \('two'\)"),
    "missing.csv": (b"1,2\n,4\n", "line 2, column 1 is empty"),
    "trailing.csv": (b"1,2,\n3,4,\n", "line 1, column 3 is empty"),
    "twice.csv": (b"a,b\nkg,cm\n1,2\n", "line 2, column 1 is no number"),
    "commas.csv": (b"a;b\n1,5;2,5\n", "write decimal points, not commas"),
    "index.csv": (b",a,b\n0,1.5,2.5\n1,2.5,3.5\n", "the first column has no name.*index=False"),
    "columns.csv": (b"0,1,2\n0.5,1.5,2.5\n1.5,2.5,3.5\n", "the first row counts the columns.*header=False"),
    "long.csv": (b'"' + b"x" * 200_000 + b'",2\n1,2\n', "same number of numbers"),
    "alpha.npy": (npy_bytes(np.zeros((4, 8, 8, 4))), "alpha channel"),
    "header.csv": (b"x,y\n", "no rows"),
    "binary.csv": (b"\xff\xfe\x00\x01", "not UTF-8"),
    "nan.csv": (b"1,2\nnan,4\n", "NaN in 1 of 2 rows"),
    "model.pt": (b"PK", "other than tensors"),
    "samples.parquet": (b"PAR1", "not from files like '.parquet'"),
    "stats.npz": (zipped(mu=npy_bytes(np.zeros(2)), sigma=npy_bytes(np.eye(2))), "statistics of a feature set"),
    "nosuffix": (b"1", "not from files like 'nosuffix'"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused(tmp_path, name):
    data, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        load_samples(tmp_path / name)
    assert name in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("source", ["/no/such/place.npy", "", "x" * 5000, "a\0b.npy", "missing.npz:samples"])
def test_missing_files_are_refused(source):
    with pytest.raises(InputError, match=r"no such file|empty"):
        load_samples(source)


@pytest.mark.parametrize(
    "source", [None, {"a": 1}, [[1, 2], [3]], "text", np.array(["a", "b"]), np.array(3.0), [[], []]]
)
def test_other_things_are_refused(source):
    with pytest.raises(InputError):
        load_samples(source)


def test_nothing_was_ever_unpickled(tmp_path):
    import pathlib

    assert not pathlib.Path("/tmp/mintmark-evil-ran").exists()


def test_an_archive_that_would_explode_is_not_unpacked(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "bomb.npz", samples=np.zeros((500_000, 2)))
    assert (tmp_path / "bomb.npz").stat().st_size < 20_000
    monkeypatch.setattr(readers, "MAX_BYTES", 2**22)
    with pytest.raises(InputError, match="GiB in memory"):
        load_samples(tmp_path / "bomb.npz")
    monkeypatch.setattr(readers, "MAX_BYTES", 2**33)
    assert load_samples(tmp_path / "bomb.npz").array.shape == (500_000, 2)
    monkeypatch.setattr(readers, "HARMLESS", 2**22)
    with pytest.raises(InputError, match=r"become 8 MiB in memory, over 200 times"):
        load_samples(tmp_path / "bomb.npz")
    np.savez_compressed(tmp_path / "dense.npz", samples=np.random.default_rng(0).random((500_000, 2)))
    assert load_samples(tmp_path / "dense.npz").array.shape == (500_000, 2)


def test_an_image_that_would_explode_is_not_decoded(tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    Image.new("L", (9600, 9600)).save(folder / "bomb.png", optimize=False, compress_level=1)
    with warnings.catch_warnings(), pytest.raises(InputError, match=r"bomb\.png claims more pixels"):
        load_samples(folder)


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (Image.new("RGBA", (5, 6)), "mode RGBA"),
        (Image.new("LA", (5, 6)), "mode LA"),
    ],
)
def test_images_are_never_converted_silently(tmp_path, image, why):
    folder = write_folder(tmp_path / "f", GREY)
    image.save(folder / "odd.png")
    with pytest.raises(InputError, match=rf"odd\.png has {why}"):
        load_samples(folder)


def test_mixed_sizes_and_modes_are_listed(tmp_path):
    folder = write_folder(tmp_path / "f", GREY)
    Image.new("L", (7, 7)).save(folder / "wide.png")
    Image.new("RGB", (5, 6)).save(folder / "red.png")
    with pytest.raises(InputError, match="one size and mode") as caught:
        load_samples(folder)
    for part in ("4 are 5×6 grey", "1 are 7×7 grey (wide.png)", "1 are 5×6 colour (red.png)"):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["cut.png", "text.jpg", "postscript.png", "animation.webp"])
def test_broken_images_are_named(tmp_path, name):
    folder = write_folder(tmp_path / "f", GREY)
    if name == "cut.png":
        whole = (folder / "000.png").read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
    elif name == "postscript.png":
        (folder / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 6\n")
    elif name == "animation.webp":
        frames = [Image.new("RGB", (5, 6), colour) for colour in ("red", "blue")]
        frames[0].save(folder / name, save_all=True, append_images=frames[1:])
    else:
        (folder / name).write_text("nothing to see")
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        load_samples(folder)


def test_folders_without_images(tmp_path):
    with pytest.raises(InputError, match="holds no images"):
        load_samples(tmp_path)


@pytest.mark.parametrize(
    ("covariances", "matrix"),
    [(0.25, 0.25 * np.eye(2)), ([0.25, 1.0, 4.0], 0.25 * np.eye(2)), ([[1, 2], [1, 1], [1, 1]], np.diag([1.0, 2.0]))],
)
def test_modes_take_every_form_of_covariance(tmp_path, covariances, matrix):
    means = [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]
    np.savez(tmp_path / "m.npz", means=means, covariances=covariances, weights=[0.5, 0.25, 0.25])
    modes = load_modes(tmp_path / "m.npz")
    np.testing.assert_allclose(modes.components[0].cov, matrix)
    np.testing.assert_allclose(modes.weights, [0.5, 0.25, 0.25])
    np.savez(tmp_path / "m.npz", means=means, covariances=np.stack([np.eye(2)] * 3))
    np.testing.assert_allclose(load_modes(tmp_path / "m.npz").weights, 1 / 3)


def test_modes_on_the_line(tmp_path):
    np.savez(tmp_path / "m.npz", means=[-1.0, 1.0], covariances=[0.5, 2.0])
    modes = load_modes(tmp_path / "m.npz")
    assert [law.cov.item() for law in modes.components] == [0.5, 2.0]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"means": np.zeros((2, 2))}, "lacks covariances; it holds means"),
        ({"x": np.zeros(2)}, "lacks means and covariances"),
        ({"means": np.zeros((2, 2)), "covariances": np.zeros((3, 2, 2))}, r"covariances must have shape \(2, 2, 2\)"),
        ({"means": np.zeros((2, 2)), "covariances": -1.0}, "positive definite"),
        ({"means": np.zeros((2, 2)), "covariances": 1.0, "weights": [0.5, 0.6]}, "sum to 1"),
        ({"means": np.full((2, 2), np.nan), "covariances": 1.0}, "finite"),
        ({"means": np.array(["a"]), "covariances": 1.0}, "real numbers"),
    ],
)
def test_bad_modes_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "m.npz", **arrays)
    with pytest.raises(InputError, match=message) as caught:
        load_modes(tmp_path / "m.npz")
    assert "m.npz" in str(caught.value)


def test_labels(tmp_path):
    np.save(tmp_path / "l.npy", np.array([[1], [2]]))
    np.savez(tmp_path / "l.npz", samples=POINTS, labels=np.array([3.0, 4.0]))
    (tmp_path / "l.csv").write_text("label\n5\n6\n")
    (tmp_path / "l.txt").write_text("cat\ndog\n")
    (tmp_path / "q.csv").write_text('class\n"Paris, TX"\n"a; b"\nRome\n')
    assert load_labels(tmp_path / "q.csv").tolist() == ["Paris, TX", "a; b", "Rome"]
    assert load_labels(tmp_path / "l.npy").tolist() == [1, 2]
    assert load_labels(tmp_path / "l.npz").tolist() == [3, 4]
    assert load_labels(tmp_path / "l.csv").tolist() == [5, 6]
    assert load_labels(tmp_path / "l.txt").tolist() == ["cat", "dog"]
    assert load_labels(tmp_path / "l.csv").dtype == np.int64


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("l.npy", npy_bytes(np.zeros((3, 2))), "one per sample"),
        ("l.npy", npy_bytes(np.array([0.5, 1.0])), "fractions"),
        ("l.npy", npy_bytes(np.array([1j])), "complex128"),
        ("l.csv", b"label\n", "one per sample"),
        ("l.csv", b"index,label\n0,cat\n1,dog\n", "'index,label' holds several cells"),
        ("l.csv", b"0;cat\n1;dog\n", "'0;cat' holds several cells"),
        ("l.csv", b"", "is empty"),
        ("l.doc", b"1\n", "labels are read from"),
        ("l.npz", zipped(a=npy_bytes(np.arange(3)), b=npy_bytes(np.arange(3))), "several arrays"),
    ],
)
def test_bad_labels_are_refused(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        load_labels(tmp_path / name)


def test_labels_beside_the_samples_must_match(tmp_path):
    np.savez(tmp_path / "x.npz", samples=POINTS, labels=np.arange(4))
    with pytest.raises(InputError, match=r"labels must have shape \(5,\)"):
        load_samples(tmp_path / "x.npz")


def test_samples_know_how_many_they_are():
    assert len(Samples(POINTS, "here", "points")) == 5


def test_adm_files_have_their_labels_second(tmp_path):
    np.savez(tmp_path / "adm.npz", COLOUR, np.array([3, 1, 2, 0]))
    samples = load_samples(tmp_path / "adm.npz")
    np.testing.assert_array_equal(samples.array, COLOUR)
    assert samples.labels.tolist() == [3, 1, 2, 0]
    np.savez(tmp_path / "adm.npz", COLOUR, np.zeros((7, 2)))
    assert load_samples(tmp_path / "adm.npz").labels is None


def test_samplers_are_drawn_from(tmp_path, monkeypatch):
    (tmp_path / "my_gan.py").write_text(
        "import numpy as np\n"
        "def sample(n, rng): return rng.normal(size=(n, 2))\n"
        "def short(n, rng): return np.zeros((n - 1, 2))\n"
        "def fails(n, rng): raise RuntimeError('no weights')\n"
        "def nan(n, rng): return np.full((n, 2), np.nan)\n"
        "class Model:\n    def draw(n, rng): return rng.integers(0, 256, (n, 4, 4), dtype=np.uint8)\n"
    )
    (tmp_path / "broken_gan.py").write_text("raise OSError('the checkpoint is gone')\n")
    monkeypatch.syspath_prepend(tmp_path)
    samples = load_samples("my_gan:sample", n=7, rng=np.random.default_rng(3))
    np.testing.assert_array_equal(samples.array, np.random.default_rng(3).normal(size=(7, 2)))
    assert samples.source == "sampler my_gan:sample"
    assert load_samples("my_gan:Model.draw", n=3, rng=np.random.default_rng(3)).kind == "images"
    for source, n, rng, word in (
        ("my_gan:sample", None, RNG, "n="),
        ("my_gan:sample", 1, RNG, "n= must be at least 2"),
        ("my_gan:sample", 5, None, "rng="),
        ("my_gan:short", 5, RNG, "asked for 5 samples and drew 4"),
        ("my_gan:fails", 5, RNG, "my_gan:fails.*no weights"),
        ("my_gan:nan", 5, RNG, "my_gan:nan drew holds NaN"),
        ("my_gan:none", 5, RNG, "nothing called none"),
        ("broken_gan:sample", 5, RNG, "broken_gan cannot be imported.*checkpoint is gone"),
        ("absent_gan:sample", 5, RNG, "absent_gan cannot be imported"),
        (POINTS, 5, RNG, "n= is for samplers"),
    ):
        with pytest.raises(InputError, match=word):
            load_samples(source, n=n, rng=rng)


def test_the_command_draws_from_samplers_and_takes_features(tmp_path, monkeypatch, capsys):
    from evaluation.__main__ import main

    (tmp_path / "toy_gan.py").write_text(
        "def sample(n, rng): return rng.normal(size=(n, 2))\ndef twice(x): return 2 * x\n"
    )
    np.save(tmp_path / "train.npy", RNG.normal(size=(300, 2)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    command = ["toy_gan:sample", "--train", "train.npy", "--json", "-"]
    assert main([*command, "--n", "200", "--features", "toy_gan:twice"]) == 3
    report = json.loads(capsys.readouterr().out)
    assert report["protocol"]["generated"]["n"] == 200
    assert report["protocol"]["features"] == "toy_gan:twice"
    assert main(command) == 3
    assert json.loads(capsys.readouterr().out)["protocol"]["generated"]["n"] == 300
    for extra, word in (
        (["--features", "inception"], "pt_inception-2015-12-05-6726825d.pth"),
        (["--features", "inception", "--weights", "train.npy"], "train.npy"),
        (["--weights", "x.pth"], "--weights are those of --features inception"),
        (["--features", "classifier"], "--train-labels"),
        (["--n", "1"], "at least 2"),
    ):
        assert main([*command, *extra]) == 2
        assert word in capsys.readouterr().err
    assert main(["train.npy", "--train", "train.npy", "--n", "5"]) == 2
    assert "for samplers" in capsys.readouterr().err
