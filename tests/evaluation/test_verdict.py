"""FLAGGED beats INCONCLUSIVE beats CLEAR, in every order and number."""

import itertools

import pytest

from evaluation.verdict import Verdict, worst

RANK = {Verdict.CLEAR: 0, Verdict.INCONCLUSIVE: 1, Verdict.FLAGGED: 2}


@pytest.mark.parametrize("given", [list(c) for k in (1, 2, 3) for c in itertools.product(Verdict, repeat=k)])
def test_worst_is_the_highest_rank(given):
    assert worst(given) is max(given, key=RANK.__getitem__)
    assert worst(iter(given)) is worst(given)


def test_nothing_asked_is_no_pass():
    assert worst([]) is Verdict.INCONCLUSIVE


def test_texts_are_stable():
    assert [str(v) for v in Verdict] == ["clear", "flagged", "inconclusive"]
