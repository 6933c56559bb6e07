"""What criteria promise: a score for each channel of every group, or for each maskable weight; higher is kept."""

from abc import ABC, abstractmethod

from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.model import Model

Scores = dict[str, Tensor]
State = dict[str, Tensor]


class Criterion(ABC):
    """A way to score channels. Constructors only store; whatever is needed beside the model comes in through them.

    Long scorings go in `num_steps` steps. All that a step leaves behind is in `state`, and all that it draws follows
    from the criterion's seed and the step's index; so `pruning.scoring.scored` can stop and resume anywhere.
    """

    @property
    def num_steps(self) -> int:
        """Steps of work before `scores`; 0 for what is read off the weights."""
        return 0

    def check(self) -> None:  # noqa: B027 - most have nothing to refuse
        """Refuse what cannot work, before anything is computed. Raises: UserError."""

    def start(self, model: Model) -> State:
        """The state before the first step."""
        return {}

    def step(self, model: Model, state: State, index: int) -> bool:
        """Do step `index`, changing `state` in place; False if the steps after it are not wanted."""
        return False

    @abstractmethod
    def scores(self, model: Model, state: State) -> Scores:
        """Scores [size] of every channel group of `model.generator`, by group name; the model is left as it is."""

    def trained(self, model: Model, state: State) -> Network:
        """The network whose channels are cut: the model's own, unless the steps trained another."""
        return model.generator


class WeightCriterion(ABC):
    """A way to score single weights. Constructors only store."""

    @abstractmethod
    def __call__(self, network: Network) -> dict[str, Tensor]:
        """Scores, none below zero, of each maskable layer's weight and in its shape, by the weight's name."""
