"""From kept channels to a smaller network, for every architecture that declares its channel groups."""

from collections.abc import Mapping

import torch
from torch import Tensor

from limbeck.architectures.base import Network, channel_slice


def slim(network: Network, keep: Mapping[str, Tensor], *, correct_gain: bool = False) -> Network:
    """A new network with only the kept channels; the given one is left as it is.

    keep: sorted indices by group name; groups that are not named keep all. Keeping all gives the same network,
        bit for bit.
    correct_gain: weights whose run-time gain is 1 / sqrt(fan-in) grow in effect when their fan-in shrinks (StyleGAN2's
        ToRGB by sqrt(C / C_kept)). True undoes that, so that the result equals the masked network; False is what the
        papers' code does.

    Source: Liu et al., "Content-Aware GAN Compression", 2021, released mask propagation (for StyleGAN2).
    """
    state = network.state_dict()
    masks: dict[tuple[str, int], Tensor] = {}
    scaled = set()
    for group in network.channel_groups():
        kept = torch.zeros(group.size, dtype=torch.bool)
        kept[keep.get(group.name, torch.arange(group.size)).cpu()] = True
        for axis in group.axes:
            place = (axis.parameter, axis.dim)
            mask = masks.setdefault(place, torch.ones(state[axis.parameter].shape[axis.dim], dtype=torch.bool))
            mask[channel_slice(axis, group.size)] = kept.repeat_interleave(axis.repeat)
            scaled |= {place} if axis.fan_in else set()
    for (name, dim), mask in masks.items():
        state[name] = state[name].index_select(dim, mask.nonzero().flatten().to(state[name].device))
        if correct_gain and (name, dim) in scaled:
            state[name] = state[name] * (mask.sum().item() / len(mask)) ** 0.5
    slimmed = network.resized({name: len(indices) for name, indices in keep.items()})
    slimmed = slimmed.to(next(network.parameters()))  # before values come in, which another type would round
    slimmed.load_state_dict(state)
    return slimmed.train(network.training)
