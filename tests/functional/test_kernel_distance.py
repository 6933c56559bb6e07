import numpy as np
import pytest
import torch

from limbeck.embeddings.torchvision_shim import imported
from limbeck.functional.kernel_distance import (
    polynomial_kernel,
    squared_mmd,
    squared_mmd_with_error,
    subset_squared_mmds,
)


def written_out(x, y):
    """The unbiased estimate, term by term."""
    x, y = x.double().tolist(), y.double().tolist()

    def k(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    within_x = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_x + within_y - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


def test_the_kernel_by_hand():
    value = polynomial_kernel(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    assert torch.equal(value, torch.tensor([[6.5**3, 1.0]]))  # (1*3 + 2*4) / 2 + 1 = 6.5


def test_two_points_against_one_by_hand():
    # k(1, 3) = 4^3, k(1, 1) = 2^3, k(1, 2) = 3^3, k(3, 2) = 7^3, k(2, 2) = 5^3; one feature each
    x, y = torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [2.0]])
    assert float(squared_mmd(x, y)) == 64 + 125 - (27 + 343)
    assert float(squared_mmd(x, y, unbiased=False)) == (8 + 1000 + 2 * 64) / 4 + 125 - (27 + 343)


@pytest.mark.parametrize("block", [3, 7, 100])
def test_blocks_do_not_change_the_sum(block):
    x, y = torch.randn(11, 5), torch.randn(8, 5) + 0.5
    assert float(squared_mmd(x.double(), y.double(), block=block)) == pytest.approx(written_out(x, y), rel=1e-10)


def test_biased_distance_of_a_set_with_itself_is_zero():
    x = torch.randn(50, 6)
    assert float(squared_mmd(x, x.clone(), unbiased=False)) == pytest.approx(0, abs=1e-9)


def test_the_estimate_with_error_is_the_estimate_over_all_pairs():
    x, y = torch.randn(103, 6), torch.randn(57, 6) * 1.2
    found = squared_mmd_with_error(x, y, num_folds=10, block=16)
    assert found.value == pytest.approx(float(squared_mmd(x, y)), rel=1e-5)


def test_leaving_out_folds_is_done_by_hand_the_same():
    x, y = torch.randn(12, 3).double(), torch.randn(9, 3).double() + 1
    left = [float(squared_mmd(torch.cat([x[:i], x[i + 4 :]]), torch.cat([y[:j], y[j + 3 :]]))) for i, j in
            ((0, 0), (4, 3), (8, 6))]  # fmt: skip
    expected = (2 / 3 * sum((value - np.mean(left)) ** 2 for value in left)) ** 0.5
    assert squared_mmd_with_error(x, y, num_folds=3).standard_error == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_the_standard_error_is_the_spread_between_draws(shift):
    draws = [squared_mmd_with_error(torch.randn(100, 4), torch.randn(100, 4) + shift) for _ in range(40)]
    spread = np.std([draw.value for draw in draws])
    claimed = np.median([draw.standard_error for draw in draws])
    assert 0.6 < claimed / spread < 1.6


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="3 and 50 rows"):
        squared_mmd_with_error(torch.randn(3, 2), torch.randn(50, 2))


def test_subsets_agree_with_torch_fidelity():
    kid = imported("torch_fidelity.metric_kid")
    x, y = torch.randn(300, 16), torch.randn(250, 16) * 1.1 + 0.1
    expected = kid.kid_features_to_metric(x, y, kid_subsets=10, kid_subset_size=100, rng_seed=2020, verbose=False)
    drawn = np.random.RandomState(2020)
    subsets = [
        tuple(torch.from_numpy(drawn.choice(len(part), 100, replace=False)) for part in (x, y)) for _ in range(10)
    ]
    values = subset_squared_mmds(x, y, subsets)
    assert float(values.mean()) == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-4)
    assert float(values.std(correction=0)) == pytest.approx(expected["kernel_inception_distance_std"], rel=1e-4)
