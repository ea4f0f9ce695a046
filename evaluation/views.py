r"""Copies that were moved or mirrored: the transformations under which two images count as the same.

A training image shifted by one pixel is as far from its original, pixel by pixel, as another image. ``Views`` lists the
shifts by up to s pixels in both directions, each with its mirror image if wanted: (2s+1)²·2 of them. The distance of a
sample to a training image is then the least over the views of the sample; held-out data are treated in the same way, so
that the null stays the null. A shifted image is filled at the border with its edge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from divergences import InputError
from divergences.checks import as_count, as_points

__all__ = ["Views", "named_views"]


@dataclass(frozen=True)
class Views:
    """Shifts and mirror images of images that are given as rows.

    Attributes:
        shape: of one image: (h, w) or (h, w, c); a row has as many numbers.
        shift: pixels by which an image may be moved in each direction.
        mirror: whether left and right may be exchanged.
        embed: features (n, row) -> (n, d) in which distances are taken, or None for the pixels themselves.

    >>> views = Views(shape=(1, 3), shift=1)
    >>> [view.tolist() for view in views.of(np.array([[1.0, 2.0, 3.0]]))][:3]
    [[[1.0, 2.0, 3.0]], [[2.0, 3.0, 3.0]], [[1.0, 1.0, 2.0]]]
    """

    shape: tuple[int, ...]
    shift: int = 0
    mirror: bool = False
    embed: Callable[[np.ndarray], Any] | None = None

    def __post_init__(self) -> None:
        if len(self.shape) not in (2, 3) or min(self.shape) < 1:
            raise InputError(f"shape must be (h, w) or (h, w, c); it is {self.shape}.")
        if as_count(self.shift, "shift", minimum=0) >= min(self.shape[:2]) and self.shift > 0 and self.shape[0] > 1:
            raise InputError(f"shift must be smaller than the image, {self.shape[0]} × {self.shape[1]}.")

    def plain(self, x: np.ndarray, name: str) -> Float64[np.ndarray, "n d"]:
        """The images as they are, in the space where distances are taken."""
        self._check(x, name)
        return self._embedded(x, name)

    def of(self, x: np.ndarray, name: str = "x") -> Iterator[Float64[np.ndarray, "n d"]]:
        """Each view of all images, the images as they are first."""
        self._check(x, name)
        images = x.reshape(len(x), *self.shape)
        steps = sorted(
            ((down, right) for down in self._steps(0) for right in self._steps(1)),
            key=lambda step: (abs(step[0]) + abs(step[1]), step),
        )
        for flipped in (False, True) if self.mirror else (False,):
            turned = images[:, :, ::-1] if flipped else images
            for down, right in steps:
                rows = np.clip(np.arange(self.shape[0]) - down, 0, self.shape[0] - 1)
                columns = np.clip(np.arange(self.shape[1]) - right, 0, self.shape[1] - 1)
                yield self._embedded(np.ascontiguousarray(turned[:, rows][:, :, columns]).reshape(x.shape), name)

    def _steps(self, axis: int) -> range:
        # An image of one row cannot be moved up or down.
        return range(-self.shift, self.shift + 1) if self.shape[axis] > 1 else range(1)

    def _check(self, x: np.ndarray, name: str) -> None:
        if x.shape[1] != int(np.prod(self.shape)):
            raise InputError(
                f"invariant= is for images of shape {self.shape}, rows of {int(np.prod(self.shape))} numbers; {name} "
                f"has rows of {x.shape[1]}. Pass pixels, and the features as Views(embed=...)."
            )

    def __len__(self) -> int:
        """How many views an image has, itself included."""
        return len(self._steps(0)) * len(self._steps(1)) * (1 + self.mirror)

    def _embedded(self, x: np.ndarray, name: str) -> Float64[np.ndarray, "n d"]:
        return x if self.embed is None else as_points(self.embed(x), f"the features of {name}")


def named_views(wanted: str, shape: tuple[int, ...], embed: Callable[[np.ndarray], Any] | None = None) -> Views:
    """The views that a text names: ``shift:N`` (``shift`` alone is 1 pixel), ``mirror``, or both with a comma.

    Args:
        wanted: such as "shift:2,mirror".
        shape: of one image.
        embed: as in ``Views``.

    Raises:
        InputError: a text that names something else, or nothing.

    >>> views = named_views("shift:1,mirror", (28, 28))
    >>> views.shift, views.mirror, len(views)
    (1, True, 18)
    """
    shift, mirror = 0, False
    for part in (word.strip() for word in wanted.split(",")):
        name, _, count = part.partition(":")
        if part == "shift":
            shift = 1
        elif name == "shift" and count.isascii() and count.isdigit():
            shift = int(count)
        elif part == "mirror":
            mirror = True
        else:
            raise InputError(
                f"views= must be shift:N (pixels), mirror, or both with a comma, such as shift:1,mirror; it is "
                f"{wanted!r}."
            )
    return Views(tuple(shape), shift, mirror, embed)
