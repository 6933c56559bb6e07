"""StarGAN: one generator for all domains, told by a vector of labels which one to draw, and its discriminator.

Source: Choi et al., "StarGAN: Unified Generative Adversarial Networks for Multi-Domain Image-to-Image Translation",
2018, appendix 7.2, as its authors' public PyTorch code has it. That code draws every image, in tests too, with
the image's own statistics; the running statistics in its files are carried along, never used and never moved.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.architectures.base import ChannelGroup
from limbeck.architectures.convolutional import (
    Convolutional,
    InstanceNorm,
    Layer,
    check_counts,
    check_image,
    counted_macs,
    full_widths,
)
from limbeck.architectures.translation_resnet import residual_groups, residual_macs
from limbeck.architectures.uncut import Judge
from limbeck.errors import UserError

SLOPE = 0.01
MOST_BLOCKS, MOST_LAYERS = 64, 12


def _layer(num_in: int, num_out: int, kernel: int, **how: Any) -> Layer:
    return Layer(num_in, num_out, kernel, norm=InstanceNorm(num_out, stored=True), bias=False, **how)


class Block(nn.Module):
    """Two 3x3 convolutions around a residual sum."""

    def __init__(self, stream: int, inner: int):
        super().__init__()
        self.first = _layer(stream, inner, 3, padding=1)
        self.second = _layer(inner, stream, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


class Generator(Convolutional):
    """Image [n, num_channels, h, w] in [-1, 1] and label [n, num_classes] to an image of the same shape.

    resolution: of the published images, at which costs are counted; any multiple of 4 works.
    num_classes: length of the label vector, whose entries are 0 or 1.
    width: channels of the first layer; the residual stream has four times as many.
    widths: sizes of the channel groups that differ from these, by name.
    """

    draws_from = "images"
    any_size = True

    def __init__(
        self,
        *,
        resolution: int = 128,
        num_channels: int = 3,
        num_classes: int = 5,
        width: int = 64,
        num_blocks: int = 6,
        widths: Mapping[str, int] | None = None,
    ):
        super().__init__()
        check_counts(num_channels=num_channels, num_classes=num_classes, width=width, num_blocks=num_blocks)
        if num_blocks > MOST_BLOCKS:
            raise UserError(f"num_blocks={num_blocks}: must be at most {MOST_BLOCKS}")
        if resolution < 4 or resolution % 4:
            raise UserError(f"resolution={resolution}: must be a multiple of 4")
        inner = {f"blocks.{index}.inner": 4 * width for index in range(num_blocks)}
        standard = {"stem": width, "down1": 2 * width, "trunk": 4 * width, **inner, "up1": 2 * width, "up2": width}
        self.widths = sizes = full_widths(standard, widths)
        self._arguments = {
            "resolution": resolution,
            "num_channels": num_channels,
            "num_classes": num_classes,
            "width": width,
            "num_blocks": num_blocks,
        }
        self.resolution, self.num_channels, self.num_classes = resolution, num_channels, num_classes
        self.latent_shape = (num_channels, resolution, resolution)
        self.stem = _layer(num_channels + num_classes, sizes["stem"], 7, padding=3)
        self.down1 = _layer(sizes["stem"], sizes["down1"], 4, stride=2, padding=1)
        self.down2 = _layer(sizes["down1"], sizes["trunk"], 4, stride=2, padding=1)
        self.blocks = nn.ModuleList(Block(sizes["trunk"], sizes[name]) for name in inner)
        self.up1 = _layer(sizes["trunk"], sizes["up1"], 4, padding=1, up=True)
        self.up2 = _layer(sizes["up1"], sizes["up2"], 4, padding=1, up=True)
        self.last = Layer(sizes["up2"], num_channels, 7, padding=3, bias=False)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        """label: [n, num_classes], of the domain to translate to."""
        check_image(image, self.num_channels, multiple=4)
        if label is None or label.ndim != 2 or label.shape[0] != image.shape[0] or label.shape[1] != self.num_classes:
            shape = None if label is None else tuple(label.shape)
            raise UserError(f"label: shape {shape}, expected [{image.shape[0]}, {self.num_classes}]")
        planes = label.to(image)[:, :, None, None].expand(-1, -1, *image.shape[2:])
        x = torch.cat([image, planes], dim=1).contiguous()
        for layer in (self.stem, self.down1, self.down2):
            x = F.relu(layer(x))
        for block in self.blocks:
            x = block(x)
        for layer in (self.up1, self.up2):
            x = F.relu(layer(x))
        return self.last(x).tanh()

    def draw(self, latent: Tensor, label: Tensor | None = None, **_others: Any) -> Tensor:
        """The translated images. latent: the source images."""
        if label is None:
            raise UserError(f"label: missing; this network has {self.num_classes} labels")
        return self(latent, label)

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """The residual stream ("trunk"), the inside of each block, and the other layers' outputs; never the labels."""
        return residual_groups(self, self.widths, self._arguments["num_blocks"])

    def macs(self) -> int:
        """See `counted_macs`, at `resolution`."""
        return residual_macs(self, self.resolution)

    def example_inputs(self, num_images: int = 1) -> dict[str, Tensor]:
        labels = self.last.conv.weight.new_zeros(num_images, self.num_classes)
        return {**super().example_inputs(num_images), "label": labels}


class Discriminator(Judge):
    """Image [n, num_channels, resolution, resolution] in [-1, 1] to a map of realness and the logits of its labels.

    width: channels of the first layer, doubled by each of the `num_layers` strided ones.
    """

    def __init__(
        self,
        *,
        resolution: int = 128,
        num_channels: int = 3,
        num_classes: int = 5,
        width: int = 64,
        num_layers: int = 6,
    ):
        super().__init__()
        check_counts(num_channels=num_channels, num_classes=num_classes, width=width, num_layers=num_layers)
        if num_layers > MOST_LAYERS:
            raise UserError(f"num_layers={num_layers}: must be at most {MOST_LAYERS}")
        if resolution < 1 or resolution % 2**num_layers:
            raise UserError(f"resolution={resolution}: must be a multiple of {2**num_layers}")
        self._arguments = {
            "resolution": resolution,
            "num_channels": num_channels,
            "num_classes": num_classes,
            "width": width,
            "num_layers": num_layers,
        }
        self.resolution, self.num_channels, self.num_classes = resolution, num_channels, num_classes
        sizes = [num_channels, *(width * 2**index for index in range(num_layers))]
        self.layers = nn.ModuleList(
            Layer(num_in, num_out, 4, stride=2, padding=1) for num_in, num_out in pairwise(sizes)
        )
        self.realness = Layer(sizes[-1], 1, 3, padding=1, bias=False)
        self.classes = Layer(sizes[-1], num_classes, resolution // 2**num_layers, bias=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Realness [n, 1, h / 64, w / 64] for six layers, high means real; and class logits [n, num_classes]."""
        check_image(image, self.num_channels)
        if image.shape[2:] != (self.resolution, self.resolution):
            raise UserError(f"image: shape {tuple(image.shape)}, expected sides of {self.resolution}")
        x = image.contiguous()
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
        return self.realness(x), self.classes(x).flatten(1)

    def macs(self) -> int:
        """See `counted_macs`, at `resolution`."""
        strided = {f"layers.{index}": self.resolution >> (index + 1) for index in range(len(self.layers))}
        return counted_macs(self, strided | {"realness": self.resolution >> len(self.layers), "classes": 1})

    def example_inputs(self, num_images: int = 1) -> dict[str, Tensor]:
        weight = self.layers[0].conv.weight
        return {"image": weight.new_zeros(num_images, self.num_channels, self.resolution, self.resolution)}
