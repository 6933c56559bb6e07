"""Generators that draw straight from a latent, and DCGAN's discriminator: sizes, modes, slimming, files."""

import pytest
import torch

import limbeck
from limbeck.architectures import dcgan, residual_generator
from limbeck.errors import UserError
from limbeck.model import Model
from limbeck.pruning.slimming import slim

TINY = {
    "dcgan": lambda: dcgan.Generator(resolution=16, width=6, z_dim=5),
    "sngan": lambda: residual_generator.sngan(16, 6, z_dim=5),
    "gfmn": lambda: residual_generator.gfmn(16, 4, z_dim=5),
}
# (parameters, MACs) whole and with half of every group; weights and biases that masks may cover. Counted elsewhere.
COUNTS = {
    "dcgan": (lambda: dcgan.Generator(), (3_576_704, 104_628_224), (1_100_224, 27_148_288), (3_574_784, 0)),
    "dcgan_1": (
        lambda: dcgan.Generator(num_channels=1),
        (3_574_656, 102_531_072),
        (1_099_200, 26_099_712),
        (3_572_736, 0),
    ),
    "sngan_64": (residual_generator.sngan, (5_523_715, 6_802_636_800), (1_516_675, 1_707_868_160), (5_511_936, 7_171)),
    "gfmn_64": (residual_generator.gfmn, (12_204_291, 1_854_668_800), (3_577_987, 465_960_960), (12_195_520, 2_883)),
    "gfmn_64_z100": (lambda: residual_generator.gfmn(z_dim=100), None, None, (11_736_768, 2_883)),
    "gfmn_32": (lambda: residual_generator.gfmn(32), None, None, (3_544_768, 1_347)),
}


def filled(network):
    """Weights and statistics at random, large enough that every channel matters."""
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                value.normal_(0, 0.3)
                value.add_(1) if name.endswith(("norm.weight", "norm1.weight", "norm2.weight")) else None
                value.abs_().add_(0.5) if name.endswith("running_var") else None
    return network.eval()


@pytest.mark.parametrize("name", COUNTS)
def test_published_counts_to_the_unit(name):
    make, whole, half, masked = COUNTS[name]
    with torch.device("meta"):
        network = make()
        halved = network.resized({group.name: -(-group.size // 2) for group in network.channel_groups()})
    for one, expected in ((network, whole), (halved, half)):
        if expected is not None:
            found = limbeck.profile(one)
            assert (found.num_parameters, found.macs) == expected
    layers = network.maskable()
    assert sum(network.get_parameter(layer.weight).numel() for layer in layers) == masked[0]
    assert sum(network.get_parameter(layer.bias).numel() for layer in layers if layer.bias) == masked[1]


@pytest.mark.parametrize(("changes", "count"), [({}, 2_765_568), ({"num_channels": 1, "resolution": 32}, 661_248)])
def test_the_discriminator_gives_one_logit_an_image(changes, count):
    judge = dcgan.Discriminator(**changes)
    image = torch.rand(3, judge.num_channels, judge.resolution, judge.resolution)
    assert limbeck.profile(judge).num_parameters == count
    assert judge(image).shape == (3,)
    judge.layers[-1].conv.weight.data.mul_(1e4)
    assert judge(image).abs().max() > 1  # no sigmoid
    with pytest.raises(UserError, match=r"image: \(8, 8\) pixels"):
        judge(torch.rand(3, judge.num_channels, 8, 8))


@pytest.mark.parametrize("name", TINY)
def test_stored_statistics_are_used_in_evaluation_and_moved_in_training(name):
    network, latent = filled(TINY[name]()).double(), torch.randn(4, 5).double()
    before = {k: v.clone() for k, v in network.state_dict().items() if "running" in k}
    together, alone = network(latent), network(latent[:1])
    torch.testing.assert_close(together[:1], alone)
    assert all(torch.equal(value, network.state_dict()[k]) for k, value in before.items())
    network.train()
    assert not torch.allclose(network(latent)[:1], alone, atol=1e-3)
    assert all(not torch.equal(value, network.state_dict()[k]) for k, value in before.items())


@pytest.mark.parametrize("name", TINY)
def test_a_slimmed_network_is_the_masked_one(name):
    """Every second channel unread: its readers are zero."""
    network, keep = filled(TINY[name]()).double(), {}
    state = network.state_dict()
    for group in network.channel_groups():
        keep[group.name] = torch.arange(0, group.size, 2)
        for axis in group.axes:
            if axis.role == "input":
                assert (axis.offset, axis.repeat) == (0, 1)
                state[axis.parameter].transpose(0, axis.dim)[1::2] = 0
    small, latent = slim(network, keep), torch.randn(3, 5).double()
    torch.testing.assert_close(small(latent), network(latent), rtol=1e-10, atol=1e-10)
    assert small(latent).std() > 0.1


@pytest.mark.parametrize("name", TINY)
def test_a_native_file_keeps_images_statistics_and_widths(name, tmp_path):
    network = filled(TINY[name]())
    small = limbeck.prune(Model(network), "l1", ratio=0.4)
    again = limbeck.load(limbeck.save(small, tmp_path / "model.safetensors"))
    assert torch.equal(limbeck.sample(again, 3), limbeck.sample(small, 3))
    assert again.generator.arguments == small.generator.arguments
    assert limbeck.sample(again, 3).shape == (3, 3, 16, 16)


@pytest.mark.parametrize("name", TINY)
def test_wrong_latents_and_sizes_are_refused(name):
    network = TINY[name]()
    with pytest.raises(UserError, match=r"latent: shape \(2, 6\), expected \[n, 5\]"):
        network(torch.randn(2, 6))
    for resolution in (4, 48):
        with pytest.raises(UserError, match=f"resolution={resolution}: must be a power of two, at least 8"):
            type(network)(resolution=resolution)
    with pytest.raises(UserError, match="no such channel group; groups: map4, "):
        type(network)(widths={"map5": 3})
