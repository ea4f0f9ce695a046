r"""From images or points to the feature vectors that distances are measured in.

A distance between samples is a distance between features, so what an audit can see depends on them. Named here are
those that need no network: the values as they are (``identity``), pixels in [0, 1] (``pixels``), coordinates in units
of their standard deviation in train (``standardize``: for columns of different units), and the N directions of largest
variance in train (``pca:N``: for more dimensions than samples can resolve). Anything callable, array → (n, d), serves
as well.

All that is fitted is fitted on train and then applied to everything: generated and held-out samples never shape the
scale on which they are judged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from divergences import InputError
from divergences.checks import as_array, as_points

__all__ = ["Features", "features"]

# Binary digits of a projection that are kept, counted from the largest mean.
_DIGITS = 40

Transform = Callable[[Any], Float64[np.ndarray, "n d"]]


@runtime_checkable
class Features(Protocol):
    """A recipe: ``fit(train)`` returns the function array → (n, d) that is then applied to every set."""

    @property
    def name(self) -> str:
        """What reports call it."""

    def fit(self, train: Any) -> Transform:
        """The function array → (n, d), float64."""


def features(spec: Any = None, *, kind: str = "points") -> Features:
    """A recipe by name.

    Args:
        spec: "identity", "pixels", "standardize", "pca:N", a callable array → (n, d), an object with ``name`` and
            ``fit``, or None for the default of ``kind``.
        kind: "points" (default features: identity) or "images" (default: pixels).

    Raises:
        InputError: an unknown name, or an N that is no whole number ≥ 1.

    >>> x = np.array([[0.0, 5.0], [2.0, 5.0], [4.0, 5.0]])
    >>> features("standardize").fit(x)([[2.0, 6.0]])
    array([[0., 1.]])
    """
    if spec is None:
        spec = "pixels" if kind == "images" else "identity"
    if isinstance(spec, str):
        if spec == "identity":
            return _Flat("identity")
        if spec == "pixels":
            return _Flat("pixels")
        if spec == "standardize":
            return _Standardize()
        if spec.startswith("pca:"):
            return _Pca(_as_components(spec))
        raise InputError(
            f"features= must be identity, pixels, standardize, pca:N (such as pca:32) or a callable; it is {spec!r}."
        )
    if isinstance(spec, Features):
        return spec
    if callable(spec):
        return _Custom(spec)
    raise InputError(
        f"features= must be identity, pixels, standardize, pca:N or a callable array → (n, d); it is {spec!r}."
    )


@dataclass(frozen=True)
class _Flat:
    """The values themselves; whole-number pixels are scaled to [0, 1]."""

    name: str

    def fit(self, train: Any) -> Transform:
        return _Flattener(_row_shape(train), scaled=self.name == "pixels")


@dataclass(frozen=True)
class _Standardize:
    """(x − mean) / standard deviation, both of train; a column that is constant in train is only centred."""

    name: str = "standardize"

    def fit(self, train: Any) -> Transform:
        flatten = _flattener_of(train)
        x = flatten(train, "train=")
        spread = x.std(axis=0)
        # A constant column's computed spread is rounding of its size, not exactly 0.
        constant = spread <= 1e-12 * np.abs(x).max(axis=0, initial=0.0)
        return _Scaled(flatten, x.mean(axis=0), np.where(constant, 1.0, spread))


@dataclass(frozen=True)
class _Pca:
    """Coordinates along the directions of largest variance in train."""

    components: int

    @property
    def name(self) -> str:
        return f"pca:{self.components}"

    def fit(self, train: Any) -> Transform:
        flatten = _flattener_of(train)
        x = flatten(train, "train=")
        most = min(x.shape)
        if self.components > most:
            raise InputError(
                f"features= is pca:{self.components}, but train= has {x.shape[0]} samples of {x.shape[1]} values: N "
                f"must "
                f"be at most {most}."
            )
        center = x.mean(axis=0)
        axes = np.linalg.svd(x - center, full_matrices=False)[2][: self.components]
        # A direction has no sign of its own: its largest entry is made positive, so that equal data give equal
        # features.
        largest = np.abs(axes).argmax(axis=1)
        axes = axes * np.where(axes[np.arange(len(axes)), largest] < 0, -1.0, 1.0)[:, None]
        return _Projected(flatten, center, axes.T)


@dataclass(frozen=True)
class _Custom:
    """Somebody's own function; what it returns is checked."""

    function: Callable[[Any], Any]

    @property
    def name(self) -> str:
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    def fit(self, train: Any) -> Transform:
        dim = len(as_points(self.function(train), "what features= returned for train=")[0])

        def embed(array: Any, name: str = "array") -> Float64[np.ndarray, "n d"]:
            points = as_points(self.function(array), f"what features= returned for {name}", dim=dim)
            if len(points) != len(array):
                raise InputError(f"features= returned {len(points)} rows for the {len(array)} of {name}.")
            return points

        return embed


@dataclass(frozen=True)
class _Flattener:
    """Rows of one shape, flattened to float64; uint8 pixels are scaled to [0, 1]."""

    shape: tuple[int, ...]
    scaled: bool

    def __call__(self, array: Any, name: str = "array") -> Float64[np.ndarray, "n d"]:
        given = _as_rows(array, name)
        if given.shape[1:] != self.shape:
            raise InputError(
                f"{name} must have rows of shape {self.shape}, as train= has; its rows have shape {given.shape[1:]}."
            )
        values = as_array(given, name)
        if self.scaled and given.dtype == np.uint8:
            values = values / 255
        return as_points(values.reshape(len(given), -1), name)


@dataclass(frozen=True, eq=False)
class _Scaled:
    flatten: _Flattener
    center: Float64[np.ndarray, " d"]
    unit: Float64[np.ndarray, " d"]

    def __call__(self, array: Any, name: str = "array") -> Float64[np.ndarray, "n d"]:
        return (self.flatten(array, name) - self.center) / self.unit


@dataclass(frozen=True, eq=False)
class _Projected:
    flatten: _Flattener
    center: Float64[np.ndarray, " d"]
    matrix: Float64[np.ndarray, "d k"]

    def __call__(self, array: Any, name: str = "array") -> Float64[np.ndarray, "n k"]:
        points = (self.flatten(array, name) - self.center) @ self.matrix
        # A matrix product rounds a row differently in arrays of different length. Cutting the last digits keeps equal
        # samples equal, so that an exact copy is still at distance 0.
        grain = np.exp2(np.ceil(np.log2(max(float(np.abs(self.center).max()), 1e-150))) - _DIGITS)
        return np.round(points / grain) * grain


def _as_components(spec: str) -> int:
    number = spec.removeprefix("pca:")
    # isdecimal also knows other scripts' digits, and so does int.
    if not number.isdecimal() or int(number) < 1:
        raise InputError(f"features= is {spec!r}; after pca: comes a whole number ≥ 1, such as pca:32.")
    return int(number)


def _as_rows(array: Any, name: str) -> np.ndarray:
    if type(array).__module__.split(".")[0] == "torch":
        array = as_array(array, name)
    try:
        given = np.asarray(array)
    except (ValueError, TypeError) as error:
        raise InputError(f"{name} must be a rectangular array of numbers: {error}.") from error
    if given.ndim == 1:
        given = given[:, None]
    if given.ndim == 0 or given.size == 0:
        raise InputError(f"{name} must hold at least one sample of at least one value; it has shape {given.shape}.")
    return given


def _flattener_of(train: Any) -> _Flattener:
    """Whole numbers in a table are what they are; in images they are pixels."""
    shape = _row_shape(train)
    return _Flattener(shape, scaled=len(shape) > 1)


def _row_shape(train: Any) -> tuple[int, ...]:
    return _as_rows(train, "train=").shape[1:]
