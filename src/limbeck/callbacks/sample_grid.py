"""Pictures during training: the same latents in every grid, teacher above student."""

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.callbacks.intervals import EveryKimg
from limbeck.data.base import ImageSource
from limbeck.evaluation.sampling import from_eight_bits, inputs_of, sample
from limbeck.files import written_aside
from limbeck.images import image_grid
from limbeck.loggers.base import RunLogger
from limbeck.model import Model


class SampleGrid(EveryKimg):
    """Writes samples/kimg<count>.png into the run folder and shows it to all loggers that take pictures.

    every_kimg: also at the start and the end. num_images: columns of the grid; rows are the teacher, if there is one,
    and the student's moving average; of networks that draw from images above them what is translated and below them
    what is wanted, if the data know it. seed: of the latents; noise is constant. data: holds the images to translate.
    how: other settings of `sample`.
    """

    def __init__(
        self,
        *,
        every_kimg: float = 5.0,
        num_images: int = 8,
        seed: int = 0,
        data: ImageSource | None = None,
        **how: Any,
    ):
        super().__init__(every_kimg)
        self.num_images, self.seed, self.data, self.how = num_images, seed, data, how
        self._teacher_images: Tensor | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        super().on_train_start(trainer, pl_module)
        self._teacher_images = None
        if trainer.is_global_zero and pl_module.teacher is not None:
            self._teacher_images = self._images(pl_module.teacher.network)
        if int(pl_module.images_seen) == 0:
            self.act(trainer, pl_module, last=False)

    def act(self, trainer: pl.Trainer, pl_module: Any, *, last: bool) -> None:
        if not trainer.is_global_zero:
            return
        rows = [self._images(pl_module.ema)]
        if self._teacher_images is not None:
            rows.insert(0, self._teacher_images)
        if pl_module.ema.draws_from == "images":
            sources = inputs_of(pl_module.ema, self.num_images, data=self.data).source
            rows.insert(0, shown_beside(sources, rows[-1]))
            if self.data is not None and (targets := self.data.targets()) is not None:
                rows.append(from_eight_bits(targets.batch(np.arange(self.num_images))[0]))
        picture, images = image_grid(torch.cat(rows), columns=self.num_images), int(pl_module.images_seen)
        path = Path(trainer.default_root_dir) / "samples" / f"kimg{images / 1000:010.3f}.png"
        with written_aside(path) as aside:
            picture.save(aside, format="PNG")
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.log_image("samples", picture, kimg=images / 1000)

    def _images(self, generator: Network) -> Tensor:
        return sample(Model(generator), self.num_images, seed=self.seed, data=self.data, **self.how).cpu()


def shown_beside(source: Tensor, image: Tensor) -> Tensor:
    """Source images as they can stand in a grid of `image`s: of their size and number of channels."""
    if source.shape[2:] != image.shape[2:]:
        source = F.interpolate(source, image.shape[2:], mode="nearest")
    if source.shape[1] == 1:
        source = source.expand(-1, image.shape[1], -1, -1)
    return source[:, : image.shape[1]]
