"""The Inception network against the packages that publish its weights, and weight files that must not be believed."""

import io
import zipfile

import numpy as np
import pytest

from divergences import InputError
from evaluation import features, fingerprint
from evaluation.inception import pooled, tensor_shapes
from evaluation.resize import resized
from evaluation.weights import PUBLIC_FILES, Weights, load_weights
from tests.evaluation.rivals import images, random_weights, rival, saved

IMAGES = images(2)
PLACES = [0, 1, 500, 1024, 1500, 2047]
# Features of IMAGES[1] at PLACES, and their sum over all 2048, with the weights of random_weights(0): by torch-fidelity
# 0.4.0; by pytorch-fid 0.3.0; and by the network of the latter behind the resizing of clean-fid 0.1.35.
REFERENCE = {
    "tf1": ([0.248275443912, 1.06504821777, 2.06768965721, 0.200288116932, 3.27855896950, 0.0], 8783.005661469448),
    "pytorch-fid": (
        [0.253712445498, 1.04084026814, 2.03919720650, 0.201603636146, 3.45824718475, 0.0],
        8800.347252018273,
    ),
    "clean": ([0.251712501049, 1.04510831833, 2.03970527649, 0.198861598969, 3.45587778091, 0.0], 8793.979128905405),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    path.write_bytes(saved(random_weights(0)))
    return path


@pytest.fixture(scope="module")
def weights(file):
    return load_weights(file)


@pytest.mark.parametrize("mode", REFERENCE)
def test_reference_values(mode, weights):
    ours = pooled(weights, resized(IMAGES, mode))
    assert ours.shape == (2, 2048)
    some, total = REFERENCE[mode]
    np.testing.assert_allclose(ours[1, PLACES], some, atol=2e-5)
    assert ours[1].sum(dtype=float) == pytest.approx(total, rel=1e-6)


def test_as_features(file, weights):
    recipe = features("inception:clean", weights=file)
    embed = recipe.fit(IMAGES)
    whole = embed(IMAGES)
    assert whole.dtype == np.float64
    # Equal images have equal features, whatever stands beside them; floats in [0, 1] are the same images.
    np.testing.assert_array_equal(embed(IMAGES[1:]), whole[1:])
    np.testing.assert_allclose(embed(IMAGES / 255.0), whole, rtol=1e-4, atol=1e-4)
    print_ = fingerprint(embed)
    assert print_["resize"] == "clean"
    assert print_["weights_sha256"] == weights.sha256
    assert not print_["weights_public"]
    assert weights.sha256[:8] in recipe.name
    assert "not the public file" in recipe.name
    for bad, word in (
        (IMAGES.astype(float), r"0\.\.255 or floats in \[0, 1\]"),
        (IMAGES[..., 0], "rows of shape"),
        (IMAGES.reshape(2, -1), "features of images"),
    ):
        with pytest.raises(InputError, match=word):
            embed(bad)


def test_grey_images_are_repeated(weights, monkeypatch):
    from evaluation import extractors

    seen = []
    monkeypatch.setattr(extractors, "pooled", lambda _, batch, device: seen.append(batch) or np.zeros((len(batch), 2)))
    grey = IMAGES[:, :, :, 0]
    embed = extractors.InceptionFeatures(weights).fit(grey)
    assert fingerprint(embed)["grey"]
    embed(grey)
    np.testing.assert_array_equal(seen[0], resized(np.repeat(grey[..., None], 3, axis=3), "tf1"))


def test_parity_with_torch_fidelity(file, weights):
    import torch

    module = rival("torch_fidelity.feature_extractor_inceptionv3")
    net = module.FeatureExtractorInceptionV3("ours", ["2048"], feature_extractor_weights_path=str(file))
    assert set(tensor_shapes()) <= set(net.state_dict())
    for size in ((28, 28), (64, 48)):
        four = images(4, size, seed=3)
        inputs = torch.from_numpy(four).permute(0, 3, 1, 2)
        theirs = np.concatenate([net(inputs[i : i + 1])[0].numpy() for i in range(4)])
        np.testing.assert_array_equal(pooled(weights, resized(four, "tf1")), theirs)


def test_parity_with_pytorch_fid(weights, monkeypatch):
    import torch

    module = rival("pytorch_fid.inception")
    monkeypatch.setattr(module, "load_state_dict_from_url", lambda *_, **__: random_weights(0))
    net = module.InceptionV3([3]).eval()
    four = images(4, (40, 33), seed=4)
    inputs = torch.from_numpy(four).permute(0, 3, 1, 2).contiguous() / 255
    with torch.no_grad():
        theirs = np.concatenate([net(inputs[i : i + 1])[0][:, :, 0, 0].numpy() for i in range(4)])
    np.testing.assert_array_equal(pooled(weights, resized(four, "pytorch-fid")), theirs)


def test_without_weights_the_file_is_named():
    with pytest.raises(InputError) as caught:
        features("inception")
    for part in ("--weights", *list(PUBLIC_FILES.items())[0], "6726825d", "never downloaded"):
        assert part in str(caught.value)
    with pytest.raises(InputError, match="tf1, pytorch-fid, clean"):
        features("inception:bicubic")
    with pytest.raises(InputError, match="weights= are those of Inception"):
        features("pixels", weights="x.pth")


class Evil:
    """Fails the test if anything unpickles it."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


def _spoilt(change):
    import torch

    state = {name: torch.zeros(1).expand(shape) for name, shape in tensor_shapes().items()}
    change(state, torch)
    return saved(state)


BAD = {
    "empty": (lambda: b"", "damaged"),
    "noise": (lambda: b"no weights at all", "damaged"),
    "evil": (lambda: saved({"x": Evil()}), "without running code"),
    "list": (lambda: saved([1, 2]), "holds a list"),
    "cut": (lambda: saved({"a": __import__("torch").zeros(100)})[:-200], "damaged"),
    "lacking": (lambda: _spoilt(lambda s, _: s.pop("Mixed_7c.branch_pool.conv.weight")), "lacks 1 of the 470"),
    "torchvision": (lambda: _spoilt(lambda s, t: s.update({"fc.weight": t.zeros(1000, 2)})), "ImageNet weights"),
    "shape": (
        lambda: _spoilt(lambda s, t: s.update({"Conv2d_1a_3x3.bn.bias": t.zeros(31)})),
        r"floats of shape \(32,\)",
    ),
    "nan": (lambda: _spoilt(lambda s, t: s.update({"Conv2d_1a_3x3.bn.bias": t.full((32,), t.nan)})), "NaN"),
    "variance": (lambda: _spoilt(lambda s, t: s.update({"Conv2d_1a_3x3.bn.running_var": -t.ones(32)})), "impossible"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_weight_files(name, tmp_path):
    make, word = BAD[name]
    path = tmp_path / f"{name}.pth"
    path.write_bytes(make())
    with pytest.raises(InputError, match=word) as caught:
        load_weights(path)
    assert path.name in str(caught.value)
    assert len(str(caught.value)) < 500


def test_other_places(tmp_path):
    with pytest.raises(InputError, match="no such weight file.*published at"):
        load_weights(tmp_path / "missing.pth")
    with pytest.raises(InputError, match="this is a folder; name the .pth"):
        load_weights(tmp_path)


def _scripted(module):
    import warnings

    import torch

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(module), buffer)
    return buffer.getvalue()


def test_programs_need_trust(tmp_path):
    import torch

    class Layers(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(dim=(2, 3)).repeat(1, 683)[:, :2048, None, None]

    class Detector(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = Layers()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers(x - 128)

    path = tmp_path / "inception-2015-12-05.pt"
    path.write_bytes(_scripted(Detector()))
    with pytest.raises(InputError, match=r"TorchScript.*runs code.*--trust"):
        load_weights(path)
    weights = load_weights(path, trust=True)
    assert isinstance(weights, Weights)
    x = resized(images(5), "clean", side=20)
    np.testing.assert_allclose(pooled(weights, x)[:, :3], x.mean(axis=(2, 3)), rtol=1e-4, atol=1e-5)

    path.write_bytes(_scripted(torch.nn.Flatten()))
    with pytest.raises(InputError, match="2048 numbers"):
        pooled(load_weights(path, trust=True), x)
    path.write_bytes(_scripted(torch.nn.Linear(2, 3)))
    with pytest.raises(InputError, match=r"fails on images of shape \(1, 3, 20, 20\): .*cannot be multiplied"):
        pooled(load_weights(path, trust=True), x)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/constants.pkl", b"")
    with pytest.raises(InputError, match="damaged TorchScript"):
        load_weights(path, trust=True)
