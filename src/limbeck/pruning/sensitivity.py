"""How strongly an image reacts to the weights that read a channel: what the gradient-based criteria share."""

import contextlib
from collections.abc import Collection, Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.architectures.base import Axis, Network, channel_slice
from limbeck.architectures.inputs import Inputs, drawn_inputs
from limbeck.errors import UserError


def readers(network: Network) -> dict[str, Axis]:
    """The weight that reads each group of channels, by group name: the first that the group declares.

    In StyleGAN2 that is the next styled convolution and, for the last group, the last ToRGB; the ToRGB layers of other
    resolutions do not count.

    Source: Liu et al., "Content-Aware GAN Compression", 2021, released code, which DCP-GAN (2024) takes over.
    """
    found = {}
    for group in network.channel_groups():
        axes = [axis for axis in group.axes if axis.role == "input"]
        if not axes:
            raise UserError(f"group {group.name!r} has no weight that reads it, so no gradient can score it")
        found[group.name] = axes[0]
    return found


def mean_magnitude(gradient: Tensor, axis: Axis, size: int) -> Float[Tensor, "size"]:
    """Mean of |gradient| over every axis but the group's own, one number per channel, in float64."""
    per_entry = gradient.detach().abs().transpose(0, axis.dim).flatten(1).mean(dim=1, dtype=torch.float64)
    return per_entry[channel_slice(axis, size)].reshape(size, axis.repeat).mean(dim=1).cpu()


def mean_magnitudes(network: Network, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`mean_magnitude` for every group. gradients: of the readers' weights, by parameter name."""
    read = readers(network)
    return {
        group.name: mean_magnitude(gradients[read[group.name].parameter], read[group.name], group.size)
        for group in network.channel_groups()
    }


def latent_inputs(network: Network, count: int, source: torch.Generator) -> Inputs:
    """Latents and labels of as many images, on the network's device. source: a generator on the CPU.

    Raises: UserError if the network draws its images from anything but a latent vector.
    """
    if len(network.latent_shape) != 1:
        raise UserError(
            f"pruning: this criterion needs a generator that draws from a latent vector, not {type(network).__name__}"
        )
    return drawn_inputs(network, count, source).to(next(network.parameters()).device)


def readers_trainable(network: Network) -> contextlib.AbstractContextManager[dict[str, Tensor]]:
    """`only_trainable` for the readers' weights."""
    return only_trainable(network, {axis.parameter for axis in readers(network).values()})


def drawn_styles(network: Network, count: int, source: torch.Generator) -> Tensor:
    """Styles w [count, w_dim] of `latent_inputs`, without truncation; the latents where there are no styles."""
    inputs = latent_inputs(network, count, source)
    return network.styled(inputs.source, inputs.label)


@contextlib.contextmanager
def only_trainable(network: Network, names: Collection[str]) -> Iterator[dict[str, Tensor]]:
    """Yields these parameters by name; inside, only they take gradients, so nothing is computed for the others."""
    parameters = dict(network.named_parameters())
    before = {name: parameter.requires_grad for name, parameter in parameters.items()}
    wanted = set(names)
    try:
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in wanted)
        yield {name: parameter for name, parameter in parameters.items() if name in wanted}
    finally:
        for name, parameter in parameters.items():
            parameter.requires_grad_(before[name])
