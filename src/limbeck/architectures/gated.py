"""A discriminator whose channels can be switched off: GCC's selective activation discriminator.

Source: Li et al., "Revisiting Discriminator in GAN Compression", 2021, released code; gates after each block as in the
port of the NICKEL & DiME authors to StyleGAN2. Which channels are on is decided by `distillation.gates`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from limbeck.architectures.stylegan2 import Discriminator
from limbeck.architectures.uncut import Judge


class GatedDiscriminator(Judge):
    """A StyleGAN2 discriminator with a mask per residual block, all ones at first. Arguments are `Discriminator`'s."""

    def __init__(self, **arguments: Any):
        super().__init__()
        self.network = Discriminator(**arguments)
        self._arguments = self.network.arguments
        self.resolutions, self.resolution = self.network.resolutions, self.network.resolution
        self.num_channels, self.num_classes = self.network.num_channels, self.network.num_classes
        widths = self.network.arguments["widths"][1:]
        for size, width in zip(self.resolutions[1:], widths, strict=True):
            self.register_buffer(f"mask_{size}", torch.ones(width))

    def masks(self) -> dict[int, Tensor]:
        """Factors [c] of the block outputs, by their size."""
        return {size: self.get_buffer(f"mask_{size}") for size in self.resolutions[1:]}

    def forward(
        self, image: Tensor, label: Tensor | None = None, *, masks: Mapping[int, Tensor] | None = None
    ) -> Tensor:
        """Logits [n]; `masks` replace the stored ones."""
        return self.network(image, label, masks=masks or self.masks())

    def features(self, image: Tensor, resolutions: Sequence[int]) -> dict[int, Tensor]:
        """Masked block outputs, see `Discriminator.features`."""
        return self.network.features(image, resolutions, masks=self.masks())

    def macs(self) -> int:
        """Those of the ungated discriminator."""
        return self.network.macs()

    def example_inputs(self, num_images: int = 1) -> dict[str, Tensor]:
        return self.network.example_inputs(num_images)
