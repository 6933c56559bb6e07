"""LPIPS with the package's own linear heads over a trunk from a local file (random weights here)."""

import pytest
import torch

from limbeck.embeddings.torchvision_shim import imported
from limbeck.errors import UserError
from limbeck.losses.lpips import Lpips
from limbeck.losses.steps import GeneratorStep
from limbeck.model import Model, Pair

from .test_pixel_l1 import LeftHalf, given_images


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    torch.manual_seed(0)
    features = imported("torchvision.models").alexnet(weights=None).features
    path = tmp_path_factory.mktemp("trunk") / "alexnet.pth"
    torch.save({f"features.{name}": value for name, value in features.state_dict().items()}, path)
    return path


@pytest.fixture
def prepared(trunk, players):
    def make(**settings) -> Lpips:
        term = Lpips(net="alex", trunk_path=str(trunk), **settings)
        teacher = Model(players.teacher.network)
        term.prepare(Pair(teacher, teacher), half=False)
        return term

    return make


def step_of(players, draw, teacher, student) -> GeneratorStep:
    step = GeneratorStep(players, draw)
    given_images(step, teacher, student)
    return step


def test_mean_of_the_packages_distance_of_masked_images(prepared, players, draw):
    teacher, student = torch.rand(2, 2, 3, 64, 64) * 2 - 1
    term = prepared(mask=LeftHalf())
    masked = [torch.cat([x[..., :32], torch.zeros(2, 3, 64, 32)], dim=3) for x in (student, teacher)]
    expected = term.network.network(*masked).mean()
    torch.testing.assert_close(term(step_of(players, draw, teacher, student)), expected)
    assert term(step_of(players, draw, teacher, teacher)).item() == 0


def test_larger_images_are_reduced_first():
    image = torch.arange(16.0).reshape(1, 1, 4, 4).expand(1, 3, 4, 4)
    area = Lpips(max_size=2).reduced(image)[0, 0]
    torch.testing.assert_close(area, torch.tensor([[2.5, 4.5], [10.5, 12.5]]))
    wide = torch.zeros(1, 3, 8, 8)
    wide[..., ::4] = 1.0  # an antialiasing reduction would see these columns
    assert Lpips(max_size=2, reduction="bilinear").reduced(wide).abs().max() == 0
    assert Lpips(max_size=2).reduced(wide).mean() == 0.25
    assert Lpips(max_size=8).reduced(wide) is wide


def test_reaches_the_student_alone(prepared, generator_step):
    generator_step.players.student.requires_grad_(True)
    term = prepared()
    with torch.no_grad():
        teacher = torch.nn.functional.interpolate(generator_step.teacher_image, size=64)
    student = torch.nn.functional.interpolate(generator_step.student_image, size=64)
    given_images(generator_step, teacher, student)
    term(generator_step).backward()
    gradients = [p.grad for p in generator_step.players.student.parameters() if p.grad is not None]
    assert sum(gradient.abs().sum() for gradient in gradients) > 0
    assert list(term.parameters()) == []


def test_missing_trunk_is_named(tmp_path):
    with pytest.raises(UserError, match=r"trunk weights not found: .*gone.pth.*vgg16"):
        Lpips(trunk_path=str(tmp_path / "gone.pth")).check()


@pytest.mark.parametrize(("wrong", "message"), [({"net": "resnet"}, "lpips.net"), ({"reduction": "x"}, "reduction")])
def test_refuses_unknown_names(wrong, message):
    with pytest.raises(UserError, match=message):
        Lpips(**wrong)
