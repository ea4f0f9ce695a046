"""Who says what the samples of an audit are: any classifier with its errors measured, or labels that are given."""

import json

import numpy as np
import pytest
from scipy import stats

from divergences import InputError
from evaluation import audit
from evaluation.__main__ import main
from evaluation.labelled import counted_modes

CENTERS = np.array([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]])
NAMES = np.array(["ash", "elm", "oak"])


def blobs(counts, seed):
    """Points whose third coordinate is uniform, in random order, and what they are."""
    draw = np.random.default_rng(seed)
    index = draw.permutation(np.repeat(np.arange(3), counts))
    return np.column_stack([CENTERS[index] + draw.normal(size=(len(index), 2)), draw.random(len(index))]), index


def exact(points):
    return NAMES[np.where(points[:, 0] > 10, 1, np.where(points[:, 1] > 10, 2, 0))]


def noisy(points):
    """Takes three tenths of ash for elm, and a tenth of oak for ash."""
    said = exact(points)
    says_elm, says_ash = (said == "ash") & (points[:, 2] < 0.3), (said == "oak") & (points[:, 2] > 0.9)
    return np.where(says_elm, "elm", np.where(says_ash, "ash", said))


TRAIN, TRAIN_INDEX = blobs([150, 150, 100], 0)
TEST, TEST_INDEX = blobs([120, 120, 120], 1)
SAMPLES, INDEX = blobs([300, 0, 150], 2)
DATA = {"generated": SAMPLES, "train": TRAIN, "test": TEST, "labels": NAMES[TRAIN_INDEX]}
TEST_LABELS = NAMES[TEST_INDEX]


def judged(seed=0, **arguments):
    report = audit(**(DATA | arguments), rng=np.random.default_rng(seed))
    return report, report["class loss"].evidence


def counts_of(evidence):
    return {row["name"]: row["count"] for row in evidence["per_class"]}


def test_a_perfect_classifier_counts_what_is_known():
    by_list, listed = judged(generated_labels=NAMES[INDEX])
    by_function, asked = judged(classifier=exact, test_labels=TEST_LABELS)
    _, built_in = judged()
    assert counts_of(listed) == counts_of(asked) == counts_of(built_in) == {"ash": 300, "elm": 0, "oak": 150}
    assert listed["missing"] == asked["missing"] == ["elm"]
    # At face value the p-values are binomial, and Holm's procedure over three of them can be done by hand.
    raw = np.array([stats.binom.cdf(k, 450, 0.5 * due) for k, due in ((300, 0.375), (0, 0.375), (150, 0.25))])
    order = np.argsort(raw)
    stepped = np.minimum(np.maximum.accumulate(raw[order] * [3, 2, 1]), 1)
    told = np.array([row["p_adjusted"] for row in listed["per_class"]])
    np.testing.assert_allclose(told[order], stepped, rtol=1e-9)
    for row, count in zip(listed["per_class"], (300, 0, 150), strict=True):
        interval = stats.binomtest(count, 450).proportion_ci(method="exact")
        np.testing.assert_allclose(row["share"].interval, interval, atol=2e-6)
        assert (row["recall"].value, row["recall"].error) == (1.0, 0.0)
    # A confusion that was measured, without an error seen, leaves room for rare ones: less than one per class.
    for sure, measured in zip(listed["per_class"], asked["per_class"], strict=True):
        assert measured["share"].value == pytest.approx(sure["share"].value, abs=1 / 120)
        assert measured["recall"].interval[0] < measured["recall"].value == 1.0
    assert "face value" in by_list["class loss"].meaning
    assert "confusion" not in by_list.to_text().partition("CLASS LOSS")[2].partition("What this audit")[0]
    assert "confusion is corrected for" in by_function.to_text()
    assert "right on 100.0%" in by_function["class loss"].meaning


def test_the_errors_of_a_classifier_are_measured_and_corrected_for():
    _, found = judged(classifier=noisy, test_labels=TEST_LABELS)
    said = noisy(SAMPLES)
    assert counts_of(found) == {name: int((said == name).sum()) for name in NAMES}
    confusion = np.array([[np.mean(noisy(TEST[a == TEST_LABELS]) == b) for b in NAMES] for a in NAMES])
    np.testing.assert_allclose(found["confusion"], confusion, atol=1e-12)
    # "elm" is said more often than half its due, and yet it is missing: 0.3 of ash are taken for it.
    assert counts_of(found)["elm"] > 0.45 * 0.375 * 450
    assert found["missing"] == ["elm"]
    # Solving the linear equations, without simplex and without EM, gives the same shares where they are positive.
    solved = np.linalg.solve(confusion.T, [np.mean(said == name) for name in NAMES])
    shares = [row["share"] for row in found["per_class"]]
    np.testing.assert_allclose([share.value for share in shares], solved, atol=0.03)
    for share, true in zip(shares, (2 / 3, 0.0, 1 / 3), strict=True):
        assert share.agrees(true)


def test_who_is_right_on_train_only_is_found_out_by_test_labels():
    known = {row.tobytes(): name for row, name in zip(TRAIN, NAMES[TRAIN_INDEX], strict=True)}

    def by_heart(points):
        return np.array([known.get(row.tobytes(), guess) for row, guess in zip(points, noisy(points), strict=True)])

    on_train, trusting = judged(classifier=by_heart)
    on_test, measured = judged(classifier=by_heart, test_labels=TEST_LABELS)
    assert (trusting["missing"], measured["missing"]) == ([], ["elm"])
    assert "too good" in on_train["class loss"].evidence["judge"]
    assert trusting["accuracy"].value == 1.0
    assert measured["accuracy"].value == np.mean(noisy(TEST) == TEST_LABELS)
    assert [r.protocol["classes"]["judged_on"] for r in (on_train, on_test)] == ["train", "test"]


def test_a_classifier_sees_the_samples_as_given_and_cannot_change_them():
    draw = np.random.default_rng(3)
    index = np.arange(240) % 2
    images = (100 * index[:, None, None] + draw.integers(0, 90, (240, 4, 4))).astype(np.uint8)
    seen = []

    def bright(samples):
        seen.append((samples.shape, samples.dtype))
        answer = (samples.mean(axis=(1, 2)) > 94).astype(int)
        samples[:] = 0
        return answer

    given = {"generated": images[:100], "train": images[100:180], "test": images[180:], "labels": index[100:180]}
    report, found = judged(**given, classifier=bright, test_labels=index[180:])
    assert seen == [((60, 4, 4), np.uint8), ((100, 4, 4), np.uint8)]
    assert counts_of(found) == {"0": 50, "1": 50}
    assert report.material.generated.array.max() > 100


def test_the_protocol_says_who_was_asked():
    report, _ = judged(classifier=noisy, test_labels=TEST_LABELS)
    told = json.loads(report.to_json())["protocol"]["classes"]
    assert told["name"].endswith(":noisy")
    assert (told["by"], told["judged_on"]) == ("classifier", "test")
    again, _ = judged(classifier=noisy, test_labels=TEST_LABELS)
    assert again.to_json() == report.to_json()
    listed, _ = judged(generated_labels=noisy(SAMPLES))
    # The same answers, so the same digest, whoever gave them.
    assert listed.protocol["classes"]["answers"] == told["answers"]
    other, _ = judged(generated_labels=exact(SAMPLES))
    assert other.protocol["classes"]["answers"] != told["answers"]
    assert judged()[0].protocol["classes"]["by"] == "built-in"
    assert "classes of the generated samples" in report.to_text()
    plain = audit(generated=SAMPLES, train=TRAIN, rng=np.random.default_rng(0))
    assert plain.protocol["classes"] is None


class Fitted:
    """As a fitted classifier of another library: it has predict, and cannot be called."""

    def predict(self, points):
        return exact(points)


def test_what_classifiers_are_called():
    assert judged(classifier=Fitted().predict)[0].protocol["classes"]["name"].endswith(":Fitted.predict")
    table = np.array([str(name) for name in NAMES], dtype=object)
    _, found = judged(generated_labels=list(table[INDEX]))
    assert counts_of(found)["oak"] == 150


LABELS = NAMES[INDEX]
BAD = {
    "both": ({"classifier": exact, "generated_labels": LABELS}, "both say"),
    "no labels": ({"labels": None, "classifier": exact}, "classifier= needs labels="),
    "labels alone": ({"labels": None, "generated_labels": LABELS}, "generated_labels= needs labels="),
    "test labels alone": ({"test_labels": TEST_LABELS}, "test_labels= are what a classifier="),
    "no test": ({"classifier": exact, "test": None, "test_labels": TEST_LABELS}, "test=, which is missing"),
    "too few": ({"generated_labels": LABELS[:-1]}, r"generated_labels= must give 450 labels.*\(449,\)"),
    "scores": ({"classifier": lambda x: np.eye(3)[np.zeros(len(x), int)]}, "classifier= must give .*largest"),
    "unknown": ({"generated_labels": ["fir", *LABELS[1:]]}, "generated_labels= names class fir.*ash, elm, oak"),
    "answers": ({"classifier": lambda x: np.full(len(x), "fir")}, "classifier= names class fir"),
    "numbers": ({"generated_labels": INDEX}, "generated_labels= gives labels of dtype int64"),
    "nan": ({"labels": TRAIN_INDEX, "generated_labels": np.r_[np.nan, INDEX[1:]]}, "nan for 1 of 450 .* row 0"),
    "masked": ({"generated_labels": np.ma.array(LABELS, mask=INDEX == 2)}, "generated_labels= is a masked array"),
    "ragged": ({"generated_labels": [["a"], ["b", "c"]]}, "generated_labels= must"),
    "sampler": ({"generated": lambda n, rng: SAMPLES, "generated_labels": LABELS}, "generated= is a sampler"),
    "fails": ({"classifier": lambda x: {}["weights"]}, "and failed: KeyError: 'weights'"),
    "no function": ({"classifier": 3}, "classifier= must be a function.*int"),
    "fitted": ({"classifier": Fitted()}, "pass its predict"),
    "no module": ({"classifier": "nowhere_at_all:f"}, "the module nowhere_at_all cannot be imported"),
    "test length": ({"classifier": exact, "test_labels": TEST_LABELS[:-1]}, r"test_labels= must have shape \(360,\)"),
    "test shape": ({"classifier": exact, "test_labels": TEST_LABELS[:, None]}, r"test_labels= must have shape \(l,\)"),
    "test classes": ({"classifier": exact, "test_labels": np.full(360, "ash")}, "0 examples of class elm"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_labels_are_named_with_the_remedy(case):
    arguments, message = BAD[case]
    with pytest.raises(InputError, match=message):
        judged(**arguments)


def test_truth_goes_with_answers():
    given = {"generated_labels": [0, 1], "labels": [0, 1] * 5, "rng": np.random.default_rng(0)}
    with pytest.raises(InputError, match="truth= says what"):
        counted_modes(**given, truth=[0, 1] * 5)
    with pytest.raises(InputError, match="truth= has 4 examples of class 1"):
        counted_modes(**given, answers=[0] * 9, truth=[0] * 5 + [1] * 4)
    with pytest.raises(InputError, match="answers= must give 11 labels"):
        counted_modes(**given, answers=[0] * 10, truth=[0] * 5 + [1] * 6)


@pytest.mark.slow
@pytest.mark.parametrize("size", [20, 300], ids=["few labelled data", "many"])
def test_flags_are_as_rare_as_claimed_with_errors_measured_on_other_data(size):
    """Class 1 has half its due, where a flag is still wrong, or none; the labelled data have quite other shares."""
    draw, trials = np.random.default_rng(5), 100
    confusion = np.array([[0.8, 0.2, 0.0], [0.1, 0.85, 0.05], [0.0, 0.1, 0.9]])
    labels, truth = np.repeat([0, 1, 2], [40, 30, 30]), np.repeat([0, 1, 2], [size, 3 * size, 2 * size])
    flags, silent = {0.15: 0, 0.0: 0}, 0
    for share in np.repeat(list(flags), trials):
        said = np.repeat([0, 1, 2], draw.multinomial(300, np.array([0.5, share, 0.5 - share]) @ confusion))
        answers = (draw.random(len(truth))[:, None] > confusion.cumsum(axis=1)[truth]).sum(axis=1).clip(max=2)
        found = counted_modes(generated_labels=said, labels=labels, answers=answers, truth=truth, rng=draw)
        flags[float(share)] += found.missing == (1,)
        silent += share == 0.0 and 1 not in (*found.missing, *found.undecided)
    # 5 %, and three standard errors of this many trials.
    error = 3 * np.sqrt(0.05 * 0.95 / trials)
    assert flags[0.15] / trials <= 0.05 + error
    # What is neither named nor left open is promised to be seen with probability 0.95.
    assert silent / trials <= 0.05
    if size == 300:
        assert flags[0.0] / trials >= 0.95 - error


def test_the_command_takes_a_classifier_or_a_file(tmp_path, capsys, monkeypatch):
    paths = {}
    for name, array in {
        "made": SAMPLES, "train": TRAIN, "test": TEST, "labels": NAMES[TRAIN_INDEX], "of_test": TEST_LABELS,
        "of_made": LABELS, "short": LABELS[:-1], "fir": np.full(450, "fir"),
    }.items():  # fmt: skip
        paths[name] = str(tmp_path / f"{name}.npy")
        np.save(paths[name], array)
    (tmp_path / "my_trees.py").write_text(
        "import numpy as np\n\n\ndef tree(points):\n"
        "    far = points[:, :2] > 10\n"
        "    return np.where(far[:, 0], 'elm', np.where(far[:, 1], 'oak', 'ash'))\n"
    )
    (tmp_path / "my_sampler.py").write_text(
        "import numpy as np\n\n\ndef draw(n, rng):\n    return rng.normal(size=(n, 3))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    base = ["--train", paths["train"], "--test", paths["test"]]
    told = [paths["made"], *base, "--train-labels", paths["labels"], "--fail-on", "class loss", "--json", "-"]

    def asked(*more):
        assert main([*told, *more]) == 1
        return json.loads(capsys.readouterr().out)

    by_name = asked("--classifier", "my_trees:tree", "--test-labels", paths["of_test"])
    by_file = asked("--generated-labels", paths["of_made"])
    loss = [next(f for f in r["findings"] if f["name"] == "class loss")["evidence"] for r in (by_name, by_file)]
    assert [[row["count"] for row in one["per_class"]] for one in loss] == [[300, 0, 150]] * 2
    assert by_name["protocol"]["classes"]["name"] == "my_trees:tree"
    assert by_name["protocol"]["classes"]["answers"] == by_file["protocol"]["classes"]["answers"]
    assert asked("--classifier", "my_trees:tree")["protocol"]["classes"]["judged_on"] == "train"

    for words, message in (
        ((*told, "--classifier", "my_trees:tree", "--generated-labels", paths["of_made"]), "give one of them"),
        ((*told, "--generated-labels", paths["short"]), "generated_labels= must give 450 labels"),
        ((*told, "--generated-labels", paths["fir"]), "names class fir"),
        ((*told, "--generated-labels", str(tmp_path / "none.npy")), "there is no such file"),
        ((*told, "--classifier", "my_trees:bush"), "nothing called bush"),
        ((*told, "--classifier", "my_trees"), "module:callable"),
        ((*told, "--test-labels", paths["of_test"]), "--test-labels needs --classifier"),
        ((paths["made"], *base, "--generated-labels", paths["of_made"]), "--generated-labels needs --train-labels"),
        ((paths["made"], *base, "--classifier", "my_trees:tree"), "--classifier needs --train-labels"),
        (("my_sampler:draw", *told[1:], "--generated-labels", paths["of_made"]), "of a sampler's, use --classifier"),
        ((*told[:-1], paths["of_made"], "--generated-labels", paths["of_made"]), "would overwrite it"),
    ):
        assert main(words) == 2, message
        out, err = capsys.readouterr()
        assert out == ""
        assert message in err
        assert len(err.strip().splitlines()) == 1
