"""Which time steps count: the released cut-off on losses made up, and on a network."""

import pytest
import torch

import limbeck
from limbeck.architectures.ddpm import UNet
from limbeck.configured import configured
from limbeck.errors import UserError
from limbeck.pruning.criteria.diff_pruning import DiffPruning
from limbeck.pruning.criteria.taylor import Taylor
from limbeck.pruning.scoring import scored, worked

from ..shared_scoring import Scripted
from .image_sources import InMemory


def counted(losses, **settings):
    """Indices of the steps that count."""
    subject = limbeck.Model(UNet(resolution=2, level_widths=[2], norm_groups=1, attention_levels=[]))
    criterion = DiffPruning(Scripted(losses), **settings)
    total = int(scored(criterion, subject)["w"].item())
    return [step for step in range(len(losses)) if total >> step & 1]


def test_the_first_small_loss_ends_it():
    assert counted([10.0, 8.0, 0.4, 9.0], threshold=0.05) == [0, 1]
    assert counted([10.0, 8.0, 0.4, 9.0], threshold=0.05, include_last=True) == [0, 1, 2]


def test_the_maximum_is_a_running_one():
    assert counted([1.0, 0.5, 100.0, 6.0, 4.0], threshold=0.05) == [0, 1, 2, 3]
    assert counted([1.0, 100.0, 4.9, 100.0], threshold=0.05) == [0, 1]


def test_equality_counts_and_zero_keeps_all():
    assert counted([10.0, 5.0, 4.0], threshold=0.5) == [0, 1]
    assert counted([10.0, 0.0, 5.0], threshold=0) == [0, 1, 2]
    assert counted([3.0] * 9, threshold=1) == list(range(9))


@pytest.mark.parametrize("threshold", [-0.1, 1.5])
def test_impossible_thresholds(threshold):
    with pytest.raises(UserError, match=r"threshold=.*must lie in \[0, 1\]"):
        counted([1.0], threshold=threshold)


def test_on_a_network_without_threshold_it_is_taylor(tmp_path):
    network = UNet(resolution=8, level_widths=[8, 8], blocks_per_level=1, norm_groups=4, num_train_steps=6)
    subject = limbeck.Model(network)
    taylor = Taylor(InMemory(8), batch_size=4, num_train_steps=6)
    plain = scored(taylor, subject)
    kept = scored(DiffPruning(taylor, threshold=0.0), subject, path=tmp_path / "a.safetensors")
    again = scored(DiffPruning(taylor, threshold=0.0), subject, path=tmp_path / "a.safetensors")
    for name in plain:
        assert torch.equal(kept[name], plain[name])
        assert torch.equal(again[name], plain[name])
    fewer = worked(DiffPruning(taylor, threshold=0.9999), subject)
    assert 1 <= fewer["measures"].count_nonzero() < 6
    assert limbeck.prune(subject, DiffPruning(taylor), ratio=0.5).history[-1]["criterion"] == "diff_pruning"


def test_published_defaults():
    criterion = configured("pruning", "diff_pruning").criterion
    assert (criterion.threshold, criterion.num_steps, criterion.taylor.batch_size) == (0.05, 1000, 128)
