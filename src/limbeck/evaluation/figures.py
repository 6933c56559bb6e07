"""Numbers of a report as people read them: short forms, ratios to the teacher, the headline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from limbeck.evaluation.report import Report, Row

ERROR = "_se"  # ends the name of a metric's standard error
TIMES, DASH, ARROW = "\u00d7", "\u2013", "\u2192"


def short(value: float | None) -> str:
    """Three or four significant digits: 24.8 M, 1.39 G, 0.0123; a dash for what was not measured."""
    if value is None or not math.isfinite(value):
        return DASH
    for least, unit, letter in ((1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e5, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / unit:.3g} {letter}"
    if float(value).is_integer() and abs(value) < 1e5:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.2g}"


def ratio(reference: float | None, value: float | None) -> float | None:
    """How many times smaller `value` is; None where that says nothing."""
    if not reference or not value or not math.isfinite(reference) or not math.isfinite(value):
        return None
    return reference / value


def times(factor: float | None) -> str:
    """× with two or three digits; empty for None."""
    if factor is None:
        return ""
    digits = 0 if factor >= 100 else 1 if factor >= 10 else 2
    return f"{TIMES} {factor:.{digits}f}"


def heading(report: Report, folder: Path) -> str:
    """The report's title, else the last two parts of the folder: experiment and overrides."""
    return report.title or " / ".join(folder.absolute().parts[-2:])


def metric_names(rows: Sequence[Row]) -> list[str]:
    """Every metric of any row, in the order of appearance; standard errors belong to the number before them."""
    names = list(dict.fromkeys(name for row in rows for name in row.metrics))
    return [name for name in names if name.removesuffix(ERROR) == name or name.removesuffix(ERROR) not in names]


def measured(row: Row, name: str) -> str:
    """A metric as people read it, with its standard error if that is known."""
    value, error = row.metrics.get(name), row.metrics.get(name + ERROR)
    return short(value) if value is None or error is None else f"{short(value)} \u00b1 {error:.1g}"


def main_metric(rows: Sequence[Row]) -> str | None:
    """The first kernel distance, else the first metric."""
    names = metric_names(rows)
    return next((name for name in names if name.startswith("kid")), names[0] if names else None)


@dataclass(frozen=True)
class Highlight:
    """One figure of the headline: `value` in large letters above `caption`."""

    value: str
    caption: str


def highlights(report: Report) -> list[Highlight]:
    """What the student saves against the teacher, and what distillation brought back; empty without both rows."""
    teacher, student, pruned = (report.row(name) for name in ("teacher", "student", "pruned"))
    if teacher is None or student is None:
        return []
    saved = [
        (ratio(teacher.num_parameters, student.num_parameters), "fewer parameters"),
        (ratio(teacher.macs, student.macs), "fewer MACs"),
        (ratio(teacher.latency_ms, student.latency_ms), "faster"),
    ]
    found = [Highlight(times(factor), caption) for factor, caption in saved if factor is not None]
    metric = main_metric(report.rows)
    if metric and metric in student.metrics:
        end = short(student.metrics[metric])
        if pruned is not None and metric in pruned.metrics:
            caption = f"{metric}, pruned {ARROW} distilled"
            found.append(Highlight(f"{short(pruned.metrics[metric])} {ARROW} {end}", caption))
        else:
            found.append(Highlight(end, metric))
    return found
