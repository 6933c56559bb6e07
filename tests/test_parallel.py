"""Who a process is before processes have met, and waiting for the first one's file."""

import threading
import time

import pytest

from limbeck import parallel
from limbeck.errors import UserError


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, 0),
        ({"RANK": "3", "LOCAL_RANK": "1", "SLURM_PROCID": "7"}, 3),  # torchrun
        ({"LOCAL_RANK": "1", "SLURM_PROCID": "0"}, 1),  # a child of Lightning's, inside an srun shell
        ({"SLURM_PROCID": "5"}, 5),  # srun
    ],
)
def test_rank_by_launcher(monkeypatch, environment, expected):
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert parallel.rank() == expected


def test_only_other_processes_wait_for_the_file(tmp_path, monkeypatch):
    path = tmp_path / "initialized.safetensors"
    monkeypatch.setenv("RANK", "0")
    parallel.wait_for(path)  # returns at once: this process writes it
    monkeypatch.setenv("RANK", "1")
    threading.Timer(0.3, path.touch).start()
    started = time.monotonic()
    parallel.wait_for(path)
    assert path.is_file()
    assert time.monotonic() - started > 0.2


def test_a_file_that_never_comes_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(UserError, match="all nodes must share the folder"):
        parallel.wait_for(tmp_path / "initialized.safetensors", seconds=0.3)
