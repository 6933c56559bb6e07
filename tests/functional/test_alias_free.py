"""StyleGAN3's filters against SciPy's design, and the activation against zero insertion."""

import math

import pytest
import scipy.signal
import torch
import torch.nn.functional as F

from limbeck.functional.alias_free import (
    NARROW,
    filter_macs,
    filtered_leaky_relu,
    kaiser_beta,
    low_pass,
    radial_low_pass,
)

FIRST = {"cutoff": 2.0, "half_width": 6.0, "rate": 32}


def test_published_taps():
    expected = torch.tensor([0.000792, 0.010018, 0.038950, 0.092413, 0.156526, 0.201302])
    torch.testing.assert_close(low_pass(12, **FIRST)[:6], expected, atol=6e-7, rtol=0)
    radial = radial_low_pass(12, **FIRST)
    torch.testing.assert_close(radial[0, 0], torch.tensor(8.412e-7), atol=5e-11, rtol=0)
    torch.testing.assert_close(radial[5:7, 5:7], torch.full((2, 2), 0.0387549), atol=6e-8, rtol=0)


@pytest.mark.parametrize(("half_width", "rate", "num_taps"), [(4, 64, 24), (5.1716, 32, 12), (29.5865, 512, 12)])
def test_windows_are_scipy_s(half_width, rate, num_taps):
    attenuation = scipy.signal.kaiser_atten(num_taps, 2 * half_width / (rate / 2))
    assert kaiser_beta(num_taps, half_width, rate) == pytest.approx(scipy.signal.kaiser_beta(attenuation))
    expected = torch.tensor(scipy.signal.firwin(num_taps, 3.7, width=2 * half_width, fs=rate))
    found = low_pass(num_taps, cutoff=3.7, half_width=half_width, rate=rate).double()
    torch.testing.assert_close(found, expected, atol=3e-8, rtol=0)


def test_filters_are_symmetric_bit_for_bit_and_sum_to_one():
    separable, radial = low_pass(24, cutoff=5.0, half_width=3.0, rate=64), radial_low_pass(12, **FIRST)
    assert torch.equal(separable, separable.flip(0))
    for other in (radial.T, radial.flip(0), radial.flip(1)):
        assert torch.equal(radial, other)
    assert separable.double().sum() == pytest.approx(1, abs=1e-6)
    assert radial.double().sum() == pytest.approx(1, abs=1e-6)


def inserted(x, up_filter, down_filter, *, up, crop, clamp):
    """The same by zeros between the samples; the transposed convolution's full map is cropped by `crop`."""
    n, c, h, w = x.shape
    spread = torch.zeros(n * c, 1, (h - 1) * up + 1, (w - 1) * up + 1, dtype=x.dtype)
    spread[:, 0, ::up, ::up] = x.reshape(n * c, h, w)
    spread = F.pad(spread, [len(up_filter) - 1 - crop] * 4)
    y = F.conv2d(spread, torch.outer(up_filter, up_filter)[None, None] * up**2)
    y = torch.where(y > 0, y, 0.2 * y) * math.sqrt(2)
    y = y.clamp(-clamp, clamp)
    down = down_filter if down_filter.ndim == 2 else torch.outer(down_filter, down_filter)
    return F.conv2d(y, down[None, None])[:, 0, ::2, ::2].unflatten(0, (n, c))


CASES = [(2, 2, 12, False), (2, 0, 12, True), (4, 29, 24, False), (4, 25, 24, True)]


@pytest.mark.parametrize(("up", "crop", "num_taps", "radial"), CASES)
def test_equals_zero_insertion(up, crop, num_taps, radial):
    up_filter = low_pass(num_taps, cutoff=2.0, half_width=6.0, rate=16 * up).double()
    down_filter = (radial_low_pass if radial else low_pass)(12, **FIRST).double()
    x = torch.randn(2, 3, 24, 24, dtype=torch.float64) * 2
    how = {"up": up, "crop": crop, "clamp": 1.0}
    expected = inserted(x, up_filter, down_filter, **how)
    assert (expected - inserted(x, up_filter, down_filter, **(how | {"clamp": 99.0}))).abs().max() > 0.1
    torch.testing.assert_close(filtered_leaky_relu(x, up_filter, down_filter, **how), expected, rtol=1e-9, atol=1e-9)
    again = filtered_leaky_relu(x.clone().requires_grad_(), up_filter, down_filter, **how)
    torch.testing.assert_close(again, expected, rtol=1e-9, atol=1e-9)


def test_derivatives_by_finite_differences():
    up_filter, down_filter = low_pass(12, **FIRST).double(), radial_low_pass(12, **FIRST).double()
    x = torch.randn(1, 2, 5, 5, dtype=torch.float64, requires_grad=True)

    def activated(x):
        return filtered_leaky_relu(x, up_filter, down_filter, up=2, crop=0, clamp=1.0)

    assert torch.autograd.gradcheck(activated, (x,))
    assert torch.autograd.gradgradcheck(activated, (x,))


def test_macs_by_hand():
    # 2 samples become 4: six samples are read for each of 2 x 4 and 4 x 4 values; then twelve for 4 x 1 and 1 x 1.
    assert filter_macs(2, 4, 1, num_taps=12, radial=False) == 6 * (8 + 16) + 12 * (4 + 1)
    assert filter_macs(2, 4, 1, num_taps=12, radial=True) == 6 * (8 + 16) + 144


@pytest.mark.parametrize("size", [0.3, 0.6, 3.0])
def test_the_limit_acts_whenever_it_can(size):
    """It is left out where no value can reach it; the largest possible input, all taps' signs, is found."""
    up_filter, down_filter = low_pass(12, **FIRST).double(), low_pass(12, **FIRST).double()
    x = torch.randn(1, 1, 16, 16, dtype=torch.float64).sign() * size
    how = {"up": 2, "crop": 2, "clamp": 1.0}
    found, expected = filtered_leaky_relu(x, up_filter, down_filter, **how), inserted(x, up_filter, down_filter, **how)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_narrow_and_wide_maps_are_filtered_alike():
    up_filter, down_filter = low_pass(12, **FIRST).double(), low_pass(12, **FIRST).double()
    x, how = torch.randn(1, NARROW, 9, 9, dtype=torch.float64), {"up": 2, "crop": 0, "clamp": 1.0}
    wide = filtered_leaky_relu(x, up_filter, down_filter, **how)
    narrow = filtered_leaky_relu(x[:, :2], up_filter, down_filter, **how)
    torch.testing.assert_close(wide[:, :2], narrow, rtol=1e-9, atol=1e-9)
