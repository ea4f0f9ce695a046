r"""Means and covariances of feature sets: merged exactly, streamed without keeping the features, and told apart.

Two sets of n and m rows with means μ, ν and scatters A = Σ(x−μ)(x−μ)ᵀ, B have together the mean μ + δ m/(n+m), with
δ = ν − μ, and the scatter A + B + δδᵀ nm/(n+m). Nothing is subtracted that is much larger than the result, as
Σxxᵀ − nμμᵀ would, so features far from the origin keep their digits, and the order of the parts does not matter.

**Fingerprint.** The same images give other numbers with another network, other weights or another resize rule. Moments
therefore carry what their features depend on, a JSON object as ``evaluation.features.fingerprint`` gives it, and sets
with different ones are neither merged nor compared: the error names what differs. ``versions`` and ``device`` are
recorded only; an entry that one side lacks is unknown, not different.

References:
    Algorithms for computing the sample variance (Chan, Golub, LeVeque, 1983),
    https://doi.org/10.1080/00031305.1983.10483115.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from divergences.checks import ArrayLike, as_array, as_count, as_points
from divergences.errors import InputError

__all__ = ["MomentStream", "Moments", "disagreements"]

# What the numbers do not depend on beyond rounding.
_RECORDED_ONLY = ("versions", "device")
_TILE = 256
# Twice the pixels of 64 × 64 in colour are out: an audit of those takes 7 GiB, and memory grows as the square.
_MOST_DIMENSIONS = 2**14


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance of a feature set; sets are merged exactly.

    Attributes:
        mean: shape (d,).
        covariance: shape (d, d), with n − 1 in the denominator.
        n: samples, ≥ 2.
        samples: the features themselves, shape (n, d), if known: fourth moments and the error of ``fid`` come from
            them. Without them (from a stream or a file) both are those of Gaussian features.
        fingerprint: what the features depend on, a JSON object; None if unknown.

    >>> x = np.arange(12.0).reshape(6, 2) ** 2
    >>> both = Moments.of(x[:2]).merge(Moments.of(x[2:]))
    >>> np.allclose(both.covariance, np.cov(x.T)), both.n
    (True, 6)
    """

    mean: Any
    covariance: Any
    n: int
    samples: Any = None
    fingerprint: Any = None

    def __post_init__(self) -> None:
        mean, covariance = as_array(self.mean, "mean"), as_array(self.covariance, "covariance")
        if mean.ndim != 1 or mean.size == 0 or covariance.shape != (mean.size, mean.size):
            raise InputError(f"mean and covariance must be (d,) and (d, d); they are {mean.shape}, {covariance.shape}.")
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise InputError("mean and covariance must be finite; they hold NaN or infinite values.")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "covariance", _symmetrized(covariance))
        object.__setattr__(self, "n", as_count(self.n, "n", minimum=2))
        object.__setattr__(self, "fingerprint", _checked_fingerprint(self.fingerprint))
        if self.samples is not None:
            kept = as_points(self.samples, "samples", dim=mean.size)
            if len(kept) != self.n:
                raise InputError(f"samples must be the n = {self.n} rows the moments belong to; there are {len(kept)}.")
            object.__setattr__(self, "samples", kept)

    @classmethod
    def of(cls, features: ArrayLike, *, name: str = "features", fingerprint: Any = None) -> Moments:
        """Moments of the rows of ``features`` (n, d), n ≥ 2, which are kept.

        Args:
            features: shape (n, d).
            name: what the caller calls them, for messages.
            fingerprint: what they depend on, if known.

        Raises:
            InputError: NaN, wrong shape, fewer than two rows, or more dimensions than a covariance has room for.
        """
        x = as_points(features, name, minimum=2)
        check_room(x.shape[1], name)
        mean = x.mean(axis=0)
        centered = x - mean
        return cls(mean, centered.T @ centered / (len(x) - 1), len(x), x, fingerprint)

    @classmethod
    def from_batches(cls, batches: Iterable[ArrayLike], *, fingerprint: Any = None) -> Moments:
        """Moments of all rows of all batches, which are not kept: memory for one batch and one covariance.

        Args:
            batches: arrays (n_i, d); single rows may come as (1, d).
            fingerprint: what they depend on, if known.

        Raises:
            InputError: NaN, a batch of another dimension, or fewer than two rows in all.

        >>> x = np.random.default_rng(0).normal(size=(100, 3))
        >>> np.allclose(Moments.from_batches(x[i : i + 7] for i in range(0, 100, 7)).covariance, np.cov(x.T))
        True
        """
        stream = MomentStream(fingerprint=fingerprint)
        for batch in batches:
            stream.update(batch)
        return stream.moments()

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets together, by Chan's formula; the samples are kept if both have them.

        Raises:
            InputError: another dimension, or another fingerprint.
        """
        if other.mean.shape != self.mean.shape:
            raise InputError(f"cannot merge moments of {self.mean.size} and of {other.mean.size} dimensions.")
        different = disagreements(self, other)
        if different:
            raise InputError(f"cannot merge moments of features that differ: {'; '.join(different)}.")
        n = self.n + other.n
        gap = other.mean - self.mean
        scatter = (self.n - 1) * self.covariance + (other.n - 1) * other.covariance
        scatter += np.outer(gap, gap) * (self.n * other.n / n)
        both = None
        if self.samples is not None and other.samples is not None:
            both = np.concatenate([self.samples, other.samples])
        known = self.fingerprint if other.fingerprint is not None else None
        return Moments(self.mean + gap * (other.n / n), scatter / (n - 1), n, both, known)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write ``mu, sigma, n`` and the fingerprint to an .npz file, whole or not at all.

        The names are those that pytorch-fid and clean-fid read; the samples are not saved.

        Raises:
            OSError: the place cannot be written.
        """
        from evaluation.statistics_files import save_moments

        return save_moments(self, path)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        n: Any = None,
        ddof: Any = 1,
        keys: tuple[str, str] = ("mu", "sigma"),
    ) -> Moments:
        """Moments from an .npz file: our own, or one of pytorch-fid, clean-fid, ADM or StyleGAN.

        Args:
            path: the file; nothing in it is unpickled.
            n: of how many samples the statistics are, needed where the file does not say so: without it neither the
                bias nor the error of a distance is known.
            ddof: 1 if the file's covariance is divided by n − 1, as most tools do, 0 if by n, as StyleGAN 2 and 3 do;
                it is converted.
            keys: names of mean and covariance: ``("mu_s", "sigma_s")`` are the spatial features of ADM's files.

        Raises:
            InputError: a file that cannot be read or lacks these arrays, or an unknown n.
        """
        from evaluation.statistics_files import load_moments

        return load_moments(path, n=n, ddof=ddof, keys=keys)


class MomentStream:
    """Moments of rows that come in batches and are not kept: for a training loop, or more features than memory.

    >>> stream = MomentStream()
    >>> stream.update([[0.0, 1.0]])
    >>> stream.update([[2.0, 1.0], [4.0, 1.0]])
    >>> stream.moments().mean, stream.n
    (array([2., 1.]), 3)
    """

    def __init__(self, *, fingerprint: Any = None) -> None:
        self.n = 0
        self._fingerprint = _checked_fingerprint(fingerprint)
        self._mean: Any = None
        self._scatter: Any = None

    def update(self, batch: ArrayLike) -> None:
        """Take in the rows of ``batch`` (n, d).

        Raises:
            InputError: NaN, wrong shape, another dimension than before, or more than a covariance has room for.
        """
        x = as_points(batch, "batch", dim=None if self._mean is None else self._mean.size)
        mean = x.mean(axis=0)
        centered = x - mean
        if self._mean is None:
            check_room(x.shape[1], "batch")
            self.n, self._mean, self._scatter = len(x), mean, centered.T @ centered
            return
        total = self.n + len(x)
        gap = mean - self._mean
        self._scatter += centered.T @ centered
        self._scatter += np.outer(gap, gap * (self.n * len(x) / total))
        self._mean = self._mean + gap * (len(x) / total)
        self.n = total

    def moments(self) -> Moments:
        """Moments of all rows so far.

        Raises:
            InputError: fewer than two rows.
        """
        if self.n < 2:
            raise InputError(f"a covariance needs at least two rows; {self.n} came in the batches.")
        return Moments(self._mean, self._scatter / (self.n - 1), self.n, None, self._fingerprint)


def _symmetrized(matrix: Float64[np.ndarray, "d d"]) -> Float64[np.ndarray, "d d"]:
    """(S + Sᵀ)/2, tile by tile: a matrix read by rows and by columns at once is slow.

    Raises:
        InputError: S and Sᵀ differ by more than rounding in single precision.
    """
    twin, noise = np.empty(matrix.shape), 1e-12 * max(float(matrix.max()), -float(matrix.min()))
    for i in range(0, len(matrix), _TILE):
        for j in range(i, len(matrix), _TILE):
            rows, columns = slice(i, i + _TILE), slice(j, j + _TILE)
            one, other = matrix[rows, columns], matrix[columns, rows].T
            if (np.abs(one - other) > noise + 1e-6 * np.minimum(np.abs(one), np.abs(other))).any():
                raise InputError("covariance must be symmetric.")
            twin[rows, columns] = (one + other) / 2
            twin[columns, rows] = twin[rows, columns].T
    return twin


def disagreements(one: Moments, other: Moments) -> list[str]:
    """What makes the features of two sets incomparable, such as ``"resize: 'clean' and 'tf1'"``; empty if nothing."""
    if one.fingerprint is None or other.fingerprint is None:
        return []
    left, right = _flat(one.fingerprint), _flat(other.fingerprint)
    return [f"{key}: {left[key]!r} and {right[key]!r}" for key in left if key in right and left[key] != right[key]]


def _flat(fingerprint: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested entries as ``outer.inner``."""
    entries: dict[str, Any] = {}
    for key, value in fingerprint.items():
        if key in _RECORDED_ONLY:
            continue
        entries |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return entries


def _checked_fingerprint(fingerprint: Any) -> dict[str, Any] | None:
    """A copy in plain JSON types, so that what is saved equals what was given."""
    if fingerprint is None:
        return None
    if not isinstance(fingerprint, Mapping):
        raise InputError(f"fingerprint must be a JSON object (a dict) or None; it is {fingerprint!r}.")
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(fingerprint), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(f"fingerprint must hold plain JSON values: {error}.") from error
    return plain


def check_room(dim: int, name: str) -> None:
    """No more dimensions than a covariance has room for.

    Raises:
        InputError: there are more.
    """
    if dim > _MOST_DIMENSIONS:
        raise InputError(
            f"{name} has features of {dim} dimensions, and their covariance would take {dim**2 * 8 / 2**30:.0f} GiB; "
            f"at most {_MOST_DIMENSIONS} are taken. Use fewer: pca:64, or random-conv or classifier for images."
        )


def as_moments(features: Any, name: str) -> Moments:
    """Moments as they are, or those of features (n, d)."""
    return features if isinstance(features, Moments) else Moments.of(features, name=name)


def centered_blocks(side: Moments, rows: int) -> Iterable[tuple[slice, Float64[np.ndarray, "b d"]]]:
    """The samples minus the mean, some rows at a time: no second copy of all of them."""
    for start in range(0, side.n, rows):
        here = slice(start, min(start + rows, side.n))
        yield here, side.samples[here] - side.mean
