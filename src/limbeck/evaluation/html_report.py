"""report.html: one file that shows a run to a colleague; pictures and curves are inside, nothing is fetched."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from limbeck.evaluation.curves import curves_html
from limbeck.evaluation.figures import TIMES, heading, highlights, measured, metric_names, ratio, short, times
from limbeck.evaluation.html_style import STYLE
from limbeck.loggers.table import read_table

if TYPE_CHECKING:
    from limbeck.evaluation.report import Report, Row

COSTS = {"parameters": "num_parameters", "MACs": "macs", "size MiB": "size_mib", "latency ms": "latency_ms"}
RATE = "speed/images_per_second"
SCORES_PICTURE, STAGES_PICTURE = "scores.png", "samples/stages.png"


def html_report(report: Report, folder: Path) -> str:
    """The whole page; curves come from `folder`'s metrics.csv, pictures from the rows' grids."""
    title, rows = heading(report, folder), read_table(folder / "metrics.csv")
    sections = [
        ("Teacher and student", _table(report)),
        ("The same latents in every row", "".join(_figure(row) for row in report.rows if row.grid)),
        ("From noise to image", _stages_picture(folder / STAGES_PICTURE)),
        ("Channels kept", _scores(folder / SCORES_PICTURE)),
        ("Training", _speed(rows) + curves_html(rows)),
        ("How the numbers were measured", _facts(report.protocol)),
        ("Stages", _stages(report)),
        ("Terms of the weights", "".join(f"<p>{escape(term)}</p>" for term in _terms(report))),
        ("Software and hardware", _facts(report.versions)),
        ("", _config(report.config)),
    ]
    body = "".join(
        f"<section>{f'<h2>{escape(name)}</h2>' if name else ''}{content}</section>"
        for name, content in sections
        if content
    )
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f"{_head(report, title)}{body}</main></body></html>\n"
    )


def _head(report: Report, title: str) -> str:
    subtitle = " · ".join(str(report.versions[key]) for key in ("date", "hardware", "commit") if key in report.versions)
    cards = "".join(
        f"<div class='highlight'><b>{escape(item.value)}</b><span>{escape(item.caption)}</span></div>"
        for item in highlights(report)
    )
    return (
        f"<header><h1>{escape(title)}</h1><p class='subtitle'>{escape(subtitle)}</p></header>"
        f"<div class='highlights'>{cards}</div>"
    )


def _table(report: Report) -> str:
    teacher, metrics = report.row("teacher"), metric_names(report.rows)
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in ["", *COSTS, *metrics])
    lines = []
    for row in report.rows:
        cells = [f"<td>{escape(row.name)}</td>"]
        for attribute in COSTS.values():
            value = getattr(row, attribute)
            factor = times(ratio(getattr(teacher, attribute), value)) if teacher and row is not teacher else ""
            exact = f" title='{value:,}'" if isinstance(value, int) else ""
            cells.append(f"<td{exact}>{short(value)}{f'<small>{factor}</small>' if factor else ''}</td>")
        cells += [f"<td>{measured(row, name)}</td>" for name in metrics]
        lines.append(f"<tr class='{escape(row.name, quote=True)}'>{''.join(cells)}</tr>")
    notes = "".join(f"<p class='note'>{escape(note)}</p>" for note in report.notes)
    explained = f"<p class='note'>{TIMES}: times smaller, or faster, than the teacher</p>" if teacher else ""
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f"<div class='scroll'>{table}</div>{explained}{notes}"


def _figure(row: Row) -> str:
    return (
        f"<figure><figcaption>{escape(row.name)}<small>{short(row.num_parameters)} parameters</small></figcaption>"
        f"{_picture(row.grid, f'images of the {row.name}') if row.grid else ''}</figure>"
    )


def _picture(path: Path, description: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f"<img alt='{escape(description, quote=True)}' src='data:image/png;base64,{data}'>"


def _scores(path: Path) -> str:
    if not path.is_file():
        return ""
    words = "Scores per group of channels, best first; below them which channels stay, in their order."
    return f"<p class='note'>{words}</p>{_picture(path, 'scores per group')}"


def _stages_picture(path: Path) -> str:
    if not path.is_file():
        return ""
    words = "One row per model in the order of the table, the same noise in each; evenly spread steps."
    return f"<p class='note'>{words}</p>{_picture(path, 'from noise to image')}"


def _speed(rows: list[dict[str, float]]) -> str:
    rates = [row[RATE] for row in rows if row.get(RATE)]
    if not rates:
        return ""
    kimg = rows[-1]["kimg"]
    minutes = kimg * 1000 / median(rates) / 60
    duration = f"{short(minutes)} minutes" if minutes < 300 else f"{short(minutes / 60)} hours"
    return (
        f"<p class='note' style='margin:0'>{short(kimg)} kimg at {short(median(rates))} images/s (median), "
        f"{duration} of training</p>"
    )


def _stages(report: Report) -> str:
    history = max((row.history for row in report.rows), key=len, default=())
    items = "".join(
        f"<li><b>{escape(str(entry.get('stage', '?')))}</b> <span>"
        + escape(", ".join(f"{name} {_inline(value)}" for name, value in entry.items() if name != "stage"))
        + "</span></li>"
        for entry in history
    )
    return f"<ol>{items}</ol>" if items else ""


def _terms(report: Report) -> list[str]:
    return list(dict.fromkeys(row.terms for row in report.rows if row.terms))


def _facts(facts: Mapping[str, Any]) -> str:
    """Values as a description list; a mapping of mappings becomes a heading and a list of its own."""
    deep = {name: value for name, value in facts.items() if _is_deep(value)}
    items = "".join(
        f"<dt>{escape(_words(name))}</dt><dd>{escape(_inline(value))}</dd>"
        for name, value in facts.items()
        if name not in deep
    )
    lists = "".join(f"<h3>{escape(_words(name))}</h3>{_facts(value)}" for name, value in deep.items())
    return (f"<dl>{items}</dl>" if items else "") + lists


def _is_deep(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(item, Mapping) for item in value.values())


def _words(name: str) -> str:
    return str(name).replace("_", " ")


def _inline(value: Any) -> str:
    """A value on one line; inner mappings as `name value` pairs."""
    if isinstance(value, Mapping):
        return "; ".join(f"{_words(name)} {_inline(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_inline(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _config(config: Mapping[str, Any]) -> str:
    if not config:
        return ""
    text = OmegaConf.to_yaml(OmegaConf.create(json.loads(json.dumps(config, default=str))))
    return f"<details><summary>Configuration</summary><pre>{escape(text)}</pre></details>"
