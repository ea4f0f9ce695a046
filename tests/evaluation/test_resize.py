"""Three rules of resizing: by hand on a few pixels, and to the last bit against the packages that set them."""

import warnings

import numpy as np
import pytest

from divergences import InputError
from evaluation.resize import RESIZE_MODES, resized
from tests.evaluation.rivals import images, rival

SIZES = [(32, 32), (28, 28), (299, 299), (37, 512), (500, 320), (64, 1)]


def row(mode, values, side):
    """One channel of one row of a small image after resizing, back on the scale of bytes."""
    image = np.broadcast_to(np.array(values, dtype=np.uint8)[None, None, :, None], (1, len(values), len(values), 3))
    out = resized(image, mode, side=side)
    assert out.dtype == np.float32
    assert out.shape == (1, 3, side, side)
    np.testing.assert_allclose(out[0, 0, 0], out[0, 2, -1], atol=1e-6)
    return out[0, 1, 0] * 127.5 + 127.5 if mode == "pytorch-fid" else out[0, 1, 0] * 128 + 128


def test_by_hand():
    # From corners: positions 0, ½, 1, 1½, where there is nothing beyond pixel 1.
    np.testing.assert_allclose(row("tf1", [0, 100], 4), [0, 50, 100, 100], atol=1e-4)
    # Between centres: positions −¼, ¼, ¾, 1¼.
    np.testing.assert_allclose(row("pytorch-fid", [0, 100], 4), [0, 25, 75, 100], atol=1e-4)
    # Shrinking without smoothing picks pixels; with smoothing it averages.
    stripes = [0, 200] * 8
    np.testing.assert_allclose(row("tf1", stripes, 8), [0] * 8, atol=1e-4)
    assert np.abs(row("clean", stripes, 8)[1:-1] - 100).max() < 25
    # Bicubic overshoots beside an edge, and is cut to the range of bytes.
    assert row("clean", [0, 0, 255, 255], 16).min() == 0
    assert row("clean", [0, 0, 255, 255], 16).max() == 255
    assert row("clean", [20, 20, 200, 200], 16).max() > 201


@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_a_flat_image_stays_flat(mode):
    out = resized(np.full((1, 7, 5, 3), 255, dtype=np.uint8), mode, side=11)
    np.testing.assert_allclose(out, 1.0 if mode == "pytorch-fid" else 127 / 128, atol=1e-6)


def test_unknown_modes_are_refused():
    with pytest.raises(InputError, match="tf1, pytorch-fid, clean"):
        resized(images(1), "bicubic")


@pytest.mark.parametrize("size", SIZES)
def test_tf1_is_that_of_torch_fidelity(size):
    import torch

    module = rival("torch_fidelity.interpolate_compat_tensorflow")
    x = torch.from_numpy(images(2, size)).permute(0, 3, 1, 2).float()
    theirs = module.interpolate_bilinear_2d_like_tensorflow1x(x, size=(299, 299), align_corners=False)
    np.testing.assert_array_equal(resized(images(2, size), "tf1"), ((theirs - 128) / 128).numpy())


@pytest.mark.parametrize("size", SIZES)
def test_clean_is_that_of_clean_fid(size):
    module = rival("cleanfid.resize")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        resize = module.build_resizer("clean")
        theirs = np.stack([resize(image) for image in images(2, size)]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(resized(images(2, size), "clean"), (theirs - 128) / 128)
