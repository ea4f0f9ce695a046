"""The target in many dimensions: what a perfect generator scores on it, and what that costs."""

import resource
import subprocess
import sys
import time

import numpy as np
import pytest

from evaluation import mode_coverage
from toygen import embedded


def test_a_perfect_generator_in_fifty_dimensions():
    law = embedded(4, 30, 50)
    found = mode_coverage(generated=law.sample(2000, np.random.default_rng(0)), modes=law)
    assert (found.captured, found.missing, found.starved, found.shrunk, found.shifted) == (4, (), (), (), ())
    # The modes are 20 standard deviations apart: what one takes from another is nothing.
    assert found.high_quality_null == pytest.approx(0.98889, abs=1e-5)
    assert found.high_quality.agrees(found.high_quality_null)
    assert sum(shape.ratio.agrees(1.0) for shape in found.shapes) >= 3


def test_the_null_at_full_size():
    law = embedded()
    found = mode_coverage(generated=law.sample(300, np.random.default_rng(0)), modes=law)
    assert (found.captured, found.missing) == (10, ())
    assert found.high_quality_null == pytest.approx(0.98889, abs=1e-5)
    assert found.high_quality.agrees(found.high_quality_null)
    # Variances in 1200 dimensions are known well from 30 points: nothing overflows on the way to them.
    with np.errstate(all="raise", under="ignore"):
        ratios = [shape.ratio for shape in found.shapes]
    assert sum(ratio.agrees(1.0) for ratio in ratios) >= 8
    assert max(ratio.error for ratio in ratios) < 0.05


def test_the_origin_is_nearer_to_every_mode_than_its_samples_and_scores_nothing():
    law, rng = embedded(), np.random.default_rng(1)
    assert max(np.linalg.norm(part.mean) for part in law.components) < 14.2
    for width in (1e-6, 0.08):
        found = mode_coverage(generated=width * rng.standard_normal((300, 1200)), modes=law)
        assert (found.captured, found.high_quality.value) == (0, 0.0)
        assert found.missing == tuple(range(10))
    # One blob around the origin, as wide as to be where samples of a mode are: every mode is said to be out of place.
    first = law.components[0]
    blob = 0.93 * (first.sample(300, rng) - first.mean)
    found = mode_coverage(generated=blob, modes=law)
    assert found.high_quality.value > 0.9
    assert found.shifted == tuple(range(10))


@pytest.mark.slow
def test_the_command_at_full_size(tmp_path):
    words = "embedded --steps 4 --width 8 --batch 8 --train-size 200 --samples 100 --chunk 2 --members 2 --out"
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "toygen", *words.split(), str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "a perfect generator scores 0.989" in done.stdout
    assert time.monotonic() - start < 60
    # In kilobytes on Linux, of the largest child.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < 1.5e9
