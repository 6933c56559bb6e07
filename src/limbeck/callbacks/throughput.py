"""How fast training is and how much memory it takes, as columns of the log."""

import time
from typing import Any

import pytorch_lightning as pl

from limbeck.callbacks.intervals import EveryKimg
from limbeck.profiling import peak_memory_mib


class Throughput(EveryKimg):
    """Logs speed/images_per_second (over all processes) and memory/peak_mib (of the first one) every `every_kimg`."""

    def __init__(self, *, every_kimg: float = 1.0):
        super().__init__(every_kimg)
        self._since: tuple[float, int] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        super().on_train_start(trainer, pl_module)
        self._since = None

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self._since is None:  # the first iteration pays for warming up and is not counted
            self._before = int(pl_module.images_seen)
            self._since = (time.perf_counter(), self._before)
        else:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def act(self, trainer: pl.Trainer, pl_module: Any, *, last: bool) -> None:
        assert self._since is not None
        (then, seen), now, images = self._since, time.perf_counter(), int(pl_module.images_seen)
        self._since = (now, images)
        values = {
            "kimg": images / 1000,
            "speed/images_per_second": (images - seen) / (now - then),
            "memory/peak_mib": peak_memory_mib(pl_module.device),
        }
        for logger in trainer.loggers:
            logger.log_metrics(values, step=images)
