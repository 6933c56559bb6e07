"""Distances to the wanted image: by hand, and against scikit-image's formulas written out."""

from functools import partial

import pytest
import torch

from limbeck.configured import configured
from limbeck.errors import UserError
from limbeck.functional.ssim import ssim
from limbeck.metrics.target import ToTarget, absolute_difference, luminance, peak_signal_to_noise, visible


def colored(*rgb, side=16):
    return torch.tensor(rgb)[None, :, None, None].expand(2, 3, side, side).float() / 127.5 - 1


@pytest.mark.parametrize(
    ("rgb", "y"), [((0, 0, 0), 16.0), ((255, 255, 255), 235.0), ((255, 0, 0), 81.481), ((0, 255, 0), 144.553)]
)
def test_luminance_of_the_standard(rgb, y):
    torch.testing.assert_close((luminance(colored(*rgb)) + 1) * 127.5, torch.full((2, 1, 16, 16), y), rtol=1e-5, atol=0)


def test_peak_signal_to_noise_by_hand():
    a = torch.zeros(2, 3, 4, 4)
    b = a.clone()
    b[0] += 0.2  # 0.1 in [0, 1]: 20 dB
    assert peak_signal_to_noise(a, b).tolist() == [pytest.approx(20.0, abs=1e-4), 100.0]


def test_the_border_does_not_count():
    a, b = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    b[..., :4, :] = b[..., -4:] = 1.0
    assert absolute_difference(visible(a, "rgb", 4), visible(b, "rgb", 4)) == 0
    assert absolute_difference(visible(a, "rgb", 3), visible(b, "rgb", 3)) > 0
    with pytest.raises(UserError, match="border=8: leaves nothing"):
        visible(a, "rgb", 8)


def test_values_of_the_pairs(given):
    images = {who: torch.rand(5, 3, 24, 24) * 2 - 1 for who in ("student", "target", "teacher")}
    student, target = images["student"], images["target"]
    metric = ToTarget(name="l1_target", distance=partial(absolute_difference), num_pairs=3)
    assert metric.of(given(images=images)) == {"l1_target": pytest.approx((student - target)[:3].abs().mean().item())}
    y = [luminance(image)[..., 4:-4, 4:-4] for image in (student, target)]
    expected = 10 * torch.log10(4 / (y[0] - y[1]).square().mean(dim=(1, 2, 3))).mean().item()
    assert configured("metric", "psnr_y")["psnr_y"].of(given(images=images)) == {"psnr_y": pytest.approx(expected)}
    assert configured("metric", "ssim_y")["ssim_y"].of(given(images=images)) == {
        "ssim_y": pytest.approx(ssim(*y).mean().item())
    }


def test_without_wanted_images_there_is_no_value(given):
    metric = ToTarget(name="psnr", distance=peak_signal_to_noise)
    assert metric.of(given(images={"student": torch.rand(2, 3, 8, 8), "teacher": torch.rand(2, 3, 8, 8)})) == {}


def test_what_was_measured_is_described():
    described = configured("metric", "ssim_y")["ssim_y"].describe()
    assert described["estimator"].startswith("SSIM, Gaussian window 11")
    assert (described["colors"], described["border"]) == ("luminance (BT.601, 16 to 235)", 4)
    described = configured("metric", "psnr")["psnr"].describe()
    assert described == {
        "estimator": "PSNR in dB to the wanted image, mean of all images",
        "colors": "RGB",
        "border": 0,
    }


@pytest.mark.parametrize(("setting", "value"), [("colors", "cmyk"), ("border", -1), ("border", 1.5), ("num_pairs", 0)])
def test_impossible_settings_are_named(setting, value):
    metric = ToTarget(name="psnr", distance=peak_signal_to_noise)
    setattr(metric, setting, value)
    with pytest.raises(UserError, match=setting):
        metric.check(10, 10)
