"""The calibration of whole audits: what it plants, how it counts, and that it goes on where it was stopped."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "audit_calibration.py"


class AtOnce:
    """Stands in for the pool of processes: answers come from a table, so that nothing is audited."""

    answers = None
    asked = None

    def __init__(self, workers):
        self.workers = workers

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def map(self, _, tasks, chunksize):
        assert chunksize > 0
        AtOnce.asked += tasks
        return [AtOnce.answers(*task) for task in tasks]


@pytest.fixture
def script(monkeypatch):
    loaded = runpy.run_path(str(SCRIPT), run_name="calibration")
    monkeypatch.setitem(loaded["main"].__globals__, "ProcessPoolExecutor", AtOnce)
    monkeypatch.setattr(AtOnce, "asked", [])
    monkeypatch.setattr(AtOnce, "answers", staticmethod(lambda *_: ()))
    return loaded


@pytest.mark.parametrize("name", ["line", "ring", "grid", "digits"])
def test_laws_have_the_moments_of_their_mixture(script, name):
    """Against the mixture's own sampler, which shares no code with the script's: means within five standard errors."""
    kind = script["world"](name)
    mine, part = kind.draw(4000, np.random.default_rng(1))
    theirs = kind.law.sample(4000, np.random.default_rng(2))
    gap = np.abs(mine.mean(axis=0) - theirs.mean(axis=0))
    assert (gap < 5 * np.sqrt((mine.var(axis=0) + theirs.var(axis=0)) / 4000) + 1e-12).all()
    assert np.linalg.norm(np.cov(mine.T) - np.cov(theirs.T)) < 0.2 * np.linalg.norm(np.cov(theirs.T))
    assert np.abs(np.bincount(part) / 4000 - kind.law.weights).max() < 5 * np.sqrt(0.25 / 4000)


def test_defects_are_what_they_say(script):
    kind = script["world"]("ring")
    means = np.stack([leaf.mean for leaf in kind.parts])
    train = kind.draw(2000, np.random.default_rng(3))[0]

    def spoiled(defect):
        x = script["DEFECTS"][defect][0](kind, train, np.random.default_rng(4))
        gaps = np.linalg.norm(x[:, None] - means, axis=2)
        return x, np.bincount(gaps.argmin(axis=1), minlength=8) / 2000, np.sqrt((gaps.min(axis=1) ** 2).mean() / 2)

    for defect, least, width in [
        ("perfect", 0.1, 0.05), ("dropped mode", 0.0, 0.05), ("weight × 0.1", 0.0125 / 0.8875, 0.05),
        ("width ÷ 3", 0.1, 0.05 / 3), ("10 % copies", 0.1, 0.05),
    ]:  # fmt: skip
        x, shares, seen = spoiled(defect)
        assert x.shape == (2000, 2)
        assert seen == pytest.approx(width, rel=0.05), defect
        if least < 0.1:
            assert shares.min() == pytest.approx(least, abs=0.009), defect
            assert (shares < 0.07).sum() == 1
        else:
            assert shares.min() > least
    x = spoiled("10 % copies")[0]
    gaps = np.sort(np.abs(x[:, None] - train).max(axis=2).min(axis=1))
    fresh = np.sort(np.abs(spoiled("perfect")[0][:, None] - train).max(axis=2).min(axis=1))
    # 200 of 2000 at hundredths of the spacing; of fresh samples so close, hardly any.
    assert gaps[195] < 0.2 * fresh[195]
    noise = spoiled("noise × 3")[0]
    assert np.var(noise) - np.var(train) == pytest.approx(0.15**2, rel=0.3)


def test_counts_and_table(script, capsys):
    def answers(name, defect, n, seed):
        assert n == 50
        if defect == "perfect":
            return ("two-sample",) if seed == 7 else ("distribution?",) if seed in (8, 9) else ()
        if defect == "weight × 0.1":
            return ("mode loss",) if seed < 156 else ("memorization",) if seed == 199 else ()
        return (script["DEFECTS"][defect][1][0],)

    AtOnce.answers = staticmethod(answers)
    status = script["main"](["--world", "grid", "--world", "line", "--samples", "50"])
    text = capsys.readouterr().out
    assert "| | three modes in 1D | ring of 8 |" not in text
    assert "| | three modes in 1D | grid of 25 |" in text
    assert "| perfect generator | 0.5 % [0, 2.8] | 0.5 % [0, 2.8] |" in text
    assert "| the same, a question left open | 1 % [0.1, 3.6] | 1 % [0.1, 3.6] |" in text
    assert "| one mode at a tenth of its share | 78 % [72, 84] | 78 % [72, 84] |" in text
    assert "| 10 % copies of training data | 100 % [98, 100] | 100 % [98, 100] |" in text
    # 200 audits of five honest cells in two worlds.
    assert "2 of 2000 audits, 0.10%" in text
    assert status == 0
    assert len(AtOnce.asked) == 2400


@pytest.mark.parametrize(
    ("defect", "flagged", "often", "status"),
    [
        ("perfect", "two-sample", 18, 1), ("perfect", "two-sample", 9, 0), ("width ÷ 3", "memorization", 6, 1),
        ("width ÷ 3", "memorization", 2, 0), ("10 % copies", "memorization", 100, 0),
    ],
)  # fmt: skip
def test_false_accusations_fail_the_calibration(script, defect, flagged, often, status):
    """At 100 audits, Clopper and Pearson's lower limits: 18 is above 5 %, 9 is not; 6 is above 1 %, 2 is not."""
    AtOnce.answers = staticmethod(lambda _name, _defect, _n, seed: (flagged,) if seed < often else ())
    assert script["main"](["--runs", "100", "--world", "ring", "--defect", defect]) == status


def test_a_stopped_run_goes_on_where_it_was(script, tmp_path):
    path = tmp_path / "audits.jsonl"
    told = ["--world", "line", "--defect", "perfect", "--out", str(path), "--samples", "40"]
    assert script["main"]([*told, "--runs", "6"]) == 0
    with path.open("a") as file:
        file.write('["line", "perfect", 40, 6, ["mode')
    AtOnce.asked.clear()
    script["main"]([*told, "--runs", "8"])
    assert AtOnce.asked == [("line", "perfect", 40, 6), ("line", "perfect", 40, 7)]
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        ["line", "perfect", 40, seed, []] for seed in range(8)
    ]
    # Other sizes are other audits.
    AtOnce.asked.clear()
    script["main"]([*told[:-1], "41", "--runs", "1"])
    assert AtOnce.asked == [("line", "perfect", 41, 0)]


def test_one_audit_finds_what_was_planted(script):
    one = script["one"]
    dropped = one(("line", "dropped mode", 300, 0))
    assert dropped == one(("line", "dropped mode", 300, 0))
    assert "mode loss" in dropped
    assert "memorization" not in dropped
    assert one(("ring", "10 % copies", 400, 0)) == ("memorization",)
    assert one(("ring", "perfect", 300, 1)) == ()
