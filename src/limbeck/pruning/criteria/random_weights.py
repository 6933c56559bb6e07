"""Random weights: the control that every criterion for weights has to beat."""

import torch
from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.pruning.criteria.base import WeightCriterion


class RandomWeights(WeightCriterion):
    """Uniform in [0, 1), the same for the same seed and shapes."""

    def __init__(self, *, seed: int = 0):
        self.seed = seed

    def __call__(self, network: Network) -> dict[str, Tensor]:
        generator, state = torch.Generator().manual_seed(self.seed), network.state_dict()
        return {
            layer.weight: torch.rand(state[layer.weight].shape, generator=generator).to(state[layer.weight].device)
            for layer in network.maskable()
        }
