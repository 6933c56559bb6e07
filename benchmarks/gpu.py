"""What one GPU does, in under eight minutes: training, distillation, sampling, memory, reads by the host.

    python benchmarks/gpu.py --out gpu.json          # on a GPU
    python benchmarks/gpu.py --tiny --seconds 1      # on a CPU: does it run at all

Real training through Lightning on random pixels and random weights (speed does not depend on their values). Each row is
given `--seconds` after its first steps; a row that fails says so and the others go on. Prints a table, writes JSON.

CUDA graphs are measured where they are possible: in sampling, whose shapes and weights stay. Two processes on one card
show what sharing gradients costs: by NCCL, which may refuse to have two ends on one card, and by gloo, which does not.
On a CPU the graphs' rows run without a graph, and the two processes by gloo.
"""

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
from gpu_training import networks, objectives, synchronize, training

from limbeck import devices
from limbeck.architectures.ddpm import UNet
from limbeck.distillation.shared_gradients import SharedGradients
from limbeck.parallel import world_size


def together(options, *, backend: str) -> dict[str, float]:
    """The same training by two processes on one device, each with half of the images of a step."""
    with tempfile.TemporaryDirectory() as place, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
        probe.close()
        processes = []
        for rank in range(2):
            # Two nodes of one process each, as Lightning sees it, so that both take the first card.
            meet = {"RANK": str(rank), "LOCAL_RANK": "0", "GROUP_RANK": str(rank), "WORLD_SIZE": "2"}
            meet |= {"LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            own = ["--half-of-two", backend, "--seconds", str(options.seconds), "--out", f"{place}/{rank}"]
            command = [sys.executable, __file__, *own, *(["--tiny"] if options.tiny else [])]
            how = {**os.environ, **meet, "TORCHELASTIC_RUN_ID": "gpu"}
            processes.append(subprocess.Popen(command, env=how, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
        try:
            said = [
                process.communicate(timeout=600 if options.tiny else 90 + 5 * options.seconds)[1].decode()
                for process in processes
            ]
        finally:
            for process in processes:
                process.kill()
        if any(process.returncode for process in processes):
            raise RuntimeError(next((line for text in said for line in reversed(text.splitlines()) if line), "failed"))
        found = json.loads(Path(f"{place}/0").read_text())
    return {**found, "peak_memory_mib": 2 * found["peak_memory_mib"]}


def half_of_two(options: argparse.Namespace) -> None:
    """One of the two processes of `together`."""
    how = {"precision": "32-true" if options.tiny else "bf16-mixed", "num_nodes": 2}
    how |= {"strategy": SharedGradients(process_group_backend=options.half_of_two), "use_distributed_sampler": False}
    base = 512 if options.tiny else 32768
    found = training(options, channel_base=base, terms={}, student=True, **how)
    assert world_size() == 2
    options.out.write_text(json.dumps(found))


def replayed(run: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    """`run` captured as a CUDA graph; itself elsewhere."""
    if device.type != "cuda":
        return run
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # what is set up on first use must not be captured
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


@torch.no_grad()
def sampling(options, network: torch.nn.Module, *, half: bool, graph: bool = False) -> dict[str, float]:
    """Images (or estimates of the noise) per second of one network."""
    device = devices.device()
    network = network.to(device).eval()
    inputs = network.example_inputs(options.batch)
    count, began = 0, 0.0
    with contextlib.ExitStack() as held:
        # A cache of converted weights would be captured with the graph and be gone when it is replayed.
        held.enter_context(torch.autocast(device.type, dtype=torch.bfloat16, enabled=half, cache_enabled=not graph))
        held.enter_context(devices.exact())
        draw = replayed(lambda: network(**inputs), device) if graph else lambda: network(**inputs)
        for turn in range(10**9):
            if turn == 3:
                synchronize()
                began = time.perf_counter()
            draw()
            count += turn >= 3
            if turn % 8 == 0:  # or the queue grows far ahead of the device
                synchronize()
            if turn > 3 and time.perf_counter() - began > options.seconds / 2:
                synchronize()
                return {"images_per_second": count * options.batch / (time.perf_counter() - began)}
    raise AssertionError("unreachable")


def rows(options: argparse.Namespace) -> dict[str, Callable[[], dict[str, float]]]:
    """What is measured, by the name of its row."""
    found: dict[str, Callable[[], dict[str, float]]] = {}
    ways = {
        "float32": {"precision": "32-true"},
        "float32, TF32": {"precision": "32-true", "tf32": True},
        "bfloat16": {"precision": "bf16-mixed"},
        "bfloat16, compiled": {"precision": "bf16-mixed", "compile": "all"},
    }
    if options.tiny:
        ways = {"float32": ways["float32"]}
    for width, base in {"small": 16384, "base": 32768}.items():
        base = 512 if options.tiny else base
        for way, how in ways.items():
            name = f"train {width}, {way}"
            found[name] = lambda base=base, how=how: training(
                options, channel_base=base, terms={}, student=False, **how
            )
    last = list(ways.values())[-1 if options.tiny else -2]
    for objective, terms in objectives(options.resolution).items():
        found[f"distil base, {objective}"] = lambda terms=terms: training(
            options, channel_base=512 if options.tiny else 32768, terms=terms, student=True, **last
        )
    teacher, student, _ = networks(options, 512 if options.tiny else 32768)
    unet = UNet(level_widths=[32, 32], blocks_per_level=1) if options.tiny else UNet()
    for who, network in {"teacher": teacher, "student": student, "DDPM-CIFAR estimate": unet}.items():
        for half, graph in ((False, False), (True, False), (True, True)):
            name = f"sample {who}, {'bfloat16' if half else 'float32'}{', CUDA graph' if graph else ''}"
            found[name] = lambda network=network, half=half, graph=graph: sampling(
                options, network, half=half, graph=graph
            )
    for backend in ("nccl", "gloo") if torch.cuda.is_available() else ("gloo",):
        found[f"two processes, one device, {backend}"] = lambda backend=backend: together(options, backend=backend)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file for the figures, JSON")
    parser.add_argument("--seconds", type=float, default=12.0, help="for each row after its warm-up")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--tiny", action="store_true", help="small networks, to try the script on a CPU")
    parser.add_argument("--half-of-two", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = {"resolution": 16, "batch": 4, "channel_max": 16} if options.tiny else None
    vars(options).update(sizes or {"resolution": 256, "batch": 32, "channel_max": 512})
    warnings.simplefilter("ignore")
    devices.choose()
    if options.half_of_two:
        half_of_two(options)
        return
    about = {"date": f"{date.today()}", "device": devices.described(), "torch": torch.__version__}
    about |= {"batch": options.batch, "resolution": options.resolution}
    print(
        json.dumps(about), "", "| what | images/s | peak MiB | reads a step |", "| --- | ---: | ---: | ---: |", sep="\n"
    )
    figures: dict[str, Any] = {}
    for name, run in rows(options).items():
        if options.only not in name:
            continue
        try:
            found = figures[name] = run()
            shown = [found.get(key) for key in ("images_per_second", "peak_memory_mib", "reads_per_step")]
            cells = ["-" if value is None else f"{value:.3g}" for value in shown]
        except Exception as error:  # one row must not cost the others
            figures[name] = {"failed": f"{type(error).__name__}: {error}"[:300]}
            cells = [figures[name]["failed"].splitlines()[0], "", ""]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
        if options.out:
            options.out.write_text(json.dumps({"about": about, "rows": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
