"""metrics.csv in the run folder: one row per logging interval, one clean curve however often the run was resumed."""

from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from limbeck.loggers.base import RunLogger, rank_zero_only
from limbeck.loggers.table import Table


class Csv(RunLogger):
    """Writes `folder/metrics.csv`; pictures and evaluations have files of their own (samples/, report.json)."""

    def __init__(self, folder: str | Path):
        super().__init__(folder)
        self._table = Table(self.folder / "metrics.csv")

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._table.put(metrics)

    def log_image(self, key: str, image: Image.Image, *, kimg: float) -> None:
        """Nothing: pictures are in samples/."""

    def log_evaluation(self, model: str, facts: Mapping[str, float], *, kimg: float) -> None:
        """Nothing: evaluated models are in report.json."""

    def close(self) -> None:
        """Nothing is open."""
