import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from limbeck.functional.ssim import gaussian_window, ssim


def images(seed=0, size=16):
    source = torch.Generator().manual_seed(seed)
    a = torch.rand(3, 3, size, size, generator=source) * 2 - 1
    return a, (a + 0.3 * torch.randn(a.shape, generator=source)).clamp(-1, 1)


def test_equal_images_give_one_and_the_order_does_not_matter():
    a, b = images()
    torch.testing.assert_close(ssim(a, a), torch.ones(3))
    torch.testing.assert_close(ssim(a, b), ssim(b, a))
    assert bool((ssim(a, b) < 0.99).all())
    negative = ssim(a, -a)
    assert bool((negative < 0).all())


def test_constant_images_by_hand():
    a, b = torch.full((1, 1, 11, 11), -1.0), torch.full((1, 1, 11, 11), 1.0)  # 0 and 1 after taking them to [0, 1]
    assert ssim(a, b).item() == pytest.approx(0.01**2 / (1 + 0.01**2), rel=1e-4)


def slow(a: np.ndarray, b: np.ndarray) -> float:
    """One channel: scipy's filter cut off after 5 pixels, the border that sees outside the image left out."""

    def mean(x):
        return gaussian_filter(x, 1.5, radius=5)[5:-5, 5:-5]

    a, b = (a.astype(np.float64) + 1) / 2, (b.astype(np.float64) + 1) / 2
    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    found = (2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
    return float(found.mean())


def test_channel_by_channel_with_scipys_filter():
    a, b = images(1, 20)
    found = ssim(a, b).tolist()
    for index, value in enumerate(found):
        channels = [slow(a[index, channel].numpy(), b[index, channel].numpy()) for channel in range(3)]
        assert value == pytest.approx(np.mean(channels), abs=1e-5)


def test_window_adds_up_and_is_symmetric():
    window = gaussian_window()
    assert window.sum().item() == pytest.approx(1)
    assert torch.equal(window, window.flip(0))
    assert (window[5] / window[4]).item() == pytest.approx(np.exp(1 / (2 * 1.5**2)), rel=1e-5)


def test_images_smaller_than_the_window_are_refused():
    with pytest.raises(ValueError, match="at least 11 x 11"):
        ssim(torch.zeros(1, 3, 8, 16), torch.zeros(1, 3, 8, 16))
