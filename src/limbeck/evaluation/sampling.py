"""Images of a model from a seed: the same latents in the same order on every machine and number of processes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.errors import UserError
from limbeck.model import Model
from limbeck.seeds import batch_seed, seeded


@dataclass(frozen=True)
class Latents:
    """What a generator draws images from: latent [n, z_dim] and, if it has classes, label [n]; on the CPU."""

    latent: Tensor
    label: Tensor | None

    def __len__(self) -> int:
        return len(self.latent)

    def part(self, start: int, stop: int) -> "Latents":
        """Rows `start` up to `stop`."""
        return Latents(self.latent[start:stop], None if self.label is None else self.label[start:stop])


def drawn_latents(generator: Network, num_images: int, seed: int) -> Latents:
    """Normal latents and uniform labels from a generator on the CPU, so that every device gets the same."""
    if num_images < 1:
        raise UserError(f"num_images={num_images}: must be at least 1")
    source = torch.Generator().manual_seed(seed)
    latent = torch.randn(num_images, generator.z_dim, generator=source)
    classes = generator.num_classes
    label = torch.randint(classes, (num_images,), generator=source) if classes else None
    return Latents(latent, label)


def drawn_images(
    generator: Network, latents: Latents, *, noise: str = "const", truncation: float = 1.0, seed: int = 0
) -> Tensor:
    """One batch of images [n, c, h, w] in float32, clamped to [-1, 1], on the generator's device.

    seed: of injected noise (`noise="random"`); the surrounding random state is left as it was.
    """
    device = next(generator.parameters()).device
    label = None if latents.label is None else latents.label.to(device)
    with torch.no_grad(), torch.autocast(device.type, enabled=False), seeded(seed, device):
        image = generator(latents.latent.to(device), noise=noise, truncation=truncation, label=label)
    return image.float().clamp(-1, 1)


def sample(
    model: Model,
    n: int,
    seed: int = 0,
    *,
    noise: str = "const",
    truncation: float = 1.0,
    label: Tensor | None = None,
    batch_size: int = 32,
) -> Tensor:
    """Draw `n` images [n, c, h, w] in [-1, 1] from a model, on its device.

    noise: "const" (stored noise), "random" (repeats exactly for the same seed and batch size) or "none".
    truncation: psi; 1 leaves styles as they are. label: class indices [n]; None draws them uniformly.

    Raises: UserError if an argument is not among the allowed ones.
    """
    latents = drawn_latents(model.generator, n, seed)
    if label is not None:
        latents = Latents(latents.latent, label)
    batches = [
        drawn_images(
            model.generator,
            latents.part(start, start + batch_size),
            noise=noise,
            truncation=truncation,
            seed=batch_seed(seed, start),
        )
        for start in range(0, n, batch_size)
    ]
    return torch.cat(batches)


def eight_bits(image: Tensor) -> Tensor:
    """[-1, 1] as uint8, rounded; what lies outside is clamped."""
    return ((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def from_eight_bits(image: Tensor) -> Tensor:
    """uint8 as float32 in [-1, 1]."""
    return image.float() / 127.5 - 1
