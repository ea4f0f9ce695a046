"""Every game against the plainest loop there is: one GAN alone, a list of weights, formulas as on paper."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from divergences import Gaussian
from toygen import MLP, Affine, Average, gan, minibatches, train
from toygen.layers import EnsembleLinear, MinibatchFeatures, SpectralLinear
from toygen.objectives import OBJECTIVES
from toygen.optimizers import MemberOptimizer
from toygen.penalties import PENALTIES
from toygen.players import AHEAD

LATENT = Gaussian([0.0, 0.0], np.eye(2))
DATA = np.random.default_rng(99).normal(size=(50, 2)) @ [[1.0, 0.3], [0.0, 0.7]]
MEMBERS, BATCH, WIDTH, WEIGHT, STEPS = 2, 12, 10, 0.7, 10
# Five moves of 0.7 along an f-GAN's exponential end in infinity, alone and together: unrolled moves are short.
RATE = 0.05
KERNELS, DIMS = 5, 3
# With the usual 1e-8 the first step of a gradient that happens to be 1e-8 shows its rounding ten thousandfold.
EPS = 1e-5


def ensemble(objective, penalty, pack, optimizer, seeds=range(MEMBERS)):
    def own(stream):
        return [np.random.default_rng([stream, seed]) for seed in seeds]

    f64 = torch.float64
    g = MLP([2, WIDTH, WIDTH, 2], own(1), dtype=f64)
    rngs = own(2)
    d = MLP(
        [2 * pack, WIDTH, WIDTH, OBJECTIVES[objective].outputs],
        rngs,
        before=Affine([0.1, 0.0] * pack, [3.0, 3.0] * pack, dtype=f64),
        dtype=f64,
        layer=partial(SpectralLinear, gain=1.5) if penalty == "spectral" else EnsembleLinear,
        company=MinibatchFeatures(WIDTH, rngs, kernels=KERNELS, dims=DIMS, dtype=f64)
        if penalty == "minibatch"
        else None,
    ).packed(pack)
    chosen = PENALTIES[penalty].weighted(RATE if penalty == "unrolled" else WEIGHT)
    turns = gan(g, d, objective=OBJECTIVES[objective], latent=LATENT, penalty=chosen, optimizer=optimizer, rng=own(3))
    return g, d, turns, minibatches(DATA, size=BATCH, rng=own(4), members=len(seeds), dtype=f64)


def kernel(x, y):
    squared = (x[:, None] - y).square().sum(-1)
    return sum(torch.exp(-squared / (2 * s**2)) for s in (1, 2, 4, 8, 16)) / 5


F_GANS = {
    "kl": (lambda v: v, lambda t: torch.exp(t - 1)),
    "reverse_kl": (lambda v: -torch.exp(v), lambda t: -1 - torch.log(-t)),
    "pearson_chi2": (lambda v: v, lambda t: torch.where(t >= -2, t**2 / 4 + t, -1.0)),
    "neyman_chi2": (lambda v: 1 - torch.exp(v), lambda t: 2 - 2 * torch.sqrt(1 - t)),
    "squared_hellinger": (lambda v: 1 - torch.exp(v), lambda t: t / (1 - t)),
    "jensen_shannon": (lambda v: math.log(2) + torch.log(torch.sigmoid(v)), lambda t: -torch.log(2 - torch.exp(t))),
    "gan": (lambda v: torch.log(torch.sigmoid(v)), lambda t: -torch.log(1 - torch.exp(t))),
    "total_variation": (lambda v: torch.tanh(v) / 2, lambda t: t),
}


def losses(name, real, fake):
    """(discriminator's, generator's) of one GAN alone, from logits (b,) or features (b, f)."""
    log, sure = torch.log, torch.sigmoid
    if name.startswith("f_gan_"):
        activation, conjugate = F_GANS[name.removeprefix("f_gan_")]
        of_fake = conjugate(activation(fake)).mean()
        return of_fake - activation(real).mean(), -of_fake
    if name == "mmd":
        n = len(real)
        off = 1 - torch.eye(n, dtype=real.dtype)
        within = (kernel(real, real) * off).sum() + (kernel(fake, fake) * off).sum()
        value = within / (n * (n - 1)) - 2 * kernel(real, fake).mean()
        return -value, value
    return {
        "minimax": lambda: (-(log(sure(real)) + log(1 - sure(fake))).mean(), log(1 - sure(fake)).mean()),
        "non_saturating": lambda: (-(log(sure(real)) + log(1 - sure(fake))).mean(), -log(sure(fake)).mean()),
        "flipped": lambda: (-(log(1 - sure(real)) + log(sure(fake))).mean(), log(sure(fake)).mean()),
        "flipped_half": lambda: (-(log(1 - sure(real)) + log(sure(fake))).mean() / 2, log(sure(fake)).mean() / 2),
        "wasserstein": lambda: (fake.mean() - real.mean(), -fake.mean()),
        "hinge": lambda: ((1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean(), -fake.mean()),
        "least_squares": lambda: (((real - 1) ** 2 + fake**2).mean() / 2, ((fake - 1) ** 2).mean() / 2),
        "relativistic": lambda: (-log(sure(real - fake)).mean(), -log(sure(fake - real)).mean()),
        "relativistic_average": lambda: (
            -(log(sure(real - fake.mean())) + log(1 - sure(fake - real.mean()))).mean(),
            -(log(sure(fake - real.mean())) + log(1 - sure(real - fake.mean()))).mean(),
        ),
    }[name]()


class Solo:
    """One GAN the usual way; it draws for itself what the ensemble's streams are said to hold."""

    def __init__(self, g, d, member, objective, penalty, pack):
        self.g = [p[member].detach().clone().requires_grad_() for layer in g.layers for p in layer.parameters()]
        self.d = [p[member].detach().clone().requires_grad_() for layer in d.layers for p in layer.parameters()]
        self.u = [layer.u[member].clone() for layer in d.layers] if penalty == "spectral" else None
        self.v = [layer.v[member].clone() for layer in d.layers] if penalty == "spectral" else None
        self.block = [layer.block[member].clone() for layer in d.layers] if penalty == "spectral" else None
        if penalty == "minibatch":
            self.d.append(d.company.weight[member].detach().clone().requires_grad_())
        self.adams = [torch.optim.Adam(net, lr=1e-3, betas=(0.0, 0.99), eps=EPS) for net in (self.d, self.g)]
        self.average = [w.detach().clone() for w in self.g]
        self.objective, self.penalty, self.pack = objective, penalty, pack
        noise, mixes, blurs = np.random.default_rng([3, member]).spawn(3)
        rows = np.random.default_rng([4, member]).spawn(1)[0].integers(0, len(DATA), AHEAD * BATCH)
        self.batches = torch.tensor(DATA[rows].reshape(AHEAD, BATCH, 2))
        self.z = torch.tensor(noise.standard_normal((AHEAD, BATCH, 2)))
        self.mix = torch.tensor(mixes.random((AHEAD, BATCH // pack, 1)))
        self.blur = torch.tensor(blurs.standard_normal((AHEAD, BATCH, 2)))

    def generate(self, z):
        return self.run(self.g, z)

    @staticmethod
    def run(weights, x):
        layers = list(zip(weights[::2], weights[1::2], strict=True))
        for i, (w, b) in enumerate(layers):
            x = x @ w + b[0]
            x = torch.where(x > 0, x, 0.2 * x) if i < len(layers) - 1 else x
        return x

    def score(self, x, weights=None):
        weights = self.d if weights is None else weights
        x = torch.tensor([0.1, 0.0] * self.pack) + 3 * x
        if self.u is not None:
            sigmas = [(v.T @ w @ u)[0, 0] for u, v, w in zip(self.u, self.v, weights[::2], strict=True)]
            weights = [w if i % 2 else 1.5 * w / sigmas[i // 2] for i, w in enumerate(weights)]
        if self.penalty == "minibatch":
            *weights, kernels = weights
            # All layers but the last as a network of its own, then its activation.
            h = torch.nn.functional.leaky_relu(self.run(weights[:-2], x), 0.2)
            m = (h @ kernels).reshape(len(x), KERNELS, DIMS)
            company = sum(torch.exp(-(m - m[j]).abs().sum(-1)) for j in range(len(x)))
            out = torch.cat([h, company], 1) @ weights[-2] + weights[-1][0]
        else:
            out = self.run(weights, x)
        return out[:, 0] if out.shape[1] == 1 else out

    def packs(self, x):
        return torch.cat([x[i :: self.pack] for i in range(self.pack)], dim=1)

    def slope(self, x, real, fake):
        x = x.detach().requires_grad_()
        if self.objective == "mmd":
            at = self.score(x)
            value = kernel(at, self.score(real)).mean(1) - kernel(at, self.score(fake)).mean(1)
        else:
            value = self.score(x)
        return torch.autograd.grad(value.sum(), x, create_graph=True)[0].norm(dim=1)

    def term(self, real, fake, mix):
        between = mix * real + (1 - mix) * fake
        slope = partial(self.slope, real=real, fake=fake)
        return {
            "r1": lambda: 0.5 * slope(real).square().mean(),
            "r2": lambda: 0.5 * slope(fake).square().mean(),
            "r1_r2": lambda: 0.5 * slope(real).square().mean() + 0.5 * slope(fake).square().mean(),
            "gradient_penalty": lambda: (slope(between) - 1).square().mean(),
            "one_sided": lambda: (slope(between) - 1).clamp(min=0).square().mean(),
            "zero_centred": lambda: slope(between).square().mean(),
        }.get(self.penalty, lambda: torch.zeros(()))()

    def seen(self, x, place):
        return self.packs(x + WEIGHT * self.blur[place] if self.penalty == "instance_noise" else x)

    def tension(self, real, fake):
        d, g = losses(self.objective, self.score(real), self.score(fake))
        grads = [*torch.autograd.grad(d, self.d, create_graph=True), *torch.autograd.grad(g, self.g, create_graph=True)]
        return d, g, WEIGHT * 0.5 * sum(gradient.square().sum() for gradient in grads)

    def step(self, i):
        real = self.seen(self.batches[2 * i], 4 * i)
        fake = self.seen(self.generate(self.z[2 * i]), 4 * i + 1)
        if self.penalty == "consensus":
            d, _, tension = self.tension(real, fake)
            self.move(0, d + tension)
        else:
            fake = fake.detach()
            d, _ = losses(self.objective, self.score(real), self.score(fake))
            self.move(0, d + WEIGHT * self.term(real, fake, self.mix[i]))
        self.constrain()
        real = self.seen(self.batches[2 * i + 1], 4 * i + 2)
        fake = self.seen(self.generate(self.z[2 * i + 1]), 4 * i + 3)
        if self.penalty == "consensus":
            _, g, tension = self.tension(real, fake)
            self.move(1, g + tension)
            return
        weights = self.d
        for _ in range(5 if self.penalty == "unrolled" else 0):
            d, _ = losses(self.objective, self.score(real, weights), self.score(fake, weights))
            slopes = torch.autograd.grad(d, weights, create_graph=True)
            weights = [w - RATE * s for w, s in zip(weights, slopes, strict=True)]
        self.move(1, losses(self.objective, self.score(real, weights), self.score(fake, weights))[1])

    def constrain(self):
        with torch.no_grad():
            if self.penalty == "clip":
                for w in self.d:
                    w.clamp_(-0.01, 0.01)
            for i in range(0 if self.u is None else len(self.u)):
                w = self.d[2 * i]
                left = torch.linalg.qr(w @ self.block[i])[0]
                self.block[i] = torch.linalg.qr(w.T @ left)[0]
                small = torch.linalg.svd(w.T @ left)[2]
                self.v[i] = left @ small[0][:, None]
                self.u[i] = w.T @ self.v[i] / (w.T @ self.v[i]).norm()

    def move(self, which, loss):
        for optimizer in self.adams:
            optimizer.zero_grad()
        loss.backward()
        self.adams[which].step()


def slow_adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-3, betas=(0.0, 0.99), eps=EPS, fused=False)


def fused_adam(parameters):
    # Fused Adam reads the memory of a gradient and not its strides: that bites in the double backward of a penalty.
    return torch.optim.Adam(parameters, lr=1e-3, betas=(0.0, 0.99), eps=EPS, fused=True)


def member_adam(parameters):
    # What recipes use: a learning rate for each member.
    def make(moves):
        return torch.optim.Adam(moves, lr=1.0, betas=(0.0, 0.99), eps=EPS, fused=True)

    return MemberOptimizer(parameters, make, [1e-3] * MEMBERS)


GAMES = [
    *((objective, "none", 1, member_adam) for objective in OBJECTIVES),
    *(("non_saturating", penalty, 1, member_adam) for penalty in PENALTIES if penalty != "none"),
    *(("wasserstein", penalty, 1, member_adam) for penalty in ("gradient_penalty", "clip", "consensus", "unrolled")),
    *(("mmd", penalty, 1, member_adam) for penalty in ("gradient_penalty", "r1_r2", "unrolled")),
    *(("relativistic", penalty, 1, member_adam) for penalty in ("r1_r2", "unrolled", "minibatch", "instance_noise")),
    ("f_gan_kl", "r1_r2", 1, member_adam),
    ("hinge", "spectral", 1, member_adam),
    *(
        ("non_saturating", penalty, 2, member_adam)
        for penalty in ("none", "r1_r2", "gradient_penalty", "instance_noise")
    ),
    ("relativistic", "none", 3, member_adam),
    *(("non_saturating", penalty, 1, fused_adam) for penalty in ("none", "r1_r2")),
    *(("non_saturating", penalty, 1, slow_adam) for penalty in ("none", "r1_r2")),
]


@pytest.mark.parametrize(("objective", "penalty", "pack", "optimizer"), GAMES)
def test_ten_steps_equal_plain_networks_trained_alone(objective, penalty, pack, optimizer):
    check_ten_steps(objective, penalty, pack, optimizer)


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_penalty_equals_plain_networks_under_every_objective(objective):
    for penalty in PENALTIES:
        check_ten_steps(objective, penalty, 1, member_adam)


def check_ten_steps(objective, penalty, pack, optimizer):
    g, d, turns, batches = ensemble(objective, penalty, pack, optimizer)
    solos = [Solo(g, d, member, objective, penalty, pack) for member in range(MEMBERS)]
    average = Average(g, 0.5)
    start = d.layers[0].weight.detach().clone()
    for step in train(turns, batches, STEPS):
        average.update()
        for solo in solos:
            solo.step(step.index)
            keep = min(0.5, (1 + step.index) / (10 + step.index))
            solo.average = [keep * a + (1 - keep) * w.detach() for a, w in zip(solo.average, solo.g, strict=True)]
    assert (d.layers[0].weight - start).abs().max() > 1e-3
    for network, name in ((g, "g"), (d, "d"), (average.network, "average")):
        tensors = [p for layer in network.layers for p in layer.parameters()]
        tensors += [] if network.company is None else [network.company.weight]
        for member, solo in enumerate(solos):
            for ours, theirs in zip(tensors, getattr(solo, name), strict=True):
                assert (ours[member] - theirs).abs().max() < 1e-9


def ends(seeds, penalty, pack=1, objective="relativistic", poison=None):
    g, d, turns, batches = ensemble(objective, penalty, pack, fused_adam, seeds)
    if poison is not None:
        g.layers[0].weight.data[poison, 0, 0] = float("nan")
    list(train(turns, batches, 4))
    return torch.cat([p.detach().flatten(1) for net in (g, d) for p in net.parameters()], dim=1)


@pytest.mark.parametrize(
    ("penalty", "pack", "objective"),
    [*((name, 1, "relativistic") for name in ("spectral", "minibatch", "instance_noise", "consensus", "unrolled")),
     ("one_sided", 3, "non_saturating"), ("gradient_penalty", 1, "mmd")],
)  # fmt: skip
def test_company_and_a_diverged_neighbour_change_no_bit(penalty, pack, objective):
    # The place is kept, as ``toygen.runs`` keeps it: at the end of a row that is no multiple of a vector register's
    # length, an exponential may round differently than in the middle.
    first, second = ends([7, 1, 2], penalty, pack, objective), ends([7, 4, 3], penalty, pack, objective)
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1])
    poisoned = ends([7, 1, 2], penalty, pack, objective, poison=1)
    assert torch.isnan(poisoned[1]).any()
    assert torch.equal(poisoned[[0, 2]], first[[0, 2]])


def test_weights_may_differ_from_member_to_member():
    # A weight per member, (K,), gives each member what it would have with that number alone.
    rates = torch.tensor([0.3, 0.7], dtype=torch.float64)
    for penalty in ("r1_r2", "instance_noise", "consensus", "unrolled"):
        runs = []
        for weight in (rates, 0.3):
            g, d, _, batches = ensemble("non_saturating", "none", 1, fused_adam)
            turns = gan(
                g,
                d,
                objective=OBJECTIVES["non_saturating"],
                latent=LATENT,
                penalty=PENALTIES[penalty].weighted(weight),
                optimizer=fused_adam,
                rng=[np.random.default_rng([3, member]) for member in range(MEMBERS)],
            )
            list(train(turns, batches, 3))
            runs.append(torch.cat([p.detach().flatten(1) for net in (g, d) for p in net.parameters()], dim=1))
        assert (runs[0][0] - runs[1][0]).abs().max() < 1e-12
        assert (runs[0][1] - runs[1][1]).abs().max() > 1e-6
