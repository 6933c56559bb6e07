"""Generators of up-sampling residual blocks: SNGAN's and the one of Generative Feature Matching Networks (GFMN).

Source: Miyato et al., "Spectral Normalization for Generative Adversarial Networks", 2018, appendix B.4, and Santos et
al., "Learning Implicit Generative Models by Matching Perceptual Features", 2019, in the form in which Yeo et al., "Can
We Find Strong Lottery Tickets in Generative Models?", 2023, take them, released code.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.architectures.base import Axis, ChannelGroup
from limbeck.architectures.convolutional import (
    BATCH_STATISTICS,
    EPS,
    Convolutional,
    Layer,
    check_counts,
    check_latent,
    counted_macs,
    full_widths,
    initialize,
    num_doublings,
    produced,
    read,
)
from limbeck.errors import UserError


class Block(nn.Module):
    """Doubles the size: batch norm, ReLU, up-sampling, convolution, batch norm, ReLU, convolution; a 1x1 shortcut.

    early_shortcut: the 1x1 convolution comes before the up-sampling, which gives the same for a quarter of the work.
    """

    def __init__(self, num_in: int, num_inner: int, num_out: int, *, early_shortcut: bool):
        super().__init__()
        self.early_shortcut = early_shortcut
        self.norm1 = nn.BatchNorm2d(num_in, eps=EPS)
        self.conv1 = Layer(num_in, num_inner, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(num_inner, eps=EPS)
        self.conv2 = Layer(num_inner, num_out, 3, padding=1)
        self.shortcut = Layer(num_in, num_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv1(doubled(F.relu(self.norm1(x))))
        change = self.conv2(F.relu(self.norm2(inner)))
        return change + (doubled(self.shortcut(x)) if self.early_shortcut else self.shortcut(doubled(x)))


def doubled(x: Tensor) -> Tensor:
    """Every pixel four times."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


class Generator(Convolutional):
    """Latent [n, z_dim] to image [n, num_channels, resolution, resolution] in [-1, 1].

    start: from the latent to the first map of 4 x 4 pixels by a "linear" layer (SNGAN) or a transposed "convolution"
        without bias (GFMN).
    width: channels of the last map before the image. doubling: each smaller map has twice as many as the next (GFMN),
        or all have equally many (SNGAN).
    early_shortcut: see `Block`; True in GFMN.
    widths: sizes of the channel groups that differ from these, by name: "map4", "map8" ... for the maps between the
        blocks, "inner8" ... for the inside of the block that ends at this size.
    """

    measured_buffers = BATCH_STATISTICS

    def __init__(
        self,
        *,
        resolution: int = 64,
        num_channels: int = 3,
        z_dim: int = 128,
        width: int = 256,
        start: Literal["linear", "convolution"] = "linear",
        doubling: bool = False,
        early_shortcut: bool = False,
        widths: Mapping[str, int] | None = None,
    ):
        super().__init__()
        levels = num_doublings(resolution)
        check_counts(num_channels=num_channels, z_dim=z_dim, width=width)
        if start not in ("linear", "convolution"):
            raise UserError(f"start={start!r}: must be 'linear' or 'convolution'")
        self.sides = [4 * 2**level for level in range(levels + 1)]
        self.widths = full_widths(_standard(self.sides, width, doubling), widths)
        self._arguments = {
            "resolution": resolution,
            "num_channels": num_channels,
            "z_dim": z_dim,
            "width": width,
            "start": start,
            "doubling": doubling,
            "early_shortcut": early_shortcut,
        }
        self.resolution, self.num_channels, self.num_classes = resolution, num_channels, 0
        self.z_dim, self.latent_shape = z_dim, (z_dim,)
        size = self.widths
        self.start: nn.Linear | Layer
        if start == "linear":
            self.start = nn.Linear(z_dim, 16 * size["map4"])
        else:
            self.start = Layer(z_dim, size["map4"], 4, up=True, stride=1, bias=False)
        self.blocks = nn.ModuleList(
            Block(size[f"map{side // 2}"], size[f"inner{side}"], size[f"map{side}"], early_shortcut=early_shortcut)
            for side in self.sides[1:]
        )
        self.norm = nn.BatchNorm2d(size[f"map{resolution}"], eps=EPS)
        self.last = Layer(size[f"map{resolution}"], num_channels, 3, padding=1)
        initialize(self)

    def forward(self, latent: Tensor) -> Tensor:
        check_latent(latent, self.z_dim)
        if isinstance(self.start, nn.Linear):
            x = self.start(latent).unflatten(1, (-1, 4, 4))
        else:
            x = self.start(latent[:, :, None, None])
        for block in self.blocks:
            x = block(x)
        return torch.tanh(self.last(F.relu(self.norm(x))))

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """The maps between the blocks, and the inside of every block: every shortcut has a convolution of its own."""
        groups = []
        for index, side in enumerate(self.sides):
            block, following = f"blocks.{index - 1}", f"blocks.{index}"
            if index:
                inner = [*produced(self, f"{block}.conv1"), *self._norm(f"{block}.norm2"), read(self, f"{block}.conv2")]
                groups.append(ChannelGroup(f"inner{side}", self.widths[f"inner{side}"], tuple(inner)))
                makers = [*produced(self, f"{block}.conv2"), *produced(self, f"{block}.shortcut")]
            else:
                makers = self._starting()
            if side < self.resolution:
                readers = [read(self, f"{following}.conv1"), read(self, f"{following}.shortcut")]
                norm = f"{following}.norm1"
            else:
                readers, norm = [read(self, "last")], "norm"
            axes = (*makers, *self._norm(norm), *readers)
            groups.append(ChannelGroup(f"map{side}", self.widths[f"map{side}"], axes))
        return tuple(groups)

    def _starting(self) -> list[Axis]:
        """A linear layer makes 16 values, one per pixel, of every channel."""
        if isinstance(self.start, Layer):
            return produced(self, "start")
        return [Axis("start.weight", 0, "output", repeat=16), Axis("start.bias", 0, repeat=16)]

    @staticmethod
    def _norm(name: str) -> list[Axis]:
        return [Axis(f"{name}.{entry}", 0) for entry in ("weight", "bias", "running_mean", "running_var")]

    def macs(self) -> int:
        """Multiply-accumulates of one image, convolutions at their output, the first layer's weights once."""
        sides = {"last": self.resolution}
        for index, side in enumerate(self.sides[1:]):
            at = {"conv1": side, "conv2": side, "shortcut": side // 2 if self._arguments["early_shortcut"] else side}
            sides |= {f"blocks.{index}.{layer}": value for layer, value in at.items()}
        first = self.start.weight if isinstance(self.start, nn.Linear) else self.start.conv.weight
        return first.numel() + counted_macs(self, sides)


def _standard(sides: list[int], width: int, doubling: bool) -> dict[str, int]:
    """Sizes of all groups in the order of the data; the inside of a block is as wide as its output."""
    sizes: dict[str, int] = {}
    for side in sides:
        size = width * sides[-1] // side if doubling else width
        sizes |= {f"inner{side}": size, f"map{side}": size} if side > 4 else {f"map{side}": size}
    return sizes


def sngan(resolution: int = 64, width: int = 256, **changes: Any) -> Generator:
    """SNGAN's generator; 5.5 million parameters at 64 pixels."""
    return Generator(resolution=resolution, width=width, **changes)


def gfmn(resolution: int = 64, width: int = 64, **changes: Any) -> Generator:
    """GFMN's generator; 12.2 million parameters at 64 pixels and latents of 128 numbers, 11.7 million at 100."""
    shape: dict[str, Any] = {"start": "convolution", "doubling": True, "early_shortcut": True}
    return Generator(resolution=resolution, width=width, **{**shape, **changes})
