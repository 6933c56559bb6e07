"""How far translated images are from the wanted ones, where the data know them: L1, PSNR, SSIM.

For super-resolution as its papers have it: on the luminance alone, a border as wide as the enlargement cut off.
Without wanted images there is no value. Unlike the other metrics of pairs they judge the teacher's own row too.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.embeddings.base import Embedding
from limbeck.errors import UserError
from limbeck.functional.ssim import SIGMA, WINDOW
from limbeck.metrics.accumulated import PairMetric

COLORS = ("y", "rgb")


def luminance(image: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1 h w"]:
    """Y of YCbCr, 16 to 235 of 255, for RGB in [-1, 1]; again in [-1, 1].

    Y = 16 + 65.481 r + 128.553 g + 24.966 b with r, g, b in [0, 1].

    Source: ITU-R BT.601.
    """
    weights = torch.tensor([65.481, 128.553, 24.966], device=image.device)[:, None, None]
    y = 16 + ((image.float() + 1) / 2 * weights).sum(dim=1, keepdim=True)
    return y / 127.5 - 1


def peak_signal_to_noise(a: Float[Tensor, "n c h w"], b: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """10 log10(1 / mean square) in dB of images in [-1, 1], taken to [0, 1]; one value per image, at most 100."""
    error = ((a.double() - b.double()) / 2).square().mean(dim=(1, 2, 3))
    return -10 * error.clamp_min(1e-10).log10()


def absolute_difference(a: Float[Tensor, "n c h w"], b: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """Mean of |a - b| over each image, in units of [-1, 1]."""
    return (a - b).abs().mean(dim=(1, 2, 3))


class ToTarget(PairMetric):
    """The mean over images of `distance(image, wanted image)`.

    name: of the value. distance: of images [n, c, h, w] in [-1, 1], one value each. colors: "y", the luminance alone,
    or "rgb". border: pixels cut off at each side. num_pairs: first images; None for all.
    """

    def __init__(
        self,
        *,
        name: str,
        distance: Callable[[Tensor, Tensor], Tensor],
        colors: str = "rgb",
        border: int = 0,
        num_pairs: int | None = None,
    ) -> None:
        super().__init__(name=name, num_pairs=num_pairs, to_target=True)
        self.distance, self.colors, self.border = distance, colors, border

    def check(self, num_real: int, num_fake: int) -> None:
        if self.num_pairs is not None and self.num_pairs < 1:
            raise UserError(f"num_pairs={self.num_pairs}: must be at least 1, or null for all images")
        if self.colors not in COLORS:
            raise UserError(f"colors={self.colors!r}: must be one of {', '.join(COLORS)}")
        if isinstance(self.border, bool) or not isinstance(self.border, int) or self.border < 0:
            raise UserError(f"border={self.border}: must be a whole number, at least 0")

    def between(self, student_image: Tensor, teacher_image: Tensor, embedding: Embedding | None) -> Float[Tensor, " n"]:
        return self.distance(*(visible(image, self.colors, self.border) for image in (student_image, teacher_image)))

    def ranks(self) -> dict[str, bool]:
        return {self.name: self._distance_name != "absolute_difference"}

    @property
    def _distance_name(self) -> str:
        return getattr(self.distance, "__name__", None) or self.distance.func.__name__  # type: ignore[attr-defined]

    def describe(self) -> dict[str, Any]:
        pairs = "all images" if self.num_pairs is None else f"first {self.num_pairs} images"
        measure = {"absolute_difference": "mean absolute difference in [-1, 1]", "peak_signal_to_noise": "PSNR in dB"}
        measure["ssim"] = f"SSIM, Gaussian window {WINDOW}, sigma {SIGMA}, range 1"
        name = self._distance_name
        colors = "luminance (BT.601, 16 to 235)" if self.colors == "y" else "RGB"
        estimator = f"{measure.get(name, name)} to the wanted image, mean of {pairs}"
        return {"estimator": estimator, "colors": colors, "border": self.border}


def visible(image: Float[Tensor, "n c h w"], colors: str, border: int) -> Float[Tensor, "n d k l"]:
    """What of an image counts. Raises: UserError if the border leaves nothing."""
    if 2 * border >= min(image.shape[2:]):
        raise UserError(f"border={border}: leaves nothing of images of {image.shape[-2]} x {image.shape[-1]} pixels")
    image = luminance(image) if colors == "y" else image
    return image[..., border : image.shape[-2] - border, border : image.shape[-1] - border]
