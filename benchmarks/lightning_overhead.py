"""What Lightning adds to one iteration: the same steps by `Trainer.fit` and by a bare loop, on networks so small that
the difference is not lost in convolutions.

    python benchmarks/lightning_overhead.py [--iterations 200] [--threads 1]

The milliseconds hardly depend on the networks' size, so they can be set against an iteration of any size.
"""

import argparse
import itertools
import statistics
import time
from functools import partial

import torch
from loops import experiment_loop, networks
from timing import prepare, spread
from torch import Tensor
from torch.utils.data import DataLoader

from limbeck.distillation.distiller import Distiller
from limbeck.embeddings.torchvision_shim import imported

pl = imported("pytorch_lightning")


class Clock(pl.Callback):
    """CPU time at the end of every batch."""

    def __init__(self):
        self.stamps: list[float] = []

    def on_train_batch_end(self, *_: object) -> None:
        self.stamps.append(time.process_time())


def lightning_ms(make: partial, batches: list[tuple[Tensor, Tensor]]) -> float:
    clock = Clock()
    Distiller._quiet()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(make().module, train_dataloaders=DataLoader(batches, batch_size=None))
    return median_interval_ms(clock.stamps)


def bare_ms(make: partial, batches: list[tuple[Tensor, Tensor]]) -> float:
    loop, stamps = make(), []
    for batch in batches:
        loop.iteration(batch)
        stamps.append(time.process_time())
    return median_interval_ms(stamps)


def median_interval_ms(stamps: list[float]) -> float:
    return 1000 * statistics.median(b - a for a, b in itertools.pairwise(stamps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    print(prepare(options.threads))
    options.terms, options.resolution, options.channel_base, options.ratio, options.batch = "bare", 8, 64, 0.5, 2
    nets = networks(options)
    make = partial(experiment_loop, options, nets, half=False, trunk="")
    image = torch.randint(0, 256, (options.batch, 3, 8, 8), dtype=torch.uint8)
    batches = [(image, torch.zeros(options.batch, dtype=torch.int64))] * options.iterations
    lightning, bare = [], []
    for _ in range(options.repeats):
        lightning.append(lightning_ms(make, batches))
        bare.append(bare_ms(make, batches))
    added = [a - b for a, b in zip(lightning, bare, strict=True)]
    print(f"CPU ms per iteration (median of {options.iterations}): Lightning {spread(lightning)}, bare {spread(bare)}")
    print(f"Lightning adds {spread(added)} ms per iteration")


if __name__ == "__main__":
    main()
