"""Costs that depend on the machine: wall-clock time and memory, always stated with device and threads."""

import resource
import statistics
import sys
import time
from collections.abc import Sequence
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


def latency(network: Network, *, num_images: int = 1, repeats: int = 10, warmup: int = 2) -> Latency:
    """Time forward passes of `num_images` images on the network's own device."""
    return latencies([network], num_images=num_images, repeats=repeats, warmup=warmup)[0]


@torch.no_grad()
def latencies(networks: Sequence[Network], *, num_images: int = 1, repeats: int = 10, warmup: int = 2) -> list[Latency]:
    """Time several networks in turn, so that whatever else the machine does meanwhile meets all of them alike."""
    seconds: list[list[float]] = [[] for _ in networks]
    devices = [next(network.parameters()).device for network in networks]
    inputs = [network.example_inputs(num_images) for network in networks]
    for _ in range(warmup + repeats):
        for index, network in enumerate(networks):
            start = time.perf_counter()
            network(**inputs[index])
            if devices[index].type == "cuda":
                torch.cuda.synchronize(devices[index])
            seconds[index].append(time.perf_counter() - start)
    return [
        Latency(statistics.median(found[warmup:]) * 1e3, num_images, repeats, torch.get_num_threads(), str(device))
        for found, device in zip(seconds, devices, strict=True)
    ]


def peak_memory_mib(device: torch.device | str = "cpu") -> float:
    """Peak memory so far: of the whole process on a CPU, of torch's allocator on a GPU."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.is_file():  # on Linux, `getrusage` would count the parent's peak too
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
