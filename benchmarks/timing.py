"""Fair timing on a machine that others may use: interleaved repetitions, medians with their range, who else ran.

Wall-clock time is what a user waits; process CPU time hardly changes when another job takes part of the cores, so with
one thread its ratios hold on a busy machine too. Every ratio is taken inside one repetition.
"""

import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import torch

from limbeck.startup import set_allocator


@dataclass
class Times:
    """Seconds of each repetition, and the cores that other processes used meanwhile (None: unknown)."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    others: list[float | None] = field(default_factory=list)

    def per_second(self, amount: float) -> str:
        return spread([amount / t for t in self.wall])

    def ratio_to(self, other: "Times") -> str:
        """How many times longer than `other` this takes, by wall-clock and by CPU time."""
        wall = [mine / its for mine, its in zip(self.wall, other.wall, strict=True)]
        cpu = [mine / its for mine, its in zip(self.cpu, other.cpu, strict=True)]
        return f"{spread(wall)} x wall, {spread(cpu)} x CPU"


def spread(values: list[float]) -> str:
    """Median [min max]."""
    return f"{statistics.median(values):.3g} [{min(values):.3g} {max(values):.3g}]"


def interleaved(runs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Times]:
    """Each run once to warm up, then `repeats` rounds of all of them in turn."""
    for run in runs.values():
        run()
    times = {name: Times() for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            busy, cpu, wall = _busy_seconds(), time.process_time(), time.perf_counter()
            run()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            times[name].wall.append(wall)
            times[name].cpu.append(cpu)
            times[name].others.append(None if busy is None else max(0.0, (_busy_seconds() - busy - cpu) / wall))
    return times


def _busy_seconds() -> float | None:
    """CPU time of all processes of this machine since it started, from the Linux kernel's counters."""
    if not sys.platform.startswith("linux"):
        return None
    user, nice, system = Path("/proc/stat").read_text().split()[1:4]
    return (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")


def others_line(times: Mapping[str, Times]) -> str:
    seen = [value for t in times.values() for value in t.others if value is not None]
    return f"cores used by other processes meanwhile: {spread(seen)}" if seen else "other processes: unknown"


def prepare(threads: int | None) -> str:
    """Set threads and allocator as the entry points do; returns one line naming the conditions."""
    warnings.filterwarnings("ignore", module="torchvision.models._utils")
    tuned = set_allocator()
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = next((line.split(":")[1].strip() for line in _cpu_lines() if line.startswith("model name")), "")
    return (
        f"{date.today()}, {model or platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} "
        f"cores, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}, "
        f"allocator {'tuned' if tuned else 'default'}"
    )


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []
