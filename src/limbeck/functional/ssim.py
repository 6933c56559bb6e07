"""Structural similarity of two images.

Source: Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004, section III.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03


def gaussian_window(size: int = WINDOW, sigma: float = SIGMA) -> Float[Tensor, " size"]:
    """Weights of a Gaussian at `size` neighboring pixels, in the middle of them; they add up to 1."""
    distance = torch.arange(size) - (size - 1) / 2
    weights = torch.exp(-distance.square() / (2 * sigma**2))
    return weights / weights.sum()


def ssim(a: Float[Tensor, "n c h w"], b: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """SSIM of images in [-1, 1]: 1 if equal, averaged over channels and all windows that lie within the image.

    (2 m_a m_b + c1) (2 s_ab + c2) / ((m_a^2 + m_b^2 + c1) (s_a^2 + s_b^2 + c2)),  c1 = 0.01^2, c2 = 0.03^2 for images
    taken to [0, 1]; means m, variances s^2 and covariance s_ab under a Gaussian window of 11 x 11 pixels, sigma 1.5.

    Source: Wang et al., 2004, Eq. 13 to 16; channels are averaged as in Diff-Pruning's evaluation (pytorch-msssim).
    Raises: ValueError if the images are smaller than the window.
    """
    if min(a.shape[2:]) < WINDOW:
        raise ValueError(f"images of shape {tuple(a.shape)}: must be at least {WINDOW} x {WINDOW} pixels")
    a, b = (a.float() + 1) / 2, (b.float() + 1) / 2
    channels = a.shape[1]
    window = gaussian_window().to(a)
    maps = torch.cat([a, b, a * a, b * b, a * b], dim=1)
    kernel = window.expand(maps.shape[1], 1, 1, WINDOW)
    smooth = F.conv2d(maps, kernel, groups=maps.shape[1])
    smooth = F.conv2d(smooth, kernel.mT, groups=maps.shape[1])
    mean_a, mean_b, square_a, square_b, product = smooth.split(channels, dim=1)
    variance_a, variance_b = square_a - mean_a**2, square_b - mean_b**2
    covariance = product - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + K1**2) / (mean_a**2 + mean_b**2 + K1**2)
    structure = (2 * covariance + K2**2) / (variance_a + variance_b + K2**2)
    return (luminance * structure).mean(dim=(1, 2, 3))
