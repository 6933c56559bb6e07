"""The mask for data without a parser: the whole image is content (churches, cats and RoboHash in the papers' sense)."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from limbeck.masks.base import ContentMask


class Everything(ContentMask):
    """True everywhere."""

    def check(self) -> None:
        """Nothing can be missing."""

    def load(self) -> ContentMask:
        return self

    def forward(self, image: Float[Tensor, "n c h w"]) -> Bool[Tensor, "n 1 h w"]:
        n, _, h, w = image.shape
        return torch.ones(n, 1, h, w, dtype=torch.bool, device=image.device)

    def describe(self) -> dict[str, Any]:
        return {"mask": "everything"}
