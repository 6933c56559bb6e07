"""Curves over kimg as small inline SVG pictures: one per logged quantity, coloured by the page's style sheet."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from limbeck.evaluation.figures import short
from limbeck.loggers.table import KEY

Points = list[tuple[float, float]]
WIDTH, HEIGHT, LEFT, BOTTOM = 240, 110, 36, 14
MAX_POINTS = 240  # more than one per pixel only makes the page heavier


def curves_html(rows: Sequence[Mapping[str, float]]) -> str:
    """Charts of every column, grouped by the first parts of its name; empty without at least two rows of anything."""
    columns = dict.fromkeys(name for row in rows for name in row if name != KEY)
    groups: dict[str, dict[str, list[tuple[str, Points]]]] = {}
    for name in columns:
        points = [(row[KEY], row[name]) for row in rows if name in row and math.isfinite(row[name])]
        if len(points) > 1:
            heading, chart, line = _place(name)
            groups.setdefault(heading, {}).setdefault(chart, []).append((line, points))
    return "".join(
        f"<h3>{escape(heading)}</h3><div class='charts'>"
        + "".join(_chart(chart, lines) for chart, lines in charts.items())
        + "</div>"
        for heading, charts in sorted(groups.items(), key=lambda item: _order(item[0]))
    )


def _place(name: str) -> tuple[str, str, str]:
    """Heading, chart and line of a column: real and fake logits of a discriminator share a chart."""
    first, *rest = name.split("/")
    if first == "loss" and len(rest) > 1:
        return f"{rest[0]} losses", "/".join(rest[1:]), ""
    if first == "logits" and len(rest) > 1:
        return "logits", "/".join(rest[:-1]), rest[-1]
    headings = {"metric": "metrics", "speed": "speed and memory", "memory": "speed and memory"}
    return headings.get(first, first), "/".join(rest) or first, ""


def _order(heading: str) -> tuple[int, str]:
    order = ["metrics", "generator losses", "discriminator losses", "logits"]
    return (order.index(heading) if heading in order else len(order) + (heading == "speed and memory"), heading)


def _chart(name: str, lines: list[tuple[str, Points]]) -> str:
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
    drawn = "".join(
        (f"<polyline class='raw' points='{place(thinned(points))}'/>" if len(points) > 20 else "")
        + f"<polyline class='line{' second' if index else ''}' points='{place(thinned(smoothed(points)))}'/>"
        for index, (_, points) in enumerate(lines)
    )
    base = HEIGHT - BOTTOM
    return (
        f"<div class='chart'><span>{escape(last)}</span><b>{escape(name)}</b>"
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{escape(name, quote=True)} over kimg'>"
        f"<path class='frame' d='M{LEFT} 3V{base}H{WIDTH - 2}'/>"
        f"<text x='{LEFT - 4}' y='11' text-anchor='end'>{short(high)}</text>"
        f"<text x='{LEFT - 4}' y='{base}' text-anchor='end'>{short(low)}</text>"
        f"<text x='{LEFT}' y='{HEIGHT - 2}'>{short(min(xs))}</text>"
        f"<text x='{WIDTH - 2}' y='{HEIGHT - 2}' text-anchor='end'>{short(max(xs))} kimg</text>"
        f"{drawn}</svg></div>"
    )


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
