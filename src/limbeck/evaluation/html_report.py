"""report.html: one file that shows a run to a colleague; pictures and curves are inside, nothing is fetched."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from omegaconf import OmegaConf

from limbeck.evaluation.curves import charts
from limbeck.evaluation.figures import (
    TIMES,
    heading,
    highlights,
    latency_words,
    measured,
    metric_names,
    notes,
    saved,
    shipped_table,
    short,
    sparsest,
    times,
)
from limbeck.evaluation.pages import Cell, Picture, facts, inline, page, picture
from limbeck.evaluation.report import SCORES_PICTURE, SOURCE_PICTURE, STAGES_PICTURE, TARGET_PICTURE, Report, Row
from limbeck.loggers.table import read_table

COSTS = {"parameters": "num_parameters", "MACs": "macs", "size MiB": "size_mib", "latency ms": "latency_ms"}
RATE = "speed/images_per_second"


def html_report(report: Report, folder: Path) -> str:
    """The whole page; curves come from `folder`'s metrics.csv, pictures from the rows' grids."""
    rows, shown = read_table(folder / "metrics.csv"), ("date", "hardware", "commit")
    return page(
        "report.html",
        title=heading(report, folder),
        subtitle=" · ".join(str(report.versions[key]) for key in shown if key in report.versions),
        highlights=highlights(report),
        table=_table(report),
        shipped=_shipped(report),
        notes=_notes(report),
        grids=_grids(report, folder),
        compared=_compared(report),
        stages_picture=_optional(folder / STAGES_PICTURE, "from noise to image"),
        scores_picture=_optional(folder / SCORES_PICTURE, "scores per group"),
        charts=charts(rows),
        speed=_speed(rows),
        sparsity="\n".join(f"{name}: {share}" for name, share in sparsest(report).items()),
        protocol=facts(report.protocol),
        steps=_steps(report),
        terms=list(dict.fromkeys(row.terms for row in report.rows if row.terms)),
        versions=facts(report.versions),
        config=_config(report.config),
    )


def _table(report: Report) -> dict[str, Any]:
    teacher, metrics = report.row("teacher"), metric_names(report.rows)
    head = [name.replace("_", " ") for name in ["", *COSTS, *metrics]]
    lines = []
    for row in report.rows:
        cells = [Cell(row.name)]
        for cost in COSTS.values():
            value = getattr(row, cost)
            factor = times(saved(teacher, row, cost)) or (latency_words(row) if cost == "latency_ms" else "")
            cells.append(Cell(short(value), factor, f"{value:,}" if isinstance(value, int) else ""))
        cells += [Cell(measured(row, name)) for name in metrics]
        lines.append((row.name, cells))
    return {"head": head, "rows": lines}


def _shipped(report: Report) -> dict[str, Any] | None:
    head, lines = shipped_table(report.rows)
    return {"head": head, "rows": [("", [Cell(text) for text in line]) for line in lines]} if lines else None


def _notes(report: Report) -> list[str]:
    explained = [f"{TIMES}: times smaller, or faster, than the teacher"] if report.row("teacher") else []
    return [*explained, *notes(report)]


def _grids(report: Report, folder: Path) -> list[tuple[Picture, str]]:
    """The rows' pictures with a word each; above them what a translation starts from, below them what is wanted."""
    found = [(_grid(row), f"{short(row.num_parameters)} parameters") for row in report.rows if row.grid]
    columns = found[0][0].columns if found else 0
    source, target = (folder / name for name in (SOURCE_PICTURE, TARGET_PICTURE))
    if source.is_file():
        found.insert(0, (picture(source, "images to start from", row="source", columns=columns), "what all start from"))
    if target.is_file():
        found.append((picture(target, "wanted images", row="target", columns=columns), "what is wanted"))
    return found


def _grid(row: Row) -> Picture:
    assert row.grid is not None
    return picture(row.grid, f"images of the {row.name}", row=row.name, columns=row.grid_columns)


def _compared(report: Report) -> tuple[str, str] | None:
    """Names of the two rows that can be looked at side by side."""
    rows = [row for name in ("teacher", "student") if (row := report.row(name)) and row.grid and row.grid_columns]
    return (rows[0].name, rows[1].name) if len(rows) == 2 else None


def _optional(path: Path, description: str) -> Picture | None:
    return picture(path, description) if path.is_file() else None


def _speed(rows: list[dict[str, float]]) -> str:
    rates = [row[RATE] for row in rows if row.get(RATE)]
    if not rates:
        return ""
    kimg = rows[-1]["kimg"]
    minutes = kimg * 1000 / median(rates) / 60
    duration = f"{short(minutes)} minutes" if minutes < 300 else f"{short(minutes / 60)} hours"
    return f"{short(kimg)} kimg at {short(median(rates))} images/s (median), {duration} of training"


def _steps(report: Report) -> list[tuple[str, str]]:
    history = max((row.history for row in report.rows), key=len, default=())
    return [
        (
            str(entry.get("stage", "?")),
            ", ".join(f"{name} {inline(value)}" for name, value in entry.items() if name != "stage"),
        )
        for entry in history
    ]


def _config(config: Mapping[str, Any]) -> str:
    return OmegaConf.to_yaml(OmegaConf.create(json.loads(json.dumps(config, default=str)))) if config else ""
