"""The share of repeated samples: by naive counting, over random parts of a set, and how often its interval is right."""

import numpy as np
import pytest

from divergences import InputError
from evaluation.neighbors import nearest_others
from evaluation.repeats import repeated_share


def rng_of(seed):
    return np.random.default_rng(seed)


def naive(rows):
    return float(np.mean([sum(np.array_equal(a, b) for b in rows) > 1 for a in rows]))


def test_the_share_is_the_counted_one_with_lists_and_without():
    for seed, dim in ((0, 1), (1, 2), (2, 12)):
        rows = rng_of(seed).integers(0, 3 if dim < 12 else 2, size=(60, dim)).astype(float)
        rows[3] = -rows[3]  # 0 and -0 are equal
        found = repeated_share(generated=rows)
        assert found.value == pytest.approx(naive(rows), abs=1e-15)
        assert repeated_share(generated=rows, lists=nearest_others(rows, 3)) == found
    none = repeated_share(generated=rng_of(3).normal(size=(50, 2)))
    assert none.value == none.interval[0] == 0.0
    # Repeats come in twos: no pair among 50 is as good as no hit in 25 trials.
    assert none.interval[1] == pytest.approx(1 - 0.025 ** (1 / 25), rel=1e-9)
    assert repeated_share(generated=np.ones((9, 2))).value == 1.0


def test_part_of_a_set_is_the_mean_over_parts():
    rows = np.repeat(np.arange(12.0), rng_of(0).integers(1, 6, 12))
    draw = rng_of(1)
    for size in (2, 10, len(rows) // 2, len(rows)):
        parts = [naive(draw.permutation(rows)[:size]) for _ in range(200)]
        found = repeated_share(generated=rows, size=size)
        assert abs(np.mean(parts) - found.value) <= 4.5 * np.std(parts) / np.sqrt(200) + 1e-12
    # Every pair of rows is as likely: the share of equal ones among two.
    equal = rows[:, None] == rows
    by_hand = (equal.sum() - len(rows)) / (len(rows) * (len(rows) - 1))
    assert repeated_share(generated=rows, size=2).value == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize(
    ("seed", "law"),
    [
        (0, np.full(20_000, 1 / 20_000)),
        (1, np.full(150, 1 / 150)),
        (2, np.r_[0.3, np.full(10_000, 0.7 / 10_000)]),
        (3, 1 / np.arange(1, 1500) / (1 / np.arange(1, 1500)).sum()),
    ],
    ids=["rare", "common", "stuck", "uneven"],
)
def test_the_interval_holds_the_expected_share(seed, law):
    """Against n draws' expected share in closed form, Σ p(1 − (1−p)^(n−1)); 300 sets at 95 %."""
    n, draw, held, values = 100, rng_of(seed), 0, []
    truth = float((law * (1 - (1 - law) ** (n - 1))).sum())
    for _ in range(300):
        found = repeated_share(generated=draw.choice(len(law), size=n, p=law).astype(float))
        held += found.interval[0] <= truth <= found.interval[1]
        values.append(found.value)
    # Four standard errors of 300 below 95 %; the share itself is without bias.
    assert held >= 0.90 * 300
    assert abs(np.mean(values) - truth) <= 4 * np.std(values) / np.sqrt(300) + 1e-12


def test_what_cannot_be_asked_is_refused():
    for wrong, match in (
        ({"generated": [1.0]}, "generated="),
        ({"generated": [1.0, 2.0], "size": 3}, "size= is 3"),
        ({"generated": [1.0, 2.0], "size": 1}, "size="),
        ({"generated": [1.0, 2.0], "lists": nearest_others([1.0, 2.0, 3.0], 1)}, "lists="),
        ({"generated": [1.0, np.nan]}, "generated="),
    ):
        with pytest.raises(InputError, match=match):
            repeated_share(**wrong)
