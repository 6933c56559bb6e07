"""U-Nets from tensors in diffusers' names: the widths, pruned or not, follow from the shapes."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from limbeck.architectures.ddpm import UNet
from limbeck.errors import CheckpointError, UserError
from limbeck.functional.diffusion import check_schedule
from limbeck.importers.foreign import Facts
from limbeck.model import called_in_file, filled

State = dict[str, Tensor]


def told_schedule(facts: Facts) -> dict[str, Any]:
    """Constructor arguments for the noise schedule of a file that does not state it: as told, else DDPM's.

    Raises: UserError if there is no such schedule.
    """
    found = {
        "num_train_steps": facts.of("num_train_steps", 1000),
        "beta_schedule": facts.of("beta_schedule", "linear"),
        "beta_start": facts.of("beta_start", 1e-4),
        "beta_end": facts.of("beta_end", 0.02),
    }
    for name, value in found.items():
        kinds = {"num_train_steps": int, "beta_schedule": str}.get(name, (int, float))
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise UserError(f"{name}={value!r}: must be a {'name' if kinds is str else 'number'}")
    check_schedule(found["beta_schedule"], found["num_train_steps"], found["beta_start"], found["beta_end"])
    return found


def told_resolution(facts: Facts, guess: int, num_levels: int) -> int:
    """The resolution of a network whose file does not state it. Raises: UserError for one that it cannot have."""
    multiple = 1 << (num_levels - 1)
    found = facts.of("resolution", guess)
    if type(found) is not int or found < 1 or found % multiple:
        raise UserError(f"resolution={found!r}: must be a multiple of {multiple} pixels for {num_levels} levels")
    return found


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


def network(arguments: Mapping[str, Any], state: State, *, where: str, names: Mapping[str, str] | None = None) -> UNet:
    """The U-Net these tensors belong to; `state` is emptied on the way.

    arguments: of the network at full width, without `widths`. names: our names of tensors to the file's own.
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
            raise CheckpointError(f"{where}: tensor {called_in_file(writer, names)} is missing")
        if state[writer].ndim and state[writer].shape[0] != group.size:
            widths[group.name] = state[writer].shape[0]
    found = filled(UNet, {**arguments, "widths": widths}, state, where=where, names=names)
    assert isinstance(found, UNet)
    return found
