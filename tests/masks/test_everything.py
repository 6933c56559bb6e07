import torch

from limbeck.masks.everything import Everything


def test_every_pixel_counts():
    mask = Everything().load()(torch.randn(2, 3, 8, 4))
    assert mask.shape == (2, 1, 8, 4)
    assert mask.dtype == torch.bool
    assert mask.all()
