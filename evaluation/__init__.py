"""Judges a generator by its samples: every score with its error, beside what a perfect generator would get.

``audit`` asks the questions of a whole audit under one stated error rate; the metrics behind it can be called alone.
Nothing here imports torch, and nothing reads a file except ``load_samples``, ``load_labels`` and ``load_modes``.
"""

from evaluation.audit import AuditReport, audit
from evaluation.features import features
from evaluation.findings import Finding
from evaluation.frechet import Moments, fid
from evaluation.intervals import clopper_pearson
from evaluation.kde import KDE
from evaluation.memorization import Memorization, Suspect, memorization
from evaluation.modes import ClassRecord, LabelledModes, ModeCoverage, ModeRecord, labelled_modes, mode_coverage
from evaluation.samples import Samples, load_labels, load_modes, load_samples
from evaluation.verdict import Verdict

__all__ = [
    "AuditReport",
    "ClassRecord",
    "Finding",
    "KDE",
    "LabelledModes",
    "Memorization",
    "ModeCoverage",
    "ModeRecord",
    "Moments",
    "Samples",
    "Suspect",
    "Verdict",
    "audit",
    "clopper_pearson",
    "features",
    "fid",
    "labelled_modes",
    "load_labels",
    "load_modes",
    "load_samples",
    "memorization",
    "mode_coverage",
]
