import math

import pytest
import torch
import torch.nn.functional as F

from limbeck.architectures.stylegan2 import Generator
from limbeck.errors import UserError
from limbeck.losses.relation import Relation, cosine_matrix, divergence, leading_directions
from limbeck.model import Model, Pair


def prepared(step, **settings) -> Relation:
    term = Relation(**{"resolutions": [8, 16], "direction_resolutions": [8, 16], "num_directions": 3, **settings})
    teacher = Model(step.players.teacher.network)
    term.prepare(Pair(teacher, teacher), half=False)
    step.feature_resolutions = term.feature_resolutions
    return term


def equal_players(step):
    """Student and teacher with the same weights, without noise of their own."""
    step.draw = type(step.draw)(step.draw.latents, step.draw.crossover, noise="const")
    step.players.student.load_state_dict(step.players.teacher.network.state_dict())


def test_directions_are_the_leading_eigenvectors():
    torch.manual_seed(1)
    weights = torch.randn(40, 7) * torch.tensor([5, 1, 1, 1, 1, 1, 0.2])
    rows = weights / weights.norm(dim=1, keepdim=True)
    _, sizes, right = torch.linalg.svd(rows)
    found = leading_directions(weights, 3)
    torch.testing.assert_close((found * right[:3]).sum(dim=1).abs(), torch.ones(3))
    assert sizes[0] > sizes[1] > sizes[2]
    torch.testing.assert_close(found @ found.T, torch.eye(3), atol=1e-6, rtol=0)


def test_directions_ignore_the_length_of_rows_and_survive_missing_rank():
    weights = torch.tensor([[3.0, 0, 0], [0, 0.1, 0], [0, 0.2, 0], [0.0, 0, 0]])
    found = leading_directions(weights, 5)
    torch.testing.assert_close(found.abs(), torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]))


def test_cosines_by_hand_and_against_torch():
    a, b = torch.zeros(2, 2, 1, 1), torch.zeros(1, 2, 1, 1)
    a[0, 0], a[1], b[0] = 3.0, 1.0, 2.0
    torch.testing.assert_close(cosine_matrix(a, b), torch.tensor([[math.sqrt(0.5)], [1.0]]))
    x, y = torch.randn(3, 4, 2, 5), torch.randn(6, 4, 2, 5)
    expected = F.cosine_similarity(x.flatten(1)[:, None], y.flatten(1)[None], dim=2)
    torch.testing.assert_close(cosine_matrix(x, y), expected)
    torch.testing.assert_close(cosine_matrix(7 * x, y), expected)


def test_divergence_by_hand():
    teacher, student = torch.tensor([[0.0, math.log(3)]]), torch.zeros(1, 2)
    expected = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert divergence(teacher, student).item() == pytest.approx(expected)
    assert divergence(teacher.repeat(5, 1), student.repeat(5, 1)).item() == pytest.approx(expected)
    assert divergence(teacher, teacher).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("distance", ["kl", "mse"])
def test_zero_for_a_student_that_is_the_teacher(generator_step, distance):
    equal_players(generator_step)
    assert prepared(generator_step, distance=distance)(generator_step).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("distance", ["kl", "mse"])
def test_value_is_that_of_all_pairs_by_definition(generator_step, distance):
    """Against one pass over [w; w + offset], as the authors have it, with one cosine at a time."""
    step = generator_step
    step.draw = type(step.draw)(step.draw.latents, step.draw.crossover, noise="const")
    term = prepared(step, distance=distance)
    offset = term.offsets(4)
    term.offsets = lambda n: offset
    maps = {}
    for who, network in (("teacher", step.players.teacher.network), ("student", step.players.student)):
        style = step.draw.styles(network)
        both = torch.cat([style, style + offset])
        _, maps[who] = network.synthesis(both, noise="const", return_features=(8, 16))
    expected = 0.0
    for r in (8, 16):
        cosines = {}
        for who in maps:
            flat = maps[who][r].flatten(1)
            rows = [[F.cosine_similarity(flat[i], flat[4 + j], dim=0) for j in range(4)] for i in range(4)]
            cosines[who] = torch.stack([torch.stack(row) for row in rows])
        if distance == "mse":
            expected += (cosines["teacher"] - cosines["student"]).square().mean()
        else:
            p, q = cosines["teacher"].softmax(dim=1), cosines["student"].softmax(dim=1)
            expected += (p * (p / q).log()).sum(dim=1).mean()
    torch.testing.assert_close(term(step), expected, rtol=1e-4, atol=1e-7)


def test_reaches_the_student_alone(generator_step):
    prepared(generator_step)(generator_step).backward()
    assert sum(p.grad.abs().sum() for p in generator_step.players.student.parameters() if p.grad is not None) > 0
    assert all(p.grad is None for p in generator_step.players.teacher.network.parameters())
    assert all(p.grad is None for p in generator_step.players.discriminators["fresh"].parameters())


def test_the_shifted_half_skips_rgb_and_later_blocks(generator_step, monkeypatch):
    term = prepared(generator_step, resolutions=[8])
    assert generator_step.student_features.keys() == generator_step.teacher_features.keys() == {8}
    student = generator_step.players.student.synthesis
    for unused in (student.b4.torgb, student.b8.torgb, student.b16.conv0, student.b16.conv1):
        monkeypatch.setattr(unused, "forward", None)
    term(generator_step).backward()


def test_a_single_image_has_no_relation(players, draw, generator_step):
    generator_step.draw = type(draw)(draw.latents[:, :1], draw.crossover[:1])
    value = prepared(generator_step)(generator_step)
    assert value.item() == 0
    value.backward()
    gradients = [p.grad for p in generator_step.players.student.parameters() if p.grad is not None]
    assert all(gradient.abs().max() == 0 for gradient in gradients)


@pytest.mark.parametrize(("kind", "count"), [("block", 6), ("global", 6)])
def test_directions_have_unit_length(generator_step, kind, count):
    term = prepared(generator_step, directions=kind)
    assert term.directions.shape == (count, 8)
    torch.testing.assert_close(term.directions.norm(dim=1), torch.ones(count))
    assert "directions" not in term.state_dict()


def test_the_published_setting_has_25_directions_of_512_numbers():
    teacher = Model(Generator(resolution=256, widths=[4] * 14, mapping_depth=1))
    term = Relation()
    term.prepare(Pair(teacher, teacher), half=False)
    assert term.feature_resolutions == (16, 32, 64, 128)
    assert term.directions.shape == (25, 512)
    blocks = term.directions.reshape(5, 5, 512)
    torch.testing.assert_close(blocks @ blocks.mT, torch.eye(5).expand(5, 5, 5), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["block", "global", "random"])
def test_lengths_of_offsets_are_normal_with_deviation_five(generator_step, kind):
    offsets = prepared(generator_step, directions=kind).offsets(20_000)[:, 0]
    lengths = offsets.norm(dim=1)
    assert lengths.mean().item() == pytest.approx(5 * math.sqrt(2 / math.pi), rel=0.02)
    assert lengths.square().mean().item() == pytest.approx(25, rel=0.03)
    lines = (offsets / lengths[:, None] * offsets[:, :1].sign()).mul(100).round().unique(dim=0)
    assert len(lines) == 6 if kind != "random" else len(lines) > 1000


def test_blocks_beyond_the_teacher_are_left_out_and_none_is_refused(generator_step):
    assert prepared(generator_step, resolutions=[16, 32, 64]).feature_resolutions == (16,)
    with pytest.raises(UserError, match=r"relation.resolutions=\[32\].*\[4, 8, 16\]"):
        prepared(generator_step, resolutions=[32])


@pytest.mark.parametrize("wrong", [{"directions": "both"}, {"distance": "l1"}])
def test_refuses_unknown_kinds(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=f"relation.{name}="):
        Relation(**wrong)
