"""Claims about estimates from samples hold, and could fail."""

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from divergences import Estimate
from evaluation.__main__ import main
from evaluation.claims import CLAIMS, finite_slope

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_claim(claim):
    result = claim.check()
    assert result.agrees
    # An agreement within errors as large as the number would say nothing.
    assert result.tolerance < 0.25 * abs(result.right.value)


def test_the_measured_rate_is_that_of_its_own_dimension():
    rates = {claim.name: claim for claim in CLAIMS if "rate" in claim.name}
    assert rates["kde_rate_1d"].left().agrees(finite_slope(1))
    assert not rates["kde_rate_1d"].left().agrees(finite_slope(2))


def test_a_wrong_mass_would_show():
    mass = next(claim for claim in CLAIMS if claim.name == "kde_mass_epanechnikov_2d")
    assert not replace(mass, right=lambda: Estimate(1.001, 0.0)).check().agrees
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)
    assert np.isfinite([claim.right().value for claim in CLAIMS]).all()


@pytest.mark.parametrize(
    ("name", "field", "module", "function"),
    [
        ("kid_shift", "raw", "kernel", "kid"),
        ("fid_debiased", "raw", "frechet", "fid"),
        ("fid_plain_bias", "value", "frechet", "fid"),
    ],
)
def test_the_other_number_would_fail(name, field, module, function, monkeypatch):
    """Biased numbers in the place of debiased ones, and the other way round, are told apart."""
    claim = next(claim for claim in CLAIMS if claim.name == name)
    place = importlib.import_module(f"evaluation.{module}")
    true = getattr(place, function)

    def swapped(**sets):
        number = getattr(true(**sets), field)
        return SimpleNamespace(value=number, raw=number)

    monkeypatch.setattr(place, function, swapped)
    assert not claim.check().agrees


def test_the_nulls_know_k_and_the_sizes():
    from evaluation.manifold import prdc

    rng = np.random.default_rng(0)
    claim = next(claim for claim in CLAIMS if claim.name == "coverage_null_normal_2d")
    for k, n, m in ((2, 90, 60), (3, 60, 90)):
        draws = [rng.standard_normal((n + m, 2)) for _ in range(25)]
        values = [prdc(generated=x[:m], reference=x[m:], k=k).coverage.value for x in draws]
        assert not Estimate(np.mean(values), 4 * np.std(values) / 25**0.5).agrees(claim.right())


def test_the_command_prints_the_table(capsys):
    assert main(["--claims", "kde_mass_gaussian_1d", "kde_rate_1d"]) == 0
    out = capsys.readouterr().out
    assert "ok   kde_mass_gaussian_1d" in out
    assert "2 of 2 claims hold" in out
    assert main(["--json", "--claims", "kde_mass_gaussian_1d"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["failed"] == 0
    assert [row["name"] for row in document["claims"]] == ["kde_mass_gaussian_1d"]
    assert document["claims"][0]["right"]["value"] == 1


def test_the_command_fails_with_a_claim(capsys, monkeypatch):
    mass = next(claim for claim in CLAIMS if claim.name == "kde_mass_gaussian_1d")
    wrong = replace(mass, name="wrong", right=lambda: Estimate(1.001, 0.0))
    monkeypatch.setattr("evaluation.claims.CLAIMS", (mass, wrong))
    assert main(["--claims"]) == 1
    out = capsys.readouterr().out
    assert "FAIL wrong" in out
    assert "1 of 2 claims hold" in out
    assert main(["--claims", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["failed"] == 1


def test_the_command_knows_its_claims(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--claims", "no-such-claim"])
    assert caught.value.code == 2
    assert "no claim is named no-such-claim; there are: kde_mass" in capsys.readouterr().err


def test_as_a_module_and_into_a_pipe_that_closes():
    command = [sys.executable, "-m", "evaluation", "--claims"]
    whole = subprocess.run([*command, "kde_mass_gaussian_1d"], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "1 of 1 claims hold" in whole.stdout
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout.readline().startswith("ok ")
        process.stdout.close()
        assert process.stderr.read() == ""
