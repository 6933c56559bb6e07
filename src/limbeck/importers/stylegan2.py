"""StyleGAN2 networks from tensors in the official names: the architecture follows from the shapes alone."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.errors import CheckpointError
from limbeck.model import filled

State = dict[str, Tensor]
NUM_STYLES_AVERAGED = 10_000


def generator_arguments(state: State) -> dict[str, Any]:
    """Constructor arguments of the generator whose tensors these are (all but `clamp`, which leaves no trace)."""
    resolutions = _numbers(state, r"synthesis\.b(\d+)\.")
    convolutions = [f"b{r}.{name}" for r in resolutions for name in ("conv0", "conv1") if (r, name) != (4, "conv0")]
    num_classes = state["mapping.embed.weight"].shape[1] if "mapping.embed.weight" in state else 0
    w_dim = state["synthesis.b4.conv1.affine.weight"].shape[1]
    outputs = [state[f"synthesis.{name}.weight"].shape[0] for name in convolutions]
    return {
        "resolution": resolutions[-1],
        "widths": [state["synthesis.b4.const"].shape[0], *outputs],
        "z_dim": state["mapping.fc0.weight"].shape[1] - (w_dim if num_classes else 0),
        "w_dim": w_dim,
        "mapping_depth": len(_numbers(state, r"mapping\.fc(\d+)\.weight")),
        "num_classes": num_classes,
        "num_channels": state["synthesis.b4.torgb.weight"].shape[0],
        "kernels": [state[f"synthesis.b{r}.conv1.weight"].shape[-1] for r in resolutions],
    }


def discriminator_arguments(state: State) -> dict[str, Any]:
    """Constructor arguments of the discriminator whose tensors these are (all but `clamp` and `group_size`)."""
    resolutions = _numbers(state, r"b(\d+)\.conv0\.")[::-1]
    widths = [state[f"b{r}.conv0.weight"].shape[0] for r in resolutions] + [state["b4.conv.weight"].shape[0]]
    return {
        "resolution": resolutions[0],
        "widths": widths,
        "num_classes": state["mapping.embed.weight"].shape[1] if "mapping.embed.weight" in state else 0,
        "num_channels": state[f"b{resolutions[0]}.fromrgb.weight"].shape[1],
        "mapping_depth": len(_numbers(state, r"mapping\.fc(\d+)\.weight")) or 8,
    }


def generator(state: State, *, where: str, clamp: float | None = None) -> Generator:
    """The generator these tensors belong to. Missing noise images and a missing average style are made up.

    Noise images are drawn with a fixed seed; the average is that of 10,000 styles with a fixed seed.
    """
    arguments = {**_inferred(generator_arguments, state, where), "clamp": clamp}
    average_known = "mapping.w_avg" in state
    state.setdefault("mapping.w_avg", torch.zeros(arguments["w_dim"]))
    random = torch.Generator().manual_seed(0)
    for name in [name for name in state if name.endswith(".noise_strength")]:
        r = int(name.split(".")[1].removeprefix("b"))
        state.setdefault(name.replace("noise_strength", "noise_const"), torch.randn(r, r, generator=random))
    network = filled(Generator, arguments, state, where=f"{where}: generator")
    assert isinstance(network, Generator)
    if not average_known and not network.num_classes:
        latent = torch.randn(NUM_STYLES_AVERAGED, network.z_dim, generator=random)
        with torch.no_grad():
            network.mapping.w_avg.copy_(network.mapping(latent).mean(dim=0))
    return network


def discriminator(state: State, *, where: str, clamp: float | None = None, group_size: int = 4) -> Discriminator:
    """The discriminator these tensors belong to."""
    arguments = {**_inferred(discriminator_arguments, state, where), "clamp": clamp, "group_size": group_size}
    network = filled(Discriminator, arguments, state, where=f"{where}: discriminator")
    assert isinstance(network, Discriminator)
    return network


def check_filter(value: Tensor, where: str) -> None:
    """Refuse a low-pass filter other than [1, 3, 3, 1] in both directions, whatever its gain; ours are made anew."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    if value.shape != (4, 4) or not torch.allclose(value.float() / value.float().sum(), torch.outer(taps, taps)):
        raise CheckpointError(f"{where}: a filter other than [1, 3, 3, 1]")


def _inferred(infer: Callable[[State], dict[str, Any]], state: State, where: str) -> dict[str, Any]:
    try:
        return infer(state)
    except KeyError as error:
        raise CheckpointError(f"{where}: not a StyleGAN2 network: tensor {error} is missing") from error
    except IndexError as error:
        raise CheckpointError(f"{where}: not a StyleGAN2 network: no layers, or tensors of other dimensions") from error


def _numbers(state: State, pattern: str) -> list[int]:
    return sorted({int(match[1]) for name in state if (match := re.match(pattern, name))})
