import json

import pytest

from divergences import Estimate
from divergences.__main__ import main
from divergences.claims import CLAIMS, Claim


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_claim_holds(claim):
    result = claim.check()
    assert result.agrees, result
    assert "https://" in claim.reference
    # No tolerance would pass just anything; the widest are those of a search over constants and of a sample.
    assert result.tolerance <= (0.01 if "sampling" in claim.name else 3e-4)


def test_names_are_unique():
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS) >= 45


def test_a_false_claim_fails():
    wrong = Claim("wrong", "1 = 2", "=", "nobody", lambda: Estimate(1.0, 0.0), lambda: Estimate(2.0, 0.0))
    assert not wrong.check().agrees
    above = Claim("above", r"2 \le 1", "≤", "nobody", lambda: Estimate(2.0, 0.1), lambda: Estimate(1.0, 0.1))
    assert not above.check().agrees


def test_command(capsys, monkeypatch):
    assert main(["gaussian-kl", "lines-kl"]) == 0
    out = capsys.readouterr().out
    assert "2 of 2 claims hold" in out
    assert "∞" in out
    assert main(["gaussian-kl", "lines-kl", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in document["claims"]] == ["lines-kl", "gaussian-kl"]
    assert document["failed"] == 0
    wrong = Claim("wrong", "1 = 2", "=", "nobody", lambda: Estimate(1.0, 0.0), lambda: Estimate(2.0, 0.0))
    monkeypatch.setattr("divergences.claims.CLAIMS", (wrong,))
    assert main([]) == 1
    assert "FAIL wrong" in capsys.readouterr().out


def test_unknown_claim(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["no-such-claim"])
    assert caught.value.code == 2
    assert "no claim is named no-such-claim" in capsys.readouterr().err
