"""The numbers behind the figures, and the mechanism that finds, draws and saves them."""

import numpy as np
import pytest

from divergences import Gaussian
from evaluation import mode_coverage
from figures.__main__ import caption_of, load, main, make, names
from figures.canvas import lecture_style
from toygen import targets


@pytest.fixture(scope="module")
def computed():
    return {name: load(name).compute(np.random.default_rng(1), quick=True) for name in names()}


def test_figures_are_found_by_file_name():
    assert {"goodfellow", "sliding_apart", "ring_ensemble"} <= set(names())
    for name in names():
        title, caption = caption_of(load(name))
        assert 5 < len(title) < 90
        assert sum(map(len, caption)) > 100


@pytest.mark.parametrize("name", names())
def test_compute_returns_finite_arrays_and_draw_only_paints(name, computed):
    data = computed[name]
    before = {key: value.copy() for key, value in data.items()}
    with lecture_style():
        figure = load(name).draw(data)
    assert figure.axes
    for key, value in data.items():
        assert isinstance(value, np.ndarray)
        np.testing.assert_array_equal(value, before[key])
        assert not np.isnan(value.astype(float)).any()


def test_sliding_apart(computed):
    data = computed["sliding_apart"]
    theta = data["uniform_theta"]
    np.testing.assert_allclose(data["uniform_w1"], np.abs(theta), atol=1e-12)
    np.testing.assert_allclose(data["uniform_jsd"], np.minimum(np.abs(theta), 1) * np.log(2), atol=1e-12)
    assert np.isinf(data["uniform_kl"][theta != 0]).all()
    theta = data["gaussian_theta"]
    np.testing.assert_allclose(data["gaussian_w1"], np.abs(theta), atol=1e-9)
    np.testing.assert_allclose(data["gaussian_kl"], theta**2 / 2, atol=1e-12)
    # JSD is flat where W1 still rises: at |θ| = 4 and 6 it differs by less than W1 by a factor of thirty.
    jsd = dict(zip(theta.round(6), data["gaussian_jsd"], strict=True))
    assert jsd[4.0] == pytest.approx(0.63272019373686698, abs=1e-12)
    assert (jsd[6.0] - jsd[4.0]) * 30 < 2.0


def test_goodfellow(computed):
    data = computed["goodfellow"]
    x, width = data["x"], data["x"][1] - data["x"][0]
    np.testing.assert_allclose(data["p"], np.exp(Gaussian(0.0, 1.0).log_prob(x)), rtol=1e-12)
    for k in range(4):
        inside = np.abs(x) < 4.2
        m = (data["p"] + data["p_g"][k]) / 2
        formula = data["p"] / (data["p"] + data["p_g"][k])
        np.testing.assert_allclose(data["d_star"][k][inside], formula[inside], atol=1e-9)
        assert np.sum(data["p_g"][k]) * width == pytest.approx(1, abs=0.02)
        # No discriminator beats D*.
        value, best = data["value"][k, 0], 2 * data["jsd"][k, 0] - np.log(4)
        assert value <= best + data["value"][k, 1] + 2 * data["jsd"][k, 1]
        # The density belongs to the map that is drawn: between two arrows lies the mass between two quantiles.
        ends = np.interp(data["map"][k], x, np.cumsum(data["p_g"][k]) * width)
        if (np.diff(data["map"][k]) > 0).all():
            np.testing.assert_allclose(ends, data["z"], atol=0.03)
        if k == 1:
            # D alone was trained: it is close to D*.
            assert (m * np.abs(data["d_trained"][k] - data["d_star"][k])).sum() * width < 0.04
    assert data["jsd"][0, 0] > 0.05
    assert data["jsd"][3, 0] < 0.01
    middle = np.abs(x) < 2
    assert np.abs(data["d_trained"][3][middle] - 0.5).max() < 0.12


def test_ring_ensemble(computed):
    data = computed["ring_ensemble"]
    target = targets.ring()
    assert data["captured"].max() <= 8
    np.testing.assert_array_equal(data["hit"].sum(axis=1), data["captured"])
    assert data["complete"][0] == (data["captured"] == 8).sum()
    low, high = data["complete_interval"]
    assert low <= data["complete"][0] / data["complete"][1] <= high
    assert data["high_quality_null"] == pytest.approx(1 - np.exp(-4.5), abs=1e-6)
    # The points shown are of the members that were counted.
    shown = mode_coverage(generated=data["samples"][0], modes=target).high_quality
    assert shown.agrees(data["high_quality"][0])


def test_same_seed_same_bytes(tmp_path):
    first = [path.read_bytes() for path in make("sliding_apart", tmp_path / "a", 3, quick=True)]
    second = [path.read_bytes() for path in make("sliding_apart", tmp_path / "b", 3, quick=True)]
    assert first == second
    assert first[0].startswith(b"<?xml")
    assert b"<dc:date>" not in first[0]


def test_command(tmp_path, capsys):
    assert main(["sliding_apart", "--out", str(tmp_path), "--quick"]) == 0
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "sliding_apart.svg" in page
    assert "http" not in page.split("</style>")[1].replace("https://arxiv.org", "")
    assert str(tmp_path) in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["no_such_figure"], ["--seed", "-1"], ["--seed", "4294967296"]])
def test_misuse(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--out", str(tmp_path / "x")])
    assert caught.value.code == 2
    assert not (tmp_path / "x").exists()
    assert "error" in capsys.readouterr().err
