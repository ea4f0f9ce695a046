"""The targets are what their names say: the published traps are tested for."""

import numpy as np
import pytest

from divergences import InputError
from divergences.distributions import parts_of
from toygen.targets import TARGETS, grid, ring, target_by_name, two_peaks


def means(law):
    return np.stack([part.mean for part in parts_of(law)[1]])


def test_the_ring_has_eight_distinct_modes_of_equal_weight():
    # A linspace that runs to 2π inclusive repeats the first mode: seven modes, one of double weight.
    law = ring()
    distances = np.linalg.norm(means(law)[:, None] - means(law)[None], axis=2)
    assert distances[~np.eye(8, dtype=bool)].min() == pytest.approx(2 * np.sin(np.pi / 8), rel=1e-12)
    assert np.linalg.norm(means(law), axis=1) == pytest.approx(np.ones(8))
    assert law.weights == pytest.approx(np.full(8, 1 / 8))
    labels = np.argmin(np.linalg.norm(law.sample(8000, np.random.default_rng(0))[:, None] - means(law), axis=2), axis=1)
    assert np.abs(np.bincount(labels, minlength=8) - 1000).max() < 5 * np.sqrt(1000)


def test_scale_is_a_standard_deviation():
    for law, scale in ((ring(scale=0.02), 0.02), (grid(scale=0.3), 0.3)):
        for part in parts_of(law)[1]:
            assert part.cov == pytest.approx(scale**2 * np.eye(2))
    assert two_peaks(scales=(0.5, 2.0)).components[1].cov[0, 0] == 4.0


def test_the_grid_is_the_published_one():
    expected = {(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)}
    assert {tuple(mean) for mean in means(grid())} == expected
    assert means(grid(side=2, spacing=3.0)).tolist() == [[-1.5, -1.5], [-1.5, 1.5], [1.5, -1.5], [1.5, 1.5]]


def test_two_peaks_live_on_the_line():
    law = two_peaks(means=(-3.0, 1.0), weights=(0.25, 0.75))
    assert law.dim == 1
    assert law.cdf([-1.0])[0] == pytest.approx(0.25, abs=1e-9)


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_is_found_by_name(name):
    law = target_by_name(name)
    assert law.sample(3, np.random.default_rng(0)).shape == (3, law.dim)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ring(0), "modes must be at least 1"),
        (lambda: ring(radius=-1.0), "radius"),
        (lambda: ring(scale=0.0), "scale"),
        (lambda: grid(2.5), "side must be a whole number"),
        (lambda: grid(spacing=float("nan")), "spacing"),
        (lambda: two_peaks(means=(1.0, 1.0)), "means different"),
        (lambda: two_peaks(scales=(1.0, -1.0)), "scales must be positive"),
        (lambda: two_peaks(weights=(0.5, 0.6)), "weights must sum to 1"),
        (lambda: target_by_name("spiral"), "ring, grid, two_peaks"),
    ],
)
def test_misuse_is_named(make, match):
    with pytest.raises(InputError, match=match):
        make()
