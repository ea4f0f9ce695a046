"""Pictures: what is drawn is checked on the artists, never on pixels; the bytes are the same twice."""

import base64
import io
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Ellipse
from PIL import Image

from divergences import Estimate, Gaussian, InputError, Mixture, Uniform
from evaluation import charts, pictures
from evaluation.pictures import P_COLOR, Q_COLOR

RNG = np.random.default_rng(3)
MODES = Mixture([Gaussian([x, 0.0], [[0.04, 0.01], [0.01, 0.02]]) for x in (-2.0, 0.0, 2.0)])
LEFT = MODES.components[0].sample(300, RNG)
IMAGES = RNG.integers(0, 256, (5, 8, 8), dtype=np.uint8)
UNPARSABLE = r"<b>$\frac{1$ & co"


def marks(axes, marker):
    return [line for line in axes.lines if line.get_marker() == marker]


def sheet(title=""):
    return pictures.contact_sheet([("a", LEFT), (UNPARSABLE, MODES.sample(300, RNG))], modes=MODES, title=title)


def test_missing_modes_differ_in_shape_and_in_colour():
    partial, full = sheet().axes
    lost = marks(partial, "x")
    assert [to_hex(line.get_color()) for line in lost] == [Q_COLOR.lower()] * 2
    assert sorted(float(line.get_xdata()[0]) for line in lost) == [0.0, 2.0]
    assert marks(full, "x") == []
    ellipses = [patch for patch in partial.patches if isinstance(patch, Ellipse)]
    assert sorted((to_hex(e.get_edgecolor()), e.get_linestyle()) for e in ellipses) == sorted(
        [(P_COLOR.lower(), "-"), (Q_COLOR.lower(), "--"), (Q_COLOR.lower(), "--")]
    )
    assert partial.get_xlabel() == "1 of 3 modes"
    assert full.get_xlabel() == "3 of 3 modes"


def test_an_ellipse_holds_the_share_that_three_sigma_hold():
    ellipse = next(p for p in sheet().axes[0].patches if isinstance(p, Ellipse))
    cloud = MODES.components[0].sample(20_000, np.random.default_rng(0))
    inside = ellipse.get_path().contains_points(ellipse.get_patch_transform().inverted().transform(cloud)).mean()
    assert abs(inside - (1 - np.exp(-4.5))) < 0.004


def test_all_panels_share_one_window_that_shows_every_mode():
    partial, full = sheet().axes
    assert partial.get_xlim() == full.get_xlim()
    assert partial.get_xlim()[0] < -2.6
    assert partial.get_xlim()[1] > 2.6


def test_members_that_diverged_are_counted_and_not_drawn():
    broken = LEFT.copy()
    broken[:7] = np.nan
    panels = [("one", broken), ("two", np.full((4, 2), np.inf)), ("three", np.empty((0, 2)))]
    one, two, three = pictures.contact_sheet(panels, modes=MODES).axes
    assert "7 rows not finite" in one.get_title()
    assert "4 rows not finite" in two.get_title()
    assert three.get_title() == "three"
    assert len(marks(two, "x")) == len(marks(three, "x")) == 3


@pytest.mark.parametrize("count", [1, 4, 5, 32])
def test_one_panel_each_whatever_the_count(count):
    figure = pictures.contact_sheet([(str(i), LEFT) for i in range(count)])
    assert [axes.get_title() for axes in figure.axes if axes.get_visible()] == [str(i) for i in range(count)]


def test_the_line_is_drawn_as_a_histogram_over_the_density():
    law = Mixture([Gaussian(-2.0, 0.1), Gaussian(2.0, 0.1)])
    axes = pictures.contact_sheet([("a", law.components[0].sample(200, RNG)[:, 0])], modes=law).axes[0]
    assert [float(line.get_xdata()[0]) for line in marks(axes, "x")] == [2.0]
    assert axes.get_xlabel() == "1 of 2 modes"


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_same_figure_same_bytes_whatever_the_users_settings(tmp_path, suffix):
    pictures.save(sheet("t"), tmp_path / f"a.{suffix}")
    first = pictures.save(pictures.contact_sheet([("a", LEFT)], modes=MODES), tmp_path / f"b.{suffix}").read_bytes()
    with matplotlib.rc_context({"font.size": 22, "svg.hashsalt": None, "axes.facecolor": "red", "text.usetex": True}):
        second = pictures.save(
            pictures.contact_sheet([("a", LEFT)], modes=MODES), tmp_path / f"c.{suffix}"
        ).read_bytes()
    assert first == second
    assert b"Matplotlib v" not in first
    assert b"<dc:date>" not in first


def test_settings_of_the_user_are_left_alone_and_pyplot_is_not_needed():
    code = (
        "import sys, numpy as np, matplotlib; matplotlib.rcParams['font.size'] = 17; from evaluation import pictures\n"
        "pictures.to_data_uri(pictures.contact_sheet([('a', np.eye(2))]))\n"
        "assert matplotlib.rcParams['font.size'] == 17 and matplotlib.rcParams['text.parse_math']\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_user_text_is_never_mathematics(tmp_path):
    written = pictures.save(sheet(UNPARSABLE), tmp_path / "x.svg").read_text(encoding="utf-8")
    assert "<b>" not in written
    pictures.to_data_uri(
        charts.mode_chart([UNPARSABLE], [Estimate(0.1, 0.1)], fair=[1.0], lost=[True], xlabel=UNPARSABLE)
    )
    pictures.to_data_uri(pictures.sample_grid(IMAGES[:1], captions=[UNPARSABLE]))


def test_many_points_are_rasterised(tmp_path):
    few = pictures.save(pictures.contact_sheet([("a", LEFT[:100])]), tmp_path / "few.svg").read_text(encoding="utf-8")
    many = pictures.contact_sheet([("a", RNG.standard_normal((20_000, 2)))])
    text = pictures.save(many, tmp_path / "many.svg").read_text(encoding="utf-8")
    assert "<image" not in few
    assert "<image" in text
    assert len(text) < 200_000


@pytest.mark.parametrize(
    "call",
    [
        lambda: pictures.contact_sheet([]),
        lambda: pictures.contact_sheet([("a", np.zeros((5, 3)))]),
        lambda: pictures.contact_sheet([("a", LEFT), ("b", np.zeros(4))]),
        lambda: pictures.contact_sheet([("a", np.zeros((2, 2, 2)))]),
        lambda: pictures.contact_sheet([("a", ["x"])]),
        lambda: pictures.contact_sheet([("a", LEFT)], modes=Mixture([Gaussian(0, 1)])),
        lambda: pictures.contact_sheet([("a", LEFT)], modes=Mixture([Uniform([0, 0], [1, 1])])),
        lambda: pictures.sample_grid(np.zeros((3, 4))),
        lambda: pictures.sample_grid(np.full((3, 4, 4), np.nan)),
        lambda: pictures.sample_grid(np.zeros((3, 4, 4, 2))),
        lambda: pictures.sample_grid(IMAGES, 0),
        lambda: pictures.sample_grid(IMAGES, captions=["one"]),
        lambda: pictures.nearest_pairs(IMAGES, IMAGES[:2], None),
        lambda: charts.distance_histogram([-1.0]),
        lambda: charts.distance_histogram([np.nan]),
        lambda: charts.mode_chart(["a"], [], fair=[1.0], lost=[True]),
        lambda: charts.suspects_scatter(LEFT, LEFT, pairs=[(0, 300)]),
        lambda: charts.suspects_scatter(LEFT[:, :1], LEFT, pairs=[]),
        lambda: pictures.save(sheet(), "x.pdf"),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(InputError):
        call()


def test_an_unwritable_place_leaves_nothing_behind(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        pictures.save(sheet(), tmp_path / "file" / "x.png")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("images", [IMAGES, IMAGES / 255.0, np.repeat(IMAGES[..., None], 3, -1), IMAGES[..., None]])
def test_sample_grid_shows_the_pixels_in_order(images):
    figure = pictures.sample_grid(images, 3, captions=list("abcde"))
    shown = [image.get_array() for image in figure.axes[0].images]
    assert len(shown) == 5
    low, high = (IMAGES.min(), IMAGES.max()) if images.dtype != np.uint8 else (0, 255)
    expected = np.round(255 * (IMAGES.astype(float) - low) / (high - low))
    np.testing.assert_allclose(np.stack(shown)[..., 0], expected, atol=1)
    assert [text.get_text() for text in figure.axes[0].texts] == list("abcde")
    lefts, tops = zip(*[(image.get_extent()[0], image.get_extent()[3]) for image in figure.axes[0].images], strict=True)
    assert lefts[0] == lefts[3] < lefts[1] == lefts[4] < lefts[2]
    assert tops[0] == tops[2] < tops[3] == tops[4]


def test_nearest_pairs_puts_the_three_kinds_in_rows():
    figure = pictures.nearest_pairs(IMAGES[:2], IMAGES[1:3], IMAGES[2:4], captions=["x", "y"])
    shown = np.stack([image.get_array()[..., 0] for image in figure.axes[0].images])
    np.testing.assert_array_equal(shown, IMAGES[[0, 1, 1, 2, 2, 3]])
    said = [text.get_text() for text in figure.axes[0].texts if text.get_text()]
    assert said == ["x", "y", "generated", "nearest\nin train", "nearest\nheld out"]
    assert len(pictures.nearest_pairs(IMAGES[:2], IMAGES[1:3], None).axes[0].images) == 4


def test_one_scale_for_all_images_of_a_picture():
    dark, bright = np.zeros((1, 4, 4)), np.ones((1, 4, 4))
    figure = pictures.nearest_pairs(dark, bright, None)
    assert [int(image.get_array().max()) for image in figure.axes[0].images] == [0, 255]


def test_distances_are_drawn_as_shares_and_nothing_is_lost():
    ours, null = np.concatenate([np.zeros(50), RNG.gamma(20, 0.1, 149), [99.0]]), RNG.gamma(20, 0.1, 500)
    axes = charts.distance_histogram(ours, null).axes[0]
    totals = [float(patch.get_data().values.sum()) for patch in axes.patches]
    np.testing.assert_allclose(totals, 1.0)
    assert "last bar" in axes.get_xlabel()
    assert float(axes.patches[-1].get_data().values[0]) == pytest.approx(0.25)
    charts.distance_histogram(np.zeros(10))


def test_mode_chart_keeps_the_worst_of_many():
    shares = [Estimate(0.01 * (i != 90), 0.001, level=0.95) for i in range(100)]
    axes = charts.mode_chart(
        [str(i) for i in range(100)], shares, fair=np.full(100, 0.01), lost=[i == 90 for i in range(100)]
    ).axes[0]
    assert "60 of 100" in axes.get_xlabel()
    assert "90" in [label.get_text() for label in axes.get_xticklabels()]
    assert len(marks(axes, "x")[0].get_xdata()) == 1


@pytest.mark.parametrize(("suffix", "head"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_a_data_uri_holds_the_whole_picture(suffix, head):
    uri = pictures.to_data_uri(pictures.sample_grid(IMAGES), suffix)
    kind, data = uri.split(",", 1)
    assert kind == {"svg": "data:image/svg+xml;base64", "png": "data:image/png;base64"}[suffix]
    raw = base64.b64decode(data)
    assert raw.startswith(head)
    if suffix == "png":
        Image.open(io.BytesIO(raw)).verify()
