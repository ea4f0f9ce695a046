"""The benchmarks measure what they say: our rows are right, and what is missing is said."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(params=["neighbors_and_manifold", "frechet_and_kernel", "kde"])
def script(request, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return runpy.run_path(str(FOLDER / f"{request.param}.py"), run_name="benchmark"), request.param


def _naive_prdc(real, fake, k=5):
    rr, ff, rf = cdist(real, real), cdist(fake, fake), cdist(real, fake)
    radius, other = np.sort(rr, axis=1)[:, k], np.sort(ff, axis=1)[:, k]
    inside = rf < radius[:, None]
    return {
        "precision": inside.any(axis=0).mean(),
        "recall": (rf < other).any(axis=1).mean(),
        "density": inside.sum() / (k * len(fake)),
        "coverage": (rf.min(axis=1) < radius).mean(),
    }


def test_our_rows_are_right(script, tmp_path):
    rows, name = script[0]["ROWS"], script[1]
    rng = np.random.default_rng(0)
    if name == "neighbors_and_manifold":
        expected = _naive_prdc(*script[0]["_sets"]("300", "12"))
        for row in ("scores", "whole"):
            values = rows[row]("300", "12")()["values"]
            for score, value in expected.items():
                assert values[score] == pytest.approx(value, abs=1e-12), (row, score)
    elif name == "kde":
        np.save(tmp_path / "points.npy", rng.standard_normal((80, 2)))
        np.save(tmp_path / "queries.npy", rng.standard_normal((50, 2)))
        ours = rows["here"](str(tmp_path), "gaussian", "0.4")()["value"]
        assert rows["sklearn"](str(tmp_path), "gaussian", "0.4")()["value"] == pytest.approx(ours, rel=1e-9)
    else:
        x, y = rng.standard_normal((2, 90, 6))
        y = 1.2 * y + 0.1
        for key, array in {"x": x, "y": y, "mean_p": x.mean(0), "mean_q": y.mean(0), "cov_p": np.cov(x.T)}.items():
            np.save(tmp_path / f"{key}.npy", array)
        np.save(tmp_path / "cov_q.npy", np.cov(y.T))
        root = rows["square_root"](str(tmp_path))()["value"]
        for row in ("statistics_here", "features_here", "features_streamed"):
            assert rows[row](str(tmp_path))()["value"] == pytest.approx(root, rel=1e-10)


def test_each_row_runs_in_a_process_of_its_own(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(FOLDER))
    import apart

    path = tmp_path / "script.py"
    path.write_text(
        "import sys, apart\n"
        "def big():\n    import numpy as np\n    return lambda: {'value': float(np.ones(40_000_000).sum())}\n"
        "def gone():\n    import no_such_package\n"
        "def broken():\n    return lambda: {'value': 1 / 0}\n"
        "apart.serve({'big': big, 'gone': gone, 'broken': broken}, sys.argv)\n"
    )
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(apart, "ROOT", FOLDER)
    found = apart.measured(str(path), "big")
    assert found["value"] == 40_000_000
    if sys.platform == "linux":
        assert 300 < found["extra"] < 320
    assert apart.measured(str(path), "gone")["skipped"] == "not installed (No module named 'no_such_package')"
    assert "ZeroDivisionError" in apart.measured(str(path), "broken")["skipped"]
