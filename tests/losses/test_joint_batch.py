"""Two processes with half the batch each take the gradient of one process with the whole of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from limbeck.losses.joint_batch import scaled_gradient

WORKER = """
import datetime, sys
import torch, torch.distributed as dist
rank, world, meeting, out, cases = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:6]
torch.set_num_threads(1)
from limbeck.architectures.stylegan2 import Generator
from limbeck.embeddings.random_projection import RandomProjection
from limbeck.frozen import Frozen
from limbeck.losses.dime import Dime
from limbeck.losses.mmd import Gaussian, Mmd
from limbeck.losses.image_step import Players
from limbeck.losses.steps import Draw, GeneratorStep
from limbeck.model import Model, Pair

if world > 1:
    dist.init_process_group("gloo", init_method="file://" + meeting, rank=rank, world_size=world,
                            timeout=datetime.timedelta(seconds=200))

def generator(seed):
    torch.manual_seed(seed)
    return Generator(resolution=16, widths=[8] * 6, z_dim=8, w_dim=8, mapping_depth=2)

def term_of(name, teacher, network):
    settings = dict(embeddings={"a": RandomProjection()}, weights={"a": 2.0}, num_images=40, batch_size=8)
    settings["over"] = "batch" if world > 1 else "micro_batch"
    if name == "dime":
        term = Dime(**settings, statistics="global" if teacher == "cache" else "batch")
    else:
        term = Mmd(**settings, kernel=Gaussian(), teacher=teacher)
    term.prepare(Pair(Model(network), Model(network)), half=False)
    return term

def found(name, teacher):
    student, network = generator(0), generator(1)
    players, term = Players(student, Frozen(network), {}), term_of(name, teacher, network)
    drawn = torch.randn(2, 12, 8)
    share = 12 // world
    own = drawn[:, rank * share : (rank + 1) * share]
    torch.manual_seed(100 + rank)  # processes have random streams of their own
    steps, values = [], []
    # On each of two processes two micro-batches, the last one smaller.
    for latents in own.split(share if world == 1 else share // 2 + 1, dim=1):
        crossover = torch.full((latents.shape[1],), 6)
        steps.append(GeneratorStep(players, Draw(latents, crossover, noise="const"), siblings=steps))
    for step in steps:
        value = term(step)
        (value * (step.num_rows / share)).backward()
        values.append(float(value.detach()))
    gradients = [p.grad for p in student.parameters() if p.grad is not None]
    if world > 1:
        for gradient in gradients:  # as DistributedDataParallel does
            dist.all_reduce(gradient)
            gradient /= world
    return {"values": values, "gradients": gradients}

torch.save({case: found(*case.split()) for case in cases.split(",")}, f"{out}.{world}.{rank}")
if world > 1:
    dist.destroy_process_group()
"""
CASES = ["dime cache", "dime batch", "mmd cache", "mmd queue"]


def answers(tmp_path: Path, world: int) -> list[dict]:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / f"cache{world}"), "OMP_NUM_THREADS": "1"}

    def start(rank: int) -> subprocess.Popen:
        arguments = [rank, world, tmp_path / "meeting", tmp_path / "out", ",".join(CASES)]
        return subprocess.Popen([sys.executable, "-c", WORKER, *map(str, arguments)], env=environment)

    processes = [start(rank) for rank in range(world)]
    assert [process.wait(timeout=250) for process in processes] == [0] * world
    return [torch.load(tmp_path / f"out.{world}.{rank}", weights_only=True) for rank in range(world)]


@pytest.mark.slow
def test_two_processes_take_the_gradient_of_one_with_the_joint_batch(tmp_path):
    (whole,), halves = answers(tmp_path, 1), answers(tmp_path, 2)
    for case in CASES:
        expected = whole[case]
        for half in halves:
            assert half[case]["values"] == [pytest.approx(expected["values"][0], rel=1e-4, abs=1e-7)] * 2, case
            for a, b in zip(half[case]["gradients"], expected["gradients"], strict=True):
                torch.testing.assert_close(a, b, atol=2e-5 * float(b.abs().max()) + 1e-10, rtol=1e-3)
    # The teacher's statistics, made by two processes together, are those of one, bit for bit.
    ours, theirs = (sorted((tmp_path / f"cache{world}").rglob("*.safetensors")) for world in (1, 2))
    assert len(ours) == 2
    assert [path.name for path in ours] == [path.name for path in theirs]
    assert [path.read_bytes() for path in ours] == [path.read_bytes() for path in theirs]


def test_only_the_gradient_is_scaled():
    x = torch.tensor(3.0, requires_grad=True)
    value = scaled_gradient(x.square(), 4.0)
    value.backward()
    assert value.item() == 9.0
    assert x.grad.item() == 24.0
