import pytest
import torch

from limbeck.losses.perceptual import feature_distance, unit_channels


def test_channels_have_length_one():
    torch.testing.assert_close(unit_channels(torch.randn(2, 5, 3, 3)).norm(dim=1), torch.ones(2, 3, 3))


def test_zero_at_equality_and_scale_free():
    maps = [torch.randn(2, 5, 4, 4), torch.randn(2, 7, 2, 2)]
    assert feature_distance(maps, maps).item() == 0
    assert feature_distance([3 * m for m in maps], maps).item() == pytest.approx(0, abs=1e-10)


def test_orthogonal_vectors_are_two_apart_in_each_map():
    a, b = torch.zeros(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)
    a[:, 0], b[:, 1] = 4.0, 0.5
    assert feature_distance([a, a], [b, b]).item() == pytest.approx(4.0)
