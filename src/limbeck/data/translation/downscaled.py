"""Photographs and their smaller versions, as SRGAN has them: `data=downscaled data.path=FOLDER_OR_ZIP`.

Source: Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network", 2017,
section 3.1, as public code prepares it: a random square of each photograph, made smaller by a bicubic filter.
Differs: the filter is Pillow's (antialiased, rounded to bytes), not MATLAB's, whose borders and rounding differ.
"""

import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from limbeck.data.base import Batch, Column, ImageDataset, ImageFacts, ImageSource
from limbeck.data.translation.crops import VARIANTS, as_array, drawn
from limbeck.data.translation.image_set import ImageSet
from limbeck.errors import UserError

RECIPE = "square of a photograph, bicubic; 1"
HELDOUT_SHARE = 20


class Downscaled(ImageSource):
    """resolution: of the squares, a multiple of `scale`; the sources have resolution / scale.

    path: a folder or zip archive. test_path: another one to judge on; None holds out one file in twenty, by its name.
    mirror, turns: flips, and rotations by 90 degrees, in training. Test squares are the centers.
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
        num_workers: int = 2,
    ) -> None:
        self.images = ImageSet(path)
        self.tests = self.images if test_path is None else ImageSet(test_path)
        self.scale, self.resolution, self.turns = scale, resolution, turns
        self.mirror, self.num_workers = mirror, num_workers

    def open(self) -> ImageFacts:
        if self.scale < 1 or self.resolution < 1 or self.resolution % self.scale:
            raise UserError(
                f"data.resolution={self.resolution}: must be a positive multiple of data.scale={self.scale}"
            )
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
        return self.tests.digest([RECIPE, self.scale, self.resolution], self._tested())

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

    def __len__(self) -> int:
        return len(self.names) * (VARIANTS if self.training else 1)

    def batch(self, indices: np.ndarray) -> Batch:
        squares = [self._square(int(index)) for index in indices]
        small = [downscaled(square, self.scale) for square in squares]
        high, low = (torch.from_numpy(np.stack([as_array(image) for image in images])) for images in (squares, small))
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


def downscaled(square: Image.Image, scale: int) -> Image.Image:
    """`scale` times smaller each way, by Pillow's antialiased bicubic filter."""
    return square.resize((square.width // scale, square.height // scale), Image.Resampling.BICUBIC)


def _is_heldout(name: str) -> bool:
    return zlib.crc32(name.encode()) % HELDOUT_SHARE == 0
