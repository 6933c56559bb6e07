"""Pages of the documentation that are made, not written: choices, how papers were read, API."""

import ast
import html
import importlib.util
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

import limbeck
from limbeck.catalog import choices
from limbeck.configured import CONF

TOP = Path(__file__).resolve().parents[1]
SOURCE = TOP / "src" / "limbeck"
SUPPORT = ("limbeck.losses.weighted", "limbeck.pruning.pruner")  # what choices are wrapped in


@dataclass(frozen=True)
class Reading:
    """What a docstring says of a paper. where: the module, and the function or class in it."""

    where: str
    source: str
    differs: str


def readings(file: Path) -> list[Reading]:
    """Every `Source:` and `Differs:` of a module's docstrings, in their order."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    module = ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
    found = []
    for node, name in _documented(tree, module):
        source, differs = said(ast.get_docstring(node) or "")
        if source or differs:
            found.append(Reading(name, source, differs))
    return found


def _documented(node: ast.AST, name: str) -> Iterator[tuple[ast.AST, str]]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
        yield node, name
        for child in node.body:
            yield from _documented(child, f"{name}.{getattr(child, 'name', '')}")


def said(docstring: str) -> tuple[str, str]:
    """(what follows `Source:`, what follows `Differs:`), each up to its paragraph's end or the other; joined."""
    parts: dict[str, list[str]] = {"Source": [], "Differs": []}
    for paragraph in re.split(r"\n\s*\n", docstring):
        pieces = re.split(r"\b(Sources?|Differs):", " ".join(paragraph.split()))
        for key, text in zip(pieces[1::2], pieces[2::2], strict=True):
            parts[key.removesuffix("s") if key == "Sources" else key].append(text.strip())
    return " ".join(parts["Source"]), " ".join(parts["Differs"])


def paper_of(source: str) -> str:
    """ "Authors, year" of a `Source:`; "" if it names none."""
    found = re.match(r"\"?([A-Z][\w\s&.'-]*?(?: et al\.| and [\w-]+| & [\w-]+)?),.*?\b((?:19|20)\d\d)\b", source)
    return f"{found[1]}, {found[2]}" if found else ""


def papers_page() -> str:
    """All readings by paper; what has no paper of its own stands under its module's."""
    by_paper: dict[str, list[Reading]] = {}
    for file in sorted(SOURCE.rglob("*.py")):
        own = ""
        for reading in readings(file):
            paper = paper_of(reading.source) or own or "Other sources"
            own = own or paper
            by_paper.setdefault(paper, []).append(reading)
    differing = sum(bool(reading.differs) for each in by_paper.values() for reading in each)
    parts = [
        "# How each paper was read",
        f"Collected from the docstrings: where a formula stands in the paper, and the {differing} places where this "
        "code does otherwise, with the reason.",
    ]
    for paper in sorted(by_paper, key=lambda name: (name == "Other sources", name)):
        parts.append(f"## {html.escape(paper)}")
        for reading in by_paper[paper]:
            source = f": {html.escape(reading.source)}" if reading.source else ""
            differs = f" **Differs:** {html.escape(reading.differs)}" if reading.differs else ""
            parts.append(f"- `{reading.where.removeprefix('limbeck.')}`{source}{differs}")
    return "\n\n".join(parts) + "\n"


def targets(node: object) -> Iterator[str]:
    """Every `_target_` of a YAML file."""
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key == "_target_")
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from targets(item)


def sources_of(file: Path) -> list[Reading]:
    """What the Python behind a choice says of its paper."""
    found: list[Reading] = []
    for target in dict.fromkeys(targets(yaml.safe_load(file.read_text(encoding="utf-8")))):
        module = target.rpartition(".")[0]
        if not module.startswith("limbeck.") or module in SUPPORT:
            continue
        spec = importlib.util.find_spec(module)
        assert spec is not None, target
        assert spec.origin is not None, target
        found += [reading for reading in readings(Path(spec.origin)) if reading not in found]
    return found


def table_rows(results: str, section: str, cells: list[str]) -> list[str]:
    """Header, rule and the rows that hold all `cells`, of the first table in a section of RESULTS.md that has any.

    Raises: KeyError if there is no such section or row: the figures have moved, and `docs/measured.yaml` must follow.
    """
    found = re.search(rf"^## {re.escape(section)}$(.*?)(?=^## |\Z)", results, flags=re.MULTILINE | re.DOTALL)
    if found is None:
        raise KeyError(f"RESULTS.md has no section {section!r}")
    for table in re.findall(r"(?:^\|.*\n)+", found[1], flags=re.MULTILINE):
        header, rule, *rows = table.splitlines()
        chosen = [row for row in rows if set(cells) <= {cell.strip(" *") for cell in row.split("|")}]
        if chosen:
            return [header, rule, *chosen]
    raise KeyError(f"no row of RESULTS.md, {section!r}, holds {cells}")


def measured(group: str, name: str, results: str) -> list[str]:
    """Paragraphs on what a choice was measured to do; none if it was not."""
    known = yaml.safe_load((TOP / "docs" / "measured.yaml").read_text(encoding="utf-8"))
    entry = known.get(f"{group}/{name}")
    if entry is None and group == "experiment" and f"`{name}`" in results:
        entry = {"section": "Published runs", "cells": [f"`{name}`"]}
    if entry is None:
        return []
    try:
        rows = table_rows(results, entry["section"], entry["cells"])
    except KeyError:
        if f"{group}/{name}" in known:
            raise
        return []
    return [f"*Measured* ([results](../results.md), {entry['section']}):", "\n".join(rows)]


def group_page(group: str) -> str:
    """Every choice with its comment, what it is from, what it was measured to do, and its settings."""
    results = (TOP / "RESULTS.md").read_text(encoding="utf-8")
    parts = [f"# {group}", f"`{group}=NAME` on the command line; the files of `conf/{group}`."]
    for choice in choices(group):
        file = CONF / group / f"{choice.name}.yaml"
        parts += [f"## {choice.name}", html.escape(choice.comment, quote=False)]
        for reading in sources_of(file):
            text = f"*Source:* {reading.source}" if reading.source else ""
            text += f" *Differs:* {reading.differs}" if reading.differs else ""
            parts.append(f"- `{reading.where.removeprefix('limbeck.')}` {html.escape(text, quote=False)}")
        parts += measured(group, choice.name, results)
        parts.append(f"```yaml\n{file.read_text(encoding='utf-8').rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def results_page() -> str:
    """RESULTS.md, its pictures beside it."""
    return (TOP / "RESULTS.md").read_text(encoding="utf-8").replace("](docs/", "](")


def api_page() -> str:
    """Signatures and docstrings of what the package exports."""
    parts = ["# API", "Everything below is imported when first used."]
    for name in limbeck.__all__:
        value = getattr(limbeck, name)
        if not callable(value) or inspect.ismodule(value):
            continue
        known = not (inspect.isclass(value) and issubclass(value, Exception))
        signature = f"{name}{inspect.signature(value)}\n\n" if known else ""
        parts += [f"## limbeck.{name}", f"```text\n{signature}{inspect.getdoc(value)}\n```"]
    return "\n\n".join(parts) + "\n"
