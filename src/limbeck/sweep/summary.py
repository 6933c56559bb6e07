"""The table of a sweep, written with its values and picture."""

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from limbeck.entry import exit_on_user_error
from limbeck.errors import UserError
from limbeck.evaluation.figures import ARROW, main_metric, metric_names, ratio, short, times
from limbeck.evaluation.report import Row
from limbeck.files import written_aside
from limbeck.sweep.front import best_lines, found, save_front
from limbeck.sweep.picture import save_curves, save_picture
from limbeck.sweep.runs import Run, cells, read_runs, setting, title, varied_keys


def write_summary(runs: Sequence[Run], folder: Path) -> str:
    """Write sweep.md, sweep.csv and, once a run is finished, sweep.png; returns the Markdown table.

    Runs with `callback=[…,evaluate_periodically]` also give sweep_curves.png, runs with an `objective` the best of
    them, and with several sweep_front.png.
    """
    header, lines = summary_table(runs)
    markdown = "\n".join("| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *lines))
    result = found(runs)
    if result is not None:
        markdown = "\n".join([markdown, "", *best_lines(result, runs)])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(summary_values(runs))
    for name, content in (("sweep.md", markdown + "\n"), ("sweep.csv", text.getvalue())):
        with written_aside(folder / name) as aside:
            aside.write_text(content, encoding="utf-8")
    if result is not None and len(result.names) > 1:
        with written_aside(folder / "sweep_front.png") as aside:
            save_front(result, aside)
    metric = main_metric([row for run in runs for row in run.rows])
    if metric and any(run.row("student") for run in runs):
        with written_aside(folder / "sweep.png") as aside:
            save_picture(runs, metric, aside)
        if any(len(run.curve(metric)) > 2 for run in runs):
            with written_aside(folder / "sweep_curves.png") as aside:
                save_curves(runs, metric, aside)
    return markdown


def summary_table(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Header and one line per cell for people: what differs, cost with the factor saved, metrics before -> after.

    Over several seeds a metric is its mean and standard deviation.
    """
    varied, metrics = varied_keys(runs), metric_names([row for run in runs for row in run.rows])
    header = [", ".join(map(title, varied)) or "run", "seeds", "parameters", "MACs", "latency ms", *metrics]
    judged = any(run.logit_gap() is not None for run in runs)
    header += ["logit gap"] if judged else []
    lines = []
    for cell in cells(runs):
        student, teacher = cell.first("student"), cell.first("teacher")
        if student is None:
            lines.append([cell.label, "unfinished", *[""] * (len(header) - 2)])
            continue
        done = sum(run.row("student") is not None for run in cell.runs)
        seeds = str(done) if done == len(cell.runs) else f"{done} of {len(cell.runs)}"
        costs = [_cost(student, teacher, key) for key in ("num_parameters", "macs", "latency_ms")]
        values = []
        for name in metrics:
            before, after = _spread(cell.found("pruned", name)), _spread(cell.found("student", name))
            values.append(f"{before} {ARROW} {after}" if before else after)
        if judged:
            values.append(_spread([gap for run in cell.runs if (gap := run.logit_gap()) is not None]))
        lines.append([cell.label, seeds, *costs, *values])
    return header, lines


def summary_values(runs: Sequence[Run]) -> list[list[Any]]:
    """Header and one line per run and model, unrounded."""
    varied, metrics = varied_keys(runs), dict.fromkeys(name for run in runs for row in run.rows for name in row.metrics)
    costs = ["num_parameters", "macs", "size_mib", "latency_ms"]
    table: list[list[Any]] = [["run", "seed", *map(title, varied), "model", *costs, *metrics]]
    for run in runs:
        settings = [run.name, run.config.get("seed", ""), *(setting(run, key) for key in varied)]
        for row in run.rows:
            table.append(
                [*settings, row.name, *(getattr(row, key) for key in costs), *(row.metrics.get(key) for key in metrics)]
            )
        if not run.rows:
            table.append([*settings, "unfinished", *[None] * (len(costs) + len(metrics))])
    return table


def _spread(values: Sequence[float]) -> str:
    """The mean, with the standard deviation if there are several values; empty for none."""
    if not values:
        return ""
    return short(mean(values)) + (f" ± {float(f'{stdev(values):.2g}'):g}" if len(values) > 1 else "")


def _cost(student: Row, teacher: Row | None, key: str) -> str:
    factor = times(ratio(getattr(teacher, key), getattr(student, key))) if teacher else ""
    return f"{short(getattr(student, key))} {factor}".rstrip()


def main() -> None:
    """Write and print the summary of the runs below the folder named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m limbeck.sweep", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder that holds the runs, e.g. outputs/quickstart")
    folder = parser.parse_args().folder
    with exit_on_user_error():
        runs = read_runs(folder)
        if not runs:
            raise UserError(f"{folder}: holds no run; give a folder below which run folders with a config.yaml lie")
        print(write_summary(runs, folder))
