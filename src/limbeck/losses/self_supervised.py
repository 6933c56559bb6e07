"""Self-supervised compression: the training losses of the student shall take the values that the teacher's take.

Source: Yu and Pool, "Self-Supervised GAN Compression", 2020 (text of the ICLR 2020 submission; no code is known).
Only loss values are compared, not images. The paper's table says that the discriminator is trained on, its equations
write the original one: choose by `discriminator.frozen`.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.errors import UserError
from limbeck.losses.adversarial import discriminator_logistic, generator_logistic
from limbeck.losses.steps import GeneratorStep
from limbeck.losses.weighted import Term
from limbeck.parallel import joint_mean

EPSILON = 1e-4


def relative_difference(original: Float[Tensor, ""], compressed: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """|original - compressed| / |original|, the original a constant; its absolute value is kept above 1e-4.

    Differs: the paper has no such floor; losses that cross zero would explode without it.
    """
    original = original.detach()
    return (original - compressed).abs() / original.abs().clamp_min(EPSILON)


def gradient_penalty(
    judge: nn.Module, image: Float[Tensor, "n c h w"], label: Tensor | None, *, create_graph: bool
) -> Float[Tensor, ""]:
    """Mean over images of (|d logit / d image| - 1)^2, in float32.

    Source: Gulrajani et al., "Improved Training of Wasserstein GANs", 2017.
    """
    with torch.autocast(image.device.type, enabled=False), torch.enable_grad():
        image = image.float() if create_graph else image.float().detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(judge(image, label).sum(), image, create_graph=create_graph)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


class SelfSupervised(Term):
    """Relative difference of the generator's loss, plus `discriminator_weight` times that of the discriminator's.

    discriminator_weight: lambda of the paper. penalty_weight: delta, for baselines trained with a gradient penalty
        between real and generated images (10 for StarGAN). StyleGAN2's own penalty, R1, looks at real images only: it
        is equal for teacher and student and drops out.
    judge: name of the discriminator; None takes the first.

    The values are averages over one micro-batch of all processes, so several processes train as one with the joint
    batch does, as far as the discriminator treats images alone.
    """

    reads_judges = True

    def __init__(self, *, discriminator_weight: float = 0.5, penalty_weight: float = 0.0, judge: str | None = None):
        super().__init__()
        self.discriminator_weight, self.penalty_weight, self.judge = discriminator_weight, penalty_weight, judge

    def forward(self, step: GeneratorStep) -> Tensor:
        judges = step.players.discriminators
        name = self.judge or next(iter(judges))
        if name not in judges:
            raise UserError(f"self_supervised.judge={name!r}: must be a discriminator of this run: {', '.join(judges)}")
        teacher, student = (step.judged(who, name) for who in ("teacher", "student"))
        total = _compared(generator_logistic(teacher), generator_logistic(student))
        if self.discriminator_weight:
            real = step.judged("real", name)
            difference = _compared(discriminator_logistic(real, teacher), discriminator_logistic(real, student))
            if self.penalty_weight:
                difference = difference + self.penalty_weight * self._penalty_difference(step, judges[name])
            total = total + self.discriminator_weight * difference
        return total

    @staticmethod
    def _penalty_difference(step: GeneratorStep, judge: nn.Module) -> Tensor:
        """The same random places between real and generated images on both sides."""
        assert step.real_image is not None
        share = torch.rand(len(step.real_image), 1, 1, 1, device=step.real_image.device)
        places = (image.lerp(step.real_image, share) for image in (step.teacher_image, step.student_image))
        original, compressed = (
            gradient_penalty(judge, place, step.draw.label, create_graph=place.requires_grad) for place in places
        )
        return _compared(original, compressed)


def _compared(original: Tensor, compressed: Tensor) -> Tensor:
    return relative_difference(joint_mean(original), joint_mean(compressed))
