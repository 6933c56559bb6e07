"""What a terminal shows: a heading per stage, and one line about long work that is kept up to date.

On a terminal the line is redrawn in place; in a log file a line is printed now and then.
"""

import shutil
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

from limbeck import parallel

T = TypeVar("T")
_STARTED = time.monotonic()
REDRAW_SECONDS = 0.5
RATE_SECONDS = 30.0  # the rate is that of the last half minute


def announce(stage: str, text: str = "") -> None:
    """Print a heading with the time since the program started; only on the first process."""
    if parallel.rank() == 0:
        name = f"\033[1m{stage:<10}\033[0m" if sys.stdout.isatty() else f"{stage:<10}"
        print(f"{clock(time.monotonic() - _STARTED):>7}  {name}  {text}".rstrip(), flush=True)


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


class LiveLine:
    """One line that follows a count; silent on all processes but the first.

    done: where the count starts. log_every_seconds: longest pause between two lines where the output is not a
        terminal; the first pauses are shorter, so that one soon sees whether the work goes well.
    """

    def __init__(self, *, done: float = 0, log_every_seconds: float = 60.0):
        self.log_every_seconds = log_every_seconds
        now = time.monotonic()
        self._times: deque[tuple[float, float]] = deque([(now, done)])
        self._shown = now
        self._pause = REDRAW_SECONDS if sys.stdout.isatty() else min(5.0, log_every_seconds)

    def due(self) -> bool:
        """Whether it is time to show the line again."""
        return time.monotonic() - self._shown >= self._pause and parallel.rank() == 0

    def rate(self, done: float) -> float:
        """Counts per second lately, `done` being the count now; 0 if that is not known yet."""
        now = time.monotonic()
        self._times.append((now, done))
        while len(self._times) > 2 and now - self._times[1][0] > RATE_SECONDS:
            self._times.popleft()
        then, before = self._times[0]
        return (done - before) / (now - then) if now > then else 0.0

    def show(self, text: str) -> None:
        self._shown = time.monotonic()
        if sys.stdout.isatty():
            print(f"\r\033[K{fitted(text, shutil.get_terminal_size().columns - 1)}", end="", flush=True)
        else:
            print(" " * 9 + text, flush=True)
            self._pause = min(2 * self._pause, self.log_every_seconds)

    def say(self, text: str) -> None:
        """A line of its own, which stays."""
        print(f"\r\033[K{text}" if sys.stdout.isatty() else " " * 9 + text, flush=True)

    def end(self) -> None:
        """Leave the line as it stands, so that what follows begins on a new one."""
        if parallel.rank() == 0 and sys.stdout.isatty():
            print(flush=True)


def tracked(items: Iterable[T], total: int, unit: str) -> Iterator[T]:
    """The items, with a line about how many of `total` have passed wherever that takes longer than a moment."""
    line, shown = LiveLine(), False
    for done, item in enumerate(items):
        if line.due():
            line.show(counted(done, total, line.rate(done), unit))
            shown = True
        yield item
    if shown:
        line.end()


def counted(done: int, total: int, rate: float, unit: str) -> str:
    """Work in whole steps, as text for a `LiveLine`: `12/40 batches  30 %  1.5 batches/s  0:19 left`."""
    parts = [f"{done}/{total} {unit} {100 * done // max(total, 1):3d} %"]
    if rate > 0:
        speed = f"{rate:.3g} {unit}/s" if rate >= 0.1 else f"{1 / rate:.3g} s each"
        parts += [speed, f"{clock((total - done) / rate)} left"]
    return "  ".join(parts)
