"""Is `trainer.compile` worth it on a CPU? The quickstart's own networks, none, frozen and all of them compiled.

    python benchmarks/compiled.py --steps 12

One way after the other, each in a process of its own; seconds of the processor, one thread, so that other work on the
machine hardly matters. R1 and path length never run compiled and are left out; a step is an ordinary one of both
players, with the teacher's images compared pixel by pixel and by Lite0's features.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
from typing import Any

WAYS = ("none", "frozen", "all")


def spent() -> float:
    """Seconds of the processor so far, of compilers too."""
    now = os.times()
    return now.user + now.system + now.children_user + now.children_system


def measured(way: str, steps: int, batch: int) -> dict[str, Any]:
    """Seconds of the processor until the third step is over, and of each step after that."""
    import torch
    from gpu_training import Pixels, pl
    from torch.utils.data import DataLoader

    from limbeck.configured import configured
    from limbeck.distillation.gan import GanDistillation
    from limbeck.distillation.trainer import trainer
    from limbeck.embeddings.lite0 import EfficientNetLite0
    from limbeck.losses.adversarial import NonSaturatingDiscriminator, NonSaturatingGenerator
    from limbeck.losses.perceptual import Perceptual
    from limbeck.losses.pixel_l1 import PixelL1
    from limbeck.losses.weighted import Weighted
    from limbeck.model import Pair
    from limbeck.pruning.pruner import prune

    class Clock(pl.Callback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_train_batch_end(self, run: Any, *_others: Any) -> None:
            self.times.append(spent())
            run.should_stop = len(self.times) == steps + 3

    torch.set_num_threads(1)
    torch.manual_seed(0)
    teacher = configured("teacher", "robohash32")()
    student = prune(teacher, "l1", 0.7)
    module = GanDistillation(
        Pair(teacher, student),
        judges={"teacher": student.discriminator},
        generator_terms={
            "nonsaturating": Weighted(term=NonSaturatingGenerator()),
            "pixel_l1": Weighted(term=PixelL1()),
            "perceptual": Weighted(term=Perceptual(embedding=EfficientNetLite0(resolution=32))),
        },
        discriminator_terms={"nonsaturating": Weighted(term=NonSaturatingDiscriminator())},
        generator_optimizer=lambda p: torch.optim.Adam(p, lr=1e-4, betas=(0.0, 0.99)),
        discriminator_optimizer=lambda p: torch.optim.Adam(p, lr=1e-4, betas=(0.0, 0.99)),
        kimg=1e6,
        batch_size=batch,
    )
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    clock, began = Clock(), spent()
    run = trainer(
        accelerator="cpu", devices=1, callbacks=[clock], max_epochs=-1, enable_model_summary=False, compile=way, **quiet
    )
    run.fit(module, DataLoader(Pixels(batch, 32), batch_size=None))
    settled = clock.times[2:]
    each = [after - before for before, after in itertools.pairwise(settled)]
    return {"first_seconds": settled[0] - began, "step_seconds": each}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--ways", nargs="+", default=list(WAYS))
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one, options.steps, options.batch)))
        return
    print("| compiled | first three steps, CPU s | a step after that, CPU s | images a CPU second |")
    print("| --- | ---: | ---: | ---: |", flush=True)
    for way in options.ways:
        command = [sys.executable, "-W", "ignore", __file__, "--one", way, "--steps", str(options.steps)]
        command += ["--batch", str(options.batch)]
        said = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True)
        found = json.loads(said.stdout.splitlines()[-1])
        each = found["step_seconds"]
        spread = f"{statistics.median(each):.3g} [{min(each):.3g} {max(each):.3g}]"
        rate = options.batch / statistics.median(each)
        print(f"| {way} | {found['first_seconds']:.3g} | {spread} | {rate:.3g} |", flush=True)


if __name__ == "__main__":
    main()
