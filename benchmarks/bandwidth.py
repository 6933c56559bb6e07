"""Is the plan for many GPUs right about communication? Two processes train over a network of known speed.

    sudo python benchmarks/bandwidth.py --out bandwidth.json          # Linux, root, `ip` and `tc` (iproute2)

Makes two network namespaces joined by a virtual cable, throttles both ends (token bucket of `tc`) and trains a
StyleGAN2 on random pixels by two processes, one in each, over gloo, as `trainer=multinode` does. The rounds go through
all bandwidths in turn, so that other work on the machine touches all of them alike. Compared are

    predicted = seconds of a step without a throttle + 2 (p - 1) / p * bytes of a step / bandwidth,     p = 2 processes,

the formula of docs/scale.md, with the seconds measured, and the bytes of the formula with what the cable carried.
Removes what it has made.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

PLACES = ("limbeck0", "limbeck1")  # namespaces, and the names of the cable's ends in them
ADDRESSES = ("10.213.7.1", "10.213.7.2")
PORT = "29517"
MEGABIT = 125_000  # bytes


def shell(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def cable() -> Iterator[None]:
    """Two namespaces, a cable between them."""
    try:
        for place in PLACES:
            shell("ip", "netns", "add", place)
        shell("ip", "link", "add", PLACES[0], "type", "veth", "peer", "name", PLACES[1])
        for place, address in zip(PLACES, ADDRESSES, strict=True):
            shell("ip", "link", "set", place, "netns", place)
            shell("ip", "-n", place, "address", "add", f"{address}/24", "dev", place)
            shell("ip", "-n", place, "link", "set", place, "up")
            shell("ip", "-n", place, "link", "set", "lo", "up")
        yield
    finally:
        for place in PLACES:
            subprocess.run(["ip", "netns", "delete", place], capture_output=True, check=False)


def throttle(place: str, megabits: float | None) -> None:
    """Let one end of the cable send no faster than that; None takes the limit away."""
    subprocess.run(["tc", "qdisc", "delete", "dev", place, "root"], capture_output=True, check=False)
    if megabits is not None:
        burst = str(max(16_384, int(megabits * MEGABIT / 500)))  # bytes that may pass at once: two milliseconds' worth
        limits = ["rate", f"{megabits:g}mbit", "burst", burst, "latency", "200ms"]
        shell("tc", "qdisc", "add", "dev", place, "root", "tbf", *limits)


def sent(place: str) -> int:
    return int(Path(f"/sys/class/net/{place}/statistics/tx_bytes").read_text())


def trained(rank: int, options: argparse.Namespace) -> dict[str, Any]:
    """In a namespace: train, change the throttle after every phase, note its seconds and bytes."""
    # limbeck first, as the package mends what torchvision lacks beside a CPU build of torch.
    from limbeck.architectures.stylegan2 import Discriminator, Generator
    from limbeck.distillation.gan import GanDistillation
    from limbeck.distillation.shared_gradients import SharedGradients
    from limbeck.distillation.trainer import trainer
    from limbeck.losses.adversarial import NonSaturatingDiscriminator, NonSaturatingGenerator
    from limbeck.losses.weighted import Weighted
    from limbeck.model import Model, Pair

    import torch  # isort: skip
    import torch.distributed as dist  # isort: skip
    import pytorch_lightning as pl  # isort: skip
    from torch.utils.data import DataLoader, IterableDataset  # isort: skip

    class Pixels(IterableDataset):
        def __iter__(self):
            image = torch.randint(256, (options.batch, 3, 32, 32), dtype=torch.uint8)
            while True:
                yield image, torch.zeros(options.batch, dtype=torch.long)

    class Phases(pl.Callback):
        """Goes through `plan`, `steps` steps each, the first of them not counted."""

        def __init__(self, plan: list[float | None]) -> None:
            self.plan, self.done, self.phases = plan, 0, []

        def on_train_batch_end(self, run: Any, *_others: Any) -> None:
            place = self.done % (options.steps + 1)
            if place == 0:
                self.began, self.sent = time.perf_counter(), sent(PLACES[rank])
            elif place == options.steps:
                took = (time.perf_counter() - self.began) / options.steps
                bytes_sent = (sent(PLACES[rank]) - self.sent) / options.steps
                self.phases.append({"megabits": self.plan[len(self.phases)], "seconds": took, "bytes": bytes_sent})
                if len(self.phases) == len(self.plan):
                    run.should_stop = True
                    return
                dist.barrier()
                throttle(PLACES[rank], self.plan[len(self.phases)])
                dist.barrier()
            self.done += 1

    torch.manual_seed(0)
    torch.set_num_threads(1)
    shape = {"resolution": 32, "channel_base": options.channel_base, "channel_max": 512}
    generator, judge = Generator(**shape), Discriminator(**shape)
    module = GanDistillation(
        Pair(Model(generator, judge), Model(generator)),
        judges={"fresh": judge},
        generator_terms={"nonsaturating": Weighted(term=NonSaturatingGenerator())},
        discriminator_terms={"nonsaturating": Weighted(term=NonSaturatingDiscriminator())},
        generator_optimizer=lambda p: torch.optim.Adam(p, lr=1e-4, betas=(0.0, 0.99)),
        discriminator_optimizer=lambda p: torch.optim.Adam(p, lr=1e-4, betas=(0.0, 0.99)),
        kimg=1e6,
        batch_size=2 * options.batch,
        use_teacher=False,
    )
    plan = [megabits for _ in range(options.rounds) for megabits in (None, *options.megabits)]
    phases = Phases([None, *plan])  # the first is warming up
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    run = trainer(
        accelerator="cpu",
        devices=1,
        num_nodes=2,
        strategy=SharedGradients(),
        callbacks=[phases],
        max_epochs=-1,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **quiet,
    )
    run.fit(module, DataLoader(Pixels(), batch_size=None))
    numbers = [sum(p.numel() for p in network.parameters()) for network in (module.student, module.judges)]
    return {"parameters": numbers, "phases": phases.phases[1:]}


def compared(found: dict[str, Any], rounds: int) -> list[dict[str, float]]:
    """A line for each bandwidth: seconds and bytes measured, and what the formula says."""
    each = len(found["phases"]) // rounds
    turns = [found["phases"][start : start + each] for start in range(0, len(found["phases"]), each)]
    own = 4 * sum(found["parameters"])  # of float32, each player's turn once; 2 (p - 1) / p is 1 for two processes
    lines = []
    for place in range(1, each):
        free, limited = ([turn[where] for turn in turns] for where in (0, place))
        megabits = limited[0]["megabits"]
        predicted = [phase["seconds"] + own / (megabits * MEGABIT) for phase in free]
        ratios = [phase["seconds"] / seconds for phase, seconds in zip(limited, predicted, strict=True)]
        lines.append(
            {
                "megabits": megabits,
                "seconds_free": statistics.median(phase["seconds"] for phase in free),
                "seconds": statistics.median(phase["seconds"] for phase in limited),
                "predicted": statistics.median(predicted),
                "ratio": statistics.median(ratios),
                "least_ratio": min(ratios),
                "most_ratio": max(ratios),
                "megabytes": statistics.median(phase["bytes"] for phase in limited) / 1e6,
                "predicted_megabytes": own / 1e6,
            }
        )
    return lines


def table(lines: list[dict[str, float]]) -> str:
    rows = ["| Mbit/s | free, s | measured, s | predicted, s | measured / predicted | MB sent a step | predicted |"]
    rows.append("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for line in lines:
        spread = f"{line['ratio']:.2f} [{line['least_ratio']:.2f} {line['most_ratio']:.2f}]"
        seconds = " | ".join(f"{line[name]:.3g}" for name in ("seconds_free", "seconds", "predicted"))
        megabytes = f"{line['megabytes']:.2f} | {line['predicted_megabytes']:.2f}"
        rows.append(f"| {line['megabits']:g} | {seconds} | {spread} | {megabytes} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabits", type=float, nargs="+", default=[400.0, 100.0, 25.0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6, help="of each phase")
    parser.add_argument("--batch", type=int, default=2, help="images of a process and step")
    parser.add_argument("--channel-base", type=int, default=1024)
    parser.add_argument("--out", type=Path, help="file for the figures, JSON")
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank is not None:
        found = trained(options.rank, options)
        if options.rank == 0:
            options.out.write_text(json.dumps(found))
        return
    out = options.out or Path("bandwidth.json")
    meet = {"WORLD_SIZE": "2", "MASTER_ADDR": ADDRESSES[0], "MASTER_PORT": PORT, "LOCAL_WORLD_SIZE": "1"}
    with cable():
        processes = []
        for rank, place in enumerate(PLACES):
            own = [*sys.argv[1:], "--out", str(out), "--rank", str(rank)]
            # Two nodes of one process each; TORCHELASTIC_RUN_ID tells Lightning that a launcher started them.
            how = {**meet, "RANK": str(rank), "LOCAL_RANK": "0", "GROUP_RANK": str(rank), "OMP_NUM_THREADS": "1"}
            how |= {"GLOO_SOCKET_IFNAME": place, "TORCHELASTIC_RUN_ID": "bandwidth"}
            command = ["ip", "netns", "exec", place, sys.executable, "-W", "ignore", __file__, *own]
            processes.append(subprocess.Popen(command, env={**os.environ, **how}))
        codes = [process.wait() for process in processes]
    if any(codes):
        sys.exit(f"error: exit codes {codes}")
    found = json.loads(out.read_text())
    lines = compared(found, options.rounds)
    out.write_text(json.dumps({"date": f"{date.today()}", "lines": lines, **found}, indent=1) + "\n")
    print(table(lines))


if __name__ == "__main__":
    main()
