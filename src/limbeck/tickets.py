"""Strong lottery tickets from Python: start one, see which weights it uses.

A ticket is a `Model` like any other: it is saved, loaded, drawn from and judged in the same ways, and trained by
`pruning=ticket` in a run. Source: see `architectures.ticket`.
"""

import torch
from torch import Tensor

from limbeck.architectures.ticket import Ticket
from limbeck.arguments import kind
from limbeck.configured import configured
from limbeck.model import Model


def start(name: str, *, keep_ratio: float = 0.1, seed: int = 31, init: str = "normal", scope: str = "layer") -> Model:
    """A ticket before any training: seeded random weights, and one trainable score for each weight and bias.

    name: of a YAML in conf/ticket, "sngan_64" or "resnet_64". keep_ratio: share of weights in use, in (0, 1].
    init: "normal" or "signed_constant". scope: "layer" or "global".

    Raises: UserError for an unknown name or an impossible value.
    """
    with torch.device("meta"):
        network = configured("ticket", name)
    facts = {"keep_ratio": keep_ratio, "seed": seed, "init": init, "scope": scope}
    return Model(Ticket.of(network, **facts).eval()).after("ticket", network=name, **facts)


def masks(model: Model) -> dict[str, Tensor]:
    """True for the weights and biases that a model uses, by name; of a sparse model that is no ticket, its masks."""
    kind(model, "model", Model, "a Model, as limbeck.tickets.start gives it")
    return {**model.masks, **model.generator.own_masks()}
