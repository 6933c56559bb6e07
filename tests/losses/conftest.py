import pytest
import torch

from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.frozen import Frozen
from limbeck.losses.image_step import Players
from limbeck.losses.steps import DiscriminatorStep, Draw, GeneratorStep


def tiny_generator() -> Generator:
    generator = Generator(resolution=16, widths=[8] * 6, z_dim=8, w_dim=8, mapping_depth=2)
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.1)
    return generator


@pytest.fixture
def players() -> Players:
    judge = Discriminator(resolution=16, widths=[8, 8, 8])
    return Players(tiny_generator(), Frozen(tiny_generator()), {"fresh": judge})


@pytest.fixture
def draw() -> Draw:
    return Draw(torch.randn(2, 4, 8), torch.tensor([6, 6, 2, 3]))


@pytest.fixture
def generator_step(players, draw) -> GeneratorStep:
    return GeneratorStep(players, draw)


@pytest.fixture
def discriminator_step(players, draw) -> DiscriminatorStep:
    return DiscriminatorStep(players, draw, torch.rand(4, 3, 16, 16) * 2 - 1)
