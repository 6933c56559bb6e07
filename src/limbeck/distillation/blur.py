"""Judges that see blurred pictures at first: the start of StyleGAN3's configuration R.

Source: Karras et al., "Alias-Free Generative Adversarial Networks", 2021, released training code.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def blurred(image: Tensor, sigma: float) -> Tensor:
    """Each channel of [n, c, h, w] filtered by 2^(-(x / sigma)^2), cut at 3 sigma, along both axes; zeros outside."""
    reach = math.floor(3 * sigma)
    if reach < 1:
        return image
    place = torch.arange(-reach, reach + 1, device=image.device, dtype=torch.float32)
    taps = (-(place / sigma).square()).exp2()
    taps = (taps / taps.sum()).to(image.dtype)
    channels = image.shape[1]
    for shape in ((-1, 1), (1, -1)):
        kernel = taps.view(shape)
        padding = (reach, 0) if shape[0] == -1 else (0, reach)
        image = F.conv2d(image, kernel.expand(channels, 1, *kernel.shape), padding=padding, groups=channels)
    return image


def fading(sigma: float, fade_kimg: float, images_seen: int) -> float:
    """`sigma` at the first image, 0 from `fade_kimg` on, in between a line."""
    return sigma * max(1 - images_seen / (1000 * fade_kimg), 0.0)


class Blurred(nn.Module):
    """A judge in front of which every image, real or drawn, is blurred. sigma: asked anew for every batch."""

    def __init__(self, judge: nn.Module, sigma: Callable[[], float]):
        super().__init__()
        self.judge, self.sigma = judge, sigma

    @property
    def resolutions(self) -> Sequence[int]:
        return self.judge.resolutions  # type: ignore[return-value]

    def forward(self, image: Tensor, *arguments: Any, **named: Any) -> Tensor:
        return self.judge(blurred(image, self.sigma()), *arguments, **named)

    def features(self, image: Tensor, *arguments: Any, **named: Any) -> dict[int, Tensor]:
        """The judge's own."""
        features: Callable[..., dict[int, Tensor]] = self.judge.features  # type: ignore[assignment]
        return features(blurred(image, self.sigma()), *arguments, **named)
