"""Cats and robot heads put together from the parts inside the installed `robohash` package; no download.

A picture is one part per layer, pasted over each other on white. All parts are read once and shrunk to the resolution
of training; a batch is then a few gathers and blends. Art: cats ("set4") by David Revoy, CC-BY-4.0; robot heads
("set3") by Julian Peter Arias, CC-BY-3.0.
"""

import hashlib
import importlib.util
import json
import math
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from limbeck.data.base import Batch, ImageDataset, ImageFacts, ImageSource, Mirrored
from limbeck.data.permutation import permuted
from limbeck.errors import UserError

FOLDERS = {"cats": "set4", "robots": "set3"}
COVERED = {"cats": ("mouth",), "robots": ()}  # layers that another part may hide: some accessories cover the mouth
RESOLUTIONS = (32, 64)
HELDOUT_SHARE = 20
SPLIT_KEY = 0x526F626F48617368
ORDER_KEY = 0x4F72646572
RECIPE = "box filter on premultiplied alpha, layers over white, equal parts once, held out 1 in 20 by what shows; 2"
MAX_FUSED = 256
CHUNK = 64  # images blended at a time, so that they stay in the processor's cache

# Colors times opacity [k, 3, r, r] in [0, 255] and transparency [k, 1, r, r] in [0, 1] of the k parts of a layer.
Layer = tuple[np.ndarray, np.ndarray]


def over(below: Float[np.ndarray, "*n 4 h w"], above: Float[np.ndarray, "*n 4 h w"]) -> Float[np.ndarray, "*n 4 h w"]:
    """Paste one picture over another. Channels: red, green, blue times opacity in [0, 255]; transparency in [0, 1].

    Pasting is associative, so neighbouring layers may be joined ahead of time.

    Source: Porter and Duff, "Compositing Digital Images", 1984, section 4.3, with F_A = 1 and F_B = 1 - alpha_A.
    """
    transparency = above[..., 3:, :, :]
    color = above[..., :3, :, :] + below[..., :3, :, :] * transparency
    return np.concatenate([color, below[..., 3:, :, :] * transparency], axis=-3)


def shrunk(picture: Image.Image, resolution: int) -> Float[np.ndarray, "4 r r"]:
    """A part at the resolution of training, in the channels of `over`: averaged over the area of each new pixel.

    The average is taken of colors times opacity, so that the color of fully transparent pixels does not bleed in.
    """
    pixels = np.asarray(picture.convert("RGBA"), dtype=np.float32)
    opacity = pixels[..., 3] / 255
    channels = [pixels[..., c] * opacity for c in range(3)] + [1 - opacity]
    small = [Image.fromarray(channel).resize((resolution, resolution), Image.Resampling.BOX) for channel in channels]
    return np.stack([np.asarray(channel) for channel in small])


def distinct(parts: Float[np.ndarray, "k c h w"]) -> Float[np.ndarray, "m c h w"]:
    """The parts of a layer without repetitions, in their order (two of the package's cat furs are the same picture)."""
    _, first = np.unique(parts.reshape(len(parts), -1), axis=0, return_index=True)
    return parts[np.sort(first)]


def package_folder() -> Path:
    """Where the installed package keeps its sets of parts. Raises: UserError if it is not installed."""
    package = importlib.util.find_spec("robohash")
    if package is None or not package.submodule_search_locations:
        raise UserError("data=robohash: the package robohash is not installed; allowed: pip install robohash")
    return Path(package.submodule_search_locations[0]) / "sets"


def fused(parts: list[np.ndarray]) -> list[Layer]:
    """Layers of parts, bottom layer first, the lowest one on white; neighbours joined while that is small."""
    layers: list[np.ndarray] = []
    for above in parts:
        if layers and len(layers[-1]) * len(above) <= MAX_FUSED:
            joined = over(layers.pop()[:, None], above[None])
            above = joined.reshape(-1, *above.shape[1:])
        layers.append(above)
    white = np.array([255, 255, 255, 0], dtype=np.float32)[:, None, None]
    layers[0] = over(np.broadcast_to(white, layers[0].shape), layers[0])
    return [(np.ascontiguousarray(layer[:, :3]), np.ascontiguousarray(layer[:, 3:])) for layer in layers]


class RoboHash(ImageSource):
    """Cats (3.2e5 combinations of parts) or robot heads (1.3e7), one in twenty of them held out.

    Pictures are held out, not numbers of combinations: combinations that can look the same at some resolution
    (they differ in a part that another one may cover) are in the same part of the split.

    kind: "cats" or "robots". resolution: 32 or 64 pixels.
    """

    def __init__(
        self, *, kind: Literal["cats", "robots"], resolution: int, mirror: bool = False, num_workers: int = 0
    ) -> None:
        self.kind = kind
        self.resolution = resolution
        self.mirror = mirror
        self.num_workers = num_workers

    def open(self) -> ImageFacts:
        return ImageFacts(self.resolution, num_channels=3, num_classes=0, num_images=len(self._portraits("train")))

    def train(self) -> ImageDataset:
        images = self._portraits("train")
        return Mirrored(images) if self.mirror else images

    def heldout(self) -> ImageDataset:
        return self._portraits("heldout")

    def digest(self) -> str:
        facts = [RECIPE, self.kind, self.resolution]
        summary = hashlib.sha256(json.dumps(facts).encode())
        for path in (path for layer in self._files for path in layer):
            summary.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
        return summary.hexdigest()

    def _portraits(self, part: Literal["train", "heldout"]) -> "Portraits":
        covered = tuple(index for index, files in enumerate(self._files) if _name(files) in COVERED[self.kind])
        return Portraits(self._layers, self._num_parts, covered=covered, part=part)

    @cached_property
    def _files(self) -> list[list[Path]]:
        """Part files, bottom layer first, both in the order of the package's own numbers."""
        if self.kind not in FOLDERS:
            raise UserError(f"data.kind={self.kind!r}: allowed: {', '.join(FOLDERS)}")
        if self.resolution not in RESOLUTIONS:
            raise UserError(f"data.resolution={self.resolution!r}: allowed for RoboHash: 32, 64")
        folder = package_folder() / FOLDERS[self.kind]
        layers = sorted((layer for layer in folder.glob("*#*")), key=lambda layer: layer.name.split("#")[1])
        files = [sorted(layer.glob("*.png")) for layer in layers]
        if not files or not all(files):
            raise UserError(f"data=robohash: no parts in {folder}; allowed: a complete robohash package, 2.0 or newer")
        return files

    @cached_property
    def parts(self) -> list[np.ndarray]:
        """Different parts of each layer, bottom layer first: [k, 4, r, r] in the channels of `over`."""
        return [distinct(np.stack([shrunk(Image.open(path), self.resolution) for path in f])) for f in self._files]

    @cached_property
    def _num_parts(self) -> list[int]:
        return [len(parts) for parts in self.parts]

    @cached_property
    def _layers(self) -> list[Layer]:
        """Parts of each layer, the lowest one on white; neighbours joined while that is small."""
        return fused(self.parts)


def _name(files: list[Path]) -> str:
    """Of a layer, from its folder: "mouth" of "003#03mouth"."""
    return files[0].parent.name.split("#")[1].lstrip("0123456789")


class Portraits(ImageDataset):
    """One part of the split, in one fixed shuffled order.

    A family is the parts that always show; it is held out or trained on whole, with every choice of the covered
    layers. A combination's number has the parts' numbers as digits, bottom layer first (mixed radix). Both shuffles
    are formulas, so that the held-out twentieth needs no list of 1.3e7 numbers.
    """

    def __init__(
        self, layers: list[Layer], num_parts: list[int], *, covered: tuple[int, ...], part: Literal["train", "heldout"]
    ) -> None:
        self.layers = layers
        self.num_parts = num_parts
        self.digit_order = [index for index in range(len(num_parts)) if index not in covered] + list(covered)
        self.num_members = math.prod(num_parts[index] for index in covered)
        self.num_families = math.prod(num_parts) // self.num_members
        num_heldout = self.num_families // HELDOUT_SHARE
        self.first_family = 0 if part == "heldout" else num_heldout
        self.length = (num_heldout if part == "heldout" else self.num_families - num_heldout) * self.num_members

    def __len__(self) -> int:
        return self.length

    def digits(self, indices: np.ndarray) -> list[np.ndarray]:
        """Number of the part of each layer, bottom layer first, each int64 [n]."""
        position = permuted(indices, self.length, np.array([ORDER_KEY], dtype=np.uint64))
        place, member = np.divmod(position, self.num_members)
        family = permuted(place + self.first_family, self.num_families, np.array([SPLIT_KEY], dtype=np.uint64))
        number = family * self.num_members + member
        ordered = np.unravel_index(number, [self.num_parts[index] for index in self.digit_order])
        return [ordered[self.digit_order.index(layer)] for layer in range(len(self.num_parts))]

    def combinations(self, indices: np.ndarray) -> np.ndarray:
        """Number of the combination of each image, int64 [n]."""
        return np.ravel_multi_index(self.digits(indices), self.num_parts)

    def batch(self, indices: np.ndarray) -> Batch:
        digits = np.unravel_index(self.combinations(indices), [len(color) for color, _ in self.layers])
        images = np.empty((len(indices), *self.layers[0][0].shape[1:]), dtype=np.uint8)
        for start in range(0, len(indices), CHUNK):
            part = slice(start, start + CHUNK)
            images[part] = self._blended([digit[part] for digit in digits])
        return torch.from_numpy(images), torch.zeros(len(indices), dtype=torch.int64)

    def _blended(self, digits: list[np.ndarray]) -> Float[np.ndarray, "n 3 r r"]:
        """Colors in [0.5, 255.5): half a level more, because the conversion to bytes cuts off the fraction.

        NumPy, not torch: three times faster here, and no threads that contend with the training for the cores.
        """
        base, *others = zip(self.layers, digits, strict=True)
        image = base[0][0].take(base[1], axis=0)
        for (color, transparency), digit in others:
            image *= transparency.take(digit, axis=0)
            image += color.take(digit, axis=0)
        image += np.float32(0.5)
        return image
