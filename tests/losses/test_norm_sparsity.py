import pytest
import torch

from limbeck.architectures.dcgan import Generator
from limbeck.errors import UserError
from limbeck.losses.image_step import Players
from limbeck.losses.norm_sparsity import NormSparsity
from limbeck.losses.steps import Draw, GeneratorStep

from .conftest import tiny_generator


def test_sum_of_absolute_scales_reaches_these_alone():
    student = Generator(resolution=8, width=2, z_dim=3)
    student.layers[0].norm.weight.data.copy_(torch.tensor([1.0, -2.0]))
    value = NormSparsity()(GeneratorStep(Players(student, None, {}), Draw(torch.randn(1, 2, 3))))
    assert value.item() == 3.0
    value.backward()
    assert student.layers[0].norm.weight.grad.tolist() == [1.0, -1.0]
    assert [name for name, p in student.named_parameters() if p.grad is not None] == ["layers.0.norm.weight"]


def test_a_network_without_such_scales_is_refused():
    with pytest.raises(UserError, match="loss 'x': a Generator has no normalization with weights; leave it out"):
        NormSparsity().check_fits("loss 'x'", GeneratorStep, tiny_generator())
