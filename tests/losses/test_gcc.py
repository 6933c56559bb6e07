import math

import pytest
import torch
from torch import nn

from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.errors import UserError
from limbeck.frozen import Frozen
from limbeck.losses.gcc import Collaborative, gram, root_mean_square
from limbeck.losses.image_step import Players
from limbeck.losses.steps import GeneratorStep
from limbeck.model import Model, Pair


@pytest.fixture
def step(players, draw) -> GeneratorStep:
    judge = Frozen(Discriminator(resolution=16, widths=[8, 8, 8]))
    return GeneratorStep(
        Players(players.student, players.teacher, players.discriminators, judge),
        type(draw)(draw.latents, draw.crossover, noise="const"),
    )


def prepared(step, **settings) -> Collaborative:
    term = Collaborative(**{"generator_resolutions": [8, 16], "discriminator_resolutions": [8], **settings})
    pair = Pair(Model(step.players.teacher.network), Model(step.players.student))
    term.prepare(pair, half=False)
    step.feature_resolutions = term.feature_resolutions
    return term


def test_gram_by_hand_and_its_scale():
    maps = torch.tensor([[1.0, 2.0], [3.0, -1.0]])[None, :, None]  # two channels of 1 x 2
    torch.testing.assert_close(gram(maps), torch.tensor([[[5.0, 1.0], [1.0, 10.0]]]) / 4)
    torch.testing.assert_close(gram(3 * maps), 9 * gram(maps))


def test_root_mean_square_by_hand():
    assert root_mean_square(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])).item() == pytest.approx(math.sqrt(12.5))


def test_nothing_to_learn_from_oneself(step):
    step.players.student.load_state_dict(step.players.teacher.network.state_dict())
    value = prepared(step, image_weight=1.0)(step)
    assert value.item() == pytest.approx(0, abs=1e-5)
    value.backward()
    gradients = [p.grad for p in step.players.student.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_value_by_the_formula(step):
    judge = step.players.teacher_judge.network
    value = prepared(step, feature_weight=0.5, gram_weight=2.0, image_weight=3.0)(step)
    pairs = [(step.student_features[r], step.teacher_features[r]) for r in (8, 16)]
    pairs.append(tuple(judge.features(image, (8,))[8] for image in (step.student_image, step.teacher_image)))
    expected = 3 * (step.student_image - step.teacher_image).abs().mean()
    for a, b in pairs:
        c, h, w = a.shape[1:]
        grams = [torch.einsum("nchw,ndhw->ncd", x, x) / (c * h * w) for x in (a, b)]
        expected = expected + 0.5 * (a - b).square().mean().sqrt() + 2 * (grams[0] - grams[1]).square().mean().sqrt()
    torch.testing.assert_close(value, expected)


def test_reaches_student_and_adapters_alone(step):
    narrow = Generator(resolution=16, widths=[4] * 6, z_dim=8, w_dim=8, mapping_depth=2)
    step.players = Players(narrow, step.players.teacher, step.players.discriminators, step.players.teacher_judge)
    term = prepared(step)
    assert {name: tuple(p.shape) for name, p in term.named_parameters()} == {
        "adapters.8.weight": (8, 4, 1, 1),
        "adapters.16.weight": (8, 4, 1, 1),
    }
    term(step).backward()
    assert all(p.grad.abs().sum() > 0 for p in term.parameters())
    assert narrow.synthesis.b4.const.grad.abs().sum() > 0
    for other in (
        step.players.teacher.network,
        step.players.teacher_judge.network,
        *step.players.discriminators.values(),
    ):
        assert all(p.grad is None for p in other.parameters())


def test_equal_widths_need_no_adapter_and_sizes_are_chosen(step):
    term = prepared(step, generator_resolutions=None, discriminator_resolutions=None)
    assert term.feature_resolutions == term.judge_resolutions == (4,)  # an eighth of 16 px is no block
    assert isinstance(term.adapters["4"], nn.Identity)
    with pytest.raises(UserError, match=r"gcc.discriminator_resolutions=\[16\].*\[4, 8\]"):
        prepared(step, discriminator_resolutions=[16])
