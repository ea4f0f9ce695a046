import math
import runpy
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "transport_and_quadrature.py"


@pytest.mark.filterwarnings("ignore:invalid value encountered in sqrt")
def test_the_benchmark_runs_and_our_rows_are_right():
    script = runpy.run_path(str(SCRIPT), run_name="benchmark")
    for task in script["tasks"](np.random.default_rng(0), quick=True):
        task.runs = 1
        lines = script["rows"](script["measure"](task))
        assert len(lines) == 1 + len(task.methods)
        value, claim = task.methods[0].answer
        assert task.methods[0].name == "mintmark"
        assert math.isclose(value, task.truth, rel_tol=1e-12, abs_tol=claim or 1e-12)
