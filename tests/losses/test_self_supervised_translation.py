"""Self-supervision with the terms of translation baselines: StarGAN's with its classes, CycleGAN's with its partner."""

import copy

import pytest
import torch

from limbeck.architectures.patchgan import PatchGAN
from limbeck.architectures.stargan import Discriminator, Generator
from limbeck.architectures.translation_resnet import ResNet
from limbeck.frozen import Frozen
from limbeck.losses.adversarial import (
    LeastSquaresDiscriminator,
    LeastSquaresGenerator,
    WassersteinDiscriminator,
    WassersteinGenerator,
)
from limbeck.losses.image_step import Players
from limbeck.losses.regularization import GradientPenalty
from limbeck.losses.self_supervised import SelfSupervised, relative_difference
from limbeck.losses.translation import Cycle, Domain
from limbeck.losses.translation_step import TranslationStep, Way
from limbeck.losses.weighted import Weighted


def weighted(term, weight=1.0) -> Weighted:
    return Weighted(term=term, weight=weight)


def stargan() -> SelfSupervised:
    return SelfSupervised(
        generator={
            "wasserstein": weighted(WassersteinGenerator()),
            "domain": weighted(Domain()),
            "cycle": weighted(Cycle(), 10.0),
        },
        discriminator={
            "wasserstein": weighted(WassersteinDiscriminator()),
            "gradient_penalty": weighted(GradientPenalty(), 10.0),
        },
    )


@pytest.fixture
def attributes():
    """A StarGAN's step whose student is a copy of its teacher."""
    teacher = Generator(resolution=16, num_classes=2, width=4, num_blocks=1)
    student = copy.deepcopy(teacher)
    judge = Discriminator(resolution=16, num_classes=2, width=4, num_layers=3).requires_grad_(False)
    source, real = (torch.rand(3, 3, 16, 16) * 2 - 1 for _ in range(2))
    told, own = (torch.randint(2, (3, 2)).float() for _ in range(2))
    labels = {"label": told, "real_label": own, "source_label": own}
    way = Way(student, {"teacher": judge}, source, real, back=student, **labels)
    return TranslationStep(Players(student, Frozen(teacher), {"teacher": judge}), ways=[way])


def test_nothing_is_lost_for_a_copy_of_the_teacher_its_classes_included(attributes):
    value = stargan()(attributes)
    assert value.item() == 0
    value.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in attributes.players.student.parameters())


def test_every_term_counts_and_reaches_the_student_alone(attributes):
    student = attributes.players.student
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    teacher = attributes.teacher.network
    way, (judge,) = attributes.ways[0], attributes.players.discriminators.values()
    parts = []
    for network in (teacher, student):
        fake = network(way.source, way.label)
        logits, classes = judge(fake)
        domain = torch.nn.functional.binary_cross_entropy_with_logits(classes, way.label, reduction="sum") / 3
        cycle = (network(fake, way.source_label) - way.source).abs().mean()
        parts.append((-logits.mean(), domain, cycle, logits.mean() - judge(way.real)[0].mean()))
    expected = sum(w * relative_difference(o, c) for w, o, c in zip((1, 1, 10, 0.5), *parts, strict=True))
    without_penalty = stargan()
    del without_penalty.discriminator["gradient_penalty"]
    value = without_penalty(attributes)
    torch.testing.assert_close(value, expected)
    attributes.ways = [Way(**{f: getattr(way, f) for f in way.__dataclass_fields__})]
    whole = stargan()(attributes)
    assert whole > value
    whole.backward()
    assert all(parameter.grad is not None for parameter in student.parameters() if parameter.requires_grad)
    assert all(parameter.grad is None for parameter in [*teacher.parameters(), *judge.parameters()])


def test_a_cycle_pairs_each_network_with_the_same_partner():
    torch.manual_seed(2)
    teacher, student, partner = (ResNet(resolution=8, width=2, num_blocks=1) for _ in range(3))
    judges = [PatchGAN(resolution=8, width=2, num_layers=1).requires_grad_(False) for _ in range(2)]
    a, b = (torch.rand(2, 3, 8, 8) * 2 - 1 for _ in range(2))
    ways = [
        Way(student, {"b": judges[0]}, a, b, back=partner),
        Way(partner, {"a": judges[1]}, b, a, back=student),
    ]
    step = TranslationStep(Players(student, Frozen(teacher), {"b": judges[0]}), ways=ways)
    cycles = [
        (partner(network(a)) - a).abs().mean() + (network(partner(b)) - b).abs().mean()
        for network in (teacher, student)
    ]
    term = SelfSupervised(generator={"cycle": weighted(Cycle())}, discriminator={})
    torch.testing.assert_close(term(step), relative_difference(*cycles))
    judged = SelfSupervised(
        generator={"least_squares": weighted(LeastSquaresGenerator())},
        discriminator={"least_squares": weighted(LeastSquaresDiscriminator())},
    )
    sums = []
    for network in (teacher, student):
        logits = [judges[0](network(a)), judges[1](partner(b))]
        real = [judges[0](b), judges[1](a)]
        ours = sum((x - 1).square().mean() for x in logits)
        theirs = sum((r - 1).square().mean() + x.square().mean() for r, x in zip(real, logits, strict=True))
        sums.append((ours, theirs))
    expected = sum(w * relative_difference(o, c) for w, o, c in zip((1, 0.5), *sums, strict=True))
    torch.testing.assert_close(judged(step), expected)
