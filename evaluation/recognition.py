r"""Who says what a sample is: a built-in classifier whose errors are measured, one that is handed in, or a list.

However the labels come about, what is needed beside them is the confusion, counts of (class, answer): how often an
example of class i is taken for class j. The built-in classifier, a support-vector machine with a Gaussian kernel, is
judged on held-out folds (stratified cross-validation), never on data it has seen. A classifier that is handed in is
judged on the labelled data that come with it, which it should not have been trained on: nobody but the caller can know.

References:
    Support-vector networks (Cortes, Vapnik, 1995), https://doi.org/10.1007/BF00994018.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Int64

from divergences import InputError
from divergences.plain_arrays import plain_array

__all__ = ["FEWEST_EXAMPLES", "as_labels", "ask", "judged_on", "places", "recognise"]

FEWEST_EXAMPLES = 5
_FOLDS = 5
# A support-vector machine costs between n² and n³: beyond this many examples it sees a stratified part of them.
_MOST_EXAMPLES = 10_000


def as_labels(labels: Any, n: int) -> tuple[tuple[Any, ...], Int64[np.ndarray, " n"]]:
    """The classes, sorted, and the index of each label among them.

    Raises:
        InputError: labels that do not go with n rows, are no whole numbers or strings, name fewer than two classes, or
            a class with fewer than five examples.
    """
    try:
        array = np.asarray(labels)
    except ValueError as error:
        raise InputError(f"labels= must be a list of one label per row of train=: {error}.") from error
    if array.shape != (n,):
        raise InputError(f"labels= must have shape ({n},), one label per row of train=; it has shape {array.shape}.")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or (array != np.floor(array)).any():
            raise InputError("labels= must be whole numbers or strings; it holds NaN or fractions.")
        array = array.astype(np.int64)
    if array.dtype.kind == "O" and all(isinstance(label, str) for label in array):
        array = array.astype(str)
    if array.dtype.kind not in "biuUS":
        raise InputError(f"labels= must be whole numbers or strings; it holds dtype {array.dtype}.")
    values, index, counts = np.unique(array, return_inverse=True, return_counts=True)
    if len(values) < 2:
        raise InputError(f"labels= must name at least two classes; it names only {values[0]!s}.")
    for value, count in zip(values, counts, strict=True):
        if count < FEWEST_EXAMPLES:
            raise InputError(
                f"labels= has {count} example{'s' if count > 1 else ''} of class {value!s}; at least {FEWEST_EXAMPLES} "
                f"are "
                "needed to measure how well it is recognised. Add examples, or merge or drop this class."
            )
    return tuple(value.item() for value in values), index.astype(np.int64).reshape(-1)


def recognise(
    train: np.ndarray, index: Int64[np.ndarray, " m"], generated: np.ndarray, rng: np.random.Generator
) -> tuple[Int64[np.ndarray, "k k"], Int64[np.ndarray, " n"]]:
    """Confusion counts of the built-in classifier on held-out folds, and the class it gives to each generated sample.

    Args:
        train: features, shape (m, d).
        index: class of each, shape (m,).
        generated: features, shape (n, d).
        rng: cuts the folds.

    Returns:
        Counts of (class, answer), shape (K, K), and classes, shape (n,).
    """
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    chosen = _stratified_part(index, rng)
    x, y = train[chosen], index[chosen]
    # Standardising helps where the units of the features mean nothing and hurts where they do (a pixel that is nearly
    # constant would be blown up, and any blur in it be taken for a class): held-out accuracy decides, ties for neither.
    svm = SVC(C=10.0, kernel="rbf", gamma="scale")
    rivals = [svm, make_pipeline(StandardScaler(), svm)]
    folds = StratifiedKFold(n_splits=_FOLDS, shuffle=True, random_state=int(rng.integers(2**31)))
    splits = list(folds.split(x, y))
    confusions = [_confusion(model, x, y, splits) for model in rivals]
    best = int(np.argmax([np.trace(confused) for confused in confusions]))
    return confusions[best], rivals[best].fit(x, y).predict(generated).astype(np.int64)


def _confusion(
    model: Any, x: np.ndarray, y: Int64[np.ndarray, " m"], splits: list[tuple[np.ndarray, np.ndarray]]
) -> Int64[np.ndarray, "k k"]:
    """Counts of (class, answer) over the held-out parts of all splits."""
    confused = np.zeros((int(y.max()) + 1,) * 2, dtype=np.int64)
    for seen, held_out in splits:
        np.add.at(confused, (y[held_out], model.fit(x[seen], y[seen]).predict(x[held_out])), 1)
    return confused


def _stratified_part(index: Int64[np.ndarray, " m"], rng: np.random.Generator) -> Int64[np.ndarray, " s"]:
    """All rows, or about ``_MOST_EXAMPLES`` of them with each class in proportion and none below five."""
    if len(index) <= _MOST_EXAMPLES:
        return np.arange(len(index))
    part = _MOST_EXAMPLES / len(index)
    rows = [np.flatnonzero(index == k) for k in range(int(index.max()) + 1)]
    kept = [rng.choice(row, max(FEWEST_EXAMPLES, round(part * len(row))), replace=False) for row in rows]
    return np.sort(np.concatenate(kept))


def ask(
    classifier: Callable[[np.ndarray], Any], samples: np.ndarray, classes: tuple[Any, ...], name: str
) -> Int64[np.ndarray, " n"]:
    """What a classifier that was handed in says, as indices of the classes.

    Raises:
        InputError: it fails, answers with another number of labels, or names a class that the labels do not know.
    """
    try:
        # A copy: some functions work in place, and the samples are needed afterwards.
        answers = classifier(np.array(samples))
    except MemoryError:
        raise
    except Exception as error:  # a function that is handed in may raise anything
        raise InputError(
            f"classifier= was called with an array of shape {samples.shape} ({name}) and failed: "
            f"{type(error).__name__}: {error}. It must take samples and return one label each."
        ) from error
    return places(answers, len(samples), classes, "classifier=")


def places(answers: Any, n: int, classes: tuple[Any, ...], name: str) -> Int64[np.ndarray, " n"]:
    """Labels as indices of the classes."""
    array = np.asarray(answers) if hasattr(answers, "to_numpy") else plain_array(answers, name)
    if array.shape != (n,):
        remedy = " Of scores, pass the labels of the largest ones." if array.ndim == 2 and array.shape[0] == n else ""
        raise InputError(
            f"{name} must give {n} labels, one per sample in the same order; it gives an array of shape {array.shape}."
            f"{remedy}"
        )
    if array.dtype.kind == "O" and all(isinstance(label, str) for label in array):
        array = array.astype(str)
    known = np.asarray(classes)
    if array.dtype.kind == "f" and np.isnan(array).any():
        rows = np.flatnonzero(np.isnan(array))
        raise InputError(
            f"{name} is nan for {len(rows)} of {n} samples (first in row {rows[0]}); each sample needs a class."
        )
    if _kind_of_text(array) != _kind_of_text(known) or array.dtype.kind not in "biufUS":
        raise InputError(
            f"{name} gives labels of dtype {array.dtype} and labels= are of dtype {known.dtype}; they must name the "
            "same classes."
        )
    where = np.minimum(np.searchsorted(known, array), len(known) - 1)
    strange = known[where] != array
    if strange.any():
        raise InputError(
            f"{name} names class {array[strange][0]!s}, which labels= does not know; it knows "
            f"{', '.join(str(label) for label in classes[:10])}{' ...' if len(classes) > 10 else ''}."
        )
    return where.astype(np.int64)


def judged_on(truth: Any, classes: tuple[Any, ...], name: str) -> Int64[np.ndarray, " l"]:
    """Labels of the data that somebody's errors are measured on, as indices of the classes.

    Raises:
        InputError: labels that are no list, or unknown; a class with fewer than five examples.
    """
    if np.ndim(truth) != 1:
        raise InputError(f"{name} must have shape (l,), one label per sample; it has shape {np.shape(truth)}.")
    index = places(truth, len(truth), classes, name)
    counts = np.bincount(index, minlength=len(classes))
    rarest = int(counts.argmin())
    if counts[rarest] < FEWEST_EXAMPLES:
        raise InputError(
            f"{name} has {counts[rarest]} example{'s' if counts[rarest] != 1 else ''} of class {classes[rarest]!s}; at "
            f"least {FEWEST_EXAMPLES} are needed to measure how well it is recognised. Add examples, or leave {name} "
            "out: then the errors are measured on train."
        )
    return index


def _kind_of_text(array: np.ndarray) -> str:
    return array.dtype.kind if array.dtype.kind in "US" else ""
