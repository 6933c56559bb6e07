"""Precision, recall, density and coverage: two sets of features compared through balls around their members."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Overlap:
    """precision: share of fakes inside some real ball; recall: share of reals inside some fake ball;
    density: real balls around a fake, over k; coverage: share of reals whose ball holds a fake.
    All in [0, 1], except density, which can exceed 1.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def overlap(
    *, real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], num_neighbors: int = 5, block: int = 1024
) -> Overlap:
    """Compare `fake` with `real`; exchanging them exchanges precision and recall.

    A ball reaches from a member to its `num_neighbors`-th nearest other member, rim included. Works in blocks of
    `block` rows.

    Source: Kynkäänniemi et al., "Improved Precision and Recall Metric", 2019, Eq. 1 and 2;
    Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", 2020, Eq. 4 and 7.
    Differs: the rim belongs to the ball for density and coverage too (Naeem's code leaves it out; matters for ties).
    """
    smallest = min(real.shape[0], fake.shape[0])
    if not 1 <= num_neighbors < smallest:
        raise ValueError(f"num_neighbors={num_neighbors}: must lie in 1..{smallest - 1} for sets of {smallest} rows")
    # Distances do not change, but their rounding errors shrink with the vectors.
    center = real.mean(dim=0)
    real, fake = real - center, fake - center
    real_radius = squared_radii(real, num_neighbors, block)
    fake_radius = squared_radii(fake, num_neighbors, block)
    in_real_balls = torch.zeros(fake.shape[0], dtype=torch.long, device=fake.device)
    recalled, covered = [], []
    for start in range(0, real.shape[0], block):
        distance = squared_distances(real[start : start + block], fake)
        inside = distance <= real_radius[start : start + block, None]
        in_real_balls += inside.sum(dim=0)
        covered.append(inside.any(dim=1))
        recalled.append((distance <= fake_radius[None, :]).any(dim=1))
    return Overlap(
        precision=float((in_real_balls > 0).double().mean()),
        recall=float(torch.cat(recalled).double().mean()),
        density=float(in_real_balls.double().mean() / num_neighbors),
        coverage=float(torch.cat(covered).double().mean()),
    )


def squared_radii(points: Float[Tensor, "n d"], num_neighbors: int, block: int = 1024) -> Float[Tensor, " n"]:
    """Squared distance of each point to its `num_neighbors`-th nearest other point."""
    found = []
    for start in range(0, points.shape[0], block):
        distance = squared_distances(points[start : start + block], points)
        rows = torch.arange(distance.shape[0], device=points.device)
        distance[rows, rows + start] = -1.0  # the point itself comes first, whatever rounding did to its 0
        found.append(distance.kthvalue(num_neighbors + 1, dim=1).values)
    return torch.cat(found)


def squared_distances(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """|x_i - y_j|^2, at least 0."""
    x_norm, y_norm = x.square().sum(dim=1), y.square().sum(dim=1)
    return torch.addmm(x_norm[:, None] + y_norm[None, :], x, y.T, alpha=-2).clamp_(min=0)
