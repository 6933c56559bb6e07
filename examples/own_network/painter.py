"""A generator of a family of its own: a linear layer to a map of 4 x 4, then transposed convolutions to 32 x 32."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import limbeck
from limbeck.architectures.base import Axis, ChannelGroup, Network, Refinable


class Painter(Network):
    """Latents [n, z_dim] to images [n, 3, 32, 32] in [-1, 1]. widths: channels of the maps of 4, 8 and 16 pixels."""

    resolution, num_channels, num_classes = 32, 3, 0

    def __init__(self, z_dim: int = 32, widths: Sequence[int] = (48, 32, 16)):
        super().__init__()
        self.z_dim, self.latent_shape, self.widths = z_dim, (z_dim,), list(widths)
        self.start = nn.Linear(z_dim, 16 * widths[0])
        pairs = itertools.pairwise([*widths, 3])
        self.ups = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, stride=2, padding=1) for a, b in pairs)

    def forward(self, latent: Tensor) -> Tensor:
        x = self.start(latent).unflatten(1, (-1, 4, 4))
        for up in self.ups:
            x = up(F.leaky_relu(x, 0.2))
        return torch.tanh(x)

    def draw(self, latent: Tensor, label: Tensor | None = None, **how: Any) -> Tensor:
        return self(latent)

    def example_inputs(self, num_images: int = 1) -> dict[str, Tensor]:
        return {"latent": self.start.weight.new_zeros(num_images, self.z_dim)}

    @property
    def arguments(self) -> dict[str, Any]:
        return {"z_dim": self.z_dim, "widths": list(self.widths)}

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Each map: what makes its channels (16 rows of `start` each, or outputs of `ups`), and what reads them."""
        made = [(Axis("start.weight", 0, "output", repeat=16), Axis("start.bias", 0, repeat=16))]
        made += [(Axis(f"ups.{i}.weight", 1, "output"), Axis(f"ups.{i}.bias", 0)) for i in range(len(self.widths))]
        read = [Axis(f"ups.{i}.weight", 0, "input") for i in range(len(self.widths))]
        return tuple(ChannelGroup(f"map{i}", w, (*made[i], read[i])) for i, w in enumerate(self.widths))

    def resized(self, sizes: Mapping[str, int]) -> Self:
        return type(self)(self.z_dim, [sizes.get(f"map{i}", width) for i, width in enumerate(self.widths)])

    def macs(self) -> int:
        """Transposed convolutions are counted at their input."""
        return self.start.weight.numel() + sum(up.weight.numel() * (4 << i) ** 2 for i, up in enumerate(self.ups))

    def refinable(self) -> Refinable:
        layers = ("start", *(f"ups.{i}" for i in range(len(self.ups))))
        weights, biases = (tuple(f"{layer}.{what}" for layer in layers) for what in ("weight", "bias"))
        return Refinable(weights=weights, biases=biases, transposed=weights[1:])


def trained(path: str) -> limbeck.Model:
    """A teacher from a file of ours; that this module is imported for it lets the file name the class."""
    return limbeck.load(path)
