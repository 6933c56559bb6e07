"""What a run asks of a logger: numbers over kimg, pictures, and one row of facts per evaluated model."""

from abc import ABC, abstractmethod
from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from limbeck.embeddings.torchvision_shim import imported
from limbeck.evaluation.report import Row

imported("pytorch_lightning")  # it imports torchvision
from pytorch_lightning.loggers.logger import Logger  # noqa: E402
from pytorch_lightning.utilities import rank_zero_only as rank_zero_only  # noqa: E402


class RunLogger(Logger, ABC):
    """A Lightning logger that writes into the run folder itself and also takes pictures and evaluations.

    Lightning calls `log_metrics` with `kimg` among the metrics and the number of images seen as `step`.
    """

    def __init__(self, folder: str | Path):
        super().__init__()
        self.folder = Path(folder)

    @property
    def name(self) -> str:
        """Empty: nothing is put between the run folder and its files."""
        return ""

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.folder)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the resolved configuration stands in the run folder's config.yaml."""

    @abstractmethod
    def log_image(self, key: str, image: Image.Image, *, kimg: float) -> None:
        """Show a picture, e.g. key="samples", at this point of training."""

    @abstractmethod
    def log_evaluation(self, model: str, facts: Mapping[str, float], *, kimg: float) -> None:
        """Note the numbers of one evaluated model ("teacher", "student", …) at this point of training."""

    @abstractmethod
    def close(self) -> None:
        """Finish writing; the last call."""


def log_rows(loggers: Iterable[Logger], rows: Iterable[Row], *, kimg: float) -> None:
    """Pass the rows of a finished report to all loggers that take them, then close these loggers."""
    rows = list(rows)
    for logger in loggers:
        if isinstance(logger, RunLogger):
            for row in rows:
                facts = {"num_parameters": row.num_parameters, "macs": row.macs, "size_mib": row.size_mib}
                logger.log_evaluation(row.name, {**facts, "latency_ms": row.latency_ms, **row.metrics}, kimg=kimg)
            logger.close()
