"""Images of two kinds without pairs, as CycleGAN has them: `data=unaligned data.path=FOLDER_OR_ZIP`.

Layout: trainA, trainB, testA, testB.
Source: Zhu et al., "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks", 2017, and its
data options.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from limbeck.data.base import Batch, ImageDataset, ImageFacts, ImageSource
from limbeck.data.translation.crops import VARIANTS, Cuts, drawn
from limbeck.data.translation.image_set import ImageSet
from limbeck.errors import UserError

RECIPE = "two domains, bicubic; 1"
PARTNER = 99  # stream of the choice of B


class Unaligned(ImageSource):
    """direction: "AtoB" translates images of A, "BtoA" those of B.

    reference: which images of the target domain stand against translated ones: "test", or "all" (training and test, as
    GAN Compression and its successors measure). load_size, resolution, mirror: see `Cuts`, each image by itself.
    """

    def __init__(
        self,
        *,
        path: str | Path | None = None,
        direction: Literal["AtoB", "BtoA"] = "AtoB",
        reference: Literal["test", "all"] = "test",
        load_size: int = 286,
        resolution: int = 256,
        mirror: bool = True,
        num_workers: int = 2,
    ) -> None:
        self.images = ImageSet(path)
        self.direction, self.reference = direction, reference
        self.cuts = Cuts(load_size, resolution, mirror)
        self.mirror, self.num_workers = mirror, num_workers

    def open(self) -> ImageFacts:
        if self.direction not in ("AtoB", "BtoA"):
            raise UserError(f"data.direction={self.direction!r}: allowed: AtoB, BtoA")
        if self.reference not in ("test", "all"):
            raise UserError(f"data.reference={self.reference!r}: allowed: test, all")
        self.cuts.check()
        parts = {part: self.images.part(part) for part in ("trainA", "trainB", "testA", "testB")}
        self.images.sizes([name for names in parts.values() for name in names])
        return ImageFacts(self.cuts.resolution, 3, 0, max(len(parts["trainA"]), len(parts["trainB"])))

    def train(self) -> ImageDataset:
        source, target = self._domains
        return Domains(self.images, self.images.part(f"train{source}"), self.images.part(f"train{target}"), self.cuts)

    def sources(self) -> ImageDataset:
        return Whole(self.images, self.images.part(f"test{self._domains[0]}"), self.cuts)

    def heldout(self) -> ImageDataset:
        return Whole(self.images, self._reference_names(), self.cuts)

    def digest(self) -> str:
        return self.images.digest([RECIPE, self.cuts.resolution], self._reference_names())

    def _reference_names(self) -> list[str]:
        target = self._domains[1]
        trained = self.images.part(f"train{target}") if self.reference == "all" else []
        return [*trained, *self.images.part(f"test{target}")]

    @property
    def _domains(self) -> tuple[str, str]:
        return ("A", "B") if self.direction == "AtoB" else ("B", "A")


class Domains(ImageDataset):
    """Batches of (images of the target domain at random, zeros, sources in turn)."""

    def __init__(self, images: ImageSet, sources: list[str], targets: list[str], cuts: Cuts) -> None:
        self.images, self.source_names, self.target_names, self.cuts = images, sources, targets, cuts

    def __len__(self) -> int:
        return max(len(self.source_names), len(self.target_names)) * VARIANTS

    def batch(self, indices: np.ndarray) -> Batch:
        source = self._cut(self.source_names, indices % len(self.source_names), self.cuts.places(indices, 0))
        partners = drawn(indices, PARTNER, len(self.target_names))
        target = self._cut(self.target_names, partners, self.cuts.places(indices, 1))
        return target, torch.zeros(len(indices), dtype=torch.int64), source

    def _cut(self, names: list[str], which: np.ndarray, places: np.ndarray) -> torch.Tensor:
        pictures = (self.images.picture(names[index]) for index in which)
        return torch.from_numpy(np.stack([self.cuts.trained_on(*pair) for pair in zip(pictures, places, strict=True)]))


class Whole(ImageDataset):
    """Images resized to the resolution."""

    def __init__(self, images: ImageSet, names: list[str], cuts: Cuts) -> None:
        self.images, self.names, self.cuts = images, names, cuts

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, indices: np.ndarray) -> Batch:
        found = [self.cuts.tested_on(self.images.picture(self.names[index])) for index in indices]
        return torch.from_numpy(np.stack(found)), torch.zeros(len(indices), dtype=torch.int64)
