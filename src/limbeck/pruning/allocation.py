"""How many channels each group keeps, and which: from scores and a ratio to sorted indices.

An allocation only counts; `kept_indices` then takes the best of each group. So a global ranking or a per-layer list
is one more `Allocation`, and the rounding to hardware-friendly widths is common to all.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limbeck.architectures.base import ChannelGroup, Network
from limbeck.errors import UserError


def checked_ratio(ratio: Any, name: str = "pruning.ratio") -> float:
    """The ratio itself, if it is a number in [0, 1)."""
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 <= ratio < 1:
        raise UserError(f"{name}={ratio}: must be a number in [0, 1)")
    return ratio


def kept_count(size: int, ratio: float | int) -> int:
    """Channels left of `size` after removing the share `ratio`: ceil((1 - ratio) * size).

    The ratio counts as the decimal number it is written as; binary rounding of 1 - ratio would cost or add a channel.
    """
    return math.ceil((1 - Fraction(str(ratio))) * size)


def rounded_count(count: int, group: ChannelGroup, round_to: int = 1) -> int:
    """`count` rounded up to a multiple of `round_to` and of the normalization groups, at most the full size."""
    multiple = math.lcm(round_to, group.norm_groups)
    return min(group.size, -(-count // multiple) * multiple)


def kept_indices(scores: Float[Tensor, "size"], count: int, norm_groups: int = 1) -> Int[Tensor, "kept"]:
    """Sorted indices of the `count` best channels, equally many in each normalization group; ties keep the first."""
    ranked = scores.reshape(norm_groups, -1).sort(dim=1, descending=True, stable=True).indices
    offsets = torch.arange(norm_groups, device=scores.device)[:, None] * ranked.shape[1]
    return (ranked[:, : count // norm_groups] + offsets).flatten().sort().values


class Allocation(ABC):
    """How many channels each group keeps."""

    @abstractmethod
    def __call__(self, network: Network, scores: Mapping[str, Tensor], ratio: float | int) -> dict[str, int]:
        """Channels kept per group name (before rounding), between 1 and the group's size."""


class Uniform(Allocation):
    """The same share of every group, as in CAGAN, DCP-GAN, StyleKD and SVS."""

    def __call__(self, network: Network, scores: Mapping[str, Tensor], ratio: float | int) -> dict[str, int]:
        return {group.name: kept_count(group.size, ratio) for group in network.channel_groups()}


def allocated(
    network: Network, scores: Mapping[str, Tensor], allocation: Allocation, *, ratio: Any, round_to: int = 1
) -> dict[str, Tensor]:
    """Kept indices of every group.

    Raises: UserError if the ratio or the rounding is impossible, or a score is missing, misshaped or not a number.
    """
    if round_to < 1:
        raise UserError(f"pruning.round_to={round_to}: must be at least 1")
    counts = allocation(network, scores, checked_ratio(ratio))
    keep = {}
    for group in network.channel_groups():
        score = scores.get(group.name)
        if score is None or score.shape != (group.size,) or not score.isfinite().all():
            raise UserError(f"scores of group {group.name!r}: expected {group.size} finite numbers")
        count = rounded_count(counts[group.name], group, round_to)
        keep[group.name] = kept_indices(score.float(), count, group.norm_groups)
    return keep
