"""A sampler gives the same points before saving and after loading, and no file can hurt."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import toygen
from divergences import Gaussian, InputError, Mixture, Uniform
from toygen import MLP, Affine, Sampler

PLANE = Gaussian([0.0, 0.0], np.eye(2))


def network(members=3):
    after = Affine([5.0, -5.0], [2.0, 2.0])
    return MLP([2, 6, 6, 2], [np.random.default_rng(k) for k in range(members)], after=after)


def draw(sampler, seed=0, n=50):
    return sampler(n, np.random.default_rng(seed))


def test_it_pushes_the_latents_of_the_rng_through_its_member():
    net = network()
    points = draw(Sampler(net, PLANE, member=1))
    z = torch.tensor(PLANE.sample(50, np.random.default_rng(0)))
    expected = net.double()(z.expand(3, -1, -1))[1].detach().numpy()
    assert points.dtype == np.float64
    assert points == pytest.approx(expected, abs=1e-12)


def test_it_holds_a_copy():
    net = network()
    sampler = Sampler(net, PLANE)
    before = draw(sampler)
    net.layers[0].weight.data.zero_()
    assert np.array_equal(draw(sampler), before)


def test_long_draws_are_the_same_as_short_ones():
    sampler = Sampler(network(), PLANE)
    latents = np.random.default_rng(0).normal(size=(70_000, 2))
    assert sampler.push(latents)[-3:] == pytest.approx(sampler.push(latents[-3:]), abs=1e-12)
    assert draw(sampler, n=0).shape == (0, 2)


@pytest.mark.parametrize("latent", [PLANE, Uniform([-1.0, 0.0], [1.0, 2.0])], ids=["gaussian", "uniform"])
@pytest.mark.parametrize("before", [None, Affine([1.0, 2.0], [3.0, 4.0])], ids=["bare", "affine"])
def test_saved_and_loaded_it_is_the_same(tmp_path, latent, before):
    net = MLP([2, 6, 3], [np.random.default_rng(0)], before=before)
    sampler = Sampler(net, latent, about={"seed": 3, "recipe": {"width": 6}})
    path = sampler.save(tmp_path / "sub" / "sampler.npz")
    loaded = Sampler.load(path)
    assert np.array_equal(draw(loaded), draw(sampler))
    assert loaded.about == {"seed": 3, "recipe": {"width": 6}}
    assert loaded.dim == 3
    assert os.listdir(path.parent) == ["sampler.npz"]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda net: Sampler(net, PLANE, member=3), "member must be below 3"),
        (lambda net: Sampler(net, PLANE, member=-1), "member must be at least 0"),
        (lambda net: Sampler(net, Gaussian(0.0, 1.0)), "input dimension 2; it has 1"),
        (lambda net: Sampler(torch.nn.Linear(2, 2), PLANE), "must be a toygen.MLP; it is Linear"),
        (lambda net: Sampler(net, PLANE)(-1, np.random.default_rng(0)), "n must be at least 0"),
        (lambda net: Sampler(net, PLANE)(2.5, np.random.default_rng(0)), "n must be a whole number"),
        (lambda net: Sampler(net, PLANE)(2, 0), "rng must be a numpy.random.Generator"),
        (lambda net: Sampler(net, PLANE).push(np.zeros((4, 3))), "latents must be 2-dimensional"),
        (lambda net: Sampler(net, PLANE).push([["a", "b"]]), "latents must hold real numbers"),
        (lambda net: Sampler(net, PLANE).push([[np.nan, 0.0]]), "latents holds NaN"),
        (lambda net: Sampler(net, PLANE).push(np.zeros((1, 4, 2))), "latents must have shape"),
    ],
)
def test_misuse_is_named(make, match):
    with pytest.raises(InputError, match=match):
        make(network())


def test_latents_of_any_numeric_type_are_pushed():
    sampler = Sampler(network(), PLANE)
    z = np.random.default_rng(0).integers(-2, 3, (7, 2))
    points = sampler.push(z.astype(np.float64))
    for same in (z, z.tolist(), z.astype(np.float32), torch.tensor(z)):
        assert np.array_equal(sampler.push(same), points)
    assert sampler.push(np.empty((0, 2))).shape == (0, sampler.dim)


def test_a_member_that_diverged_is_no_sampler():
    net = network()
    net.layers[1].bias.data[2, 0, 0] = float("nan")
    Sampler(net, PLANE, member=0)
    with pytest.raises(InputError, match="member 2 of the generator .* diverged"):
        Sampler(net, PLANE, member=2)


def test_what_cannot_be_saved_is_refused_and_nothing_is_written(tmp_path):
    path = tmp_path / "sampler.npz"
    with pytest.raises(InputError, match="only Gaussian and Uniform"):
        Sampler(network(), Mixture([PLANE, PLANE])).save(path)
    with pytest.raises(InputError, match="about must be plain JSON"):
        Sampler(network(), PLANE, about={"x": float("nan")}).save(path)
    with pytest.raises(InputError, match="about must be plain JSON"):
        Sampler(network(), PLANE, about={"x": object()}).save(path)
    assert not path.exists()


def spoiled(path, **changes):
    with np.load(path) as file:
        arrays = dict(file)
    for name, value in changes.items():
        name = name.replace("__", ".")
        if value is None:
            del arrays[name]
        else:
            arrays[name] = value
    np.savez(path, **arrays)


def header(path, **changes):
    with np.load(path) as file:
        text = json.loads(str(file["header"]))
    return np.array(json.dumps(text | changes))


def bare_array(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("executed",))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(path.read_bytes()[:-30]),
        lambda path: path.write_bytes(b"not a zip file at all"),
        lambda path: (path.unlink(), path.mkdir()),
        bare_array,
        lambda path: spoiled(path, header=None),
        lambda path: spoiled(path, header=np.array("{")),
        lambda path: spoiled(path, header=np.array("[1, 2]")),
        lambda path: spoiled(path, header=np.array("[" * 100_000)),
        lambda path: spoiled(path, header=np.array([Evil()], dtype=object)),
        lambda path: spoiled(path, header=header(path, format="else")),
        lambda path: spoiled(path, header=header(path, sizes=[2, 10**9, 2])),
        lambda path: spoiled(path, header=header(path, sizes="abc")),
        lambda path: spoiled(path, header=header(path, sizes=[2])),
        lambda path: spoiled(path, header=header(path, latent="Cauchy")),
        lambda path: spoiled(path, header=header(path, latent=["Gaussian"])),
        lambda path: spoiled(path, header=header(path, about=3)),
        lambda path: spoiled(path, latent_0=np.zeros(5)),
        lambda path: spoiled(path, latent_0=np.zeros(3), latent_1=np.eye(3)),
        lambda path: spoiled(path, latent_1=-np.eye(2)),
        lambda path: spoiled(path, network__layers__0__weight=np.zeros((1, 2, 7))),
        lambda path: spoiled(path, network__layers__0__weight=np.zeros((1, 2, 6), dtype=complex)),
        lambda path: spoiled(path, network__layers__1__bias=np.full((1, 1, 6), np.nan)),
        lambda path: spoiled(path, network__layers__2__weight=None),
        lambda path: spoiled(path, network__layers__9__weight=np.zeros((1, 2, 2))),
        lambda path: spoiled(path, network__after__gain=None),
        lambda path: spoiled(path, network__after__gain=np.zeros((2, 2))),
    ],
)
def test_a_bad_file_is_one_clear_error(tmp_path, monkeypatch, spoil):
    monkeypatch.chdir(tmp_path)
    path = Sampler(network(), PLANE).save(tmp_path / "sampler.npz")
    spoil(path)
    with pytest.raises(InputError) as caught:
        Sampler.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("toygen.sampler._LARGEST_FILE", 1 << 20)
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("header.npy", "w") as file:
        file.write(b"\0" * (2 << 20))
    with pytest.raises(InputError, match="unpacks to more than"):
        Sampler.load(path)


ELSEWHERE = """
import sys
import numpy as np
from toygen import Sampler
sampler = Sampler.load(sys.argv[1])
np.save(sys.argv[2], sampler(50, np.random.default_rng(7)))
"""


def test_a_file_alone_is_a_generator_in_another_process_and_place(tmp_path):
    generator = MLP([2, 8, 2], [np.random.default_rng(k) for k in range(2)])
    sampler = Sampler(generator, Gaussian([0.0, 0.0], np.eye(2)), member=1, about={"seed": 3})
    path = sampler.save(tmp_path / "sampler.npz")
    command = [sys.executable, "-c", ELSEWHERE, str(path), str(tmp_path / "points.npy")]
    folder = str(Path(toygen.__file__).parents[1])
    subprocess.run(command, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": folder})
    assert np.array_equal(np.load(tmp_path / "points.npy"), sampler(50, np.random.default_rng(7)))
