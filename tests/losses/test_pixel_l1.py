from dataclasses import replace
from typing import Any

import pytest
import torch

from limbeck.losses.pixel_l1 import PixelL1, mean_absolute_difference
from limbeck.masks.base import ContentMask


class LeftHalf(ContentMask):
    """Content is the left half; counts how often it is asked."""

    def __init__(self):
        super().__init__()
        self.asked = 0

    def check(self) -> None: ...

    def load(self):
        return self

    def forward(self, image):
        self.asked += 1
        mask = torch.zeros_like(image[:, :1], dtype=torch.bool)
        mask[..., : image.shape[-1] // 2] = True
        return mask

    def describe(self) -> dict[str, Any]:
        return {"mask": "left half"}


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


@pytest.mark.parametrize(("noise", "equal"), [("const", True), ("none", True), ("random", False)])
def test_only_shared_noise_makes_a_student_equal_to_its_teacher(generator_step, noise, equal):
    generator_step.players.student.load_state_dict(generator_step.players.teacher.network.state_dict())
    generator_step.draw = replace(generator_step.draw, noise=noise)
    assert (PixelL1()(generator_step).item() == 0) == equal


def given_images(step, teacher, student):
    vars(step)["_teacher_pass"], vars(step)["_student_pass"] = (teacher, {}), (student, {})


def test_only_content_counts_but_the_mean_is_over_all_pixels(generator_step):
    teacher, student = torch.randn(2, 4, 3, 16, 16)
    given_images(generator_step, teacher, student)
    expected = (teacher - student)[..., :8].abs().sum() / teacher.numel()
    torch.testing.assert_close(PixelL1(mask=LeftHalf())(generator_step), expected)


def test_unchanged_by_edits_outside_the_mask(generator_step, players, draw):
    teacher, student = torch.randn(2, 4, 3, 16, 16)
    given_images(generator_step, teacher, student)
    before = PixelL1(mask=LeftHalf())(generator_step)
    edited = type(generator_step)(players, draw)
    given_images(edited, torch.cat([teacher[..., :8], torch.randn(4, 3, 16, 8)], dim=3), student)
    assert PixelL1(mask=LeftHalf())(edited) == before


def test_masks_of_equal_description_look_once_and_at_the_teacher(generator_step):
    first, second = LeftHalf(), LeftHalf()
    PixelL1(mask=first)(generator_step)
    PixelL1(mask=second)(generator_step)
    assert (first.asked, second.asked) == (1, 0)
    assert not generator_step.teacher_image.requires_grad
