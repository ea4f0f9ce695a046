"""Judges a generator by its samples: every score with its error, beside what a perfect generator would get.

``audit`` asks the questions of a whole audit under one stated error rate; the metrics behind it can be called alone.
Importing it imports no torch, and nothing reads a file except ``load_samples``, ``load_labels``, ``load_modes`` and
``features``, which reads weights if it is given any.
"""

from evaluation.alpha import AlphaPrecision, Authenticity, alpha_precision, authenticity
from evaluation.audit import AuditReport, AuditSettings, audit
from evaluation.claims import CLAIMS
from evaluation.comparison import Comparison, compare
from evaluation.copies import Compared, CopyTests, DataCopying, copy_tests, data_copying
from evaluation.detection import DetectionRow, bin_detection, detection_table
from evaluation.features import features, fingerprint
from evaluation.findings import Finding
from evaluation.frechet import ClassFid, class_fid, fid, fid_influence
from evaluation.intervals import clopper_pearson
from evaluation.kde import KDE
from evaluation.kernel import KernelEstimate, cmmd, kid, rbf_mmd
from evaluation.labelled import counted_modes
from evaluation.manifold import PRDC, PrecisionRecall, improved_precision_recall, prdc
from evaluation.memorization import Memorization, Suspect, memorization
from evaluation.mode_shapes import ModeShape
from evaluation.modes import ClassRecord, LabelledModes, ModeCoverage, ModeRecord, labelled_modes, mode_coverage
from evaluation.moments import Moments, MomentStream
from evaluation.parzen import Parzen, log_likelihood, parzen
from evaluation.prd import PRD, prd, prd_curve
from evaluation.sample_scores import SampleScores, rarity, realism
from evaluation.samples import Samples, load_labels, load_modes, load_samples
from evaluation.sources import compare_sources
from evaluation.stacked import StackedModes, stack_images, stacked_modes
from evaluation.stacked_question import StackedDigits
from evaluation.support import SupportSize, support_size, vendi_ratio
from evaluation.sweep import Counts, Rule, Sweep, sweep
from evaluation.two_sample import TwoSample, two_sample
from evaluation.unknown_modes import BinRecord, Ndb, UnknownModes, ndb, unknown_modes
from evaluation.vendi import MemorizationDistance, Vendi, memorization_distance, vendi
from evaluation.verdict import Verdict
from evaluation.views import Views

__all__ = [
    "AlphaPrecision",
    "AuditReport",
    "AuditSettings",
    "Authenticity",
    "BinRecord",
    "CLAIMS",
    "ClassFid",
    "ClassRecord",
    "Compared",
    "Comparison",
    "CopyTests",
    "Counts",
    "DataCopying",
    "DetectionRow",
    "Finding",
    "KDE",
    "KernelEstimate",
    "LabelledModes",
    "Memorization",
    "MemorizationDistance",
    "ModeCoverage",
    "ModeRecord",
    "ModeShape",
    "MomentStream",
    "Moments",
    "Ndb",
    "PRD",
    "PRDC",
    "Parzen",
    "PrecisionRecall",
    "Rule",
    "SampleScores",
    "Samples",
    "StackedDigits",
    "StackedModes",
    "SupportSize",
    "Suspect",
    "Sweep",
    "TwoSample",
    "UnknownModes",
    "Vendi",
    "Verdict",
    "Views",
    "alpha_precision",
    "audit",
    "authenticity",
    "bin_detection",
    "class_fid",
    "clopper_pearson",
    "cmmd",
    "compare",
    "compare_sources",
    "copy_tests",
    "counted_modes",
    "data_copying",
    "detection_table",
    "features",
    "fid",
    "fid_influence",
    "fingerprint",
    "improved_precision_recall",
    "kid",
    "labelled_modes",
    "load_labels",
    "load_modes",
    "load_samples",
    "log_likelihood",
    "memorization",
    "memorization_distance",
    "mode_coverage",
    "ndb",
    "parzen",
    "prd",
    "prd_curve",
    "prdc",
    "rarity",
    "rbf_mmd",
    "realism",
    "stack_images",
    "stacked_modes",
    "support_size",
    "sweep",
    "two_sample",
    "unknown_modes",
    "vendi",
    "vendi_ratio",
]
