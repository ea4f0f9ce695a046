"""The audit of stacked digits: planted losses of a mode, a pair and a class; perfect generators; bad input."""

import numpy as np
import pytest
from scipy import stats

from divergences import InputError
from evaluation import StackedDigits, audit
from evaluation.findings import decide
from evaluation.stacked_question import stacked_loss
from evaluation.verdict import Verdict

# Five classes, told apart by one pixel that is all but free of noise: what is tested is the counting.
CLASSES = 5


def digits(n, rng):
    labels = np.arange(n) % CLASSES
    images = np.full((n, 2, 2), 40.0) + 2 * rng.standard_normal((n, 2, 2))
    images[:, 0, 0] += 40.0 * labels
    return images, labels


def drawn(codes, rng):
    images = np.full((len(codes), 2, 2, 3), 40.0) + 2 * rng.standard_normal((len(codes), 2, 2, 3))
    images[:, 0, 0] += 40.0 * codes
    return images


def finding(codes, seed=0, level=0.04):
    rng = np.random.default_rng(seed)
    case = stacked_loss(generated=drawn(codes, rng), digits=StackedDigits(*digits(100, rng)), rng=rng, level=level)
    return decide([case], level)[0]


def codes(n, seed):
    return np.random.default_rng(seed).integers(0, CLASSES, (n, 3))


def test_what_was_lost_is_named_by_the_largest_union():
    own = codes(8000, 1)
    lost = finding(own[own[:, 0] != 3])
    assert lost.verdict is Verdict.FLAGGED
    assert lost.evidence["missing"] == ["3··"]
    assert lost.evidence["lost"][0]["modes"] == CLASSES**2
    pair = finding(own[(own[:, 0] != 1) | (own[:, 2] != 4)])
    assert pair.evidence["missing"] == ["1·4"]
    single = finding(own[(own != [2, 0, 4]).any(axis=1)])
    assert single.evidence["missing"] == ["204"]
    assert single.estimate.value == CLASSES**3 - 1


def test_a_class_is_missed_where_no_single_mode_could_be():
    own = codes(300, 2)
    lost = finding(own[own[:, 1] != 0])
    assert lost.evidence["missing"] == ["·0·"]
    # The same by scipy: expected 48 or more, and seen none.
    p = stats.binom.cdf(0, lost.estimate.n, 0.5 / CLASSES)
    tests = CLASSES**3 + 3 * CLASSES**2 + 3 * CLASSES
    assert lost.p_value == pytest.approx(p * tests, rel=1e-6)
    # With so few images nobody is cleared.
    assert finding(own).verdict is Verdict.INCONCLUSIVE


def test_perfect_generators_are_cleared():
    verdicts = [finding(codes(8000, 10 + seed), seed).verdict for seed in range(5)]
    assert verdicts == [Verdict.CLEAR] * 5


def test_in_an_audit_with_its_tables_and_pictures(tmp_path):
    rng = np.random.default_rng(4)
    images, labels = digits(100, rng)
    train, test = (drawn(codes(n, n), rng) for n in (150, 120))
    own = codes(600, 6)
    report = audit(
        generated=drawn(own[own[:, 0] != 3], rng), train=train, test=test, modes=StackedDigits(images, labels), rng=rng
    )
    assert report["mode loss"].verdict is Verdict.FLAGGED
    assert [f.name for f in report.findings] == ["mode loss", "distribution", "two-sample", "memorization"]
    text = report.to_text()
    assert "3··" in text
    assert "Stacks that were lost" in text
    page = report.to_html(tmp_path / "r.html").read_text(encoding="utf-8")
    assert "stacked to modes that were lost" in page


def test_digits_need_labels_and_images_three_channels():
    rng = np.random.default_rng(5)
    with pytest.raises(InputError, match="one label each"):
        StackedDigits(np.zeros((3, 2, 2)), [1, 2])
    with pytest.raises(InputError, match="grey images"):
        StackedDigits(np.zeros((3, 2)), [1, 2, 3])
    with pytest.raises(InputError, match="three channels"):
        stacked_loss(generated=np.zeros((9, 2, 2)), digits=StackedDigits(*digits(100, rng)), rng=rng)
