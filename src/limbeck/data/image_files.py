"""A set of image files of one size, wherever they lie: in a folder or in a zip archive.

The headers of all files are read when the set is opened, so that a wrong size stops a run before its first step;
pixels are decoded when a batch asks for them, by worker processes.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import torch

from limbeck import parallel
from limbeck.data.base import Batch, ImageDataset, ImageFacts, ImageSource, Mirrored
from limbeck.data.decoding import FILTERS, Region, Resize, decoded, num_channels, opened
from limbeck.data.files import Files, collection_paused
from limbeck.data.header_check import check_headers
from limbeck.data.names import by_canonical, canonical, folder_labels, is_image, json_labels
from limbeck.errors import UserError

LABEL_FILE = "dataset.json"
RECIPE = "image files, upright; 2"

Labels = Literal["none", "folders", "json"]


class ImageFiles(ImageSource):
    """Images of a folder or an archive, all of one size, in sorted order of their names.

    resolution: edge in pixels; None: the first image's. num_channels: 1, 3, or None: the first image's; grey images
    are accepted among color images, not the other way round.
    labels: "none"; "folders": the sub-folder of the first level names the class, see `names.folder_labels`; "json":
    class numbers from `dataset.json`, as NVIDIA's data sets have it.
    resize: "none" refuses images of other sizes; "box", "bilinear" or "lanczos" cuts out the centered square and
    shrinks it. The filter changes metrics (FFHQ-256: FID 4.3 or 5.3), and so is part of the digest.
    crop: left, top, right, bottom of another square to cut out, in pixels.
    """

    def __init__(
        self,
        files: Files,
        *,
        resolution: int | None = None,
        num_channels: int | None = None,
        labels: Labels = "none",
        resize: Resize = "none",
        crop: Sequence[int] | None = None,
        mirror: bool = False,
        num_workers: int = 2,
    ) -> None:
        self.files = files
        self.resolution = resolution
        self.num_channels = num_channels
        self.labels = labels
        self.resize = resize
        self.crop = crop
        self.mirror = mirror
        self.num_workers = num_workers

    def open(self) -> ImageFacts:
        return self._facts

    def train(self) -> ImageDataset:
        return Mirrored(self.heldout()) if self.mirror else self.heldout()

    def heldout(self) -> ImageDataset:
        names = list(self._stored.values())
        return EncodedImages(self.files, names, self._labels, self._facts, self.resize, self._crop)

    def digest(self) -> str:
        """SHA-256 over size, filter, and the name and CRC-32 of each file: the same for a folder and its zip.

        It does not depend on where the files lie or on their dates. A folder is read through for it, again only when
        names, sizes or dates have changed; a zip archive has the checksums in its table of contents.
        """
        return self._digest

    @cached_property
    def _digest(self) -> str:
        facts = [RECIPE, self._facts.resolution, self._facts.num_channels, self.resize, *(self._crop or ())]
        content = list(zip(self._names, self.files.checksums(list(self._stored.values())), strict=True))
        return hashlib.sha256(json.dumps([facts, content]).encode()).hexdigest()

    @cached_property
    def _names(self) -> list[str]:
        return list(self._stored)

    @cached_property
    def _stored(self) -> dict[str, str]:
        """Images by their canonical names, sorted, with the names under which they are stored."""
        where = self.files.described("")
        stored = by_canonical((name for name in self.files.names() if is_image(canonical(name))), where)
        if not stored:
            raise UserError(f"data.path: no images in {where}; allowed: png, jpg, jpeg, webp, bmp")
        return stored

    @cached_property
    def _facts(self) -> ImageFacts:
        with collection_paused():
            return self._examined()

    def _examined(self) -> ImageFacts:
        if self.resize not in ("none", *FILTERS):
            raise UserError(f"data.resize={self.resize!r}: allowed: none, {', '.join(FILTERS)}")
        if self.num_channels not in (None, 1, 3):
            raise UserError(f"data.num_channels={self.num_channels!r}: allowed: 1 (grey), 3 (color)")
        if self.resolution is not None and self.resolution < 1:
            raise UserError(f"data.resolution={self.resolution!r}: allowed: a positive number of pixels")
        if self.resolution is None and self.resize != "none":
            raise UserError(
                f"data.resize={self.resize}: needs data.resolution; allowed: data.resolution=PIXELS beside it"
            )
        resolution, channels = self._shape()
        num_classes = 0 if self.labels == "none" else int(self._labels.max()) + 1
        facts = ImageFacts(resolution, channels, num_classes, len(self._names))
        if parallel.rank() == 0:  # the other processes rely on it
            check_headers(self.files, list(self._stored.values()), facts, resize=self.resize, crop=self._crop)
        return facts

    def _shape(self) -> tuple[int, int]:
        """Resolution and number of channels as asked for, or else as the first image has them."""
        name = next(iter(self._stored.values()))
        with self.files.stream(name) as file, opened(file, self.files.described(name)) as picture:
            edge = min(picture.size) if self._crop is None else self._crop[2] - self._crop[0]
            return self.resolution or edge, self.num_channels or num_channels(picture)

    @cached_property
    def _crop(self) -> Region | None:
        if self.crop is None:
            return None
        left, top, right, bottom = self.crop if len(self.crop) == 4 else (0, 0, 0, 0)
        if not 0 <= left < right or top < 0 or right - left != bottom - top:
            raise UserError(f"data.crop={list(self.crop)}: allowed: [left, top, right, bottom] of a square, in pixels")
        return left, top, right, bottom

    @cached_property
    def _labels(self) -> np.ndarray:
        """Class of each image, int64 [num_images]."""
        match self.labels:
            case "none":
                return np.zeros(len(self._names), dtype=np.int64)
            case "folders":
                return folder_labels(self._names, lambda name: self.files.described(self._stored[name]))
            case "json":
                called = self.files.described(LABEL_FILE)
                if LABEL_FILE not in self.files.names():
                    raise UserError(f"{called}: not found; allowed with data.labels=json: a set that has this file")
                return json_labels(self.files.read(LABEL_FILE), self._names, called)
        raise UserError(f"data.labels={self.labels!r}: allowed: none, folders, json")


class EncodedImages(ImageDataset):
    """Image files decoded when asked for; every batch is decoded anew, nothing is kept."""

    def __init__(
        self,
        files: Files,
        names: list[str],
        labels: np.ndarray,
        facts: ImageFacts,
        resize: Resize = "none",
        crop: Region | None = None,
    ) -> None:
        self.files = files
        self.names = names
        self.labels = labels
        self.facts = facts
        self.resize = resize
        self.crop = crop

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, indices: np.ndarray) -> Batch:
        resolution, channels = self.facts.resolution, self.facts.num_channels
        images = torch.empty(len(indices), channels, resolution, resolution, dtype=torch.uint8)
        pixels = images.numpy()
        for place, index in enumerate(indices):
            name = self.names[index]
            pixels[place] = decoded(
                self.files.read(name),
                self.files.described(name),
                resolution=resolution,
                channels=channels,
                resize=self.resize,
                crop=self.crop,
            )
        return images, self.labels_of(indices)

    def labels_of(self, indices: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.labels[indices])
