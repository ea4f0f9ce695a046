"""A run put aside and taken up again is the run that was never interrupted, bit by bit; also when it was killed."""

import dataclasses
import importlib.metadata
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from divergences import InputError
from evaluation.files import write_atomically
from toygen import GanRun, Recipe, chunked, fit_gan, load_checkpoint, recipe_for, ring, save_checkpoint
from toygen.checkpoints import sweep
from toygen.chunked import versions
from toygen.command_line import take_up
from toygen.recipes import RECIPES

DATA = ring().sample(300, np.random.default_rng(0))
SMALL = {"width": 8, "batch": 8, "chunk": 3}
GAMES = {
    "r1_r2": Recipe(**SMALL),
    "critic": dataclasses.replace(recipe_for("wasserstein"), **SMALL),
    "clip": dataclasses.replace(RECIPES["wgan_algorithm_1"], **SMALL),
    "sgd": dataclasses.replace(RECIPES["gan_algorithm_1"], **SMALL),
    "spectral": dataclasses.replace(recipe_for("hinge", "spectral"), **SMALL),
    "minibatch": dataclasses.replace(recipe_for("minimax", "minibatch"), **SMALL),
    "instance_noise": dataclasses.replace(recipe_for("relativistic", "instance_noise"), pack=2, **SMALL),
}
# Two chunks of 40 steps: two draws of latents a step go further than the streams draw ahead.
RUN = {"members": 4, "steps": 40, "seed": 3}


def arrays(ensemble):
    networks = (ensemble.generators, ensemble.discriminators)
    tensors = [tensor.numpy() for network in networks for tensor in network.state_dict().values()]
    return [*tensors, *ensemble.history.values()]


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(arrays(first), arrays(second), strict=True))


def check_resumed(recipe, path, stop, steps):
    settings = {"recipe": recipe, **RUN, "steps": steps}
    whole = fit_gan(DATA, **settings)
    run = GanRun(DATA, **settings)
    for progress in run:
        if progress.done == stop:
            save_checkpoint(run, path)
            break
    again = GanRun(DATA, **settings)
    load_checkpoint(again, path)
    assert again.done == stop
    assert [progress.done for progress in again] == list(range(stop + 1, 2 * steps + 1))
    assert same(again.result(), whole)
    # Once iterated, the run is an ordinary one: it starts from the beginning.
    assert next(iter(again)).done == 1


@pytest.mark.parametrize("name", GAMES)
def test_a_resumed_run_ends_where_the_uninterrupted_one_does(name, tmp_path):
    check_resumed(GAMES[name], tmp_path / "deep" / "run.pt", 14, 10)


@pytest.mark.parametrize("stop", [36, 40])
def test_it_does_not_matter_when_it_was_put_aside(stop, tmp_path):
    check_resumed(GAMES["r1_r2"], tmp_path / "run.pt", stop, 40)


def test_mixed_members_resume_too(tmp_path):
    path = tmp_path / "run.pt"
    settings = {"learning_rates": [1e-3, 2e-3, 3e-3, 4e-3], "seeds": [1, 2, 3, 4], "recipe": GAMES["r1_r2"], **RUN}
    whole = fit_gan(DATA, **settings)
    with pytest.raises(KeyboardInterrupt):
        fit_gan(DATA, **settings, checkpoint=path, every=20, progress=stop_at(60))
    assert same(fit_gan(DATA, **settings, checkpoint=path), whole)
    # What is finished stays finished: nothing is trained again.
    seen = []
    assert same(fit_gan(DATA, **settings, checkpoint=path, progress=seen.append), whole)
    assert seen == []


def stop_at(step):
    def progress(state):
        if state.done == step:
            raise KeyboardInterrupt

    return progress


def test_other_versions_are_not_passed_over_in_silence(tmp_path, capsys, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    run = GanRun(DATA, recipe=GAMES["r1_r2"], **RUN)
    next(iter(run))
    with monkeypatch.context() as patch:
        patch.setattr(chunked, "versions", lambda: {**versions(), "torch": "1.0"})
        save_checkpoint(run, path)
    with pytest.warns(RuntimeWarning, match=r"under torch 1.0 \(now "):
        load_checkpoint(GanRun(DATA, recipe=GAMES["r1_r2"], **RUN), path)
    # One of before the library's own version was written down.
    with monkeypatch.context() as patch:
        patch.setattr(chunked, "versions", lambda: {n: v for n, v in versions().items() if n != "mintmark"})
        save_checkpoint(run, tmp_path / "old.pt")
    with pytest.warns(RuntimeWarning, match=r"under mintmark unknown \(now "):
        load_checkpoint(GanRun(DATA, recipe=GAMES["r1_r2"], **RUN), tmp_path / "old.pt")
    again = GanRun(DATA, recipe=GAMES["r1_r2"], **RUN)
    assert take_up(again, path, wanted=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("toygen: note: the run was put aside under torch 1.0")
    assert lines[1:] == ["resumed after 1 steps"]


def test_the_version_of_the_library_is_recorded(monkeypatch):
    assert versions()["mintmark"] == importlib.metadata.version("mintmark")

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert versions()["mintmark"] == "unknown"


def test_the_file_is_plain_and_written_whole(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    run = GanRun(DATA, recipe=GAMES["r1_r2"], **RUN)
    states = iter(run)
    next(states)
    save_checkpoint(run, path)
    state = torch.load(path, weights_only=True)
    assert state["versions"]["torch"] == torch.__version__
    before = path.read_bytes()

    def fail(state, file):
        file.write(b"half")
        raise OSError("disk full")

    next(states)
    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(run, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_other_runs_and_other_files_are_refused(tmp_path):
    path = tmp_path / "run.pt"
    with pytest.raises(InputError, match="does not exist"):
        load_checkpoint(GanRun(DATA, recipe=GAMES["r1_r2"], **RUN), path)
    run = GanRun(DATA, recipe=GAMES["r1_r2"], **RUN)
    next(iter(run))
    save_checkpoint(run, path)
    others = {
        "steps": GanRun(DATA, recipe=GAMES["r1_r2"], **{**RUN, "steps": 41}),
        "members": GanRun(DATA, recipe=GAMES["r1_r2"], **{**RUN, "seed": 4}),
        "data": GanRun(DATA + 1, recipe=GAMES["r1_r2"], **RUN),
        "recipe": GanRun(DATA, recipe=dataclasses.replace(GAMES["r1_r2"], width=9), **RUN),
    }
    for what, other in others.items():
        with pytest.raises(InputError, match=f"another run: {what} differ"):
            load_checkpoint(other, path)
    whole = path.read_bytes()
    for broken in (b"", b"PK", whole[: len(whole) // 2], b"x" * 1000):
        path.write_bytes(broken)
        with pytest.raises(InputError, match="cannot be read as a checkpoint"):
            load_checkpoint(run, path)
    torch.save({"weights": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="not a checkpoint of this library"):
        load_checkpoint(run, path)


def test_a_checkpoint_that_loads_but_lacks_something_is_refused(tmp_path):
    path, settings = tmp_path / "run.pt", {"recipe": GAMES["r1_r2"], **RUN}
    run = GanRun(DATA, **settings)
    next(iter(run))
    save_checkpoint(run, path)
    state = torch.load(path, weights_only=True)

    def refused(changed, match):
        torch.save(changed, path)
        with pytest.raises(InputError, match=match):
            load_checkpoint(GanRun(DATA, **settings), path)

    for definition in (None, 3, "", "[1]", "{"):
        refused({**state, "definition": definition}, "does not say what run it is of")
    for lost in set(state) - {"format"}:
        rest = {name: value for name, value in state.items() if name != lost}
        refused(
            rest, "does not say what run" if lost == "definition" else r"run\.pt is a damaged checkpoint \(KeyError\)"
        )
    chunk = state["chunks"][0]
    for lost in chunk:
        refused({**state, "chunks": [{name: v for name, v in chunk.items() if name != lost}]}, "damaged checkpoint")
    for name, wrong in (
        ("networks", chunk["networks"][:1]),
        ("networks", [{}] * 3),
        ("networks", [chunk["networks"][1]] * 3),
        ("optimizers", [None, None]),
        ("streams", ["x"] * len(chunk["streams"])),
        ("history", {"generator": torch.zeros(7, 9)}),
    ):
        refused({**state, "chunks": [{**chunk, name: wrong}]}, "damaged checkpoint")
    for other in (None, 3, [], "chunks"):
        if other != []:
            refused({**state, "chunks": other}, "damaged checkpoint")
        refused({**state, "versions": other}, "damaged checkpoint")
    torch.save(state, path)
    load_checkpoint(GanRun(DATA, **settings), path)


def test_halves_are_swept_and_nothing_else(tmp_path):
    for name in ("run[1].pt", ".run[1].pt.abcdef_1", ".run1.pt.abcdef_1", ".run[1].pt.kept", ".run[1].pt.abcdef_12"):
        (tmp_path / name).write_bytes(b"x")
    sweep(tmp_path / "run[1].pt", tmp_path / "nowhere" / "frames.npz")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"run[1].pt", ".run1.pt.abcdef_1", ".run[1].pt.kept", ".run[1].pt.abcdef_12"}
    # The name that a file has while it is written is what is swept.
    seen = []
    write_atomically(tmp_path / "a.npz", lambda file: seen.extend(path.name for path in tmp_path.glob(".a.npz.*")))
    (tmp_path / seen[0]).write_bytes(b"half")
    sweep(tmp_path / "a.npz")
    assert not (tmp_path / seen[0]).exists()


SCRIPT = """
import sys
import numpy as np
from toygen import Recipe, fit_gan, ring
data = ring().sample(300, np.random.default_rng(0))
fit_gan(data, recipe=Recipe(width=8, batch=8, chunk=3), members=4, steps=STEPS, seed=3, checkpoint=sys.argv[1], every=1)
"""


def killed(path, steps, pause):
    """Train in another process, and kill it without warning while it writes one checkpoint after the other."""
    process = subprocess.Popen([sys.executable, "-c", SCRIPT.replace("STEPS", str(steps)), str(path)])
    before = path.stat().st_mtime_ns if path.exists() else 0
    while process.poll() is None and (not path.exists() or path.stat().st_mtime_ns == before):
        time.sleep(0.01)
    time.sleep(pause)
    process.kill()
    return process.wait()


@pytest.mark.parametrize("kills", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path, kills):
    path, rng = tmp_path / "run.pt", np.random.default_rng(kills)
    run = {"recipe": GAMES["r1_r2"], **RUN, "steps": 150}
    ends = [killed(path, 150, rng.uniform(0, 0.1)) for _ in range(kills)]
    assert ends[0] == -signal.SIGKILL
    (tmp_path / ".run.pt.abcdefgh").write_bytes(b"left behind by a process that was killed while writing")
    done = []
    resumed = fit_gan(DATA, **run, checkpoint=path, every=10_000, progress=lambda state: done.append(state.done))
    assert done[0] > 1
    assert same(resumed, fit_gan(DATA, **run))
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]
