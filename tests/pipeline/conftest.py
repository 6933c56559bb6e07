"""Runs small enough for a test: a tiny StyleGAN2, RoboHash at 32 px, random features."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
TINY = [
    "experiment=quickstart",
    "runtime=[]",
    "teacher=untrained_stylegan2",
    "teacher.generator.resolution=32",
    "+teacher.generator.widths=[16,16,16,16,16,16,16,16]",
    "+teacher.generator.z_dim=16",
    "+teacher.generator.w_dim=16",
    "+teacher.generator.mapping_depth=2",
    "+teacher.discriminator.widths=[16,16,16,16]",
    "pruning.ratio=0.5",
    "loss/generator=[nonsaturating,pixel_l1,path_length]",
    "metric=[kid_random]",
    "protocol.num_images=64",
    "protocol.batch_size=32",
    "kimg=0.2",
    "batch_size=8",
    "distillation.decay_kimg=0.1",
    "distillation.log_every_kimg=0.05",
    "checkpoint_kimg=0.04",
]


def command(script: str, *arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / script), *map(str, arguments)]


def environment() -> dict[str, str]:
    """One thread, so that sums have one order; no colors."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "WANDB_MODE": "offline"}


def run(script: str, *arguments: object, timeout: float = 300, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(script, *arguments), capture_output=True, text=True, timeout=timeout, env=environment(), cwd=cwd
    )


def end_after_a_checkpoint(arguments: list[str], folder: Path, how: signal.Signals, **variables: str) -> int:
    """Start a run, signal it once its folder holds a checkpoint; its return code."""
    process = subprocess.Popen(
        command("train.py", *arguments),
        env={**environment(), **variables},
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    checkpoint = folder / "checkpoints" / "last.ckpt"
    until = time.monotonic() + 200
    while not checkpoint.is_file() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(how)
    return process.wait(timeout=100)


def assert_same_student(a: Path, b: Path) -> None:
    """Both folders hold the same student, bit for bit."""
    left, right = (load_file(folder / "student.safetensors") for folder in (a, b))
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


def tiny(folder: Path, *more: str) -> list[str]:
    return [*TINY, f"hydra.run.dir={folder}", *more]


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """The folder of one uninterrupted tiny run."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    done = run("train.py", *tiny(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder
