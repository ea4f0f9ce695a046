r"""From images or points to the feature vectors that distances are measured in.

A distance between samples is a distance between features, so what an audit can see depends on them. By name there are:

``identity``         the values as they are
``pixels``           flattened, bytes scaled to [0, 1]
``standardize``      coordinates in units of their standard deviation in train: for columns of different units
``pca:N``            the N directions of largest variance in train: for more dimensions than samples can resolve
``random-conv[:N]``  averages of N random filters' responses to images, drawn from ``seed``; no weights needed
``classifier[:N]``   the last hidden layer of a small classifier trained on train and its labels: images of one domain
``inception[:MODE]`` the network of published FIDs, from a weight file on disk; MODE is the resize rule: tf1,
                     pytorch-fid or clean
``module:callable``  a function array → (n, d) of your own; naming it imports, and so runs, its module

and any callable or any object with ``name`` and ``fit`` serves as well.

All that is fitted is fitted on train and then applied to everything: generated and held-out samples never shape the
scale on which they are judged. A *fingerprint* says all that the numbers depend on, train included where something was
fitted on it: distances under different fingerprints are not compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from divergences import InputError
from divergences.checks import as_array, as_count, as_points
from evaluation.callables import import_callable, names_callable
from evaluation.resize import RESIZE_MODES
from evaluation.rows import Transform, as_rows, finite, rowwise_product, same_rows, train_digest, versions

__all__ = ["Features", "features", "fingerprint"]

_NAMES = (
    "identity, pixels, standardize, pca:N (such as pca:32), random-conv:N, classifier:N, inception:MODE, "
    "module:callable or a callable array → (n, d)"
)
_LARGEST_SEED = 2**32 - 1
_MOST_DIMENSIONS = 2**14
# Multiplications up to which the singular value decomposition, the most accurate way, costs little.
_SMALL = 10**9


@runtime_checkable
class Features(Protocol):
    """A recipe: ``fit(train)`` returns the function array → (n, d) that is then applied to every set.

    A recipe and the function it returns may also have a ``fingerprint``, a dict; see ``fingerprint``.
    """

    @property
    def name(self) -> str:
        """What reports call it."""

    def fit(self, train: Any) -> Transform:
        """The function array → (n, d), float64."""


def features(
    spec: Any = None,
    *,
    kind: str = "points",
    weights: Any = None,
    labels: Any = None,
    seed: int = 0,
    trust: bool = False,
) -> Features:
    """A recipe by name.

    Args:
        spec: a name (see the module's text), a callable array → (n, d), an object with ``name`` and ``fit``, or None
            for the default of ``kind``.
        kind: "points" (default features: identity) or "images" (default: pixels).
        weights: path of Inception's weight file, for "inception"; it is never downloaded.
        labels: of train, for "classifier", shape (n,).
        seed: of "random-conv" and "classifier", 0 to 2³² − 1.
        trust: accept a TorchScript archive as ``weights``, which runs the code in it.

    Raises:
        InputError: an unknown name, a number out of range, or something that these features need and was not given.

    >>> x = np.array([[0.0, 5.0], [2.0, 5.0], [4.0, 5.0]])
    >>> features("standardize").fit(x)([[2.0, 6.0]])
    array([[0., 1.]])
    """
    if spec is None:
        spec = "pixels" if kind == "images" else "identity"
    seed = as_count(seed, "seed=", minimum=0)
    if seed > _LARGEST_SEED:
        raise InputError(f"seed= must be a whole number from 0 to {_LARGEST_SEED}; it is {seed}.")
    if isinstance(spec, str):
        if weights is not None and spec.partition(":")[0] != "inception":
            raise InputError(f"weights= are those of Inception; features= is {spec!r}, which takes none.")
        return _named(spec, weights, labels, seed, trust)
    if isinstance(spec, Features):
        return spec
    if callable(spec):
        return _Custom(spec)
    raise InputError(f"features= must be {_NAMES}; it is {spec!r}.")


def _named(spec: str, weights: Any, labels: Any, seed: int, trust: bool) -> Features:  # noqa: FBT001
    head, _, rest = spec.partition(":")
    if spec in ("identity", "pixels"):
        return _Flat(spec)
    if spec == "standardize":
        return _Standardize()
    if head == "pca" and spec != "pca":
        return _Pca(_number(spec, rest))
    if head == "random-conv":
        from evaluation.extractors import RandomConvolutions

        return RandomConvolutions(_number(spec, rest, 128), seed)
    if head == "classifier":
        from evaluation.classifier import ClassifierFeatures

        if labels is None:
            raise InputError("features=classifier is trained on labels: pass labels= (--train-labels), one per sample.")
        return ClassifierFeatures(labels, _number(spec, rest, 64), seed)
    if head == "inception":
        return _inception(spec, rest, weights, trust)
    if names_callable(spec):
        return _Custom(import_callable(spec, "features="), spec)
    raise InputError(f"features= must be {_NAMES}; it is {spec!r}.")


def _inception(spec: str, mode: str, weights: Any, trust: bool) -> Features:  # noqa: FBT001
    from evaluation.extractors import InceptionFeatures
    from evaluation.weights import load_weights, missing_weights

    if mode not in RESIZE_MODES and spec != "inception":
        raise InputError(f"features= is {spec!r}; after inception: comes a resize mode: {', '.join(RESIZE_MODES)}.")
    if weights is None:
        raise missing_weights()
    return InceptionFeatures(load_weights(weights, trust=trust), mode or RESIZE_MODES[0])


def _number(spec: str, text: str, default: int | None = None) -> int:
    head = spec.partition(":")[0]
    if default is not None and spec == head:
        return default
    # isdecimal also knows other scripts' digits, and so does int.
    if not text.isdecimal() or len(text) > len(str(_MOST_DIMENSIONS)) or not 1 <= int(text) <= _MOST_DIMENSIONS:
        example = default or 32
        raise InputError(
            f"features= is {spec!r}; after {head}: comes a whole number from 1 to {_MOST_DIMENSIONS}, such as "
            f"{head}:{example}."
        )
    return int(text)


def fingerprint(made_by: Any) -> dict[str, Any]:
    """All that the features depend on, for statistics files and reports; valid JSON.

    Args:
        made_by: a recipe, or the function that its ``fit`` returned, which knows train as well.

    Returns:
        ``name``, ``parameters``, ``versions`` and, where they apply, ``train`` (a digest of what was fitted on),
        ``resize``, ``weights_sha256``, and what the features say of themselves. Of a stranger's features: its name.

    >>> fingerprint(features("pca:2"))["name"]
    'pca:2'
    """
    known = getattr(made_by, "fingerprint", None)
    if isinstance(known, dict):
        return dict(known)
    return {"name": str(getattr(made_by, "name", getattr(made_by, "__name__", type(made_by).__name__)))}


def _plain(name: str) -> dict[str, Any]:
    return {"name": name, "parameters": {}, "versions": versions("numpy")}


@dataclass(frozen=True)
class _Flat:
    """The values themselves; whole-number pixels are scaled to [0, 1]."""

    name: str

    @property
    def fingerprint(self) -> dict[str, Any]:
        return _plain(self.name)

    def fit(self, train: Any) -> Transform:
        return _Flattener(as_rows(train, "train=").shape[1:], self.name == "pixels", self.fingerprint)


@dataclass(frozen=True)
class _Standardize:
    """(x − mean) / standard deviation, both of train; a column that is constant in train is only centred."""

    name: str = "standardize"

    @property
    def fingerprint(self) -> dict[str, Any]:
        return _plain(self.name)

    def fit(self, train: Any) -> Transform:
        flatten = _flattener_of(train)
        x = flatten(train, "train=")
        spread = x.std(axis=0)
        # A constant column's computed spread is rounding of its size, not exactly 0.
        constant = spread <= 1e-12 * np.abs(x).max(axis=0, initial=0.0)
        made = self.fingerprint | {"train": train_digest(train)}
        return _Scaled(flatten, x.mean(axis=0), np.where(constant, 1.0, spread), made)


@dataclass(frozen=True)
class _Pca:
    """Coordinates along the directions of largest variance in train."""

    components: int

    @property
    def name(self) -> str:
        return f"pca:{self.components}"

    @property
    def fingerprint(self) -> dict[str, Any]:
        return _plain(self.name) | {"parameters": {"components": self.components}}

    def fit(self, train: Any) -> Transform:
        flatten = _flattener_of(train)
        x = flatten(train, "train=")
        most = min(x.shape)
        if self.components > most:
            raise InputError(
                f"features= is pca:{self.components}, but train= has {x.shape[0]} samples of {x.shape[1]} values: N "
                f"must be at most {most}."
            )
        center = x.mean(axis=0)
        axes = _principal_axes(x - center, self.components)
        # A direction has no sign of its own: its largest entry is made positive, so that equal data give equal
        # features.
        largest = np.abs(axes).argmax(axis=1)
        axes = axes * np.where(axes[np.arange(len(axes)), largest] < 0, -1.0, 1.0)[:, None]
        return _Projected(flatten, center, axes.T, self.fingerprint | {"train": train_digest(train)})


def _principal_axes(centered: Float64[np.ndarray, "n d"], k: int) -> Float64[np.ndarray, "k d"]:
    """The first right singular vectors; of large matrices, the first eigenvectors of the smaller Gram matrix."""
    n, d = centered.shape
    if n * d * min(n, d) <= _SMALL or k > min(n, d) // 4:
        return np.linalg.svd(centered, full_matrices=False)[2][:k]
    from scipy.linalg import eigh

    if d <= n:
        return eigh(centered.T @ centered, subset_by_index=[d - k, d - 1])[1][:, ::-1].T
    axes = (centered.T @ eigh(centered @ centered.T, subset_by_index=[n - k, n - 1])[1][:, ::-1]).T
    return axes / np.linalg.norm(axes, axis=1, keepdims=True)


@dataclass(frozen=True)
class _Custom:
    """Somebody's own function; what it returns is checked."""

    function: Callable[[Any], Any]
    spec: str | None = None

    @property
    def name(self) -> str:
        return self.spec or str(getattr(self.function, "__name__", type(self.function).__name__))

    @property
    def fingerprint(self) -> dict[str, Any]:
        return _plain(self.name)

    def fit(self, train: Any) -> Transform:
        dim = len(as_points(self._called(train, "train="), "what features= returned for train=")[0])

        def embed(array: Any, name: str = "array") -> Float64[np.ndarray, "n d"]:
            points = as_points(self._called(array, name), f"what features= returned for {name}", dim=dim)
            if len(points) != len(array):
                raise InputError(f"features= returned {len(points)} rows for the {len(array)} of {name}.")
            return points

        embed.fingerprint = self.fingerprint  # type: ignore[attr-defined]
        return embed

    def _called(self, array: Any, name: str) -> Any:
        try:
            return self.function(array)
        except Exception as error:  # the function is not ours, and may raise anything
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise InputError(f"features= is the function {self.name}, which failed on {name}: {reason}.") from error


@dataclass(frozen=True)
class _Flattener:
    """Rows of one shape, flattened to float64; uint8 pixels are scaled to [0, 1]."""

    shape: tuple[int, ...]
    scaled: bool
    fingerprint: dict[str, Any] = field(default_factory=dict, compare=False)

    def __call__(self, array: Any, name: str = "array") -> Float64[np.ndarray, "n d"]:
        given = as_rows(array, name)
        same_rows(given, self.shape, name)
        values = as_array(given, name).reshape(len(given), -1)
        if self.scaled and given.dtype == np.uint8:
            values /= 255
        return finite(values, name)


@dataclass(frozen=True, eq=False)
class _Scaled:
    flatten: _Flattener
    center: Float64[np.ndarray, " d"]
    unit: Float64[np.ndarray, " d"]
    fingerprint: dict[str, Any]

    def __call__(self, array: Any, name: str = "array") -> Float64[np.ndarray, "n d"]:
        return (self.flatten(array, name) - self.center) / self.unit


@dataclass(frozen=True, eq=False)
class _Projected:
    flatten: _Flattener
    center: Float64[np.ndarray, " d"]
    matrix: Float64[np.ndarray, "d k"]
    fingerprint: dict[str, Any]

    def __call__(self, array: Any, name: str = "array") -> Float64[np.ndarray, "n k"]:
        return rowwise_product(self.flatten(array, name) - self.center, self.matrix)


def _flattener_of(train: Any) -> _Flattener:
    """Whole numbers in a table are what they are; in images they are pixels."""
    shape = as_rows(train, "train=").shape[1:]
    return _Flattener(shape, len(shape) > 1)
