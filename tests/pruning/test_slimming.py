"""One function slims every network: keep-all is the identity, slimmed equals masked."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from limbeck.architectures.base import Axis, ChannelGroup
from limbeck.architectures.stylegan2 import Generator, StyledConvolution
from limbeck.pruning.slimming import slim


def noisy_generator(widths=(8, 10, 6, 8, 4, 6)):
    generator = Generator(resolution=16, widths=list(widths), z_dim=8, w_dim=8, mapping_depth=2).eval()
    with torch.no_grad():
        for tensor in generator.state_dict().values():
            tensor.copy_(torch.randn_like(tensor))
    return generator


def random_keep(network, share=0.5):
    return {
        group.name: torch.randperm(group.size)[: max(1, int(group.size * share))].sort().values
        for group in network.channel_groups()
    }


@torch.no_grad()
@pytest.mark.parametrize("correct_gain", [False, True])
def test_keeping_all_is_bit_identical(correct_gain):
    generator = noisy_generator()
    everything = {group.name: torch.arange(group.size) for group in generator.channel_groups()}
    latent = torch.randn(2, 8)
    for keep in (everything, {}):
        slimmed = slim(generator, keep, correct_gain=correct_gain)
        assert slimmed is not generator
        for (name, own), other in zip(slimmed.state_dict().items(), generator.state_dict().values(), strict=True):
            assert torch.equal(own, other), name
        assert torch.equal(slimmed(latent), generator(latent))


def masked(generator, keep):
    """The same generator with the removed channels' outputs forced to zero, independent of the declared groups."""
    names = ["const"] + [name.removeprefix("synthesis.") for name, _ in generator.layers()]
    assert names == list(keep)
    masks = [torch.zeros(group.size).index_fill(0, keep[group.name], 1.0) for group in generator.channel_groups()]
    generator.synthesis.b4.const.mul_(masks[0][:, None, None])
    for index, (_, layer) in enumerate(generator.layers()):
        layer.register_forward_hook(lambda _m, _i, out, mask=masks[index + 1]: out * mask[:, None, None])
        # Demodulation sums over all inputs, present or not: a removed input must not count.
        layer.weight.mul_(masks[index][None, :, None, None])
    return generator


@torch.no_grad()
def test_slimmed_equals_masked_after_gain_correction_only():
    generator = noisy_generator()
    keep = random_keep(generator)
    latent = torch.randn(4, 8)
    corrected, plain = slim(generator, keep, correct_gain=True), slim(generator, keep)
    expected = masked(generator, keep)(latent)
    torch.testing.assert_close(corrected(latent), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    assert (plain(latent) - expected).abs().max() > 0.05 * expected.abs().max()


def test_tensors_follow_the_kept_channels():
    generator = noisy_generator()
    keep = {"b4.conv1": torch.tensor([1, 4, 7])}
    slimmed = slim(generator, keep)
    old, new = generator.state_dict(), slimmed.state_dict()
    rows = torch.tensor([1, 4, 7])
    assert torch.equal(new["synthesis.b4.conv1.weight"], old["synthesis.b4.conv1.weight"][rows])
    assert torch.equal(new["synthesis.b4.conv1.bias"], old["synthesis.b4.conv1.bias"][rows])
    assert torch.equal(new["synthesis.b4.torgb.weight"], old["synthesis.b4.torgb.weight"][:, rows])
    assert torch.equal(new["synthesis.b8.conv0.weight"], old["synthesis.b8.conv0.weight"][:, rows])
    assert torch.equal(new["synthesis.b8.conv0.affine.bias"], old["synthesis.b8.conv0.affine.bias"][rows])
    assert torch.equal(new["synthesis.b8.conv0.bias"], old["synthesis.b8.conv0.bias"])
    assert slimmed.arguments["widths"] == [8, 3, 6, 8, 4, 6]


def test_slimmed_network_is_independent_and_trainable():
    generator = noisy_generator().requires_grad_(False)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    slimmed = slim(generator, {})
    assert all(parameter.requires_grad for parameter in slimmed.parameters())
    assert not slimmed.training
    with torch.no_grad():
        for tensor in slimmed.state_dict().values():
            tensor.add_(1)
    assert all(torch.equal(before[name], value) for name, value in generator.state_dict().items())
    layer = next(m for m in slimmed.modules() if isinstance(m, StyledConvolution))
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)


@dataclass
class Sizes:
    first: int
    second: int


class Joined(nn.Module):
    """Two groups concatenated on one input axis, the second with two entries per channel, after one fixed entry."""

    def __init__(self, sizes):
        super().__init__()
        self.sizes = sizes
        self.reader = nn.Linear(1 + sizes.first + 2 * sizes.second, 2, bias=False)

    def channel_groups(self):
        second = Axis("reader.weight", 1, "input", offset=1 + self.sizes.first, repeat=2)
        return (
            ChannelGroup("first", self.sizes.first, (Axis("reader.weight", 1, "input", offset=1, fan_in=True),)),
            ChannelGroup("second", self.sizes.second, (second,)),
        )

    def resized(self, sizes):
        return Joined(Sizes(sizes.get("first", self.sizes.first), sizes.get("second", self.sizes.second)))


def test_offsets_and_repeats_by_hand():
    network = Joined(Sizes(3, 2))
    keep = {"first": torch.tensor([0, 2]), "second": torch.tensor([1])}
    columns = torch.tensor([0, 1, 3, 6, 7])
    # Not a Network, on purpose: the function needs only groups, a state dict and `resized`.
    unchecked = getattr(slim, "__wrapped__", slim)
    assert torch.equal(unchecked(network, keep).reader.weight, network.reader.weight[:, columns])
    corrected = unchecked(network, keep, correct_gain=True).reader.weight
    torch.testing.assert_close(corrected, network.reader.weight[:, columns] * (5 / 8) ** 0.5)
