"""torch.compile for the networks of a training: those that are only looked at, or all of them.

Turns that differentiate twice (R1, path length) run without, because torch refuses a second derivative of a compiled
module; so do pictures and evaluations, which use the average.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from limbeck.architectures.base import Network
from limbeck.embeddings.base import Embedding
from limbeck.frozen import Frozen

NONE, FROZEN, ALL = "none", "frozen", "all"


def compile_networks(training: nn.Module, which: str, *, backend: str = "inductor") -> None:
    """Prepare what `training` holds, in place; nothing is compiled before its first pass.

    which: "none"; "frozen": teacher, judges that do not train, feature networks; "all": student and trained judges too.
    """
    if which == NONE:
        return
    for module in training.modules():
        if isinstance(module, Frozen):
            _compile(module.network, backend)
    if which == ALL:
        for name, child in training.named_children():
            for network in _outermost(child) if name != "ema" else ():
                _compile(network, backend)


def uncompiled(on: bool) -> contextlib.AbstractContextManager[None]:
    """Inside, if `on`, compiled networks run as they are written."""
    return torch.compiler.set_stance("force_eager") if on else contextlib.nullcontext()


def _outermost(module: nn.Module) -> Iterator[Network]:
    if isinstance(module, Network):
        yield module
        return
    for child in module.children():
        yield from _outermost(child)


def _compile(network: nn.Module, backend: str) -> None:
    for part in network.passes() if isinstance(network, Network) else (network,):
        part.compile(backend=backend)
    if isinstance(network, Embedding):  # terms ask it for maps beside its vectors
        network.feature_maps = torch.compile(network.feature_maps, backend=backend)  # type: ignore[method-assign]
