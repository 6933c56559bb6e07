import pytest
import torch

from limbeck.errors import UserError
from limbeck.losses.block_features import BlockFeatures, relative_square
from limbeck.model import Model, Pair

from .denoising import denoising_step, tiny_denoiser

NARROW = {"down_blocks.0.downsamplers.0.conv": 4}


def prepared(student, teacher, **settings) -> BlockFeatures:
    term = BlockFeatures(**settings)
    term.prepare(Pair(Model(teacher), Model(student)), half=False)
    return term


def step_for(term, student, teacher):
    return denoising_step(student=student, teacher=teacher, feature_blocks=term.feature_blocks)


def test_by_hand():
    teacher = torch.tensor([1.0, 2.0, 2.0])[None, :, None, None]
    student = torch.tensor([1.0, 2.0, 5.0])[None, :, None, None]
    assert relative_square(student, teacher).item() == pytest.approx(9 / 9)
    assert relative_square(teacher, teacher).item() == 0
    assert relative_square(torch.zeros_like(teacher), teacher).item() == 1
    torch.testing.assert_close(relative_square(10 * student, 10 * teacher), relative_square(student, teacher))


def test_zero_for_the_teacher_itself_at_all_blocks():
    teacher = tiny_denoiser(1)
    term = prepared(teacher, teacher)
    assert term.feature_blocks == teacher.block_names
    assert list(term.parameters()) == []
    assert term(step_for(term, teacher, teacher)).item() == 0


def test_adapters_are_learned_where_widths_differ_and_gradients_reach_student_and_adapter_only():
    student, teacher = tiny_denoiser(widths=NARROW), tiny_denoiser(1)
    term = prepared(student, teacher, blocks=["down_blocks.0", "up_blocks.1"])
    (weight, bias) = term.parameters()
    assert weight.shape == (8, 4, 1, 1)
    assert bias.shape == (8,)
    step = step_for(term, student, teacher)
    term(step).backward()
    assert weight.grad.abs().sum() > 0
    assert student.up_blocks[1].resnets[0].conv1.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_adapters_are_the_same_in_every_run():
    student, teacher = tiny_denoiser(widths=NARROW), tiny_denoiser(1)
    first = [p.clone() for p in prepared(student, teacher).parameters()]
    torch.rand(3)
    assert all(torch.equal(a, b) for a, b in zip(first, prepared(student, teacher).parameters(), strict=True))


def test_an_unknown_block_is_refused_by_name():
    teacher = tiny_denoiser()
    with pytest.raises(UserError, match=r"blocks: 'tail' unknown; allowed: down_blocks.0, .*mid_block"):
        prepared(teacher, teacher, blocks=["tail"])
