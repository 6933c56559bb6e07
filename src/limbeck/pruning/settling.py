"""Masks of whole channels: how a channel falls silent, and how silent channels leave a network for good."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from limbeck.architectures.base import Axis, ChannelGroup, Network, channel_slice
from limbeck.masking import Masks
from limbeck.model import Model
from limbeck.pruning.slimming import slim


def mute(network: Network, group: ChannelGroup, keep: Tensor, masks: dict[str, Tensor]) -> None:
    """Extend `masks` so that the group's other channels carry nothing, or where that is not possible are not read."""
    gone = torch.ones(group.size, dtype=torch.bool)
    gone[keep] = False
    for axis in _silencing(network, group):
        shape = network.get_parameter(axis.parameter).shape
        mask = masks.setdefault(axis.parameter, torch.ones(shape, dtype=torch.bool)).transpose(0, axis.dim)
        mask[channel_slice(axis, group.size)][gone.repeat_interleave(axis.repeat)] = False


def silent(network: Network, group: ChannelGroup, masks: Masks) -> Tensor:
    """Bool [size]: the channels of which nothing is left that `mute` would take."""
    gone = torch.ones(group.size, dtype=torch.bool)
    axes = list(_silencing(network, group))
    if not axes or any(axis.parameter not in masks for axis in axes):
        return ~gone
    for axis in axes:
        entries = masks[axis.parameter].transpose(0, axis.dim)[channel_slice(axis, group.size)].cpu()
        gone &= ~entries.reshape(group.size, -1).any(dim=1)
    return gone


def settled(model: Model) -> Model:
    """The model without its silent channels, if it has any: a smaller network that draws the same.

    Other masks stay. Equal to the masked network where no normalization mixes channels.
    """
    keep = {}
    for group in model.generator.channel_groups():
        gone = silent(model.generator, group, model.masks)
        parts = gone.reshape(group.norm_groups, -1).sum(dim=1)
        if gone.any() and not gone.all() and (parts == parts[0]).all():
            keep[group.name] = (~gone).nonzero().flatten()
    if not keep:
        return model
    generator = slim(model.generator, keep, correct_gain=True)
    return replace(model, generator=generator, masks=slimmed_masks(model.generator, model.masks, keep))


def deployable(model: Model) -> Model:
    """The model as it leaves: without silent channels, a ticket as the plain generator it amounts to."""
    masks = {**model.masks, **model.generator.own_masks()}
    return settled(replace(model, generator=model.generator.solid(), masks=masks))


def slimmed_masks(network: Network, masks: Masks, keep: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The masks of the network that `slim` makes; those that switch nothing off any more are left out."""
    marks = copy.deepcopy(network)
    with torch.no_grad():
        for name, parameter in marks.named_parameters():
            parameter.copy_(masks[name] if name in masks else torch.ones_like(parameter))
    left = dict(slim(marks, keep).named_parameters())
    found = {name: left[name].detach() != 0 for name in masks}
    return {name: mask for name, mask in found.items() if not mask.all()}


def _silencing(network: Network, group: ChannelGroup) -> Iterator[Axis]:
    """Parameters whose entries have to go for a channel of the group to fall silent."""
    parameters = {name for name, _ in network.named_parameters()}
    for axis in group.axes:
        if axis.parameter in parameters and (axis.role != "input" or group.fed_elsewhere):
            yield axis
