"""Sparsity phase of GAN Slimming where there are no styles: scales of normalizations are driven towards zero.

Source: Wang et al., "GAN Slimming: All-in-One GAN Compression by a Unified Optimization Framework", 2020, its term of
channel pruning; after Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", 2017, Eq. 1.
"""

import torch
from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.errors import UserError
from limbeck.losses.image_step import ImageStep
from limbeck.losses.weighted import Term


class NormSparsity(Term):
    """Sum of |weight| over all normalizations of the student; what `pruning=gan_slimming` then ranks channels by."""

    def check_fits(self, name: str, offered: type, generator: Network) -> None:
        super().check_fits(name, offered, generator)
        if not generator.refinable().norm_weights:
            raise UserError(f"{name}: a {type(generator).__name__} has no normalization with weights; leave it out")

    def forward(self, step: ImageStep) -> Tensor:
        student = step.players.student
        return torch.stack([student.get_parameter(w).abs().sum() for w in student.refinable().norm_weights]).sum()
