"""What a terminal shows of a run: a heading per stage, and one line about training that is kept up to date.

On a terminal the line is redrawn in place; in a log file a line is printed now and then.
"""

import shutil
import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from limbeck import parallel

_STARTED = time.monotonic()
REDRAW_SECONDS = 0.5
RATE_SECONDS = 30.0  # the rate is that of the last half minute


def announce(stage: str, text: str = "") -> None:
    """Print a heading with the time since the program started; only on the first process."""
    if parallel.rank() == 0:
        name = f"\033[1m{stage:<10}\033[0m" if sys.stdout.isatty() else f"{stage:<10}"
        print(f"{clock(time.monotonic() - _STARTED):>7}  {name}  {text}".rstrip(), flush=True)


class Progress(pl.Callback):
    """kimg done and to do, images per second, time left and the losses of the last logging interval.

    log_every_seconds: longest pause between two lines where the output is not a terminal; the first pauses are
        shorter, so that one soon sees whether a run goes well.
    """

    def __init__(self, *, log_every_seconds: float = 60.0):
        self.log_every_seconds = log_every_seconds
        self._times: deque[tuple[float, int]] = deque()
        self._shown = 0.0
        self._pause = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        now = time.monotonic()
        self._times = deque([(now, int(pl_module.images_seen))])
        self._shown, self._pause = now, min(5.0, self.log_every_seconds)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        now = time.monotonic()
        if not trainer.is_global_zero or now - self._shown < (REDRAW_SECONDS if sys.stdout.isatty() else self._pause):
            return
        self._show(pl_module, now)
        self._shown, self._pause = now, min(2 * self._pause, self.log_every_seconds)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero:
            self._show(pl_module, time.monotonic())
            if sys.stdout.isatty():
                print(flush=True)

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Leave the line as it stands, so that what follows begins on a new one."""
        if trainer.is_global_zero and sys.stdout.isatty():
            print(flush=True)

    def _show(self, pl_module: Any, now: float) -> None:
        images = int(pl_module.images_seen)
        self._times.append((now, images))
        while len(self._times) > 2 and now - self._times[1][0] > RATE_SECONDS:
            self._times.popleft()
        (then, before), total = self._times[0], pl_module.total_images
        rate = (images - before) / (now - then) if now > then else 0.0
        text = progress_line(images, total, rate, pl_module.last_losses)
        if sys.stdout.isatty():
            print(f"\r\033[K{fitted(text, shutil.get_terminal_size().columns - 1)}", end="", flush=True)
        else:
            print(" " * 9 + text, flush=True)


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


def fitted(text: str, width: int) -> str:
    """The text without the last entries that do not fit into `width` characters, so that no number is cut in two."""
    if len(text) <= width:
        return text
    end = max(text.rfind(separator, 0, width + 2) for separator in (", ", "  "))
    return text[: end if end > 0 else width]


def clock(seconds: float) -> str:
    """m:ss, h:mm:ss, or days."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
