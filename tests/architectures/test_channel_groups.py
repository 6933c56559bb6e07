"""Declared channel groups: permuting the channels of every group must not change the output."""

import copy
from dataclasses import replace

import pytest
import torch

from limbeck.architectures import (
    dcgan,
    residual_generator,
    srgan,
    stargan,
    stylegan3,
    translation_resnet,
    translation_unet,
)
from limbeck.architectures.base import channel_slice
from limbeck.architectures.ddpm import UNet
from limbeck.architectures.stylegan2 import Generator

NETWORKS = {
    "stylegan2": lambda: Generator(
        resolution=16, widths=[6, 5, 7, 8, 4, 9], z_dim=8, w_dim=8, mapping_depth=1, num_classes=2
    ),
    "stylegan2_1x1": lambda: Generator(
        resolution=8, widths=[6, 5, 7, 8], z_dim=8, w_dim=8, mapping_depth=1, kernels=[3, 1]
    ),
    "stylegan3": lambda: stylegan3.Generator(
        resolution=16, widths=[6, 5, 7, 8], num_layers=3, num_frequencies=9, z_dim=8, w_dim=8, num_classes=2
    ),
    "stylegan3_r": lambda: stylegan3.Generator(
        resolution=16, widths=[6, 5, 7, 8], num_layers=3, kernel=1, radial=True, z_dim=8, w_dim=8
    ),
    "ddpm": lambda: UNet(
        resolution=8, level_widths=[8, 16, 16], blocks_per_level=1, attention_levels=[1], norm_groups=2
    ).double(),
    "ddpm_pruned": lambda: UNet(
        resolution=8,
        level_widths=[12, 12],
        blocks_per_level=1,
        attention_levels=[1],
        norm_groups=2,
        head_width=6,
        down_padding=1,
        widths={"conv_in": 8, "mid_block.attentions.0.to_q": 8, "up_blocks.0.resnets.0.conv2": 8},
    ).double(),
    "resnet_instance": lambda: translation_resnet.ResNet(
        resolution=16, width=4, num_blocks=2, widths={"trunk": 7, "blocks.1.inner": 5}
    ).double(),
    "resnet_batch": lambda: translation_resnet.ResNet(resolution=16, width=4, num_blocks=1, norm="batch").double(),
    "unet_batch": lambda: translation_unet.UNet(
        width=3, num_levels=5, widths={"down3": 5, "up4": 7, "up2": 2}
    ).double(),
    "unet_instance": lambda: translation_unet.UNet(width=3, num_levels=5, resolution=64, norm="instance").double(),
    "stargan": lambda: stargan.Generator(resolution=8, num_classes=2, width=4, num_blocks=2).double(),
    "dcgan": lambda: dcgan.Generator(resolution=16, width=9, z_dim=6, widths={"map4": 7}).double(),
    "sngan": lambda: residual_generator.sngan(16, 6, z_dim=5, widths={"inner8": 4, "map16": 5}).double(),
    "gfmn": lambda: residual_generator.gfmn(16, 3, z_dim=5).double(),
    "srgan": lambda: srgan.Generator(resolution=16, width=5, num_blocks=2, output="tanh", bias=True).double(),
}
# Largest relative change by rounding, smallest one by an error; among residual sums a single layer weighs little.
LIMITS = {torch.float32: (1e-5, 1e-3), torch.float64: (1e-12, 1e-6)}
# What adds the same to all logits of a query, softmax does not see; nor instance norm what adds the same to all pixels.
UNSEEN = {
    "ddpm": (".to_k.bias",),
    "ddpm_pruned": (".to_k.bias",),
    "resnet_instance": (".conv.bias",),
    "unet_instance": tuple(f"{layer}.conv.bias" for layer in ("down.2", "down.3", "down.4", *"5432")),
    "stargan": (".running_mean", ".running_var"),  # carried along, see the module
}


def limits(network):
    return LIMITS[next(network.parameters()).dtype]


def noisy(network):
    """All parameters and buffers random, so that no channel equals another anywhere."""
    channels = {axis.parameter for group in network.channel_groups() for axis in group.axes}
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith(network.measured_buffers) and name not in channels:
                continue  # positive
            # Small enough that residual sums do not drown what a single layer adds.
            if tensor.is_floating_point():
                tensor.copy_(torch.randn_like(tensor) * (0.2 if tensor.dtype == torch.float64 else 1.0))
            if name.endswith("running_var"):
                tensor.abs_().add_(0.1)
    return network.eval()


def deranged(size):
    """A random order in which nothing stays in place."""
    while True:
        order = torch.randperm(size)
        if not (order == torch.arange(size)).any():
            return order


def permute(network, groups):
    """Exchange the channels of each group inside its runs of exchangeable ones, at random, in place."""
    state = network.state_dict()
    for group in groups:
        runs = range(0, group.size, group.run_length)
        order = torch.cat([deranged(group.run_length) + start for start in runs])
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
    drawn = {
        k: torch.randn(v.shape, generator=noise, dtype=v.dtype) for k, v in inputs.items() if v.is_floating_point()
    }
    with torch.no_grad():
        return network(**(inputs | drawn))


def changed_by_permuting(network, groups):
    """Largest change of the output, relative to its largest value; the network is left as it was."""
    before, state = output(network), copy.deepcopy(network.state_dict())
    after = output(permute(network, groups))
    network.load_state_dict(state)
    return ((after - before).abs().max() / before.abs().max()).item()


@pytest.mark.parametrize("name", NETWORKS)
def test_permuted_channels_give_the_same_output(name):
    network = noisy(NETWORKS[name]())
    assert changed_by_permuting(network, network.channel_groups()) < limits(network)[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_forgotten_axis_is_found(name):
    network = noisy(NETWORKS[name]())
    for group in network.channel_groups():
        for axis in (axis for axis in group.axes if not axis.parameter.endswith(UNSEEN.get(name, ()))):
            others = replace(group, axes=tuple(other for other in group.axes if other != axis))
            assert changed_by_permuting(network, [others]) > limits(network)[1], (group.name, axis)


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
    first = next(group for group in network.channel_groups() if group.norm_groups == 1)
    smaller = network.resized({first.name: 3})
    sizes = {group.name: group.size for group in network.channel_groups()}
    assert {group.name: group.size for group in smaller.channel_groups()} == sizes | {first.name: 3}
