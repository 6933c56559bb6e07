"""Squared maximum mean discrepancy with a polynomial kernel ("KID" when the features are Inception's).

Source: Bińkowski et al., "Demystifying MMD GANs", 2018, section 4; degree 3, gamma = 1 / number of features, coef0 = 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor


def polynomial_kernel(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, degree: int = 3, coef0: float = 1.0
) -> Float[Tensor, "n m"]:
    """k(x, y) = (x . y / d + coef0)^degree."""
    return x.matmul(y.T).mul_(1.0 / x.shape[1]).add_(coef0).pow_(degree)


def squared_mmd(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, unbiased: bool = True, block: int = 2048
) -> Float[Tensor, ""]:
    """MMD^2 of two sets, in blocks of `block` rows, so that memory does not grow with n times m.

    unbiased: leave the diagonals out (the result can be slightly negative); otherwise the squared norm between the
    mean embeddings, which is never negative and 0 for a set with itself.

    Source: Gretton et al., "A Kernel Two-Sample Test", 2012, Eq. 3 (unbiased) and Eq. 5 (biased).
    """
    within_x = _total(x, x, block)
    within_y = _total(y, y, block)
    n, m = x.shape[0], y.shape[0]
    between = 2 * _total(x, y, block) / (n * m)
    if not unbiased:
        return within_x / n**2 + within_y / m**2 - between
    within_x, within_y = within_x - _diagonal(x).sum(), within_y - _diagonal(y).sum()
    return within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - between


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


def _total(x: Tensor, y: Tensor, block: int) -> Tensor:
    """Sum of all kernel values; products in the features' precision, sums in float64."""
    total = torch.zeros([], dtype=torch.float64, device=x.device)
    symmetric = x is y
    for row in range(0, x.shape[0], block):
        for column in range(row if symmetric else 0, y.shape[0], block):
            value = polynomial_kernel(x[row : row + block], y[column : column + block]).sum(dtype=torch.float64)
            total += value * 2 if symmetric and column > row else value
    return total


def _diagonal(x: Tensor) -> Tensor:
    return (x.square().sum(dim=1) / x.shape[1] + 1.0).pow(3).double()


def _fold_sizes(n: int, folds: int) -> Tensor:
    return torch.diff(torch.tensor(_bounds(n, folds)))


def _bounds(n: int, folds: int) -> list[int]:
    return [n * fold // folds for fold in range(folds + 1)]


def _folds(x: Tensor, folds: int) -> list[Tensor]:
    return [x[start:stop] for start, stop in pairwise(_bounds(x.shape[0], folds))]


def _fold_diagonals(x: Tensor, folds: int) -> Tensor:
    return torch.stack([_diagonal(fold).sum() for fold in _folds(x, folds)])


def _fold_sums(x: Tensor, y: Tensor, folds: int, block: int) -> Tensor:
    """Entry (i, j): sum of the kernel over fold i of x and fold j of y."""
    rows = _folds(x, folds)
    columns = rows if x is y else _folds(y, folds)
    sums = torch.zeros(folds, folds, dtype=torch.float64, device=x.device)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            mirrored = x is y and j < i
            sums[i, j] = sums[j, i] if mirrored else _total(row, column, block)
    return sums.cpu()
