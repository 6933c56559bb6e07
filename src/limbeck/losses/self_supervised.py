"""Self-supervised compression: the training losses of the student shall take the values that the teacher's take.

Source: Yu and Pool, "Self-Supervised GAN Compression", 2020 (text of the ICLR 2020 submission; no code is known).
Only loss values are compared, not images. The paper's table says that the discriminator is trained on, its equations
write the original one: choose by `discriminator.frozen`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.architectures.base import Network
from limbeck.data.base import ImageSource
from limbeck.errors import UserError
from limbeck.losses.adversarial import NonSaturatingDiscriminator, NonSaturatingGenerator, sum_of
from limbeck.losses.image_step import JudgedStep, Step
from limbeck.losses.weighted import Term, Weighted, checked_terms
from limbeck.model import Pair
from limbeck.parallel import joint_mean

EPSILON = 1e-4


def relative_difference(original: Float[Tensor, ""], compressed: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """|original - compressed| / |original|, the original a constant; its absolute value is kept above 1e-4.

    Differs: the paper has no such floor; losses that cross zero would explode without it.
    """
    original = original.detach()
    return (original - compressed).abs() / original.abs().clamp_min(EPSILON)


class SelfSupervised(Term):
    """Weighted relative differences of the generator's terms, plus `discriminator_weight` times the discriminator's.

    generator, discriminator: the terms of the baseline that trained the teacher, with the weights that they have there
        (alpha, beta and delta of the paper; the adversarial ones 1). Each is evaluated on the micro-batch and on the
        micro-batch with the teacher's output in the student's place, from the same random numbers; `every_steps` and
        `batch_share` do not matter. By default the non-saturating loss. StyleGAN2's penalty, R1, looks at real images
        only: it would be equal on both sides.
    discriminator_weight: lambda of the paper.
    judge: name of the only discriminator that is asked; None asks all.

    The values are averages over one micro-batch of all processes, so several processes train as one with the joint
    batch does, as far as the discriminator treats images alone.
    """

    reads_judges = True

    def __init__(
        self,
        *,
        generator: Mapping[str, Any] | None = None,
        discriminator: Mapping[str, Any] | None = None,
        discriminator_weight: float | int = 0.5,
        judge: str | None = None,
    ):
        super().__init__()
        plain = Weighted(term=NonSaturatingGenerator()), Weighted(term=NonSaturatingDiscriminator())
        self.generator = nn.ModuleDict(
            _terms("generator", {"nonsaturating": plain[0]} if generator is None else generator)
        )
        given = {"nonsaturating": plain[1]} if discriminator is None else discriminator
        self.discriminator = nn.ModuleDict(_terms("discriminator", given) if given else {})
        self.discriminator_weight, self.judge = discriminator_weight, judge

    def check(self) -> None:
        for weighted in self._all():
            weighted.term.check()

    def check_fits(self, name: str, offered: type, generator: Network) -> None:
        super().check_fits(name, offered, generator)
        for terms, kind in ((self.generator, offered), (self.discriminator, getattr(offered, "judging_kind", object))):
            for inner, weighted in terms.items():
                weighted.term.check_fits(f"{name}, baseline term {inner!r}", kind, generator)

    def check_data(self, name: str, data: ImageSource) -> None:
        for terms in (self.generator, self.discriminator):
            for inner, weighted in terms.items():
                weighted.term.check_data(f"{name}, baseline term {inner!r}", data)

    def describe(self) -> dict[str, Any]:
        terms = {"generator": self.generator, "discriminator": self.discriminator}
        return {side: {name: weighted.weight for name, weighted in some.items()} for side, some in terms.items()}

    def prepare(self, pair: Pair, *, half: bool) -> None:
        for weighted in self._all():
            weighted.term.prepare(pair, half=half)

    def forward(self, step: JudgedStep) -> Tensor:
        judges = step.players.discriminators
        if self.judge is not None and self.judge not in judges:
            raise UserError(
                f"self_supervised.judge={self.judge!r}: must be a discriminator of this run: {', '.join(judges)}"
            )
        teacher, student = (step.posing(who, self.judge) for who in ("teacher", "student"))
        total = differences(self.generator, teacher, student)
        if self.discriminator_weight and len(self.discriminator):
            found = differences(self.discriminator, teacher.judging(), student.judging())
            total = total + self.discriminator_weight * found
        return total

    def _all(self) -> list[Weighted]:
        return [*self.generator.values(), *self.discriminator.values()]  # type: ignore[list-item]


def differences(terms: nn.ModuleDict, teacher: Step, student: Step) -> Float[Tensor, ""]:
    """Sum of the terms' weighted relative differences between two steps; both sides see the same random numbers."""
    parameter = next(student.players.student.parameters())
    with torch.random.fork_rng(devices=[parameter.device] if parameter.is_cuda else []):
        original = {name: weighted.term(teacher) for name, weighted in terms.items()}
    return sum_of(
        weighted.weight * relative_difference(joint_mean(original[name]), joint_mean(weighted.term(student)))
        for name, weighted in terms.items()
    )


def _terms(player: str, terms: Mapping[str, Any]) -> dict[str, Weighted]:
    return checked_terms(f"generator.self_supervised.term.{player}", terms)
