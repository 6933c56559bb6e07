"""A plain state dict in NVIDIA's StyleGAN2 names: what `load_state_dict` of their networks takes; no code inside."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.errors import UserError
from limbeck.export.base import Exporter, require_equal
from limbeck.export.rosinality import low_pass, stored
from limbeck.files import written_aside
from limbeck.importers import nvlabs_state, torch_file
from limbeck.importers.foreign import Facts
from limbeck.model import Model


class NvlabsState(Exporter):
    """Writes `G_ema`, `D` if there is one, and the two settings that tensors do not show."""

    def __call__(self, model: Model, path: str | Path) -> Path:
        if not isinstance(model.generator, Generator):
            raise UserError(f"format=nvlabs: holds StyleGAN2 only, not {type(model.generator).__name__}")
        content: dict[str, Any] = {"G_ema": network_state(model.generator)}
        content["conv_clamp"] = model.generator.arguments["clamp"]
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
