"""State dicts whose tensors are those of a network here, layer by layer under other names: reading and writing them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.architectures.base import Network
from limbeck.errors import CheckpointError
from limbeck.model import filled

COUNTER = "num_batches_tracked"  # of batch norm; files of before 2018 have none, and nothing reads it


def tensor_names(entries: Iterable[str], modules: Mapping[str, str]) -> dict[str, str]:
    """Names of tensors, ours to the file's. entries: ours. modules: names of modules, ours to the file's."""
    return {f"{ours}": f"{modules[ours.rpartition('.')[0]]}.{ours.rpartition('.')[2]}" for ours in entries}


def network(
    network_class: type[Network],
    arguments: Mapping[str, Any],
    modules: Mapping[str, str],
    state: Mapping[str, Any],
    where: str | Path,
) -> Network:
    """A network in evaluation mode with the tensors of a file's state dict. modules: see `tensor_names`.

    Raises: CheckpointError that calls the tensor that is missing, misshaped or unknown by the file's own name.
    """
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{where}: {name!r} is no tensor")
    with torch.device("meta"):
        expected = network_class(**arguments).state_dict()
    names = tensor_names(expected, modules)
    ours = {theirs: our for our, theirs in names.items()}
    found = {ours.get(str(name), str(name)): value for name, value in state.items()}
    for name, value in expected.items():
        if name.endswith(COUNTER):
            found.setdefault(name, torch.zeros([], dtype=torch.long))
        elif name in found and found[name].shape == (*value.shape, 1, 1):
            found[name] = found[name].flatten(1)  # a linear layer, written as a convolution of kernel 1
    return filled(network_class, arguments, found, where=str(where), names=names)


def state_of(source: Network, modules: Mapping[str, str]) -> dict[str, Tensor]:
    """The network's tensors under a file's names; the inverse of `network`."""
    state = source.state_dict()
    names = tensor_names(state, modules)
    return {
        names[our]: value.detach().cpu().clone(memory_format=torch.contiguous_format) for our, value in state.items()
    }


def size(state: Mapping[str, Any], name: str, axis: int, where: str | Path, *, num_axes: int = 4) -> int:
    """The size of one axis of a weight. Raises: CheckpointError if it is missing or has other axes."""
    value = state.get(name)
    if not isinstance(value, Tensor):
        raise CheckpointError(f"{where}: tensor {name!r} is missing")
    if value.ndim != num_axes or not value.numel():
        raise CheckpointError(f"{where}: tensor {name!r} has shape {tuple(value.shape)}, expected {num_axes} axes")
    return value.shape[axis]
