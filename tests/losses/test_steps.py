import pytest
import torch
from torch import nn

from limbeck.losses.regularization import R1, PathLength


def touched(module) -> bool:
    return any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in module.parameters())


def test_passes_are_shared(generator_step):
    assert generator_step.student_image is generator_step.student_image
    assert generator_step.teacher_image is generator_step.teacher_image
    assert generator_step.fake_logits["fresh"] is generator_step.judged("student", "fresh")
    assert generator_step.judged("teacher", "fresh") is generator_step.judged("teacher", "fresh")


def test_nothing_is_computed_before_it_is_asked_for(generator_step, monkeypatch):
    teacher = generator_step.players.teacher.network
    monkeypatch.setattr(teacher.synthesis, "forward", None)
    assert generator_step.student_image.shape == (4, 3, 16, 16)


def test_the_teacher_gives_no_gradient_and_the_student_does(generator_step):
    assert not generator_step.teacher_image.requires_grad
    generator_step.student_image.sum().backward()
    assert touched(generator_step.players.student)
    assert not touched(generator_step.players.teacher.network)


def test_the_student_sees_no_gradient_of_the_discriminator_step(discriminator_step):
    (discriminator_step.fake_logits["fresh"].sum() + discriminator_step.real_logits["fresh"].sum()).backward()
    assert touched(discriminator_step.players.discriminators["fresh"])
    assert not touched(discriminator_step.players.student)


def test_only_logits_of_the_students_images_carry_a_gradient(generator_step):
    generator_step.real_image = torch.rand(4, 3, 16, 16)
    expected = {"student": True, "teacher": False, "real": False}
    judge = generator_step.players.discriminators["fresh"]
    for who, carries in expected.items():
        assert generator_step.judged(who, "fresh").requires_grad == carries
    torch.testing.assert_close(generator_step.judged("real", "fresh"), judge(generator_step.real_image))
    torch.testing.assert_close(generator_step.judged("teacher", "fresh"), judge(generator_step.teacher_image))


def test_styles_change_over_at_the_crossover(draw, players):
    styles = draw.styles(players.student)
    first = players.student.mapping(draw.latents[0])
    second = players.student.mapping(draw.latents[1])
    torch.testing.assert_close(styles[0], first[0].expand(6, -1))
    torch.testing.assert_close(styles[2, :2], first[2].expand(2, -1))
    torch.testing.assert_close(styles[2, 2:], second[2].expand(4, -1))


def test_features_come_from_the_pass_that_drew_the_image(generator_step):
    generator_step.feature_resolutions = (8, 16)
    assert {r: tuple(f.shape) for r, f in generator_step.student_features.items()} == {
        8: (4, 8, 8, 8),
        16: (4, 8, 16, 16),
    }
    assert generator_step.student_image.shape == (4, 3, 16, 16)


def test_a_frozen_teacher_follows_device_moves_but_leaves_no_trace(players):
    teacher = players.teacher
    assert list(teacher.parameters()) == []
    assert teacher.state_dict() == {}
    assert next(teacher.double().network.parameters()).dtype == torch.float64


def test_r1_reaches_only_the_judges(discriminator_step):
    R1()(discriminator_step).backward()
    assert touched(discriminator_step.players.discriminators["fresh"])
    assert not touched(discriminator_step.players.student)


def test_path_length_reaches_the_student_and_keeps_its_mean(generator_step):
    term = PathLength(decay=0.01)
    term(generator_step).backward()
    assert touched(generator_step.players.student)
    assert "mean" in term.state_dict()


class Summed(nn.Module):
    """One pixel a . w, summed over the layers."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor([3.0, 4.0]))  # of length 5

    def forward(self, style, *, noise):
        assert noise == "random"
        return (style @ self.a).sum(dim=1).reshape(-1, 1, 1, 1)


def test_path_length_by_hand(generator_step):
    """Of a linear generator every length is |a| |y|, with y ~ N(0, 1) for each image."""
    generator_step.players.student.synthesis = Summed()
    generator_step.__dict__["student_style"] = torch.zeros(3, 2, 2, requires_grad=True)
    a = generator_step.players.student.synthesis.a
    term, mean = PathLength(decay=0.25), 0.0
    for seed in (0, 1):
        torch.manual_seed(seed)
        lengths = 5 * torch.randn(3, 1, 1, 1).abs().flatten()
        mean = 0.75 * mean + 0.25 * float(lengths.mean())
        torch.manual_seed(seed)
        value = term(generator_step)
        assert term.mean.item() == pytest.approx(mean)
        assert value.item() == pytest.approx(float((lengths - mean).square().mean()))
        (gradient,) = torch.autograd.grad(value, a)
        # dl / da = l a / |a|^2, and the mean m is a number: 2 mean((l - m) l) a / 25.
        torch.testing.assert_close(gradient, 2 * ((lengths - mean) * lengths).mean() * a.detach() / 25)


def test_half_precision_teacher_differs_a_little(players, generator_step):
    exact = players.teacher.network.synthesis(generator_step.teacher_style, noise="none")
    players.teacher.half_precision = True
    with players.teacher.running() as teacher:
        half = teacher.synthesis(generator_step.teacher_style, noise="none")
    error = (half - exact).abs().max() / exact.abs().max()
    assert 1e-5 < error < 0.05
