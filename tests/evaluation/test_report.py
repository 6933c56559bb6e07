"""What a report says, read back from its three files."""

import base64
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image

from limbeck.errors import UserError
from limbeck.evaluation.figures import highlights
from limbeck.evaluation.markdown_report import markdown_table
from limbeck.evaluation.report import Report, Row
from limbeck.evaluation.write_report import write_report
from limbeck.loggers.table import Table

HISTORY = ({"stage": "prune", "ratio": 0.7}, {"stage": "distil", "losses": ["nonsaturating", "pixel_l1"]})


@pytest.fixture
def report(tmp_path):
    rows = []
    for name, size, kid in (("teacher", 10, 0.01), ("pruned", 1, 0.5), ("initialized", 1, 0.4), ("student", 1, 0.025)):
        grid = tmp_path / "samples" / f"{name}.png"
        grid.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 2), "red").save(grid)
        metrics = {"kid_lite0": kid, "recall": float("nan")} if name == "teacher" else {"kid_lite0": kid}
        history = HISTORY if name == "student" else ()
        rows.append(
            Row(name, 1000 * size, 3_000_000 * size, 0.5 * size, 2.0 * size, metrics, grid, history, "CC-BY <4.0>")
        )
    protocol = {"num_images": 500, "metrics": {"kid_lite0": {"embedding": "lite0", "weights": "abc123"}}}
    return Report(rows, protocol, {"pruning": {"ratio": 0.7, "note": "</details>"}}, {"torch": "2.13.0"}, title="a & b")


class Page(HTMLParser):
    """Balance of tags, addresses of sources, and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href", "xlink:href", "data")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)


def test_json_has_the_promised_form(report, tmp_path):
    write_report(report, tmp_path)
    facts = json.loads((tmp_path / "report.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert list(facts) == ["rows", "protocol", "config", "versions"]
    assert [row["name"] for row in facts["rows"]] == ["teacher", "pruned", "initialized", "student"]
    assert facts["rows"][3] == {
        "name": "student",
        "num_parameters": 1000,
        "macs": 3_000_000,
        "size_mib": 0.5,
        "latency_ms": 2.0,
        "metrics": {"kid_lite0": 0.025},
        "history": [dict(entry) for entry in HISTORY],
        "terms": "CC-BY <4.0>",
        "latency_spread": None,
        "filter_macs": 0,
        "latencies": [],
        "sparsity": {},
        "num_effective": None,
    }
    assert facts["rows"][0]["metrics"]["recall"] is None
    assert facts["protocol"]["metrics"]["kid_lite0"]["weights"] == "abc123"
    assert facts["config"]["pruning"]["ratio"] == 0.7


def test_page_is_whole_well_formed_and_fetches_nothing(report, tmp_path):
    Table(tmp_path / "metrics.csv").put({"kimg": 1, "loss/generator/pixel_l1": 0.5})
    Table(tmp_path / "metrics.csv").put({"kimg": 2, "loss/generator/pixel_l1": 0.25, "speed/images_per_second": 50})
    write_report(report, tmp_path)
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert len(page.sources) == 4
    for source in page.sources:
        kind, _, content = source.partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(content) == (tmp_path / "samples" / "student.png").read_bytes()
    assert not re.search(r"https?:|@import|url\(", text)
    for expected in ("a & b", "10.0", "0.5 \u2192 0.025", "abc123", "CC-BY <4.0>", "nonsaturating, pixel_l1", "2.13.0"):
        assert any(expected in part for part in page.text), expected
    assert any("note: </details>" in part for part in page.text)
    assert text.count("<svg") == 1  # one loss has two points, the rate has only one
    assert "2 kimg at 50 images/s" in text


def test_markdown_links_pictures_relative_to_the_folder(report, tmp_path):
    write_report(report, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "![student](samples/student.png)" in text
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert [cell.strip() for cell in table[-1].split("|")[1:4]] == [
        "student",
        "1,000 (\u00d7 10.0)",
        "3 M (\u00d7 10.0)",
    ]
    assert len({line.count("|") for line in table}) == 1
    assert str(tmp_path) not in text


def test_headline_compares_student_with_teacher_and_with_pruned(report):
    assert [(item.value, item.caption) for item in highlights(report)] == [
        ("\u00d7 10.0", "fewer parameters"),
        ("\u00d7 10.0", "fewer MACs"),
        ("\u00d7 10.0", "faster"),
        ("0.5 \u2192 0.025", "kid_lite0, pruned \u2192 distilled"),
    ]


def test_speed_stands_large_only_where_its_spread_allows(report, tmp_path):
    def with_spreads(teacher, student):
        spreads = {"teacher": teacher, "student": student}
        return replace(report, rows=[replace(row, latency_spread=spreads.get(row.name)) for row in report.rows])

    for spreads, shown in (((0.02, 0.1), True), ((0.1, 0.1), False), ((0.0, 2.3), False), ((math.nan, 0.0), False)):
        judged = with_spreads(*spreads)
        assert ("faster" in [item.caption for item in highlights(judged)]) is shown
        assert ("\u00d7 10.0" in markdown_table(judged).splitlines()[-1].split("|")[5]) is shown
    write_report(with_spreads(0.0, 2.3), tmp_path)
    for name in ("report.html", "report.md"):
        assert "\u00b1 230 %" in (tmp_path / name).read_text()
    assert "busy machine" in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "report.json").read_text())["rows"][3]["latency_spread"] == 2.3


def test_teacher_and_student_can_be_looked_at_image_by_image(report, tmp_path):
    write_report(report, tmp_path)  # no columns known
    assert "<canvas" not in (tmp_path / "report.html").read_text()
    write_report(replace(report, rows=[replace(row, grid_columns=2) for row in report.rows]), tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert 'data-left="teacher" data-right="student"' in text
    assert text.count('data-columns="2"') == 4
    assert text.count('class="small"') == 4  # four pixels wide: enlarged without smoothing
    assert Page(text).open == []


def test_latency_as_shipped_has_its_own_table(report, tmp_path):
    def timing(milliseconds, spread=0.01):
        facts = {"runtime": "ONNX Runtime", "num_images": 16, "spread": spread}
        return ({**facts, "latency_ms": milliseconds},)

    times = {"teacher": timing(8.0), "pruned": timing(2.0), "initialized": timing(2.0), "student": timing(4.0, 0.4)}
    write_report(replace(report, rows=[replace(row, latencies=times[row.name]) for row in report.rows]), tmp_path)
    line = next(line for line in (tmp_path / "report.md").read_text().splitlines() if "ONNX Runtime" in line)
    assert line == "| ONNX Runtime | 16 | 8 | 2 (\u00d7 4.00) | 4 \u00b1 40 % |"  # equal columns are shown once
    assert "Latency as shipped" in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "report.json").read_text())["rows"][1]["latencies"][0]["latency_ms"] == 2.0


def test_the_headline_takes_latency_as_shipped_where_it_is_steady(report):
    def timed(milliseconds, spread):
        runtimes = (("PyTorch", 1), ("ONNX Runtime", 16), ("ONNX Runtime", 1), ("OpenVINO", 1))
        return tuple(
            {"runtime": name, "num_images": count, "latency_ms": milliseconds * (1 + place), "spread": spread[place]}
            for place, (name, count) in enumerate(runtimes)
        )

    def headline(spread):
        slow, fast = timed(10.0, spread), timed(2.5, spread)
        rows = [replace(row, latencies=slow if row.name == "teacher" else fast) for row in report.rows]
        return [(item.value, item.caption) for item in highlights(replace(report, rows=rows))]

    assert ("\u00d7 4.00", "faster in ONNX Runtime") in headline([0, 0, 0, 0])
    assert ("\u00d7 4.00", "faster in OpenVINO") in headline([0, 0, 9.0, 0])
    assert not any("faster in" in caption for _, caption in headline([0, 0, 9.0, 9.0]))


def test_what_a_translation_starts_from_and_wants_stands_around_the_rows(report, tmp_path):
    write_report(report, tmp_path)
    assert "what is wanted" not in (tmp_path / "report.html").read_text()
    for name, color in (("source", "blue"), ("target", "green")):
        Image.new("RGB", (4, 2), color).save(tmp_path / "samples" / f"{name}.png")
    write_report(report, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert page.index("what all start from") < page.index("images of the teacher") < page.index("images of the student")
    assert page.index("images of the student") < page.index("what is wanted")
    linked = re.findall(r"!\[(\w+)\]\(samples", (tmp_path / "report.md").read_text())
    assert linked == ["source", "teacher", "pruned", "initialized", "student", "target"]


def test_one_row_without_anything_else_is_a_report_too(tmp_path):
    write_report(Report([Row("model", 5, 6, 0.1, 1.0, {})], {}, {}, {}), tmp_path / "quickstart" / "default")
    text = (tmp_path / "quickstart" / "default" / "report.html").read_text()
    assert Page(text).open == []
    assert "<h1>quickstart / default</h1>" in text


def test_full_disk_or_missing_rights_are_one_line(report, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_report(report, tmp_path / "file" / "below")


def test_sparsity_is_told_by_layer_with_what_it_does_not_mean(report, tmp_path):
    masked = {"sparsity": {"layers.0.weight": 0.5, "layers.1.weight": 0.498}, "num_effective": 501}
    rows = [row if row.name == "teacher" else replace(row, **masked) for row in report.rows]
    write_report(replace(report, rows=rows), tmp_path)
    markdown, page = (tmp_path / "report.md").read_text(), (tmp_path / "report.html").read_text()
    for text in (markdown, page):
        assert "pruned, initialized, student: 49.8 % to 50.0 % of each layer" in text
        assert "501 of 1,000 parameters are in use" in text
        assert "do not make dense hardware faster" in text
        assert "layers.1.weight: 49.80 %" in text
    write_report(report, tmp_path)
    assert "Weights switched off" not in (tmp_path / "report.html").read_text()
