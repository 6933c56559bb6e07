import pytest
import torch
from torch import nn

from limbeck.errors import UserError
from limbeck.losses.adversarial import discriminator_logistic, generator_logistic
from limbeck.losses.self_supervised import SelfSupervised, gradient_penalty, relative_difference


@pytest.fixture
def step(generator_step):
    generator_step.real_image = torch.rand(4, 3, 16, 16) * 2 - 1
    generator_step.draw = type(generator_step.draw)(
        generator_step.draw.latents, generator_step.draw.crossover, noise="const"
    )
    for judge in generator_step.players.discriminators.values():
        judge.requires_grad_(False)  # as in the generator's step
    return generator_step


def test_by_hand():
    assert relative_difference(torch.tensor(2.0), torch.tensor(1.5)).item() == 0.25
    assert relative_difference(torch.tensor(-2.0), torch.tensor(1.0)).item() == 1.5
    assert relative_difference(torch.tensor(0.0), torch.tensor(1.0)).item() == pytest.approx(1e4)


@pytest.mark.parametrize("factor", [0.5, 3.0, 100.0])
def test_ratio_ignores_the_scale_of_a_loss(factor):
    original, compressed = torch.tensor(0.7), torch.tensor(0.9)
    expected = relative_difference(original, compressed)
    torch.testing.assert_close(relative_difference(factor * original, factor * compressed), expected)


def test_the_original_is_a_constant():
    original, compressed = (torch.tensor(value, requires_grad=True) for value in (2.0, 1.5))
    relative_difference(original, compressed).backward()
    assert original.grad is None
    assert compressed.grad.item() == -0.5


def test_value_by_the_formula(step):
    judge = step.players.discriminators["fresh"]
    teacher, student, real = (judge(x) for x in (step.teacher_image, step.student_image, step.real_image))
    generator = [generator_logistic(x) for x in (teacher, student)]
    discriminator = [discriminator_logistic(real, x) for x in (teacher, student)]
    expected = sum(w * (o - c).abs() / o.abs() for w, (o, c) in ((1.0, generator), (0.25, discriminator)))
    torch.testing.assert_close(SelfSupervised(discriminator_weight=0.25)(step), expected)


@pytest.mark.parametrize("penalty_weight", [0.0, 10.0])
def test_zero_and_no_nan_for_a_student_that_is_the_teacher(step, penalty_weight):
    step.players.student.load_state_dict(step.players.teacher.network.state_dict())
    value = SelfSupervised(penalty_weight=penalty_weight)(step)
    assert value.item() == pytest.approx(0, abs=1e-6)
    value.backward()
    gradients = [p.grad for p in step.players.student.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_a_subgradient_at_equality_is_zero():
    compressed = torch.tensor(2.0, requires_grad=True)
    relative_difference(torch.tensor(2.0), compressed).backward()
    assert compressed.grad.item() == 0


@pytest.mark.parametrize("penalty_weight", [0.0, 10.0])
def test_reaches_the_student_alone(step, penalty_weight):
    SelfSupervised(penalty_weight=penalty_weight)(step).backward()
    assert sum(p.grad.abs().sum() for p in step.players.student.parameters() if p.grad is not None) > 0
    for other in (step.players.teacher.network, step.players.discriminators["fresh"]):
        assert all(p.grad is None for p in other.parameters())


def test_without_the_discriminators_part_no_real_image_is_read(step):
    step.real_image = None
    SelfSupervised(discriminator_weight=0.0)(step).backward()


def test_penalty_of_a_linear_judge_by_hand():
    judge = nn.Module()
    weight = torch.randn(3, 4, 4)
    judge.forward = lambda image, label: (image * weight).sum(dim=(1, 2, 3))
    expected = (weight.norm() - 1).square()
    torch.testing.assert_close(gradient_penalty(judge, torch.randn(5, 3, 4, 4), None, create_graph=False), expected)


def test_an_unknown_judge_is_refused_by_name(step):
    with pytest.raises(UserError, match=r"self_supervised.judge='teacher'.*: fresh"):
        SelfSupervised(judge="teacher")(step)
