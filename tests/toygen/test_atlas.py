"""The atlas: cells, files, workers, intervals, tables; and generators that toss coins."""

import dataclasses
import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from divergences import InputError
from evaluation.intervals import wilson
from toygen import atlas_rows, atlas_table
from toygen.atlas import Cell, Outcome, ablation, atlas, committed, full, run_cell
from toygen.atlas_command import main
from toygen.checkpoints import load_checkpoint, save_checkpoint
from toygen.coins import SHARP, CoinRecipe, CoinRun, Coins, fit_sharp
from toygen.game import Game
from toygen.negatives import Wrong
from toygen.recipes import Recipe, recipe_for
from toygen.runs import fit_gan
from toygen.sampler import Sampler
from toygen.targets import ring, target_by_name

TINY = Cell("ring", width=4, steps=2, members=3, train_size=100, samples=200)


def _outcome(cell, captured, quality, total=8, diverged=None):
    members = cell.members
    kl = [0.1 * (k + 1) if count else None for k, count in enumerate(captured)]
    return Outcome(
        cell=cell,
        total=total,
        captured=tuple(captured),
        high_quality=tuple(quality),
        reverse_kl=tuple(kl),
        captured_2500=tuple(captured),
        high_quality_2500=tuple(quality),
        diverged=tuple(diverged or [False] * members),
        high_quality_null=0.98889,
        seconds=1.5,
        versions={"torch": "2", "numpy": "2", "python": "3", "machine": "x"},
    )


# Generators that toss coins


def test_coins_are_fair_and_leave_the_rest_alone():
    rng = np.random.default_rng(0)
    z = torch.tensor(rng.standard_normal((2, 20_000, 5)))
    out = Coins(5, 3, 0.25, torch.float64)(z).numpy()
    assert set(np.unique(out[..., :3])) == {-1.0, 1.0}
    np.testing.assert_array_equal(out[..., 3:], 0.25 * z.numpy()[..., 3:])
    codes = ((out[0, :, :3] > 0) @ [1, 2, 4]).astype(int)
    counts = np.bincount(codes, minlength=8)
    # χ² with 7 degrees of freedom: 29.9 is exceeded once in ten thousand times.
    assert ((counts - 2500) ** 2 / 2500).sum() < 29.9


def test_a_generator_with_coins_jumps_and_one_without_does_not():
    data = ring().sample(200, np.random.default_rng(0))
    near = np.zeros((2, 3))
    near[:, 0] = [-1e-9, 1e-9]
    gaps = {}
    for coins in (0, 2):
        recipe = CoinRecipe(width=8, depths=(2, 2), chunk=2, latent_dim=3, coins=coins)
        points = fit_sharp(data, recipe=recipe, members=1, steps=1).sampler(0).push(near)
        gaps[coins] = float(np.linalg.norm(points[1] - points[0]))
    assert gaps[0] < 1e-7
    assert gaps[2] > 1e-3


def test_shifts_move_each_patch_by_itself():
    data = ring().sample(200, np.random.default_rng(0))
    recipe = CoinRecipe(width=8, depths=(2, 2), chunk=2, latent_dim=4, coins=2, scatter=0.5, shift_gain=2.0)
    network = fit_sharp(data, recipe=recipe, members=2, steps=2).generators
    z = torch.tensor(np.random.default_rng(0).standard_normal((2, 400, 4)), dtype=torch.float32)
    with torch.no_grad():
        before = network(z)
        network.shifts[1, 2] += torch.tensor([1.0, -3.0])
        moved = (network(z) - before).numpy()
    there = (z[1, :, 0] <= 0).numpy() & (z[1, :, 1] > 0).numpy()  # patch 2: tails, then heads
    scale = float(np.sqrt(data.var(axis=0).mean()))
    assert not moved[0].any()
    assert not moved[1, ~there].any()
    np.testing.assert_allclose(moved[1, there], np.tile([2 * scale, -6 * scale], (there.sum(), 1)), rtol=1e-4)


def test_without_coins_it_is_the_ordinary_game():
    data = ring().sample(200, np.random.default_rng(0))
    common = {"width": 8, "depths": (2, 2), "chunk": 2, "latent_dim": 3}
    ours = fit_sharp(
        data, recipe=CoinRecipe(**common, coins=0, spread=1.0, scatter=0.0, negatives=0.0), members=2, steps=3, seed=5
    )
    theirs = fit_gan(data, recipe=Recipe(**common), members=2, steps=3, seed=5)
    for name in ("generator", "discriminator"):
        np.testing.assert_allclose(ours.history[name], theirs.history[name], rtol=1e-6)


def test_a_member_with_coins_does_not_depend_on_its_companions():
    data = ring().sample(200, np.random.default_rng(0))
    recipe = CoinRecipe(width=8, depths=(2, 2), chunk=2, latent_dim=4, coins=2)
    both, alone = (
        fit_sharp(data, recipe=recipe, members=4, steps=3),
        fit_sharp(data, recipe=recipe, members=[3], steps=3),
    )
    z = np.random.default_rng(1).standard_normal((50, 4))
    np.testing.assert_array_equal(both.sampler(3).push(z), alone.sampler(0).push(z))


@pytest.mark.parametrize("scatter", [0.0, 0.5])
def test_a_sampler_with_coins_survives_its_file(tmp_path, scatter):
    data = ring().sample(200, np.random.default_rng(0))
    recipe = CoinRecipe(width=8, depths=(2, 2), chunk=2, latent_dim=4, coins=2, scatter=scatter)
    sampler = fit_sharp(data, recipe=recipe, members=2, steps=2).sampler(1)
    again = Sampler.load(sampler.save(tmp_path / "s.npz"))
    np.testing.assert_array_equal(again(300, np.random.default_rng(0)), sampler(300, np.random.default_rng(0)))

    with np.load(tmp_path / "s.npz") as file:
        arrays = dict(file)
    arrays["network.before.coins"] = np.ones(4, dtype=bool)  # four coins have sixteen patches, not four
    if scatter:
        np.savez(tmp_path / "bad.npz", **arrays)
        with pytest.raises(InputError, match="shifts"):
            Sampler.load(tmp_path / "bad.npz")


def test_a_run_with_coins_and_negatives_goes_on_as_if_never_stopped(tmp_path):
    data = ring().sample(200, np.random.default_rng(0))
    recipe = CoinRecipe(width=8, depths=(2, 2), chunk=2, latent_dim=4, coins=2)
    whole = fit_sharp(data, recipe=recipe, members=2, steps=5)
    stopped = CoinRun(data, recipe=recipe, members=2, steps=5)
    for progress in stopped:
        if progress.done == 3:
            save_checkpoint(stopped, tmp_path / "c.pt")
            break
    resumed = CoinRun(data, recipe=recipe, members=2, steps=5)
    load_checkpoint(resumed, tmp_path / "c.pt")
    for _ in resumed:
        pass
    z = np.random.default_rng(1).standard_normal((50, 4))
    np.testing.assert_array_equal(resumed.result().sampler(1).push(z), whole.sampler(1).push(z))


def test_negatives_are_points_moved_by_the_widths_asked_for():
    points = np.array([[0.0, 0.0], [100.0, 0.0]])
    wrong = Wrong(points, (0.1, 2.0)).sample(40_000, np.random.default_rng(0))
    left = wrong[wrong[:, 0] < 50]
    assert abs(len(left) / 40_000 - 0.5) < 0.01
    # s = exp U with U uniform between the logs: E s² = (b² − a²)/(2·log(b/a)), E s⁴ likewise; |s·ε|² has mean 2·E s²
    # and second moment 8·E s⁴.
    mean = 2 * (4 - 0.01) / (2 * math.log(20))
    spread = math.sqrt(8 * (16 - 0.0001) / (4 * math.log(20)) - mean**2)
    assert abs((left**2).sum(axis=1).mean() - mean) < 4 * spread / math.sqrt(len(left))


def test_the_discriminator_sees_negatives_in_place_of_generated_points(monkeypatch):
    data = ring().sample(50, np.random.default_rng(0))
    recipe = CoinRecipe(width=8, depths=(2, 2), chunk=2, latent_dim=3, coins=2, batch=40, reach=(1e-6, 1e-5))
    seen = []
    judge = Game.of_discriminator

    def watched(game, real, fake, mix=None):
        seen.append(fake)
        return judge(game, real, fake, mix)

    monkeypatch.setattr(Game, "of_discriminator", watched)
    for share, count in ((0.125, 5), (0.0, 0)):
        seen.clear()
        fit_sharp(data, recipe=dataclasses.replace(recipe, negatives=share), members=2, steps=2)
        for fake in seen:
            assert fake.shape == (2, 40, 2)
            away = np.linalg.norm(fake.numpy()[:, :, None] - data, axis=-1).min(axis=-1)
            # With so short a reach a negative lies on a training point, where no untrained generator puts anything.
            assert (away[:, :count] < 1e-4).all()
            assert (away[:, count:] > 1e-4).all()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: CoinRecipe(latent_dim=10, negatives=1.0), "negatives"),
        (lambda: CoinRecipe(latent_dim=10, negatives=0.1, penalty="consensus"), "consensus"),
        (lambda: CoinRecipe(latent_dim=10, reach=(1.0,)), "reach"),
        (lambda: CoinRecipe(latent_dim=10, reach=(0.0, 1.0)), "reach"),
        (lambda: CoinRecipe(latent_dim=10, reach=(1.0, 0.1)), "reach"),
        (lambda: Coins(2, 3, 1.0), "coins must be at most the number of latents"),
        (lambda: Coins(2, 1, 0.0), "spread"),
        (lambda: CoinRecipe(latent_dim=2, coins=3), "latent_dim = 2"),
        (lambda: CoinRecipe(coins=-1), "coins"),
        (lambda: CoinRecipe(latent_dim=30, coins=17), "at most 16"),
        (lambda: CoinRecipe(scatter=-1.0), "scatter"),
        (lambda: CoinRecipe(shift_gain=0.0), "shift_gain"),
        (lambda: CoinRun(np.zeros((3, 2)), recipe=Recipe()), "CoinRecipe"),
    ],
)
def test_bad_coins(make, said):
    with pytest.raises(InputError, match=said):
        make()


# Cells


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"target": "spiral"}, "Gaussian"),
        ({"target": "nowhere"}, "nowhere"),
        ({"target": "ring", "objective": "best"}, "objective"),
        ({"target": "ring", "penalty": "best"}, "penalty"),
        ({"target": "ring", "recipe": "best"}, "recipe"),
        ({"target": "ring", "members": 0}, "members"),
        ({"target": "ring", "steps": 0}, "steps"),
        ({"target": "ring", "seed": -1}, "seed"),
        ({"target": "ring", "changes": (("coins", 3),)}, "does not have"),
        ({"target": "ring", "changes": (("learning_rate", -1.0),)}, "learning_rate"),
        ({"target": "ring", "changes": (("penalty", "none"),)}, "'penalty', which the cell has itself"),
        ({"target": "ring", "recipe": "sharp", "changes": (("width", 3),)}, "'width', which the cell has itself"),
    ],
)
def test_bad_cells(settings, said):
    with pytest.raises(InputError, match=said):
        Cell(**settings)


def test_every_setting_enters_the_digest():
    other = {
        "target": "grid", "objective": "minimax", "penalty": "r1", "recipe": "standard", "width": 5, "steps": 3,
        "members": 4, "changes": (("decay", 0.5),), "seed": 1, "train_size": 101, "samples": 201,
    }  # fmt: skip
    assert set(other) == {f.name for f in dataclasses.fields(Cell)}
    digests = [TINY.digest] + [dataclasses.replace(TINY, **{name: value}).digest for name, value in other.items()]
    assert len(set(digests)) == len(digests)
    assert dataclasses.replace(TINY).digest == TINY.digest


def test_plans_hold_different_cells():
    for plan in (committed(), ablation()):
        assert len({cell.file_name for cell in plan}) == len(plan)
    assert len(committed()) <= 12
    every = full()
    assert len(set(every)) == len(every)
    assert all(cell.members >= 64 for cell in [*committed(), *every])
    assert {cell.members for cell in ablation()} == {32}


def test_the_sharp_recipe_without_its_penalty_is_the_same_but_for_that():
    """The row of the table was trained under a cell that called its penalty r1_r2 and changed it: the same recipe."""
    whole, *parts = ablation()
    (without,) = [cell for cell in parts if cell.penalty != whole.penalty]
    assert without.label == "non_saturating, none"
    assert without.changes == ()
    before = dataclasses.replace(SHARP, penalty="none", width=64, chunk=32)
    assert without.trained_by() == before
    assert dataclasses.asdict(without) == {**dataclasses.asdict(whole), "penalty": "none"}
    (row,) = [row for row in atlas_rows.shipped() if row.cell == without]
    assert row.covered == 22
    # A column called penalty is one to group by: it says what every member was trained with.
    assert all(row.cell.penalty == row.cell.trained_by().penalty for row in atlas_rows.shipped())


@pytest.mark.parametrize("objective", ["wasserstein", "mmd"])
def test_a_sharp_critic_is_a_critic(objective):
    recipe = Cell("grid", objective, "gradient_penalty", recipe="sharp").trained_by()
    usual = recipe_for(objective)
    assert (recipe.penalty, recipe.weights) == (usual.penalty, usual.weights) == ("gradient_penalty", (1.0, 1.0))
    assert recipe.discriminator_steps == usual.discriminator_steps == 3
    assert (recipe.coins, recipe.depths) == (SHARP.coins, SHARP.depths)
    noisy = Cell("grid", objective, "unrolled", recipe="sharp").trained_by()
    assert noisy.weights == recipe_for(objective, "unrolled").weights


def test_the_sharp_recipe_plays_its_own_game_as_it_is():
    for cell in (*committed(), *ablation()):
        if cell.recipe == "sharp" and not cell.changes and cell.penalty == SHARP.penalty:
            assert cell.trained_by() == dataclasses.replace(SHARP, width=64, chunk=32)


# Files and workers


def test_from_cells_to_table_and_on(tmp_path):
    cells = [TINY, dataclasses.replace(TINY, penalty="none"), dataclasses.replace(TINY, recipe="sharp", target="grid")]
    first = atlas(cells, tmp_path / "one")
    assert [outcome.cell for outcome in first] == cells
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted(cell.file_name for cell in cells)
    assert [outcome.total for outcome in first] == [8, 8, 25]
    assert all(abs(outcome.high_quality_null - (1 - math.exp(-4.5))) < 1e-4 for outcome in first)

    # Two workers, other companions, another order: the same numbers.
    again = atlas(cells[::-1], tmp_path / "two", jobs=2)
    assert again[::-1] == first

    # Resuming computes what is missing and leaves the rest alone: what stands in a file is believed.
    kept = tmp_path / "one" / cells[0].file_name
    forged = json.loads(kept.read_text())
    forged["captured"] = [8, 8, 8]
    kept.write_text(json.dumps(forged))
    (tmp_path / "one" / cells[1].file_name).unlink()
    resumed = atlas(cells, tmp_path / "one")
    assert resumed[0].captured == (8, 8, 8)
    assert resumed[1:] == first[1:]


@pytest.mark.parametrize(
    ("name", "means", "reach"),
    [
        ("two_peaks", [[-1.0], [1.0]], 0.75),
        ("ring", [[math.cos(k * math.pi / 4), math.sin(k * math.pi / 4)] for k in range(8)], 0.03),
    ],
)
def test_scores_are_those_of_the_points(name, means, reach):
    """Counted again by hand: the nearest mode, and whether it is within three standard deviations."""
    cell = dataclasses.replace(TINY, target=name, steps=30, samples=4000, width=8)
    outcome = run_cell(cell)
    own = np.random.SeedSequence(cell.seed, spawn_key=(2**31 + 1,)).spawn(2)
    train = target_by_name(name).sample(cell.train_size, np.random.default_rng(own[0]))
    ensemble = fit_gan(train, recipe=cell.trained_by(), members=3, steps=30, seed=0)
    streams = np.random.default_rng(own[1]).spawn(3)
    for member in range(3):
        points = ensemble.sampler(member)(4000, streams[member])
        distance = np.linalg.norm(points[:, None] - np.array(means), axis=2)
        inside = distance.min(axis=1) < reach
        assert outcome.high_quality[member] == pytest.approx(inside.mean())
        assert outcome.captured[member] == len(set(distance.argmin(axis=1)[inside]))
        assert outcome.high_quality_2500[member] == pytest.approx(inside[:2500].mean())
        assert outcome.captured_2500[member] == len(set(distance[:2500].argmin(axis=1)[inside[:2500]]))
    assert any(outcome.captured) or name == "ring"  # narrow modes, missed by so short a training


def test_an_outcome_survives_its_file(tmp_path):
    cell = dataclasses.replace(TINY, changes=(("weights", (0.1, 0.1)), ("decay", 0.5)))
    outcome = _outcome(cell, [8, 3, 0], [0.9, 0.5, 0.0], diverged=[False, False, True])
    again = Outcome.from_json(outcome.to_json(), "it")
    assert again.cell == cell
    assert again.cell.digest == cell.digest
    assert again.captured == outcome.captured
    assert again.reverse_kl == (0.1, 0.2, None)
    assert again.to_json() == outcome.to_json()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": "mintmark atlas 1"}', '{"format": "other", "cell": {}}'])
def test_a_foreign_file_is_refused_by_name(tmp_path, text):
    (tmp_path / TINY.file_name).write_text(text)
    with pytest.raises(InputError, match=TINY.digest):
        run_cell(TINY, tmp_path)


def test_no_cells_or_one_twice(tmp_path):
    for cells in ([], [TINY, TINY]):
        with pytest.raises(InputError, match="different"):
            atlas(cells, tmp_path)


def test_a_dask_cluster_computes_the_same(tmp_path):
    distributed = pytest.importorskip("dask.distributed", reason="needs dask.distributed")
    import joblib

    cells = [TINY, dataclasses.replace(TINY, penalty="none")]
    here = atlas(cells, tmp_path / "here")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        there = atlas(cells, tmp_path / "there")
    assert there == here


# Intervals


@pytest.mark.parametrize(("hits", "n"), [(0, 64), (1, 64), (31, 64), (64, 64), (7, 8)])
def test_wilson_ends_solve_their_equation(hits, n):
    """|p̂ − p| = z·√(p(1 − p)/n) at both ends: Wilson's definition, in exact arithmetic."""
    z = Fraction("1.959963984540054")
    share = wilson(hits, n)
    for end, side in zip(share.interval, (-1, 1), strict=True):
        p = Fraction(end)
        gap = (Fraction(hits, n) - p) ** 2 - z * z * p * (1 - p) / n
        assert abs(float(gap)) < 1e-12 or (hits, side) in {(0, -1), (n, 1)}
        assert share.value <= end if side == 1 else end <= share.value
    assert share.interval[0] == (0.0 if hits == 0 else pytest.approx(share.interval[0]))


def test_a_row_counts_diverged_members_as_failures():
    cell = dataclasses.replace(TINY, members=4)
    row = atlas_rows.Row.of(_outcome(cell, [8, 8, 7, 0], [0.9, 0.8, 0.7, 0.0], diverged=[False, False, False, True]))
    assert (row.covered, row.diverged, row.lowest) == (2, 1, 0.0)
    assert row.share.value == 0.5
    assert row.modes.value == 23 / 4
    assert row.high_quality.value == pytest.approx(0.6)
    assert row.reverse_kl.value == pytest.approx(0.2)  # 0.1, 0.2, 0.3; the last has none
    low, high = row.high_quality.interval
    assert 0.0 <= low < 0.6 < high <= 0.9
    # The exact bootstrap law of four values: all 4⁴ resamples.
    values = np.array([0.9, 0.8, 0.7, 0.0])
    every = np.array(np.meshgrid(*[values] * 4)).reshape(4, -1).mean(axis=0)
    np.testing.assert_allclose((low, high), np.quantile(every, [0.025, 0.975]), atol=0.03)


def test_means_by_the_published_protocol_stay_within_what_is_possible():
    def row(*captured, total=8):
        cell = dataclasses.replace(TINY, members=len(captured))
        return atlas_rows.Row.of(_outcome(cell, captured, [count / total for count in captured], total=total))

    two = row(0, 1)
    assert two.modes_2500.value == 0.5
    assert two.modes_2500_se == pytest.approx(0.5)
    # Two members: Student's quantile is that of a Cauchy law, 12.706.
    assert two.modes_2500.interval == pytest.approx((0.0, 0.5 + 0.5 * math.tan(0.475 * math.pi)))
    assert two.high_quality_2500.interval == pytest.approx((0.0, 1 / 16 + math.tan(0.475 * math.pi) / 16))
    assert row(7, 8).modes_2500.interval == pytest.approx((7.5 - 0.5 * math.tan(0.475 * math.pi), 8.0))
    one = row(3)
    assert one.modes_2500.interval == (0.0, 8.0)
    assert one.modes_2500_se is None
    assert row(8, 8, 8).modes_2500.interval == (8.0, 8.0)
    for found in atlas_rows.shipped():
        for estimate, most in ((found.modes_2500, found.total), (found.high_quality_2500, 1.0)):
            low, high = estimate.interval
            assert 0.0 <= low <= estimate.value <= high <= most


def test_students_interval_holds_for_few_members():
    rng, hits, runs = np.random.default_rng(4), 0, 400
    cell = dataclasses.replace(TINY, members=4)
    for _ in range(runs):
        quality = (0.5 + 0.05 * rng.standard_normal(4)).tolist()
        low, high = atlas_rows.Row.of(_outcome(cell, [8] * 4, quality)).high_quality_2500.interval
        hits += low <= 0.5 <= high
    # Three standard errors about 0.95; 1.96 standard errors of four members would hold in 0.86.
    assert abs(hits / runs - 0.95) < 0.033


def test_the_bootstrap_covers_the_mean():
    rng, hits, runs = np.random.default_rng(3), 0, 150
    for _ in range(runs):
        cell = dataclasses.replace(TINY, members=64)
        quality = rng.beta(9, 1, 64)
        low, high = atlas_rows.Row.of(_outcome(cell, [8] * 64, quality.tolist())).high_quality.interval
        hits += low <= 0.9 <= high
    # 95 % asked for; percentiles of 64 skewed values give a little less. Three standard errors below 0.93.
    assert 0.87 < hits / runs < 0.995


# Tables


def _rows():
    cells = [
        dataclasses.replace(TINY, members=4),
        dataclasses.replace(TINY, members=4, target="grid", penalty="none", changes=(("weights", (0.1, 0.1)),)),
        dataclasses.replace(TINY, members=4, target="grid"),
    ]
    lost = _outcome(cells[1], [0] * 4, [0.0] * 4, total=25, diverged=[True] * 4)
    return [
        atlas_rows.Row.of(_outcome(cells[0], [8, 8, 7, 8], [0.91, 0.9, 0.85, 1 / 3])),
        atlas_rows.Row.of(lost),
        atlas_rows.Row.of(_outcome(cells[2], [25] * 4, [0.9] * 4, total=25)),
    ]


def test_a_table_survives_its_file(tmp_path):
    rows = _rows()
    again = atlas_rows.read_csv(atlas_rows.write_csv(rows, tmp_path / "a.csv"))
    assert again == rows
    assert again[1].reverse_kl is None
    assert atlas_table.text(again) == atlas_table.text(rows)
    single = [atlas_rows.Row.of(_outcome(dataclasses.replace(TINY, members=1), [8], [0.9]))]
    assert atlas_rows.read_csv(atlas_rows.write_csv(single, tmp_path / "b.csv")) == single
    assert "8.0  " in atlas_table.text(single)


def test_text_shows_numbers_intervals_nulls_and_the_published(tmp_path):
    text = atlas_table.text(_rows())
    assert "3/4 [0.30, 0.95]" in text
    assert "a perfect generator: 25 modes, high quality 0.989, reverse KL 0" in text
    assert "weights=(0.1, 0.1)" in text
    paper = next(line for line in text.splitlines() if "PacGAN4" in line)
    assert paper.split()[-6:] == ["±", "0.1", "95.9", "24.8", "±", "0.2", "93.6"][-6:]
    ours = next(line for line in text.splitlines() if line.startswith("this library"))
    assert "25.0 ± 0.0" in ours
    assert "90.0" in ours


def test_an_ablation_stands_apart(tmp_path):
    sharp = Cell("grid", recipe="sharp", width=4, steps=2, members=4, train_size=100, samples=200)
    cells = [sharp, dataclasses.replace(sharp, changes=(("coins", 0),)), dataclasses.replace(sharp, steps=3)]
    rows = [atlas_rows.Row.of(_outcome(cell, [25] * 4, [0.9] * 4, total=25)) for cell in cells]
    above, below = atlas_table.text(rows).split("ablation of the sharp recipe, grid: 25 modes")
    below = below.split("published")[0]
    assert above.count("(sharp 4)") == 1
    assert below.count("(sharp 4)") == 2
    assert "coins=0" in below
    assert "coins=0" not in above


def test_other_games_of_the_sharp_recipe_are_changes_of_it():
    sharp = Cell("grid", recipe="sharp", width=4, steps=2, members=4, train_size=100, samples=200)
    cells = [sharp, dataclasses.replace(sharp, penalty="none"), dataclasses.replace(sharp, target="ring", penalty="r1")]
    rows = [atlas_rows.Row.of(_outcome(cell, [8] * 4, [0.9] * 4)) for cell in cells]
    for order in (rows, rows[::-1]):
        first, ring_part, grid_part = _parts(atlas_table.text(order), "ring", "grid")
        assert "non_saturating, none (sharp 4)" in grid_part
        assert "non_saturating, r1_r2 (sharp 4)" in grid_part
        assert "non_saturating, r1 (sharp 4)" in ring_part
        assert "non_saturating, r1" not in first.replace("r1_r2", "")


def _parts(text, *targets):
    marks = [text.index(f"ablation of the sharp recipe, {target}: ") for target in targets]
    order = sorted(range(len(marks)), key=marks.__getitem__)
    ends = {i: next((mark for mark in sorted(marks) if mark > marks[i]), text.find("what it takes")) for i in order}
    return text[: min(marks)], *(text[marks[i] : ends[i]] for i in range(len(marks)))


def test_what_sharpness_takes_stands_beside_the_same_written_by_hand():
    told = atlas_table.text(atlas_rows.shipped()).split("what it takes until")[1].split("published, and ours")[0]
    lines = [line.split() for line in told.splitlines()]
    rows = {(line[0], " ".join(line[1:4])): line for line in lines if line and line[0] in ("ring", "grid")}
    for target in ("ring", "grid"):
        (row,) = [
            row
            for row in atlas_rows.shipped()
            if row.cell in committed() and row.cell.recipe == "sharp" and row.cell.target == target
        ]
        ours = rows[target, "this library, sharp"]
        assert ours[-2:] == [f"{row.seconds:.0f}", f"{row.seconds / 64:.1f}"]
        assert "64/64" in ours
    by_hand = {" ".join(line): line for line in lines if "hand:" in line}
    (torch_grid,) = [line for line in by_hand.values() if line[0] == "grid" and "torch," in line]
    assert torch_grid[-5:] == ["0.902", "±", "0.013", "251", "31.4"]
    assert "8/8" in torch_grid
    (jax_grid,) = [line for line in by_hand.values() if line[0] == "grid" and "JAX," in line]
    assert jax_grid[-5:] == ["0.940", "±", "0.010", "390", "48.8"]
    # Without a sharp cell there is nothing to compare.
    assert "what it takes" not in atlas_table.text(_rows())


def test_steps_are_named_where_they_tell_cells_apart():
    cells = [TINY, dataclasses.replace(TINY, steps=7)]
    rows = [atlas_rows.Row.of(_outcome(cell, [8] * 3, [0.9] * 3)) for cell in cells]
    assert [
        line for line in atlas_table.text(rows).splitlines() if line.startswith("this library") and "7 steps" in line
    ]
    assert "2 steps" not in atlas_table.text(rows[:1])


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", None])
def test_a_foreign_table_is_refused(tmp_path, text):
    path = tmp_path / "a.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"a\.csv"):
        atlas_rows.read_csv(path)


def test_heat_map_is_a_picture(tmp_path):
    from PIL import Image

    (path,) = atlas_table.write_pictures(_rows(), tmp_path)
    with Image.open(path) as image:
        assert image.size[0] > 400
    assert path.read_bytes() == atlas_table.write_pictures(_rows(), tmp_path / "again")[0].read_bytes()


def test_the_shipped_table_is_of_the_cells_as_they_are():
    rows = atlas_rows.shipped()
    plans = {*committed(), *ablation()}
    for row in rows:
        # A cell of the plans, or one with something turned, or stopped earlier.
        whole = {dataclasses.replace(cell, steps=row.cell.steps) for cell in plans}
        assert row.cell in plans or dataclasses.replace(row.cell, changes=()) in whole
        assert row.cell.members >= (32 if row.cell.recipe == "sharp" else 64)
        assert row.versions["torch"]
    with atlas_rows._SHIPPED.open(encoding="utf-8") as file:
        lines = [line.split(",") for line in file][1:]
    assert all(row.cell.digest in line for row, line in zip(rows, lines, strict=True))
    sharp = {row.cell.target: row for row in rows if row.cell in committed() and row.cell.recipe == "sharp"}
    assert sharp.keys() == {"ring", "grid"}
    assert all(row.cell.members == 64 for row in sharp.values())


# The command


def test_the_command_shows_the_shipped_table(capsys):
    assert main([]) == 0
    assert "PacGAN4" in capsys.readouterr().out


def test_the_command_runs_and_resumes(tmp_path, capsys, monkeypatch):
    cells = [TINY, dataclasses.replace(TINY, target="grid")]
    monkeypatch.setattr("toygen.atlas_command.committed", lambda: cells)
    out = ["--out", str(tmp_path)]
    assert main([*out, "--list"]) == 0
    assert "0 of 2 cells are there" in capsys.readouterr().out
    assert main([*out, "--targets", "grid"]) == 0
    assert main([*out, "--list"]) == 0
    assert "1 of 2 cells are there" in capsys.readouterr().out
    assert main(out) == 0
    assert "grid: 25 modes; 3 members per cell" in capsys.readouterr().out
    assert [row.cell for row in atlas_rows.read_csv(tmp_path / "atlas.csv")] == cells
    assert (tmp_path / "atlas.png").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--full"], "--full needs --out"),
        (["--out", "x", "--full", "--ablation"], "choose one"),
        (["--out", "x", "--targets", "moon"], "--targets"),
        (["--out", "x", "--members", "0"], "--members"),
        (["--out", "x", "--jobs", "0"], "--jobs"),
        (["--bogus"], "--bogus"),
    ],
)
def test_misuse(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
