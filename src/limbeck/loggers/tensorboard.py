"""TensorBoard: event files in `tensorboard/` of the run folder, over the number of images seen."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from limbeck.errors import UserError
from limbeck.loggers.base import RunLogger, rank_zero_only


class TensorBoard(RunLogger):
    """Curves, sample grids, and the numbers of every evaluated model under `evaluation/<model>/`.

    `tensorboard --logdir outputs` shows all runs. A resumed run goes on in a file of its own, which hides what its
    predecessor wrote beyond the checkpoint.

    Raises: UserError if the package is not installed.
    """

    def __init__(self, folder: str | Path):
        super().__init__(folder)
        try:
            import tensorboard  # noqa: F401
        except ImportError as error:
            raise UserError("logger=tensorboard: needs tensorboard; pip install limbeck[tensorboard]") from error
        self._writer: Any = None

    def _opened(self, step: int) -> Any:
        """The writer, begun with the first value; what lies at `step` or later from before is void."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step)
        return self._writer

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        step = round(metrics["kimg"] * 1000) if step is None else step
        for name, value in metrics.items():
            if name != "kimg":
                self._opened(step).add_scalar(name, value, step)

    @rank_zero_only
    def log_image(self, key: str, image: Image.Image, *, kimg: float) -> None:
        step = round(kimg * 1000)
        self._opened(step).add_image(key, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    @rank_zero_only
    def log_evaluation(self, model: str, facts: Mapping[str, float], *, kimg: float) -> None:
        step = round(kimg * 1000)
        for name, value in facts.items():
            self._opened(step).add_scalar(f"evaluation/{model}/{name}", value, step)

    @rank_zero_only
    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
