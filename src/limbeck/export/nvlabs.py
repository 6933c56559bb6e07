"""A plain state dict in NVIDIA's names of StyleGAN2 and 3: what `load_state_dict` of their networks takes; no code."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.architectures import stylegan3
from limbeck.architectures.base import Network
from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.errors import UserError
from limbeck.export.base import Exporter, require_equal
from limbeck.export.rosinality import low_pass, stored
from limbeck.files import written_aside
from limbeck.importers import nvlabs_state, torch_file
from limbeck.importers.foreign import Facts
from limbeck.importers.stylegan3 import file_names
from limbeck.model import Model


class NvlabsState(Exporter):
    """Writes `G_ema`, `D` if there is one, and the settings that tensors do not show."""

    def __call__(self, model: Model, path: str | Path) -> Path:
        generator = model.generator
        content: dict[str, Any] = {}
        if isinstance(generator, Generator):
            content["G_ema"] = network_state(generator)
        elif isinstance(generator, stylegan3.Generator):
            content["G_ema"] = stylegan3_state(generator)
            content["magnitude_ema_beta"] = generator.arguments["magnitude_beta"]
            content["num_critical"] = generator.arguments["num_critical"]
        else:
            raise UserError(
                f"format=nvlabs: holds StyleGAN2 and 3 only, not {generator.family} {type(generator).__name__}"
            )
        content["conv_clamp"] = generator.arguments["clamp"]
        if isinstance(model.discriminator, Discriminator):
            content["D"] = network_state(model.discriminator)
            content["mbstd_group_size"] = model.discriminator.arguments["group_size"]
        with written_aside(path) as aside:
            torch.save(content, aside)
            again = nvlabs_state.model(torch_file.read(aside), aside, Facts())
            require_equal(again.generator, model.generator, what=f"{path}: generator")
            if model.discriminator is not None:
                assert again.discriminator is not None
                require_equal(again.discriminator, model.discriminator, what=f"{path}: discriminator")
        return Path(path)


def stylegan3_state(network: stylegan3.Generator) -> dict[str, Tensor]:
    """All tensors and filters; layers are named as NVIDIA's, with their map sizes and widths."""
    names = file_names(network)
    tensors = {**network.state_dict(), **dict(network.named_buffers())}
    return {names[name]: stored(value) for name, value in tensors.items()}


def network_state(network: Network) -> dict[str, Tensor]:
    """All tensors, and the low-pass filters where NVIDIA's networks keep them."""
    state = {name: stored(value) for name, value in network.state_dict().items()}
    for name in [name for name in state if name.endswith(".weight")]:
        block, _, layer = name.removesuffix(".weight").rpartition(".")
        if layer in ("conv0", "conv1", "conv", "skip", "fromrgb"):
            state[f"{block}.{layer}.resample_filter"] = low_pass(1.0)
        if layer == "conv1":
            state[f"{block}.resample_filter"] = low_pass(1.0)
    return state
