r"""Which classes of labelled training data does a generator leave out?

A classifier, trained on the labelled training features, says of each generated sample which class it looks like. It
errs, so the counts of its answers are not the shares of the classes: with the confusion C_ij = P(answer j | class i)
and class shares π, the answers follow Cᵀπ. Two per cent of the others mistaken for a class that is never drawn would
let it pass for a rare one. Hence

* C is measured on held-out folds (stratified cross-validation), never on the data the classifier has seen;
* the corrected shares are the maximum-likelihood π on the simplex, by the EM iteration
  π_i ← π_i Σ_j (c_j/n) C_ij / (Cᵀπ)_j;
* if class k has the share π, the answers "k" are binomial with rate q = π·C_kk + (1 − π)·Σ_{i≠k} ρ_i C_ik, where ρ are
  the other classes' shares among themselves. C and ρ are not known but drawn: answers again (multinomial), the
  confusion again (Dirichlet with the measured counts plus ½ spread over each row, so that an error not seen among 40
  examples is not taken for impossible). Averaged over these draws, P(X ≤ c_k | n, q) is the p-value of "share ≥ π"; a
  badly known confusion makes it larger;
* a class is missing if that p-value at π = ``margin``·(its share in train) is below ``alpha`` after Holm; the 95 %
  interval of its share holds all π that neither tail rejects at 2.5 %. It is as honest at a count of 0 as at 100.

The choice is forced: a sample that looks like no class at all is still given to one. How good samples are is another
question.

References:
    Adjusting the outputs of a classifier to new a priori probabilities: a simple procedure (Saerens, Latinne,
    Decaestecker, 2002), https://doi.org/10.1162/089976602753284446. Detecting and correcting for label shift with black
    box predictors (Lipton, Wang, Smola, 2018), https://arxiv.org/abs/1802.03916.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import bdtr

from divergences import Estimate, InputError
from divergences.checks import ArrayLike, as_generator, as_number, as_points
from evaluation.detection import class_losses
from evaluation.intervals import clopper_pearson, holm
from evaluation.recognition import FEWEST_EXAMPLES, as_labels, ask, judged_on, places, recognise

__all__ = ["FEWEST_EXAMPLES", "ClassRecord", "LabelledModes", "counted_modes", "labelled_modes"]

_BLOCK = 4_000_000
_BOOTSTRAPS = 1000
_FEWEST_BOOTSTRAPS = 200
_TAIL = 0.025
_HALVINGS = 20
_METHOD = "classifier counts corrected for its held-out confusion (EM); interval by inverting the exact test"
# Of labels at face value.
_ASSUMED = Estimate(1.0, 0.0, method="assumed, not measured: labels at face value")
_EM_STEPS = 500
_EM_TOLERANCE = 1e-8


@dataclass(frozen=True)
class ClassRecord:
    """One class: what it should get and what it got.

    Attributes:
        label: as given in ``labels``.
        fair: its share of the training data.
        raw_count: generated samples the classifier gives to it.
        share: its share of the generated samples, corrected for the classifier's confusion; 95 % interval;
            ``raw`` is raw_count/n.
        recall: share of its held-out examples that the classifier recognises.
        p_value: of the hypothesis that its share is at least ``margin``·fair.
        p_adjusted: the same after Holm over all classes.
    """

    label: Any
    fair: float
    raw_count: int
    share: Estimate
    recall: Estimate
    p_value: float
    p_adjusted: float


@dataclass(frozen=True)
class LabelledModes:
    """Which classes were drawn.

    Attributes:
        classes: the labels, sorted.
        missing: labels whose share is below ``margin`` of the fair one, at family-wise error ``alpha``.
        undecided: labels that are not missing, but whose complete loss this n and this classifier would not have found
            with probability 0.95.
        per_class: one record per class.
        accuracy: of the classifier on held-out folds, exact 95 % interval.
        confusion: row i: how the classifier answers to held-out examples of class i, shape (K, K).
        assigned: index of the class given to each generated sample, shape (n,).
        n: generated samples.
        recalls: draws of what the true recall of each class could be, given the held-out answers, shape (draws, K).
        leaks: draws of how often a sample of the other classes, at their fair shares, is taken for this one; together
            they say what could be found: ``evaluation.detection.class_losses``.
        power_note: the smallest loss this n and this classifier find reliably.
        judge: who says what a sample is, and on what its errors were measured.
        face_value: whether labels were taken as given, so that ``accuracy``, ``recall`` and ``confusion`` are assumed.
    """

    classes: tuple[Any, ...]
    missing: tuple[Any, ...]
    undecided: tuple[Any, ...]
    per_class: tuple[ClassRecord, ...]
    accuracy: Estimate
    confusion: Float64[np.ndarray, "k k"]
    assigned: Int64[np.ndarray, " n"]
    n: int
    recalls: Float64[np.ndarray, "b k"]
    leaks: Float64[np.ndarray, "b k"]
    power_note: str
    judge: str
    face_value: bool = False

    @property
    def sight(self) -> str:
        """How samples come to their classes and how often that is right, in half a sentence."""
        if self.face_value:
            return self.judge
        return f"samples are assigned to classes by {self.judge}: right on {self.accuracy.value:.1%}"


def labelled_modes(
    *,
    generated: ArrayLike,
    train: ArrayLike,
    labels: ArrayLike,
    rng: np.random.Generator,
    classifier: Any = None,
    margin: float = 0.5,
    alpha: float = 0.05,
) -> LabelledModes:
    """Find the classes a generator leaves out, by a classifier whose errors are measured and corrected for.

    Args:
        generated: features of the generated samples, shape (n, d).
        train: features of the training data, shape (m, d).
        labels: of train, shape (m,): whole numbers or strings; at least two classes with five examples each.
        rng: cuts the folds and draws the bootstrap.
        classifier: a function (features (n, d)) -> labels (n,). Its confusion is measured on train=, so train= should
            then be data that it was not trained on. None: a support-vector machine, trained on train= and judged on
            held-out folds.
        margin: share of its due below which a class counts as missing, in (0, 1].
        alpha: family-wise error rate of ``missing``.

    Returns:
        Corrected shares with intervals, and the missing classes; see ``LabelledModes``.

    Raises:
        InputError: NaN, empty or mismatched arrays, labels that do not go with train, fewer than two classes, or a
            class with fewer than five examples (it is named); a classifier that fails or names unknown classes.

    >>> rng = np.random.default_rng(0)
    >>> train, labels = rng.normal(size=(90, 2)) + 9 * np.repeat(np.eye(3)[:, :2], 30, axis=0), np.repeat([4, 5, 6], 30)
    >>> found = labelled_modes(generated=train[labels != 5], train=train, labels=labels, rng=rng)
    >>> found.missing, [record.raw_count for record in found.per_class]
    ((5,), [30, 0, 30])
    """
    known = as_points(train, "train=")
    points = as_points(generated, "generated=", dim=known.shape[1])
    classes, index = as_labels(labels, len(known))
    margin, alpha, rng = _as_margin(margin), _as_alpha(alpha), as_generator(rng, "rng=")
    if classifier is None:
        confused, assigned = recognise(known, index, points, rng)
        judge = "a support-vector machine, judged on held-out folds of train"
    elif callable(classifier):
        confused = _pairs(index, ask(classifier, known, classes, "train="), len(classes))
        assigned = ask(classifier, points, classes, "generated=")
        judge = "the classifier that was given, judged on train; if it was trained on these data, it looks too good"
    else:
        raise InputError(
            "classifier= must be a function (features) -> labels. If the generated samples already have labels, use "
            "counted_modes."
        )
    fair = np.bincount(index) / len(index)
    return _judged(
        _Counts(classes, fair, confused, assigned, judge), _Draws.of(assigned, confused, fair, rng), margin, alpha
    )


def counted_modes(
    *,
    generated_labels: ArrayLike,
    labels: ArrayLike,
    answers: Any = None,
    truth: Any = None,
    rng: np.random.Generator,
    margin: float = 0.5,
    alpha: float = 0.05,
) -> LabelledModes:
    """Find the classes a generator leaves out, where its samples have labels already: from a file, or by hand.

    Args:
        generated_labels: of the generated samples, shape (n,).
        labels: of the training data (or of any data with the shares that are due), shape (m,).
        answers: what the one who labelled the generated samples says of the m samples behind ``labels``, shape (m,):
            from these the errors are known and corrected for. None: the labels are taken at face value, and an error
            of the labeller can hide a lost class.
        truth: labels of the samples that ``answers`` are about, shape (l,), where those are not the m samples behind
            ``labels``, but other labelled data; of every class at least five.
        rng: draws the bootstrap.
        margin: share of its due below which a class counts as missing, in (0, 1].
        alpha: family-wise error rate of ``missing``.

    Returns:
        As of ``labelled_modes``. At face value shares and p-values are the exact binomial ones.

    Raises:
        InputError: labels of the wrong shape or type, unknown classes, fewer than two classes, or a class with fewer
            than five examples.

    >>> found = counted_modes(generated_labels=["a"] * 90, labels=["a", "b"] * 50, rng=np.random.default_rng(0))
    >>> found.missing, found.per_class[0].share.value
    (('b',), 1.0)
    """
    count = np.shape(labels)[0] if np.ndim(labels) == 1 else 0
    classes, index = as_labels(labels, count)
    margin, alpha, rng = _as_margin(margin), _as_alpha(alpha), as_generator(rng, "rng=")
    if np.ndim(generated_labels) != 1 or np.size(generated_labels) == 0:
        raise InputError(
            f"generated_labels= must have shape (n,), one label per sample; it has shape {np.shape(generated_labels)}."
        )
    assigned = places(generated_labels, np.size(generated_labels), classes, "generated_labels=")
    fair = np.bincount(index) / len(index)
    if answers is None:
        if truth is not None:
            raise InputError("truth= says what the samples behind answers= are; pass answers=, or leave it out.")
        judge = "labels taken at face value; an error of the labeller can hide a lost class"
        confused, draws = np.diag(np.bincount(index)), _Draws.exact(np.bincount(assigned, minlength=len(classes)))
    else:
        judge = "labels given, their errors measured on the answers given"
        about = index if truth is None else judged_on(truth, classes, "truth=")
        confused = _pairs(about, places(answers, len(about), classes, "answers="), len(classes))
        draws = _Draws.of(assigned, confused, fair, rng)
    return _judged(_Counts(classes, fair, confused, assigned, judge, answers is None), draws, margin, alpha)


@dataclass(frozen=True, eq=False)
class _Counts:
    classes: tuple[Any, ...]
    fair: Float64[np.ndarray, " k"]
    confused: Int64[np.ndarray, "k k"]
    assigned: Int64[np.ndarray, " n"]
    judge: str
    face_value: bool = False


def _as_margin(margin: float) -> float:
    return as_number(margin, "margin=", above=0.0, below=math.nextafter(1, 2))


def _as_alpha(alpha: float) -> float:
    return as_number(alpha, "alpha=", above=0.0, below=1.0)


def _pairs(index: np.ndarray, answers: np.ndarray, size: int) -> Int64[np.ndarray, "k k"]:
    confused = np.zeros((size, size), dtype=np.int64)
    np.add.at(confused, (index, answers), 1)
    return confused


def _judged(given: _Counts, draws: _Draws, margin: float, alpha: float) -> LabelledModes:
    classes, confused, n = given.classes, given.confused, len(given.assigned)
    counts = np.bincount(given.assigned, minlength=len(classes))
    shares = draws.shares()
    p_values = draws.p_values(margin * given.fair)
    adjusted = holm(p_values)
    missing = adjusted < alpha
    lost, _ = class_losses(n, given.fair, draws.recall, draws.fair_leak, margin, alpha / len(classes))
    found = np.isfinite(lost)
    records = tuple(
        ClassRecord(
            label=classes[k],
            fair=float(given.fair[k]),
            raw_count=int(counts[k]),
            share=shares[k],
            recall=_ASSUMED if given.face_value else clopper_pearson(int(confused[k, k]), int(confused[k].sum())),
            p_value=float(p_values[k]),
            p_adjusted=float(adjusted[k]),
        )
        for k in range(len(classes))
    )
    return LabelledModes(
        classes=classes,
        missing=tuple(classes[k] for k in np.flatnonzero(missing)),
        undecided=tuple(classes[k] for k in np.flatnonzero(~missing & ~found)),
        per_class=records,
        accuracy=_ASSUMED if given.face_value else clopper_pearson(int(np.trace(confused)), int(confused.sum())),
        confusion=confused / confused.sum(axis=1, keepdims=True),
        assigned=given.assigned,
        n=n,
        recalls=draws.recall,
        leaks=draws.fair_leak,
        power_note=_power_note(n, classes, lost, sure=given.face_value),
        judge=given.judge,
        face_value=given.face_value,
    )


class _Draws:
    """What the other classes and the confusion could have been: the bootstrap behind intervals and p-values.

    Given one draw, a class of share π is answered with rate π·recall + (1−π)·leak, and its count is binomial.

    Attributes:
        recall: one row per draw, shape (draws, K).
        leak: of the other classes as the generator mixes them.
        fair_leak: of the other classes at their fair shares.
    """

    def __init__(
        self, counts: np.ndarray, recall: np.ndarray, leak: np.ndarray, fair_leak: np.ndarray, value: np.ndarray
    ) -> None:
        self._counts = counts.astype(np.float64)
        self._n = int(counts.sum())
        self.recall, self.leak, self.fair_leak, self._value = recall, leak, fair_leak, value

    @classmethod
    def exact(cls, counts: np.ndarray) -> _Draws:
        """Labels without error: every answer is the class."""
        none = np.zeros((1, len(counts)))
        return cls(counts, np.ones_like(none), none, none, counts / counts.sum())

    @classmethod
    def of(cls, assigned: np.ndarray, confused: np.ndarray, fair: np.ndarray, rng: np.random.Generator) -> _Draws:
        """Answers of a classifier whose confusion was counted."""
        size = len(confused)
        return cls.counted(np.bincount(assigned, minlength=size), confused, fair, rng)

    @classmethod
    def counted(cls, counts: np.ndarray, confused: np.ndarray, fair: np.ndarray, rng: np.random.Generator) -> _Draws:
        """The same, from the counts of the answers."""
        size, n = len(counts), int(counts.sum())
        repeats = max(_FEWEST_BOOTSTRAPS, min(_BOOTSTRAPS, 200_000 // size**2))
        again = rng.multinomial(n, counts / n, size=repeats) / n
        recall, leak, fair_leak = (np.empty((repeats, size)) for _ in range(3))
        # With a thousand classes one confusion matrix alone is 8 MB.
        rows = max(1, _BLOCK // size**2)
        for start in range(0, repeats, rows):
            here = slice(start, min(start + rows, repeats))
            # Dirichlet rows: gammas divided by their sum.
            gammas = rng.standard_gamma(confused + 0.5 / size, size=(here.stop - start, size, size))
            confusions = gammas / gammas.sum(axis=2, keepdims=True)
            shares = corrected_shares(again[here], confusions)
            recall[here] = np.einsum("bkk->bk", confusions)
            answers = np.einsum("bi,bik->bk", shares, confusions)
            rest = np.maximum(1 - shares, 1e-12)
            leak[here] = np.clip((answers - shares * recall[here]) / rest, 0.0, 1.0)
            fair_leak[here] = np.clip((fair @ confusions - fair * recall[here]) / (1 - fair), 0.0, 1.0)
        smooth = (confused + 0.5 / size) / (confused.sum(axis=1, keepdims=True) + 0.5)
        return cls(counts, recall, leak, fair_leak, corrected_shares(counts[None] / n, smooth[None])[0])

    def p_values(self, share: Float64[np.ndarray, " k"]) -> Float64[np.ndarray, " k"]:
        """P(as few answers k as seen), if class k had the share ``share[k]``."""
        return np.minimum(bdtr(self._counts, self._n, self._rate(share)).mean(axis=0), 1.0)

    def shares(self) -> list[Estimate]:
        """Corrected shares with the 95 % intervals that belong to the tests: π that neither tail rejects at 2.5 %."""
        # The outer ends of the last brackets: 0 stays exactly 0.
        _, high = self._bracket(lambda share: self.p_values(share) > _TAIL)
        low, _ = self._bracket(lambda share: self._as_many(share) <= _TAIL)
        estimates = []
        for value, count, least, most in zip(self._value, self._counts, low, high, strict=True):
            bounds = (float(min(least, value)), float(max(most, value)))
            error = float(max(value - bounds[0], bounds[1] - value))
            raw = float(count / self._n)
            estimates.append(Estimate(value, error, level=0.95, method=_METHOD, n=self._n, raw=raw, bounds=bounds))
        return estimates

    def _rate(self, share: Float64[np.ndarray, " k"]) -> Float64[np.ndarray, "b k"]:
        return np.clip(share * self.recall + (1 - share) * self.leak, 0.0, 1.0)

    def _as_many(self, share: Float64[np.ndarray, " k"]) -> Float64[np.ndarray, " k"]:
        """P(as many answers k as seen or more)."""
        fewer = bdtr(np.maximum(self._counts - 1, 0), self._n, self._rate(share)).mean(axis=0)
        return np.where(self._counts == 0, 1.0, 1 - fewer)

    def _bracket(self, below: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Bisect [0, 1] for the share up to which ``below`` holds, for all classes at once."""
        low, high = np.zeros(len(self._counts)), np.ones(len(self._counts))
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            holds = below(middle)
            low, high = np.where(holds, middle, low), np.where(holds, high, middle)
        return low, high


def corrected_shares(
    answers: Float64[np.ndarray, "b k"], confusions: Float64[np.ndarray, "b k k"]
) -> Float64[np.ndarray, "b k"]:
    """Maximum-likelihood class shares π on the simplex with answers ~ Cᵀπ, for many draws at once (EM).

    Args:
        answers: observed shares of the classifier's answers, rows summing to 1.
        confusions: C_ij = P(answer j | class i), one matrix per row of ``answers``.

    Returns:
        Shares, rows summing to 1.
    """
    shares = np.full(answers.shape, 1.0 / answers.shape[1])
    for _ in range(_EM_STEPS):
        expected = np.einsum("bi,bij->bj", shares, confusions)
        ratio = np.divide(answers, expected, out=np.zeros_like(answers), where=expected > 0)
        updated = shares * np.einsum("bij,bj->bi", confusions, ratio)
        updated /= updated.sum(axis=1, keepdims=True)
        moved = float(np.abs(updated - shares).max())
        shares = updated
        if moved < _EM_TOLERANCE:
            break
    return shares


def _power_note(n: int, classes: tuple[Any, ...], lost: np.ndarray, *, sure: bool) -> str:
    if not np.isfinite(lost).all():
        names = ", ".join(str(classes[k]) for k in np.flatnonzero(np.isinf(lost)))
        by, remedy = ("", "") if sure else (" and this classifier", " or use features that separate it better")
        return f"with n={n}{by} even the complete loss of class {names} could go unnoticed; draw more samples{remedy}"
    hardest = int(np.argmax(lost))
    return (
        f"with n={n} a class that lost {int(np.ceil(100 * lost[hardest]))} % of its share would be found with "
        f"probability "
        f"≥ 0.95 (hardest: {classes[hardest]}); smaller losses could be missed"
    )
