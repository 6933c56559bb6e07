"""Inline SVG: every column has a chart, every point lies where it belongs."""

import math
import re
import xml.etree.ElementTree as ET

from limbeck.evaluation.curves import BOTTOM, HEIGHT, LEFT, MAX_POINTS, WIDTH, charts, smoothed, thinned
from limbeck.evaluation.pages import _environment


def drawn(rows):
    """The charts as the page's template draws them."""
    return ET.fromstring(f"<body>{html(rows)}</body>").findall(".//svg")


def html(rows):
    return str(_environment().get_template("parts.html").module.charts(charts(rows)))


def places(line):
    return [tuple(map(float, point.split(","))) for point in line.get("points").split()]


def test_a_line_from_corner_to_corner():
    (svg,) = drawn([{"kimg": 1.0, "loss/generator/a": 8.0}, {"kimg": 3.0, "loss/generator/a": 2.0}])
    assert places(svg.find("polyline")) == [(LEFT, 3.0), (WIDTH - 3, HEIGHT - BOTTOM - 3)]
    assert {"8", "2", "1", "3 kimg"} == {text.text for text in svg.findall("text")}


def test_real_and_fake_logits_share_a_chart():
    rows = [{"kimg": k, "logits/fresh/real": 1.0, "logits/fresh/fake": -1.0, "loss/generator/a": k} for k in (1.0, 2.0)]
    found = drawn(rows)
    assert [len(svg.findall("polyline")) for svg in found] == [1, 2]
    assert found[1].get("aria-label") == "logits fresh over kimg"


def test_gaps_single_points_and_what_is_not_finite_are_left_out():
    rows = [{"kimg": 1.0, "a": 1.0, "b": math.nan}, {"kimg": 2.0, "b": 1.0}, {"kimg": 3.0, "a": 2.0}]
    (svg,) = drawn(rows)
    assert len(places(svg.find("polyline"))) == 2
    assert charts([]) == []
    assert charts(rows[:1]) == []


def test_long_and_wild_curves_stay_light_and_inside_the_frame():
    rows = [{"kimg": k / 4, "loss/generator/a": (-1) ** k * (1e6 if k == 2000 else 1)} for k in range(5000)]
    assert len(html(rows)) < 20_000
    (svg,) = drawn(rows)
    for line in svg.findall("polyline"):
        assert len(places(line)) <= MAX_POINTS
        assert all(LEFT <= x <= WIDTH and 0 <= y <= HEIGHT - BOTTOM for x, y in places(line))
    assert not re.search("nan|inf", html(rows))


def test_smoothing_keeps_a_constant_and_thinning_both_ends():
    points = [(float(k), 3.0) for k in range(1000)]
    assert all(abs(y - 3) < 1e-12 for _, y in smoothed(points))
    assert thinned(points)[0] == points[0]
    assert thinned(points)[-1] == points[-1]
    assert smoothed(points[:5]) == points[:5]
