"""Arguments of the public Python functions: each of the kind and within the limits that its docstring promises."""

import math
import operator
from typing import Any

from limbeck.errors import UserError


def whole(value: Any, name: str, *, at_least: int | None = None) -> int:
    """A whole number, also NumPy's. Raises: UserError naming the argument, its value and what is allowed."""
    limit = "" if at_least is None else f", at least {at_least}"
    try:
        found = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        found = None
    if found is None or (at_least is not None and found < at_least):
        what = f"{name}={value!r}: must be a whole number{limit}"
        if found is not None:
            what = f"{name}={value!r}: must be {limit.removeprefix(', ')}"
        raise UserError(what)
    return found


def number(value: Any, name: str, *, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number in [low, high]. Raises: UserError naming the argument, its value and what is allowed."""
    try:
        found = math.nan if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError, RuntimeError):
        found = math.nan
    if not math.isfinite(found) or not low <= found <= high:
        limits = f" in [{low:g}, {high:g}]" if math.isfinite(low) else ""
        raise UserError(f"{name}={value!r}: must be a finite number{limits}")
    return found


def switch(value: Any, name: str) -> bool:
    """Raises: UserError for anything else than True and False."""
    if not isinstance(value, bool):
        raise UserError(f"{name}={value!r}: must be True or False")
    return value


def one_of(value: Any, name: str, allowed: tuple[str, ...]) -> str:
    """Raises: UserError for any other value."""
    if not isinstance(value, str) or value not in allowed:
        raise UserError(f"{name}={value!r}: must be one of {', '.join(allowed)}")
    return value


def kind(value: Any, name: str, wanted: type, what: str) -> Any:
    """Raises: UserError for a value of another class. what: how a reader makes one."""
    if not isinstance(value, wanted):
        raise UserError(f"{name}: {type(value).__name__}, must be {what}")
    return value
