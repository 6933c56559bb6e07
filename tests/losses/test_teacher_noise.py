import torch

from limbeck.losses.noise_prediction import NoisePrediction
from limbeck.losses.teacher_noise import TeacherNoise

from .denoising import denoising_step, tiny_denoiser


def test_zero_for_the_teacher_itself():
    teacher = tiny_denoiser(1)
    assert TeacherNoise()(denoising_step(student=teacher, teacher=teacher)).item() == 0


def gradient(loss, student):
    student.zero_grad()
    loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in student.parameters()])


def test_two_weighted_terms_have_the_gradient_of_the_released_mixed_target():
    student = tiny_denoiser()
    mixed, parts = denoising_step(student=student), denoising_step(student=student)
    target = 0.7 * mixed.teacher_estimate + 0.3 * mixed.noise
    whole = (mixed.student_estimate - target).square().sum(dim=(1, 2, 3)).mean()
    expected = gradient(whole, student)
    found = gradient(0.7 * TeacherNoise()(parts) + 0.3 * NoisePrediction()(parts), student)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
