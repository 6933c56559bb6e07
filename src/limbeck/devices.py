"""Where this process computes, and how exactly: decided here for scoring, training and evaluation alike.

Refinement (SVS) stays on the CPU, in float64, so that a student starts from the same weights everywhere.

torch lets convolutions on GPUs round their inputs to TF32 unless it is told otherwise. Here float32 means float32, but
for training's ordinary steps where `trainer.tf32=true` asks for it; R1, path length and evaluations never round.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from limbeck.lock import taken

CPU_NAMES, GPU_NAMES = ("cpu",), ("gpu", "cuda")


@dataclass
class Choice:
    """What a process was told. accelerator: "auto", "cpu" or "gpu"; tf32: of training's ordinary steps.

    own_gpu: the number of the GPU that it keeps from other processes, if it does.
    """

    accelerator: str = "auto"
    tf32: bool = False
    own_gpu: int | None = None


_chosen = Choice()


def num_processors() -> int:
    """How many processors this process may use: those that a scheduler or `taskset` gave it, or all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose(accelerator: str = "auto", *, tf32: bool = False) -> None:
    """Decide for this process, and switch TF32 off where nothing else is said. Other accelerators count as "auto"."""
    _chosen.accelerator, _chosen.tf32 = accelerator, tf32
    _set_tf32(False)


def take_own_gpu() -> None:
    """Compute on the first GPU that no other process of this machine has taken so, for as long as this one lives.

    For runs side by side that all see the same GPUs. Where there are more of them than GPUs, they share.
    """
    if _chosen.own_gpu is not None or device().type == "cpu" or (count := torch.cuda.device_count()) < 2:
        return
    names = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name] or [
        *map(str, range(count))
    ]
    free = (number for number, name in enumerate(names[:count]) if taken(_gpu_lock(name)) is not None)
    _chosen.own_gpu = next(free, os.getpid() % count)
    torch.cuda.set_device(_chosen.own_gpu)


def own_gpu() -> int | None:
    """The number of the GPU taken by `take_own_gpu`; None if none was."""
    return _chosen.own_gpu


def _gpu_lock(name: str) -> Path:
    return Path(tempfile.gettempdir()) / f"limbeck-gpu-{name.replace('/', '-')}.lock"


def device() -> torch.device:
    """This process's GPU, if there is one and nobody asked for the CPU; else the CPU."""
    if _chosen.accelerator in CPU_NAMES or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def accelerator(asked: str = "auto") -> str:
    """Lightning's word for `asked`; "auto" is a GPU if there is one, else the CPU, and nothing else."""
    if asked != "auto":
        return asked
    return "gpu" if torch.cuda.is_available() else "cpu"


def precision(asked: str, accelerator: str) -> str:
    """Lightning's word for the precision of training; "auto" is bfloat16 on GPUs, float32 elsewhere."""
    if asked != "auto":
        return asked
    return "bf16-mixed" if accelerator in GPU_NAMES else "32-true"


@contextlib.contextmanager
def rounding(allowed: bool) -> Iterator[None]:
    """Whether float32 products on a GPU may round to TF32 inside; as before afterwards."""
    before = _tf32()
    _set_tf32(allowed)
    try:
        yield
    finally:
        _set_tf32(before)


def exact() -> contextlib.AbstractContextManager[None]:
    """float32 means float32 inside."""
    return rounding(False)


def described() -> str:
    """Device and arithmetic, for a line on the terminal and the report."""
    here = device()
    if here.type == "cpu":
        unused = ", the GPU is left alone" if torch.cuda.is_available() else ""
        return f"CPU, {torch.get_num_threads()} threads{unused}"
    tf32 = "TF32 in ordinary steps of training only" if _chosen.tf32 else "no TF32"
    return f"{torch.cuda.get_device_name(here)}, {tf32}"


def _tf32() -> bool:
    return torch.backends.cuda.matmul.allow_tf32


def _set_tf32(on: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = on
    torch.backends.cudnn.allow_tf32 = on
