"""Curves over kimg as small charts: one per logged quantity, placed here and drawn by the page's template."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from limbeck.evaluation.figures import short
from limbeck.loggers.table import KEY

Points = list[tuple[float, float]]
WIDTH, HEIGHT, LEFT, BOTTOM = 230, 112, 44, 16
ORDER = ("metric", "generator", "discriminator", "logits", "speed", "memory")
MAX_POINTS = 240  # more than one per pixel only makes the page heavier


@dataclass(frozen=True)
class Chart:
    """Texts and lines (points as SVG writes them) of one chart; `lines` holds (style class, points)."""

    group: str
    name: str
    last: str
    low: str
    high: str
    first_x: str
    last_x: str
    lines: list[tuple[str, str]]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    bottom: int = BOTTOM


def charts(rows: Sequence[Mapping[str, float]]) -> list[Chart]:
    """A chart of every column, metrics first; none without at least two rows of anything."""
    found: dict[tuple[str, str], list[tuple[str, Points]]] = {}
    for column in dict.fromkeys(name for row in rows for name in row if name != KEY):
        points = [(row[KEY], row[column]) for row in rows if math.isfinite(row.get(column, math.nan))]
        if len(points) > 1:
            group, chart, line = _place(column)
            found.setdefault((group, chart), []).append((line, points))
    ordered = sorted(found.items(), key=lambda item: ORDER.index(item[0][0]) if item[0][0] in ORDER else len(ORDER))
    return [_chart(group, chart, lines) for (group, chart), lines in ordered]


def _place(column: str) -> tuple[str, str, str]:
    """Group, chart and line of a column: real and fake logits of a discriminator share a chart."""
    first, *rest = column.split("/")
    if first == "loss" and len(rest) > 1:
        return rest[0], "/".join(rest[1:]), ""
    if first == "logits" and len(rest) > 1:
        return first, "/".join(rest[:-1]), rest[-1]
    return (first, "/".join(rest), "") if rest else ("", first, "")


def _chart(group: str, name: str, lines: list[tuple[str, Points]]) -> Chart:
    xs = [x for _, points in lines for x, _ in points]
    low, high = _range([smooth for _, points in lines for _, smooth in smoothed(points)], lines)
    span_x = (max(xs) - min(xs)) or 1.0

    def place(points: Points) -> str:
        return " ".join(
            f"{LEFT + (x - min(xs)) / span_x * (WIDTH - LEFT - 3):.1f},"
            f"{3 + (1 - (min(max(y, low), high) - low) / (high - low)) * (HEIGHT - BOTTOM - 6):.1f}"
            for x, y in points
        )

    last = " / ".join(f"{line} {short(points[-1][1])}".strip() for line, points in lines)
    drawn = []
    for index, (_, points) in enumerate(lines):
        if len(points) > 20:
            drawn.append(("raw", place(thinned(points))))
        drawn.append(("line second" if index else "line", place(thinned(smoothed(points)))))
    return Chart(group, name, last, short(low), short(high), short(min(xs)), f"{short(max(xs))} kimg", drawn)


def _range(smooth: list[float], lines: list[tuple[str, Points]]) -> tuple[float, float]:
    """What the vertical axis shows: all of the smooth curve, and the raw one without its wildest hundredth."""
    raw = sorted(y for _, points in lines for _, y in points)
    cut = len(raw) // 100
    low, high = min(raw[cut], *smooth), max(raw[-1 - cut], *smooth)
    return (low, high) if high > low else (low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1))


def smoothed(points: Points) -> Points:
    """Exponential moving average over about a twentieth of the curve; short curves stay as they are."""
    if len(points) <= 20:
        return points
    decay, mean, weight, result = 1 - 20 / len(points), 0.0, 0.0, []
    for x, y in points:
        mean, weight = decay * mean + (1 - decay) * y, decay * weight + (1 - decay)
        result.append((x, mean / weight))
    return result


def thinned(points: Points) -> Points:
    """At most MAX_POINTS of the points, evenly spread, both ends included."""
    if len(points) <= MAX_POINTS:
        return points
    step = (len(points) - 1) / (MAX_POINTS - 1)
    return [points[round(index * step)] for index in range(MAX_POINTS)]
