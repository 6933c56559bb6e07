"""Images with attributes, as StarGAN has them: `data=attributes data.path=FOLDER_OR_ZIP`.

CelebA: `list_attr_celeba.txt` says for each file which of 40 attributes it has. Folders (RaFD): the folder's name is
the one attribute of its images.
Source: Choi et al., "StarGAN: Unified Generative Adversarial Networks for Multi-Domain Image-to-Image Translation",
2018, and its released data code (split, crop, test labels).
"""

import os
import random
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from limbeck.data.base import Batch, ImageDataset, ImageFacts, ImageSource, Mirrored
from limbeck.data.names import class_folders, class_numbers
from limbeck.data.translation.crops import as_array
from limbeck.data.translation.image_set import ImageSet
from limbeck.errors import UserError

RECIPE = "centered square, bilinear, labels of attributes; 1"
LISTING = "list_attr_celeba.txt"
SHUFFLE_SEED = 1234
HAIR = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")
HELDOUT_SHARE = 20


class Attributes(ImageSource):
    """attributes: names from the listing, in the order of the labels; None takes the sub-folders of the first level.

    listing: the file that lists attributes; None looks for `list_attr_celeba.txt` among the images. crop: the centered
    square in pixels, None for the largest; it is resized to `resolution`. num_test: that many of the shuffled listing
    are held out; of folders one file in twenty, by its name. Labels are float32 [n, k], 0 or 1.
    """

    def __init__(
        self,
        *,
        path: str | Path | None = None,
        attributes: Sequence[str] | None = None,
        listing: str | Path | None = None,
        crop: int | None = 178,
        resolution: int = 128,
        num_test: int = 1999,
        mirror: bool = True,
        num_workers: int = 2,
    ) -> None:
        self.images = ImageSet(path)
        self.attributes, self.listing, self.num_test = attributes, listing, num_test
        self.crop, self.resolution = crop, resolution
        self.mirror, self.num_workers = mirror, num_workers

    def open(self) -> ImageFacts:
        names = [name for part in self._split for name in part[0]]
        least = self.crop or self.resolution
        for name, size in zip(names, self.images.sizes(names), strict=True):
            if min(size) < least:
                raise UserError(
                    f"{self.images.described(name)}: {size[0]} x {size[1]} pixels; allowed: at least {least}"
                )
        return ImageFacts(self.resolution, 3, len(self._attribute_names), len(self._split[0][0]))

    def train(self) -> ImageDataset:
        images = self._labelled(*self._split[0])
        return Mirrored(images) if self.mirror else images

    def heldout(self) -> ImageDataset:
        return self._labelled(*self._split[1])

    def sources(self) -> ImageDataset:
        """Every held-out image once for each attribute, with the label it should get: item i k + a is image i."""
        names, labels = self._split[1]
        told = target_labels(labels, self._attribute_names, exclusive=self.attributes is None)
        return self._labelled([name for name in names for _ in self._attribute_names], told)

    def digest(self) -> str:
        facts = [RECIPE, list(self._attribute_names), self.crop, self.resolution]
        return self.images.digest(facts, self._split[1][0])

    def _labelled(self, names: Sequence[str], labels: np.ndarray) -> ImageDataset:
        return Labelled(self.images, list(names), labels, self.crop, self.resolution)

    @cached_property
    def _attribute_names(self) -> list[str]:
        if self.attributes is not None:
            return list(self.attributes)
        folders = set(class_folders(self.images.images)) - {""}
        numbers = class_numbers(sorted(folders))
        return sorted(folders, key=numbers.__getitem__)

    @cached_property
    def _split(self) -> tuple[tuple[list[str], np.ndarray], tuple[list[str], np.ndarray]]:
        """Names and labels of the training and of the held-out images."""
        rows = self._rows_of_folders() if self.attributes is None else self._rows_of_listing()
        trained, tested = rows
        if not trained or not tested:
            raise UserError(
                f"{self.images.described('')}: {len(trained)} images to train on and {len(tested)} held out; allowed: "
                "some of both (data.num_test)"
            )
        return _columns(trained), _columns(tested)

    def _rows_of_folders(self) -> tuple[list, list]:
        names = self._attribute_names
        if len(names) < 2:
            raise UserError(
                f"{self.images.described('')}: {len(names)} sub-folders; allowed: at least 2, one per class"
            )
        held: tuple[list, list] = ([], [])
        for name, folder in zip(self.images.images, class_folders(self.images.images), strict=True):
            if folder:
                row = [float(folder == other) for other in names]
                held[zlib.crc32(name.encode()) % HELDOUT_SHARE == 0].append((name, row))
        return held

    def _rows_of_listing(self) -> tuple[list, list]:
        called, lines = self._listed()
        known = lines[1].split() if len(lines) > 1 else []
        missing = [name for name in self._attribute_names if name not in known]
        if missing:
            raise UserError(f"data.attributes: {missing[0]!r} is not in {called}; allowed: {', '.join(known)}")
        places = [known.index(name) for name in self._attribute_names]
        by_file = {name.rpartition("/")[2]: name for name in self.images.images}
        body = lines[2:]
        random.Random(SHUFFLE_SEED).shuffle(body)
        rows = []
        for line in body:
            file, *values = line.split()
            if file not in by_file or len(values) != len(known) or not set(values) <= {"1", "-1"}:
                raise UserError(
                    f"{called}: line {line[:60]!r}; allowed: an image's name and {len(known)} times 1 or -1"
                )
            rows.append((by_file[file], [float(values[place] == "1") for place in places]))
        return rows[self.num_test :], rows[: self.num_test]

    def _listed(self) -> tuple[str, list[str]]:
        """What the listing is called, and its lines."""
        if self.listing is not None:
            try:
                return str(self.listing), Path(os.path.expanduser(self.listing)).read_text().splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"data.listing={self.listing}: cannot be read ({error})") from error
        found = [name for name in self.images.stored if name.rpartition("/")[2] == LISTING]
        if len(found) != 1:
            raise UserError(f"{self.images.described('')}: no {LISTING} in it; name it with data.listing=FILE")
        text = self.images.read(found[0]).decode("utf-8", errors="replace")
        return self.images.described(found[0]), text.splitlines()


class Labelled(ImageDataset):
    """Images with labels float32 [n, k]."""

    def __init__(
        self, images: ImageSet, names: list[str], labels: np.ndarray, crop: int | None, resolution: int
    ) -> None:
        self.images, self.names, self.labels = images, names, labels
        self.crop, self.resolution = crop, resolution

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, indices: np.ndarray) -> Batch:
        found = [as_array(self._prepared(self.images.picture(self.names[index]))) for index in indices]
        return torch.from_numpy(np.stack(found)), self.labels_of(indices)

    def labels_of(self, indices: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.labels[indices])

    def _prepared(self, picture: Image.Image) -> Image.Image:
        edge = self.crop or min(picture.size)
        left, top = round((picture.width - edge) / 2), round((picture.height - edge) / 2)
        square = picture.crop((left, top, left + edge, top + edge))
        return square.resize((self.resolution, self.resolution), Image.Resampling.BILINEAR)


def target_labels(labels: np.ndarray, names: Sequence[str], *, exclusive: bool) -> np.ndarray:
    """What each image should become, float32 [n k, k]: each attribute of each image changed in turn.

    A hair color replaces the others; other attributes are turned into their opposite. Of classes that exclude each
    other (`exclusive`) each one is asked for.

    Source: StarGAN's released test code.
    """
    k = len(names)
    if exclusive:
        return np.tile(np.eye(k, dtype=np.float32), (len(labels), 1))
    hair = [index for index, name in enumerate(names) if name in HAIR]
    told = labels.repeat(k, axis=0).reshape(len(labels), k, k)
    for index in range(k):
        if index in hair:
            told[:, index, hair] = 0
            told[:, index, index] = 1
        else:
            told[:, index, index] = 1 - told[:, index, index]
    return told.reshape(-1, k)


def _columns(rows: list) -> tuple[list[str], np.ndarray]:
    return [name for name, _ in rows], np.array([row for _, row in rows], dtype=np.float32)
