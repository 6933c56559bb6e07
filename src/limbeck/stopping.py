"""Told to stop: work that can be saved ends at its next good moment, not where the signal met it."""

import contextlib
import ctypes
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

TERMINATED, INTERRUPTED = 143, 130
# Ctrl-C, SLURM's warning, SLURM, submitit; where several come the later in this list counts.
SIGNALS = [getattr(signal, n) for n in ("SIGINT", "SIGUSR1", "SIGTERM", "SIGUSR2") if hasattr(signal, n)]


class Listening:
    """Between `begin` and `end`, or inside `with`, a signal to stop is only remembered.

    Whoever works looks at `told` now and then, saves, and calls `follow`. Outside the main thread nothing is changed.
    told: 0 if no signal came, else its place in SIGNALS, from 1; of several processes the largest counts.
    """

    def __init__(self) -> None:
        self.told = 0
        self._previous: dict[int, Any] = {}

    def begin(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self.hear)

    def end(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def __enter__(self) -> "Listening":
        self.begin()
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()

    def hear(self, number: int, frame: Any) -> None:
        """The handler. A second Ctrl-C does not wait for the work."""
        place = SIGNALS.index(signal.Signals(number)) + 1
        if number == signal.SIGINT and self.told == place:
            raise KeyboardInterrupt
        self.told = max(self.told, place)

    def follow(self, told: int) -> None:
        """End this process as the signal `told` wants it: Ctrl-C with exit code 130, the others with 143.

        SIGUSR2 goes first to whoever listened to it before, in every process, whichever heard it (submitit, of which
        only the first process requeues).
        """
        number = SIGNALS[told - 1]
        before = self._previous.get(number)
        if number == getattr(signal, "SIGUSR2", None) and callable(before):
            before(number, None)
        raise SystemExit(INTERRUPTED if number == signal.SIGINT else TERMINATED)


class _Stack(ctypes.Structure):
    """`stack_t` of Linux."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextlib.contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Leave this thread the stack that its signal handlers run on.

    OpenVINO, when it compiles, sets one of its own, and with two programs that go in the order they came the one that
    is left is gone too: the next signal would end the process by a segmentation fault.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    library, before = ctypes.CDLL(None), _Stack()
    library.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        library.sigaltstack(ctypes.byref(before), None)
