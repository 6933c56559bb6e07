import pytest
import torch

from limbeck.losses.noise_prediction import NoisePrediction

from .denoising import denoising_step


def test_sum_over_pixels_mean_over_images():
    step = denoising_step(num_images=2)
    step.__dict__["_student_pass"] = (step.noise + torch.tensor([0.1, 0.3])[:, None, None, None], {})
    assert NoisePrediction()(step).item() == pytest.approx((0.1**2 + 0.3**2) / 2 * 3 * 8 * 8, rel=1e-5)


def test_the_teacher_is_not_asked():
    step = denoising_step()
    step.players.teacher.network.forward = None
    NoisePrediction()(step).backward()
    assert step.players.student.conv_in.weight.grad.abs().sum() > 0
