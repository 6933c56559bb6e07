"""Judges that see blurred pictures at first."""

import pytest
import torch

from limbeck.architectures.stylegan2 import Discriminator
from limbeck.distillation.blur import Blurred, blurred, fading
from limbeck.distillation.discriminators import Fresh
from limbeck.errors import UserError

from .training import same, state


def test_one_bright_pixel_by_hand():
    image = torch.zeros(1, 2, 9, 9)
    image[0, 0, 4, 4] = 1
    sigma = 1.4  # four pixels to each side
    row = torch.tensor([2 ** -((j / sigma) ** 2) for j in range(-4, 5)])
    row = row / row.sum()
    found = blurred(image, sigma)
    torch.testing.assert_close(found[0, 0], torch.outer(row, row))
    assert not found[0, 1].any()
    assert blurred(image, 0.3) is image


def test_the_blur_fades_on_a_line():
    assert [fading(10.0, 0.2, images) for images in (0, 50, 100, 200, 999)] == [10.0, 7.5, 5.0, 0.0, 0.0]


def test_a_judge_sees_and_feels_through_the_blur():
    judge = Discriminator(resolution=16, widths=[8, 8, 8], group_size=1)
    image = torch.randn(2, 3, 16, 16, requires_grad=True)
    seeing = Blurred(judge, lambda: 1.0)
    assert torch.equal(seeing(image), judge(blurred(image, 1.0)))
    assert torch.equal(seeing.features(image, (8,))[8], judge.features(blurred(image, 1.0), (8,))[8])
    (through,) = torch.autograd.grad(seeing(image).sum(), image)
    (plain,) = torch.autograd.grad(judge(image).sum(), image)
    assert not torch.allclose(through, plain)


def test_training_behind_a_blur(train, pair):
    judges = {}
    for sigma in (0.0, 2.0):
        torch.manual_seed(3)
        judges[sigma] = train(Fresh()(pair), steps=1, blur_sigma=sigma).judges
    assert judges[0.0].state_dict().keys() == judges[2.0].state_dict().keys()
    assert not same(state(judges[0.0]), state(judges[2.0]))
    with pytest.raises(UserError, match=r"distillation\.blur_sigma=-1"):
        train(Fresh()(pair), blur_sigma=-1.0)
