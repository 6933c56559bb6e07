"""Two processes with half the batch each take the gradient of one process with the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .joint_gradients import DISCRIMINATOR_TERMS, GENERATOR_TERMS

pytestmark = pytest.mark.slow
PER_PROCESS = {"relation"}  # by definition: images are related within one micro-batch of one process
PROMISED = [*(name for name in {**GENERATOR_TERMS, **DISCRIMINATOR_TERMS} if name not in PER_PROCESS)]
PROMISED += ["gates", "magnitudes"]


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[int, list[dict]]:
    folder = tmp_path_factory.mktemp("processes")
    worker = Path(__file__).with_name("joint_gradients.py")

    def start(rank: int, world: int) -> subprocess.Popen:
        arguments = [rank, world, folder / "meeting", folder / "out"]
        return subprocess.Popen(
            [sys.executable, str(worker), *map(str, arguments)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / f"cache.{world}")},
        )

    processes = [start(0, 1), start(0, 2), start(1, 2)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0, 0]
    return {
        world: [torch.load(folder / f"out.{world}.{r}", weights_only=True) for r in range(world)] for world in (1, 2)
    }


def distance(a: list, b: list) -> float:
    """Largest difference over the largest entry of `b`."""
    assert len(a) == len(b) > 0
    return max((x - y).abs().max().item() for x, y in zip(a, b, strict=True)) / max(y.abs().max().item() for y in b)


@pytest.mark.parametrize("name", PROMISED)
def test_gradients_are_those_of_the_joint_batch(answers, name):
    (whole,), halves = answers[1], answers[2]
    assert max(gradient.abs().max().item() for gradient in whole[name]) > 0
    for half in halves:
        assert distance(half[name], whole[name]) < 1e-4


@pytest.mark.parametrize("name", sorted(PER_PROCESS))
def test_terms_that_look_at_one_process_alone_differ(answers, name):
    (whole,), (half, _) = answers[1], answers[2]
    assert distance(half[name], whole[name]) > 1e-2
