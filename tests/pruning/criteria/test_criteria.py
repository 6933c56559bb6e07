"""Scores by hand and by their laws."""

import pytest
import torch

from limbeck.architectures.stylegan2 import Generator
from limbeck.errors import UserError
from limbeck.model import Model
from limbeck.pruning.criteria.l1 import L1, absolute_sum
from limbeck.pruning.criteria.random import Random
from limbeck.pruning.scoring import scored


def small_model():
    return Model(Generator(resolution=8, widths=[4, 5, 6, 7], z_dim=4, w_dim=4, mapping_depth=1))


def test_absolute_sum_by_hand():
    weight = torch.tensor([[1.0, -2.0], [3.0, -4.0]])
    assert absolute_sum(weight, 0).tolist() == [3.0, 7.0]
    assert absolute_sum(weight, 1).tolist() == [4.0, 6.0]


@pytest.mark.parametrize("criterion", [L1(), L1(role="output"), Random(seed=3)])
def test_one_score_per_channel_of_every_group(criterion):
    model = small_model()
    before = {name: value.clone() for name, value in model.generator.state_dict().items()}
    scores = scored(criterion, model)
    assert {name: tuple(score.shape) for name, score in scores.items()} == {
        group.name: (group.size,) for group in model.generator.channel_groups()
    }
    assert all(torch.equal(before[name], value) for name, value in model.generator.state_dict().items())


def test_l1_of_readers_and_producers():
    model = small_model()
    synthesis = model.generator.synthesis
    readers = synthesis.b8.conv0.weight.abs().sum(dim=(0, 2, 3)) + synthesis.b4.torgb.weight.abs().sum(dim=(0, 2, 3))
    torch.testing.assert_close(scored(L1(), model)["b4.conv1"], readers.detach())
    producers = synthesis.b4.conv1.weight.abs().sum(dim=(1, 2, 3))
    torch.testing.assert_close(scored(L1(role="output"), model)["b4.conv1"], producers.detach())
    constant = synthesis.b4.const.abs().sum(dim=(1, 2))
    torch.testing.assert_close(scored(L1(role="output"), model)["const"], constant.detach())
    last = synthesis.b8.torgb.weight.abs().sum(dim=(0, 2, 3))
    torch.testing.assert_close(scored(L1(), model)["b8.conv1"], last.detach())


def test_unknown_role():
    with pytest.raises(UserError, match="role='sideways'"):
        scored(L1(role="sideways"), small_model())


def test_random_scores_follow_the_seed_alone():
    model = small_model()
    first = scored(Random(seed=1), model)
    torch.manual_seed(99)
    again, other = scored(Random(seed=1), model), scored(Random(seed=2), model)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["const"], other["const"])
