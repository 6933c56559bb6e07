"""What the scales of an int8 program are found on: inputs of forward passes, the model's own or made from data."""

import inspect
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.data.base import ImageSource
from limbeck.errors import UserError
from limbeck.evaluation.sampling import from_eight_bits, sample
from limbeck.export.sampler import takes_steps
from limbeck.functional.diffusion import diffuse
from limbeck.model import Model

STEPS = 10  # of a denoiser, whose inputs on the way from noise to image are what it will see
AT_ONCE = 16
PassInputs = list[dict[str, Tensor]]  # of forward passes, float32 on the CPU


class Calibration(ABC):
    """Chooses the inputs. Constructors only store."""

    @abstractmethod
    def __call__(self, network: Network, data: ImageSource | None, num_images: int, seed: int) -> PassInputs:
        """Inputs of passes over `num_images` images. Raises: UserError if they need data and there are none."""


class OwnInputs(Calibration):
    """What the network is given while it draws: latents, or a denoiser's images on their way from noise.

    A network that draws from images takes the last ones to start from that the data hold.
    """

    def __call__(self, network: Network, data: ImageSource | None, num_images: int, seed: int) -> PassInputs:
        if network.draws_from == "images":
            return source_inputs(network, data, num_images)
        return recorded_inputs(network, num_images, seed, data=data)


class OfData(Calibration):
    """Images of the data: a denoiser's with noise, at times spread evenly; what a translation network starts from."""

    def __call__(self, network: Network, data: ImageSource | None, num_images: int, seed: int) -> PassInputs:
        if data is None:
            raise UserError("calibration=data: needs images; --set data=CHOICE data.path=…")
        if network.draws_from == "images":
            return source_inputs(network, data, num_images)
        if not takes_steps(network):
            raise UserError(
                f"calibration=data: {type(network).__name__} draws from latents, of which data hold none; "
                "use calibration=own"
            )
        return noisy_inputs(network, data, num_images, seed)


def noisy_inputs(network: Network, data: ImageSource, num_images: int, seed: int) -> PassInputs:
    """Random training images as a denoiser meets them in training, every time step about as often."""
    images, numbers = data.train(), torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(images), (num_images,), generator=numbers).numpy()
    schedule, found = network.alpha_bar(), []
    steps = torch.arange(num_images) * len(schedule) // num_images
    for start in range(0, num_images, AT_ONCE):
        part = slice(start, start + AT_ONCE)
        clean = from_eight_bits(images.batch(chosen[part])[0])
        noise = torch.randn(clean.shape, generator=numbers)
        found.append({"noisy_image": diffuse(clean, noise, schedule[steps[part]]), "timestep": steps[part]})
    return found


def source_inputs(network: Network, data: ImageSource | None, num_images: int) -> PassInputs:
    """The last images that the data hold to start from, with the labels that the network reads."""
    if data is None:
        raise UserError(f"{type(network).__name__} draws from images, so it needs some: --set data=CHOICE data.path=…")
    sources, names, found = data.sources(), list(network.example_inputs(1)), []
    count = min(num_images, len(sources))
    for start in range(len(sources) - count, len(sources), AT_ONCE):
        images, labels = sources.batch(np.arange(start, min(start + AT_ONCE, len(sources))))
        found.append(dict(zip(names, (from_eight_bits(images), labels), strict=False)))
    return found


def recorded_inputs(
    network: Network, num_images: int, seed: int, *, data: ImageSource | None = None, batch_size: int = AT_ONCE
) -> PassInputs:
    """What the network is given while it draws `num_images`: latents, or noisy images with their time.

    data: in whose shares classes are drawn.
    """
    names, found = list(network.example_inputs(1)), []
    takes = inspect.signature(network.forward)

    def note(_: Any, positional: tuple, named: dict[str, Any]) -> None:
        given = takes.bind(*positional, **named).arguments
        example = network.example_inputs(1)
        part = {name: given[name] if isinstance(given.get(name), Tensor) else example[name] for name in names}
        size = max(len(value) for value in part.values())
        found.append({name: value.expand(size, *value.shape[1:]).contiguous().cpu() for name, value in part.items()})

    hook = network.register_forward_pre_hook(note, with_kwargs=True)
    try:
        steps = min(STEPS, len(network.alpha_bar())) if takes_steps(network) else STEPS
        sample(Model(network), num_images, seed=seed, data=data, steps=steps, batch_size=batch_size)
    finally:
        hook.remove()
    return found
