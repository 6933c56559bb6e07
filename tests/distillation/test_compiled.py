"""Compiled networks: whole programs, none made anew while shapes stay; results as without."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from limbeck.distillation.compiled import uncompiled

WHAT = ["training", *(["images"] if shutil.which("g++") else [])]  # inductor needs a compiler


@pytest.mark.slow
@pytest.mark.parametrize("what", WHAT)
def test_compiled_networks_do_the_same(what):
    worker = Path(__file__).with_name("compiled_run.py")
    done = subprocess.run(
        [sys.executable, str(worker), what],
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    if what == "images":
        assert answer["scale"] > 0.1
        assert answer["error"] < 1e-4 * answer["scale"]
        return
    for which, facts in answer.items():
        assert facts["equal"], which
        assert facts["breaks"] == [], which
        assert set(facts["programs"]) == {facts["programs"][0]}, which  # all of them are there after one step
    assert 0 < answer["frozen"]["programs"][0] < answer["all"]["programs"][0]


def test_a_turn_may_run_without():
    calls = []

    def backend(graph, inputs):
        calls.append(1)
        return graph.forward

    doubled = torch.compile(lambda x: 2 * x, backend=backend)
    with uncompiled(True):
        assert doubled(torch.ones(2)).tolist() == [2, 2]
    assert calls == []
    with uncompiled(False):
        assert doubled(torch.ones(2)).tolist() == [2, 2]
    assert calls == [1]
