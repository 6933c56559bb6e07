"""Sparsity phase of GAN Slimming: style scalars are driven towards zero before channels are cut."""

import torch
from torch import Tensor

from limbeck.losses.steps import GeneratorStep
from limbeck.losses.weighted import Term


class StyleSparsity(Term):
    """Sum over all layers and channels of |mean over the batch of the style scalar|.

    Source: GAN Slimming (Wang et al., 2020) in the StyleGAN2 form of the SVS authors' released baselines (2025); see
    `pruning.criteria.gan_slimming`. Differs: a mean per micro-batch, as there per device.
    """

    needs_styles = True

    def forward(self, step: GeneratorStep) -> Tensor:
        modulations = step.players.student.synthesis.modulations(step.student_style)
        return torch.stack([scale.mean(dim=0).abs().sum() for scale, _ in modulations.values()]).sum()
