"""The discriminators of pix2pix and CycleGAN: one logit per patch, or per pixel.

Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017, appendix 6.1.2, as its
authors' public PyTorch code has it.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.architectures.convolutional import (
    Layer,
    Norm,
    check_counts,
    check_image,
    counted_macs,
    initialize,
)
from limbeck.architectures.uncut import Judge
from limbeck.errors import UserError

SLOPE = 0.2
MOST_LAYERS = 16


class PatchGAN(Judge):
    """Image [n, c, h, w] in [-1, 1] to logits [n, 1, h', w'], one per overlapping patch; high means real.

    in_channels: of what is judged; with a source image, its channels and the judged image's.
    width: channels of the first layer, doubled up to eight times.
    num_layers: strided layers; 3 judges patches of 70 pixels. 0 is the pixel discriminator, of 1x1 convolutions.
    resolution: of the images at which costs are counted.
    """

    any_size = True

    def __init__(
        self,
        *,
        resolution: int = 256,
        in_channels: int = 3,
        width: int = 64,
        num_layers: int = 3,
        norm: Literal["batch", "instance"] = "instance",
    ):
        super().__init__()
        check_counts(resolution=resolution, in_channels=in_channels, width=width)
        if not 0 <= num_layers <= MOST_LAYERS:
            raise UserError(f"num_layers={num_layers}: must be from 0 to {MOST_LAYERS}")
        if norm == "none":
            raise UserError(f"norm={norm!r}: must be 'batch' or 'instance'")
        self._arguments = {
            "resolution": resolution,
            "in_channels": in_channels,
            "width": width,
            "num_layers": num_layers,
            "norm": norm,
        }
        self.resolution, self.num_channels, self.num_classes = resolution, in_channels, 0
        self.layers = nn.ModuleList(_pixel(in_channels, width, norm))
        if num_layers:
            self.layers = nn.ModuleList(_patches(in_channels, width, num_layers, norm))
        initialize(self)

    def forward(self, image: Tensor, source: Tensor | None = None) -> Tensor:
        """source: the image that this one was translated from, for judges of pairs."""
        x = image if source is None else torch.cat([source, image], dim=1)
        check_image(x, self.num_channels, name="image" if source is None else "source and image")
        x = x.contiguous()
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), SLOPE)
        return self.layers[-1](x)

    def macs(self) -> int:
        """See `counted_macs`, at `resolution`."""
        side, sides = self.resolution, {}
        for index, layer in enumerate(self.layers):
            conv: Any = layer.conv
            side = (side + 2 * conv.padding[0] - conv.kernel_size[0]) // conv.stride[0] + 1
            sides[f"layers.{index}"] = side
        return counted_macs(self, sides)

    def example_inputs(self, num_images: int = 1) -> dict[str, Tensor]:
        weight = self.layers[0].conv.weight
        return {"image": weight.new_zeros(num_images, self.num_channels, self.resolution, self.resolution)}


def _patches(num_in: int, width: int, num_layers: int, norm: Norm) -> list[Layer]:
    sizes = [width * min(2**index, 8) for index in range(num_layers + 1)]
    layers = [Layer(num_in, sizes[0], 4, stride=2, padding=1)]
    for index in range(1, num_layers + 1):
        stride = 2 if index < num_layers else 1
        layers.append(Layer(sizes[index - 1], sizes[index], 4, stride=stride, padding=1, norm=norm))
    return [*layers, Layer(sizes[-1], 1, 4, padding=1)]


def _pixel(num_in: int, width: int, norm: Norm) -> list[Layer]:
    return [
        Layer(num_in, width, 1),
        Layer(width, 2 * width, 1, norm=norm),
        Layer(2 * width, 1, 1, bias=norm != "batch"),
    ]
