"""Moment matching: the mean and variance of every feature of generated images meet those of real ones; no judge.

Source: Santos et al., "Learning Implicit Generative Models by Matching Perceptual Features" (GFMN), 2019, Algorithm 1
with Adam moving averages, as in the released code of Yeo et al., "Can We Find Strong Lottery Tickets in Generative
Models?", 2023, which decides the details.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from limbeck import parallel
from limbeck.cache import cache_path, read_cached, write_cached
from limbeck.data.base import ImageSource
from limbeck.data.permutation import permuted
from limbeck.embeddings.base import Embedding
from limbeck.errors import UserError
from limbeck.frozen import Frozen
from limbeck.losses.image_step import ImageStep
from limbeck.losses.weighted import Term
from limbeck.model import Pair
from limbeck.terminal import LiveLine, announce, counted

VERSION = 1  # raise when the same facts start to give other numbers


def batch_moments(features: Float[Tensor, "n m"]) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
    """Mean and unbiased variance over the batches of all processes, with gradient to this process's features."""
    num_rows = len(features) * parallel.world_size()
    mean = parallel.joint_mean(features.mean(dim=0))
    # About a constant mean the gradient is the same, because all differences from the mean sum to 0.
    variance = parallel.joint_mean((features - mean.detach()).square().mean(dim=0))
    return mean, variance * (num_rows / (num_rows - 1))


def moments_of_sums(
    total: Float[Tensor, " m"], squares: Float[Tensor, " m"], count: int
) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
    """Mean, and variance (sum f^2 - (sum f)^2 / n) / (n - 1), of sums in float64 over n vectors; never below 0."""
    return total / count, ((squares - total.square() / count) / (count - 1)).clamp_min(0)


def moving_average(
    average: Float[Tensor, " m"],
    difference: Float[Tensor, " m"],
    first: Float[Tensor, " m"],
    second: Float[Tensor, " m"],
    step: int,
    *,
    learning_rate: float | int,
    betas: Sequence[float | int],
) -> None:
    """One step of Adam, in place, on mean((average - difference)^2), the difference held constant.

    first, second: Adam's own averages; step: number of this step, from 1.

    Source: Kingma and Ba, "Adam", 2015, Algorithm 1, with epsilon 1e-8.
    """
    gradient = (average - difference) * (2 / len(average))
    first.lerp_(gradient, 1 - betas[0])
    second.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
    scale = (second / (1 - betas[1] ** step)).sqrt_().add_(1e-8)
    average.addcdiv_(first, scale, value=-learning_rate / (1 - betas[0] ** step))


class MomentMatching(Term):
    """v_mean . (real mean - fake mean) + v_variance . (real variance - fake variance); v follow these differences.

    Each v makes one step of Adam before it is used, and is constant in the loss. The value is linear in the fakes'
    moments: it falls and may be negative, so it is no distance.

    embedding: its maps, flattened and put in a row, are the features; published: VGG-19 with batch norm at 32 or 64 px.
    data: the real images, of which the first `num_images` of a fixed random order are read; None for all, once each.
    batch_size: of the real images; part of the statistics where the embedding normalizes by its batch.
    learning_rate, betas: of v.

    Moments are over one micro-batch of all processes, and v moves once per micro-batch: leave the batch whole, as
    published. Real statistics are summed in float64 and kept in the cache.

    Differs: rates are constant. Released rates swing between their value and 0 every 10 steps, so half of them here
    (5e-6) has the same mean.
    """

    average_mean: Tensor
    average_variance: Tensor
    num_steps: Tensor
    least_images = 2

    def __init__(
        self,
        *,
        embedding: Embedding,
        data: ImageSource,
        num_images: int | None = None,
        batch_size: int = 64,
        learning_rate: float | int = 1e-5,
        betas: Sequence[float | int] = (0.5, 0.999),
        seed: int = 0,
    ):
        super().__init__()
        self.held = [embedding]  # loaded in prepare(), where it is wrapped and leaves the module tree
        self.data, self.num_images, self.batch_size, self.seed = data, num_images, batch_size, seed
        self.learning_rate, self.betas = learning_rate, tuple(betas)
        self.embedding: Frozen | None = None
        self.real: tuple[Tensor, Tensor] | None = None

    def check(self) -> None:
        self.held[0].weights_digest()
        where = "loss.generator.moment_matching.term"
        for name, least in (("batch_size", 2), ("num_images", 2)):
            value = getattr(self, name)
            if value is None and name == "num_images":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(f"{where}.{name}={value!r}: must be a whole number, at least {least}")
        if not self.learning_rate > 0:
            raise UserError(f"{where}.learning_rate={self.learning_rate}: must be above 0")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"{where}.betas={list(self.betas)}: must be two numbers in [0, 1)")

    def describe(self) -> dict[str, Any]:
        return {**self.held[0].describe(), "num_images": self.num_images, "batch_size": self.batch_size}

    def prepare(self, pair: Pair, *, half: bool) -> None:
        self.embedding = Frozen(self.held[0].load(), half=half)
        generator = pair.student.generator
        side, channels = generator.resolution, generator.num_channels
        size = self._features(torch.zeros(2, channels, side, side)).shape[1]
        numbers = torch.Generator().manual_seed(self.seed)
        for name in ("mean", "variance"):
            start = (torch.rand(size, generator=numbers) * 2 - 1) / math.sqrt(size)
            self.register_buffer(f"average_{name}", start)
            for moment in ("first", "second"):
                self.register_buffer(f"{moment}_{name}", torch.zeros(size))
        self.register_buffer("num_steps", torch.zeros([], dtype=torch.long))

    def forward(self, step: ImageStep) -> Tensor:
        features = self._features(step.student_image)
        if self.real is None:  # not in prepare(): only now is the embedding on its device
            self.real = self._real_moments(features.shape[1], step.student_image.shape[1:])
        with torch.autocast(features.device.type, enabled=False):
            self.num_steps += 1
            differences = [real - fake for real, fake in zip(self.real, batch_moments(features), strict=True)]
            pairs = zip(("mean", "variance"), differences, strict=True)
            return torch.stack([self._followed(name, difference) @ difference for name, difference in pairs]).sum()

    def _followed(self, name: str, difference: Tensor) -> Tensor:
        """v after its step; a copy, because the buffer moves on before every backward pass is over."""
        average = self.get_buffer(f"average_{name}")
        moving_average(
            average,
            difference.detach(),
            self.get_buffer(f"first_{name}"),
            self.get_buffer(f"second_{name}"),
            int(self.num_steps),
            learning_rate=self.learning_rate,
            betas=self.betas,
        )
        return average.clone()

    def _features(self, image: Tensor) -> Float[Tensor, "n m"]:
        assert self.embedding is not None
        with self.embedding.running() as network:
            return torch.cat([maps.flatten(1).float() for maps in network.feature_maps(image)], dim=1)

    @torch.no_grad()
    def _real_moments(self, size: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Of the real images, from the cache or by one pass over them that all processes share."""
        assert self.embedding is not None
        facts = self.data.open()
        there = len(self.data.train())
        count = there if self.num_images is None else min(self.num_images, there)
        key = [VERSION, self.data.digest(), there, count, self.batch_size, self.held[0].digest(), list(shape)]
        name = self.held[0].name
        path = cache_path("moments", name, [*key, self.embedding.half_precision])
        wanted = {"mean": (size,), "variance": (size,)}
        stored = read_cached(path, wanted)
        device = self.average_mean.device
        if not all(parallel.gathered(stored is not None)):
            announce("statistics", f"moments of {count:,} real images ({facts.resolution} px) under {name}")
            sums = torch.zeros(2, size, dtype=torch.float64, device=device)
            line = LiveLine()
            for done, image in self._real_images(there, count):
                features = self._features(image.to(device, torch.float32) / 127.5 - 1).double()
                sums += torch.stack([features.sum(dim=0), features.square().sum(dim=0)])
                if line.due():
                    line.show(counted(done, count, line.rate(done), "images"))
            line.end()
            total, squares = parallel.mean_over_processes(sums) * parallel.world_size()
            mean, variance = moments_of_sums(total, squares, count)
            stored = {"mean": mean.cpu(), "variance": variance.cpu()}
            if parallel.rank() == 0:
                write_cached(path, stored)
        found = cast(dict[str, Tensor], stored)
        return found["mean"].float().to(device), found["variance"].float().to(device)

    def _real_images(self, there: int, count: int) -> Iterator[tuple[int, Tensor]]:
        """This process's share of the fixed batches: images read so far by all, images [n, c, h, w] as uint8.

        A batch of one joins the batch before it, because a batch's own statistics would mean nothing there.
        """
        images, key = self.data.train(), np.array([self.seed], dtype=np.uint64)
        starts = [start for start in range(0, count, self.batch_size) if count - start > 1]
        for number, start in enumerate(starts):
            stop = count if start == starts[-1] else start + self.batch_size
            if number % parallel.world_size() == parallel.rank():
                yield stop, images.batch(permuted(np.arange(start, stop), there, key))[0]
