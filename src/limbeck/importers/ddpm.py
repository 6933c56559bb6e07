"""U-Nets from tensors in diffusers' names: the widths, pruned or not, follow from the shapes."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from limbeck.architectures.ddpm import UNet
from limbeck.errors import CheckpointError
from limbeck.model import filled

State = dict[str, Tensor]


def layout(state: Mapping[str, Tensor], where: str) -> dict[str, Any]:
    """Constructor arguments that show in the names: blocks per level and levels with attention; also `num_levels`."""
    levels = {int(match[1]) for name in state if (match := re.match(r"down_blocks\.(\d+)\.resnets\.", name))}
    blocks = {int(match[1]) for name in state if (match := re.match(r"down_blocks\.0\.resnets\.(\d+)\.", name))}
    attending = {int(match[1]) for name in state if (match := re.match(r"down_blocks\.(\d+)\.attentions\.", name))}
    if "conv_in.weight" not in state or not levels or levels != set(range(len(levels))):
        raise CheckpointError(f"{where}: not a U-Net of DDPM: 'conv_in.weight' or levels of blocks are missing")
    return {"num_levels": len(levels), "blocks_per_level": len(blocks), "attention_levels": sorted(attending)}


def as_matrix(weight: Tensor) -> Tensor:
    """The weight of a 1x1 convolution as that of a linear layer; others as they are."""
    return weight.flatten(1) if weight.ndim == 4 and weight.shape[2:] == (1, 1) else weight


def network(arguments: Mapping[str, Any], state: State, *, where: str) -> UNet:
    """The U-Net these tensors belong to; `state` is emptied on the way.

    arguments: of the network at full width, without `widths`.
    Raises: CheckpointError naming what does not fit.
    """
    try:
        with torch.device("meta"):
            groups = UNet(**arguments).channel_groups()
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{where}: cannot build UNet ({' '.join(str(error).split())})") from error
    widths = {}
    for group in groups:
        writer = next(axis.parameter for axis in group.axes if axis.role == "output")
        if writer not in state:
            raise CheckpointError(f"{where}: tensor {writer!r} is missing")
        if state[writer].ndim and state[writer].shape[0] != group.size:
            widths[group.name] = state[writer].shape[0]
    found = filled(UNet, {**arguments, "widths": widths}, state, where=where)
    assert isinstance(found, UNet)
    return found
