"""Generators without styles in the regime of all GANs, with judges and without."""

import copy

import pytest
import torch

from limbeck.architectures.dcgan import Discriminator, Generator
from limbeck.distillation.discriminators import Both
from limbeck.distillation.training import batch_statistics
from limbeck.errors import UserError
from limbeck.frozen import Frozen
from limbeck.losses.image_step import Players
from limbeck.losses.pixel_l1 import PixelL1
from limbeck.losses.regularization import R1, PathLength
from limbeck.losses.relation import Relation
from limbeck.losses.steps import Draw, GeneratorStep
from limbeck.losses.style_sparsity import StyleSparsity
from limbeck.losses.weighted import Weighted
from limbeck.model import Model, Pair

from .training import same, state


@pytest.fixture
def pair() -> Pair:
    """Replaces the style-based one that the training fixture takes."""
    teacher = Model(Generator(resolution=16, width=4, z_dim=6).eval(), Discriminator(resolution=16, width=4).eval())
    return Pair(teacher, Model(Generator(resolution=16, width=3, z_dim=6), copy.deepcopy(teacher.discriminator)))


def test_all_players_learn_and_the_teacher_does_not(train, pair):
    judges = Both()(pair)
    before = {name: state(judge) for name, judge in judges.items()}
    teacher = state(pair.teacher.generator)
    module = train(
        judges,
        generator_terms={"pixel_l1": Weighted(term=PixelL1())},
        discriminator_terms={"r1": Weighted(term=R1(), every_steps=2)},
        noise="random",
        mixing_probability=0.9,
        micro_batch_size=2,
    )
    assert not same(state(pair.student.generator), state(module.student))
    assert all(not same(before[name], state(module.judges[name])) for name in judges)
    assert same(teacher, state(module.teacher.network))  # its running statistics too


def test_the_weight_average_has_averaged_batch_statistics(train, pair):
    module = train(Both()(pair), steps=3, ema_half_life_kimg=0.02)
    start, last, mean = (batch_statistics(network) for network in (pair.student.generator, module.student, module.ema))
    assert len(mean) == 4
    for a, b, c in zip(start, last, mean, strict=True):
        assert (c - a).norm() < 0.9 * (b - a).norm()
        assert (c - a).norm() > 0


def test_without_judges_images_of_the_teacher_suffice(train, pair):
    module = train({}, generator_terms={"pixel_l1": Weighted(term=PixelL1())})
    assert not same(state(pair.student.generator), state(module.student))
    assert module.final_judge() is None


class Pairs(PixelL1):
    """Needs two images."""

    least_images = 2


def test_a_micro_batch_with_too_few_images_is_refused_before_any_work(train):
    for settings, found in (({"micro_batch_size": 3}, 1), ({"micro_batch_size": 1}, 1)):
        with pytest.raises(UserError, match=f"'x' needs 2 images in every micro-batch, the smallest one has {found}"):
            train({}, generator_terms={"x": Weighted(term=Pairs())}, **settings)
    with pytest.raises(UserError, match="'x' needs 2 images"):
        train({}, generator_terms={"x": Weighted(term=Pairs(), batch_share=0.25)})


@pytest.mark.parametrize("term", [PathLength(), Relation(), StyleSparsity()])
def test_terms_that_need_styles_refuse_by_name(train, pair, term):
    with pytest.raises(UserError, match=r"loss/generator: 'x': needs a style-based generator, not a Generator"):
        train(Both()(pair), generator_terms={"x": Weighted(term=term)})


def test_student_and_teacher_draw_from_the_same_latents(pair):
    latents = torch.randn(1, 5, 6)
    step = GeneratorStep(Players(pair.student.generator.eval(), Frozen(pair.teacher.generator), {}), Draw(latents))
    assert step.num_images == 5
    torch.testing.assert_close(step.teacher_image, pair.teacher.generator(latents[0]))
    torch.testing.assert_close(step.student_image, pair.student.generator(latents[0]))
