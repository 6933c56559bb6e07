"""Robots of RoboHash's "set1" in several colors: attributes whose every change has a known truth; no download.

Art: Zikri Kader, CC-BY-3.0.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

from limbeck.data.base import Batch, ImageDataset, ImageFacts, ImageSource, Mirrored
from limbeck.data.robohash import Portraits, fused, package_folder, shrunk
from limbeck.errors import UserError

RECIPE = "robots in colors; 1"


class RoboHashColors(ImageSource):
    """Robots ("set1") in several colors; a label is one-hot float32 [n, k] in the order of `colors`.

    The truth is the same robot of the other color: part files of two colors belong together by the number that ends
    their names. resolution: any, 32 or 64 pixels as elsewhere here.
    """

    def __init__(
        self,
        *,
        colors: Sequence[str] = ("blue", "green", "red", "white", "yellow"),
        resolution: int = 32,
        mirror: bool = False,
        num_workers: int = 0,
    ) -> None:
        self.colors, self.resolution = colors, resolution
        self.mirror, self.num_workers = mirror, num_workers

    def open(self) -> ImageFacts:
        return ImageFacts(self.resolution, 3, len(self.colors), len(self._robots("train")))

    def train(self) -> ImageDataset:
        robots = self._robots("train")
        return Mirrored(robots) if self.mirror else robots

    def heldout(self) -> ImageDataset:
        return self._robots("heldout")

    def sources(self) -> ImageDataset:
        """Every held-out robot with every color that it should get: item i k + c is robot i to become color c."""
        return Recolored(self._robots("heldout"), shown="source")

    def targets(self) -> ImageDataset:
        return Recolored(self._robots("heldout"), shown="target")

    def digest(self) -> str:
        summary = hashlib.sha256(json.dumps([RECIPE, list(self.colors), self.resolution]).encode())
        for path in (path for color in self._files for layer in color for path in layer):
            summary.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
        return summary.hexdigest()

    def _robots(self, part: Literal["train", "heldout"]) -> "Robots":
        counts = [len(layer) for layer in self._files[0]]
        return Robots([Portraits(layers, counts, covered=(), part=part) for layers in self._layers])

    @cached_property
    def _files(self) -> list[list[list[Path]]]:
        """Part files by color and layer, bottom layer first, in the order of the numbers in their names."""
        folder = package_folder() / "set1"
        allowed = sorted(path.name for path in folder.iterdir() if path.is_dir())
        unknown = [color for color in self.colors if color not in allowed]
        if unknown or len(set(self.colors)) != len(self.colors) or len(self.colors) < 2:
            raise UserError(f"data.colors={list(self.colors)}: allowed: two or more of {', '.join(allowed)}")
        found = []
        for color in self.colors:
            layers = sorted((folder / color).glob("*#*"), key=lambda layer: layer.name.split("#")[1])
            found.append([sorted(layer.glob("*.png"), key=_number) for layer in layers])
        numbers = [[[_number(path) for path in layer] for layer in color] for color in found]
        if any(other != numbers[0] for other in numbers) or not all(found[0]):
            raise UserError("data=robohash_colors: the colors have different parts; allowed: robohash 2.0 or newer")
        return found

    @cached_property
    def _layers(self) -> list:
        read = [
            [np.stack([shrunk(Image.open(path), self.resolution) for path in layer]) for layer in color]
            for color in self._files
        ]
        return [fused(parts) for parts in read]


class Robots(ImageDataset):
    """Item i k + c is robot i in color c."""

    def __init__(self, colors: list[Portraits]) -> None:
        self.colors = colors

    def __len__(self) -> int:
        return len(self.colors) * len(self.colors[0])

    def batch(self, indices: np.ndarray) -> Batch:
        robot, color = np.divmod(indices, len(self.colors))
        return self.colored(robot, color), self.labels_of(indices)

    def labels_of(self, indices: np.ndarray) -> torch.Tensor:
        return torch.eye(len(self.colors))[torch.from_numpy(indices % len(self.colors))]

    def colored(self, robot: np.ndarray, color: np.ndarray) -> torch.Tensor:
        """uint8 [n, 3, r, r] of robots in colors, by their numbers."""
        edge = self.colors[0].layers[0][0].shape[-1]
        images = torch.empty(len(robot), 3, edge, edge, dtype=torch.uint8)
        for number, portraits in enumerate(self.colors):
            chosen = np.flatnonzero(color == number)
            if chosen.size:
                images[torch.from_numpy(chosen)] = portraits.batch(robot[chosen])[0]
        return images


class Recolored(ImageDataset):
    """Item j k + c is item j of `robots` as it is ("source"), or in color c ("target"); the label is color c."""

    def __init__(self, robots: Robots, *, shown: Literal["source", "target"]) -> None:
        self.robots, self.shown = robots, shown

    def __len__(self) -> int:
        return len(self.robots) * len(self.robots.colors)

    def batch(self, indices: np.ndarray) -> Batch:
        k = len(self.robots.colors)
        item, wanted = np.divmod(indices, k)
        robot, own = np.divmod(item, k)
        return self.robots.colored(robot, own if self.shown == "source" else wanted), self.labels_of(indices)

    def labels_of(self, indices: np.ndarray) -> torch.Tensor:
        return torch.eye(len(self.robots.colors))[torch.from_numpy(indices % len(self.robots.colors))]


def _number(path: Path) -> int:
    return int(re.findall(r"(\d+)$", path.stem)[0])
