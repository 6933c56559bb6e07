"""How fast training is and how much memory it takes, as columns of the log."""

import time
from typing import Any

import pytorch_lightning as pl

from limbeck.callbacks.intervals import is_due
from limbeck.profiling import peak_memory_mib


class Throughput(pl.Callback):
    """Logs speed/images_per_second (over all processes) and memory/peak_mib (of the first one) every `every_kimg`."""

    def __init__(self, *, every_kimg: float = 1.0):
        self.every_kimg = every_kimg
        self._before = 0
        self._since: tuple[float, int] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._before, self._since = int(pl_module.images_seen), None

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        images, before = int(pl_module.images_seen), self._before
        self._before = images
        if self._since is None:  # the first iteration pays for warming up and is not counted
            self._since = (time.perf_counter(), images)
        elif is_due(before, images, self.every_kimg) or images >= pl_module.total_images:
            (then, seen), now = self._since, time.perf_counter()
            self._since = (now, images)
            values = {
                "kimg": images / 1000,
                "speed/images_per_second": (images - seen) / (now - then),
                "memory/peak_mib": peak_memory_mib(pl_module.device),
            }
            for logger in trainer.loggers:
                logger.log_metrics(values, step=images)
