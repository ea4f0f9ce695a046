"""The table of --monitor: what monitor sees, beside its nulls; a resumed run continues it."""

import csv

import numpy as np
import pytest

import toygen.__main__ as command
from divergences import InputError
from tests.toygen.stops import interrupted
from toygen import GanRun, History, Recipe, Yardstick, monitor, ring, two_peaks
from toygen.__main__ import main
from toygen.watch import Watch

FAST = ["--width", "8", "--batch", "8", "--train-size", "100", "--samples", "50", "--chunk", "2"]


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("law", [ring(), two_peaks()], ids=["plane", "line"])
def test_it_holds_what_monitor_sees_and_what_is_perfect(law, tmp_path):
    data = law.sample(100, np.random.default_rng(0))
    run = GanRun(data, recipe=Recipe(width=8, batch=8, chunk=2, latent_dim=law.dim), members=3, steps=6)
    yardstick, history, dones = Yardstick(law, n=40), History(), []
    watch = Watch(yardstick, every=3)
    for progress in run:
        watch.look(progress)
        if progress.step.index in (2, 5):
            history.add(monitor(progress, yardstick))
            dones += [progress.done] * len(progress.places)
    rows = table(watch.keep(tmp_path / "truth.csv"))
    # Member 3 sits in the second chunk to keep the shapes the same, and was not asked for.
    assert [(row["step"], row["member"]) for row in rows] == [
        ("2", "0"), ("2", "1"), ("5", "0"), ("5", "1"), ("2", "2"), ("5", "2"),
    ]  # fmt: skip
    assert [int(row["done"]) for row in rows] == dones == [3, 3, 6, 6, 9, 12]
    known = history.rows()
    for name, values in known.items():
        np.testing.assert_array_equal([float(row[name] or "nan") for row in rows], values)
    low, high = yardstick.transport_null.interval
    nulls = {"transport_null": yardstick.transport_null.value, "transport_null_low": low, "transport_null_high": high,
             "modes_null": yardstick.modes_null, "high_quality_null": yardstick.quality_null}  # fmt: skip
    assert all(float(row[name]) == value for row in rows for name, value in nulls.items())
    assert set(rows[0]) == {*known, *nulls, "done"}
    assert ("jsd" in rows[0]) == (law.dim == 1)


def test_densities_of_the_plane_come_every_thousand_steps(monkeypatch, tmp_path):
    monkeypatch.setattr("toygen.watch._DENSITIES_EVERY", 4)
    data = ring().sample(100, np.random.default_rng(0))
    truth = Yardstick(ring(), n=40)
    watch = Watch(truth, every=2)
    for progress in GanRun(data, recipe=Recipe(width=4, batch=8, depths=(1, 1), chunk=6), members=6, steps=4):
        watch.look(progress)
    rows = table(watch.keep(tmp_path / "truth.csv"))
    assert [row["jsd"] != "" for row in rows] == [False] * 6 + [True] * 4 + [False] * 2
    # Read again it is the same file, empty cells and all.
    again = Watch(truth, every=2)
    again.recall(tmp_path / "truth.csv", until=4)
    assert again.keep(tmp_path / "again.csv").read_bytes() == (tmp_path / "truth.csv").read_bytes()


def test_a_watched_run_is_the_same_and_a_resumed_one_continues_its_table(tmp_path, monkeypatch, capsys):
    plain, whole, parts = (tmp_path / name for name in ("plain", "whole", "parts"))
    arguments = ["two_peaks", "--latents", "1", "--members", "3", *FAST, "--steps", "10"]
    watched = [*arguments, "--monitor", "2", "--checkpoint", "3"]
    assert main([*arguments, "--out", str(plain)]) == 0
    assert not (plain / "truth.csv").exists()
    assert main([*watched, "--out", str(whole)]) == 0
    assert "truth.csv" in capsys.readouterr().out
    with np.load(plain / "generated-all.npz") as one, np.load(whole / "generated-all.npz") as other:
        assert np.array_equal(one["samples"], other["samples"])
    assert len(table(whole / "truth.csv")) == 5 * 3
    # Interrupted in the second chunk; then, as if killed, the table is ahead of its checkpoint.
    with monkeypatch.context() as patch:
        patch.setattr(command, "GanRun", interrupted(15))
        assert main([*watched, "--out", str(parts)]) == 130
    assert [row["done"] for row in table(parts / "truth.csv")][-1] == "14"
    early = (parts / "checkpoint.pt").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(command, "GanRun", interrupted(19))
        assert main([*watched, "--out", str(parts), "--resume"]) == 130
    assert [row["done"] for row in table(parts / "truth.csv")][-1] == "18"
    (parts / "checkpoint.pt").write_bytes(early)
    assert main([*watched, "--out", str(parts), "--resume"]) == 0
    assert (parts / "truth.csv").read_bytes() == (whole / "truth.csv").read_bytes()
    # Without checkpoints what was seen is kept, too.
    with monkeypatch.context() as patch:
        patch.setattr(command, "GanRun", interrupted(4))
        assert main([*watched[:-1], "0", "--out", str(tmp_path / "none")]) == 130
    assert [row["done"] for row in table(tmp_path / "none" / "truth.csv")] == ["2", "2", "4", "4"]
    # A run that is not watched leaves no table of an earlier one.
    assert main([*arguments, "--out", str(whole)]) == 0
    assert not (whole / "truth.csv").exists()


def test_a_damaged_table_is_named(tmp_path, monkeypatch, capsys):
    arguments = ["two_peaks", "--members", "2", *FAST, "--steps", "6", "--monitor", "2", "--out", str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(command, "GanRun", interrupted(4))
        assert main(arguments) == 130
    path = tmp_path / "truth.csv"
    whole = path.read_text()
    capsys.readouterr()
    for damaged in ("", "a,b\n1,2\n", whole[: len(whole) - 9], whole.replace("\n1,0,", "\nx,0,"), whole + "1,2,3\n"):
        assert damaged != whole
        path.write_text(damaged)
        assert main([*arguments, "--resume"]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert "cannot be read as the table of --monitor" in lines[-1]
    path.write_bytes(b"\xff\xfe\x00")
    assert main([*arguments, "--resume"]) == 2
    path.write_text(whole)
    assert main([*arguments, "--resume"]) == 0
    with pytest.raises(InputError, match="does not exist"):
        Watch(two_peaks(), every=1).recall(tmp_path / "nowhere.csv", until=1)


@pytest.mark.parametrize("words", [["ring", "--recipe", "sharp"], ["parallel_lines"], ["scipy:gamma:2.0"]])
def test_targets_and_recipes_of_every_kind_can_be_watched(words, tmp_path, capsys):
    arguments = [*words, "--members", "2", *FAST, "--steps", "2", "--monitor", "1", "--out", str(tmp_path)]
    assert main(arguments) == 0
    assert capsys.readouterr().err == ""
    rows = table(tmp_path / "truth.csv")
    assert len(rows) == 4
    assert all(float(row["transport"]) > 0 for row in rows)
    assert ("modes" in rows[0]) == (words[0] == "ring")
