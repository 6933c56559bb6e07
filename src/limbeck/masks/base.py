"""What every content mask promises: lazy weights, a description, image in, one boolean per pixel out.

Source: Liu et al., "Content-Aware GAN Compression", 2021: channel scores and distillation look only at the content
of interest of the teacher's image (there: the face).
"""

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn


class ContentMask(nn.Module, ABC):
    """Says which pixels of an image count. The constructor only stores; `load` reads the weights."""

    @abstractmethod
    def check(self) -> None:
        """Refuse what cannot work, without reading any weights.

        Raises: UserError if a file is missing or an argument is impossible.
        """

    @abstractmethod
    def load(self) -> "ContentMask":
        """Read the weights, freeze, switch to evaluation; a second call does nothing. Returns this mask.

        Raises: UserError if the weights are missing or of another network.
        """

    @abstractmethod
    def forward(self, image: Float[Tensor, "n c h w"]) -> Bool[Tensor, "n 1 h w"]:
        """True where the content is. image: nominally in [-1, 1], 1 or 3 channels; no gradient flows."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What stands beside a result made with this mask; equal descriptions, equal masks. JSON values."""
