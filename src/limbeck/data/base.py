"""What every image source promises: its facts, a training set, a held-out set and a digest for caches.

Datasets hand out whole batches of bytes; turning them into floats in [-1, 1] is the work of whoever trains.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from limbeck.errors import UserError

# Images uint8 [n, c, h, w] and labels (int64 [n], or float32 [n, k] of attributes); in training on data of two kinds of
# images also the sources uint8 [n, c', h', w'] that are translated.
Batch = tuple[Tensor, ...]


@dataclass(frozen=True)
class ImageFacts:
    """What a run must know about its images before it builds networks.

    num_classes: 0 for images without labels. num_images: training images, not counting mirrored copies.
    """

    resolution: int
    num_channels: int
    num_classes: int
    num_images: int


class ImageDataset(Dataset[tuple[Tensor, int]], ABC):
    """Numbered images of one size, read a batch at a time."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def batch(self, indices: np.ndarray) -> Batch:
        """The images [n, c, h, w] as uint8, in memory of their own, and their labels [n] as int64 (0 without labels).

        indices: int64 [n], each in 0 .. len - 1, repeats allowed.
        Raises: UserError naming the file, if one cannot be read.
        """

    def labels_of(self, indices: np.ndarray) -> Tensor:
        """The labels alone, int64 [n]; sets that know them without reading images override it."""
        return self.batch(indices)[1]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One image [c, h, w] as uint8 and its label."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        images, labels = self.batch(np.array([index]))[:2]
        return images[0], int(labels[0])

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, int]]:
        """Several items at once, as an ordinary DataLoader asks for them."""
        images, labels = self.batch(np.asarray(indices, dtype=np.int64))[:2]
        return list(zip(images, labels.tolist(), strict=True))


class Column(ImageDataset):
    """Of a set whose batches are triples: the images alone (0), or their sources alone (2), with the labels."""

    def __init__(self, pairs: ImageDataset, part: int) -> None:
        self.pairs = pairs
        self.part = part

    def __len__(self) -> int:
        return len(self.pairs)

    def batch(self, indices: np.ndarray) -> Batch:
        found = self.pairs.batch(indices)
        return found[self.part], found[1]


class Mirrored(ImageDataset):
    """A dataset followed by its mirror image: item i + N is item i, flipped left to right."""

    def __init__(self, images: ImageDataset) -> None:
        self.images = images

    def __len__(self) -> int:
        return 2 * len(self.images)

    def batch(self, indices: np.ndarray) -> Batch:
        images, labels = self.images.batch(indices % len(self.images))
        pixels, flipped = images.numpy(), indices >= len(self.images)
        pixels[flipped] = pixels[flipped, ..., ::-1]
        return images, labels

    def labels_of(self, indices: np.ndarray) -> Tensor:
        return self.images.labels_of(indices % len(self.images))


class ImageSource(ABC):
    """One set of real images, as a file of `conf/data/` describes it; nothing is read before it is asked for.

    mirror: train on left-right flipped copies too. num_workers: processes that read images (0: the training process).
    paired: whether the images of a training batch are the wanted translations of its sources.
    """

    mirror: bool
    num_workers: int
    paired: bool = False

    @abstractmethod
    def open(self) -> ImageFacts:
        """Read the listing, once.

        Raises: UserError if the images are missing, unreadable or of different sizes.
        """

    @abstractmethod
    def train(self) -> ImageDataset:
        """Images to train on, with mirrored copies if `mirror`."""

    @abstractmethod
    def heldout(self) -> ImageDataset:
        """Reference images for metrics, never mirrored.

        Folders and zip files give their training images here, as the papers do.
        """

    def sources(self) -> ImageDataset:
        """Held-out images from which a translation network starts, with the labels that it reads; never mirrored.

        Raises: UserError if the data hold the images to be drawn alone.
        """
        raise UserError(f"data: {type(self).__name__} holds no images to start from, which a translation network needs")

    def targets(self) -> ImageDataset | None:
        """The wanted translation of each of `sources`, in their order; None where nobody knows it."""
        return None

    @abstractmethod
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the held-out images' content or recipe: equal digests, equal images."""
