"""DCGAN: transposed convolutions from a latent vector to an image, strided ones from an image to a logit.

Source: Radford et al., "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks",
2016, in the form of PyTorch's public example, which has 64 pixels; other sizes have more or fewer doublings.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.architectures.base import ChannelGroup
from limbeck.architectures.convolutional import (
    BATCH_STATISTICS,
    Convolutional,
    Layer,
    check_counts,
    check_image,
    check_latent,
    counted_macs,
    declared,
    full_widths,
    initialize,
    num_doublings,
)
from limbeck.architectures.uncut import Judge
from limbeck.errors import UserError

SLOPE = 0.2


class Generator(Convolutional):
    """Latent [n, z_dim] to image [n, num_channels, resolution, resolution] in [-1, 1].

    width: channels of the last map before the image; each smaller map has twice as many as the next.
    widths: sizes of the channel groups that differ from these, by name: "map4" for the smallest map, and so on.
    """

    measured_buffers = BATCH_STATISTICS

    def __init__(
        self,
        *,
        resolution: int = 64,
        num_channels: int = 3,
        z_dim: int = 100,
        width: int = 64,
        widths: Mapping[str, int] | None = None,
    ):
        super().__init__()
        levels = num_doublings(resolution)
        check_counts(num_channels=num_channels, z_dim=z_dim, width=width)
        sides = [4 * 2**level for level in range(levels)]
        self.widths = full_widths({f"map{side}": width * resolution // (2 * side) for side in sides}, widths)
        self._arguments = {
            "resolution": resolution,
            "num_channels": num_channels,
            "z_dim": z_dim,
            "width": width,
        }
        self.resolution, self.num_channels, self.num_classes = resolution, num_channels, 0
        self.z_dim, self.latent_shape = z_dim, (z_dim,)
        channels = [*self.widths.values()]
        first = Layer(z_dim, channels[0], 4, up=True, stride=1, norm="batch")
        inner = [Layer(a, b, 4, up=True, padding=1, norm="batch") for a, b in itertools.pairwise(channels)]
        last = Layer(channels[-1], num_channels, 4, up=True, padding=1, bias=False)
        self.layers = nn.ModuleList([first, *inner, last])
        initialize(self)

    def forward(self, latent: Tensor) -> Tensor:
        check_latent(latent, self.z_dim)
        x = latent[:, :, None, None]
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return torch.tanh(self.layers[-1](x))

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """A chain: every map but the image."""
        return declared(
            self,
            self.widths,
            {name: ([f"layers.{i}"], [f"layers.{i + 1}"]) for i, name in enumerate(self.widths)},
        )

    def macs(self) -> int:
        """See `counted_macs`: transposed convolutions at their input."""
        return counted_macs(self, {"layers.0": 1} | {f"layers.{i + 1}": 4 * 2**i for i in range(len(self.widths))})


class Discriminator(Judge):
    """Image [n, num_channels, resolution, resolution] in [-1, 1] to logits [n]; high means real.

    width: channels of the first layer, doubled by each further one.

    Differs from the example: no sigmoid, which belongs to its loss.
    """

    def __init__(self, *, resolution: int = 64, num_channels: int = 3, width: int = 64):
        super().__init__()
        levels = num_doublings(resolution)
        check_counts(num_channels=num_channels, width=width)
        self._arguments = {"resolution": resolution, "num_channels": num_channels, "width": width}
        self.resolution, self.num_channels, self.num_classes = resolution, num_channels, 0
        sizes = [num_channels, *(width * 2**level for level in range(levels))]
        layers = []
        for level in range(levels):
            settings: dict[str, Any] = {"norm": "batch"} if level else {"bias": False}
            layers.append(Layer(sizes[level], sizes[level + 1], 4, stride=2, padding=1, **settings))
        self.layers = nn.ModuleList([*layers, Layer(sizes[-1], 1, 4, bias=False)])
        initialize(self)

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """label: must be None; this judge knows of no classes."""
        if label is not None:
            raise UserError("label: this discriminator takes none")
        check_image(image, self.num_channels)
        if tuple(image.shape[2:]) != (self.resolution, self.resolution):
            raise UserError(f"image: {tuple(image.shape[2:])} pixels, expected {self.resolution} x {self.resolution}")
        x = image.contiguous()
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), SLOPE)
        return self.layers[-1](x).flatten()

    def macs(self) -> int:
        """See `counted_macs`."""
        levels = len(self.layers) - 1
        return counted_macs(
            self, {f"layers.{i}": self.resolution >> (i + 1) for i in range(levels)} | {f"layers.{levels}": 1}
        )

    def example_inputs(self, num_images: int = 1) -> dict[str, Tensor]:
        weight = self.layers[0].conv.weight
        return {"image": weight.new_zeros(num_images, self.num_channels, self.resolution, self.resolution)}
