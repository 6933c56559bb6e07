from functools import partial

import numpy as np
import pytest
import torch

from limbeck.embeddings.torchvision_shim import imported
from limbeck.functional.kernel_distance import (
    gaussian_kernel,
    linear_kernel,
    median_distance,
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


def slow_mmd(x, y, kernel, *, unbiased):
    """The estimate pair by pair, for any kernel of two vectors."""

    def mean(a, b, *, skip):
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (skip and i == j)]
        return sum(kernel(a[i], b[j]) for i, j in pairs) / len(pairs)

    return mean(x, x, skip=unbiased) + mean(y, y, skip=unbiased) - 2 * mean(x, y, skip=False)


def one_gaussian(a, b, bandwidths=(0.5, 2.0)):
    return sum(float(np.exp(-float((a - b).square().sum()) / (2 * s**2))) for s in bandwidths) / len(bandwidths)


KERNELS = {
    "linear": (linear_kernel, lambda a, b: float(a @ b)),
    "quadratic": (partial(polynomial_kernel, degree=2, coef0=0.5), lambda a, b: (float(a @ b) / len(a) + 0.5) ** 2),
    "gaussian": (partial(gaussian_kernel, bandwidths=(0.5, 2.0)), one_gaussian),
}


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_and_estimate_is_that_of_a_slow_loop(name, unbiased):
    x, y = torch.randn(11, 5).double(), torch.randn(7, 5).double() + 0.5
    kernel, one = KERNELS[name]
    expected = slow_mmd(x, y, one, unbiased=unbiased)
    assert float(squared_mmd(x, y, kernel=kernel, unbiased=unbiased, block=4)) == pytest.approx(expected, rel=1e-9)


def test_kernels_by_hand():
    x, y = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [1.0, 2.0]])
    assert linear_kernel(x, y).tolist() == [[11.0, 5.0]]
    assert gaussian_kernel(x, y, bandwidths=[2.0]).tolist() == [[pytest.approx(np.exp(-1.0)), 1.0]]  # 8 / (2 * 4)
    both = gaussian_kernel(x, y, bandwidths=[1.0, 2.0])
    assert float(both[0, 0]) == pytest.approx((np.exp(-4.0) + np.exp(-1.0)) / 2)


def test_the_linear_kernel_compares_means():
    x, y = torch.randn(9, 6).double(), torch.randn(13, 6).double() + 1
    expected = float((x.mean(dim=0) - y.mean(dim=0)).square().sum())
    assert float(squared_mmd(x, y, kernel=linear_kernel, unbiased=False)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", KERNELS)
def test_the_unbiased_estimate_has_mean_zero_at_equality_and_the_biased_one_is_never_negative(name):
    kernel, _ = KERNELS[name]
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(400, 2, 6, 3, generator=generator, dtype=torch.float64)
    unbiased = np.array([float(squared_mmd(x, y, kernel=kernel)) for x, y in draws])
    biased = np.array([float(squared_mmd(x, y, kernel=kernel, unbiased=False)) for x, y in draws])
    error = unbiased.std() / 20
    assert abs(unbiased.mean()) < 3.5 * error
    assert biased.min() > 0
    assert biased.mean() > 10 * error
    x = draws[0, 0]
    assert float(squared_mmd(x, x.clone(), kernel=kernel, unbiased=False)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", KERNELS)
def test_gradients_are_those_of_finite_differences(name):
    kernel, _ = KERNELS[name]
    y = torch.randn(4, 3).double()
    x = torch.randn(5, 3).double().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda z: squared_mmd(z, y, kernel=kernel, block=2), x)


def test_equal_points_have_a_finite_gradient():
    x = torch.ones(3, 4, requires_grad=True)
    squared_mmd(x, torch.ones(2, 4), kernel=partial(gaussian_kernel, bandwidths=[1.0]), unbiased=False).backward()
    assert x.grad.abs().max() == 0


def test_the_median_distance_by_hand():
    points = torch.tensor([[0.0], [1.0], [3.0]])  # distances 1, 3, 2
    assert median_distance(points) == 2.0
    assert median_distance(torch.cat([points, torch.full((5, 1), 100.0)]), at_most=3) == 2.0
    assert median_distance(7 * points) == 14.0
    with pytest.raises(ValueError, match="1 rows"):
        median_distance(points[:1])


def test_one_row_has_no_pairs():
    with pytest.raises(ValueError, match="1 rows; at least 2"):
        squared_mmd(torch.ones(1, 3), torch.ones(4, 3))
    assert float(squared_mmd(torch.ones(1, 3), torch.ones(4, 3), unbiased=False)) == 0
