"""What a search looks for: one or several numbers of the student's row in a report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from limbeck.errors import UserError

COSTS = ("num_parameters", "macs", "size_mib", "latency_ms")  # attributes of a row; less is better
STUDENT = "student"
Way = Literal["minimize", "maximize"]


def objectives(setting: Any) -> tuple[str, ...]:
    """`objective` of a configuration as names; none for null. Raises: UserError if it is anything but names."""
    names = [] if setting is None else [setting] if isinstance(setting, str) else setting
    if not isinstance(names, Sequence) or not all(isinstance(name, str) and name for name in names):
        raise UserError(f"objective={setting}: must be a name such as kid_lite0, or several: [kid_lite0,macs]")
    if len(set(names)) < len(names):
        raise UserError(f"objective={list(names)}: names the same number twice")
    return tuple(names)


def check_objectives(setting: Any, ranks: Mapping[str, bool]) -> None:
    """Find out before a run whether its report will have what is looked for.

    ranks: of the protocol, see `Protocol.ranks`. Raises: UserError naming the objective and what is allowed.
    """
    for name in objectives(setting):
        if name not in COSTS and name not in ranks:
            allowed = ", ".join((*COSTS, *ranks))
            raise UserError(f"objective={name}: not measured by this protocol; allowed: {allowed}")


def directions(names: Sequence[str], ranks: Mapping[str, bool]) -> list[Way]:
    """ "minimize" or "maximize" for each objective."""
    return ["maximize" if ranks.get(name, False) else "minimize" for name in names]


def reached(names: Sequence[str], report: Path) -> tuple[float, ...]:
    """The objectives as a report.json has them, NaN where it has no number.

    Raises: UserError if an objective is not in the report, which another protocol may have made.
    """
    rows = json.loads(report.read_text())["rows"]
    row = next((row for row in rows if row["name"] == STUDENT), rows[-1])
    values = {name: row[name] for name in COSTS} | row["metrics"]
    for name in names:
        if name not in values:
            raise UserError(f"objective={name}: not in {report}; allowed: {', '.join(values)}")
    return tuple(float("nan") if values[name] is None else float(values[name]) for name in names)
