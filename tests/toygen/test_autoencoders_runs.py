"""Whole runs of autoencoders: member by member reproducible, truthful about themselves, and right where PCA is."""

import numpy as np
import pytest
import torch

from divergences import Discrete, Gaussian, InputError
from toygen.autoencoder_recipe import AutoencoderRecipe
from toygen.autoencoder_runs import AutoencoderRun, fit_autoencoder
from toygen.collapse import posterior_collapse
from toygen.elbo_gap import elbo_gap
from toygen.sampler import Sampler

DATA = np.random.default_rng(0).normal(size=(300, 2)) @ [[2.0, 0.6], [0.0, 0.5]] + [3.0, -1.0]
KINDS = ("ae", "vae", "iwae", "wae", "vq_vae", "vae_gan")


def tiny(kind, **changes):
    return AutoencoderRecipe(**{"kind": kind, "width": 6, "batch": 8, "codes": 5} | changes)


def weights(ensemble, place):
    networks = (ensemble.encoders, ensemble.decoders)
    return torch.cat([p[place].detach().flatten() for network in networks for p in network.parameters()])


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_of_a_chunk_of_32_is_the_same_whoever_is_asked_for(kind):
    recipe = tiny(kind)
    assert recipe.chunk == 32
    several = fit_autoencoder(DATA, recipe=recipe, members=[0, 4, 33], steps=4, seed=3)
    alone = fit_autoencoder(DATA, recipe=recipe, members=[4], steps=4, seed=3)
    assert torch.equal(weights(several, 1), weights(alone, 0))
    assert not torch.equal(weights(several, 0), weights(several, 1))
    assert several.history.keys() == alone.history.keys()
    for name, values in several.history.items():
        if name != "step":
            assert values.shape == (4, 3)
            assert np.array_equal(values[:, 1], alone.history[name][:, 0])
    assert several.healthy == (0, 1, 2)
    assert alone.sampler(0)(5, np.random.default_rng(0)).shape == (5, 2)
    other = fit_autoencoder(DATA, recipe=recipe, members=[4], steps=4, seed=4)
    assert not torch.equal(weights(other, 0), weights(alone, 0))


def test_the_weight_of_the_rate_may_differ_between_members():
    recipe = tiny("vae", chunk=4)
    mixed = fit_autoencoder(DATA, recipe=recipe, members=[0, 2], steps=4, beta=[1.0, 7.0])
    plain = fit_autoencoder(DATA, recipe=recipe, members=4, steps=4)
    assert torch.equal(weights(mixed, 0), weights(plain, 0))
    assert not torch.equal(weights(mixed, 1), weights(plain, 2))
    parts = mixed.history
    total = 7.0 * parts["kl"][:, 1] - parts["reconstruction"][:, 1]
    assert parts["autoencoder"][:, 1] == pytest.approx(total, rel=1e-5)
    assert parts["elbo"] == pytest.approx(parts["reconstruction"] - parts["kl"], rel=1e-5)
    assert parts["kl"] == pytest.approx(parts["rate_0"] + parts["rate_1"], rel=1e-5)


def test_what_latents_are_drawn_from(tmp_path):
    books = fit_autoencoder(DATA, recipe=tiny("vq_vae", latent_dim=1, chunk=2), members=1, steps=3)
    latent = books.latents[0]
    assert isinstance(latent, Discrete)
    assert latent.points.shape == (5, 1)
    assert latent.weights.sum() == pytest.approx(1.0)
    assert len(np.unique(books.sampler(0)(200, np.random.default_rng(0)), axis=0)) <= 5
    plain = fit_autoencoder(DATA, recipe=tiny("ae", chunk=2), members=1, steps=3)
    assert isinstance(plain.latents[0], Gaussian)
    codes = plain.encode(DATA)[0]
    assert plain.latents[0].mean == pytest.approx(codes.mean(axis=0))
    with pytest.raises(InputError, match="no .*likelihood|likelihood"):
        plain.model(0)
    sampler = plain.sampler(0)
    assert sampler.about["draws"] == "decoder means"
    loaded = Sampler.load(sampler.save(tmp_path / "ae.npz"))
    assert np.array_equal(loaded(9, np.random.default_rng(1)), sampler(9, np.random.default_rng(1)))


def test_the_model_is_the_one_that_was_trained():
    ensemble = fit_autoencoder(DATA, recipe=tiny("vae", chunk=2, latent_dim=1), members=2, steps=5)
    model = ensemble.model(1)
    z = np.random.default_rng(0).normal(size=(7, 1))
    ours = ensemble.decoders(torch.tensor(z, dtype=torch.float32).expand(2, 7, 1))[1].detach().numpy()
    assert model.decode(z) == pytest.approx(ours, abs=1e-5)
    assert model.noise == pytest.approx([ensemble.noise[1]] * 2)
    # Exact, and in the units of the data: the ELBO of the encoder lies below log p(x), on every point.
    mean, variance = ensemble.encode(DATA[:20], 1)
    gap = elbo_gap(model, DATA[:20], mean, variance)
    assert (gap.gap > 0).all()
    assert gap.log_prob == pytest.approx(ensemble.law(1).log_prob(DATA[:20]), abs=1e-8)


def test_bits():
    bits = (np.random.default_rng(0).random((100, 4)) < 0.3).astype(float)
    recipe = tiny("vae", likelihood="bernoulli", chunk=2, latent_dim=1)
    ensemble = fit_autoencoder(bits, recipe=recipe, members=1, steps=3)
    assert ensemble.noise is None
    assert (ensemble.model(0).posterior(bits[:5]).log_prob < 0).all()
    assert set(np.unique(ensemble.model(0).sample(20, np.random.default_rng(0)))) <= {0.0, 1.0}
    with pytest.raises(InputError, match="logits"):
        ensemble.sampler(0)
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        fit_autoencoder(DATA, recipe=recipe, steps=1)


def linear_vae(steps=600, beta=None, **changes):
    # Linear networks: probabilistic PCA. 2-D data, one latent.
    recipe = AutoencoderRecipe(
        latent_dim=1, depths=(0, 0), batch=100, learning_rate=0.03, first_noise=1.0, samples=4, chunk=2, **changes
    )
    return fit_autoencoder(DATA, recipe=recipe, members=2, steps=steps, seed=1, beta=beta)


def ppca(data, k):
    """The mean log-likelihood of the maximum, Tipping and Bishop (1999), and its noise."""
    values, vectors = np.linalg.eigh(np.cov(data.T, bias=True))
    noise = values[:-k].mean()
    cov = vectors[:, -k:] @ np.diag(values[-k:] - noise) @ vectors[:, -k:].T + noise * np.eye(len(values))
    return Gaussian(data.mean(axis=0), cov).log_prob(data).mean(), np.sqrt(noise)


def test_a_linear_vae_reaches_the_maximum_likelihood_of_probabilistic_pca():
    best, noise = ppca(DATA, 1)
    ensemble = linear_vae()
    for place in ensemble.healthy:
        exact = ensemble.model(place).posterior(DATA)
        # Never above the maximum, and within a hundredth of a nat of it.
        assert best - 0.01 < exact.log_prob.mean() <= best + 1e-9
        assert ensemble.noise[place] == pytest.approx(noise, rel=0.03)
        gap = elbo_gap(ensemble.model(place), DATA[:40], *ensemble.encode(DATA[:40], place))
        # A Gaussian posterior with one latent: no approximation gap, and the encoder has learnt it.
        assert gap.approximation.max() < 1e-9
        assert 0 <= gap.amortisation.mean() < 0.02
    assert len(ensemble.healthy) == 2


def test_a_noise_above_the_eigenvalue_collapses_the_posterior():
    # A latent pays off iff an eigenvalue of the covariance is above β·s²; s is in units of the data's scale.
    values = np.linalg.eigvalsh(np.cov(DATA.T, bias=True)) / DATA.var(axis=0).mean()

    def verdict(ensemble, place=0):
        return posterior_collapse(*ensemble.encode(DATA, place), rng=np.random.default_rng(0)).verdict

    assert verdict(linear_vae(200, noise=float(np.sqrt(1.3 * values[-1])))) == "collapsed"
    # A tenfold weight of the rate does the same, and free bits keep the unit alive.
    both = linear_vae(200, noise=float(np.sqrt(0.3 * values[-1])), beta=[1.0, 10.0])
    assert [verdict(both, place) for place in (0, 1)] == ["none", "collapsed"]
    free = linear_vae(200, noise=float(np.sqrt(0.3 * values[-1])), beta=[10.0, 10.0], free_bits=0.5)
    report = posterior_collapse(*free.encode(DATA, 0), rng=np.random.default_rng(0))
    assert report.verdict == "none"
    assert report.rate.value == pytest.approx(0.5 * np.log(2), rel=0.25)


def test_a_member_that_diverged_is_named():
    ensemble = fit_autoencoder(DATA, recipe=tiny("vae", learning_rate=1e10, chunk=2), members=2, steps=20)
    assert ensemble.diverged.all()
    assert ensemble.healthy == ()
    with pytest.raises(InputError, match="member 1 diverged"):
        ensemble.sampler(1)
    with pytest.raises(InputError, match="diverged"):
        ensemble.model(0)


def test_bad_input():
    for changes, match in (
        ({"kind": "gan"}, "kind"),
        ({"likelihood": "poisson"}, "likelihood"),
        ({"noise": 0.0}, "noise"),
        ({"beta": -1.0}, "beta"),
        ({"depths": 2}, "depths"),
        ({"betas": (1.0, 0.9)}, "betas"),
        ({"latent_dim": 0}, "latent_dim"),
        ({"codebook_decay": 1.0}, "codebook_decay"),
        ({"kind": "wae", "beta": 2.0}, "beta and free_bits"),
        ({"kind": "iwae", "free_bits": 2.0}, "beta and free_bits"),
    ):
        with pytest.raises(InputError, match=match):
            AutoencoderRecipe(**changes)
    with pytest.raises(InputError, match="spread"):
        fit_autoencoder(np.ones((5, 2)))
    with pytest.raises(InputError, match="AutoencoderRecipe"):
        fit_autoencoder(DATA, recipe="vae")
    with pytest.raises(InputError, match="members"):
        fit_autoencoder(DATA, members=[1, 1])
    with pytest.raises(InputError, match="one per member"):
        fit_autoencoder(DATA, members=2, beta=[1.0])
    with pytest.raises(InputError, match="kind"):
        fit_autoencoder(DATA, recipe=tiny("ae"), members=1, beta=[2.0])
    with pytest.raises(InputError, match="not finished"):
        AutoencoderRun(DATA, recipe=tiny("vae")).result()
    ensemble = fit_autoencoder(DATA, recipe=tiny("vae", chunk=1), members=1, steps=0)
    with pytest.raises(InputError, match="place"):
        ensemble.sampler(1)
