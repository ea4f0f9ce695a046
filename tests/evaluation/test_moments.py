"""Moments: merged and streamed exactly, saved and read, and kept apart when their features differ."""

import json

import numpy as np
import pytest

from divergences import InputError
from evaluation.frechet import fid
from evaluation.moments import Moments, MomentStream

PRINT = {
    "name": "inception:tf1",
    "parameters": {"layer": "pool3"},
    "resize": "tf1",
    "weights_sha256": "6726825d",
    "versions": {"numpy": "2.0"},
}
X = np.random.default_rng(4).standard_normal((100, 5)) * 3 + 100


def test_merged_in_any_order_is_the_whole():
    parts = [Moments.of(part) for part in np.split(X, [2, 30, 55])]
    for order in ((0, 1, 2, 3), (3, 1, 0, 2)):
        merged = parts[order[0]]
        for k in order[1:]:
            merged = merged.merge(parts[k])
        np.testing.assert_allclose(merged.mean, X.mean(axis=0), rtol=1e-13)
        np.testing.assert_allclose(merged.covariance, np.cov(X.T), rtol=1e-10, atol=1e-12)
        assert merged.n == 100
    y = np.random.default_rng(5).standard_normal((80, 5)) + 100
    assert fid(generated=merged, reference=y).raw == pytest.approx(fid(generated=X, reference=y).raw, rel=1e-9)
    assert parts[0].merge(Moments(np.zeros(5), np.eye(5), 10)).samples is None


@pytest.mark.parametrize("size", [1, 7, 100])
def test_streamed_is_the_whole_even_far_from_the_origin(size):
    far = X + 1e7
    streamed = Moments.from_batches((far[i : i + size] for i in range(0, 100, size)), fingerprint=PRINT)
    np.testing.assert_allclose(streamed.covariance, np.cov(far.T), rtol=1e-6)
    np.testing.assert_allclose(streamed.mean, far.mean(axis=0), rtol=1e-14)
    assert (streamed.n, streamed.samples, streamed.fingerprint) == (100, None, PRINT)


def test_saved_and_read_again(tmp_path):
    moments = Moments.of(X, fingerprint=PRINT)
    path = moments.save(tmp_path / "deep" / "stats.npz")
    again = Moments.load(path)
    np.testing.assert_array_equal(again.mean, moments.mean)
    np.testing.assert_array_equal(again.covariance, moments.covariance)
    assert (again.n, again.fingerprint, again.samples) == (100, PRINT, None)
    # As pytorch-fid opens it.
    with np.load(path, allow_pickle=False) as file:
        assert {"mu", "sigma", "n"} <= set(file.keys())


def test_foreign_files(tmp_path):
    mean, covariance = X.mean(axis=0), np.cov(X.T)
    path = tmp_path / "foreign.npz"
    np.savez(path, mu=mean, sigma=covariance, mu_s=mean[:3], sigma_s=covariance[:3, :3])
    with pytest.raises(InputError, match="n=50000"):
        Moments.load(path)
    assert Moments.load(path, n=100).fingerprint is None
    assert Moments.load(path, n=100, keys=("mu_s", "sigma_s")).mean.size == 3
    np.savez(path, mu=mean, sigma=np.cov(X.T, ddof=0))
    np.testing.assert_allclose(Moments.load(path, n=100, ddof=0).covariance, covariance, rtol=1e-12)
    np.savez(path, mu=mean.astype(np.float32), sigma=covariance.astype(np.float32), n=100)
    assert Moments.load(path).n == 100
    with pytest.raises(InputError, match="100 samples; n= says 99"):
        Moments.load(path, n=99)


def test_statistics_without_samples_know_less_and_say_so():
    bare = Moments(X.mean(axis=0), np.cov(X.T), 100)
    y = X + np.random.default_rng(1).standard_normal(X.shape)
    assert "for Gaussian features" in fid(generated=y, reference=bare).method
    assert "Gaussian" not in fid(generated=y, reference=X).method


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"resize": "clean"}, "resize: 'clean' and 'tf1'"),
        ({"weights_sha256": "beef"}, "weights_sha256"),
        ({"parameters": {"layer": "logits"}}, "parameters.layer"),
    ],
)
def test_incomparable_features_are_named(change, word):
    one, other = Moments.of(X, fingerprint=PRINT), Moments.of(X + 1, fingerprint=PRINT | change)
    with pytest.raises(InputError, match=word):
        fid(generated=other, reference=one)
    with pytest.raises(InputError, match="cannot merge"):
        one.merge(other)


def test_versions_and_unknown_entries_do_not_matter():
    one = Moments.of(X, fingerprint=PRINT)
    other = Moments.of(X + 1, fingerprint=PRINT | {"versions": {"numpy": "1.26"}, "grey": False})
    assert one.merge(other).n == 200
    assert one.merge(Moments.of(X)).fingerprint is None
    assert fid(generated=other, reference=Moments.of(X)).raw == pytest.approx(5.0)


def test_the_stream_refuses_what_it_cannot_use():
    stream = MomentStream()
    with pytest.raises(InputError, match="two rows"):
        stream.moments()
    stream.update(X[:1])
    with pytest.raises(InputError, match="5-dimensional"):
        stream.update(X[:, :2])
    with pytest.raises(InputError, match="NaN"):
        stream.update([[np.nan] * 5])
    assert stream.n == 1
    with pytest.raises(InputError, match="batch"):
        stream.update(np.zeros((2, 3, 5)))


def _saved(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_bad_files(tmp_path):
    square = np.eye(2)
    cases = [
        ({"feats": X}, {"n": 9}, "Moments.of"),
        ({"a": X}, {"n": 9}, "keys="),
        ({"mu": np.zeros(3), "sigma": square}, {"n": 9}, r"\(d, d\)"),
        ({"mu": np.zeros(2), "sigma": square * np.nan}, {"n": 9}, "finite"),
        ({"mu": np.zeros(2), "sigma": square, "n": 1}, {}, "at least 2"),
        ({"mu": np.zeros(2), "sigma": square, "n": 2.5}, {}, "whole number"),
        ({"mu": np.zeros(2), "sigma": square}, {"n": 9, "ddof": 2}, "ddof"),
        ({"mu": np.zeros(2), "sigma": square, "n": 9, "fingerprint": np.zeros(3, np.uint8)}, {}, "fingerprint"),
        ({"mu": np.zeros(2), "sigma": square, "n": 9, "fingerprint": np.ones(3)}, {}, "fingerprint"),
        ({"mu": np.array([None, None]), "sigma": square}, {"n": 9}, "mu"),
    ]
    for arrays, options, word in cases:
        with pytest.raises(InputError, match=word):
            Moments.load(_saved(tmp_path / "bad.npz", **arrays), **options)
    (tmp_path / "stats.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(InputError, match="runs the code"):
        Moments.load(tmp_path / "stats.pkl")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="complete"):
        Moments.load(tmp_path / "cut.npz")
    with pytest.raises(InputError, match="no such file"):
        Moments.load(tmp_path / "none.npz")


@pytest.mark.parametrize("bad", [["a"], {"a": float("nan")}, {"a": np.zeros(2)}])
def test_fingerprints_are_json_objects(bad):
    with pytest.raises(InputError, match="fingerprint"):
        Moments.of(X, fingerprint=bad)
    assert json.loads(json.dumps(PRINT)) == PRINT


def test_features_that_no_covariance_has_room_for():
    """One message for all who take features, before 2 GiB are asked for."""
    wide = np.zeros((2, 2**14 + 1))
    for call, name in (
        (lambda: fid(generated=wide, reference=X), "generated="),
        (lambda: Moments.of(wide), "features"),
        (lambda: Moments.from_batches([wide]), "batch"),
    ):
        with pytest.raises(InputError, match=f"{name} has features of 16385 dimensions.* 2 GiB.*pca:64"):
            call()


def test_covariances_of_many_tiles_are_checked_and_made_symmetric():
    """Entries on both sides of the edges between tiles, one of them off."""
    rng = np.random.default_rng(5)
    root = rng.normal(size=(530, 530))
    matrix = root @ root.T + 1e-11 * rng.normal(size=(530, 530))
    np.testing.assert_array_equal(Moments(np.zeros(530), matrix, 9).covariance, (matrix + matrix.T) / 2)
    for i, j in ((0, 529), (255, 256), (511, 512), (520, 529), (300, 10)):
        off = matrix.copy()
        off[i, j] += 1.0
        with pytest.raises(InputError, match="symmetric"):
            Moments(np.zeros(530), off, 9)
