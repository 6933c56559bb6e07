"""A loss of your own: the student's edges should be the teacher's."""

import torch
from torch import Tensor

from limbeck.losses.image_step import ImageStep
from limbeck.losses.weighted import Term


def edges(image: Tensor) -> Tensor:
    """Differences of neighboring pixels, to the right and down: [n, 2c, h - 1, w - 1] of an image [n, c, h, w]."""
    corner = image[..., :-1, :-1]
    return torch.cat([image[..., :-1, 1:] - corner, image[..., 1:, :-1] - corner], dim=1)


class Edges(Term):
    """Mean absolute difference of edges."""

    def forward(self, step: ImageStep) -> Tensor:
        return (edges(step.student_image) - edges(step.teacher_image)).abs().mean()
