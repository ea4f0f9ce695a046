r"""Images brought to the size and scale that an Inception network expects, in the three ways in use.

A Fréchet distance between Inception features depends on how images are enlarged or shrunk to 299 × 299 pixels: the same
two sets score several points apart under different rules. Three rules stand behind most published numbers, so a rule is
always named, and numbers under different names are not compared.

``tf1``          bilinear as TensorFlow 1 did it: output pixel i is read at position i · (in / out), from the upper left
                 corners of pixels instead of their centres, without smoothing. Values are then (x − 128) / 128, in
                 [−1, 0.992]. The original FID, torch-fidelity.
``pytorch-fid``  bilinear between pixel centres, position (i + ½) · (in / out) − ½, without smoothing; values
                 2 · x/255 − 1, in [−1, 1]. pytorch-fid.
``clean``        bicubic between pixel centres with a kernel widened by in / out when shrinking, so that nothing is
                 aliased: Pillow's, on each channel in floating point, cut to [0, 255], not rounded; then
                 (x − 128) / 128. clean-fid.

Each agrees with the package named to the last bit, in single precision as there.

References:
    On aliased resizing and surprising subtleties in GAN evaluation (Parmar, Zhang, Zhu, 2022),
    https://arxiv.org/abs/2104.11222. GANs trained by a two time-scale update rule converge to a local Nash equilibrium
    (Heusel et al., 2017), https://arxiv.org/abs/1706.08500.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Shaped

from divergences.checks import one_of

__all__ = ["RESIZE_MODES", "resized"]

RESIZE_MODES = ("tf1", "pytorch-fid", "clean")


def resized(images: Shaped[np.ndarray, "n h w 3"], mode: str, *, side: int = 299) -> Float32[np.ndarray, "n 3 s s"]:
    """Images as an Inception network takes them: channels first, ``side`` × ``side``, values about [−1, 1].

    Args:
        images: shape (n, h, w, 3), values 0 to 255, uint8 or float.
        mode: "tf1", "pytorch-fid" or "clean"; see the module's text.
        side: of the result, in pixels.

    Raises:
        InputError: an unknown mode.

    >>> resized(np.full((1, 2, 2, 3), 128, dtype=np.uint8), "tf1", side=4).max()
    np.float32(0.0)
    """
    one_of(mode, "the resize mode", RESIZE_MODES)
    pixels = np.ascontiguousarray(np.moveaxis(images, -1, 1), dtype=np.float32)
    if mode == "pytorch-fid":
        return _between_centers(pixels / np.float32(255), side) * np.float32(2) - np.float32(1)
    enlarged = _between_corners(pixels, side) if mode == "tf1" else _smoothed(pixels, side)
    return (enlarged - np.float32(128)) / np.float32(128)


def _between_corners(x: Float32[np.ndarray, "n c h w"], side: int) -> Float32[np.ndarray, "n c s s"]:
    top, bottom, down = _neighbours(x.shape[2], side)
    left, right, across = _neighbours(x.shape[3], side)
    rows = []
    for row in (top, bottom):
        near, far = x[:, :, row][..., left], x[:, :, row][..., right]
        rows.append(near + (far - near) * across)
    upper, lower = rows
    return upper + (lower - upper) * down[:, None]


def _neighbours(length: int, side: int) -> tuple[np.ndarray, np.ndarray, Float32[np.ndarray, " s"]]:
    """The two pixels each output pixel lies between, and how far it is from the first."""
    # The product in single precision is part of the rule: it decides on which side of a pixel a position falls.
    positions = np.arange(side, dtype=np.float32) * np.float32(length / side)
    first = positions.astype(np.int64)
    return first, np.minimum(first + 1, length - 1), positions - first.astype(np.float32)


def _between_centers(x: Float32[np.ndarray, "n c h w"], side: int) -> Float32[np.ndarray, "n c s s"]:
    import torch

    enlarged = torch.nn.functional.interpolate(
        torch.from_numpy(x), size=(side, side), mode="bilinear", align_corners=False
    )
    return enlarged.numpy()


def _smoothed(x: Float32[np.ndarray, "n c h w"], side: int) -> Float32[np.ndarray, "n c s s"]:
    from PIL import Image

    out = np.empty((*x.shape[:2], side, side), dtype=np.float32)
    for i, image in enumerate(x):
        for c, channel in enumerate(image):
            enlarged = Image.fromarray(channel).resize((side, side), resample=Image.Resampling.BICUBIC)
            out[i, c] = np.clip(np.asarray(enlarged), 0, 255)
    return out
