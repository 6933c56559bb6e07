"""Maps of the parts that RoboHash's pictures are made of, and the pictures: pairs of data for networks that translate.

Held out are the pictures that `robohash` holds out. Art: see there.
"""

import hashlib
from typing import Literal

import numpy as np
import torch

from limbeck.data.base import Batch, Column, ImageDataset, ImageFacts, ImageSource
from limbeck.data.robohash import Portraits, RoboHash

RECIPE = "maps of parts; 1"


class RoboHashParts(ImageSource):
    """From a map of parts to the picture.

    The map has a channel for the background and one for each layer, bottom layer first (cats: body, fur, eyes, mouth,
    accessories): 255 times the share of each pixel in which it is seen.

    kind: "cats" or "robots". resolution: 32 or 64 pixels.
    """

    paired = True

    def __init__(self, *, kind: Literal["cats", "robots"] = "cats", resolution: int = 64, num_workers: int = 0) -> None:
        self.portraits = RoboHash(kind=kind, resolution=resolution)
        self.mirror, self.num_workers = False, num_workers

    def open(self) -> ImageFacts:
        return self.portraits.open()

    def train(self) -> ImageDataset:
        return self._pairs(self.portraits.train())

    def sources(self) -> ImageDataset:
        return Column(self._pairs(self.portraits.heldout()), 2)

    def heldout(self) -> ImageDataset:
        return self.portraits.heldout()

    def targets(self) -> ImageDataset:
        return self.heldout()

    def digest(self) -> str:
        return hashlib.sha256(f"{RECIPE} {self.portraits.digest()}".encode()).hexdigest()

    def _pairs(self, portraits: ImageDataset) -> ImageDataset:
        assert isinstance(portraits, Portraits)
        return WithParts(portraits, self.portraits.parts)


class WithParts(ImageDataset):
    """Batches of (pictures, zeros, maps of their parts)."""

    def __init__(self, portraits: Portraits, parts: list[np.ndarray]) -> None:
        self.portraits, self.parts = portraits, parts

    def __len__(self) -> int:
        return len(self.portraits)

    def batch(self, indices: np.ndarray) -> Batch:
        images, labels = self.portraits.batch(indices)
        chosen = zip(self.parts, self.portraits.digits(indices), strict=True)
        return images, labels, torch.from_numpy(seen_shares([parts[digit, 3] for parts, digit in chosen]))


def seen_shares(transparency: list[np.ndarray]) -> np.ndarray:
    """uint8 [n, 1 + layers, h, w]: 255 times the share of the background and of each layer that nothing covers.

    transparency: of each layer, bottom layer first, [n, h, w] in [0, 1].
    """
    covered = np.ones_like(transparency[0])
    shares: list[np.ndarray] = []
    for layer in reversed(transparency):
        shares.append((1 - layer) * covered)
        covered = covered * layer
    return np.rint(255 * np.stack([covered, *shares[::-1]], axis=1)).astype(np.uint8)
