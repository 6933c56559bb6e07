import torch

from limbeck.losses.pixel_l1 import PixelL1, mean_absolute_difference


def test_by_hand():
    a, b = torch.zeros(1, 1, 1, 2), torch.tensor([1.0, -0.5]).reshape(1, 1, 1, 2)
    assert mean_absolute_difference(a, b).item() == 0.75
    assert mean_absolute_difference(b, b).item() == 0.0


def test_reaches_the_student_alone(generator_step):
    PixelL1()(generator_step).backward()
    gradients = [p.grad for p in generator_step.players.student.parameters()]
    assert sum(g.abs().sum() for g in gradients if g is not None) > 0
    assert all(p.grad is None for p in generator_step.players.teacher.network.parameters())
    assert all(p.grad is None for p in generator_step.players.discriminators["fresh"].parameters())
