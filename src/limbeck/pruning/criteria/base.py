"""What every criterion promises: one score per channel of every group of the generator; higher is kept."""

from abc import ABC, abstractmethod

from torch import Tensor

from limbeck.model import Model

Scores = dict[str, Tensor]


class Criterion(ABC):
    """A way to score channels. Constructors only store; whatever is needed beside the model comes in through them."""

    @abstractmethod
    def __call__(self, model: Model) -> Scores:
        """Scores [size] of every channel group of `model.generator`, by group name; the model is left as it is."""
