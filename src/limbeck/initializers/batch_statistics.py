"""Batch norm's running statistics of weights that were changed: the old ones are worth nothing."""

import torch
from torch import nn

from limbeck.architectures.base import Network
from limbeck.architectures.inputs import drawn_inputs

BATCHES, BATCH_SIZE = 8, 64


@torch.no_grad()
def remeasure(network: Network, *, seed: int = 0) -> None:
    """Set them, in place, to the mean of 8 batches of 64 images, each normalized by its own statistics.

    Networks without batch norm, and those that draw from anything but a latent vector, stay as they are.
    """
    norms = [
        module for module in network.modules() if isinstance(module, nn.BatchNorm2d) and module.track_running_stats
    ]
    if not norms or network.draws_from != "noise" or len(network.latent_shape) != 1:
        return
    was_training, momenta = network.training, [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
    numbers, device = torch.Generator().manual_seed(seed), next(network.parameters()).device
    network.train()
    for _ in range(BATCHES):
        inputs = drawn_inputs(network, BATCH_SIZE, numbers).to(device)
        network.rendered(network.styled(inputs.source, inputs.label), inputs.label)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.train(was_training)
