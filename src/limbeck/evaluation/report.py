"""The result of a run as values: what every stage's model costs and how good it is. `write_report` makes its files."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCORES_PICTURE, STAGES_PICTURE = "scores.png", "samples/stages.png"
# Of a network that draws from images: what it starts from, and what is wanted, in the order of the rows' pictures.
SOURCE_PICTURE, TARGET_PICTURE = "samples/source.png", "samples/target.png"
EAGER = "PyTorch"  # the runtime that nobody ships
PICTURED = ("grid", "grid_columns")


@dataclass(frozen=True)
class Row:
    """One judged model.

    num_parameters: without buffers. macs: multiply-accumulates of one image. size_mib: of the weights as stored.
    latency_ms: one image, the fastest round. metrics: name -> value. grid: PNG of images from the same latents in every
    row, `grid_columns` in each of its lines (0: unknown). history: the stages the model passed. terms: licence note of
    its weights. latency_spread: see `profiling.Latency`; None if unknown.
    latencies: as shipped, each with runtime, num_images, latency_ms and spread.
    sparsity: share of switched-off weights by layer, empty for a dense model; num_effective: parameters in use.
    filter_macs: in fixed filters, which `macs` leaves out.
    """

    name: str
    num_parameters: int
    macs: int
    size_mib: float
    latency_ms: float
    metrics: Mapping[str, float]
    grid: Path | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    terms: str = ""
    latency_spread: float | None = None
    grid_columns: int = 0
    latencies: tuple[Mapping[str, Any], ...] = ()
    sparsity: Mapping[str, float] = field(default_factory=dict)
    num_effective: int | None = None
    filter_macs: int = 0


@dataclass(frozen=True)
class Report:
    """Rows in the order of the stages, and what their numbers depend on.

    title: default the folder's last two parts. protocol: of the metrics, as `Protocol.describe` gives it.
    config: resolved configuration. versions: software, commit, hardware, date. notes: printed under the table.
    """

    rows: Sequence[Row]
    protocol: Mapping[str, Any]
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    title: str = ""
    notes: Sequence[str] = field(default=())

    def row(self, name: str) -> Row | None:
        """The row of this name, if there is one."""
        return next((row for row in self.rows if row.name == name), None)

    def as_json(self) -> dict[str, Any]:
        """The content of report.json: JSON values only, numbers that are not finite as null."""
        return {
            "rows": [_row_as_json(row) for row in self.rows],
            "protocol": _plain(self.protocol),
            "config": _plain(self.config),
            "versions": _plain(self.versions),
        }


def _row_as_json(row: Row) -> dict[str, Any]:
    facts = {name: value for name, value in vars(row).items() if name not in PICTURED}
    return _plain(facts)


def _plain(value: Any) -> Any:
    """A value that JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
