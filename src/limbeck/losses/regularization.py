"""R1 on the discriminators and path length on the generator, both meant for lazy cadences (16 and 4).

Both differentiate twice and run in float32 whatever the training precision: their gradients overflow in 16 bit.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.losses.adversarial import sum_of
from limbeck.losses.image_step import Bout, JudgingStep
from limbeck.losses.steps import DiscriminatorStep, GeneratorStep
from limbeck.losses.weighted import Term
from limbeck.parallel import mean_over_processes


def squared_gradient(logits: Float[Tensor, " n"], image: Float[Tensor, "n c h w"]) -> Float[Tensor, ""]:
    """Half the mean over images of |d logit / d image|^2, the squares summed over pixels and channels.

    Source: Mescheder et al., "Which Training Methods for GANs do actually Converge?", 2018 (R1).
    """
    (gradient,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean() / 2


def path_lengths(
    image: Float[Tensor, "n c h w"], style: Float[Tensor, "n k d"], noise: Float[Tensor, "n c h w"]
) -> Float[Tensor, " n"]:
    """Root mean over layers of |d sum(image * noise) / d style|^2, with noise ~ N(0, 1) / sqrt(h w).

    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, section "path length
    regularization"; mean over layers as released.
    """
    scale = math.sqrt(image.shape[2] * image.shape[3])
    (gradient,) = torch.autograd.grad((image * noise / scale).sum(), style, create_graph=True)
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()


class R1(Term):
    """Weight it by gamma (10 for FFHQ 256 base, 1 for small)."""

    exact = True

    def forward(self, step: DiscriminatorStep) -> Tensor:
        with torch.autocast(step.real_image.device.type, enabled=False):
            image = step.real_image.float().detach().requires_grad_(True)
            judges = step.players.discriminators.values()
            return sum_of(squared_gradient(judge(image, step.real_label), image) for judge in judges)


class GradientPenalty(Term):
    """Mean over images of (|d logit / d image| - 1)^2 at one random place between a real and a generated image each.

    Weight it by 10. The places are drawn for each judge.

    Source: Gulrajani et al., "Improved Training of Wasserstein GANs", 2017, algorithm 1.
    """

    def forward(self, step: JudgingStep) -> Tensor:
        return sum_of(self._penalty(bout) for bout in step.bouts())

    @staticmethod
    def _penalty(bout: Bout) -> Tensor:
        with torch.autocast(bout.real.device.type, enabled=False):
            share = torch.rand(len(bout.real), 1, 1, 1, device=bout.real.device)
            place = bout.fake.float().lerp(bout.real.float(), share).requires_grad_(True)
            (gradient,) = torch.autograd.grad(bout.logits(place).sum(), place, create_graph=True)
            return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


class PathLength(Term):
    """Mean squared deviation of the path lengths from their running mean.

    Differs: the running mean is averaged over processes, so that every process penalizes against the same length; it is
    a number without gradient, while in the released codes the newest lengths' share in it (a hundredth) carries one.
    """

    needs_styles = True
    exact = True
    mean: Tensor

    def __init__(self, *, decay: float = 0.01):
        super().__init__()
        self.decay = decay
        self.register_buffer("mean", torch.zeros([]))

    def forward(self, step: GeneratorStep) -> Tensor:
        student = step.players.student
        with torch.autocast(self.mean.device.type, enabled=False):
            style = step.student_style.contiguous()
            image, _ = student.rendered(style, step.draw.label, noise="random")
            lengths = path_lengths(image, style, torch.randn_like(image))
            mean = self.mean.lerp(mean_over_processes(lengths.mean()), self.decay)
            self.mean.copy_(mean)
            return (lengths - mean).square().mean()
