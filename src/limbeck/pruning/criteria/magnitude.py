"""Magnitude of single weights."""

from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.pruning.criteria.base import WeightCriterion


class Magnitude(WeightCriterion):
    """The absolute value of the stored weight.

    Source: as in Zhu & Gupta, "To prune, or not to prune", 2018.
    """

    def __call__(self, network: Network) -> dict[str, Tensor]:
        state = network.state_dict()
        return {layer.weight: state[layer.weight].detach().abs() for layer in network.maskable()}
