"""report.md: the same facts as report.html for terminals, READMEs and code review."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from limbeck.evaluation.figures import (
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
from limbeck.evaluation.report import SOURCE_PICTURE, STAGES_PICTURE, TARGET_PICTURE, Report, Row


def markdown_report(report: Report, folder: Path) -> str:
    """The whole document; pictures are linked relative to `folder`."""
    parts = [
        f"# {heading(report, folder)}",
        _headline(report),
        markdown_table(report),
        shipped_markdown(report),
        *(f"- {note}" for note in notes(report)),
    ]
    pictures = [row for row in report.rows if row.grid is not None]
    if pictures:
        parts.append("## The same latents in every row")
        shown = [(row.name, _link(row.grid, folder)) for row in pictures]
        given = [("source", SOURCE_PICTURE)], [("target", TARGET_PICTURE)]  # of a translation
        before, after = ([pair for pair in pairs if (folder / pair[1]).is_file()] for pairs in given)
        parts += [f"**{name}**\n\n![{name}]({link})" for name, link in (*before, *shown, *after)]
    if (folder / STAGES_PICTURE).is_file():
        parts.append(f"## From noise to image\n\n![one row per model, in the order of the table]({STAGES_PICTURE})")
    if layers := sparsest(report):
        parts += ["## Weights switched off", "\n".join(_bullets(layers))]
    parts += ["## Protocol", "\n".join(_bullets(report.protocol))]
    history = max((row.history for row in report.rows), key=len, default=())
    if history:
        parts += ["## Stages", "\n".join(f"{i}. {_stage(entry)}" for i, entry in enumerate(history, 1))]
    terms = list(dict.fromkeys(row.terms for row in report.rows if row.terms))
    if terms:
        parts += ["## Terms of the weights", *terms]
    parts += ["## Versions", "\n".join(_bullets(report.versions))]
    config = OmegaConf.to_yaml(OmegaConf.create(_as_dict(report.config)))
    parts.append(f"<details><summary>Configuration</summary>\n\n```yaml\n{config}```\n\n</details>")
    return "\n\n".join(part for part in parts if part) + "\n"


def shipped_markdown(report: Report) -> str:
    """The latencies as shipped, if they were measured."""
    head, lines = shipped_table(report.rows)
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *lines)) if lines else ""


def markdown_table(report: Report) -> str:
    """One line per row; in brackets how many times smaller than the teacher."""
    teacher = report.row("teacher")
    names = metric_names(report.rows)
    lines = [["model", "parameters", "MACs", "size MiB", "latency ms", *names]]
    for row in report.rows:
        costs = [_cost(teacher, row, name) for name in ("num_parameters", "macs", "size_mib", "latency_ms")]
        lines.append([row.name, *costs, *(measured(row, name) for name in names)])
    rule = ["---", *["---:"] * (len(lines[0]) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (lines[0], rule, *lines[1:]))


def _headline(report: Report) -> str:
    return " · ".join(f"**{item.value}** {item.caption}" for item in highlights(report))


def _cost(teacher: Row | None, row: Row, cost: str) -> str:
    factor = times(saved(teacher, row, cost)) or (latency_words(row) if cost == "latency_ms" else "")
    return f"{short(getattr(row, cost))} ({factor})" if factor else short(getattr(row, cost))


def _link(grid: Path | None, folder: Path) -> str:
    return Path(os.path.relpath(grid or folder, folder)).as_posix().replace(" ", "%20")


def _bullets(facts: Mapping[str, Any], indent: str = "") -> list[str]:
    lines = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}- {name}", *_bullets(value, indent + "  ")]
        else:
            lines.append(f"{indent}- {name}: {value}")
    return lines


def _stage(entry: Mapping[str, Any]) -> str:
    facts = ", ".join(f"{name} {_brief(value)}" for name, value in entry.items() if name != "stage")
    return f"**{entry.get('stage', '?')}**{': ' + facts if facts else ''}"


def _brief(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _as_dict(config: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(config, default=str))
