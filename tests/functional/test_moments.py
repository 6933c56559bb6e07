import math

import pytest
import torch

from limbeck.functional.moments import moment_distance, raw_moments


def test_moments_by_hand():
    first, second = raw_moments(torch.tensor([[1.0, -2.0], [3.0, 0.0]]))
    assert first.tolist() == [2.0, -1.0]
    assert second.tolist() == [5.0, 2.0]  # squares as they are, not centered


def test_the_distance_by_hand():
    features = torch.tensor([[1.0, -2.0], [3.0, 0.0]])
    first, second = torch.tensor([1.0, 1.0]), torch.tensor([5.0, 0.0])
    assert float(moment_distance(features, first, second)) == (1 + 2) / 2 + (0 + 2) / 2


def test_zero_at_the_batch_s_own_moments_and_for_one_vector_at_itself_and_its_square():
    features = torch.randn(8, 16)
    assert float(moment_distance(features, *raw_moments(features))) == 0
    one = torch.randn(1, 16)
    assert float(moment_distance(one, one[0], one[0].square())) == 0


def test_order_and_repetition_of_the_batch_do_not_matter():
    features, first, second = torch.randn(8, 16).double(), torch.randn(16).double(), torch.rand(16).double()
    value = float(moment_distance(features, first, second))
    assert float(moment_distance(features[torch.randperm(8)], first, second)) == pytest.approx(value, rel=1e-12)
    assert float(moment_distance(torch.cat([features, features]), first, second)) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("shift", [0.5, -0.25])
def test_a_common_shift_raises_the_first_part_by_its_size(shift):
    features = torch.randn(8, 16).double()
    moved = features + shift
    second = raw_moments(moved)[1]  # so that the second part is 0
    assert float(moment_distance(moved, features.mean(dim=0), second)) == pytest.approx(abs(shift), rel=1e-12)


@pytest.mark.parametrize(("n", "floor"), [(8, 0.2821), (64, 0.0997)])
def test_the_floor_at_a_perfect_match(n, floor):
    assert math.sqrt(2 / (math.pi * n)) == pytest.approx(floor, abs=1e-4)
    features = torch.randn(n, 20000)
    zero, own = torch.zeros(20000), raw_moments(features)[1]
    assert float(moment_distance(features, zero, own)) == pytest.approx(floor, rel=0.02)


def test_the_gradient_is_a_sign_over_batch_and_width():
    features = torch.tensor([[3.0, 1.0], [5.0, 1.0]], requires_grad=True)
    moment_distance(features, torch.tensor([0.0, 9.0]), features.detach().square().mean(dim=0)).backward()
    assert features.grad.tolist() == [[0.25, -0.25], [0.25, -0.25]]  # sign / (2 vectors * 2 coordinates)
