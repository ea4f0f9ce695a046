"""Each bad input on each public entry point: one clear error that names the argument, nothing from deep inside."""

import zipfile

import numpy as np
import pytest

from divergences import Discrete, Gaussian, InputError, Mixture, Uniform, wasserstein
from evaluation import KDE, Verdict, audit, fid, labelled_modes, load_samples, memorization, mode_coverage
from evaluation.__main__ import main as mintmark
from toygen import Recipe, Sampler, fit_gan
from toygen.__main__ import main as toygen

GOOD = np.random.default_rng(0).normal(size=(60, 2))
OTHER = np.random.default_rng(1).normal(size=(60, 2))
LABELS = np.arange(60) % 3
MODES = Mixture([Gaussian([0.0, 0.0], np.eye(2))])


def _spoilt(value):
    array = GOOD.copy()
    array[7, 1] = value
    return array


BAD = {
    "NaN": _spoilt(np.nan),
    "infinity": _spoilt(np.inf),
    "minus infinity": _spoilt(-np.inf),
    "empty": np.empty((0, 2)),
    "no columns": np.empty((60, 0)),
    "three axes too many": np.zeros((2, 2, 2, 2, 2)),
    "text": np.array([["a", "b"]] * 60),
    "complex": GOOD.astype(complex),
    "objects": np.array([[object(), object()]] * 60),
    "ragged": [[0.0, 1.0], [2.0]],
    "nothing": None,
}
OTHER_DIMENSION = np.zeros((60, 3))


def _rng():
    return np.random.default_rng(0)


# What is called with the bad array, and the name under which the message must know it.
ENTRIES = {
    "Discrete": (lambda bad: Discrete(bad), "points"),
    "wasserstein p": (lambda bad: wasserstein(bad, GOOD), "p"),
    "wasserstein q": (lambda bad: wasserstein(GOOD, bad), "q"),
    "mode_coverage": (lambda bad: mode_coverage(generated=bad, modes=MODES), "generated"),
    "labelled_modes": (lambda bad: labelled_modes(generated=bad, train=GOOD, labels=LABELS, rng=_rng()), "generated"),
    "labelled_modes train": (lambda bad: labelled_modes(generated=GOOD, train=bad, labels=LABELS, rng=_rng()), "train"),
    "memorization": (lambda bad: memorization(generated=bad, train=GOOD, test=OTHER), "generated"),
    "memorization train": (lambda bad: memorization(generated=GOOD, train=bad, test=OTHER), "train"),
    "memorization test": (lambda bad: memorization(generated=OTHER, train=GOOD, test=bad), "test"),
    "fid": (lambda bad: fid(generated=bad, reference=GOOD), "generated"),
    "fid reference": (lambda bad: fid(generated=GOOD, reference=bad), "reference"),
    "KDE": (lambda bad: KDE(bad), "points"),
    "audit": (lambda bad: audit(generated=bad, train=GOOD, test=OTHER, rng=_rng()), "generated"),
    "audit train": (lambda bad: audit(generated=GOOD, train=bad, test=OTHER, rng=_rng()), "train"),
    "audit test": (lambda bad: audit(generated=GOOD, train=OTHER, test=bad, rng=_rng()), "test"),
    "fit_gan": (lambda bad: fit_gan(bad, recipe=Recipe(width=4, chunk=1), members=1, steps=1), "train"),
    "load_samples": (lambda bad: load_samples(bad), ""),
}
# Held-out data may be absent: then the answer is INCONCLUSIVE, never CLEAR.
OPTIONAL = {"memorization test", "audit test"}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("entry", ENTRIES)
def test_each_on_each(entry, bad):
    call, name = ENTRIES[entry]
    if entry in OPTIONAL and bad == "nothing":
        assert call(None).verdict is Verdict.INCONCLUSIVE
        return
    with pytest.raises(InputError) as caught:
        call(BAD[bad])
    message = str(caught.value)
    assert name in message
    assert len(message) > 25
    assert "\n" not in message


@pytest.mark.parametrize("entry", sorted(set(ENTRIES) - {"Discrete", "KDE", "fit_gan", "load_samples"}))
def test_mismatched_dimensions(entry):
    with pytest.raises(InputError, match="dimension|coordinates|shape|features"):
        ENTRIES[entry][0](OTHER_DIMENSION)


@pytest.mark.parametrize("n", [2, 5])
def test_too_few_samples_are_inconclusive_or_refused(n):
    report = audit(generated=GOOD[:n], train=GOOD, test=OTHER, modes=MODES, rng=_rng())
    assert report.verdict is not Verdict.CLEAR
    assert report.exit_status in (1, 3)
    with pytest.raises(InputError, match="generated"):
        fid(generated=GOOD[:1], reference=GOOD)


BAD_FILES = [
    *("truncated.npy", "pickled.npy", "empty.npy", "picture.npy", "nan.npy", "missing.npy"),
    *("truncated.npz", "noise.npz", "other.npz", "ragged.csv", "words.csv", "unknown.xyz", "nothing"),
    *("truncated.safetensors", "pickled.pt", "noise.zip", "noise.tar", "no_such_module:sample"),
]


def _files(folder):
    """Name → path of files nobody should be able to load."""
    np.save(folder / "good.npy", GOOD)
    whole = (folder / "good.npy").read_bytes()
    (folder / "truncated.npy").write_bytes(whole[:200])
    np.save(folder / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(folder / "whole.npz", samples=GOOD)
    (folder / "truncated.npz").write_bytes((folder / "whole.npz").read_bytes()[:300])
    (folder / "noise.npz").write_bytes(b"this is no archive")
    (folder / "empty.npy").write_bytes(b"")
    (folder / "ragged.csv").write_text("1,2\n3\n")
    (folder / "words.csv").write_text("a,b\nc,d\n")
    (folder / "picture.npy").write_bytes(b"\x89PNG\r\n")
    (folder / "unknown.xyz").write_text("1")
    (folder / "nothing").mkdir()
    (folder / "truncated.safetensors").write_bytes(b"\x40\x00\x00\x00\x00\x00\x00\x00{}")
    (folder / "pickled.pt").write_bytes((folder / "pickled.npy").read_bytes()[128:])
    (folder / "noise.zip").write_bytes(b"this is no archive")
    (folder / "noise.tar").write_bytes(b"this is no archive" * 100)
    with zipfile.ZipFile(folder / "other.npz", "w") as archive:
        archive.writestr("notes.txt", "no array")
    np.save(folder / "nan.npy", BAD["NaN"])
    return {name: folder / name for name in BAD_FILES}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return _files(tmp_path_factory.mktemp("files"))


@pytest.mark.parametrize("place", ["generated", "--train", "--test", "--modes", "--train-labels"])
@pytest.mark.parametrize("name", BAD_FILES)
def test_each_bad_file_in_each_place(name, place, files, tmp_path, capsys):
    good = str(files["nan.npy"].with_name("good.npy"))
    arguments = {"generated": good, "--train": good}
    arguments[place] = str(files[name])
    page = tmp_path / "report.html"
    command = [arguments.pop("generated"), "--html", str(page), "--seed", "0"]
    for flag, value in arguments.items():
        command += [flag, value]
    try:
        status = mintmark(command)
    except SystemExit as stopped:
        status = stopped.code
    captured = capsys.readouterr()
    assert status == 2, captured.out
    last = captured.err.strip().splitlines()[-1]
    assert last.startswith("mintmark: error: ")
    assert "Traceback" not in captured.err
    assert not page.exists()


@pytest.mark.parametrize("name", ["truncated.npz", "noise.npz", "empty.npy", "other.npz", "missing.npy", "nothing"])
def test_bad_sampler_files(name, files):
    with pytest.raises((InputError, OSError), match=r"\w"):
        Sampler.load(files[name])


@pytest.mark.parametrize(
    "arguments",
    [
        ["pentagon"],
        ["ring", "--members", "0"],
        ["ring", "--steps", "-1"],
        ["ring", "--objective", "minmax"],
        ["ring", "--penalty", "r7"],
        ["ring", "--seed", "-1"],
        ["ring", "--width", "0"],
    ],
)
def test_bad_toygen_arguments(arguments, tmp_path, capsys):
    out = tmp_path / "out"
    try:
        status = toygen([*arguments, "--out", str(out)])
    except SystemExit as stopped:
        status = stopped.code
    captured = capsys.readouterr()
    assert status == 2
    assert "error: " in captured.err.strip().splitlines()[-1]
    assert not out.exists()


@pytest.mark.parametrize(
    "build",
    [
        lambda: Gaussian([0.0, np.nan], np.eye(2)),
        lambda: Gaussian([0.0, 0.0], -np.eye(2)),
        lambda: Uniform([0.0, 0.0], [1.0, np.inf]),
        lambda: Mixture([Gaussian(0.0, 1.0)], [np.nan]),
        lambda: Mixture([Gaussian(0.0, 1.0)] * 2, [0.7, 0.7]),
        lambda: wasserstein(GOOD, OTHER, p_weights=-np.ones(60) / 60),
        lambda: wasserstein(GOOD, OTHER, p_weights=np.ones(60)),
        lambda: KDE(GOOD, bandwidth=-1.0),
        lambda: KDE(GOOD, bandwidth="magic"),
        lambda: mode_coverage(generated=GOOD, modes=Mixture([Uniform([0, 0], [1, 1])])),
        lambda: labelled_modes(generated=GOOD, train=GOOD, labels=LABELS[:5], rng=_rng()),
        lambda: audit(generated=GOOD, train=OTHER, test=OTHER, rng=_rng()),
        lambda: audit(generated=GOOD, train=OTHER, labels=LABELS[:-1], rng=_rng()),
        lambda: audit(generated=GOOD, train=OTHER, features="pca:99", rng=_rng()),
        lambda: audit(generated=GOOD, train=OTHER, features="wavelets", rng=_rng()),
    ],
)
def test_other_bad_arguments(build):
    with pytest.raises(InputError):
        build()
