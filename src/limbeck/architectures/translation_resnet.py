"""The residual generator of CycleGAN: image to image at any size that four divides.

Source: Zhu et al., "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks", 2017, appendix
7.2, with Johnson et al.'s residual blocks, as its authors' public PyTorch code has them: no activation after a sum.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.architectures.base import ChannelGroup, Network
from limbeck.architectures.convolutional import (
    Convolutional,
    Layer,
    check_counts,
    check_image,
    counted_macs,
    declared,
    full_widths,
    initialize,
)
from limbeck.errors import UserError

MOST_BLOCKS = 64


def residual_groups(network: Network, widths: Mapping[str, int], num_blocks: int) -> tuple[ChannelGroup, ...]:
    """Of a stem, two layers down, blocks, two up and a last one: the stream, each block inside, the other outputs."""
    blocks = [f"blocks.{index}" for index in range(num_blocks)]
    inner = {f"{block}.inner": ([f"{block}.first"], [f"{block}.second"]) for block in blocks}
    trunk = (["down2", *(f"{block}.second" for block in blocks)], [*(f"{block}.first" for block in blocks), "up1"])
    layers = {"stem": (["stem"], ["down1"]), "down1": (["down1"], ["down2"]), "trunk": trunk, **inner}
    return declared(network, widths, layers | {"up1": (["up1"], ["up2"]), "up2": (["up2"], ["last"])})


def residual_macs(network: Network, side: int) -> int:
    """See `counted_macs`, for images of this side."""
    outer, middle = {"stem": side, "last": side}, {"down1": side // 2, "up2": side // 2}
    return counted_macs(network, outer | middle | dict.fromkeys(["down2", "blocks", "up1"], side // 4))


class Block(nn.Module):
    """Two 3x3 convolutions around a residual sum; dropout between them in training mode."""

    def __init__(self, stream: int, inner: int, *, norm: Any, dropout: float):
        super().__init__()
        self.first = Layer(stream, inner, 3, padding=1, reflect=True, norm=norm)
        self.second = Layer(inner, stream, 3, padding=1, reflect=True, norm=norm)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.dropout(F.relu(self.first(x)), self.dropout, self.training)
        return x + self.second(hidden)


class ResNet(Convolutional):
    """Image [n, in_channels, h, w] to image [n, num_channels, h, w], both in [-1, 1].

    resolution: of the published images, at which costs are counted; any multiple of 4 works.
    width: channels of the first layer; the residual stream has four times as many.
    norm: "instance" (CycleGAN) or "batch".
    dropout: share of the values inside each block that are dropped in training mode; None and 0 drop nothing, but in
        public files 0 stands for blocks that hold a dropout layer, None for those that have none.
    widths: sizes of the channel groups that differ from these, by name.
    """

    draws_from = "images"
    any_size = True

    def __init__(
        self,
        *,
        resolution: int = 256,
        in_channels: int = 3,
        num_channels: int = 3,
        width: int = 64,
        num_blocks: int = 9,
        norm: Literal["instance", "batch"] = "instance",
        dropout: float | None = None,
        widths: Mapping[str, int] | None = None,
    ):
        super().__init__()
        check_counts(in_channels=in_channels, num_channels=num_channels, width=width, num_blocks=num_blocks)
        if num_blocks > MOST_BLOCKS:
            raise UserError(f"num_blocks={num_blocks}: must be at most {MOST_BLOCKS}")
        if resolution < 4 or resolution % 4:
            raise UserError(f"resolution={resolution}: must be a multiple of 4")
        if norm == "none" or not 0 <= (dropout or 0) < 1:
            raise UserError(f"norm={norm!r}, dropout={dropout}: must be a normalization, and a share in [0, 1)")
        inner = {f"blocks.{index}.inner": 4 * width for index in range(num_blocks)}
        standard = {"stem": width, "down1": 2 * width, "trunk": 4 * width, **inner, "up1": 2 * width, "up2": width}
        self.widths = full_widths(standard, widths)
        self._arguments = {
            "resolution": resolution,
            "in_channels": in_channels,
            "num_channels": num_channels,
            "width": width,
            "num_blocks": num_blocks,
            "norm": norm,
            "dropout": dropout,
        }
        self.resolution, self.num_channels, self.num_classes = resolution, num_channels, 0
        self.in_channels = in_channels
        self.latent_shape = (in_channels, resolution, resolution)
        self._build(norm, dropout or 0.0)
        initialize(self)

    def _build(self, norm: Any, dropout: float) -> None:
        sizes = self.widths
        self.stem = Layer(self.in_channels, sizes["stem"], 7, padding=3, reflect=True, norm=norm)
        self.down1 = Layer(sizes["stem"], sizes["down1"], 3, stride=2, padding=1, norm=norm)
        self.down2 = Layer(sizes["down1"], sizes["trunk"], 3, stride=2, padding=1, norm=norm)
        self.blocks = nn.ModuleList(
            Block(sizes["trunk"], sizes[f"blocks.{index}.inner"], norm=norm, dropout=dropout)
            for index in range(self._arguments["num_blocks"])
        )
        self.up1 = Layer(sizes["trunk"], sizes["up1"], 3, padding=1, up=True, norm=norm)
        self.up2 = Layer(sizes["up1"], sizes["up2"], 3, padding=1, up=True, norm=norm)
        self.last = Layer(sizes["up2"], self.num_channels, 7, padding=3, reflect=True)

    def forward(self, image: Tensor) -> Tensor:
        check_image(image, self.in_channels, multiple=4)
        x = image.contiguous()
        for layer in (self.stem, self.down1, self.down2):
            x = F.relu(layer(x))
        for block in self.blocks:
            x = block(x)
        for layer in (self.up1, self.up2):
            x = F.relu(layer(x))
        return self.last(x).tanh()

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """The residual stream ("trunk"), the inside of each block, and the other layers' outputs."""
        return residual_groups(self, self.widths, self._arguments["num_blocks"])

    def macs(self) -> int:
        """See `counted_macs`, at `resolution`."""
        return residual_macs(self, self.resolution)
