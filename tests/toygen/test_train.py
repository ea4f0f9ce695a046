"""The loop against a plain one, member by member; who depends on whom; and the average."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from divergences import Gaussian, InputError
from toygen import MLP, Affine, Average, Turn, adam, gan, minibatches, penalties, single_thread, train
from toygen.objectives import OBJECTIVES
from toygen.penalties import PENALTIES

LATENT = Gaussian([0.0, 0.0], np.eye(2))
DATA = np.random.default_rng(99).normal(size=(50, 2)) @ [[1.0, 0.3], [0.0, 0.7]]
MEMBERS, BATCH, WIDTH = 3, 12, 10


def rngs(seed, members=MEMBERS):
    return [np.random.default_rng([seed, k]) for k in range(members)]


def players(objective, penalty, *, seeds=None, dtype=torch.float64, optimizer=adam):
    seeds = list(range(MEMBERS)) if seeds is None else seeds

    def own(stream):
        return [np.random.default_rng([stream, seed]) for seed in seeds]

    g = MLP([2, WIDTH, WIDTH, 2], own(1), dtype=dtype)
    d = MLP([2, WIDTH, WIDTH, 1], own(2), before=Affine([0.1, 0.0], [3.0, 3.0], dtype=dtype), dtype=dtype)
    turns = gan(g, d, objective=objective, latent=LATENT, penalty=penalty, optimizer=optimizer, rng=own(3))
    batches = minibatches(DATA, size=BATCH, rng=own(4), members=len(seeds), dtype=dtype)
    return g, d, turns, batches


class Solo:
    """One GAN the usual way: nn.Linear, nn.Sequential, its own Adam, its own formulas, batches handed in."""

    def __init__(self, g, d, member, objective, penalty):
        self.g, self.d = self.twin(g, member), self.twin(d, member)
        self.shift, self.gain = d.before.shift, d.before.gain
        self.adams = [torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.0, 0.99)) for net in (self.d, self.g)]
        self.objective, self.penalty = objective, penalty

    @staticmethod
    def twin(network, member):
        modules = []
        for layer in network.layers:
            linear = nn.Linear(layer.weight.shape[1], layer.weight.shape[2], dtype=torch.float64)
            linear.weight.data = layer.weight.data[member].T.clone()
            linear.bias.data = layer.bias.data[member, 0].clone()
            modules += [linear, nn.LeakyReLU(0.2)]
        return nn.Sequential(*modules[:-1])

    def score(self, x):
        return self.d(self.shift + self.gain * x)[:, 0]

    def slope(self, x):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(self.score(x).sum(), x, create_graph=True)[0].norm(dim=1)

    def losses(self, real, fake):
        if self.objective == "wasserstein":
            return fake.mean() - real.mean(), -fake.mean()
        if self.objective.startswith("flipped"):
            half = 0.5 if self.objective.endswith("half") else 1.0
            return half * (softplus(real) + softplus(-fake)).mean(), half * torch.sigmoid(fake).log().mean()
        d = -(torch.sigmoid(real).log() + (1 - torch.sigmoid(fake)).log()).mean()
        saturating = (1 - torch.sigmoid(fake)).log().mean()
        return d, saturating if self.objective == "minimax" else -torch.sigmoid(fake).log().mean()

    def step(self, real, z_d, mix, z_g, weight):
        fake = self.g(z_d).detach()
        loss, _ = self.losses(self.score(real), self.score(fake))
        if self.penalty in ("r1", "r1_r2"):
            loss = loss + weight * 0.5 * self.slope(real).square().mean()
        if self.penalty in ("r2", "r1_r2"):
            loss = loss + weight * 0.5 * self.slope(fake).square().mean()
        if self.penalty == "gradient_penalty":
            loss = loss + weight * (self.slope(mix * real + (1 - mix) * fake) - 1).square().mean()
        self.move(0, loss)
        if self.penalty == "clip":
            for parameter in self.d.parameters():
                parameter.data.clamp_(-0.01, 0.01)
        scores = self.score(self.g(z_g))
        self.move(1, self.losses(scores, scores)[1])

    def move(self, which, loss):
        self.adams[which].zero_grad()
        loss.backward()
        self.adams[which].step()


class Recorder:
    """Lets noise and batches be read twice: once by the ensemble, once by the solo loops."""

    def __init__(self, monkeypatch):
        from toygen import players as module

        self.taken = []
        original = module._Stream.take

        def take(stream, size):
            self.taken.append(original(stream, size))
            return self.taken[-1]

        monkeypatch.setattr(module._Stream, "take", take)


def fused_adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-3, betas=(0.0, 0.99), fused=True)


GAMES = [("non_saturating", penalty) for penalty in PENALTIES] + [
    (objective, penalty) for objective in OBJECTIVES for penalty in ("none", "gradient_penalty", "r1_r2")
]


@pytest.mark.parametrize(
    ("objective", "penalty", "optimizer"),
    # Fused Adam reads the memory of a gradient and not its strides: that bites in the double backward of a penalty.
    [(*game, fused_adam) for game in sorted(set(GAMES))]
    + [("non_saturating", "r1_r2", adam), ("minimax", "none", adam)],
)
def test_ten_steps_equal_plain_networks_trained_alone(monkeypatch, objective, penalty, optimizer):
    weight = 0.7
    recorder = Recorder(monkeypatch)
    chosen = dataclasses.replace(PENALTIES[penalty], weight=weight)
    g, d, turns, batches = players(OBJECTIVES[objective], chosen, optimizer=optimizer)
    solos = [Solo(g, d, member, objective, penalty) for member in range(MEMBERS)]
    recorded = []

    def remembered():
        for batch in batches:
            recorded.append(batch)
            yield batch

    for _ in train(turns, remembered(), 10):
        # Order of the streams in one round: rows of the batch, z of D, mix (if there is a term), rows, z of G.
        taken, recorder.taken = recorder.taken, []
        z_d, z_g = taken[1], taken[-1]
        mix = taken[2] if len(taken) == 5 else torch.zeros(MEMBERS, BATCH, 1, dtype=torch.float64)
        for member, solo in enumerate(solos):
            solo.step(recorded[-2][member], z_d[member], mix[member], z_g[member], weight)
    for network, name in ((g, "g"), (d, "d")):
        for member, solo in enumerate(solos):
            twins = [p for p in getattr(solo, name).parameters()]
            for layer, w, b in zip(network.layers, twins[::2], twins[1::2], strict=True):
                assert (layer.weight[member] - w.T).abs().max() < 1e-9
                assert (layer.bias[member, 0] - b).abs().max() < 1e-9


def trained(seeds, *, steps=30, penalty=penalties.r1_r2, poison=None):
    g, d, turns, batches = players(OBJECTIVES["non_saturating"], penalty, seeds=seeds, dtype=torch.float32)
    if poison is not None:
        g.layers[0].weight.data[poison, 0, 0] = float("nan")
    for _ in train(turns, batches, steps):
        pass
    return [torch.cat([p.detach()[k].flatten() for net in (g, d) for p in net.parameters()]) for k in range(len(seeds))]


def test_a_member_is_bitwise_the_same_in_any_company_and_place():
    first = trained([7, 1, 2, 3])
    second = trained([4, 5, 7, 6])
    assert torch.equal(first[0], second[2])
    assert not torch.equal(first[0], second[0])


def test_the_same_seeds_give_the_same_bits_again():
    assert all(torch.equal(a, b) for a, b in zip(trained([0, 1]), trained([0, 1]), strict=True))


def test_a_member_that_diverges_takes_nobody_along():
    clean = trained([0, 1, 2, 3])
    poisoned = trained([0, 1, 2, 3], poison=1)
    assert torch.isnan(poisoned[1]).any()
    for member in (0, 2, 3):
        assert torch.equal(clean[member], poisoned[member])


def test_the_global_random_state_and_threads_are_left_alone():
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    trained([0, 1], steps=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.get_num_threads() == threads
    torch.set_num_threads(2)
    try:
        with single_thread():
            assert torch.get_num_threads() == 1
        with pytest.raises(ZeroDivisionError), single_thread():
            divmod(1, 0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def quadratic(start, name="player", **settings):
    """One player that walks down (w − batch mean)² by gradient descent."""
    w = nn.Parameter(torch.tensor(start))
    turn = Turn(name, lambda batch: (w - batch.mean(dim=(1, 2))).square(), torch.optim.SGD([w], lr=0.25), **settings)
    return w, turn


def test_one_player_against_fixed_samples():
    w, turn = quadratic([4.0, -4.0])
    batches = itertools.repeat(torch.zeros(2, 3, 1))
    seen = []
    for step in train([turn], batches, 3):
        seen.append((step.index, step.losses["player"].tolist(), w.tolist()))
    # Each move halves w; the loss reported is the one before the move.
    assert seen == [(0, [16.0, 16.0], [2.0, -2.0]), (1, [4.0, 4.0], [1.0, -1.0]), (2, [1.0, 1.0], [0.5, -0.5])]


def test_repeats_take_fresh_batches_and_project_comes_after_each_move():
    seen, projections = [], []
    w, turn = quadratic([1.0], repeats=3, project=lambda: projections.append(len(seen)))
    turn = dataclasses.replace(turn, loss=lambda batch: (seen.append(float(batch[0, 0, 0])), w.square())[1])
    batches = (torch.full((1, 1, 1), float(i)) for i in itertools.count())
    assert len(list(train([turn], batches, 2))) == 2
    assert seen == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert projections == [1, 2, 3, 4, 5, 6]


def test_zero_steps_are_none_and_the_caller_may_stop():
    w, turn = quadratic([1.0])
    assert list(train([turn], itertools.repeat(torch.zeros(1, 1, 1)), 0)) == []
    next(train([turn], itertools.repeat(torch.zeros(1, 1, 1)), 100))
    assert w.tolist() == [0.5]


def test_misuse_of_the_loop_is_named():
    w, turn = quadratic([1.0])
    batches = itertools.repeat(torch.zeros(1, 1, 1))
    for turns, steps, match in (
        ([], 1, "at least one player"),
        ([turn, turn], 1, "different names"),
        ([turn], -1, "steps must be at least 0"),
        ([turn], 1.5, "steps must be a whole number"),
        ([dataclasses.replace(turn, repeats=0)], 1, "repeats of turn 'player' must be at least 1"),
        ([dataclasses.replace(turn, loss=lambda batch: w.square().sum())], 1, r"must have shape \(members,\)"),
    ):
        with pytest.raises(InputError, match=match):
            list(train(turns, batches, steps))
    with pytest.raises(InputError, match="batches ran out"):
        list(train([turn], [torch.zeros(1, 1, 1)], 2))


def test_misuse_of_the_players_is_named():
    g, d, _, _ = players(OBJECTIVES["minimax"], penalties.none)
    game = {"objective": OBJECTIVES["minimax"], "latent": LATENT}
    with pytest.raises(InputError, match="same members; they have 3 and 2"):
        gan(g, d.pick([0, 1]), rng=rngs(0), **game)
    with pytest.raises(InputError, match=r"one generator per member \(3\); it holds 2"):
        gan(g, d, rng=rngs(0)[:2], **game)
    with pytest.raises(InputError, match="rng must be"):
        gan(g, d, rng=[0, 1, 2], **game)
    with pytest.raises(InputError, match=r"data holds NaN in 1 of 2 rows"):
        minibatches([[0.0, 1.0], [np.nan, 1.0]], size=2, rng=np.random.default_rng(0), members=2)
    with pytest.raises(InputError, match="size must be at least 1"):
        minibatches(DATA, size=0, rng=np.random.default_rng(0), members=2)


def test_one_generator_stands_for_all_members_by_index():
    few = next(minibatches(DATA, size=9, rng=np.random.default_rng(3), members=2))
    many = next(minibatches(DATA, size=9, rng=np.random.default_rng(3), members=5))
    assert torch.equal(few, many[:2])
    assert not torch.equal(many[0], many[1])


def test_minibatches_draw_every_row_alike_and_nothing_else():
    batches = minibatches(np.arange(10.0), size=100, rng=np.random.default_rng(0), members=2)
    rows = torch.stack(list(itertools.islice(batches, 100))).long()[..., 0]
    for member in range(2):
        counts = np.bincount(rows[:, member].flatten().numpy(), minlength=10)
        assert len(counts) == 10
        assert np.abs(counts - 1000).max() < 5 * np.sqrt(900)


def test_the_average_follows_its_formula():
    w = nn.Linear(1, 1, bias=False)
    average = Average(w, 0.9)
    expected = float(w.weight.detach())
    for t in range(200):
        w.weight.data.fill_(float(np.sin(t)))
        average.update()
        decay = min(0.9, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * float(w.weight.detach())
    assert float(average.network.weight) == pytest.approx(expected, rel=1e-5)
    assert not average.network.weight.requires_grad
    with pytest.raises(InputError, match="decay must lie"):
        Average(w, 1.0)
