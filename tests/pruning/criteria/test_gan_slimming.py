"""Style scalars as scores, and the sparse network that is cut in the teacher's place."""

import pytest
import torch

import limbeck
from limbeck.architectures.stylegan2 import Generator
from limbeck.errors import UserError
from limbeck.model import Model, save
from limbeck.pruning.criteria.gan_slimming import GanSlimming
from limbeck.pruning.scoring import scored


def model(seed=0, widths=(6, 5, 6, 7, 5, 4)):
    torch.manual_seed(seed)
    return Model(Generator(resolution=16, widths=list(widths), z_dim=8, w_dim=8, mapping_depth=1).eval())


def test_scores_are_mean_magnitudes_of_the_readers_styles():
    subject = model()
    synthesis = subject.generator.synthesis
    for affine, weight in ((synthesis.b8.conv0.affine, 2.0), (synthesis.b16.torgb.affine, -3.0)):
        affine.weight.data.zero_()
        affine.bias.data.copy_(weight * torch.arange(len(affine.bias)))
    scores = scored(GanSlimming(num_samples=7, batch_size=3), subject)
    torch.testing.assert_close(scores["b4.conv1"], 2.0 * torch.arange(5).double())
    torch.testing.assert_close(scores["b16.conv1"], 1.5 * torch.arange(4).double())  # ToRGB's gain is 1 / sqrt(4)


def test_batches_do_not_matter():
    one, other = (scored(GanSlimming(num_samples=8, batch_size=size), model()) for size in (8, 3))
    assert one["const"].mean() > 0
    assert one["const"].shape == other["const"].shape


def test_the_sparse_network_is_scored_and_cut(tmp_path):
    teacher, sparse = model(0), model(1)
    path = save(sparse, tmp_path / "student.safetensors")
    criterion = GanSlimming(sparse=str(path), num_samples=4, batch_size=2)
    student = limbeck.prune(teacher, criterion, ratio=0.5).generator
    expected = limbeck.prune(sparse, GanSlimming(num_samples=4, batch_size=2), ratio=0.5).generator
    for a, b in zip(student.state_dict().values(), expected.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UserError, match=r"pruning.criterion.sparse=nowhere.safetensors: no such file"):
        scored(GanSlimming(sparse="nowhere.safetensors"), model())
    path = save(model(widths=(6, 5, 6, 7, 5, 5)), tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"another shape than the teacher"):
        scored(GanSlimming(sparse=str(path)), model())
    with pytest.raises(UserError, match="batch_size=0"):
        scored(GanSlimming(batch_size=0), model())
