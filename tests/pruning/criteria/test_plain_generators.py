"""Criteria of widths on generators without styles: what needs weights or images alone works, the rest says why not."""

import pytest
import torch

import limbeck
from limbeck.architectures import dcgan, residual_generator, translation_unet
from limbeck.errors import UserError
from limbeck.masks.everything import Everything
from limbeck.model import Model
from limbeck.pruning.criteria.cagan import CAGAN
from limbeck.pruning.criteria.dcp import DCP
from limbeck.pruning.criteria.gan_slimming import GanSlimming
from limbeck.pruning.criteria.l1 import L1
from limbeck.pruning.criteria.random import Random
from limbeck.pruning.criteria.styled_l1 import StyledL1
from limbeck.pruning.scoring import scored

TINY = {
    "dcgan": lambda: dcgan.Generator(resolution=16, width=4, z_dim=5),
    "sngan": lambda: residual_generator.sngan(16, 6, z_dim=5),
    "gfmn": lambda: residual_generator.gfmn(16, 3, z_dim=5),
}
CRITERIA = {
    "random": Random(),
    "l1": L1(),
    "l1_in": StyledL1(role="output", num_samples=4),
    "l1_out": StyledL1(role="input", num_samples=4),
    "cagan": CAGAN(mask=Everything(), num_samples=4, batch_size=2),
    "dcp": DCP(num_samples=4, batch_size=2, num_pca=20),
    "gan_slimming": GanSlimming(num_samples=4, batch_size=2),
}


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_finds_channels_without_effect(criterion, name):
    """Half of every group is neither made nor read nor scaled: all but chance remove it; images do not change."""
    torch.manual_seed(1)
    network = TINY[name]().double().eval()
    state = network.state_dict()
    for group in network.channel_groups():
        for axis in group.axes:
            if not axis.parameter.endswith(("running_mean", "running_var")):
                state[axis.parameter].transpose(0, axis.dim)[
                    group.size // 2 * axis.repeat : group.size * axis.repeat
                ] = 0
    model = Model(network.float())
    small = limbeck.prune(model, CRITERIA[criterion], ratio=0.5)
    if criterion != "random":
        torch.testing.assert_close(limbeck.sample(small, 3), limbeck.sample(model, 3), rtol=1e-4, atol=2e-6)
    sizes = {group.name: group.size for group in small.generator.channel_groups()}
    assert sizes == {group.name: -(-group.size // 2) for group in network.channel_groups()}


def test_gan_slimming_ranks_by_the_scales_of_batch_norm():
    network = TINY["sngan"]()
    network.blocks[0].norm2.weight.data.copy_(torch.tensor([3.0, -5, 1, 0, 2, 4]))
    assert scored(GanSlimming(), Model(network))["inner8"].tolist() == [3, 5, 1, 0, 2, 4]


def test_what_cannot_rank_says_why():
    instance = translation_unet.UNet(width=3, num_levels=5, norm="instance")
    with pytest.raises(UserError, match=r"gan_slimming ranks by scales .* group 'down1' of this UNet has none"):
        scored(GanSlimming(), Model(instance))
    with pytest.raises(UserError, match="Generator is no denoiser"):
        limbeck.prune(Model(TINY["dcgan"]()), "taylor", ratio=0.5)
    with pytest.raises(UserError, match="needs a generator that draws from a latent vector, not UNet"):
        scored(DCP(num_samples=4), Model(instance))
