import pytest
import torch

from limbeck.functional.ssim import ssim
from limbeck.metrics.ssim import Ssim


def test_mean_over_the_first_pairs_or_all(given):
    images = {"student": torch.rand(6, 3, 16, 16), "teacher": torch.rand(6, 3, 16, 16)}
    each = ssim(images["student"], images["teacher"])
    assert Ssim(num_pairs=4).of(given(images=images)) == {"ssim": pytest.approx(each[:4].mean().item())}
    assert Ssim().of(given(images=images)) == {"ssim": pytest.approx(each.mean().item())}
    assert "all latents" in Ssim().describe()["estimator"]


def test_without_teacher_there_is_no_value(given):
    assert Ssim().of(given()) == {}
