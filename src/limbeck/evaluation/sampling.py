"""Images of a model from a seed: the same latents in the same order on every machine and number of processes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.errors import UserError
from limbeck.model import Model
from limbeck.seeds import batch_seed, seeded

AT_ONCE = 2**25  # numbers, 128 MiB


@dataclass(frozen=True)
class Latents:
    """What images are drawn from: latent [n, *latent_shape] and, if there are classes, label [n]; on the CPU."""

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
    latent = torch.randn(num_images, *generator.latent_shape, generator=source)
    classes = generator.num_classes
    label = torch.randint(classes, (num_images,), generator=source) if classes else None
    return Latents(latent, label)


def latent_batches(generator: Network, num_images: int, seed: int, batch_size: int) -> Iterator[tuple[int, Latents]]:
    """`drawn_latents` part by part, each with the number of its first image.

    Noise images are drawn part by part too, because all of them may not fit into memory. That gives the same numbers
    where a part holds a multiple of 16 of them.
    """
    size = math.prod(generator.latent_shape)
    if generator.num_classes or num_images * size <= AT_ONCE:
        whole = drawn_latents(generator, num_images, seed)
        for start in range(0, num_images, batch_size):
            yield start, whole.part(start, start + batch_size)
        return
    source = torch.Generator().manual_seed(seed)
    for start in range(0, num_images, batch_size):
        count = min(batch_size, num_images - start)
        yield start, Latents(torch.randn(count, *generator.latent_shape, generator=source), None)


def drawn_images(generator: Network, latents: Latents, *, seed: int = 0, **how: Any) -> Tensor:
    """One batch of images [n, c, h, w] in float32, clamped to [-1, 1], on the generator's device.

    seed: of noise drawn on the way (`noise="random"`, `eta` above 0); the surrounding random state is left as it was.
    how: settings of `sample`; those of other families than the generator's are ignored.
    """
    device = next(generator.parameters()).device
    label = None if latents.label is None else latents.label.to(device)
    with torch.no_grad(), torch.autocast(device.type, enabled=False), seeded(seed, device):
        image = generator.draw(latents.latent.to(device), label, **how)
    return image.float().clamp(-1, 1)


def sample(
    model: Model,
    n: int,
    seed: int = 0,
    *,
    noise: str = "const",
    truncation: float = 1.0,
    label: Tensor | None = None,
    steps: int = 100,
    grid: str = "uniform",
    eta: float = 0.0,
    clip_sample: bool = False,
    batch_size: int = 32,
) -> Tensor:
    """Draw `n` images [n, c, h, w] in [-1, 1] from a model, on its device.

    Of a generator: noise is "const" (stored noise), "random" or "none"; truncation is psi, 1 leaves styles as they are.
    Of a denoiser: DDIM in so many `steps` on a "uniform" or "quadratic" `grid` of time; `eta` 0 is deterministic;
    `clip_sample` keeps the estimate of the clean image within [-1, 1] at every step.
    label: class indices [n]; None draws them uniformly. What is drawn on the way repeats exactly for the same seed and
    batch size.

    Raises: UserError if an argument is not among the allowed ones.
    """
    latents = drawn_latents(model.generator, n, seed)
    if label is not None:
        latents = Latents(latents.latent, label)
    how = {"noise": noise, "truncation": truncation}
    how |= {"steps": steps, "grid": grid, "eta": eta, "clip_sample": clip_sample}
    batches = [
        drawn_images(model.generator, latents.part(start, start + batch_size), seed=batch_seed(seed, start), **how)
        for start in range(0, n, batch_size)
    ]
    return torch.cat(batches)


def stages(model: Model, num_stages: int, *, seed: int = 0, **how: Any) -> Tensor | None:
    """How the first image of a seed comes to be: [num_stages, c, h, w]; None if it is drawn in one pass.

    how: settings of `sample`.
    """
    latents, device = drawn_latents(model.generator, 1, seed), next(model.generator.parameters()).device
    with torch.no_grad(), torch.autocast(device.type, enabled=False), seeded(batch_seed(seed, 0), device):
        found = model.generator.drawing_stages(latents.latent.to(device), num_stages, **how)
    return None if found is None else found[:, 0].float()


def eight_bits(image: Tensor) -> Tensor:
    """[-1, 1] as uint8, rounded; what lies outside is clamped."""
    return ((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def from_eight_bits(image: Tensor) -> Tensor:
    """uint8 as float32 in [-1, 1]."""
    return image.float() / 127.5 - 1
