import json

import pytest

from divergences import Estimate


def test_intervals_and_agreement():
    a = Estimate(1.0, 0.1)
    assert a.interval == (0.9, 1.1)
    assert a.agrees(1.05)
    assert not a.agrees(1.2)
    assert a.agrees(Estimate(1.25, 0.2))
    assert not a.agrees(Estimate(1.4, 0.2))
    assert Estimate(0.3, 0.0).agrees(0.1 + 0.2)  # one unit in the last place is rounding, not disagreement
    assert not Estimate(0.3, 0.0).agrees(0.3 + 1e-14)


def test_asymmetric_bounds():
    share = Estimate(1.0, 0.05, level=0.95, bounds=(0.9, 1.0))
    assert share.interval == (0.9, 1.0)
    assert share.agrees(0.91)
    assert not share.agrees(1.04)


def test_infinity_is_an_answer():
    infinite = Estimate(float("inf"), 0.0, note="no mass")
    assert infinite.agrees(float("inf"))
    assert not infinite.agrees(1e300)
    assert not Estimate(1.0, 0.5).agrees(float("inf"))
    assert str(infinite) == "∞"
    assert json.loads(json.dumps(infinite.to_dict(), allow_nan=False))["value"] == "inf"


@pytest.mark.parametrize("bad", [(float("nan"), 0.0), (1.0, -1.0), (1.0, float("nan"))])
def test_refuses_what_is_no_number(bad):
    with pytest.raises(ValueError, match="error ≥ 0"):
        Estimate(*bad)


def test_is_frozen_and_has_no_arithmetic():
    estimate = Estimate(1.0, 0.1)
    with pytest.raises(AttributeError):
        estimate.value = 2.0
    with pytest.raises(TypeError):
        estimate + estimate
