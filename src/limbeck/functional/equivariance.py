"""Moving pictures exactly as StyleGAN3's equivariance metrics do: shifts by whole pixels and fractions, rotations.

Every operator returns the moved image and a mask of the same shape, 1 where all pixels that a value is made of lie in
the image. Positions are fractions of the image's width, x to the right, y down; images are square.

Source: Karras et al., "Alias-Free Generative Adversarial Networks", 2021, appendix on equivariance metrics, and the
released metrics, which decide the details.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Number = float | int
Image = Float[Tensor, "n c w w"]
LANCZOS = 3  # lobes
REACH = 2 * LANCZOS  # of a filter made of two windows, in pixels
PERIOD = 64  # pixels to each side on which oriented filters are computed
FINER = 4  # samples per pixel from which a turned image is read


def rotation_matrix(radians: Number) -> Float[Tensor, "2 2"]:
    """Turns (x, y), y down, counter-clockwise as seen; float64."""
    c, s = math.cos(radians), math.sin(radians)
    return torch.tensor([[c, s], [-s, c]], dtype=torch.float64)


def integer_translation(image: Image, shift: tuple[Number, Number]) -> tuple[Image, Image]:
    """The image moved by `shift`, rounded to whole pixels; zeros come in."""
    x, y = (round(part * image.shape[-1]) for part in _checked(shift))
    mask = F.pad(torch.ones_like(image), [x, -x, y, -y])
    return F.pad(image, [x, -x, y, -y]), mask


def fractional_translation(image: Image, shift: tuple[Number, Number]) -> tuple[Image, Image]:
    """The image moved by `shift` with a Lanczos filter of three lobes; the border sees zeros."""
    size, mask = image.shape[-1], torch.zeros_like(image)
    n, c, _, _ = image.shape
    moved, kept = image.reshape(n * c, 1, size, size), []
    for axis, part in enumerate(_checked(shift)):
        whole = math.floor(part * size)
        taps = _lanczos_taps(part * size - whole).to(image).view((1, 1, 1, -1) if axis == 0 else (1, 1, -1, 1))
        # Tap k reads the pixel whole + k to the left, k = -2 ... 3.
        padding = [whole + LANCZOS, LANCZOS - 1 - whole]
        moved = F.conv2d(F.pad(moved, [*padding, 0, 0] if axis == 0 else [0, 0, *padding]), taps)
        kept.append(slice(max(whole + LANCZOS, 0), size + min(whole - LANCZOS + 1, 0)))
    mask[:, :, kept[1], kept[0]] = 1
    return moved.reshape(image.shape), mask


def rotation(image: Image, radians: Number) -> tuple[Image, Image]:
    """The image turned by `rotation_matrix(radians)` about its center, low-passed as `pseudo_rotation` does."""
    n, c, size, _ = image.shape
    kernel = oriented_filter(rotation_matrix(radians), FINER).to(image)
    margin = kernel.shape[0] // 2
    # Pixel j is sample FINER * j + margin of this.
    finer = F.conv_transpose2d(image.reshape(n * c, 1, size, size), kernel[None, None], stride=FINER)
    place = torch.arange(size, dtype=torch.float64) + 0.5 - size / 2
    positions = torch.stack(torch.meshgrid(place, place, indexing="xy"), dim=-1) @ rotation_matrix(radians)
    sample = (positions + size / 2 - 0.5) * FINER  # row vectors times R are R^-1 times columns
    grid = ((sample + margin) * 2 / (finer.shape[-1] - 1) - 1).to(image).expand(n * c, -1, -1, -1)
    turned = F.grid_sample(finer, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    nearest, last = sample.round(), FINER * (size - 1)
    inside = ((nearest >= margin - 1) & (nearest <= last - margin)).all(dim=-1)
    return turned.reshape(image.shape), inside.to(image).expand_as(image).contiguous()


def pseudo_rotation(image: Image, radians: Number) -> tuple[Image, Image]:
    """The image not turned, but without the frequencies that turning it back by `radians` loses in the corners."""
    n, c, size, _ = image.shape
    kernel = oriented_filter(rotation_matrix(-radians), 1).to(image)
    margin = kernel.shape[0] // 2
    filtered = F.conv2d(image.reshape(n * c, 1, size, size), kernel[None, None], padding=margin)
    mask = torch.zeros_like(image)
    mask[:, :, margin : size - margin, margin : size - margin] = 1
    return filtered.reshape(image.shape), mask


def oriented_filter(matrix: Float[Tensor, "2 2"], finer: int) -> Float[Tensor, "k k"]:
    """Low-pass for both the pixels' own grid and the one that `matrix` makes of it, at `finer` samples per pixel.

    A sinc along each axis of the one, convolved with those of the other; windowed by Lanczos windows convolved alike.
    12 * finer - 1 taps a side; those that meet the same pixels' samples sum to 1. In float64.
    """
    half = PERIOD * finer - 1
    # Zero first, as the Fourier transform has it.
    offset = torch.arange(-half, half + 1, dtype=torch.float64).roll(-half) / finer
    own = torch.stack(torch.meshgrid(offset, offset, indexing="xy"), dim=-1)
    other = own @ matrix.double().T
    taps = _convolved(torch.sinc(own).prod(dim=-1), torch.sinc(other).prod(dim=-1))
    taps = taps * _convolved(_window(own).prod(dim=-1), _window(other).prod(dim=-1))
    reach = REACH * finer - 1
    taps = taps.roll((reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    phases = F.pad(taps, [0, 1, 0, 1]).reshape(2 * REACH, finer, 2 * REACH, finer)
    return (phases / phases.sum(dim=(0, 2), keepdim=True)).reshape(taps.shape[0] + 1, -1)[:-1, :-1]


def masked_squares(image: Image, target: Image, mask: Image) -> Float[Tensor, "2"]:
    """Sum of squared differences inside the mask, and the mask's own sum; in float64."""
    squares = (image.double() - target.double()).square() * mask
    return torch.stack([squares.sum(), mask.double().sum()])


def decibels(sums: Float[Tensor, "2"]) -> float:
    """Peak signal-to-noise ratio for images in [-1, 1], of `masked_squares` added up; 200 dB at most."""
    mean = (sums[0] / sums[1].clamp_min(1)).item()
    return min(20 * math.log10(2) - 10 * math.log10(max(mean, 1e-30)), 200.0)


def _checked(shift: tuple[Number, Number]) -> tuple[Number, Number]:
    if not all(abs(part) < 1 for part in shift):
        raise ValueError(f"shift={shift}: must lie within one image width, (-1, 1)")
    return shift


def _lanczos_taps(fraction: Number) -> Float[Tensor, "6"]:
    """Weights of the pixels 3, 2, ..., -2 to the left of where a shift by `fraction` of a pixel reads; sum 1."""
    distance = torch.arange(LANCZOS, -LANCZOS, -1, dtype=torch.float64) - fraction
    taps = torch.sinc(distance) * torch.sinc(distance / LANCZOS)
    return taps / taps.sum()


def _window(x: Tensor) -> Tensor:
    return torch.where(x.abs() < LANCZOS, torch.sinc(x / LANCZOS), torch.zeros_like(x))


def _convolved(a: Tensor, b: Tensor) -> Tensor:
    return torch.fft.ifft2(torch.fft.fft2(a) * torch.fft.fft2(b)).real
