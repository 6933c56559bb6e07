"""Which units of weights are switched off together. A function `by_<name>` here is the granularity <name>.

Each goes from one score per weight of every maskable layer to masks, with the ratio of units that are switched off; of
a layer with n units exactly floor(ratio * n), those with the least sum of scores.

Source: the kinds are those of Mao et al., "Exploring the Granularity of Sparsity in Convolutional Neural Networks",
2017, named by Yu & Pool, "Self-Supervised GAN Compression", 2020, and NVIDIA's two of four.
"""

import sys
from collections.abc import Callable, Mapping
from fractions import Fraction

import torch
from torch import Tensor

from limbeck.architectures.base import ChannelGroup, Maskable, Network, channel_slice
from limbeck.errors import UserError
from limbeck.functional.sparsity import top_mask
from limbeck.pruning.allocation import kept_count, kept_indices, rounded_count
from limbeck.pruning.settling import mute

Scores = Mapping[str, Tensor]
Granularity = Callable[[Network, Scores, float], dict[str, Tensor]]


def by_element(network: Network, scores: Scores, ratio: float) -> dict[str, Tensor]:
    """Single weights."""
    return _layer_by_layer(network, scores, ratio, unit_dim=4)


def by_vector(network: Network, scores: Scores, ratio: float) -> dict[str, Tensor]:
    """Rows of kernels; where there are no kernels, single weights."""
    return _layer_by_layer(network, scores, ratio, unit_dim=3)


def by_kernel(network: Network, scores: Scores, ratio: float) -> dict[str, Tensor]:
    """Kernels, each from one input channel to one output channel."""
    return _layer_by_layer(network, scores, ratio, unit_dim=2)


def by_filter(network: Network, scores: Scores, ratio: float) -> dict[str, Tensor]:
    """Output channels, with their biases and normalization: channels that fall silent, see `settling`.

    Layers whose outputs are added or normalized together lose the same ones, so that these can leave; what no channel
    group names, such as the output layer, stays dense.
    """
    masks: dict[str, Tensor] = {}
    for group in network.channel_groups():
        if any(axis.role == "output" and axis.parameter in scores for axis in group.axes):
            count = rounded_count(kept_count(group.size, ratio), group)
            mute(network, group, kept_indices(_channel_scores(group, scores), count, group.norm_groups), masks)
    return masks


def by_2_4(network: Network, scores: Scores, ratio: float) -> dict[str, Tensor]:
    """Two of every four consecutive input channels at each place of a kernel, for sparse tensor cores.

    Layers whose inputs four does not divide stay dense. Equal scores: the first stay. Raises: UserError unless the
    ratio is 0.5.
    """
    if ratio != 0.5:
        raise UserError(f"ratio={ratio}: granularity 2:4 switches off one half; must be 0.5")
    masks = {}
    for layer in network.maskable():
        oriented = layer.oriented(scores[layer.weight])
        if oriented.shape[1] % 4 == 0:
            fours = oriented.unflatten(1, (-1, 4))
            best = fours.argsort(dim=2, descending=True, stable=True)[:, :, :2]
            mask = torch.zeros_like(fours, dtype=torch.bool).scatter_(2, best, True).flatten(1, 2)
            masks[layer.weight] = _restored(layer, mask)
    return masks


def by_block(network: Network, scores: Scores, ratio: float) -> dict[str, Tensor]:
    """Four consecutive output channels, from one input channel at one place of a kernel, for sparse kernels on CPUs.

    Layers whose outputs four does not divide stay dense. Source: Elsen et al., "Fast Sparse ConvNets", 2020 (4 x 1).
    """
    masks = {}
    for layer in network.maskable():
        oriented = layer.oriented(scores[layer.weight])
        if oriented.shape[0] % 4 == 0:
            kept = top_mask(oriented.unflatten(0, (-1, 4)).sum(dim=1), 1 - Fraction(str(ratio)))
            masks[layer.weight] = _restored(layer, kept.repeat_interleave(4, dim=0))
    return masks


def granularity(name: str) -> Granularity:
    """The function of this name; raises: UserError if there is none."""
    functions = {n.removeprefix("by_"): f for n, f in vars(sys.modules[__name__]).items() if n.startswith("by_")}
    public = {n.replace("_", ":"): f for n, f in functions.items()}
    if name not in public:
        raise UserError(f"granularity={name!r}: unknown; allowed: {', '.join(public)}")
    return public[name]


def _layer_by_layer(network: Network, scores: Scores, ratio: float, *, unit_dim: int) -> dict[str, Tensor]:
    """unit_dim: of [output, input, *kernel], the first dimension along which weights belong to one unit."""
    masks = {}
    for layer in network.maskable():
        oriented = layer.oriented(scores[layer.weight])
        units = oriented.reshape(*oriented.shape[:unit_dim], -1).sum(dim=-1)
        mask = top_mask(units, 1 - Fraction(str(ratio)))
        mask = mask.reshape(*units.shape, *[1] * (oriented.ndim - units.ndim)).expand(oriented.shape)
        masks[layer.weight] = _restored(layer, mask)
    return masks


def _restored(layer: Maskable, mask: Tensor) -> Tensor:
    """The mask in the order of the weight's own dimensions."""
    return mask.movedim((0, 1), (layer.output_dim, layer.input_dim)).contiguous()


def _channel_scores(group: ChannelGroup, scores: Scores) -> Tensor:
    """Sum over all maskable weights that produce a channel."""
    total = torch.zeros(group.size, dtype=torch.float64)
    for axis in group.axes:
        if axis.role == "output" and axis.parameter in scores:
            score = scores[axis.parameter].transpose(0, axis.dim).flatten(1).double().sum(dim=1).cpu()
            total += score[channel_slice(axis, group.size)].reshape(group.size, axis.repeat).sum(dim=1)
    return total
