import pytest
import torch

from limbeck.architectures.gated import GatedDiscriminator
from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.errors import UserError
from limbeck.model import Model, load_native, save


@pytest.fixture
def judge():
    return GatedDiscriminator(resolution=16, widths=[4, 6, 8], group_size=1)


def test_open_gates_are_the_plain_discriminator(judge):
    plain = Discriminator(**judge.arguments)
    plain.load_state_dict(judge.network.state_dict())
    image = torch.randn(3, 3, 16, 16)
    assert torch.equal(judge(image), plain(image))
    assert {size: len(mask) for size, mask in judge.masks().items()} == {8: 6, 4: 8}


def test_a_closed_channel_passes_nothing_on(judge):
    image = torch.randn(3, 3, 16, 16)
    judge.mask_8[2] = 0
    assert judge.features(image, (8,))[8][:, 2].abs().max() == 0
    before = judge(image)
    with torch.no_grad():
        for layer in (judge.network.b8.conv0, judge.network.b8.skip):
            layer.weight[:, 2] += 1.0  # what reads the closed channel
    assert torch.equal(judge(image), before)


def test_given_masks_replace_the_stored_ones(judge):
    image = torch.randn(2, 3, 16, 16)
    masks = {8: torch.rand(6), 4: torch.rand(8)}
    given = judge(image, masks=masks)
    judge.mask_8.copy_(masks[8])
    judge.mask_4.copy_(masks[4])
    assert torch.equal(judge(image), given)


def test_masks_are_saved_with_the_weights(judge, tmp_path):
    judge.mask_4[:3] = 0
    generator = Generator(resolution=16, widths=[4] * 6, z_dim=4, w_dim=4, mapping_depth=1)
    save(Model(generator, judge), tmp_path / "model.safetensors")
    loaded = load_native(tmp_path / "model.safetensors").discriminator
    image = torch.randn(2, 3, 16, 16)
    assert torch.equal(loaded(image), judge(image))


def test_cannot_be_thinned(judge):
    assert judge.channel_groups() == ()
    assert judge.resized({}).arguments == judge.arguments
    with pytest.raises(UserError, match="no channel groups"):
        judge.resized({"b8": 3})
