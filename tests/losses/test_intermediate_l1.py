import pytest
import torch

from limbeck.losses.intermediate_l1 import IntermediateL1
from limbeck.model import Model, Pair


@pytest.fixture
def term(generator_step) -> IntermediateL1:
    term = IntermediateL1()
    teacher = Model(generator_step.players.teacher.network)
    term.prepare(Pair(teacher, teacher), half=False)
    generator_step.draw = type(generator_step.draw)(
        generator_step.draw.latents, generator_step.draw.crossover, noise="const"
    )
    generator_step.feature_resolutions = term.feature_resolutions
    return term


def test_skips_end_in_the_image(generator_step, term):
    synthesis = generator_step.players.student.synthesis
    images = synthesis.skips(generator_step.student_features, generator_step.student_style)
    assert {r: tuple(x.shape) for r, x in images.items()} == {r: (4, 3, r, r) for r in (4, 8, 16)}
    torch.testing.assert_close(images[16], generator_step.student_image)


def test_zero_for_equal_networks_and_the_bias_of_one_rgb_is_seen_from_there_on(generator_step, term):
    student = generator_step.players.student
    student.load_state_dict(generator_step.players.teacher.network.state_dict())
    student.synthesis.b8.torgb.bias.data += 0.25  # seen at 8 and 16, by equal amounts: upsampling keeps constants
    assert term(generator_step).item() == pytest.approx(0.5, rel=0.1)  # less at the borders of 16
    generator_step.__dict__.pop("_student_pass")
    student.synthesis.b8.torgb.bias.data -= 0.25
    assert term(generator_step).item() == pytest.approx(0, abs=1e-6)


def test_reaches_the_student_alone(generator_step, term):
    term(generator_step).backward()
    assert generator_step.players.student.synthesis.b4.torgb.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in generator_step.players.teacher.network.parameters())
