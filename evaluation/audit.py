r"""The audit: everything that can be asked of a generator's samples, under one stated error rate.

What is asked depends on what is given. Always: *distribution* and *memorization*. With ``test``: *two-sample*. With
``modes``: *mode loss*, *fidelity* and *partial collapse* (of stacked digits: *mode loss*). With ``labels`` of the
training data: *class loss* and *partial collapse*; ``classifier`` or ``generated_labels`` then say what the samples
are, in place of the built-in classifier (``evaluation.class_labels``). With neither, and 200 samples: *mode loss* by
regions of the data. A question that was not asked is not a finding.

**Error rates.** If the generator is good enough in every tested respect (``evaluation.questions`` and
``evaluation.more_questions`` state the hypotheses and their margins), the chance that this audit flags anything is at
most ``alpha``, 0.05 by default: a fifth of it for memorization, whose test is exact by itself, and the rest shared by
the other findings through Holm's procedure. These rates are of false flags; what an
audit could have missed at its n is said in each finding. The intervals beside the numbers are for each number alone, at
95 %.

**Scores.** Beside the findings stand the scores that papers print, without a verdict (``evaluation.scores``). They are
computed when they are first looked at.

**Verdict of the whole**: FLAGGED beats INCONCLUSIVE beats CLEAR.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from divergences.adapters import as_distribution
from divergences.checks import as_generator, as_number
from divergences.errors import InputError
from evaluation import more_questions, questions
from evaluation.class_labels import class_labels
from evaluation.copy_question import copying
from evaluation.distance_question import VARIANCE_MARGIN, distribution
from evaluation.features import fingerprint
from evaluation.files import write_atomically
from evaluation.findings import Finding, decide, printable
from evaluation.memorization import Memorization, memorization
from evaluation.modes import mode_coverage
from evaluation.moments import Moments
from evaluation.progress import Steps, steps_of
from evaluation.protocol import described, overlap_of
from evaluation.recognition import as_labels
from evaluation.rows import versions
from evaluation.samples import Samples, as_samples
from evaluation.scores import Score, fid_scores, published_scores, shared_sweep
from evaluation.sets import check_together, chosen_features, embedded, taken
from evaluation.stacked_question import StackedDigits, stacked_loss
from evaluation.verdict import Verdict, worst
from evaluation.views import Views, named_views

__all__ = ["AuditReport", "AuditSettings", "Finding", "Material", "Score", "audit", "exit_status_of"]

ALPHA = 0.05
# Its share for memorization, which is calibrated by itself.
_MEMORIZATION_SHARE = 0.2
_EXIT_STATUS = {Verdict.CLEAR: 0, Verdict.FLAGGED: 1, Verdict.INCONCLUSIVE: 3}
# Larger than any shift: only the words are checked before the images are known.
_ANY_SIZE = 10**9
_PACKAGES = ("numpy", "scipy", "scikit-learn")


@dataclass(frozen=True)
class AuditSettings:
    """How strict an audit is, and what it says while it works.

    Attributes:
        alpha: chance that a generator which is good enough in every respect is flagged.
        reference: ``Moments`` the Fréchet distance is measured to, of features made the same way; None for train's own.
        reference_source: what the reference is called in the report, such as its file.
        progress: called as (what, done, total) before each step, and at the end as ("done", total, total); None for
            silence. The last step is the scores: until they are looked at, it stays at ("judged", total − 1, total).
        views: shifts and mirror images under which a copy of an image is still a copy, such as "shift:1,mirror"; None
            for none. One search per view: 18 of them in this example.
    """

    alpha: float = ALPHA
    reference: Any = None
    reference_source: str = ""
    progress: Callable[[str, int, int], None] | None = None
    views: str | None = None

    def __post_init__(self) -> None:
        as_number(self.alpha, "alpha=", above=0.0, below=1.0)
        if self.reference is not None and not isinstance(self.reference, Moments):
            raise InputError(f"reference= must be Moments, see Moments.load; it is {type(self.reference).__name__}.")
        if self.views is not None:
            named_views(self.views, (_ANY_SIZE, _ANY_SIZE))


@dataclass(frozen=True, eq=False)
class Material:
    """What was judged, for the pictures of the report.

    Attributes:
        generated: the samples.
        train: the training data.
        test: the held-out data, or None.
        modes: the known modes, as a ``Mixture`` or ``StackedDigits``, or None.
        labels: of train, or None.
    """

    generated: Samples
    train: Samples
    test: Samples | None
    modes: Any = None
    labels: np.ndarray | None = None


def exit_status_of(verdicts: Iterable[Verdict]) -> int:
    """0 clear, 1 flagged, 3 inconclusive, of the worst of them."""
    return _EXIT_STATUS[worst(verdicts)]


@dataclass(frozen=True, eq=False)
class AuditReport:
    """The findings of an audit, and how they came about.

    Attributes:
        findings: one per question asked.
        protocol: sizes, features, error rates, seed and versions: what somebody needs to repeat it.
        material: the samples themselves, for pictures.
        moments: mean and covariance of the generated features with their fingerprint, for statistics files.
        measure_scores: computes ``scores``.
    """

    findings: tuple[Finding, ...]
    protocol: dict[str, Any]
    material: Material
    moments: Moments
    measure_scores: Callable[[], tuple[Score, ...]] = field(default=tuple, repr=False)

    @functools.cached_property
    def scores(self) -> tuple[Score, ...]:
        """Published scores beside their nulls, without a verdict; measured when first asked for."""
        return self.measure_scores()

    @property
    def verdict(self) -> Verdict:
        """Of the whole: FLAGGED beats INCONCLUSIVE beats CLEAR."""
        return worst(finding.verdict for finding in self.findings)

    @property
    def exit_status(self) -> int:
        """What the command returns: 0 clear, 1 flagged, 3 inconclusive."""
        return exit_status_of(finding.verdict for finding in self.findings)

    def __getitem__(self, name: str) -> Finding:
        """The finding of that name; a KeyError lists those there are."""
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(f"{name!r} was not asked; this audit asked {', '.join(f.name for f in self.findings)}")

    def to_text(self) -> str:
        """The report for a terminal."""
        from evaluation.report import to_text

        return to_text(self)

    def to_json(self) -> str:
        """The report as strictly valid JSON; infinities are strings."""
        from evaluation.report import to_json

        return to_json(self)

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write the report as one self-contained HTML page, whole or not at all.

        Raises:
            OSError: the place cannot be written.
        """
        from evaluation.report import to_html

        page = to_html(self).encode("utf-8")
        return write_atomically(path, lambda file: file.write(page))


def audit(
    *,
    generated: Any,
    train: Any,
    test: Any = None,
    modes: Any = None,
    labels: Any = None,
    classifier: Any = None,
    generated_labels: Any = None,
    test_labels: Any = None,
    features: Any = None,
    settings: AuditSettings = AuditSettings(),
    rng: Any,
) -> AuditReport:
    """Judge a generator by its samples.

    Args:
        generated: what it made: points (n, d), or images (n, h, w) or (n, h, w, c), uint8 or float; ``Samples``; or a
            sampler ``(n, rng) -> array``, from which as many are drawn as there are held-out (else training) samples.
        train: what it was trained on, of the same kind and shape.
        test: held-out data: drawn like train, never trained on. Without them memorization is inconclusive.
        modes: a ``Mixture`` of Gaussians that points should cover; asks for mode loss, fidelity and partial collapse.
            Or ``StackedDigits``, of which three are the channels of each image; asks for mode loss.
        labels: of train, shape (len(train),); asks for class loss.
        classifier: a function from samples as given (n, ...) to labels (n,), or its name as "module:callable"; in place
            of the built-in one. Its errors are measured on ``test_labels``, else on train, which it must then not have
            been trained on, and corrected for.
        generated_labels: of generated, shape (len(generated),), instead of a classifier; taken at face value.
        test_labels: of test, shape (len(test),): what ``classifier`` is judged on.
        features: what ``evaluation.features`` takes, or None: pixels for images, standardize for points. Fitted on
            train alone. Modes are always compared in the coordinates given.
        settings: the error rate, statistics to compare with, progress.
        rng: a ``numpy.random.Generator``: draws from a sampler, and the folds and bootstraps of the class audit.

    Returns:
        The findings; the same ``rng`` state gives the same report to the byte.

    Raises:
        InputError: arrays that hold NaN, are too small or do not go together; held-out data that are the training data;
            a classifier that fails, and labels that are unknown or not one per sample.

    >>> rng = np.random.default_rng(0)
    >>> train, test, fresh = rng.normal(size=(3, 500, 2))
    >>> report = audit(generated=fresh, train=train, test=test, rng=rng)
    >>> str(report.verdict), [finding.name for finding in report.findings]
    ('clear', ['mode loss', 'distribution', 'two-sample', 'memorization'])
    """
    rng = as_generator(rng, "rng=")
    seed = _seed_of(rng)
    steps = Steps(settings.progress, steps_of(modes=modes, labels=labels, test=test))
    steps.next("reading")
    if generated_labels is not None and _is_sampler(generated):
        raise InputError(
            "generated_labels= are labels of samples, and generated= is a sampler, whose samples nobody has seen yet. "
            "Pass the samples, or classifier= instead."
        )
    material = _material(generated, train, test, rng)
    sets = (material.generated, material.train, material.test)
    overlap = overlap_of(*sets)
    views = None if settings.views is None else _checked_views(settings.views, material.train)
    labelling = class_labels(
        labels, generated=sets[0], train=sets[1], test=sets[2], classifier=classifier,
        generated_labels=generated_labels, test_labels=test_labels,
    )  # fmt: skip
    names = None if labelling is None else labelling.labels
    stack = modes if isinstance(modes, StackedDigits) else None
    law = None if modes is None or stack is not None else _checked_modes(modes, material.generated)
    known = law is not None or stack is not None or names is not None
    steps.next("features")
    chosen = chosen_features(features, material.train, names)
    embed = chosen.fit(material.train.array)
    fakes, reals = embedded(embed, material.generated, "generated="), embedded(embed, material.train, "train=")
    held_out = None if material.test is None else embedded(embed, material.test, "test=")
    made = fingerprint(embed)
    steps.next("distances")
    swept = shared_sweep(generated=fakes, train=reals, test=held_out)

    own = _MEMORIZATION_SHARE * settings.alpha
    # What Holm's procedure grants each hypothesis at least: detection tables are made for this level.
    asked = 3 * (law is not None) + (stack is not None) + 2 * (names is not None) + (not known)
    least = (settings.alpha - own) / (asked + 1 + (held_out is not None))
    cases = []
    if law is not None:
        steps.next("modes")
        coverage = mode_coverage(generated=material.generated.array, modes=law, alpha=least / 2)
        cases += [
            questions.mode_loss(coverage, level=least, train=material.train.array, modes=law),
            questions.fidelity(coverage),
            more_questions.mode_collapse(coverage),
        ]
    labelled = None
    if labelling is not None:
        steps.next("classes")
        found = labelling.find(sets=sets, features=(fakes, reals), rng=rng, alpha=least)
        labelled = labelling.record(found)
        _, index = as_labels(labelling.labels, len(reals))
        cases += [
            questions.class_loss(found, level=least, train=material.train.array, classes=index),
            more_questions.class_collapse(generated=fakes, train=reals, found=found, classes=index),
        ]
    if stack is not None:
        steps.next("stacked modes")
        cases.append(stacked_loss(generated=material.generated.array, digits=stack, rng=rng, level=least))
    if not known:
        steps.next("regions")
        regions = more_questions.lost_regions(generated=fakes, train=reals, test=held_out, rng=rng, level=least)
        cases += [] if regions is None else [regions]
    steps.next("distribution")
    moments = Moments.of(fakes, fingerprint=made)
    reference = Moments.of(reals, fingerprint=made) if settings.reference is None else settings.reference
    cases.append(
        distribution(generated=moments, reference=reference, train=reals, test=held_out, own=settings.reference is None)
    )
    if held_out is not None:
        steps.next("two-sample")
        cases.append(more_questions.told_apart(generated=fakes, test=held_out, rng=rng, swept=swept))
    findings = decide(cases, settings.alpha - own)
    steps.next("memorization")
    if views is None:
        copies = memorization(generated=fakes, train=reals, test=held_out, alpha=own, swept=swept)
    else:
        copies = _through_views(material, embed, views, own)
    same = overlap["generated_in_train"] == len(material.generated)
    findings.append(copying(copies, same=same, views=settings.views))
    steps.say("judged")
    protocol = described(*sets, overlap) | {
        "overlap": overlap,
        "features": made["name"],
        "fingerprint": made,
        "classes": labelled,
        "feature_dimensions": fakes.shape[1],
        "margins": {
            "mode and class share": questions.SHARE_MARGIN,
            "high-quality share": 1 - questions.FIDELITY_MARGIN,
            "variance of a mode or class": more_questions.SPREAD_MARGIN,
            "Fréchet distance, of total variance": VARIANCE_MARGIN,
            "told from held-out data": more_questions.TOLD_MARGIN,
        },
        "seed": seed,
        "versions": versions(*_PACKAGES),
        "alpha": settings.alpha,
        "alpha_memorization": own,
        "reference": None if settings.reference is None else _named_reference(settings),
        "views": settings.views,
    }
    pictured = Material(material.generated, material.train, material.test, stack or law, names)
    distance = next(finding for finding in findings if finding.name == "distribution")

    def measured() -> tuple[Score, ...]:
        steps.next("scores")
        told = (
            *fid_scores(distance.estimate, distance.evidence["held_out"]),
            *published_scores(generated=fakes, train=reals, test=held_out, swept=swept),
        )
        steps.say("done")
        return told

    return AuditReport(tuple(findings), protocol, pictured, moments, measured)


def _named_reference(settings: AuditSettings) -> str:
    told = f"statistics of {settings.reference.n} samples"
    return f"{printable(settings.reference_source)}: {told}" if settings.reference_source else told


def _material(generated: Any, train: Any, test: Any, rng: np.random.Generator) -> Material:
    reals = taken(train, "train=")
    held_out = None if test is None else taken(test, "test=")
    if _is_sampler(generated):
        fakes = _drawn(generated, len(reals if held_out is None else held_out), rng)
    else:
        fakes = taken(generated, "generated=")
    for other, name in ((fakes, "generated="), (held_out, "test=")):
        if other is not None:
            check_together(other, name, reals)
    return Material(fakes, reals, held_out)


def _is_sampler(generated: Any) -> bool:
    return callable(generated) and not isinstance(generated, np.ndarray)


def _drawn(sampler: Callable[..., Any], n: int, rng: np.random.Generator) -> Samples:
    try:
        drawn = sampler(n, rng)
    except TypeError as error:
        raise InputError(
            f"generated= is called as a sampler, generated(n, rng) with n={n}, and failed: {error}. Pass such a "
            "function, or an array of samples."
        ) from error
    samples = as_samples(
        drawn, "what generated= drew", f"sampler {getattr(sampler, '__name__', type(sampler).__name__)}"
    )
    if len(samples) != n:
        raise InputError(f"generated= was asked for {n} samples and drew {len(samples)}.")
    return samples


def _checked_modes(modes: Any, generated: Samples) -> Any:
    law = as_distribution(modes, "modes=")
    if generated.kind != "points":
        raise InputError("modes= is for points; generated= holds images. Use labels= to ask for lost classes instead.")
    if law.dim != generated.array.shape[1]:
        raise InputError(
            f"modes= lives in {law.dim} dimension{'s' if law.dim > 1 else ''} and generated= has points of "
            f"{generated.array.shape[1]} coordinates."
        )
    return law


def _checked_views(wanted: str, train: Samples) -> Views:
    if train.kind != "images":
        raise InputError("views= are shifts and mirror images of images; train= holds points. Leave views= out.")
    return named_views(wanted, train.array.shape[1:])


def _through_views(material: Material, embed: Callable[..., Any], views: Views, alpha: float) -> Memorization:
    """Copies up to shifts and mirror images: the features of each view are made anew."""
    kind = material.train.array.dtype

    def embed_rows(rows: np.ndarray) -> Any:
        # Rows of float64 pixels are turned back into the images that the features know.
        return embed(rows.reshape(len(rows), *views.shape).astype(kind))

    def rows_of(samples: Samples) -> np.ndarray:
        return samples.array.reshape(len(samples), -1).astype(np.float64)

    invariant = replace(views, embed=embed_rows)
    test = None if material.test is None else rows_of(material.test)
    return memorization(
        generated=rows_of(material.generated), train=rows_of(material.train), test=test, alpha=alpha,
        invariant=invariant,
    )  # fmt: skip


def _seed_of(rng: np.random.Generator) -> int | str:
    """The seed the generator started from, as text where it has no single number."""
    sequence = rng.bit_generator.seed_seq
    entropy = getattr(sequence, "entropy", None)
    return entropy if isinstance(entropy, int) and entropy < 2**63 else str(entropy)
