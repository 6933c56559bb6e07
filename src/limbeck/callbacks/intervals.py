"""When something that happens every so many images is due."""

import abc
from typing import Any

import pytorch_lightning as pl

from limbeck.model import Model


def is_due(before: int, now: int, every_kimg: float) -> bool:
    """Whether a multiple of `every_kimg` thousand images lies in (before, now]; counts are images."""
    interval = max(1, round(every_kimg * 1000))
    return before // interval != now // interval


class EveryKimg(pl.Callback, abc.ABC):
    """Calls `act` after each iteration that reaches a multiple of `every_kimg`, and after the last one."""

    def __init__(self, every_kimg: float):
        self.every_kimg = every_kimg
        self._before = 0

    def check(self, teacher: Model) -> None:
        """Find out before the first stage whether it can work on students of this model. Raises: UserError."""

    @abc.abstractmethod
    def act(self, trainer: pl.Trainer, pl_module: Any, *, last: bool) -> None:
        """What there is to do."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._before = int(pl_module.images_seen)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        images, before = int(pl_module.images_seen), self._before
        self._before, last = images, images >= pl_module.total_images
        if last or is_due(before, images, self.every_kimg):
            self.act(trainer, pl_module, last=last)
