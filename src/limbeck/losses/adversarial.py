"""The non-saturating logistic GAN loss, for both players.

Source: Goodfellow et al., "Generative Adversarial Networks", 2014; logistic form as in StyleGAN2 (2020).
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limbeck.losses.steps import DiscriminatorStep, GeneratorStep
from limbeck.losses.weighted import Term


def generator_logistic(fake_logits: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Mean of softplus(-logit): small when fakes are taken for real."""
    return F.softplus(-fake_logits).mean()


def discriminator_logistic(real_logits: Float[Tensor, " n"], fake_logits: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """Mean of softplus(-real) plus mean of softplus(fake)."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


class NonSaturatingGenerator(Term):
    """Sum over the discriminators of the generator's logistic loss."""

    reads_judges = True

    def forward(self, step: GeneratorStep) -> Tensor:
        return sum_of(generator_logistic(logits) for logits in step.fake_logits.values())


class NonSaturatingDiscriminator(Term):
    """Each discriminator's own logistic loss; the sum separates, because they share no weights."""

    def forward(self, step: DiscriminatorStep) -> Tensor:
        fake, real = step.fake_logits, step.real_logits
        return sum_of(discriminator_logistic(real[name], fake[name]) for name in fake)


def sum_of(values) -> Tensor:
    """Sum of at least one scalar tensor."""
    first, *rest = values
    return sum(rest, first)
