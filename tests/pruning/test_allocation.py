"""How many channels stay, and which."""

import pytest
import torch

from limbeck.architectures.base import ChannelGroup
from limbeck.architectures.stylegan2 import Generator
from limbeck.errors import UserError
from limbeck.pruning.allocation import (
    Global,
    PerGroup,
    Uniform,
    allocated,
    checked_ratio,
    kept_count,
    kept_indices,
    normalized,
    rounded_count,
)


@pytest.mark.parametrize(
    ("ratio", "kept"),
    [
        (0.7, {512: 154, 256: 77, 128: 39, 64: 20, 32: 10}),
        (0.8, {512: 103, 256: 52, 128: 26, 64: 13, 32: 7}),
        (0.9, {512: 52, 10: 1, 100: 10, 1000: 100}),
        (0.5, {512: 256, 7: 4}),
        (0, {512: 512, 1: 1}),
        (0.999, {512: 1}),
    ],
)
def test_published_counts(ratio, kept):
    assert {size: kept_count(size, ratio) for size in kept} == kept


def test_counts_are_exact_where_binary_arithmetic_is_not():
    # In binary, (1 - 0.9) * 10 is 0.9999999999999998 and (1 - 0.7) * 10 is 3.0000000000000004.
    assert (kept_count(10, 0.9), kept_count(10, 0.7), kept_count(10, 0.8)) == (1, 3, 2)


@pytest.mark.parametrize("ratio", [-0.1, 1, 1.5, float("nan"), True])
def test_impossible_ratios(ratio):
    with pytest.raises(UserError, match=r"pruning.ratio=.*\[0, 1\)"):
        checked_ratio(ratio)


def test_text_is_no_ratio():
    with pytest.raises(UserError, match=r"pruning\.ratio=half"):
        checked_ratio("half")


@pytest.mark.parametrize(("round_to", "count"), [(1, 154), (8, 160), (16, 160), (32, 160), (100, 200), (1000, 512)])
def test_rounding_up_to_a_multiple(round_to, count):
    assert rounded_count(154, ChannelGroup("a", 512, ()), round_to) == count


def test_rounding_respects_normalization_groups():
    assert rounded_count(154, ChannelGroup("a", 512, (), norm_groups=32)) == 160
    assert rounded_count(154, ChannelGroup("a", 512, (), norm_groups=32), round_to=24) == 192


def test_best_scores_stay_in_order():
    assert kept_indices(torch.tensor([0.1, 5.0, 3.0, 4.0]), 2).tolist() == [1, 3]
    assert kept_indices(torch.tensor([1.0, 1.0, 1.0, 1.0]), 2).tolist() == [0, 1]
    assert kept_indices(torch.tensor([9.0, 8.0, 7.0, 1.0, 2.0, 3.0]), 2, norm_groups=2).tolist() == [0, 5]


def test_allocated_refuses_what_cannot_be_ranked():
    network = Generator(resolution=4, widths=[4, 4], z_dim=4, w_dim=4, mapping_depth=1)
    scores = {"const": torch.ones(4), "b4.conv1": torch.arange(4.0)}
    keep = allocated(network, scores, Uniform(), ratio=0.5)
    assert {name: indices.tolist() for name, indices in keep.items()} == {"const": [0, 1], "b4.conv1": [2, 3]}
    for bad in (torch.ones(3), torch.tensor([1.0, 2.0, float("nan"), 4.0])):
        with pytest.raises(UserError, match=r"scores of group 'b4.conv1': expected 4 finite"):
            allocated(network, scores | {"b4.conv1": bad}, Uniform(), ratio=0.5)
    with pytest.raises(UserError, match="round_to=0"):
        allocated(network, scores, Uniform(), ratio=0.5, round_to=0)


def network_and_scores():
    network = Generator(resolution=8, widths=[4, 8, 4, 4], z_dim=4, w_dim=4, mapping_depth=1)
    scores = {
        "const": torch.tensor([1.0, 2.0, 3.0, 4.0]),
        "b4.conv1": torch.tensor([10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0]),
        "b8.conv0": torch.tensor([0.1, 0.1, 0.1, 0.9]),
        "b8.conv1": torch.zeros(4),
    }
    return network, scores


def test_global_ranking_by_hand():
    network, scores = network_and_scores()
    # As they are, the eight of b4.conv1 and the two best of const are the best ten; one of each other group must stay.
    counts = Global(normalize="none")(network, scores, 0.4)
    assert counts == {"const": 2, "b4.conv1": 8, "b8.conv0": 1, "b8.conv1": 1}
    # Divided by the mean: const .4 .8 1.2 1.6, conv1 .22 ... 1.78, conv0 .33 .33 .33 3; seven of twenty stay.
    assert Global(normalize="mean")(network, scores, 0.65) == {
        "const": 2,
        "b4.conv1": 3,
        "b8.conv0": 1,
        "b8.conv1": 1,
    }


def test_global_ranking_keeps_the_stated_share_in_all_and_of_each():
    network, scores = network_and_scores()
    for ratio in (0.0, 0.25, 0.5, 0.75):
        assert sum(Global()(network, scores, ratio).values()) == kept_count(20, ratio)
    assert Global(min_share=0.5)(network, scores, 0.99) == {"const": 2, "b4.conv1": 4, "b8.conv0": 2, "b8.conv1": 2}


def test_normalized_by_hand():
    scores = torch.tensor([1.0, 3.0])
    assert normalized(scores, "mean").tolist() == [0.5, 1.5]
    assert normalized(scores, "max").tolist() == [1 / torch.tensor(3.0), 1.0]
    assert normalized(scores, "none").tolist() == [1.0, 3.0]
    assert normalized(torch.zeros(2), "mean").tolist() == [0.0, 0.0]
    with pytest.raises(UserError, match=r"allocation.normalize='sum'"):
        normalized(scores, "sum")
    with pytest.raises(UserError, match=r"allocation.min_share=0"):
        Global(min_share=0)(*network_and_scores(), 0.5)


def test_a_ratio_for_every_group():
    network, scores = network_and_scores()
    counts = PerGroup(ratios=[0.5, 0.75, 0.0, 0.9])(network, scores, 0.7)
    assert counts == {"const": 2, "b4.conv1": 2, "b8.conv0": 4, "b8.conv1": 1}
    with pytest.raises(UserError, match=r"allocation.ratios: 2 numbers for 4 groups"):
        PerGroup(ratios=[0.5, 0.5])(network, scores, 0.7)
    with pytest.raises(UserError, match=r"allocation.ratios=1"):
        PerGroup(ratios=[0.5, 1, 0, 0])(network, scores, 0.7)
