"""Costs that depend on the machine: wall-clock time and memory, always stated with device and threads.

Other work on the machine only ever adds time. So networks are timed in turn, round by round; what the calling thread
waited for a core is taken off (Linux tells), the fastest round counts, and how far the fastest rounds of the
measurement's parts lie apart says whether that figure can be trusted.
"""

import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from limbeck.architectures.base import Network

PARTS = 3
ROUNDS, LEAST_ROUNDS, SECONDS = 60, 9, 10.0


class Round(NamedTuple):
    """seconds: without what the calling thread waited for a core. waited: by this process's other threads, seconds."""

    seconds: float
    waited: float = 0.0


@dataclass(frozen=True)
class Latency:
    """Wall-clock of one forward pass under no_grad, and the machine's side of it.

    latency_ms: the fastest round. spread: how far it may be off, as a share, see `spread`; near 0 on an idle machine.
    """

    latency_ms: float
    spread: float
    num_images: int
    rounds: int
    num_threads: int
    device: str


def latency(network: Network, *, num_images: int = 1, rounds: int | None = None, warmup: int = 2) -> Latency:
    """Time forward passes of `num_images` images on the network's own device."""
    return latencies([network], num_images=num_images, rounds=rounds, warmup=warmup)[0]


@torch.no_grad()
def latencies(
    networks: Sequence[Network], *, num_images: int = 1, rounds: int | None = None, warmup: int = 2
) -> list[Latency]:
    """Time several networks in turn, so that whatever else the machine does meanwhile meets all of them alike."""
    devices = [next(network.parameters()).device for network in networks]
    calls = [_call(network, device, num_images) for network, device in zip(networks, devices, strict=True)]
    found = timed_in_turn(calls, rounds=rounds, warmup=warmup)
    return [
        Latency(min(some).seconds * 1e3, spread(some), num_images, len(some), torch.get_num_threads(), str(device))
        for some, device in zip(found, devices, strict=True)
    ]


def timed_in_turn(
    calls: Sequence[Callable[[], object]], *, rounds: int | None = None, warmup: int = 2
) -> list[list[Round]]:
    """Every call in every round. rounds: None for as many as fit into some seconds, 9 to 60."""
    found: list[list[Round]] = [[] for _ in calls]
    for _ in range(warmup):
        for call in calls:
            call()
    spent = 0.0
    with own_wait() as waited:
        while len(found[0]) < (rounds or ROUNDS):
            for call, some in zip(calls, found, strict=True):
                before = others_wait()
                start, own = time.perf_counter(), waited()  # in this order: what falls between them only adds
                call()
                own = max(waited() - own, 0.0)
                seconds = time.perf_counter() - start
                some.append(Round(seconds - own, max(others_wait() - before, 0.0)))
                spent += seconds
            if rounds is None and len(found[0]) >= LEAST_ROUNDS and spent > SECONDS:
                break
    return found


def spread(rounds: Sequence[Round]) -> float:
    """How far the fastest round may be off, as a share of it.

    Each third of the rounds has its fastest; this is by how much the slowest of the three is slower than the fastest,
    and what other threads waited for a core in that one.
    """
    size = max(len(rounds) // PARTS, 1)
    fastest = [min(rounds[start : start + size]) for start in range(0, min(PARTS * size, len(rounds)), size)]
    best = min(fastest)
    return (max(fastest).seconds - best.seconds + best.waited) / best.seconds


@contextmanager
def own_wait() -> Iterator[Callable[[], float]]:
    """A quick function: seconds that this thread was ready but had no core so far; always 0 if that is unknown."""
    try:
        file = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
    except OSError:
        yield lambda: 0.0
        return
    try:
        yield lambda: int(os.pread(file, 100, 0).split()[1]) / 1e9
    finally:
        os.close(file)


def others_wait() -> float:
    """Seconds that the other threads of this process were ready but had no core so far; 0 if that is unknown."""
    total, own = 0, str(threading.get_native_id())
    for file in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError, IndexError, ValueError):
            total += 0 if file.parent.name == own else int(file.read_text().split()[1])
    return total / 1e9


def _call(network: Network, device: torch.device, num_images: int) -> Callable[[], None]:
    inputs = network.example_inputs(num_images)

    def call() -> None:
        network(**inputs)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return call


def peak_memory_mib(device: torch.device | str = "cpu") -> float:
    """Peak memory so far: of the whole process on a CPU, of torch's allocator on a GPU."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.is_file():  # on Linux, `getrusage` would count the parent's peak too
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
