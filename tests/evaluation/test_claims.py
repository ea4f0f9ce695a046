"""Claims about estimates from samples hold, and could fail."""

from dataclasses import replace

import numpy as np
import pytest

from divergences import Estimate
from evaluation.claims import CLAIMS, finite_slope


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_claim(claim):
    result = claim.check()
    assert result.agrees
    # An agreement within errors as large as the number would say nothing.
    assert result.tolerance < 0.25 * abs(result.right.value)


def test_the_measured_rate_is_that_of_its_own_dimension():
    rates = {claim.name: claim for claim in CLAIMS if "rate" in claim.name}
    assert rates["kde_rate_1d"].left().agrees(finite_slope(1))
    assert not rates["kde_rate_1d"].left().agrees(finite_slope(2))


def test_a_wrong_mass_would_show():
    mass = next(claim for claim in CLAIMS if claim.name == "kde_mass_epanechnikov_2d")
    assert not replace(mass, right=lambda: Estimate(1.001, 0.0)).check().agrees
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)
    assert np.isfinite([claim.right().value for claim in CLAIMS]).all()
