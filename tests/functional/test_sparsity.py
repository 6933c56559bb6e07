import math
from fractions import Fraction

import pytest
import torch
from torch.nn import functional as F

from limbeck.errors import UserError
from limbeck.functional.sparsity import agp, chosen, kth_largest, num_kept, straight_through, top_mask


@pytest.mark.parametrize(
    ("size", "ratio", "expected"),
    [(10, 0.1, 1), (11, 0.1, 2), (9, 0.1, 1), (30, 0.9, 27), (7, 1, 7), (7, 1.0, 7), (1000, 1e-9, 1), (3, 0.5, 2)],
)
def test_counts_round_the_switched_off_side_down(size, ratio, expected):
    assert num_kept(size, ratio) == expected


def test_counts_do_not_feel_binary_rounding():
    for percent in range(1, 101):
        for size in (1, 7, 100, 589_824):
            assert num_kept(size, percent / 100) == size - (100 - percent) * size // 100


@pytest.mark.parametrize("ratio", [0, -0.1, 1.1, True, float("nan")])
def test_impossible_ratios_are_refused(ratio):
    with pytest.raises(UserError, match=r"keep_ratio=.*must be a number in \(0, 1\]"):
        num_kept(10, ratio)


@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.37, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_mask_is_what_sorting_gives(ratio, dtype):
    scores = torch.randn(7, 5, 3, 3).to(dtype)
    order = scores.flatten().abs().sort(descending=True, stable=True).indices
    expected = torch.zeros(scores.numel(), dtype=torch.bool)
    expected[order[: num_kept(scores.numel(), ratio)]] = True
    assert torch.equal(top_mask(scores, ratio).flatten(), expected)


def test_of_equal_scores_the_first_stay():
    assert top_mask(torch.tensor([1.0, -1.0, 1.0, 0.5]), 0.5).tolist() == [True, True, False, False]
    assert top_mask(torch.zeros(5), 0.4).tolist() == [True, True, False, False, False]


def test_ranking_is_by_magnitude():
    scores = torch.randn(1000)
    assert torch.equal(top_mask(-3 * scores, 0.3), top_mask(scores, 0.3))


def test_the_kth_largest_is_the_last_of_the_best_k():
    values = torch.randn(1001)
    on_cpu = [float(kth_largest(values, k)) for k in (1, 2, 500, 1001)]
    assert on_cpu == [float(values.topk(k, sorted=False).values.min()) for k in (1, 2, 500, 1001)]


def test_the_gradient_of_a_linear_layer_by_hand():
    weight, scores = torch.randn(4, 6), torch.randn(4, 6, requires_grad=True)
    x = torch.randn(3, 6)
    F.linear(x, straight_through(weight, scores, 0.25)).sum().backward()
    expected = scores.detach().sign() * weight * x.sum(dim=0)
    torch.testing.assert_close(scores.grad, expected)
    assert (scores.grad[~top_mask(scores, 0.25)] != 0).all()


def test_the_forward_pass_is_weight_times_mask():
    weight, scores = torch.randn(50), torch.randn(50)
    assert torch.equal(straight_through(weight, scores, 0.2), weight * top_mask(scores, 0.2))
    assert torch.equal(straight_through(weight, scores, 1.0), weight)
    assert int((straight_through(weight, scores, 1e-6) != 0).sum()) == 1


def test_first_and_second_derivatives_of_the_weight():
    mask, scores = torch.tensor([True, False, True]), torch.ones(3, dtype=torch.double)
    weight = torch.randn(3, dtype=torch.double, requires_grad=True)

    def f(w):
        return chosen(w, scores, mask).pow(3)

    assert torch.autograd.gradcheck(f, weight)
    assert torch.autograd.gradgradcheck(f, weight)


def test_the_schedule_at_quarter_points():
    assert agp(0.0) == 0.05
    assert math.isclose(agp(0.25), 0.5 - 0.45 / 8)  # T/4 of the training is half of the horizon
    assert math.isclose(agp(0.125), 0.5 - 0.45 * (3 / 4) ** 3)
    assert agp(0.5) == agp(0.7) == agp(1.0) == 0.5


def test_the_schedule_never_falls():
    values = [agp(step / 1000, target=0.9, start=0.1, horizon=0.75) for step in range(1001)]
    assert values == sorted(values)
    assert values[0] == 0.1
    assert values[750] == values[-1] == 0.9
    assert values[749] < 0.9


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"target": 1.0}, "target=1.0"),
        ({"target": 0.5, "start": 0.6}, "start=0.6"),
        ({"start": -0.1}, "start=-0.1"),
        ({"horizon": 0.0}, "horizon=0.0"),
    ],
)
def test_impossible_schedules_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        agp(0.3, **settings)


def test_a_share_beyond_the_training_is_refused():
    with pytest.raises(UserError, match=r"share=1\.5"):
        agp(1.5)


def test_fractions_are_taken_as_they_are():
    assert num_kept(9, Fraction(1, 3)) == 3
