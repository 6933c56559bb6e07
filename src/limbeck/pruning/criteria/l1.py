"""Magnitude: a channel is worth the absolute sum of the stored weights that read it, or of those that produce it."""

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.architectures.base import Axis, ChannelGroup, channel_slice
from limbeck.errors import UserError
from limbeck.model import Model
from limbeck.pruning.criteria.base import Criterion, Scores, State


def absolute_sum(weight: Tensor, dim: int) -> Float[Tensor, "size"]:
    """Sum of |weight| over every axis but `dim`."""
    return weight.detach().float().abs().transpose(0, dim).flatten(1).sum(dim=1)


def channel_sums(weight: Tensor, axis: Axis, size: int) -> Float[Tensor, "size"]:
    """`absolute_sum` of the entries that belong to each of `size` channels along the axis."""
    entries = absolute_sum(weight, axis.dim)[channel_slice(axis, size)]
    return entries.reshape(size, axis.repeat).sum(dim=1)


class L1(Criterion):
    """L1 norm per channel, summed over all weights of one role.

    role: "input" takes the weights that read the channel, "output" those that produce it.

    Source: Liu et al., "Content-Aware GAN Compression", 2021, released metric "l1-out" (role "input").
    Differs: weights as stored, so no styles are drawn (there they are modulated and demodulated first); the ToRGB
    layers of every resolution count, not only the last one's.
    """

    def __init__(self, *, role: str = "input"):
        self.role = role

    def scores(self, model: Model, state: State) -> Scores:
        if self.role not in ("input", "output"):
            raise UserError(f"role={self.role!r}: must be 'input' or 'output'")
        state = model.generator.state_dict()
        return {group.name: self._score(group, state) for group in model.generator.channel_groups()}

    def _score(self, group: ChannelGroup, state: dict[str, Tensor]) -> Tensor:
        weights = [axis for axis in group.axes if axis.role == self.role]
        if not weights:
            raise UserError(f"role={self.role!r}: group {group.name!r} has no weight of this role")
        total = torch.zeros(group.size)
        for axis in weights:
            total += channel_sums(state[axis.parameter], axis, group.size).cpu()
        return total
