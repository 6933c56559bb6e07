"""The line about training that is kept up to date on the terminal or in the log."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from limbeck.terminal import LiveLine, clock


class Progress(pl.Callback):
    """kimg done and to do, images per second, time left and the losses of the last logging interval.

    log_every_seconds: longest pause between two lines where the output is not a terminal; the first pauses are
        shorter, so that one soon sees whether a run goes well.
    """

    def __init__(self, *, log_every_seconds: float = 60.0):
        self.log_every_seconds = log_every_seconds
        self._line = LiveLine(log_every_seconds=log_every_seconds)

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._line = LiveLine(done=int(pl_module.images_seen), log_every_seconds=self.log_every_seconds)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self._line.due():
            self._show(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero:
            self._show(pl_module)
            self._line.end()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        self._line.end()

    def _show(self, pl_module: Any) -> None:
        images, total = int(pl_module.images_seen), pl_module.total_images
        self._line.show(progress_line(images, total, self._line.rate(images), pl_module.last_losses))


def progress_line(images: int, total: int, rate: float, losses: Mapping[str, float]) -> str:
    """One line: images and `total` are counts, rate is images per second, losses are named loss/<player>/<name>."""
    parts = [
        f"{images / 1000:.1f}/{total / 1000:g} kimg {100 * images // max(total, 1):3d} %",
        f"{rate:.3g} images/s" if rate < 1000 else f"{rate:.0f} images/s",
        f"{clock((total - images) / rate)} left" if rate > 0 else "",
    ]
    for player in dict.fromkeys(name.split("/")[1] for name in losses if name.startswith("loss/")):
        prefix = f"loss/{player}/"
        values = [
            f"{name.removeprefix(prefix)} {value:.3g}" for name, value in losses.items() if name.startswith(prefix)
        ]
        parts.append(f"{player[0].upper()}: {', '.join(values)}")
    return "  ".join(part for part in parts if part)
