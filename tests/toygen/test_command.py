"""The command: what it writes can be audited, and misuse is one line and status 2."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from divergences import Gaussian, Mixture
from evaluation.modes import mode_coverage
from toygen import Sampler
from toygen.__main__ import main

FAST = ["--steps", "5", "--width", "8", "--batch", "8", "--train-size", "200", "--samples", "100"]
FILES = {
    "generated.npz",
    "generated-all.npz",
    "train.npz",
    "test.npz",
    "modes.npz",
    "sampler.npz",
    "history.npz",
    "contact-sheet.png",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "deep" / "ring"
    assert main(["ring", "--members", "3", "--seed", "4", "--out", str(out), *FAST]) == 0
    return out


def load(path):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def test_it_leaves_everything_an_audit_needs(folder):
    assert {path.name for path in folder.iterdir()} == FILES
    generated, everyone = load(folder / "generated.npz")["samples"], load(folder / "generated-all.npz")
    assert generated.shape == (100, 2)
    assert everyone["samples"].shape == (3, 100, 2)
    assert everyone["members"].tolist() == [0, 1, 2]
    assert np.array_equal(everyone["samples"][0], generated)
    train, test = load(folder / "train.npz")["samples"], load(folder / "test.npz")["samples"]
    assert train.shape == test.shape == (200, 2)
    assert not np.isin(train[:, 0], test[:, 0]).any()
    modes = load(folder / "modes.npz")
    law = Mixture([Gaussian(m, c) for m, c in zip(modes["means"], modes["covariances"], strict=True)], modes["weights"])
    assert mode_coverage(generated=train, modes=law).captured == 8
    assert (folder / "contact-sheet.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    history = load(folder / "history.npz")
    assert history["generator"].shape == history["discriminator"].shape == (5, 3)
    assert json.loads(str(load(folder / "sampler.npz")["header"]))["about"]["member"] == 0
    sampler = Sampler.load(folder / "sampler.npz")
    assert sampler(4, np.random.default_rng(0)).shape == (4, 2)
    assert sampler.about["seed"] == 4


def test_the_same_seed_leaves_the_same_numbers(folder, tmp_path):
    assert main(["ring", "--members", "3", "--seed", "4", "--out", str(tmp_path), *FAST]) == 0
    for name in FILES - {"contact-sheet.png"}:
        first, second = load(folder / name), load(tmp_path / name)
        assert all(np.array_equal(first[key], second[key]) for key in first)


def test_it_reports_a_share_with_its_interval_and_is_quiet_elsewhere(tmp_path, capsys):
    assert main(["two_peaks", "--members", "2", "--out", str(tmp_path), *FAST, "--objective", "wasserstein"]) == 0
    captured = capsys.readouterr()
    assert "of 2 members cover all 2 modes" in captured.out
    assert "95 % interval [" in captured.out
    assert "a perfect generator scores 0.997" in captured.out
    assert captured.err == ""


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["pentagon"], "target must be one of ring, grid, two_peaks"),
        (["ring", "--objective", "minmax"], "objective must be one of minimax"),
        (["ring", "--penalty", "sn"], "penalty must be one of none"),
        (["ring", "--members", "0"], "--members must be at least 1"),
        (["ring", "--steps", "-1"], "--steps must be at least 1"),
        (["ring", "--steps", "many"], "--steps: invalid int value"),
        (["ring", "--seed", "-3"], "--seed must be at least 0"),
        (["ring", "--width", "0"], "--width must be at least 1"),
        (["ring", "--train-size", "1"], "--train-size must be at least 2"),
        (["ring", "--samples", "0"], "--samples must be at least 1"),
        (["ring", "--sample", "x", "--nonsense"], "invalid int value|unrecognized"),
        ([], "required: TARGET"),
    ],
)
def test_misuse_is_one_line_and_status_two(tmp_path, capsys, arguments, match):
    out = tmp_path / "out"
    assert main([*arguments, "--out", str(out)]) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("toygen: error: ")
    assert re.search(match, lines[0])
    assert captured.out == ""
    assert not out.exists()


def test_an_unwritable_folder_is_found_before_training(tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("x")
    assert main(["ring", "--steps", "10000000", "--out", str(blocked / "runs")]) == 2
    assert capsys.readouterr().err.startswith("toygen: error: ")
    assert main(["ring"]) == 2


def test_divergence_is_reported_and_no_sampler_is_left(tmp_path, capsys, monkeypatch):
    import dataclasses

    import toygen.__main__ as command

    original = command.recipe_for
    monkeypatch.setattr(command, "recipe_for", lambda *names: dataclasses.replace(original(*names), learning_rate=1e12))
    arguments = ["ring", "--objective", "wasserstein", "--penalty", "none", "--members", "2"]
    assert main([*arguments, "--out", str(tmp_path), *FAST, "--steps", "40"]) == 1
    assert "every member diverged" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["history.npz"]


def test_it_runs_as_a_module():
    command = [sys.executable, "-m", "toygen", "pentagon", "--out", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("toygen: error: target must be one of")


@pytest.mark.parametrize("target", ["checkerboard", "two_moons", "parallel_lines", "scipy:gamma:2.0"])
def test_targets_without_gaussian_modes(tmp_path, capsys, target):
    (tmp_path / "modes.npz").write_bytes(b"of an earlier run")
    assert main([target, "--members", "2", "--out", str(tmp_path), *FAST]) == 0
    told = capsys.readouterr().out
    assert "sliced W1 to 100 held-out points, by member:" in told
    assert "as many training points score" in told
    assert {path.name for path in tmp_path.iterdir()} == FILES - {"modes.npz"}
