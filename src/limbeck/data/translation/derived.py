"""Translation data out of any set of images: each image is the wanted one, and a view of it is where to start from.

So there is a known truth for every start, also where the pairs are torn apart for training.
"""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from limbeck.data.base import Batch, ImageDataset, ImageFacts, ImageSource
from limbeck.data.permutation import permuted
from limbeck.errors import UserError

TEAR_KEY = 0x54656172
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601

View = Callable[[UInt8[Tensor, "n c h w"]], UInt8[Tensor, "n d k l"]]


def gray(images: UInt8[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n 1 h w"]:
    """The luminance of color images."""
    weights = torch.tensor(LUMA)[:, None, None]
    return (images * weights).sum(dim=1, keepdim=True).round().to(torch.uint8)


def lines(images: UInt8[Tensor, "n 3 h w"], *, contrast: float = 0.35) -> UInt8[Tensor, "n 1 h w"]:
    """A drawing: 0 where luminance varies within one pixel around by more than `contrast` of its range, else 255.

    Raises: UserError for a contrast outside [0, 1].
    """
    if not 0 <= contrast <= 1:
        raise UserError(f"data.view.contrast={contrast}: must lie in [0, 1]")
    around = F.pad(gray(images).float(), (1, 1, 1, 1), mode="replicate")
    range_ = F.max_pool2d(around, 3, stride=1) + F.max_pool2d(-around, 3, stride=1)
    return torch.where(range_ > 255 * contrast, 0, 255).to(torch.uint8)


def rotated(images: UInt8[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n 3 h w"]:
    """The same pictures with their colors exchanged: green, blue, red in place of red, green, blue."""
    return images[:, [1, 2, 0]]


def smaller(images: UInt8[Tensor, "n c h w"], *, factor: int = 4) -> UInt8[Tensor, "n c k l"]:
    """Each side divided by `factor`, bicubic with antialiasing. Raises: UserError if that leaves a rest."""
    height, width = images.shape[2:]
    if factor < 1 or height % factor or width % factor:
        raise UserError(f"data.view.factor={factor}: must divide the images' sides, {height} and {width}")
    size = (height // factor, width // factor)
    small = F.interpolate(images.float(), size, mode="bicubic", antialias=True, align_corners=False)
    return small.round().clamp(0, 255).to(torch.uint8)


class Derived(ImageSource):
    """Pairs of a view of an image and the image itself.

    images: the set that the images come from. view: makes what is translated from bytes [n, c, h, w].
    paired: False tears the pairs apart for training: the view is that of another image. Held-out ones stay paired.
    """

    def __init__(self, images: ImageSource, view: View, *, paired: bool = True):
        self.images = images
        self.view = view
        self.paired = paired

    @property
    def mirror(self) -> bool:  # type: ignore[override]
        return self.images.mirror

    @property
    def num_workers(self) -> int:  # type: ignore[override]
        return self.images.num_workers

    def open(self) -> ImageFacts:
        return self.images.open()

    def train(self) -> ImageDataset:
        return WithSources(self.images.train(), self.view, torn=not self.paired)

    def heldout(self) -> ImageDataset:
        return self.images.heldout()

    def sources(self) -> ImageDataset:
        return Views(self.images.heldout(), self.view)

    def targets(self) -> ImageDataset:
        return self.images.heldout()

    def digest(self) -> str:
        recipe = [self.images.digest(), _described(self.view)]
        return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()


class WithSources(ImageDataset):
    """Images and labels, with the views of the same images, or of others if `torn`, as a third part of a batch."""

    def __init__(self, images: ImageDataset, view: View, *, torn: bool):
        self.images, self.view, self.torn = images, view, torn

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: np.ndarray) -> Any:
        images, labels = self.images.batch(indices)
        if not self.torn:
            return images, labels, self.view(images)
        others = permuted(indices, len(self.images), np.array([TEAR_KEY], dtype=np.uint64))
        return images, labels, self.view(self.images.batch(others)[0])

    def labels_of(self, indices: np.ndarray) -> Tensor:
        return self.images.labels_of(indices)


class Views(ImageDataset):
    """The views of images, with the images' labels."""

    def __init__(self, images: ImageDataset, view: View):
        self.images, self.view = images, view

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: np.ndarray) -> Batch:
        images, labels = self.images.batch(indices)
        return self.view(images), labels

    def labels_of(self, indices: np.ndarray) -> Tensor:
        return self.images.labels_of(indices)


def _described(view: Any) -> list[Any]:
    """Name and settings of a view."""
    plain = view.func if isinstance(view, partial) else view
    return [plain.__qualname__, sorted(view.keywords.items()) if isinstance(view, partial) else []]
