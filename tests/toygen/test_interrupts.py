"""Ctrl-C in the middle of a step: the step is finished first, and what is put aside goes on bit by bit."""

import signal

import numpy as np
import pytest

from divergences import InputError
from toygen import Average, GanRun, Recipe, autoencoder_command, ring, save_checkpoint
from toygen.__main__ import main
from toygen.autoencoder_chunks import AutoencoderChunk
from toygen.autoencoder_runs import AutoencoderRun
from toygen.interrupts import between_steps

SMALL = ["two_peaks", "--members", "2", "--steps", "8", "--width", "8", "--train-size", "50"]
GAN = [*SMALL, "--chunk", "2", "--samples", "20"]


@pytest.fixture(autouse=True)
def _ctrl_c_as_usual():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press_during(monkeypatch, owner, name, call):
    """Ctrl-C at the so-manieth call of a method that every step calls before it is over."""
    keep, calls = getattr(owner, name), []

    def method(self, *args):
        calls.append(1)
        if len(calls) == call:
            signal.raise_signal(signal.SIGINT)
        return keep(self, *args)

    monkeypatch.setattr(owner, name, method)


def same(one, other, names):
    for name in names:
        with np.load(one / name) as first, np.load(other / name) as second:
            for key in first:
                if not np.array_equal(first[key], second[key]):
                    return False
    return True


def test_a_gan_interrupted_within_a_step_goes_on_as_if_it_had_not_been(tmp_path, capsys, monkeypatch):
    assert main([*GAN, "--out", str(tmp_path / "whole")]) == 0
    with monkeypatch.context() as patch:
        # Both players have moved by then, and the step is not counted yet.
        press_during(patch, Average, "update", 5)
        assert main([*GAN, "--out", str(tmp_path / "parts")]) == 130
    assert "interrupted after 5 steps" in capsys.readouterr().err
    assert main([*GAN, "--out", str(tmp_path / "parts"), "--resume"]) == 0
    assert same(tmp_path / "whole", tmp_path / "parts", ("history.npz", "generated-all.npz", "sampler.npz"))


def test_so_does_an_autoencoder(tmp_path, capsys, monkeypatch):
    words = [*SMALL, "--kind", "wae", "--out"]
    assert autoencoder_command.main([*words, str(tmp_path / "whole")]) == 0
    with monkeypatch.context() as patch:
        press_during(patch, AutoencoderChunk, "_set_out", 6)
        assert autoencoder_command.main([*words, str(tmp_path / "parts")]) == 130
    assert "interrupted after 5 steps" in capsys.readouterr().err
    assert autoencoder_command.main([*words, str(tmp_path / "parts"), "--resume"]) == 0
    assert same(tmp_path / "whole", tmp_path / "parts", ("history.npz", "generated.npz", "sampler.npz"))
    # What is finished is neither trained again nor replaced by another run's.
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(AutoencoderRun, "__iter__", None)
        assert autoencoder_command.main([*words, str(tmp_path / "parts"), "--resume"]) == 0
        assert "already finished" in capsys.readouterr().err
        assert autoencoder_command.main([*words, str(tmp_path / "parts"), "--resume", "--seed", "9"]) == 2
        assert "a finished run with other seed" in capsys.readouterr().err


def gan_run():
    return GanRun(ring().sample(50, np.random.default_rng(0)), recipe=Recipe(width=8, chunk=2), members=2, steps=5)


def autoencoder_run():
    return AutoencoderRun(ring().sample(50, np.random.default_rng(0)), members=2, steps=5)


@pytest.mark.parametrize(
    ("make", "owner", "name"),
    [(gan_run, Average, "update"), (autoencoder_run, AutoencoderChunk, "_set_out")],
    ids=["gan", "autoencoder"],
)
def test_half_a_step_is_not_put_aside(make, owner, name, tmp_path, monkeypatch):
    run = make()
    press_during(monkeypatch, owner, name, 3)
    with pytest.raises(KeyboardInterrupt):
        list(run)
    with pytest.raises(InputError, match="in the middle of a step"):
        save_checkpoint(run, tmp_path / "checkpoint.pt")
    assert not list(tmp_path.iterdir())
    # Started anew, it is whole again.
    list(run)
    save_checkpoint(run, tmp_path / "checkpoint.pt")


def test_ctrl_c_waits_and_is_itself_again():
    with between_steps() as hear:
        hear()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            hear()
        hear()
    with pytest.raises(KeyboardInterrupt), between_steps():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with between_steps() as hear:
        signal.raise_signal(signal.SIGINT)
        hear()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
