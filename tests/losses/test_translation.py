"""Losses of image translation, by hand, and the views of a micro-batch they read."""

import pytest
import torch
from torch import nn

from limbeck.architectures.translation_resnet import ResNet
from limbeck.data.robohash import RoboHash
from limbeck.data.translation.derived import Derived, rotated
from limbeck.embeddings.base import Embedding
from limbeck.errors import UserError
from limbeck.frozen import Frozen
from limbeck.losses.adversarial import (
    HingeDiscriminator,
    LeastSquaresDiscriminator,
    LeastSquaresGenerator,
    NonSaturatingDiscriminator,
    NonSaturatingGenerator,
    WassersteinDiscriminator,
    WassersteinGenerator,
)
from limbeck.losses.image_step import Players
from limbeck.losses.regularization import GradientPenalty
from limbeck.losses.self_supervised import SelfSupervised
from limbeck.losses.translation import Content, Cycle, Domain, Identity, RealDomain, Target, label_loss
from limbeck.losses.translation_step import TranslationJudgingStep, TranslationStep, Way
from limbeck.losses.weighted import Weighted
from limbeck.model import Pair


class Scaled(nn.Module):
    """Translates by a factor; adds the mean of the label, if it is told one."""

    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(float(factor)))
        self.passes = 0

    def forward(self, image, label=None):
        self.passes += 1
        return image * self.factor + (0 if label is None else label.mean())


class Mean(nn.Module):
    """Judges an image by its mean color in two patches, of a pair by the source's too; and its classes."""

    def __init__(self, num_channels=1, classes=False):
        super().__init__()
        self.num_channels, self.classes = num_channels, classes
        self.asked = []

    def forward(self, image, source=None):
        self.asked.append(source)
        logits = image.mean(dim=(1, 2, 3))[:, None].repeat(1, 2)
        logits = logits if source is None else logits + 10 * source.mean(dim=(1, 2, 3))[:, None]
        return (logits, image.mean(dim=(2, 3)).repeat(1, 3)) if self.classes else logits


def one(value):
    return torch.full((2, 1, 2, 2), float(value))


def steps(way, *others, teacher=None):
    ways = [way, *others]
    players = Players(ResNet(resolution=8, width=1, num_blocks=1), teacher, way.judges)
    return TranslationStep(players, ways=ways), TranslationJudgingStep(players, ways=ways)


@pytest.fixture
def both():
    """Forth: 2 x, back: 3 x; sources 0.5 and 0.25, targets 0.25 and 0.5; judged by the mean."""
    forth, back = Scaled(2), Scaled(3)
    a, b = one(0.5), one(0.25)
    return Way(forth, {"a": Mean()}, a, b, back=back), Way(back, {"b": Mean()}, b, a, back=forth)


@pytest.mark.parametrize(
    ("term", "value"),
    [
        (NonSaturatingGenerator(), nn.functional.softplus(torch.tensor([-1.0, -0.75])).sum()),
        (LeastSquaresGenerator(), torch.tensor(0.0 + 0.0625)),
        (WassersteinGenerator(), torch.tensor(-1.75)),
        (Target(), torch.tensor(0.75 + 0.25)),
        (Target(norm="l2"), torch.tensor(0.5625 + 0.0625)),
        (Cycle(), torch.tensor(2.5 + 1.25)),
        (Identity(), torch.tensor(0.25 + 1.0)),
    ],
)
def test_generators_losses_by_hand(both, term, value):
    torch.testing.assert_close(term(steps(*both)[0]), value)


@pytest.mark.parametrize(
    ("term", "value"),
    [
        (
            NonSaturatingDiscriminator(),
            nn.functional.softplus(torch.tensor([-0.25, 1.0, -0.5, 0.75])).sum(),
        ),
        (LeastSquaresDiscriminator(), torch.tensor(0.5625 + 1.0 + 0.25 + 0.5625)),
        (WassersteinDiscriminator(), torch.tensor(1.0 - 0.25 + 0.75 - 0.5)),
        (HingeDiscriminator(), torch.tensor(0.75 + 2.0 + 0.5 + 1.75)),
    ],
)
def test_discriminators_losses_by_hand(both, term, value):
    torch.testing.assert_close(term(steps(*both)[1]), value)


def test_hinge_and_wasserstein_part_beyond_the_margin():
    way = Way(Scaled(-8), {"a": Mean()}, one(0.5), one(3.0))
    judging = steps(way)[1]
    assert HingeDiscriminator()(judging) == 0
    assert WassersteinDiscriminator()(judging) == -7


def test_one_pass_serves_all_terms_and_both_players(both):
    drawing, judging = steps(*both)
    for term in (LeastSquaresGenerator(), Target(), Cycle()):
        term(drawing)
    LeastSquaresDiscriminator()(judging)
    assert both[0].generator.passes == 2  # forth, and back from the other direction
    assert not both[0].shown.requires_grad


def test_a_judge_of_pairs_is_shown_the_source_first():
    judge = Mean(num_channels=2)
    way = Way(Scaled(2), {"a": judge}, one(0.5), one(0.25))
    drawing, judging = steps(way)
    assert drawing.fake_logits["a"].tolist() == [6.0] * 4
    assert judging.real_logits["a"].tolist() == [5.25] * 4
    assert all(source is way.source for source in judge.asked)
    frozen = Way(Scaled(2), {"a": Frozen(judge)}, one(0.5), one(0.25))
    assert steps(frozen)[0].fake_logits["a"].tolist() == [6.0] * 4


def test_a_labelled_network_goes_back_by_itself_and_is_told_the_labels():
    network = Scaled(2)
    told, own = torch.tensor([[1.0, 1.0]]).repeat(2, 1), torch.tensor([[0.5, 0.5]]).repeat(2, 1)
    way = Way(network, {}, one(1), one(1), told, own, own, back=network)
    assert (way.fake == 3).all()
    assert (way.returned == 6.5).all()
    assert (way.kept == 2.5).all()


def test_class_losses_by_hand():
    logits, label = torch.tensor([[2.0, -1.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    losses = nn.functional.softplus(torch.tensor([-2.0, -1.0, 0.0, 0.0]))
    torch.testing.assert_close(label_loss(logits, label, "attributes"), losses.sum() / 2)
    chosen = torch.tensor([2.0, 0.0]) - torch.logsumexp(logits, dim=1)
    torch.testing.assert_close(label_loss(logits, label, "classes"), -chosen.mean())


def test_classes_are_those_told_and_those_of_real_images():
    told, own = torch.tensor([[1.0, 0.0, 0.0]] * 2), torch.tensor([[0.0, 1.0, 0.0]] * 2)
    way = Way(Scaled(2), {"a": Mean(classes=True)}, one(0.5), one(0.25), told, own, own)
    drawing, judging = steps(way)
    fake = torch.full([2, 3], 1.0 + 1 / 3)
    torch.testing.assert_close(Domain()(drawing), label_loss(fake, told, "attributes"))
    torch.testing.assert_close(RealDomain()(judging), label_loss(torch.full([2, 3], 0.25), own, "attributes"))
    bare = steps(Way(Scaled(2), {"a": Mean()}, one(0.5), one(0.25), told, own, own))
    with pytest.raises(UserError, match="reads classes"):
        Domain()(bare[0])
    with pytest.raises(UserError, match="reads classes"):
        RealDomain()(bare[1])


class Linear(nn.Module):
    num_channels = 1

    def __init__(self, length):
        super().__init__()
        weight = torch.randn(1, 2, 2)
        self.weight = nn.Parameter(weight * (length / weight.norm()))

    def forward(self, image):
        return (image * self.weight).sum(dim=(1, 2, 3))


@pytest.mark.parametrize(("length", "penalty"), [(1.0, 0.0), (3.0, 4.0), (0.25, 0.5625)])
def test_gradient_penalty_of_a_linear_judge_is_its_length_minus_one_squared(length, penalty):
    judge = Linear(length)
    value = GradientPenalty()(steps(Way(Scaled(2), {"a": judge}, torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2)))[1])
    torch.testing.assert_close(value, torch.tensor(penalty), rtol=1e-5, atol=1e-5)
    if penalty:
        value.backward()
        assert (judge.weight.grad * judge.weight).sum() * (length - 1) > 0  # it pulls the length towards 1


def test_gradient_penalty_looks_between_the_images():
    seen = []

    class Watching(Linear):
        def forward(self, image):
            seen.append(image.detach())
            return super().forward(image)

    GradientPenalty()(steps(Way(Scaled(0), {"a": Watching(1.0)}, one(0), torch.ones(64, 1, 2, 2).narrow(0, 0, 2)))[1])
    (place,) = seen
    assert (place.flatten(1).std(dim=1) == 0).all()  # one share for the whole image
    assert ((place >= 0) & (place <= 1)).all()
    assert place[0, 0, 0, 0] != place[1, 0, 0, 0]


@torch.no_grad()
def test_a_generator_of_black_images_has_the_images_as_cycle_loss():
    network = ResNet(resolution=8, width=2, num_blocks=1).eval()
    network.last.conv.weight.zero_()
    image = torch.randn(2, 3, 8, 8)
    way = Way(network, {}, image, image, back=network)
    torch.testing.assert_close(Cycle()(steps(way)[0]), image.abs().mean())


def test_what_a_model_cannot_do_is_named():
    with pytest.raises(UserError, match="translates back"):
        Cycle()(steps(Way(Scaled(2), {}, one(1), one(1)))[0])
    with pytest.raises(UserError, match="norm='l3'"):
        Target(norm="l3").check()
    with pytest.raises(UserError, match="kind='colors'"):
        Domain(kind="colors").check()
    with pytest.raises(UserError, match="kind='colors'"):
        RealDomain(kind="colors").check()


class Doubled(Embedding):
    """An embedding with two maps, of which the second is the coarsest."""

    def load(self):
        return self

    def weights_digest(self):
        return ""

    def preprocessing(self):
        return {}

    def forward(self, image):
        return image.mean(dim=(2, 3))

    def feature_maps(self, image):
        return [image * 100, nn.functional.avg_pool2d(image, 2) * 2]


@pytest.mark.parametrize("wrapped", [False, True])
def test_wanted_images_are_asked_of_paired_data_alone(wrapped):
    term = SelfSupervised(generator={"target": Weighted(term=Target())}, discriminator={}) if wrapped else Target()
    views = {"images": RoboHash(kind="cats", resolution=32), "view": rotated}
    term.check_data("x", Derived(**views))
    Cycle().check_data("x", Derived(**views, paired=False))
    named = "x, baseline term 'target': needs the wanted image" if wrapped else "x: needs the wanted image"
    with pytest.raises(UserError, match=named):
        term.check_data("x", Derived(**views, paired=False))


def test_content_is_the_distance_of_the_coarsest_maps_to_the_target():
    content = Content(embedding=Doubled())
    content.prepare(Pair(None, None), half=False)
    step = steps(Way(Scaled(2), {}, one(0.5), one(0.25)))[0]
    torch.testing.assert_close(content(step), torch.tensor((2.0 - 0.5) ** 2))
    content(step).backward()
    assert step.ways[0].generator.factor.grad != 0
