"""The line about training that is kept up to date on the terminal or in the log."""

import time
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from limbeck.terminal import LiveLine, clock

STRETCH_SECONDS = 20.0  # over which a rate is taken
COLLAPSED = 0.3  # of the run's own best
WAY_OUT = (
    "other programs may want the same cores; give the run cores of its own, or fewer threads (OMP_NUM_THREADS=1 wastes "
    "least), or, on a GPU, look for another job on it"
)


class Pace:
    """Notices once when work becomes far slower than it was, by the time spent within steps alone."""

    def __init__(self) -> None:
        self._best = self._seconds = self._count = 0.0
        self._said = False

    def collapsed(self, count: float, seconds: float) -> tuple[float, float] | None:
        """The rate of the stretch that ends with this step, and the best, where the first is far below; else None."""
        self._count, self._seconds = self._count + count, self._seconds + seconds
        if self._said or self._seconds < STRETCH_SECONDS:
            return None
        rate = self._count / self._seconds
        self._best, self._count, self._seconds = max(self._best, rate), 0.0, 0.0
        self._said = rate < COLLAPSED * self._best
        return (rate, self._best) if self._said else None


class Progress(pl.Callback):
    """kimg done and to do, images per second, time left and the losses of the last logging interval.

    log_every_seconds: longest pause between two lines where the output is not a terminal; the first pauses are
        shorter, so that one soon sees whether a run goes well.
    """

    def __init__(self, *, log_every_seconds: float = 60.0):
        self.log_every_seconds = log_every_seconds
        self._line = LiveLine(log_every_seconds=log_every_seconds)
        self._pace, self._began = Pace(), 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._line = LiveLine(done=int(pl_module.images_seen), log_every_seconds=self.log_every_seconds)
        self._pace = Pace()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._began = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        found = self._pace.collapsed(pl_module.batch_size, time.monotonic() - self._began)
        if found is not None and trainer.is_global_zero:
            self._line.say(f"slow: {found[0]:.3g} images/s, {found[1]:.3g} at best; {WAY_OUT}")
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
    """One line: images and `total` are counts, rate is images per second, losses are named loss/<player>/<name>.

    A last batch that goes beyond the total counts as far as that.
    """
    images = min(images, total)
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
