"""What images are drawn from, one type for training, sampling, judging and scoring: latents, noise images, or images.

A network says which of them it takes (`Network.draws_from`, `latent_shape`, `num_classes`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.errors import UserError


@dataclass(frozen=True)
class Inputs:
    """The inputs of some images.

    source: [n, *latent_shape]: standard normal numbers, or images in [-1, 1] to be translated.
    label: class indices [n], or a row of numbers each [n, k]; None without.
    """

    source: Tensor
    label: Tensor | None = None

    def __len__(self) -> int:
        return len(self.source)

    def part(self, start: int, stop: int) -> "Inputs":
        """Rows `start` up to `stop`."""
        return Inputs(self.source[start:stop], None if self.label is None else self.label[start:stop])

    def to(self, device: torch.device) -> "Inputs":
        return Inputs(self.source.to(device), None if self.label is None else self.label.to(device))


def drawn_inputs(network: Network, num_images: int, numbers: torch.Generator) -> Inputs:
    """Normal latents and, if there are classes, uniform labels, on the CPU, so that every device gets the same.

    numbers: a generator on the CPU.

    Raises: UserError if the network draws from images, which only data can give.
    """
    if network.draws_from != "noise":
        raise UserError(f"{type(network).__name__} draws from images: they must come from data")
    source = torch.randn(num_images, *network.latent_shape, generator=numbers)
    classes = network.num_classes
    return Inputs(source, torch.randint(classes, (num_images,), generator=numbers) if classes else None)
