"""Distances between the teacher's and the student's image of the same latent, pixel by pixel.

Source: Liu et al., "Content-Aware GAN Compression", 2021, released code: both images are multiplied by the content
mask of the teacher's image, and the mean is over all pixels, not over the mask's area.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from limbeck.frozen import Frozen
from limbeck.losses.image_step import ImageStep
from limbeck.losses.weighted import Term
from limbeck.masks.base import ContentMask
from limbeck.masks.everything import Everything
from limbeck.model import Pair


def mean_absolute_difference(a: Float[Tensor, "n c h w"], b: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
    """Mean over all entries of |a - b|; images in [-1, 1]."""
    return (a - b).abs().mean()


class PixelL1(Term):
    """Mean absolute pixel difference (weight 3 in CAGAN, StyleKD, DCP-GAN and SVS), inside the mask's content."""

    def __init__(self, *, mask: ContentMask | None = None):
        super().__init__()
        self.mask = Frozen(mask or Everything())

    def check(self) -> None:
        self.mask.network.check()

    def describe(self) -> dict[str, Any]:
        return self.mask.network.describe()

    def prepare(self, pair: Pair, *, half: bool) -> None:
        self.mask.network.load()

    def forward(self, step: ImageStep) -> Tensor:
        return mean_absolute_difference(*step.content_images(self.mask))
