"""The command: what it writes can be audited, and misuse is one line and status 2."""

import dataclasses
import importlib.metadata
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from divergences import Gaussian, Mixture
from evaluation.modes import mode_coverage
from tests.toygen.stops import interrupted
from toygen import SHARP, GanRun, Sampler
from toygen.__main__ import main
from toygen.gan_options import chosen_recipe, gan_parser
from toygen.recipes import RECIPES, recipe_for

FAST = ["--steps", "5", "--width", "8", "--batch", "8", "--train-size", "200", "--samples", "100", "--chunk", "3"]
FILES = {
    "generated.npz",
    "generated-all.npz",
    "train.npz",
    "test.npz",
    "modes.npz",
    "sampler.npz",
    "history.npz",
    "history.csv",
    "run.json",
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
    for name in (name for name in FILES if name.endswith(".npz")):
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
        (["ring", "--pack", "0"], "--pack must be at least 1"),
        (["ring", "--pack", "3"], "pack must divide batch = 64"),
        (["ring", "--learning-rate", "0"], "--learning-rate must be"),
        (["ring", "--recipe", "best"], "--recipe must be one of standard"),
        (["ring", "--recipe", "sharp", "--quick"], "--quick is the short form of the standard recipe"),
        (["ring", "--train-size", "1"], "--train-size must be at least 2"),
        (["ring", "--samples", "0"], "--samples must be at least 1"),
        (["ring", "--chunk", "0"], "--chunk must be at least 1"),
        (["ring", "--checkpoint", "-1"], "--checkpoint must be at least 0"),
        (["ring", "--monitor", "-1"], "--monitor must be at least 0"),
        (["ring", "--device", "tpu"], "device must be auto, cpu, cuda"),
        (["ring", "--sample", "x", "--nonsense"], "invalid int value|unrecognized"),
        ([], r"required: TARGET \(see python -m toygen --help\)"),
        (
            ["ring", "--recipe", "sharp", "--penalty", "consensus"],
            "--penalty consensus does not go with --recipe sharp: neg",
        ),
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


def test_divergence_is_reported_and_no_sampler_is_left(tmp_path, capsys):
    arguments = ["ring", "--objective", "wasserstein", "--penalty", "none", "--members", "2", "--learning-rate", "1e12"]
    assert main([*arguments, "--out", str(tmp_path), *FAST, "--steps", "40"]) == 1
    assert "every member diverged" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["history.npz"]


def test_it_runs_as_a_module():
    command = [sys.executable, "-m", "toygen", "pentagon", "--out", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("toygen: error: target must be one of")


def test_it_records_seeds_versions_and_the_whole_recipe(folder):
    about = json.loads((folder / "run.json").read_text())
    assert (about["target"], about["seed"], about["members"], about["steps"]) == ("ring", 4, [0, 1, 2], 5)
    assert about["recipe"]["chunk"] == 3
    assert about["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    assert about["versions"] == {
        "mintmark": importlib.metadata.version("mintmark"),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": ".".join(map(str, sys.version_info[:3])),
    }
    rows = (folder / "history.csv").read_text().splitlines()
    assert len(rows) == 6
    assert float(rows[3].split(",")[4]) == pytest.approx(load(folder / "history.npz")["generator"][2, 0], rel=1e-8)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--recipe", "wgan_algorithm_1"], {"penalty": "clip", "learning_rate": 5e-5, "discriminator_steps": 5}),
        (["--recipe", "gan_algorithm_1", "--objective", "hinge"], {"objective": "hinge", "method": "sgd"}),
        (["--recipe", "sharp"], {"coins": 8, "width": 64, "negatives": 0.125}),
        (["--quick", "--pack", "2", "--learning-rate", "0.002"], {"pack": 2, "learning_rate": 0.002, "width": 32}),
    ],
)
def test_a_recipe_by_its_name_and_in_parts(words, expected, tmp_path):
    small = ["--members", "1", "--chunk", "1", "--steps", "2", "--train-size", "50", "--samples", "20"]
    assert main(["ring", *words, *small, "--out", str(tmp_path)]) == 0
    about = json.loads((tmp_path / "run.json").read_text())
    assert about["preset"] == (words[1] if words[0] == "--recipe" else "standard")
    assert expected == {name: about["recipe"][name] for name in expected}
    assert Sampler.load(tmp_path / "sampler.npz")(3, np.random.default_rng(0)).shape == (3, 2)


@pytest.mark.parametrize("name", ["gan_algorithm_1", "wgan_algorithm_1", "sharp"])
@pytest.mark.parametrize(
    ("objective", "penalty"),
    [(None, None), ("wasserstein", None), ("wasserstein", "gradient_penalty"), ("hinge", None), ("mmd", None),
     (None, "r1"), (None, "none"), ("minimax", "unrolled"), ("wasserstein", "none")],
)  # fmt: skip
def test_another_game_brings_its_own_penalty_and_weights(name, objective, penalty):
    words = ["ring", "--out", "x", "--recipe", name]
    words += ["--objective", objective] if objective else []
    words += ["--penalty", penalty] if penalty else []
    recipe = chosen_recipe(gan_parser().parse_args(words))
    known = {**RECIPES, "sharp": SHARP}[name]
    critics = ("wasserstein", "mmd")
    turned = (recipe.objective in critics) != (known.objective in critics)
    usual = recipe_for(recipe.objective, recipe.penalty)
    assert recipe.objective == (objective or known.objective)
    if penalty:
        assert recipe.penalty == penalty
    elif turned:
        assert recipe.penalty == recipe_for(recipe.objective).penalty != known.penalty
    else:
        assert recipe.penalty == known.penalty
    assert recipe.weights == (usual if turned or penalty not in (None, known.penalty) else known).weights
    assert recipe.discriminator_steps == (usual if turned else known).discriminator_steps
    rest = dataclasses.replace(
        recipe,
        **{part: getattr(known, part) for part in ("objective", "penalty", "weights", "discriminator_steps", "chunk")},
    )
    assert rest == known


def test_the_help_says_what_the_recipes_do(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "the usual one of the objective (critics: gradient_penalty, logits: r1_r2)" in told
    assert recipe_for("wasserstein").penalty == recipe_for("mmd").penalty == "gradient_penalty"
    assert recipe_for("hinge").penalty == "r1_r2"


def test_an_interrupted_run_goes_on_to_the_same_numbers_and_the_same_film(tmp_path, capsys, monkeypatch):
    import toygen.__main__ as command

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    arguments = ["two_peaks", "--members", "4", *FAST, "--steps", "8", "--gif", "--checkpoint", "3"]
    assert main([*arguments, "--out", str(whole)]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(command, "GanRun", interrupted(7))
        assert main([*arguments, "--out", str(parts)]) == 130
    assert "interrupted after 7 steps; go on with the same command and --resume" in capsys.readouterr().err
    assert {path.name for path in parts.iterdir()} == {"checkpoint.pt", "frames.npz"}
    other = [word if word != "8" else "9" for word in arguments]
    assert main([*other, "--out", str(parts), "--resume"]) == 2
    assert "the checkpoint is of another run" in capsys.readouterr().err
    assert main([*arguments, "--out", str(parts), "--resume"]) == 0
    assert "resumed after 7 steps" in capsys.readouterr().err
    assert (
        {path.name for path in whole.iterdir()} == {path.name for path in parts.iterdir()} == FILES | {"training.gif"}
    )
    for name in FILES | {"training.gif"}:
        if name != "run.json" and not name.endswith(".npz"):
            assert (whole / name).read_bytes() == (parts / name).read_bytes()
        elif name.endswith(".npz"):
            first, second = load(whole / name), load(parts / name)
            assert all(np.array_equal(first[key], second[key]) for key in first)
    assert main([*arguments, "--out", str(tmp_path / "new"), "--resume"]) == 0
    assert "nothing to resume" in capsys.readouterr().err


def test_a_finished_run_is_not_trained_again(tmp_path, capsys, monkeypatch):
    arguments = ["ring", "--members", "2", "--seed", "4", "--out", str(tmp_path), *FAST, "--resume"]
    assert main(arguments) == 0
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    capsys.readouterr()

    def never(self):
        raise AssertionError("trained again")

    with monkeypatch.context() as patch:
        patch.setattr(GanRun, "__iter__", never)
        assert main(arguments) == 0
        assert "already finished" in capsys.readouterr().err
        # Of another run, whose results would be lost, it is not silent either.
        for change, name in (
            (["--seed", "5"], "seed"),
            (["--members", "3"], "members"),
            (["--steps", "6"], "steps"),
            (["--train-size", "201"], "train_size"),
            (["--samples", "101"], "samples"),
            (["--penalty", "none"], "recipe"),
        ):
            assert main([*arguments, *change]) == 2
            assert f"a finished run with other {name}: there is nothing to resume" in capsys.readouterr().err
        for words, name in ((["--gif"], "training.gif"), (["--monitor", "2"], "truth.csv")):
            assert main([*arguments, *words]) == 2
            assert f"that run left no {name}" in capsys.readouterr().err
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    # Without --resume it is asked to replace them.
    assert main([*arguments[:-1], "--steps", "6"]) == 0
    assert json.loads((tmp_path / "run.json").read_text())["steps"] == 6
    # What is no record of a run says nothing.
    (tmp_path / "run.json").write_text("[]")
    assert main(arguments) == 0


def test_halves_of_files_are_swept_and_damaged_frames_are_named(tmp_path, capsys, monkeypatch):
    import toygen.__main__ as command

    arguments = ["two_peaks", "--members", "2", *FAST, "--steps", "8", "--gif", "--out", str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(command, "GanRun", interrupted(4))
        assert main(arguments) == 130
    halves = [".frames.npz.abc_1234", ".checkpoint.pt.abc_1234", ".generated.npz.abc_1234"]
    for name in [*halves, ".checkpoint.pt.backup-of-mine"]:
        (tmp_path / name).write_bytes(b"half")
    whole = (tmp_path / "frames.npz").read_bytes()
    capsys.readouterr()
    for damaged in (b"", b"PK", whole[: len(whole) // 2], whole[:100] + b"x" * 40 + whole[140:], b"x" * 1000):
        (tmp_path / "frames.npz").write_bytes(damaged)
        assert main([*arguments, "--resume"]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert "cannot be read as the frames of a film" in lines[-1]
        assert not {path.name for path in tmp_path.iterdir()} & set(halves)
    # Another film, of points in the plane.
    np.savez(tmp_path / "frames.npz", steps=[1], clouds=np.zeros((1, 2, 5, 2)), members=[0, 1])
    assert main([*arguments, "--resume"]) == 2
    (tmp_path / "frames.npz").write_bytes(whole)
    assert main([*arguments, "--resume"]) == 0
    assert (tmp_path / "training.gif").exists()
    assert (tmp_path / ".checkpoint.pt.backup-of-mine").exists()


def test_progress_is_shown_on_a_terminal_only(tmp_path, capsys, monkeypatch):
    assert main(["two_peaks", "--members", "2", "--out", str(tmp_path), *FAST]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["two_peaks", "--members", "2", "--out", str(tmp_path), *FAST]) == 0
    assert re.search(r"\rstep 5 of 5 \(100 %\), 0:00:00 left +\n$", capsys.readouterr().err)


def test_help_shows_examples_that_are_valid(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    told = capsys.readouterr().out
    examples = re.findall(r"^  python -m toygen (?!atlas|autoencoder|--claims)(.+)$", told, flags=re.MULTILINE)
    assert len(examples) >= 4
    for example in examples:
        options = gan_parser().parse_args(example.split())
        assert options.out.parts[0] == "runs"
    for option in ("--resume", "--device", "--gif", "--chunk", "--checkpoint"):
        assert option in told


def test_the_table_of_claims_is_loaded_when_asked_for(monkeypatch, capsys):
    import toygen.claims

    asked = []
    monkeypatch.setattr(toygen.claims, "claims_command", lambda words: asked.append(words) or 7)
    assert main(["--claims", "a", "--json"]) == 7
    assert asked == [["a", "--json"]]
    code = "import sys, toygen.__main__; print('toygen.claims' in sys.modules, 'toygen.atlas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("target", ["checkerboard", "two_moons", "parallel_lines", "scipy:gamma:2.0"])
def test_targets_without_gaussian_modes(tmp_path, capsys, target):
    for name in ("modes.npz", "training.gif"):
        (tmp_path / name).write_bytes(b"of an earlier run")
    assert main([target, "--members", "2", "--out", str(tmp_path), *FAST]) == 0
    told = capsys.readouterr().out
    assert "sliced W1 to 100 held-out points, by member:" in told
    assert "as many training points score" in told
    assert {path.name for path in tmp_path.iterdir()} == FILES - {"modes.npz"}
