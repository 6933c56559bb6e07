"""Filtering images with StyleGAN2's binomial low-pass [1, 3, 3, 1] / 8.

Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

TAPS = (1.0, 3.0, 3.0, 1.0)


def blur(
    image: Float[Tensor, "n c h w"], *, padding: int, gain: float = 1.0, stride: int = 1
) -> Float[Tensor, "n c h2 w2"]:
    """Filter each channel by the low-pass, zero-padded by `padding`, keeping every `stride`-th pixel.

    Differs: both axes in one pass; two passes of four taps each read and write the image twice and take longer.
    """
    channels = image.shape[1]
    taps = image.new_tensor(TAPS) * (gain**0.5 / sum(TAPS))
    kernel = (taps[:, None] * taps[None, :]).expand(channels, 1, 4, 4)
    return F.conv2d(image, kernel, padding=padding, stride=stride, groups=channels)


def upsample(image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
    """Double the size: insert zeros, then the low-pass with gain 4."""
    channels = image.shape[1]
    taps = image.new_tensor(TAPS) / (sum(TAPS) / 2)
    kernel = (taps[:, None] * taps[None, :]).expand(channels, 1, 4, 4)
    return F.conv_transpose2d(image, kernel, stride=2, padding=1, groups=channels)


def upsampling_convolution(
    image: Float[Tensor, "n i h w"], weight: Float[Tensor, "o i k k"]
) -> Float[Tensor, "n o h2 w2"]:
    """Transposed convolution with stride 2, then the low-pass: StyleGAN2's "up" layer."""
    image = F.conv_transpose2d(image, weight.transpose(0, 1), stride=2)
    kernel = weight.shape[-1]
    return blur(image, padding=(5 - kernel) // 2, gain=4.0)
