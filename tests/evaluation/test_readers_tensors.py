"""Tensor files: exact values, and no header believed that the bytes do not bear out."""

import io
import json
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from divergences import InputError
from evaluation import load_samples, readers
from evaluation.tensors import read_tensors
from tests.evaluation.rivals import rival

RNG = np.random.default_rng(0)
POINTS = RNG.standard_normal((6, 3)).astype(np.float32)
IMAGES = RNG.integers(0, 256, (4, 3, 8, 8), dtype=np.uint8)


def safe(entries, data=b"", *, header=None):
    text = header if header is not None else json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(array, begin=0, kind="F32"):
    return {"dtype": kind, "shape": list(array.shape), "data_offsets": [begin, begin + array.nbytes]}


def test_safetensors_are_mapped(tmp_path):
    labels = np.arange(6)
    header = {
        "__metadata__": {"made": "by hand"},
        "labels": entry(labels, POINTS.nbytes, "I64"),
        "samples": entry(POINTS),
    }
    (tmp_path / "x.safetensors").write_bytes(safe(header, POINTS.tobytes() + labels.tobytes()))
    samples = load_samples(tmp_path / "x.safetensors")
    np.testing.assert_array_equal(samples.array, POINTS)
    assert isinstance(samples.array.base, np.memmap)
    assert samples.labels.tolist() == labels.tolist()
    np.testing.assert_array_equal(load_samples(f"{tmp_path}/x.safetensors:labels").array[:, 0], labels)
    with pytest.raises(InputError, match="no tensor 'other'"):
        load_samples(f"{tmp_path}/x.safetensors:other")


def test_safetensors_as_their_own_package_writes_them(tmp_path):
    import torch

    package = rival("safetensors.torch")
    tensors = {
        f"t{i}": torch.arange(12, dtype=torch.float64).reshape(4, 3).to(kind)
        for i, kind in enumerate(
            (
                torch.float64,
                torch.float32,
                torch.float16,
                torch.bfloat16,
                torch.int64,
                torch.int8,
                torch.uint8,
                torch.bool,
            )
        )
    }
    package.save_file(tensors, tmp_path / "x.safetensors", metadata={"a": "b"})
    found = read_tensors(tmp_path / "x.safetensors", ())
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(
            found[name], tensor.float().numpy() if "bf" in str(tensor.dtype) else tensor.numpy()
        )


def test_bfloat16():
    half = np.array([1.0, -2.5, 3.1415927, 1e30], dtype=np.float32).view(np.uint32) >> 16
    from evaluation.tensors import _widened

    np.testing.assert_allclose(_widened(half.astype("<u2")), [1.0, -2.5, 3.1415927, 1e30], rtol=2**-7)


GOOD = POINTS.tobytes()
HOSTILE = {
    "empty": b"",
    "short": b"\x05\x00",
    "long header": struct.pack("<Q", 2**62) + b"{}",
    "header past the end": struct.pack("<Q", 100) + b"{}",
    "no json": safe({}, header=b"{nonsense"),
    "not utf-8": safe({}, header=b'{"\xff": 1}'),
    "deep": safe({}, header=b"[" * 100_000),
    "list": safe([1]),
    "nothing": safe({}),
    "only metadata": safe({"__metadata__": {}}),
    "twice": safe({}, GOOD, header=('{"x": %s, "x": %s}' % ((json.dumps(entry(POINTS)),) * 2)).encode()),
    "no entry": safe({"x": 3}, GOOD),
    "no dtype": safe({"x": {"shape": [6, 3], "data_offsets": [0, 72]}}, GOOD),
    "list dtype": safe({"x": {"dtype": ["F32"], "shape": [6, 3], "data_offsets": [0, 72]}}, GOOD),
    "foreign dtype": safe({"x": {"dtype": "F8_E4M3", "shape": [72], "data_offsets": [0, 72]}}, GOOD),
    "negative": safe({"x": {"dtype": "F32", "shape": [-6, -3], "data_offsets": [0, 72]}}, GOOD),
    "huge number": safe({}, GOOD, header=b'{"x": {"dtype": "F32", "shape": [1' + b"0" * 5000 + b"]}}"),
    "huge": safe({"x": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 72]}}, GOOD),
    "float shape": safe({"x": {"dtype": "F32", "shape": [6.0, 3], "data_offsets": [0, 72]}}, GOOD),
    "true shape": safe({"x": {"dtype": "U8", "shape": [True, 72], "data_offsets": [0, 72]}}, GOOD),
    "past the end": safe({"x": {"dtype": "F32", "shape": [12, 3], "data_offsets": [0, 144]}}, GOOD),
    "backwards": safe({"x": {"dtype": "F32", "shape": [6, 3], "data_offsets": [72, 0]}}, GOOD),
    "three offsets": safe({"x": {"dtype": "F32", "shape": [6, 3], "data_offsets": [0, 36, 72]}}, GOOD),
    "gap": safe({"x": entry(POINTS, 8)}, bytes(8) + GOOD),
    "left over": safe({"x": entry(POINTS)}, GOOD + b"hidden"),
    "overlap": safe({"x": entry(POINTS), "y": entry(POINTS)}, GOOD),
    "size zero": safe({"x": {"dtype": "F32", "shape": [0, 3], "data_offsets": [0, 0]}}),
    "cut": safe({"x": entry(POINTS)}, GOOD[:-1]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_safetensors(name, tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(HOSTILE[name])
    with pytest.raises(InputError, match=r"bad\.safetensors") as caught:
        load_samples(tmp_path / "bad.safetensors")
    assert len(str(caught.value)) < 400


def torch_bytes(value, **options):
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def test_pt(tmp_path):
    import torch

    path = tmp_path / "x.pt"
    points = torch.from_numpy(POINTS)
    for value in (points, {"samples": points, "other": points[:2]}, {"only": points.requires_grad_()}):
        path.write_bytes(torch_bytes(value))
        np.testing.assert_array_equal(load_samples(path).array, POINTS)
    path.write_bytes(torch_bytes(points.detach(), _use_new_zipfile_serialization=False))
    np.testing.assert_array_equal(load_samples(path).array, POINTS)
    path.write_bytes(torch_bytes(points.bfloat16()))
    np.testing.assert_array_equal(load_samples(path).array, points.bfloat16().detach().float().numpy())
    path.write_bytes(torch_bytes({"a": points, "b": points + 1, "labels": torch.arange(6), "epoch": 3}))
    assert load_samples(f"{path}:b").labels.tolist() == list(range(6))
    with pytest.raises(InputError, match="several tensors.*Name one"):
        load_samples(path)


def test_torch_images_are_turned(tmp_path):
    import torch

    for channels in (3, 1):
        (tmp_path / "x.pt").write_bytes(torch_bytes(torch.from_numpy(IMAGES[:, :channels].copy())))
        samples = load_samples(tmp_path / "x.pt")
        assert samples.kind == "images"
        np.testing.assert_array_equal(samples.array, np.moveaxis(IMAGES[:, :channels], 1, -1))


class Evil:
    """Leaves a trace if anything unpickles it."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return (open, (self.trace, "w"))


def _expanded():
    import torch

    return torch_bytes(torch.zeros(1).expand(2**20, 2**20))


BAD = {
    "noise": (lambda _: b"noise", "other than tensors"),
    "pickle": (lambda trace: pickle.dumps(Evil(trace)), "other than tensors"),
    "evil": (lambda trace: torch_bytes({"samples": Evil(trace)}), "could run code"),
    "numpy": (lambda _: torch_bytes({"samples": POINTS.astype(object)}), "other than tensors|holds no tensors"),
    "model": (lambda _: torch_bytes(__import__("torch").nn.Linear(2, 2)), "could run code"),
    "list": (lambda _: torch_bytes([1, 2]), "holds a list"),
    "number": (lambda _: torch_bytes({"epoch": 3}), "no tensors"),
    "complex": (lambda _: torch_bytes(__import__("torch").zeros(4, 2, dtype=__import__("torch").cfloat)), "complex"),
    "sparse": (lambda _: torch_bytes(__import__("torch").eye(4).to_sparse()), "sparse"),
    "meta": (lambda _: torch_bytes(__import__("torch").zeros(4, 2, device="meta")), "empty-handed"),
    "expanded": (lambda _: _expanded(), "would become 4096.0 GiB"),
    "five": (lambda _: torch_bytes(__import__("torch").zeros(2, 2, 2, 2, 2)), "must be points"),
    "nan": (lambda _: torch_bytes(__import__("torch").full((3, 2), float("nan"))), "NaN in 3 of 3"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_pt(name, tmp_path):
    make, word = BAD[name]
    (tmp_path / "bad.pt").write_bytes(make(tmp_path / "trace"))
    with pytest.raises(InputError, match=word) as caught:
        load_samples(tmp_path / "bad.pt")
    assert "bad.pt" in str(caught.value)
    assert not os.path.exists(tmp_path / "trace")


def test_cut_and_changed_pt(tmp_path):
    import torch

    whole = torch_bytes(torch.from_numpy(POINTS))
    rng = np.random.default_rng(0)
    for i in range(40):
        at = int(rng.integers(1, len(whole)))
        cut = whole[:at] if i % 2 else whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]
        (tmp_path / "x.pt").write_bytes(cut)
        try:
            assert load_samples(tmp_path / "x.pt").array.shape[-1] > 0
        except InputError:
            continue
        assert i % 2 == 0, "a cut file was read"


def test_archives_that_would_explode_and_programs(tmp_path, monkeypatch):
    import torch

    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data/0", bytes(2**22))
    with monkeypatch.context() as patch:
        patch.setattr(readers, "MAX_BYTES", 2**20)
        with pytest.raises(InputError, match="GiB in memory"):
            load_samples(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/code/__torch__.py", "")
    with pytest.raises(InputError, match="TorchScript"):
        load_samples(path)
    path.write_bytes(torch_bytes(torch.zeros(200, 200)))
    with monkeypatch.context() as patch:
        patch.setattr(readers, "MAX_BYTES", 1000)
        with pytest.raises(InputError, match="at most"):
            load_samples(path)
