"""How the literature prepares images that are translated: enlarged, cut at random, mirrored; a plain resize for tests.

A training set is as many copies of its images as there are VARIANTS, each copy cut in its own place: item i + N v is
image i in its variant v. So what an item is follows from its number, and a run goes on where it was.
Source: the data options of pytorch-CycleGAN-and-pix2pix ("resize_and_crop"): bicubic to the load size, whatever the
sides' ratio, then a random square and a coin for the mirror.
Differs: an epoch is all variants, so an image may come again before all others have come; places are drawn once per
item, not anew for ever.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from limbeck.data.permutation import mixed
from limbeck.errors import UserError

VARIANTS = 256


def drawn(items: np.ndarray, stream: int, limit: int) -> np.ndarray:
    """For each item a number in 0 .. limit - 1, int64 [n]; the same for the same item and stream."""
    key = mixed(np.array([stream], dtype=np.int64).astype(np.uint64))
    return (mixed(mixed(items.astype(np.uint64)) ^ key) % np.uint64(limit)).astype(np.int64)


@dataclass(frozen=True)
class Cuts:
    """Sizes in pixels. load_size: the square that an image becomes; resolution: of the square cut out of it."""

    load_size: int
    resolution: int
    mirror: bool

    def check(self) -> None:
        """Raises: UserError for sizes that do not fit."""
        if not 1 <= self.resolution <= self.load_size:
            raise UserError(
                f"data.load_size={self.load_size}: allowed: data.resolution={self.resolution} (at least 1) or more"
            )

    def places(self, items: np.ndarray, stream: int = 0) -> np.ndarray:
        """Left, top and mirror (0 or 1) of each item, int64 [n, 3]."""
        room = self.load_size - self.resolution + 1
        flips = drawn(items, 3 * stream + 2, 2) if self.mirror else np.zeros(len(items), dtype=np.int64)
        return np.stack([drawn(items, 3 * stream, room), drawn(items, 3 * stream + 1, room), flips], axis=1)

    def trained_on(self, picture: Image.Image, place: np.ndarray) -> np.ndarray:
        """uint8 [c, resolution, resolution], cut at `place`."""
        left, top, flip = map(int, place)
        resized = picture.resize((self.load_size, self.load_size), Image.Resampling.BICUBIC)
        cut = resized.crop((left, top, left + self.resolution, top + self.resolution))
        return as_array(cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else cut)

    def tested_on(self, picture: Image.Image) -> np.ndarray:
        """uint8 [c, resolution, resolution], the whole image at that size."""
        return as_array(picture.resize((self.resolution, self.resolution), Image.Resampling.BICUBIC))


def as_array(picture: Image.Image) -> np.ndarray:
    """uint8 [c, h, w]."""
    pixels = np.asarray(picture)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
