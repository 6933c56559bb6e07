import copy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from limbeck.embeddings.base import Embedding
from limbeck.embeddings.module import Module
from limbeck.embeddings.pretrained import Pretrained
from limbeck.embeddings.random_projection import RandomProjection
from limbeck.errors import UserError
from limbeck.frozen import Frozen
from limbeck.functional.moments import moment_distance, raw_moments
from limbeck.losses.dime import Dime
from limbeck.losses.steps import Draw, GeneratorStep
from limbeck.losses.teacher_statistics import Sample, teacher_moments, teacher_sample
from limbeck.model import Model, Pair

from .conftest import tiny_generator


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """No test touches the user's own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "limbeck" / "teacher"


def with_normalization() -> Pretrained:
    """A small network whose batch normalization would drift in training mode."""
    torch.manual_seed(7)
    layers = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 12, 3))
    return Pretrained(source=Module(module=layers, name="small"), preprocessing="raw")


def dime(weights=None, embeddings=None, **settings) -> Dime:
    embeddings = embeddings or {"random": RandomProjection(num_features=16), "small": with_normalization()}
    weights = weights or {"random": 20.0, "small": 15.0}
    term = Dime(embeddings=embeddings, weights=weights, **{"num_images": 48, **settings})
    term.check()
    network = tiny_generator()
    term.prepare(Pair(Model(network), Model(network)), half=False)
    return term


def number(value: torch.Tensor) -> float:
    return float(value.detach())


def vectors_of(embedding: Embedding, image: torch.Tensor) -> torch.Tensor:
    return embedding.load()(image)


def test_the_value_is_the_weighted_sum_of_released_distances(generator_step):
    value = dime()(generator_step).detach()
    teacher, expected = generator_step.teacher, 0.0
    for embedding, weight in ((RandomProjection(num_features=16), 20.0), (with_normalization(), 15.0)):
        target = raw_moments(teacher_sample(teacher, frozen(embedding), Sample(48)).double())
        own = vectors_of(embedding, generator_step.student_image).detach().double()
        first = (own.mean(dim=0) - target[0]).abs().mean()
        second = (own.square().mean(dim=0) - target[1]).abs().mean()
        expected += weight * float(first + second)
    assert float(value) == pytest.approx(expected, rel=1e-5)


def frozen(embedding: Embedding) -> Frozen:
    return Frozen(embedding.load())


def test_weights_scale_linearly_and_zero_leaves_out(generator_step):
    double = dime(weights={"random": 40.0, "small": 30.0})(generator_step)
    assert number(double) == pytest.approx(2 * number(dime()(generator_step)), rel=1e-6)
    alone = dime(weights={"random": 20.0, "small": 0})
    other = dime(weights={"random": 0.0, "small": 15.0})
    assert list(alone.embeddings) == ["random"]
    both = number(dime()(generator_step))
    assert number(alone(generator_step) + other(generator_step)) == pytest.approx(both, rel=1e-6)


def test_the_gradient_reaches_the_student_alone_and_nothing_else_moves(generator_step):
    term, players = dime(), generator_step.players
    embeddings = [embedding.network for embedding in term.embeddings.values()]
    watched = [players.teacher.network, *players.discriminators.values(), *embeddings]
    before = [copy.deepcopy(network.state_dict()) for network in watched]
    term(generator_step).backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in players.student.parameters())
    for network, state in zip(watched, before, strict=True):
        assert all(p.grad is None for p in network.parameters())
        assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert "small" in term.embeddings  # whose running statistics were compared, too
    assert any("running_mean" in name for state in before for name in state)


def test_a_student_of_the_teacher_s_distribution_stands_at_the_floor(players):
    twin = replace(players, student=players.teacher.network)
    term = dime(num_images=4096, batch_size=512)
    draw = Draw(torch.randn(2, 512, 8), torch.full((512,), 6))
    small, large = (np.mean([number(term(GeneratorStep(twin, part))) for part in split(draw, n)]) for n in (8, 128))
    assert large < 0.45 * small  # 1 / sqrt(n): 0.25, and the error of the teacher's own moments
    assert number(term(GeneratorStep(players, draw))) > 3 * large


def split(draw: Draw, size: int) -> list[Draw]:
    pairs = zip(draw.latents.split(size, dim=1), draw.crossover.split(size), strict=True)
    return [Draw(latents, crossover, noise=draw.noise) for latents, crossover in pairs]


def test_statistics_of_the_batch_use_the_teacher_s_images_of_the_same_latents(generator_step):
    term = dime(statistics="batch", weights={"random": 3.0, "small": 0.0})
    embedding = RandomProjection(num_features=16).load()
    target = raw_moments(embedding(generator_step.teacher_image))
    expected = 3 * moment_distance(embedding(generator_step.student_image), *target)
    assert number(term(generator_step)) == pytest.approx(number(expected), rel=1e-6)
    twin = replace(generator_step.players, student=generator_step.teacher.network)
    quiet = Draw(torch.randn(2, 4, 8), torch.full((4,), 6), noise="none")
    assert number(term(GeneratorStep(twin, quiet))) == 0  # zero at equality


def test_terms_with_equal_embeddings_share_their_passes(generator_step, monkeypatch):
    calls = []
    first, second = (dime(embeddings={"a": RandomProjection()}, weights={"a": 1.0}, num_images=8) for _ in range(2))
    first(generator_step)
    for term in (first, second):
        network = term.embeddings["a"].network
        monkeypatch.setattr(network, "forward", partial(counted, calls, network.forward))
    second.moments = first.moments
    assert number(second(generator_step)) == number(first(generator_step))
    assert calls == []


def counted(calls, function, image):
    calls.append(len(image))
    return function(image)


# -- the teacher's statistics --------------------------------------------------------------------------------------


def test_moments_are_those_of_the_sample(players):
    embedding, sample = frozen(RandomProjection(num_features=16)), Sample(50, batch_size=8, seed=3)
    vectors = teacher_sample(players.teacher, embedding, sample).double()
    found = teacher_moments(players.teacher, embedding, sample)
    assert vectors.shape == (50, 16)
    assert len(vectors.unique(dim=0)) == 50
    torch.testing.assert_close(found.first.double(), vectors.mean(dim=0), atol=0, rtol=1e-6)
    torch.testing.assert_close(found.second.double(), vectors.square().mean(dim=0), atol=0, rtol=1e-6)
    assert not torch.allclose(found.second, found.first.square(), rtol=1e-3)  # raw, and not of the mean


def test_sums_are_exact_where_float32_is_not(players, cache):
    """A large common part: single precision would lose the difference."""
    layer = nn.Conv2d(3, 2, 16)
    layer.bias.data += 1000
    embedding = frozen(Pretrained(source=Module(module=layer, name="large"), preprocessing="raw", resolution=16))
    sample = Sample(300, batch_size=7)
    vectors = teacher_sample(players.teacher, embedding, sample).double()
    teacher_moments(players.teacher, embedding, sample)
    (path,) = cache.glob("large-moments-*")
    stored = load_file(path)
    for name, expected in (("first", vectors.mean(dim=0)), ("second", vectors.square().mean(dim=0))):
        torch.testing.assert_close(stored[name], expected, atol=0, rtol=1e-13)


def test_they_are_made_once_and_kept_under_everything_they_depend_on(players, cache, monkeypatch):
    embedding, sample = frozen(RandomProjection(num_features=16)), Sample(16, batch_size=8)
    first = teacher_moments(players.teacher, embedding, sample)
    assert len(list(cache.iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr(players.teacher.network.synthesis, "forward", None)  # must not be asked again
        again = teacher_moments(players.teacher, embedding, sample)
    assert torch.equal(first.first, again.first)
    assert torch.equal(first.second, again.second)

    other_teacher = copy.deepcopy(players.teacher)
    next(other_teacher.network.parameters()).data.flatten()[0] += 1e-3
    half = copy.deepcopy(embedding)
    half.half_precision = True
    others = [
        (other_teacher, embedding, sample),
        (players.teacher, frozen(RandomProjection(num_features=16, seed=1)), sample),
        (players.teacher, half, sample),
        (players.teacher, embedding, Sample(17, batch_size=8)),
        (players.teacher, embedding, Sample(16, batch_size=4)),
        (players.teacher, embedding, Sample(16, batch_size=8, seed=1)),
        (players.teacher, embedding, Sample(16, batch_size=8, noise="const")),
    ]
    for arguments in others:
        teacher_moments(*arguments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        teacher_moments(players.teacher, embedding, sample)
    assert len(list(cache.iterdir())) == 1 + len(others) + 1


def test_a_damaged_file_is_made_again_and_the_random_state_is_left_alone(players, cache):
    embedding, sample = frozen(RandomProjection(num_features=16)), Sample(16, batch_size=8)
    before = torch.get_rng_state()
    first = teacher_moments(players.teacher, embedding, sample)
    assert torch.equal(before, torch.get_rng_state())
    (path,) = cache.iterdir()
    path.write_bytes(path.read_bytes()[:-4])
    assert torch.equal(teacher_moments(players.teacher, embedding, sample).first, first.first)
    assert len(path.read_bytes()) > 200


def test_a_line_says_what_is_being_made(players, capsys):
    teacher_moments(players.teacher, frozen(RandomProjection(num_features=16)), Sample(16, batch_size=8))
    assert "moments of 16 images of the teacher under random_projection" in capsys.readouterr().out
    teacher_moments(players.teacher, frozen(RandomProjection(num_features=16)), Sample(16, batch_size=8))
    assert capsys.readouterr().out == ""


# -- over the whole batch ------------------------------------------------------------------------------------------


def gradients(players, steps, term) -> list[torch.Tensor]:
    """As the training loop takes them: micro-batches count by their size."""
    players.student.zero_grad()
    num_rows = sum(step.num_rows for step in steps)
    for step in steps:
        (term(step) * (step.num_rows / num_rows)).backward()
    return [parameter.grad.clone() for parameter in players.student.parameters() if parameter.grad is not None]


def siblings(players, draws) -> list[GeneratorStep]:
    steps: list[GeneratorStep] = []
    for draw in draws:
        steps.append(GeneratorStep(players, draw, siblings=steps))
    return steps


@pytest.mark.parametrize("statistics", ["global", "batch"])
@pytest.mark.parametrize("sizes", [(4, 4, 4), (5, 5, 2)])
def test_over_the_batch_value_and_gradient_are_those_of_one_large_step(players, statistics, sizes):
    draw = Draw(torch.randn(2, 12, 8), torch.full((12,), 6), noise="const")
    whole = gradients(players, [one := GeneratorStep(players, draw)], term := dime(statistics=statistics))
    value = number(term(one))
    draws = draw.split(sizes)
    joint = dime(statistics=statistics, over="batch")
    steps = siblings(players, draws)
    parts = gradients(players, steps, joint)
    assert all(number(joint(step)) == pytest.approx(value, rel=1e-5) for step in steps)
    for found, expected in zip(parts, whole, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()) + 1e-9, rtol=1e-4)
    released = gradients(players, siblings(players, draws), dime(statistics=statistics))
    scale = max(float(expected.abs().max()) for expected in whole)
    assert max(float((a - b).abs().max()) for a, b in zip(released, whole, strict=True)) > 0.01 * scale


def test_the_first_pass_without_gradient_has_the_noise_of_the_second(players):
    steps = siblings(players, [Draw(torch.randn(2, 3, 8), torch.full((3,), 6)) for _ in range(2)])
    embedding = frozen(RandomProjection(num_features=16))
    preview = steps[1].previewed_vectors(embedding)
    assert not preview.requires_grad
    torch.randn(5)  # the random stream moves on in between
    assert torch.equal(preview, steps[1].vectors(embedding, "student"))
    assert steps[1].student_image.requires_grad
    again = GeneratorStep(players, steps[1].draw)
    assert not torch.equal(again.vectors(embedding, "student"), preview)  # noise is random otherwise


# -- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"weights": {"random": 1.0}}, r"term.weights: none for embedding 'small'"),
        (
            {"weights": {"random": 1.0, "small": 1.0, "dino": 2.0}},
            r"no embedding 'dino'; selected: random, small",
        ),
        ({"weights": {"random": -1.0, "small": 1.0}}, r"weights.random=-1.0: must be a number, at least 0"),
        ({"weights": {"random": "much", "small": 1.0}}, r"weights.random='much'"),
        ({"weights": {"random": 0, "small": 0}}, r"no embedding has a weight above 0"),
        ({"statistics": "both"}, r"statistics='both': must be 'global' or 'batch'"),
        ({"over": "all"}, r"over='all': must be 'micro_batch' or 'batch'"),
        ({"num_images": 0}, r"num_images=0: must be a whole number, at least 1"),
        ({"batch_size": 0}, r"batch_size=0"),
    ],
)
def test_wrong_settings_are_refused_by_name(changes, match):
    with pytest.raises(UserError, match=match) as error:
        dime(**changes)
    assert str(error.value).startswith("loss.generator.dime.term")


def test_what_is_said_of_it_names_weights_and_preprocessing():
    facts = dime().describe()
    assert facts["num_images"] == 48
    assert facts["embeddings"]["small"]["weight"] == 15.0
    assert facts["embeddings"]["small"]["normalization"] == "[-1, 1]"
    assert len(facts["embeddings"]["random"]["weights_sha256"]) == 64
