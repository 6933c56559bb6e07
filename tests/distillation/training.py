"""What the tests of the training loop share: optimizers, an online teacher, comparisons of weights."""

import copy
from typing import Any

import torch
from torch import nn

from limbeck.distillation.online_teacher import OnlineTeacher
from limbeck.losses.adversarial import NonSaturatingDiscriminator, NonSaturatingGenerator
from limbeck.losses.weighted import Weighted


def adversarial() -> tuple[dict, dict]:
    """Terms of the plain game, for the generator and the discriminators."""
    ours, theirs = NonSaturatingGenerator(), NonSaturatingDiscriminator()
    return {"nonsaturating": Weighted(term=ours)}, {"nonsaturating": Weighted(term=theirs)}


def adam(lr):
    return lambda parameters: torch.optim.Adam(parameters, lr=lr)


def companion(lr=1e-3, **settings) -> OnlineTeacher:
    ours, theirs = adversarial()
    make = {role: adam(lr) for role in ("generator", "discriminator")}
    return OnlineTeacher(optimizer=make, generator_terms=ours, discriminator_terms=theirs, **settings)


def state(module: nn.Module) -> dict[str, Any]:
    """A copy of all that a module saves, extra states included."""
    return copy.deepcopy(dict(module.state_dict()))


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
