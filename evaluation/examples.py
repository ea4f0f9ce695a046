r"""Real examples of what a generator leaves out: rows of the training data, and where they lie.

Of a known mode they are the training samples nearest to its mean, in its own Mahalanobis distance, among those that
belong to it: of high quality, and nearer to no other mode. A mode without any is a mode that train does not have. Of a
labelled class they are picked evenly over its rows of the file. Coordinates are told of points in up to three
dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from evaluation.mode_geometry import assign, gaussian_parts
from evaluation.pictures import evenly

__all__ = ["class_examples", "mode_examples", "nearest_rows"]

_OF_MODE = 5
# Two rows of a grid of images.
_OF_CLASS = 16
_SHOWN_DIMENSIONS = 3


def nearest_rows(rows: Int64[np.ndarray, " r"], offsets: Float64[np.ndarray, "r d"], most: int) -> tuple[int, ...]:
    """Those of ``rows`` whose offsets are shortest, the shortest first; of equals the first.

    >>> nearest_rows(np.array([4, 7, 9]), np.array([[3.0], [-1.0], [1.0]]), 2)
    (7, 9)
    """
    squared = (offsets**2).sum(axis=1)
    return tuple(int(row) for row in rows[np.argsort(squared, kind="stable")][:most])


def mode_examples(train: Float64[np.ndarray, "m d"], modes: Any, chosen: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Of each chosen mode: ``examples``, up to five rows of ``train``, and ``examples_at``, their coordinates.

    >>> from divergences import Gaussian, Mixture
    >>> law = Mixture([Gaussian([0.0], [[1.0]]), Gaussian([9.0], [[1.0]])])
    >>> mode_examples(np.array([[0.5], [9.5], [0.1]]), law, [0])
    {0: {'examples': [2, 0], 'examples_at': [[0.1], [0.5]]}}
    """
    wanted = [int(index) for index in chosen]
    if not wanted:
        return {}
    parts = gaussian_parts(modes)
    home, inside = assign(train, parts)
    told = {}
    for index in wanted:
        rows = np.flatnonzero((home == index) & inside)
        told[index] = _told(train, nearest_rows(rows, parts.whiten(train[rows], index), _OF_MODE))
    return told


def class_examples(train: np.ndarray, classes: Int64[np.ndarray, " m"], chosen: Iterable[int]) -> dict[int, Any]:
    """Of each chosen class: ``examples``, up to 16 rows, and of points ``examples_at``; ``train`` as it was given.

    >>> class_examples(np.zeros((5, 4, 4)), np.array([0, 1, 1, 0, 1]), [1])
    {1: {'examples': [1, 2, 4]}}
    """
    told = {}
    for index in chosen:
        rows = np.flatnonzero(classes == index)
        told[int(index)] = _told(train, tuple(int(row) for row in rows[evenly(len(rows), _OF_CLASS)]))
    return told


def _told(train: np.ndarray, rows: tuple[int, ...]) -> dict[str, Any]:
    record: dict[str, Any] = {"examples": list(rows)}
    if train.ndim == 2 and train.shape[1] <= _SHOWN_DIMENSIONS:
        record["examples_at"] = train[list(rows)].astype(np.float64).tolist()
    return record
