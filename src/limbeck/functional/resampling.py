"""Filtering images with StyleGAN2's binomial low-pass [1, 3, 3, 1] / 8, and making them smaller as MATLAB does.

Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020; Keys, "Cubic Convolution
Interpolation for Digital Image Processing", 1981.
"""

import torch
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


def cubic(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Keys' kernel with a = -1/2: 1 at 0, 0 at all other whole numbers and beyond 2."""
    x = x.abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x <= 1, near, torch.where(x <= 2, far, torch.zeros_like(x)))


def reduction_matrix(size: int, factor: int) -> Float[Tensor, "m n"]:
    """Rows of weights that make `size` pixels `factor` times fewer, float64; pixels beyond the border are mirrored."""
    centers = (torch.arange(size // factor, dtype=torch.float64) + 0.5) * factor - 0.5
    places = torch.arange(-2 * factor, size + 2 * factor)
    weights = cubic((centers[:, None] - places) / factor)
    within = places.remainder(2 * size)
    mirrored = torch.where(within < size, within, 2 * size - 1 - within)
    found = torch.zeros(len(centers), size, dtype=torch.float64).index_add_(1, mirrored, weights)
    return found / found.sum(dim=1, keepdim=True)


def reduced(image: Float[Tensor, "n c h w"], factor: int) -> Float[Tensor, "n c k l"]:
    """Each side divided by `factor`: bicubic, antialiased, mirrored at the border, as MATLAB's `imresize`; in float64.

    Differs: nothing is rounded between the two axes, which MATLAB does for images of bytes.
    Raises: ValueError if the factor does not divide both sides.
    """
    height, width = image.shape[2:]
    if factor < 1 or height % factor or width % factor:
        raise ValueError(f"factor={factor}: must divide {height} and {width}")
    rows, columns = (reduction_matrix(side, factor).to(image.device) for side in (height, width))
    return rows @ image.double() @ columns.T
