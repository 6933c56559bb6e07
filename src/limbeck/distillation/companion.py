"""What may take part in the training beside the student and its judges, in the same loop."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.architectures.base import Network
from limbeck.distillation.game import Game
from limbeck.distillation.loop import Loop
from limbeck.errors import UserError
from limbeck.model import Pair


class Companion(nn.Module, ABC):
    """Takes a turn before the student's in every step. The constructor only stores.

    Its parameters and buffers travel in the checkpoint; those trained must require gradients after `prepare`.
    num_optimizers: how many `optimizers` returns. reads_teacher_judge: needs the teacher's discriminator, or trains it.
    """

    num_optimizers: int
    reads_teacher_judge: bool = False

    def check(self, student: Network) -> None:
        """Refuse what cannot work, before the first stage of a run. Raises: UserError."""

    def describe(self) -> dict[str, Any]:
        """What the student's history says of it."""
        return {}

    @abstractmethod
    def prepare(self, pair: Pair, loop: Loop) -> None:
        """See the run before training starts: its teacher (a copy that may be trained), student and judges."""

    @abstractmethod
    def optimizers(self) -> list[Optimizer]:
        """Those of its own parameters."""

    @abstractmethod
    def play(self, loop: Loop, optimizers: Sequence, real: Tensor, label: Tensor) -> None:
        """One turn. real: [n, c, h, w] in [-1, 1] with `label` [n]; not seen by the judges in this step yet."""


def playing(loop: Loop, name: str) -> Game:
    """The game of the student with its judges. Raises: UserError where there is none."""
    if loop.game is None:
        raise UserError(f"companion={name}: plays against discriminators; needs distillation=gan")
    return loop.game
