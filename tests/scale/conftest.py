"""Two processes that no launcher watches: nobody ends one of them when the other fails, as under srun."""

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from ..pipeline.conftest import ROOT, command, environment, run, tiny

TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
SHORT = ["loss/generator=[nonsaturating]", "loss/discriminator=[nonsaturating]", "distillation.decay_kimg=0"]


class Ranks:
    """Both processes of one command."""

    def __init__(self, arguments: list[str], *, script: str = "train.py", cwd: Path = ROOT):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        meet = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        self.processes = [
            subprocess.Popen(
                command(script, *arguments),
                env={**environment(), **meet, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                cwd=cwd,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]

    def wait_until(self, happened, seconds: float = 500.0) -> None:
        until = time.monotonic() + seconds
        while not happened() and time.monotonic() < until and all(p.poll() is None for p in self.processes):
            time.sleep(0.02)

    def ended(self, seconds: float = 500.0) -> tuple[list[int], str, str]:
        """Exit codes, and what both said on standard output and error."""
        try:
            said = [process.communicate(timeout=seconds) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()
                process.communicate()
        return [p.returncode for p in self.processes], said[0][0] + said[1][0], said[0][1] + said[1][1]


@pytest.fixture(scope="session")
def untouched(tmp_path_factory) -> Path:
    """The folder of an uninterrupted run of two processes."""
    folder = tmp_path_factory.mktemp("two") / "run"
    codes, _, errors = Ranks(tiny(folder, *SHORT, *TWO)).ended()
    assert codes == [0, 0], errors
    return folder


__all__ = ["ROOT", "SHORT", "TWO", "Ranks", "os", "run", "tiny"]
