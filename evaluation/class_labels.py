r"""Who says of what class the generated samples of an audit are: the built-in classifier, one handed in, or a list.

==========================  ========================================================================================
given beside ``labels``     classes of the generated samples, and their errors
==========================  ========================================================================================
nothing                     a support-vector machine on the features, judged on held-out folds of train
``classifier``              its answers to the samples as given (not to features); judged on ``test_labels`` where
                            there are some, else on train, on which it should then not have been trained
``generated_labels``        these, at face value
==========================  ========================================================================================

A classifier that is handed in has been trained already, so that no part of train can be held out from it here. If it
has seen train, give held-out data with their labels: else its errors look too rare, and a class that it invents could
pass for one that is drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from divergences.errors import InputError
from evaluation.callables import import_callable
from evaluation.findings import printable
from evaluation.labelled import LabelledModes, counted_modes, labelled_modes
from evaluation.recognition import as_labels, ask, judged_on, places
from evaluation.samples import Samples

__all__ = ["ClassLabels", "class_labels"]


@dataclass(frozen=True, eq=False)
class ClassLabels:
    """Labels of train, and where those of the generated samples come from; made by ``class_labels``.

    Attributes:
        labels: of train, shape (m,).
        classifier: a function samples → labels, or None.
        name: what reports call it.
        generated: of the generated samples, or None.
        test: of the held-out data, or None.
    """

    labels: np.ndarray
    classifier: Callable[..., Any] | None = None
    name: str = ""
    generated: Any = None
    test: Any = None

    def find(
        self,
        *,
        sets: tuple[Samples, Samples, Samples | None],
        features: tuple[np.ndarray, np.ndarray],
        rng: np.random.Generator,
        alpha: float,
    ) -> LabelledModes:
        """The classes the generator leaves out.

        Args:
            sets: generated, train and test as they were given.
            features: of generated and of train, for the built-in classifier.
            rng: cuts folds and draws the bootstrap.
            alpha: family-wise error rate.

        Raises:
            InputError: labels or answers of a classifier that do not fit; see ``labelled_modes``.
        """
        if self.generated is not None:
            return counted_modes(generated_labels=self.generated, labels=self.labels, rng=rng, alpha=alpha)
        if self.classifier is None:
            fakes, reals = features
            return labelled_modes(generated=fakes, train=reals, labels=self.labels, rng=rng, alpha=alpha)
        generated, train, test = sets
        if self.test is not None and test is not None:
            known, truth, name = test, self.test, "test="
            where = f"judged on the {len(test)} labelled samples of test"
        else:
            known, truth, name = train, self.labels, "train="
            where = "judged on train (if it was trained on these data, it looks too good)"
        classes, _ = as_labels(self.labels, len(train))
        answers = ask(self.classifier, known.array, classes, name)
        assigned = ask(self.classifier, generated.array, classes, "generated=")
        names = np.asarray(classes)
        found = counted_modes(
            generated_labels=names[assigned], labels=self.labels, answers=names[answers], truth=truth, rng=rng,
            alpha=alpha,
        )  # fmt: skip
        return replace(found, judge=f"the classifier {self.name}, {where}")

    def record(self, found: LabelledModes) -> dict[str, Any]:
        """For the protocol: who said what the samples are, on what that was judged, and a digest of what was said."""
        if self.generated is None and self.classifier is None:
            return {"by": "built-in", "judge": found.judge}
        said = hashlib.blake2b(found.assigned.astype("<i8").tobytes(), digest_size=16).hexdigest()
        if self.generated is not None:
            return {"by": "generated_labels", "judge": found.judge, "answers": said}
        judged = "train" if self.test is None else "test"
        return {"by": "classifier", "name": self.name, "judged_on": judged, "judge": found.judge, "answers": said}


def class_labels(
    labels: Any,
    *,
    generated: Samples,
    train: Samples,
    test: Samples | None,
    classifier: Any = None,
    generated_labels: Any = None,
    test_labels: Any = None,
) -> ClassLabels | None:
    """Check what was given of classes, before anything is computed; None if no labels were.

    Raises:
        InputError: arguments that exclude or need each other; labels of the wrong shape, or of unknown classes.
    """
    if classifier is not None and generated_labels is not None:
        raise InputError("classifier= and generated_labels= both say what the generated samples are; give one of them.")
    if labels is None:
        extra = {"classifier=": classifier, "generated_labels=": generated_labels, "test_labels=": test_labels}
        for name, value in extra.items():
            if value is not None:
                raise InputError(f"{name} needs labels= of train beside it: they say which shares are due.")
        return None
    if test_labels is not None:
        if classifier is None:
            raise InputError(
                "test_labels= are what a classifier= is judged on. The built-in one is judged on folds of train, and "
                "labels of the generated samples are taken as they are: leave test_labels= out."
            )
        if test is None:
            raise InputError("test_labels= are labels of test=, which is missing; give both or neither.")
    names = _checked_labels(labels, train)
    if classifier is None and generated_labels is None:
        return ClassLabels(names)
    classes, _ = as_labels(names, len(train))
    if generated_labels is not None:
        assigned = places(generated_labels, len(generated), classes, "generated_labels=")
        return ClassLabels(names, generated=np.asarray(classes)[assigned])
    if test_labels is not None and test is not None:
        index = judged_on(test_labels, classes, "test_labels=")
        if len(index) != len(test):
            raise InputError(
                f"test_labels= must have shape ({len(test)},), one per sample of test= in the same order; it has shape "
                f"({len(index)},)."
            )
        test_labels = np.asarray(classes)[index]
    function, name = _function(classifier)
    return ClassLabels(names, function, name, test=test_labels)


def _function(classifier: Any) -> tuple[Callable[..., Any], str]:
    """What is called, and its name without anything that changes from run to run."""
    if isinstance(classifier, str):
        return import_callable(classifier, "classifier="), classifier
    if not callable(classifier):
        remedy = "pass its predict" if hasattr(classifier, "predict") else "of labels, pass generated_labels="
        raise InputError(
            f"classifier= must be a function samples -> labels, or its name as module:callable; it is "
            f"{type(classifier).__name__}: {remedy}."
        )
    if hasattr(classifier, "__self__"):
        # A bound method, such as predict of a fitted classifier.
        owner = type(classifier.__self__)
        return classifier, printable(f"{owner.__module__}:{owner.__qualname__}.{classifier.__name__}")
    kind = classifier if hasattr(classifier, "__qualname__") else type(classifier)
    return classifier, printable(f"{kind.__module__}:{kind.__qualname__}")


def _checked_labels(labels: Any, train: Samples) -> np.ndarray:
    try:
        array = np.asarray(labels)
    except ValueError as error:
        raise InputError(f"labels= must be a list of one label per row of train=: {error}.") from error
    if array.shape != (len(train),):
        raise InputError(
            f"labels= must have shape ({len(train)},), one per sample of train=; it has shape {array.shape}."
        )
    return array
