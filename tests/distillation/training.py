"""What the tests of the training loop share: optimizers, an online teacher, comparisons of weights."""

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


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
