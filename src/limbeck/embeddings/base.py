"""What every embedding promises: lazy weights, a digest of everything its numbers depend on, vectors and maps."""

import hashlib
import json
import os
from abc import ABC, abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.errors import UserError


class Embedding(nn.Module, ABC):
    """A frozen network that turns images into feature vectors.

    The constructor only stores; `load` reads the weights. `num_features` is the length of a vector. `metric_suffix`
    ends the names of metrics (`kid` + `_lite0`); it is empty for the network that papers mean when they name none.
    """

    name: str
    metric_suffix: str
    num_features: int

    @abstractmethod
    def load(self) -> "Embedding":
        """Read the weights, freeze, switch to evaluation; a second call does nothing.

        Raises: UserError if the weights are missing or of another network.
        """

    @abstractmethod
    def weights_digest(self) -> str:
        """Hexadecimal SHA-256 of the weights' file, or of the recipe that makes them.

        Raises: UserError if the file is missing.
        """

    @abstractmethod
    def preprocessing(self) -> dict[str, str]:
        """ "resize" and "normalization" in words, with every number."""

    @abstractmethod
    def forward(self, image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f"]:
        """Feature vectors of images in [-1, 1] with 1 or 3 channels; differentiable, not clamped, not rounded."""

    @abstractmethod
    def feature_maps(self, image: Float[Tensor, "n c h w"]) -> list[Tensor]:
        """Intermediate maps [n, c_i, h_i, w_i] of the same images, finest first."""

    def describe(self) -> dict[str, Any]:
        """What stands beside a number made with this embedding; JSON values."""
        return {
            "embedding": self.name,
            "weights_sha256": self.weights_digest(),
            **self.preprocessing(),
            "num_features": self.num_features,
        }

    def digest(self) -> str:
        """Hexadecimal SHA-256 of `describe`: equal digests, equal features."""
        return hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode()).hexdigest()


def in_color(image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 h w"]:
    """Grey images as three equal channels."""
    if image.shape[1] not in (1, 3):
        raise UserError(f"image: {image.shape[1]} channels; embeddings take 1 or 3")
    return image.expand(-1, 3, -1, -1)


def freeze(network: nn.Module) -> None:
    """Evaluation mode, no gradients to the weights, weights stored channels last (faster on CPUs)."""
    network.eval().requires_grad_(False)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def file_digest(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file, remembered until the file changes."""
    facts = os.stat(path)
    return _file_digest(os.fspath(path), facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=32)
def _file_digest(path: str, _modified: int, _size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
