"""What criteria promise: a score for each channel of every group, or for each maskable weight; higher is kept."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.model import Model

Scores = dict[str, Tensor]
State = dict[str, Tensor]
SUM = "sum."  # begins the names of what steps add to; all else in a state stays as it was at the start


@dataclass(frozen=True)
class Part:
    """What one step adds to the sums of a state, by their names without `SUM`.

    measure: what `Criterion.ends` looks at.
    """

    sums: Mapping[str, Tensor]
    measure: float = 0.0


class Criterion(ABC):
    """A way to score channels. Constructors only store; whatever is needed beside the model comes in through them.

    Long scorings go in `num_steps` steps, each of which adds to sums; all that a step draws follows from the
    criterion's seed and the step's index. So `pruning.scoring.scored` can stop and resume anywhere, and share the steps
    out over processes.
    """

    end_counts = True  # whether the step that `ends` a scoring is added

    @property
    def num_steps(self) -> int:
        """Steps of work before `scores`; 0 for what is read off the weights."""
        return 0

    def check(self) -> None:  # noqa: B027 - most have nothing to refuse
        """Refuse what cannot work, before anything is computed. Raises: UserError."""

    def start(self, model: Model) -> State:
        """The state before the first step; its sums are zero."""
        return {}

    def step(self, model: Model, state: State, index: int) -> Part:
        """Do step `index`; the state is left as it is."""
        return Part({})

    def ends(self, measures: Float[Tensor, "steps"]) -> bool:
        """Whether the step measured last is the last one wanted. measures: of all steps up to it, in float64."""
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
