"""Whether a generator draws the moved picture when it is told to move it: StyleGAN3's equivariance metrics.

Source: Karras et al., "Alias-Free Generative Adversarial Networks", 2021, and the released metrics.
Differs: fewer images by default than the published 50,000; the random numbers are ours.
"""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from limbeck import parallel
from limbeck.architectures.base import Network
from limbeck.errors import UserError
from limbeck.functional.equivariance import (
    decibels,
    fractional_translation,
    integer_translation,
    masked_squares,
    pseudo_rotation,
    rotation,
    rotation_matrix,
)
from limbeck.metrics.base import Metric, Samples
from limbeck.seeds import batch_seed

FARTHEST = 1 / 8  # of the image's width


class Movement(ABC):
    """A random motion of pictures. name: of the number that judges it."""

    name: str

    @abstractmethod
    def drawn(self, source: torch.Generator, size: int) -> Any:
        """Parameters of one motion of images of `size` pixels."""

    @abstractmethod
    def matrix(self, motion: Any) -> Tensor:
        """[3, 3]: the transform that a generator is given, which is the inverse of the motion."""

    @abstractmethod
    def expected(self, image: Tensor, motion: Any) -> tuple[Tensor, Tensor]:
        """(moved image, mask)."""

    def seen(self, image: Tensor, motion: Any) -> tuple[Tensor, Tensor]:
        """(the generator's own moved image as it is compared, mask)."""
        return image, torch.ones_like(image)


class Translation(Movement):
    """By up to an eighth of the width along each axis, in whole pixels or not."""

    def __init__(self, *, whole_pixels: bool):
        self.whole_pixels = whole_pixels
        self.name = "eq_t" if whole_pixels else "eq_t_frac"

    def drawn(self, source: torch.Generator, size: int) -> tuple[float, float]:
        shift = (torch.rand(2, generator=source, dtype=torch.float64) * 2 - 1) * FARTHEST
        x, y = ((shift * size).round() / size if self.whole_pixels else shift).tolist()
        return x, y

    def matrix(self, motion: tuple[float, float]) -> Tensor:
        matrix = torch.eye(3)
        matrix[:2, 2] = -torch.tensor(motion)
        return matrix

    def expected(self, image: Tensor, motion: tuple[float, float]) -> tuple[Tensor, Tensor]:
        return (integer_translation if self.whole_pixels else fractional_translation)(image, motion)


class Rotation(Movement):
    """By any angle."""

    name = "eq_r"

    def drawn(self, source: torch.Generator, size: int) -> float:
        return float(torch.rand([], generator=source, dtype=torch.float64) * 2 - 1) * math.pi

    def matrix(self, motion: float) -> Tensor:
        matrix = torch.eye(3)
        matrix[:2, :2] = rotation_matrix(-motion)
        return matrix

    def expected(self, image: Tensor, motion: float) -> tuple[Tensor, Tensor]:
        return rotation(image, motion)

    def seen(self, image: Tensor, motion: float) -> tuple[Tensor, Tensor]:
        return pseudo_rotation(image, motion)


class Equivariance(Metric):
    """Peak signal-to-noise ratio in dB between the moved image and the image of the moved input; higher is better.

    num_images: of latents of its own, without truncation, in batches of `batch_size` that share a motion. The squared
    differences of all are added up before the logarithm is taken.
    """

    higher_is_better = True
    squares: Tensor

    def __init__(self, movement: Movement, *, num_images: int = 1000, batch_size: int = 4, seed: int = 0):
        super().__init__()
        self.movement = movement
        self.add_state("squares", torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum")
        self.num_images, self.batch_size, self.seed = num_images, batch_size, seed

    def update(self, image: Tensor, target: Tensor | None = None, mask: Tensor | None = None) -> None:
        """Add moved images, what they should be and where both are known, each [n, c, h, w] with images in [-1, 1].

        Or, alone, [2] of `masked_squares`.
        """
        squares = image if target is None or mask is None else masked_squares(image, target, mask)
        self.squares = self.squares + squares.to(self.squares)

    def compute(self) -> dict[str, Tensor]:
        return {self.movement.name: torch.tensor(decibels(self.squares), dtype=torch.float64)}

    def of(self, samples: Samples) -> dict[str, float]:
        generator = samples.generator
        self.check_family(generator)
        asked = samples.labels()
        sums = parallel.shared_out(self._own_batches(), lambda batch: self._squares(generator, asked, *batch)[None])
        self.reset()
        self.update(torch.cat(sums).sum(dim=0))
        return self._values()

    def ranks(self) -> dict[str, bool]:
        return {self.movement.name: True}

    def check_family(self, generator: Network) -> None:
        if not generator.takes_transform:
            raise UserError(
                f"metric={self.movement.name}: needs a generator that can be told to move its picture "
                f"(StyleGAN3), not {generator.family} {type(generator).__name__}"
            )
        for name in ("num_images", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"metric.{self.movement.name}.{name}={getattr(self, name)}: must be at least 1")

    def describe(self) -> dict[str, Any]:
        drawn = f"{self.num_images:,} images, one motion per {self.batch_size}, seed {self.seed}"
        return {"estimator": f"peak signal-to-noise ratio in dB, range 2; {drawn}"}

    def _own_batches(self):
        starts = range(0, self.num_images, self.batch_size)
        for number, start in enumerate(starts):
            if number % parallel.world_size() == parallel.rank():
                yield number, (start, min(self.batch_size, self.num_images - start))

    @torch.no_grad()
    def _squares(self, generator: Network, asked: Tensor | None, start: int, count: int) -> Tensor:
        """[2] of one batch: squared differences and what they are divided by. asked: labels to choose from, [n, k]."""
        source = torch.Generator().manual_seed(batch_seed(self.seed, start))
        device = next(generator.parameters()).device
        latent = torch.randn(count, generator.z_dim, generator=source).to(device)
        label = None if asked is None else asked[torch.randint(len(asked), (count,), generator=source)].to(device)
        motion = self.movement.drawn(source, generator.resolution)
        with torch.autocast(device.type, enabled=False):
            still = generator(latent, label=label, transform=torch.eye(3, device=device))
            moved = generator(latent, label=label, transform=self.movement.matrix(motion).to(device))
        target, there = self.movement.expected(still, motion)
        image, seen = self.movement.seen(moved, motion)
        return masked_squares(image, target, there * seen).cpu()
