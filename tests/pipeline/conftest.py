"""Runs small enough for a test: a tiny StyleGAN2, RoboHash at 32 px, random features."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY = [
    "experiment=quickstart",
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


def tiny(folder: Path, *more: str) -> list[str]:
    return [*TINY, f"hydra.run.dir={folder}", *more]


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """The folder of one uninterrupted tiny run."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    done = run("train.py", *tiny(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder
