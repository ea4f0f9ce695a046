"""The scores beside an audit: the modules' own numbers from one sweep, naive ones, nulls that perfect generators meet;
and the sweep that memorization and the two-sample finding share."""

import dataclasses
import html
import json
import re

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import fisher_exact, norm

from divergences import Gaussian, InputError, Mixture
from evaluation import (
    AuditSettings,
    alpha_precision,
    audit,
    authenticity,
    copy_tests,
    data_copying,
    fid,
    kid,
    memorization,
    memorization_distance,
    prd,
    prdc,
    support_size,
    two_sample,
    vendi_ratio,
)
from evaluation.report import to_html
from evaluation.scores import _single, fid_scores, published_scores, shared_sweep
from evaluation.views import Views, named_views


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def sets():
    """Generated (a little off), train and held-out points in sixteen dimensions."""
    draw = rng(1)
    generated, train, test = draw.normal(size=(150, 16)) * 0.9 + 0.1, *draw.normal(size=(2, 200, 16))
    return {"generated": generated, "train": train, "test": test[:150]}


@pytest.fixture(scope="module")
def scores(sets):
    return {score.name: score for score in published_scores(**sets)}


def same(one, other):
    return (one.value, one.interval, one.note) == (other.value, other.interval, other.note)


def test_every_score_is_the_one_of_its_module(sets, scores):
    generated, train, test = sets.values()
    assert list(scores) == [
        "precision", "recall", "density", "coverage", "α-precision", "β-recall", "authenticity", "realism", "rarity",
        "PRD F8", "PRD F1/8", "KID", "C_T", "distance share", "MiFID's distance", "support size", "repeated samples",
        "Vendi ratio",
    ]  # fmt: skip
    four = prdc(generated=generated, reference=train, test=test)
    for name in ("precision", "recall", "density", "coverage"):
        assert same(scores[name].estimate, getattr(four, name))
    for name in ("precision", "recall"):
        assert same(scores[name].null, getattr(four.null, name))
    held_out = prdc(generated=test, reference=train)
    for name in ("density", "coverage"):
        null = scores[name].null
        assert (null.interval, null.note) == (getattr(held_out, name).interval, "score of test=")
    typical = alpha_precision(generated=generated, reference=train, test=test)
    assert same(scores["α-precision"].estimate, typical.precision)
    assert same(scores["α-precision"].null, typical.null.precision)
    assert same(scores["β-recall"].estimate, typical.recall)
    assert same(scores["β-recall"].null, typical.null.recall)
    new = authenticity(generated=generated, train=train, test=test)
    assert same(scores["authenticity"].estimate, new.share)
    assert same(scores["authenticity"].null, new.null)
    assert scores["KID"].estimate.value == kid(generated=generated, reference=train).value
    assert scores["KID"].null.value == kid(generated=test, reference=train).value
    center = train.mean(axis=0)
    ratio = vendi_ratio(generated=generated - center, reference=train - center)
    assert same(scores["Vendi ratio"].estimate, ratio)
    assert same(scores["Vendi ratio"].null, vendi_ratio(generated=test - center, reference=train - center))
    curve = prd(generated=generated, reference=train, test=test, rng=rng(20_200_411), runs=5)
    for name, one, null in (("PRD F8", curve.f8, curve.null.f8), ("PRD F1/8", curve.f_eighth, curve.null.f_eighth)):
        assert same(scores[name].estimate, one)
        assert same(scores[name].null, null)
    angle = memorization_distance(generated=generated, train=train, test=test)
    assert same(scores["MiFID's distance"].estimate, angle.distance)
    assert scores["MiFID's distance"].null.interval == angle.null.interval
    repeats = support_size(generated=generated, reference=test)
    assert same(scores["support size"].estimate, repeats.size)
    assert scores["support size"].null.interval == repeats.null.interval
    assert scores["support size"].null.note == scores["MiFID's distance"].null.note == "score of test="


def test_the_scores_agree_with_naive_code(sets, scores):
    """Every pair of points at once, no sweep, no module of ours."""
    generated, train, test = sets.values()

    def radii(points, k):
        return np.sort(cdist(points, points), axis=1)[:, k]

    across = cdist(generated, train)
    inside = across < radii(train, 5)
    assert scores["precision"].estimate.value == inside.any(axis=1).mean()
    assert scores["recall"].estimate.value == (across < radii(generated, 5)[:, None]).any(axis=0).mean()
    assert scores["density"].estimate.value == pytest.approx(inside.sum() / (5 * len(generated)), rel=1e-12)
    assert scores["coverage"].estimate.value == inside.any(axis=0).mean()
    held_out = cdist(test, train)
    assert scores["precision"].null.value == (held_out < radii(train, 5)).any(axis=1).mean()
    nearest = across.argmin(axis=1)
    assert scores["authenticity"].estimate.value == (across.min(axis=1) > radii(train, 1)[nearest]).mean()
    # Realism is that of the smaller half of the balls, with its published constant; rarity that of the samples inside.
    reach = radii(train, 3)
    small = reach <= np.median(reach)
    for points, which in ((generated, "estimate"), (test, "null")):
        apart = cdist(points, train)
        real = (reach[small] ** 2 / (apart[:, small] ** 2 + 1e-5)).max(axis=1)
        assert getattr(scores["realism"], which).value == pytest.approx(np.median(real), rel=1e-9)
        rare = np.where(apart < reach, reach, np.inf).min(axis=1)
        assert getattr(scores["rarity"], which).value == pytest.approx(np.median(rare[rare < np.inf]), rel=1e-9)
    y, x, d = generated, train, train.shape[1]

    def kernel(a, b):
        return (a @ b.T / d + 1) ** 3

    def others(a):
        return (kernel(a, a).sum() - np.trace(kernel(a, a))) / (len(a) * (len(a) - 1))

    naive = others(y) + others(x) - 2 * kernel(y, x).mean()
    assert scores["KID"].estimate.value == pytest.approx(naive, rel=1e-9)


def test_c_t_needs_held_out_data_and_has_its_own(sets, scores):
    generated, train, test = sets.values()
    found = data_copying(generated=generated, train=train, test=test, rng=rng(20_200_411))
    assert scores["C_T"].estimate.value == found.score.value
    assert scores["C_T"].null == found.null
    without = {score.name: score for score in published_scores(generated=generated, train=train)}
    assert "C_T" not in without
    assert "support size" not in without
    assert without["realism"].null is without["MiFID's distance"].null is None
    assert without["KID"].null == 0.0
    assert without["Vendi ratio"].null == 1.0
    # Without held-out data the null is train's own, and says so.
    assert "left out in turn" in without["precision"].null.note
    assert "half of the reference" in without["α-precision"].null.note


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("dim", [2, 30])
def test_signs_of_copying_are_those_of_copy_tests(dim, coarse):
    """Without a sweep and with it, copied, repeated and tied points included: the very same numbers and p-values."""
    draw = rng(dim)
    generated, train, test = draw.normal(size=(160, dim)), *draw.normal(size=(2, 170, dim))
    generated = np.vstack([generated[:100], generated[:20], train[:40] + 1e-4])
    if coarse:
        generated, train, test = (np.round(points, 1) for points in (generated, train, test))
    found = copy_tests(generated=generated, train=train, test=test, rng=rng(20_200_411))
    scores = {score.name: score for score in published_scores(generated=generated, train=train, test=test)}
    assert scores["C_T"].estimate == found.data_copying.score
    assert scores["C_T"].null == found.data_copying.null
    assert scores["C_T"].p_value == found.data_copying.p_value
    assert scores["distance share"].estimate == found.share.score
    assert scores["distance share"].null == found.share.null
    assert scores["distance share"].null.value == 0.5
    assert scores["distance share"].p_value == found.share.p_value
    assert scores["authenticity"].estimate.value == pytest.approx(found.authenticity.score.value, abs=1e-12)
    assert scores["authenticity"].null.value == pytest.approx(found.authenticity.null.value, abs=1e-12)
    assert scores["authenticity"].p_value == found.authenticity.p_value
    repeats = scores["repeated samples"]
    assert repeats.estimate.value == pytest.approx(found.repeats.repeated / len(generated), abs=1e-12)
    assert repeats.p_value == found.repeats.p_value
    assert repeats.null.note == "score of test="
    if coarse:
        return
    # By hand, from all pairs: the p-value of C_T is its tail, that of authenticity Fisher's.
    here, apart, own = cdist(generated, train), cdist(test, train), cdist(train, train)
    np.fill_diagonal(own, np.inf)
    faults = [(away.min(axis=1) <= own.min(axis=1)[away.argmin(axis=1)]).sum() for away in (here, apart)]
    table = [[faults[0], len(generated) - faults[0]], [faults[1], len(test) - faults[1]]]
    assert scores["authenticity"].p_value == pytest.approx(fisher_exact(table, "greater")[1], rel=1e-9)
    c_t = scores["C_T"].estimate
    assert scores["C_T"].p_value == pytest.approx(norm.cdf(c_t.value / (c_t.error / norm.ppf(0.975))), rel=1e-9)
    nearer = here.min(axis=1) < cdist(generated, test).min(axis=1)
    assert scores["distance share"].estimate.value == nearer.mean()
    equal = (generated[:, None] == generated).all(axis=2)
    assert repeats.estimate.value == (equal.sum(axis=1) > 1).mean() == 0.25
    assert repeats.null.value == 0.0


def test_p_values_stand_in_every_format_and_decide_nothing():
    """A generator that repeats its samples: the p-values are told, and no finding is made of them."""
    draw = rng(8)
    train, test, fresh = draw.normal(size=(3, 150, 4))
    generated = np.vstack([fresh[:100], fresh[:25], fresh[:25]])
    report = audit(generated=generated, train=train, test=test, rng=rng(1))
    told = {score["name"]: score for score in json.loads(report.to_json())["scores"]}
    names = {name for name, score in told.items() if score["p_value"] is not None}
    assert names == {"C_T", "authenticity", "distance share", "repeated samples"}
    text, page = " ".join(report.to_text().split()), html.unescape(to_html(report))
    for score in report.scores:
        if score.p_value is not None:
            assert told[score.name]["p_value"] == score.p_value
            assert score.meaning in text
            assert score.meaning in page
            shown = re.search(
                r' p (= |< )([\d.e−-]+) of "no .*"; taken alone, no verdict rests on it\.$', score.meaning
            )
            value = float(shown[2].replace("−", "-"))
            assert score.p_value < value if shown[1] == "< " else score.p_value == pytest.approx(value, rel=0.06)
    # No two of the 150 held-out points are equal; 75 of the samples are.
    repeats = next(score for score in report.scores if score.name == "repeated samples")
    assert repeats.estimate.value == 0.5
    assert repeats.null.value == 0.0
    assert repeats.p_value < 1e-6
    assert not {finding.name for finding in report.findings} & names


def test_without_held_out_data_repeats_stand_beside_train_and_nothing_has_a_p_value():
    train = np.concatenate([np.arange(40), np.arange(20)])[:, None].astype(float)
    generated = np.r_[np.arange(28.0), 0.0, 0.0][:, None] / 7
    scores = {score.name: score for score in published_scores(generated=generated, train=train)}
    assert all(score.p_value is None for score in scores.values())
    repeats = scores["repeated samples"]
    assert repeats.estimate.value == 0.1
    assert repeats.null.note == "the training data"
    # 40 of 60 points have one equal, which is among the 30 with 29 of 59.
    assert repeats.null.value == pytest.approx(40 / 60 * 29 / 59, rel=1e-12)
    assert "C_T" not in scores
    assert "distance share" not in scores


@pytest.mark.parametrize("dim", [2, 30])
def test_a_median_holds_the_truth_as_often_as_it_says(dim):
    """Realism and rarity given train: the interval of the median against the median of very many samples."""
    draw = rng(3)
    train, many = draw.normal(size=(100, dim)), draw.normal(size=(20_000, dim))
    truth = {score.name: score.estimate.value for score in _single(many, train, None, None)}
    held = {name: 0 for name in truth}
    for seed in range(200):
        for score in _single(rng(seed).normal(size=(60, dim)), train, None, None):
            low, high = score.estimate.interval
            held[score.name] += low <= truth[score.name] <= high
    # Order statistics are exact and a little wide at 60: 95.2 %; four standard errors of 200.
    assert all(held[name] >= 0.89 * 200 for name in truth)


def test_fitted_features_set_train_apart_and_the_null_of_density_knows():
    """Principal components of few points in many dimensions: fresh data are crowded inside, generated or held out."""
    draw = rng(5)
    train, test, fresh = draw.normal(size=(3, 200, 400))
    axes = np.linalg.svd(train - train.mean(axis=0), full_matrices=False)[2][:20]
    own = {name: (x - train.mean(axis=0)) @ axes.T for name, x in (("train", train), ("test", test), ("g", fresh))}
    found = {s.name: s for s in published_scores(generated=own["g"], train=own["train"], test=own["test"])}
    density = found["density"]
    assert density.estimate.interval[0] > 1.2  # the number that holds for features that do not know train
    assert density.null.agrees(density.estimate.value) or density.estimate.agrees(density.null.value)


def test_few_points_have_no_scores_and_nothing_fails():
    draw = rng(2)
    train = draw.normal(size=(50, 3))
    for n in (2, 3, 6, 9):
        few = draw.normal(size=(n, 3))
        assert published_scores(generated=few, train=train) == ()
        assert audit(generated=few, train=train, test=draw.normal(size=(30, 3)), rng=draw).scores[0].name == "FID"
    assert shared_sweep(generated=train[:1], train=train, test=None) is None
    # Ten are enough for all but C_T; the Vendi ratio waits for eight dimensions.
    names = [score.name for score in published_scores(generated=train[:10], train=train, test=train[:15] + 1)]
    assert names[0] == "precision"
    assert "C_T" not in names
    assert "Vendi ratio" not in names


def test_points_without_an_angle_have_no_vendi_ratio():
    train = np.vstack([rng(3).normal(size=(40, 9)), np.zeros(9)])
    generated = rng(4).normal(size=(40, 9))
    generated[7] = train.mean(axis=0)
    assert "Vendi ratio" not in [score.name for score in published_scores(generated=generated, train=train)]


def test_the_plain_fid_is_the_sum_of_its_parts(sets):
    generated, train, test = sets.values()
    measured, held_out = fid(generated=generated, reference=train), fid(generated=test, reference=train)
    debiased, plain = fid_scores(measured, held_out)
    assert debiased.estimate is measured
    assert debiased.null is held_out
    mean = generated.mean(axis=0) - train.mean(axis=0)
    first, second = np.cov(generated.T), np.cov(train.T)
    roots = np.linalg.eigvals(first @ second).real
    naive = mean @ mean + np.trace(first + second) - 2 * np.sqrt(np.maximum(roots, 0)).sum()
    assert plain.estimate.value == pytest.approx(naive, rel=1e-9)
    assert plain.estimate.value - plain.null == pytest.approx(measured.value, rel=1e-9)
    assert np.subtract(plain.estimate.interval, plain.null) == pytest.approx(measured.interval, rel=1e-9)
    assert fid_scores(measured, None)[0].null == 0.0


@pytest.mark.slow
def test_perfect_generators_score_their_nulls():
    """Twenty draws in the plane and in twenty dimensions: the mean score lies by its null, for each score."""
    for dim in (2, 20):
        seen = {}
        for seed in range(20):
            draw = rng(100 * dim + seed)
            generated, train, test = draw.normal(size=(3, 150, dim))
            for score in published_scores(generated=generated, train=train, test=test):
                null = score.null if isinstance(score.null, float) else score.null.value
                seen.setdefault(score.name, []).append(score.estimate.value - null)
        for name, gaps in seen.items():
            if name == "repeated samples":
                assert not any(gaps)
                continue
            if name == "support size":
                continue  # its null is infinite: the tolerance is the distance below which held-out data have no pair
            t = np.mean(gaps) / (np.std(gaps, ddof=1) / np.sqrt(len(gaps)))
            # 19 degrees of freedom, 17 scores: |t| > 4.5 has a chance of 0.5 % for any of them.
            assert abs(t) < 4.5, (dim, name, t)


@pytest.mark.parametrize("dim", [1, 2, 30])
@pytest.mark.parametrize("coarse", [False, True])
def test_a_ready_sweep_changes_no_answer(dim, coarse):
    """Neighbours from the shared sweep or searched for: the same copies, the same two-sample test, ties included."""
    draw = rng(dim)
    generated, test, train = (draw.normal(size=(n, dim)) for n in (140, 120, 160))
    if coarse:
        generated, test, train = (np.round(points, 1) for points in (generated, test, train))
    swept = shared_sweep(generated=generated, train=train, test=test)
    plain = memorization(generated=generated, train=train, test=test)
    shared = memorization(generated=generated, train=train, test=test, swept=swept)
    for part in dataclasses.fields(plain):
        one, other = getattr(plain, part.name), getattr(shared, part.name)
        assert np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other, part.name
    told = [two_sample(generated=generated, test=test, rng=rng(9), swept=own) for own in (None, swept)]
    assert told[0].neighbors.value == told[1].neighbors.value
    assert told[0].p_value == told[1].p_value
    assert np.array_equal(told[0].neighbors.null.scores, told[1].neighbors.null.scores)


def test_an_audit_carries_the_scores_of_its_features():
    draw = rng(6)
    train, test, generated = draw.normal(size=(3, 120, 2)) * [3.0, 0.1]
    report = audit(generated=generated, train=train, test=test, rng=rng(1))
    scale = train.std(axis=0)
    by_hand = published_scores(
        generated=(generated - train.mean(axis=0)) / scale, train=(train - train.mean(axis=0)) / scale,
        test=(test - train.mean(axis=0)) / scale,
    )  # fmt: skip
    assert [score.name for score in report.scores] == ["FID", "FID, plain", *(score.name for score in by_hand)]
    for mine, theirs in zip(report.scores[2:], by_hand, strict=True):
        assert mine.estimate.value == pytest.approx(theirs.estimate.value, rel=1e-9, abs=1e-12)
    assert report.scores[0].estimate is report["distribution"].estimate
    assert report.scores is report.scores
    again = audit(generated=generated, train=train, test=test, rng=rng(1))
    assert [(s.estimate.value, s.estimate.interval) for s in report.scores] == [
        (s.estimate.value, s.estimate.interval) for s in again.scores
    ]


def shifted_copies(n):
    """Images that are training images moved by a pixel and mirrored, beside honest train and held-out sets."""
    draw = rng(7)
    images = np.kron(draw.integers(0, 256, (3 * n, 5, 5)), np.ones((2, 2), dtype=int))
    images = np.clip(images + draw.integers(-8, 9, images.shape), 0, 255).astype(np.uint8)
    train, test, fresh = images[:n], images[n : 2 * n], images[2 * n :]
    copies = np.roll(train[: n // 4, :, ::-1], 1, axis=2)
    copies[:, :, 0] = copies[:, :, 1]
    return np.concatenate([fresh[: n // 2], copies]), train, test


def test_moved_copies_are_found_through_views():
    generated, train, test = shifted_copies(120)
    told = dict(generated=generated, train=train, test=test)
    blind = audit(**told, rng=rng())["memorization"]
    seeing = audit(**told, settings=AuditSettings(views="shift:1,mirror"), rng=rng())
    found = seeing["memorization"]
    assert str(blind.verdict) == "clear"
    assert str(found.verdict) == "flagged"
    pairs = {(s["generated"], s["train"]) for s in found.evidence["suspects"]}
    assert len(pairs & {(60 + i, i) for i in range(30)}) >= 29
    assert found.evidence["views"] == seeing.protocol["views"] == "shift:1,mirror"
    # By hand: pixels as rows, the features in the views.
    rows = [images.reshape(len(images), -1).astype(float) for images in (generated, train, test)]
    views = Views((10, 10), 1, mirror=True, embed=lambda x: x / 255)
    direct = memorization(generated=rows[0], train=rows[1], test=rows[2], alpha=0.01, invariant=views)
    assert direct.p_value == found.p_value
    assert np.allclose(direct.scores, found.evidence["scores"])


def test_views_are_for_images_and_have_names():
    assert named_views("shift", (8, 8)) == Views((8, 8), 1)
    assert named_views(" mirror , shift:3", (8, 8)) == Views((8, 8), 3, mirror=True)
    assert len(named_views("mirror", (8, 8))) == 2
    for wrong in ("", "flip", "shift:", "shift:-1", "shift:x", "mirror:1"):
        with pytest.raises(InputError, match="views= must be"):
            AuditSettings(views=wrong)
    points = rng().normal(size=(40, 3))
    with pytest.raises(InputError, match="views= are shifts and mirror images"):
        audit(generated=points, train=points + 1, settings=AuditSettings(views="mirror"), rng=rng())
    images = rng().integers(0, 256, (40, 4, 4), dtype=np.uint8)
    with pytest.raises(InputError, match="shift must be smaller"):
        audit(generated=images, train=images[::-1], settings=AuditSettings(views="shift:4"), rng=rng())


def test_what_the_audit_could_have_missed_is_true():
    """The table for known modes, against simulated losses judged by the finding itself."""
    from evaluation.findings import decide
    from evaluation.mode_geometry import gaussian_parts
    from evaluation.modes import mode_coverage
    from evaluation.questions import mode_loss

    weights = np.array([0.06, 0.24, 0.3, 0.4])
    modes = Mixture([Gaussian([20.0 * k, 0.0], np.eye(2)) for k in range(4)], weights)
    assert np.allclose(gaussian_parts(modes).weights, weights)
    n, level = 400, 0.01
    table = mode_loss(mode_coverage(generated=modes.sample(n, rng(5)), modes=modes), level=level)
    row = table.conclude(0.0).evidence["detection"]["rows"][0]
    assert (row["n"], row["weight"]) == (n, 0.06)
    kept = weights.copy()
    kept[0] *= 1 - row["loss"]
    lossy = Mixture(modes.components, kept / kept.sum())
    found = 0
    for seed in range(100):
        coverage = mode_coverage(generated=lossy.sample(n, rng(1000 + seed)), modes=modes)
        (finding,) = decide([mode_loss(coverage, level=level)], level)
        found += 0 in (*finding.evidence["missing"], *finding.evidence["starved"])
    # 95 % of 100, four standard errors below; and half of that loss is found in fewer than half of the audits.
    assert found >= 87
    halved = weights.copy()
    halved[0] *= 1 - row["loss"] / 2
    hits = sum(
        0 in (*f.evidence["missing"], *f.evidence["starved"])
        for seed in range(30)
        for f in decide(
            [mode_loss(mode_coverage(
                generated=Mixture(modes.components, halved / halved.sum()).sample(n, rng(5000 + seed)), modes=modes
            ), level=level)],
            level,
        )
    )  # fmt: skip
    assert hits < 15
