import json

import numpy as np
import pytest

from divergences import Estimate
from divergences.__main__ import main
from divergences.claims import CLAIMS, Claim


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_claim_holds(claim):
    result = claim.check()
    assert result.agrees, result
    assert "https://" in claim.reference
    # No tolerance would pass just anything; the widest are those of samples and of searches for a flat top.
    sampled = any(side.level is not None for side in (result.left, result.right))
    assert result.tolerance <= (0.05 if sampled else 2e-6)


def test_names_are_unique():
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS) >= 100


def test_a_false_claim_fails():
    wrong = Claim("wrong", "1 = 2", "=", "nobody", lambda: Estimate(1.0, 0.0), lambda: Estimate(2.0, 0.0))
    assert not wrong.check().agrees
    above = Claim("above", r"2 \le 1", "≤", "nobody", lambda: Estimate(2.0, 0.1), lambda: Estimate(1.0, 0.1))
    assert not above.check().agrees


@pytest.mark.parametrize(
    ("target", "planted", "names"),
    [
        (
            "divergences.claims_generators.jsd",
            1e-6,
            ["inverse-cdf-reaches-any-target", "dead-units-are-seen-perfectly"],
        ),
        ("divergences.claims_transport.wasserstein", -1e-6, ["lines-w1", "line-w2", "w2-of-gaussians"]),
        ("divergences.claims_bounds.renyi", 1e-9, ["renyi-gaussian"]),
        ("divergences.claims_limits.generator_gradient", 1e-9, ["non-saturating-gradient-does-not-vanish"]),
    ],
)
def test_claims_notice_a_planted_error(target, planted, names, monkeypatch):
    from importlib import import_module

    module, name = target.rsplit(".", 1)
    true = getattr(import_module(module), name)

    def off(*args, **kwargs):
        result = true(*args, **kwargs)
        cost = getattr(result, "cost", result)
        moved = Estimate(cost.value + planted, cost.error)
        return type("Off", (), {"cost": moved})() if hasattr(result, "cost") else moved

    monkeypatch.setattr(target, off)
    chosen = [claim for claim in CLAIMS if claim.name in names]
    assert len(chosen) == len(names)
    for claim in chosen:
        assert not claim.check().agrees, claim.name


def test_command(capsys, monkeypatch):
    assert main(["gaussian-kl", "lines-kl"]) == 0
    out = capsys.readouterr().out
    assert "2 of 2 claims hold" in out
    assert "∞" in out
    assert main(["--claims", "gaussian-kl", "lines-kl", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in document["claims"]} == {"lines-kl", "gaussian-kl"}
    assert document["failed"] == 0
    assert all(np.isfinite(row["tolerance"]) for row in document["claims"])
    wrong = Claim("wrong", "1 = 2", "=", "nobody", lambda: Estimate(1.0, 0.0), lambda: Estimate(2.0, 0.0))
    monkeypatch.setattr("divergences.claims.CLAIMS", (wrong,))
    assert main([]) == 1
    assert "FAIL wrong" in capsys.readouterr().out


def test_unknown_claim(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["no-such-claim"])
    assert caught.value.code == 2
    assert "no claim is named no-such-claim" in capsys.readouterr().err
