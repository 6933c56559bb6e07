"""GCC's learned gates: which channels of the student's discriminator are active.

Source: Li et al., "Revisiting Discriminator in GAN Compression", 2021, released code.
"""

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.architectures.gated import GatedDiscriminator
from limbeck.distillation.companion import Companion, playing
from limbeck.distillation.loop import Loop
from limbeck.distillation.optimizers import MakeOptimizer
from limbeck.errors import UserError
from limbeck.losses.adversarial import discriminator_logistic, generator_logistic
from limbeck.losses.steps import DiscriminatorStep
from limbeck.losses.weighted import Term, Weighted
from limbeck.model import Pair
from limbeck.parallel import joint_mean


def gate(alpha: Float[Tensor, " c"], threshold: float) -> Float[Tensor, " c"]:
    """(sign(alpha - threshold) + 1) / 2: 0, 1, or 1/2 exactly at the threshold; gradient of the identity."""
    hard = (torch.sign(alpha - threshold) + 1) / 2
    return alpha + (hard - alpha).detach()


def balance(fake_logits: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """|generator's loss - discriminator's loss| on the same fakes: |mean logit|.

    Differs from the port to StyleGAN2, which takes the mean of |logit| over samples; this is the original's.
    """
    return (joint_mean(generator_logistic(fake_logits)) - joint_mean(generator_logistic(-fake_logits))).abs()


class GateLoss(Term):
    """Global coordination plus `capacity_weight` times local capacity.

    Coordination: the distance of the student's balance from the running average of the teacher's, in which the newest
    value has weight `share`, one minus the share of the run that is over. Capacity: the discriminator's own loss.
    """

    target: Tensor

    def __init__(self, gates: "Gates"):
        super().__init__()
        self.held = [gates]  # outside the module tree: the gates hold this term
        self.share = 1.0
        self.register_buffer("target", torch.zeros([]))

    def forward(self, step: DiscriminatorStep) -> Tensor:
        (gates,) = self.held
        judge = partial(gates.judge_of(step), masks=gates.masks())
        fake, real = judge(step.fake_image, step.draw.label), judge(step.real_image, step.real_label)
        assert step.players.teacher_judge is not None
        with torch.no_grad():
            theirs = balance(step.players.teacher_judge(step.teacher_image, step.draw.label))
            self.target.lerp_(theirs, self.share)
        loss = (balance(fake) - self.target).abs()
        return loss + gates.capacity_weight * discriminator_logistic(real, fake)


class Gates(Companion):
    """One number alpha per channel of each block of the judge `judge`, in [0, 1], from 1; above `threshold` it is on.

    optimizer: of the alphas (Adam at 1e-4 as released). capacity_weight: 1 as released, 0 in the port to StyleGAN2.

    Differs: the authors learn the gates on a validation batch after each training batch; we learn them on each new
    training batch before the judges see it.
    """

    num_optimizers = 1
    reads_teacher_judge = True

    def __init__(
        self, *, optimizer: MakeOptimizer, judge: str = "gated", threshold: float = 0.1, capacity_weight: float = 1.0
    ):
        super().__init__()
        self.make_optimizer, self.judge = optimizer, judge
        self.threshold, self.capacity_weight = threshold, capacity_weight
        self.loss = GateLoss(self)
        self.alphas = nn.ParameterDict()

    def prepare(self, pair: Pair, loop: Loop) -> None:
        game = playing(loop, "gates")
        judge = game.trained.get(self.judge)
        if not isinstance(judge, GatedDiscriminator):
            raise UserError(f"gates.judge={self.judge!r}: no gated discriminator of this name; use discriminator=gated")
        self.game = game
        self.alphas = nn.ParameterDict({str(size): torch.ones_like(mask) for size, mask in judge.masks().items()})

    def optimizers(self) -> list[Optimizer]:
        return [self.make_optimizer(list(self.alphas.parameters()))]

    def masks(self) -> dict[int, Tensor]:
        """The gates with their gradient, by size of the map."""
        return {int(size): gate(alpha, self.threshold) for size, alpha in self.alphas.items()}

    def judge_of(self, step: DiscriminatorStep) -> nn.Module:
        return step.players.discriminators[self.judge]

    def play(self, loop: Loop, optimizers: Sequence, real: Tensor, label: Tensor) -> None:
        with torch.no_grad():
            for alpha in self.alphas.values():
                alpha.clamp_(0, 1)
        self.game.let_train(student=False, judges=False)
        terms = {"architecture": Weighted(term=self.loss)}
        self.loss.share = 1 - loop.images_seen / loop.total_images
        steps = self.game.discriminator_steps(terms, real, label, images_seen=loop.images_seen)
        loop.optimize(optimizers, "gates", terms, list(steps))
        self.game.let_train()
        judge = self.game.trained[self.judge]
        for size, mask in self.masks().items():
            judge.get_buffer(f"mask_{size}").copy_(mask.detach())
