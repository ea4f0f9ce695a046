"""The report: strictly valid JSON, one page that fetches nothing and trusts no text, the same bytes twice."""

import html
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from divergences import Estimate, Gaussian, Mixture
from evaluation import Samples, audit
from evaluation.findings import beside, number
from evaluation.report import to_html
from evaluation.tables import tables_of

MODES = Mixture([Gaussian([float(x), 0.0], 0.01 * np.eye(2)) for x in range(3)])
HOSTILE = """<script>alert("x")</script>' onload='y $\\frac{1$ {{ 7 * 7 }}"""


def audited(seed=0, source="a.npy", **extra):
    draw = np.random.default_rng(5)
    train, test = MODES.sample(400, draw), MODES.sample(200, draw)
    generated = np.concatenate([MODES.components[0].sample(150, draw), train[:30] + 1e-6])
    return audit(
        generated=Samples(generated, source, "points"), train=train, test=test, modes=MODES,
        rng=np.random.default_rng(seed), **extra,
    )  # fmt: skip


@pytest.fixture(scope="module")
def report():
    return audited(source=HOSTILE)


@pytest.fixture(scope="module")
def page(report):
    return to_html(report)


@pytest.fixture(scope="module")
def image_report():
    data = load_digits()
    images, labels = (data.images * 15).astype(np.uint8), data.target
    rng = np.random.default_rng(0)
    generated = images[1200:][~np.isin(labels[1200:], [2])]
    generated = np.concatenate([generated, images[:60]])
    return audit(generated=generated, train=images[:700], test=images[700:1200], labels=labels[:700], rng=rng)


class Tags(HTMLParser):
    """All tags with their attributes, and whether every one is closed."""

    VOID = {"meta", "img", "br"}

    def __init__(self):
        super().__init__()
        self.tags, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(page):
    parser = Tags()
    parser.feed(page)
    assert parser.open == []
    return parser.tags


def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")


def test_json_is_strict_and_says_what_the_report_says(report):
    data = json.loads(report.to_json(), parse_constant=refuse)
    assert data["schema"] == "mintmark-audit-2"
    assert (data["verdict"], data["exit_status"]) == ("flagged", 1)
    assert [f["name"] for f in data["findings"]] == [f.name for f in report.findings]
    for given, told in zip(report.findings, data["findings"], strict=True):
        assert told["question"] == given.question
        assert told["verdict"] == given.verdict.value
        assert told["estimate"]["value"] == given.estimate.value
        assert told["p_value"] == given.p_value
    assert len(data["findings"][-1]["evidence"]["suspects"]) == data["findings"][-1]["evidence"]["suspect_count"]
    assert data["protocol"]["seed"] == 0
    assert data["protocol"]["generated"]["source"] == HOSTILE


def test_infinities_are_strings_in_json():
    from evaluation.report import _plain

    told = _plain(
        {"a": np.float64(np.inf), "b": Estimate(-np.inf, 0.0), "c": np.array([np.nan, 1.0]), "d": np.int64(3)}
    )
    assert told["a"] == "inf"
    assert told["b"]["value"] == "-inf"
    assert told["c"] == ["nan", 1.0]
    assert json.loads(json.dumps(told, allow_nan=False))["d"] == 3
    assert _plain(np.zeros(5000))["shape"] == [5000]


def test_the_page_fetches_nothing(page):
    tags = parsed(page)
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert {tag for tag, _ in tags} & {"script", "link", "iframe", "object", "embed", "form", "base"} == set()
    for tag, attributes in tags:
        assert not any(name.startswith("on") for name in attributes)
        assert "src" not in attributes or attributes["src"].startswith("data:image/")
        assert "href" not in attributes or attributes["href"].startswith("#")
        if tag == "img":
            assert attributes["alt"]
    policy = next(a["content"] for t, a in tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert "url(" not in page


def test_user_text_is_shown_and_never_obeyed(page):
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;" in page
    assert "{{ 7 * 7 }}" in page


def test_the_verdict_is_told_in_words_at_the_top(page):
    assert page.index("<strong") < page.index("FLAGGED") < page.index("The samples")


def test_every_finding_stands_on_the_page_with_number_null_and_meaning(report, page):
    for finding in report.findings:
        for text in (finding.question, number(finding.estimate), number(finding.null)):
            assert text in page
        assert finding.name.replace(" ", "-") in page


def test_links_lead_somewhere(page):
    tags = parsed(page)
    anchors = {a["id"] for _, a in tags if "id" in a}
    assert {a["href"][1:] for _, a in tags if "href" in a} == anchors


def test_pictures_of_images_show_pairs_classes_and_samples(image_report):
    page = to_html(image_report)
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert len(captions) == 7
    assert any("recognises most easily" in caption for caption in captions)
    assert any("what is missing: training samples of class 2" in caption for caption in captions)
    assert any("each above its nearest training image and held-out image" in caption for caption in captions)
    assert sum(len(a.get("src", "")) for _, a in parsed(page)) > 50_000


@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("test", [True, False])
def test_every_kind_of_points_has_its_page(dim, test):
    draw = np.random.default_rng(0)
    train, held_out, generated = draw.normal(size=(3, 40, dim))
    report = audit(generated=generated, train=train, test=held_out if test else None, rng=draw)
    assert len(re.findall("<img", to_html(report))) == 2


def test_text_is_plain_narrow_and_complete(report):
    text = report.to_text()
    assert all(len(line) <= 100 for line in text.splitlines() if HOSTILE not in line)
    assert text.startswith("mintmark audit: FLAGGED.")
    assert "✕ MODE LOSS: flagged." in text
    assert "starves modes 1 at (1, 0), 2 at (2, 0)" in text
    assert "training row" in text
    assert "; p = " in text
    assert "\x1b" not in text


def test_same_seed_same_bytes(tmp_path):
    first, second = audited(), audited()
    assert first.to_json() == second.to_json()
    assert first.to_text() == second.to_text()
    assert first.to_html(tmp_path / "a.html").read_bytes() == second.to_html(tmp_path / "b.html").read_bytes()


def test_the_page_is_written_whole_or_not_at_all(report, tmp_path, monkeypatch):
    from evaluation import files

    def broken(self, target):
        raise OSError("disk full")

    monkeypatch.setattr(files.Path, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        report.to_html(tmp_path / "x.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (Estimate(1.0, 0.0), "1"),
        (Estimate(-0.25, 0.5, level=0.95), "−0.25 ± 0.5"),
        (Estimate(0.5, 0.2, bounds=(0.4, 0.7)), "0.5 [0.4, 0.7]"),
        (Estimate(np.inf, 0.0), "∞"),
        (None, "–"),
    ],
)
def test_numbers_for_people(value, told):
    assert number(value) == told


def test_labels_may_be_any_text(tmp_path):
    draw = np.random.default_rng(0)
    labels = np.array(["<b>$\\frac{", "猫", "a\nb", "\udcff"])[np.arange(200) % 4]
    train = draw.normal(size=(200, 2)) + 20 * (np.arange(200) % 4)[:, None]
    report = audit(generated=train[labels != "猫"] + 0.1, train=train, labels=labels, rng=draw)
    assert report["class loss"].evidence["missing"] == ["猫"]
    page = report.to_html(tmp_path / "r.html").read_text(encoding="utf-8")
    assert "猫" in page
    assert "<b>$" not in page
    assert json.loads(report.to_json(), parse_constant=refuse)["verdict"] == "flagged"


def cells(page):
    return [
        html.unescape(re.sub("<.*?>", "", cell)).strip()
        for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", page, re.DOTALL)
    ]


def test_the_scores_stand_in_all_three_formats(report, page):
    assert [score.name for score in report.scores][:3] == ["FID", "FID, plain", "precision"]
    told = json.loads(report.to_json(), parse_constant=refuse)["scores"]
    text = " ".join(report.to_text().split())
    shown = cells(page)
    for score, plain in zip(report.scores, told, strict=True):
        assert plain["name"] == score.name
        # Infinities are strings: float reads both.
        assert float(plain["estimate"]["value"]) == score.estimate.value
        null = score.null if isinstance(score.null, float) else score.null.value
        assert float(plain["null"] if isinstance(plain["null"], float) else plain["null"]["value"]) == null
        shown_null = beside(score.null, score.estimate)
        assert f"{score.name} {number(score.estimate)} {shown_null} {score.meaning}" in text
        assert shown[shown.index(score.name) + 1] == number(score.estimate)
        assert shown[shown.index(score.name) + 2].startswith(shown_null)
        # One sentence that says which direction is good, or what the ends mean.
        assert re.search("higher is better|lower is better|Lower is better|below", score.meaning)
    assert "SCORES, without a verdict" in report.to_text()


def test_the_text_ends_with_the_protocol(report):
    told = report.to_text().split("\nPROTOCOL\n")[1]
    assert f"seed: {report.protocol['seed']}" in told
    assert "fingerprint of the features:" in told
    assert "numpy: " in told


def test_numbers_stop_where_their_interval_drowns_them():
    share = Estimate(2.5e-8, 1e-3, level=0.95, bounds=(0.0, 0.00109))
    assert number(share) == "0 [0, 0.00109]"
    assert number(Estimate(1.0558, 0.08, level=0.95, bounds=(0.97784, 1.13912))) == "1.056 [0.978, 1.139]"
    assert number(Estimate(math.inf, 0.0, level=0.95, bounds=(1234.4, math.inf))) == "at least 1234"
    assert beside(6.3e-6, Estimate(-0.43, 1.1, level=0.95)) == "0"


def test_nothing_is_said_twice(report, image_report):
    """What could have been missed stands in a table, and not in the text above it as well."""
    for one in (report, image_report):
        text = one.to_text()
        assert text.count("What this audit could have missed") == sum("detection" in f.evidence for f in one.findings)
        for finding in one.findings:
            sentences = [s for s in re.split(r"(?<=[.?]) ", finding.meaning) if len(s) > 30]
            assert len(sentences) == len(set(sentences))


def test_too_few_samples_have_no_score_but_the_distance(tmp_path):
    draw = np.random.default_rng(0)
    report = audit(generated=draw.normal(size=(5, 2)), train=draw.normal(size=(50, 2)), rng=draw)
    assert [score.name for score in report.scores] == ["FID"]
    assert "The plain distance, which other programs print" in " ".join(report.to_text().split())
    parsed(to_html(report))


def test_tables_say_what_the_evidence_says(report, page):
    from scipy import stats

    text = report.to_text()
    evidence = report["mode loss"].evidence
    masses, examples, histogram, missed = tables_of(report["mode loss"])
    # Direct: hits by distance, two-sided exact binomial with Holm's adjustment by hand.
    points = report.material.generated.array
    means = np.stack([part.mean for part in MODES.components])
    away = np.linalg.norm(points[:, None] - means, axis=2) / 0.1
    home = away.argmin(axis=1)
    hits = np.bincount(home[away.min(axis=1) < 3], minlength=3)
    q = np.full(3, 1 / 3) * (1 - np.exp(-4.5))
    p = np.array([stats.binomtest(int(h), len(points), float(w)).pvalue for h, w in zip(hits, q, strict=True)])
    order = np.argsort(p)
    adjusted = np.empty(3)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * [3, 2, 1]), 1)
    for row in masses.rows:
        k = int(row[0])
        assert int(row[3]) == hits[k]
        assert evidence["per_mode"][k]["p_adjusted"] == pytest.approx(adjusted[k], rel=1e-6)
    assert {row[2] for row in masses.rows} == {"reached", "starved"}
    h = hits / hits.sum()
    assert evidence["reverse_kl"].raw == pytest.approx(float(np.sum(h * np.log(h * 3))), rel=1e-9)
    assert evidence["forward_kl"].raw == pytest.approx(float(-np.sum(np.log(h * 3)) / 3), rel=1e-9)
    middle = (h + 1 / 3) / 2
    jsd = 0.5 * np.sum(h * np.log(h / middle)) + 0.5 * np.sum(np.log(1 / 3 / middle)) / 3
    assert evidence["jsd"].raw == pytest.approx(float(jsd), rel=1e-9)
    assert histogram.rows[0][3] == f"{evidence['noise_floor']:.4g}"
    assert "at least 1 high-quality sample" in " ".join(text.split())
    assert missed.title == "What this audit could have missed"
    for table in (masses, examples, histogram, missed):
        assert table.title in text
        assert table.title in page.replace("&#39;", "'")
        shown = cells(page)
        for row in table.rows:
            assert row[-1] in shown
    sizes = [row["n"] for row in evidence["detection"]["rows"]]
    assert sizes == [180, 540, 1800]
    losses = [row["loss"] for row in evidence["detection"]["rows"]]
    assert losses == sorted(losses, reverse=True)


def test_an_empty_mode_makes_the_forward_divergence_infinite_and_says_so():
    draw = np.random.default_rng(1)
    train = MODES.sample(400, draw)
    report = audit(generated=MODES.components[0].sample(300, draw), train=train, modes=MODES, rng=draw)
    table = tables_of(report["mode loss"])[2]
    assert table.rows[1][1] == "∞"
    assert "forward KL: " in table.note
    assert "∞" in report.to_text()
    told = json.loads(report.to_json(), parse_constant=refuse)["findings"][0]["evidence"]
    assert told["forward_kl"]["value"] == "inf"


def test_discoveries_and_q_values_of_suspects(image_report):
    from evaluation import memorization

    evidence = image_report["memorization"].evidence
    sets = image_report.material
    pixels = [part.array.reshape(len(part), -1) / 255 for part in (sets.generated, sets.train, sets.test)]
    direct = memorization(generated=pixels[0], train=pixels[1], test=pixels[2])
    for rate, count in evidence["discoveries"].items():
        assert count == int((direct.q_values <= float(rate)).sum())
    assert evidence["discoveries"]["0.05"] >= 60
    by_row = {suspect.generated: suspect for suspect in direct.suspects}
    for suspect in evidence["suspects"]:
        assert suspect["q_value"] == by_row[suspect["generated"]].q_value
        assert suspect["nearest_test"] == by_row[suspect["generated"]].nearest_test
    counts, suspects = tables_of(image_report["memorization"])
    assert counts.rows[1][1] == str(evidence["discoveries"]["0.05"])
    assert suspects.head[5] == "q"
    assert len(suspects.rows) + suspects.more == evidence["suspect_count"]


def test_classes_and_regions_say_what_could_have_been_missed(image_report):
    rows = image_report["class loss"].evidence["detection"]["rows"]
    n = len(image_report.material.generated)
    assert {row["n"] for row in rows} == {n, 3 * n, 10 * n}
    assert all(0.5 <= row["loss"] <= 1 for row in rows)
    draw = np.random.default_rng(4)
    train, test, generated = draw.normal(size=(3, 400, 2))
    finding = audit(generated=generated, train=train, test=test, rng=draw)["mode loss"]
    detection = finding.evidence["detection"]
    assert detection["unit"] == "region"
    assert len(detection["rows"]) == 6
    assert "What this audit could have missed" in tables_of(finding)[-1].title
    # Larger audits miss less; the same table whatever the seed.
    mean_bin = [row["loss"] for row in detection["rows"] if row["weight"] == detection["rows"][0]["weight"]]
    assert mean_bin == sorted(mean_bin, reverse=True)
    again = audit(generated=generated, train=train, test=test, rng=np.random.default_rng(99))["mode loss"]
    assert again.evidence["detection"] == detection


def fields_of(value, opaque=("versions", "margins", "discoveries", "parameters")):
    """Every key of a JSON value, but those of tables whose keys are names or counts."""
    if isinstance(value, list):
        return set().union(*map(fields_of, value))
    if not isinstance(value, dict):
        return set()
    return set(value).union(*(fields_of(item) for key, item in value.items() if key not in opaque))


def test_every_field_of_the_json_reports_stands_in_the_notation(report, image_report):
    from evaluation import compare

    notation = (Path(__file__).resolve().parents[2] / "NOTATION.md").read_text(encoding="utf-8")
    section = notation.split("## Fields of the JSON reports\n")[1].split("\n## ")[0]
    told = set(re.findall(r"`([a-z_]+)`", section))
    draw = np.random.default_rng(0)
    train, fresh, low = draw.normal(size=(3, 400, 2))
    regions = audit(generated=fresh[fresh[:, 0] < 0.5], train=train, rng=draw)
    compared = compare(a=fresh, b=low, train=train)
    lost = audit(generated=MODES.components[0].sample(300, draw), train=MODES.sample(300, draw), modes=MODES, rng=draw)
    texts = [one.to_json() for one in (report, image_report, regions, lost, compared)]
    written = fields_of([json.loads(text) for text in texts])
    assert {"regions", "per_class", "examples", "examples_at", "better"} <= written
    assert written <= told
    # What these reports do not have: stacked digits, long arrays, a classifier of one's own, lost classes of points.
    others = {"stacked", "confirmed", "modes", "lost", "min", "median", "max", "shape", "judged_on", "answers"}
    others |= {"device", "grey", "resize", "weights_file", "weights_sha256", "weights_public"}  # of Inception
    assert told - written <= others
    for schema in ("mintmark-audit-2", "mintmark-comparison-1"):
        assert schema in section
