"""Costs that depend on the machine: wall-clock time and memory, always stated with device and threads."""

import resource
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from limbeck.architectures.base import Network


@dataclass(frozen=True)
class Latency:
    """Wall-clock of one forward pass under no_grad: median over the repeats, and the machine's side of it."""

    latency_ms: float
    num_images: int
    repeats: int
    num_threads: int
    device: str


@torch.no_grad()
def latency(network: Network, *, num_images: int = 1, repeats: int = 10, warmup: int = 2) -> Latency:
    """Time forward passes of `num_images` images on the network's own device."""
    inputs = network.example_inputs(num_images)
    device = next(network.parameters()).device
    seconds = []
    for _ in range(warmup + repeats):
        start = time.perf_counter()
        network(**inputs)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    median_ms = statistics.median(seconds[warmup:]) * 1e3
    return Latency(median_ms, num_images, repeats, torch.get_num_threads(), str(device))


def peak_memory_mib(device: torch.device | str = "cpu") -> float:
    """Peak memory so far: of the whole process on a CPU, of torch's allocator on a GPU."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.is_file():  # on Linux, `getrusage` would count the parent's peak too
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
