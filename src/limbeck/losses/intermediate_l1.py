"""Pixel distances at every resolution on the way to the image.

Source: Liu et al., "Content-Aware GAN Compression", 2021, released code (distillation mode "Intermediate", not its
default): the RGB skip outputs of all resolutions are compared, unmasked.
"""

from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.adversarial import sum_of
from limbeck.losses.pixel_l1 import mean_absolute_difference
from limbeck.losses.steps import GeneratorStep
from limbeck.losses.weighted import Term
from limbeck.model import Pair


class IntermediateL1(Term):
    """Sum over resolutions of the mean absolute difference of the images drawn so far."""

    needs_styles = True

    def prepare(self, pair: Pair, *, half: bool) -> None:
        generator = pair.teacher.generator
        synthesis = generator.synthesis
        if not synthesis.draws_skips:
            raise UserError(
                f"loss/generator: 'intermediate_l1': {generator.family} has no images on the way; leave it out"
            )
        self.feature_resolutions = tuple(synthesis.resolutions)

    def forward(self, step: GeneratorStep) -> Tensor:
        with step.teacher.running() as network:
            teacher = network.synthesis.skips(step.teacher_features, step.teacher_style)
        student = step.players.student.synthesis.skips(step.student_features, step.student_style)
        return sum_of(mean_absolute_difference(teacher[r], student[r]) for r in self.feature_resolutions)
