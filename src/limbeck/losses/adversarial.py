"""Adversarial losses, each for both players: logistic, least squares, hinge, Wasserstein.

A discriminator's logits are those of its images, or of all patches of its images; high means real.
Source: Goodfellow et al., "Generative Adversarial Networks", 2014 (logistic, in the non-saturating form of StyleGAN2,
2020, which is binary cross-entropy on logits); the others where they stand.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limbeck.losses.image_step import JudgedStep, JudgingStep
from limbeck.losses.weighted import Term


def generator_logistic(fake_logits: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Mean of softplus(-logit): small when fakes are taken for real."""
    return F.softplus(-fake_logits).mean()


def discriminator_logistic(real_logits: Float[Tensor, " n"], fake_logits: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """Mean of softplus(-real) plus mean of softplus(fake)."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def generator_least_squares(fake_logits: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Mean squared distance to 1.

    Source: Mao et al., "Least Squares Generative Adversarial Networks", 2017, Eq. 9, without the factor 1/2 there.
    """
    return (fake_logits - 1).square().mean()


def discriminator_least_squares(
    real_logits: Float[Tensor, " n"], fake_logits: Float[Tensor, " m"]
) -> Float[Tensor, ""]:
    """Mean squared distance of real images to 1 plus that of generated ones to 0; source: see the generator's."""
    return (real_logits - 1).square().mean() + fake_logits.square().mean()


def generator_wasserstein(fake_logits: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Minus the mean, which is the generator's hinge loss too.

    Source: Arjovsky et al., "Wasserstein GAN", 2017, algorithm 1; Lim and Ye, "Geometric GAN", 2017 (hinge).
    """
    return -fake_logits.mean()


def discriminator_wasserstein(real_logits: Float[Tensor, " n"], fake_logits: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """Mean of generated minus mean of real ones; source: see the generator's."""
    return fake_logits.mean() - real_logits.mean()


def discriminator_hinge(real_logits: Float[Tensor, " n"], fake_logits: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """Mean of max(0, 1 - real) plus mean of max(0, 1 + fake).

    Source: Lim and Ye, "Geometric GAN", 2017, Eq. 16.
    """
    return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()


class NonSaturatingGenerator(Term):
    """Sum over the discriminators of the generator's logistic loss."""

    reads_judges = True

    def forward(self, step: JudgedStep) -> Tensor:
        return sum_of(generator_logistic(logits) for logits in step.fake_logits.values())


class NonSaturatingDiscriminator(Term):
    """Each discriminator's own logistic loss; the sum separates, because they share no weights."""

    def forward(self, step: JudgingStep) -> Tensor:
        fake, real = step.fake_logits, step.real_logits
        return sum_of(discriminator_logistic(real[name], fake[name]) for name in fake)


class LeastSquaresGenerator(Term):
    """Sum over the discriminators of the generator's least-squares loss (CycleGAN)."""

    reads_judges = True

    def forward(self, step: JudgedStep) -> Tensor:
        return sum_of(generator_least_squares(logits) for logits in step.fake_logits.values())


class LeastSquaresDiscriminator(Term):
    """Each discriminator's own least-squares loss (CycleGAN, with weight 0.5)."""

    def forward(self, step: JudgingStep) -> Tensor:
        fake, real = step.fake_logits, step.real_logits
        return sum_of(discriminator_least_squares(real[name], fake[name]) for name in fake)


class WassersteinGenerator(Term):
    """Sum over the discriminators of the generator's Wasserstein loss (StarGAN), or hinge loss."""

    reads_judges = True

    def forward(self, step: JudgedStep) -> Tensor:
        return sum_of(generator_wasserstein(logits) for logits in step.fake_logits.values())


class WassersteinDiscriminator(Term):
    """Each discriminator's own Wasserstein loss (StarGAN, with a gradient penalty)."""

    def forward(self, step: JudgingStep) -> Tensor:
        fake, real = step.fake_logits, step.real_logits
        return sum_of(discriminator_wasserstein(real[name], fake[name]) for name in fake)


class HingeDiscriminator(Term):
    """Each discriminator's own hinge loss (GAN Compression's pix2pix)."""

    def forward(self, step: JudgingStep) -> Tensor:
        fake, real = step.fake_logits, step.real_logits
        return sum_of(discriminator_hinge(real[name], fake[name]) for name in fake)


def sum_of(values) -> Tensor:
    """Sum of at least one scalar tensor."""
    first, *rest = values
    return sum(rest, first)
