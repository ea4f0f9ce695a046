"""Likelihoods: exact ones against entropies, Parzen windows, and the k-means model that beats the truth."""

import math

import numpy as np
import pytest
from sklearn.datasets import load_digits

from divergences import Gaussian, InputError, NoDensity, Uniform
from evaluation.kde import KDE
from evaluation.parzen import log_likelihood, parzen

DIGITS = load_digits().data[np.random.default_rng(0).permutation(1797)]


def test_exact_likelihood_covers_minus_cross_entropy():
    p, q = Gaussian([0.0, 1.0], [[1.0, 0.5], [0.5, 2.0]]), Gaussian([0.2, 0.8], np.eye(2))
    gap = np.array([-0.2, 0.2])
    truth = -math.log(2 * math.pi) - 0.5 * (3.0 + gap @ gap)
    rng = np.random.default_rng(1)
    covered = np.mean([log_likelihood(law=q, test=p.sample(300, rng)).agrees(truth) for _ in range(300)])
    # 300 draws at 95 %: below 0.91 with probability 0.3 %.
    assert covered >= 0.91
    outside = log_likelihood(law=Uniform(0.0, 1.0), test=[0.5, 1.5, 2.5])
    assert outside.value == -math.inf
    assert "2 of 3" in outside.note


def test_k_means_beats_the_truth():
    """On digits, in 64 dimensions, centres score above as many real samples, and the warning says so."""
    train, validation, test = DIGITS[:1200], DIGITS[1200:1400], DIGITS[1500:]
    found = parzen(generated=train[:200], test=test, validation=validation, train=train, rng=np.random.default_rng(2))
    assert found.codebook.interval[0] > found.real.interval[1]
    assert "k-means centres score" in found.warning
    assert found.log_likelihood.agrees(found.real)
    assert found.chosen_on == "validation data"


def test_where_parzen_windows_work_there_is_no_warning():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((4000, 1))
    found = parzen(generated=x[:500], test=x[500:1500], train=x[1500:], rng=rng)
    assert found.warning == ""
    entropy = 0.5 * math.log(2 * math.pi * math.e)
    assert found.log_likelihood.value == pytest.approx(-entropy, abs=0.08)
    assert "pass train=" in parzen(generated=x[:50], test=x[50:90], rng=rng).warning


def test_the_bandwidth_is_the_best_for_validation_not_for_test():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((600, 3))
    found = parzen(generated=x[:200], validation=x[200:400], test=0.1 * x[400:], rng=rng)
    grid = found.bandwidth * np.exp(np.linspace(-1, 1, 21))
    scores = [KDE(x[:200], bandwidth=float(h)).log_prob(x[200:400]).mean() for h in grid]
    assert int(np.argmax(scores)) == 10
    compact = parzen(generated=x[:20], validation=x[200:400], test=x[400:] + 9, rng=rng, kernel="epanechnikov")
    assert compact.log_likelihood.value == -math.inf


@pytest.mark.parametrize(
    ("call", "error", "word"),
    [
        (lambda rng: parzen(generated=[[np.nan]] * 5, test=np.eye(1), rng=rng), InputError, "generated="),
        (lambda rng: parzen(generated=DIGITS[:9], test=DIGITS[:1], rng=rng), InputError, "test="),
        (lambda rng: parzen(generated=DIGITS[:9], test=DIGITS[:9, :3], rng=rng), InputError, "test="),
        (lambda rng: parzen(generated=DIGITS[:9], test=DIGITS[:9], train=DIGITS[:9], rng=rng), InputError, "train="),
        (lambda rng: parzen(generated=DIGITS[:9], test=DIGITS[:9], kernel="box", rng=rng), InputError, "kernel="),
        (lambda _: log_likelihood(law=Gaussian(0.0, 1.0), test=[1.0]), InputError, "test="),
        (lambda _: log_likelihood(law=lambda n, rng: rng.random(n), test=[1.0, 2.0]), NoDensity, "density"),
    ],
)
def test_bad_input(call, error, word):
    with pytest.raises(error, match=word):
        call(np.random.default_rng(0))
