"""Images of a model from a seed: the same inputs in the same order on every machine and number of processes."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.architectures.inputs import Inputs, drawn_inputs
from limbeck.arguments import kind, number, one_of, switch, whole
from limbeck.data.base import ImageDataset, ImageSource
from limbeck.errors import UserError
from limbeck.functional.diffusion import GRIDS
from limbeck.model import Model
from limbeck.seeds import batch_seed, seeded

NOISES = ("random", "const", "none")
AT_ONCE = 2**25  # numbers, 128 MiB


def inputs_of(generator: Network, num_images: int, seed: int = 0, *, data: ImageSource | None = None) -> Inputs:
    """What `num_images` images are drawn from: latents and labels of a seed, or the first sources that `data` holds.

    Each label is that of a random reference image, so that classes have their shares in `data`; without data, or if it
    has no classes, they are drawn evenly.

    Raises: UserError if the network draws from images and there are too few, or other classes than the data's.
    """
    if num_images < 1:
        raise UserError(f"num_images={num_images}: must be at least 1")
    if generator.draws_from == "images":
        return _sources(generator, data, 0, num_images)
    numbers = torch.Generator().manual_seed(seed)
    inputs = drawn_inputs(generator, num_images, numbers)
    like = None if data is None else labelled_images(data, generator)
    if like is None:
        return inputs
    chosen = torch.randint(len(like), (num_images,), generator=numbers)
    return Inputs(inputs.source, like.labels_of(chosen.numpy()))


def labelled_images(data: ImageSource, generator: Network) -> ImageDataset | None:
    """The reference images whose classes a conditional generator is judged on; None if one of the two has no classes.

    Raises: UserError if they have different classes.
    """
    if generator.draws_from == "images" or generator.num_classes < 2:
        return None
    have = data.open().num_classes
    if have not in (0, 1, generator.num_classes):
        raise UserError(f"the model draws {generator.num_classes} classes, the data has {have}")
    return data.heldout() if have > 1 else None


def input_batches(
    generator: Network, num_images: int, seed: int, batch_size: int, *, data: ImageSource | None = None
) -> Iterator[tuple[int, Inputs]]:
    """`inputs_of` part by part, each with the number of its first image.

    Noise images and sources are made part by part too, because all of them may not fit into memory. For noise that
    gives the same numbers where a part holds a multiple of 16 of them.
    """
    of_data = generator.draws_from == "images"
    size = math.prod(generator.latent_shape)
    if not of_data and (generator.num_classes or num_images * size <= AT_ONCE):
        whole = inputs_of(generator, num_images, seed, data=data)
        for start in range(0, num_images, batch_size):
            yield start, whole.part(start, start + batch_size)
        return
    numbers = torch.Generator().manual_seed(seed)
    for start in range(0, num_images, batch_size):
        count = min(batch_size, num_images - start)
        yield start, _sources(generator, data, start, count) if of_data else drawn_inputs(generator, count, numbers)


def _sources(generator: Network, data: ImageSource | None, start: int, count: int) -> Inputs:
    """Images of the data that the network can start from, and their labels if it reads any."""
    if data is None:
        raise UserError(f"{type(generator).__name__} draws from images: give the data that hold them")
    sources = data.sources()
    if start + count > len(sources):
        raise UserError(f"num_images={start + count}: the data hold {len(sources)} images to start from")
    images, labels = sources.batch(np.arange(start, start + count))
    return Inputs(from_eight_bits(images), labels if generator.num_classes else None)


def drawn_images(generator: Network, inputs: Inputs, *, seed: int = 0, **how: Any) -> Tensor:
    """One batch of images [n, c, h, w] in float32, clamped to [-1, 1], on the generator's device.

    seed: of noise drawn on the way (`noise="random"`, `eta` above 0); the surrounding random state is left as it was.
    how: settings of `sample`; those of other families than the generator's are ignored.
    """
    device = next(generator.parameters()).device
    there = inputs.to(device)
    with torch.no_grad(), torch.autocast(device.type, enabled=False), seeded(seed, device):
        image = generator.draw(there.source, there.label, **how)
    return image.float().clamp(-1, 1)


def sample(
    model: Model,
    n: int,
    seed: int = 0,
    *,
    noise: str = "const",
    truncation: float = 1.0,
    label: Tensor | None = None,
    data: ImageSource | None = None,
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
    label: class indices [n], rows [n, num_classes], or one class for all; None draws them, evenly or with the shares
    that classes have in `data`.
    data: holds the images from which a translation network starts, the first `n` of them.
    What is drawn on the way repeats exactly for the same seed and batch size.

    Raises: UserError if an argument is not among the allowed ones.
    """
    generator = kind(model, "model", Model, "a Model, as limbeck.load gives it").generator
    n, batch_size = whole(n, "n", at_least=1), whole(batch_size, "batch_size", at_least=1)
    seed, steps = whole(seed, "seed"), whole(steps, "steps", at_least=1)
    noise, grid = one_of(noise, "noise", NOISES), one_of(grid, "grid", GRIDS)
    truncation, eta = number(truncation, "truncation"), number(eta, "eta", low=0, high=1)
    clip_sample = switch(clip_sample, "clip_sample")
    if data is not None:
        kind(data, "data", ImageSource, "a set of images, as limbeck.data makes them")
    inputs = inputs_of(generator, n, seed, data=data)
    if label is not None:
        inputs = Inputs(inputs.source, told_labels(label, n, generator.num_classes))
    how: dict[str, Any] = {"noise": noise, "truncation": truncation}
    how |= {"steps": steps, "grid": grid, "eta": eta, "clip_sample": clip_sample}
    batches = [
        drawn_images(model.generator, inputs.part(start, start + batch_size), seed=batch_seed(seed, start), **how)
        for start in range(0, n, batch_size)
    ]
    return torch.cat(batches)


def told_labels(label: Any, n: int, num_classes: int) -> Tensor:
    """Labels as networks read them: class indices [n], or rows of numbers [n, num_classes].

    label: such a tensor, anything that becomes one, or one class for all. num_classes: 0 of a network without labels.

    Raises: UserError for labels of another length, or of classes that are not there.
    """
    if num_classes < 1:
        raise UserError("label: this network draws no classes; leave it out")
    try:
        found = torch.as_tensor(label)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"label={label!r}: must be class indices") from error
    found = found.expand(n) if found.ndim == 0 else found
    if found.shape not in ((n,), (n, num_classes)):
        raise UserError(f"label: shape {tuple(found.shape)}, expected [{n}] or [{n}, {num_classes}], or one class")
    if found.ndim == 1:
        if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
            raise UserError(f"label: numbers of type {found.dtype}, expected class indices in 0..{num_classes - 1}")
        if found.min() < 0 or found.max() >= num_classes:
            raise UserError(
                f"label: classes from {found.min()} to {found.max()}, expected class indices in 0..{num_classes - 1}"
            )
    return found


def stages(
    model: Model, num_stages: int, *, seed: int = 0, data: ImageSource | None = None, **how: Any
) -> Tensor | None:
    """How the first image of a seed comes to be: [num_stages, c, h, w]; None if it is drawn in one pass.

    how: settings of `sample`.
    """
    inputs, device = inputs_of(model.generator, 1, seed, data=data), next(model.generator.parameters()).device
    with torch.no_grad(), torch.autocast(device.type, enabled=False), seeded(batch_seed(seed, 0), device):
        found = model.generator.drawing_stages(inputs.source.to(device), num_stages, **how)
    return None if found is None else found[:, 0].float()


def eight_bits(image: Tensor) -> Tensor:
    """[-1, 1] as uint8, rounded; what lies outside is clamped."""
    return ((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def from_eight_bits(image: Tensor) -> Tensor:
    """uint8 as float32 in [-1, 1]."""
    return image.float() / 127.5 - 1
