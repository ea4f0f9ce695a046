"""Six scales of one divergence: against the reference values and against each other."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from divergences import RESCALINGS, Discrete, Estimate, Gaussian, InputError, js_distance, jsd, rescale_jsd

# N(0, 1) and N(2, 1), to twenty digits.
TRUTH = {
    "jsd": 0.336830820346831612,
    "bits": 0.48594415413293532011,
    "distance": 0.58037127801678092,
    "twice": 0.673661640693663224,
    "goodfellow": -0.71263272042622739482,
    "half": -0.35631636021311369741,
}


@pytest.mark.parametrize("source", TRUTH)
@pytest.mark.parametrize("to", TRUTH)
def test_every_pair_of_scales(source, to):
    result = rescale_jsd(TRUTH[source], source=source, to=to)
    assert result.value == pytest.approx(TRUTH[to], abs=2e-16)
    assert result.agrees(TRUTH[to])
    assert result.error < 1e-14


def test_of_computed_numbers():
    p, q = Gaussian(0.0, 1.0), Gaussian(2.0, 1.0)
    assert rescale_jsd(jsd(p, q), to="distance").agrees(js_distance(p, q))
    assert rescale_jsd(jsd(p, q), to="bits").agrees(jsd(p, q).bits)
    a, b = np.array([0.36, 0.48, 0.16]), np.ones(3) / 3
    points = np.arange(3.0)
    ours = rescale_jsd(float(jensenshannon(a, b)), source="distance", to="jsd")
    assert ours.agrees(jsd(Discrete(points, a), Discrete(points, b)))


@given(st.floats(0, math.log(2)), st.floats(0, 0.3), st.sampled_from(sorted(RESCALINGS)))
def test_intervals_travel(value, error, to):
    there = rescale_jsd(Estimate(value, error, level=0.95), to=to)
    assert there.level == 0.95
    low, high = there.interval
    assert low <= there.value <= high
    inside = [min(max(value + error * t, 0.0), math.log(2)) for t in (-1.0, -0.5, 0.5, 1.0)]
    assert all(low <= RESCALINGS[to].of_jsd(number) <= high for number in inside)
    assert rescale_jsd(there, source=to, to="jsd").value == pytest.approx(value, abs=1e-12)


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="another scale"):
        rescale_jsd(-0.7, source="jsd", to="bits")
    with pytest.raises(InputError, match="another scale"):
        rescale_jsd(0.83, source="half", to="bits")
    with pytest.raises(InputError, match="to must be one of"):
        rescale_jsd(0.1, to="nats")
    with pytest.raises(InputError, match="value"):
        rescale_jsd(float("nan"), to="bits")
    # Rounding is not a wrong scale.
    assert rescale_jsd(-1e-17, to="distance").value == 0.0
