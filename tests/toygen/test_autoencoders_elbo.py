"""The pure functions: ELBO, β, free bits, IWAE, codebooks, MMD; and every kind against a plain loop over one member."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from divergences import InputError
from toygen.autoencoders import VQVAE, Autoencoder, Likelihood, Vae, Wae, imq_mmd
from toygen.codebook import Codebook, quantize
from toygen.elbo import (
    elbo,
    gaussian_kl,
    iwae_bound,
    log_bernoulli,
    log_gaussian,
    log_weights,
    reparametrize,
)
from toygen.networks import MLP
from toygen.players import minibatches
from toygen.train import train
from toygen.vae_gan import VaeGan

F64 = torch.float64
RNG = np.random.default_rng(7)
DATA = RNG.normal(size=(40, 2)) @ [[1.0, 0.3], [0.0, 0.7]]
MEMBERS, BATCH, STEPS, LATENT = 2, 12, 10, 2


def random(*shape):
    return torch.tensor(np.random.default_rng(len(shape)).normal(size=shape))


def test_closed_form_kl_against_torch_and_quadrature():
    mean, log_variance = random(2, 5, 3), random(2, 5, 3) / 2
    own = gaussian_kl(mean, log_variance)
    normal = torch.distributions.Normal
    theirs = torch.distributions.kl_divergence(
        normal(mean, torch.exp(log_variance / 2)), normal(torch.zeros_like(mean), torch.ones_like(mean))
    )
    assert torch.allclose(own, theirs, atol=1e-13, rtol=0)
    m, s = float(mean[0, 0, 0]), math.exp(float(log_variance[0, 0, 0]) / 2)
    q, p = stats.norm(m, s), stats.norm(0, 1)
    by_parts, _ = integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), m - 12 * s, m + 12 * s, epsabs=1e-13)
    assert abs(float(own[0, 0, 0]) - by_parts) < 1e-11


def test_a_tiny_rate_keeps_its_digits():
    small = torch.tensor(1e-9, dtype=F64)
    assert abs(float(gaussian_kl(torch.zeros((), dtype=F64), small)) / 2.5e-19 - 1) < 0.5
    assert float(gaussian_kl(small, torch.zeros((), dtype=F64))) == pytest.approx(5e-19)


def test_likelihoods_against_torch():
    x, mean, log_variance = random(2, 4, 3), random(2, 4, 3) + 0.5, random(1, 4, 3)
    law = torch.distributions.Normal(mean, torch.exp(log_variance / 2))
    assert torch.allclose(log_gaussian(x, mean, log_variance), law.log_prob(x).sum(-1), atol=1e-12)
    bits = (x > 0).double()
    law = torch.distributions.Bernoulli(logits=mean)
    assert torch.allclose(log_bernoulli(bits, mean), law.log_prob(bits).sum(-1), atol=1e-12)
    noisy = Likelihood(2, 0.5, dtype=F64)
    several = noisy(x, mean[:, :, None].expand(-1, -1, 5, -1))
    assert several.shape == (2, 4, 5)
    assert torch.allclose(several[:, :, 2], torch.distributions.Normal(mean, 0.5).log_prob(x).sum(-1))


def test_beta_and_free_bits_do_what_their_names_say():
    mean, log_variance = torch.zeros(2, 6, 2, dtype=F64), torch.zeros(2, 6, 2, dtype=F64)
    mean[:, :, 0] = 2.0  # two nats on the first unit, none on the second
    mean.requires_grad_()
    parts = elbo(torch.full((2, 6), -3.0, dtype=F64), mean, log_variance)
    assert parts.rates.tolist() == [[2.0, 0.0]] * 2
    assert torch.allclose(parts.loss(), -parts.elbo)
    assert parts.loss(beta=[0.0, 4.0]).tolist() == [3.0, 11.0]
    log2 = math.log(2)
    assert parts.loss(free_bits=1.0).tolist() == pytest.approx([3 + 2 + log2] * 2)
    # Three bits are more than two nats: free of charge, hence without a gradient.
    free = parts.loss(beta=5.0, free_bits=3.0)
    assert free.tolist() == pytest.approx([3 + 30 * log2] * 2)
    (gradient,) = torch.autograd.grad(free.sum(), mean, retain_graph=True)
    assert float(gradient.abs().max()) == 0
    (gradient,) = torch.autograd.grad(parts.loss(free_bits=1.0).sum(), mean)
    assert float(gradient[0, 0, 0]) == pytest.approx(2 / 6)


def test_iwae_bound_is_the_log_of_the_mean_weight():
    weights = random(2, 3, 5)
    assert torch.allclose(iwae_bound(weights), torch.log(torch.exp(weights).mean(-1)))
    assert torch.allclose(iwae_bound(weights[..., :1]), weights[..., 0])
    mean, log_variance, noise = random(1, 3, 1, 2), random(1, 3, 1, 2) / 3, random(1, 3, 5, 2)
    z = reparametrize(mean, log_variance, noise)
    q = torch.distributions.Normal(mean, torch.exp(log_variance / 2))
    p = torch.distributions.Normal(0.0, 1.0)
    expected = -1.0 + (p.log_prob(z) - q.log_prob(z)).sum(-1)
    assert torch.allclose(log_weights(torch.full((1, 3, 5), -1.0, dtype=F64), z, mean, log_variance), expected)


def test_straight_through_and_the_two_losses():
    codes = torch.tensor([[[0.2], [0.9], [3.0]]], dtype=F64, requires_grad=True)
    vectors = torch.tensor([[[0.0], [1.0]]], dtype=F64, requires_grad=True)
    found = quantize(codes, vectors)
    assert found.indices.tolist() == [[0, 1, 1]]
    assert torch.allclose(found.points, torch.tensor([[[0.0], [1.0], [1.0]]], dtype=F64))
    (through,) = torch.autograd.grad((found.points * torch.tensor([[[1.0], [2.0], [5.0]]])).sum(), codes)
    assert through.flatten().tolist() == [1.0, 2.0, 5.0]
    both = [0.2**2, 0.1**2, 2.0**2]
    assert float(found.codebook.detach()) == pytest.approx(sum(both) / 3)
    of_book = torch.autograd.grad(found.codebook.sum(), [codes, vectors], allow_unused=True)
    assert of_book[0] is None
    assert of_book[1].flatten().tolist() == pytest.approx([-2 * 0.2 / 3, (2 * 0.1 - 2 * 2.0) / 3])
    of_encoder = torch.autograd.grad(found.commitment.sum(), [codes, vectors], allow_unused=True)
    assert of_encoder[1] is None
    assert of_encoder[0].flatten().tolist() == pytest.approx([0.4 / 3, -0.2 / 3, 4.0 / 3])
    entropy = -(math.log(1 / 3) / 3 + 2 / 3 * math.log(2 / 3))
    assert float(found.perplexity(2).detach()) == pytest.approx(math.exp(entropy))


def test_a_moving_average_codebook_is_online_k_means():
    book = Codebook(2, 1, [np.random.default_rng(0)], decay=0.9, dtype=F64)
    assert list(book.parameters()) == []
    start = book.vectors.clone()
    codes, chosen = torch.tensor([[[1.0], [2.0], [6.0]]], dtype=F64), torch.tensor([[0, 0, 0]])
    book.follow(codes, chosen)
    count = 0.9 + 0.1 * 3
    assert float(book.vectors[0, 0]) == pytest.approx((0.9 * float(start[0, 0]) + 0.1 * 9) / count)
    assert float(book.vectors[0, 1]) == pytest.approx(float(start[0, 1]))  # unused: it stays
    for _ in range(300):
        book.follow(codes, chosen)
    assert float(book.vectors[0, 0]) == pytest.approx(3.0, abs=1e-6)
    assert torch.isfinite(book.vectors).all()


def test_imq_mmd_is_unbiased_and_sees_a_shift():
    x, y = random(1, 6, 2), random(1, 4, 2)[:, :, :] + 1.0

    def k(a, b):
        r = float(((a - b) ** 2).sum())
        return sum(4 * c / (4 * c + r) for c in (0.1, 0.2, 0.5, 1, 2, 5, 10))

    def within(p):
        return np.mean([k(a, b) for i, a in enumerate(p) for j, b in enumerate(p) if i != j])

    plain = within(x[0]) + within(y[0]) - 2 * np.mean([k(a, b) for a in x[0] for b in y[0]])
    assert float(imq_mmd(x, y)) == pytest.approx(plain, rel=1e-12)
    rng = np.random.default_rng(0)
    same = imq_mmd(*(torch.tensor(rng.normal(size=(400, 10, 1))) for _ in range(2))).numpy()
    assert abs(same.mean()) < 3.5 * same.std() / 20
    moved = imq_mmd(*(torch.tensor(rng.normal(shift, 1, size=(400, 10, 1))) for shift in (0, 1))).numpy()
    assert moved.mean() > 10 * moved.std() / 20


# Every kind, in float64, against one member alone: a list of weights, formulas as on paper.


def own(stream, seeds):
    return [np.random.default_rng([stream, seed]) for seed in seeds]


def build(kind, seeds=range(MEMBERS)):
    outputs = 2 * LATENT if kind in ("vae", "iwae", "bernoulli", "vae_gan") else LATENT
    encoder = MLP([2, 9, outputs], own(1, seeds), dtype=F64)
    decoder = MLP([LATENT, 9, 2], own(2, seeds), dtype=F64)
    rngs = own(3, seeds)
    if kind in ("vae", "iwae", "bernoulli"):
        noise = None if kind == "bernoulli" else 0.8
        likelihood = Likelihood(len(seeds), noise, dtype=F64)
        if kind == "iwae":
            return Vae(encoder, decoder, likelihood, rngs=rngs, samples=3, importance=True)
        return Vae(encoder, decoder, likelihood, rngs=rngs, beta=0.5, free_bits=0.05)
    if kind == "wae":
        return Wae(encoder, decoder, rngs=rngs, weight=3.0, scale=2.0)
    if kind in ("vq", "vq_ema"):
        book = Codebook(5, LATENT, own(4, seeds), decay=0.8 if kind == "vq_ema" else None, dtype=F64)
        return VQVAE(encoder, decoder, book, scale=2.0)
    if kind == "vae_gan":
        return VaeGan(encoder, decoder, MLP([2, 7, 1], own(4, seeds), dtype=F64), rngs=rngs, weight=0.6)
    return Autoencoder(encoder, decoder, scale=2.0)


def optimizer(parameters):
    return torch.optim.Adam(list(parameters), lr=1e-2, eps=1e-5)


def weights_of(player, member):
    nets = [player.encoder, player.decoder]
    extra = [part for part in ("likelihood", "discriminator", "codebook") if hasattr(player, part)]
    nets += [getattr(player, part) for part in extra]
    return [tensor[member].detach().flatten() for net in nets for tensor in net.state_dict().values()]


def run(kind, seeds=range(MEMBERS)):
    player = build(kind, seeds)
    data = DATA if kind != "bernoulli" else (DATA > 0).astype(float)
    batches = minibatches(data, size=BATCH, rng=own(5, seeds), members=len(seeds), dtype=F64)
    for _ in train(player.turns(optimizer), batches, STEPS):
        pass
    return player


def solo(kind, member):
    """One member by hand: plain matrices, plain formulas."""
    start = build(kind)

    def take(net):
        return [p[member].detach().clone().requires_grad_() for p in net.parameters()]

    def mlp(weights, x):
        hidden = torch.nn.functional.leaky_relu(x @ weights[0] + weights[1], 0.2)
        return hidden @ weights[2] + weights[3], hidden

    e, d = take(start.encoder), take(start.decoder)
    rows = np.random.default_rng([5, member]).spawn(3)[0].integers(0, len(DATA), 64 * BATCH).reshape(64, BATCH)
    data = DATA if kind != "bernoulli" else (DATA > 0).astype(float)
    stream = np.random.default_rng([3, member])
    normal = torch.distributions.Normal
    if kind in ("vae", "bernoulli", "iwae"):
        m = 3 if kind == "iwae" else 1
        noise = torch.tensor(stream.standard_normal((64, BATCH * m, LATENT))).view(64, BATCH, m, LATENT)
        log_noise = [] if kind == "bernoulli" else [torch.full((), math.log(0.8), dtype=F64, requires_grad=True)]

        def loss(t, x):
            out = mlp(e, x)[0]
            mu, sd = out[:, :LATENT], torch.exp(out[:, LATENT:] / 2)
            z = mu[:, None] + sd[:, None] * noise[t]
            mean = mlp(d, z)[0]
            if kind == "bernoulli":
                score = torch.distributions.Bernoulli(logits=mean).log_prob(x[:, None].expand_as(mean)).sum(-1)
            else:
                score = normal(mean, torch.exp(log_noise[0])).log_prob(x[:, None]).sum(-1)
            prior = normal(torch.zeros_like(mu), torch.ones_like(mu))
            if kind == "iwae":
                q = normal(mu[:, None], sd[:, None])
                w = score + normal(0.0, 1.0).log_prob(z).sum(-1) - q.log_prob(z).sum(-1)
                return -torch.log(torch.exp(w).mean(1)).mean()
            rates = torch.distributions.kl_divergence(normal(mu, sd), prior).mean(0)
            charged = sum(max(rate, torch.tensor(0.05 * math.log(2), dtype=F64)) for rate in rates)
            return 0.5 * charged - score.mean()

        players = [([*e, *d, *log_noise], loss)]
    elif kind == "vae_gan":
        c = take(start.discriminator)
        both = torch.tensor(stream.standard_normal((64, BATCH, 2 * LATENT)))
        moves = iter(range(64))

        def game(x):
            noise = both[next(moves)]
            out = mlp(e, x)[0]
            mu, log_variance = out[:, :LATENT], out[:, LATENT:]
            rebuilt = mlp(d, mu + torch.exp(log_variance / 2) * noise[:, :LATENT])[0]
            drawn = mlp(d, noise[:, LATENT:])[0]
            rate = (mu**2 + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
            like = ((mlp(c, x)[1] - mlp(c, rebuilt)[1]) ** 2).sum(1).mean() / 2
            log_sure = [
                torch.log(torch.sigmoid(s * mlp(c, y)[0])).mean() for s, y in ((1, x), (-1, rebuilt), (-1, drawn))
            ]
            return rate, like, log_sure

        def judge(t, x):
            return -sum(game(x)[2])

        def encode(t, x):
            rate, like, _ = game(x)
            return rate + like

        def decode(t, x):
            _, like, log_sure = game(x)
            return 0.6 * like + log_sure[1] + log_sure[2]

        players = [(c, judge), (e, encode), (d, decode)]
    elif kind in ("vq", "vq_ema"):
        book = start.codebook.vectors[member].detach().clone().requires_grad_(kind == "vq")
        counts, sums = torch.ones(5, dtype=F64), book.detach().clone()

        def loss(t, x):
            nonlocal book, counts, sums
            codes = mlp(e, x)[0]
            index = torch.cdist(codes, book).argmin(1)
            vector = book[index]
            error = ((x - mlp(d, codes + (vector - codes).detach())[0]) ** 2).sum(1).mean() / 4
            commitment = ((codes - vector.detach()) ** 2).sum(1).mean()
            if kind == "vq_ema":
                for i in range(5):
                    mine = codes[index == i].detach()
                    counts[i] = 0.8 * counts[i] + 0.2 * len(mine)
                    sums[i] = 0.8 * sums[i] + 0.2 * mine.sum(0)
                book = (sums / counts[:, None]).clone()
                return error + 0.25 * commitment
            return error + 0.25 * commitment + ((codes.detach() - vector) ** 2).sum(1).mean()

        players = [([*e, *d, *([book] if kind == "vq" else [])], loss)]
    else:
        prior = torch.tensor(stream.standard_normal((64, BATCH, LATENT))) if kind == "wae" else None

        def loss(t, x):
            codes = mlp(e, x)[0]
            error = ((x - mlp(d, codes)[0]) ** 2).sum(1).mean() / 4
            return error if kind == "ae" else error + 3.0 * imq_mmd(codes[None], prior[t][None])[0]

        players = [([*e, *d], loss)]
    adams = [torch.optim.Adam(parameters, lr=1e-2, eps=1e-5) for parameters, _ in players]
    batch = iter(range(64))
    for t in range(STEPS):
        for (parameters, loss_of), adam in zip(players, adams, strict=True):
            x = torch.tensor(data[rows[next(batch)]])
            gradients = torch.autograd.grad(loss_of(t, x), parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            adam.step()
    found = [*e, *d]
    if kind in ("vae", "iwae"):
        found.append(log_noise[0])
    if kind == "vae_gan":
        found += c
    if kind == "vq":
        found.append(book)
    if kind == "vq_ema":
        found += [book, counts, sums]
    return [weight.detach().flatten() for weight in found]


@pytest.mark.parametrize("kind", ["ae", "vae", "bernoulli", "iwae", "wae", "vq", "vq_ema", "vae_gan"])
def test_ten_steps_of_an_ensemble_are_ten_steps_of_each_member_alone(kind):
    player = run(kind)
    for member in range(MEMBERS):
        ours, theirs = weights_of(player, member), solo(kind, member)
        assert len(ours) == len(theirs)
        moved = weights_of(build(kind), member)
        for before, a, b in zip(moved, ours, theirs, strict=True):
            assert float((a - b).abs().max()) < 1e-9
            assert not torch.equal(before, a)
    assert all(part.shape == (MEMBERS,) for part in player.parts.values())


@pytest.mark.parametrize("kind", ["vae", "vq_ema", "vae_gan"])
def test_a_member_does_not_see_its_companions(kind):
    together, other = run(kind, [0, 1, 2]), run(kind, [5, 1, 7])
    for a, b in zip(weights_of(together, 1), weights_of(other, 1), strict=True):
        assert torch.equal(a, b)


def test_bad_input():
    mean = torch.zeros(2, 3, 1)
    parts = elbo(torch.zeros(2, 3), mean, mean)
    for wrong in (-1.0, [1.0, 2.0, 3.0], math.nan, "two"):
        with pytest.raises(InputError, match="beta"):
            parts.loss(beta=wrong)
    with pytest.raises(InputError, match="free_bits"):
        parts.loss(free_bits=-0.1)
    with pytest.raises(InputError, match="log_likelihood"):
        elbo(torch.zeros(3), mean, mean)
    with pytest.raises(InputError, match="log_variance"):
        elbo(torch.zeros(2, 3), mean, mean[:1])
    with pytest.raises(InputError, match="at least one log-weight"):
        iwae_bound(torch.zeros(2, 0))
    with pytest.raises(InputError, match="vectors"):
        quantize(mean, torch.zeros(2, 4, 2))
    with pytest.raises(InputError, match="two points"):
        imq_mmd(torch.zeros(1, 1, 2), torch.zeros(1, 5, 2))
    rngs = own(1, range(2))
    encoder, decoder = MLP([2, 4], rngs), MLP([2, 2], rngs)
    with pytest.raises(InputError, match="same members"):
        Autoencoder(encoder, MLP([2, 2], rngs[:1]))
    with pytest.raises(InputError, match="must give 2 numbers"):
        Autoencoder(encoder, decoder)
    with pytest.raises(InputError, match="one generator per member"):
        Vae(encoder, decoder, Likelihood(2, 1.0), rngs=rngs[:1])
    with pytest.raises(InputError, match="IWAE"):
        Vae(encoder, decoder, Likelihood(2, 1.0), rngs=rngs, beta=2.0, importance=True)
    with pytest.raises(InputError, match="codebook"):
        VQVAE(MLP([2, 2], rngs), decoder, Codebook(3, 1, rngs))
    with pytest.raises(InputError, match="hidden layer"):
        VaeGan(encoder, decoder, MLP([2, 1], rngs), rngs=rngs)
