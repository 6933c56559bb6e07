"""Two processes take the steps of one, and send no more than the gradients of whoever steps."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .two_ranks import R1_EVERY, STEPS, module_of


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[int, list[dict]]:
    out, worker = tmp_path_factory.mktemp("ranks") / "out", Path(__file__).with_name("two_ranks.py")

    def start(rank: int, world: int, port: str) -> subprocess.Popen:
        command = [sys.executable, worker, rank, world, port, out]
        return subprocess.Popen(list(map(str, command)), env={**os.environ, "OMP_NUM_THREADS": "1"})

    ports = free_port(), free_port()
    processes = [start(0, 1, ports[0]), start(0, 2, ports[1]), start(1, 2, ports[1])]
    assert [process.wait(timeout=300) for process in processes] == [0, 0, 0]
    return {w: [torch.load(f"{out}.{w}.{r}", weights_only=True) for r in range(w)] for w in (1, 2)}


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(answers):
    (whole,), halves = answers[1], answers[2]
    assert halves[0]["state"].keys() == whole["state"].keys()
    for name, value in whole["state"].items():
        for half in halves:
            torch.testing.assert_close(half["state"][name], value, rtol=1e-3, atol=1e-5, msg=name)
    assert all(torch.equal(value, halves[1]["state"][name]) for name, value in halves[0]["state"].items())


@pytest.mark.slow
def test_only_the_stepping_players_gradients_travel(answers):
    """Bytes sent by all-reduce, less small numbers: a student's turn its own weights, a judge's turn its own."""
    module = module_of()
    student, judge = (sum(p.numel() for p in network.parameters()) for network in (module.student, module.judges))
    lazy = -(-STEPS // R1_EVERY)
    expected = 4 * (STEPS * student + (STEPS + lazy) * judge)
    sent = answers[2][0]["sent"]
    small = 4 * 64  # the mean style, flags, one number per parameter
    large = [size for size in sent if size > small]
    assert len(large) == 2 * STEPS + lazy
    assert expected <= sum(large) <= expected + len(large) * small
    wrapped = 4 * (2 * STEPS + lazy) * (student + judge)  # what Lightning's wrapper reduces: everything, in every turn
    assert sum(sent) < 0.6 * wrapped
    assert answers[1][0]["sent"] == []
