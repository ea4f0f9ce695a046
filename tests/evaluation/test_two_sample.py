"""Two-sample tests: exact level, power against planted defects, published digits, ties, and honest errors."""

import numpy as np
import pytest

from divergences import InputError
from evaluation.two_sample import two_sample

REAL = np.random.RandomState(0).standard_normal((200, 8))  # noqa: NPY002 (a frozen, published stream)
FAKE = np.random.RandomState(1).standard_normal((150, 8)) * 0.9 + 0.2  # noqa: NPY002


def test_published_digits_of_the_neighbour_test():
    found = two_sample(generated=FAKE, test=REAL[:150], rng=np.random.default_rng(0), permutations=19)
    shares = found.neighbors.value, found.neighbors_test, found.neighbors_generated
    assert shares == pytest.approx((17 / 30, 8 / 15, 3 / 5), rel=1e-12)


def test_level_is_exact_and_errors_are_right():
    rng, rejected, values, errors = np.random.default_rng(1), [], [], []
    for _ in range(120):
        found = two_sample(
            generated=rng.standard_normal((40, 2)), test=rng.standard_normal((50, 2)), rng=rng, permutations=19
        )
        both = found.classifier, found.neighbors
        rejected.append([part.null.p_value <= 0.05 for part in both])
        values.append([part.value for part in both])
        errors.append([part.error for part in both])
    # Exactly 5 %: above 0.11 with probability 0.3 %, 0 with probability 0.2 %.
    assert (np.mean(rejected, axis=0) <= 0.11).all()
    assert (np.mean(rejected, axis=0) > 0).all()
    assert np.mean(values, axis=0) == pytest.approx(0.5, abs=0.025)
    ratio = np.std(values, axis=0) * 1.96 / np.mean(errors, axis=0)
    assert (ratio > 0.75).all()
    assert (ratio < 1.25).all()


@pytest.mark.parametrize(
    "defect",
    [lambda y: y + 0.35, lambda y: 1.5 * y, lambda y: np.abs(y), lambda y: np.concatenate([y[:100], y[:100]])],
    ids=["shift", "spread", "half missing", "everything twice"],
)
def test_defects_are_found(defect):
    rng = np.random.default_rng(2)
    found = two_sample(generated=defect(rng.standard_normal((200, 3))), test=rng.standard_normal((200, 3)), rng=rng)
    assert found.p_value <= 0.02


def test_recognisable_samples_score_high():
    rng = np.random.default_rng(3)
    y = rng.standard_normal((200, 2))
    y[:30] += 4
    found = two_sample(generated=y, test=rng.standard_normal((200, 2)), rng=rng)
    assert np.mean(found.scores[:30] > np.median(found.scores[30:])) > 0.9


def test_a_classifier_of_ones_own():
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(4)
    forest = RandomForestClassifier(30, random_state=0)
    y, x = rng.standard_normal((2, 200, 3))
    found = two_sample(generated=1.8 * y, test=x, rng=rng, classifier=forest)
    assert found.classifier.null.p_value <= 0.02
    assert np.isnan(found.scores).sum() == 100
    assert "trained on half" in found.classifier.method
    equal = [
        two_sample(generated=rng.standard_normal((40, 2)), test=rng.standard_normal((40, 2)), rng=rng,
                   classifier=_Slope(), permutations=19).classifier.null.p_value <= 0.05
        for _ in range(100)
    ]  # fmt: skip
    # Exactly 5 %: above 0.12 with probability 0.2 %, 0 with probability 0.6 %.
    assert 0 < np.mean(equal) <= 0.12


class _Slope:
    """Projects on the difference of means; overfits on purpose in its own way."""

    def fit(self, x, y):
        self.direction = x[y == 1].mean(axis=0) - x[y == 0].mean(axis=0)

    def decision_function(self, x):
        return x @ self.direction


def test_ties_favour_nobody():
    rng = np.random.default_rng(5)
    # Every point has many twins on both sides: the neighbour must be drawn blindly.
    rejected = [
        two_sample(
            generated=rng.integers(0, 2, (40, 1)), test=rng.integers(0, 2, (40, 1)), rng=rng, permutations=19
        ).neighbors.null.p_value <= 0.05
        for _ in range(60)
    ]  # fmt: skip
    assert np.mean(rejected) <= 0.15
    constant = two_sample(generated=np.ones((30, 2)), test=np.ones((30, 2)), rng=rng)
    assert constant.classifier.value == 0.5
    assert constant.p_value > 0.02


def test_same_seed_same_result():
    one, two = (two_sample(generated=FAKE, test=REAL, rng=np.random.default_rng(7), permutations=19) for _ in "ab")
    assert one.p_value == two.p_value
    np.testing.assert_array_equal(one.scores, two.scores)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_level_is_exact_in_two_thousand_tests():
    rng, p_values = np.random.default_rng(8), []
    for _ in range(2000):
        x, y = rng.standard_t(3, size=(15, 2)), rng.standard_t(3, size=(12, 2))
        found = two_sample(generated=y, test=x, rng=rng, permutations=19)
        p_values.append((found.classifier.null.p_value, found.neighbors.null.p_value, found.p_value))
    values = np.array(p_values)
    for level in (0.05, 0.25, 0.5):
        rate = (values <= level + 1e-12).mean(axis=0)
        blur = 3 * np.sqrt(level * (1 - level) / 2000)
        # The classifier's has no ties: exact either way. Shares of neighbours have, and ties count against the defect.
        assert rate[0] == pytest.approx(level, abs=blur)
        assert level / 3 < rate[1] <= level + blur
        assert rate[2] <= level + blur


@pytest.mark.slow
def test_errors_of_the_neighbour_share_cover_where_laws_differ():
    rng = np.random.default_rng(6)
    truth = np.mean(
        [
            two_sample(generated=rng.normal(0, 2, (200, 3)), test=rng.normal(size=(200, 3)), rng=rng, permutations=2)
            .neighbors.value
            for _ in range(400)
        ]
    )  # fmt: skip
    held = [
        two_sample(generated=rng.normal(0, 2, (200, 3)), test=rng.normal(size=(200, 3)), rng=rng, permutations=2)
        .neighbors.agrees(truth)
        for _ in range(400)
    ]  # fmt: skip
    assert 0.915 <= np.mean(held) <= 0.985


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"generated": FAKE[:5]}, "generated="),
        ({"generated": FAKE[:, :3]}, "generated=.*3.*8"),
        ({"test": [[np.inf] * 8] * 20}, "test="),
        ({"rng": 3}, "rng="),
        ({"classifier": "forest"}, "classifier="),
        ({"permutations": 0}, "permutations="),
    ],
)
def test_bad_input(arguments, word):
    with pytest.raises(InputError, match=word):
        two_sample(**({"generated": FAKE, "test": REAL, "rng": np.random.default_rng(0)} | arguments))
