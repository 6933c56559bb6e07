"""Maps inside the networks, for the losses that compare them."""

import pytest
import torch

from limbeck.architectures.stylegan2 import Discriminator, Generator


@pytest.fixture
def generator():
    return Generator(resolution=32, widths=[8, 8, 8, 8, 6, 6, 4, 4], z_dim=8, w_dim=8, mapping_depth=2)


@pytest.fixture
def judge():
    return Discriminator(resolution=32, widths=[4, 6, 8, 8])


def test_features_alone_are_those_of_the_whole_pass(generator):
    style = generator.mapping(torch.randn(3, 8))
    _, whole = generator.synthesis(style, return_features=(4, 8, 32))
    alone = generator.synthesis.features(style, (4, 8, 32))
    assert {r: tuple(x.shape) for r, x in alone.items()} == {4: (3, 8, 4, 4), 8: (3, 8, 8, 8), 32: (3, 4, 32, 32)}
    for r, value in whole.items():
        assert torch.equal(alone[r], value)


def test_features_run_no_rgb_and_no_later_block(generator, monkeypatch):
    style = generator.mapping(torch.randn(1, 8))
    for block in (generator.synthesis.b4, generator.synthesis.b8):
        monkeypatch.setattr(block.torgb, "forward", None)
    monkeypatch.setattr(generator.synthesis, "b16", None)
    assert generator.synthesis.features(style, (8,)).keys() == {8}


def test_style_weights_lie_one_below_the_other(generator):
    block = generator.synthesis.b16
    weights = generator.synthesis.style_weights(16)
    assert torch.equal(weights, torch.cat([block.conv0.affine.weight, block.conv1.affine.weight]))
    assert weights.shape == (8 + 6, 8)
    assert torch.equal(generator.synthesis.style_weights(4), generator.synthesis.b4.conv1.affine.weight)


def test_discriminator_features_lead_to_its_logits(judge):
    image = torch.randn(4, 3, 32, 32)
    found = judge.features(image, (16, 4))
    assert {r: tuple(x.shape) for r, x in found.items()} == {16: (4, 6, 16, 16), 4: (4, 8, 4, 4)}
    torch.testing.assert_close(judge.b16(found[16], None), judge.features(image, (8,))[8])
    torch.testing.assert_close(judge.b4(found[4], None).squeeze(1), judge(image))


def test_discriminator_features_stop_where_nobody_reads_on(judge, monkeypatch):
    for block in (judge.b8, judge.b4):
        monkeypatch.setattr(block, "forward", None)
    judge.features(torch.randn(2, 3, 32, 32), (16, 8))
