"""Training as `gpu.py` measures it: random pixels, random weights, whole steps of Lightning's loop."""

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from limbeck import devices
from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.distillation.gan import GanDistillation
from limbeck.distillation.trainer import trainer
from limbeck.embeddings.lite0 import EfficientNetLite0
from limbeck.embeddings.torchvision_shim import imported
from limbeck.losses.adversarial import NonSaturatingDiscriminator, NonSaturatingGenerator
from limbeck.losses.dime import Dime
from limbeck.losses.perceptual import Perceptual
from limbeck.losses.pixel_l1 import PixelL1
from limbeck.losses.regularization import R1, PathLength
from limbeck.losses.relation import Relation
from limbeck.losses.weighted import Weighted
from limbeck.model import Model, Pair
from limbeck.parallel import largest
from limbeck.profiling import peak_memory_mib
from limbeck.pruning.allocation import kept_count

pl = imported("pytorch_lightning")
WARM_UP = 17  # steps: each lazy turn has come once, and whatever is compiled is
READS = ("item", "__bool__", "__int__", "__float__", "cpu", "tolist")


class Pixels(IterableDataset):
    """One batch of random pixels again and again, so that reading costs nothing."""

    def __init__(self, batch: int, resolution: int):
        self.batch = (
            torch.randint(256, (batch, 3, resolution, resolution), dtype=torch.uint8),
            torch.zeros(batch).long(),
        )

    def __iter__(self):
        while True:
            yield self.batch


class Clock(pl.Callback):
    """Times whole steps after the warm-up, counts reads of values, and stops when its seconds are over."""

    def __init__(self, seconds: float, warm_up: int):
        self.seconds, self.warm_up, self.reads, self.steps = seconds, warm_up, 0, 0

    def on_train_batch_end(self, trainer, module, *others):
        self.steps += 1
        if self.steps == self.warm_up:
            synchronize()
            self.began, self.read_before = time.perf_counter(), Reads.count
        elif self.steps > self.warm_up and self._over(module.device):
            synchronize()
            self.took, self.reads = time.perf_counter() - self.began, Reads.count - self.read_before
            trainer.should_stop = True

    def _over(self, device: torch.device) -> bool:
        """In all processes at the same step."""
        return bool(largest(int(time.perf_counter() - self.began > self.seconds), device))


class Reads:
    """Counts reads of a tensor's value while it is entered."""

    count = 0

    def __enter__(self):
        self.real = {name: getattr(torch.Tensor, name) for name in READS}
        for name, real in self.real.items():
            setattr(torch.Tensor, name, self._counted(real))

    def __exit__(self, *_):
        for name, real in self.real.items():
            setattr(torch.Tensor, name, real)

    @staticmethod
    def _counted(real: Callable) -> Callable:
        def read(tensor, *arguments, **more):
            Reads.count += tensor.device.type == "cuda" or not torch.cuda.is_available()
            return real(tensor, *arguments, **more)

        return read


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def networks(options: argparse.Namespace, channel_base: int) -> tuple[Generator, Generator, Discriminator]:
    """Random teacher, student with 30 % of its channels, judge."""
    torch.manual_seed(0)
    shape = {"resolution": options.resolution, "channel_base": channel_base, "channel_max": options.channel_max}
    teacher = Generator(**shape)
    student = teacher.resized({g.name: kept_count(g.size, 0.7) for g in teacher.channel_groups()})
    return teacher, student, Discriminator(**shape)


def objectives(resolution: int) -> dict[str, dict[str, Any]]:
    """Terms beside the adversarial one, as the papers weight them; features of Lite0, which needs no download."""
    image = {
        "pixel_l1": PixelL1(),
        "perceptual": Perceptual(embedding=EfficientNetLite0(resolution=max(32, resolution // 4))),
    }
    settings = {"embeddings": {"lite0": EfficientNetLite0(resolution=32)}, "weights": {"lite0": 1.0}}
    return {
        "adversarial": {},
        "images": image,
        "images, relation": {**image, "relation": Relation(resolutions=[8, 16], directions="random")},
        "moments of a batch": {"dime": Dime(**settings, statistics="batch")},
    }


def training(options, *, channel_base: int, terms: dict, student: bool, **how: Any) -> dict[str, float]:
    """Images per second, peak memory and reads per step of training a whole network, or a student of it."""
    teacher, small, judge = networks(options, channel_base)
    module = GanDistillation(
        Pair(Model(teacher, judge), Model(small if student else teacher)),
        judges={"fresh": judge},
        generator_terms={
            "nonsaturating": Weighted(term=NonSaturatingGenerator()),
            "path_length": Weighted(term=PathLength(), weight=2.0, every_steps=4, batch_share=0.5),
            **{name: Weighted(term=term) for name, term in terms.items()},
        },
        discriminator_terms={
            "nonsaturating": Weighted(term=NonSaturatingDiscriminator()),
            "r1": Weighted(term=R1(), weight=1.0, every_steps=16),
        },
        generator_optimizer=lambda p: torch.optim.Adam(p, lr=1e-4, betas=(0.0, 0.99), fused=True),
        discriminator_optimizer=lambda p: torch.optim.Adam(p, lr=1e-4, betas=(0.0, 0.99), fused=True),
        kimg=1e6,
        batch_size=options.batch,
        use_teacher=student,
    )
    clock = Clock(options.seconds, 2 if options.tiny else WARM_UP)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    run = trainer(
        callbacks=[clock], devices=1, max_epochs=-1, enable_model_summary=False, benchmark=True, **quiet, **how
    )
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with Reads():
        own = options.batch // (how.get("num_nodes") or 1)
        run.fit(module, DataLoader(Pixels(own, options.resolution), batch_size=None))
    steps = clock.steps - clock.warm_up
    return {
        "images_per_second": steps * options.batch / clock.took,
        "peak_memory_mib": peak_memory_mib(devices.device()),
        "reads_per_step": clock.reads / steps,
    }
