"""A `.pt` file in rosinality's StyleGAN2 layout, readable by that repository and by CAGAN, StyleKD and DCP-GAN code."""

import logging
from pathlib import Path

import torch
from torch import Tensor

from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.errors import UserError
from limbeck.export.base import Exporter, require_equal
from limbeck.files import written_aside
from limbeck.importers import rosinality, torch_file
from limbeck.importers.foreign import Facts
from limbeck.importers.rosinality import discriminator_names, generator_names
from limbeck.model import Model


class Rosinality(Exporter):
    """Writes `g`, `g_ema` (the same), `latent_avg`, and `d` if the model has a discriminator."""

    def __call__(self, model: Model, path: str | Path) -> Path:
        check_expressible(model)
        assert isinstance(model.generator, Generator)
        state = generator_state(model.generator)
        content = {"g": state, "g_ema": state, "latent_avg": model.generator.mapping.w_avg.detach().cpu().clone()}
        if isinstance(model.discriminator, Discriminator):
            content["d"] = discriminator_state(model.discriminator)
        with written_aside(path) as aside:
            torch.save(content, aside)
            again = rosinality.model(torch_file.read(aside), aside, Facts())
            require_equal(again.generator, model.generator, what=f"{path}: generator")
            if model.discriminator is not None:
                assert again.discriminator is not None
                require_equal(again.discriminator, model.discriminator, what=f"{path}: discriminator")
        return Path(path)


def check_expressible(model: Model) -> None:
    """Refuse what the layout has no place for; tell what is left out without changing images in float32."""
    generator, discriminator = model.generator, model.discriminator
    if not isinstance(generator, Generator):
        raise UserError(f"format=rosinality: holds StyleGAN2 only, not {type(generator).__name__}")
    for name, value in (("num_classes", 0), ("num_channels", 3), ("z_dim", generator.arguments["w_dim"])):
        if generator.arguments[name] != value:
            raise UserError(f"format=rosinality: {name}={generator.arguments[name]}, but the layout requires {value}")
    if generator.arguments["clamp"] is not None:
        logging.getLogger(__name__).warning("the rosinality layout has no activation clamp; it is left out")
    if discriminator is not None and discriminator.arguments["group_size"] != 4:
        size = discriminator.arguments["group_size"]
        logging.getLogger(__name__).warning("the layout's minibatch groups are 4 images, this model's %s", size)


def generator_state(generator: Generator) -> dict[str, Tensor]:
    """The generator's tensors under rosinality's names, low-pass kernels included."""
    ours = generator.state_dict()
    names = generator_names(generator.resolution, generator.arguments["mapping_depth"])
    state = {theirs: with_extra_axes(ours[name], name) for theirs, name in names.items()}
    for block in range(len(generator.synthesis.resolutions) - 1):
        state[f"convs.{2 * block}.conv.blur.kernel"] = low_pass(4.0)
        state[f"to_rgbs.{block}.upsample.kernel"] = low_pass(4.0)
    return state


def discriminator_state(discriminator: Discriminator) -> dict[str, Tensor]:
    """The discriminator's tensors under rosinality's names, low-pass kernels included."""
    ours = discriminator.state_dict()
    state = {theirs: stored(ours[name]) for theirs, name in discriminator_names(discriminator.resolution).items()}
    for block in range(1, len(discriminator.resolutions)):
        state[f"convs.{block}.conv2.0.kernel"] = low_pass(1.0)
        state[f"convs.{block}.skip.0.kernel"] = low_pass(1.0)
    return state


def with_extra_axes(value: Tensor, ours: str) -> Tensor:
    """Add the axes of size 1 that only this layout has; the inverse of `importers.rosinality.without_extra_axes`."""
    value = stored(value)
    if ours.endswith(".noise_strength"):
        return value.reshape(1)
    if ours.endswith(".torgb.bias"):
        return value.reshape(1, -1, 1, 1)
    if ours.endswith(".noise_const"):
        return value[None, None]
    modulated = ours.startswith("synthesis.") and ours.endswith(".weight") and not ours.endswith(".affine.weight")
    return value[None] if modulated or ours.endswith(".const") else value


def low_pass(gain: float) -> Tensor:
    """The kernel [1, 3, 3, 1] in both directions, with this sum."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    return torch.outer(taps, taps) * gain


def stored(value: Tensor) -> Tensor:
    """A copy of its own on the CPU, in the default memory format."""
    return value.detach().cpu().clone(memory_format=torch.contiguous_format)
