"""Alias-free non-linearity: up-sampling, leaky ReLU and down-sampling by designed low-pass filters.

Source: Karras et al., "Alias-Free Generative Adversarial Networks" (StyleGAN3), 2021, and its released filter design.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

SLOPE = 0.2
NARROW = 128  # channels below which up-sampling is faster along the rows first (measured on CPUs)
Number = float | int


def kaiser_beta(num_taps: int, half_width: Number, rate: Number) -> float:
    """Shape of the Kaiser window whose transition band is 2 * half_width wide at a sampling rate of `rate`.

    Source: Kaiser's design formulas; attenuation A = 2.285 (n - 1) pi df + 7.95, df relative to the Nyquist rate.
    """
    attenuation = 2.285 * (num_taps - 1) * math.pi * (2 * half_width) / (rate / 2) + 7.95
    if attenuation > 50:
        return 0.1102 * (attenuation - 8.7)
    return 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21) if attenuation > 21 else 0.0


def low_pass(num_taps: int, *, cutoff: Number, half_width: Number, rate: Number) -> Float[Tensor, "n"]:
    """Windowed sinc with sum 1, symmetric bit for bit; computed in float64, returned in float32.

    cutoff, half_width, rate: in cycles and samples per image width.
    """
    window, offset = _window_and_offsets(num_taps, kaiser_beta(num_taps, half_width, rate))
    taps = torch.sinc(2 * cutoff / rate * offset) * window
    return _mirrored(taps / taps.sum()).float()


def radial_low_pass(num_taps: int, *, cutoff: Number, half_width: Number, rate: Number) -> Float[Tensor, "n n"]:
    """The circularly symmetric counterpart of `low_pass`: a windowed jinc J1(2 pi f r) / (pi r); num_taps is even."""
    window, offset = _window_and_offsets(num_taps, kaiser_beta(num_taps, half_width, rate))
    radius = torch.hypot(offset[:, None], offset[None, :]) / rate
    taps = torch.special.bessel_j1(2 * math.pi * cutoff * radius) / (math.pi * radius) * window[:, None] * window
    taps = taps / taps.sum()
    return _mirrored(_mirrored((taps + taps.T) / 2).T).float()


def _window_and_offsets(num_taps: int, beta: float) -> tuple[Tensor, Tensor]:
    """Kaiser window, and the places of the taps about the middle, in samples; both in float64.

    On the CPU also where new tensors are made elsewhere: a network built without memory still needs its filters.
    """
    offset = torch.arange(num_taps, dtype=torch.float64, device="cpu") - (num_taps - 1) / 2
    inside = (1 - (offset / ((num_taps - 1) / 2)).square()).clamp_min(0).sqrt()
    middle = torch.tensor(beta, dtype=torch.float64, device="cpu")
    return torch.special.i0(beta * inside) / torch.special.i0(middle), offset


def _mirrored(taps: Tensor) -> Tensor:
    return (taps + taps.flip(0)) / 2


def filtered_leaky_relu(
    x: Float[Tensor, "n c h w"],
    up_filter: Float[Tensor, "a"],
    down_filter: Float[Tensor, "*b"],
    *,
    up: int,
    crop: int,
    clamp: float | None,
) -> Float[Tensor, "n c h2 w2"]:
    """Up-sample by `up`, multiply by sqrt(2), leaky ReLU, clamp, down-sample by 2; best with channels last.

    down_filter: [b] is applied along both axes, [b, b] is not separable.
    crop: samples cut off each side of the up-sampled map of full length (h - 1) up + a.

    Differs: no zeros are inserted; a transposed convolution does the same on the samples that are there. The released
    code pads unevenly only because it puts zeros behind the last sample too. sqrt(2) sits in the up-sampling filter.
    """
    gain = up * 2**0.25  # per axis
    taps = (up_filter * gain).to(x.dtype)
    clamped = clamp is not None and _may_reach(clamp, x, taps)
    x = _along_both(x, taps, F.conv_transpose2d, stride=up, padding=crop, rows_first=x.shape[1] < NARROW)
    in_place = not x.requires_grad
    x = F.leaky_relu(x, SLOPE, inplace=True)
    if clamped:
        x = x.clamp_(-clamp, clamp) if in_place else x.clamp(-clamp, clamp)
    taps = down_filter.to(x.dtype)
    if taps.ndim == 1:
        return _along_both(x, taps, F.conv2d, stride=2, rows_first=True)
    channels = x.shape[1]
    return F.conv2d(x, taps.expand(channels, 1, *taps.shape), stride=2, groups=channels)


def _may_reach(limit: float, x: Tensor, taps: Tensor) -> bool:
    """Whether a value filtered by `taps` along both axes can be as large as `limit`; True where asking would cost more.

    The clamp is a whole pass over the largest map, and hardly ever acts.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return True
    largest = torch.linalg.vector_norm(x.detach().float(), math.inf) * taps.abs().sum().float().square()
    return bool(largest > 0.99 * limit)


def _along_both(x: Tensor, taps: Tensor, convolution, *, stride: int, padding: int = 0, rows_first: bool) -> Tensor:
    """A depthwise convolution along the rows and one down the columns, or the other way round."""
    channels = x.shape[1]
    for along in ("row", "column") if rows_first else ("column", "row"):
        if along == "row":
            kernel, strides, paddings = taps.view(1, -1), (1, stride), (0, padding)
        else:
            kernel, strides, paddings = taps.view(-1, 1), (stride, 1), (padding, 0)
        kernel = kernel.expand(channels, 1, *kernel.shape)
        x = convolution(x, kernel, stride=strides, padding=paddings, groups=channels)
    return x


def filter_macs(size: int, temporary: int, out: int, *, num_taps: int, radial: bool) -> int:
    """Multiply-accumulates of `filtered_leaky_relu` for one channel of size^2 -> temporary^2 -> out^2 samples.

    num_taps: of the down-sampling filter. Each up-sampled value reads num_taps / 2 of the samples that are there.
    """
    read = num_taps // 2
    upward = read * (size * temporary + temporary**2)
    return upward + (num_taps**2 * out**2 if radial else num_taps * (temporary * out + out**2))
