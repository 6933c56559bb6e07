"""Distance between two images through the feature maps of a network: LPIPS without its learned channel weights.

Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018, Eq. 1 with all
channel weights equal to 1.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def unit_channels(maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Each pixel's vector of channels scaled to length 1."""
    return maps / (maps.square().sum(dim=1, keepdim=True) + 1e-10).sqrt()


def feature_distances(a: Sequence[Tensor], b: Sequence[Tensor]) -> Float[Tensor, " n"]:
    """For each image: sum over maps of the mean over pixels of |unit(a) - unit(b)|^2; each map is [n, c, h, w].

    Between 0 and 4 per map.
    """
    found = [
        (unit_channels(x.float()) - unit_channels(y.float())).square().sum(dim=1).mean(dim=(1, 2))
        for x, y in zip(a, b, strict=True)
    ]
    return torch.stack(found).sum(dim=0)
