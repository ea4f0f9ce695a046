r"""Which pictures stand beside which finding of a report.

A picture shows evidence for its finding, not decoration: the samples beside the training data, each mode's share
against its fair share, what the lost classes look like, the suspected copies beside their training samples, and the
scores of the copy test against those of held-out data. Samples are picked evenly over the file, never by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from evaluation.audit import AuditReport
from evaluation.charts import distance_histogram, mode_chart, suspects_scatter
from evaluation.findings import Finding
from evaluation.more_questions import ANY_DIFFERENCE
from evaluation.pictures import contact_sheet, evenly, nearest_pairs, sample_grid, to_data_uri
from evaluation.stacked_question import StackedDigits
from evaluation.verdict import Verdict

__all__ = ["Picture", "illustrate", "overview"]

_GRID = 40
_COLUMNS = 8
_PAIRS = 10


class Picture(NamedTuple):
    """One picture of a page: what it shows, in words for those who cannot see it, and itself."""

    caption: str
    alt: str
    uri: str


def overview(report: AuditReport) -> list[Picture]:
    """Generated samples beside training samples."""
    material = report.material
    pairs = [("training data", material.train), ("generated", material.generated)]
    if material.train.kind == "images":
        return [
            Picture(
                f"{name}: {min(_GRID, len(samples))} of {len(samples)}, picked evenly",
                f"a grid of images from the {name} set",
                to_data_uri(sample_grid(samples.array[evenly(len(samples), _GRID)], _COLUMNS), "png"),
            )
            for name, samples in pairs
        ]
    clouds = [samples.array for _, samples in pairs]
    modes, where = material.modes, ""
    if clouds[0].shape[1] > 2:
        clouds, modes = _projected(clouds), None
        where = ", projected on the two main directions of the training data"
    sheet = contact_sheet([(name, cloud) for (name, _), cloud in zip(pairs, clouds, strict=True)], modes=modes)
    legend = "; ellipses are modes at 3σ, crosses modes without a sample" if modes is not None else ""
    caption = f"training data and generated samples{where}{legend}"
    return [Picture(caption, "two scatter plots: training data and generated samples", to_data_uri(sheet))]


def illustrate(report: AuditReport, finding: Finding) -> list[Picture]:
    """The pictures that belong to one finding."""
    drawers = {
        "mode loss": _of_modes,
        "class loss": _of_classes,
        "two-sample": _of_recognised,
        "memorization": _of_copies,
    }
    drawer = drawers.get(finding.name)
    return [] if drawer is None else list(drawer(report, finding))


def _of_modes(report: AuditReport, finding: Finding) -> Iterator[Picture]:
    if "regions" in finding.evidence:
        yield from _of_regions(report, finding)
        return
    if "stacked" in finding.evidence:
        yield from _of_stacks(report, finding)
        return
    records = finding.evidence["per_mode"]
    yield _shares(records, ("missing", "starved"), "mode")


def _of_stacks(report: AuditReport, finding: Finding) -> Iterator[Picture]:
    digits, lost = report.material.modes, finding.evidence["lost"]
    if not lost or not isinstance(digits, StackedDigits):
        return
    chosen = [lost[int(index)] for index in evenly(len(lost), 2 * _COLUMNS)]
    images = np.stack([digits.example(tuple(one["classes"])) for one in chosen])
    images = images.astype(report.material.train.array.dtype)
    captions = [one["name"] for one in chosen]
    yield Picture(
        "what is missing: real digits, stacked to modes that were lost",
        "a grid of stacked digits of the missing modes",
        to_data_uri(sample_grid(images, _COLUMNS, captions=captions), "png"),
    )


def _of_regions(report: AuditReport, finding: Finding) -> Iterator[Picture]:
    rows = [(region["name"], row) for region in finding.evidence["regions"] for row in region["examples"][:2]]
    if rows and report.material.train.kind == "images":
        yield _missing_images(report, rows[: 2 * _COLUMNS], "the regions left out", "regions", "region")


def _missing_images(report: AuditReport, chosen: list[tuple[str, int]], what: str, plural: str, kind: str) -> Picture:
    """Training images of what was lost, each with its name and its row."""
    captions = [f"{kind} {name}\n#{row}" for name, row in chosen]
    grid = sample_grid(report.material.train.array[[row for _, row in chosen]], _COLUMNS, captions=captions)
    return Picture(
        f"what is missing: training samples of {what}, with their rows",
        f"a grid of training images of the missing {plural}",
        to_data_uri(grid, "png"),
    )


def _of_classes(report: AuditReport, finding: Finding) -> Iterator[Picture]:
    records = finding.evidence["per_class"]
    yield _shares(records, ("missing",), "class")
    rows = [(record["name"], row) for record in records for row in record.get("examples", [])]
    if rows and report.material.train.kind == "images":
        # Of many lost classes a few images each.
        chosen = [rows[index] for index in evenly(len(rows), 2 * _COLUMNS)]
        what = f"class {', '.join(finding.evidence['missing'])}"
        yield _missing_images(report, chosen, what, "classes", "class")


def _of_recognised(report: AuditReport, finding: Finding) -> Iterator[Picture]:
    material, rows = report.material, finding.evidence.get("easiest", [])
    if not rows or material.generated.kind != "images" or finding.evidence["exact_p_value"] >= ANY_DIFFERENCE:
        return
    captions = [f"#{row}" for row in rows]
    grid = sample_grid(material.generated.array[rows], _COLUMNS, captions=captions)
    caption = "the generated samples that the classifier recognises most easily: what gives them away?"
    yield Picture(caption, "a row of generated images that a classifier recognises", to_data_uri(grid, "png"))


def _shares(records: list[dict[str, Any]], lost: tuple[str, ...], kind: str) -> Picture:
    chart = mode_chart(
        [record["name"] for record in records],
        [record["share"] for record in records],
        fair=[record["fair"] for record in records],
        lost=[record["status"] in lost for record in records],
        xlabel=kind,
    )
    names = [record["name"] for record in records if record["status"] in lost]
    alt = f"share of the samples in each {kind} against its fair share; lost: {', '.join(names) or 'none'}"
    return Picture(f"share of each {kind} against its fair share", alt, to_data_uri(chart))


def _of_copies(report: AuditReport, finding: Finding) -> Iterator[Picture]:
    evidence, material = finding.evidence, report.material
    null = evidence["null_scores"] if len(evidence["null_scores"]) else None
    unit = "score: distance to the nearest training sample / mean distance to the next ones"
    chart = distance_histogram(evidence["scores"], null, xlabel=unit)
    yield Picture(
        "how close to train: a copy scores near 0"
        + ("" if null is None else ", and held-out data show how low a fresh sample scores"),
        "histogram of copy scores of generated" + ("" if null is None else " and held-out") + " samples",
        to_data_uri(chart),
    )
    flagged = finding.verdict is Verdict.FLAGGED
    rows = _closest(finding)
    partners = evidence["nearest_train"][rows]
    what = "the most suspicious samples" if flagged else "the samples closest to train; as a group not suspicious"
    if finding.verdict is Verdict.INCONCLUSIVE:
        what = "the samples closest to train"
    if material.train.kind == "images":
        held_out = None if material.test is None else material.test.array[evidence["nearest_test"][rows]]
        captions = [f"#{g}\n← #{t}\nscore {evidence['scores'][g]:.2g}" for g, t in zip(rows, partners, strict=True)]
        pairs = nearest_pairs(
            material.generated.array[rows], material.train.array[partners], held_out, captions=captions
        )
        caption = f"{what}, each above its nearest training image" + ("" if held_out is None else " and held-out image")
        yield Picture(
            caption, "columns of images: generated, nearest in train, nearest held out", to_data_uri(pairs, "png")
        )
    elif flagged and material.train.array.shape[1] == 2:
        links = np.array([(s["generated"], s["train"]) for s in evidence["suspects"]], dtype=np.int64)
        scatter = suspects_scatter(material.generated.array, material.train.array, pairs=links)
        yield Picture("suspects and the training samples they repeat", "scatter plot of suspects", to_data_uri(scatter))


def _closest(finding: Finding) -> Int64[np.ndarray, " k"]:
    """Rows of the suspects, or of the lowest scores where there are none."""
    suspects = [suspect["generated"] for suspect in finding.evidence["suspects"][:_PAIRS]]
    if suspects:
        return np.array(suspects, dtype=np.int64)
    return np.argsort(finding.evidence["scores"], kind="stable")[:_PAIRS].astype(np.int64)


def _projected(clouds: list[np.ndarray]) -> list[Float64[np.ndarray, "n 2"]]:
    """Both clouds on the two main directions of the first, whose signs are fixed by their largest entries."""
    center = clouds[0].mean(axis=0)
    directions = np.linalg.svd(clouds[0] - center, full_matrices=False)[2][:2]
    largest = np.abs(directions).argmax(axis=1)
    directions = directions * np.sign(directions[np.arange(2), largest])[:, None]
    return [(cloud - center) @ directions.T for cloud in clouds]
