"""The command: verdicts as exit statuses, one-line errors, nothing half-written."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from divergences import Gaussian, Mixture
from evaluation.__main__ import main

MODES = Mixture([Gaussian([float(x), 0.0], 0.01 * np.eye(2)) for x in range(4)])
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files as toy training writes them, and generators with planted defects."""
    place = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    train, test = MODES.sample(600, rng), MODES.sample(400, rng)
    np.savez(place / "train.npz", samples=train)
    np.savez(place / "test.npz", samples=test)
    np.savez(
        place / "modes.npz",
        means=np.stack([law.mean for law in MODES.components]),
        covariances=np.stack([law.cov for law in MODES.components]),
        weights=MODES.weights,
    )
    np.save(place / "good.npy", MODES.sample(500, rng))
    np.save(place / "dropper.npy", Mixture(MODES.components[1:]).sample(500, rng))
    copies = MODES.sample(500, rng)
    copies[:150] = train[:150] + 1e-6
    np.savetxt(place / "copier.csv", copies, delimiter=",", header="x,y", comments="")
    np.save(place / "nan.npy", np.full((20, 2), np.nan))
    np.save(place / "three.npy", rng.normal(size=(50, 3)))
    np.save(place / "large.npy", rng.integers(0, 256, (4, 74, 74, 3), dtype=np.uint8))
    np.save(place / "pickle.npy", np.array([object()] * 3, dtype=object), allow_pickle=True)
    (place / "cut.npz").write_bytes((place / "train.npz").read_bytes()[:500])
    (place / "labels.txt").write_text("\n".join(["cat", "dog"] * 300))
    (place / "empty").mkdir()
    (place / "pictures").mkdir()
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8)).save(place / "pictures" / f"{i}.png")
    return place


def run(folder, *arguments, capsys):
    words = [str(folder / word) if (folder / str(word).split(":")[0]).exists() else str(word) for word in arguments]
    try:
        status = main(words)
    except SystemExit as exit_:  # argparse's way out
        status = exit_.code
    printed = capsys.readouterr()
    return status, printed.out, printed.err


FULL = ("--train", "train.npz", "--test", "test.npz", "--modes", "modes.npz")


@pytest.mark.parametrize(
    ("arguments", "status", "verdicts"),
    [
        (("good.npy", *FULL), 0, {}),
        # Without a quarter of the modes the interval of the distance reaches beyond its margin, too.
        (("dropper.npy", *FULL), 1, {"mode loss": "flagged", "distribution": "inconclusive"}),
        (("copier.csv", *FULL), 1, {"memorization": "flagged"}),
        (("good.npy", "--train", "train.npz"), 3, {"memorization": "inconclusive"}),
        (("good.npy", "--train", "train.npz:samples", "--test", "test.npz", "--features", "pca:1"), 0, {}),
    ],
)
def test_the_exit_status_is_the_verdict(folder, capsys, arguments, status, verdicts):
    code, out, err = run(folder, *arguments, "--json", "-", capsys=capsys)
    data = json.loads(out)
    assert (code, err) == (status, "")
    assert data["exit_status"] == status
    odd = {f["name"]: f["verdict"] for f in data["findings"] if f["verdict"] != "clear"}
    assert odd == verdicts


def test_files_are_written_and_the_text_is_printed(folder, capsys, tmp_path):
    code, out, err = run(
        folder,
        "dropper.npy",
        *FULL,
        "--json",
        tmp_path / "new" / "r.json",
        "--html",
        tmp_path / "r.html",
        capsys=capsys,
    )
    assert (code, err) == (1, "")
    assert out.startswith("mintmark audit: FLAGGED.")
    assert json.loads((tmp_path / "new" / "r.json").read_text(encoding="utf-8"))["verdict"] == "flagged"
    assert (tmp_path / "r.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["new", "r.html"]


def test_quiet_prints_nothing(folder, capsys):
    assert run(folder, "good.npy", *FULL, "--quiet", capsys=capsys) == (0, "", "")


def test_labels_ask_for_classes(folder, capsys):
    code, out, _ = run(folder, "good.npy", *FULL, "--train-labels", "labels.txt", "--json", "-", capsys=capsys)
    assert "class loss" in [finding["name"] for finding in json.loads(out)["findings"]]
    assert code in (0, 3)


def test_same_seed_same_bytes(folder, capsys, tmp_path):
    pages = []
    for name in ("a", "b"):
        places = ("--html", tmp_path / name, "--json", tmp_path / f"{name}.json")
        run(folder, "good.npy", *FULL, "--seed", "7", *places, capsys=capsys)
        pages.append((tmp_path / name).read_bytes() + (tmp_path / f"{name}.json").read_bytes())
    assert pages[0] == pages[1]
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["protocol"]["seed"] == 7


BAD = {
    "nothing": ((), "arguments are required"),
    "no train": (("good.npy",), "--train"),
    "missing": (("nowhere.npy", "--train", "train.npz"), "there is no such file"),
    "missing train": (("good.npy", "--train", "nowhere.npz"), "there is no such file"),
    "nan": (("nan.npy", "--train", "train.npz"), "holds NaN in 20 of 20 rows"),
    "dimensions": (("three.npy", "--train", "train.npz"), "shape (3,) and train= points of shape (2,)"),
    "pixels": (("large.npy", "--train", "large.npy"), "16428 dimensions, and their covariance would take 2 GiB"),
    "pickle": (("pickle.npy", "--train", "train.npz"), "pickled Python objects"),
    "cut": (("good.npy", "--train", "cut.npz"), "not a complete .npz"),
    "key": (("good.npy", "--train", "train.npz:x"), "no array 'x'; it holds samples"),
    "modes file": (("good.npy", "--train", "train.npz", "--modes", "test.npz"), "lacks means and covariances"),
    "modes suffix": (("good.npy", "--train", "train.npz", "--modes", "good.npy"), "modes are read from an .npz"),
    "labels": (("good.npy", "--train", "train.npz", "--train-labels", "test.npz"), "labels must have shape"),
    "held out": (("good.npy", "--train", "train.npz", "--test", "train.npz"), "Held-out data must be held out"),
    "empty folder": (("empty", "--train", "train.npz"), "holds no images"),
    "kinds": (("pictures", "--train", "train.npz"), "images of shape (6, 6) and train= points"),
    "features": (("good.npy", "--train", "train.npz", "--features", "inception"), "features="),
    "components": (("good.npy", "--train", "train.npz", "--features", "pca:9"), "pca:9"),
    "negative seed": (("good.npy", "--train", "train.npz", "--seed", "-1"), "a seed is a whole number from 0"),
    "large seed": (("good.npy", "--train", "train.npz", "--seed", "4294967296"), "a seed is a whole number from 0"),
    "word seed": (("good.npy", "--train", "train.npz", "--seed", "x"), "a seed is a whole number from 0"),
    "unknown": (("good.npy", "--train", "train.npz", "--frobnicate"), "unrecognized arguments"),
    "html is a folder": (("good.npy", "--train", "train.npz", "--html", "empty"), "is a folder"),
    "html is an input": (("good.npy", "--train", "train.npz", "--html", "good.npy"), "would overwrite it"),
    "nowhere to write": (("good.npy", "--train", "train.npz", "--json", "/proc/none/r.json"), "cannot be written"),
    "below a file": (("good.npy", "--train", "train.npz", "--html", "good.npy/r.html"), "cannot be written"),
    "twice": (("good.npy", "--train", "train.npz", "--html", "r", "--json", "r"), "name the same file"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_misuse_is_one_line_and_status_2(folder, capsys, tmp_path, monkeypatch, case):
    arguments, message = BAD[case]
    monkeypatch.chdir(tmp_path)
    before = {entry: entry.stat().st_mtime_ns for entry in sorted(folder.iterdir())}
    arguments = [word.replace("good.npy/", f"{folder}/good.npy/") for word in arguments]
    if not {"--html", "--json"} & set(arguments):
        arguments += ["--html", str(tmp_path / "r.html")]
    code, out, err = run(folder, *arguments, capsys=capsys)
    assert (code, out) == (2, "")
    last = err.strip().splitlines()[-1]
    assert last.startswith("mintmark: error: ")
    assert message in last
    assert "Traceback" not in err
    # argparse says how to call it first; our own errors are one line alone.
    assert len(err.strip().splitlines()) == 1 or err.startswith("usage: ")
    assert list(tmp_path.iterdir()) == []
    assert {entry: entry.stat().st_mtime_ns for entry in sorted(folder.iterdir())} == before


def test_an_unwritable_place_is_found_before_anything_is_read(folder, capsys):
    code, _, err = run(folder, "nowhere.npy", "--train", "train.npz", "--html", "/proc/none/r.html", capsys=capsys)
    assert code == 2
    assert "cannot be written" in err


def test_interruption_is_quiet(folder, capsys, monkeypatch):
    def interrupted(**_):
        raise KeyboardInterrupt

    import importlib

    monkeypatch.setattr(importlib.import_module("evaluation.audit"), "audit", interrupted)
    code, out, err = run(folder, "good.npy", *FULL, capsys=capsys)
    assert (code, out, err) == (130, "", "mintmark: interrupted\n")


def test_help_is_quick_and_names_the_exit_statuses(capsys, folder):
    code, out, _ = run(folder, "--help", capsys=capsys)
    assert code == 0
    assert "0 clear, 1 flagged, 3 inconclusive, 2 misuse" in out
    assert run(folder, "--version", capsys=capsys)[1].startswith("mintmark ")


def test_the_module_is_the_command(folder, tmp_path):
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "evaluation", "copier.csv", *FULL, "--html", str(tmp_path / "r.html")],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "✕ MEMORIZATION: flagged." in done.stdout
    assert done.stderr == ""
    assert (tmp_path / "r.html").stat().st_size > 20_000
    assert time.perf_counter() - started < 60


def test_a_reader_that_goes_away_is_no_error(folder):
    call = f"{sys.executable} -W error -m evaluation good.npy {' '.join(FULL)} --json -"
    done = subprocess.run(
        ["bash", "-c", f"{call} | head -c 10; echo; echo ${{PIPESTATUS[0]}}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.split()[-1] == "0"


def test_names_that_are_no_text_and_terminals_that_know_no_letters(folder, tmp_path):
    strange = os.fsencode(tmp_path) + b"/\xff<b>.npy"
    Path(os.fsdecode(strange)).write_bytes((folder / "good.npy").read_bytes())
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-m",
            "evaluation",
            strange,
            *FULL,
            "--html",
            tmp_path / "r.html",
            "--json",
            "-",
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout.decode("ascii"))["verdict"] == "clear"
    assert "&lt;b&gt;.npy" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_what_decides_the_exit_status(tmp_path, capsys):
    draw = np.random.default_rng(0)
    train, test = draw.normal(size=(2, 300, 2))
    paths = {}
    for name, array in {"far": draw.normal(size=(300, 2)) + 3, "train": train, "test": test}.items():
        paths[name] = str(tmp_path / f"{name}.npy")
        np.save(paths[name], array)
    told = [paths["far"], "--train", paths["train"], "--quiet"]
    # Without held-out data memorization is inconclusive; the shift is flagged.
    assert main(told) == 1
    assert main([*told, "--fail-on", "never"]) == 0
    assert main([*told, "--fail-on", "memorization"]) == 3
    assert main([*told, "--fail-on", "memorization, distribution"]) == 1
    same = [paths["test"], "--train", paths["train"], "--quiet"]
    assert main(same) == 3
    assert main([*same, "--fail-on", "flagged"]) == 0
    assert main([*same, "--fail-on", "fidelity"]) == 2
    assert "this audit asked mode loss, distribution, memorization" in capsys.readouterr().err
    # What was not asked is known only after the audit, which is delivered all the same; a slip is told before it.
    report = tmp_path / "delivered.json"
    assert main([*same, "--fail-on", "fidelity", "--json", str(report)]) == 2
    assert json.loads(report.read_text())["verdict"] == "inconclusive"
    report.unlink()
    for slip in ("fidelty", "mode-loss", ""):
        assert main([*same, "--fail-on", slip, "--json", str(report)]) == 2
        assert f"names {slip!r}; findings are mode loss, fidelity" in capsys.readouterr().err
    assert not report.exists()
    # A stricter rate is in the protocol.
    assert main([*told, "--alpha", "0.001", "--json", str(tmp_path / "r.json")]) == 1
    assert json.loads((tmp_path / "r.json").read_text())["protocol"]["alpha"] == 0.001
    with pytest.raises(SystemExit) as refused:
        main([*told, "--alpha", "2"])
    assert refused.value.code == 2


def test_statistics_are_saved_and_compared_with(tmp_path, capsys):
    draw = np.random.default_rng(1)
    names = ("a", "b", "train")
    paths = {name: str(tmp_path / f"{name}.npy") for name in names}
    for name, array in zip(names, draw.normal(size=(3, 300, 2)), strict=True):
        np.save(paths[name], array)
    stats = str(tmp_path / "a.npz")
    assert main([paths["a"], "--train", paths["train"], "--save-stats", stats, "--quiet"]) == 3
    with np.load(stats, allow_pickle=False) as saved:
        assert saved["mu"].shape == (2,)
        assert int(saved["n"]) == 300
    # The distance of the samples to their own statistics is 0, up to rounding.
    report = str(tmp_path / "r.json")
    assert main([paths["a"], "--train", paths["train"], "--stats", stats, "--json", report, "--quiet"]) == 3
    findings = {finding["name"]: finding for finding in json.loads((tmp_path / "r.json").read_text())["findings"]}
    assert findings["distribution"]["estimate"]["raw"] == pytest.approx(0.0, abs=1e-12)
    # Other packages' files do not say of how many samples they are.
    with np.load(stats, allow_pickle=False) as saved:
        saved_mean, saved_cov = saved["mu"], saved["sigma"]
    np.savez(tmp_path / "foreign.npz", mu=saved_mean, sigma=saved_cov)
    foreign = [paths["a"], "--train", paths["train"], "--stats", str(tmp_path / "foreign.npz"), "--quiet"]
    assert main(foreign) == 2
    assert "--stats-n" in capsys.readouterr().err
    assert main([*foreign, "--stats-n", "300", "--json", report]) == 3
    again = {finding["name"]: finding for finding in json.loads((tmp_path / "r.json").read_text())["findings"]}
    assert again["distribution"]["estimate"]["value"] == findings["distribution"]["estimate"]["value"]
    assert "nobody can check" in again["distribution"]["meaning"]
    assert "nobody can check" not in findings["distribution"]["meaning"]
    assert findings["distribution"]["quantity"] == "Fréchet distance to the statistics given (FID)"
    assert "Gaussian features, since only" in findings["distribution"]["meaning"]
    assert json.loads((tmp_path / "r.json").read_text())["protocol"]["reference"].startswith(str(tmp_path))
    # Statistics that held-out data do not have, either, accuse nobody.
    np.savez(tmp_path / "far.npz", mu=saved_mean + 9, sigma=saved_cov)
    far = [paths["a"], "--train", paths["train"], "--test", paths["b"], "--stats", str(tmp_path / "far.npz")]
    assert main([*far, "--stats-n", "300", "--json", report, "--quiet", "--fail-on", "distribution"]) == 3
    about = {finding["name"]: finding for finding in json.loads((tmp_path / "r.json").read_text())["findings"]}
    assert about["distribution"]["p_value"] is None
    assert "Held-out data lie above the margin, too" in about["distribution"]["meaning"]
    assert main([*far[:3], "--stats", far[-1], "--stats-n", "300", "--quiet", "--fail-on", "distribution"]) == 1
    # So do other names, and a covariance divided by n: the distance is the same once both are said.
    np.savez(tmp_path / "named.npz", mean=saved_mean, cov=saved_cov * (299 / 300))
    named = [paths["a"], "--train", paths["train"], "--stats", str(tmp_path / "named.npz"), "--stats-n", "300"]
    assert main([*named, "--quiet"]) == 2
    assert "--stats-keys" in capsys.readouterr().err
    assert main([*named, "--stats-keys", "mean, cov", "--stats-ddof", "0", "--json", report, "--quiet"]) == 3
    same = {finding["name"]: finding for finding in json.loads((tmp_path / "r.json").read_text())["findings"]}
    assert same["distribution"]["estimate"]["raw"] == pytest.approx(0.0, abs=1e-12)
    assert main([*named, "--stats-keys", "mean,cov", "--json", report, "--quiet"]) == 3
    wrong = {finding["name"]: finding for finding in json.loads((tmp_path / "r.json").read_text())["findings"]}
    # Of a covariance too small by (n − 1)/n the plain distance is tr Σ (1 − √((n − 1)/n))².
    expected = np.trace(saved_cov) * (1 - np.sqrt(299 / 300)) ** 2
    assert wrong["distribution"]["estimate"]["raw"] == pytest.approx(expected, rel=1e-6)
    capsys.readouterr()
    for words in (["--stats-keys", "mean"], ["--stats-keys", "mean,"], ["--stats-keys", "cov,cov"]):
        assert main([*named, *words]) == 2
        assert "--stats-keys names two arrays" in capsys.readouterr().err
    for words in (["--stats-keys", "mean,cov"], ["--stats-ddof", "0"]):
        assert main([paths["a"], "--train", paths["train"], *words]) == 2
        assert f"{words[0]} says more of the statistics in --stats" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*named, "--stats-ddof", "2"])
    assert main([*foreign, "--stats-n", "1"]) == 2
    assert main([paths["a"], "--train", paths["train"], "--stats", stats, "--stats-n", "299"]) == 2
    assert main([paths["a"], "--train", paths["train"], "--stats-n", "300"]) == 2
    # Statistics of other features are refused.
    assert main([paths["a"], "--train", paths["train"], "--stats", stats, "--features", "pca:2", "--quiet"]) == 2
    assert "standardize" in capsys.readouterr().err
    assert main([paths["a"], "--train", paths["train"], "--save-stats", paths["a"]]) == 2


def test_compare(tmp_path, capsys):
    draw = np.random.default_rng(2)
    arrays = {"near": 0.1, "far": 0.8, "same": 0.8, "train": 0.0, "test": 0.0}
    paths = {name: str(tmp_path / f"{name}.npy") for name in arrays}
    for name, shift in arrays.items():
        np.save(paths[name], draw.normal(size=(500, 3)) + shift)
    data = ["--train", paths["train"], "--test", paths["test"]]
    assert main(["compare", paths["near"], paths["far"], *data]) == 0
    assert "A is better" in capsys.readouterr().out
    assert main(["compare", paths["far"], paths["near"], *data]) == 1
    capsys.readouterr()
    assert main(["compare", paths["far"], paths["same"], *data, "--json", "-"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "mintmark-comparison-1"
    assert found["better"] is None
    assert main(["compare", paths["far"], str(tmp_path / "none.npy"), *data]) == 2
    assert "none.npy" in capsys.readouterr().err
    assert main(["compare", paths["far"], paths["near"], *data, "--json", paths["far"]]) == 2


def test_moved_copies_are_looked_for_on_request(tmp_path, capsys):
    draw = np.random.default_rng(2)
    images = np.kron(draw.integers(0, 256, (180, 4, 4)), np.ones((2, 2), dtype=int)).astype(np.uint8)
    sets = {"train": images[:60], "test": images[60:120], "made": np.concatenate([images[120:], images[:20, :, ::-1]])}
    paths = {}
    for name, array in sets.items():
        paths[name] = str(tmp_path / f"{name}.npy")
        np.save(paths[name], array)
    told = [paths["made"], "--train", paths["train"], "--test", paths["test"], "--fail-on", "memorization"]
    assert main([*told, "--quiet"]) == 0
    report = tmp_path / "r.json"
    assert main([*told, "--views", "mirror", "--json", str(report)]) == 1
    assert json.loads(report.read_text())["protocol"]["views"] == "mirror"
    assert main([*told, "--views", "turn", "--quiet"]) == 2
    assert "views= must be shift:N" in capsys.readouterr().err


def test_stacked_digits_are_asked_for_by_two_files(tmp_path, capsys):
    """Four classes told apart by their brightness; the second channel never shows the last one."""
    draw = np.random.default_rng(0)

    def stacks(n, most):
        codes = np.stack([draw.integers(0, 4, n), draw.integers(0, most, n), draw.integers(0, 4, n)], axis=-1)
        return (40 * codes[:, None, None, :] + draw.integers(0, 9, (n, 2, 2, 3))).astype(np.uint8)

    labels = np.arange(80) % 4
    digits = (40 * labels[:, None, None] + draw.integers(0, 9, (80, 2, 2))).astype(np.uint8)
    paths = {name: str(tmp_path / f"{name}.npy") for name in ("g", "t", "h", "digits", "labels")}
    for name, array in zip(paths, (stacks(300, 3), stacks(80, 4), stacks(80, 4), digits, labels), strict=True):
        np.save(paths[name], array)
    told = [paths["g"], "--train", paths["t"], "--test", paths["h"], "--stacked", paths["digits"], paths["labels"]]
    assert main([*told, "--fail-on", "mode loss"]) == 1
    assert "·3·" in capsys.readouterr().out
    assert main([*told, "--modes", paths["t"]]) == 2
    assert "give one of them" in capsys.readouterr().err
