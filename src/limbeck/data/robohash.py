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
from torch import Tensor

from limbeck.data.base import Batch, ImageDataset, ImageFacts, ImageSource, Mirrored
from limbeck.data.permutation import permuted
from limbeck.errors import UserError

FOLDERS = {"cats": "set4", "robots": "set3"}
RESOLUTIONS = (32, 64)
HELDOUT_SHARE = 20
SPLIT_KEY = 0x526F626F48617368
RECIPE = "box filter on premultiplied alpha, layers over white, held out 1 in 20 by permutation; 1"
MAX_FUSED = 256
CHUNK_BYTES = 1 << 20


def over(below: Float[Tensor, "*n 4 h w"], above: Float[Tensor, "*n 4 h w"]) -> Float[Tensor, "*n 4 h w"]:
    """Paste one picture over another. Channels: red, green, blue times opacity in [0, 255]; transparency in [0, 1].

    Pasting is associative, so neighbouring layers may be joined ahead of time.

    Source: Porter and Duff, "Compositing Digital Images", 1984, section 4.3, with F_A = 1 and F_B = 1 - alpha_A.
    """
    color = torch.addcmul(above[..., :3, :, :], below[..., :3, :, :], above[..., 3:, :, :])
    return torch.cat([color, below[..., 3:, :, :] * above[..., 3:, :, :]], dim=-3)


def shrunk(picture: Image.Image, resolution: int) -> Float[Tensor, "4 r r"]:
    """A part at the resolution of training, in the channels of `over`: averaged over the area of each new pixel.

    The average is taken of colors times opacity, so that the color of fully transparent pixels does not bleed in.
    """
    pixels = np.asarray(picture.convert("RGBA"), dtype=np.float32)
    opacity = pixels[..., 3] / 255
    channels = [pixels[..., c] * opacity for c in range(3)] + [1 - opacity]
    small = [Image.fromarray(channel).resize((resolution, resolution), Image.Resampling.BOX) for channel in channels]
    return torch.from_numpy(np.stack([np.asarray(channel) for channel in small]))


class RoboHash(ImageSource):
    """Cats (3.6e5 combinations of parts) or robot heads (1.3e7), one in twenty of them held out.

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
        num_total = math.prod(len(layer) for layer in self._files)
        num_heldout = num_total // HELDOUT_SHARE
        first, length = (0, num_heldout) if part == "heldout" else (num_heldout, num_total - num_heldout)
        return Portraits(self._layers, num_total=num_total, first=first, length=length)

    @cached_property
    def _files(self) -> list[list[Path]]:
        """Part files, bottom layer first; both numberings are the package's own."""
        if self.kind not in FOLDERS:
            raise UserError(f"data.kind={self.kind!r}: allowed: {', '.join(FOLDERS)}")
        if self.resolution not in RESOLUTIONS:
            raise UserError(f"data.resolution={self.resolution!r}: allowed for RoboHash: 32, 64")
        package = importlib.util.find_spec("robohash")
        if package is None or not package.submodule_search_locations:
            raise UserError("data=robohash: the package robohash is not installed; allowed: pip install robohash")
        folder = Path(package.submodule_search_locations[0]) / "sets" / FOLDERS[self.kind]
        layers = sorted((layer for layer in folder.glob("*#*")), key=lambda layer: layer.name.split("#")[1])
        files = [sorted(layer.glob("*.png")) for layer in layers]
        if not files or not all(files):
            raise UserError(f"data=robohash: no parts in {folder}; allowed: a complete robohash package, 2.0 or newer")
        return files

    @cached_property
    def _layers(self) -> list[Tensor]:
        """Parts of each layer [k, 4, r, r], the lowest one on white; neighbours joined while that is small."""
        layers: list[Tensor] = []
        for files in self._files:
            above = torch.stack([shrunk(Image.open(path), self.resolution) for path in files])
            if layers and len(layers[-1]) * len(above) <= MAX_FUSED:
                below = layers.pop()
                above = over(below[:, None], above[None]).flatten(0, 1)
            layers.append(above)
        layers[0] = over(torch.tensor([255.0, 255.0, 255.0, 0.0])[:, None, None].expand_as(layers[0]), layers[0])
        return layers


class Portraits(ImageDataset):
    """A stretch of all combinations of parts, taken in one fixed shuffled order.

    A combination's number has the parts' numbers as digits, bottom layer first (mixed radix). The shuffle is a
    formula, so that the held-out twentieth needs no list of 1.3e7 numbers.
    """

    def __init__(self, layers: list[Tensor], *, num_total: int, first: int, length: int) -> None:
        self.layers = layers
        self.num_total = num_total
        self.first = first
        self.length = length

    def __len__(self) -> int:
        return self.length

    def combinations(self, indices: np.ndarray) -> np.ndarray:
        """Number of the combination of each image, int64 [n]."""
        return permuted(indices + self.first, self.num_total, np.array([SPLIT_KEY], dtype=np.uint64))

    def batch(self, indices: np.ndarray) -> Batch:
        digits = np.unravel_index(self.combinations(indices), [len(layer) for layer in self.layers])
        resolution = self.layers[0].shape[-1]
        images = torch.empty(len(indices), 3, resolution, resolution, dtype=torch.uint8)
        chunk = max(CHUNK_BYTES // (16 * resolution**2), 1)
        for start in range(0, len(indices), chunk):
            chosen = [torch.from_numpy(digit[start : start + chunk]) for digit in digits]
            images[start : start + chunk] = self._blended(chosen)
        return images, torch.zeros(len(indices), dtype=torch.int64)

    def _blended(self, chosen: list[Tensor]) -> Tensor:
        color = self.layers[0][chosen[0], :3]
        for layer, digit in zip(self.layers[1:], chosen[1:], strict=True):
            part = layer[digit]
            color = torch.addcmul(part[:, :3], color, part[:, 3:])
        # Conversion to bytes cuts off the fraction; half a level more makes it round.
        return color.add_(0.5)
