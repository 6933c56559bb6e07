import math

import pytest
import torch

from limbeck.architectures.stylegan2 import Discriminator, Generator
from limbeck.errors import UserError
from limbeck.losses.nickel import Nickel, haar_details, wavelet_distance
from limbeck.model import Model, Pair


def pair_of(step) -> Pair:
    teacher = Model(step.players.teacher.network, step.players.discriminators["fresh"])
    return Pair(teacher, teacher)


def prepared(step, **settings) -> Nickel:
    term = Nickel(**settings)
    term.prepare(pair_of(step), half=False)
    step.feature_resolutions = term.feature_resolutions
    return term


def test_haar_by_hand():
    (band,) = haar_details(torch.tensor([[1.0, 2.0], [3.0, 6.0]])[None, None], 4)
    assert band.flatten().tolist() == [-2.0, -3.0, 1.0]


def test_haar_keeps_the_energy():
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    details = haar_details(x, 4)
    low = torch.nn.functional.avg_pool2d(x, 16) * 16  # an orthonormal low pass doubles the mean at each level
    energy = sum(band.square().sum() for band in details) + low.square().sum()
    assert energy.item() == pytest.approx(x.square().sum().item(), rel=1e-12)


def test_haar_against_its_matrix():
    one = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64) / math.sqrt(2)  # rows: low, high
    x = torch.randn(1, 1, 2, 2, dtype=torch.float64)
    bands = one @ x[0, 0] @ one.T
    (found,) = haar_details(x, 1)
    torch.testing.assert_close(found.flatten(), torch.stack([bands[0, 1], bands[1, 0], bands[1, 1]]))


def test_shapes_of_the_published_setting():
    shapes = [tuple(band.shape) for band in haar_details(torch.zeros(2, 256, 64, 64), 4)]
    assert shapes == [(2, 256, 3, size, size) for size in (32, 16, 8, 4)]


def test_odd_sizes_end_the_levels():
    assert [band.shape[-1] for band in haar_details(torch.zeros(1, 1, 12, 12), 4)] == [6, 3]


def test_blind_to_constants_and_zero_at_equality():
    a, b = torch.randn(2, 2, 3, 8, 8)
    assert wavelet_distance(a, a, 3).item() == 0
    assert wavelet_distance(torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8), 3).item() == 0
    shifted = b + torch.randn(1, 3, 1, 1)
    torch.testing.assert_close(wavelet_distance(a, shifted, 3), wavelet_distance(a, b, 3))
    torch.testing.assert_close(wavelet_distance(2 * a, 2 * b, 3), 4 * wavelet_distance(a, b, 3))


def test_published_pair_of_maps():
    """Block 64 of the generator and the discriminator's second block: 256 channels at 64 x 64 for the small net."""
    generator = Generator(resolution=256, widths=[4] * 8 + [256, 256, 4, 4, 4, 4], z_dim=8, w_dim=8, mapping_depth=1)
    judge = Discriminator(resolution=256, widths=[4, 4, 256, 4, 4, 4, 4])
    term = Nickel()
    term.prepare(Pair(Model(generator, judge), Model(generator)), half=False)
    assert (term.source, term.target) == (64, 64)
    assert list(term.parameters()) == []
    maps = generator.synthesis.features(generator.mapping(torch.randn(1, 8)), (64,))[64]
    assert maps.shape == judge.features(torch.randn(1, 3, 256, 256), (64,))[64].shape == (1, 256, 64, 64)


def test_reaches_the_first_blocks_of_the_judge_and_nothing_else(discriminator_step):
    prepared(discriminator_step)(discriminator_step).backward()
    judge = discriminator_step.players.discriminators["fresh"]
    touched = {name.split(".")[0] for name, p in judge.named_parameters() if p.grad is not None}
    assert touched == {"b16", "b8"}
    assert all(p.grad.abs().sum() > 0 for p in judge.parameters() if p.grad is not None)
    for other in (discriminator_step.players.student, discriminator_step.players.teacher.network):
        assert all(p.grad is None for p in other.parameters())


def test_looks_at_the_teachers_image_of_the_same_pass(discriminator_step):
    term = prepared(discriminator_step, distance="mse")
    maps = discriminator_step.teacher_features[4]
    found = discriminator_step.players.discriminators["fresh"].features(discriminator_step.teacher_image, (4,))[4]
    expected = (found - maps).square().mean()
    torch.testing.assert_close(term(discriminator_step), expected)


def test_no_later_block_is_run(discriminator_step, monkeypatch):
    judge = discriminator_step.players.discriminators["fresh"]
    monkeypatch.setattr(judge.b4, "forward", None)
    prepared(discriminator_step)(discriminator_step).backward()


@pytest.mark.parametrize(("source", "target"), [(16, 8), (4, 8)])
def test_sizes_may_differ(discriminator_step, source, target):
    term = prepared(discriminator_step, generator_resolution=source, discriminator_resolution=target, distance="mse")
    maps = discriminator_step.teacher_features[source]
    judge = discriminator_step.players.discriminators["fresh"]
    found = judge.features(discriminator_step.teacher_image, (target,))[target]
    small = min(source, target)
    pooled = [torch.nn.functional.avg_pool2d(x, x.shape[-1] // small) for x in (found, maps)]
    torch.testing.assert_close(term(discriminator_step), (pooled[0] - pooled[1]).square().mean())


def test_unequal_widths_are_adapted_by_trained_weights(discriminator_step):
    judge = Discriminator(resolution=16, widths=[8, 8, 6])
    players = type(discriminator_step.players)(
        discriminator_step.players.student, discriminator_step.players.teacher, {"fresh": judge}
    )
    discriminator_step.players = players
    term = prepared(discriminator_step)
    assert term.adapter.weight.shape == (8, 6, 1, 1)
    term(discriminator_step).backward()
    assert term.adapter.weight.grad.abs().sum() > 0
    assert judge.b16.fromrgb.weight.grad.abs().sum() > 0
    again = prepared(discriminator_step)
    assert torch.equal(again.adapter.weight, term.adapter.weight)  # the same on every process


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"distance": "l1"}, "distance"),
        ({"levels": 0}, "levels"),
        ({"generator_resolution": 32}, "generator_resolution=32"),
    ],
)
def test_refuses_what_is_not_there(discriminator_step, wrong, message):
    with pytest.raises(UserError, match=f"nickel.{message}"):
        prepared(discriminator_step, **wrong)


def test_an_unknown_judge_is_refused_by_name(discriminator_step):
    term = prepared(discriminator_step, judge="teacher")
    with pytest.raises(UserError, match=r"nickel.judge='teacher'.*: fresh"):
        term(discriminator_step)
