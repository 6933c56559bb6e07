"""Pairs of images side by side in one file, as pix2pix has them: `data=aligned data.path=FOLDER_OR_ZIP`.

Layout: train/x.jpg and test/x.jpg, A in the left half and B in the right one.
Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017, and its data options.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

from limbeck.data.base import Batch, Column, ImageDataset, ImageFacts, ImageSource
from limbeck.data.translation.crops import VARIANTS, Cuts
from limbeck.data.translation.image_set import ImageSet
from limbeck.errors import UserError

RECIPE = "halves of a file, bicubic; 1"


class Aligned(ImageSource):
    """direction: "AtoB" translates left to right halves, "BtoA" the other way.

    path: a folder or zip archive with `train` and the folder named by `test`. load_size, resolution, mirror: see
    `Cuts`; both halves are cut in the same place. Test images are resized to `resolution` and not mirrored.
    """

    paired = True

    def __init__(
        self,
        *,
        path: str | Path | None = None,
        direction: Literal["AtoB", "BtoA"] = "AtoB",
        test: str = "test",
        load_size: int = 286,
        resolution: int = 256,
        mirror: bool = True,
        num_workers: int = 2,
    ) -> None:
        self.images = ImageSet(path)
        self.direction, self.test = direction, test
        self.cuts = Cuts(load_size, resolution, mirror)
        self.mirror, self.num_workers = mirror, num_workers

    def open(self) -> ImageFacts:
        if self.direction not in ("AtoB", "BtoA"):
            raise UserError(f"data.direction={self.direction!r}: allowed: AtoB, BtoA")
        self.cuts.check()
        names = [*self.images.part("train"), *self.images.part(self.test)]
        for name, (width, height) in zip(names, self.images.sizes(names), strict=True):
            if width % 2:
                raise UserError(
                    f"{self.images.described(name)}: {width} x {height} pixels; allowed: two halves of one width"
                )
        return ImageFacts(self.cuts.resolution, 3, 0, len(self.images.part("train")))

    def train(self) -> ImageDataset:
        return Halves(self.images, self.images.part("train"), self.cuts, self.direction == "BtoA", training=True)

    def sources(self) -> ImageDataset:
        return Column(self._tests(), 2)

    def heldout(self) -> ImageDataset:
        return Column(self._tests(), 0)

    def targets(self) -> ImageDataset:
        return self.heldout()

    def digest(self) -> str:
        return self.images.digest([RECIPE, self.direction, self.cuts.resolution], self.images.part(self.test))

    def _tests(self) -> "Halves":
        return Halves(self.images, self.images.part(self.test), self.cuts, self.direction == "BtoA", training=False)


class Halves(ImageDataset):
    """Batches of (targets, zeros, sources); in training one item for every variant of every file."""

    def __init__(self, images: ImageSet, names: list[str], cuts: Cuts, swapped: bool, *, training: bool) -> None:
        self.images, self.names, self.cuts = images, names, cuts
        self.swapped, self.training = swapped, training

    def __len__(self) -> int:
        return len(self.names) * (VARIANTS if self.training else 1)

    def batch(self, indices: np.ndarray) -> Batch:
        places = self.cuts.places(indices)
        left: list[np.ndarray] = []
        right: list[np.ndarray] = []
        for index, place in zip(indices, places, strict=True):
            for half, found in zip(self._halves(self.names[index % len(self.names)]), (left, right), strict=True):
                found.append(self.cuts.trained_on(half, place) if self.training else self.cuts.tested_on(half))
        source, target = (torch.from_numpy(np.stack(half)) for half in (left, right))
        if self.swapped:
            source, target = target, source
        return target, torch.zeros(len(indices), dtype=torch.int64), source

    def _halves(self, name: str) -> tuple[Image.Image, Image.Image]:
        whole = self.images.picture(name)
        half = whole.width // 2
        return whole.crop((0, 0, half, whole.height)), whole.crop((half, 0, whole.width, whole.height))
