"""Processes that no launcher watches: nobody ends one of them when another fails, as under srun."""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..pipeline.conftest import ROOT, environment, tiny

SHORT = ["loss/generator=[nonsaturating]", "loss/discriminator=[nonsaturating]", "distillation.decay_kimg=0"]


def ranks_of(number: int) -> list[str]:
    """Settings for so many processes on a CPU."""
    return ["trainer=ddp", "trainer.accelerator=cpu", f"trainer.devices={number}"] if number > 1 else []


TWO = ranks_of(2)


class Warm:
    """The process of `warm.py`, and the exit codes of its forks."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("warm.py"))]
        self.process = subprocess.Popen(
            command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.started: queue.Queue[int] = queue.Queue()
        self.codes: dict[int, int] = {}
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _listen(self) -> None:
        for line in self.process.stdout:
            what, number, *code = line.split()
            if what == "started":
                self.started.put(int(number))
            else:
                self.codes[int(number)] = int(code[0])

    def start(self, **request: object) -> int:
        """Number of a new process."""
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.started.get(timeout=300)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.listener.join(timeout=60)
        self.process.stdout.close()


class Ranks:
    """All processes of one command; one of them alone is started as a user would, without a word about others."""

    def __init__(
        self,
        warm: Warm,
        place: Path,
        arguments: list[str],
        *,
        number: int = 2,
        script: str = "train.py",
        cwd: Path = ROOT,
    ) -> None:
        self.warm, self.outputs, self.errors, self.numbers = warm, [], [], []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            meet = {"WORLD_SIZE": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
        for rank in range(number):
            own = {**meet, "RANK": str(rank), "LOCAL_RANK": str(rank)} if number > 1 else {}
            said = place / f"{time.monotonic_ns()}-{rank}"
            self.outputs.append(said.with_suffix(".out"))
            self.errors.append(said.with_suffix(".err"))
            self.numbers.append(
                warm.start(
                    arguments=[str(ROOT / script), *map(str, arguments)],
                    environment=own,
                    cwd=str(cwd),
                    output=str(self.outputs[-1]),
                    errors=str(self.errors[-1]),
                )
            )

    def signal(self, rank: int, number: signal.Signals) -> None:
        os.kill(self.numbers[rank], number)

    def running(self) -> bool:
        """Whether none of them has ended."""
        return not any(number in self.warm.codes for number in self.numbers)

    def said(self) -> str:
        return "".join(path.read_text() for path in self.outputs if path.is_file())

    def wait_until(self, happened: Callable[[], bool], seconds: float = 500.0) -> None:
        until = time.monotonic() + seconds
        while not happened() and time.monotonic() < until and self.running():
            time.sleep(0.005)

    def ended(self, seconds: float = 500.0) -> tuple[list[int], str, str]:
        """Exit codes, and what all said on standard output and error."""
        until = time.monotonic() + seconds
        try:
            while any(number not in self.warm.codes for number in self.numbers):
                assert time.monotonic() < until, f"still running after {seconds} s:\n{self.said()}"
                time.sleep(0.02)
        finally:
            for number in self.numbers:
                if number not in self.warm.codes:
                    os.kill(number, signal.SIGKILL)
        errors = "".join(path.read_text() for path in self.errors if path.is_file())
        return [self.warm.codes[number] for number in self.numbers], self.said(), errors


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    process = Warm()
    yield process
    process.close()


@pytest.fixture(scope="session")
def started(warm, tmp_path_factory) -> Callable[..., Ranks]:
    """Starts the processes of one command: arguments, then `number`, `script`, `cwd`."""
    place = tmp_path_factory.mktemp("said")
    return lambda arguments, **how: Ranks(warm, place, arguments, **how)


@pytest.fixture(scope="session")
def untouched(started, tmp_path_factory) -> Path:
    """The folder of an uninterrupted run of two processes."""
    folder = tmp_path_factory.mktemp("two") / "run"
    codes, _, errors = started(tiny(folder, *SHORT, *TWO)).ended()
    assert codes == [0, 0], errors
    return folder


__all__ = ["SHORT", "TWO", "Ranks", "ranks_of", "tiny"]
