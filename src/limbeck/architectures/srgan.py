"""SRGAN and SRResNet: an image to one that is larger, and the discriminator of the large ones.

Source: Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network", 2017,
figure 4, in the two forms in which public files exist: leftthomas's (biases, output by tanh, a mean before the
discriminator's last layers) and Lornatang's (no biases before normalizations, output cut off at black and white, a
discriminator for one size).
Differs: both of these work on images in [0, 1]; here all images are in [-1, 1] and converted inside.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.architectures.base import ChannelGroup
from limbeck.architectures.convolutional import (
    Convolutional,
    Layer,
    check_counts,
    check_image,
    counted_macs,
    declared,
    full_widths,
)
from limbeck.architectures.uncut import Judge
from limbeck.errors import UserError

SLOPE = 0.2
MOST_BLOCKS, MOST_DOUBLINGS = 128, 4
STRIDES = (1, 2, 1, 2, 1, 2, 1, 2)


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm around a residual sum."""

    def __init__(self, stream: int, inner: int, *, bias: bool):
        super().__init__()
        self.first = Layer(stream, inner, 3, padding=1, norm="batch", bias=bias)
        self.prelu = nn.PReLU()
        self.second = Layer(inner, stream, 3, padding=1, norm="batch", bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.prelu(self.first(x)))


class Up(nn.Module):
    """A convolution whose every four channels become one of twice the size."""

    def __init__(self, num_in: int, num_out: int):
        super().__init__()
        self.layer = Layer(num_in, 4 * num_out, 3, padding=1)
        self.prelu = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(F.pixel_shuffle(self.layer(x), 2))


class Generator(Convolutional):
    """Image [n, num_channels, h, w] to [n, num_channels, s h, s w] with s = 2 ** num_doublings, both in [-1, 1].

    resolution: of the large images at which costs are counted; any size works.
    width: channels of every layer. output: "tanh", or "clamp" to the range. bias: of the convolutions that batch norm
        follows.
    widths: sizes of the channel groups that differ from `width`, by name.
    """

    draws_from = "images"
    any_size = True

    def __init__(
        self,
        *,
        resolution: int = 256,
        num_channels: int = 3,
        width: int = 64,
        num_blocks: int = 16,
        num_doublings: int = 2,
        output: Literal["tanh", "clamp"] = "clamp",
        bias: bool = False,
        widths: Mapping[str, int] | None = None,
    ):
        super().__init__()
        check_counts(num_channels=num_channels, width=width, num_blocks=num_blocks, num_doublings=num_doublings)
        if num_blocks > MOST_BLOCKS or num_doublings > MOST_DOUBLINGS:
            raise UserError(
                f"num_blocks={num_blocks}, num_doublings={num_doublings}: must be at most {MOST_BLOCKS} and "
                f"{MOST_DOUBLINGS}"
            )
        self.scale = 2**num_doublings
        if resolution < 1 or resolution % self.scale:
            raise UserError(f"resolution={resolution}: must be a multiple of {self.scale}")
        if output not in ("tanh", "clamp"):
            raise UserError(f"output={output!r}: must be 'tanh' or 'clamp'")
        inner = [f"blocks.{index}.inner" for index in range(num_blocks)]
        ups = [f"up{index}" for index in range(1, num_doublings + 1)]
        self.widths = sizes = full_widths(dict.fromkeys(["trunk", *inner, *ups], width), widths)
        self._arguments = {
            "resolution": resolution,
            "num_channels": num_channels,
            "width": width,
            "num_blocks": num_blocks,
            "num_doublings": num_doublings,
            "output": output,
            "bias": bias,
        }
        self.resolution, self.num_channels, self.num_classes, self.output = resolution, num_channels, 0, output
        self.latent_shape = (num_channels, resolution // self.scale, resolution // self.scale)
        self.head = Layer(num_channels, sizes["trunk"], 9, padding=4)
        self.prelu = nn.PReLU()
        self.blocks = nn.ModuleList(Block(sizes["trunk"], sizes[name], bias=bias) for name in inner)
        self.mix = Layer(sizes["trunk"], sizes["trunk"], 3, padding=1, norm="batch", bias=bias)
        outputs = [sizes["trunk"], *(sizes[name] for name in ups)]
        self.ups = nn.ModuleList(Up(*pair) for pair in pairwise(outputs))
        self.tail = Layer(outputs[-1], num_channels, 9, padding=4)

    def forward(self, image: Tensor) -> Tensor:
        check_image(image, self.num_channels)
        head = self.prelu(self.head((image.contiguous() + 1) / 2))
        x = head
        for block in self.blocks:
            x = block(x)
        x = self.mix(x) + head
        for up in self.ups:
            x = up(x)
        x = self.tail(x)
        return x.tanh() if self.output == "tanh" else x.clamp(0, 1) * 2 - 1

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """The residual stream ("trunk"), the inside of each block, and each doubling's output.

        Four consecutive entries of a doubling's convolution make one channel.
        """
        blocks = [f"blocks.{index}" for index in range(self._arguments["num_blocks"])]
        inner = {f"{block}.inner": ([f"{block}.first"], [f"{block}.second"]) for block in blocks}
        seconds, firsts = [f"{block}.second" for block in blocks], [f"{block}.first" for block in blocks]
        layers: dict[str, Any] = {"trunk": (["head", *seconds, "mix"], [*firsts, "mix", "ups.0.layer"]), **inner}
        following = [*(f"ups.{index}.layer" for index in range(1, len(self.ups))), "tail"]
        for index, reader in enumerate(following):
            layers[f"up{index + 1}"] = ([f"ups.{index}.layer"], [reader])
        repeats = {f"up{index + 1}": 4 for index in range(len(self.ups))}
        return declared(self, self.widths, layers, repeats)

    def macs(self) -> int:
        """See `counted_macs`, of the large image at `resolution`."""
        small = self.resolution // self.scale
        ups = {f"ups.{index}": small << index for index in range(len(self.ups))}
        return counted_macs(self, dict.fromkeys(["head", "blocks", "mix"], small) | ups | {"tail": self.resolution})


class Discriminator(Judge):
    """Image [n, num_channels, h, w] in [-1, 1] to logits [n]; high means real.

    resolution: of the images; the only size that works unless the last layers read a mean.
    width: channels of the first of the eight convolutions, doubled three times.
    head: what the last two layers read: the "mean" of the features over the image, or all of them ("flatten").
    bias: of the convolutions that batch norm follows.
    """

    def __init__(
        self,
        *,
        resolution: int = 96,
        num_channels: int = 3,
        width: int = 64,
        head: Literal["mean", "flatten"] = "flatten",
        bias: bool = False,
    ):
        super().__init__()
        check_counts(num_channels=num_channels, width=width)
        if resolution < 1 or resolution % 16:
            raise UserError(f"resolution={resolution}: must be a multiple of 16")
        if head not in ("mean", "flatten"):
            raise UserError(f"head={head!r}: must be 'mean' or 'flatten'")
        self._arguments = {
            "resolution": resolution,
            "num_channels": num_channels,
            "width": width,
            "head": head,
            "bias": bias,
        }
        self.resolution, self.num_channels, self.num_classes, self.head = resolution, num_channels, 0, head
        self.any_size = head == "mean"
        sizes = [width * 2 ** (index // 2) for index in range(len(STRIDES))]
        first = Layer(num_channels, width, 3, padding=1)
        self.layers = nn.ModuleList([first])
        for num_in, num_out, stride in zip(sizes, sizes[1:], STRIDES[1:], strict=False):
            self.layers.append(Layer(num_in, num_out, 3, stride=stride, padding=1, norm="batch", bias=bias))
        pixels = 1 if head == "mean" else (resolution // 16) ** 2
        self.hidden = nn.Linear(sizes[-1] * pixels, 2 * sizes[-1])
        self.out = nn.Linear(2 * sizes[-1], 1)

    def forward(self, image: Tensor) -> Tensor:
        check_image(image, self.num_channels)
        if self.head == "flatten" and image.shape[2:] != (self.resolution, self.resolution):
            raise UserError(f"image: shape {tuple(image.shape)}, expected sides of {self.resolution}")
        x = (image.contiguous() + 1) / 2
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
        x = x.mean(dim=(2, 3)) if self.head == "mean" else torch.flatten(x, 1)
        return self.out(F.leaky_relu(self.hidden(x), SLOPE)).squeeze(1)

    def macs(self) -> int:
        """See `counted_macs`, at `resolution`; with the linear layers."""
        sides = {f"layers.{index}": self.resolution >> ((index + 1) // 2) for index in range(len(self.layers))}
        return counted_macs(self, sides) + self.hidden.weight.numel() + self.out.weight.numel()

    def example_inputs(self, num_images: int = 1) -> dict[str, Tensor]:
        weight = self.out.weight
        return {"image": weight.new_zeros(num_images, self.num_channels, self.resolution, self.resolution)}
