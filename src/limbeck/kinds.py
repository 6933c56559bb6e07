"""Which values of a configuration are whole numbers, numbers, text or switches, and the refusal of any other kind.

A name means the same wherever it stands, so the YAML files in conf/ say what each one is: `num_images` is written whole
in all of them, `ratio` with a point in some. Lengths (`…kimg`, `…seconds`) may always be fractions.
"""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from limbeck.configured import CONF
from limbeck.errors import UserError

FRACTIONS = ("kimg", "seconds")  # endings of names of lengths
COUNTS = (("num_", ""), ("", "_size"))  # beginnings and endings of names of counts


def refuse_wrong_kinds(config: Any, default: Any, overrides: Sequence[str]) -> None:
    """Refuse text for a number, a fraction for a whole number, infinity, and anything else than yes or no for a switch.

    Whole numbers written with a point (3.2e1) become whole ones in `config`.

    default: the configuration of the same choices; of the `overrides`, as typed, each value must be of its kind there.
    Raises: UserError naming the key, its value and what is allowed.
    """
    from omegaconf import OmegaConf

    container: Any = OmegaConf.to_container(config)
    for key, value in leaves({name: node for name, node in container.items() if name not in ("hydra", "pipeline")}):
        whole = _checked(key, value)
        if whole is not value:
            OmegaConf.update(config, key, whole)
    for key in (override.lstrip("+~").partition("=")[0] for override in overrides):
        before, after = (OmegaConf.select(node, key) for node in (default, config))
        if isinstance(before, bool) and not isinstance(after, bool):
            raise UserError(f"{key}={after!r}: must be true or false")
        if _is_number(before) and not _is_number(after) and not key.startswith("trainer."):
            raise UserError(f"{key}={after!r}: must be a number")


def leaves(node: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every value below a mapping or list with its dotted key."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from leaves(value, f"{where}.{name}" if where else str(name))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from leaves(value, f"{where}.{index}")
    else:
        yield where, node


def _checked(key: str, value: Any) -> Any:
    """The value, whole if its name says so. Raises: UserError for another kind."""
    name = next((part for part in reversed(key.split(".")) if not part.isdigit()), key)
    kind = _kinds().get(name)
    if not _is_number(value):
        if kind is not None and isinstance(value, str | bool) and not str(value).startswith("${"):
            raise UserError(f"{key}={value!r}: must be a {'whole ' if kind is int else ''}number")
        return value
    if not math.isfinite(value):
        raise UserError(f"{key}={value}: must be a finite number")
    if value < 0 and any(name.startswith(start) and name.endswith(end) for start, end in COUNTS):
        raise UserError(f"{key}={value}: must be at least 0")
    if kind is not int:
        return value
    if value != int(value):
        raise UserError(f"{key}={value}: must be a whole number, such as {math.floor(value)} or {math.ceil(value)}")
    return value if isinstance(value, int) else int(value)


@functools.cache
def _kinds() -> dict[str, type]:
    """int or float for each name that has nothing but numbers (or null) in the YAML files."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster than OmegaConf
    found: dict[str, set[type]] = {}
    for path in CONF.rglob("*.yaml"):
        for key, value in leaves(yaml.load(path.read_text(encoding="utf-8"), loader)):
            name = next((part for part in reversed(key.split(".")) if not part.isdigit()), key)
            if value is not None and not str(value).startswith("${"):
                found.setdefault(name, set()).add(_kind(value))
    numbers = {name: kinds for name, kinds in found.items() if kinds <= {int, float}}
    return {
        name: float if float in kinds or name.endswith(FRACTIONS) else int for name, kinds in numbers.items() if name
    }


def _kind(value: Any) -> type:
    """Of a value as OmegaConf reads it: 1e-3 is a number for it, text for YAML."""
    try:
        return float if isinstance(value, str) and math.isfinite(float(value)) else type(value)
    except ValueError:
        return str


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
