"""Fréchet distance between Gaussians ("FID" when they are fitted to Inception features).

Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", 2017, Eq. 6; Dowson and Landau, 1982.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

Sums = tuple[Tensor, Tensor, Tensor]  # number [], sum [d] and sum of outer products [d, d] of features


def moments(features: Float[Tensor, "n d"]) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Mean and unbiased covariance (divided by n - 1), in float64."""
    if features.shape[0] < 2:
        raise ValueError(f"features: {features.shape[0]} rows, a covariance needs at least 2")
    features = features.double()
    mean = features.mean(dim=0)
    centered = features - mean
    return mean, centered.T @ centered / (features.shape[0] - 1)


def sums(features: Float[Tensor, "n d"]) -> Sums:
    """Number, sum and sum of outer products of features, in float64: what adds up over parts of a set."""
    wide = features.double()
    count = torch.tensor(len(features), device=features.device)
    return count, wide.sum(dim=0), wide.T @ wide


def moments_of_sums(
    count: Int[Tensor, ""], total: Float[Tensor, " d"], products: Float[Tensor, "d d"]
) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """`moments` of features of which only their number, sum and sum of outer products are known, in float64.

    What cancels in the covariance is the squared mean, so digits are lost where that is far larger than the variance.
    """
    if count < 2:
        raise ValueError(f"features: {int(count)} rows, a covariance needs at least 2")
    mean = total / count
    return mean, (products - count * torch.outer(mean, mean)) / (count - 1)


def frechet_distance(
    mean_a: Float[Tensor, " d"],
    covariance_a: Float[Tensor, "d d"],
    mean_b: Float[Tensor, " d"],
    covariance_b: Float[Tensor, "d d"],
) -> Float[Tensor, ""]:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)) in float64; symmetric, 0 for equal arguments."""
    mean_a, covariance_a, mean_b, covariance_b = (t.double() for t in (mean_a, covariance_a, mean_b, covariance_b))
    trace = covariance_a.trace() + covariance_b.trace() - 2 * trace_of_root(covariance_a, covariance_b)
    return (mean_a - mean_b).square().sum() + trace


def trace_of_root(a: Float[Tensor, "d d"], b: Float[Tensor, "d d"]) -> Float[Tensor, ""]:
    """tr (A B)^(1/2) of two symmetric positive semi-definite matrices, without the root itself.

    With A = F F^T the product A B has the eigenvalues of the symmetric F^T B F (and zeros). F is A's Cholesky factor
    where A has full rank, else its eigenvectors times the roots of the eigenvalues above rounding.
    """
    factor, failed = torch.linalg.cholesky_ex(a)
    if failed or not _well_conditioned(factor):
        values, vectors = torch.linalg.eigh(a)
        kept = values > values.max().clamp(min=0) * _rounding(a)
        factor = vectors[:, kept] * values[kept].sqrt()
    if factor.shape[1] == 0:
        return a.new_zeros([])
    values = torch.linalg.eigvalsh(factor.T @ b @ factor)
    values = values[values > values.max().clamp(min=0) * _rounding(a)]
    return values.sqrt().sum()


def _rounding(matrix: Tensor) -> float:
    """Relative size of an eigenvalue that rounding alone can produce."""
    return matrix.shape[0] * torch.finfo(matrix.dtype).eps


def _well_conditioned(factor: Tensor) -> bool:
    """Whether no pivot of a Cholesky factor is rounding noise."""
    pivots = factor.diagonal().square()
    return bool(pivots.min() > pivots.max() * _rounding(factor))
