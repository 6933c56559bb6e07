"""Squared maximum mean discrepancy (MMD^2) with any kernel; with the polynomial one over Inception's features, "KID".

Source: Gretton et al., "A Kernel Two-Sample Test", 2012; for KID Bińkowski et al., "Demystifying MMD GANs", 2018,
section 4: degree 3, gamma = 1 / number of features, coef0 = 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

Kernel = Callable[[Tensor, Tensor], Tensor]  # [n, d], [m, d] -> [n, m]


def linear_kernel(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """k(x, y) = x . y; its biased MMD^2 is the squared distance between the means."""
    return x.matmul(y.T)


def polynomial_kernel(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, degree: int = 3, coef0: float = 1.0
) -> Float[Tensor, "n m"]:
    """k(x, y) = (x . y / d + coef0)^degree."""
    return x.matmul(y.T).mul_(1.0 / x.shape[1]).add_(coef0).pow_(degree)


def gaussian_kernel(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, bandwidths: Sequence[float]
) -> Float[Tensor, "n m"]:
    """Mean over bandwidths s > 0 of k(x, y) = exp(-|x - y|^2 / (2 s^2)), in (0, 1].

    Several bandwidths as in Li et al., "Generative Moment Matching Networks", 2015, section 3, where they are summed.
    """
    squared = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)[None, :] - 2 * x.matmul(y.T)
    squared = squared.clamp(min=0)  # rounding
    kernels = [squared.mul(-0.5 / bandwidth**2).exp() for bandwidth in bandwidths]
    return torch.stack(kernels).mean(dim=0)


def median_distance(x: Float[Tensor, "n d"], *, at_most: int = 1000) -> float:
    """Median of the distances |x_i - x_j|, i < j, of the first `at_most` of at least 2 rows.

    Source: Gretton et al., 2012, section 8 ("the median distance between points"), a usual bandwidth.
    """
    if x.shape[0] < 2:
        raise ValueError(f"x: {x.shape[0]} rows; a distance needs at least 2")
    return float(torch.pdist(x[:at_most].detach().float()).median())


def squared_mmd(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    kernel: Kernel = polynomial_kernel,
    unbiased: bool = True,
    block: int = 2048,
) -> Float[Tensor, ""]:
    """MMD^2 of two sets, in blocks of `block` rows, so that memory does not grow with n times m.

    unbiased: leave the diagonals out (the result can be slightly negative); otherwise the squared norm between the
    mean embeddings, which is never negative and 0 for a set with itself.

    Source: Gretton et al., "A Kernel Two-Sample Test", 2012, Eq. 3 (unbiased) and Eq. 5 (biased).
    """
    within = mean_within(x, kernel, unbiased=unbiased, block=block) + mean_within(
        y, kernel, unbiased=unbiased, block=block
    )
    return within - 2 * mean_between(x, y, kernel, block=block)


def mean_within(
    x: Float[Tensor, "n d"], kernel: Kernel, *, unbiased: bool = True, block: int = 2048
) -> Float[Tensor, ""]:
    """Mean kernel value over the pairs of one set's rows, in float64; `unbiased` leaves out those of a row with itself.

    Raises: ValueError if there are too few rows for a pair.
    """
    n = x.shape[0]
    if n < 1 + unbiased:
        raise ValueError(f"x: {n} rows; at least {1 + unbiased} are needed")
    total = _total(x, x, kernel, block)
    return (total - _diagonal(x, kernel).sum()) / (n * (n - 1)) if unbiased else total / n**2


def mean_between(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], kernel: Kernel, *, block: int = 2048
) -> Float[Tensor, ""]:
    """Mean kernel value over all pairs of a row of `x` and a row of `y`, in float64."""
    return _total(x, y, kernel, block) / (x.shape[0] * y.shape[0])


@dataclass(frozen=True)
class Estimate:
    """A value and its standard error."""

    value: float
    standard_error: float


def squared_mmd_with_error(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, num_folds: int = 10, block: int = 2048
) -> Estimate:
    """The unbiased estimate over all pairs, and its standard error by leaving out one fold of both sets at a time.

    The kernel is summed once, fold against fold; each leave-one-out estimate is a difference of these sums.
    Source: Efron and Stein, "The Jackknife Estimate of Variance", 1981, Eq. 1.2, with folds in place of points.
    """
    folds = min(num_folds, x.shape[0] // 2, y.shape[0] // 2)
    if folds < 2:
        raise ValueError(f"sets of {x.shape[0]} and {y.shape[0]} rows: at least 4 rows each are needed")
    sums = {
        "xx": _fold_sums(x, x, folds, block) - torch.diag(_fold_diagonals(x, folds)),
        "yy": _fold_sums(y, y, folds, block) - torch.diag(_fold_diagonals(y, folds)),
        "xy": _fold_sums(x, y, folds, block),
    }
    sizes_x, sizes_y = _fold_sizes(x.shape[0], folds), _fold_sizes(y.shape[0], folds)

    def estimate(left_out: int | None) -> float:
        kept = [fold for fold in range(folds) if fold != left_out]
        n, m = int(sizes_x[kept].sum()), int(sizes_y[kept].sum())
        part = {name: float(value[kept][:, kept].sum()) for name, value in sums.items()}
        return part["xx"] / (n * (n - 1)) + part["yy"] / (m * (m - 1)) - 2 * part["xy"] / (n * m)

    partial = torch.tensor([estimate(fold) for fold in range(folds)], dtype=torch.float64)
    variance = (folds - 1) / folds * (partial - partial.mean()).square().sum()
    return Estimate(estimate(None), float(variance.sqrt()))


def subset_squared_mmds(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    subsets: Sequence[tuple[Int[Tensor, " k"], Int[Tensor, " k"]]],
) -> Float[Tensor, " subsets"]:
    """The unbiased estimate on each pair of subsets, given by their row indices; KID is the mean of these.

    Source: Bińkowski et al., 2018, section 4 (mean over subsets of 1000).
    """
    found = [squared_mmd(x[rows], y[columns], block=max(len(rows), 1)) for rows, columns in subsets]
    return torch.stack(found)


def _total(x: Tensor, y: Tensor, kernel: Kernel, block: int) -> Tensor:
    """Sum of all kernel values; products in the features' precision, sums in float64."""
    total = torch.zeros([], dtype=torch.float64, device=x.device)
    symmetric = x is y
    for row in range(0, x.shape[0], block):
        for column in range(row if symmetric else 0, y.shape[0], block):
            value = kernel(x[row : row + block], y[column : column + block]).sum(dtype=torch.float64)
            total = total + (value * 2 if symmetric and column > row else value)
    return total


def _diagonal(x: Tensor, kernel: Kernel) -> Tensor:
    """k(x_i, x_i), from small blocks, because a kernel only knows pairs of sets."""
    return torch.cat([kernel(rows, rows).diagonal() for rows in x.split(32)]).double()


def _fold_sizes(n: int, folds: int) -> Tensor:
    return torch.diff(torch.tensor(_bounds(n, folds)))


def _bounds(n: int, folds: int) -> list[int]:
    return [n * fold // folds for fold in range(folds + 1)]


def _folds(x: Tensor, folds: int) -> list[Tensor]:
    return [x[start:stop] for start, stop in pairwise(_bounds(x.shape[0], folds))]


def _fold_diagonals(x: Tensor, folds: int) -> Tensor:
    return torch.stack([_diagonal(fold, polynomial_kernel).sum() for fold in _folds(x, folds)])


def _fold_sums(x: Tensor, y: Tensor, folds: int, block: int) -> Tensor:
    """Entry (i, j): sum of the kernel over fold i of x and fold j of y."""
    rows = _folds(x, folds)
    columns = rows if x is y else _folds(y, folds)
    sums = torch.zeros(folds, folds, dtype=torch.float64, device=x.device)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            mirrored = x is y and j < i
            sums[i, j] = sums[j, i] if mirrored else _total(row, column, polynomial_kernel, block)
    return sums.cpu()
