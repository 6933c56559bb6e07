"""The runs of a search that no other run beats, as lines and as a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from limbeck.evaluation.figures import short
from limbeck.sweep.runs import Run, setting, title, varied_keys

OTHERS, BEST = "#b0b7c3", "#2a6f97"
MOST_NAMED = 12  # points of the front that have room for their settings


@dataclass(frozen=True)
class Found:
    """Finished runs with the numbers that a search looks for. higher: of each number, whether more is better."""

    names: tuple[str, ...]
    higher: tuple[bool, ...]
    runs: tuple[Run, ...]
    values: tuple[tuple[float, ...], ...]

    def best(self) -> list[int]:
        """Places of the runs that no other run beats, the best in the first number first."""
        places = non_dominated(self.values, self.higher)
        return sorted(places, key=lambda place: self.values[place], reverse=self.higher[0])


def non_dominated(points: Sequence[Sequence[float]], higher: Sequence[bool]) -> list[int]:
    """Places of the points to which no other is at least equal in all numbers and better in one."""
    costs = [[-value if up else value for value, up in zip(point, higher, strict=True)] for point in points]

    def beaten(cost: Sequence[float]) -> bool:
        return any(all(a <= b for a, b in zip(other, cost, strict=True)) and other != cost for other in costs)

    return [place for place, cost in enumerate(costs) if not beaten(cost)]


def found(runs: Sequence[Run]) -> Found | None:
    """What a search among these runs has found; None if they look for nothing or for different things.

    None as well while no run is finished.
    """
    wanted = {run.objective for run in runs}
    if len(wanted) != 1 or not (names := wanted.pop()):
        return None
    done = [(run, values) for run in runs if (values := run.reached()) is not None]
    if not done:
        return None
    higher = tuple(done[0][0].ranks.get(name, False) for name in names)
    return Found(names, higher, tuple(run for run, _ in done), tuple(values for _, values in done))


def best_lines(result: Found, runs: Sequence[Run]) -> list[str]:
    """Markdown: the best run, or the table of all on the Pareto front. runs: all, which say what differs."""
    ways = [f"{'most' if higher else 'least'} {name}" for name, higher in zip(result.names, result.higher, strict=True)]
    count = f"{len(result.runs)} finished runs"
    best = f"Best of {count}" if len(ways) == 1 else f"Pareto front of {count}, those that no other beats in everything"
    varied = varied_keys(runs)
    lines = [f"{best} ({', '.join(ways)}).", "", "| " + " | ".join(["run", *map(title, varied), *result.names]) + " |"]
    lines.append("| " + " | ".join(["---"] * (1 + len(varied) + len(result.names))) + " |")
    for place in result.best():
        run, values = result.runs[place], result.values[place]
        cells = [run.name, *(setting(run, key) for key in varied), *(short(value) for value in values)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def save_front(result: Found, path: Path) -> None:
    """Write a PNG: every run by its first two numbers, those on the front joined by steps."""
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    across, up = ([values[place] for values in result.values] for place in (1, 0))
    best = sorted(non_dominated(list(zip(up, across, strict=True)), result.higher[:2]), key=lambda place: across[place])
    axes.plot(across, up, "o", color=OTHERS, markersize=5, label="runs")
    # Up to the next point a run at this one's place is the best there is: later for costs, before for gains.
    style = "steps-pre" if result.higher[1] else "steps-post"
    line = [across[place] for place in best], [up[place] for place in best]
    axes.plot(*line, "o-", drawstyle=style, color=BEST, label="Pareto front")
    varied = varied_keys(result.runs)
    for place in best if len(best) <= MOST_NAMED else ():
        called = ", ".join(_short(setting(result.runs[place], key)) for key in varied)
        axes.annotate(called, (across[place], up[place]), (4, 4), textcoords="offset points", fontsize=7)
    for place, values, letter in ((1, across, "x"), (0, up, "y")):
        better = "more" if result.higher[place] else "less"
        wide = min(values) > 0 and max(values) > 5 * min(values)
        axes.set(**{f"{letter}label": f"{result.names[place]} ({better} is better)"})
        axes.set(**{f"{letter}scale": "log" if wide else "linear"})
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        axis.set_minor_formatter(NullFormatter())
    axes.margins(0.08)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150, format="png")


def _short(value: str) -> str:
    try:
        return f"{float(value):.3g}"
    except ValueError:
        return value
