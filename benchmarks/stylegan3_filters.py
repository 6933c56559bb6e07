"""StyleGAN3's synthesis, with its filters as they are here and by zero insertion, on the same weights.

Both forms of every network run in turn in one process, batch 1; memory is measured in a process per form.
    python benchmarks/stylegan3_filters.py [--repeats 3] [--resolution 256] [--ratio 0.7] [--only T-teacher R-student]
"""

import argparse
import contextlib
import math
import subprocess
import sys
from collections.abc import Iterator
from unittest import mock

import torch
import torch.nn.functional as F
from timing import interleaved, others_line, prepare, spread
from torch import Tensor

from limbeck.architectures import stylegan3
from limbeck.profiling import peak_memory_mib
from limbeck.pruning.allocation import Uniform, allocated
from limbeck.pruning.slimming import slim

CONFIGURATIONS = {
    "T": {"channel_base": 16384, "channel_max": 512, "kernel": 3, "radial": False},
    "R": {"channel_base": 32768, "channel_max": 1024, "kernel": 1, "radial": True},
}
NETWORKS = [f"{configuration}-{who}" for configuration in CONFIGURATIONS for who in ("teacher", "student")]


def by_zero_insertion(x: Tensor, up_filter: Tensor, down_filter: Tensor, *, up: int, crop: int, clamp) -> Tensor:
    """The reference: zeros between the samples, filters at the high rate, every second sample kept."""
    n, c, h, w = x.shape
    x = F.pad(x.contiguous().reshape(n, c, h, 1, w, 1), [0, up - 1, 0, 0, 0, up - 1]).reshape(n, c, h * up, w * up)
    low = len(up_filter) - 1 - crop
    x = F.pad(x, [low, low - up + 1] * 2)
    x = along_both(x, up_filter * up)
    x = F.leaky_relu(x * math.sqrt(2), 0.2)
    if clamp is not None:
        x = x.clamp(-clamp, clamp)
    if down_filter.ndim == 2:
        x = F.conv2d(x, down_filter.expand(c, 1, *down_filter.shape), groups=c)
    else:
        x = along_both(x, down_filter)
    return x[:, :, ::2, ::2]


def along_both(x: Tensor, taps: Tensor) -> Tensor:
    c = x.shape[1]
    x = F.conv2d(x, taps.view(-1, 1).expand(c, 1, -1, 1), groups=c)
    return F.conv2d(x, taps.view(1, -1).expand(c, 1, 1, -1), groups=c)


@contextlib.contextmanager
def form(name: str) -> Iterator[None]:
    """Inside, networks filter in this "form": ours or reference."""
    if name == "ours":
        yield
        return
    with mock.patch.object(stylegan3, "filtered_leaky_relu", by_zero_insertion):
        yield


def network(name: str, resolution: int, ratio: float) -> stylegan3.Generator:
    configuration, who = name.split("-")
    torch.manual_seed(0)
    full = stylegan3.Generator(resolution=resolution, **CONFIGURATIONS[configuration]).eval()
    if who == "teacher":
        return full
    scores = {group.name: torch.rand(group.size) for group in full.channel_groups()}
    found = slim(full, allocated(full, scores, Uniform(), ratio=ratio))
    assert isinstance(found, stylegan3.Generator)
    return found


@torch.no_grad()
def measure(name: str, arguments: argparse.Namespace) -> None:
    generator = network(name, arguments.resolution, arguments.ratio)
    style = generator.mapping(torch.randn(1, 512))

    def drawn(one: str) -> Tensor:
        with form(one):
            return generator.synthesis(style)

    times = interleaved({"ours": lambda: drawn("ours"), "reference": lambda: drawn("reference")}, arguments.repeats)
    ours, theirs = drawn("ours"), drawn("reference")
    memory = {one: peak_memory(name, one, arguments) for one in times}
    print(f"{name}: {generator.macs() / 1e9:.1f} GMAC, filters {generator.filter_macs() / 1e9:.2f}")
    for one, found in times.items():
        seconds = f"{spread(found.wall)} s, {spread(found.cpu)} s of the processor"
        print(f"  {one:9} {seconds}, {memory[one]:.0f} MiB beside the network")
    print(f"  reference over ours: {times['reference'].ratio_to(times['ours'])}", end=", ")
    print(f"memory {memory['ours'] / memory['reference']:.2f}", end=", ")
    print(f"deviation {((ours - theirs).abs().max() / theirs.abs().max()).item():.1e}")
    print(f"  {others_line(times)}", flush=True)


def peak_memory(name: str, one: str, arguments: argparse.Namespace) -> float:
    """MiB that one image adds to a process that holds the network already."""
    command = [sys.executable, __file__, "--memory", name, one]
    command += ["--resolution", str(arguments.resolution), "--ratio", str(arguments.ratio)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@torch.no_grad()
def print_memory(name: str, one: str, arguments: argparse.Namespace) -> None:
    generator = network(name, arguments.resolution, arguments.ratio)
    style = generator.mapping(torch.randn(1, 512))
    before = peak_memory_mib()
    with form(one):
        generator.synthesis(style)
    print(peak_memory_mib() - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--ratio", type=float, default=0.7)
    parser.add_argument("--only", nargs="+", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    conditions = prepare(arguments.threads)
    if arguments.memory:
        print_memory(*arguments.memory, arguments)
        return
    print(conditions)
    for name in arguments.only:
        measure(name, arguments)


if __name__ == "__main__":
    main()
