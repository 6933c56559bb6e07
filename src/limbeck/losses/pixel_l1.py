"""Distances between the teacher's and the student's image of the same latent."""

from jaxtyping import Float
from torch import Tensor

from limbeck.losses.steps import GeneratorStep
from limbeck.losses.weighted import Term


def mean_absolute_difference(a: Float[Tensor, "n c h w"], b: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
    """Mean over all entries of |a - b|; images in [-1, 1]."""
    return (a - b).abs().mean()


class PixelL1(Term):
    """Mean absolute pixel difference (weight 3 in CAGAN, StyleKD, DCP-GAN and SVS)."""

    def forward(self, step: GeneratorStep) -> Tensor:
        return mean_absolute_difference(step.teacher_image, step.student_image)
