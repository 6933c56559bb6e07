"""The low-pass and its two uses against sums written out and against an independent implementation in SciPy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.signal import convolve2d

from limbeck.functional.resampling import blur, cubic, reduced, upsample, upsampling_convolution

KERNEL = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64


def filtered(image, padding, gain=1.0):
    """Every channel on its own, in float64: full convolution, then the part that `padding` leaves."""
    cut = 3 - padding
    planes = [[convolve2d(plane, KERNEL * gain)[cut:, cut:] for plane in one] for one in image.double().numpy()]
    planes = np.array(planes)
    return torch.from_numpy(planes[:, :, : planes.shape[2] - cut, : planes.shape[3] - cut])


def test_blur_of_one_pixel_is_the_kernel():
    image = torch.zeros(1, 1, 7, 7)
    image[0, 0, 3, 3] = 64.0
    expected = torch.tensor([[1.0, 3, 3, 1], [3, 9, 9, 3], [3, 9, 9, 3], [1, 3, 3, 1]])
    assert torch.equal(blur(image, padding=0)[0, 0], expected)


@pytest.mark.parametrize(("padding", "stride", "gain"), [(1, 1, 4.0), (2, 1, 1.0), (1, 2, 1.0), (0, 1, 1.0)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_blur_equals_scipy(padding, stride, gain, layout):
    image = torch.randn(2, 5, 9, 8).to(memory_format=layout)
    expected = filtered(image, padding, gain)[:, :, ::stride, ::stride]
    torch.testing.assert_close(
        blur(image, padding=padding, stride=stride, gain=gain).double(), expected, rtol=1e-5, atol=1e-6
    )


def zeros_between(image):
    """The image with a zero after every row and column."""
    n, c, h, w = image.shape
    spread = image.new_zeros(n, c, 2 * h, 2 * w)
    spread[:, :, ::2, ::2] = image
    return spread


def test_upsample_equals_zero_insertion_and_filter():
    image = torch.randn(2, 3, 5, 6)
    expected = filtered(F.pad(zeros_between(image), (1, 0, 1, 0)), 1, gain=4)
    torch.testing.assert_close(upsample(image).double(), expected, rtol=1e-5, atol=1e-6)


def test_upsample_keeps_a_constant_away_from_the_border():
    assert torch.allclose(upsample(torch.ones(1, 2, 6, 6))[:, :, 1:-1, 1:-1], torch.ones(1, 2, 10, 10))


def test_upsampling_convolution_equals_zero_insertion_convolution_and_filter():
    image, weight = torch.randn(2, 4, 5, 5), torch.randn(3, 4, 3, 3)
    # A transposed convolution is a convolution of the spread image with the flipped kernel.
    spread = F.pad(zeros_between(image), (2, 1, 2, 1))
    expected = filtered(F.conv2d(spread, weight.flip(2, 3)), 1, gain=4)
    torch.testing.assert_close(upsampling_convolution(image, weight).double(), expected, rtol=1e-4, atol=1e-5)


def test_gradients_of_first_and_second_order():
    image = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: blur(x, padding=2, stride=2), image)
    assert torch.autograd.gradcheck(upsampling_convolution, (image, weight))
    assert torch.autograd.gradgradcheck(upsampling_convolution, (image, weight))


def test_the_cubic_kernel_by_hand():
    at = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, -0.5], dtype=torch.float64)
    assert cubic(at).tolist() == [1.0, 0.5625, 0.0, -0.0625, 0.0, 0.0, 0.5625]


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_reduction_is_pillow_s_of_the_mirrored_image(factor):
    """Pillow cuts the kernel off at the border and has floats as MATLAB has: on a mirrored border both are one."""
    image = np.random.default_rng(0).uniform(0, 255, (24, 36)).astype(np.float32)
    room = 4 * factor
    around = Image.fromarray(np.pad(image, room, mode="symmetric"))
    small = around.resize((around.width // factor, around.height // factor), Image.Resampling.BICUBIC)
    expected = np.asarray(small)[4:-4, 4:-4]
    found = reduced(torch.from_numpy(image)[None, None], factor)[0, 0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-3)


def test_reduction_refuses_what_it_does_not_divide():
    for factor in (0, 5, 24):
        with pytest.raises(ValueError, match=f"factor={factor}: must divide 12 and 12"):
            reduced(torch.zeros(1, 1, 12, 12), factor)
