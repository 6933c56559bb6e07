"""Optimizers of players whose terms have different cadences."""

from collections.abc import Callable, Mapping, Sequence

from torch import nn
from torch.optim import Optimizer

from limbeck.distillation.schedules import lazy_correction
from limbeck.losses.weighted import Weighted, cadences

MakeOptimizer = Callable[..., Optimizer]


def own_parameters(terms: Mapping[str, Weighted]) -> list[nn.Parameter]:
    """What the terms themselves learn (adapters)."""
    return [parameter for term in terms.values() for parameter in term.parameters()]


def corrected(make: MakeOptimizer, parameters: Sequence[nn.Parameter], terms: Mapping[str, Weighted]) -> Optimizer:
    """An optimizer whose learning rate and betas allow for the extra lazy steps."""
    share = lazy_correction(list(cadences(terms)))
    optimizer = make(parameters)
    for group in optimizer.param_groups:
        group["lr"] *= share
        if "betas" in group:
            group["betas"] = tuple(beta**share for beta in group["betas"])
    return optimizer
