"""Labelled modes: digits with planted losses, and the statistics against simulation with a known confusion."""

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_digits

from divergences import InputError
from evaluation import labelled
from evaluation.detection import class_losses
from evaluation.labelled import _Draws, corrected_shares, counted_modes, labelled_modes

X, Y = load_digits(return_X_y=True)
ORDER = np.random.default_rng(0).permutation(len(X))
TRAIN, HELD_OUT = ORDER[:1000], ORDER[1000:]


def confusion(size, accuracy):
    matrix = np.full((size, size), (1 - accuracy) / (size - 1))
    np.fill_diagonal(matrix, accuracy)
    return matrix


def test_perfect_generator_of_digits():
    found = labelled_modes(generated=X[HELD_OUT], train=X[TRAIN], labels=Y[TRAIN], rng=np.random.default_rng(1))
    assert found.missing == ()
    assert found.undecided == ()
    assert found.accuracy.value > 0.95
    assert found.classes == tuple(range(10))
    true = np.bincount(Y[HELD_OUT], minlength=10) / len(HELD_OUT)
    # The sample's own shares are known here; only the confusion is left to correct.
    np.testing.assert_allclose([record.share.value for record in found.per_class], true, atol=0.02)
    assert sum(record.raw_count for record in found.per_class) == found.n == len(HELD_OUT)
    np.testing.assert_allclose(found.confusion.sum(axis=1), 1)


def test_dropped_digits_are_named():
    kept = HELD_OUT[~np.isin(Y[HELD_OUT], [3, 7])]
    names = np.array([f"digit {k}" for k in range(10)])
    found = labelled_modes(generated=X[kept], train=X[TRAIN], labels=names[Y[TRAIN]], rng=np.random.default_rng(2))
    assert found.missing == ("digit 3", "digit 7")
    for record in found.per_class:
        if record.label in found.missing:
            assert record.share.agrees(0.0)
            assert record.share.value < 0.01
            assert record.share.interval[1] > 0.001


def test_same_seed_same_answer():
    def once():
        return labelled_modes(generated=X[:200], train=X[TRAIN], labels=Y[TRAIN], rng=np.random.default_rng(3))

    assert once().per_class == once().per_class


def test_a_poor_classifier_or_few_samples_are_undecided():
    rng = np.random.default_rng(4)
    noise, labels = rng.standard_normal((200, 5)), np.repeat([0, 1, 2, 3], 50)
    found = labelled_modes(generated=rng.standard_normal((300, 5)), train=noise, labels=labels, rng=rng)
    assert found.missing == ()
    assert set(found.undecided) == {0, 1, 2, 3}
    assert "could go unnoticed" in found.power_note
    few = labelled_modes(generated=X[HELD_OUT[:15]], train=X[TRAIN], labels=Y[TRAIN], rng=rng)
    assert few.missing == ()
    assert len(few.undecided) == 10


def test_correction_inverts_the_confusion():
    matrix = confusion(4, 0.7)
    shares = np.array([[0.5, 0.3, 0.2, 0.0], [0.25, 0.25, 0.25, 0.25]])
    found = corrected_shares(shares @ matrix, np.stack([matrix, matrix]))
    np.testing.assert_allclose(found, shares, atol=2e-3)


@pytest.mark.parametrize(
    ("size", "accuracy", "n", "per_class"), [(5, 0.95, 400, 60), (4, 0.75, 500, 50)], ids=["good", "poor"]
)
def test_error_rate_power_and_coverage(monkeypatch, size, accuracy, n, per_class):
    monkeypatch.setattr(labelled, "_BOOTSTRAPS", 60)
    monkeypatch.setattr(labelled, "_FEWEST_BOOTSTRAPS", 60)
    monkeypatch.setattr(labelled, "_EM_TOLERANCE", 1e-5)
    rng = np.random.default_rng(5)
    matrix, margin = confusion(size, accuracy), np.full(size, 0.5 / size)

    def simulate(share, trials):
        """Rejections of class 0 at 5 %, and coverage of every interval, when class 0 has this share."""
        shares = np.full(size, (1 - share) / (size - 1))
        shares[0] = share
        rejected, covered = 0, []
        for _ in range(trials):
            counts = np.stack([rng.multinomial(per_class, row) for row in matrix])
            draws = _Draws.counted(rng.multinomial(n, shares @ matrix), counts, np.full(size, 1 / size), rng)
            rejected += draws.p_values(margin)[0] < 0.05
            covered.append([e.agrees(s) for e, s in zip(draws.shares(), shares, strict=True)])
        return rejected / trials, np.mean(covered)

    rejected, covered = simulate(0.5 / size, 100)
    # Exactly at the margin: 5 %, + 2.5 standard errors of 100 trials.
    assert rejected <= 0.11
    # At 95 % the mean over 100 trials has a standard error of up to 2.2 % (a trial's intervals hang together).
    assert covered >= 0.9
    rejected, covered = simulate(0.0, 30)
    assert rejected >= 0.9
    assert covered >= 0.88


def test_the_least_loss_of_a_class_is_the_exact_one():
    """One draw, so all is binomial: no smaller loss is found with probability 0.95, and the critical count is right."""
    n, share, recall, leak, level = 800, 0.1, 0.9, 0.02, 0.005
    (loss,), (power,) = class_losses(
        n, np.array([share]), np.array([[recall]]), np.array([[leak]]), margin=0.5, level=level
    )

    def answered(kept):
        return stats.binom(n, kept * share * recall + (1 - kept * share) * leak)

    critical = answered(0.5).ppf(level) - 1
    assert power == pytest.approx(answered(0.0).cdf(critical))
    assert 0.5 < loss < 1
    assert answered(1 - loss).cdf(critical) >= 0.95
    assert answered(1 - loss + 2e-4).cdf(critical) < 0.95
    assert np.isinf(class_losses(60, np.array([share]), np.array([[recall]]), np.array([[leak]]), 0.5, level)[0]).all()


def test_what_is_called_findable_is_found(monkeypatch):
    """Classifiers of all kinds, measured on few examples: a complete loss that is not undecided is found."""
    monkeypatch.setattr(labelled, "_BOOTSTRAPS", 200)
    rng = np.random.default_rng(9)
    size, level = 6, 0.05 / 6
    fair, shares = np.full(size, 1 / size), np.r_[0, np.full(size - 1, 1 / (size - 1))]
    decided, found, naive = [], [], []
    for _ in range(200):
        n, recall = int(rng.integers(100, 1500)), rng.uniform(0.6, 0.99, size)
        matrix = np.zeros((size, size))
        matrix[~np.eye(size, dtype=bool)] = (
            rng.dirichlet(np.full(size - 1, 0.5), size) * (1 - recall)[:, None]
        ).ravel()
        np.fill_diagonal(matrix, recall)
        counts = np.stack([rng.multinomial(24, row) for row in matrix])
        draws = _Draws.counted(rng.multinomial(n, shares @ matrix), counts, fair, rng)
        decided.append(np.isfinite(class_losses(n, fair, draws.recall, draws.fair_leak, 0.5, level)[0][0]))
        found.append(draws.p_values(0.5 * fair)[0] < level)
        measured = counts / 24
        leak = (fair @ measured - fair * np.diag(measured)) / (1 - fair)
        naive.append(np.isfinite(class_losses(n, fair, np.diag(measured)[None], leak[None], 0.5, level)[0][0]))
    decided, found, naive = np.array(decided), np.array(found), np.array(naive)
    assert decided.sum() >= 40
    # 95 % less 1.6 standard errors of forty; a confusion that is taken as measured promises too much.
    assert found[decided].mean() >= 0.9 > found[naive].mean()


def test_at_half_a_share_missing_is_rare_and_at_none_it_is_certain_for_every_n():
    matrix = np.round(100 * confusion(10, 0.98)).astype(np.int64)
    draws = _Draws.counted(np.r_[0, np.full(9, 50)], matrix, np.full(10, 0.1), np.random.default_rng(6))
    p_values = draws.p_values(np.full(10, 0.05))
    assert p_values[0] < 1e-6
    assert (p_values[1:] > 0.9).all()
    assert draws.shares()[0].interval[0] == 0
    # Exact zero-count limit without confusion is 1 − 0.025^(1/450) = 0.0082.
    assert 0.006 < draws.shares()[0].interval[1] < 0.02


def test_any_classifier_will_do():
    """The nearest class mean of half of train, judged on the other half: its errors are measured and corrected for."""
    means = np.stack([X[TRAIN[:500]][Y[TRAIN[:500]] == k].mean(axis=0) for k in range(10)])

    def nearest_mean(x):
        return ((x[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)

    kept = HELD_OUT[Y[HELD_OUT] != 8]
    judged = TRAIN[500:]
    arguments = {"train": X[judged], "labels": Y[judged], "classifier": nearest_mean}
    found = labelled_modes(generated=X[kept], rng=np.random.default_rng(7), **arguments)
    assert found.missing == (8,)
    # It takes some for an 8 that are none.
    assert found.per_class[8].raw_count > 3
    assert found.per_class[8].share.agrees(0.0)
    expected = np.mean(nearest_mean(X[judged]) == Y[judged])
    assert found.accuracy.value == pytest.approx(expected)
    assert "given" in found.judge
    with pytest.raises(InputError, match="class 99"):
        labelled_modes(
            generated=X, rng=np.random.default_rng(7), **(arguments | {"classifier": lambda x: [99] * len(x)})
        )
    with pytest.raises(InputError, match="classifier=.*one per sample"):
        labelled_modes(generated=X, rng=np.random.default_rng(7), **(arguments | {"classifier": lambda x: x}))
    with pytest.raises(InputError, match="counted_modes"):
        labelled_modes(generated=X, rng=np.random.default_rng(7), **(arguments | {"classifier": Y}))


def test_labels_that_are_given():
    rng = np.random.default_rng(8)
    labels = np.repeat(np.arange(1000), 5)
    drawn = rng.integers(0, 990, 50_000)
    found = counted_modes(generated_labels=drawn, labels=labels, rng=rng)
    assert set(found.missing) == set(range(990, 1000))
    assert found.undecided == ()
    exact = stats.binomtest(found.per_class[0].raw_count, 50_000).proportion_ci(method="exact")
    np.testing.assert_allclose(found.per_class[0].share.interval, exact, atol=2e-6)
    assert "face value" in found.judge
    # A labeller that takes every tenth 0 for a 1 hides the loss of class 1, unless his errors are known.
    truth = np.repeat([0, 1, 2], 200)
    answers = np.where((truth == 0) & (np.arange(600) % 5 < 2), 1, truth)
    seen = np.where(rng.random(900) < 0.4, 1, 0) * (np.arange(900) < 600) + 2 * (np.arange(900) >= 600)
    hidden = counted_modes(generated_labels=seen, labels=truth, rng=rng)
    known = counted_modes(generated_labels=seen, labels=truth, answers=answers, rng=rng)
    assert (hidden.missing, known.missing) == ((), (1,))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"generated_labels": []}, "generated_labels="),
        ({"generated_labels": [[0, 1]]}, "generated_labels="),
        ({"generated_labels": ["a"]}, "generated_labels=.*dtype"),
        ({"generated_labels": [np.nan]}, "generated_labels=.*nan"),
        ({"labels": np.zeros((3, 3))}, "labels="),
        ({"answers": [0, 1]}, "answers="),
    ],
)
def test_bad_labels(arguments, word):
    good = {"generated_labels": [0, 1], "labels": [0, 1] * 5, "rng": np.random.default_rng(0)}
    with pytest.raises(InputError, match=word):
        counted_modes(**(good | arguments))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"labels": Y[:99]}, "labels="),
        ({"labels": Y[:100].reshape(50, 2)}, "labels="),
        ({"labels": np.zeros(100)}, "labels=.*two classes"),
        ({"labels": np.r_[np.zeros(97), 7, 7, 7]}, "3 examples of class 7"),
        ({"labels": ["a"] * 99 + ["bird"]}, "1 example of class bird"),
        ({"labels": np.r_[np.full(50, 0.5), np.ones(50)]}, "labels=.*whole"),
        ({"labels": np.full(100, np.nan)}, "labels=.*NaN"),
        ({"labels": np.full(100, None)}, "labels="),
        ({"generated": np.ones((5, 63))}, "generated="),
        ({"generated": np.full((5, 64), np.inf)}, "generated="),
        ({"generated": np.empty((0, 64))}, "generated="),
        ({"train": X[:100].reshape(100, 8, 8)}, "train="),
        ({"margin": 2.0}, "margin="),
        ({"alpha": 0.0}, "alpha="),
    ],
)
def test_bad_input(arguments, word):
    good = {"generated": X[100:110], "train": X[:100], "labels": Y[:100], "rng": np.random.default_rng(0)}
    with pytest.raises(InputError, match=word):
        labelled_modes(**(good | arguments))
