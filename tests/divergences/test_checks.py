import numpy as np
import pytest

from divergences import checks
from divergences.errors import InputError


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: checks.as_count(2.5, "n"), "n must be a whole number; it is 2.5"),
        (lambda: checks.as_count(True, "n"), "whole number"),
        (lambda: checks.as_count(0, "members"), "members must be at least 1"),
        (lambda: checks.as_generator(7), r"numpy\.random\.Generator"),
        (lambda: checks.as_number("3", "tol"), "single number"),
        (lambda: checks.as_number(np.nan, "tol"), "tol must be"),
        (lambda: checks.as_number(2.0, "level", above=0.0, below=1.0), r"\(0, 1\)|finite"),
        (lambda: checks.one_of("a", "metric", ["b", "c"]), "metric must be one of b, c; it is 'a'"),
        (lambda: checks.as_points([[1.0, 2.0]], "p", dim=3), "p must be 3-dimensional"),
        (lambda: checks.as_points([["a"]], "p"), "p must hold real numbers"),
        (lambda: checks.as_points(np.array([object()]), "p"), "dtype object"),
    ],
)
def test_messages_name_the_culprit_and_the_remedy(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_rows_are_named():
    points = np.zeros((500, 2))
    points[[7, 9, 11, 13], 1] = np.nan
    with pytest.raises(InputError, match=r"generated= holds NaN in 4 of 500 rows \(first: rows 7, 9, 11\)"):
        checks.as_points(points, "generated=")


def test_integers_booleans_and_torch_are_converted():
    torch = pytest.importorskip("torch")
    assert checks.as_points([1, 2, 3], "p").dtype == np.float64
    assert checks.as_points(torch.ones(3, 2, requires_grad=True), "p").shape == (3, 2)


def test_weights_lose_only_rounding():
    weights = checks.as_weights([0.1] * 10, "w", 10)
    assert weights.sum() == 1
