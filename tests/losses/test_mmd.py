import copy
from functools import partial

import pytest
import torch

from limbeck.embeddings.random_projection import RandomProjection
from limbeck.errors import UserError
from limbeck.frozen import Frozen
from limbeck.functional.kernel_distance import gaussian_kernel, linear_kernel, median_distance, squared_mmd
from limbeck.losses.mmd import Gaussian, Linear, Mmd, Polynomial
from limbeck.losses.steps import Draw, GeneratorStep
from limbeck.losses.teacher_statistics import Sample, teacher_sample
from limbeck.model import Model, Pair

from .conftest import tiny_generator

KERNELS = [Linear(), Polynomial(degree=2), Gaussian(factors=[0.5, 1.0])]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """No test touches the user's own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def mmd(kernel=None, **settings) -> Mmd:
    settings = {"embeddings": {"random": RandomProjection()}, "weights": {"random": 1.0}, "num_images": 32, **settings}
    term = Mmd(kernel=kernel or Gaussian(), **settings)
    term.check()
    network = tiny_generator()
    term.prepare(Pair(Model(network), Model(network)), half=False)
    return term


def number(value: torch.Tensor) -> float:
    return float(value.detach())


def vectors(step: GeneratorStep, who: str) -> torch.Tensor:
    return step.vectors(Frozen(RandomProjection().load()), who).detach()


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel).__name__)
def test_the_value_is_the_squared_mmd_to_the_teacher_s_sample(generator_step, kernel, unbiased):
    term = mmd(kernel, unbiased=unbiased)
    reference = teacher_sample(generator_step.teacher, Frozen(RandomProjection().load()), Sample(32))
    fitted = kernel.fitted(reference)
    expected = squared_mmd(vectors(generator_step, "student"), reference, kernel=fitted, unbiased=unbiased)
    assert number(term(generator_step)) == pytest.approx(float(expected), rel=1e-5, abs=1e-7)


def test_kernels_follow_their_settings():
    teacher = torch.randn(20, 4)
    assert Linear().fitted(teacher) is linear_kernel
    assert Polynomial(degree=2, coef0=0.0).fitted(teacher)(torch.ones(1, 4), torch.ones(1, 4)).item() == 1.0
    unit = median_distance(teacher)
    expected = partial(gaussian_kernel, bandwidths=[0.5 * unit, 3 * unit])
    found = Gaussian(factors=[0.5, 3.0]).fitted(teacher)
    assert torch.equal(found(teacher, teacher), expected(teacher, teacher))
    fixed = Gaussian(factors=[1.0], bandwidth=2.0).fitted(teacher)
    assert torch.equal(fixed(teacher, teacher), gaussian_kernel(teacher, teacher, bandwidths=[2.0]))
    for wrong in (Gaussian(factors=[]), Gaussian(factors=[1.0, -1.0]), Gaussian(bandwidth=0.0)):
        with pytest.raises(UserError, match="kernel: bandwidths"):
            wrong.fitted(teacher)
    with pytest.raises(UserError, match="kernel: bandwidths"):
        Gaussian().fitted(torch.ones(5, 4))  # no distance at all


def test_weights_scale_and_embeddings_add_up(generator_step):
    both = {"a": RandomProjection(), "b": RandomProjection(seed=1)}
    value = number(mmd(embeddings=both, weights={"a": 2.0, "b": 3.0})(generator_step))
    first = number(mmd(embeddings=both, weights={"a": 1.0, "b": 0})(generator_step))
    second = number(mmd(embeddings=both, weights={"a": 0, "b": 1.0})(generator_step))
    assert value == pytest.approx(2 * first + 3 * second, rel=1e-5)


def test_the_gradient_reaches_the_student_alone(generator_step):
    players = generator_step.players
    mmd()(generator_step).backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in players.student.parameters())
    assert all(p.grad is None for p in players.teacher.network.parameters())


def draw(count: int, **settings) -> Draw:
    return Draw(torch.randn(2, count, 8), torch.full((count,), 6), **settings)


def test_a_queue_holds_the_teacher_s_last_images(players):
    term = mmd(teacher="queue", num_images=10, kernel=Linear(), unbiased=False)
    steps = [GeneratorStep(players, draw(4)) for _ in range(4)]
    seen = torch.zeros(0, 64)
    for step in steps:
        value = number(term(step))
        seen = torch.cat([seen, vectors(step, "teacher")])[-10:]
        expected = squared_mmd(vectors(step, "student"), seen, kernel=linear_kernel, unbiased=False)
        assert value == pytest.approx(float(expected), rel=1e-4, abs=1e-8)
    assert torch.equal(term.samples["random"], seen)


def test_a_resumed_queue_goes_on_where_it_was(players):
    steps = [GeneratorStep(players, draw(4)) for _ in range(3)]
    one, other = mmd(teacher="queue"), mmd(teacher="queue")
    for step in steps[:2]:
        one(step)
    state = copy.deepcopy(one.state_dict())
    assert len(one.samples["random"]) == 8
    other.load_state_dict(state)
    assert number(other(steps[2])) == number(one(steps[2]))
    assert not any(
        isinstance(value, torch.Tensor) for value in mmd().state_dict().values()
    )  # the cache is kept elsewhere


@pytest.mark.parametrize("teacher", ["cache", "queue"])
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel).__name__)
def test_over_the_batch_value_and_gradient_are_those_of_one_large_step(players, kernel, teacher):
    whole = draw(9, noise="const")

    def gradients(steps, term):
        players.student.zero_grad()
        values = []
        for step in steps:
            value = term(step)
            (value * (step.num_rows / 9)).backward()
            values.append(number(value))
        return values, [p.grad.clone() for p in players.student.parameters() if p.grad is not None]

    (value,), expected = gradients([GeneratorStep(players, whole)], mmd(kernel, teacher=teacher))
    steps: list[GeneratorStep] = []
    for part in whole.split((4, 4, 1)):
        steps.append(GeneratorStep(players, part, siblings=steps))
    values, found = gradients(steps, mmd(kernel, teacher=teacher, over="batch"))
    assert values == [pytest.approx(value, rel=1e-4, abs=1e-8)] * 3
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5 * float(b.abs().max()) + 1e-10, rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"teacher": "both"}, "teacher='both': must be 'cache' or 'queue'"),
        ({"over": "all"}, "over='all'"),
        ({"num_images": 1}, "num_images=1: must be at least 2"),
        ({"weights": {"random": "much"}}, "weights.random='much'"),
    ],
)
def test_wrong_settings_are_refused_by_name(changes, match):
    with pytest.raises(UserError, match=match) as error:
        mmd(**changes)
    assert str(error.value).startswith("loss.generator.mmd.term")


def test_one_image_has_no_pairs(players):
    single = GeneratorStep(players, draw(1))
    with pytest.raises(UserError, match="need at least 2 images"):
        mmd()(single)
    assert number(mmd(unbiased=False)(single)) > 0


def test_what_is_said_of_it_names_the_kernel():
    facts = mmd(Gaussian(factors=[1.0])).describe()
    assert (facts["kernel"], facts["factors"], facts["unbiased"]) == ("gaussian", [1.0], True)
    assert facts["embeddings"]["random"]["embedding"] == "random_projection"
