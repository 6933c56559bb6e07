import pytest
import torch

from limbeck.errors import UserError
from limbeck.losses.adversarial import (
    LeastSquaresDiscriminator,
    LeastSquaresGenerator,
    NonSaturatingDiscriminator,
    discriminator_logistic,
    generator_logistic,
)
from limbeck.losses.noise_prediction import NoisePrediction
from limbeck.losses.regularization import GradientPenalty
from limbeck.losses.self_supervised import SelfSupervised, relative_difference
from limbeck.losses.steps import GeneratorStep
from limbeck.losses.weighted import Term, Weighted

from .conftest import tiny_generator


@pytest.fixture
def step(generator_step):
    generator_step.real_image = torch.rand(4, 3, 16, 16) * 2 - 1
    generator_step.draw = type(generator_step.draw)(
        generator_step.draw.latents, generator_step.draw.crossover, noise="const"
    )
    for judge in generator_step.players.discriminators.values():
        judge.requires_grad_(False)  # as in the generator's step
    return generator_step


def test_by_hand():
    assert relative_difference(torch.tensor(2.0), torch.tensor(1.5)).item() == 0.25
    assert relative_difference(torch.tensor(-2.0), torch.tensor(1.0)).item() == 1.5
    assert relative_difference(torch.tensor(0.0), torch.tensor(1.0)).item() == pytest.approx(1e4)


@pytest.mark.parametrize("factor", [0.5, 3.0, 100.0])
def test_ratio_ignores_the_scale_of_a_loss(factor):
    original, compressed = torch.tensor(0.7), torch.tensor(0.9)
    expected = relative_difference(original, compressed)
    torch.testing.assert_close(relative_difference(factor * original, factor * compressed), expected)


def test_the_original_is_a_constant():
    original, compressed = (torch.tensor(value, requires_grad=True) for value in (2.0, 1.5))
    relative_difference(original, compressed).backward()
    assert original.grad is None
    assert compressed.grad.item() == -0.5


def test_value_by_the_formula(step):
    judge = step.players.discriminators["fresh"]
    teacher, student, real = (judge(x) for x in (step.teacher_image, step.student_image, step.real_image))
    generator = [generator_logistic(x) for x in (teacher, student)]
    discriminator = [discriminator_logistic(real, x) for x in (teacher, student)]
    expected = sum(w * (o - c).abs() / o.abs() for w, (o, c) in ((1.0, generator), (0.25, discriminator)))
    torch.testing.assert_close(SelfSupervised(discriminator_weight=0.25)(step), expected)


def penalized(penalty_weight) -> SelfSupervised:
    """With a gradient penalty among the discriminator's terms, unless its weight is 0."""
    terms = {"nonsaturating": Weighted(term=NonSaturatingDiscriminator())}
    if penalty_weight:
        terms["gradient_penalty"] = Weighted(term=GradientPenalty(), weight=penalty_weight)
    return SelfSupervised(discriminator=terms)


@pytest.mark.parametrize("penalty_weight", [0.0, 10.0])
def test_zero_and_no_nan_for_a_student_that_is_the_teacher(step, penalty_weight):
    step.players.student.load_state_dict(step.players.teacher.network.state_dict())
    value = penalized(penalty_weight)(step)
    assert value.item() == pytest.approx(0, abs=1e-6)
    value.backward()
    gradients = [p.grad for p in step.players.student.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_a_subgradient_at_equality_is_zero():
    compressed = torch.tensor(2.0, requires_grad=True)
    relative_difference(torch.tensor(2.0), compressed).backward()
    assert compressed.grad.item() == 0


@pytest.mark.parametrize("penalty_weight", [0.0, 10.0])
def test_reaches_the_student_alone(step, penalty_weight):
    penalized(penalty_weight)(step).backward()
    assert sum(p.grad.abs().sum() for p in step.players.student.parameters() if p.grad is not None) > 0
    for other in (step.players.teacher.network, step.players.discriminators["fresh"]):
        assert all(p.grad is None for p in other.parameters())


def test_without_the_discriminators_part_no_real_image_is_read(step):
    step.real_image = None
    SelfSupervised(discriminator_weight=0.0)(step).backward()


def test_an_unknown_judge_is_refused_by_name(step):
    with pytest.raises(UserError, match=r"self_supervised.judge='teacher'.*: fresh"):
        SelfSupervised(judge="teacher")(step)


def test_the_baseline_s_own_terms_with_its_own_weights(step):
    judge = step.players.discriminators["fresh"]
    teacher, student, real = (judge(x) for x in (step.teacher_image, step.student_image, step.real_image))
    ours = [(x - 1).square().mean() for x in (teacher, student)]
    theirs = [(real - 1).square().mean() + x.square().mean() for x in (teacher, student)]
    expected = sum(w * (o - c).abs() / o.abs() for w, (o, c) in ((3.0, ours), (0.5 * 2.0, theirs)))
    term = SelfSupervised(
        generator={"least_squares": Weighted(term=LeastSquaresGenerator(), weight=3.0)},
        discriminator={"least_squares": Weighted(term=LeastSquaresDiscriminator(), weight=2.0)},
    )
    torch.testing.assert_close(term(step), expected)


class Random(Term):
    """A value that depends on random numbers and the student's image."""

    def forward(self, step):
        return step.student_image.mean().square() + torch.rand(()) + 1


def test_both_sides_see_the_same_random_numbers_and_the_next_ones_are_others(step):
    step.players.student.load_state_dict(step.players.teacher.network.state_dict())
    term = SelfSupervised(generator={"random": Weighted(term=Random())}, discriminator={})
    state = torch.random.get_rng_state()
    assert term(step).item() == 0
    assert not torch.equal(torch.random.get_rng_state(), state)


def test_a_penalty_s_gradient_reaches_the_student(step):
    terms = {"gradient_penalty": Weighted(term=GradientPenalty(), weight=10.0)}
    only = SelfSupervised(discriminator=terms)
    without = SelfSupervised(discriminator={})
    value = only(step) - without(step)
    assert value.item() > 0
    gradients = torch.autograd.grad(value, list(step.players.student.synthesis.parameters()), allow_unused=True)
    assert sum(gradient.abs().sum() for gradient in gradients if gradient is not None) > 0


def test_scaling_every_baseline_term_leaves_the_value(step):
    class Scaled(Term):
        def __init__(self, scale):
            super().__init__()
            self.scale = scale

        def forward(self, step):
            return self.scale * LeastSquaresGenerator()(step)

    values = [
        SelfSupervised(generator={"x": Weighted(term=Scaled(scale))}, discriminator={})(step) for scale in (1.0, 40.0)
    ]
    torch.testing.assert_close(values[0], values[1])


def test_a_baseline_term_that_does_not_fit_is_refused_by_name():
    term = SelfSupervised(generator={"noise_prediction": Weighted(term=NoisePrediction())})
    with pytest.raises(UserError, match="loss 'x', baseline term 'noise_prediction': reads a DenoisingStep"):
        term.check_fits("loss 'x'", GeneratorStep, tiny_generator())
    term = SelfSupervised(discriminator={"wrong": Weighted(term=LeastSquaresGenerator())})
    with pytest.raises(UserError, match="baseline term 'wrong': reads a JudgedStep"):
        term.check_fits("loss 'x'", GeneratorStep, tiny_generator())
    with pytest.raises(UserError, match="settings for 'left' are given"):
        SelfSupervised(generator={"left": {"weight": 2}})
