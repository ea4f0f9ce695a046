"""A film shows the generator's points as they are, in one section, and is the same file every time."""

import numpy as np
import pytest
from PIL import Image

from divergences import InputError
from toygen import Film, GanRun, Recipe, ring, two_peaks

RECIPE = Recipe(width=8, batch=8, chunk=2)


def filmed(target, steps=9, **changes):
    data = target.sample(200, np.random.default_rng(0))
    film = Film(steps, **{"latent_dim": 2, "data": data, "members": 2, "points": 30, "frames": 4} | changes)
    run = GanRun(data, recipe=RECIPE, members=3, steps=steps)
    for progress in run:
        film.look(progress)
    return film, run


@pytest.mark.parametrize("target", [ring(), two_peaks()], ids=["plane", "line"])
def test_a_film_has_its_frames_and_is_the_same_file_again(target, tmp_path):
    film, _ = filmed(target)
    assert film.steps == (1, 4, 9)
    first = film.save(tmp_path / "a.gif", modes=target, title="a").read_bytes()
    assert film.save(tmp_path / "b.gif", modes=target, title="a").read_bytes() == first
    with Image.open(tmp_path / "a.gif") as picture:
        assert picture.n_frames == 3
        assert picture.info["loop"] == 0
    film.save(tmp_path / "c.gif")


def test_the_last_frame_shows_what_the_run_ends_with():
    film, run = filmed(ring())
    last = film._frames[9]
    generators = run.result().generators
    z = np.random.default_rng(0).standard_normal((30, 2))
    for member in range(2):
        x = z
        for i, layer in enumerate(generators.dense):
            x = x @ layer.weight[member].detach().numpy() + layer.bias[member].detach().numpy()
            x = np.where(x > 0, x, 0.2 * x) if i < len(generators.dense) - 1 else x
        expected = generators.after.shift.numpy() + x * generators.after.gain.numpy()
        assert np.abs(last[member] - expected).max() < 1e-5


def test_frames_can_be_kept_and_recalled(tmp_path):
    film, _ = filmed(ring())
    film.keep(tmp_path / "frames.npz")
    other = Film(9, latent_dim=2, data=np.zeros((2, 2)) + [[0.0], [1.0]])
    other.recall(tmp_path / "frames.npz", until=8)
    assert other.steps == (1, 4)
    assert np.array_equal(other._frames[4], film._frames[4])
    with pytest.raises(InputError, match="does not exist"):
        other.recall(tmp_path / "nowhere.npz", until=8)
    clouds = np.zeros((2, 2, 5, 2))
    for broken in (
        {"steps": [1, 4], "clouds": clouds},
        {"steps": [1], "clouds": clouds, "members": [0, 1]},
        {"steps": [1, 4], "clouds": clouds, "members": [0]},
        {"steps": [1, 4], "clouds": clouds[..., :1], "members": [0, 1]},
        {"steps": ["a", "b"], "clouds": clouds, "members": [0, 1]},
        {"steps": [1, 4], "clouds": np.array([{}, {}]), "members": [0, 1]},
    ):
        np.savez(tmp_path / "broken.npz", **broken)
        with pytest.raises(InputError, match="cannot be read as the frames of a film"):
            other.recall(tmp_path / "broken.npz", until=8)
    np.save(tmp_path / "lone.npy", clouds)
    with pytest.raises(InputError, match="cannot be read as the frames of a film"):
        other.recall(tmp_path / "lone.npy", until=8)
    # A refused file leaves the film as it was; one that holds no frames yet is a good one.
    assert other.steps == (1, 4)
    Film(9, latent_dim=2, data=np.zeros((2, 2))).keep(tmp_path / "none.npz")
    other.recall(tmp_path / "none.npz", until=8)
    assert other.steps == ()


def test_misuse_of_a_film_is_named(tmp_path):
    film, _ = filmed(ring())
    with pytest.raises(InputError, match="saved as .gif"):
        film.save(tmp_path / "film.mp4")
    with pytest.raises(InputError, match="on the line or in the plane"):
        Film(5, latent_dim=2, data=np.zeros((3, 3)))
    with pytest.raises(InputError, match="has no frames"):
        Film(5, latent_dim=2, data=np.zeros((3, 2))).save(tmp_path / "film.gif")
    with pytest.raises(InputError, match="frames must be at least 1"):
        Film(5, latent_dim=2, data=np.zeros((3, 2)), frames=0)
