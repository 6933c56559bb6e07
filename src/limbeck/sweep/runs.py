"""The runs below a folder: read, compared setting by setting, gathered over seeds."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from limbeck.errors import UserError
from limbeck.evaluation.figures import DASH
from limbeck.evaluation.objective import COSTS, objectives
from limbeck.evaluation.report import Row
from limbeck.loggers.table import KEY, read_table

LOSSES = ("loss.generator", "loss.discriminator")  # groups of which several are chosen at once
DERIVED = ("pipeline", "run_name", "objective")  # repeat other keys, follow from them, or change nothing


@dataclass(frozen=True)
class Run:
    """One run folder: its resolved configuration, flattened, the rows of its report, if it is finished, and its log.

    objective: what a search looks for. ranks: of the report's protocol, see `Protocol.ranks`.
    """

    name: str
    config: Mapping[str, str]
    rows: tuple[Row, ...] = ()
    log: tuple[Mapping[str, float], ...] = ()
    objective: tuple[str, ...] = ()
    ranks: Mapping[str, bool] = field(default_factory=dict)

    def reached(self) -> tuple[float, ...] | None:
        """The objectives of a finished run; None if it is not, or does not have them all as numbers."""
        student = self.row("student")
        values = {} if student is None else {**{name: getattr(student, name) for name in COSTS}, **student.metrics}
        found = tuple(values.get(name, math.nan) for name in self.objective)
        return found if found and all(math.isfinite(value) for value in found) else None

    def row(self, name: str) -> Row | None:
        return next((row for row in self.rows if row.name == name), None)

    def curve(self, metric: str) -> list[tuple[float, float]]:
        """The student's metric over kimg, as the log and the report have it; before training it is the start's."""
        points = [(row[KEY], row[f"metric/{metric}"]) for row in self.log if f"metric/{metric}" in row]
        start, student = self.row("initialized") or self.row("pruned"), self.row("student")
        if start is not None and metric in start.metrics:
            points.insert(0, (0.0, start.metrics[metric]))
        if student is not None and metric in student.metrics and "kimg" in self.config:
            points.append((float(self.config["kimg"]), student.metrics[metric]))
        return points

    def logit_gap(self) -> float | None:
        """Mean logit of real images less that of fakes, as last logged, of the first judge that has both."""
        for row in reversed(self.log):
            for name, value in row.items():
                judge = name.removesuffix("/real")
                if name.startswith("logits/") and name.endswith("/real") and f"{judge}/fake" in row:
                    return value - row[f"{judge}/fake"]
        return None


@dataclass(frozen=True)
class Cell:
    """Runs that differ in nothing but seeds."""

    label: str
    runs: tuple[Run, ...]

    def found(self, row: str, metric: str) -> list[float]:
        """The metric of that row in every finished run that has it."""
        rows = [run.row(row) for run in self.runs]
        return [r.metrics[metric] for r in rows if r is not None and metric in r.metrics]

    def first(self, row: str) -> Row | None:
        """The row of the first finished run."""
        return next((r for run in self.runs if (r := run.row(row)) is not None), None)


def read_runs(folder: Path) -> list[Run]:
    """Every run below `folder`, in the order of names. Raises: UserError naming a report that cannot be read."""
    return [_read(path.parent, folder) for path in sorted(folder.rglob("config.yaml"))]


def cells(runs: Sequence[Run]) -> list[Cell]:
    """Runs gathered over seeds, in the order of their first runs."""
    varied = varied_keys(runs)
    found: dict[str, list[Run]] = {}
    for run in runs:
        label = ", ".join(setting(run, key) for key in varied) or (run.name if len(runs) == 1 else "run")
        found.setdefault(label, []).append(run)
    return [Cell(label, tuple(members)) for label, members in found.items()]


def varied_keys(runs: Sequence[Run]) -> list[str]:
    """Configuration keys, seeds apart, in which the runs differ; none whose value follows from others named."""
    keys = dict.fromkeys(key for run in runs for key in run.config if not _apart(key))
    named: list[str] = []
    for key in sorted(keys, key=lambda key: (key not in LOSSES, not key.endswith("._target_"), key.count("."))):
        known: dict[tuple[str, ...], str] = {}
        for run in runs:
            if _measured(key) and key not in run.config:
                continue  # what one run did not measure makes it no other run
            place = tuple(run.config.get(other, "") for other in named)
            if known.setdefault(place, run.config.get(key, "")) != run.config.get(key, ""):
                named.append(key)
                break
    return named


def setting(run: Run, key: str) -> str:
    """A value as the table shows it: of a class its name alone."""
    value = run.config.get(key, DASH)
    return value.rpartition(".")[2] if key.endswith("_target_") else value


def title(key: str) -> str:
    """`initializer._target_` is the choice of the group `initializer`."""
    return key.removesuffix("._target_")


def _apart(key: str) -> bool:
    parts = key.split(".")
    return parts[0] in DERIVED or parts[-1] == "seed"


def _measured(key: str) -> bool:
    return key.startswith(("metric.", "protocol.metrics."))


def _read(folder: Path, base: Path) -> Run:
    name = folder.relative_to(base).as_posix()
    try:
        loaded = OmegaConf.load(folder / "config.yaml")
        config = _flat(OmegaConf.to_container(loaded))
        config |= {group: "+".join(terms) for group in LOSSES if (terms := OmegaConf.select(loaded, group))}
        wanted = objectives(OmegaConf.to_container(loaded).get("objective"))
        log = tuple(read_table(folder / "metrics.csv"))
        if not (folder / "report.json").is_file():
            return Run(name, config, (), log, wanted)
        report = json.loads((folder / "report.json").read_text())
        ranks = report["protocol"].get("higher_is_better", {})
        return Run(name, config, tuple(_row(row) for row in report["rows"]), log, wanted, ranks)
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
