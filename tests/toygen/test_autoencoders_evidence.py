"""Trained autoencoders weighed: evidence, gaps, collapse, codebooks, samplers, checkpoints, and the command."""

import json
import re
import sys

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from divergences import Discrete, Estimate, Gaussian, InputError, Quadrature, kl, mmd
from evaluation.modes import mode_coverage
from toygen import autoencoder_command, load_checkpoint, ring, save_checkpoint, two_peaks
from toygen.autoencoder_command import main
from toygen.autoencoder_recipe import AutoencoderRecipe
from toygen.autoencoder_runs import AutoencoderRun, fit_autoencoder
from toygen.codebook import Codebook, codebook_use
from toygen.elbo_gap import mean_of
from toygen.evidence import evidence, mean_over_members
from toygen.noisy_decoder import noisy_decoder
from toygen.sampler import Sampler

KINDS = ("ae", "vae", "iwae", "wae", "vq_vae", "vae_gan")
PEAKS = two_peaks()
TRAIN, TEST = (PEAKS.sample(n, np.random.default_rng(seed)) for n, seed in ((2000, 0), (60, 1)))


@pytest.fixture(scope="module")
def trained():
    recipe = AutoencoderRecipe(latent_dim=1, width=16, chunk=2)
    return fit_autoencoder(TRAIN, recipe=recipe, members=2, steps=600, seed=5)


@pytest.fixture(scope="module")
def found(trained):
    return evidence(trained, TEST, 0, target=PEAKS, samples=8, rng=np.random.default_rng(0))


def test_the_evidence_of_a_trained_member_against_brute_force(trained, found):
    model = trained.model(0)
    mean, variance = trained.encode(TEST, 0)
    z = np.random.default_rng(2).normal(size=(200_000, 1))
    output = trained.decoders.pick([0])(torch.tensor(z[None], dtype=torch.float32))[0].detach().numpy()
    grid = np.linspace(-9, 9, 60_001)
    decoded = model.decode(grid[:, None])[:, 0]
    for i in range(6):
        # Monte Carlo over the prior, with its error; no quadrature, no importance weights, the float32 network.
        likelihood = stats.norm.pdf(TEST[i, 0], output[:, 0], trained.noise[0])
        error = likelihood.std() / likelihood.mean() / np.sqrt(len(z))
        assert found.points.log_prob[i] == pytest.approx(np.log(likelihood.mean()), abs=4 * error)
        assert error < 0.02
        # log q(x) − ELBO is the divergence of the encoder's Gaussian from the posterior, on a grid.
        joint = stats.norm.logpdf(TEST[i, 0], decoded, trained.noise[0]) + stats.norm.logpdf(grid)
        posterior = joint - np.log(integrate.trapezoid(np.exp(joint), grid))
        q = stats.norm(mean[i, 0], np.sqrt(variance[i, 0]))
        divergence = integrate.trapezoid(q.pdf(grid) * (q.logpdf(grid) - posterior), grid)
        assert found.points.gap[i] == pytest.approx(divergence, abs=1e-5)


def test_the_order_of_the_bounds(trained, found):
    assert found.points.error.max() < 1e-6
    assert (found.points.gap > 0).all()
    # In expectation, paired point by point: both differences are far above their own errors.
    assert found.tightening.value > 3 * found.tightening.error > 0
    rest = found.gap.value - found.tightening.value
    assert rest > 0.05 * found.gap.value
    assert found.gap.value == pytest.approx(found.log_prob.value - found.elbo.value, abs=1e-9)
    assert found.elbo.value == pytest.approx(found.reconstruction.value - found.rate.value, abs=1e-9)
    assert found.gap.value == pytest.approx(found.approximation.value + found.amortisation.value, abs=1e-9)
    assert found.kl.value == pytest.approx(found.perfect.value - found.log_prob.value, abs=1e-9)
    assert found.collapse.verdict == "none"
    # The ELBO of the history is that of minibatches: the same number, another way.
    late = trained.history["elbo"][-50:, 0]
    assert late.mean() == pytest.approx(found.elbo.value, abs=found.elbo.error + 4 * late.std() / np.sqrt(50))


def test_the_shortfall_is_the_divergence(trained, found):
    law = trained.law(0)
    exact = kl(PEAKS, law, expect=Quadrature(tol=1e-6))
    sets = PEAKS.sample(300 * 60, np.random.default_rng(3))
    gains = (PEAKS.log_prob(sets) - law.log_prob(sets)).reshape(300, 60)
    assert gains.mean() == pytest.approx(exact.value, abs=4 * gains.std() / np.sqrt(gains.size))
    # The interval of a mean over held-out points covers that: 92 % at n = 60, for the gains are skewed.
    hits = sum(mean_of(gain, 0.0).agrees(exact.value) for gain in gains)
    assert 0.88 < hits / 300 < 0.97
    assert found.points.log_prob == pytest.approx(law.log_prob(TEST), abs=1e-6)


def test_intervals_over_members_cover():
    rng = np.random.default_rng(0)
    runs = rng.normal(1.0, 0.3, size=(2000, 4))
    hits = sum(mean_over_members([Estimate(float(value), 0.0) for value in run]).agrees(1.0) for run in runs)
    assert 0.935 < hits / 2000 < 0.965
    with pytest.raises(InputError, match="two"):
        mean_over_members([Estimate(1.0, 0.1)])


def test_too_much_noise_leaves_nothing_to_say():
    recipe = AutoencoderRecipe(latent_dim=1, width=8, chunk=1, noise=2.0)
    ensemble = fit_autoencoder(TRAIN, recipe=recipe, members=1, steps=200)
    report = evidence(ensemble, TEST, 0, target=PEAKS, rng=np.random.default_rng(0))
    assert report.collapse.verdict == "collapsed"
    # The bound is tight for a bad reason: the model is the best single Gaussian of that noise.
    assert report.gap.value < 1e-3
    single = Gaussian(TRAIN.mean(), (2.0 * TRAIN.std()) ** 2)
    assert report.log_prob.value == pytest.approx(single.log_prob(TEST).mean(), abs=0.02)
    assert report.kl.value > 0.5


def test_evidence_refuses_what_it_cannot_weigh(trained):
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="no density"):
        evidence(trained, TEST, 0, target=Discrete([0.0]), rng=rng)
    with pytest.raises(InputError, match="x"):
        evidence(trained, TEST[:3], 0, rng=rng)
    plain = fit_autoencoder(TRAIN, recipe=AutoencoderRecipe(kind="wae", chunk=1, width=4), members=1, steps=1)
    with pytest.raises(InputError, match="likelihood"):
        evidence(plain, TEST, 0, rng=rng)
    with pytest.raises(InputError, match="noise"):
        plain.sampler(0, noise=True)


def test_a_weight_scales_the_noise():
    # A linear VAE with fixed noise s and weight β has the optimum of probabilistic PCA with noise s√β: the decoder's
    # squared slope is λ − βs², and the posterior's variance βs²/λ.
    data = np.random.default_rng(0).normal(size=(400, 1))
    data = (data - data.mean()) / data.std()
    recipe = AutoencoderRecipe(
        latent_dim=1, depths=(0, 0), batch=200, learning_rate=0.03, noise=0.7, samples=4, chunk=3, betas=(0.9, 0.99)
    )
    ensemble = fit_autoencoder(data, recipe=recipe, members=3, steps=400, beta=[0.5, 1.0, 1.6])
    for place, beta in enumerate((0.5, 1.0, 1.6)):
        slope = float(np.diff(ensemble.model(place).decode(np.array([[0.0], [1.0]])), axis=0)[0, 0])
        assert slope**2 == pytest.approx(1 - beta * 0.49, abs=0.03)
        assert ensemble.encode(data[:1], place)[1][0, 0] == pytest.approx(beta * 0.49, abs=0.03)


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("depth", [0, 2])
def test_a_decoder_with_its_noise_is_one_network(dim, depth):
    recipe = AutoencoderRecipe(latent_dim=2, depths=(1, depth), width=5, chunk=2)
    data = np.random.default_rng(0).normal([3.0, -7.0][:dim], 4.0, size=(50, dim))
    ensemble = fit_autoencoder(data, recipe=recipe, members=2, steps=3)
    whole = ensemble.sampler(1)
    inputs = np.random.default_rng(1).normal(size=(40, 2 + dim))
    expected = ensemble.model(1).decode(inputs[:, :2]) + ensemble.noise[1] * inputs[:, 2:]
    assert np.abs(whole.push(inputs) - expected).max() < 1e-12
    assert whole.about["draws"] == "p(x)"
    bare = ensemble.sampler(1, noise=False)
    assert np.abs(bare.push(inputs[:, :2]) - ensemble.model(1).decode(inputs[:, :2])).max() < 1e-12
    with pytest.raises(InputError, match="one member"):
        noisy_decoder(ensemble.decoders, 1.0)


def test_draws_of_the_sampler_follow_the_exact_law(trained, tmp_path):
    sampler = Sampler.load(trained.sampler(0).save(tmp_path / "vae.npz"))
    draws = sampler(4000, np.random.default_rng(4))
    assert np.array_equal(draws, trained.sampler(0)(4000, np.random.default_rng(4)))
    law = trained.law(0)
    assert stats.kstest(draws[:, 0], lambda t: law.cdf(t)).pvalue > 1e-3
    means = trained.sampler(0, noise=False)(4000, np.random.default_rng(4))
    assert stats.kstest(means[:, 0], lambda t: law.cdf(t)).pvalue < 1e-6


def test_a_codebook_survives_its_file(tmp_path):
    recipe = AutoencoderRecipe(kind="vq_vae", width=5, codes=7, chunk=1)
    sampler = fit_autoencoder(TRAIN, recipe=recipe, members=1, steps=5).sampler(0)
    loaded = Sampler.load(sampler.save(tmp_path / "vq.npz"))
    assert isinstance(loaded.latent, Discrete)
    assert np.array_equal(loaded(50, np.random.default_rng(0)), sampler(50, np.random.default_rng(0)))


def test_codebook_use():
    rng = np.random.default_rng(0)
    shares = np.array([0.4, 0.3, 0.2, 0.05, 0.05, 0.0])
    exact = float(np.exp(-(shares[:5] * np.log(shares[:5])).sum()))
    uses = [codebook_use(rng.choice(6, 200, p=shares), 6) for _ in range(1500)]
    hits = sum(use.perplexity.agrees(exact) for use in uses)
    assert 0.935 < hits / 1500 < 0.965
    raw = np.log([use.raw for use in uses]).mean()
    corrected = np.log([use.perplexity.value for use in uses]).mean()
    assert abs(corrected - np.log(exact)) < 0.25 * abs(raw - np.log(exact))
    assert all(use.dead >= 1 for use in uses)
    one = codebook_use(np.zeros(50), 4)
    assert (one.dead, one.raw, one.perplexity.value) == (3, 1.0, 1.0)
    for wrong in ([0], [0, 4], [0.5, 1.0], [[0, 1]]):
        with pytest.raises(InputError, match="indices"):
            codebook_use(wrong, 4)


@pytest.mark.parametrize("dim", [1, 2])
def test_a_codebook_alone_is_k_means(dim):
    from sklearn.cluster import KMeans

    data = np.random.default_rng(1).normal(size=(400, dim))
    book = Codebook(6, dim, [np.random.default_rng(k) for k in range(8)], decay=0.9, dtype=torch.float64)
    codes = torch.tensor(np.repeat(data[None], 8, axis=0))
    for _ in range(150):
        book.follow(codes, book(codes).indices)
    ours = float(book(codes).codebook.min())
    theirs = KMeans(6, n_init=8, random_state=0).fit(data).inertia_ / len(data)
    # The best of eight starts on both sides; Lloyd's fixed points on both.
    assert ours == pytest.approx(theirs, rel=0.05)


def test_the_codes_of_a_wae_look_like_the_prior_and_those_of_an_ae_do_not():
    data = ring(scale=0.1).sample(1000, np.random.default_rng(0))
    prior = np.random.default_rng(1).normal(size=(300, 2))
    scores = {}
    for kind in ("ae", "wae"):
        recipe = AutoencoderRecipe(kind=kind, width=16, chunk=1)
        ensemble = fit_autoencoder(data, recipe=recipe, members=1, steps=300)
        codes = ensemble.encode(data[:300], 0)[0]
        scores[kind] = mmd(codes, prior, rng=np.random.default_rng(0), permutations=1)
        assert ensemble.history["error"][-50:].mean() < 0.3
    # An independent kernel and estimator; unbiased, so that the prior's own score is about 0.
    assert scores["ae"].value > 5 * max(scores["wae"].value, 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_where_it_stood(kind, tmp_path):
    data = TRAIN[:100]
    decay = 0.9 if kind == "vq_vae" else None
    recipe = AutoencoderRecipe(kind=kind, latent_dim=1, width=5, batch=6, codes=4, chunk=2, codebook_decay=decay)

    def run(**changes):
        return AutoencoderRun(data, **{"recipe": recipe, "members": [0, 3], "steps": 5, "seed": 1} | changes)

    whole, first, second = run(), run(), run()
    for progress in first:
        if progress.done == 7:  # in the second chunk
            break
    path = save_checkpoint(first, tmp_path / "run.pt")
    load_checkpoint(second, path)
    assert second.done == 7
    assert [progress.done for progress in second] == [8, 9, 10]
    for _ in whole:
        pass
    one, other = whole.result(), second.result()
    for name in ("encoders", "decoders"):
        for a, b in zip(getattr(one, name).parameters(), getattr(other, name).parameters(), strict=True):
            assert torch.equal(a, b)
    for name, values in one.history.items():
        assert np.array_equal(values, other.history[name])
    for changes in ({"steps": 6}, {"seed": 2}, {"members": 2}):
        with pytest.raises(InputError, match="another run"):
            load_checkpoint(run(**changes), path)
    # Iterating again starts from the beginning.
    assert next(iter(second)).done == 1


SMALL = ["--steps", "30", "--members", "2", "--points", "12", "--train-size", "200", "--width", "6"]


def test_the_command_weighs_a_vae(tmp_path, capsys):
    assert main(["two_peaks", "--out", str(tmp_path), *SMALL]) == 0
    told = capsys.readouterr().out
    assert "a perfect model scores −entropy = -0.72570" in told
    assert told.count("±") > 15
    report = json.loads((tmp_path / "evidence.json").read_text())
    assert [one["member"] for one in report["members"]] == [0, 1]
    for exact, one in zip(report["kl"], report["members"], strict=True):
        assert exact["value"] == pytest.approx(one["kl"]["value"], abs=2 * one["kl"]["error"])
    assert "activity" in told
    for one in report["members"]:
        assert one["elbo"]["value"] < one["log_prob"]["value"]
        assert one["gap"]["value"] == pytest.approx(one["approximation"]["value"] + one["amortisation"]["value"])
    assert Sampler.load(tmp_path / "sampler.npz")(3, np.random.default_rng(0)).shape == (3, 1)
    assert {path.name for path in tmp_path.iterdir()} == {
        "autoencoder.png", "evidence.json", "generated.npz", "history.csv", "history.npz", "run.json", "sampler.npz",
        "test.npz", "train.npz",
    }  # fmt: skip
    with np.load(tmp_path / "history.npz") as history:
        table = np.genfromtxt(tmp_path / "history.csv", delimiter=",", names=True)
        assert np.allclose(table["elbo_1"], history["elbo"][:, 1])
        assert np.allclose(history["elbo"], history["reconstruction"] - history["kl"], rtol=1e-5)


def test_the_command_says_what_it_scores_on_a_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["two_peaks", "--out", str(tmp_path), *SMALL]) == 0
    heard = capsys.readouterr().err
    first, second = heard.index("scoring member 0, 1 of 2 "), heard.index("scoring member 1, 2 of 2, about ")
    assert first < second < heard.index("scored in ")


def test_activities_are_printed_with_what_decides_them(tmp_path, capsys):
    words = ["--beta", "2", "--free-bits", "0.5", "--steps", "60", "--members", "1", "--points", "8", "--width", "6"]
    assert main(["two_peaks", *words, "--train-size", "200", "--out", str(tmp_path)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("activity"))
    assert "active where all of the interval lies above 0.01" in line
    low, high = map(float, re.search(r"\[([^%,]+), ([^]]+)\] (?:active|collapsed|undecided)$", line).groups())
    assert low < high


def test_a_member_that_cannot_be_scored_does_not_cost_the_training(tmp_path, capsys, monkeypatch):
    def refuse(*_, **__):
        raise InputError("the decoder is too steep for its noise")

    monkeypatch.setattr(autoencoder_command, "evidence", refuse)
    assert main(["two_peaks", "--out", str(tmp_path), *SMALL]) == 2
    assert "too steep" in capsys.readouterr().err
    assert Sampler.load(tmp_path / "sampler.npz")(3, np.random.default_rng(0)).shape == (3, 1)


def test_the_command_goes_on_after_an_interruption(tmp_path, capsys, monkeypatch):
    words = ["two_peaks", "--kind", "wae", *SMALL, "--out"]
    assert main([*words, str(tmp_path / "whole")]) == 0
    keep, kept = autoencoder_command.save_checkpoint, []

    def interrupted(run, path):
        kept.append(keep(run, path))
        if len(kept) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(autoencoder_command, "_EVERY", 10)
    monkeypatch.setattr(autoencoder_command, "save_checkpoint", interrupted)
    assert main([*words, str(tmp_path / "parts")]) == 130
    assert "20 steps" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "parts"), "--resume"]) == 0
    for name in ("history.npz", "sampler.npz", "generated.npz"):
        with np.load(tmp_path / "whole" / name) as one, np.load(tmp_path / "parts" / name) as other:
            for key in one:
                assert np.array_equal(one[key], other[key])
    assert not (tmp_path / "parts" / "checkpoint.pt").exists()


def test_the_command_compares_the_others(tmp_path, capsys):
    assert main(["ring", "--kind", "vq_vae", "--out", str(tmp_path), *SMALL]) == 0
    told = capsys.readouterr().out
    assert "perplexity" in told
    assert "a perfect model would" in told
    report = json.loads((tmp_path / "evidence.json").read_text())
    assert len(report["sliced_w1"]) == len(report["perplexity"]) == 2
    assert not (tmp_path / "autoencoder.png").exists()


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    for words in (
        ["nowhere", "--out", str(tmp_path)],
        ["two_peaks", "--out", str(tmp_path), "--kind", "gan"],
        ["parallel_lines", "--out", str(tmp_path)],
        ["spiral", "--scale", "0.1", "--out", str(tmp_path)],
        ["two_peaks", "--out", str(tmp_path), "--points", "3"],
        ["two_peaks", "--out", str(tmp_path), "--latents", "3"],
        ["embedded", "--out", str(tmp_path), "--train-size", "50"],
        ["two_peaks"],
    ):
        assert main(words) == 2
        assert capsys.readouterr().err.startswith("toygen: error: ")


def test_the_way_in(capsys):
    from toygen.__main__ import main as toygen

    with pytest.raises(SystemExit) as over:
        toygen(["autoencoder", "--help"])
    assert over.value.code == 0
    assert "--free-bits" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_latents_on_the_ring():
    target = ring(scale=0.1)
    data = target.sample(5000, np.random.default_rng(0))
    ensemble = fit_autoencoder(data, recipe=AutoencoderRecipe(width=32, chunk=4), members=4, steps=2000)
    x = target.sample(60, np.random.default_rng(1))
    found = [evidence(ensemble, x, place, target=target, rng=np.random.default_rng(place)) for place in range(2)]
    for place, one in enumerate(found):
        assert one.elbo.value < one.bound.value < one.log_prob.value
        assert one.collapse.active == 2
        assert one.kl.value > 0
        assert one.approximation.value > 0
        assert one.amortisation.value > 0
        z = np.random.default_rng(7).normal(size=(400_000, 2))
        output = ensemble.model(place).decode(z)
        for i in range(10):
            away = ((x[i] - output) ** 2).sum(axis=1) / ensemble.noise[place] ** 2
            likelihood = np.exp(-away / 2) / (2 * np.pi * ensemble.noise[place] ** 2)
            error = likelihood.std() / likelihood.mean() / np.sqrt(len(z))
            assert one.points.log_prob[i] == pytest.approx(np.log(likelihood.mean()), abs=4 * error + 1e-3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_on_the_ring_every_kind_finds_the_modes():
    target = ring(scale=0.1)
    data = target.sample(5000, np.random.default_rng(0))
    captured, quality = {}, {}
    for kind in ("vae", "vae_gan", "vq_vae", "wae"):
        recipe = AutoencoderRecipe(kind=kind, width=32, chunk=4)
        ensemble = fit_autoencoder(data, recipe=recipe, members=4, steps=3000)
        assert not ensemble.diverged.any()
        found = [
            mode_coverage(generated=ensemble.sampler(place)(2000, np.random.default_rng(place)), modes=target)
            for place in range(4)
        ]
        captured[kind] = [one.captured for one in found]
        quality[kind] = float(np.mean([one.high_quality.value for one in found]))
    assert captured["vae"] == captured["vae_gan"] == captured["vq_vae"] == captured["wae"] == [8] * 4
    # A codebook of 32 need not bridge modes; a continuous decoder must.
    assert quality["vq_vae"] > quality["vae"]
