"""StyleGAN3 generators from tensors in NVIDIA's names, which carry map sizes and the widths before pruning.

Widths, kernels and the kind of the filters follow from the tensors, the resolution from the last layer's name; stored
filters are compared with those that follow from these, and then left out.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limbeck.architectures.stylegan3 import Generator, Layer
from limbeck.errors import CheckpointError
from limbeck.importers.foreign import Facts
from limbeck.importers.stylegan2 import LARGEST, fill_average
from limbeck.model import called_in_file, filled

MARK = "synthesis.input.freqs"
FILTERS = ("up_filter", "down_filter")
LAYER = re.compile(r"synthesis\.L(\d+)(?:_(\d+)_\d+)?\.(.+)")
MOST_LAYERS = 100


@dataclass(frozen=True)
class Settings:
    """What leaves no trace in the tensors."""

    clamp: float | None
    magnitude_beta: float
    num_critical: int = 2


def generator(state: Mapping[str, Tensor], settings: Settings, *, where: str, facts: Facts) -> Generator:
    """The generator these tensors belong to. A missing transform is the identity, a missing average style made up.

    Raises: CheckpointError naming, as the file does, a tensor that is missing, misshaped or unknown, or a filter or a
        map size other than StyleGAN3's.
    """
    ours, filters, sizes, names = _renamed(state, where)
    try:
        arguments = _arguments(ours, filters, settings)
    except KeyError as error:
        called = called_in_file(error.args[0], names)
        raise CheckpointError(f"{where}: not a StyleGAN3 network: tensor {called} is missing") from error
    except IndexError as error:
        raise CheckpointError(f"{where}: not a StyleGAN3 network: a weight of other dimensions") from error
    last = arguments["num_layers"]
    resolution = facts.stated("resolution", sizes[last], where) if last in sizes else facts.of("resolution", None)
    if not isinstance(resolution, int) or not 8 <= resolution <= LARGEST:
        raise CheckpointError(f"{where}: resolution {resolution}, supported: 8 to {LARGEST}; tell it if no layer does")
    average_known = "mapping.w_avg" in ours
    ours.setdefault("mapping.w_avg", torch.zeros(arguments["w_dim"]))
    ours.setdefault("synthesis.input.transform", torch.eye(3))
    network = filled(Generator, {"resolution": resolution, **arguments}, ours, where=f"{where}: generator", names=names)
    assert isinstance(network, Generator)
    _check_layers(network, filters, sizes, where, names)
    if not average_known:
        fill_average(network, torch.Generator().manual_seed(0), facts)
    return network


def file_names(network: Generator) -> dict[str, str]:
    """Our names of tensors, filters included, to NVIDIA's: `synthesis.L3.weight` to `synthesis.L3_52_512.weight`."""
    bands, found = network.synthesis.bands, {}
    for name in [*network.state_dict(), *(name for name, _ in network.named_buffers())]:
        match = LAYER.fullmatch(name)
        if match is None:
            found[name] = name
            continue
        index = int(match[1])
        width = len(network.synthesis.get_submodule(f"L{index}").bias)
        found[name] = f"synthesis.L{index}_{bands[index].size}_{width}.{match[3]}"
    return found


def _renamed(
    state: Mapping[str, Tensor], where: str
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[int, int], dict[str, str]]:
    """Tensors and filters by our names, map sizes by layer, and our names to the file's."""
    tensors: dict[str, Tensor] = {}
    filters: dict[str, Tensor] = {}
    sizes: dict[int, int] = {}
    names: dict[str, str] = {}
    for name, value in state.items():
        match = LAYER.fullmatch(name)
        index = int(match[1]) if match else 0
        own = f"synthesis.L{index}.{match[3]}" if match else name
        if own in names or index > MOST_LAYERS:
            raise CheckpointError(f"{where}: {name!r}: a layer that is there already, or beyond {MOST_LAYERS}")
        names[own] = name
        if match and match[2]:
            sizes[index] = int(match[2])
        (filters if own.endswith(FILTERS) else tensors)[own] = value
    return tensors, filters, sizes, names


def _arguments(state: Mapping[str, Tensor], filters: Mapping[str, Tensor], settings: Settings) -> dict[str, Any]:
    """Constructor arguments but for the resolution. Raises: KeyError naming a missing tensor, or IndexError."""
    last = max((int(match[1]) for name in state if (match := LAYER.fullmatch(name))), default=0)
    mixing = state["synthesis.input.weight"]
    weights = [state[f"synthesis.L{index}.weight"] for index in range(last + 1)]
    w_dim = state["synthesis.L0.affine.weight"].shape[1]
    num_classes = state["mapping.embed.weight"].shape[1] if "mapping.embed.weight" in state else 0
    depths = [int(match[1]) for name in state if (match := re.match(r"mapping\.fc(\d+)\.", name))]
    kernel = weights[0].shape[3]
    down = filters.get("synthesis.L0.down_filter")
    return {
        "widths": [mixing.shape[0], *(weight.shape[0] for weight in weights[:-1])],
        "kernel": kernel,
        "radial": kernel == 1 if down is None else down.ndim == 2,
        "num_layers": last,
        "num_critical": settings.num_critical,
        "num_frequencies": mixing.shape[1],
        "z_dim": state["mapping.fc0.weight"].shape[1] - (w_dim if num_classes else 0),
        "w_dim": w_dim,
        "mapping_depth": max(depths, default=-1) + 1,
        "num_classes": num_classes,
        "num_channels": weights[-1].shape[0],
        "clamp": settings.clamp,
        "magnitude_beta": settings.magnitude_beta,
    }


def _check_layers(
    network: Generator, filters: dict[str, Tensor], sizes: Mapping[int, int], where: str, names: Mapping[str, str]
) -> None:
    for index, band in enumerate(network.synthesis.bands):
        if sizes.get(index, band.size) != band.size:
            raise CheckpointError(
                f"{where}: layer {index} has maps of {sizes[index]} samples, expected {band.size} at "
                f"{network.resolution} px"
            )
    for name, layer in network.named_modules():
        if not isinstance(layer, Layer):
            continue
        for buffer in FILTERS if not layer.last else ():
            stored, own = filters.pop(f"{name}.{buffer}", None), layer.get_buffer(buffer)
            if stored is not None and (stored.shape != own.shape or (stored.float() - own).abs().max() > 1e-6):
                called = called_in_file(f"{name}.{buffer}", names)
                raise CheckpointError(f"{where}: {called}: a filter other than the one that StyleGAN3 designs here")
    if filters:
        raise CheckpointError(f"{where}: {called_in_file(next(iter(filters)), names)}: a filter where there is none")
