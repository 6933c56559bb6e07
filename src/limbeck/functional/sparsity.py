"""Which weights stay: exact counts, the best by magnitude, the schedule towards a target, the gradient of a choice.

Sources: Zhu & Gupta, "To prune, or not to prune", 2018 (the schedule); Yeo et al., "Can We Find Strong Lottery Tickets
in Generative Models?", 2023, released code (the choice by scores).
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from limbeck.errors import UserError

Ratio = float | int | Fraction


def num_kept(size: int, keep_ratio: Ratio) -> int:
    """size - floor((1 - keep_ratio) * size) of `size` units, with the ratio as the decimal number it is written as.

    Raises: UserError unless keep_ratio is a number in (0, 1].
    """
    if isinstance(keep_ratio, bool) or not isinstance(keep_ratio, Ratio) or not 0 < keep_ratio <= 1:
        raise UserError(f"keep_ratio={keep_ratio}: must be a number in (0, 1]")
    return size - math.floor((1 - Fraction(str(keep_ratio))) * size)


def top_mask(scores: Float[Tensor, "*shape"], keep_ratio: Ratio) -> Bool[Tensor, "*shape"]:
    """True at the n - floor((1 - keep_ratio) n) scores of largest magnitude; of equal ones the first stay.

    Selects the k-th value instead of sorting: the only work of this kind in every step of a ticket's training.

    Source: Yeo et al., 2023, released code. Differs: there, equal scores fall in the order of an unstable sort.
    """
    magnitude = scores.detach().abs().flatten()
    kept = num_kept(magnitude.numel(), keep_ratio)
    threshold = kth_largest(magnitude, kept)
    mask = magnitude >= threshold
    surplus = int(mask.sum()) - kept
    if surplus:
        mask[(magnitude == threshold).nonzero().flatten()[-surplus:]] = False
    return mask.reshape(scores.shape)


def pooled_masks(scores: Sequence[Tensor], keep_ratio: Ratio) -> list[Tensor]:
    """One threshold for several tensors: true where |score| is above the ceil((1 - keep_ratio) N)-th smallest of all.

    At least one of the N scores is above it, unless all are equal.

    Source: Yeo et al., 2023, released code ("global_ep"). Differs: there, layers that are listed twice count twice.
    """
    pool = torch.cat([score.detach().abs().flatten() for score in scores])
    total = pool.numel()
    num_kept(total, keep_ratio)  # refuses impossible ratios
    place = min(math.ceil((1 - Fraction(str(keep_ratio))) * total), total - 1)
    threshold = kth_largest(pool, total - place + 1) if place else pool.new_tensor(-1.0)
    return [score.detach().abs() > threshold for score in scores]


def kth_largest(values: Float[Tensor, " n"], k: int) -> Float[Tensor, ""]:
    """The k-th largest value, k from 1 to n.

    NumPy's selection on a CPU, because torch's takes tens of times as long there.
    """
    if values.device.type != "cpu":
        return values.topk(k, sorted=False).values.min()
    place = values.numel() - k
    return torch.from_numpy(np.partition(values.float().numpy(), place)[place : place + 1])[0].to(values.dtype)


class Chosen(torch.autograd.Function):
    """weight * mask, as if the mask were |scores|: the straight-through estimate."""

    @staticmethod
    def forward(ctx, weight: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(weight, scores, mask)
        return torch.where(mask, weight, 0)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        weight, scores, mask = ctx.saved_tensors
        of_weight = torch.where(mask, gradient, 0) if ctx.needs_input_grad[0] else None
        return of_weight, scores.sign() * weight * gradient if ctx.needs_input_grad[1] else None, None


def chosen(
    weight: Float[Tensor, "*shape"], scores: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """The weight where the mask is true, else 0; dL/dscores = sign(scores) * weight * dL/dresult, everywhere."""
    return Chosen.apply(weight, scores, mask)


def straight_through(
    weight: Float[Tensor, "*shape"], scores: Float[Tensor, "*shape"], keep_ratio: Ratio
) -> Float[Tensor, "*shape"]:
    """The weights whose scores are largest in magnitude, the others 0; see `top_mask` and `chosen`.

    Switched-off weights receive a gradient too, which is what lets them return.

    Source: Yeo et al., 2023, released code, after Ramanujan et al., "What's Hidden in a Randomly Weighted Neural
    Network?", 2020.
    """
    return chosen(weight, scores, top_mask(scores, keep_ratio))


def agp(
    share: float | int, *, target: float | int = 0.5, start: float | int = 0.05, horizon: float | int = 0.5
) -> float | int:
    """Sparsity when `share` of the training is done: from `start` to `target` at `horizon`, by a cubic, then constant.

    Source: Zhu & Gupta, 2018, as used by Yu & Pool, "Self-Supervised GAN Compression", 2020 (the default values).
    Raises: UserError unless 0 <= start <= target < 1, 0 < horizon <= 1 and 0 <= share <= 1.
    """
    if not 0 <= start <= target < 1:
        raise UserError(f"agp: start={start}, target={target}: 0 <= start <= target < 1 must hold")
    if not 0 < horizon <= 1:
        raise UserError(f"agp: horizon={horizon}: must lie in (0, 1]")
    if not 0 <= share <= 1:
        raise UserError(f"agp: share={share}: must lie in [0, 1]")
    if share >= horizon:
        return target
    return start + (target - start) * (1 - (1 - share / horizon) ** 3)
