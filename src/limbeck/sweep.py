"""Summary across the runs of a sweep: a table and the kernel distance over multiply-accumulates.

Runs by itself after `python train.py -m …`, and at any time as `python -m limbeck.sweep DIR`.
"""

import argparse
import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from limbeck.entry import exit_on_user_error
from limbeck.errors import UserError
from limbeck.evaluation.figures import ARROW, DASH, main_metric, metric_names, ratio, short, times
from limbeck.evaluation.report import Row
from limbeck.files import written_aside

DERIVED = ("pipeline", "run_name")  # repeat other keys or follow from them


@dataclass(frozen=True)
class Run:
    """One run folder: its resolved configuration, flattened, and the rows of its report, if it is finished."""

    name: str
    config: Mapping[str, str]
    rows: tuple[Row, ...] = ()

    def row(self, name: str) -> Row | None:
        return next((row for row in self.rows if row.name == name), None)


class SweepSummary(Callback):
    """Hydra callback that writes the summary when a multirun ends."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        if folder.is_dir() and (runs := read_runs(folder)):
            print(write_summary(runs, folder))


def read_runs(folder: Path) -> list[Run]:
    """Every run below `folder`, in the order of names. Raises: UserError naming a report that cannot be read."""
    return [_read(path.parent, folder) for path in sorted(folder.rglob("config.yaml"))]


def write_summary(runs: Sequence[Run], folder: Path) -> str:
    """Write sweep.md, sweep.csv and, once a run is finished, sweep.png; returns the Markdown table."""
    header, lines = summary_table(runs)
    markdown = "\n".join("| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *lines))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(summary_values(runs))
    for name, content in (("sweep.md", markdown + "\n"), ("sweep.csv", text.getvalue())):
        with written_aside(folder / name) as aside:
            aside.write_text(content, encoding="utf-8")
    metric = main_metric([row for run in runs for row in run.rows])
    if metric and any(run.row("student") for run in runs):
        with written_aside(folder / "sweep.png") as aside:
            _plot(runs, metric, aside)
    return markdown


def summary_table(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Header and one line per run for people: what differs, cost with the factor saved, metrics before -> after."""
    varied, metrics = varied_keys(runs), metric_names([row for run in runs for row in run.rows])
    header = [", ".join(map(_title, varied)) or "run", "parameters", "MACs", "latency ms", *metrics]
    lines = []
    for run in runs:
        label, student, teacher, pruned = _label(run, varied), run.row("student"), run.row("teacher"), run.row("pruned")
        if student is None:
            lines.append([label, "unfinished", *[""] * (len(header) - 2)])
            continue
        costs = [_cost(student, teacher, key) for key in ("num_parameters", "macs", "latency_ms")]
        before = pruned.metrics if pruned else {}
        values = [
            f"{short(before[name])} {ARROW} {short(student.metrics.get(name))}"
            if name in before
            else short(student.metrics.get(name))
            for name in metrics
        ]
        lines.append([label, *costs, *values])
    return header, lines


def summary_values(runs: Sequence[Run]) -> list[list[Any]]:
    """Header and one line per run and model, unrounded."""
    varied, metrics = varied_keys(runs), dict.fromkeys(name for run in runs for row in run.rows for name in row.metrics)
    costs = ["num_parameters", "macs", "size_mib", "latency_ms"]
    table: list[list[Any]] = [["run", *map(_title, varied), "model", *costs, *metrics]]
    for run in runs:
        settings = [run.name, *(_value(run, key) for key in varied)]
        for row in run.rows:
            table.append(
                [*settings, row.name, *(getattr(row, key) for key in costs), *(row.metrics.get(key) for key in metrics)]
            )
        if not run.rows:
            table.append([*settings, "unfinished", *[None] * (len(costs) + len(metrics))])
    return table


def varied_keys(runs: Sequence[Run]) -> list[str]:
    """Configuration keys in which the runs differ; of keys that vary together only the first is named."""
    keys = dict.fromkeys(key for run in runs for key in run.config if key.split(".")[0] not in DERIVED)
    patterns: dict[tuple[int, ...], str] = {}
    for key in sorted(keys, key=lambda key: (not key.endswith("._target_"), key.count("."))):
        values = [run.config.get(key, "") for run in runs]
        pattern = tuple(values.index(value) for value in values)
        if len(set(pattern)) > 1:
            patterns.setdefault(pattern, key)
    return list(patterns.values())


def _read(folder: Path, base: Path) -> Run:
    name = folder.relative_to(base).as_posix()
    try:
        config = _flat(OmegaConf.to_container(OmegaConf.load(folder / "config.yaml")))
        if not (folder / "report.json").is_file():
            return Run(name, config)
        rows = json.loads((folder / "report.json").read_text())["rows"]
        return Run(name, config, tuple(_row(row) for row in rows))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{folder}: unreadable report ({' '.join(str(error).split())[:120]})") from error


def _row(facts: Mapping[str, Any]) -> Row:
    metrics = {name: float("nan") if value is None else value for name, value in facts["metrics"].items()}
    latency = facts["latency_ms"]
    return Row(
        name=facts["name"],
        num_parameters=facts["num_parameters"],
        macs=facts["macs"],
        size_mib=facts["size_mib"],
        latency_ms=float("nan") if latency is None else latency,
        metrics=metrics,
    )


def _flat(node: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(node, Mapping):
        return {k: v for key, item in node.items() for k, v in _flat(item, f"{prefix}{key}.").items()}
    return {prefix.rstrip("."): str(node)}


def _cost(student: Row, teacher: Row | None, key: str) -> str:
    factor = times(ratio(getattr(teacher, key), getattr(student, key))) if teacher else ""
    return f"{short(getattr(student, key))} {factor}".rstrip()


def _label(run: Run, varied: Sequence[str]) -> str:
    return ", ".join(_value(run, key) for key in varied) or run.name


def _title(key: str) -> str:
    """`initializer._target_` is the choice of the group `initializer`."""
    return key.removesuffix("._target_")


def _value(run: Run, key: str) -> str:
    value = run.config.get(key, DASH)
    return value.rpartition(".")[2] if key.endswith("_target_") else value


def _plot(runs: Sequence[Run], metric: str, path: Path) -> None:
    """One line per combination of settings other than the ratio; the teacher as a star."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    varied = [key for key in varied_keys(runs) if not key.endswith("ratio")]
    lines: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        if (student := run.row("student")) is not None and metric in student.metrics:
            lines.setdefault(", ".join(_value(run, key) for key in varied) or "student", []).append(
                (student.macs, student.metrics[metric])
            )
    teachers = {
        (row.macs, row.metrics[metric]) for run in runs if (row := run.row("teacher")) and metric in row.metrics
    }
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xscale="log", xlabel="multiply-accumulates of one image", ylabel=metric)
    for label, points in lines.items():
        axes.plot(*zip(*sorted(points), strict=True), "o-", label=label)
    if teachers:
        axes.plot(*zip(*sorted(teachers), strict=True), "k*", markersize=12, linestyle="none", label="teacher")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150, format="png")


def main() -> None:
    """`python -m limbeck.sweep DIR`."""
    parser = argparse.ArgumentParser(prog="python -m limbeck.sweep", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder that holds the runs, e.g. outputs/quickstart")
    folder = parser.parse_args().folder
    with exit_on_user_error():
        runs = read_runs(folder)
        if not runs:
            raise UserError(f"{folder}: holds no run; give a folder below which run folders with a config.yaml lie")
        print(write_summary(runs, folder))


if __name__ == "__main__":
    main()
