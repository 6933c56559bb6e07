"""Which discriminators judge the student, and where they start."""

import copy
from abc import ABC, abstractmethod

from limbeck.architectures.base import Network
from limbeck.errors import UserError
from limbeck.model import Model, Pair


class Judges(ABC):
    """Builds the discriminators of a run by name; each is trained by its own optimizer."""

    @abstractmethod
    def __call__(self, pair: Pair) -> dict[str, Network]: ...


class Fresh(Judges):
    """The teacher's discriminator architecture with new random weights (SVS, NICKEL)."""

    def __call__(self, pair: Pair) -> dict[str, Network]:
        return {"fresh": _discriminator(pair.teacher).resized({})}


class FromTeacher(Judges):
    """The teacher's own discriminator, trained further (CAGAN, StyleKD)."""

    def __call__(self, pair: Pair) -> dict[str, Network]:
        return {"teacher": copy.deepcopy(_discriminator(pair.teacher))}


class Both(Judges):
    """A fresh one and the teacher's, each for itself (NICKEL & DiME)."""

    def __call__(self, pair: Pair) -> dict[str, Network]:
        return {**Fresh()(pair), **FromTeacher()(pair)}


def _discriminator(teacher: Model) -> Network:
    if teacher.discriminator is None:
        raise UserError("discriminator: the teacher file holds none; bring a file with a discriminator")
    return teacher.discriminator
