import pytest
import torch

from limbeck.functional.feature_distance import feature_distances, unit_channels


def test_unit_channels_by_hand():
    maps = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)
    assert torch.allclose(unit_channels(maps).flatten(), torch.tensor([0.6, 0.8]))


def test_orthogonal_opposite_and_equal_directions_by_hand():
    def image(*vector):
        return torch.tensor(vector).reshape(1, 2, 1, 1)

    a = torch.cat([image(2.0, 0.0)] * 3)
    b = torch.cat([image(0.0, 5.0), image(-1.0, 0.0), image(7.0, 0.0)])
    assert feature_distances([a], [b]).tolist() == pytest.approx([2, 4, 0], abs=1e-6)


def test_maps_add_up_and_pixels_average():
    a, b = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
    c, d = torch.randn(3, 6, 2, 2), torch.randn(3, 6, 2, 2)
    total = feature_distances([a, c], [b, d])
    assert torch.allclose(total, feature_distances([a], [b]) + feature_distances([c], [d]))
    doubled = [t.repeat(1, 1, 2, 2) for t in (a, b)]
    assert torch.allclose(feature_distances(doubled[:1], doubled[1:]), feature_distances([a], [b]), atol=1e-5)
