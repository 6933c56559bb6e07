"""Which discriminators judge the student, where they start, and which of them are trained."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import nn

from limbeck.architectures.base import Network
from limbeck.architectures.gated import GatedDiscriminator
from limbeck.architectures.stylegan2 import Discriminator
from limbeck.errors import UserError
from limbeck.frozen import Frozen
from limbeck.model import Model, Pair


class Judges(ABC):
    """Builds the discriminators of a run by name.

    Each is trained by its own optimizer, with its own R1; a `Frozen` one only judges.
    """

    @abstractmethod
    def __call__(self, pair: Pair) -> Mapping[str, nn.Module]: ...


class NoJudges(Judges):
    """For regimes without discriminators."""

    def __call__(self, pair: Pair) -> dict[str, nn.Module]:
        return {}


class Fresh(Judges):
    """The teacher's discriminator architecture with new random weights (SVS, DCP-GAN, StyleKD)."""

    def __call__(self, pair: Pair) -> dict[str, nn.Module]:
        return {"fresh": _discriminator(pair.teacher).resized({})}


class FromTeacher(Judges):
    """The teacher's own discriminator, trained further (CAGAN) or frozen (self-supervised compression)."""

    def __init__(self, *, frozen: bool = False):
        self.frozen = frozen

    def __call__(self, pair: Pair) -> dict[str, nn.Module]:
        judge = copy.deepcopy(_discriminator(pair.teacher))
        return {"teacher": Frozen(judge) if self.frozen else judge}


class Both(Judges):
    """A fresh one and the teacher's, each for itself (NICKEL & DiME); `frozen` is about the teacher's."""

    def __init__(self, *, frozen: bool = False):
        self.frozen = frozen

    def __call__(self, pair: Pair) -> dict[str, nn.Module]:
        return {**Fresh()(pair), **FromTeacher(frozen=self.frozen)(pair)}


class Gated(Judges):
    """A fresh discriminator whose channels `distillation.gates` switches on and off (GCC)."""

    def __call__(self, pair: Pair) -> dict[str, nn.Module]:
        teacher = _discriminator(pair.teacher)
        if not isinstance(teacher, Discriminator):
            raise UserError(f"discriminator=gated: gates a StyleGAN2 discriminator, not a {type(teacher).__name__}")
        return {"gated": GatedDiscriminator(**teacher.arguments)}


def _discriminator(teacher: Model) -> Network:
    if teacher.discriminator is None:
        raise UserError("discriminator: the teacher file holds none; bring a file with a discriminator")
    return teacher.discriminator
