"""The loss that denoisers are trained with: the error of the estimated noise.

Source: Ho et al., "Denoising Diffusion Probabilistic Models", 2020, Eq. 14, as released with DDIM and Diff-Pruning.
"""

from torch import Tensor

from limbeck.functional.diffusion import noise_loss
from limbeck.losses.denoising_step import DenoisingStep
from limbeck.losses.weighted import Term


class NoisePrediction(Term):
    """Squared error, summed over channels and pixels, averaged over images."""

    def forward(self, step: DenoisingStep) -> Tensor:
        return noise_loss(step.student_estimate, step.noise)
