"""The published signs of copying: reference digits, nulls that hold, copiers that are caught; repeats; views."""

import math

import numpy as np
import pytest
from sklearn.datasets import load_digits

from divergences import InputError
from evaluation.copies import copy_tests, data_copying
from evaluation.memorization import memorization
from evaluation.support import support_size, vendi_ratio
from evaluation.verdict import Verdict
from evaluation.views import Views

R = np.random.RandomState  # noqa: NPY002 (frozen, published streams)
REAL, FAKE, TEST = (
    R(0).standard_normal((200, 8)),
    R(1).standard_normal((150, 8)) * 0.9 + 0.2,
    R(2).standard_normal((160, 8)),
)
DIGITS = load_digits()


def rng_of(seed):
    return np.random.default_rng(seed)


def test_published_numbers():
    whole = data_copying(generated=FAKE, train=REAL, test=TEST, cells=1, rng=rng_of(0))
    assert whole.score.value == pytest.approx(-1.547542523401646, abs=1e-12)
    halves = data_copying(
        generated=FAKE, train=REAL, test=TEST, cells=lambda x: (x[:, 0] > 0).astype(int), rng=rng_of(0)
    )
    assert halves.score.value == pytest.approx(-1.232827703348061, abs=1e-12)
    copied = REAL[:150] + 1e-3 * R(4).standard_normal((150, 8))
    assert data_copying(generated=copied, train=REAL, test=TEST, cells=1, rng=rng_of(0)).score.value == pytest.approx(
        -15.214859901317535, abs=1e-12
    )
    found = copy_tests(generated=FAKE, train=REAL, test=TEST, rng=rng_of(0))
    assert 100 * found.authenticity.score.value == pytest.approx(58.666666666666664, abs=1e-12)
    assert found.share.null.value == pytest.approx(200 / 360)


def test_null_of_the_distance_share_is_not_a_half():
    rng = rng_of(1)
    x = rng.standard_normal((900, 2))
    found = copy_tests(generated=x[:400], train=x[400:800], test=x[800:], rng=rng)
    assert found.share.null.value == 0.8
    assert found.share.score.value == pytest.approx(0.8, abs=0.08)
    assert found.verdict is Verdict.CLEAR


def test_false_alarms_and_p_values_under_equal_laws():
    """Also where some points of the pool are nearest to very many samples, and where coordinates tie."""
    rng, p_values, flagged = rng_of(2), [], 0
    trials = 120
    for trial in range(trials):
        x = rng.standard_normal((250, 12)) if trial % 2 else np.round(rng.standard_normal((250, 2)), 1)
        found = copy_tests(generated=x[:100], train=x[100:180], test=x[180:], rng=rng, alpha=0.1)
        flagged += found.verdict is Verdict.FLAGGED
        p_values.append(
            [found.share.p_value, found.authenticity.p_value, found.exact.p_value, found.data_copying.p_value]
        )
    low = (np.array(p_values) < 0.1).mean(axis=0)
    # 120 trials at 10 %: above 18.5 % with probability 0.3 %.
    assert (low <= 0.185).all()
    assert low[0] > 0.04
    assert low[3] > 0.04
    assert flagged / trials <= 0.185


def test_copiers_are_caught_and_a_narrow_generator_is_not():
    rng = rng_of(3)
    x = rng.standard_normal((1300, 6))
    train, test = x[:500], x[500:800]
    copies = np.concatenate([train[:150] + 0.05 * rng.standard_normal((150, 6)), x[800:1150]])
    found = copy_tests(generated=copies, train=train, test=test, rng=rng)
    assert found.verdict is Verdict.FLAGGED
    assert found.exact.p_value == 1.0
    assert found.data_copying.p_value < 1e-3
    assert found.authenticity.p_value < 1e-3
    exact = copy_tests(generated=np.r_[train[:15], x[800:1285]], train=train, test=test, rng=rng)
    assert exact.verdict is Verdict.FLAGGED
    assert exact.exact.score.value == pytest.approx(0.03)
    assert exact.exact.null.value == 0.0
    narrow = copy_tests(generated=0.3 * rng.standard_normal((500, 6)), train=train, test=test, rng=rng)
    assert narrow.verdict is Verdict.CLEAR
    # These two do mistake it for a copier: why they carry no verdict.
    assert narrow.data_copying.p_value < 1e-6
    assert narrow.authenticity.p_value < 1e-2


@pytest.mark.parametrize("dim", [1, 3, 20])
@pytest.mark.parametrize("coarse", [False, True])
def test_a_ready_sweep_changes_nothing(dim, coarse):
    """Ties longer than a list, too: most coarse points have many equally near ones, of both kinds."""
    from evaluation.sweep import sweep

    rng = rng_of(dim)
    train, test, points = (rng.standard_normal((n, dim)) for n in (130, 90, 110))
    if coarse:
        train, test, points = (np.round(rows if dim > 1 else 2 * rows) for rows in (train, test, points))
    swept = sweep(generated=points, train=train, test=test, k=5, rules=())
    plain = copy_tests(generated=points, train=train, test=test, rng=rng_of(7))
    shared = copy_tests(generated=points, train=train, test=test, rng=rng_of(7), swept=swept)
    for name in ("verdict", "share", "authenticity", "exact", "repeats", "note"):
        assert getattr(shared, name) == getattr(plain, name), name
    assert shared.data_copying.score == plain.data_copying.score
    assert shared.data_copying.p_value == plain.data_copying.p_value
    with pytest.raises(InputError, match="swept="):
        copy_tests(generated=points[1:], train=train, test=test, rng=rng, swept=swept)


def test_few_samples_are_one_cell():
    """Of 25 samples no cell of three has enough: C_T is that of a single cell."""
    found = copy_tests(generated=FAKE[:25], train=REAL, test=TEST, rng=rng_of(0))
    whole = data_copying(generated=FAKE[:25], train=REAL, test=TEST, cells=1, rng=rng_of(1))
    assert found.data_copying.score == whole.score
    assert len(found.data_copying.z) == 1


def test_common_values_are_no_copies():
    """Rounded data, and a generator that keeps to the middle: it repeats train more than held-out data do, honestly."""
    rng, flagged, higher = rng_of(10), 0, 0
    for _ in range(40):
        x = np.round(3 * rng.standard_normal((600, 3)))
        found = copy_tests(
            generated=np.round(rng.standard_normal((200, 3))), train=x[:300], test=x[300:], rng=rng, alpha=0.1
        )
        flagged += found.exact.p_value < 0.1
        higher += found.exact.score.value > found.exact.null.value + 0.1
    assert higher >= 38
    # 40 trials at 10 %: more than 10 with probability 0.2 %.
    assert flagged <= 10


@pytest.mark.parametrize("test", [None, TEST[:19]])
def test_without_held_out_data_nothing_is_concluded(test):
    found = copy_tests(generated=REAL[:50], train=REAL, test=test, rng=rng_of(0))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.share is None
    assert "test=" in found.note


@pytest.mark.parametrize("support", [np.full(2000, 1 / 2000), 1 / np.arange(1, 2001)], ids=["uniform", "zipf"])
def test_support_intervals_cover(support):
    rng, law = rng_of(4), support / support.sum()
    truth, covered = 1 / float(law @ law), 0
    for _ in range(200):
        covered += support_size(generated=rng.choice(2000, 300, p=law)).size.agrees(truth)
    # 200 trials at 95 %: below 0.9 with probability 0.3 %.
    assert covered / 200 >= 0.9


def test_birthdays():
    found = support_size(generated=rng_of(5).permutation(1000))
    assert (found.pairs, found.size.value) == (0, math.inf)
    assert found.size.interval[0] == pytest.approx(499_500 / 3.6889, rel=1e-4)
    year = support_size(generated=np.repeat(np.arange(365.0), 1)[rng_of(6).integers(0, 365, 4000)])
    assert year.size.agrees(365)
    assert year.batch == pytest.approx(23, abs=1)
    crowd = support_size(generated=np.zeros((50, 3)))
    assert crowd.size.value == 1.0
    assert crowd.repeated == 50


def test_near_repeats_beside_the_reference():
    rng, flagged = rng_of(7), 0
    for _ in range(100):
        x = rng.standard_normal((500, 3))
        flagged += support_size(generated=x[:300], reference=x[300:]).p_value < 0.1
    # 100 trials at 10 %: above 19 with probability 0.2 %.
    assert 0 < flagged <= 19
    faces = rng.standard_normal((100, 3))
    repeated = faces[rng.integers(0, 100, 300)] + 1e-4 * rng.standard_normal((300, 3))
    found = support_size(generated=repeated, reference=x[300:])
    assert found.p_value < 1e-6
    assert found.size.agrees(100)
    assert found.null.value == math.inf
    given = support_size(generated=repeated, reference=x[300:], tolerance=0.01)
    assert given.p_value < 1e-6
    np.testing.assert_allclose(given.size.value, found.size.value, rtol=0.05)


def test_vendi_ratio():
    rng = rng_of(9)
    covered = []
    for _ in range(60):
        x = rng.standard_normal((500, 5))
        covered.append(vendi_ratio(generated=x[:300], reference=x[300:]).agrees(1.0))
    # 60 trials at 95 %: below 0.85 with probability 0.1 %.
    assert np.mean(covered) >= 0.85
    few = rng.standard_normal((3, 5))[rng.integers(0, 3, 200)] + 0.1 * rng.standard_normal((200, 5))
    assert vendi_ratio(generated=few, reference=x).interval[1] < 0.8


def test_moved_and_mirrored_copies_need_their_views():
    rng = rng_of(8)
    order = rng.permutation(len(DIGITS.images))
    # Digits lie at the border of their 8 × 8 pixels: a frame leaves room to move them.
    images = np.pad(DIGITS.images[order], ((0, 0), (2, 2), (2, 2)))
    train, test, x = images[:500], images[500:800], images[800:1000].copy()
    x[:20] = np.roll(train[:20], 1, axis=2)
    x[20:40] = train[20:40, :, ::-1]
    rows = [part.reshape(len(part), -1) for part in (x, train, test)]
    blind = memorization(generated=rows[0], train=rows[1], test=rows[2])
    assert blind.verdict is Verdict.CLEAR
    seeing = memorization(
        generated=rows[0], train=rows[1], test=rows[2], invariant=Views(shape=(12, 12), shift=1, mirror=True)
    )
    assert seeing.verdict is Verdict.FLAGGED
    assert {s.generated for s in seeing.suspects if s.score == 0} == set(range(40))
    assert [s.train for s in sorted(seeing.suspects[:40], key=lambda s: s.generated)] == list(range(40))
    fair = memorization(
        generated=rows[0][40:], train=rows[1], test=rows[2], invariant=Views(shape=(12, 12), shift=1, mirror=True)
    )
    assert fair.verdict is Verdict.CLEAR


def test_views_are_what_they_say():
    image = np.arange(6.0).reshape(2, 3)
    views = Views(shape=(2, 3), shift=1, mirror=True, embed=lambda rows: 2 * rows)
    seen = np.stack([view[0] / 2 for view in views.of(image.reshape(1, 6))]).reshape(-1, 2, 3)
    assert seen.shape == (18, 2, 3)
    np.testing.assert_array_equal(seen[0], image)
    np.testing.assert_array_equal(seen[9], image[:, ::-1])
    padded = np.pad(image, 1, mode="edge")
    shifts = {padded[a : a + 2, b : b + 3].tobytes() for a in range(3) for b in range(3)}
    assert {view.tobytes() for view in seen[:9]} == shifts
    coloured = Views(shape=(2, 3, 2), shift=1)
    assert len(list(coloured.of(np.ones((4, 12))))) == 9


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: copy_tests(generated=[[np.nan] * 8], train=REAL, test=TEST, rng=rng_of(0)), "generated="),
        (lambda: copy_tests(generated=FAKE[:, :3], train=REAL, test=TEST, rng=rng_of(0)), "generated="),
        (lambda: copy_tests(generated=FAKE, train=REAL[:3], test=TEST, rng=rng_of(0)), "train="),
        (lambda: copy_tests(generated=FAKE, train=REAL, test=TEST[:, :3], rng=rng_of(0)), "test="),
        (lambda: copy_tests(generated=FAKE, train=REAL, test=TEST, alpha=1.0, rng=rng_of(0)), "alpha="),
        (lambda: data_copying(generated=FAKE, train=REAL, test=TEST, cells=0, rng=rng_of(0)), "cells="),
        (lambda: data_copying(generated=FAKE, train=REAL, test=TEST, cells=999, rng=rng_of(0)), "cells="),
        (lambda: data_copying(generated=FAKE, train=REAL, test=TEST, cells=lambda x: x, rng=rng_of(0)), "cells="),
        (lambda: data_copying(generated=FAKE[:30], train=REAL, test=TEST, cells=9, rng=rng_of(0)), "cells="),
        (lambda: support_size(generated=[[1.0]]), "generated="),
        (lambda: support_size(generated=FAKE, tolerance=-1.0), "tolerance="),
        (lambda: support_size(generated=FAKE, reference=FAKE[:, :2]), "reference="),
        (lambda: support_size(generated=FAKE, reference=FAKE[[0, 0]]), "reference="),
        (lambda: Views(shape=(8,)), "shape"),
        (lambda: Views(shape=(8, 8), shift=8), "shift"),
        (lambda: memorization(generated=FAKE, train=REAL, test=TEST, invariant=Views(shape=(3, 3))), "invariant="),
    ],
)
def test_bad_input(call, word):
    with pytest.raises(InputError, match=word):
        call()
