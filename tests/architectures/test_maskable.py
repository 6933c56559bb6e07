"""Declared maskable layers, and that channels which masks silence can leave, for every family."""

import pytest
import torch

import limbeck
from limbeck.architectures import dcgan, residual_generator, stargan, translation_resnet, translation_unet
from limbeck.functional.sparsity import num_kept
from limbeck.model import Model
from limbeck.pruning.settling import settled

from .test_channel_groups import NETWORKS, limits, noisy, output

MIXING = ("ddpm", "ddpm_pruned")  # group normalization over channels that leave and channels that stay


@pytest.mark.parametrize("name", NETWORKS)
def test_declared_layers_are_what_they_say(name):
    network = NETWORKS[name]()
    parameters, layers = dict(network.named_parameters()), network.maskable()
    assert len({layer.weight for layer in layers}) == len(layers) > 0
    assert {key for key, value in parameters.items() if value.ndim == 4} <= {layer.weight for layer in layers} | {
        "synthesis.b4.const"
    }
    produced = {
        (axis.parameter, axis.dim) for group in network.channel_groups() for axis in group.axes if axis.role == "output"
    }
    read = {
        (axis.parameter, axis.dim) for group in network.channel_groups() for axis in group.axes if axis.role == "input"
    }
    for layer in layers:
        weight = parameters[layer.weight]
        assert (
            layer.bias is None or parameters[layer.bias].shape == weight.shape[layer.output_dim : layer.output_dim + 1]
        )
        assert layer.oriented(weight).shape[:2] == (weight.shape[layer.output_dim], weight.shape[layer.input_dim])
        # Channel groups say on their own which axis is which.
        assert (layer.weight, layer.input_dim) not in produced
        assert (layer.weight, layer.output_dim) not in read
    assert [layer for layer in layers if (layer.weight, layer.output_dim) not in produced]  # the output layer


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in MIXING])
@torch.no_grad()
def test_silent_channels_leave_without_a_trace(name):
    torch.manual_seed(0)
    network = noisy(NETWORKS[name]())
    masked = limbeck.sparsify(Model(network), ratio=0.5, granularity="filter")
    slim = settled(masked)
    assert not slim.masks
    before, after = output(masked.generator), output(slim.generator)
    assert (before - output(network)).abs().max() > 0.01 * before.abs().max()
    sizes = {group.name: group.size for group in slim.generator.channel_groups()}
    halves = {group.name: -(-group.size // 2) for group in network.channel_groups()}
    assert sum(sizes[key] == half for key, half in halves.items()) >= len(halves) - 1  # a learned constant stays whole
    limit = 20 * limits(network)[0]
    torch.testing.assert_close(after, before, rtol=0, atol=float(limit * before.abs().max()))


@pytest.mark.parametrize(
    ("make", "weights", "halved"),
    [
        (lambda: dcgan.Generator(num_channels=1), 3_572_736, 1_786_368),
        (lambda: dcgan.Generator(), 3_574_784, 1_787_392),
        (lambda: translation_unet.UNet(), 54_404_096, 27_202_048),
        (lambda: translation_resnet.ResNet(), 11_372_928, 5_686_464),
        (lambda: stargan.Generator(resolution=128, num_classes=5), 8_423_104, 4_211_552),
    ],
    ids=["dcgan_1", "dcgan_3", "pix2pix", "cyclegan", "stargan"],
)
def test_published_generators_lose_half_of_their_weights(make, weights, halved):
    with torch.device("meta"):
        network = make()
    sizes = [network.get_parameter(layer.weight).numel() for layer in network.maskable()]
    assert sum(sizes) == weights
    assert sum(num_kept(size, 0.5) for size in sizes) == halved


@pytest.mark.parametrize(
    ("make", "weights", "kept"),
    [
        (lambda: residual_generator.sngan(), 5_511_936, 551_201),
        (lambda: residual_generator.gfmn(z_dim=128), 12_195_520, 1_219_559),
        (lambda: residual_generator.gfmn(z_dim=100), 11_736_768, 1_173_683),
        (lambda: residual_generator.gfmn(32, z_dim=128), 3_544_768, 354_482),
    ],
    ids=["sngan_64", "resnet_64", "resnet_64_z100", "resnet_32"],
)
def test_published_tickets_keep_a_tenth_of_each_layer(make, weights, kept):
    with torch.device("meta"):
        network = make()
    sizes = [network.get_parameter(layer.weight).numel() for layer in network.maskable()]
    assert sum(sizes) == weights
    assert sum(num_kept(size, 0.1) for size in sizes) == kept
