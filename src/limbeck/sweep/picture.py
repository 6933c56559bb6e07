"""A sweep as pictures: the main metric over multiply-accumulates, or side by side where all cost the same; and over
training, where it was measured on the way.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from limbeck.sweep.runs import Cell, Run, cells, setting, varied_keys

PRUNED, STUDENT = "#b0b7c3", "#2a6f97"


def save_picture(runs: Sequence[Run], metric: str, path: Path) -> None:
    """Write a PNG. Every seed is a mark of its own."""
    found = [cell for cell in cells(runs) if cell.found("student", metric)]
    costs = {row.macs for cell in found if (row := cell.first("student"))}
    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    teachers = [value for cell in found for value in cell.found("teacher", metric)]
    if len(costs) > 1:
        _over_cost(axes, runs, found, metric)
        entries = figure.legend(loc="outside lower center", fontsize=8).get_texts()
        figure.set_size_inches(7.5, 4 + 0.18 * len(entries))
    else:
        _side_by_side(axes, found, metric)
        if teachers:
            axes.axvline(mean(teachers), color="black", linestyle=":", linewidth=1, label="teacher")
        axes.legend(fontsize=8)
        figure.set_size_inches(7.5, 1.6 + 0.32 * len(found))
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150, format="png")


def save_curves(runs: Sequence[Run], metric: str, path: Path) -> None:
    """Write a PNG of the metric over kimg, a colour per cell and a line per seed, of the runs that measured it."""
    # A run that has just begun has no point yet.
    found = [(cell.label, [points for run in cell.runs if (points := run.curve(metric))]) for cell in cells(runs)]
    drawn = [(label, curves) for label, curves in found if any(len(points) > 2 for points in curves)]
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, (label, curves) in enumerate(drawn):
        for seed, points in enumerate(curves):
            axes.plot(*zip(*points, strict=True), ".-", color=f"C{number}", label=None if seed else label)
    axes.set(xlabel="kimg", ylabel=metric)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", fontsize=8)
    figure.savefig(path, dpi=150, format="png")


def _over_cost(axes, runs: Sequence[Run], found: Sequence[Cell], metric: str) -> None:
    """One line per combination of settings other than the ratio, through the means; the teacher as a star."""
    varied = [key for key in varied_keys(runs) if not key.endswith("ratio")]
    lines: dict[str, list[tuple[int, list[float]]]] = {}
    for cell in found:
        label = ", ".join(setting(cell.runs[0], key) for key in varied) or "student"
        student = cell.first("student")
        assert student is not None
        lines.setdefault(label, []).append((student.macs, cell.found("student", metric)))
    for number, (label, points) in enumerate(lines.items()):
        points.sort()
        costs, means = [macs for macs, _ in points], [mean(values) for _, values in points]
        marker, style = "osD^"[number // 10 % 4], ("-", "--", "-.", ":")[number // 10 % 4]  # there are ten colors
        axes.plot(costs, means, style, color=f"C{number}", marker=marker, markersize=5, label=label)
        for macs, values in points:
            axes.plot([macs] * len(values), values, marker, color=f"C{number}", markersize=4, alpha=0.6)
    teachers = {
        (row.macs, values[0])
        for cell in found
        if (row := cell.first("teacher")) and (values := cell.found("teacher", metric))
    }
    if teachers:
        axes.plot(*zip(*sorted(teachers), strict=True), "k*", markersize=12, linestyle="none", label="teacher")
    axes.set(xscale="log", xlabel="multiply-accumulates of one image", ylabel=metric)


def _side_by_side(axes, found: Sequence[Cell], metric: str) -> None:
    """A row per cell: the student's dots with their mean, the network before distillation in grey."""
    for place, cell in enumerate(reversed(found)):
        before, after = (cell.found(row, metric) for row in ("pruned", "student"))
        first = place == 0
        axes.plot(before, [place] * len(before), "o", color=PRUNED, markersize=5, label="pruned" if first else None)
        axes.plot(after, [place] * len(after), "o", color=STUDENT, markersize=5, label="student" if first else None)
        axes.plot([mean(after)], [place], "|", color=STUDENT, markersize=16, markeredgewidth=2)
    axes.set(xlabel=metric, xscale="log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(found)), [cell.label for cell in reversed(found)], fontsize=8)
