"""Whatever users call an array becomes numpy's own, or one error says what is wrong with it."""

import numpy as np
import pytest

from divergences import InputError, wasserstein
from divergences.checks import as_array, as_points
from divergences.plain_arrays import plain_array
from evaluation import load_samples
from evaluation.rows import as_rows
from evaluation.sweep import sweep

POINTS = np.arange(6.0).reshape(3, 2)
# Every way in for arrays; each must know the argument by its name.
DOORS = {
    "as_points": lambda x: as_points(x, "samples"),
    "as_array": lambda x: as_array(x, "samples"),
    "load_samples": lambda x: load_samples(x).array,
    "as_rows": lambda x: as_rows(x, "samples"),
}


class Kind:
    def __init__(self, kind):
        self.kind = kind

    def __str__(self):
        return {"O": "text", "i": "Int64", "f": "Float64"}[self.kind]


class Table:
    """As pandas speaks: columns, their types, and an array of objects when these differ."""

    def __init__(self, **columns):
        self.columns = list(columns)
        self.dtypes = [Kind("O" if isinstance(c[0], str) else "i") for c in columns.values()]
        self.objects = np.array(list(columns.values()), dtype=object).T

    def __array__(self, dtype=None, copy=None):
        return self.objects if dtype is None else self.objects.astype(dtype)

    def to_numpy(self, dtype=None, na_value=None):
        return np.where(self.objects == None, na_value, self.objects).astype(dtype)  # noqa: E711


def masked(*hidden):
    mask = np.zeros(POINTS.shape, dtype=bool)
    for place in hidden:
        mask[place] = True
    return np.ma.masked_array(POINTS, mask=mask)


@pytest.mark.parametrize("door", DOORS)
def test_masked_entries_are_refused_and_counted(door):
    with pytest.raises(InputError, match=r"^samples is a masked array with 2 masked entries \(first rows: 1, 2\)"):
        DOORS[door](masked((1, 0), (2, 1)))
    with pytest.raises(InputError, match="masked"):
        DOORS[door]([masked((0, 0))[0], masked()[1]])
    np.testing.assert_array_equal(DOORS[door](masked()), POINTS)
    assert not isinstance(DOORS[door](masked()), np.ma.MaskedArray)


def test_masks_are_seen_by_what_computes():
    for call in (
        lambda x: wasserstein(x, POINTS),
        lambda x: sweep(generated=x, train=POINTS, k=1),
        lambda x: wasserstein(POINTS, POINTS, p_weights=np.ma.masked_array(np.ones(3) / 3, mask=[1, 0, 0])),
    ):
        with pytest.raises(InputError, match="masked"):
            call(masked((1, 1)))


@pytest.mark.parametrize("door", DOORS)
def test_tensors(door):
    torch = pytest.importorskip("torch")
    x = torch.tensor(POINTS, dtype=torch.float32)
    good = {
        "bfloat16": x.bfloat16(),
        "float16": x.half(),
        "float64": x.double(),
        "grad": x.clone().requires_grad_(),
        "parameter": torch.nn.Parameter(x),
        "list": [x[0], x[1].clone().requires_grad_(), x[2]],
        "strided": torch.tensor(POINTS.T.copy()).T,
        "negative": torch._neg_view(-x),
    }
    for name, tensor in good.items():
        np.testing.assert_array_equal(DOORS[door](tensor), POINTS, err_msg=name)
    bad = {
        "complex": x.to(torch.complex64),
        "sparse": x.to_sparse(),
        "meta": x.to("meta"),
    }
    for name, tensor in bad.items():
        with pytest.raises(InputError, match=f"samples .*{name}"):
            DOORS[door](tensor)


@pytest.mark.parametrize("door", DOORS)
def test_tables(door):
    np.testing.assert_array_equal(DOORS[door](Table(a=[1, 2], b=[3, 4])), [[1, 3], [2, 4]])
    with pytest.raises(InputError, match=r"samples must hold real numbers; of its columns these do not: b \(text\)"):
        DOORS[door](Table(a=[1, 2], b=["3", "4"]))
    if door != "as_array" and door != "as_rows":
        with pytest.raises(InputError, match="NaN in 1 of 2 rows"):
            DOORS[door](Table(a=[1, None], b=[3, 4]))


def test_real_tables():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [3, 4]})
    np.testing.assert_array_equal(as_points(frame.astype({"b": "Int64"}), "x"), [[1, 3], [2, 4]])
    with pytest.raises(InputError, match=r"these do not: c \("):
        as_points(frame.assign(c=["u", "v"]), "x")


def test_others():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(InputError, match="x is a sparse matrix; pass its toarray"):
        plain_array(sparse.eye(3), "x")
    with pytest.raises(InputError, match="x must be a rectangular array"):
        plain_array([[1.0], [2.0, 3.0]], "x")
    with pytest.raises(InputError, match="x must be a rectangular array"):
        plain_array([np.ma.masked_array([1.0]), np.ma.masked_array([2.0, 3.0])], "x")
    mapped = np.asfortranarray(POINTS)
    assert plain_array(mapped, "x") is mapped
