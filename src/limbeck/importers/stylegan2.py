"""StyleGAN2 networks from tensors in the official names: the architecture follows from the shapes alone."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.errors import CheckpointError
from limbeck.importers.foreign import Facts
from limbeck.model import called_in_file, filled

State = dict[str, Tensor]
Names = Mapping[str, str]  # our names of tensors to the file's own
NUM_STYLES_AVERAGED = 10_000
LARGEST = 4096  # pixels; noise images that a file leaves out are made before its tensors are compared


def generator_arguments(state: State) -> dict[str, Any]:
    """Constructor arguments of the generator whose tensors these are (all but `clamp`, which leaves no trace)."""
    resolutions = _numbers(state, r"synthesis\.b(\d+)\.")
    convolutions = [f"b{r}.{name}" for r in resolutions for name in ("conv0", "conv1") if (r, name) != (4, "conv0")]
    num_classes = _size(state, "mapping.embed.weight", 1) if "mapping.embed.weight" in state else 0
    w_dim = _size(state, "synthesis.b4.conv1.affine.weight", 1)
    outputs = [_size(state, f"synthesis.{name}.weight") for name in convolutions]
    return {
        "resolution": resolutions[-1],
        "widths": [_size(state, "synthesis.b4.const"), *outputs],
        "z_dim": _size(state, "mapping.fc0.weight", 1) - (w_dim if num_classes else 0),
        "w_dim": w_dim,
        "mapping_depth": max(_numbers(state, r"mapping\.fc(\d+)\."), default=-1) + 1,
        "num_classes": num_classes,
        "num_channels": _size(state, "synthesis.b4.torgb.weight"),
        "kernels": [_size(state, f"synthesis.b{r}.conv1.weight", 3) for r in resolutions],
    }


def discriminator_arguments(state: State) -> dict[str, Any]:
    """Constructor arguments of the discriminator whose tensors these are (all but `clamp` and `group_size`)."""
    resolutions = _numbers(state, r"b(\d+)\.conv0\.")[::-1]
    widths = [_size(state, f"b{r}.conv0.weight") for r in resolutions] + [_size(state, "b4.conv.weight")]
    return {
        "resolution": resolutions[0],
        "widths": widths,
        "num_classes": _size(state, "mapping.embed.weight", 1) if "mapping.embed.weight" in state else 0,
        "num_channels": _size(state, f"b{resolutions[0]}.fromrgb.weight", 1),
        "mapping_depth": max(_numbers(state, r"mapping\.fc(\d+)\."), default=7) + 1,
    }


def generator(
    state: State, *, where: str, clamp: float | None = None, names: Names | None = None, facts: Facts | None = None
) -> Generator:
    """The generator these tensors belong to. Missing noise images and a missing average style are made up.

    Noise images are drawn with a fixed seed; the average is that of 10,000 styles with a fixed seed. `facts` is told
    that they are guesses.
    """
    guessed = {} if facts is None else facts.guessed
    arguments = {**_inferred(generator_arguments, state, where, names), "clamp": clamp}
    if arguments["resolution"] > LARGEST:
        raise CheckpointError(f"{where}: a generator of {arguments['resolution']} pixels, supported: up to {LARGEST}")
    average_known = "mapping.w_avg" in state
    state.setdefault("mapping.w_avg", torch.zeros(arguments["w_dim"]))
    random = torch.Generator().manual_seed(0)
    for name in [name for name in state if name.endswith(".noise_strength")]:
        r = int(name.split(".")[1].removeprefix("b"))
        image = torch.randn(r, r, generator=random)  # drawn in any case, so that one missing image changes no other
        if name.replace("noise_strength", "noise_const") not in state:
            state[name.replace("noise_strength", "noise_const")] = image
            guessed["noise_const"] = "normal noise with a fixed seed"
    network = filled(Generator, arguments, state, where=f"{where}: generator", names=names)
    assert isinstance(network, Generator)
    if not average_known:
        fill_average(network, random, facts)
    return network


def fill_average(network: Network, random: torch.Generator, facts: Facts | None = None) -> None:
    """Set the average style to that of random latents; with classes, whose shares nobody knows, it stays zero."""
    if network.num_classes:
        return
    latent = torch.randn(NUM_STYLES_AVERAGED, network.z_dim, generator=random)
    if facts is not None:
        facts.guessed["w_avg"] = f"the mean of {NUM_STYLES_AVERAGED:,} styles"
    with torch.no_grad():
        network.mapping.w_avg.copy_(network.mapping(latent).mean(dim=0))


def discriminator(
    state: State, *, where: str, clamp: float | None = None, group_size: int = 4, names: Names | None = None
) -> Discriminator:
    """The discriminator these tensors belong to."""
    inferred = _inferred(discriminator_arguments, state, where, names)
    arguments = {**inferred, "clamp": clamp, "group_size": group_size}
    network = filled(Discriminator, arguments, state, where=f"{where}: discriminator", names=names)
    assert isinstance(network, Discriminator)
    return network


def check_filter(value: Tensor, where: str) -> None:
    """Refuse a low-pass filter other than [1, 3, 3, 1] in both directions, whatever its gain; ours are made anew."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    if value.shape != (4, 4) or not torch.allclose(value.float() / value.float().sum(), torch.outer(taps, taps)):
        raise CheckpointError(f"{where}: a filter other than [1, 3, 3, 1]")


def _inferred(
    infer: Callable[[State], dict[str, Any]], state: State, where: str, names: Names | None
) -> dict[str, Any]:
    try:
        return infer(state)
    except KeyError as error:
        called = called_in_file(error.args[0], names)
        raise CheckpointError(f"{where}: not a StyleGAN2 network: tensor {called} is missing") from error
    except IndexError as error:
        if error.args[0] not in state:
            raise CheckpointError(f"{where}: not a StyleGAN2 network: it has no layers") from error
        called, shape = called_in_file(error.args[0], names), tuple(state[error.args[0]].shape)
        raise CheckpointError(f"{where}: not a StyleGAN2 network: tensor {called} has shape {shape}") from error


def _size(state: State, name: str, axis: int = 0) -> int:
    """Raises: KeyError or IndexError with the name, if there is no such tensor or axis."""
    if state[name].ndim <= axis:
        raise IndexError(name)
    return state[name].shape[axis]


def _numbers(state: State, pattern: str) -> list[int]:
    return sorted({int(match[1]) for name in state if (match := re.match(pattern, name))})
