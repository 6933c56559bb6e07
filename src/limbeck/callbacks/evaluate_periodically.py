"""Metrics during training: the run's own protocol (or a quicker one) applied to the moving average."""

from typing import Any

import pytorch_lightning as pl

from limbeck.callbacks.intervals import EveryKimg
from limbeck.data.base import ImageSource
from limbeck.evaluation.protocol import Protocol
from limbeck.loggers.base import RunLogger
from limbeck.model import Model


class EvaluatePeriodically(EveryKimg):
    """Logs metric/<name> of the student every `every_kimg`, on every process together.

    The last point is left to the report, which uses the final weights.
    """

    def __init__(self, *, protocol: Protocol, data: ImageSource, every_kimg: float):
        super().__init__(every_kimg)
        self.protocol, self.data = protocol, data

    def check(self, teacher: Model) -> None:
        self.protocol.check(teacher.generator, self.data)

    def act(self, trainer: pl.Trainer, pl_module: Any, *, last: bool) -> None:
        if last:
            return
        images = int(pl_module.images_seen)
        teacher = Model(pl_module.teacher.network) if pl_module.teacher is not None else None
        values = self.protocol(Model(pl_module.ema), data=self.data, teacher=teacher, device=pl_module.device)
        kimg = images / 1000
        for logger in trainer.loggers:
            logger.log_metrics({"kimg": kimg, **{f"metric/{name}": v for name, v in values.items()}}, step=images)
            if isinstance(logger, RunLogger):
                logger.log_evaluation("student", values, kimg=kimg)
