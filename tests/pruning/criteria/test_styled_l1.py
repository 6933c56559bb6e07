"""The norm of modulated weights against the weights themselves, written out."""

import pytest
import torch

import limbeck
from limbeck.architectures.stylegan2 import Generator
from limbeck.errors import UserError
from limbeck.model import Model
from limbeck.pruning.criteria.styled_l1 import StyledL1, styled_norm
from limbeck.pruning.scoring import scored


def model():
    torch.manual_seed(0)
    return Model(Generator(resolution=16, widths=[6, 5, 6, 7, 5, 4], z_dim=8, w_dim=8, mapping_depth=1).eval())


def test_norm_by_hand():
    weight = torch.tensor([[1.0, -2.0]])[:, :, None, None]  # one output, two inputs
    scale, factor = torch.tensor([[1.0, -1.0], [3.0, 1.0]]), torch.tensor([[2.0], [4.0]])
    # |w s d|: first style 2, 4; second 12, 8.
    assert styled_norm(weight, scale, factor, dim=1).tolist() == [7.0, 6.0]
    assert styled_norm(weight, scale, factor, dim=0).tolist() == [13.0]
    assert styled_norm(weight, scale, None, dim=0).tolist() == [4.0]


def test_scores_are_norms_of_the_weights_of_every_style():
    subject = model()
    synthesis = subject.generator.synthesis
    latent = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    style = subject.generator.mapping(latent)
    reads, gives, last = [], [], []
    for w in style:
        for layer, found, dims in ((synthesis.b8.conv0, reads, (0, 2, 3)), (synthesis.b4.conv1, gives, (1, 2, 3))):
            weight = layer.weight * layer.affine(w[None])[:, :, None, None]
            weight = weight * (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).rsqrt()
            found.append(weight.abs().sum(dim=dims))
        torgb = synthesis.b16.torgb
        last.append((torgb.weight[:, :, 0, 0] * torgb.affine(w[None]) / 2).abs().sum(dim=0))  # 1 / sqrt(4 inputs)
    outgoing, incoming = (scored(StyledL1(role=role, num_samples=20), subject) for role in ("input", "output"))
    torch.testing.assert_close(outgoing["b4.conv1"].float(), torch.stack(reads).mean(0))
    torch.testing.assert_close(outgoing["b16.conv1"].float(), torch.stack(last).mean(0))
    torch.testing.assert_close(incoming["b4.conv1"].float(), torch.stack(gives).mean(0))
    torch.testing.assert_close(incoming["const"].float(), synthesis.b4.const.abs().sum(dim=(1, 2)))


@pytest.mark.parametrize("name", ["l1_in", "l1_out"])
def test_by_name(name):
    student = limbeck.prune(model(), name, ratio=0.5)
    assert student.history[-1]["criterion"] == "styled_l1"
    assert student.generator.arguments["widths"] == [3, 3, 3, 4, 3, 2]


def test_mistakes_are_named():
    with pytest.raises(UserError, match="role='up'"):
        scored(StyledL1(role="up"), model())
    with pytest.raises(UserError, match="num_samples=0"):
        scored(StyledL1(num_samples=0), model())
