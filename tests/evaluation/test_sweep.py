"""Against the naive oracle, number for number: all distances in float64, sorted, compared, counted."""

import numpy as np
import pytest

from divergences import InputError
from evaluation import gather, neighbors, tiles
from evaluation.sweep import Rule, sweep
from evaluation.tiles import NumpyBlocks, TorchBlocks

RULES = (Rule(5), Rule(3, closed=True))


def distances(x, y):
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    gap = x[:, None] - y[None]
    return np.sqrt(np.einsum("nmd,nmd->nm", gap, gap))


def lists(table, k):
    order = np.argsort(table, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(table, order, axis=1), order


def others(x):
    table = distances(x, x)
    np.fill_diagonal(table, np.inf)
    return table


def count(points, owners, rule):
    """In how many balls around owners each point lies."""
    radii = np.sort(others(owners), axis=1)[:, rule.k - 1]
    table = distances(points, owners)
    return ((table <= radii) if rule.closed else (table < radii)).sum(axis=1)


def check(found, generated, train, test=None, k=6, rtol=4e-15):
    expected = {
        "train_train": others(train),
        "generated_generated": others(generated),
        "generated_train": distances(generated, train),
        "train_generated": distances(train, generated),
    }
    if test is not None:
        expected |= {
            "test_test": others(test),
            "test_train": distances(test, train),
            "train_test": distances(train, test),
            "generated_test": distances(generated, test),
        }
    for name, table in expected.items():
        near, order = lists(table, k)
        np.testing.assert_allclose(getattr(found, name).distances, near, rtol=rtol, err_msg=name)
        np.testing.assert_array_equal(getattr(found, name).indices, order, err_msg=name)
    for rule in RULES:
        counts = found.counts[rule]
        np.testing.assert_array_equal(counts.generated_in_train, count(generated, train, rule))
        np.testing.assert_array_equal(counts.train_in_generated, count(train, generated, rule))
        if test is not None:
            np.testing.assert_array_equal(counts.test_in_train, count(test, train, rule))
            np.testing.assert_array_equal(counts.train_in_test, count(train, test, rule))


def gaussian(rng, d):
    return rng.standard_normal((150, d)), rng.standard_normal((180, d)), rng.standard_normal((90, d))


def lattice(rng, d):
    """Many equal distances, rims of balls among them."""
    return tuple(rng.integers(0, 3 if d > 2 else 30, (n, d)).astype(float) for n in (150, 180, 90))


def copies(rng, d):
    """Some samples are train points, some all but: what a product in float32 cannot see."""
    generated, train, test = gaussian(rng, d)
    generated[:60] = train[:60]
    generated[60:90] = train[60:90] + 1e-9 * rng.standard_normal((30, d))
    train[100:110] = train[90:100]
    return generated, train, test


def offset(rng, d):
    return tuple(1e5 + 1e-3 * x for x in gaussian(rng, d))


def collapsed(rng, d):
    """Three clusters narrower than float32 resolves."""
    generated, train, test = gaussian(rng, d)
    generated = train[rng.integers(0, 3, 150)] + 1e-9 * generated
    return generated, train, test


def blurred(rng, d):
    """Nearly all samples lie in nearly all balls."""
    generated, train, test = gaussian(rng, d)
    return 0.1 * generated, train, test


def scales(rng, d):
    """Lengths over twelve orders of magnitude."""
    return tuple(x * 10.0 ** rng.uniform(-12, 0, (len(x), 1)) for x in gaussian(rng, d))


CASES = [gaussian, lattice, copies, offset, collapsed, blurred, scales]


@pytest.mark.parametrize("d", [1, 2, 12, 60])
@pytest.mark.parametrize("case", CASES)
def test_is_the_oracle(monkeypatch, case, d):
    # Small tiles, so that there are many.
    monkeypatch.setattr(tiles, "NumpyBlocks", lambda: NumpyBlocks(side=64))
    generated, train, test = case(np.random.default_rng(d), d)
    check(sweep(generated=generated, train=train, test=test, k=6, rules=RULES), generated, train, test)


@pytest.mark.parametrize("case", CASES)
def test_torch_gives_the_same(monkeypatch, case):
    # On the CPU here; a CUDA device runs the same lines.
    generated, train, test = case(np.random.default_rng(0), 20)
    monkeypatch.setattr(tiles, "NumpyBlocks", lambda: TorchBlocks("cpu", side=64))
    check(sweep(generated=generated, train=train, test=test, k=6, rules=RULES), generated, train, test)


def test_low_precision_products_of_torch_are_avoided():
    import torch

    left, right = np.random.default_rng(0).standard_normal((2, 8, 3)).astype(np.float32)
    blocks = TorchBlocks("cpu")
    blocks.exact = False
    tile = blocks.product(left, right, torch.zeros(8, 8))
    np.testing.assert_array_equal(tile.numpy(), (left.astype(float) @ right.T.astype(float)).astype(np.float32))


@pytest.mark.parametrize("d", [2, 40])
@pytest.mark.parametrize("n", [40, 1500])
def test_all_points_equal(d, n):
    generated, train = np.ones((n, d)), np.ones((n, d))
    found = sweep(generated=generated, train=train, k=5, rules=RULES)
    assert (found.generated_train.distances == 0).all()
    assert (found.generated_train.indices == np.arange(5)).all()
    assert (found.train_train.indices[0] == np.arange(1, 6)).all()
    assert (found.train_train.indices[-1] == np.arange(5)).all()
    assert (found.counts[RULES[0]].generated_in_train == 0).all()
    assert (found.counts[RULES[1]].generated_in_train == n).all()


def test_equidistant_points():
    points = np.eye(60)
    check(sweep(generated=points[:50], train=points, k=6, rules=RULES), points[:50], points)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float32])
def test_other_dtypes_are_read_as_they_are(dtype):
    rng = np.random.default_rng(0)
    generated, train = (rng.integers(0, 255, (n, 30)).astype(dtype) for n in (100, 120))
    check(sweep(generated=generated, train=train, k=6, rules=RULES), generated, train)


def test_a_mapped_file_is_never_copied_as_a_whole(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    sets = []
    for name, n in (("g", 300), ("t", 400)):
        mapped = np.lib.format.open_memmap(tmp_path / f"{name}.npy", mode="w+", dtype=np.float32, shape=(n, 40))
        mapped[:] = rng.standard_normal((n, 40))
        sets.append(mapped)
    largest = []
    monkeypatch.setattr(tiles, "_DIRECT", 1000)
    monkeypatch.setattr(tiles, "NumpyBlocks", lambda: NumpyBlocks(side=64))
    original = tiles.Cloud.rows
    monkeypatch.setattr(tiles.Cloud, "center", lambda self: np.zeros(40))

    def spy(self, index):
        rows = original(self, index)
        largest.append(len(rows))
        return rows

    monkeypatch.setattr(tiles.Cloud, "rows", spy)
    check(sweep(generated=sets[0], train=sets[1], k=6, rules=RULES), *sets)
    assert max(largest) <= 25


def test_long_points_are_multiplied_in_parts(monkeypatch):
    generated, train, test = copies(np.random.default_rng(0), 50)
    monkeypatch.setattr(tiles, "_LENGTH", 16)
    check(sweep(generated=generated, train=train, test=test, k=6, rules=RULES), generated, train, test)


def test_a_full_list_of_candidates_is_cleaned_up(monkeypatch):
    generated, train, test = copies(np.random.default_rng(0), 30)
    monkeypatch.setattr(gather, "_KEPT", 1)
    monkeypatch.setattr(gather, "_BATCH", 100)
    monkeypatch.setattr(gather, "_PILOT", 8)
    monkeypatch.setattr(tiles, "NumpyBlocks", lambda: NumpyBlocks(side=32))
    check(sweep(generated=generated, train=train, test=test, k=6, rules=RULES), generated, train, test)


def test_the_bounds_hold_and_are_narrow():
    # The certificate itself: lower ≤ truth ≤ upper for every pair, and by how much.
    rng = np.random.default_rng(0)
    clouds = [tiles.as_cloud(x, "x") for x in copies(rng, 64)[:2]]
    product = tiles.Product(*clouds, NumpyBlocks())
    everything = (slice(0, 150), slice(0, 180))
    low = product.lower(*everything).astype(float)
    slack = product.slack(*everything)
    truth = (distances(clouds[0].raw, clouds[1].raw) * product.scale) ** 2
    assert (low <= truth).all()
    assert (low + slack[0][:, None] + slack[1] >= truth).all()
    assert (slack[0].max() + slack[1].max()) < 1e-4 * truth.max()


def test_distances_do_not_depend_on_company():
    rng = np.random.default_rng(0)
    x, y = (tiles.as_cloud(rng.standard_normal((50, 37)), "x") for _ in range(2))
    i = np.arange(50)
    together = tiles.pair_distances(x, y, i, i)
    alone = np.array([tiles.pair_distances(x, y, i[j : j + 1], i[j : j + 1])[0] for j in range(50)])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, tiles.pair_distances(y, x, i, i))


def test_the_sweep_and_the_lists_of_neighbors_agree():
    generated, train, _ = gaussian(np.random.default_rng(0), 30)
    found = sweep(generated=generated, train=train, k=4)
    for here, there in (
        (found.generated_train, neighbors.nearest(generated, train, 4)),
        (found.train_train, neighbors.nearest_others(train, 4)),
    ):
        np.testing.assert_array_equal(here.distances, there.distances)
        np.testing.assert_array_equal(here.indices, there.indices)


def test_small_sets_have_short_lists():
    found = sweep(generated=np.arange(3.0), train=np.arange(20.0), k=8, rules=())
    assert found.generated_generated.distances.shape == (3, 2)
    assert found.train_generated.distances.shape == (20, 3)
    assert found.generated_train.distances.shape == (3, 8)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"generated": np.full((9, 2), np.nan)}, "generated= holds NaN in 9 of 9"),
        ({"generated": np.full((9, 2), np.inf)}, "generated= holds infinite"),
        ({"generated": np.ones((9, 3))}, "generated= must be 2-dimensional"),
        ({"test": np.ones((9, 3))}, "test= must be 2-dimensional"),
        ({"train": np.ones((0, 2))}, "train= needs"),
        ({"train": np.ones((9, 2, 2))}, "train= must have shape"),
        ({"train": [["a", "b"]]}, "train= must hold real numbers"),
        ({"train": np.full((9, 2), 1e200)}, "train= holds coordinates"),
        ({"generated": np.ones((5, 2))}, "generated= needs more than k=5"),
        ({"train": np.ones((5, 2))}, "train= needs more than k=5"),
        ({"k": 0}, "k must be at least 1"),
        ({"k": 2, "rules": (Rule(3),)}, "k must be at least that of each rule"),
        ({"device": "tpu"}, "device must be one of"),
    ],
)
def test_bad_input(arguments, words):
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match=words):
        sweep(**({"generated": rng.standard_normal((9, 2)), "train": rng.standard_normal((9, 2))} | arguments))


def test_a_missing_device_is_said_to_be_missing():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(InputError, match="CUDA"):
        sweep(generated=np.eye(9), train=np.eye(9), device="cuda")
