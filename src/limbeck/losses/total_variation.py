"""Smoothness of the student's images.

Source: Rudin, Osher and Fatemi, "Nonlinear Total Variation Based Noise Removal Algorithms", 1992, squared as public
SRGAN code has it (weight 2e-8 there, on images in [0, 1]).
"""

from jaxtyping import Float
from torch import Tensor

from limbeck.losses.image_step import ImageStep
from limbeck.losses.weighted import Term


def total_variation(image: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
    """Mean squared step to the pixel below plus that to the pixel on the right, times two."""
    down, right = image[..., 1:, :] - image[..., :-1, :], image[..., 1:] - image[..., :-1]
    return 2 * (down.square().mean() + right.square().mean())


class TotalVariation(Term):
    """Of images taken to [0, 1]."""

    def forward(self, step: ImageStep) -> Tensor:
        return total_variation((step.student_image + 1) / 2)
