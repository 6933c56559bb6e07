"""Random channels: the control every criterion has to beat."""

import torch

from limbeck.model import Model
from limbeck.pruning.criteria.base import Criterion, Scores, State


class Random(Criterion):
    """Uniform scores in [0, 1), the same for the same seed and group sizes."""

    def __init__(self, *, seed: int = 0):
        self.seed = seed

    def scores(self, model: Model, state: State) -> Scores:
        generator = torch.Generator().manual_seed(self.seed)
        return {group.name: torch.rand(group.size, generator=generator) for group in model.generator.channel_groups()}
