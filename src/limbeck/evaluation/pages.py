"""Web pages from the templates beside this file: one file each, nothing is fetched, every text is escaped."""

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

SMALL = 512  # pictures narrower than this are enlarged without smoothing


@dataclass(frozen=True)
class Cell:
    """Of a table: `small` stands below the text, `exact` is shown on pointing."""

    text: str
    small: str = ""
    exact: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG as base64. row: the model it shows; columns: images in each of its lines, 0 if it is not a grid."""

    data: str
    description: str
    small: bool = False
    row: str = ""
    columns: int = 0


@dataclass(frozen=True)
class Facts:
    """Names and texts, and below headings more of them."""

    flat: list[tuple[str, str]] = field(default_factory=list)
    deep: list[tuple[str, "Facts"]] = field(default_factory=list)


def page(template: str, **values: Any) -> str:
    """A whole page. Raises: jinja2.UndefinedError for a value that the template needs and does not get."""
    return _environment().get_template(template).render(**values) + "\n"


def picture(path: Path, description: str, *, row: str = "", columns: int = 0) -> Picture:
    """The picture as it goes into a page."""
    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        small = image.width < SMALL
    return Picture(base64.b64encode(content).decode(), description, small, row, columns)


def facts(known: Mapping[str, Any]) -> Facts:
    """Values as lists for reading; a mapping of mappings gets a heading of its own."""
    deep = {name: value for name, value in known.items() if _is_deep(value)}
    flat = [(words(name), inline(value)) for name, value in known.items() if name not in deep]
    return Facts(flat, [(words(name), facts(value)) for name, value in deep.items()])


def words(name: Any) -> str:
    """A key as people read it."""
    return str(name).replace("_", " ")


def inline(value: Any) -> str:
    """A value on one line; inner mappings as `name value` pairs."""
    if isinstance(value, Mapping):
        return "; ".join(f"{words(name)} {inline(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(inline(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _is_deep(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(item, Mapping) for item in value.values())


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
