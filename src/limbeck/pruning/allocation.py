"""How many channels each group keeps, and which: from scores and a ratio to sorted indices.

An allocation only counts; `kept_indices` then takes the best of each group. So a global ranking or a per-layer list
is one more `Allocation`, and the rounding to hardware-friendly widths is common to all.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
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


def kept_count(size: int, ratio: float | int, *, truncate: bool = False) -> int:
    """Channels left of `size` after removing the share `ratio`: ceil((1 - ratio) * size).

    The ratio counts as the decimal number it is written as; binary rounding of 1 - ratio would cost or add a channel.

    truncate: int(size * (1 - ratio)) instead, with just that binary rounding, but at least 1.
    Source of that: Fang et al., "Structural Pruning for Diffusion Models", 2023, released pruner.
    """
    if truncate:
        return max(1, int(size * (1 - ratio)))
    return math.ceil((1 - Fraction(str(ratio))) * size)


def rounded_count(count: int, group: ChannelGroup, round_to: int = 1) -> int:
    """`count` rounded up to a multiple of `round_to` and of the normalization groups, at most the full size."""
    if isinstance(round_to, bool) or not isinstance(round_to, int) or round_to < 1:
        raise UserError(f"pruning.round_to={round_to}: must be a whole number, at least 1")
    multiple = math.lcm(round_to, group.norm_groups)
    return min(group.size, -(-count // multiple) * multiple)


def kept_indices(scores: Float[Tensor, "size"], count: int, norm_groups: int = 1) -> Int[Tensor, "kept"]:
    """Sorted indices of the `count` best channels, equally many in each normalization group; ties keep the first."""
    ranked = scores.reshape(norm_groups, -1).sort(dim=1, descending=True, stable=True).indices
    offsets = torch.arange(norm_groups, device=scores.device)[:, None] * ranked.shape[1]
    return (ranked[:, : count // norm_groups] + offsets).flatten().sort().values


def chosen_groups(
    groups: Sequence[ChannelGroup], cut: Sequence[str] | None = None, keep: Sequence[str] = ()
) -> tuple[ChannelGroup, ...]:
    """The groups that lose channels, in their order.

    cut, keep: names, dotted parts of names ("conv1" for every "b*.conv1"), or patterns with * and ?. cut: which groups
        lose channels, all if None; keep: which of these stay whole nevertheless.

    Raises: UserError for an entry that fits no group.
    """
    chosen = set(_fitting(groups, cut, "groups")) if cut is not None else {group.name for group in groups}
    chosen -= set(_fitting(groups, keep, "keep_groups"))
    return tuple(group for group in groups if group.name in chosen)


def _fitting(groups: Sequence[ChannelGroup], patterns: Sequence[str], setting: str) -> list[str]:
    names = [group.name for group in groups]
    if isinstance(patterns, str) or not all(isinstance(pattern, str) for pattern in patterns):
        raise UserError(f"pruning.{setting}={patterns!r}: must be a list of names or patterns")
    found = []
    for pattern in patterns:
        fitting = [name for name in names if any(fnmatchcase(part, pattern) for part in (name, *name.split(".")))]
        if not fitting:
            raise UserError(f"pruning.{setting}: no group fits {pattern!r}; groups: {', '.join(names) or 'none'}")
        found += fitting
    return found


class Allocation(ABC):
    """How many channels each group keeps. Only groups that have scores are cut, the others stay whole."""

    @abstractmethod
    def __call__(self, network: Network, scores: Mapping[str, Tensor], ratio: float | int) -> dict[str, int]:
        """Channels kept per name of a scored group (before rounding), between 1 and the group's size."""


def scored_groups(network: Network, scores: Mapping[str, Any]) -> list[ChannelGroup]:
    """The groups that have scores, in the order of the data."""
    return [group for group in network.channel_groups() if group.name in scores]


class Uniform(Allocation):
    """The same share of every group, as in CAGAN, DCP-GAN, StyleKD, Diff-Pruning and SVS.

    Fractions of a channel are rounded as the papers of the network's family do.
    """

    def __call__(self, network: Network, scores: Mapping[str, Tensor], ratio: float | int) -> dict[str, int]:
        truncate = network.truncates_widths
        groups = scored_groups(network, scores)
        return {group.name: kept_count(group.size, ratio, truncate=truncate) for group in groups}


class Global(Allocation):
    """One ranking of all channels: groups whose channels matter less lose more of them.

    normalize: scores of a group are divided by their "mean" or "max" before groups are compared, or by nothing
        ("none"), which only makes sense where scores are on one scale.
    min_share: the least share of a group that stays, in (0, 1].
    """

    def __init__(self, *, normalize: str = "mean", min_share: float | int = 0.05):
        self.normalize = normalize
        self.min_share = min_share

    def __call__(self, network: Network, scores: Mapping[str, Tensor], ratio: float | int) -> dict[str, int]:
        if not 0 < self.min_share <= 1:
            raise UserError(f"allocation.min_share={self.min_share}: must lie in (0, 1]")
        groups, ranks = scored_groups(network, scores), []
        if not groups:
            return {}
        for group in groups:
            comparable = normalized(scores[group.name].double(), self.normalize)
            least = kept_indices(comparable, math.ceil(self.min_share * group.size))
            ranks.append(comparable.index_fill(0, least, math.inf))
        total = sum(group.size for group in groups)
        kept = kept_indices(torch.cat(ranks), kept_count(total, ratio))
        owner = torch.repeat_interleave(torch.arange(len(groups)), torch.tensor([group.size for group in groups]))
        counts = owner[kept].bincount(minlength=len(groups)).tolist()
        least_counts = [math.ceil(self.min_share * group.size) for group in groups]
        return {g.name: max(n, least) for g, n, least in zip(groups, counts, least_counts, strict=True)}


def normalized(scores: Float[Tensor, "size"], by: str) -> Float[Tensor, "size"]:
    """Scores divided by their "mean" or "max", or as they are ("none"); all zero stays zero."""
    if by not in ("mean", "max", "none"):
        raise UserError(f"allocation.normalize={by!r}: must be 'mean', 'max' or 'none'")
    unit = {"mean": scores.mean(), "max": scores.max(), "none": torch.ones_like(scores[0])}[by]
    return scores / unit if unit != 0 else scores


class PerGroup(Allocation):
    """A ratio for every group by itself, in the order of the data; `pruning.ratio` is not looked at.

    ratios: as many numbers in [0, 1) as there are groups to cut.
    """

    def __init__(self, *, ratios: Sequence[float | int]):
        self.ratios = ratios

    def __call__(self, network: Network, scores: Mapping[str, Tensor], ratio: float | int) -> dict[str, int]:
        groups = scored_groups(network, scores)
        if len(self.ratios) != len(groups):
            raise UserError(f"allocation.ratios: {len(self.ratios)} numbers for {len(groups)} groups of channels")
        return {
            group.name: kept_count(group.size, checked_ratio(own, "allocation.ratios"))
            for group, own in zip(groups, self.ratios, strict=True)
        }


def rounded_counts(network: Network, counts: Mapping[str, int], round_to: int) -> dict[str, int]:
    """Each group's count, at least the network's least width, rounded up as `rounded_count` does."""
    return {
        group.name: rounded_count(max(counts[group.name], network.least_width), group, round_to)
        for group in scored_groups(network, counts)
    }


def allocated(
    network: Network, scores: Mapping[str, Tensor], allocation: Allocation, *, ratio: Any, round_to: int = 1
) -> dict[str, Tensor]:
    """Kept indices of every group that has scores.

    Raises: UserError if the ratio or the rounding is impossible, or a score is misshaped or not a number.
    """
    check_scores(scored_groups(network, scores), scores)
    counts = rounded_counts(network, allocation(network, scores, checked_ratio(ratio)), round_to)
    return {
        group.name: kept_indices(scores[group.name].double(), counts[group.name], group.norm_groups)
        for group in scored_groups(network, scores)
    }


def check_scores(groups: Sequence[ChannelGroup], scores: Mapping[str, Tensor]) -> None:
    """Raises: UserError if a group's scores are missing, misshaped or not finite."""
    for group in groups:
        score = scores.get(group.name)
        if score is None or score.shape != (group.size,) or not score.isfinite().all():
            raise UserError(f"scores of group {group.name!r}: expected {group.size} finite numbers")
