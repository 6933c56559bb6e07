"""Costs that follow from the shapes alone."""

from dataclasses import dataclass

import torch

from limbeck.architectures.base import Network


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
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    return Profile(num_parameters, network.macs(), network.filter_macs())


def size_mib(network: Network, dtype: torch.dtype = torch.float32) -> float:
    """Parameters stored as `dtype`, in MiB; buffers (noise images, averages) not counted."""
    return sum(parameter.numel() for parameter in network.parameters()) * dtype.itemsize / 2**20
