r"""Differences between two sets of images that come from how they were saved, not from what they show.

Scores between image sets react strongly to file formats and number ranges: compressing the images of one set as JPEG
moves a Fréchet distance more than a better generator does, and the direction depends on the data. So before two sets
are compared it is asked whether they were saved alike: lossy or lossless, and how strongly compressed; bytes or floats,
and on which scale; rounded to 256 levels or not; each image stretched to the full range or not; in colour or grey in
three channels.

Compression is also seen in the pixels, after the images were saved anew without loss: JPEG rounds the cosine transform
of each 8 × 8 block to multiples of a step. Of natural images, of blurred and of noisy ones, the coefficients grow rarer
with their size; after JPEG some larger values are more than twice as frequent as those from 1 to 2. This finds
qualities up to about 90 in images with enough grey tones; black and white ones say nothing. Where both sets show it,
the steps tell whether one was compressed more strongly, or once more.

These are signs, not tests: nothing here has a p-value. A generator that makes grey images where train is in colour is
reported here as well.

References:
    On aliased resizing and surprising subtleties in GAN evaluation (Parmar, Zhang, Zhu, 2022),
    https://arxiv.org/abs/2104.11222.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Shaped

from evaluation.samples import Samples

__all__ = ["compare_sources"]

# As many images of a set tell how it was saved.
_LOOKED_AT = 1000
# Shares of the images of a set that have some property: of the one set nearly all, of the other few.
_MOST, _FEW = 0.9, 0.5
_QUALITY_MARGIN = 3
_LUMINANCE = np.array([0.299, 0.587, 0.114])
_BLOCKS, _FEWEST_BLOCKS = 10_000, 200
_FEWEST_COEFFICIENTS, _LARGEST_STEP = 3, 60
# A range counts as narrower if it ends this share of the wider one earlier, in a set of so many images, while so many
# of the other set go beyond, to both ends of its scale.
_NARROWER, _ENOUGH, _BEYOND = 0.06, 100, 0.2
_ENDS = {"bytes 0 to 255": (0, 255), "floats 0 to 255": (0, 255), "floats 0 to 1": (0, 1), "floats -1 to 1": (-1, 1)}


def compare_sources(one: Samples, other: Samples, *, names: tuple[str, str] = ("generated", "train")) -> list[str]:
    """What sets two sets of images apart that is due to how they were saved; empty for points.

    Args:
        one: a set from ``load_samples``.
        other: another one.
        names: what they are called in the sentences.

    Returns:
        One sentence per difference, with what to do.

    >>> bright = Samples(np.full((4, 2, 2), 255, dtype=np.uint8), "a", "images", formats=("PNG",))
    >>> lossy = Samples(bright.array, "b", "images", formats=("JPEG quality 75",))
    >>> compare_sources(bright, bright), len(compare_sources(bright, lossy))
    ([], 1)
    """
    if one.kind != "images" or other.kind != "images":
        return []
    sets = (_Look.at(one), _Look.at(other))
    found = _formats(one, other, names)
    if not found and not (_lossy(one.formats) == _lossy(other.formats) == frozenset({True})):
        found += _traces(sets, names)
    scales = _scales(sets, names)
    if scales:
        return found + scales  # all else would follow from this
    for left, right in ((0, 1), (1, 0)):
        found += _one_sided(sets[left], sets[right], names[left], names[right])
    return found


@dataclass(frozen=True)
class _Look:
    """What a set's pixels say about how it was saved."""

    scale: str
    levels: int
    rounded: bool
    stretched: float
    nearly_stretched: float
    darkest: np.ndarray
    brightest: np.ndarray
    grey: float
    colour: bool
    steps: tuple[int, ...]

    @property
    def compressed(self) -> bool:
        return any(self.steps)

    @staticmethod
    def at(samples: Samples) -> _Look:
        # Evenly through the set: files are often sorted by class.
        rows = np.unique(np.linspace(0, len(samples) - 1, min(len(samples), _LOOKED_AT)).astype(int))
        images = np.asarray(samples.array[rows])
        flat = images.reshape(len(images), -1)
        scale = _scale(images)
        if images.dtype == np.uint8:
            levels, rounded = int((np.bincount(flat.ravel(), minlength=256) > 0).sum()), True
        else:
            steps = _in_steps(flat, scale)
            levels, rounded = (len(np.unique(np.round(steps))), bool(np.abs(steps - np.round(steps)).max() < 1e-3))
        darkest, brightest = (side.astype(np.float64) for side in (flat.min(axis=1), flat.max(axis=1)))
        return _Look(
            scale, levels, rounded, _stretched(darkest, brightest, 0.0), _stretched(darkest, brightest, 0.05), darkest,
            brightest, *_greyness(images), _steps(images, scale),
        )  # fmt: skip


def _scale(images: Shaped[np.ndarray, "..."]) -> str:
    """The convention the pixels seem to follow; "" where they fit several, such as black images."""
    low, high = float(images.min()), float(images.max())
    if images.dtype == np.uint8:
        return "bytes 0 to 255" if high > 1 else "bytes 0 to 1"
    if low < -0.25 and high <= 1.5:
        return "floats -1 to 1"
    if low >= -0.25 and high > 8:
        return "floats 0 to 255"
    if low >= -0.25 and 0.25 < high <= 1.5:
        return "floats 0 to 1"
    beyond = float(((images < -0.25) | (images > 1.5)).mean())
    return "floats on no scale of pixels" if low < -0.25 and high > 1.5 and beyond > 0.05 else ""


def _in_steps(flat: Any, scale: str) -> np.ndarray:
    """Values in units of what would be one level of 256."""
    values = flat.astype(np.float64)
    if scale == "floats -1 to 1":
        return (values + 1) * 127.5
    return values if scale.endswith("0 to 255") else values * 255


def _stretched(darkest: np.ndarray, brightest: np.ndarray, slack: float) -> float:
    """The share of images that reach the set's own darkest and brightest value, or that share of its range near."""
    low, high = darkest.min(), brightest.max()
    near = slack * (high - low)
    return float(((darkest <= low + near) & (brightest >= high - near)).mean())


def _greyness(images: np.ndarray) -> tuple[float, bool]:
    """The share of images whose three channels are equal, and whether there are three."""
    if images.ndim < 4 or images.shape[-1] == 1:
        return 1.0, False
    equal = (images == images[..., :1]).reshape(len(images), -1).all(axis=1)
    return float(equal.mean()), True


def _steps(images: np.ndarray, scale: str) -> tuple[int, ...]:
    """The step that each low coefficient of the cosine transform of 8 × 8 blocks was rounded to; 0 where to none.

    Empty if too few show a step: then this was no JPEG.
    """
    from scipy.fft import dctn

    n, height, width = images.shape[:3]
    high, wide = height // 8, width // 8
    if not high or not wide:
        return ()
    levels = _in_steps(images[:, : high * 8, : wide * 8], scale)
    grey = levels @ _LUMINANCE if levels.ndim == 4 and levels.shape[-1] == 3 else levels.reshape(n, high * 8, wide * 8)
    blocks = grey.reshape(n, high, 8, wide, 8).swapaxes(2, 3).reshape(-1, 8, 8)[:_BLOCKS]
    # Where values were cut off at black or white, the coefficients are no longer multiples.
    blocks = blocks[(blocks.min(axis=(1, 2)) > 1) & (blocks.max(axis=(1, 2)) < 254)]
    if len(blocks) < _FEWEST_BLOCKS:
        return ()
    order = np.add.outer(np.arange(8), np.arange(8))
    sizes = np.abs(dctn(blocks, axes=(1, 2), norm="ortho"))[:, (order >= 1) & (order <= 4)]
    steps, telling = [], 0
    for coefficient in sizes.T:
        counts = np.bincount(np.minimum(coefficient, _LARGEST_STEP).astype(int), minlength=_LARGEST_STEP + 1)
        rounded = False
        if counts[2:].sum() >= _FEWEST_BLOCKS // 4:  # else nothing is large enough to tell
            telling += 1
            rounded = bool(counts[2:_LARGEST_STEP].max() > 2 * counts[1] + 3 * np.sqrt(counts[1]) + 6)
        steps.append(_step(coefficient) if rounded else 0)
    found = sum(step > 0 for step in steps)
    return tuple(steps) if telling >= _FEWEST_COEFFICIENTS and found > _FEW * telling else ()


def _step(coefficient: np.ndarray) -> int:
    """The step that the values are multiples of, from 2 on.

    The commonest value is a multiple of it; and of all steps up to there it is the one on whose multiples the values
    lie best, its own parts being blurred more by the rounding to grey levels.
    """
    counts = np.bincount(np.minimum(np.round(coefficient), _LARGEST_STEP).astype(int), minlength=_LARGEST_STEP + 1)
    candidates = np.arange(2, counts[2:_LARGEST_STEP].argmax() + 4)
    values = coefficient[coefficient > 1.5][:_BLOCKS]
    return int(candidates[np.cos(2 * np.pi * values / candidates[:, None]).mean(axis=1).argmax()])


def _traces(sets: tuple[_Look, _Look], names: tuple[str, str]) -> list[str]:
    """Compression that only the pixels show."""
    if sets[0].compressed and sets[1].compressed:
        return _strengths(sets, names)
    if not sets[0].compressed and not sets[1].compressed:
        return []
    lossy, clean = names if sets[0].compressed else names[::-1]
    return [
        f"the pixels of {lossy} show the 8×8 blocks of JPEG compression, and those of {clean} do not, whatever files "
        "they come from. Compression moves every score: compare with images that never were JPEG."
    ]


def _strengths(sets: tuple[_Look, _Look], names: tuple[str, str]) -> list[str]:
    """Compression of both sets that the pixels show to be of different strength."""
    pairs = [(a, b) for a, b in zip(sets[0].steps, sets[1].steps, strict=True) if a and b]
    apart = [a != b for a, b in pairs]
    if len(pairs) < _FEWEST_COEFFICIENTS or float(np.mean(apart)) <= _FEW:
        return []
    sizes = [sum(pair[side] for pair in pairs) / len(pairs) for side in (0, 1)]
    stronger, weaker = names if sizes[0] > sizes[1] else names[::-1]
    return [
        f"the pixels of both sets show the 8×8 blocks of JPEG compression, and those of {stronger} in coarser steps "
        f"(about {max(sizes):.0f} grey levels) than those of {weaker} ({min(sizes):.0f}). Compression moves every "
        "score. Save both sets in one way, best as PNG and from originals that were compressed alike."
    ]


def _formats(one: Samples, other: Samples, names: tuple[str, str]) -> list[str]:
    """Lossy files against lossless ones, or compression of different strength."""
    if not one.formats or not other.formats:
        return []
    described = [f"{name} comes from {', '.join(s.formats)}" for name, s in zip(names, (one, other), strict=True)]
    lossy = [_lossy(s.formats) for s in (one, other)]
    remedy = "Compression moves every score. Save both sets in one way, best as PNG."
    if lossy[0] != lossy[1]:
        return [f"{described[0]} and {described[1]}: not all are lossy. {remedy}"]
    ranges = [_qualities(s.formats) for s in (one, other)]
    if all(ranges) and max(abs(a - b) for a, b in zip(*ranges, strict=True)) > _QUALITY_MARGIN:
        return [f"{described[0]} and {described[1]}: they were compressed differently. {remedy}"]
    return []


def _lossy(formats: tuple[str, ...]) -> frozenset[bool]:
    return frozenset(name.startswith("JPEG") or name == "WEBP lossy" for name in formats)


def _qualities(formats: tuple[str, ...]) -> tuple[int, int] | tuple[()]:
    """Lowest and highest quality of the JPEGs among them."""
    found = [int(word) for name in formats if name.startswith("JPEG") for word in name.split() if word.isdecimal()]
    return (min(found), max(found)) if found else ()


def _scales(sets: tuple[_Look, _Look], names: tuple[str, str]) -> list[str]:
    one, other = sets
    if not one.scale or not other.scale or one.scale == other.scale:
        return []
    return [
        f"{names[0]} holds {one.scale} and {names[1]} {other.scale}: distances between them mean nothing. Bring both "
        "to one scale, best bytes 0 to 255."
    ]


def _one_sided(one: _Look, other: _Look, name: str, against: str) -> list[str]:
    """What is true of one set and not of the other."""
    found = []
    if one.rounded and not other.rounded:
        found.append(
            f"{name} is rounded to 256 levels and {against} is not: saving as images rounds. Round both, or neither."
        )
    if one.levels <= 32 and other.levels >= 4 * one.levels:
        found.append(
            f"{name} uses {one.levels} levels of brightness and {against} {other.levels}: was {name} binarised, "
            "reduced to a palette, or scaled before it was turned into bytes?"
        )
    if one.stretched >= _MOST and other.nearly_stretched <= _FEW:
        found.append(
            f"each image of {name} reaches from the darkest to the brightest value and those of {against} do not: were "
            f"they normalised one by one on saving? Save {name} on the fixed scale of the generator."
        )
    if not found and not (other.stretched >= _MOST and one.nearly_stretched <= _FEW):
        found += _narrower(one, other, name, against)
    if one.grey >= _MOST and one.colour and other.colour and other.grey <= _FEW:
        found.append(f"the images of {name} are grey in three channels and those of {against} are in colour.")
    return found


def _narrower(one: _Look, other: _Look, name: str, against: str) -> list[str]:
    """A set whose values end where a good part of the other set's images go on."""
    if len(one.darkest) < _ENOUGH or one.scale != other.scale or one.scale not in _ENDS:
        return []
    low, high = one.darkest.min(), one.brightest.max()
    first, last = _ENDS[one.scale]
    near = _NARROWER * (last - first)
    if other.darkest.min() > first + near / 2 or other.brightest.max() < last - near / 2:
        return []
    beyond = max(float((other.darkest < low - near).mean()), float((other.brightest > high + near).mean()))
    if beyond < _BEYOND:
        return []
    return [
        f"{name} reaches from {low:g} to {high:g} and {against} from {other.darkest.min():g} to "
        f"{other.brightest.max():g}, with {100 * beyond:.0f} % of its images beyond the range of {name}: was {name} "
        "scaled, or saved in the limited range 16 to 235 of video?"
    ]
