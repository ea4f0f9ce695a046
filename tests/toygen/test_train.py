"""The loop against a plain one, member by member; who depends on whom; and the average."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from divergences import Gaussian, InputError
from toygen import MLP, Affine, Average, Turn, adam, gan, minibatches, penalties, single_thread, train
from toygen.objectives import OBJECTIVES
from toygen.optimizers import MemberOptimizer

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


def trained(seeds, *, steps=30, penalty=penalties.r1_r2, poison=None):
    g, d, turns, batches = players(OBJECTIVES["non_saturating"], penalty, seeds=seeds, dtype=torch.float32)
    if poison is not None:
        g.layers[0].weight.data[poison, 0, 0] = float("nan")
    for _ in train(turns, batches, steps):
        pass
    return [torch.cat([p.detach()[k].flatten() for net in (g, d) for p in net.parameters()]) for k in range(len(seeds))]


def test_a_member_is_bitwise_the_same_in_any_company_and_place():
    # 32 members fill the widest registers, so that no member falls into the scalar remainder of a vector loop.
    first = trained([7, *range(100, 131)])
    second = trained([*range(200, 217), 7, *range(300, 314)])
    assert torch.equal(first[0], second[17])
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


MADE = {
    "adam": lambda w, rate: torch.optim.Adam(w, lr=rate, betas=(0.3, 0.99), fused=False),
    "rmsprop": lambda w, rate: torch.optim.RMSprop(w, lr=rate, alpha=0.9),
    "sgd": lambda w, rate: torch.optim.SGD(w, lr=rate, momentum=0.7),
}


@pytest.mark.parametrize("name", MADE)
def test_each_member_moves_at_its_own_rate_as_torch_would_alone(name):
    rates = [0.3, 0.001, 2.0]
    rng = np.random.default_rng(0)
    together = nn.Parameter(torch.tensor(rng.standard_normal((3, 4, 5))))
    alone = [nn.Parameter(together.detach()[k].clone()) for k in range(3)]
    ours = MemberOptimizer([together], lambda moves: MADE[name](moves, 1.0), rates)
    theirs = [MADE[name]([w], rate) for w, rate in zip(alone, rates, strict=True)]
    for step in range(30):
        # A schedule turns all rates at once.
        share = 1 - step / 40
        ours.set_rates([share * rate for rate in rates])
        gradient = torch.tensor(rng.standard_normal((3, 4, 5)))
        together.grad = gradient.clone()
        ours.step()
        for k, (w, optimizer) in enumerate(zip(alone, theirs, strict=True)):
            w.grad = gradient[k].clone()
            optimizer.param_groups[0]["lr"] = share * rates[k]
            optimizer.step()
    for k, w in enumerate(alone):
        assert (together[k] - w).abs().max() < 1e-12 * max(1, w.abs().max())
    with pytest.raises(InputError, match=r"one learning rate per member \(3\); it holds 2"):
        ours.set_rates([0.1, 0.2])
    with pytest.raises(InputError, match="closure must be None"):
        ours.step(lambda: None)


def test_a_training_may_start_in_the_middle():
    w, turn = quadratic([1.0])
    assert [step.index for step in train([turn], itertools.repeat(torch.zeros(1, 1, 1)), 5, start=3)] == [3, 4]
    assert w.tolist() == [0.25]


def test_a_stream_goes_on_where_it_stood():
    def stream():
        return minibatches(np.arange(50.0), size=7, rng=np.random.default_rng(1), members=2)

    # Within the first block, at its end, and in the second.
    for taken in (0, 3, 64, 70):
        first, second = stream(), stream()
        for _ in range(taken):
            next(first)
        second.stream.restore(first.stream.state())
        assert all(torch.equal(next(first), next(second)) for _ in range(80))
