"""The audit end to end: planted defects are found for the right reason, good generators pass, little data is no
pass."""

import io

import numpy as np
import pytest
from sklearn.datasets import load_digits

from divergences import Estimate, Gaussian, InputError, Mixture
from evaluation import AuditSettings, Moments, Samples, Verdict, audit
from evaluation.command import bar
from evaluation.distance_question import distribution
from evaluation.findings import Case, Finding, decide
from evaluation.frechet import fid
from evaluation.modes import mode_coverage
from evaluation.more_questions import lost_regions, mode_collapse
from evaluation.questions import fidelity
from evaluation.report import to_html
from evaluation.scores import fid_scores
from evaluation.tables import tables_of

GRID = Mixture([Gaussian([x, y], 0.0025 * np.eye(2)) for x in range(-4, 5, 2) for y in range(-4, 5, 2)])


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def grid():
    """Train, held-out and fresh samples of the grid."""
    draw = rng(1)
    return GRID.sample(2000, draw), GRID.sample(1000, draw), GRID.sample(1500, draw)


@pytest.fixture(scope="module")
def digits():
    """Real images: train with labels, held-out, and images that are neither."""
    data = load_digits()
    order = rng(2).permutation(len(data.images))
    images, labels = (data.images[order] * 15).astype(np.uint8), data.target[order]
    return images[:800], labels[:800], images[800:1200], images[1200:], labels[1200:]


def without(*lost):
    return Mixture([law for k, law in enumerate(GRID.components) if k not in lost])


def names(report):
    return {finding.name: finding.verdict for finding in report.findings}


def test_a_perfect_generator_is_clear(grid):
    train, test, fresh = grid
    report = audit(generated=fresh, train=train, test=test, modes=GRID, rng=rng())
    assert set(names(report).values()) == {Verdict.CLEAR}
    assert report.verdict is Verdict.CLEAR
    assert report.exit_status == 0
    assert report["mode loss"].estimate.value == 25 == round(report["mode loss"].null)
    assert report["fidelity"].estimate.agrees(report["fidelity"].null)
    assert report["distribution"].estimate.agrees(0)


def test_a_sampler_is_drawn_from(grid):
    train, test, _ = grid
    report = audit(generated=GRID.sample, train=train, test=test, modes=GRID, rng=rng())
    assert report.protocol["generated"] == {
        "source": "sampler sample", "n": 1000, "shape": [1000, 2], "dtype": "float64",
        "formats": [], "notes": [],
    }  # fmt: skip
    assert report.exit_status == 0
    assert audit(generated=GRID.sample, train=train, rng=rng()).protocol["generated"]["n"] == 2000


def test_lost_modes_are_named_and_nothing_else_is_flagged(grid):
    train, test, _ = grid
    report = audit(generated=without(3, 17).sample(1500, rng(5)), train=train, test=test, modes=GRID, rng=rng())
    assert report.exit_status == 1
    assert names(report) == {
        "mode loss": Verdict.FLAGGED, "fidelity": Verdict.CLEAR, "partial collapse": Verdict.CLEAR,
        "distribution": Verdict.CLEAR, "two-sample": Verdict.CLEAR, "memorization": Verdict.CLEAR,
    }  # fmt: skip
    finding = report["mode loss"]
    assert finding.evidence["missing"] == [3, 17]
    assert finding.estimate.value == 23
    assert "3 at (−4, 2), 17 at (2, 0)" in finding.meaning
    assert finding.p_value < 1e-6


def test_starved_modes_are_told_from_missing_ones(grid):
    train, test, _ = grid
    weights = np.where(np.arange(25) == 6, 0.004, 0.996 / 24)
    generated = Mixture(GRID.components, weights).sample(4000, rng(3))
    finding = audit(generated=generated, train=train, test=test, modes=GRID, rng=rng())["mode loss"]
    assert finding.verdict is Verdict.FLAGGED
    assert (finding.evidence["missing"], finding.evidence["starved"]) == ([], [6])


def test_bridges_between_modes_are_a_matter_of_fidelity(grid):
    train, test, fresh = grid
    blurred = fresh + rng(7).normal(size=fresh.shape) * 0.15
    report = audit(generated=blurred, train=train, test=test, modes=GRID, rng=rng())
    assert report["fidelity"].verdict is Verdict.FLAGGED
    assert report["mode loss"].verdict is Verdict.CLEAR
    # A tenth of the samples astray is reported, not flagged.
    fresh = fresh.copy()
    fresh[::10] += 1.0
    little = audit(generated=fresh, train=train, test=test, modes=GRID, rng=rng())["fidelity"]
    assert little.verdict is Verdict.CLEAR
    assert little.estimate.interval[1] < little.null


def test_a_shifted_generator_fails_the_distribution(grid):
    train, test, fresh = grid
    report = audit(generated=fresh + 2.0, train=train, test=test, rng=rng())
    assert report["distribution"].verdict is Verdict.FLAGGED
    assert report["memorization"].verdict is Verdict.CLEAR
    # A certain but small difference is reported, not flagged.
    small = audit(generated=fresh + 0.5, train=train, test=test, rng=rng())["distribution"]
    assert small.verdict is Verdict.CLEAR
    assert small.estimate.interval[0] > 0
    assert "is certain, but small" in small.meaning


def test_a_copier_is_flagged_for_copying(digits):
    train, labels, test, fresh, _ = digits
    draw = rng(4)
    generated = fresh[:400].copy()
    copied = draw.choice(400, 120, replace=False)
    noise = draw.integers(-6, 7, (120, 8, 8))
    sources = draw.choice(800, 120, replace=False)
    generated[copied] = np.clip(train[sources].astype(int) + noise, 0, 255).astype(np.uint8)
    report = audit(generated=generated, train=train, test=test, labels=labels, rng=rng())
    assert report.exit_status == 1
    assert names(report) == {
        "class loss": Verdict.CLEAR, "partial collapse": Verdict.CLEAR, "distribution": Verdict.CLEAR,
        "two-sample": Verdict.CLEAR, "memorization": Verdict.FLAGGED,
    }  # fmt: skip
    finding = report["memorization"]
    assert finding.estimate.agrees(0.3)
    truth = dict(zip(copied.tolist(), sources.tolist(), strict=True))
    right = [truth.get(s["generated"]) == s["train"] for s in finding.evidence["suspects"]]
    assert np.mean(right) > 0.9
    assert sum(right) > 100


def test_lost_classes_are_named(digits):
    train, labels, test, fresh, truth = digits
    report = audit(generated=fresh[~np.isin(truth, [3, 7])], train=train, test=test, labels=labels, rng=rng())
    assert report["class loss"].verdict is Verdict.FLAGGED
    assert report["class loss"].evidence["missing"] == ["3", "7"]
    assert report["memorization"].verdict is Verdict.CLEAR


def test_held_out_images_pass_as_a_generator(digits):
    train, labels, test, fresh, _ = digits
    assert audit(generated=fresh, train=train, test=test, labels=labels, rng=rng()).exit_status == 0


def test_without_held_out_data_memorization_is_inconclusive(grid):
    train, _, fresh = grid
    report = audit(generated=fresh, train=train, modes=GRID, rng=rng())
    assert report.exit_status == 3
    assert report["memorization"].verdict is Verdict.INCONCLUSIVE
    assert "held-out" in report["memorization"].meaning
    assert report["memorization"].p_value is None
    # A flag beats it.
    assert audit(generated=without(0).sample(1500, rng()), train=train, modes=GRID, rng=rng()).exit_status == 1


@pytest.mark.parametrize("n", [2, 5, 9])
def test_too_few_samples_are_never_a_pass(grid, n):
    train, test, fresh = grid
    report = audit(generated=fresh[:n], train=train, test=test, modes=GRID, rng=rng())
    assert set(names(report).values()) == {Verdict.INCONCLUSIVE}
    assert all(np.isfinite(finding.estimate.value) for finding in report.findings)


def test_few_samples_of_few_classes_are_inconclusive(digits):
    train, labels, test, fresh, truth = digits
    report = audit(generated=fresh[truth != 4][:12], train=train, test=test, labels=labels, rng=rng())
    assert report["class loss"].verdict is Verdict.INCONCLUSIVE


def test_train_passed_as_generated_is_said(grid):
    train, test, _ = grid
    report = audit(generated=train, train=train, test=test, rng=rng())
    assert report["memorization"].verdict is Verdict.FLAGGED
    assert "was the training file passed as the generated one?" in report["memorization"].meaning
    assert report.protocol["overlap"] == {
        "generated_in_train": 2000, "generated_repeats": 0, "test_in_train": 0, "generated_in_test": 0
    }  # fmt: skip


def test_findings_can_be_asked_for_by_name(grid):
    train, test, fresh = grid
    report = audit(generated=fresh, train=train, test=test, rng=rng())
    with pytest.raises(KeyError, match="this audit asked mode loss, distribution, two-sample, memorization"):
        report["fidelity"]


def test_features_are_chosen_and_reported(digits):
    train, _, test, fresh, _ = digits
    report = audit(generated=fresh, train=train, test=test, features="pca:5", rng=rng())
    assert (report.protocol["features"], report.protocol["feature_dimensions"]) == ("pca:5", 5)
    mine = audit(generated=fresh, train=train, test=test, features=lambda x: x.mean(axis=1), rng=rng())
    assert mine.protocol["feature_dimensions"] == 8


def test_units_do_not_matter_for_points(grid):
    train, test, fresh = grid
    unit = np.array([1000.0, 0.001])
    plain = audit(generated=fresh, train=train, test=test, rng=rng())["distribution"].estimate.value
    scaled = audit(generated=fresh * unit, train=train * unit, test=test * unit, rng=rng())["distribution"]
    assert scaled.estimate.value == pytest.approx(plain, rel=1e-6, abs=1e-9)


POINTS = rng(9).normal(size=(60, 3))
IMAGES = rng(9).integers(0, 256, (60, 4, 4), dtype=np.uint8)
HOLED = np.where(np.arange(60)[:, None] == 7, np.nan, POINTS)
BAD = {
    "nan": (dict(generated=HOLED, train=POINTS), r"generated= holds NaN in 1 of 60 rows \(first: row 7\)"),
    "nan in train": (dict(generated=POINTS, train=HOLED), "train= holds NaN"),
    "nan in test": (dict(generated=POINTS, train=POINTS, test=HOLED), "test= holds NaN"),
    "empty": (dict(generated=np.empty((0, 3)), train=POINTS), "generated= holds 0 samples"),
    "one": (dict(generated=POINTS[:1], train=POINTS), "generated= holds 1 sample"),
    "text": (dict(generated=np.array(["a", "b"]), train=POINTS), "generated= must hold real numbers"),
    "none": (dict(generated=None, train=POINTS), "generated= must hold real numbers"),
    "path": (dict(generated="x.npy", train=POINTS), "generated= is the path 'x.npy'"),
    "dimensions": (dict(generated=POINTS[:, :2], train=POINTS), r"generated= has points of shape \(2,\) and train="),
    "test dimensions": (dict(generated=POINTS, train=POINTS, test=POINTS[:, :1]), r"test= has points of shape \(1,\)"),
    "kinds": (dict(generated=IMAGES, train=POINTS), r"generated= has images of shape \(4, 4\) and train= points"),
    "channels": (dict(generated=np.stack([IMAGES] * 3, -1), train=IMAGES), "channels included"),
    "dtype": (dict(generated=IMAGES / 255, train=IMAGES), r"are floats on a scale such as \[0, 1\] and"),
    "sign": (dict(generated=IMAGES / 127.5 - 1, train=IMAGES / 255), r"\[-1, 1\]"),
    "scale": (dict(generated=IMAGES * 1.0, train=IMAGES / 255), r"\[0, 255\]"),
    "test scale": (dict(generated=IMAGES, train=IMAGES, test=IMAGES / 255), "the images of test= are floats"),
    "not held out": (dict(generated=POINTS + 1, train=POINTS, test=POINTS[:40]), "all 40 samples of test= also stand"),
    "modes dimension": (dict(generated=POINTS, train=POINTS, modes=GRID), "modes= lives in 2 dimensions"),
    "modes of images": (dict(generated=IMAGES, train=IMAGES, modes=GRID), "modes= is for points"),
    "modes thing": (dict(generated=POINTS, train=POINTS, modes="grid"), "modes= must be"),
    "labels shape": (dict(generated=POINTS, train=POINTS, labels=[1, 2]), r"labels= must have shape \(60,\)"),
    "labels rare": (dict(generated=POINTS, train=POINTS, labels=[0] * 59 + [1]), "labels="),
    "labels ragged": (dict(generated=POINTS, train=POINTS, labels=[[1], [1, 2]]), "labels="),
    "features": (dict(generated=POINTS, train=POINTS, features="inceptoin"), "features= must be"),
    "features rows": (dict(generated=POINTS, train=POINTS, features=lambda x: x[:3]), "features="),
    "rng": (dict(generated=POINTS, train=POINTS, rng=0), "rng= must be a numpy.random.Generator"),
    "sampler rows": (dict(generated=lambda n, rng: POINTS[:5], train=POINTS), "asked for 60 samples and drew 5"),
    "sampler arguments": (dict(generated=lambda: POINTS, train=POINTS), r"called as a sampler, generated\(n, rng\)"),
    "sampler nan": (dict(generated=lambda n, rng: HOLED, train=POINTS), "what generated= drew holds NaN"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    arguments, message = BAD[case]
    with pytest.raises(InputError, match=message):
        audit(**{"rng": rng(), **arguments})


def test_black_images_are_judged_and_not_refused():
    black = np.zeros((60, 4, 4))
    report = audit(generated=black, train=IMAGES / 255, test=rng(3).random((60, 4, 4)), rng=rng())
    assert report["distribution"].verdict is Verdict.FLAGGED


def test_samples_carry_their_source(grid):
    train, _, fresh = grid
    report = audit(generated=Samples(fresh, "here.npy", "points"), train=train, rng=rng())
    assert report.protocol["generated"]["source"] == "here.npy"


def case(p_value):
    return Case(
        p_value,
        lambda level: Finding("x", "?", "q", Estimate(0.0, 0.0), None, p_value, Verdict.CLEAR, "", {"level": level}),
    )


def test_holm_grants_each_rejected_case_its_level_and_the_others_none():
    found = decide([case(0.02), case(None), case(0.001), case(0.5)], 0.06)
    assert [f.evidence["level"] for f in found] == [pytest.approx(0.03), 0.0, pytest.approx(0.02), 0.0]
    # The second does not fall at 0.03, so the third is not asked, although it lies below 0.06.
    found = decide([case(0.001), case(0.04), case(0.05)], 0.06)
    assert [f.evidence["level"] for f in found] == [pytest.approx(0.02), 0.0, 0.0]


def test_perfect_generators_are_flagged_no_more_often_than_stated():
    """60 audits of perfect generators: at 5 % three flags are expected at most; more than 8 has a chance below 1 %."""
    modes = Mixture([Gaussian([x, 0.0], 0.04 * np.eye(2)) for x in range(4)], [0.1, 0.2, 0.3, 0.4])
    flags = 0
    for seed in range(60):
        draw = rng(1000 + seed)
        generated, train, test = modes.sample(120, draw), modes.sample(150, draw), modes.sample(100, draw)
        report = audit(generated=generated, train=train, test=test, modes=modes, rng=draw)
        flags += report.verdict is Verdict.FLAGGED
    assert flags <= 8


def test_shrunk_modes_are_partial_collapse(grid):
    train, test, fresh = grid
    means = np.stack([part.mean for part in GRID.components])
    home = means[np.linalg.norm(fresh[:, None] - means, axis=2).argmin(axis=1)]
    own = np.abs(home - means[7]).max(axis=1) == 0
    shrunk = np.where(own[:, None], home + (fresh - home) / 3, fresh)
    report = audit(generated=shrunk, train=train, test=test, modes=GRID, rng=rng())
    assert {name for name, verdict in names(report).items() if verdict is Verdict.FLAGGED} == {"partial collapse"}
    finding = report["partial collapse"]
    assert finding.evidence["shrunk"] == ["7"]
    # A third of the width is a ninth of the variance.
    assert finding.estimate.agrees(1 / 9)
    assert "7" in finding.quantity


def test_shrunk_classes_are_partial_collapse(digits):
    train, labels, test, fresh, fresh_labels = digits
    generated = fresh.astype(float)
    mean = train[labels == 4].mean(axis=0)
    own = fresh_labels == 4
    generated[own] = mean + 0.4 * (generated[own] - mean)
    generated = np.clip(np.round(generated), 0, 255).astype(np.uint8)
    report = audit(generated=generated, train=train, test=test, labels=labels, rng=rng())
    assert report["partial collapse"].verdict is Verdict.FLAGGED
    assert report["partial collapse"].evidence["shrunk"] == ["4"]


def test_what_moments_do_not_see_the_classifier_does():
    # The same mean and covariance, another shape: only the two-sample finding can tell.
    draw = rng(3)
    train, test = draw.normal(size=(2, 800, 2))
    corners = draw.choice([-1.0, 1.0], size=(800, 2)) + 0.02 * draw.normal(size=(800, 2))
    report = audit(generated=corners, train=train, test=test, rng=draw)
    assert report["distribution"].verdict is Verdict.CLEAR
    finding = report["two-sample"]
    assert finding.verdict is Verdict.FLAGGED
    assert finding.evidence["exact_p_value"] <= 0.02
    # A small difference is reported.
    little = audit(generated=draw.normal(size=(800, 2)) + [0.3, 0.0], train=train, test=test, rng=draw)["two-sample"]
    assert little.verdict is Verdict.CLEAR
    assert "is certain, but small" in little.meaning
    few = audit(generated=train[:5], train=train, test=test[:5] + 1, rng=draw)["two-sample"]
    assert few.verdict is Verdict.INCONCLUSIVE


def test_settings():
    draw = rng(0)
    train, test, fresh = draw.normal(size=(3, 300, 2))
    told = []
    settings = AuditSettings(
        alpha=0.2,
        reference=Moments.of((test - train.mean(axis=0)) / train.std(axis=0)),
        progress=lambda *step: told.append(step),
    )
    report = audit(generated=fresh, train=train, test=test, settings=settings, rng=rng())
    assert report.protocol["alpha"] == 0.2
    assert report.protocol["alpha_memorization"] == pytest.approx(0.04)
    assert report.protocol["reference"] == "statistics of 300 samples"
    # Held-out data are the reference: the distance to themselves is 0, and the generator's is another than to train.
    assert report["distribution"].evidence["held_out"].raw == pytest.approx(0.0, abs=1e-12)
    assert told[0][0] == "reading"
    # Reading, features, distances, regions, distribution, two-sample, memorization; the scores are not looked at yet.
    assert told[-1] == ("judged", 7, 8)
    assert report.scores
    assert told[-2:] == [("scores", 7, 8), ("done", 8, 8)]
    assert [done for _, done, _ in told] == [0, 1, 2, 3, 4, 5, 6, 7, 7, 8]
    with pytest.raises(InputError, match="alpha="):
        AuditSettings(alpha=0.0)
    with pytest.raises(InputError, match="reference="):
        AuditSettings(reference=test)


def test_regions_are_lost_without_anybody_naming_modes(digits, tmp_path):
    train, labels, test, _, _ = digits
    kept = train[labels != 1]
    noise = rng(2).integers(-8, 9, kept.shape)
    generated = np.clip(kept.astype(int) + noise, 0, 255).astype(np.uint8)
    finding = audit(generated=generated, train=train, test=test, rng=rng())["mode loss"]
    assert finding.verdict is Verdict.FLAGGED
    rows = [row for region in finding.evidence["regions"] for row in region["examples"][:3]]
    assert np.mean(labels[rows] == 1) > 0.9
    assert finding.evidence["detection"]["rows"]


def test_sets_of_unequal_size_are_told_apart_no_more_often():
    """A fresh sample has more neighbours of its kind where its kind is more: chance is one half only at equal sizes."""
    told = []
    for seed in range(20):
        draw = rng(seed)
        report = audit(
            generated=draw.normal(size=(1500, 3)), train=draw.normal(size=(100, 3)), test=draw.normal(size=(60, 3)),
            rng=draw,
        )  # fmt: skip
        finding = report["two-sample"]
        told.append(finding.evidence["neighbors"].value)
        assert finding.verdict is not Verdict.FLAGGED
        assert finding.evidence["looked_at"] == 60
        assert len(set(finding.evidence["easiest"])) == 8
    # 20 shares of 120 neighbours each: four standard errors.
    assert abs(np.mean(told) - 0.5) < 4 * 0.07 / np.sqrt(20)


def test_modes_say_where_they_stand_and_how_wide_they_are(grid):
    train, test, _ = grid
    draw = rng(8)
    generated = GRID.sample(1500, draw)
    near = np.abs(generated - [0, 0]).max(axis=1) < 1
    generated[near] += [0.06, 0.0]
    finding = audit(generated=generated, train=train, test=test, modes=GRID, rng=rng())["partial collapse"]
    records = {record["name"]: record for record in finding.evidence["per_mode"]}
    middle = next(k for k, part in enumerate(GRID.components) if np.allclose(part.mean, 0))
    # 0.06 at a standard deviation of 0.05.
    assert records[str(middle)]["shift"].agrees(1.2)
    assert finding.verdict is Verdict.CLEAR
    assert f"not flagged: {middle}." in finding.meaning
    assert "mean shift" in " ".join(tables_of(finding)[0].head)


def test_lost_modes_are_shown_by_training_samples(grid):
    train, test, _ = grid
    weights = np.array([0.0 if k in (3, 17) else 0.1 if k == 6 else 1.0 for k in range(25)])
    generated = Mixture(GRID.components, weights / weights.sum()).sample(4000, rng(5))
    report = audit(generated=generated, train=train, test=test, modes=GRID, rng=rng())
    records = report["mode loss"].evidence["per_mode"]
    assert {k for k, record in enumerate(records) if "examples" in record} == {3, 6, 17}
    shown = tables_of(report["mode loss"])[1].rows
    text, page = " ".join(report.to_text().split()), to_html(report)
    for k in (3, 6, 17):
        # Direct: equal round modes, so the nearest of all training rows belong to it.
        away = np.linalg.norm(train - GRID.components[k].mean, axis=1)
        assert records[k]["examples"] == np.argsort(away, kind="stable")[:5].tolist()
        np.testing.assert_array_equal(records[k]["examples_at"], train[records[k]["examples"]])
        (row,) = [cells for cells in shown if cells[0] == str(k)]
        assert row[2] == ", ".join(str(index) for index in records[k]["examples"][:4])
        assert row[2] in text
        assert row[2] in page
    assert "Train itself" not in report["mode loss"].meaning


def test_examples_lie_in_the_mode_s_own_distance():
    """A flat mode beside a round one: the nearest in plain distance is not the nearest in the mode's own."""
    flat = Gaussian([0.0, 0.0], np.diag([100.0, 0.01]))
    modes = Mixture([flat, Gaussian([60.0, 0.0], np.eye(2))])
    draw = rng(0)
    train = np.concatenate([modes.components[1].sample(300, draw), [[0.0, 0.2], [5.0, 0.0], [0.0, 0.9]]])
    report = audit(generated=modes.components[1].sample(300, draw), train=train, modes=modes, rng=draw)
    assert report["mode loss"].evidence["missing"] == [0]
    # 2σ, 0.5σ, and 9σ, which is not of the mode although only 0.9 away.
    assert report["mode loss"].evidence["per_mode"][0]["examples"] == [301, 300]


def test_a_mode_that_train_does_not_have_is_said():
    draw = rng(2)
    modes = Mixture([Gaussian([x, 0.0], 0.01 * np.eye(2)) for x in (0.0, 1.0, 7.0)])
    real = Mixture(modes.components[:2])
    report = audit(generated=real.sample(400, draw), train=real.sample(400, draw), modes=modes, rng=draw)
    finding = report["mode loss"]
    assert finding.evidence["per_mode"][2]["examples"] == []
    assert "Train itself has no sample of 2 at (7, 0)" in finding.meaning
    assert "none: train has no such sample" in report.to_text()


def test_lost_classes_are_shown_by_training_samples(digits):
    train, labels, test, fresh, truth = digits
    report = audit(generated=fresh[~np.isin(truth, [3, 7])], train=train, test=test, labels=labels, rng=rng())
    records = {record["name"]: record for record in report["class loss"].evidence["per_class"]}
    assert {name for name, record in records.items() if "examples" in record} == {"3", "7"}
    for name in ("3", "7"):
        rows = records[name]["examples"]
        assert len(set(rows)) == 16
        assert set(labels[rows]) == {int(name)}
        # Images have no coordinates to tell.
        assert "examples_at" not in records[name]
    table = tables_of(report["class loss"])[1]
    assert {row[0] for row in table.rows} == {"3", "7"}
    assert ", ".join(map(str, records["3"]["examples"][:4])) in " ".join(report.to_text().split())
    points = rng(3).normal(size=(300, 2)) + 9 * np.repeat([[0, 0], [1, 0], [0, 1]], 100, axis=0)
    classes = np.repeat(["a", "b", "c"], 100)
    told = audit(generated=points[:200] + 0.1, train=points, labels=classes, rng=rng())["class loss"]
    (lost,) = [record for record in told.evidence["per_class"] if "examples" in record]
    assert lost["name"] == "c"
    np.testing.assert_array_equal(lost["examples_at"], points[lost["examples"]])
    assert min(lost["examples"]) >= 200


FOUR = Mixture([Gaussian([x, 0.0], 0.04 * np.eye(2)) for x in (0.0, 3.0, 6.0, 9.0)])


def test_few_samples_of_four_modes_are_inconclusive():
    draw = rng(1)
    train, test = FOUR.sample(400, draw), FOUR.sample(200, draw)
    for seed in range(3):
        report = audit(generated=FOUR.sample(15, rng(seed)), train=train, test=test, modes=FOUR, rng=rng())
        assert report["mode loss"].verdict is Verdict.INCONCLUSIVE


def test_regions_fall_at_the_level_they_are_granted():
    """Between 0.05 and 0.2: lost at a granted level of 0.2, and not at 0.05."""
    for seed in range(40):
        draw = rng(seed)
        train = draw.normal(size=(400, 2))
        fresh = draw.normal(size=(600, 2))
        case_ = lost_regions(generated=fresh[fresh[:, 0] < 1.05][:300], train=train, test=None, rng=draw)
        if 0.05 < case_.p_value < 0.2:
            break
    else:
        raise AssertionError("no seed puts p between the two levels")
    flagged = case_.conclude(0.2)
    assert flagged.verdict is Verdict.FLAGGED
    assert flagged.evidence["regions"]
    assert min(region["p_adjusted"] for region in flagged.evidence["regions"]) == case_.p_value
    assert case_.conclude(0.05).verdict is not Verdict.FLAGGED
    assert case_.conclude(0.05).evidence["regions"] == []


@pytest.mark.parametrize("n", [10, 12, 13, 20, 100, 1000])
def test_fidelity_is_clear_where_its_interval_keeps_the_margin(n):
    """All samples good: the exact lower end is 0.025^(1/n), so 13 samples are the fewest that clear 0.742."""
    points = np.tile(FOUR.components[0].mean, (n, 1))
    finding = fidelity(mode_coverage(generated=points, modes=FOUR)).conclude(0.0)
    assert finding.estimate.interval[0] == pytest.approx(0.025 ** (1 / n))
    clear = 0.025 ** (1 / n) >= 0.75 * finding.null
    assert clear == (n >= 13)
    assert finding.verdict is (Verdict.CLEAR if clear else Verdict.INCONCLUSIVE)


def test_perfect_fidelity_stays_clear():
    """At n = 1000 in every run; 40 samples are enough as a rule."""
    for n, least in ((40, 55), (1000, 60)):
        runs = [fidelity(mode_coverage(generated=FOUR.sample(n, rng(seed)), modes=FOUR)) for seed in range(60)]
        assert sum(run.conclude(0.0).verdict is Verdict.CLEAR for run in runs) >= least


def test_numbers_that_straddle_their_margin_are_inconclusive():
    # A share of 0.75 beside a margin of 0.742, with a granted level at which nothing is rejected.
    points = np.concatenate([FOUR.components[0].sample(75, rng(0)) * 0, np.full((25, 2), 99.0)])
    found = fidelity(mode_coverage(generated=points, modes=FOUR)).conclude(0.0)
    assert found.estimate.interval[0] < found.evidence["margin"] < found.estimate.value
    assert found.verdict is Verdict.INCONCLUSIVE
    # A mode with a third of its variance by few samples, not rejected.
    draw = rng(4)
    points = np.concatenate([law.sample(9, draw) for law in FOUR.components])
    points[:9] = FOUR.components[0].mean + (points[:9] - FOUR.components[0].mean) / 3
    shrunk = mode_collapse(mode_coverage(generated=points, modes=FOUR)).conclude(0.0)
    assert shrunk.verdict is Verdict.INCONCLUSIVE
    assert "mode 0 have less" in shrunk.meaning
    # A distance above its margin, one about it, and one far below.
    seen = []
    for shift in (0.45, 0.3, 0.0):
        train, fresh = rng(5).normal(size=(2, 400, 2))
        sets = dict(generated=Moments.of(fresh + shift), reference=Moments.of(train))
        asked = distribution(**sets, train=train, test=None)
        low, high = fid(**sets).interval
        margin = asked.conclude(0.0).evidence["margin"]
        seen.append((bool(low > margin), bool(high > margin), asked.conclude(0.0).verdict))
    assert seen == [
        (True, True, Verdict.INCONCLUSIVE), (False, True, Verdict.INCONCLUSIVE), (False, False, Verdict.CLEAR)
    ]  # fmt: skip


def test_a_distance_in_more_dimensions_than_samples_is_judged_by_its_bounds():
    draw = rng(6)
    train, far = draw.standard_normal((400, 200)), draw.standard_normal((300, 200)) + 0.6
    found = distribution(generated=Moments.of(far), reference=Moments.of(train), train=train, test=None).conclude(0.01)
    # |0.6|²·200 = 72 is 0.36 of the variance, and the lower bound shows it.
    assert found.verdict is Verdict.FLAGGED
    assert found.p_value is not None
    assert 0 < found.p_value < 1e-6
    assert found.evidence["plain_bias"] is None
    near = draw.standard_normal((300, 200))
    alike = distribution(generated=Moments.of(near), reference=Moments.of(train), train=train, test=near).conclude(0.01)
    assert alike.verdict is Verdict.INCONCLUSIVE
    for meaning in (found.meaning, alike.meaning):
        assert "300 samples in 200 dimensions are fewer than 3 per dimension" in meaning
        assert "scores 0 on average" not in meaning
        assert "influence of each sample" not in meaning
    assert [score.name for score in fid_scores(alike.estimate, None)] == ["FID"]


def test_bounds_accuse_no_more_often_than_stated():
    """At the margin itself, with two samples per dimension: the lower bound is below it, and a flag is rare."""
    draw, flags = rng(7), 0
    shift = np.sqrt(0.1)
    for _ in range(200):
        train, fake = draw.standard_normal((120, 40)), draw.standard_normal((80, 40)) + shift
        asked = distribution(generated=Moments.of(fake), reference=Moments.of(train), train=train, test=None)
        flags += asked.conclude(0.05).verdict is Verdict.FLAGGED
    # 5 % of 200, and three standard errors.
    assert flags <= 19


def test_held_out_data_must_be_held_out():
    train, test, fresh = rng(8).normal(size=(3, 300, 3))
    with pytest.raises(InputError, match="generated= and test= are the same samples"):
        audit(generated=test[::-1], train=train, test=test, rng=rng())
    report = audit(generated=fresh, train=train, test=np.r_[test[:200], train[:100]], rng=rng())
    assert "100 of 300 samples of test= also stand in train=" in " ".join(report.protocol["warnings"])
    report = audit(generated=np.r_[fresh, test[:50]], train=train, test=test, rng=rng())
    assert "50 of 350 samples of generated= also stand in test=" in " ".join(report.protocol["warnings"])
    # Data that repeat themselves are in every set.
    coarse = rng(9).integers(0, 4, size=(3, 300, 3)).astype(float)
    report = audit(generated=coarse[0], train=coarse[1], test=coarse[2], rng=rng())
    assert "stand in test=" not in " ".join(report.protocol["warnings"])


def test_clear_says_what_it_cannot_see(grid):
    train, test, fresh = grid
    report = audit(generated=fresh, train=train, test=test, modes=GRID, rng=rng())
    assert "does not see whether modes are lost" in report["fidelity"].meaning
    assert "goes unnoticed" in report["two-sample"].meaning


def test_the_bar_ends_complete(monkeypatch, grid):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    train, test, fresh = grid
    for given in (dict(), dict(test=test), dict(test=test, modes=GRID), dict(labels=np.arange(300) % 2, modes=GRID)):
        screen.truncate(0)
        settings = AuditSettings(progress=bar())
        # Two classes that nothing tells apart are refused by none of the steps.
        report = audit(generated=fresh[:300], train=train[:300], settings=settings, rng=rng(), **given)
        assert report.scores
        drawn = screen.getvalue().replace("\x00", "").split("\r\033[K")[1:]
        filled = [line.count("#") for line in drawn]
        assert filled == sorted(filled)
        assert filled[-1] == 20
        assert filled[-2] < 20
        assert drawn[-1] == f"[{'#' * 20}] done\n"
        assert all("\n" not in line for line in drawn[:-1])


@pytest.mark.slow
def test_a_thousand_samples_of_a_perfect_generator_are_clear():
    """Intervals keep within the margins: 15 audits with known modes, 15 in 64 dimensions without."""
    for seed in range(15):
        draw = rng(seed)
        known = audit(
            generated=GRID.sample(1000, draw), train=GRID.sample(1000, draw), test=GRID.sample(1000, draw), modes=GRID,
            rng=draw,
        )  # fmt: skip
        train, test, fresh = draw.normal(size=(3, 1000, 64))
        for report in (known, audit(generated=fresh, train=train, test=test, rng=draw)):
            assert Verdict.INCONCLUSIVE not in names(report).values()
