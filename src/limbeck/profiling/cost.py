"""Costs that follow from shapes and masks alone."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from limbeck.architectures.base import Network
from limbeck.arguments import kind
from limbeck.masking import layer_sparsity, num_effective
from limbeck.model import Model, stored


@dataclass(frozen=True)
class Profile:
    """num_parameters: without buffers. macs: multiply-accumulates of one image, by the architecture's stated rule.

    filter_macs: those in fixed filters, which that rule leaves out; 0 for most.
    """

    num_parameters: int
    macs: int
    filter_macs: int = 0


def profile(network: Network) -> Profile:
    """Count a network; works on the meta device."""
    kind(network, "network", Network, "a network, e.g. model.generator")
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    return Profile(num_parameters, network.macs(), network.filter_macs())


def size_mib(network: Network, dtype: torch.dtype = torch.float32) -> float:
    """Parameters stored as `dtype`, in MiB; buffers (noise images, averages) not counted."""
    return sum(parameter.numel() for parameter in network.parameters()) * dtype.itemsize / 2**20


@dataclass(frozen=True)
class Sparsity:
    """num_effective: parameters in use. layers: share of switched-off weights by layer, in [0, 1].

    size_mib: what a file takes for the generator's parameters, masks included, in float32.
    """

    num_effective: int
    layers: Mapping[str, float]
    size_mib: float


def sparsity(model: Model) -> Sparsity | None:
    """What a model with masks, or a ticket, really uses; None for a dense one."""
    masks = {**model.masks, **model.generator.own_masks()}
    if not masks:
        return None
    buffers = {name for name, _ in model.generator.named_buffers()}
    held = stored(model.generator, model.masks)
    size = sum(value.nbytes for name, value in held.items() if name not in buffers)
    layers = layer_sparsity(model.generator, masks)
    return Sparsity(num_effective(model.generator, masks), layers, size / 2**20)
