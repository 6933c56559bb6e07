"""Photographs and their smaller versions, as SRGAN has them: `data=downscaled data.path=FOLDER_OR_ZIP`.

Source: Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network", 2017,
section 3.1, as public code prepares it: a random square of each photograph, made smaller by a bicubic filter.
Published figures are of MATLAB's filter (`filter=matlab`), whose borders and rounding differ from Pillow's, which
training codes use as often.
"""

import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from limbeck.data.base import Batch, Column, ImageDataset, ImageFacts, ImageSource
from limbeck.data.translation.crops import VARIANTS, as_array, drawn
from limbeck.data.translation.image_set import ImageSet
from limbeck.errors import UserError
from limbeck.functional.resampling import reduced

RECIPE = "square of a photograph, bicubic; 1"
HELDOUT_SHARE = 20


class Downscaled(ImageSource):
    """resolution: of the squares, a multiple of `scale`; the sources have resolution / scale.

    path: a folder or zip archive. test_path: another one to judge on; None holds out one file in twenty, by its name.
    filter: "pillow" or "matlab", both bicubic and antialiased. mirror, turns: flips, and rotations by 90 degrees, in
    training. Test squares are the centers.
    """

    paired = True

    def __init__(
        self,
        *,
        path: str | Path | None = None,
        test_path: str | Path | None = None,
        scale: int = 4,
        resolution: int = 96,
        mirror: bool = False,
        turns: bool = False,
        filter: Literal["pillow", "matlab"] = "pillow",
        num_workers: int = 2,
    ) -> None:
        self.images = ImageSet(path)
        self.tests = self.images if test_path is None else ImageSet(test_path)
        self.scale, self.resolution, self.turns = scale, resolution, turns
        self.mirror, self.num_workers, self.filter = mirror, num_workers, filter

    def open(self) -> ImageFacts:
        if self.scale < 1 or self.resolution < 1 or self.resolution % self.scale:
            raise UserError(
                f"data.resolution={self.resolution}: must be a positive multiple of data.scale={self.scale}"
            )
        if self.filter not in FILTERS:
            raise UserError(f"data.filter={self.filter!r}: allowed: {', '.join(FILTERS)}")
        for images, names in ((self.images, self._trained()), (self.tests, self._tested())):
            if not names:
                raise UserError(f"{images.described('')}: too few images; allowed: enough to train and to judge on")
            for name, size in zip(names, images.sizes(names), strict=True):
                if min(size) < self.resolution:
                    called = f"{images.described(name)}: {size[0]} x {size[1]} pixels"
                    raise UserError(f"{called}; allowed: at least data.resolution={self.resolution} each way")
        return ImageFacts(self.resolution, 3, 0, len(self._trained()))

    def train(self) -> ImageDataset:
        return Squares(self, self.images, self._trained(), training=True)

    def sources(self) -> ImageDataset:
        return Column(Squares(self, self.tests, self._tested(), training=False), 2)

    def heldout(self) -> ImageDataset:
        return Column(Squares(self, self.tests, self._tested(), training=False), 0)

    def targets(self) -> ImageDataset:
        return self.heldout()

    def digest(self) -> str:
        facts = [RECIPE, self.scale, self.resolution]
        return self.tests.digest(facts if self.filter == "pillow" else [*facts, self.filter], self._tested())

    def _trained(self) -> list[str]:
        apart = self.tests is not self.images
        return [name for name in self.images.images if apart or not _is_heldout(name)]

    def _tested(self) -> list[str]:
        apart = self.tests is not self.images
        return [name for name in self.tests.images if apart or _is_heldout(name)]


class Squares(ImageDataset):
    """Batches of (squares, zeros, their smaller versions); in training one item for every variant of every file."""

    def __init__(self, source: Downscaled, images: ImageSet, names: list[str], *, training: bool) -> None:
        self.scale, self.resolution = source.scale, source.resolution
        self.mirror, self.turns = source.mirror, source.turns
        self.images, self.names, self.training = images, names, training
        self.reduce = FILTERS[source.filter]

    def __len__(self) -> int:
        return len(self.names) * (VARIANTS if self.training else 1)

    def batch(self, indices: np.ndarray) -> Batch:
        squares = [self._square(int(index)) for index in indices]
        high = torch.from_numpy(np.stack([as_array(square) for square in squares]))
        low = torch.stack([self.reduce(square, self.scale) for square in squares])
        return high, torch.zeros(len(indices), dtype=torch.int64), low

    def _square(self, index: int) -> Image.Image:
        picture, edge = self.images.picture(self.names[index % len(self.names)]), self.resolution
        room = picture.width - edge, picture.height - edge
        if not self.training:
            left, top = room[0] // 2, room[1] // 2
            return picture.crop((left, top, left + edge, top + edge))
        item = np.array([index])
        left, top = (int(drawn(item, stream, space + 1)[0]) for stream, space in enumerate(room))
        square = picture.crop((left, top, left + edge, top + edge))
        if self.mirror and drawn(item, 2, 2)[0]:
            square = square.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        turn = int(drawn(item, 3, 4)[0]) if self.turns else 0
        ways = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
        way = ways[turn]
        return square if way is None else square.transpose(way)


def by_pillow(square: Image.Image, scale: int) -> UInt8[Tensor, "c k l"]:
    """`scale` times smaller each way; each axis rounded to bytes, the kernel cut off at the border."""
    small = square.resize((square.width // scale, square.height // scale), Image.Resampling.BICUBIC)
    return torch.from_numpy(as_array(small))


def by_matlab(square: Image.Image, scale: int) -> UInt8[Tensor, "c k l"]:
    """`scale` times smaller each way: `functional.resampling.reduced`, rounded to bytes."""
    small = reduced(torch.from_numpy(as_array(square))[None].float(), scale)[0]
    return small.round().clamp(0, 255).to(torch.uint8)


FILTERS = {"pillow": by_pillow, "matlab": by_matlab}


def _is_heldout(name: str) -> bool:
    return zlib.crc32(name.encode()) % HELDOUT_SHARE == 0
