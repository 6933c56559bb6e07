"""What every architecture promises: rebuildable constructor arguments, declared channel groups, a MAC count.

A channel group lists every place where the same channels appear, so that one function
(`pruning.slimming.slim`) makes any family thinner without tracing its graph.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from torch import nn

Role = Literal["output", "input", "other"]


@dataclass(frozen=True)
class Axis:
    """One axis of one parameter (or buffer) along which a group's channels lie.

    Channel c occupies the entries `offset + c * repeat` up to `offset + (c + 1) * repeat` of that axis.

    parameter: dotted name in the network's state dict.
    role: "output" for weights that produce the channels, "input" for weights that read them, "other" for
        biases, style affines and constants.
    fan_in: the run-time gain of this weight is 1 / sqrt(size of this axis times its kernel), so slicing
        changes its effect by sqrt(size / kept).
    """

    parameter: str
    dim: int
    role: Role = "other"
    offset: int = 0
    repeat: int = 1
    fan_in: bool = False


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that live or die together.

    norm_groups: number of normalization groups the channels are divided into; channels may be exchanged
        inside one of these without changing the output, and each must keep equally many.
    """

    name: str
    size: int
    axes: tuple[Axis, ...]
    norm_groups: int = 1


class Network(nn.Module, ABC):
    """A generator, denoiser or discriminator that can be written to a file and built again from it."""

    @property
    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments (JSON values only) with which the constructor builds this very shape."""

    @abstractmethod
    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """All prunable groups, in the order in which data flows; empty if the network is never pruned."""

    @abstractmethod
    def resized(self, sizes: Mapping[str, int]) -> Self:
        """A newly initialized network whose named groups have these sizes; other groups keep theirs."""

    @abstractmethod
    def macs(self) -> int:
        """Multiply-accumulates of one forward pass of one image, by the rule the docstring names."""
