"""How fast a training will be, from some of its own steps before it begins."""

import time
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl

WARMUP = 2  # steps that are not timed


@dataclass(frozen=True)
class Pace:
    """Of the timed steps; 0 seconds if training was over before. peak_mib: of memory, see `peak_memory_mib`."""

    seconds_per_image: float
    peak_mib: float


class Timed(pl.Callback):
    """Stops the Trainer after `num_steps` steps behind the first ones; `seconds` is what these took."""

    def __init__(self, num_steps: int):
        self.num_steps, self.seconds = num_steps, 0.0
        self._since = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx + 1 == WARMUP:
            self._since = time.perf_counter()
        if batch_idx + 1 == WARMUP + self.num_steps:
            next(pl_module.student.parameters()).detach().flatten()[0].item()  # waits for a GPU
            self.seconds = time.perf_counter() - self._since
            trainer.should_stop = True
