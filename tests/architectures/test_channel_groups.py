"""Declared channel groups: permuting the channels of every group must not change the output."""

from dataclasses import replace

import pytest
import torch

from limbeck.architectures.base import channel_slice
from limbeck.architectures.stylegan2 import Generator

NETWORKS = {
    "stylegan2": lambda: Generator(
        resolution=16, widths=[6, 5, 7, 8, 4, 9], z_dim=8, w_dim=8, mapping_depth=1, num_classes=2
    ),
    "stylegan2_1x1": lambda: Generator(
        resolution=8, widths=[6, 5, 7, 8], z_dim=8, w_dim=8, mapping_depth=1, kernels=[3, 1]
    ),
}


def noisy(network):
    """All parameters and buffers random, so that no channel equals another anywhere."""
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.copy_(torch.randn_like(tensor))
    return network.eval()


def deranged(size):
    """A random order in which nothing stays in place."""
    while True:
        order = torch.randperm(size)
        if not (order == torch.arange(size)).any():
            return order


def permute(network, groups):
    """Exchange the channels of each group inside its normalization groups, at random, in place."""
    state = network.state_dict()
    for group in groups:
        per_norm = group.size // group.norm_groups
        order = torch.cat([deranged(per_norm) + start * per_norm for start in range(group.norm_groups)])
        for axis in group.axes:
            tensor = state[axis.parameter]
            index = torch.arange(tensor.shape[axis.dim])
            entries = channel_slice(axis, group.size)
            index[entries] = index[entries].reshape(group.size, axis.repeat)[order].flatten()
            tensor.copy_(tensor.index_select(axis.dim, index))
    return network


def output(network):
    inputs = network.example_inputs(3)
    noise = torch.Generator().manual_seed(1)
    inputs = {k: torch.randn(v.shape, generator=noise) if v.is_floating_point() else v for k, v in inputs.items()}
    with torch.no_grad():
        return network(**inputs)


def changed_by_permuting(network, groups):
    before = output(network)
    after = output(permute(network, groups))
    return ((after - before).abs().max() / before.abs().max()).item()


@pytest.mark.parametrize("name", NETWORKS)
def test_permuted_channels_give_the_same_output(name):
    network = noisy(NETWORKS[name]())
    assert changed_by_permuting(network, network.channel_groups()) < 1e-5


@pytest.mark.parametrize("name", NETWORKS)
def test_every_forgotten_axis_is_found(name):
    for position, group in enumerate(NETWORKS[name]().channel_groups()):
        for axis in group.axes:
            network = noisy(NETWORKS[name]())
            groups = list(network.channel_groups())
            groups[position] = replace(group, axes=tuple(other for other in group.axes if other != axis))
            assert changed_by_permuting(network, groups) > 1e-3, (group.name, axis)


@pytest.mark.parametrize("name", NETWORKS)
def test_axes_lie_inside_their_parameters(name):
    network = NETWORKS[name]()
    state = network.state_dict()
    for group in network.channel_groups():
        for axis in group.axes:
            assert channel_slice(axis, group.size).stop <= state[axis.parameter].shape[axis.dim]
    names = [group.name for group in network.channel_groups()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", NETWORKS)
def test_resized_changes_only_what_is_named(name):
    network = NETWORKS[name]()
    first = network.channel_groups()[0]
    smaller = network.resized({first.name: 3})
    sizes = {group.name: group.size for group in network.channel_groups()}
    assert {group.name: group.size for group in smaller.channel_groups()} == sizes | {first.name: 3}
