"""What may be trained beside the student and its judges, in the same loop."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.distillation.game import Game
from limbeck.distillation.loop import Loop
from limbeck.model import Pair


class Companion(nn.Module, ABC):
    """Takes a turn before the student's in every step. The constructor only stores.

    Its parameters and buffers travel in the checkpoint; those trained must require gradients after `prepare`.
    num_optimizers: how many `optimizers` returns.
    """

    num_optimizers: int

    @abstractmethod
    def prepare(self, pair: Pair, game: Game) -> None:
        """See the run before training starts: its teacher (a copy that may be trained), student and judges."""

    @abstractmethod
    def optimizers(self) -> list[Optimizer]:
        """Those of its own parameters."""

    @abstractmethod
    def play(self, loop: Loop, optimizers: Sequence, real: Tensor, label: Tensor) -> None:
        """One turn. real: [n, c, h, w] in [-1, 1] with `label` [n]; not seen by the judges in this step yet."""
