"""Output distillation of denoisers: the student's estimate of the noise follows the teacher's.

Source: Fang et al., "Structural Pruning for Diffusion Models", 2023, an option of the released training code (no result
is published): the target is 0.7 times the teacher's estimate plus 0.3 times the noise. Up to a constant that is this
term with weight 0.7 beside `noise_prediction` with weight 0.3.
"""

from torch import Tensor

from limbeck.functional.diffusion import noise_loss
from limbeck.losses.denoising_step import DenoisingStep
from limbeck.losses.weighted import Term


class TeacherNoise(Term):
    """Squared difference of both estimates, summed over channels and pixels, averaged over images."""

    def forward(self, step: DenoisingStep) -> Tensor:
        return noise_loss(step.student_estimate, step.teacher_estimate)
