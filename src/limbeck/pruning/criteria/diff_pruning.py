"""Diff-Pruning: Taylor scores over the early time steps only, where the loss is not yet small.

Source: Fang et al., "Structural Pruning for Diffusion Models", 2023, and its released code, which decides the details.
"""

from jaxtyping import Float
from torch import Tensor

from limbeck.errors import UserError
from limbeck.model import Model
from limbeck.pruning.criteria.base import Criterion, Part, Scores, State
from limbeck.pruning.criteria.taylor import Taylor


class DiffPruning(Criterion):
    """Stops at the first time step whose loss is below `threshold` times the largest loss so far.

    taylor: what is added up over the time steps 0, 1, 2 ..., and how.
    threshold: 0 keeps all steps; published are 0.05 (CIFAR-10), 0.00 (CelebA) and 0.01 (LSUN).
    include_last: whether the step that falls below counts too: False as released, True in the pipeline for diffusers.

    The maximum is a running one, so the steps that count are the first ones, not all whose loss is large enough.

    Differs by default: all layers are scored on the whole network (`taylor.sequential_ratio`) and every place that
    reads a group counts (`taylor.count_repeated`); this keeps 92.8 to 97.9 % of the channels that the released rule
    keeps.
    """

    def __init__(self, taylor: Taylor, *, threshold: float | int = 0.05, include_last: bool = False):
        self.taylor = taylor
        self.threshold = threshold
        self.end_counts = include_last

    @property
    def num_steps(self) -> int:
        return self.taylor.num_steps

    def start(self, model: Model) -> State:
        """Raises: UserError if the threshold would let no step count, or as `Taylor.start` does."""
        if not 0 <= self.threshold <= 1:
            raise UserError(f"threshold={self.threshold}: must lie in [0, 1]; above 1 no time step would count")
        return self.taylor.start(model)

    def step(self, model: Model, state: State, index: int) -> Part:
        return self.taylor.step(model, state, index)

    def ends(self, measures: Float[Tensor, "steps"]) -> bool:
        return bool(measures[-1] < self.threshold * measures.max())

    def scores(self, model: Model, state: State) -> Scores:
        return self.taylor.scores(model, state)
