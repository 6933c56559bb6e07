"""What a player's turn may ask of the training loop around it; `training.StudentTraining` is that loop."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from limbeck.architectures.base import Network
from limbeck.distillation.held_masks import HeldMasks
from limbeck.losses.image_step import Step
from limbeck.losses.weighted import Weighted

Observe = Callable[[Sequence[Step]], None]


class Loop(ABC):
    """Counts images and carries out optimizer steps.

    images_seen: over all processes, before this step; a plain number, so that nobody waits for a device to know it.
    student: the generator that is trained; ema: its moving average; masks: of its weights.
    game: a `Game` of the student with its judges; None where there are none.
    """

    images_seen: int
    batch_size: int
    student: Network
    ema: Network
    masks: HeldMasks
    game: Any = None

    @property
    @abstractmethod
    def total_images(self) -> int:
        """Length of the run in images."""

    @property
    def step_index(self) -> int:
        """Number of this step, from 0."""
        return self.images_seen // self.batch_size

    @abstractmethod
    def optimize(
        self,
        optimizers: Sequence,
        player: str,
        terms: Mapping[str, Weighted],
        steps: Sequence[Step],
        observe: Observe | None = None,
    ) -> None:
        """Zero, accumulate over the micro-batches `steps`, step; note every term as loss/<player>/<name>.

        A micro-batch counts by its number of rows, so that terms which are means over rows give the gradient of the
        whole batch however it is cut. observe: is shown all micro-batches after the last backward pass.
        """
